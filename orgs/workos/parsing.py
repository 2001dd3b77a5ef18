"""Parses WorkOS's JSON into observations. Pure.

What can't be parsed is an observation too: one malformed event or object must not fail its page.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeGuard

from orgs.domain.naming import content_id, is_storable
from orgs.domain.types import Event, EventType, Observation, OrganizationFields, Position, State
from orgs.workos.errors import BrokenAnswer

#: The types of events that are read.
FOLLOWED_TYPES = tuple(EventType)

#: Far above any id of WorkOS's, far below what a B-tree page of PostgreSQL can hold.
MAX_ID_BYTES = 255


class Malformed(Exception):
    """Says which field is wrong, and how."""


def checked_list(answer: dict[str, Any]) -> tuple[list[object], str | None]:
    """Return what a page lists, and the cursor to read on from; None at the end.

    Raises ``BrokenAnswer`` for anything but a page: it must never pass for an empty one.
    """
    listed, metadata = answer.get("data"), answer.get("list_metadata")
    if not isinstance(listed, list) or not isinstance(metadata, dict) or "after" not in metadata:
        raise BrokenAnswer("WorkOS answered 200 with something that is not a page of a list")
    after = metadata["after"] or None
    if after is not None and not is_text(after):
        raise BrokenAnswer("WorkOS answered with a page that doesn't say where the next one starts")
    if after is not None and not listed:
        raise BrokenAnswer("WorkOS listed nothing, and said that there is more")
    return listed, after


def parse_events(listed: list[object], start: Position) -> tuple[Observation, ...]:
    """Return what the events of a page say, each with the position after it.

    An event without a usable id has the position of the one before it.
    """
    observations, position = [], start
    for raw in listed:
        observation = _parse_event(raw, position)
        position = observation.event.position if observation.event else position
        observations.append(observation)
    return tuple(observations)


def parse_listed(raw: object) -> Observation:
    """Return what a list says of one organization.

    Raises ``BrokenAnswer`` if it has no usable id: then nobody knows what is missing from the list.
    """
    if not isinstance(raw, dict) or not is_usable_id(raw.get("id")):
        raise BrokenAnswer("WorkOS listed an organization that has no usable id")
    return parse_organization(raw)


def parse_organization(raw: dict[str, Any]) -> Observation:
    """Return what a fetched or listed organization, whose id is known to be usable, looks like."""
    try:
        fields = _organization_fields(raw)
    except Malformed as problem:
        return Observation(workos_id=raw["id"], state=State.UNREADABLE, error=str(problem), raw=raw)
    return Observation(workos_id=raw["id"], state=State.PRESENT, fields=fields, raw=raw)


def event_time(event_id: str) -> datetime | None:
    """Return when the event was created, by the ULID in its id; None if there is none."""
    ulid = event_id.removeprefix("event_").upper()
    if len(ulid) != 26 or not set(ulid) <= _CROCKFORD.keys() or ulid[0] > "7":
        return None
    milliseconds = 0
    for char in ulid[:10]:
        milliseconds = milliseconds * 32 + _CROCKFORD[char]
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


_CROCKFORD = {char: value for value, char in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


def as_text(raw: object) -> str:
    """Return JSON as ASCII text: ``jsonb`` would refuse a NUL, ``text`` a lone surrogate."""
    try:
        return json.dumps(raw)
    except RecursionError:
        return "(nested too deeply to be shown)"


def is_text(value: object) -> TypeGuard[str]:
    """Return True if ``value`` is text, not empty, and PostgreSQL can store it."""
    return isinstance(value, str) and is_storable(value)


def is_usable_id(value: object) -> TypeGuard[str]:
    """Return True if ``value`` can be the key of a row."""
    return is_text(value) and len(value.encode()) <= MAX_ID_BYTES


def workos_id_of(event: dict[str, Any]) -> str | None:
    """Return the id of the object that an event is about, if it names a usable one."""
    content = event.get("data")
    workos_id = content.get("id") if isinstance(content, dict) else None
    return workos_id if is_usable_id(workos_id) else None


# Events -------------------------------------------------------------------------------------


def _parse_event(raw: object, before: Position) -> Observation:
    fields = raw if isinstance(raw, dict) else {}
    event_id, event_type = fields.get("id"), fields.get("event")
    key = event_id if is_usable_id(event_id) else content_id(as_text(raw).encode())
    occurred_at = _parse_time_leniently(fields.get("created_at")) or event_time(key)
    after = Position(key, occurred_at or before.last_event_at) if key == event_id else before
    observation = Observation(
        workos_id=workos_id_of(fields),
        state=State.IGNORED,
        event=Event(
            id=key,
            type=event_type if is_text(event_type) else "",
            occurred_at=occurred_at,
            position=after,
        ),
        raw=raw,
    )
    try:
        _id(fields, "id", "id")
        followed = _text(fields, "event", "event") in FOLLOWED_TYPES
        return _parse_followed(observation, fields) if followed else observation
    except Malformed as problem:
        return replace(observation, state=State.UNREADABLE, error=str(problem))


def _parse_followed(observation: Observation, event: dict[str, Any]) -> Observation:
    content = event.get("data")
    if not isinstance(content, dict):
        raise Malformed("data is not an object")
    if event["event"] == EventType.DELETED:
        _id(content, "id", "data.id")
        return replace(observation, state=State.ABSENT)
    return replace(
        observation, state=State.PRESENT, fields=_organization_fields(content, path="data.")
    )


# Fields -------------------------------------------------------------------------------------


def _organization_fields(fields: dict[str, Any], *, path: str = "") -> OrganizationFields:
    _id(fields, "id", f"{path}id")
    external_id = fields.get("external_id")
    return OrganizationFields(
        name=_text(fields, "name", f"{path}name"),
        external_id=_id(fields, "external_id", f"{path}external_id") if external_id else None,
        updated_at=_time(fields, "updated_at", f"{path}updated_at"),
    )


def _text(fields: dict[str, Any], key: str, path: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise Malformed(f"{path} is missing" if value is None else f"{path} is not text")
    if not value:
        raise Malformed(f"{path} is empty")
    if "\x00" in value:
        raise Malformed(f"{path} holds a NUL character, which PostgreSQL can't store")
    if not is_storable(value):
        raise Malformed(f"{path} holds half of a surrogate pair, which PostgreSQL can't store")
    return value


def _id(fields: dict[str, Any], key: str, path: str) -> str:
    value = _text(fields, key, path)
    if not is_usable_id(value):
        raise Malformed(f"{path} is longer than {MAX_ID_BYTES} bytes")
    return value


def _time(fields: dict[str, Any], key: str, path: str) -> datetime:
    parsed = _parse_time_leniently(fields.get(key))
    if parsed is None:
        raise Malformed(f"{path} is not a time in ISO 8601")
    return parsed


def _parse_time_leniently(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        # One of WorkOS's documented samples has no time zone; it means UTC.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
