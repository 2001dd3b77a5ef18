"""What WorkOS would have to be mad to send, by name, and what is to become of it.

It is kept as JSON text: duplicate keys, numbers without end and bytes that are no text would not
survive being values of Python's. A lone surrogate from U+DC80 to U+DCFF in it is the byte it stands
for, as ``surrogateescape`` has it; one that is part of the JSON is escaped.
"""

from collections.abc import Iterator
from json import dumps
from typing import NamedTuple

from orgs.domain.types import Outcome

LONG = 1_000_000
DEEP = "[" * 20_000 + "]" * 20_000
#: Read as text, in which nothing of it is lost.
ENDLESS_NUMBER = "9" * 5_000

_EVENT_ID, _WORKOS_ID = "event_bad", "org_bad"
_CREATED, _PARKED, _UNKNOWN = Outcome.CREATED, Outcome.PARKED, Outcome.UNKNOWN


class BadEvent(NamedTuple):
    """An event, what becomes of it, and the field for which it is parked."""

    name: str
    text: str
    becomes: Outcome
    problem: str = ""
    id: str | None = _EVENT_ID
    """None: it has none that can be used."""


# Values -------------------------------------------------------------------------------------

#: JSON that is neither an id, nor a name, nor a time; None: nothing is there.
_NEITHER: dict[str, str | None] = {
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
    "nested": "[" * 900 + "]" * 900,
    "nested without end": DEEP,
    "absent": None,
}

#: What stands for no ``external_id``, as ``null`` does.
_NOTHING = ("null", "empty", "absent")

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
    "10 MB": "x" * 10_000_000,
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


_TOO_LONG = {
    "a number without end": ENDLESS_NUMBER,
    "of 256 letters": dumps("o" * 256),
    "of 256 bytes": dumps("é" * 128),
    "of a million letters": dumps("o" * LONG),
}

# JSON ---------------------------------------------------------------------------------------


def _json(fields: dict[str, str | None], then: str) -> str:
    known = [f'"{key}": {text}' for key, text in fields.items() if text is not None]
    return f"{{{', '.join([*known, then] if then else known)}}}"


def _organization(then: str = "", /, **texts: str | None) -> str:
    """An organization with this JSON in some fields, None for absent ones, and text at its end."""
    usual = {"object": dumps("organization"), "id": dumps(_WORKOS_ID), "name": dumps("Odd")}
    when = {"external_id": "null", "updated_at": dumps("2026-01-15T12:00:00.000Z")}
    return _json({**usual, **when, **texts}, then)


def _event(then: str = "", /, **texts: str | None) -> str:
    usual = {"object": dumps("event"), "id": dumps(_EVENT_ID), "event": '"organization.updated"'}
    when = {"created_at": dumps("2026-01-15T12:00:00.000Z"), "data": _organization()}
    return _json({**usual, **when, **texts}, then)


# Cases --------------------------------------------------------------------------------------


def _organizations() -> Iterator[tuple[str, str, str]]:
    """Yield a name, an organization, and the field for which it can't be applied, if any."""
    for field in ("id", "name", "external_id", "updated_at"):
        for kind, text in _NEITHER.items():
            is_none = field == "external_id" and kind in _NOTHING
            yield f"{field} {kind}", _organization(**{field: text}), "" if is_none else field
    for kind, moment in (_NO_TIMES | _TIMES).items():
        problem = "updated_at" if kind in _NO_TIMES else ""
        yield f"updated_at {kind}", _organization(updated_at=dumps(moment)), problem
    for kind, name in _NAMES.items():
        yield f"name {kind}", _organization(name=dumps(name)), ""
    for kind, odd in _IDS.items():
        yield f"id {kind}", _organization(id=dumps(odd)), ""
        gram_id = odd.replace("org_", "gram_")
        yield f"external_id {kind}", _organization(external_id=dumps(gram_id)), ""
    for field in ("id", "external_id"):
        for kind, text in _TOO_LONG.items():
            yield f"{field} {kind}", _organization(**{field: text}), field
    many = ", ".join(f'"key {number}": null' for number in range(10_000))
    yield "10,000 keys", _organization(many), ""
    yield "a key twice", _organization('"name": "The last one"'), ""
    yield "a key twice, the last one bad", _organization('"name": null'), "name"
    yield "a key that is odd", _organization(r'"\u0000\ud800": 1'), ""
    yield "metadata nested", _organization(metadata=DEEP), ""
    yield "metadata a number", _organization(metadata=ENDLESS_NUMBER), ""
    yield "domains NaN", _organization(domains="[NaN, -Infinity]"), ""


def _events() -> Iterator[BadEvent]:
    for name, organization, problem in _organizations():
        becomes, why = (_PARKED, f"data.{problem}") if problem else (_CREATED, "")
        yield BadEvent(f"data.{name}", _event(data=organization), becomes, why)
    for kind, text in _NEITHER.items():
        yield BadEvent(f"id {kind}", _event(id=text), _PARKED, "id", None)
        yield BadEvent(f"event {kind}", _event(event=text), _PARKED, "event")
        if kind != "an object":
            yield BadEvent(f"data {kind}", _event(data=text), _PARKED, "data")
        if text not in (None, "-0", '"\0"'):  # the same as others
            yield BadEvent(f"{kind} instead of an event", text, _PARKED, "id", None)
        yield BadEvent(f"created_at {kind}", _event(created_at=text), _CREATED)
    for kind, moment in (_NO_TIMES | _TIMES).items():
        yield BadEvent(f"created_at {kind}", _event(created_at=dumps(moment)), _CREATED)
    for kind, odd in _IDS.items():
        id_ = odd.replace("org_", "event_")
        yield BadEvent(f"id {kind}", _event(id=dumps(id_)), _CREATED, id=id_)
    for kind, type_ in {"endless": "x" * LONG, "unknown": "organization.renamed\n"}.items():
        yield BadEvent(f"type {kind}", _event(event=dumps(type_)), Outcome.IGNORED)
    deleted = '"organization.deleted"'
    bare = dumps({"id": _WORKOS_ID, "name": None, "updated_at": "?", "external_id": "\0"})
    yield BadEvent("a deletion of nobody", _event(event=deleted), _UNKNOWN)
    nothing_but_ids = _event(event=deleted, created_at="5", data=bare)
    yield BadEvent("a deletion with nothing right but its ids", nothing_but_ids, _UNKNOWN)
    yield BadEvent("a deletion of no id", _event(event=deleted, data="{}"), _PARKED, "data.id")
    yield BadEvent("context nested", _event(context=DEEP), _CREATED)
    brackets = _event(context=dumps('\\"[{' * 10_000))
    yield BadEvent("context a text that never seems to end", brackets, _CREATED)
    yield BadEvent("an id twice", _event(f'"id": "{_EVENT_ID}"'), _CREATED)


def _numbered(event: BadEvent, number: int) -> BadEvent:
    id_ = event.id and event.id.replace("_bad", f"_{number:04d}")
    return event._replace(text=event.text.replace("_bad", f"_{number:04d}"), id=id_)


EVENTS = tuple(_numbered(event, number) for number, event in enumerate(_events()))
