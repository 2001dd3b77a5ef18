"""What WorkOS would have to be mad to send, by name, and what is to become of it.

It is kept as JSON text: duplicate keys, numbers without end and bytes that are no text would not
survive being values of Python's. A lone surrogate from U+DC80 to U+DCFF in it is the byte it stands
for, as ``surrogateescape`` has it; one that is part of the JSON is escaped.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from orgs.domain.types import Outcome

LONG = 1_000_000
TEN_MEGABYTES = 10_000_000
DEEP = "[" * 20_000 + "]" * 20_000

_EVENT_ID = "event_bad"
_WORKOS_ID = "org_bad"

_ORGANIZATION = {
    "object": "organization",
    "id": _WORKOS_ID,
    "name": "Odd",
    "external_id": None,
    "updated_at": "2026-01-15T12:00:00.000Z",
}
_EVENT = {
    "object": "event",
    "id": _EVENT_ID,
    "event": "organization.updated",
    "created_at": "2026-01-15T12:00:00.000Z",
    "data": _ORGANIZATION,
}


@dataclass(frozen=True, slots=True)
class BadOrganization:
    """An organization, and the field for which it can't be applied; empty if it can."""

    name: str
    text: str
    problem: str = ""
    id: str | None = _WORKOS_ID
    """None: it has none that can be used."""


@dataclass(frozen=True, slots=True)
class BadEvent:
    """An event, what becomes of it, and the field for which it is parked."""

    name: str
    text: str
    becomes: Outcome
    problem: str = ""
    id: str | None = _EVENT_ID
    """None: it has none that can be used."""


_Case = TypeVar("_Case", BadOrganization, BadEvent)


def an_event_text(organization: str) -> str:
    """The JSON of an event whose ``data`` is this JSON."""
    return _with_text(_EVENT, "data", organization)


# Values -------------------------------------------------------------------------------------

#: JSON that is neither an id, nor a name, nor a time.
_NEITHER = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "a number": "1.5",
    "a list": '["x"]',
    "an object": '{"x": 1}',
    "empty": '""',
    "NUL": r'"\u0000"',
    "with NUL": r'"a\u0000b"',
    "a lone surrogate": r'"\ud800"',
    "surrogates in the wrong order": r'"\udc00\ud800"',
    "bytes that are no text": '"\udcff"',
    "NUL that is not escaped": '"\0"',
    "not a number": "NaN",
    "beyond every float": "1e999",
    "minus zero": "-0",
    "nested without end": DEEP,
}

#: Read as text, in which nothing of it is lost.
_ENDLESS_NUMBER = "9" * 5_000

#: JSON that stands for no ``external_id``, as ``null`` does.
_NOTHING = ("null", "zero", "empty", "minus zero")

_NO_TIMES = {
    "year 0": "0000-01-01T00:00:00Z",
    "before year 1": "0001-01-01T00:00:00+00:01",
    "after year 9999": "9999-12-31T23:59:59-00:01",
    "year 10000": "10000-01-01T00:00:00Z",
    "minus year 1": "-0001-01-01T00:00:00Z",
    "no such day": "2026-02-30T00:00:00Z",
    "a leap second": "2026-06-30T23:59:60Z",
    "seconds since 1970": "1768478400",
    "a word": "yesterday",
    "digits of another script": "٢٠٢٦-01-15T12:00:00Z",
    "with a zone that is none": "2026-01-15T12:00:00+99:99",
}

_TIMES = {
    "the first moment": "0001-01-01T00:00:00Z",
    "the last moment": "9999-12-31T23:59:59.999999Z",
    "a day alone": "2026-01-15",
    "endless": "2026-01-15T12:00:00." + "0" * LONG,
    "nanoseconds": "2026-01-15T12:00:00.123456789Z",
    "an offset of a day": "2026-01-15T12:00:00+23:59",
}

_NAMES = {
    "10 MB": "x" * TEN_MEGABYTES,
    "a megabyte in words": "a " * (LONG // 2),
    "of marks": "a" + "\u0301" * (LONG // 10),
    "a space": " ",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x85",
    "written backwards": "\u202emoc.live\u202c",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "not characters": "\ufffe\uffff\U0010ffff",
    "a byte order mark": "\ufeff",
    "HTML": "<script>alert(1)</script><!--",
    "SQL": "'; DROP TABLE organization_metadata; --",
    "a format": "%s %(name)s {0} {name} $1",
    "a pair of surrogates": "\U0001f600",
    "zero width": "\u200b\u200d\u2060",
}

_IDS = {
    "a slash": "org_bad/../x",
    "an address": "org_bad?limit=1#x",
    "in per cent": "org_bad%2F%00",
    "two dots": "..",
    "a space": " org_bad ",
    "lines": "org_bad\r\nX-Header: 1",
    "emoji": "org_bad👍",
    "control characters": "org_bad\x01\x7f\x85",
    "a route's name": "external_id",
    "as long as can be": "org_bad" + "é" * 122,
}


def _organizations() -> Iterator[BadOrganization]:
    for field in ("id", "name", "external_id", "updated_at"):
        id_ = None if field == "id" else _WORKOS_ID
        for kind, value in _NEITHER.items():
            is_none = field == "external_id" and kind in _NOTHING
            problem = "" if is_none else field
            text = _with_text(_ORGANIZATION, field, value)
            yield BadOrganization(f"{field} {kind}", text, problem, id_)
        if field in ("id", "external_id"):
            text = _with_text(_ORGANIZATION, field, _ENDLESS_NUMBER)
            yield BadOrganization(f"{field} a number without end", text, field, id_)
        absent = "" if field == "external_id" else field
        yield BadOrganization(f"{field} absent", _without(_ORGANIZATION, field), absent, id_)
    for kind, moment in _NO_TIMES.items():
        yield _an_organization(f"updated_at {kind}", "updated_at", updated_at=moment)
    for kind, moment in _TIMES.items():
        yield _an_organization(f"updated_at {kind}", updated_at=moment)
    for kind, name in _NAMES.items():
        yield _an_organization(f"name {kind}", name=name)
    for kind, odd in _IDS.items():
        yield _an_organization(f"id {kind}", id=odd)
        yield _an_organization(f"external_id {kind}", external_id=odd.replace("org_", "gram_"))
    for field in ("id", "external_id"):
        for value in ("o" * 256, "é" * 128, "o" * LONG):
            kind = f"{field} {len(value):,} times {value[0]}"
            yield _an_organization(kind, field, **{field: value})
    yield BadOrganization("a key twice", _then(_ORGANIZATION, '"name": "The last one"'))
    yield BadOrganization(
        "a key twice, the last one bad", _then(_ORGANIZATION, '"name": null'), "name"
    )
    yield BadOrganization("metadata nested", _then(_ORGANIZATION, f'"metadata": {DEEP}'))
    yield BadOrganization(
        "metadata a number", _then(_ORGANIZATION, f'"metadata": {_ENDLESS_NUMBER}')
    )
    yield BadOrganization("domains NaN", _then(_ORGANIZATION, '"domains": [NaN, -Infinity]'))
    yield BadOrganization("a key that is odd", _then(_ORGANIZATION, r'"\u0000\ud800": 1'))
    many = ", ".join(f'"key {number}": null' for number in range(10_000))
    yield BadOrganization("10,000 keys", _then(_ORGANIZATION, many))


def _events() -> Iterator[BadEvent]:
    for organization in _organizations():
        becomes = Outcome.PARKED if organization.problem else Outcome.CREATED
        problem = organization.problem and f"data.{organization.problem}"
        yield BadEvent(
            f"data.{organization.name}", an_event_text(organization.text), becomes, problem
        )
    for field in ("id", "event", "data"):
        id_ = None if field == "id" else _EVENT_ID
        for kind, value in _NEITHER.items():
            if (field, kind) != ("data", "an object"):
                text = _with_text(_EVENT, field, value)
                yield BadEvent(f"{field} {kind}", text, Outcome.PARKED, field, id_)
        absent = _without(_EVENT, field)
        yield BadEvent(f"{field} absent", absent, Outcome.PARKED, field, id_)
    for kind, value in _NEITHER.items():
        if kind not in ("minus zero", "NUL that is not escaped"):  # the same as others
            yield BadEvent(f"{kind} instead of an event", value, Outcome.PARKED, "id", None)
        created_at = _with_text(_EVENT, "created_at", value)
        yield BadEvent(f"created_at {kind}", created_at, Outcome.CREATED)
    for kind, moment in (_NO_TIMES | _TIMES).items():
        yield _an_event(f"created_at {kind}", Outcome.CREATED, created_at=moment)
    for kind, odd in _IDS.items():
        yield _an_event(f"id {kind}", Outcome.CREATED, id=odd.replace("org_", "event_"))
    yield _an_event("type endless", Outcome.IGNORED, event="x" * LONG)
    yield _an_event("type unknown", Outcome.IGNORED, event="organization.renamed\n")
    yield _an_event("a deletion of nobody", Outcome.UNKNOWN, event="organization.deleted")
    yield _an_event(
        "a deletion with nothing right but its ids",
        Outcome.UNKNOWN,
        event="organization.deleted",
        created_at=5,
        data={"id": _WORKOS_ID, "name": None, "updated_at": "?", "external_id": "\0"},
    )
    yield _an_event(
        "a deletion without its organization's id",
        Outcome.PARKED,
        "data.id",
        event="organization.deleted",
        data={},
    )
    yield BadEvent("context nested", _then(_EVENT, f'"context": {DEEP}'), Outcome.CREATED)
    yield BadEvent(
        "context a text that never seems to end",
        _then(_EVENT, json.dumps({"context": '\\"[{' * 10_000})[1:-1]),
        Outcome.CREATED,
    )
    yield BadEvent("an id twice", _then(_EVENT, f'"id": "{_EVENT_ID}"'), Outcome.CREATED)


def _an_organization(kind: str, problem: str = "", **changes: Any) -> BadOrganization:
    organization = {**_ORGANIZATION, **changes}
    id_ = None if problem == "id" else str(organization["id"])
    return BadOrganization(kind, json.dumps(organization), problem, id_)


def _an_event(kind: str, becomes: Outcome, problem: str = "", **changes: Any) -> BadEvent:
    event = {**_EVENT, **changes}
    return BadEvent(kind, json.dumps(event), becomes, problem, event["id"])


def _numbered(cases: Iterable[_Case]) -> Iterator[_Case]:
    """The same with an id of its own each, so that no two are about the same one."""
    for number, case in enumerate(cases):
        id_ = case.id and case.id.replace("_bad", f"_{number:04d}")
        yield replace(case, text=case.text.replace("_bad", f"_{number:04d}"), id=id_)


def _with_text(fields: dict[str, Any], key: str, text: str) -> str:
    return json.dumps({**fields, key: "PLACE"}).replace('"PLACE"', text)


def _without(fields: dict[str, Any], key: str) -> str:
    return json.dumps({name: value for name, value in fields.items() if name != key})


def _then(fields: dict[str, Any], more: str) -> str:
    return f"{json.dumps(fields)[:-1]}, {more}}}"


ORGANIZATIONS = tuple(_numbered(_organizations()))
EVENTS = tuple(_numbered(_events()))
