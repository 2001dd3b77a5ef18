"""Applies pages of WorkOS's events, each in one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import DatabaseError

from orgs.db.cursor import CursorLocked, cursor_held, cursor_locked, moving
from orgs.db.errors import is_contents_fault, is_one_events_trouble, retry_races
from orgs.db.rows import (
    LedgerEntry,
    entering,
    lock_rows_and_find_deletions,
    write_plan,
)
from orgs.domain.resolution import (
    Fold,
    OrganizationChanged,
    Plan,
    Resolved,
    touched_ids,
)
from orgs.domain.types import (
    Outcome,
    Position,
)
from orgs.workos import EventPage, ListedEvent


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a page. ``dropped``: someone else had applied it, or the rest of it."""

    entries: tuple[LedgerEntry, ...]
    dropped: bool = False
    requested_write_backs: bool = False
    moved_rows: bool = False
    """Whether more than bookkeeping changed, as it does not for the echo of a write-back."""
    interrupted_by: DatabaseError | None = None
    """What kept the rest of the page from being applied, if something did."""

    def __add__(self, other: "Applied") -> "Applied":
        return Applied(
            self.entries + other.entries,
            self.dropped or other.dropped,
            self.requested_write_backs or other.requested_write_backs,
            self.moved_rows or other.moved_rows,
            self.interrupted_by or other.interrupted_by,
        )


def apply_page(page: EventPage, *, replay: bool = False) -> Applied:
    """Applies a page of events and moves the cursor past it, in one transaction.

    Safe to repeat and to run concurrently: the page is dropped if the cursor no longer stands
    where it was read from. An event whose own content is the trouble is parked, and the cursor
    passes it. Any other trouble raises ``django.db.Error``, and nothing of the page is applied. If
    only some event of it was the trouble, what stands before that event is applied, and the report
    says what interrupted it.

    A ``replay`` neither reads nor moves the cursor: the rows guard themselves.
    """
    batch = _Batch(
        events=page.events,
        read_from=None if replay else page.read_from,
        position=page.position,
        drained_at=page.read_at if page.is_last else None,
    )
    try:
        return retry_races(partial(_apply, batch))
    except CursorLocked:
        # No event is the trouble, and each would have to wait as well.
        raise
    except DatabaseError as error:
        if not is_one_events_trouble(error):
            raise
        return _apply_one_by_one(batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Events that are applied together. Without ``read_from`` the cursor does not matter."""

    events: Sequence[ListedEvent]
    read_from: Position | None
    position: Position
    drained_at: datetime | None

    def singles(self) -> Iterator["_Batch"]:
        before = self.read_from
        for listed in self.events:
            is_last = listed is self.events[-1]
            yield _Batch(
                events=(listed,),
                read_from=before,
                position=self.position if is_last else listed.position,
                drained_at=self.drained_at if is_last else None,
            )
            if before is not None:
                before = listed.position


def _apply(batch: _Batch) -> Applied:
    with _cursor_of(batch) as position:
        if batch.read_from not in (None, position):
            return Applied((), dropped=True)
        organizations = [
            listed.event.organization
            for listed in batch.events
            if isinstance(listed.event, OrganizationChanged)
        ]
        rows, deleted = lock_rows_and_find_deletions(
            {listed.event.workos_id for listed in batch.events if listed.event.workos_id},
            touched_ids(organizations),
            deletions_of={organization.workos_id for organization in organizations},
        )
        fold = Fold(rows, deleted=deleted)
        entries = tuple(_entry(listed, fold.apply(listed.event)) for listed in batch.events)
        plan = fold.plan()
        reported = _write(batch, plan, entries)
    return Applied(
        reported, requested_write_backs=bool(plan.write_backs), moved_rows=plan.moves_rows
    )


def _apply_one_by_one(batch: _Batch) -> Applied:
    total = Applied(())
    for single in batch.singles():
        try:
            total += _apply_or_park(single)
        except DatabaseError as error:
            if not total.entries:
                raise
            # What is committed must be told of, or nobody would write it back, or log it.
            return total + Applied((), interrupted_by=error)
        if total.dropped:
            break
    return total


def _apply_or_park(single: _Batch) -> Applied:
    try:
        return retry_races(partial(_apply, single))
    except DatabaseError as error:
        if not is_contents_fault(error):
            raise
        return _park(single, f"PostgreSQL: {error}")


def _park(single: _Batch, reason: str) -> Applied:
    with _cursor_of(single) as position:
        if single.read_from not in (None, position):
            return Applied((), dropped=True)
        (listed,) = single.events
        entries = (_entry(listed, Resolved(Outcome.PARKED, error=reason)),)
        return Applied(_write(single, Fold(()).plan(), entries))


def _cursor_of(batch: _Batch) -> AbstractContextManager[Position]:
    """Locked for the compare-and-set: the only exclusivity that correctness needs.

    A replay holds it, or the stream could apply a deletion between its look for it and its insert.
    """
    return cursor_held() if batch.read_from is None else cursor_locked()


def _write(batch: _Batch, plan: Plan, entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Writes rows, ledger and cursor; returns what is to be reported."""
    ledger = [entering(entries)] if entries else []
    if batch.read_from is None:
        write_plan(plan, *ledger)
        return tuple(entries)
    written = write_plan(plan, *ledger, moving(batch.position, drained_at=batch.drained_at))
    # An event without an id is read again as long as it is the stream's last. Once is enough.
    news = {id_ for found in written for (id_,) in found}
    return tuple(
        entry
        for entry in entries
        if entry.resolved.outcome is not Outcome.PARKED or entry.event.id in news
    )


def _entry(listed: ListedEvent, resolved: Resolved) -> LedgerEntry:
    payload = listed.payload if resolved.outcome is Outcome.PARKED else None
    return LedgerEntry(listed.event, resolved, payload)
