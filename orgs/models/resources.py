"""Defines the tables of the resources other than organizations, and what gives access. Never
calls WorkOS.

Relations join by WorkOS ids and have no constraints: events and lists come in any order, so what a
row refers to may not be here yet.
"""

from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from orgs.models.fields import Table, TimeField, index, json, optional_text, optional_time, unique
from orgs.models.organizations import Organization, OrganizationQuerySet


def _related(model: Any, name: str | None = None, **more: Any) -> "models.ForeignKey[Any, Any]":
    unbound: Any = {"on_delete": models.DO_NOTHING, "db_constraint": False, "db_index": False}
    return models.ForeignKey(model, verbose_name=name, null=True, blank=True, **unbound, **more)


class WorkOSResource(Table):
    """What all resources other than organizations have in common."""

    workos_id = models.TextField("WorkOS id", primary_key=True, help_text="WorkOS's key of it.")
    workos_organization = _related(
        Organization,
        to_field="workos_id",
        help_text="The organization it belongs to, by its WorkOS id.",
    )
    workos_created_at = optional_time(name="created in WorkOS at")
    workos_updated_at = optional_time(name="updated in WorkOS at")
    workos_last_event_id = optional_text(
        "The last event applied; empty after a list or a fetch.", "WorkOS last event id"
    )
    deleted_at = optional_time("When its deletion was applied; the row stays.")
    synced_at = TimeField(db_default=Now(), help_text="When it was last written here.")
    data = json({}, "The object as WorkOS shows it, without secrets.")

    class Meta(Table.Meta):
        abstract = True


class PersonalResource(WorkOSResource):
    """A resource that holds personal data, which can be erased."""

    erased_at = optional_time("When its personal data was erased; it never comes back.")

    class Meta(Table.Meta):
        abstract = True


def _texts(help_text: str) -> "ArrayField[list[str], list[str]]":
    empty = models.Value([], ArrayField(models.TextField()))
    return ArrayField(models.TextField(), db_default=empty, help_text=help_text)


class OrganizationDomain(WorkOSResource):
    """A domain of an organization. Two organizations may have the same verified domain."""

    domain = optional_text()
    state = optional_text("As WorkOS says it: pending, verified, failed, …")

    class Meta(Table.Meta):
        db_table = "workos_organization_domain"
        verbose_name = "domain"
        indexes = [index("workos_domain_org", "workos_organization")]


class Connection(WorkOSResource):
    """A single sign-on connection."""

    connection_type = optional_text()
    name = optional_text()
    state = optional_text("As WorkOS says it: active, inactive, …")

    class Meta(Table.Meta):
        db_table = "workos_connection"
        indexes = [index("workos_connection_org", "workos_organization")]


class Directory(WorkOSResource):
    """A directory (SCIM)."""

    directory_type = optional_text()
    name = optional_text()
    state = optional_text("As WorkOS says it: active or linked, …")

    class Meta(Table.Meta):
        db_table = "workos_directory"
        verbose_name_plural = "directories"
        indexes = [index("workos_directory_org", "workos_organization")]


class WorkOSUser(PersonalResource):
    """A user. An address is not unique over time: it may come back with another id."""

    email = optional_text()
    email_verified = models.BooleanField(null=True, blank=True)
    first_name = optional_text()
    last_name = optional_text()
    external_id = optional_text(name="WorkOS external_id")

    class Meta(Table.Meta):
        db_table = "workos_user"
        verbose_name = "user"
        indexes = [index("workos_user_email", "email")]

    def organizations(self) -> "OrganizationQuerySet":
        """Return the organizations that this user has access to."""
        memberships = OrganizationMembership.objects.active().filter(workos_user_id=self.pk)
        workos_ids = memberships.values("workos_organization_id")
        return Organization.objects.filter(workos_id__in=workos_ids)


class MembershipQuerySet(models.QuerySet["OrganizationMembership"]):
    """Memberships, by whether they give access."""

    def active(self) -> Self:
        """Those that give access: active and not deleted, of an organization whose row is here and
        not disabled, and of a user who is not deleted. A user who is not here denies nothing."""
        its_organization = {"workos_id": models.OuterRef("workos_organization_id")}
        organizations = Organization.objects.filter(**its_organization, disabled_at=None)
        users = WorkOSUser.objects.filter(pk=models.OuterRef("workos_user_id"))
        is_allowed = models.Exists(organizations) & ~models.Exists(users.exclude(deleted_at=None))
        return self.filter(is_allowed, status="active", deleted_at=None)


class OrganizationMembership(PersonalResource):
    """A user's membership of an organization."""

    workos_user = _related("WorkOSUser", "WorkOS user")
    status = optional_text("As WorkOS says it: active, inactive, pending.")
    role_slugs = _texts("The slugs of its roles.")

    objects = MembershipQuerySet.as_manager()

    class Meta(Table.Meta):
        db_table = "workos_organization_membership"
        verbose_name = "membership"
        indexes = [
            index("workos_membership_user", "workos_user", "workos_organization"),
            index("workos_membership_org", "workos_organization"),
        ]


class Role(WorkOSResource):
    """A role: of an organization, or of the environment if it names none."""

    slug = optional_text()
    name = optional_text()
    description = optional_text()
    permissions = _texts("The slugs of what it permits.")

    class Meta(Table.Meta):
        db_table = "workos_role"
        constraints = [unique("workos_role_key", "workos_organization", "slug")]


class Invitation(PersonalResource):
    """An invitation. Its token is never stored."""

    email = optional_text()
    state = optional_text("As WorkOS says it: pending, accepted, expired, revoked.")
    accepted_user = _related("WorkOSUser", "accepted by")
    role_slug = optional_text()
    expires_at = optional_time()

    class Meta(Table.Meta):
        db_table = "workos_invitation"
        indexes = [index("workos_invitation_org", "workos_organization")]


class DirectoryUser(PersonalResource):
    """A user of a directory."""

    workos_directory = _related("Directory", "directory")
    email = optional_text()
    state = optional_text("As WorkOS says it; only active gives access.")
    first_name = optional_text()
    last_name = optional_text()

    class Meta(Table.Meta):
        db_table = "workos_directory_user"
        indexes = [index("workos_directory_user_dir", "workos_directory")]


class DirectoryGroup(WorkOSResource):
    """A group of a directory."""

    workos_directory = _related("Directory", "directory")
    name = optional_text()

    class Meta(Table.Meta):
        db_table = "workos_directory_group"
        indexes = [index("workos_directory_group_dir", "workos_directory")]


class DirectoryGroupMember(WorkOSResource):
    """That a directory user is in a group."""

    deleted_at = None
    removed_at = optional_time("When the user left the group; the row stays.")
    workos_directory = _related("Directory", "directory")
    workos_group = _related("DirectoryGroup", "group")
    workos_directory_user = _related("DirectoryUser", "directory user")

    class Meta(Table.Meta):
        db_table = "workos_directory_group_member"
        constraints = [unique("workos_group_member_key", "workos_group", "workos_directory_user")]
        indexes = [
            index("workos_group_member_dir", "workos_directory"),
            index("workos_group_member_user", "workos_directory_user"),
        ]
