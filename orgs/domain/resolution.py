"""Decides what becomes of organizations: resolution flow, freshness guard, conflicts. Pure.

``orgs.services.apply`` loads and locks every row that a batch can touch, lets a ``Resolution``
decide over them in memory, and writes its ``Plan``. Nothing here reads a clock, a database or
WorkOS.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from orgs.domain.naming import derived_id
from orgs.domain.report import Change
from orgs.domain.types import (
    ORGANIZATION,
    Conflict,
    ConflictKind,
    Creation,
    Decision,
    Event,
    Known,
    Observation,
    OrganizationFields,
    Outcome,
    PendingWriteBack,
    Plan,
    Row,
    RowChange,
    State,
)


def gram_id(workos_id: str, fields: OrganizationFields) -> str:
    """Return the Gram id that an organization without a linked row resolves to."""
    return fields.external_id or derived_id(workos_id)


def row_ids(observations: Iterable[Observation]) -> set[str]:
    """Return the Gram ids that the observations can resolve to, beside the rows linked to them."""
    return {
        gram_id(observation.workos_id or "", observation.fields)
        for observation in observations
        if observation.fields is not None
    }


def is_fresh(row: Row, observation: Observation, event: Event) -> bool:
    """Return True if an event is newer than what the row was last written from.

    WorkOS's event ids are ordered across organizations, so this also protects a row that has moved
    to another organization. Ids are compared bytewise, which is the order of ULIDs. A row without
    an event id was written from an object or by another program: times are compared. A deletion's
    ``updated_at`` is that of the last update or older, so a deletion is never judged by time.
    """
    if row.workos_last_event_id is not None:
        return event.id.encode() > row.workos_last_event_id.encode()
    if observation.fields is None or row.workos_updated_at is None:
        return True
    return observation.fields.updated_at >= row.workos_updated_at


def is_stale_object(row: Row, workos_id: str, fields: OrganizationFields) -> bool:
    """Return True if the row was written from something newer of the same organization."""
    if row.workos_id != workos_id or row.workos_updated_at is None:
        return False
    return fields.updated_at < row.workos_updated_at


def is_in_flight(
    known: datetime | None, updated_at: datetime | None, recent_after: datetime | None
) -> bool:
    """Return True if an object is newer than its row, and so recent that its event may come."""
    if updated_at is None or recent_after is None:
        return False
    # A time that is further ahead is no recent one: its event may have come long ago. Not less than
    # a day: the hold-back window may be as long, and so may a run.
    is_recent = recent_after < updated_at <= recent_after + timedelta(days=1)
    return is_recent and (known is None or updated_at > known)


class Resolution:
    """Decides over observations, one after the other, on rows in memory."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self._deletions = dict(known.deletions)
        self._original = {row.id: row for row in known.rows}
        self._rows = dict(self._original)
        self._id_by_workos_id = {row.workos_id: row.id for row in known.rows if row.workos_id}
        self._creations: dict[str, Creation] = {}
        self._disabled: set[str] = set()
        self._pending: dict[str, str | None] = {}
        self._conflicts: dict[str, Conflict] = {}
        self._solved: set[str] = set()

    def decide(self, observation: Observation) -> Decision:
        """Decide what becomes of one observation, and apply that to the rows in memory.

        An unexpected error parks an event instead of stopping the rest; the rows are then as they
        were before it.
        """
        try:
            decision = self._decide(observation)
        except Exception as error:
            if observation.event is None:
                raise
            reason = f"{type(error).__name__}: {error}"
            return Decision(observation, Outcome.PARKED, reason=reason)
        if decision.conflict is not None:
            self._conflicts[decision.conflict.workos_id] = decision.conflict
            self._solved.discard(decision.conflict.workos_id)
        return decision

    def _decide(self, observation: Observation) -> Decision:
        event = observation.event
        if event is None:
            return self._decide_object(observation)
        match observation.state:
            case State.PRESENT:
                return self._change(observation, event)
            case State.ABSENT:
                return self._delete(observation, event)
            case State.UNREADABLE:
                return Decision(observation, Outcome.PARKED, reason=observation.error)
        return Decision(observation, Outcome.IGNORED)

    def _decide_object(self, observation: Observation) -> Decision:
        match observation.state:
            case State.PRESENT:
                return self._compare(observation)
            case State.ABSENT:
                return self._confirm_absence(observation)
        return self._conflict(observation, None, ConflictKind.UNREADABLE, observation.error)

    # Events ---------------------------------------------------------------------------------

    def _change(self, observation: Observation, event: Event) -> Decision:
        workos_id, fields = _present(observation)
        row = self._find(workos_id, fields)
        if self._was_deleted_after(workos_id, event):
            return Decision(observation, Outcome.STALE, row, row)
        if row is None:
            after = self._insert(workos_id, fields, event_id=event.id)
            return self._decided(observation, Outcome.CREATED, None, after)
        if not is_fresh(row, observation, event):
            return Decision(observation, Outcome.STALE, row, row)
        if _is_linked_elsewhere(row, workos_id) and fields.external_id is None:
            # By the derived id alone: WorkOS has said of the other one that this is its row.
            return self._claim(observation, row)
        outcome = _kind_of_update(row, workos_id)
        after = self._put(self._overwritten(row, workos_id, fields, event_id=event.id))
        return self._decided(observation, outcome, row, after)

    def _was_deleted_after(self, workos_id: str, event: Event) -> bool:
        # Two events of one millisecond may be listed either way round. Where no row is linked to
        # the organization, no row has a guard.
        deletion = self._deletions.get(workos_id)
        return deletion is not None and event.id.encode() < deletion.encode()

    def _delete(self, observation: Observation, event: Event) -> Decision:
        workos_id = observation.workos_id or ""
        known = self._deletions.get(workos_id, "")
        self._deletions[workos_id] = max(known, event.id, key=str.encode)
        row = self._linked_to(workos_id)
        if row is not None and not is_fresh(row, observation, event):
            return Decision(observation, Outcome.STALE, row, row)
        self._solve(workos_id)
        if row is None:
            return Decision(observation, Outcome.UNKNOWN)
        after = self._disable(replace(row, workos_last_event_id=event.id))
        return Decision(observation, Outcome.DISABLED, row, after)

    # Objects that were listed or fetched ----------------------------------------------------

    def _compare(self, observation: Observation) -> Decision:
        """An object has no place in the stream: it is judged by time, it writes only what differs,
        and it then clears the row's event id, so that the events it overtook are judged by time."""
        workos_id, fields = _present(observation)
        row = self._find(workos_id, fields)
        known = row.workos_updated_at if row else None
        if is_in_flight(known, fields.updated_at, self.known.recent_after):
            return Decision(observation, Outcome.UNCHANGED, row, row)
        linked = self._linked_to(workos_id)
        is_deleted = workos_id in self._deletions and (linked is None or linked.deleted)
        if is_deleted or (row is not None and is_stale_object(row, workos_id, fields)):
            # The answer is older than a deletion that the stream has brought, or than the row.
            return Decision(observation, Outcome.STALE, row, row)
        if row is None:
            after = self._insert(workos_id, fields, event_id=None)
            return self._decided(observation, Outcome.CREATED, None, after)
        if _is_linked_elsewhere(row, workos_id) and row.workos_id not in self.known.absent:
            return self._claim(observation, row)
        outcome, after = Outcome.UNCHANGED, row
        if (row.name, row.workos_id) != (fields.name, workos_id):
            outcome = _kind_of_update(row, workos_id)
            after = self._put(self._overwritten(row, workos_id, fields, event_id=None))
        elif row.deleted:
            # A 404 had said so, and no deletion event.
            after = self._put(replace(row, deleted=False))
        return self._decided(observation, outcome, row, after)

    def _confirm_absence(self, observation: Observation) -> Decision:
        self._solve(observation.workos_id or "")
        row = self._linked_to(observation.workos_id or "")
        if row is None:
            return Decision(observation, Outcome.UNKNOWN)
        if row.id in self.known.claimed or (row.deleted and row.disabled):
            self._pending[row.id] = None
            return Decision(observation, Outcome.UNCHANGED, row, row)
        after = self._disable(row)
        outcome = Outcome.UNCHANGED if row.disabled else Outcome.DISABLED
        return Decision(observation, outcome, row, after)

    # Both -----------------------------------------------------------------------------------

    def _find(self, workos_id: str, fields: OrganizationFields) -> Row | None:
        """The resolution flow: by link, else by the id WorkOS names, else by the derived id."""
        return self._linked_to(workos_id) or self._rows.get(gram_id(workos_id, fields))

    def _linked_to(self, workos_id: str) -> Row | None:
        row_id = self._id_by_workos_id.get(workos_id)
        return None if row_id is None else self._rows[row_id]

    def _decided(
        self, observation: Observation, outcome: Outcome, before: Row | None, after: Row
    ) -> Decision:
        """Compare the ids that both sides know: request or withdraw the write-back, or report the
        conflict."""
        workos_id, fields = _present(observation)
        conflict: Conflict | None = None
        requests = False
        if fields.external_id == after.id:
            self._pending[after.id] = None
            self._solve(workos_id)
        elif fields.external_id is not None:
            reason = (
                f"WorkOS has external_id {fields.external_id!r} for {workos_id}, "
                f"which is linked to {after.id}"
            )
            conflict = Conflict(workos_id, after.id, ConflictKind.OTHER_EXTERNAL_ID, reason)
        elif (refused := self._refused(after.id, workos_id)) is not None:
            reason = refused.error or "its external_id write-back waits for a person"
            conflict = Conflict(workos_id, after.id, ConflictKind.WRITE_BACK_REFUSED, reason)
        else:
            self._pending[after.id] = workos_id
            requests = True
            if outcome not in (Outcome.UPDATED, Outcome.UNCHANGED):
                # What was found while it had no row, or another one.
                self._solve(workos_id)
        return Decision(
            observation,
            outcome,
            before,
            after,
            conflict=conflict,
            is_disabled_here=after.disabled and not after.deleted,
            requests_write_back=requests,
        )

    def _refused(self, row_id: str, workos_id: str) -> PendingWriteBack | None:
        """The write-back that waits for a person, if it is for this organization."""
        pending = (self.known.pending or {}).get(row_id)
        if pending is None or not pending.waits_for_person or pending.workos_id != workos_id:
            return None
        return pending

    def _solve(self, workos_id: str) -> None:
        """Note that nothing is left to decide about it, also of what was found before."""
        self._solved.add(workos_id)
        self._conflicts.pop(workos_id, None)

    def _claim(self, observation: Observation, row: Row) -> Decision:
        # In the same words for events and objects: a conflict that changes is a new one.
        workos_id = observation.workos_id
        reason = f"{workos_id} resolves to {row.id}, which is linked to {row.workos_id}"
        return self._conflict(observation, row, ConflictKind.ROW_CLAIMED, reason)

    def _conflict(
        self, observation: Observation, row: Row | None, kind: ConflictKind, reason: str
    ) -> Decision:
        outcome = Outcome.CONFLICT if observation.event is None else Outcome.PARKED
        conflict = Conflict(observation.workos_id or "", row.id if row else None, kind, reason)
        return Decision(observation, outcome, row, row, reason, conflict)

    def _insert(self, workos_id: str, fields: OrganizationFields, *, event_id: str | None) -> Row:
        row = Row(id=gram_id(workos_id, fields), name=fields.name)
        row = self._put(self._overwritten(row, workos_id, fields, event_id=event_id))
        self._creations[row.id] = Creation(row, fields.name, workos_id)
        return row

    def _overwritten(
        self, row: Row, workos_id: str, fields: OrganizationFields, *, event_id: str | None
    ) -> Row:
        """``row`` with the columns that WorkOS owns; its id, its slug and the rest stay."""
        return replace(
            row,
            name=fields.name,
            workos_id=workos_id,
            workos_updated_at=fields.updated_at,
            workos_last_event_id=event_id,
            # A later event of the same organization proves a 404 wrong, but not a deletion event.
            deleted=row.deleted and workos_id in self._deletions,
        )

    def _disable(self, row: Row) -> Row:
        self._disabled.add(row.id)
        self._pending[row.id] = None
        return self._put(replace(row, disabled=True, deleted=True))

    def _put(self, row: Row) -> Row:
        before = self._rows.get(row.id)
        if before is not None and before.workos_id is not None:
            self._id_by_workos_id.pop(before.workos_id, None)
        if row.workos_id is not None:
            self._id_by_workos_id[row.workos_id] = row.id
        self._rows[row.id] = row
        return row

    # The plan -------------------------------------------------------------------------------

    def _is_withdrawn(self, row_id: str, workos_id: str | None) -> bool:
        # What the outbox holds is loaded for objects alone: of them nearly none has a request.
        return workos_id is None and (self.known.pending is None or row_id in self.known.pending)

    def plan(self) -> Plan:
        """Return what to write so that the table holds what the rows are now."""
        changed = [
            row
            for row_id, row in sorted(self._rows.items())
            if row_id in self._original and row != self._original[row_id]
        ]
        original = self._original
        return Plan(
            unlinked=tuple(row.id for row in changed if _moved_away(original[row.id], row)),
            undeleted=tuple(
                row.id for row in changed if original[row.id].deleted and not row.deleted
            ),
            updated=tuple(row for row in changed if row.id not in self._disabled),
            disabled=tuple(row for row in changed if row.id in self._disabled),
            created=tuple(
                replace(creation, row=self._rows[row_id])
                for row_id, creation in self._creations.items()
            ),
            write_backs={id_: workos_id for id_, workos_id in self._pending.items() if workos_id},
            known_to_workos=tuple(
                sorted(id_ for id_, new in self._pending.items() if self._is_withdrawn(id_, new))
            ),
            conflicts=tuple(self._conflicts.values()),
            solved=tuple(sorted(self._solved.intersection(self.known.conflicts))),
            changes=tuple(
                RowChange(outcome, row.id, row.workos_id)
                for row in (*map(self._rows.__getitem__, self._creations), *changed)
                for outcome in _kinds_of_change(original.get(row.id), row)
            ),
        )


def changes_of(decision: Decision) -> Iterator[Change]:
    """Return the lines of a report about a decision; none if nothing differs."""
    resource = decision.observation.resource
    about = (decision.plain or decision.observation).organization_id
    for change in _changes_of(decision):
        if resource != ORGANIZATION:
            change = replace(change, resource=resource, workos_organization_id=about)  # noqa: PLW2901
        yield change


def _changes_of(decision: Decision) -> Iterator[Change]:
    workos_id = decision.observation.workos_id
    row_id, reason = decision.organization_id, decision.reason
    event = decision.observation.event
    event_id = event.id if event else None
    fields = dict(_differences(decision))
    match decision.outcome:
        case Outcome.PARKED | Outcome.FAILED | Outcome.UNPROVEN:
            yield Change(row_id, workos_id, decision.outcome, reason=reason, event_id=event_id)
        case Outcome.UNCHANGED | Outcome.STALE if not fields:
            if decision.is_disabled_here and decision.conflict is None:
                reason = "it is disabled here, and exists in WorkOS"
                yield Change(row_id, workos_id, Outcome.DISABLED_HERE, reason=reason)
        case Outcome.UNCHANGED:
            yield Change(row_id, workos_id, Outcome.WRITE_BACK, fields)
        case Outcome.CREATED | Outcome.LINKED | Outcome.RELINKED | Outcome.UPDATED:
            yield Change(row_id, workos_id, decision.outcome, fields)
        case Outcome.DELETED:
            yield Change(row_id, workos_id, Outcome.DELETED)
        case Outcome.DISABLED:
            yield Change(row_id, workos_id, Outcome.DISABLED, {"disabled_at": (None, "now")})
    if (conflict := decision.conflict) is not None:
        yield Change(row_id, workos_id, Outcome.CONFLICT, reason=conflict.reason)


def _differences(decision: Decision) -> Iterator[tuple[str, tuple[str | None, str | None]]]:
    before, after = decision.before, decision.after
    if after is None:
        return
    for name in ("name", "workos_id"):
        old, new = getattr(before, name, None), getattr(after, name)
        if old != new:
            yield name, (old, new)
    if decision.requests_write_back:
        yield "external_id", (None, after.id)


def _present(observation: Observation) -> tuple[str, OrganizationFields]:
    if observation.workos_id is None:
        raise TypeError("an organization that is present has an id")
    return observation.workos_id, observation.organization


def _is_linked_elsewhere(row: Row, workos_id: str) -> bool:
    return row.workos_id not in (None, workos_id)


def _kind_of_update(row: Row, workos_id: str) -> Outcome:
    if row.workos_id == workos_id:
        return Outcome.UPDATED
    return Outcome.LINKED if row.workos_id is None else Outcome.RELINKED


def _moved_away(before: Row, row: Row) -> bool:
    return before.workos_id is not None and before.workos_id != row.workos_id


def _kinds_of_change(before: Row | None, row: Row) -> Iterator[Outcome]:
    if before is None:
        yield Outcome.CREATED
    else:
        if _moved_away(before, row):
            yield Outcome.RELINKED
        if before.name != row.name or (before.workos_id is None and row.workos_id is not None):
            yield Outcome.UPDATED
    if row.disabled and not (before and before.disabled):
        yield Outcome.DISABLED
