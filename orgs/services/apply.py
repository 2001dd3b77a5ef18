"""Applies what WorkOS said to the tables: the only place that writes it, in every mode.

A batch is one transaction. If PostgreSQL refuses it, its items are applied alone, each in a
transaction of its own, to find out which item failed.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from django.db import DatabaseError, transaction
from django.dispatch import Signal

from orgs import signals
from orgs.db import rows, sql
from orgs.db.cursor import CursorLocked, cursor_locked, cursor_shared, move_cursor
from orgs.db.errors import describe, is_environment, is_not_granted, is_passing, retry_races
from orgs.db.transactions import Statement, execute_alone, read_only_transaction
from orgs.domain.naming import one_line
from orgs.domain.resolution import Resolution, changes_of, row_ids
from orgs.domain.types import (
    Change,
    Conflict,
    ConflictKind,
    Decision,
    Known,
    Observation,
    Outcome,
    Plan,
    Position,
    Report,
    Row,
)
from orgs.models import Organization, WorkOSEvent
from orgs.services.maintenance import missing_grants

logger = logging.getLogger(__name__)

#: So many items in a row, of different objects, are refused with one code and none is accepted: not
#: the items are the reason, but a new constraint or a trigger.
REFUSED_IN_A_ROW = 10


class Mode(StrEnum):
    """From where a batch comes, and what it may do."""

    LIVE = "live"
    """A page of the stream: moves the cursor, if it still stands where the page was read from."""
    REPLAY = "replay"
    """Events once more: the rows protect themselves, and the cursor stays."""
    REFRESH = "refresh"
    """One object that was fetched, and the event it resolves."""
    RECONCILE = "reconcile"
    """Listed or fetched objects, and confirmed absences."""
    DRY_RUN = "dry run"
    """As ``RECONCILE``, without locks and writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Observations that are applied together."""

    observations: Sequence[Observation]
    read_from: Position = Position()
    """Live: where the page was read from."""
    position: Position = Position()
    """Live: where the next page starts."""
    read_began: float | None = None
    """Live: when the read began that reached the end of the stream, by ``time.monotonic()``."""
    absent: frozenset[str] = frozenset()
    """WorkOS ids of organizations that are confirmed to be deleted."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this is left to its event."""
    claimed: frozenset[str] = frozenset()
    """Gram ids of rows that an absence does not disable."""
    record: Callable[[Decision], Statement] | None = None
    """Refresh: the statement that resolves the event that it is for."""
    overlay: Mapping[str, Row] = field(default_factory=dict)
    """Dry run: the rows as the batches before would have written them, by Gram id."""

    def singles(self) -> Iterator["Batch"]:
        """Return a batch for each observation; live, they move the cursor step by step."""
        read_from = self.read_from
        for number, observation in enumerate(self.observations, 1):
            is_last = number == len(self.observations)
            event = observation.event
            position = self.position if is_last or event is None else event.position
            yield replace(
                self,
                observations=(observation,),
                read_from=read_from,
                position=position,
                read_began=self.read_began if is_last else None,
            )
            read_from = position


class WritesRefused(DatabaseError):
    """PostgreSQL refuses every item: the environment changed, not the items."""


def apply(batch: Batch, mode: Mode) -> Report:
    """Apply a batch and report what was written.

    Safe to repeat and to run concurrently. Live, a page is dropped if the cursor no longer stands
    where it was read from. An item that PostgreSQL refuses for its own content is parked (events)
    or reported as failed (objects), and the rest is applied. If the environment fails, or a lock
    is not available, live mode stops before that item and says so in ``interrupted_by``; other
    modes report objects as ``locked``. Raises ``django.db.Error`` if nothing was applied, and
    ``CursorLocked``.
    """
    try:
        return retry_races(partial(_apply, batch, mode))
    except CursorLocked:
        # No item is the reason, and each would have to wait as well.
        raise
    except DatabaseError as error:
        if _is_environment(error):
            raise
    return _apply_alone(batch, mode)


def _apply(batch: Batch, mode: Mode) -> Report:
    with _transaction(mode) as position:
        if mode is Mode.LIVE and position != batch.read_from:
            return Report(dropped=True)
        known = rows.load(batch.observations, lock=mode is not Mode.DRY_RUN)
        known = replace(
            known,
            rows=_overlaid(known.rows, batch),
            absent=batch.absent,
            recent_after=batch.recent_after,
            claimed=batch.claimed,
        )
        resolution = Resolution(known)
        decisions = [resolution.decide(observation) for observation in batch.observations]
        plan = resolution.plan()
        if mode is not Mode.DRY_RUN:
            decisions = _write(batch, mode, plan, decisions)
    return _report(decisions, plan, mode)


@contextmanager
def _transaction(mode: Mode) -> Iterator[Position]:
    """The stream locks the cursor: the only exclusivity that correctness needs. The other writers
    share it, or the stream could apply a deletion between their look for it and their insert."""
    if mode is Mode.DRY_RUN:
        with read_only_transaction():
            yield Position()
        return
    opened: AbstractContextManager[Position] = (
        cursor_locked() if mode is Mode.LIVE else cursor_shared()
    )
    with opened as position:
        yield position


def _write(batch: Batch, mode: Mode, plan: Plan, decisions: list[Decision]) -> list[Decision]:
    """Write, and return the decisions that are to be reported."""
    events = [decision for decision in decisions if decision.observation.event]
    then = [batch.record(decisions[0])] if batch.record else []
    if mode is Mode.LIVE:
        then.append(move_cursor(batch.position, read_began=batch.read_began))
    written = rows.write(plan, events, *then)
    _after_commit(plan, written.new_conflicts)
    parked = {
        decision.observation.event.id
        for decision in events
        if decision.observation.event and decision.outcome is Outcome.PARKED
    }
    if mode is Mode.REPLAY and parked:
        # One that was dismissed, or applied, is not parked because it is read again.
        still = set(WorkOSEvent.objects.parked().filter(id__in=parked).values_list("id", flat=True))
        return [_once_more(decision, still) for decision in decisions]
    # An event without an id is read again as long as it is the stream's last. Once is enough.
    known = parked - written.in_ledger if mode is Mode.LIVE else set()
    return [d for d in decisions if not (d.observation.event and d.observation.event.id in known)]


def _once_more(decision: Decision, parked: set[str]) -> Decision:
    event = decision.observation.event
    if decision.outcome is not Outcome.PARKED or (event and event.id in parked):
        return decision
    return Decision(decision.observation, Outcome.IGNORED)


def _overlaid(loaded: Collection[Row], batch: Batch) -> tuple[Row, ...]:
    if not batch.overlay:
        return tuple(loaded)
    workos_ids = {observation.workos_id for observation in batch.observations}
    ids = row_ids(batch.observations) | {row.id for row in loaded}
    found = {row.id: row for row in loaded}
    for row in batch.overlay.values():
        if row.id in ids or row.workos_id in workos_ids:
            found[row.id] = row
    return tuple(found.values())


# Which item failed --------------------------------------------------------------------------


def _apply_alone(batch: Batch, mode: Mode) -> Report:
    total = Report()
    for single in batch.singles():
        try:
            report = _apply_or_refuse(single, mode)
        except DatabaseError as error:
            if mode is Mode.LIVE and total.counts:
                # What is committed is to be reported, or it would not be written back, or logged.
                total.interrupted_by = error
                return total
            if not is_passing(error) or mode is not Mode.RECONCILE:
                raise
            report = _locked(single)
        if report.dropped:
            total.dropped = True
            break
        total.add(report)
    return total


def _apply_or_refuse(single: Batch, mode: Mode) -> Report:
    try:
        return retry_races(partial(_apply, single, mode))
    except DatabaseError as error:
        if is_passing(error) or _is_environment(error):
            raise
        (observation,) = single.observations
        if observation.event is None:
            return _failed(observation, describe(error))
        if mode is Mode.LIVE and _is_everything_refused(observation, error):
            raise WritesRefused(describe(error)) from error.__cause__
        return _park(single, mode, describe(error))


def _is_environment(error: DatabaseError) -> bool:
    if is_not_granted(error):
        # A missing grant fails every item; a policy on rows fails one.
        return bool(missing_grants())
    return is_environment(error)


def _is_everything_refused(observation: Observation, error: DatabaseError) -> bool:
    before = REFUSED_IN_A_ROW - 1
    code = describe(error).partition(":")[0]
    latest = execute_alone(sql.LATEST_EVENTS, [before])
    refused = {
        workos_id
        for workos_id, outcome, reason in latest
        if outcome == Outcome.PARKED and reason.startswith(f"{code}:")
    }
    return len(refused - {observation.workos_id}) == before


def _failed(observation: Observation, reason: str) -> Report:
    change = Change(None, observation.workos_id, Outcome.FAILED, reason=reason)
    report = Report(changes=[change])
    report.counts[Outcome.FAILED] = 1
    return report


def _locked(single: Batch) -> Report:
    """Another program has the row locked. Until it is tried again, an absence of the organization
    that the row is linked to must not disable it."""
    (observation,) = single.observations
    return Report(locked=[observation.workos_id or ""], claimed=row_ids(single.observations))


def _park(single: Batch, mode: Mode, reason: str) -> Report:
    (observation,) = single.observations
    parked = Decision(observation, Outcome.PARKED, reason=reason)
    nothing = Resolution(Known()).plan()
    try:
        with _transaction(mode) as position:
            if mode is Mode.LIVE and position != single.read_from:
                return Report(dropped=True)
            decisions = _write(single, mode, nothing, [parked])
    except DatabaseError as error:
        if mode is not Mode.LIVE or is_passing(error) or _is_environment(error):
            raise
        return _pass_over(single, parked, describe(error))
    return _report(decisions, nothing, mode)


def _pass_over(single: Batch, parked: Decision, refusal: str) -> Report:
    """The ledger itself refuses the event: the conflict is where a person sees it."""
    observation = parked.observation
    event_id = observation.event.id if observation.event else ""
    reason = f"{event_id} is not applied: {parked.reason}; the ledger refuses it: {refusal}"
    conflict = Conflict(
        observation.workos_id or event_id, None, ConflictKind.LEDGER_REFUSED, reason
    )
    plan = replace(Resolution(Known()).plan(), conflicts=(conflict,))
    with cursor_locked() as position:
        if position != single.read_from:
            return Report(dropped=True)
        written = rows.write(plan, (), move_cursor(single.position, read_began=single.read_began))
        _after_commit(plan, written.new_conflicts)
    return _report([replace(parked, reason=reason)], plan, Mode.LIVE)


# After the statements -----------------------------------------------------------------------

_SIGNALS = {
    Outcome.CREATED: signals.organization_created,
    Outcome.UPDATED: signals.organization_updated,
    Outcome.RELINKED: signals.organization_relinked,
    Outcome.DISABLED: signals.organization_disabled,
}


def _after_commit(plan: Plan, new_conflicts: Sequence[Conflict]) -> None:
    if plan.changes:
        send_after_commit(
            [(_SIGNALS[c.outcome], c.organization_id, c.workos_id) for c in plan.changes]
        )
    if new_conflicts:
        transaction.on_commit(partial(_log_conflicts, new_conflicts), robust=True)


def send_after_commit(changes: Sequence[tuple[Signal, str, str | None]]) -> None:
    """Send each signal about Gram's id and WorkOS's, once the transaction is committed."""
    transaction.on_commit(partial(_send, changes), robust=True)


def _send(changes: Sequence[tuple[Signal, str, str | None]]) -> None:
    for signal, organization_id, workos_id in changes:
        signal.send_robust(
            sender=Organization, organization_id=organization_id, workos_id=workos_id
        )


def _log_conflicts(conflicts: Sequence[Conflict]) -> None:
    for conflict in conflicts:
        logger.warning(
            "a conflict waits for a person: %s",
            one_line(conflict.reason),
            extra={"organization": conflict.workos_id, "outcome": Outcome.CONFLICT},
        )


def _report(decisions: Sequence[Decision], plan: Plan, mode: Mode) -> Report:
    report = Report(
        moved_rows=bool(plan.changes),
        requested_write_backs=bool(plan.write_backs),
        withdrawn=0 if mode is Mode.LIVE else len(plan.known_to_workos),
        needs_writing=not plan.is_empty,
    )
    if mode is Mode.DRY_RUN:
        created = (creation.row for creation in plan.created)
        report.rows_after = {row.id: row for row in (*plan.updated, *plan.disabled, *created)}
    for decision in decisions:
        _count(report, decision, mode)
        before = decision.before
        if (
            before is not None
            and before.workos_id not in (None, decision.observation.workos_id)
            and decision.outcome in (Outcome.RELINKED, Outcome.UNCHANGED)
        ):
            report.claimed.add(before.id)
        conflict = decision.conflict
        if before is not None and conflict and conflict.kind is ConflictKind.ROW_CLAIMED:
            report.owners.add(before.workos_id or "")
    return report


def _count(report: Report, decision: Decision, mode: Mode) -> None:
    changes = [*changes_of(decision)]
    if mode in (Mode.LIVE, Mode.REPLAY):
        report.counts[decision.outcome] += 1
        report.changes += [c for c in changes if c.change in (Outcome.PARKED, Outcome.FAILED)]
        return
    report.changes += changes
    report.counts.update(c.change.value for c in changes if c.change is not Outcome.DISABLED_HERE)
    report.counts[Outcome.DISABLED_HERE] += decision.is_disabled_here
    report.counts["write_backs"] += sum("external_id" in change.fields for change in changes)
    if not changes:
        report.counts[decision.outcome] += 1
