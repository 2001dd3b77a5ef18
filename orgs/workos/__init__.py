"""Talks to WorkOS. Alone knows its SDK; never touches the database.

``patience``: for how many seconds a call may wait for the budget of requests, or for the end of a
pause that WorkOS asked for, before it raises ``RateLimited``.
"""

from orgs.workos.client import (
    find_by_external_id,
    lookup,
    offer_external_id,
    read_events,
    read_objects,
    read_organizations,
)
from orgs.workos.errors import (
    SAME_FOR_ALL,
    BrokenAnswer,
    ExternalIdConflict,
    Misconfigured,
    NotConfigured,
    NotFound,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
    WorkOSError,
)
from orgs.workos.pacing import Budget, asking_threads, interrupt_by, use_budget
from orgs.workos.paging import read_ahead, read_all
from orgs.workos.parsing import event_time, parse_object
from orgs.workos.transport import close, is_header_text, is_verified, note_verified
from orgs.workos.webhooks import (
    is_signed,
    is_well_formed_signature,
    parse_announcement,
)

# Promised to other projects. The rest of what is imported here is for orgs alone.
__all__ = ["WorkOSError", "close"]
