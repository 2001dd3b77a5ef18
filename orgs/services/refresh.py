"""Asks WorkOS for single organizations and applies what it says now.

This is how an announcement is honoured whose event never came, and how a parked event is replayed.
WorkOS is asked before the transaction, never inside it.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from django.db import DatabaseError
from django.db.models.functions import Now

from orgs.db.cursor import cursor_locked
from orgs.db.errors import is_contents_fault, is_passing, retry_races
from orgs.db.rows import lock_rows_and_find_deletions, write_plan
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import storable
from orgs.domain.resolution import (
    Fold,
    RemoteOrganization,
    Resolved,
    touched_ids,
)
from orgs.domain.types import (
    Outcome,
)
from orgs.models import Organization, WorkOSEvent
from orgs.workos import client as workos


class NotParked(Exception):
    """The event is not parked, or not any more."""


class AlreadySeen(Exception):
    """The announced event has been read, or another drain has settled it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What WorkOS said of an organization, and which others it said are gone."""

    workos_id: str
    organization: RemoteOrganization | None
    """None: WorkOS answered 404."""
    gone: frozenset[str] = frozenset()


def take_snapshot(workos_id: str) -> Snapshot:
    """Asks WorkOS for the organization, and for any other whose row it would take over.

    Raises ``workos.UnreadableOrganization`` and ``workos.WorkOSTrouble``.
    """
    try:
        organization = workos.get_organization(workos_id)
    except workos.NotFound:
        return _snapshot_of_heir(workos_id) or Snapshot(workos_id, None)
    rivals = _linked_elsewhere(organization)
    return Snapshot(workos_id, organization, frozenset(filter(is_gone, rivals)))


def _snapshot_of_heir(workos_id: str) -> Snapshot | None:
    """Of the organization, if there is one, that has taken over the row of one that is gone.

    By their events the row moves first, and is not disabled by the deletion of its old one.
    """
    row = Organization.objects.filter(workos_id=workos_id).first()
    try:
        heir = row and workos.find_by_external_id(row.id)
        organization = workos.get_organization(heir) if heir else None
    except workos.Refused:
        return None
    if organization is None:
        return None
    return Snapshot(organization.workos_id, organization, frozenset({workos_id}))


def replay_parked(event_id: str) -> Resolved:
    """Applies what WorkOS says now of a parked event's organization, and notes what came of it.

    May be repeated and run concurrently. Returns ``PARKED``, with the reason, if that can't be
    applied either. Raises ``NotParked``, ``workos.WorkOSTrouble`` and ``django.db.Error``; the
    event is still parked then.
    """
    event = WorkOSEvent.objects.parked().filter(id=event_id).first()
    if event is None:
        raise NotParked(f"{event_id} is not parked")
    if event.workos_organization_id is None:
        reason = "It names no organization, so it can only be dismissed."
        return _alone(partial(_still_parked, event_id), reason)
    return _snapshot_and_note(
        event.workos_organization_id,
        partial(_note_replayed, event_id),
        partial(_still_parked, event_id),
    )


@dataclass(slots=True)
class ReplayReport:
    """What became of parked events that were replayed."""

    resolved: dict[str, Resolved] = field(default_factory=dict)
    """Event id to what became of it."""
    left: int = 0
    """How many stay as they were: there was trouble, or the time was up."""
    trouble: workos.WorkOSTrouble | DatabaseError | None = None
    """The last trouble that there was, if there was any."""

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many events there are of each outcome."""
        return Counter(resolved.outcome for resolved in self.resolved.values())

    @property
    def still_parked(self) -> dict[str, str]:
        """Event id to the reason."""
        return {
            event_id: resolved.error
            for event_id, resolved in self.resolved.items()
            if resolved.outcome is Outcome.PARKED
        }


def replay_all_parked(*, deadline: float) -> ReplayReport:
    """Replays parked events until ``time.monotonic()`` has passed ``deadline``.

    Trouble with one does not stop the rest, unless it is the same for all: a key that is refused,
    or a pause that WorkOS asks for. Raises ``django.db.Error`` for any but passing trouble with the
    database; what was replayed before stays so.
    """
    report = ReplayReport()
    # In another order each time: those with trouble must not use up the time of the rest.
    parked = list(WorkOSEvent.objects.parked().order_by("?").values_list("id", flat=True))
    for done, event_id in enumerate(parked):
        if time.monotonic() > deadline or isinstance(report.trouble, _TROUBLE_OF_ALL):
            report.left += len(parked) - done
            break
        try:
            report.resolved[event_id] = replay_parked(event_id)
        except NotParked:
            continue
        except workos.WorkOSTrouble as trouble:
            report.left, report.trouble = report.left + 1, trouble
        except DatabaseError as error:
            if not is_passing(error):
                raise
            report.left, report.trouble = report.left + 1, error
    return report


_TROUBLE_OF_ALL = (workos.NotConfigured, workos.Unauthorized, workos.RateLimited)


def dismiss_parked(event_ids: list[str]) -> int:
    """Marks parked events as seen and done with; returns how many were parked."""
    parked = WorkOSEvent.objects.parked().filter(id__in=event_ids)
    with bounded_transaction():
        return parked.update(outcome=Outcome.DISMISSED, processed_at=Now(), error="", payload=None)


def honour_announcement(event_id: str) -> Resolved:
    """Applies an announced event that the stream never brought: by what WorkOS says now.

    May be repeated and run concurrently. What can't be applied is parked. Raises ``AlreadySeen``,
    ``workos.WorkOSTrouble`` and ``django.db.Error``; after the last two it is still unseen.
    """
    event = WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).first()
    if event is None:
        raise AlreadySeen(f"{event_id} is not waited for")
    if event.workos_organization_id is None:
        reason = "announced, never listed, and names no organization"
        return _alone(partial(_park_announcement, event.id), reason)
    return _snapshot_and_note(
        event.workos_organization_id,
        partial(_note_missing, event.id),
        partial(_park_announcement, event.id),
    )


def _snapshot_and_note(
    workos_id: str,
    note: Callable[[Resolved], Resolved],
    park: Callable[..., Resolved],
) -> Resolved:
    try:
        snapshot = take_snapshot(workos_id)
        return retry_races(partial(_apply, snapshot, note, park))
    except workos.UnreadableOrganization as problem:
        return _alone(park, f"WorkOS's organization can't be read: {problem}", problem.payload)
    except workos.Refused as refusal:
        return _alone(park, f"WorkOS refuses to say what {workos_id} is: {refusal}")
    except DatabaseError as error:
        if not is_contents_fault(error):
            raise
        return _alone(park, f"PostgreSQL: {error}")


def _alone(park: Callable[..., Resolved], *reason: str) -> Resolved:
    """In a transaction of its own."""
    with bounded_transaction():
        return park(*reason)


def _apply(
    snapshot: Snapshot, note: Callable[[Resolved], Resolved], park: Callable[..., Resolved]
) -> Resolved:
    # Or the stream could apply a deletion between our look for it and our insert.
    with cursor_locked():
        resolved = apply_snapshot(snapshot)
        if resolved.outcome is Outcome.CONFLICT:
            return park(resolved.error)
        return note(resolved)


def apply_snapshot(snapshot: Snapshot) -> Resolved:
    """Applies a snapshot inside the caller's transaction."""
    organization = snapshot.organization
    ids = touched_ids([organization]) if organization else set()
    rows, deleted = lock_rows_and_find_deletions(
        {snapshot.workos_id}, ids, deletions_of={snapshot.workos_id}
    )
    fold = Fold(rows, deleted=deleted, gone=snapshot.gone)
    if organization is None:
        resolved = fold.apply_absence(snapshot.workos_id)
    else:
        resolved = fold.apply_snapshot(organization)
    write_plan(fold.plan())
    return resolved


def _linked_elsewhere(organization: RemoteOrganization) -> list[str]:
    rows = Organization.objects.linked().filter(id__in=touched_ids([organization]))
    linked = rows.exclude(workos_id=organization.workos_id)
    return [workos_id for workos_id in linked.values_list("workos_id", flat=True) if workos_id]


def is_gone(workos_id: str) -> bool:
    """Whether WorkOS says that there is no such organization. Raises ``workos.WorkOSTrouble``."""
    try:
        workos.get_organization(workos_id)
    except workos.NotFound:
        return True
    except workos.UnreadableOrganization:
        return False
    return False


def _note_replayed(event_id: str, resolved: Resolved) -> Resolved:
    # A snapshot that changed nothing found the mirror as new as the event, or newer.
    unchanged = resolved.outcome is Outcome.UNCHANGED
    outcome = Outcome.STALE if unchanged else resolved.outcome
    WorkOSEvent.objects.parked().filter(id=event_id).update(
        outcome=outcome,
        organization_id=resolved.organization_id,
        processed_at=Now(),
        error="",
        payload=None,
    )
    return Resolved(outcome, resolved.organization_id)


def _still_parked(event_id: str, reason: str, payload: str | None = None) -> Resolved:  # noqa: ARG001
    # The payload stays the event's own: it is what a person has to understand.
    WorkOSEvent.objects.parked().filter(id=event_id).update(error=storable(reason))
    return Resolved(Outcome.PARKED, error=reason)


def _note_missing(event_id: str, resolved: Resolved) -> Resolved:
    WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(
        outcome=Outcome.MISSING, organization_id=resolved.organization_id, processed_at=Now()
    )
    return resolved


def _park_announcement(event_id: str, reason: str, payload: str | None = None) -> Resolved:
    WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(
        outcome=Outcome.PARKED, error=storable(reason), payload=payload, processed_at=Now()
    )
    return Resolved(Outcome.PARKED, error=reason)
