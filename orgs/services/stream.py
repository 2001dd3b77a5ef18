"""Reads WorkOS's ordered stream from the stored position and applies it, page by page.

Tasks may run twice, at once, late or never: any number of drains may run, and each page is applied
by one of them. ``patience``: seconds that each request may wait for its turn, as in
``orgs.workos``. ``deadline``: by ``time.monotonic()``.
"""

import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from math import inf

from django.db import DatabaseError

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import rows
from orgs.db.cursor import CursorState, note_drained, note_failure, read_cursor, set_columns
from orgs.db.errors import describe, is_full, is_passing
from orgs.db.leases import Lease, clear_enqueued
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import one_line
from orgs.domain.report import Change, Report
from orgs.domain.status import ReadError, in_words
from orgs.domain.types import Outcome, Page, Position
from orgs.models import WorkOSEvent
from orgs.services import coverage
from orgs.services.apply import Mode, WritesRefused, apply
from orgs.services.decide import Batch
from orgs.services.lookups import Lookups, Unproven, WrongEnvironment
from orgs.services.pages import CursorLost, raise_if_expired, read_pages
from orgs.services.queue import PUSH_EXTERNAL_IDS, RECOVER, SYNC_EVENTS, enqueue
from orgs.services.refresh import resolve_all
from orgs.services.refusals import text_of
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0

#: How many pages of events may prove the environment, if no list does.
_PAGES_AHEAD = 10

#: Most events can be read soon after their webhook, so a waiting drain reads again soon at first,
#: and then after longer pauses, up to the setting.
_FIRST_PAUSE = 0.1
_GROWTH = 1.5

#: Waiting does not help: a full reconcile, the next scheduled drain or a person has to act.
_ENDS_THE_DRAIN = (ReadError.CURSOR_LOST, ReadError.DATABASE, ReadError.DATABASE_FULL)


class UnknownEvent(Exception):
    """WorkOS does not list from the event or time that a replay was to start at."""


@dataclass(slots=True)
class DrainReport(Report):
    """What became of the events that were read."""

    drained: bool = False
    """Whether the end of the stream was reached."""
    waiting: int = 0
    """Of a dry run: how many events were listed and not applied."""
    unresolved: WorkOSError | DatabaseError | None = None
    """Why a missed webhook could not be resolved, if one could not."""

    @property
    def parked(self) -> list[Change]:
        """The events that were parked."""
        return self.of(Outcome.PARKED)


def drain_to_end(report: DrainReport | None = None) -> DrainReport:
    """Apply everything that WorkOS lists after the position, without waiting for more events.

    Then resolve missed webhooks; ``unresolved`` is an error of that. If PostgreSQL refuses every
    event, ``errors`` says so. May be repeated and run concurrently. Raises ``CursorLost`` or
    another ``WorkOSError``, ``coverage.SettingsDiffer`` and ``django.db.Error``; what was applied
    before stays applied, and is in ``report`` if that is given.
    """
    report = report or DrainReport()
    coverage.prepare_to_read()
    try:
        _drain(report, patience=inf)
    except WritesRefused as refused:
        report.errors.append(f"the stream waits: {describe(refused)}")
    else:
        report.unresolved = resolve_overdue(patience=inf)
    return report


def replay(since: Position) -> DrainReport:
    """Apply again what WorkOS lists after ``since``, without reading or moving the position.

    The rows protect themselves, so it may be repeated and run beside anything. Raises
    ``UnknownEvent`` if WorkOS does not list from ``since``, ``WorkOSError``, ``django.db.Error``.
    """
    report = DrainReport()
    try:
        types = coverage.prepare_to_read().types or ()
        with closing(read_pages(types, since, patience=inf)) as pages:
            for page in pages:
                _verify_environment(page, types, patience=inf)
                _apply(page, types, report, Mode.REPLAY)
                report.drained = page.is_last
    except coverage.TypesRefused as refusal:
        coverage.note_refused(refusal.types)
        return replay(since)
    except CursorLost as lost:
        start = since.last_event_id or since.last_event_at
        raise UnknownEvent(f"WorkOS lists nothing after {start}: {lost.reason}") from None
    return report


# From the position to the end ---------------------------------------------------------------


def _drain(report: DrainReport, deadline: float = inf, *, patience: float = 0.0) -> None:
    """Drain to the end; after ``deadline``, stop behind the page at hand."""
    while not report.drained and time.monotonic() < deadline:
        start = read_cursor()
        coverage.require_same(start)
        raise_if_expired(start)
        was_verified = workos.is_verified()
        try:
            _drain_from(start, report, deadline, patience)
            if start.is_doubted and workos.is_verified() and not was_verified:
                # The snapshot stays incomplete, but not for that reason.
                set_columns(snapshot_error_kind="")
            if start.failing_since is not None:
                span = in_words(start.now - start.failing_since)
                logger.info("the stream is read again, after %s of failed reads", span)
        except coverage.TypesRefused as refusal:
            coverage.note_refused(refusal.types)
        except CursorLost as lost:
            # It counts only while no other process has moved the position.
            if read_cursor().position == lost.position:
                raise


def _drain_from(start: CursorState, report: DrainReport, deadline: float, patience: float) -> None:
    """Drain from there until the end, the deadline, or a page that others have applied."""
    types = start.types or ()
    with closing(read_pages(types, start.position, patience=patience)) as pages:
        for page in pages:
            _verify_environment(page, types, patience=patience)
            if page.is_last and not page.observations:
                note_drained(page.read_from, read_began=page.read_began)
                report.drained = True
                return
            is_dropped = _apply(page, types, report, Mode.LIVE).dropped
            report.drained = page.is_last and not is_dropped
            if is_dropped or time.monotonic() >= deadline:
                return


def _verify_environment(page: Page[Position], types: tuple[str, ...], *, patience: float) -> None:
    """Before the first page of this process, raise ``WrongEnvironment``, unless a row is linked to
    an organization that WorkOS lists, or that an event of this page or of the next few is about."""
    if workos.is_verified():
        return
    if _is_about_linked(page):
        workos.note_verified()
        return
    try:
        Lookups(patience).verify_environment()
    except WrongEnvironment:
        is_right = False
        # All linked organizations may just have been deleted: then one of the next events says so.
        with (
            suppress(WorkOSError),
            closing(read_pages(types, page.position, patience=patience)) as later,
        ):
            is_right = any(map(_is_about_linked, islice(later, _PAGES_AHEAD)))
        if not is_right:
            raise
        workos.note_verified()


def _is_about_linked(page: Page[Position]) -> bool:
    ids = {observation.workos_organization_id for observation in page.observations}
    return bool(rows.linked(id_ for id_ in ids if id_))


def _apply(page: Page[Position], types: tuple[str, ...], report: DrainReport, mode: Mode) -> Report:
    """Apply a page in one transaction; live, that moves the position behind it."""
    batch = Batch(
        observations=page.observations,
        read_from=page.read_from,
        types=types,
        position=page.position,
        end_read_began=page.read_began if page.is_last else None,
    )
    applied = apply(batch, mode)
    report.add(applied)
    if applied.changed_rows:
        counts = ", ".join(f"{outcome} {n}" for outcome, n in sorted(applied.counts.items()))
        logger.info("applied a page, events: %d; %s", len(page.observations), counts)
    if applied.interrupted_by is not None:
        raise applied.interrupted_by
    return applied


# Missed webhooks ----------------------------------------------------------------------------


def resolve_overdue(
    *, deadline: float = inf, patience: float = 0.0
) -> WorkOSError | DatabaseError | None:
    """Resolve the webhooks whose events the stream did not list in time, by fetching their objects.

    Call it when the stream was just read to its end. One that can't be resolved stays unseen, and
    does not stop the rest unless its error is the same for all; the last error is returned.
    """
    # Of a resource that is not covered, no row proves a 404; its list will be at least as new.
    later = coverage.uncovered(read_cursor())
    overdue = WorkOSEvent.objects.overdue(after=_window()).exclude(resource__in=later)
    with bounded_transaction():
        is_any_overdue = overdue.exists()
    try:
        if not is_any_overdue or not _is_at_the_end(patience):
            return None
    except WorkOSError as error:
        return error
    report = resolve_all(overdue, deadline=deadline, patience=patience)
    for change in report.changes:
        logger.warning(
            "the event %s was announced and never listed, and is resolved without it: %s",
            one_line(change.event_id),
            change.change,
            extra={"event": change.event_id, "outcome": change.change},
        )
    return report.error or next(map(Unproven, report.unproven), None)


def _is_at_the_end(patience: float) -> bool:
    """A read from the position brings nothing: a page that says it is last does not prove that."""
    state = read_cursor()
    read = partial(
        workos.read_events,
        types=state.types or (),
        limit=sync_settings().page_size,
        patience=patience,
    )
    pages = workos.read_all(read, state.position)
    return all(not page.observations or page.position == page.read_from for page in pages)


def _window() -> timedelta:
    return timedelta(seconds=sync_settings().hold_back_window)


# Waiting ------------------------------------------------------------------------------------


def drain_and_wait() -> DrainReport:
    """Drain as the worker does: apply everything, and wait for what is announced and not listed.

    One drain waits at a time, by a lease; any other applies to the end once and returns. An error
    of WorkOS, a lock that is not available and ``WritesRefused`` are noted on the cursor. While an
    announced event is unseen, the drain tries again after a pause. For a lost cursor, it enqueues a
    full reconcile and ends. Raises ``django.db.Error`` for any other error of the database. Ends by
    itself soon after the drain deadline.
    """
    seconds = sync_settings().drain_deadline
    deadline = time.monotonic() + seconds
    report = DrainReport()
    try:
        # First, also if this process may not read: a webhook that comes from now on enqueues again,
        # or finds the lease.
        clear_enqueued()
        coverage.prepare_to_read()
        if (lease := Lease.DRAIN.acquire(seconds)) is None:
            _attempt(report, deadline)
        else:
            _wait(lease, report, deadline)
    except coverage.SettingsDiffer as differ:
        logger.warning("%s", differ)
    except CursorLost:
        # It is noted, and a full reconcile is enqueued, which may need this very process.
        pass
    except DatabaseError as error:
        if not is_passing(error):
            raise
        logger.warning("a lock is not available; the schedule tries again: %s", describe(error))
    return report


def _wait(acquired: datetime, report: DrainReport, deadline: float) -> None:
    """Drain again and again while an announced event is unseen, then release the lease."""
    lease: datetime | None = acquired
    next_pause = _FIRST_PAUSE
    try:
        while lease and time.monotonic() < deadline:
            pause = _attempt(report, deadline)
            if pause is None:
                pause = min(next_pause, sync_settings().poll_pause)
                next_pause = min(next_pause * _GROWTH, _LONGEST_PAUSE)
            if not _has_unseen() and time.monotonic() < deadline:
                Lease.DRAIN.release(lease)
                lease = None
                # A webhook that saw the lease enqueued nothing, and had committed before this.
                if not _has_unseen():
                    return
                lease = Lease.DRAIN.acquire(max(deadline - time.monotonic(), 0.0))
                if lease is None:
                    # Another drain has it, and waits.
                    return
            time.sleep(max(min(pause, deadline - time.monotonic()), 0.0))
    finally:
        if lease:
            Lease.DRAIN.release_or_expire(lease)
    # The time is up, and an event is unseen: another drain waits for it.
    enqueue(SYNC_EVENTS)


def _has_unseen() -> bool:
    # Bounded, because a migration may lock the table for minutes.
    with bounded_transaction():
        return WorkOSEvent.objects.unseen(within=_window()).exists()


def _attempt(total: DrainReport, deadline: float) -> float | None:
    """Drain once; after an error that may pass, return how many seconds to wait before the next."""
    report = DrainReport()
    try:
        _drain(report, deadline)
        if report.drained and total.unresolved is None:
            report.unresolved = resolve_overdue(deadline=deadline)
    except (WorkOSError, DatabaseError) as error:
        pause = _note(error)
        if _kind_of(error) in _ENDS_THE_DRAIN:
            raise
        return pause
    finally:
        log_parked(report)
        if report.requested_write_backs:
            enqueue(PUSH_EXTERNAL_IDS)
        total.add(report)
        total.drained = report.drained
        total.unresolved = total.unresolved or report.unresolved
    return None


def log_parked(report: DrainReport) -> None:
    """Log the events that were parked, and the missed webhook that could not be resolved."""
    for change in report.parked:
        event, reason = one_line(change.event_id), one_line(change.reason)
        about = {"event": change.event_id, "organization": change.workos_id}
        logger.error("parked %s: %s", event, reason, extra={**about, "outcome": change.change})
    if report.unresolved is not None:
        logger.warning("a missed webhook could not be resolved: %s", text_of(report.unresolved))


# Errors of reads ----------------------------------------------------------------------------


def _note(error: WorkOSError | DatabaseError) -> float:
    """Note a failed read on the cursor, log it if it is new, and return the pause after it."""
    kind = _kind_of(error)
    message = text_of(error)
    try:
        count, is_new = note_failure(kind, message)
    except DatabaseError:
        # It may be the cursor's row itself that is locked, or the database that is down.
        count, is_new = 1, True
    if kind is ReadError.CURSOR_LOST:
        enqueue(RECOVER)
    if is_new:
        # Once for each kind, and not once a second for as long as it lasts.
        is_loud = kind.needs_person or kind is ReadError.CURSOR_LOST
        level = logging.CRITICAL if is_loud else logging.WARNING
        logger.log(level, "the stream could not be drained: %s", message)
    pause = sync_settings().poll_pause
    # The wait for a lock was a pause already, and a person may be waiting for the event.
    if kind is not ReadError.LOCK_NOT_AVAILABLE:
        pause = min(pause * 2.0 ** min(count, 10), _LONGEST_PAUSE)
    return max(pause, getattr(error, "retry_after", None) or 0.0)


def _kind_of(error: WorkOSError | DatabaseError) -> ReadError:
    if isinstance(error, WorkOSError):
        return error.kind
    if isinstance(error, WritesRefused):
        return ReadError.WRITES_REFUSED
    if is_passing(error):
        return ReadError.LOCK_NOT_AVAILABLE
    return ReadError.DATABASE_FULL if is_full(error) else ReadError.DATABASE
