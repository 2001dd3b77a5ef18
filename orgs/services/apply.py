"""Applies what WorkOS said to the tables: the only way from an observation to a row.

A batch is one transaction. If PostgreSQL refuses it, its items are applied alone, each in a
transaction of its own, to find out which item failed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial

from django.db import DatabaseError, transaction

from orgs.db import resources, rows, sql
from orgs.db.cursor import CursorLocked, cursor_locked, move_cursor
from orgs.db.errors import CursorSkipped, WriteSkipped, describe, is_passing, origin, retry_races
from orgs.db.transactions import (
    Statement,
    bounded_transaction,
    execute_alone,
    read_only_transaction,
)
from orgs.domain.report import Change, Report
from orgs.domain.resolution import changes_of, row_ids
from orgs.domain.types import (
    EMPTY_PLAN,
    Conflict,
    ConflictKind,
    Decision,
    Event,
    Observation,
    Outcome,
    State,
)
from orgs.models import WorkOSEvent
from orgs.services.announce import send_changes
from orgs.services.decide import Batch, Decided, decide
from orgs.services.refusals import fails_every_row, is_refusal

#: If events of so many different objects are refused with one SQLSTATE, and none is accepted
#: between them, the reason is a new constraint or a trigger, not the items.
EVENTS_REFUSED_IN_A_ROW = 10


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


class WritesRefused(DatabaseError):
    """PostgreSQL refuses every item: the tables are the reason, not the items."""


def apply(batch: Batch, mode: Mode) -> Report:
    """Apply a batch and report what was written.

    Safe to repeat and to run concurrently. Live, a page is dropped if the cursor no longer stands
    where it was read from. An item that PostgreSQL refuses for its own content is parked (events)
    or reported as failed (objects), and the rest is applied. If a lock is not available, a
    reconcile reports the object as ``locked`` and goes on; the others raise ``django.db.Error``.
    All do so if the database fails, and live also raises ``WritesRefused``. Live, once an item was
    applied, such an error is in ``interrupted_by`` instead, and the rest is not applied. Raises
    ``CursorLocked``.
    """
    try:
        return retry_races(partial(_apply, batch, mode))
    except CursorLocked:
        # No item is the reason, and each would have to wait as well.
        raise
    except DatabaseError as error:
        if fails_every_row(error) or not batch.observations:
            raise
    return _apply_alone(batch, mode)


def _apply(batch: Batch, mode: Mode, decided: Decided | None = None) -> Report:
    # Every writer locks the cursor; correctness needs no other lock. So whoever reads deletions, or
    # the rows that derived columns are computed from, sees all that other writers have applied.
    with read_only_transaction() if mode is Mode.DRY_RUN else cursor_locked() as state:
        if mode is Mode.LIVE and not batch.is_current(state):
            return Report(dropped=True)
        decided = decided or decide(batch, lock=mode is not Mode.DRY_RUN)
        decisions = decided.decisions
        if mode is not Mode.DRY_RUN:
            decisions = _write(batch, mode, decided)
    return _report(decisions, decided, mode)


def _write(batch: Batch, mode: Mode, decided: Decided) -> list[Decision]:
    """Write, and return the decisions that are to be reported."""
    decisions = decided.decisions
    events = [decision for decision in decisions if decision.observation.event]
    along, touched = decided.taken_along(), decided.organizations_to_derive()
    then = [statement for _, statement in along]
    if touched:
        then.append(resources.derived(touched))
    if mode is Mode.LIVE:
        then.append(move_cursor(batch.position, read_began=batch.end_read_began))
    written = rows.write(decided.plan, events, *then, others=decided.writes())
    if mode is Mode.LIVE and not written.then[-1]:
        raise CursorSkipped("the cursor was not moved: a trigger or a policy left it as it was")
    _require_recorded({_event_id(decision) for decision in events}, written)
    if batch.record:
        batch.record(decisions[0])
    found = zip(along, written.then, strict=False)
    deleted = [(resource, *row) for (resource, _), rows_of in found for row in rows_of]
    wrong = written.then[len(along)] if touched else []
    if kept := len(wrong) + sum(not is_deleted for *_, is_deleted in deleted):
        raise WriteSkipped(
            f"a trigger or a policy leaves rows that depend on it as they are: {kept}"
        )
    taken = [(resource, key, about) for resource, key, about, _ in deleted]
    send_changes(decided, written.new_conflicts, taken)
    parked = {_event_id(decision) for decision in events if decision.outcome is Outcome.PARKED}
    if mode is Mode.REPLAY and parked:
        # A replay does not park again what was applied or dismissed: that outcome stays.
        still = set(WorkOSEvent.objects.parked().filter(id__in=parked).values_list("id", flat=True))
        return [
            d
            if d.outcome is not Outcome.PARKED or _event_id(d) in still
            else Decision(d.observation, Outcome.IGNORED)
            for d in decisions
        ]
    # An event without an id is read again as long as it is the stream's last: report it once.
    repeated = (parked - written.in_ledger) if mode is Mode.LIVE else ()
    return [decision for decision in decisions if _event_id(decision) not in repeated]


def _event_id(decision: Decision) -> str:
    event = decision.observation.event
    return event.id if event else ""


def _require_recorded(ids: set[str], written: rows.Written) -> None:
    """Raise ``WriteSkipped`` unless each event is in the ledger, from now or before."""
    if left := ids - written.in_ledger:
        left -= set(WorkOSEvent.objects.filter(id__in=left).values_list("id", flat=True))
    if left:
        raise WriteSkipped(f"{len(left)} events were left out by a trigger or a policy")


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
            # Until it is tried again, an absence of the organization that the row is linked to must
            # not disable it.
            (observation,) = single.observations
            taken_over = row_ids(single.observations)
            report = Report(locked=[observation.workos_id or ""], taken_over=taken_over)
        if report.dropped:
            total.dropped = True
            break
        total.add(report)
    return total


def _apply_or_refuse(single: Batch, mode: Mode) -> Report:
    try:
        return retry_races(partial(_apply, single, mode))
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        (observation,) = single.observations
        if observation.event is None:
            return _failed(observation, describe(error))
        if mode is Mode.LIVE:
            _raise_if_all_are_refused(observation, error, sql.REFUSED_BEFORE, f"{origin(error)}:")
        return _park(single, mode, describe(error))


def _raise_if_all_are_refused(
    observation: Observation, error: DatabaseError, statement: str, *values: str
) -> None:
    """``statement`` counts the other objects that were refused in a row before this one."""
    ((others,),) = execute_alone(statement, [*values, observation.workos_id or ""])
    if others >= EVENTS_REFUSED_IN_A_ROW - 1:
        raise WritesRefused(describe(error)) from error.__cause__


def _failed(observation: Observation, reason: str) -> Report:
    change = Change(
        None,
        observation.workos_id,
        Outcome.FAILED,
        reason=reason,
        resource=observation.resource,
        workos_organization_id=observation.workos_organization_id,
    )
    return Report(changes=[change], counts=Counter([Outcome.FAILED]))


def _park(single: Batch, mode: Mode, reason: str) -> Report:
    (observation,) = single.observations
    parked = Decision(observation, Outcome.PARKED, reason=reason)
    try:
        return _apply(single, mode, Decided([parked], EMPTY_PLAN, ()))
    except DatabaseError as error:
        if mode is not Mode.LIVE or not is_refusal(error):
            raise
        _raise_if_all_are_refused(observation, error, sql.LEFT_OUT_BEFORE)
        return _skip_event(single, parked, describe(error))


def _skip_event(single: Batch, parked: Decision, refusal: str) -> Report:
    """Move the cursor past an event that the ledger refuses, and store a conflict in its place, for
    a person to see. If the conflict is refused too, the event is only logged. Raises
    ``WritesRefused`` if the ledger then takes no event at all."""
    event_id = _event_id(parked)
    reason = f"{event_id} is not applied: {parked.reason}; the ledger refuses it: {refusal}"
    about = parked.observation.workos_id or event_id
    conflict = Conflict(about, None, ConflictKind.LEDGER_REFUSED, reason)
    plan = replace(EMPTY_PLAN, conflicts=(conflict,))
    try:
        report = _apply(single, Mode.LIVE, Decided([], plan, ()))
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        if not _ledger_takes_another():
            raise WritesRefused(describe(error)) from error.__cause__
        reason = f"{reason}; no conflict can be stored: {describe(error)}"
        report = _apply(single, Mode.LIVE, Decided([], EMPTY_PLAN, ()))
    if not report.dropped:
        _count_events(report, [parked._replace(reason=reason)])
    return report


def _ledger_takes_another() -> bool:
    """Return True if the ledger takes an event that is made up: then the other event is the reason.
    Where nothing can be stored, refusals can't be counted."""
    event = Event(id="event_made_up", type="made.up", occurred_at=None)
    made_up = Observation(workos_id="org_made_up", state=State.IGNORED, event=event)
    try:
        with bounded_transaction():
            at_once = Statement("SET CONSTRAINTS ALL IMMEDIATE", [])
            rows.write(EMPTY_PLAN, [Decision(made_up, Outcome.IGNORED)], at_once)
            transaction.set_rollback(True)
    except DatabaseError:
        return False
    return True


# The report ---------------------------------------------------------------------------------


def _report(decisions: Sequence[Decision], decided: Decided, mode: Mode) -> Report:
    plan = decided.plan
    report = Report(
        changed_rows=decided.changes_rows,
        requested_write_backs=bool(plan.write_backs),
        needs_writing=plan != EMPTY_PLAN or decided.changes_rows,
        derived=decided.organizations_to_derive() if mode is Mode.DRY_RUN else set(),
    )
    if mode in (Mode.LIVE, Mode.REPLAY):
        _count_events(report, decisions)
    else:
        _count_objects(report, decisions)
    for decision in decisions:
        if (before := decision.before) is None:
            continue
        is_others = before.workos_id not in (None, decision.observation.workos_id)
        if is_others and decision.outcome in (Outcome.RELINKED, Outcome.UNCHANGED):
            report.taken_over.add(before.id)
        if decision.conflict and decision.conflict.kind is ConflictKind.ROW_CLAIMED:
            report.owners.add(before.workos_id or "")
    return report


def _count_events(report: Report, decisions: Sequence[Decision]) -> None:
    report.counts.update(decision.outcome for decision in decisions)
    if report.counts[Outcome.PARKED]:
        parked = (decision for decision in decisions if decision.outcome is Outcome.PARKED)
        # Without their conflicts, which are reported by themselves.
        reported = (change for decision in parked for change in changes_of(decision))
        report.changes += [change for change in reported if change.change is Outcome.PARKED]


def _count_objects(report: Report, decisions: Sequence[Decision]) -> None:
    for decision in decisions:
        changes = [*changes_of(decision)]
        report.changes += changes
        report.counts.update(c.change for c in changes if c.change is not Outcome.DISABLED_HERE)
        report.counts[Outcome.DISABLED_HERE] += decision.is_disabled_here
        report.counts["write_backs"] += sum("external_id" in change.fields for change in changes)
        if not changes:
            report.counts[decision.outcome] += 1
