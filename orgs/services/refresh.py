"""Fetches single organizations and applies what WorkOS says now: for missed webhooks, for parked
events, and for a confirmed absence. WorkOS is called before the transaction, never inside it."""

import time
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import uuid4

from django.db import DatabaseError
from django.db.models import Func, TextField
from django.db.models.functions import Now

from orgs import workos
from orgs.db import rows
from orgs.db.cursor import database_now
from orgs.db.errors import is_passing
from orgs.db.resources import model_of
from orgs.db.transactions import Statement, bounded_transaction, read_only_transaction
from orgs.domain.naming import storable
from orgs.domain.report import Change
from orgs.domain.resolution import gram_id
from orgs.domain.resources import DIRECTORY, DIRECTORY_GROUP, PLAIN, Resource, Scope
from orgs.domain.status import ReadError
from orgs.domain.types import Decision, Observation, Outcome, State
from orgs.models import Organization, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.workos import WorkOSError, read_ahead, read_objects, read_organizations


class NotParked(Exception):
    """The event is not parked, or not any more."""


class AlreadySeen(Exception):
    """The announced event has been read, or another drain has resolved it."""


class Unproven(WorkOSError):
    """What WorkOS answers may come from a wrong address, or be that of another environment."""


class WrongEnvironment(WorkOSError):
    """WorkOS lists none of the organizations that rows are linked to."""

    kind = ReadError.WRONG_ENVIRONMENT


# Looking objects up -------------------------------------------------------------------------


@dataclass(slots=True)
class Lookups:
    """Looks organizations up, for one run, and finds out whether its 404s prove anything.

    The same 404 may come from a wrong address, or with the key of another environment. It counts
    only if, in the same run, the same route found another organization that a row is linked to.
    """

    patience: float = 0.0
    """Seconds that a call may wait for the request budget, or for a pause WorkOS asked for."""
    dry: bool = False
    candidates: list[str] = field(default_factory=list)
    """WorkOS ids of linked organizations that should be found."""
    workos_date: datetime | None = None
    """WorkOS's own clock, when the environment was verified."""
    _is_proven: bool | None = None

    def verify_environment(self) -> None:
        """Find an organization in WorkOS's list that a row is linked to: before any write.

        Raises ``WrongEnvironment`` if rows are linked and the list shows none of them: the key is
        of another environment, or the address of another server. Raises ``WorkOSError``.
        """
        if not self._has_linked():
            return
        position, is_last = None, False
        while not is_last:
            page = read_organizations(position, patience=self.patience)
            self.workos_date = self.workos_date or page.date
            with self.reading():
                found = rows.linked(o.workos_id for o in page.observations if o.workos_id)
            if found:
                self.candidates = sorted(found)[:3]
                workos.note_verified()
                return
            position, is_last = page.position, page.is_last
        raise WrongEnvironment(
            "WorkOS lists none of the organizations that rows are linked to: WORKOS_API_KEY is of "
            "another environment, or WORKOS_BASE_URL is wrong; nothing was written"
        )

    def look_up(self, workos_id: str) -> Observation:
        """Return what WorkOS says of it now. May run in a thread. Raises ``WorkOSError``."""
        return workos.lookup(workos_id, patience=self.patience)

    def proves_place(self, new: set[str]) -> bool:
        """Return True if organizations without a row may get one: nothing is linked beside them
        yet, or another one is found. A row of a wrong place would prove that place right later.
        Raises ``WorkOSError``."""
        return not self._has_linked() or self.proves_absence(new)

    def proves_absence(self, missing: set[str]) -> bool:
        """Return True if a 404 of this run counts. Raises ``WorkOSError``."""
        if self._is_proven is None:
            found = (self.look_up(other) for other in self._others(missing))
            self._is_proven = any(observation.state is not State.ABSENT for observation in found)
        return self._is_proven

    def confirmed_absent(self, workos_ids: set[str]) -> frozenset[str]:
        """Return those that WorkOS confirms not to exist. Raises ``WorkOSError``."""
        absent = {id_ for id_ in workos_ids if self.look_up(id_).state is State.ABSENT}
        return frozenset(absent) if absent and self.proves_absence(absent) else frozenset()

    def new_owner(self, organization_id: str) -> Observation | None:
        """Return the organization that WorkOS shows with this ``external_id``, if there is one."""
        try:
            workos_id = workos.find_by_external_id(organization_id, patience=self.patience)
        except workos.Refused:
            # It can't be an external_id.
            return None
        return None if workos_id is None else self.look_up(workos_id)

    def reading(self) -> AbstractContextManager[None]:
        """Around every read of the database: a dry run's are where PostgreSQL refuses writes."""
        return read_only_transaction() if self.dry else nullcontext()

    def _has_linked(self) -> bool:
        # Also those that are disabled here alone: they live in WorkOS.
        with self.reading():
            return Organization.objects.linked().filter(workos_deleted_at=None).exists()

    def _others(self, missing: set[str]) -> list[str]:
        with self.reading():
            live = Organization.objects.live().exclude(workos_id__in=missing).order_by("id")
            # From anywhere among the ids, which the key's index finds at once.
            found = [*live.filter(id__gte=str(uuid4()))[:3], *live[:2]]
            if not found:
                disabled = Organization.objects.disabled_here().exclude(workos_id__in=missing)
                found = [*disabled.order_by("-disabled_at")[:5]]
        others = [row.workos_id for row in found if row.workos_id]
        return [*(id_ for id_ in self.candidates if id_ not in missing), *others]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What WorkOS said of an organization, and what is confirmed beside it."""

    observation: Observation
    absent: frozenset[str] = frozenset()
    is_proven: bool = True
    """False: the answer may come from a wrong address, or be that of another environment."""


def fetch(workos_id: str, lookups: Lookups) -> Fetched:
    """Fetch the organization, and any other whose row it would take over.

    If it is deleted and another one has taken over its row, that one is returned: by their events
    the row moves first, and is not disabled by the deletion of its old organization. Raises
    ``WorkOSError``.
    """
    observation = lookups.look_up(workos_id)
    with lookups.reading():
        row = Organization.objects.filter(workos_id=workos_id).first()
    is_absent = observation.state is State.ABSENT
    if is_absent and row is not None and row.workos_deleted_at is None:
        is_proven = lookups.proves_absence({workos_id})
    else:
        is_proven = (row is not None and not is_absent) or lookups.proves_place({workos_id})
    if not is_proven:
        return Fetched(observation, is_proven=False)
    if not is_absent:
        return Fetched(observation, lookups.confirmed_absent(_owners_of(observation, lookups)))
    if row is None:
        return Fetched(observation)
    new_owner = lookups.new_owner(row.id)
    if new_owner is not None and new_owner.state is State.PRESENT:
        return Fetched(new_owner, frozenset({workos_id}))
    return Fetched(observation)


def _owners_of(observation: Observation, lookups: Lookups) -> set[str]:
    """The other organization that the row is linked to which this one resolves to."""
    if observation.fields is None:
        return set()
    id_ = gram_id(observation.workos_id or "", observation.fields)
    with lookups.reading():
        if rows.linked([observation.workos_id or ""]):
            return set()
        owners = Organization.objects.linked().filter(id=id_).values_list("workos_id", flat=True)
        return {workos_id for workos_id in owners if workos_id is not None}


def fetch_object(resource: Resource, key: str, lookups: Lookups) -> Fetched:
    """Fetch one object of another resource: by itself, or in the list that holds it.

    Raises ``WorkOSError``.
    """
    if resource.fetch:
        observation = workos.lookup_object(resource, key, patience=lookups.patience)
        if observation.state is State.ABSENT:
            is_proven = proves_absence_of(resource, {key}, lookups)
        else:
            is_proven = lookups.proves_place(set())
        return Fetched(observation, is_proven=is_proven)
    scope = key.rpartition(":")[0]
    listing = next(
        one for one in resource.listings if (one.scope is Scope.ENVIRONMENT) != bool(scope)
    )
    read = partial(read_objects, resource, listing, scope=scope, patience=lookups.patience)
    found = Observation(workos_id=key, state=State.ABSENT, resource=resource.name)
    try:
        with closing(read_ahead(read, None)) as pages:
            listed = (observation for page in pages for observation in page.observations)
            found = next((one for one in listed if one.workos_id == key), found)
    except workos.Refused:
        if scope and is_gone(listing.scope, scope, lookups):
            return Fetched(found)
        raise
    # Another environment has such lists too.
    return Fetched(found, is_proven=lookups.proves_place(set()))


def is_gone(kind: Scope, scope: str, lookups: Lookups) -> bool:
    """Return True if WorkOS has proven not to have the organization, directory or group."""
    if kind is Scope.ORGANIZATION:
        return lookups.look_up(scope).state is State.ABSENT and lookups.proves_absence({scope})
    parent = DIRECTORY if kind is Scope.DIRECTORY else DIRECTORY_GROUP
    found = workos.lookup_object(parent, scope, patience=lookups.patience)
    return found.state is State.ABSENT and proves_absence_of(parent, {scope}, lookups)


def proves_absence_of(resource: Resource, missing: set[str], lookups: Lookups) -> bool:
    """Return True if the same route finds another object of this resource that has a row."""
    live = {resource.deleted_column: None}
    with lookups.reading():
        others = model_of(resource).objects.filter(**live).exclude(pk__in=missing)  # type: ignore[attr-defined]
        keys = list(others.values_list("pk", flat=True)[:3])
    found = (workos.lookup_object(resource, key, patience=lookups.patience) for key in keys)
    return any(observation.state is not State.ABSENT for observation in found)


UNPROVEN = (
    "no other linked organization could be found by the same address and key, so what WorkOS "
    "answers proves nothing: see WORKOS_BASE_URL and WORKOS_API_KEY. If it is deleted in WorkOS, "
    "disable it in the admin"
)

UNPROVEN_OBJECT = (
    "nothing else that has a row could be found by the same address and key, so what WorkOS "
    "answers proves nothing: see WORKOS_BASE_URL and WORKOS_API_KEY"
)


# Events -------------------------------------------------------------------------------------


def resolve_missed(event_id: str, *, patience: float = 0.0) -> Change:
    """Resolve an announced event that the stream never listed: apply what WorkOS says now.

    ``patience``: as in ``orgs.workos``. May be repeated and run concurrently. What can't be applied
    is parked. Raises ``AlreadySeen``, ``WorkOSError`` and ``django.db.Error``; after the last two
    it is still unseen.
    """
    event = WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).first()
    if event is None:
        raise AlreadySeen(f"{event_id} is not waited for")
    return _resolve(event, patience, is_missed=True)


def replay_parked(event_id: str, *, patience: float = 0.0) -> Change:
    """Apply what WorkOS says now of a parked event's organization, and record the outcome.

    May be repeated and run concurrently. Returns ``PARKED``, with the reason, if that can't be
    applied either. Raises ``NotParked``, ``WorkOSError`` and ``django.db.Error``; the event is
    still parked then.
    """
    event = WorkOSEvent.objects.parked().filter(id=event_id).first()
    if event is None:
        raise NotParked(f"{event_id} is not parked")
    return _resolve(event, patience, is_missed=False)


@dataclass(slots=True)
class _Recording:
    """Records in the ledger what became of an event, in the transaction that applies it."""

    event: WorkOSEvent
    is_missed: bool
    result: Change = field(init=False)

    def __call__(self, decision: Decision) -> Statement:
        if decision.outcome in (Outcome.CONFLICT, Outcome.PARKED):
            return self.parked(decision.reason)
        outcome = decision.outcome
        if outcome is Outcome.UNCHANGED:
            # The row is as new as the event, or newer.
            outcome = Outcome.STALE
        self.result = Change(decision.organization_id, decision.observation.workos_id, outcome)
        recorded = Outcome.MISSING if self.is_missed else outcome
        return self._statement(recorded, decision.organization_id)

    def parked(
        self, reason: str, payload: str | None = None, *, is_unproven: bool = False
    ) -> Statement:
        """Return the statement that parks the event, or keeps it parked, for this reason."""
        self.result = Change(
            None,
            self.event.workos_organization_id,
            Outcome.PARKED,
            reason=reason,
            event_id=self.event.id,
            is_unproven=is_unproven,
        )
        return self._statement(Outcome.PARKED, None, error=storable(reason), payload=payload)

    def _statement(
        self,
        outcome: Outcome,
        organization_id: str | None,
        error: str = "",
        payload: str | None = None,
    ) -> Statement:
        return rows.resolve_event(self.event.id, outcome, organization_id, error, payload)


def _resolve(event: WorkOSEvent, patience: float, *, is_missed: bool) -> Change:
    recording = _Recording(event, is_missed)
    key = event.object_key or event.workos_organization_id
    if key is None:
        return _park(recording, f"It names no {event.resource}, so it can only be dismissed.")
    lookups = Lookups(patience)
    began_at = database_now()
    resource = PLAIN.get(event.resource)
    try:
        fetched = fetch_object(resource, key, lookups) if resource else fetch(key, lookups)
    except workos.Refused as refusal:
        return _park(recording, f"WorkOS refuses to show the {event.resource}: {refusal}")
    observation = fetched.observation
    if observation.state is State.UNREADABLE:
        reason = f"WorkOS's {event.resource} can't be read: {observation.error}"
        return _park(recording, reason, rows.payload(observation))
    if not fetched.is_proven:
        reason = UNPROVEN if resource is None else UNPROVEN_OBJECT
        return _park(recording, reason, is_unproven=True)
    batch = Batch(
        observations=[observation], absent=fetched.absent, read_began_at=began_at, record=recording
    )
    for failed in apply(batch, Mode.REFRESH).of(Outcome.FAILED):
        return _park(recording, failed.reason)
    return recording.result


def _park(
    recording: _Recording, reason: str, payload: str | None = None, *, is_unproven: bool = False
) -> Change:
    with bounded_transaction(recording.parked(reason, payload, is_unproven=is_unproven)):
        pass
    return recording.result


@dataclass(slots=True)
class ReplayReport:
    """What became of parked events that were replayed."""

    results: dict[str, Change] = field(default_factory=dict)
    """By event id."""
    left: int = 0
    """How many stay as they were: there was an error, or the time was up."""
    error: WorkOSError | DatabaseError | None = None
    """The last error, if there was one."""

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many events there are of each outcome."""
        return Counter(change.change for change in self.results.values())

    @property
    def still_parked(self) -> dict[str, str]:
        """Event id to the reason."""
        return {
            event_id: change.reason
            for event_id, change in self.results.items()
            if change.change is Outcome.PARKED
        }

    @property
    def unproven(self) -> list[str]:
        """Return a sentence about those that stay parked because nothing is proven, if any do."""
        reasons = [change.reason for change in self.results.values() if change.is_unproven]
        return [f"still parked without proof: {len(reasons)}; {reasons[0]}"] if reasons else []


#: Errors that would be the same for every event.
_SAME_FOR_ALL = (
    workos.NotConfigured,
    workos.Misconfigured,
    workos.Unauthorized,
    workos.RateLimited,
)


def replay_all_parked(
    *, deadline: float, only: Collection[str] | None = None, patience: float = 0.0
) -> ReplayReport:
    """Replay parked events, or ``only`` these, until ``time.monotonic()`` has passed ``deadline``.

    ``patience``: as in ``orgs.workos``. An error of one does not stop the rest, unless it is the
    same for all: a key that is refused, or a pause that WorkOS asks for. Raises ``django.db.Error``
    for any that does not pass by itself; what was replayed before stays so.
    """
    report = ReplayReport()
    # In another order each time: those with errors must not use up the time of the rest.
    events = WorkOSEvent.objects.parked().order_by("?")
    if only is not None:
        events = events.filter(id__in=only)
    parked = list(events.values_list("id", flat=True))
    for done, event_id in enumerate(parked):
        if time.monotonic() > deadline or isinstance(report.error, _SAME_FOR_ALL):
            report.left += len(parked) - done
            break
        try:
            report.results[event_id] = replay_parked(event_id, patience=patience)
        except NotParked:
            continue
        except WorkOSError as error:
            report.left, report.error = report.left + 1, error
        except DatabaseError as error:
            if not is_passing(error):
                raise
            report.left, report.error = report.left + 1, error
    return report


def dismiss_parked(event_ids: list[str]) -> int:
    """Mark parked events as seen and done with; return how many were parked.

    The error stays, and a hash of the payload in its place.
    """
    parked = WorkOSEvent.objects.parked().filter(id__in=event_ids)
    sha256 = "'sha256:' || encode(sha256(convert_to(%(expressions)s, 'UTF8')), 'hex')"
    hashed = Func("payload", template=sha256, output_field=TextField())
    with bounded_transaction():
        return parked.update(outcome=Outcome.DISMISSED, processed_at=Now(), payload=hashed)
