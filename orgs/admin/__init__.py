"""Shows the tables to people, and translates a click into one call of a service. No logic.

It opens no transaction and never talks to WorkOS.
"""

from orgs.admin.cursor import SyncCursorAdmin
from orgs.admin.events import WorkOSEventAdmin
from orgs.admin.organizations import OrganizationAdmin
from orgs.admin.write_backs import ExternalIdWriteBackAdmin

__all__ = ["ExternalIdWriteBackAdmin", "OrganizationAdmin", "SyncCursorAdmin", "WorkOSEventAdmin"]
