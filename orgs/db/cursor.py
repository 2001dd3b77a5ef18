"""The cursor's row: where the stream stands, how it is, and the leases of long-running work.

Leases go by the database's clock. They save work and are not what correctness rests on: that is
``apply_page``'s compare-and-set on the position.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from django.db import Error as DatabaseUnusable
from django.db import OperationalError, connection, models
from django.db.models import F

from orgs.db import sql
from orgs.db.errors import is_passing
from orgs.db.transactions import (
    Rows,
    Statement,
    bounded_transaction,
    execute_alone,
    execute_together,
)
from orgs.domain.status import ReadError
from orgs.domain.types import Position
from orgs.models import ORGANIZATIONS_STREAM, SyncCursor

logger = logging.getLogger(__name__)

_NO_FAILURE: Final[Mapping[str, Any]] = {"failures": 0, "last_trouble": "", "last_error": ""}


class CursorLocked(OperationalError):
    """Another program has the cursor's row locked: nothing can be applied while it does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the stream stands, and since when."""

    position: Position
    drained_at: datetime | None
    failures: int


def ensure_cursor() -> None:
    """Makes the row if there is none. May be repeated and run concurrently."""
    if not _standing():
        with bounded_transaction():
            _create()


def standing() -> Standing:
    """Where the stream stands now; at its beginning, if nothing was ever drained."""
    for last_event_id, last_event_at, drained_at, failures in _standing():
        return Standing(Position(last_event_id, last_event_at), drained_at, failures)
    return Standing(Position(), None, 0)


def _standing() -> Rows:
    if connection.in_atomic_block:
        # Whoever began it has bounded it, or is a dry run, which waits for no one's row.
        return execute_together([Statement(sql.STANDING, [ORGANIZATIONS_STREAM])])[0]
    return execute_alone(sql.STANDING, [ORGANIZATIONS_STREAM])


@contextmanager
def cursor_locked() -> Iterator[Position]:
    """A bounded transaction that begins by locking the row; yields where it stands.

    Raises ``CursorLocked``.
    """
    with _transaction_with(sql.LOCK_CURSOR) as position:
        yield position


@contextmanager
def cursor_held() -> Iterator[Position]:
    """The same, but others may hold it too: it only keeps the stream from going on."""
    with _transaction_with(sql.HOLD_CURSOR) as position:
        yield position


@contextmanager
def _transaction_with(lock: str) -> Iterator[Position]:
    locking = Statement(lock, [ORGANIZATIONS_STREAM])
    with ExitStack() as stack:
        with _told_as_locked():
            (found,) = stack.enter_context(bounded_transaction(locking))
            if not found:
                _create()
                (found,) = execute_together([locking])
        yield Position(*found[0])


@contextmanager
def _told_as_locked() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        if not is_passing(error):
            raise
        raise CursorLocked("another program holds the lock of the cursor") from error.__cause__


def moving(position: Position, *, drained_at: datetime | None) -> Statement:
    """Moves the locked cursor. ``drained_at`` if the read it comes from reached the end."""
    values = [position.last_event_id, position.last_event_at, drained_at, ORGANIZATIONS_STREAM]
    return Statement(sql.MOVE_CURSOR, values)


def note_drained(page: Any) -> None:
    """Notes that a read found nothing after the position, if the cursor still stands there."""
    with bounded_transaction():
        _standing_at(page.read_from).update(drained_at=page.read_at, **_NO_FAILURE)


@dataclass(frozen=True, slots=True)
class Failure:
    """How many failures there were in a row, and whether this one differs from the last."""

    count: int
    is_news: bool


def note_failure(trouble: ReadError, error: str) -> Failure:
    """Notes trouble where a person sees it, ``error`` in the words of whoever had it."""
    with bounded_transaction():
        before = _row().select_for_update(no_key=True).get()
        _row().update(failures=F("failures") + 1, last_trouble=trouble, last_error=error)
    return Failure(before.failures + 1, before.last_error != error)


def replace_lost(lost: Position, position: Position, *, drained_at: datetime) -> bool:
    """Moves the cursor from a position that WorkOS no longer knows; False if it has moved on."""
    with bounded_transaction():
        replaced = _standing_at(lost).update(
            last_event_id=position.last_event_id,
            last_event_at=position.last_event_at,
            drained_at=drained_at,
            **_NO_FAILURE,
        )
    return replaced == 1


def note_reconciled(at: datetime, *, drift: int) -> None:
    """Notes that a snapshot which began then has completed, and how many organizations it found to
    differ."""
    with bounded_transaction():
        _row().update(reconciled_at=at, last_drift=drift, snapshot_trouble="")


def note_incomplete(trouble: str) -> None:
    """Notes why the last snapshot did not complete, in the words of whoever had it."""
    with bounded_transaction():
        _row().update(snapshot_trouble=trouble)


class Lease(StrEnum):
    """What only one process at a time should do: the column that says until when it does."""

    DRAIN = "draining_until"
    RING = "rung_until"
    SNAPSHOT = "reconciling_until"

    def take(self, seconds: float, *, most: float | None = None) -> datetime | None:
        """Takes it for so long, and returns its end as proof; None if another process has it.

        It waits ``most`` seconds for a lock, if that is less than the setting.
        """
        return self._execute(sql.TAKE_LEASE, seconds, ORGANIZATIONS_STREAM, most=most)

    @contextmanager
    def kept(self, seconds: float) -> Iterator[bool]:
        """Holds it until the end, whatever that takes; False if another process has it.

        A thread renews it, with a connection of its own. Trouble with that is logged: work that
        has lost its lease is harmless, and wasteful only if another begins the same.
        """
        held = self.take(seconds)
        if held is None:
            yield False
            return
        done = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            keeper = threads.submit(self._keep, held, seconds, done)
            try:
                yield True
            finally:
                done.set()
                keeper.result()

    def _keep(self, held: datetime | None, seconds: float, done: threading.Event) -> None:
        try:
            while held is not None and not done.wait(seconds / 4):
                try:
                    held = self.renew(held, seconds)
                except DatabaseUnusable:
                    logger.warning("the lease %s could not be renewed; tried again soon", self.name)
                    # Or one that is broken would stay so.
                    connection.close()
            if held is not None:
                self.let_go(held)
        finally:
            connection.close()

    def let_go(self, held: datetime) -> None:
        """Ends it if it is still this one; if the database can't be asked, it runs out."""
        try:
            self.release(held)
        except DatabaseUnusable:
            logger.warning("the lease %s could not be released; it runs out by itself", self.name)

    def renew(self, held: datetime, seconds: float) -> datetime | None:
        """Holds it for so long from now; None if it has run out and another process took it."""
        return self._execute(sql.RENEW_LEASE, seconds, ORGANIZATIONS_STREAM, held)

    def release(self, held: datetime) -> None:
        """Ends it if it is still this one."""
        self._execute(sql.RELEASE_LEASE, ORGANIZATIONS_STREAM, held)

    def _execute(self, statement: str, *values: Any, most: float | None = None) -> datetime | None:
        rows = execute_alone(statement.format(lease=self.value), values, most=most)
        return rows[0][0] if rows else None


def is_drain_coming(*, most: float | None = None) -> bool:
    """Whether a drain waits, or was rung for and has not begun: it will see what was committed
    before this call.

    It waits ``most`` seconds for a lock, if that is less than the setting.
    """
    return bool(execute_alone(sql.COMING_DRAIN, [ORGANIZATIONS_STREAM], most=most))


def hear_ring() -> None:
    """Notes that a drain begins. Only what is committed before this may have relied on its ring."""
    execute_alone(sql.HEAR_RING, [ORGANIZATIONS_STREAM])


def is_drain_waiting() -> bool:
    """Whether a drain holds the lease, and so will see what was committed before this call."""
    return bool(execute_alone(sql.WAITING_DRAIN, [ORGANIZATIONS_STREAM]))


def _create() -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.CREATE_CURSOR, [ORGANIZATIONS_STREAM])


def _standing_at(position: Position) -> models.QuerySet[SyncCursor]:
    return _row().filter(last_event_id=position.last_event_id, last_event_at=position.last_event_at)


def _row() -> models.QuerySet[SyncCursor]:
    return SyncCursor.objects.filter(stream=ORGANIZATIONS_STREAM)
