"""Reads pages of WorkOS's event stream, and finds out when the cursor is lost. Writes nothing.

``patience``: as in ``orgs.workos``, for each request.
"""

from collections.abc import Generator
from contextlib import closing
from datetime import timedelta
from functools import partial
from math import inf

from orgs import workos
from orgs.conf import sync_settings
from orgs.db.cursor import CursorState
from orgs.domain.status import ReadError
from orgs.domain.types import Page, Position
from orgs.services.coverage import TypesRefused, is_readable, wanted_types
from orgs.workos import WorkOSError, read_ahead

#: WorkOS's reference says 30 days, a newer guide 90 days with at most 30 days per request.
EVENT_RETENTION = timedelta(days=30)

#: An answer that begins this much before the position is the stream's start, not what follows.
#: Events of one moment may be listed either way round, so it is not zero.
_RESTART_MARGIN = timedelta(minutes=1)

#: A position that is only a time, and lies this much ahead, was made by a clock that was wrong.
_FUTURE_MARGIN = timedelta(hours=1)


class CursorLost(WorkOSError):
    """WorkOS can't list what happened since ``position``; only a full reconcile repairs that."""

    kind = ReadError.CURSOR_LOST

    def __init__(self, position: Position, reason: str) -> None:
        repair = "a full reconcile repairs that: manage.py reconcile_workos"
        super().__init__(f"the cursor is lost: {reason}; {repair}")
        self.position, self.reason = position, reason


def count_waiting(start: CursorState) -> int:
    """Return how many events WorkOS lists after the position. Writes nothing.

    Raises ``CursorLost``, ``TypesRefused`` and another ``WorkOSError``.
    """
    raise_if_expired(start)
    types = start.types or wanted_types(start)
    with closing(read_pages(types, start.position, patience=inf)) as pages:
        return sum(len(page.observations) for page in pages)


def read_pages(
    types: tuple[str, ...], start: Position, *, patience: float
) -> Generator[Page[Position]]:
    """Yield the pages of these types of events after ``start``. Close it, as ``read_ahead``.

    Raises ``CursorLost`` if WorkOS refuses a position, or ignores it and lists from its first
    event, ``TypesRefused`` if it refuses a type, and another ``WorkOSError``.
    """
    read = partial(_read_page, types, patience)
    with closing(read_ahead(read, start)) as pages:
        for page in pages:
            if _begins_too_early(page) and _is_the_first(page, types, patience):
                reason = "WorkOS reads from its first event instead of from there"
                raise CursorLost(page.read_from, reason)
            yield page


def _read_page(types: tuple[str, ...], patience: float, position: Position) -> Page[Position]:
    try:
        return workos.read_events(
            position, types=types, limit=sync_settings().page_size, patience=patience
        )
    except workos.Refused as refusal:
        if not is_readable(types, patience):
            refused = [type_ for type_ in types if not is_readable((type_,), patience)]
            # Once more: a 400 that passes must not leave a type out until the next day.
            refused = [type_ for type_ in refused if not is_readable((type_,), patience)]
            if 0 < len(refused) < len(types):
                raise TypesRefused(refused) from None
            raise
        if position == Position():
            raise
        raise CursorLost(position, f"WorkOS refuses to read on from there: {refusal}") from None


def raise_if_expired(start: CursorState) -> None:
    """Raise ``CursorLost`` if WorkOS can't list everything since the position."""
    position = start.position
    at = position.last_event_at
    # The stream would stand still until that time. An event's own time does no harm.
    if position.last_event_id is None and at is not None and at - start.now > _FUTURE_MARGIN:
        raise CursorLost(position, f"the position is a time in the future, {at}")
    age = start.since_drained
    if age is not None and position != Position() and age > EVENT_RETENTION:
        raise CursorLost(
            position,
            f"the stream was last drained {age.days} days ago, and WorkOS keeps events for "
            f"{EVENT_RETENTION.days} days",
        )


def _begins_too_early(page: Page[Position]) -> bool:
    after = page.read_from.last_event_at
    if page.read_from.last_event_id is None or (page.is_last and not page.observations):
        return False
    if after is None:
        # Of an event that a person names, the time is not known.
        return True
    times = (
        observation.event.occurred_at for observation in page.observations if observation.event
    )
    ends_at = page.position.last_event_at or after
    begins_at = next((moment for moment in times if moment is not None), ends_at)
    # Not "after - margin": an event may carry the first moment there is.
    return after - begins_at > _RESTART_MARGIN


def _is_the_first(page: Page[Position], types: tuple[str, ...], patience: float) -> bool:
    # Asked, because a single event may carry any time: that alone must not stop the stream.
    return _begins_with(page) == _begins_with(_read_page(types, patience, Position()))


def _begins_with(page: Page[Position]) -> str | None:
    """Return the id of its first event; of an empty one, that of the event that it ends with."""
    ids = (observation.event.id for observation in page.observations if observation.event)
    return next(ids, page.position.last_event_id)
