"""Defines the tables, their constraints and the questions asked of them. Never calls WorkOS.

Other programs write ``organization_metadata`` with plain SQL, so every default is the database's.
"""

from orgs.models.organizations import SLUG_CONSTRAINT, Organization, OrganizationQuerySet
from orgs.models.resources import (
    Connection,
    Directory,
    DirectoryGroup,
    DirectoryGroupMember,
    DirectoryUser,
    Invitation,
    OrganizationDomain,
    OrganizationMembership,
    Role,
    WorkOSResource,
    WorkOSUser,
)
from orgs.models.sync import (
    ORGANIZATIONS_STREAM,
    EventQuerySet,
    ExternalIdWriteBack,
    RequestBudget,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)

__all__ = ["ORGANIZATIONS_STREAM", "SLUG_CONSTRAINT", "EventQuerySet", "ExternalIdWriteBack"]
__all__ += ["Organization", "OrganizationQuerySet", "RequestBudget", "SyncCursor"]
__all__ += ["WorkOSConflict", "WorkOSEvent"]
# The resources other than organizations.
__all__ += ["Connection", "Directory", "DirectoryGroup", "DirectoryGroupMember", "DirectoryUser"]
__all__ += ["Invitation", "OrganizationDomain", "OrganizationMembership", "Role", "WorkOSResource"]
__all__ += ["WorkOSUser"]
