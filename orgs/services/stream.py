"""Reads WorkOS's ordered stream from the stored position and applies it, page by page.

Tasks may run twice, at once, late or never: any number of drains may run, and each page is applied
by one of them.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError

from orgs.conf import sync_settings
from orgs.db.cursor import (
    Failure,
    Lease,
    Standing,
    ensure_cursor,
    hear_ring,
    note_drained,
    note_failure,
    standing,
)
from orgs.db.errors import is_passing
from orgs.db.rows import LedgerEntry
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import one_line
from orgs.domain.status import ReadError
from orgs.domain.types import (
    Outcome,
    Position,
)
from orgs.models import WorkOSEvent
from orgs.services.apply import Applied, apply_page
from orgs.services.queue import PUSH_EXTERNAL_IDS, RECOVER, SYNC_EVENTS, ring
from orgs.services.refresh import AlreadySeen, honour_announcement
from orgs.workos import EventPage, WorkOSTrouble
from orgs.workos import client as workos
from orgs.workos.paging import read_ahead

logger = logging.getLogger(__name__)

#: WorkOS's reference says 30 days, a newer guide 90 days with at most 30 days per request.
EVENT_RETENTION = timedelta(days=30)

#: An answer that begins this much before the position is the stream's start, not what follows.
#: Events of one moment may be listed either way round, so it is not zero.
_RESTART_MARGIN = timedelta(minutes=1)

_LONGEST_PAUSE = 60.0

#: Most events can be read soon after their webhook, so a waiting drain reads again soon at first,
#: and then ever later, up to the setting.
_FIRST_PAUSE = 0.1
_GROWTH = 1.5


class CursorLost(Exception):
    """WorkOS can't say what happened since ``position``; only a snapshot can repair that."""

    def __init__(self, position: Position, reason: str) -> None:
        super().__init__(reason)
        self.position = position


class UnknownEvent(Exception):
    """A replay was to start at something that WorkOS does not list from."""


@dataclass(slots=True)
class DrainReport:
    """What became of what was read. ``drained`` if the end of the stream was reached."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    parked: list[LedgerEntry] = field(default_factory=list)
    drained: bool = False
    waiting: int = 0
    """Of a dry run: how many events were listed and not applied."""
    requested_write_backs: bool = False
    moved_rows: bool = False
    unsettled: WorkOSTrouble | DatabaseError | None = None
    """Why some announcement that is overdue could not be settled, if one could not."""

    @property
    def read(self) -> int:
        """How many events became something."""
        return self.outcomes.total()

    def merge(self, other: "DrainReport") -> None:
        """Adds what a later attempt did, and how it ended."""
        self.outcomes += other.outcomes
        self.parked += other.parked
        self.drained = other.drained
        self.requested_write_backs |= other.requested_write_backs
        self.moved_rows |= other.moved_rows
        self.unsettled = other.unsettled or self.unsettled

    def add(self, applied: Applied) -> None:
        """Adds what became of a page."""
        for entry in applied.entries:
            self.outcomes[entry.resolved.outcome] += 1
            if entry.resolved.outcome is Outcome.PARKED:
                self.parked.append(entry)
        self.requested_write_backs |= applied.requested_write_backs
        self.moved_rows |= applied.moved_rows


def drain_to_end() -> DrainReport:
    """Applies everything that WorkOS lists after the position, waiting for nothing.

    Then it settles announcements that are overdue; trouble with that is in the report. May be
    repeated and run concurrently. Raises ``CursorLost``, ``workos.WorkOSTrouble`` and
    ``django.db.Error``; what was applied before stays applied.
    """
    report = DrainReport()
    ensure_cursor()
    _drain(report)
    report.unsettled = settle_overdue()
    return report


def replay(since: Position) -> DrainReport:
    """Applies again what WorkOS lists after ``since``, without reading or moving the position.

    The rows guard themselves, so it may be repeated and run beside anything. Raises
    ``UnknownEvent`` if WorkOS does not list from ``since``, ``workos.WorkOSTrouble`` and
    ``django.db.Error``.
    """
    report = DrainReport()
    try:
        with closing(read_ahead(_read, since)) as pages:
            for page in pages:
                _raise_if_ignored(page, report)
                _apply(page, report, replay=True)
                report.drained = page.is_last
    except CursorLost as lost:
        start = since.last_event_id or since.last_event_at
        raise UnknownEvent(f"WorkOS lists nothing after {start}: {lost}") from None
    return report


@dataclass(slots=True)
class Waiting:
    """How many events WorkOS lists after the position, and which of them have no place there:
    they are listed again as long as they are the stream's last."""

    count: int = 0
    placeless: set[str] = field(default_factory=set)


def count_waiting(start: Standing) -> Waiting:
    """What WorkOS lists after the position. Reads WorkOS alone, and writes nothing.

    Raises ``CursorLost`` and ``workos.WorkOSTrouble``.
    """
    _raise_if_expired(start)
    with closing(read_ahead(_read, start.position)) as pages:
        waiting = Waiting()
        for page in pages:
            waiting.count += len(page.events)
            waiting.placeless |= {
                listed.event.id
                for listed in page.events
                if listed.position.last_event_id != listed.event.id
            }
        return waiting


def is_cursor_lost() -> bool:
    """Whether WorkOS can't say what happened since the position. Applies nothing.

    Raises ``workos.WorkOSTrouble`` and ``django.db.Error``.
    """
    start = standing()
    try:
        _raise_if_expired(start)
        _read(start.position)
    except CursorLost:
        return True
    return False


def drain_and_wait() -> DrainReport:
    """The worker's drain: applies everything, and waits for what is announced and still held back.

    One drain waits at a time, by a lease; any other applies to the end once and returns. Trouble
    with WorkOS and locks not had are noted on the cursor, and tried again after growing pauses
    while something is announced and unseen; but for a lost cursor, for which a snapshot is rung.
    Raises ``django.db.Error`` for any other trouble with the database. It ends by itself soon after
    the drain deadline.
    """
    seconds = sync_settings().drain_deadline
    deadline = time.monotonic() + seconds
    report = DrainReport()
    try:
        ensure_cursor()
        # First: a webhook that comes from now on rings again, or finds the lease held.
        hear_ring()
        lease = Lease.DRAIN.take(seconds)
        if lease is None:
            _attempt(report, deadline)
        else:
            _hold(lease, report, deadline)
    except CursorLost:
        # Noted. Only the snapshot repairs that, and there may be one process for both.
        pass
    except DatabaseError as error:
        if not is_passing(error):
            raise
        logger.warning(
            "another program holds a lock; the schedule tries again: %s", one_line(error)
        )
    return report


def settle_overdue(*, deadline: float | None = None) -> WorkOSTrouble | DatabaseError | None:
    """Applies, by what WorkOS says now, announced events that the stream did not bring in time.

    Call it when the stream was just read to its end. One that can't be settled does not stop the
    rest and stays unseen; the trouble with the last of these is returned.
    """
    trouble: WorkOSTrouble | DatabaseError | None = None
    window = timedelta(seconds=sync_settings().hold_back_window)
    with bounded_transaction():
        overdue = list(WorkOSEvent.objects.overdue(after=window).values_list("id", flat=True))
    try:
        if overdue and not _is_at_the_end():
            return None
    except WorkOSTrouble as error:
        return error
    # In another order each time: those that can't be settled must not use up the time of the rest.
    random.shuffle(overdue)
    for event_id in overdue:
        if _has_passed(deadline):
            break
        try:
            resolved = honour_announcement(event_id)
        except AlreadySeen:
            continue
        except WorkOSTrouble as error:
            trouble = error
        except DatabaseError as error:
            if not is_passing(error):
                raise
            trouble = error
        else:
            logger.warning(
                "%s was announced and never listed; what WorkOS says now: %s",
                event_id,
                resolved.outcome,
                extra={"event": event_id, "outcome": resolved.outcome},
            )
    return trouble


def _is_at_the_end() -> bool:
    """Whether a read from the position brings nothing, and not merely a page that says it is last.

    What was announced and stands behind such a page is to be applied in its place.
    """
    position = standing().position
    return workos.read_events(position, limit=1).position == position


# Waiting ------------------------------------------------------------------------------------


def _hold(lease: datetime, report: DrainReport, deadline: float) -> None:
    """Drains again and again while something is announced and unseen, then gives the lease up."""
    held: datetime | None = lease
    pauses = _pauses()
    try:
        while held is not None and not _has_passed(deadline):
            trouble_pause = _attempt(report, deadline)
            pause = next(pauses) if trouble_pause is None else trouble_pause
            if not _unseen() and not _has_passed(deadline):
                Lease.DRAIN.release(held)
                held = None
                # A webhook that saw the lease held did not ring, and had committed before this.
                if not _unseen():
                    return
                held = Lease.DRAIN.take(max(deadline - time.monotonic(), 0.0))
                if held is None:
                    # Another drain has it, and waits.
                    return
            time.sleep(max(min(pause, deadline - time.monotonic()), 0.0))
    finally:
        if held is not None:
            Lease.DRAIN.let_go(held)
    ring(SYNC_EVENTS)


def _pauses() -> Iterator[float]:
    """The seconds between two reads that went well."""
    pause = _FIRST_PAUSE
    while True:
        yield min(pause, sync_settings().poll_pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def _attempt(total: DrainReport, deadline: float) -> float | None:
    """Drains once; after trouble, returns how many seconds to wait before the next time."""
    report = DrainReport()
    trouble: Exception | None
    try:
        _drain(report, deadline)
        trouble = None
        if report.drained and total.unsettled is None:
            report.unsettled = settle_overdue(deadline=deadline)
    except WorkOSTrouble as error:
        trouble = error
    except (CursorLost, DatabaseError) as error:
        trouble = error
        if isinstance(error, CursorLost) or not is_passing(error):
            _note(trouble)
            raise
    finally:
        _announce(report)
        total.merge(report)
    return None if trouble is None else _note(trouble)


def _announce(report: DrainReport) -> None:
    """Tells people of what was parked, and the worker of what is to be written back."""
    log_trouble(report)
    if report.requested_write_backs:
        ring(PUSH_EXTERNAL_IDS)


def log_trouble(report: DrainReport) -> None:
    """Logs what was parked, and what could not be settled."""
    for entry in report.parked:
        # The ledger has all of it. PostgreSQL's second line shows the row: not for logs.
        reason = entry.resolved.error.partition("\n")[0]
        logger.error(
            "parked %s: %s", one_line(entry.event.id), one_line(reason), extra=_told(entry)
        )
    if report.unsettled is not None:
        logger.warning(
            "an announcement that is overdue could not be settled, and is tried again: %s",
            one_line(report.unsettled),
        )


def _note(trouble: Exception) -> float:
    message, kind = one_line(trouble), _kind_of(trouble)
    if kind is ReadError.CURSOR_LOST:
        message = f"the cursor is lost: {message}; a full snapshot repairs that"
        ring(RECOVER)
    try:
        failure = note_failure(kind, message)
    except DatabaseError:
        # It may be the cursor's row itself that is locked, or the database that is gone.
        failure = Failure(count=1, is_news=True)
    if failure.is_news:
        # Once, and not once a second for as long as it lasts.
        is_loud = kind.needs_person or kind is ReadError.CURSOR_LOST
        level = logging.CRITICAL if is_loud else logging.WARNING
        logger.log(level, "the stream could not be drained: %s", message)
    growing = min(sync_settings().poll_pause * 2.0 ** min(failure.count, 10), _LONGEST_PAUSE)
    asked_for: float = getattr(trouble, "retry_after", None) or 0.0
    return max(growing, asked_for)


_KINDS = {
    CursorLost: ReadError.CURSOR_LOST,
    workos.NotConfigured: ReadError.KEY_MISSING,
    workos.Unauthorized: ReadError.KEY_REFUSED,
    workos.RateLimited: ReadError.RATE_LIMITED,
    workos.Unavailable: ReadError.UNAVAILABLE,
    WorkOSTrouble: ReadError.NOT_UNDERSTOOD,
}


def _kind_of(trouble: Exception) -> ReadError:
    if isinstance(trouble, DatabaseError):
        return ReadError.LOCK_NOT_HAD if is_passing(trouble) else ReadError.DATABASE
    return next(kind for known, kind in _KINDS.items() if isinstance(trouble, known))


def _unseen() -> bool:
    window = timedelta(seconds=sync_settings().hold_back_window)
    # Bounded, because a migration may hold the table for minutes.
    with bounded_transaction():
        return WorkOSEvent.objects.unseen(within=window).exists()


def _has_passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


# Reading ------------------------------------------------------------------------------------


def _drain(report: DrainReport, deadline: float | None = None) -> None:
    """Drains to the end, or until a page ends after ``deadline``."""
    while not report.drained and not _has_passed(deadline):
        start = standing()
        _raise_if_expired(start)
        try:
            _drain_from(start.position, report, deadline)
        except CursorLost as lost:
            # It counts only while nobody else has moved the position.
            if standing().position == lost.position:
                raise


def _drain_from(position: Position, report: DrainReport, deadline: float | None) -> None:
    """Drains from ``position`` until the end, the deadline, or a page that others have applied."""
    with closing(read_ahead(_read, position)) as pages:
        for page in pages:
            if not page.events:
                note_drained(page)
                report.drained = True
                return
            applied = _apply(page, report)
            report.drained = page.is_last and not applied.dropped
            if applied.dropped or _has_passed(deadline):
                return


def _apply(page: EventPage, report: DrainReport, *, replay: bool = False) -> Applied:
    applied = apply_page(page, replay=replay)
    report.add(applied)
    for entry in applied.entries:
        logger.debug("%s: %s", entry.event.id, entry.resolved.outcome, extra=_told(entry))
    if applied.interrupted_by is not None:
        raise applied.interrupted_by
    return applied


def _told(entry: LedgerEntry) -> dict[str, object]:
    """What a log line says of it beside its message."""
    return {
        "event": entry.event.id,
        "organization": entry.event.workos_id,
        "outcome": entry.resolved.outcome,
    }


def _read(position: Position) -> EventPage:
    try:
        page = workos.read_events(position, limit=sync_settings().page_size)
    except workos.Refused as refusal:
        if position == Position() or not _is_readable_without_position():
            raise
        raise CursorLost(position, f"WorkOS refuses to read on from there: {refusal}") from None
    if _begins_too_early(page) and _was_position_ignored(page):
        raise CursorLost(position, "WorkOS reads from its first event instead of from there")
    return page


def _raise_if_expired(start: Standing) -> None:
    if start.drained_at is None or start.position == Position():
        return
    if datetime.now(UTC) - start.drained_at > EVENT_RETENTION:
        raise CursorLost(
            start.position,
            f"the stream was last drained at {start.drained_at.isoformat()}, and WorkOS keeps "
            f"events for {EVENT_RETENTION.days} days",
        )


def _raise_if_ignored(page: EventPage, report: DrainReport) -> None:
    """A replay's first page must not be the stream's first, whatever the times of its events."""
    if page.read_from.last_event_id and not report.read and _was_position_ignored(page):
        raise CursorLost(page.read_from, f"WorkOS does not know {page.read_from.last_event_id}")


def _is_readable_without_position() -> bool:
    try:
        workos.first_event_id()
    except WorkOSTrouble:
        return False
    return True


def _begins_too_early(page: EventPage) -> bool:
    after = page.read_from.last_event_at
    if page.read_from.last_event_id is None or after is None or not page.events:
        return False
    times = (listed.event.occurred_at for listed in page.events)
    begins_at = next((moment for moment in times if moment is not None), after)
    # Not "after - margin": an event may carry the first moment there is.
    return after - begins_at > _RESTART_MARGIN


def _was_position_ignored(page: EventPage) -> bool:
    # Asked, because a single event may carry any time: that alone must not stop the stream.
    return bool(page.events) and workos.first_event_id() == page.events[0].event.id
