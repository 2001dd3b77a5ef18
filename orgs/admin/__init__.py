"""Shows the tables to people, and translates a click into one call of a service. No logic."""

from orgs.admin import resources
from orgs.admin.tables import OrganizationAdmin, SyncCursorAdmin

__all__ = ["OrganizationAdmin", "SyncCursorAdmin", "resources"]
