"""Reads and writes the cursor's row: the position in the stream, and how reading goes."""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import OperationalError, connection

from orgs.db import sql_cursor as sql
from orgs.db.errors import CursorSkipped, is_passing
from orgs.db.transactions import (
    Rows,
    Statement,
    bounded_transaction,
    execute_alone,
    execute_bounded,
    execute_together,
)
from orgs.domain.figures import kept
from orgs.domain.report import Change
from orgs.domain.resources import NAMES, followed_by, parse_time
from orgs.domain.types import ORGANIZATION, Position
from orgs.models import ORGANIZATIONS_STREAM, SyncCursor

T = TypeVar("T")

#: What ``listed_at`` holds beside resources: when a cover last ended, when a full run of the
#: worker's was last to begin, and when columns were derived from what is covered now, if they were.
COVER_ENDED, RUN_WANTED, DERIVED = "cover_ended", "run_wanted", "derived"


class CursorLocked(OperationalError):
    """Another program has the cursor's row locked: nothing can be applied while it does."""


@dataclass(frozen=True, slots=True)
class CursorState:
    """Where the stream stands, by the database's clock."""

    position: Position
    drained_at: datetime | None
    now: datetime
    failing_since: datetime | None = None
    """When the first of the reads failed that have failed since the last good one."""
    is_doubted: bool = False
    """A full run found none of the linked organizations in WorkOS, and no process that was started
    later did."""
    types: tuple[str, ...] | None = None
    """The types of events that are read with this position; None: not decided yet."""
    covered: frozenset[str] = frozenset()
    """Resources that were listed in full since all of their types are read."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Types of events that WorkOS refuses, and since when."""
    progress: Mapping[str, str] = field(default_factory=dict)
    """Resource to the scope after which its lists go on."""
    listed: Mapping[str, Any] = field(default_factory=dict)
    """Resource to when it was last listed in full, in ISO 8601; and other keys."""
    uncovered: Mapping[str, str] = field(default_factory=dict)
    """Resource that is not covered to since when it is followed without a break."""

    def listed_at(self, resource: str) -> datetime | None:
        """Return when a resource was last listed in full; None too for what is no such time."""
        return parse_time(self.listed.get(resource))

    def followed_since(self, resource: str) -> datetime | None:
        """Return since when a resource that is not covered is followed without a break; None if it
        is covered, or not followed. Before the first run, all would be followed from now on."""
        return self.now if self.types is None else parse_time(self.uncovered.get(resource))

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
    if (state := _find_state()) is None:
        execute_alone(sql.CREATE_CURSOR, [])
    elif state.drained_at is not None and state.since_drained is None:
        execute_alone(sql.RESET_FUTURE_DRAIN, [])


def read_cursor() -> CursorState:
    """Return where the stream stands now; at its beginning, if it was never drained."""
    return _find_state() or CursorState(Position(), None, database_now())


def _find_state() -> CursorState | None:
    return _state(execute_bounded(Statement(sql.CURSOR_STATE, [])))


def _state(rows: Rows) -> CursorState | None:
    if not rows:
        return None
    # Django leaves jsonb to its own fields: here it comes as text.
    event_id, event_at, drained_at, now, failing, doubted, types, covered, *objects = rows[0]
    return CursorState(
        Position(event_id, event_at),
        drained_at,
        now,
        failing,
        doubted,
        tuple(map(str, parsed_json(types, []))) or None,
        frozenset(map(str, parsed_json(covered, []))),
        *(parsed_json(stored, {}) for stored in objects),
    )


def parsed_json(stored: str | None, otherwise: T) -> T:
    """Return what a column of the row holds; if that is no list or no object, ``otherwise``."""
    value = json.loads(stored or "null")
    return value if isinstance(value, type(otherwise)) else otherwise


def database_now() -> datetime:
    """Return the time now, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


@contextmanager
def cursor_locked() -> Iterator[CursorState]:
    """Open a bounded transaction that begins by locking the row; yield where the stream stands.

    Nothing else applies what WorkOS says meanwhile. Raises ``CursorLocked``.
    """
    locking = Statement(sql.LOCK_CURSOR, [])
    with ExitStack() as stack:
        try:
            (found,) = stack.enter_context(bounded_transaction(locking))
            if not found:
                _, found = execute_together([Statement(sql.CREATE_CURSOR, []), locking])
        except OperationalError as error:
            if not is_passing(error):
                raise
            raise CursorLocked("another program holds the lock of the cursor") from error.__cause__
        if (state := _state(found)) is None:
            raise CursorSkipped("the cursor has no row: a trigger or a policy left it out")
        yield state


def move_cursor(position: Position, *, read_began: float | None) -> Statement:
    """Return the statement that moves the locked cursor.

    ``read_began``: when the read that reached the end began, by ``time.monotonic()``.
    """
    age = None if read_began is None else time.monotonic() - read_began
    return Statement(sql.MOVE_CURSOR, [position.last_event_id, position.last_event_at, age])


def follow(
    before: CursorState, types: Sequence[str], covered: Collection[str], refused: Mapping[str, str]
) -> bool:
    """Set which types of events are read; return False if that has changed since ``before``.

    What is followed and not covered is noted with the time, beside the times of the lists.
    Raises ``CursorSkipped``, and ``django.db.Error``.
    """
    values = [json.dumps(list(types)), json.dumps(sorted(covered)), json.dumps(dict(refused))]
    uncovered = sorted(followed_by(types, NAMES).difference(covered))
    with cursor_locked() as state:
        known = (before.types, before.covered, before.uncovered)
        if (state.types, state.covered, state.uncovered) != known:
            return False
        if execute_together([Statement(sql.FOLLOW, [*values, uncovered])]) == [[]]:
            raise CursorSkipped("a trigger or a policy leaves the cursor's row as it is")
    return True


def note_listed(resource: str) -> None:
    """Note that a resource was listed now; or what another key of ``listed_at`` says."""
    execute_alone(sql.NOTE_LISTED, [resource, resource])


def note_derived(covered: Collection[str]) -> None:
    """Note that columns were derived from what is covered, unless another process has changed it:
    to derive them again is up to that process, or, if it was killed, to a cover."""
    with cursor_locked() as state:
        if state.covered == covered:
            execute_together([Statement(sql.NOTE_LISTED, [DERIVED, DERIVED])])


def note_progress(resource: str, scope: str | None) -> None:
    """Note after which scope the lists of a resource go on; None: from the first one."""
    execute_alone(sql.NOTE_PROGRESS, [resource, resource, scope])


def note_drained(position: Position, *, read_began: float) -> None:
    """Note that a read found nothing after ``position``, if the cursor still stands there."""
    with cursor_locked() as state:
        if state.position == position:
            execute_together([move_cursor(position, read_began=read_began)])


def note_failure(kind: str, error: str) -> tuple[int, bool]:
    """Note that a read failed, where a person sees it.

    Return how many failed in a row, and whether the one before failed for another reason.
    """
    rows = execute_alone(sql.NOTE_FAILURE, [kind, error])
    count, is_new = rows[0] if rows else (1, True)
    return count, is_new


def replace_lost(
    lost: Position, *, began_at: datetime, workos_date: datetime | None, overlap: float
) -> datetime | None:
    """Move the cursor from a position that WorkOS no longer knows to a time. Organizations were
    listed; what else is followed is not covered, until it was listed too.

    Returns that time; None if the cursor has moved on meanwhile.
    """
    with cursor_locked() as state:
        if state.position != lost:
            return None
        covered = state.covered & {ORGANIZATION}
        uncovered = sorted(followed_by(state.types or (), NAMES) - covered)
        values = [began_at, workos_date, overlap, began_at, json.dumps([*covered]), uncovered]
        (rows,) = execute_together([Statement(sql.REPLACE_LOST, values)])
    return rows[0][0] if rows else None


def note_reconciled(at: datetime, drift: Sequence[Change]) -> None:
    """Note that a full reconcile which began then has completed, and what it repaired."""
    found = {"last_drift": len(drift), "last_changes": kept(drift), "last_failed": 0}
    set_columns(reconciled_at=at, **found, snapshot_trouble="", snapshot_error_kind="")


def note_incomplete(error: str, *, kind: str, failed: int) -> None:
    """Note why the last full reconcile did not complete, and how many writes were refused in it."""
    what = f"{database_now().astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC: {error}"
    set_columns(snapshot_trouble=what, snapshot_error_kind=kind, last_failed=failed)


def set_columns(**values: Any) -> None:
    """Set columns of the row, if there is one."""
    with bounded_transaction():
        SyncCursor.objects.filter(stream=ORGANIZATIONS_STREAM).update(**values)
