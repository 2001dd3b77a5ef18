"""Parses WorkOS's JSON into observations. Pure.

What can't be parsed is an observation too: one malformed event or object must not fail its page.
"""

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeAlias, TypeGuard

from orgs.domain.naming import content_id, is_storable, json_text, without_unstorable
from orgs.domain.resources import (
    NOT_SENT,
    ORGANIZATIONS,
    PLAIN,
    RESOURCE_OF_EVENT,
    Listing,
    Resource,
    parse_time,
)
from orgs.domain.types import (
    Event,
    EventType,
    Observation,
    OrganizationFields,
    PlainFields,
    Position,
    State,
)
from orgs.workos.errors import BrokenAnswer
from orgs.workos.tolerant_json import MAX_DEPTH, TOO_DEEP

Json: TypeAlias = dict[str, Any]

#: Far above any id of WorkOS's, far below what a B-tree page of PostgreSQL can hold.
MAX_ID_BYTES = 255

#: The listing of an object that was fetched alone.
_ANYWHERE = Listing(path=())

#: The time is in its first ten characters, in Crockford's base 32, which has no I, L, O and U.
_ULID = re.compile("(?:EVENT_)?([0-7][0-9A-HJKMNP-TV-Z]{9})[0-9A-HJKMNP-TV-Z]{16}")
_BASE_32 = str.maketrans("JKMNPQRSTVWXYZ", "IJKLMNOPQRSTUV")


class Answer(dict[str, Any]):
    """A JSON object that WorkOS answered with; empty if it answered with anything else."""

    date: datetime | None = None
    """The ``Date`` header: WorkOS's own clock."""


class _Malformed(Exception):
    """Says which field is wrong, and how."""


def parse_page(answer: Json) -> tuple[list[object], str | None]:
    """Return what a page lists, and the cursor to read on from; None at the end.

    Raises ``BrokenAnswer`` for anything but a page: it must never pass for an empty one.
    """
    listed, metadata = answer.get("data"), answer.get("list_metadata")
    if not isinstance(listed, list) or not isinstance(metadata, dict):
        raise BrokenAnswer("WorkOS answered 200 with something that is not a page of a list")
    after = metadata.get("after", 0)
    if after not in (None, "") and not is_text(after):
        raise BrokenAnswer("WorkOS answered with a page that doesn't say whether there is more")
    return listed, after or None


def parse_events(
    listed: list[object], start: Position, after: str | None, types: Collection[str]
) -> tuple[Iterator[Observation], Position]:
    """Return what the events of a page say, parsed one by one, and the position after them."""
    places, position, last_id = [], start, None
    for raw in listed:
        fields = raw if isinstance(raw, dict) else {}
        event = _parse_event_place(raw, fields, position)
        position, last_id = event.position, event.id
        places.append((event, raw, fields))
    if after is not None and (not listed or position.last_event_id != last_id):
        # The page is empty, or its last event has no usable id: WorkOS names where it ends.
        position = Position(after, event_time(after) or position.last_event_at)
    return (_parse_event(*place, types) for place in places), position


def parse_object(
    resource: Resource, item: object, listing: Listing = _ANYWHERE, scope: str = ""
) -> Observation | None:
    """Return what was listed or fetched; None if the list shows it for another scope.

    Raises ``BrokenAnswer`` if it has no usable key: then nobody knows which one it is.
    """
    if resource is ORGANIZATIONS:
        return _parse_organization(item)
    data = listing.as_event(item, scope) if isinstance(item, dict) else {}
    if data is None:
        return None
    observation = Observation(
        workos_id=None, state=State.UNREADABLE, resource=resource.name, raw=item
    )
    try:
        return _parse_plain(resource, dict(data), observation, State.PRESENT)
    except _Malformed as problem:
        raise BrokenAnswer(f"WorkOS listed a {resource.name} without a usable key") from problem


def _parse_organization(raw: object) -> Observation:
    if not isinstance(raw, dict) or not is_usable_id(raw.get("id")):
        raise BrokenAnswer("WorkOS listed an organization that has no usable id")
    unread = Observation(workos_id=raw["id"], state=State.UNREADABLE, raw=raw)
    try:
        return unread._replace(state=State.PRESENT, fields=_organization_fields(raw))
    except _Malformed as problem:
        return unread._replace(error=str(problem))


def _parse_plain(
    resource: Resource, content: Json, observation: Observation, state: State
) -> Observation:
    data = resource.unwrap(_clean(content))
    key = resource.key(data) if isinstance(data, dict) else None
    if not is_text(key) or len(key.encode()) > 2 * MAX_ID_BYTES:
        raise _Malformed(f"it names no usable key of a {resource.name}")
    columns = {name: value(data) for name, value in resource.columns.items()}
    organization = resource.organization(data)
    fields = PlainFields(
        workos_organization_id=organization if isinstance(organization, str) else None,
        created_at=parse_time(data.get("created_at")),
        updated_at=parse_time(data.get("updated_at")),
        columns={name: value for name, value in columns.items() if value is not NOT_SENT},
        data=resource.stored(data),
        has_no_organization=organization is None and state is State.PRESENT,
    )
    return observation._replace(workos_id=key, state=state, plain=fields)


def _clean(value: Any, depth: int = 0) -> Any:
    """JSON without what PostgreSQL or Python can't hold: it must not park an event."""
    if isinstance(value, str):
        return without_unstorable(value)
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, list | dict) and depth == MAX_DEPTH:
        return TOO_DEEP
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {without_unstorable(key): _clean(item, depth + 1) for key, item in value.items()}
    return value


def event_time(event_id: str) -> datetime | None:
    """Return when the event was created, by the ULID in its id; None if there is none."""
    if (ulid := _ULID.fullmatch(event_id.upper())) is None:
        return None
    milliseconds = int(ulid[1].translate(_BASE_32), 32)
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def is_text(value: object) -> TypeGuard[str]:
    """Return True if ``value`` is text that is not empty and that PostgreSQL can store."""
    return isinstance(value, str) and is_storable(value)


def is_usable_id(value: object) -> TypeGuard[str]:
    """Return True if ``value`` can be the key of a row."""
    return is_text(value) and len(value.encode()) <= MAX_ID_BYTES


def parse_event(event: Json) -> Observation:
    """Return what one event says, of any type of a resource."""
    place = _parse_event_place(event, event, Position())
    return _parse_event(place, event, event, RESOURCE_OF_EVENT)


# Events -------------------------------------------------------------------------------------


def _parse_event_place(raw: object, fields: Json, before: Position) -> Event:
    """Without a usable id, a read goes on after the event before it."""
    id_, type_ = fields.get("id"), fields.get("event")
    key = id_ if is_usable_id(id_) else content_id(json_text(raw).encode())
    occurred_at = parse_time(fields.get("created_at")) or event_time(key)
    after = Position(key, occurred_at or before.last_event_at) if key == id_ else before
    return Event(
        id=key, type=type_ if is_text(type_) else "", occurred_at=occurred_at, position=after
    )


def _parse_event(event: Event, raw: object, fields: Json, types: Collection[str]) -> Observation:
    content = fields.get("data")
    id_ = content.get("id") if isinstance(content, dict) else None
    workos_id = id_ if is_usable_id(id_) else None
    observation = Observation(workos_id=workos_id, state=State.IGNORED, event=event, raw=raw)
    try:
        _id(fields, "id")
        if _text(fields, "event") not in types:
            return observation
        if not isinstance(content, dict):
            raise _Malformed("data is not an object")
        name = RESOURCE_OF_EVENT[event.type]
        observation = observation._replace(resource=name)
        if (resource := PLAIN.get(name)) is not None:
            if event.type.startswith("organization_role."):
                # Without it, this would be a role of the environment.
                _id(content, "organization_id", "data.")
            return _parse_plain(resource, content, observation, resource.events[event.type])
        if event.type == EventType.DELETED:
            _id(content, "id", "data.")
            return observation._replace(state=State.ABSENT)
        organization = _organization_fields(content, "data.")
        return observation._replace(state=State.PRESENT, fields=organization)
    except _Malformed as problem:
        return observation._replace(state=State.UNREADABLE, error=str(problem))
    except Exception as error:  # noqa: BLE001 - one event must not stop all that follow it
        reason = f"{type(error).__name__}: {error}"
        return observation._replace(state=State.UNREADABLE, error=reason)


# Fields -------------------------------------------------------------------------------------


def _organization_fields(fields: Json, path: str = "") -> OrganizationFields:
    _id(fields, "id", path)
    updated_at = parse_time(fields.get("updated_at"))
    name = _text(fields, "name", path)
    has_id = fields.get("external_id") not in (None, "")
    external_id = _id(fields, "external_id", path) if has_id else None
    if updated_at is None:
        raise _Malformed(f"{path}updated_at is not a time in ISO 8601")
    return OrganizationFields(name=name, external_id=external_id, updated_at=updated_at)


def _id(fields: Json, key: str, path: str = "") -> str:
    value = _text(fields, key, path)
    if not is_usable_id(value):
        raise _Malformed(f"{path}{key} is longer than {MAX_ID_BYTES} bytes")
    return value


def _text(fields: Json, key: str, path: str = "") -> str:
    value = fields.get(key)
    if is_text(value):
        return value
    if value in (None, ""):
        wrong = "is missing or empty"
    elif not isinstance(value, str):
        wrong = "is not text"
    else:
        wrong = "holds a character that PostgreSQL can't store"
    raise _Malformed(f"{path}{key} {wrong}")
