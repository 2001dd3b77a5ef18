"""The cursor's row: where the stream stands, how it is, and the waiting drain's lease.

The lease goes by the database's clock. It saves work and is not what correctness rests on: that is
``apply_page``'s compare-and-set on the position.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, models
from django.db.models import F
from django.db.models.functions import Now

from orgs.models import ORGANIZATIONS_STREAM, SyncCursor
from orgs.services import sql
from orgs.workos import EventPage, Position


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the stream stands, and since when."""

    position: Position
    drained_at: datetime | None
    failures: int


def standing() -> Standing:
    """Where the stream stands now. Makes the row if there is none; may run concurrently."""
    row = _row().first()
    if row is None:
        _create()
        row = _row().get()
    return Standing(Position(row.last_event_id, row.last_event_at), row.drained_at, row.failures)


def lock_cursor() -> Position:
    """Locks the row until the end of the caller's transaction and returns where it stands."""
    with connection.cursor() as cursor:
        cursor.execute(sql.LOCK_CURSOR, [ORGANIZATIONS_STREAM])
        row = cursor.fetchone()
        if row is None:
            _create()
            cursor.execute(sql.LOCK_CURSOR, [ORGANIZATIONS_STREAM])
            row = cursor.fetchone()
    return Position(*row)


def move_cursor(position: Position, *, drained_at: datetime | None) -> None:
    """Moves the locked cursor. ``drained_at`` if the read it comes from reached the end."""
    values = [position.last_event_id, position.last_event_at, drained_at, ORGANIZATIONS_STREAM]
    with connection.cursor() as cursor:
        cursor.execute(sql.MOVE_CURSOR, values)


def note_drained(page: EventPage) -> None:
    """Notes that a read found nothing after the position, if the cursor still stands there."""
    at = page.read_from
    _row().filter(last_event_id=at.last_event_id, last_event_at=at.last_event_at).update(
        drained_at=page.read_at, failures=0, last_error=""
    )


def note_failure(error: str) -> int:
    """Notes trouble where a person sees it; returns how many there were in a row."""
    _row().update(failures=F("failures") + 1, last_error=error)
    return standing().failures


def take_drain_lease(seconds: float) -> datetime | None:
    """Takes the lease for so long, and returns its end as proof; None if another drain has it."""
    with connection.cursor() as cursor:
        cursor.execute(sql.TAKE_LEASE, [seconds, ORGANIZATIONS_STREAM])
        row = cursor.fetchone()
    return row[0] if row else None


def release_drain_lease(lease: datetime) -> None:
    """Ends the lease if it is still this one."""
    with connection.cursor() as cursor:
        cursor.execute(sql.RELEASE_LEASE, [ORGANIZATIONS_STREAM, lease])


def is_drain_waiting() -> bool:
    """Whether a drain holds the lease, and so will see what was committed before this call."""
    return _row().filter(draining_until__gt=Now()).exists()


def _create() -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.CREATE_CURSOR, [ORGANIZATIONS_STREAM])


def _row() -> models.QuerySet[SyncCursor]:
    return SyncCursor.objects.filter(stream=ORGANIZATIONS_STREAM)
