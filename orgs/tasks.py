"""What the worker runs. A task is a doorbell: it may run twice, at once, late or never.

django-q2 calls these by their dotted paths; each returns text for its record.
"""

import time

from django.utils import timezone

from orgs.conf import sync_settings
from orgs.services import drain, write_back
from orgs.services import prune as pruning


def sync_events() -> str:
    """Applies what WorkOS's stream has, and waits a while for what is announced."""
    report = drain.drain_and_wait()
    counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.outcomes.items()))
    return counts or "nothing new"


def push_external_ids() -> str:
    """Writes new ids back to WorkOS."""
    deadline = time.monotonic() + sync_settings().drain_deadline
    report = write_back.push_due(deadline=deadline)
    return f"pushed {report.pushed}, failed {report.failed}, conflicts {report.conflicts}"


def prune() -> str:
    """Forgets old events."""
    return f"pruned {pruning.prune(timezone.now())}"
