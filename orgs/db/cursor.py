"""Reads and writes the cursor's row: the position in the stream, and how reading goes."""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import OperationalError, connection

from orgs.db import sql_cursor as sql
from orgs.db.errors import CursorSkipped, is_passing
from orgs.db.transactions import (
    Rows,
    Statement,
    bounded_transaction,
    execute_alone,
    execute_together,
)
from orgs.domain.figures import kept
from orgs.domain.report import Change
from orgs.domain.resources import NAMES, covered_by
from orgs.domain.types import Position
from orgs.models import ORGANIZATIONS_STREAM


class CursorLocked(OperationalError):
    """Another program has the cursor's row locked: nothing can be applied while it does."""


@dataclass(frozen=True, slots=True)
class CursorState:
    """Where the stream stands, by the database's clock."""

    position: Position
    drained_at: datetime | None
    now: datetime
    types: tuple[str, ...] | None = None
    """The types of events that are read with this position; None: not decided yet."""
    covered: frozenset[str] = frozenset()
    """Resources that were listed in full since all of their types are read."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Types of events that WorkOS refuses, and since when."""
    progress: Mapping[str, str] = field(default_factory=dict)
    """Resource to the scope after which its lists go on."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """Resource to when it was last listed in full, in ISO 8601."""
    followed: tuple[str | None, str | None] = (None, None)
    """``types`` and ``covered`` as they are stored, for the compare-and-set."""
    failing_since: datetime | None = None
    """When the first of the reads failed that have failed since the last good one."""

    def listed_at(self, resource: str) -> datetime | None:
        """Return when a resource was last listed in full; None too for what is no such time."""
        try:
            at = datetime.fromisoformat(self.listed.get(resource, ""))
            return at.astimezone(UTC) if at.tzinfo else None
        except (ValueError, OverflowError):
            return None

    @property
    def since_drained(self) -> timedelta | None:
        """How long ago a read last reached the end; None: never, or in the future."""
        if self.drained_at is None or self.drained_at > self.now:
            return None
        return self.now - self.drained_at


def ensure_cursor() -> None:
    """Insert the row if there is none, and reset a ``drained_at`` that lies in the future.

    May be repeated and run concurrently.
    """
    if not _read_state():
        with bounded_transaction():
            _create()
    if (state := read_cursor()).drained_at is not None and state.since_drained is None:
        execute_alone(sql.RESET_FUTURE_DRAIN, [ORGANIZATIONS_STREAM])


def read_cursor() -> CursorState:
    """Return where the stream stands now; at its beginning, if it was never drained."""
    for last_event_id, last_event_at, drained_at, now, failing, *others in _read_state():
        types, covered, *objects = others
        refused, progress, listed = map(strings_by_name, objects)
        return CursorState(
            Position(last_event_id, last_event_at),
            drained_at,
            now,
            strings(types),
            frozenset(strings(covered) or ()),
            refused,
            progress,
            listed,
            (types, covered),
            failing,
        )
    return CursorState(Position(), None, database_now())


def database_now() -> datetime:
    """Return the time now, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


@dataclass(frozen=True, slots=True)
class Place:
    """What the compare-and-set compares: the position, and the types read with it."""

    position: Position
    types: tuple[str, ...] | None


@contextmanager
def cursor_locked() -> Iterator[Place]:
    """Open a bounded transaction that begins by locking the row; yield where the stream stands.

    Raises ``CursorLocked``.
    """
    with _transaction_with(sql.LOCK_CURSOR) as place:
        yield place


@contextmanager
def cursor_shared() -> Iterator[Place]:
    """Open one as ``cursor_locked``, which others may share: only the stream does not go on."""
    with _transaction_with(sql.SHARE_CURSOR) as place:
        yield place


def move_cursor(position: Position, *, read_began: float | None) -> Statement:
    """Return the statement that moves the locked cursor.

    ``read_began``: when the read that reached the end began, by ``time.monotonic()``.
    """
    age = None if read_began is None else time.monotonic() - read_began
    return Statement(
        sql.MOVE_CURSOR,
        [position.last_event_id, position.last_event_at, age, age, ORGANIZATIONS_STREAM],
    )


def follow(
    before: CursorState,
    types: Sequence[str],
    covered: Collection[str],
    refused: Mapping[str, str],
) -> bool:
    """Set which types of events are read; return False if that has changed since ``before``.

    What is followed and not covered is noted with the time, beside the times of the lists.
    Raises ``CursorSkipped`` if it has not, and ``django.db.Error``.
    """
    values = [json.dumps(list(types)), json.dumps(sorted(covered)), json.dumps(dict(refused))]
    uncovered = sorted(set(covered_by(types, NAMES)).difference(covered))
    if execute_alone(sql.FOLLOW, [*values, uncovered, ORGANIZATIONS_STREAM, *before.followed]):
        return True
    if read_cursor().followed == before.followed:
        raise CursorSkipped("a trigger or a policy leaves the cursor's row as it is")
    return False


def note_listed(resource: str) -> None:
    """Note that a resource was listed now."""
    execute_alone(sql.NOTE_LISTED, [resource, ORGANIZATIONS_STREAM])


def note_progress(resource: str, scope: str | None) -> None:
    """Note after which scope the lists of a resource go on; None: from the first one."""
    execute_alone(sql.NOTE_PROGRESS, [resource, resource, scope, ORGANIZATIONS_STREAM])


def note_drained(position: Position, *, read_began: float) -> None:
    """Note that a read found nothing after ``position``, if the cursor still stands there."""
    age = time.monotonic() - read_began
    execute_alone(
        sql.NOTE_DRAINED,
        [age, ORGANIZATIONS_STREAM, position.last_event_id, position.last_event_at],
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """How many reads failed in a row, and whether this one failed for another reason."""

    count: int
    is_new: bool


def note_failure(kind: str, error: str) -> Failure:
    """Note that a read failed, where a person sees it."""
    for count, is_new in execute_alone(sql.NOTE_FAILURE, [kind, error, ORGANIZATIONS_STREAM]):
        return Failure(count, is_new)
    return Failure(1, is_new=True)


def replace_lost(
    lost: Position, *, began_at: datetime, workos_date: datetime | None, overlap: float
) -> datetime | None:
    """Move the cursor from a position that WorkOS no longer knows to a time.

    Returns that time; None if the cursor has moved on meanwhile.
    """
    text = sql.REPLACE_LOST
    values = {
        "began_at": began_at,
        "workos_date": workos_date,
        "overlap": overlap,
        "stream": ORGANIZATIONS_STREAM,
        "last_event_id": lost.last_event_id,
        "last_event_at": lost.last_event_at,
    }
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(text, values)
        row = cursor.fetchone()
    return row[0] if row else None


def note_reconciled(at: datetime, drift: Sequence[Change]) -> None:
    """Note that a full reconcile which began then has completed, and what it repaired."""
    changes = json.dumps(kept(drift))
    execute_alone(sql.NOTE_RECONCILED, [at, len(drift), changes, ORGANIZATIONS_STREAM])


def note_incomplete(error: str, *, kind: str, failed: int) -> None:
    """Note why the last full reconcile did not complete, and how many writes were refused in it."""
    execute_alone(sql.NOTE_INCOMPLETE, [failed, kind, error, ORGANIZATIONS_STREAM])


@contextmanager
def _transaction_with(lock: str) -> Iterator[Place]:
    locking = Statement(lock, [ORGANIZATIONS_STREAM])
    with ExitStack() as stack:
        try:
            (found,) = stack.enter_context(bounded_transaction(locking))
            if not found:
                _create()
                (found,) = execute_together([locking])
        except OperationalError as error:
            if not is_passing(error):
                raise
            raise CursorLocked("another program holds the lock of the cursor") from error.__cause__
        if not found:
            raise CursorSkipped("the cursor has no row: a trigger or a policy left it out")
        last_event_id, last_event_at, types = found[0]
        position = Position(last_event_id, last_event_at)
        yield Place(position, strings(types))


def strings(stored: str | None) -> tuple[str, ...] | None:
    """Return a stored array of strings; None for any other JSON, which another program wrote.

    Django leaves jsonb to its own fields: here it comes as text.
    """
    value = _loads(stored)
    is_sound = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return tuple(value) if is_sound else None


def strings_by_name(stored: str | None) -> dict[str, str]:
    """Return a stored object, without what is no string in it; an empty one for any other JSON."""
    value = _loads(stored)
    if not isinstance(value, dict):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}


def _loads(stored: str | None) -> Any:
    try:
        return None if stored is None else json.loads(stored)
    except (ValueError, RecursionError):
        # PostgreSQL allows longer numbers and deeper arrays than Python reads.
        return None


def _read_state() -> Rows:
    if connection.in_atomic_block:
        # Its caller has bounded it, or it is a dry run, which waits for no row.
        return execute_together([Statement(sql.CURSOR_STATE, [ORGANIZATIONS_STREAM])])[0]
    return execute_alone(sql.CURSOR_STATE, [ORGANIZATIONS_STREAM])


def _create() -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.CREATE_CURSOR, [ORGANIZATIONS_STREAM])
