"""What WorkOS knows and how it changes: organizations, and the events each change emits."""

import json
from collections.abc import Collection, Mapping
from threading import RLock
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict

from workos.common.models import CreateWebhookEndpointEvents

from .clock import Clock, Moment, to_iso, to_milliseconds
from .events import Event, EventQuery, EventStream, LostCursor
from .messages import Json, JsonObject, Page, Refused, encode
from .organizations import Organization, OrganizationQuery, Organizations
from .ulid import UlidFactory

KNOWN_EVENT_TYPES: Final = frozenset(known.value for known in CreateWebhookEndpointEvents)
LONGEST_EXTERNAL_ID: Final = 64  # The documentation's limit; the schema's is 128.

OnLostCursor: TypeAlias = Literal["refuse", "restart"]


class OrganizationChanges(TypedDict, total=False):
    """What an update may change; what is absent stays.

    A None in `metadata` removes its key, None for all of it removes all.
    """

    name: str
    external_id: str | None
    metadata: dict[str, str | None] | None


class Publish(Protocol):
    """What announces events to the registered webhook endpoints."""

    def __call__(self, *, event_id: str, event: Json) -> None:
        """Announce an event, and keep record of it under this id."""


class WorkOSState:
    """Everything WorkOS keeps. Thread-safe: each method is one step, done under one lock.

    Every change emits its event and announces it, unless it is asked not to: a change without an
    event is what only a snapshot can find. Moments default to now, by the fake's clock.
    """

    def __init__(self, *, hold_back: float, retention: float, publish: Publish) -> None:
        self._lock = RLock()
        self._clock = Clock()
        self._ulids = UlidFactory()
        self._organizations = Organizations()
        self._events = EventStream(
            hold_back=_in_milliseconds(hold_back), retention=_in_milliseconds(retention)
        )
        self._publish = publish
        self._on_lost_cursor: OnLostCursor = "refuse"
        self._lost_cursor_status = 400

    def create_organization(
        self,
        *,
        name: str,
        external_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        organization_id: str | None = None,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
        announces: bool = True,
    ) -> Organization:
        """Create an organization; Refused for bad values or an external id that is taken."""
        _check_name(name)
        _check_external_id(external_id)
        with self._lock:
            now = self._moment(at)
            organization = self._organizations.add(
                {
                    "object": "organization",
                    "id": organization_id or f"org_{self._ulids.make(now)}",
                    "name": name,
                    "external_id": external_id,
                    "metadata": _merged({}, metadata or {}),
                    "domains": [],
                    "created_at": to_iso(now),
                    "updated_at": to_iso(now),
                }
            )
            if emits:
                self._emit_change(
                    "created", organization, now, _context(source), announces=announces
                )
            return organization

    def update_organization(
        self,
        organization_id: str,
        changes: OrganizationChanges,
        *,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
    ) -> Organization:
        """Change what is given; Refused as for a creation, and (404) if there is none.

        `updated_at` always moves on, and there is an event even if nothing else changes.
        """
        _check_changes(changes)
        with self._lock:
            old = self._organizations.get(organization_id).fields
            now = self._moment(at)
            updated_at = max(now, to_milliseconds(old["updated_at"]) + 1)
            new = {**old, **changes, "updated_at": to_iso(updated_at)}
            new["metadata"] = _merged(old["metadata"], changes.get("metadata", {}))
            organization = self._organizations.replace(new)
            if emits:
                previous = {name: old[name] for name in changes if old[name] != new[name]}
                context = _context(source) | {"previous_attributes": previous}
                self._emit_change("updated", organization, now, context)
            return organization

    def delete_organization(
        self,
        organization_id: str,
        *,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
    ) -> None:
        """Delete an organization; Refused (404) if there is none.

        The event carries the whole organization as it last was, `updated_at` included.
        """
        with self._lock:
            organization = self._organizations.remove(organization_id)
            if emits:
                self._emit_change("deleted", organization, self._moment(at), _context(source))

    def organization(self, organization_id: str) -> Organization:
        """Return one organization; Refused (404) if there is none."""
        with self._lock:
            return self._organizations.get(organization_id)

    def find_organization(self, organization_id: str) -> Organization | None:
        """Return one organization, or None."""
        with self._lock:
            return self._organizations.find(organization_id)

    def organization_by_external_id(self, external_id: str) -> Organization:
        """Return one organization by its external id; Refused (404) if there is none."""
        with self._lock:
            return self._organizations.get_by_external_id(external_id)

    def list_organizations(self, query: OrganizationQuery) -> Page:
        """Return one page of organizations."""
        with self._lock:
            return self._organizations.page(query)

    def count_organizations(self) -> int:
        """Return how many organizations there are."""
        with self._lock:
            return len(self._organizations)

    def all_organizations(self) -> list[JsonObject]:
        """Return every organization, oldest first."""
        with self._lock:
            bodies = [organization.body for organization in self._organizations]
        return [json.loads(body) for body in bodies]

    def emit(
        self,
        event: Json,
        *,
        raw: bool = False,
        absent: Collection[str] = (),
        at: Moment | None = None,
        visible_after: float | None = None,
        listed: bool = True,
        announced: bool = True,
    ) -> Json:
        """Put any JSON value into the stream as an event, and return it as it is listed.

        What an object leaves out of `id`, `event` and `created_at` is filled in, unless `raw` or
        named in `absent`. It is readable `visible_after` seconds from now, whatever the hold-back.
        """
        with self._lock:
            happened_at = self._moment(at)
            made_up_id = f"event_{self._ulids.make(happened_at)}"
            value = event if raw else _filled_in(event, made_up_id, happened_at, absent)
            event_id = _text(value, "id") or made_up_id
            if listed:
                readable_at = self._from_now(visible_after)
                self._append(event_id, value, happened_at, readable_at)
            if announced:
                self._publish(event_id=event_id, event=value)
            return value

    def emit_text(self, text: str, *, event_id: str) -> None:
        """Put any text into the stream where an event would stand; see the control."""
        body = text.encode("utf-8", "surrogateescape")
        with self._lock:
            self._append(event_id, None, self._clock.now(), body=body)

    def now(self) -> int:
        """Return the current millisecond by the fake's clock."""
        with self._lock:
            return self._clock.now()

    def list_events(self, query: EventQuery) -> Page:
        """Return one page of events.

        Refused (400) for an organization that isn't there (any more), and as configured for a
        cursor that is unknown or expired.
        """
        with self._lock:
            self._check_organization_of(query)
            try:
                return self._events.page(query, self._clock.now())
            except LostCursor:
                return self._after_lost_cursor(query)

    def all_events(self) -> list[Any]:
        """Return every event ever emitted, in the order of emission."""
        with self._lock:
            bodies = [event.body for event in self._events]
        return [json.loads(body) for body in bodies]

    def expire_events(self, before: str | None) -> None:
        """Forget the events before one, or all, as if retention had passed."""
        with self._lock:
            try:
                self._events.expire(before)
            except KeyError:
                message = f"there is no event {before}"
                raise ValueError(message) from None

    def set_hold_back(self, seconds: float) -> None:
        """Hold events back for so long after they happened."""
        with self._lock:
            self._events.set_hold_back(_in_milliseconds(seconds))

    def set_clock_offset(self, seconds: float) -> None:
        """Live so many seconds ahead of the real time, or behind it."""
        with self._lock:
            self._clock.set_offset(seconds)
            self._events.list_anew()

    def set_lost_cursor(self, answer: OnLostCursor, status: int) -> None:
        """Refuse an unknown or expired cursor with a status, or restart from the first event."""
        if answer not in ("refuse", "restart"):
            message = f"on a lost cursor, refuse or restart: not {answer!r}"
            raise ValueError(message)
        with self._lock:
            self._on_lost_cursor = answer
            self._lost_cursor_status = status

    # Below, the caller holds the lock.

    def _moment(self, at: Moment | None) -> int:
        return self._clock.now() if at is None else to_milliseconds(at)

    def _from_now(self, seconds: float | None) -> int | None:
        return None if seconds is None else self._clock.now() + _in_milliseconds(seconds)

    def _emit_change(
        self,
        verb: str,
        organization: Organization,
        happened_at: int,
        context: JsonObject,
        *,
        announces: bool = True,
    ) -> None:
        event_id = f"event_{self._ulids.make(happened_at)}"
        event: JsonObject = {
            "object": "event",
            "id": event_id,
            "event": f"organization.{verb}",
            "created_at": to_iso(happened_at),
            "context": context,
            "data": organization.fields,
        }
        self._append(event_id, event, happened_at)
        if announces:
            self._publish(event_id=event_id, event=event)

    def _append(
        self,
        event_id: str,
        event: Json,
        happened_at: int,
        readable_at: int | None = None,
        *,
        body: bytes | None = None,
    ) -> None:
        self._events.append(
            Event(
                sequence=len(self._events),
                cursor=event_id,
                type=_known_type(event),
                organization_id=_organization_id(event),
                happened_at=happened_at,
                emitted_at=self._clock.now(),
                readable_at=readable_at,
                body=encode(event) if body is None else body,
            )
        )

    def _check_organization_of(self, query: EventQuery) -> None:
        wanted = query.organization_id
        if wanted is not None and self._organizations.find(wanted) is None:
            raise Refused(400, "organization_not_found", "Organization not found")

    def _after_lost_cursor(self, query: EventQuery) -> Page:
        if self._on_lost_cursor == "refuse":
            message = f"Unknown cursor: '{query.after}'."
            raise Refused(self._lost_cursor_status, "invalid_cursor", message)
        return self._events.page(query.from_the_first(), self._clock.now())


def _in_milliseconds(seconds: float) -> int:
    if seconds < 0:
        message = f"seconds must not be negative: {seconds}"
        raise ValueError(message)
    return round(seconds * 1000)


def _context(source: str) -> JsonObject:
    return {"actor": {"id": "user_fake", "source": source, "name": "Fake WorkOS"}}


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise Refused.invalid("name", "name must be a non-empty string")


def _check_external_id(external_id: object) -> None:
    if external_id is None:
        return
    if not isinstance(external_id, str) or not external_id or not external_id.isascii():
        raise Refused.invalid("external_id", "external_id must be a non-empty ASCII string")
    if len(external_id) > LONGEST_EXTERNAL_ID:
        message = f"external_id must be shorter than or equal to {LONGEST_EXTERNAL_ID} characters"
        raise Refused.invalid("external_id", message)


def _check_changes(changes: OrganizationChanges) -> None:
    for name in changes:
        if name not in OrganizationChanges.__annotations__:
            raise Refused.invalid(name, f"property {name} should not exist")
    if "name" in changes:
        _check_name(changes["name"])
    _check_external_id(changes.get("external_id"))


def _merged(old: Mapping[str, str], changes: Mapping[str, str | None] | None) -> JsonObject:
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        raise Refused.invalid("metadata", "metadata must be an object")
    return {name: value for name, value in {**old, **changes}.items() if value is not None}


def _filled_in(event: Json, event_id: str, happened_at: int, absent: Collection[str]) -> JsonObject:
    if not isinstance(event, dict):
        message = f"only an object can be filled in; give raw=True for {event!r}"
        raise TypeError(message)
    defaults = {"id": event_id, "event": "organization.updated", "created_at": to_iso(happened_at)}
    return {name: value for name, value in (defaults | event).items() if name not in absent}


def _text(value: Json, name: str) -> str | None:
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _known_type(event: Json) -> str | None:
    event_type = _text(event, "event")
    return event_type if event_type in KNOWN_EVENT_TYPES else None


def _organization_id(event: Json) -> str | None:
    subject = event.get("data") if isinstance(event, dict) else None
    is_organization = (_text(event, "event") or "").startswith("organization.")
    return _text(subject, "id" if is_organization else "organization_id")
