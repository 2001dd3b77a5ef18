"""Decides what becomes of organizations: resolution flow, freshness guard, conflicts. Pure.

``orgs.services.decide`` loads and locks every row that a batch can touch and lets a ``Resolution``
decide over them in memory; ``orgs.services.apply`` writes its ``Plan``. Nothing here reads a clock,
a database or WorkOS.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

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
    Plan,
    Row,
    State,
)


def gram_id(workos_id: str, fields: OrganizationFields) -> str:
    """Return the Gram id that an organization without a linked row resolves to."""
    return fields.external_id or derived_id(workos_id)


def row_ids(observations: Iterable[Observation]) -> set[str]:
    """Return the Gram ids that the observations can resolve to, apart from rows linked to them."""
    return {
        gram_id(observation.workos_id or "", observation.fields)
        for observation in observations
        if observation.fields is not None
    }


def is_fresh(row: Row, observation: Observation, event: Event) -> bool:
    """Return True if an event is newer than what the row was last written from.

    WorkOS's event ids are ordered across organizations, so this also protects a row that has moved
    to another organization. Python compares texts as their UTF-8 sorts: bytewise, as ULIDs are
    ordered. A row without an event id was written from an object or by another program: times are
    compared. A deletion's ``updated_at`` is that of the last update or older, so a deletion is
    never judged by time.
    """
    if row.workos_last_event_id is not None:
        return event.id > row.workos_last_event_id
    if observation.fields is None or row.workos_updated_at is None:
        return True
    return observation.fields.updated_at >= row.workos_updated_at


def is_left_to_event(
    row_updated_at: datetime | None, updated_at: datetime | None, recent_after: datetime | None
) -> bool:
    """Return True if an object is newer than its row, and so recent that its event may come."""
    if updated_at is None or recent_after is None:
        return False
    # A time that is further ahead is no recent one: its event may have come long ago. Not less than
    # a day: the hold-back window may be as long, and so may a run.
    is_recent = recent_after < updated_at <= recent_after + timedelta(days=1)
    return is_recent and (row_updated_at is None or updated_at > row_updated_at)


def decide_or_park(decide: Callable[[Observation], Decision], observation: Observation) -> Decision:
    """Decide; park an event that makes that fail, instead of stopping the rest. ``decide`` changes
    no row before it raises."""
    try:
        return decide(observation)
    except Exception as error:
        if observation.event is None:
            raise
        reason = f"{type(error).__name__}: {error}"
        return Decision(observation, Outcome.PARKED, reason=reason)


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
        #: Gram id to the WorkOS id that has to learn it; None: its write-back is withdrawn.
        self._write_backs: dict[str, str | None] = {}
        self._conflicts: dict[str, Conflict] = {}
        self._solved: set[str] = set()

    def decide(self, observation: Observation) -> Decision:
        """Decide what becomes of one observation, and apply that to the rows in memory."""
        decision = decide_or_park(self._decide, observation)
        if decision.conflict is not None:
            self._conflicts[decision.conflict.workos_id] = decision.conflict
            self._solved.discard(decision.conflict.workos_id)
        return decision

    def _decide(self, observation: Observation) -> Decision:
        match observation.state, observation.event:
            case State.PRESENT, None:
                return self._compare(observation)
            case State.ABSENT, None:
                return self._confirm_absence(observation)
            case _, None:
                return self._conflict(observation, None, ConflictKind.UNREADABLE, observation.error)
            case State.PRESENT, event:
                return self._change(observation, event)
            case State.ABSENT, event:
                return self._delete(observation, event)
            case State.UNREADABLE, _:
                return Decision(observation, Outcome.PARKED, reason=observation.error)
        return Decision(observation, Outcome.IGNORED)

    # Events ---------------------------------------------------------------------------------

    def _change(self, observation: Observation, event: Event) -> Decision:
        workos_id, fields = _id_and_fields(observation)
        row = self._find(workos_id, fields)
        deletion = self._deletions.get(workos_id)
        if deletion is not None and event.id < deletion:
            # Two events of one millisecond may be listed in either order. Where no row is linked,
            # only the deletion in the ledger shows that.
            return Decision(observation, Outcome.STALE, row, row)
        if row is None:
            return self._create(observation)
        if not is_fresh(row, observation, event):
            return Decision(observation, Outcome.STALE, row, row)
        if _is_linked_elsewhere(row, workos_id) and fields.external_id is None:
            # By the derived id alone; WorkOS has linked this row to another organization.
            return self._row_claimed(observation, row)
        return self._update(observation, row)

    def _delete(self, observation: Observation, event: Event) -> Decision:
        workos_id = observation.workos_id or ""
        known = self._deletions.get(workos_id, "")
        self._deletions[workos_id] = max(known, event.id)
        row = self._linked_to(workos_id)
        if row is not None and not is_fresh(row, observation, event):
            return Decision(observation, Outcome.STALE, row, row)
        self._solve(workos_id)
        if row is None:
            return Decision(observation, Outcome.UNKNOWN)
        after = self._disable(row._replace(workos_last_event_id=event.id))
        return Decision(observation, Outcome.DISABLED, row, after)

    # Objects that were listed or fetched ----------------------------------------------------

    def _compare(self, observation: Observation) -> Decision:
        """An object has no place in the stream: it is judged by time, it writes only what differs,
        and it then clears the row's event id, so that the events it overtook are judged by time."""
        workos_id, fields = _id_and_fields(observation)
        row = self._find(workos_id, fields)
        row_updated_at = row.workos_updated_at if row else None
        if is_left_to_event(row_updated_at, fields.updated_at, self.known.recent_after):
            return Decision(observation, Outcome.UNCHANGED, row, row)
        linked = self._linked_to(workos_id)
        is_deleted = workos_id in self._deletions and (linked is None or linked.deleted)
        is_older = row_updated_at is not None and fields.updated_at < row_updated_at
        is_stale = linked is not None and is_older
        if is_deleted or is_stale:
            # The answer is older than a deletion that the stream has brought, or than the row.
            return Decision(observation, Outcome.STALE, row, row)
        if row is None:
            return self._create(observation)
        if _is_linked_elsewhere(row, workos_id) and row.workos_id not in self.known.absent:
            return self._row_claimed(observation, row)
        if (row.name, row.workos_id) != (fields.name, workos_id):
            return self._update(observation, row)
        # A 404 may have said that it is deleted, and no deletion event.
        after = self._set_row(row._replace(deleted=False)) if row.deleted else row
        return self._with_write_back(observation, Outcome.UNCHANGED, row, after)

    def _confirm_absence(self, observation: Observation) -> Decision:
        workos_id = observation.workos_id or ""
        self._solve(workos_id)
        row = self._linked_to(workos_id)
        if row is None:
            return Decision(observation, Outcome.UNKNOWN)
        if row.id in self.known.taken_over or (row.deleted and row.disabled):
            self._write_backs[row.id] = None
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

    def _with_write_back(
        self, observation: Observation, outcome: Outcome, before: Row | None, after: Row
    ) -> Decision:
        """Compare the ids that both sides know: request or withdraw the write-back, or report the
        conflict."""
        workos_id, fields = _id_and_fields(observation)
        pending = (self.known.pending or {}).get(after.id)
        conflict: Conflict | None = None
        requests = False
        if fields.external_id == after.id:
            self._write_backs[after.id] = None
            self._solve(workos_id)
        elif fields.external_id is not None:
            reason = (
                f"WorkOS has external_id {fields.external_id!r} for {workos_id}, "
                f"which is linked to {after.id}"
            )
            conflict = Conflict(workos_id, after.id, ConflictKind.OTHER_EXTERNAL_ID, reason)
        elif pending and pending.waits_for_person and pending.workos_id == workos_id:
            reason = pending.error or "its external_id write-back waits for a person"
            conflict = Conflict(workos_id, after.id, ConflictKind.WRITE_BACK_REFUSED, reason)
        else:
            self._write_backs[after.id] = workos_id
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

    def _solve(self, workos_id: str) -> None:
        """Note that no conflict about this organization is left, stored or of this batch."""
        self._solved.add(workos_id)
        self._conflicts.pop(workos_id, None)

    def _row_claimed(self, observation: Observation, row: Row) -> Decision:
        # In the same words for events and objects: a conflict that changes is a new one.
        resolves = f"{observation.workos_id} resolves to {row.id}"
        reason = f"{resolves}, which is linked to {row.workos_id}"
        return self._conflict(observation, row, ConflictKind.ROW_CLAIMED, reason)

    def _conflict(
        self, observation: Observation, row: Row | None, kind: ConflictKind, reason: str
    ) -> Decision:
        outcome = Outcome.CONFLICT if observation.event is None else Outcome.PARKED
        conflict = Conflict(observation.workos_id or "", row.id if row else None, kind, reason)
        return Decision(observation, outcome, row, row, reason, conflict)

    def _create(self, observation: Observation) -> Decision:
        workos_id, fields = _id_and_fields(observation)
        row = Row(id=gram_id(workos_id, fields), name=fields.name)
        after = self._overwrite(row, observation)
        self._creations[row.id] = Creation(after, fields.name, workos_id)
        return self._with_write_back(observation, Outcome.CREATED, None, after)

    def _update(self, observation: Observation, row: Row) -> Decision:
        outcome = Outcome.LINKED if row.workos_id is None else Outcome.RELINKED
        if row.workos_id == observation.workos_id:
            outcome = Outcome.UPDATED
        return self._with_write_back(observation, outcome, row, self._overwrite(row, observation))

    def _overwrite(self, row: Row, observation: Observation) -> Row:
        """Write the columns that WorkOS owns; the row's id, its slug and the rest stay."""
        workos_id, fields = _id_and_fields(observation)
        return self._set_row(
            row._replace(
                name=fields.name,
                workos_id=workos_id,
                workos_updated_at=fields.updated_at,
                workos_last_event_id=observation.event.id if observation.event else None,
                # An event proves a 404 wrong, but not a deletion event.
                deleted=row.deleted and workos_id in self._deletions,
            )
        )

    def _disable(self, row: Row) -> Row:
        self._disabled.add(row.id)
        self._write_backs[row.id] = None
        return self._set_row(row._replace(disabled=True, deleted=True))

    def _set_row(self, row: Row) -> Row:
        before = self._rows.get(row.id)
        if before is not None and before.workos_id is not None:
            self._id_by_workos_id.pop(before.workos_id, None)
        if row.workos_id is not None:
            self._id_by_workos_id[row.workos_id] = row.id
        self._rows[row.id] = row
        return row

    # The plan -------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return what to write so that the table holds what the rows are now."""
        old, rows = self._original, self._rows
        changed = [row for id_, row in sorted(rows.items()) if id_ in old and row != old[id_]]
        created = [it._replace(row=rows[id_]) for id_, it in self._creations.items()]
        withdrawn = {id_ for id_, workos_id in self._write_backs.items() if workos_id is None}
        if self.known.pending is not None:
            # Known for objects only, and nearly none of them has a request: delete no others.
            withdrawn &= self.known.pending.keys()
        return Plan(
            unlinked=tuple(
                it.id for it in changed if _is_linked_elsewhere(old[it.id], it.workos_id)
            ),
            undeleted=tuple(it.id for it in changed if old[it.id].deleted and not it.deleted),
            updated=tuple(row for row in changed if row.id not in self._disabled),
            disabled=tuple(row for row in changed if row.id in self._disabled),
            created=tuple(created),
            write_backs={
                id_: workos_id for id_, workos_id in self._write_backs.items() if workos_id
            },
            withdrawn_write_backs=tuple(sorted(withdrawn)),
            conflicts=tuple(self._conflicts.values()),
            solved=tuple(sorted(self._solved.intersection(self.known.conflicts))),
            changes=tuple(
                (outcome, row)
                for row in (*(creation.row for creation in created), *changed)
                for outcome in _kinds_of_change(old.get(row.id), row)
            ),
        )


def changes_of(decision: Decision) -> Iterator[Change]:
    """Return the lines of a report about a decision; none if nothing differs."""
    observation = decision.observation
    outcome, fields = decision.outcome, dict(_differences(decision))
    about = None
    if observation.resource != ORGANIZATION:
        about = (decision.plain or observation).workos_organization_id
    change = partial(
        Change,
        decision.organization_id,
        observation.workos_id,
        resource=observation.resource,
        workos_organization_id=about,
    )
    match outcome:
        case Outcome.PARKED | Outcome.FAILED | Outcome.UNPROVEN:
            event_id = observation.event.id if observation.event else None
            yield change(outcome, reason=decision.reason, event_id=event_id)
        case Outcome.UNCHANGED | Outcome.STALE if not fields:
            if decision.is_disabled_here and decision.conflict is None:
                reason = "it is disabled here, and exists in WorkOS"
                yield change(Outcome.DISABLED_HERE, reason=reason)
        case Outcome.UNCHANGED:
            yield change(Outcome.WRITE_BACK, fields)
        case Outcome.CREATED | Outcome.LINKED | Outcome.RELINKED | Outcome.UPDATED:
            yield change(outcome, fields)
        case Outcome.DELETED:
            yield change(outcome)
        case Outcome.DISABLED:
            yield change(outcome, {"disabled_at": (None, "now")})
    if decision.conflict is not None:
        yield change(Outcome.CONFLICT, reason=decision.conflict.reason)


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


def _id_and_fields(observation: Observation) -> tuple[str, OrganizationFields]:
    return observation.workos_id or "", observation.organization


def _is_linked_elsewhere(row: Row, workos_id: str | None) -> bool:
    return row.workos_id not in (None, workos_id)


def _kinds_of_change(before: Row | None, row: Row) -> Iterator[Outcome]:
    if before is None:
        yield Outcome.CREATED
    else:
        if _is_linked_elsewhere(before, row.workos_id):
            yield Outcome.RELINKED
        if before.name != row.name or (before.workos_id is None and row.workos_id is not None):
            yield Outcome.UPDATED
    if row.disabled and not (before and before.disabled):
        yield Outcome.DISABLED
