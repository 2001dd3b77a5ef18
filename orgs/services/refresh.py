"""Fetches single objects and applies what WorkOS says now: for missed webhooks, for parked events,
and for a confirmed absence. WorkOS is called before the transaction, never inside it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from django.db import DatabaseError
from django.db.models import Func, TextField
from django.db.models.functions import Now

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import sql
from orgs.db.errors import WriteSkipped
from orgs.db.transactions import Statement, bounded_transaction, execute_together
from orgs.domain.naming import storable
from orgs.domain.report import Change, Report
from orgs.domain.resolution import gram_id
from orgs.domain.resources import PLAIN, Resource, payload_of
from orgs.domain.types import Decision, Observation, Outcome, State
from orgs.models import EventQuerySet, Organization, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.lookups import UNPROVEN, UNPROVEN_OBJECT, Lookups, Unproven
from orgs.services.refusals import fails_every_row
from orgs.workos import WorkOSError

_LEFT_OUT = "a trigger or a policy leaves it as it is"


class AlreadyResolved(Exception):
    """The event is not parked any more, or the stream has brought it."""


def fetch(workos_id: str, lookups: Lookups) -> Batch:
    """Fetch the organization. If it would take over a row that is linked to another one, find out
    whether that one is deleted.

    If it is deleted itself and another one has taken over its row, that one is returned: by their
    events the row moves first, and is not disabled by the deletion of its old organization. Raises
    ``Unproven`` and another ``WorkOSError``.
    """
    observation = lookups.look_up(workos_id)
    with lookups.reading():
        row = Organization.objects.filter(workos_id=workos_id).first()
    is_absent, absent = observation.state is State.ABSENT, frozenset[str]()
    if observation.state is State.UNREADABLE:
        return Batch(observations=[observation])
    if is_absent and row is not None and row.workos_deleted_at is None:
        is_proven = lookups.proves_absence({workos_id})
    else:
        is_proven = (row is not None and not is_absent) or lookups.proves_environment({workos_id})
    if not is_proven:
        raise Unproven(UNPROVEN)
    if row is None and not is_absent:
        id_ = gram_id(workos_id, observation.organization)
        with lookups.reading():
            owners = {o.workos_id or "" for o in Organization.objects.linked().filter(id=id_)}
        absent = lookups.confirmed_absent(owners)
    elif row is not None and is_absent:
        new_owner = lookups.new_owner(row.id)
        # One that has a row of its own keeps it, and takes over none.
        if new_owner is not None and new_owner.state is State.PRESENT and not _has_row(new_owner):
            observation, absent = new_owner, frozenset({workos_id})
    return Batch(observations=[observation], absent=absent)


def _has_row(observation: Observation) -> bool:
    with bounded_transaction():
        return Organization.objects.filter(workos_id=observation.workos_id).exists()


def fetch_object(resource: Resource, key: str, lookups: Lookups, event_type: str) -> Batch:
    """Fetch one object of another resource: by itself, or in the list that holds it.

    After an event that says that it is deleted, a 404 needs no other proof. Raises ``Unproven`` and
    another ``WorkOSError``.
    """
    found = lookups.look_up if resource.fetch else lookups.find_listed
    observation = found(key, resource)
    if resource.fetch and observation.state is State.ABSENT:
        is_deletion = resource.events.get(event_type) is State.ABSENT
        is_proven = is_deletion or lookups.proves_absence({key}, resource)
    else:
        # Another environment has such lists too.
        is_proven = lookups.proves_environment(set())
    if not (is_proven or observation.state is State.UNREADABLE):
        raise Unproven(UNPROVEN_OBJECT)
    return Batch(observations=[observation])


# Events -------------------------------------------------------------------------------------


@dataclass(slots=True)
class ResolveReport(Report):
    """What became of events that were resolved by fetching their objects."""

    left: int = 0
    """How many stay as they were: there was an error, or the time was up."""
    error: WorkOSError | DatabaseError | None = None
    """The last error, if there was one."""

    @property
    def unproven(self) -> list[str]:
        """Return a sentence about those that are parked because nothing is proven, if any are."""
        reasons = [change.reason for change in self.changes if change.is_unproven]
        return [f"parked without proof: {len(reasons)}; {reasons[0]}"] if reasons else []


def resolve_all(
    events: EventQuerySet, *, deadline: float = inf, patience: float = 0.0
) -> ResolveReport:
    """Resolve parked or missed events, until ``time.monotonic()`` reaches ``deadline``.

    ``patience``: as in ``orgs.workos``. May be repeated and run concurrently. An error of one does
    not stop the rest, unless it is the same for all: a key that is refused, or a pause that WorkOS
    asks for. Raises ``django.db.Error`` if the environment failed; what was resolved before stays
    so.
    """
    report = ResolveReport()
    with bounded_transaction():
        # In another order each time: those with errors must not use up the time of the rest.
        ids = list(events.order_by("?").values_list("id", flat=True))
    for done, event_id in enumerate(ids):
        if time.monotonic() >= deadline or isinstance(report.error, workos.SAME_FOR_ALL):
            report.left += len(ids) - done
            break
        try:
            change = resolve(event_id, patience=patience)
        except AlreadyResolved:
            continue
        except (WorkOSError, DatabaseError) as error:
            if isinstance(error, DatabaseError) and fails_every_row(error):
                raise
            report.left, report.error = report.left + 1, error
        else:
            report.changes.append(change)
            report.counts[change.change] += 1
    return report


def resolve(event_id: str, *, patience: float = 0.0) -> Change:
    """Apply what WorkOS says now of the object of an event that is parked, or that was announced
    and never listed; record the outcome.

    May be repeated and run concurrently. What can't be applied is parked, with the reason. Of a
    resource that the settings do not name any more, nothing is fetched. Raises
    ``AlreadyResolved``, ``WorkOSError`` and ``django.db.Error``, and then changes nothing.
    """
    with bounded_transaction():
        event = WorkOSEvent.objects.unresolved().filter(id=event_id).first()
    if event is None:
        raise AlreadyResolved(f"{event_id} is neither parked nor waited for")
    if event.resource not in sync_settings().resources:
        return _leave_unfetched(event)
    key = event.object_key or event.workos_organization_id
    if key is None:
        return _park(event, f"It names no {event.resource}, so it can only be dismissed.")
    lookups, resource = Lookups(patience), PLAIN.get(event.resource)
    began_at = lookups.now()
    try:
        if resource is None:
            batch = fetch(key, lookups)
        else:
            batch = fetch_object(resource, key, lookups, event.type)
    except Unproven as unproven:
        return _park(event, str(unproven), is_unproven=True)
    except workos.Refused as refusal:
        return _park(event, f"WorkOS refuses to show the {event.resource}: {refusal}")
    (observation,) = batch.observations
    if observation.state is State.UNREADABLE:
        reason = f"WorkOS's {event.resource} can't be read: {observation.error}"
        return _park(event, reason, payload_of(observation.raw))
    # Nothing else will bring what this event said, so it may overwrite rows written before.
    return _apply(event, replace(batch, read_began_at=began_at, overwrite_before=began_at))


def _apply(event: WorkOSEvent, batch: Batch) -> Change:
    """Apply what was fetched; record in the same transaction what became of the event."""
    results: list[Change] = []

    def record(decision: Decision) -> None:
        results.append(_record(event, _result(event, decision)))

    report = apply(replace(batch, record=record), Mode.REFRESH)
    if failed := report.of(Outcome.FAILED):
        return _park(event, failed[0].reason)
    # The last is of the attempt that was committed: ``apply`` retries races.
    return results[-1]


def _leave_unfetched(event: WorkOSEvent) -> Change:
    """Resolve an event whose resource the settings no longer name: record an announced one as
    ignored, and leave a parked one. A resource that is named again is listed in full."""
    if event.is_parked:
        # The ledger keeps the reason for which it was parked.
        reason = f"WORKOS_RESOURCES does not name {event.resource}: add it, or dismiss the event"
        return _parked(event, reason)
    ignored = Change(None, event.workos_organization_id, Outcome.IGNORED, event_id=event.id)
    with bounded_transaction():
        return _record(event, ignored)


def _result(event: WorkOSEvent, decision: Decision) -> Change:
    if decision.outcome in (Outcome.CONFLICT, Outcome.PARKED):
        return _parked(event, decision.reason)
    # Unchanged: the row is as new as the event, or newer.
    is_unchanged = decision.outcome is Outcome.UNCHANGED
    outcome = Outcome.STALE if is_unchanged else decision.outcome
    workos_id = decision.observation.workos_id
    return Change(decision.organization_id, workos_id, outcome, event_id=event.id)


def _parked(event: WorkOSEvent, reason: str) -> Change:
    about = event.workos_organization_id
    return Change(None, about, Outcome.PARKED, reason=reason, event_id=event.id)


def _park(
    event: WorkOSEvent, reason: str, payload: str | None = None, *, is_unproven: bool = False
) -> Change:
    parked = replace(_parked(event, reason), is_unproven=is_unproven)
    with bounded_transaction():
        return _record(event, parked, payload)


def _record(event: WorkOSEvent, result: Change, payload: str | None = None) -> Change:
    """Record in the ledger what became of the event, and return that. One that was resolved
    meanwhile stays so."""
    # An announced event that the stream never listed is recorded so, whatever its object became.
    is_missing = event.outcome is None and result.change not in (Outcome.PARKED, Outcome.IGNORED)
    outcome = Outcome.MISSING if is_missing else result.change
    values = [outcome, result.organization_id, storable(result.reason), outcome, payload, event.id]
    (recorded,) = execute_together([Statement(sql.RESOLVE_EVENT, values)])
    if not recorded and WorkOSEvent.objects.unresolved().filter(id=event.id).exists():
        raise WriteSkipped(_LEFT_OUT)
    return result


def dismiss_parked(event_ids: Sequence[str]) -> list[str]:
    """Mark parked events as done with; return the ids of those that were parked.

    The error stays. A hash replaces the payload.
    """
    sha256 = "'sha256:' || encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
    hashed = Func("payload", template=sha256, output_field=TextField())
    with bounded_transaction():
        parked = WorkOSEvent.objects.parked().filter(id__in=event_ids).order_by("id")
        ids = [*parked.select_for_update().values_list("id", flat=True)]
        dismissed = WorkOSEvent.objects.filter(id__in=ids)
        values = {"outcome": Outcome.DISMISSED, "processed_at": Now(), "payload": hashed}
        if dismissed.update(**values) < len(ids):
            raise WriteSkipped(_LEFT_OUT)
    return ids
