"""Defines the table of organizations. Other programs write it too, with plain SQL."""

from typing import Any, Self

from django.apps import apps
from django.db import models
from django.db.models.functions import Now

from orgs.domain.naming import storable
from orgs.models.fields import Table, TimeField, optional_text, optional_time, unique

#: The constraint whose violation made a whole event fail for ever in the system this replaces.
SLUG_CONSTRAINT = "organization_metadata_slug_key"


class OrganizationQuerySet(models.QuerySet["Organization"]):
    """Organizations, by how they stand to WorkOS."""

    def linked(self) -> Self:
        """Linked to an organization of WorkOS's: neither NULL nor empty."""
        return self.filter(workos_id__gt="")

    def live(self) -> Self:
        """Linked and enabled: WorkOS should list their organizations."""
        return self.linked().filter(disabled_at__isnull=True)

    def by_either_id(self, *ids: str) -> Self:
        """With one of these as Gram id, or linked to one of these as WorkOS id."""
        return self.filter(models.Q(id__in=ids) | models.Q(workos_id__in=ids))

    def disabled(self) -> Self:
        """Disabled, by WorkOS's deletion or by a person."""
        return self.filter(disabled_at__isnull=False)

    def disabled_here(self) -> Self:
        """Disabled by a person or another program, while they live in WorkOS."""
        return self.linked().filter(disabled_at__isnull=False, workos_deleted_at__isnull=True)


class Organization(Table):
    """A Gram organization. WorkOS owns its name and its link; Gram owns the rest."""

    id = models.TextField(primary_key=True, help_text="Gram's id; WorkOS's external_id.")
    name = models.TextField(help_text="Owned by WorkOS: a rename there overwrites it.")
    slug = models.TextField(
        help_text="Chosen once, when the row is created; never written again by the sync."
    )
    workos_id = optional_text("The WorkOS organization that this one is linked to.", "WorkOS id")
    workos_updated_at = optional_time("WorkOS's updated_at, as last applied.", "WorkOS updated at")
    workos_last_event_id = optional_text(
        "The last event applied; empty after a snapshot. Older events are stale.",
        "WorkOS last event id",
    )
    gram_account_type = models.TextField(db_default="free")
    whitelisted = models.BooleanField(db_default=True)
    created_at = TimeField(db_default=Now())
    updated_at = TimeField(db_default=Now())
    disabled_at = optional_time("When it was disabled; updates never enable it again.")
    workos_deleted_at = optional_time(
        "When its deletion in WorkOS was applied, or confirmed by a 404.", "deleted in WorkOS at"
    )
    sso_enabled = models.BooleanField(
        "SSO", null=True, blank=True, help_text="A connection is active; empty: not covered."
    )
    scim_enabled = models.BooleanField(
        "SCIM", null=True, blank=True, help_text="A directory is active; empty: not covered."
    )

    objects = OrganizationQuerySet.as_manager()

    class Meta(Table.Meta):
        db_table = "organization_metadata"
        constraints = [
            unique(SLUG_CONSTRAINT, "slug"),
            unique("organization_metadata_workos_id_key", "workos_id"),
        ]
        permissions = [
            ("reconcile_organization", "Can reconcile with WorkOS"),
            ("disable_organization", "Can disable organizations here"),
            ("enable_organization", "Can enable organizations here"),
        ]

    def __str__(self) -> str:
        return storable(self.name)

    def members(self) -> "models.QuerySet[Any]":
        """Return the users who have access to this organization."""
        memberships = apps.get_model("orgs", "OrganizationMembership")
        active = memberships.objects.active().filter(workos_organization__id=self.pk)
        users = apps.get_model("orgs", "WorkOSUser").objects
        return users.filter(pk__in=active.values("workos_user_id"))
