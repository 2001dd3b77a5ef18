"""What everything in WorkOS shares: one lock, one clock, and one stream of events."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any, Final, Literal, TypeAlias

from workos.common.models import CreateWebhookEndpointEvents

from .clock import Clock, Moment, to_iso, to_milliseconds
from .events import Event, EventQuery, EventStream, LostCursor
from .messages import Json, JsonObject, Page, Refused, encode
from .ulid import UlidFactory

KNOWN_EVENT_TYPES: Final = frozenset(known.value for known in CreateWebhookEndpointEvents)

OnLostCursor: TypeAlias = Literal["refuse", "restart"]


class WorkOSState:
    """The part of WorkOS that all its objects share. Thread-safe: its `lock` makes one step of
    each change. Moments default to now, by the fake's clock. `publish` announces an event to the
    registered webhook endpoints, under an id."""

    def __init__(
        self, *, hold_back: float, retention: float, publish: Callable[[str, Json], None]
    ) -> None:
        self.lock = RLock()
        self._clock = Clock()
        self._ulids = UlidFactory()
        self._events = EventStream(
            hold_back=_in_milliseconds(hold_back), retention=_in_milliseconds(retention)
        )
        self._publish = publish
        self._on_lost_cursor: OnLostCursor = "refuse"
        self._lost_cursor_status = 400
        self._refused_types: frozenset[str] = frozenset()
        self._refused_types_status = 422
        self._source = "dashboard"

    @contextmanager
    def through_api(self) -> Iterator[None]:
        """Have the events of the changes made here say that the API made them."""
        with self.lock:
            self._source = "api"
            try:
                yield
            finally:
                self._source = "dashboard"

    def now(self) -> int:
        """Return the current millisecond by the fake's clock."""
        with self.lock:
            return self._clock.now()

    def moment(self, at: Moment | None) -> int:
        """Return a moment's millisecond, or the current one."""
        return self.now() if at is None else to_milliseconds(at)

    def new_id(self, prefix: str, milliseconds: int) -> str:
        """Return an id of something that is created in a millisecond."""
        return f"{prefix}_{self._ulids.make(milliseconds)}"

    def emit_change(
        self,
        event_type: str,
        data: JsonObject,
        happened_at: int,
        *,
        previous: JsonObject | None = None,
        announces: bool = True,
    ) -> None:
        """Put the event of a change into the stream, and announce it unless asked not to."""
        with self.lock:
            actor = {"id": "user_fake", "source": self._source, "name": "Fake WorkOS"}
            context: JsonObject = {"actor": actor}
            if previous is not None:
                context["previous_attributes"] = previous
            event_id = self.new_id("event", happened_at)
            event: JsonObject = {
                "object": "event",
                "id": event_id,
                "event": event_type,
                "created_at": to_iso(happened_at),
                "context": context,
                "data": data,
            }
            self._append(event_id, event, happened_at)
            if announces:
                self._publish(event_id, event)

    def list_events(self, query: EventQuery) -> Page:
        """Return one page of events. Refused as configured for a type that is not known, and for
        a cursor that is unknown or expired."""
        with self.lock:
            for event_type in sorted(query.types):
                message = f"events must be known event types: '{event_type}'"
                if event_type not in KNOWN_EVENT_TYPES:
                    raise Refused.invalid("events", message)
                if event_type in self._refused_types:
                    raise Refused(self._refused_types_status, "invalid_request_parameters", message)
            try:
                return self._events.page(query, self._clock.now())
            except LostCursor:
                if self._on_lost_cursor == "restart":
                    return self._events.page(query.from_the_first(), self._clock.now())
                message = f"Unknown cursor: '{query.after}'."
                raise Refused(self._lost_cursor_status, "invalid_cursor", message) from None

    # Controls.

    def emit(
        self,
        event: Json,
        *,
        raw: bool = False,
        absent: Sequence[str] = (),
        at: Moment | None = None,
        visible_after: float | None = None,
        listed: bool = True,
        announced: bool = True,
    ) -> Json:
        """Put any JSON value into the stream as an event, and return it as it is listed.

        What an object leaves out of `id`, `event` and `created_at` is filled in, unless it is
        `raw` or the name is in `absent`. Its place is the end of the stream, whatever its id
        says; its age counts from `at`, whatever its `created_at` says. A type that WorkOS
        doesn't know, or none, passes every filter. It is readable `visible_after` seconds from
        now, instead of after the hold-back; if not `listed`, never; if not `announced`, no
        webhook is sent.
        """
        with self.lock:
            happened_at = self.moment(at)
            made_up_id = self.new_id("event", happened_at)
            value = event if raw else _filled_in(event, made_up_id, happened_at, absent)
            event_id = _text(value, "id") or made_up_id
            if listed:
                readable_at = None
                if visible_after is not None:
                    readable_at = self._clock.now() + _in_milliseconds(visible_after)
                self._append(event_id, value, happened_at, readable_at)
            if announced:
                self._publish(event_id, value)
            return value

    def emit_text(self, text: str, *, id: str) -> None:
        """Put any text into the stream where an event would stand, be it JSON or not.

        `id` is what a cursor may name it by. It passes every filter, and no webhook is sent. A
        lone surrogate from U+DC80 to U+DCFF is the byte it stands for, as `surrogateescape` has
        it. With one that isn't JSON in the stream, `all_events` is a ValueError.
        """
        body = text.encode("utf-8", "surrogateescape")
        with self.lock:
            self._append(id, None, self._clock.now(), body=body)

    def all_events(self) -> list[Any]:
        """Return every event in the order of emission, those not readable (any more) included."""
        with self.lock:
            bodies = [event.body for event in self._events]
        return [json.loads(body) for body in bodies]

    def expire_events(self, *, before: str | None = None) -> None:
        """Forget the events before one, or all, as if retention had passed."""
        with self.lock:
            try:
                self._events.expire(before)
            except KeyError:
                raise ValueError(f"there is no event {before}") from None

    def set_hold_back(self, seconds: float) -> None:
        """List events only so long after they happened, those listed already included."""
        with self.lock:
            self._events.set_hold_back(_in_milliseconds(seconds))

    def set_clock_offset(self, seconds: float) -> None:
        """Live so many seconds ahead of the real time, or behind it. Signatures don't."""
        with self.lock:
            self._clock.set_offset(seconds)
            self._events.list_anew()

    def set_lost_cursor(self, answer: OnLostCursor, *, status: int = 400) -> None:
        """Refuse an unknown or expired cursor with a status, or restart from the first event."""
        if answer not in ("refuse", "restart"):
            raise ValueError(f"on a lost cursor, refuse or restart: not {answer!r}")
        with self.lock:
            self._on_lost_cursor = answer
            self._lost_cursor_status = status

    def refuse_event_types(self, types: Sequence[str], *, status: int = 422) -> None:
        """Refuse reads that ask for one of these types, as if it did not exist; [] for none."""
        with self.lock:
            self._refused_types = frozenset(types)
            self._refused_types_status = status

    # Below, the caller holds the lock.

    def _append(
        self,
        event_id: str,
        event: Json,
        happened_at: int,
        readable_at: int | None = None,
        *,
        body: bytes | None = None,
    ) -> None:
        event_type = _text(event, "event")
        self._events.append(
            Event(
                sequence=len(self._events),
                cursor=event_id,
                type=event_type if event_type in KNOWN_EVENT_TYPES else None,
                organization_id=_organization_id(event),
                happened_at=happened_at,
                emitted_at=self._clock.now(),
                readable_at=readable_at,
                body=encode(event) if body is None else body,
            )
        )


def _in_milliseconds(seconds: float) -> int:
    if seconds < 0:
        raise ValueError(f"seconds must not be negative: {seconds}")
    return round(seconds * 1000)


def _filled_in(event: Json, event_id: str, happened_at: int, absent: Collection[str]) -> JsonObject:
    if not isinstance(event, dict):
        raise TypeError(f"only an object can be filled in; give raw=True for {event!r}")
    defaults = {"id": event_id, "event": "organization.updated", "created_at": to_iso(happened_at)}
    return {name: value for name, value in (defaults | event).items() if name not in absent}


def _text(value: Json, name: str) -> str | None:
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _organization_id(event: Json) -> str | None:
    subject = event.get("data") if isinstance(event, dict) else None
    if not isinstance(subject, dict):
        return None
    if (_text(event, "event") or "").startswith("organization."):
        return _text(subject, "id")
    nested = subject.get("organization_domain") or subject.get("group")
    return _text(subject, "organization_id") or _text(nested, "organization_id")
