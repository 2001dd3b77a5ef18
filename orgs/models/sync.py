"""Defines the tables of organizations, and those that the sync keeps for itself."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.apps import apps
from django.db import models
from django.db.models.functions import Now

from orgs.domain.naming import printable
from orgs.domain.types import EVENT_OUTCOMES, ORGANIZATION, ConflictKind, EventType, Outcome
from orgs.models.fields import TimeField

#: The constraint whose violation made a whole event fail for ever in the system this replaces.
SLUG_CONSTRAINT = "organization_metadata_slug_key"

#: The one stream that is followed today.
ORGANIZATIONS_STREAM = "organizations"

_CLOCK_MARGIN = timedelta(minutes=1)


class OrganizationQuerySet(models.QuerySet["Organization"]):
    """Organizations, by how they stand to WorkOS."""

    def linked(self) -> Self:
        """Linked to an organization of WorkOS's."""
        return self.filter(workos_id__isnull=False)

    def live(self) -> Self:
        """Linked and enabled: WorkOS should list their organizations."""
        return self.linked().filter(disabled_at__isnull=True)

    def by_either_id(self, id_: str) -> Self:
        """With this Gram id, or linked to this WorkOS id."""
        return self.filter(models.Q(id=id_) | models.Q(workos_id=id_))

    def disabled(self) -> Self:
        """Disabled, by WorkOS's deletion or by a person."""
        return self.filter(disabled_at__isnull=False)

    def disabled_here(self) -> Self:
        """Disabled by a person or another program, while they live in WorkOS."""
        return self.linked().filter(disabled_at__isnull=False, workos_deleted_at__isnull=True)

    def awaiting_write_back(self) -> Self:
        """Those whose id WorkOS is still to be told, conflicts among them."""
        return self.filter(write_back__isnull=False)


class Organization(models.Model):
    """A Gram organization. WorkOS owns its name and its link; Gram owns the rest."""

    id = models.TextField(primary_key=True, help_text="Gram's id; WorkOS's external_id.")
    name = models.TextField(help_text="Owned by WorkOS: a rename there overwrites it.")
    slug = models.TextField(
        help_text="Chosen once, when the row is created; never written again by the sync."
    )
    workos_id = models.TextField(
        "WorkOS id",
        null=True,
        blank=True,
        help_text="The WorkOS organization that this one is linked to.",
    )
    workos_updated_at = TimeField(
        "WorkOS updated at",
        null=True,
        blank=True,
        help_text="WorkOS's updated_at, as last applied.",
    )
    workos_last_event_id = models.TextField(
        "WorkOS last event id",
        null=True,
        blank=True,
        help_text="The last event applied; empty after a snapshot. Older events are stale.",
    )
    gram_account_type = models.TextField(db_default="free")
    whitelisted = models.BooleanField(db_default=True)
    created_at = TimeField(db_default=Now())
    updated_at = TimeField(db_default=Now())
    disabled_at = TimeField(
        null=True, blank=True, help_text="When it was disabled; updates never enable it again."
    )
    workos_deleted_at = TimeField(
        "deleted in WorkOS at",
        null=True,
        blank=True,
        help_text="When its deletion in WorkOS was applied, or confirmed by a 404.",
    )
    sso_enabled = models.BooleanField(
        "SSO", null=True, blank=True, help_text="A connection is active; empty: not covered."
    )
    scim_enabled = models.BooleanField(
        "SCIM", null=True, blank=True, help_text="A directory is active; empty: not covered."
    )

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        db_table = "organization_metadata"
        constraints = [
            models.UniqueConstraint(fields=["slug"], name=SLUG_CONSTRAINT),
            models.UniqueConstraint(
                fields=["workos_id"], name="organization_metadata_workos_id_key"
            ),
        ]
        permissions = [
            ("reconcile_organization", "Can reconcile with WorkOS"),
            ("disable_organization", "Can disable organizations here"),
            ("enable_organization", "Can enable organizations here"),
        ]

    def __str__(self) -> str:
        return printable(self.name)

    def members(self) -> "models.QuerySet[Any]":
        """Return the users who have access to this organization."""
        memberships = apps.get_model("orgs", "OrganizationMembership")
        active = memberships.objects.active().filter(workos_organization_id=self.workos_id)
        users = apps.get_model("orgs", "WorkOSUser").objects
        return users.filter(pk__in=active.values("workos_user_id"))


class SyncCursor(models.Model):
    """Where the mirror stands in a stream of WorkOS's. The row is made by the first drain."""

    stream = models.TextField(primary_key=True, help_text="Which of WorkOS's streams is followed.")
    last_event_id = models.TextField(
        null=True, help_text="The last event applied. Without it, reads start at last_event_at."
    )
    last_event_at = TimeField(null=True, help_text="When that event was created.")
    drained_at = TimeField(null=True, help_text="When a read last reached the end of the stream.")
    draining_until = TimeField(
        null=True, help_text="The waiting drain's lease; in the past or empty: nobody waits."
    )
    rung_until = TimeField(
        null=True, help_text="A drain was rung for and has not begun; in the past or empty: none."
    )
    reconciling_until = TimeField(null=True, help_text="A snapshot's lease.")
    reconciled_at = TimeField(null=True, help_text="When a snapshot last completed.")
    last_drift = models.IntegerField(
        db_default=0, help_text="How many organizations differed, and were repaired by it."
    )
    snapshot_trouble = models.TextField(
        db_default="", blank=True, help_text="Why the last snapshot did not complete; or empty."
    )
    snapshot_error_kind = models.TextField(
        db_default="", blank=True, help_text="What kind of error that was, as in last_trouble."
    )
    event_types = models.JSONField(
        null=True, help_text="The types of events that are read with this position."
    )
    covered = models.JSONField(
        null=True, help_text="Resources that were listed in full since they are followed."
    )
    listed_at = models.JSONField(
        db_default=models.Value({}, models.JSONField()),
        help_text="When each resource was last listed in full.",
    )
    progress = models.JSONField(
        db_default=models.Value({}, models.JSONField()),
        help_text="After which organization or directory the lists of a resource go on.",
    )
    refused_types = models.JSONField(
        db_default=models.Value({}, models.JSONField()),
        help_text="Types of events that WorkOS refuses, and since when.",
    )
    last_failed = models.IntegerField(
        db_default=0, help_text="How many organizations PostgreSQL refused to write in it."
    )
    failures = models.IntegerField(db_default=0, help_text="Failed reads since the last good one.")
    failing_since = TimeField(
        null=True, help_text="When the first of these reads failed; empty after a good one."
    )
    last_trouble = models.TextField(
        db_default="", blank=True, help_text="What kind of trouble the last failed read had."
    )
    last_error = models.TextField(
        db_default="", blank=True, help_text="Why the last read failed; empty after a good one."
    )

    worker_started_at = TimeField(
        null=True, help_text="When manage.py sync_worker last started a cluster."
    )

    class Meta:
        db_table = "workos_sync_cursor"
        verbose_name = "sync cursor"
        # In the admin, its list is the page of the status.
        verbose_name_plural = "sync status"
        permissions = [
            ("drain_synccursor", "Can have the stream read now"),
            ("snapshot_synccursor", "Can have a snapshot taken now"),
        ]

    def __str__(self) -> str:
        return printable(self.stream)


class EventQuerySet(models.QuerySet["WorkOSEvent"]):
    """The ledger, by what became of its events."""

    def parked(self) -> Self:
        """Those that could not be applied and wait for a person."""
        return self.filter(outcome=Outcome.PARKED)

    def announced_and_unseen(self) -> Self:
        """Announced by a webhook, and not yet read from the stream."""
        return self.filter(announced_at__isnull=False, processed_at__isnull=True)

    def unannounced(self) -> Self:
        """Followed events that no webhook announced: it was lost, or is still to come."""
        seen = self.filter(announced_at__isnull=True, processed_at__isnull=False)
        return seen.exclude(outcome=Outcome.IGNORED)

    def missing(self) -> Self:
        """Announced, and never listed: resolved by fetching the object."""
        return self.filter(outcome=Outcome.MISSING)

    def counts(self) -> dict[str, int]:
        """Return how many are parked, came without a webhook, and were never listed."""
        return {
            "parked": self.parked().count(),
            "unannounced": self.unannounced().count(),
            "missing": self.missing().count(),
        }

    def unseen(self, *, within: timedelta) -> Self:
        """Announced so recently that WorkOS may still hold their events back."""
        return self.announced_and_unseen().filter(
            announced_at__gt=Now() - within, announced_at__lte=Now() + _CLOCK_MARGIN
        )

    def overdue(self, *, after: timedelta) -> Self:
        """Announced so long ago that WorkOS will not list their events any more, oldest first.

        A time in the future was noted while the database's clock was wrong.
        """
        is_overdue = models.Q(announced_at__lte=Now() - after)
        is_overdue |= models.Q(announced_at__gt=Now() + _CLOCK_MARGIN)
        return self.announced_and_unseen().filter(is_overdue).order_by("announced_at")

    def about(self, organization: Organization) -> Self:
        """Applied to this organization, or about the WorkOS organization that it is linked to."""
        is_about = models.Q(organization_id=organization.id)
        if organization.workos_id is not None:
            is_about |= models.Q(workos_organization_id=organization.workos_id)
        return self.filter(is_about)

    def prunable(self, *, before: datetime) -> Self:
        """Processed before then, and of no further use: not parked, and not a deletion."""
        return self.filter(processed_at__lt=before).exclude(
            models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)
        )


class WorkOSEvent(models.Model):
    """The ledger: what was announced, what was read, and what became of it."""

    id = models.TextField(primary_key=True, help_text="WorkOS's id of the event.")
    type = models.TextField(help_text="WorkOS's type of the event.")
    workos_organization_id = models.TextField(
        "WorkOS organization id", null=True, blank=True, help_text="The organization it is about."
    )
    organization_id = models.TextField(
        null=True, blank=True, help_text="The Gram organization it was applied to."
    )
    occurred_at = TimeField(
        null=True, blank=True, help_text="When WorkOS created it; known once it is read."
    )
    announced_at = TimeField(
        null=True, blank=True, help_text="When the first webhook for it came, if one did."
    )
    processed_at = TimeField(
        null=True, blank=True, help_text="When it was applied, parked, dismissed or given up."
    )
    outcome = models.TextField(
        null=True,
        blank=True,
        choices=[(outcome.value, outcome.value) for outcome in EVENT_OUTCOMES],
        help_text="What became of it. The first outcome stays; only a parked one may change.",
    )
    error = models.TextField(db_default="", blank=True, help_text="Why it was parked.")
    resource = models.TextField(
        db_default=ORGANIZATION, help_text="What kind of object it is about."
    )
    object_key = models.TextField(
        null=True, blank=True, help_text="WorkOS's id of the object it is about."
    )
    payload = models.TextField(
        null=True, blank=True, help_text="What WorkOS sent; kept for parked events only."
    )

    objects = EventQuerySet.as_manager()

    class Meta:
        db_table = "workos_event"
        verbose_name = "WorkOS event"
        ordering = ["-occurred_at", "-id"]
        indexes = [
            models.Index(
                fields=["announced_at"],
                condition=models.Q(announced_at__isnull=False, processed_at__isnull=True),
                name="workos_event_unseen",
            ),
            # For people, who look for one organization's events.
            models.Index(fields=["workos_organization_id"], name="workos_event_organization"),
            models.Index(
                fields=["workos_organization_id"],
                condition=models.Q(type=EventType.DELETED.value),
                name="workos_event_deletion",
            ),
            models.Index(
                fields=["organization_id"],
                condition=models.Q(organization_id__isnull=False),
                name="workos_event_row",
            ),
            models.Index(
                fields=["processed_at"],
                condition=models.Q(processed_at__isnull=False),
                name="workos_event_processed",
            ),
            models.Index(
                fields=["id"], condition=models.Q(outcome="parked"), name="workos_event_parked"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(outcome__isnull=True, processed_at__isnull=True)
                # A NULL is in no list, and in PostgreSQL a check that is NULL passes.
                | models.Q(
                    outcome__isnull=False,
                    outcome__in=[outcome.value for outcome in EVENT_OUTCOMES],
                    processed_at__isnull=False,
                ),
                name="workos_event_outcome",
            ),
        ]
        permissions = [
            ("replay_workosevent", "Can apply what WorkOS says now"),
            ("dismiss_workosevent", "Can dismiss parked events"),
        ]

    def __str__(self) -> str:
        return printable(self.id)

    @property
    def is_parked(self) -> bool:
        """Whether it could not be applied and waits for a person."""
        return self.outcome == Outcome.PARKED


class WriteBackQuerySet(models.QuerySet["ExternalIdWriteBack"]):
    """The outbox, by when its rows are to be tried."""

    def due(self) -> Self:
        """Those to be tried now; conflicts, which wait for a person, are not among them."""
        return self.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")

    def conflicts(self) -> Self:
        """Those that wait for a person."""
        return self.filter(next_attempt_at__isnull=True)


class ExternalIdWriteBack(models.Model):
    """The outbox: one row for each organization whose id WorkOS does not know yet."""

    organization = models.OneToOneField(
        Organization,
        primary_key=True,
        related_name="write_back",
        # The database cascades (see the migration), so that other programs' DELETE works too.
        on_delete=models.DO_NOTHING,
        db_constraint=False,
    )
    workos_id = models.TextField(
        "WorkOS id", help_text="The WorkOS organization that is to be told."
    )
    requested_at = TimeField(
        db_default=Now(), help_text="When an event last showed that WorkOS does not know our id."
    )
    attempts = models.IntegerField(db_default=0, help_text="Attempts since then.")
    next_attempt_at = TimeField(
        null=True,
        blank=True,
        db_default=Now(),
        help_text="Empty: a conflict, which waits for a person.",
    )
    last_error = models.TextField(
        db_default="", blank=True, help_text="Why the last attempt failed."
    )

    objects = WriteBackQuerySet.as_manager()

    class Meta:
        db_table = "workos_external_id_write_back"
        verbose_name = "external_id write-back"
        indexes = [models.Index(fields=["next_attempt_at"], name="workos_write_back_due")]
        permissions = [("retry_externalidwriteback", "Can try write-backs again now")]

    def __str__(self) -> str:
        return printable(f"{self.organization_id} → {self.workos_id}")


class ConflictQuerySet(models.QuerySet["WorkOSConflict"]):
    """Conflicts, by whether a person has seen them."""

    def undecided(self) -> Self:
        """Those that nobody has acknowledged."""
        return self.filter(acknowledged_at__isnull=True)


class WorkOSConflict(models.Model):
    """What a person has to decide: one row a WorkOS organization, removed when it is solved."""

    workos_organization_id = models.TextField(
        "WorkOS organization id", primary_key=True, help_text="The organization it is about."
    )
    organization_id = models.TextField(
        null=True, blank=True, help_text="The Gram organization that it is about."
    )
    kind = models.TextField(
        choices=[(kind.value, kind.value) for kind in ConflictKind], help_text="What is claimed."
    )
    reason = models.TextField(help_text="What WorkOS says, and what is here.")
    found_at = TimeField(db_default=Now(), help_text="When it was first found.")
    last_seen_at = TimeField(db_default=Now(), help_text="When it was last found.")
    acknowledged_at = TimeField(
        null=True,
        blank=True,
        help_text="When a person chose to keep it as it is; empty again when it changes.",
    )

    objects = ConflictQuerySet.as_manager()

    class Meta:
        db_table = "workos_conflict"
        verbose_name = "conflict"
        ordering = ["-found_at", "workos_organization_id"]
        permissions = [
            ("recheck_workosconflict", "Can look at conflicts again"),
            ("overwrite_workosconflict", "Can overwrite external_id in WorkOS"),
            ("relink_workosconflict", "Can give a row to the new organization"),
            ("acknowledge_workosconflict", "Can keep conflicts as they are"),
        ]

    def __str__(self) -> str:
        return printable(self.workos_organization_id)


class RequestBudget(models.Model):
    """How many requests may be made to WorkOS now. One row, shared by all processes."""

    id = models.SmallIntegerField(primary_key=True, db_default=1)
    stream_tokens = models.FloatField(db_default=0, help_text="For reads of the stream alone.")
    bulk_tokens = models.FloatField(db_default=0, help_text="For everything else.")
    refilled_at = TimeField(db_default=Now())
    paused_until = TimeField(null=True, help_text="WorkOS asked for a pause until then (429).")
    refused_webhooks = models.IntegerField(
        db_default=0, help_text="Webhooks with a well-formed signature that did not fit."
    )
    refused_since = TimeField(null=True, help_text="When the first of these came.")
    last_refused_at = TimeField(null=True, help_text="When the last of these came.")

    class Meta:
        db_table = "workos_request_budget"

    def __str__(self) -> str:
        return self._meta.db_table
