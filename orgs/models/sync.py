"""Defines the tables that the sync keeps for itself: cursor, ledger, outbox, conflicts, budget."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models.functions import Now

from orgs.domain.naming import storable
from orgs.domain.types import EVENT_OUTCOMES, ORGANIZATION, ConflictKind, EventType, Outcome
from orgs.models.fields import (
    Table,
    TimeField,
    count,
    index,
    json,
    optional_text,
    optional_time,
    text,
)
from orgs.models.organizations import Organization

#: The one stream that is followed today.
ORGANIZATIONS_STREAM = "organizations"

_CLOCK_MARGIN = timedelta(minutes=1)

_OUTCOMES = [outcome.value for outcome in EVENT_OUTCOMES]
# A NULL is in no list, and in PostgreSQL a check that is NULL passes.
_IS_DONE = models.Q(outcome__isnull=False, outcome__in=_OUTCOMES, processed_at__isnull=False)
_IS_SOUND = models.Q(outcome__isnull=True, processed_at__isnull=True) | _IS_DONE


def _when(help_text: str) -> TimeField:
    return TimeField(null=True, help_text=help_text)


class SyncCursor(Table):
    """Where the mirror stands in a stream of WorkOS's. The row is made by the first drain."""

    stream = models.TextField(primary_key=True, help_text="Which of WorkOS's streams is followed.")
    last_event_id = models.TextField(
        null=True, help_text="The last event applied. Without it, reads start at last_event_at."
    )
    last_event_at = _when("When that event was created.")
    drained_at = _when("When a read last reached the end of the stream.")
    draining_until = _when("The waiting drain's lease; in the past or empty: nobody waits.")
    rung_until = _when("A drain was rung for and has not begun; in the past or empty: none.")
    reconciling_until = _when("A snapshot's lease.")
    reconciled_at = _when("When a snapshot last completed.")
    last_drift = count("How many organizations differed, and were repaired by it.")
    last_changes = json([], "Which organizations: the first 200.")
    snapshot_trouble = text("Why the last snapshot did not complete; or empty.")
    snapshot_error_kind = text("What kind of error that was, as in last_trouble.")
    event_types = models.JSONField(
        null=True, help_text="The types of events that are read with this position."
    )
    covered = models.JSONField(
        null=True, help_text="Resources that were listed in full since they are followed."
    )
    # Its key ``uncovered`` holds since when each resource is followed and not listed in full; for
    # others see ``orgs.db.cursor``.
    listed_at = json({}, "When each resource was last listed in full.")
    progress = json({}, "After which organization or directory the lists of a resource go on.")
    refused_types = json({}, "Types of events that WorkOS refuses, and since when.")
    last_failed = count("How many organizations PostgreSQL refused to write in it.")
    failures = count("Failed reads since the last good one.")
    failing_since = _when("When the first of these reads failed; empty after a good one.")
    last_trouble = text("What kind of trouble the last failed read had.")
    last_error = text("Why the last read failed; empty after a good one.")

    worker_started_at = _when(
        "When manage.py sync_worker started a cluster: the first time since a read to the end."
    )

    class Meta(Table.Meta):
        db_table = "workos_sync_cursor"
        # In the admin, its list is the page of the status.
        verbose_name_plural = "sync status"
        permissions = [
            ("drain_synccursor", "Can have the stream read now"),
            ("snapshot_synccursor", "Can have a snapshot taken now"),
        ]


class EventQuerySet(models.QuerySet["WorkOSEvent"]):
    """The ledger, by what became of its events."""

    def parked(self) -> Self:
        """Those that could not be applied and wait for a person."""
        return self.filter(outcome=Outcome.PARKED)

    def announced_and_unseen(self) -> Self:
        """Announced by a webhook, and not yet read from the stream."""
        return self.filter(announced_at__isnull=False, processed_at__isnull=True)

    def unresolved(self) -> Self:
        """Parked, or announced and not yet read."""
        return self.parked() | self.announced_and_unseen()

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

    def prunable(self, *, after: timedelta) -> Self:
        """Processed so long ago, and of no further use: not parked, and not a deletion."""
        return self.filter(processed_at__lt=Now() - after).exclude(
            models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)
        )


class WorkOSEvent(Table):
    """The ledger: what was announced, what was read, and what became of it."""

    id = models.TextField(primary_key=True, help_text="WorkOS's id of the event.")
    type = models.TextField(help_text="WorkOS's type of the event.")
    workos_organization_id = optional_text(
        "The organization it is about.", "WorkOS organization id"
    )
    organization_id = optional_text("The Gram organization it was applied to.")
    occurred_at = optional_time("When WorkOS created it; known once it is read.")
    announced_at = optional_time("When the first webhook for it came, if one did.")
    processed_at = optional_time("When it was applied, parked, dismissed or given up.")
    outcome = models.TextField(
        null=True,
        blank=True,
        choices=[(outcome, outcome) for outcome in _OUTCOMES],
        help_text="What became of it. The first outcome stays; only a parked one may change.",
    )
    error = text("Why it was parked.")
    resource = models.TextField(
        db_default=ORGANIZATION, help_text="What kind of object it is about."
    )
    object_key = optional_text("WorkOS's id of the object it is about.")
    payload = optional_text(
        "What WorkOS sent, of a parked event; a hash of it, of a dismissed one."
    )

    objects = EventQuerySet.as_manager()

    class Meta(Table.Meta):
        db_table = "workos_event"
        verbose_name = "WorkOS event"
        ordering = ["-occurred_at", "-id"]
        indexes = [
            index(
                "workos_event_unseen",
                "announced_at",
                announced_at__isnull=False,
                processed_at__isnull=True,
            ),
            # For people, who look for one organization's events.
            index("workos_event_organization", "workos_organization_id"),
            index("workos_event_deletion", "workos_organization_id", type=EventType.DELETED.value),
            index("workos_event_row", "organization_id", organization_id__isnull=False),
            index("workos_event_processed", "processed_at", processed_at__isnull=False),
            index("workos_event_parked", "id", outcome="parked"),
        ]
        constraints = [models.CheckConstraint(condition=_IS_SOUND, name="workos_event_outcome")]
        permissions = [
            ("replay_workosevent", "Can apply what WorkOS says now"),
            ("dismiss_workosevent", "Can dismiss parked events"),
        ]

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


class ExternalIdWriteBack(Table):
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
        db_default=Now(), help_text="When WorkOS was first seen not to know our id."
    )
    requests = models.IntegerField(
        db_default=1,
        help_text="Grows when it is requested again: an answer to an earlier request is outdated.",
    )
    attempts = count("Attempts since then.")
    next_attempt_at = TimeField(
        null=True,
        blank=True,
        db_default=Now(),
        help_text="Empty: a conflict, which waits for a person.",
    )
    last_error = text("Why the last attempt failed.")

    objects = WriteBackQuerySet.as_manager()

    class Meta(Table.Meta):
        db_table = "workos_external_id_write_back"
        verbose_name = "write-back of external_id"
        verbose_name_plural = "write-backs of external_id"
        indexes = [index("workos_write_back_due", "next_attempt_at")]
        permissions = [("retry_externalidwriteback", "Can try write-backs again now")]

    def __str__(self) -> str:
        return storable(f"{self.organization_id} → {self.workos_id}")


class ConflictQuerySet(models.QuerySet["WorkOSConflict"]):
    """Conflicts, by whether a person has seen them."""

    def undecided(self) -> Self:
        """Those that nobody has acknowledged."""
        return self.filter(acknowledged_at__isnull=True)


class WorkOSConflict(Table):
    """What a person has to decide: one row a WorkOS organization, removed when it is solved."""

    workos_organization_id = models.TextField(
        "WorkOS organization id", primary_key=True, help_text="The organization it is about."
    )
    organization_id = optional_text("The Gram organization that it is about.")
    kind = models.TextField(
        choices=[(kind.value, kind.value) for kind in ConflictKind], help_text="What is claimed."
    )
    reason = models.TextField(help_text="What WorkOS says, and what is here.")
    found_at = TimeField(db_default=Now(), help_text="When it was first found.")
    last_seen_at = TimeField(db_default=Now(), help_text="When it was last found.")
    acknowledged_at = optional_time(
        "When a person chose to keep it as it is; empty again when it changes."
    )

    objects = ConflictQuerySet.as_manager()

    class Meta(Table.Meta):
        db_table = "workos_conflict"
        verbose_name = "conflict"
        ordering = ["-found_at", "workos_organization_id"]
        permissions = [
            ("recheck_workosconflict", "Can look at conflicts again"),
            ("overwrite_workosconflict", "Can overwrite external_id in WorkOS"),
            ("relink_workosconflict", "Can give a row to the new organization"),
            ("acknowledge_workosconflict", "Can keep conflicts as they are"),
        ]


class RequestBudget(Table):
    """How many requests may be made to WorkOS now. One row, shared by all processes."""

    id = models.SmallIntegerField(primary_key=True, db_default=1)
    stream_tokens = models.FloatField(db_default=0, help_text="For reads of the stream alone.")
    bulk_tokens = models.FloatField(db_default=0, help_text="For everything else.")
    refilled_at = TimeField(db_default=Now())
    paused_until = _when("WorkOS asked for a pause until then (429).")
    refused_webhooks = count("Webhooks with a well-formed signature that did not fit.")
    refused_since = _when("When the first of these came.")
    last_refused_at = _when("When the last of these came.")

    class Meta(Table.Meta):
        db_table = "workos_request_budget"

    def __str__(self) -> str:
        return self._meta.db_table
