"""The stream of events WorkOS lists: kept in order, held back, and forgotten after a while."""

import heapq
from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import Final

from .messages import Page

_BY_SEQUENCE: Final = attrgetter("sequence")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream, and the JSON it is served as.

    `cursor` is what `after` may name: its id, or a made-up one where it has none. A `type` of
    None passes every filter: that is how malformed and unknown events reach a reader. Times are
    in milliseconds; an event may be emitted long after it happened, or before. A `readable_at`
    overrides the hold-back.
    """

    sequence: int
    cursor: str
    type: str | None
    organization_id: str | None
    happened_at: int
    emitted_at: int
    readable_at: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class EventQuery:
    """What a read asks for; `since` and `until` are inclusive, in milliseconds."""

    types: frozenset[str]
    limit: int
    after: str | None = None
    since: int | None = None
    until: int | None = None
    organization_id: str | None = None

    def from_the_first(self) -> "EventQuery":
        return replace(self, after=None)

    def wants(self, event: Event) -> bool:
        """Return True if the filters admit an event; cursor and limit are not filters."""
        return (
            (event.type is None or event.type in self.types)
            and (self.since is None or event.happened_at >= self.since)
            and (self.until is None or event.happened_at <= self.until)
            and (self.organization_id is None or event.organization_id == self.organization_id)
        )


class LostCursor(Exception):
    """A read goes on after an event that never was, or that is not kept any more."""


class EventStream:
    """All events, in the order they were emitted in, whatever their ids and times say.

    Durations are in milliseconds, and so is the `now` of each read. Not thread-safe.
    """

    def __init__(self, *, hold_back: int, retention: int) -> None:
        self._hold_back = hold_back
        self._retention = retention
        self._events: list[Event] = []
        self._by_cursor: dict[str, Event] = {}
        self._kept_from = 0
        # Readable events in order, and a heap of (readable from, sequence) of those to come.
        self._listed: list[Event] = []
        self._to_come: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def append(self, event: Event) -> None:
        """Put an event at the end; its sequence is the length of the stream so far."""
        self._events.append(event)
        self._by_cursor[event.cursor] = event
        heapq.heappush(self._to_come, (self._readable_from(event), event.sequence))

    def page(self, query: EventQuery, now: int) -> Page:
        """Return one page, oldest first; LostCursor if there is nothing to go on after."""
        self._reveal(now)
        self._drop_expired(now)
        start = 0 if query.after is None else self._place_after(query.after, now)
        found = list(islice(self._wanted(query, start, now), query.limit + 1))
        events = found[: query.limit]
        return Page(
            bodies=[event.body for event in events],
            before=events[0].cursor if events and query.after is not None else None,
            after=events[-1].cursor if len(found) > query.limit else None,
            last=events[-1].cursor if events else None,
        )

    def set_hold_back(self, milliseconds: int) -> None:
        """Hold events back for so long from now on, those listed already included."""
        self._hold_back = milliseconds
        self.list_anew()

    def expire(self, before: str | None) -> None:
        """Forget the events before one, or all of them; KeyError if there is no such event."""
        self._kept_from = len(self) if before is None else self._by_cursor[before].sequence
        self.list_anew()

    def list_anew(self) -> None:
        """Decide again what is listed, after the clock or a duration was changed."""
        self._listed = []
        self._to_come = [
            (self._readable_from(event), event.sequence)
            for event in islice(self._events, self._kept_from, None)
        ]
        heapq.heapify(self._to_come)

    def _readable_from(self, event: Event) -> int:
        if event.readable_at is not None:
            return event.readable_at
        return min(event.happened_at, event.emitted_at) + self._hold_back

    def _reveal(self, now: int) -> None:
        while self._to_come and self._to_come[0][0] <= now:
            _, sequence = heapq.heappop(self._to_come)
            insort(self._listed, self._events[sequence], key=_BY_SEQUENCE)

    def _drop_expired(self, now: int) -> None:
        expired = 0
        while expired < len(self._listed) and self._is_expired(self._listed[expired], now):
            expired += 1
        del self._listed[:expired]

    def _is_expired(self, event: Event, now: int) -> bool:
        return event.sequence < self._kept_from or event.happened_at < now - self._retention

    def _place_after(self, cursor: str, now: int) -> int:
        event = self._by_cursor.get(cursor)
        if event is None or self._is_expired(event, now):
            raise LostCursor(cursor)
        return bisect_right(self._listed, event.sequence, key=_BY_SEQUENCE)

    def _wanted(self, query: EventQuery, start: int, now: int) -> Iterator[Event]:
        for place in range(start, len(self._listed)):
            event = self._listed[place]
            if query.wants(event) and not self._is_expired(event, now):
                yield event
