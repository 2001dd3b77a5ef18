"""Parsing what WorkOS lists: tolerant of single events and objects, strict about pages."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf, nan
from typing import Any

import pytest

from orgs.domain.naming import content_id
from orgs.domain.resources import ORGANIZATIONS, PLAIN
from orgs.domain.types import Event, Observation, OrganizationFields, Position, State
from orgs.workos.errors import BrokenAnswer
from orgs.workos.parsing import _clean, event_time, parse_events, parse_object, parse_page
from orgs.workos.tolerant_json import MAX_DEPTH, TOO_DEEP
from tests.builders import NOON, TYPES

ORGANIZATION = {"id": "org_1", "name": "Acme", "updated_at": "2026-01-15T12:00:00.000Z"}
EVENT = {"id": "event_1", "event": "organization.updated", "data": ORGANIZATION}
ACME = OrganizationFields(name="Acme", external_id=None, updated_at=NOON)


def parsed(raw: object) -> Observation:
    """What one event says."""
    (observation,), _ = parse_events([raw], Position(), None, TYPES)
    assert observation.raw == raw
    return observation


def fetched(raw: object) -> Observation:
    """What an organization says that was listed or fetched."""
    observation = parse_object(ORGANIZATIONS, raw)
    assert observation is not None
    return observation


def place(observation: Observation) -> Event:
    assert observation.event is not None
    return observation.event


# Pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"data": None, "list_metadata": {"after": None}}, id="data null"),
        pytest.param({"data": {}, "list_metadata": {"after": None}}, id="data an object"),
        pytest.param({"data": []}, id="no list_metadata"),
        pytest.param({"data": [], "list_metadata": []}, id="list_metadata a list"),
        pytest.param({"data": [], "list_metadata": {}}, id="no word on whether there is more"),
        pytest.param({"data": [1], "list_metadata": {"after": 5}}, id="a cursor that is no text"),
        pytest.param({"data": [1], "list_metadata": {"after": "\0"}}, id="a cursor of NUL"),
    ],
)
def test_what_is_not_a_page_is_never_an_empty_one(answer: dict[str, Any]) -> None:
    with pytest.raises(BrokenAnswer):
        parse_page(answer)


@pytest.mark.parametrize(("after", "cursor"), [("event_1", "event_1"), (None, None), ("", None)])
def test_the_cursor_of_a_page_is_the_sign_of_more(after: str | None, cursor: str | None) -> None:
    assert parse_page({"data": [1], "list_metadata": {"after": after}}) == ([1], cursor)


# Events -------------------------------------------------------------------------------------


def test_an_event_shows_the_organization_that_it_is_about() -> None:
    data = {**ORGANIZATION, "external_id": "gram-1"}
    raw = {**EVENT, "data": data, "created_at": "2026-01-15T11:00:00Z"}
    at = NOON - timedelta(hours=1)

    fields = ACME._replace(external_id="gram-1")
    event = Event("event_1", "organization.updated", at, Position("event_1", at))
    assert parsed(raw) == Observation(
        workos_id="org_1", state=State.PRESENT, fields=fields, event=event, raw=raw
    )


@pytest.mark.parametrize("deletion", [{}, {"name": None, "updated_at": "?", "external_id": 5}])
def test_a_deletion_needs_only_its_ids(deletion: dict[str, Any]) -> None:
    raw = {"id": "event_1", "event": "organization.deleted", "created_at": 12}
    observation = parsed({**raw, "data": {"id": "org_1", **deletion}})

    assert (observation.state, observation.workos_id) == (State.ABSENT, "org_1")
    assert place(observation).occurred_at is None


def test_an_event_of_another_type_is_ignored() -> None:
    observation = parsed({**EVENT, "event": "organization.renamed", "data": 5})

    assert (observation.state, observation.workos_id) == (State.IGNORED, None)
    assert place(observation).type == "organization.renamed"


UNSTORABLE = "holds a character that PostgreSQL can't store"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"data": None}, "data is not an object", id="no data"),
        pytest.param({"data": []}, "data is not an object", id="data a list"),
        pytest.param({"event": None}, "event is missing or empty", id="no type"),
        pytest.param({"event": {}}, "event is not text", id="type an object"),
        pytest.param({"event": "\0"}, f"event {UNSTORABLE}", id="type NUL"),
    ],
)
def test_an_event_that_cant_be_parsed_says_why(change: dict[str, Any], error: str) -> None:
    observation = parsed({**EVENT, **change})

    assert (observation.state, observation.error) == (State.UNREADABLE, error)
    assert place(observation).id == "event_1"


MALFORMED = [
    pytest.param({"id": None}, "id is missing or empty", id="no id"),
    pytest.param({"id": "a\0b"}, f"id {UNSTORABLE}", id="NUL in id"),
    pytest.param({"id": "o" * 256}, "id is longer than 255 bytes", id="endless id"),
    pytest.param({"name": None}, "name is missing or empty", id="no name"),
    pytest.param({"name": ""}, "name is missing or empty", id="empty name"),
    pytest.param({"name": 5}, "name is not text", id="name a number"),
    pytest.param({"name": "\ud800"}, f"name {UNSTORABLE}", id="surrogate"),
    pytest.param({"external_id": 7}, "external_id is not text", id="external_id a number"),
    pytest.param({"external_id": "\0"}, f"external_id {UNSTORABLE}", id="external_id NUL"),
    pytest.param({"updated_at": None}, "updated_at is not a time in ISO 8601", id="no time"),
    pytest.param({"updated_at": "0000-01-01T00:00:00Z"}, "updated_at is not a time", id="year 0"),
    pytest.param({"updated_at": "9999-12-31T23:59:59-01:00"}, "updated_at is not a time", id="end"),
]


@pytest.mark.parametrize(("change", "error"), MALFORMED)
def test_a_malformed_organization_says_which_field_is_wrong(change: Any, error: str) -> None:
    organization = {**ORGANIZATION, **change}

    in_an_event = parsed({**EVENT, "data": organization})

    assert in_an_event.state is State.UNREADABLE
    assert in_an_event.error.startswith(f"data.{error}")
    if "id" not in change:
        listed = fetched(organization)
        assert (listed.state, listed.workos_id) == (State.UNREADABLE, "org_1")
        assert listed.error.startswith(error)
        assert listed.raw == organization


@pytest.mark.parametrize(
    "raw",
    [
        *(pytest.param(raw, id=str(raw)) for raw in (None, "event_1", [EVENT["id"]])),
        *(pytest.param({**EVENT, "id": id_}, id=f"id {id_!r}") for id_ in (None, "", 5, "a\0")),
        pytest.param({**EVENT, "id": "\udc00"}, id="id a lone surrogate"),
        pytest.param({**EVENT, "id": "e" * 256}, id="id endless"),
    ],
)
def test_an_event_without_a_usable_id_is_named_by_its_content(raw: Any) -> None:
    observation = parsed(raw)

    assert observation.state is State.UNREADABLE
    assert place(observation).id == content_id(json.dumps(raw).encode())


def test_a_read_goes_on_after_the_last_event_that_has_an_id() -> None:
    dated, undated, bare = {"created_at": "2026-01-15T12:00:00Z"}, {"id": "event_2"}, {"id": None}
    events: list[object] = [{**EVENT, **change} for change in (dated, undated, bare)]

    observations, position = parse_events(events, Position(), None, TYPES)

    last = Position("event_2", NOON)
    positions = [place(observation).position for observation in observations]
    assert positions == [Position("event_1", NOON), last, last]
    assert position == last
    # If the last event has no id, the page's cursor is as good.
    nothing: list[object] = [None]
    for listed, reached in ((events[:2], "event_2"), (events, "event_9"), (nothing, "event_9")):
        assert parse_events(listed, Position(), "event_9", TYPES)[1].last_event_id == reached


# Organizations ------------------------------------------------------------------------------


@pytest.mark.parametrize("external_id", [None, ""])
def test_an_empty_external_id_is_none(external_id: str | None) -> None:
    observation = fetched({**ORGANIZATION, "external_id": external_id})

    assert (observation.state, observation.organization) == (State.PRESENT, ACME)


@pytest.mark.parametrize("raw", [None, [], {}, {"id": 5}, {"id": ""}, {"id": "o" * 256}])
def test_something_listed_without_a_usable_id_breaks_the_list(raw: object) -> None:
    with pytest.raises(BrokenAnswer, match="no usable id"):
        fetched(raw)


# Times --------------------------------------------------------------------------------------


@pytest.fixture
def _a_machine_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_a_machine_elsewhere")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-01-15T12:00:00.000Z", NOON, id="Z"),
        pytest.param("2026-01-15T12:00:00", NOON, id="no zone"),
        pytest.param("2026-01-15T14:00:00+02:00", NOON, id="+2"),
        pytest.param("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC), id="last"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    organization = fetched({**ORGANIZATION, "updated_at": text}).organization

    assert organization.updated_at == moment
    assert organization.updated_at.utcoffset() == timedelta(0)


EXAMPLE = datetime(2016, 7, 30, 23, 54, 10, 259_000, tzinfo=UTC)  # of ULID's specification


@pytest.mark.parametrize(
    ("event_id", "moment"),
    [
        pytest.param("event_01ARZ3NDEKTSV4RRFFQ69G5FAV", EXAMPLE, id="a ULID"),
        pytest.param("event_01arz3ndektsv4rrffq69g5fav", EXAMPLE, id="in lower case"),
        pytest.param("event_01KF2M3V9Q8W7E6R5T4Y3U2I1O", None, id="letters that no ULID has"),
        pytest.param("event_1", None, id="short"),
        pytest.param("event_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", None, id="beyond the year 9999"),
        pytest.param("event_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None, id="beyond 48 bits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_the_time_of_an_event_is_read_from_its_id(event_id: str, moment: datetime | None) -> None:
    assert event_time(event_id) == moment
    assert place(parsed({"id": event_id})).occurred_at == moment


@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, MAX_DEPTH, 5 * MAX_DEPTH])
@pytest.mark.parametrize("is_list", [True, False])
def test_what_is_nested_too_deeply_is_cut(is_list: bool, levels: int) -> None:
    def nested(innermost: object, depth: int) -> Any:
        for _ in range(depth):
            innermost = [innermost] if is_list else {"x": innermost}
        return innermost

    innermost = 1.5 if levels <= MAX_DEPTH else TOO_DEEP
    assert _clean(nested(1.5, levels)) == nested(innermost, min(levels, MAX_DEPTH))


def test_numbers_that_are_none_are_texts() -> None:
    assert _clean([inf, -inf, nan, 1e308, "a\x00"]) == ["inf", "-inf", "nan", 1e308, "a\ufffd"]


def test_what_a_declaration_fails_on_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(data: Any) -> Any:
        raise KeyError(data["id"])

    monkeypatch.setitem(PLAIN, "user", replace(PLAIN["user"], columns={"email": failing}))
    raw: list[object] = [{"id": "event_1", "event": "user.created", "data": {"id": "user_1"}}]
    (observation,), _ = parse_events(raw, Position(), None, ["user.created"])

    assert (observation.state, observation.resource) == (State.UNREADABLE, "user")
    assert observation.error == "KeyError: 'user_1'"
