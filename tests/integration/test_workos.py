"""The edge to WorkOS: the real SDK over real HTTP, against a stand-in that misbehaves."""

import hmac
import json
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from orgs.domain.naming import content_id
from orgs.domain.resolution import (
    IgnoredEvent,
    OrganizationChanged,
    OrganizationDeleted,
    RemoteOrganization,
    UnreadableEvent,
)
from orgs.domain.types import Position
from orgs.testing import FakeWorkOS, sign
from orgs.workos import Announcement
from orgs.workos import client as edge
from tests.concurrency import in_thread, wait_until
from tests.conftest import forget_client

START = Position()


def read(position: Position = START, limit: int = 100) -> edge.EventPage:
    return edge.read_events(position, limit=limit)


# Reading the stream -------------------------------------------------------------------------


def test_a_page_lists_events_oldest_first_and_ends_at_the_last(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    workos.delete_organization(acme["id"])
    created, deleted = workos.all_events()

    page = read()

    assert [listed.event.id for listed in page.events] == [created["id"], deleted["id"]]
    assert page.is_last
    assert page.position.last_event_id == deleted["id"]
    first, second = (listed.event for listed in page.events)
    assert isinstance(first, OrganizationChanged)
    assert first.organization == RemoteOrganization(
        workos_id=acme["id"],
        name="Acme",
        external_id="gram-1",
        updated_at=datetime.fromisoformat(acme["updated_at"]),
    )
    assert isinstance(second, OrganizationDeleted)
    assert second.workos_id == acme["id"]


def test_reads_continue_after_an_event_until_there_is_no_more(workos: FakeWorkOS) -> None:
    workos.seed(organizations=5)

    sizes, page = [], read(limit=2)
    while not page.is_last:
        sizes.append(len(page.events))
        page = read(page.position, limit=2)

    assert [*sizes, len(page.events)] == [2, 2, 1]
    assert read(page.position).events == ()


def test_a_position_without_an_id_reads_from_its_time(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Old", at=datetime(2026, 11, 1, tzinfo=UTC).isoformat())
    workos.create_organization(name="New")

    page = read(Position(None, datetime.now(UTC) - timedelta(hours=1)))

    assert [listed.event.organization.name for listed in page.events] == ["New"]  # type: ignore[union-attr]


def test_a_read_asks_for_the_types_that_are_followed_in_ascending_order(
    workos: FakeWorkOS,
) -> None:
    read(limit=7)

    (request,) = workos.requests()
    assert request["query"] == {
        "events": "organization.created,organization.updated,organization.deleted",
        "order": "asc",
        "limit": "7",
    }


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        pytest.param({"kind": "html"}, edge.BrokenAnswer, id="a 200 of HTML"),
        pytest.param({"kind": "truncated"}, edge.BrokenAnswer, id="truncated JSON"),
        pytest.param({"kind": "empty"}, edge.BrokenAnswer, id="an empty body"),
        pytest.param({"kind": "body", "body": []}, edge.BrokenAnswer, id="a bare list"),
        pytest.param({"kind": "body", "body": {"data": None}}, edge.BrokenAnswer, id="data null"),
        pytest.param(
            {"kind": "body", "body": {"data": {}, "list_metadata": {"after": None}}},
            edge.BrokenAnswer,
            id="data an object",
        ),
        pytest.param({"kind": "no_list_metadata"}, edge.BrokenAnswer, id="no list_metadata"),
        pytest.param(
            {"kind": "body", "body": {"data": [], "list_metadata": {}}},
            edge.BrokenAnswer,
            id="no word on whether there are more",
        ),
        pytest.param(
            {"kind": "body", "body": {"data": [], "list_metadata": {"after": 5}}},
            edge.BrokenAnswer,
            id="a cursor that is no text",
        ),
        pytest.param(
            {"kind": "body", "body": {"data": [], "list_metadata": {"after": "event_1"}}},
            edge.BrokenAnswer,
            id="no events, and more of them",
        ),
        pytest.param({"kind": "status", "status": 400}, edge.Refused, id="400"),
        pytest.param({"kind": "status", "status": 404}, edge.NotFound, id="404"),
        pytest.param({"kind": "status", "status": 422}, edge.Refused, id="422"),
        pytest.param({"kind": "html", "status": 404}, edge.BrokenAnswer, id="404 of a proxy"),
        pytest.param({"kind": "status", "status": 401}, edge.Unauthorized, id="401"),
        pytest.param({"kind": "status", "status": 403}, edge.Unauthorized, id="403"),
        pytest.param({"kind": "status", "status": 500}, edge.Unavailable, id="500"),
        pytest.param({"kind": "html", "status": 502}, edge.Unavailable, id="502"),
        pytest.param({"kind": "reset"}, edge.Unavailable, id="connection reset"),
        pytest.param({"kind": "time_out"}, edge.Unavailable, id="no answer"),
        pytest.param({"kind": "rate_limited"}, edge.RateLimited, id="429"),
        pytest.param(
            {"kind": "status", "status": 500, "body": ["?"]}, edge.Unavailable, id="500 of a list"
        ),
        pytest.param(
            {"kind": "status", "status": 404, "body": []}, edge.Unavailable, id="404 of a list"
        ),
        pytest.param({"kind": "status", "status": 408}, edge.Unavailable, id="408"),
        pytest.param({"kind": "status", "status": 409}, edge.Unavailable, id="409"),
    ],
)
def test_an_answer_that_is_not_a_page_is_an_error_and_never_an_empty_page(
    workos: FakeWorkOS, sync_setting: Any, misbehaviour: Any, error: type[Exception]
) -> None:
    sync_setting(REQUEST_TIMEOUT=0.3)
    workos.create_organization(name="Acme")
    workos.misbehave(**misbehaviour)

    with pytest.raises(error) as raised:
        read()

    assert type(raised.value) is error
    assert workos.count_requests() == 1, "our own schedules retry, not the SDK"


def test_a_call_that_gets_no_answer_is_given_up(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(REQUEST_TIMEOUT=0.3)
    workos.misbehave("time_out")

    with in_thread() as start:
        reading = start(read)
        try:
            wait_until(reading.done, "it is given up")
        finally:
            workos.stop()

    assert isinstance(reading.exception(), edge.Unavailable)


def test_a_429_silences_every_call_of_the_process_for_as_long_as_it_asks(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(edge, "_limits", edge._Limits(clock=lambda: now))
    acme = workos.create_organization(name="Acme")
    workos.misbehave("rate_limited", retry_after=30)

    with pytest.raises(edge.RateLimited) as first:
        read()
    now = 1_029.0
    with pytest.raises(edge.RateLimited) as second:
        edge.get_organization(acme["id"])
    now = 1_031.0
    read()

    assert first.value.retry_after == 30
    assert second.value.retry_after == pytest.approx(1)
    assert workos.count_requests() == 2


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    limits = edge._Limits(clock=lambda: 1_000.0)

    limits.pause(60)
    limits.pause(1)

    assert limits.remaining() == 60


def test_a_pause_of_years_is_honoured_for_a_quarter_of_an_hour(workos: FakeWorkOS) -> None:
    workos.misbehave("rate_limited", retry_after=10**9)

    with pytest.raises(edge.RateLimited) as raised:
        read()

    assert raised.value.retry_after == 900


@contextmanager
def answering(length: int, pieces: Iterable[bytes]) -> Iterator[str]:
    """The address of a server that sends a body piece by piece, whatever it holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        forget_client()


def test_a_body_that_only_drips_in_is_given_up(sync_setting: Any) -> None:
    is_over = Event()
    # Never long enough apart for a time-out.
    drip = (b" " for _ in iter(lambda: is_over.wait(0.05), True))

    with answering(1_000_000, drip) as base_url:
        sync_setting(REQUEST_TIMEOUT=0.3, BASE_URL=base_url)
        try:
            with pytest.raises(edge.Unavailable, match="takes too long"):
                read()
        finally:
            is_over.set()


def test_without_an_api_key_nothing_is_asked(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(API_KEY="")

    with pytest.raises(edge.NotConfigured, match="set WORKOS_API_KEY"):
        read()

    assert workos.count_requests() == 0


def test_a_long_error_is_said_in_one_short_line(workos: FakeWorkOS) -> None:
    workos.misbehave("status", status=500, body={"message": "line\n" * 1000})

    with pytest.raises(edge.Unavailable) as raised:
        read()

    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_an_answer_that_echoes_the_key_does_not_show_it(workos: FakeWorkOS) -> None:
    workos.misbehave("status", status=401, body={"message": f"bad key {workos.api_key}"})

    with pytest.raises(edge.Unauthorized) as raised:
        read()

    assert "bad key ********" in str(raised.value)


@pytest.mark.parametrize("key", ["sk_live\nx", "sk_l\u00efve"])
def test_a_key_that_cant_be_one_is_said_without_showing_it(
    workos: FakeWorkOS, sync_setting: Any, key: str
) -> None:
    sync_setting(API_KEY=key)

    with pytest.raises(edge.NotConfigured, match="copy it again") as raised:
        read()

    assert "sk_l" not in str(raised.value)


@pytest.mark.parametrize("base_url", ["http://\u2603.invalid", "nonsense", "http://[", ""])
def test_an_address_that_is_none_is_trouble_and_no_crash(sync_setting: Any, base_url: str) -> None:
    sync_setting(BASE_URL=base_url or " ")

    with pytest.raises(edge.WorkOSTrouble):
        read()

    forget_client()


def test_an_empty_cursor_is_the_end(workos: FakeWorkOS) -> None:
    workos.misbehave("body", body={"data": [], "list_metadata": {"after": ""}})

    assert read().is_last


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested without end"),
        pytest.param("9" * 5_000, id="a number without end"),
    ],
)
def test_an_event_that_python_cant_parse_does_not_take_its_page_along(
    odd: str, sync_setting: Any
) -> None:
    body = json.dumps(
        {
            "data": [{**EVENT, "context": "ODD"}, {**EVENT, "id": "event_2"}],
            "list_metadata": {"after": None},
        }
    ).replace('"ODD"', odd)

    with answering(len(body), [body.encode()]) as base_url:
        sync_setting(BASE_URL=base_url)
        page = read()

    assert [listed.event.id for listed in page.events] == ["event_1", "event_2"]
    assert page.is_last


# Parsing events -----------------------------------------------------------------------------

ORGANIZATION = {"id": "org_1", "name": "Acme", "updated_at": "2026-01-15T12:00:00.000Z"}
EVENT = {"id": "event_1", "event": "organization.updated", "data": ORGANIZATION}


def parsed(workos: FakeWorkOS, raw: Any) -> Any:
    workos.emit(raw, raw=True)
    (listed,) = read().events
    assert listed.raw == raw
    return listed.event


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"data": None}, "data is not an object", id="no data"),
        pytest.param({"data": []}, "data is not an object", id="data a list"),
        pytest.param({"data": {**ORGANIZATION, "id": None}}, "data.id is not", id="no id"),
        pytest.param({"data": {**ORGANIZATION, "id": "a\0b"}}, "data.id is not", id="NUL in id"),
        pytest.param(
            {"data": {**ORGANIZATION, "id": "o" * 256}}, "data.id is longer", id="endless id"
        ),
        pytest.param({"data": {**ORGANIZATION, "name": None}}, "data.name is not", id="no name"),
        pytest.param({"data": {**ORGANIZATION, "name": ""}}, "data.name is not", id="empty name"),
        pytest.param({"data": {**ORGANIZATION, "name": 5}}, "data.name is not", id="name a number"),
        pytest.param(
            {"data": {**ORGANIZATION, "name": "\ud800"}}, "data.name is not", id="lone surrogate"
        ),
        pytest.param(
            {"data": {**ORGANIZATION, "external_id": 7}},
            "data.external_id is not",
            id="external_id a number",
        ),
        pytest.param(
            {"data": {**ORGANIZATION, "external_id": "\0"}},
            "data.external_id is not",
            id="external_id NUL",
        ),
        pytest.param(
            {"data": {**ORGANIZATION, "updated_at": None}},
            "data.updated_at is not a time",
            id="no time",
        ),
        pytest.param(
            {"data": {**ORGANIZATION, "updated_at": "0000-01-01T00:00:00Z"}},
            "data.updated_at is not a time",
            id="year 0",
        ),
        pytest.param(
            {"data": {**ORGANIZATION, "updated_at": "9999-12-31T23:59:59-01:00"}},
            "data.updated_at is not a time",
            id="beyond year 9999",
        ),
        pytest.param({"event": None}, "event is not", id="no type"),
        pytest.param({"event": {}}, "event is not", id="type an object"),
    ],
)
def test_an_event_that_cant_be_parsed_says_why(
    workos: FakeWorkOS, change: dict[str, Any], error: str
) -> None:
    event = parsed(workos, {**EVENT, **change})

    assert isinstance(event, UnreadableEvent)
    assert event.id == "event_1"
    assert event.error.startswith(error)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(None, id="null"),
        pytest.param("event_1", id="text"),
        pytest.param([EVENT], id="a list"),
        pytest.param({**EVENT, "id": None}, id="id null"),
        pytest.param({**EVENT, "id": ""}, id="id empty"),
        pytest.param({**EVENT, "id": 5}, id="id a number"),
        pytest.param({**EVENT, "id": "a\0"}, id="id with NUL"),
        pytest.param({**EVENT, "id": "\udc00"}, id="id a lone surrogate"),
        pytest.param({**EVENT, "id": "e" * 256}, id="id endless"),
    ],
)
def test_an_event_without_a_usable_id_is_named_by_its_content(workos: FakeWorkOS, raw: Any) -> None:
    event = parsed(workos, raw)

    assert isinstance(event, UnreadableEvent)
    assert event.id == content_id(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "deletion",
    [
        pytest.param({"data": {"id": "org_1"}}, id="nothing but the id"),
        pytest.param(
            {"data": {"id": "org_1", "name": None, "updated_at": "?", "external_id": 5}},
            id="everything else wrong",
        ),
        pytest.param({"data": {"id": "org_1"}, "created_at": 12}, id="created_at a number"),
    ],
)
def test_a_deletion_needs_only_its_ids(workos: FakeWorkOS, deletion: dict[str, Any]) -> None:
    event = parsed(workos, {"id": "event_1", "event": "organization.deleted", **deletion})

    assert event == OrganizationDeleted(id="event_1", workos_id="org_1", occurred_at=None)


@pytest.mark.parametrize("external_id", [None, ""])
def test_an_empty_external_id_is_none(workos: FakeWorkOS, external_id: str | None) -> None:
    event = parsed(workos, {**EVENT, "data": {**ORGANIZATION, "external_id": external_id}})

    assert event.organization.external_id is None


def test_an_event_of_another_type_is_ignored(workos: FakeWorkOS) -> None:
    event = parsed(workos, {**EVENT, "event": "organization.renamed", "data": 5})

    assert event == IgnoredEvent(
        id="event_1", type="organization.renamed", workos_id=None, occurred_at=None
    )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-01-15T12:00:00.000Z", datetime(2026, 1, 15, 12, tzinfo=UTC), id="Z"),
        pytest.param("2026-01-15T12:00:00", datetime(2026, 1, 15, 12, tzinfo=UTC), id="no zone"),
        pytest.param(
            "2026-01-15T12:00:00+02:00",
            datetime(2026, 1, 15, 12, tzinfo=timezone(timedelta(hours=2))),
            id="an offset",
        ),
        pytest.param(
            "9999-12-31T23:59:59Z",
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
            id="the last second",
        ),
    ],
)
def test_times_are_read_as_utc_unless_they_say_otherwise(
    workos: FakeWorkOS, text: str, moment: datetime
) -> None:
    event = parsed(workos, {**EVENT, "data": {**ORGANIZATION, "updated_at": text}})

    assert event.organization.updated_at == moment


def test_a_trailing_event_without_an_id_does_not_stop_the_reads(workos: FakeWorkOS) -> None:
    workos.emit({"event": "organization.updated"}, raw=True)
    workos.create_organization(name="Acme")

    page = read(limit=1)
    following = read(page.position, limit=1)

    assert page.position.last_event_id is not None
    assert [listed.event.id for listed in following.events] == [workos.all_events()[1]["id"]]


@pytest.mark.parametrize(
    ("event_id", "moment"),
    [
        pytest.param(
            "event_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            datetime(2016, 7, 30, 23, 54, 10, 259_000, tzinfo=UTC),
            id="a ULID: the specification's example",
        ),
        pytest.param("event_01KF2M3V9Q8W7E6R5T4Y3U2I1O", None, id="letters that no ULID has"),
        pytest.param("event_1", None, id="short"),
        pytest.param("event_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None, id="beyond 48 bits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_the_time_of_an_event_is_read_from_its_id(event_id: str, moment: datetime | None) -> None:
    assert edge.event_time(event_id) == moment


# Organizations ------------------------------------------------------------------------------


def test_an_organization_is_read_as_it_is_now(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    workos.update_organization(acme["id"], name="Acme 2")

    organization = edge.get_organization(acme["id"])

    assert organization.name == "Acme 2"


def test_an_organization_that_cant_be_read_comes_with_what_workos_said(
    workos: FakeWorkOS,
) -> None:
    workos.misbehave("body", path="/organizations", body={"id": "org_1", "name": 5})

    with pytest.raises(edge.UnreadableOrganization, match="name is not") as raised:
        edge.get_organization("org_1")

    assert json.loads(raised.value.payload) == {"id": "org_1", "name": 5}


def test_an_answer_about_another_organization_is_broken(workos: FakeWorkOS) -> None:
    workos.misbehave("body", path="/organizations", body={**ORGANIZATION, "id": "org_2"})

    with pytest.raises(edge.BrokenAnswer):
        edge.get_organization("org_1")


@pytest.mark.parametrize("workos_id", [".", ".."])
def test_an_id_that_would_change_the_address_is_refused(workos: FakeWorkOS, workos_id: str) -> None:
    with pytest.raises(edge.Refused):
        edge.get_organization(workos_id)

    assert workos.count_requests() == 0


def test_an_id_is_one_segment_of_the_address(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")

    with pytest.raises(edge.NotFound):
        edge.get_organization("external_id/gram-1")


def test_an_answer_for_another_external_id_is_broken(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    workos.misbehave("body", path="/organizations/external_id", body=acme)

    with pytest.raises(edge.BrokenAnswer):
        edge.find_by_external_id("gram-2")

    assert edge.find_by_external_id("gram-1") == acme["id"]
    assert edge.find_by_external_id("gram-2") is None


@pytest.mark.parametrize("id_", [None, "", 7, "a" * 256])
def test_an_answer_for_an_external_id_that_names_nobody_is_broken(
    workos: FakeWorkOS, id_: object
) -> None:
    body = {"id": id_, "external_id": "gram-1"}
    workos.misbehave("body", path="/organizations/external_id", body=body)

    with pytest.raises(edge.BrokenAnswer):
        edge.find_by_external_id("gram-1")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="says nothing"),
        pytest.param({"message": "no Route matched with those values"}, id="a gateway's route"),
        pytest.param({"code": 5, "message": "Method does not exist."}, id="a gateway's number"),
        pytest.param({"code": "", "message": "Not Found"}, id="an empty code"),
        pytest.param(
            {"code": "not_found", "message": "Cannot GET /v2/organizations/org_1"},
            id="an address that is not there",
        ),
    ],
)
def test_a_404_that_is_a_gateways_is_not_workoss_own(
    workos: FakeWorkOS, body: dict[str, object]
) -> None:
    workos.misbehave("status", status=404, path="/organizations", body=body)

    with pytest.raises(edge.BrokenAnswer):
        edge.get_organization("org_1")


@pytest.mark.parametrize(
    "body",
    [
        {"code": "entity_not_found", "message": "Organization not found: 'org_1'."},
        {"message": "Organization not found"},
        {"error": "not_found"},
    ],
)
def test_any_other_404_of_a_json_object_is(workos: FakeWorkOS, body: dict[str, object]) -> None:
    workos.misbehave("status", status=404, path="/organizations", body=body)

    with pytest.raises(edge.NotFound):
        edge.get_organization("org_1")


def test_an_external_id_is_offered_and_confirmed(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")

    edge.offer_external_id(acme["id"], "gram-1")

    assert workos.organization(acme["id"])["external_id"] == "gram-1"  # type: ignore[index]


def test_an_external_id_that_is_there_is_not_written_again(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")

    edge.offer_external_id(acme["id"], "gram-1")

    assert workos.count_requests(method="PUT", path="/organizations") == 0


def test_another_external_id_is_a_conflict_and_not_overwritten(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="theirs")

    with pytest.raises(edge.ExternalIdConflict, match="theirs"):
        edge.offer_external_id(acme["id"], "gram-1")

    assert workos.organization(acme["id"])["external_id"] == "theirs"  # type: ignore[index]


def test_an_external_id_used_elsewhere_is_a_conflict(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Other", external_id="gram-1")
    acme = workos.create_organization(name="Acme")

    with pytest.raises(edge.ExternalIdConflict):
        edge.offer_external_id(acme["id"], "gram-1")


def test_a_write_back_that_is_not_confirmed_is_broken(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    workos.misbehave("html", method="PUT", path="/organizations")

    with pytest.raises(edge.BrokenAnswer):
        edge.offer_external_id(acme["id"], "gram-1")


# Webhooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "announcement"),
    [
        pytest.param(
            b'{"id": "event_1", "event": "organization.created", "data": {"id": "org_1"}}',
            Announcement("event_1", "organization.created", "org_1"),
            id="an event",
        ),
        pytest.param(
            b'{"id": "event_1", "event": "x"}', Announcement("event_1", "x", None), id="no data"
        ),
        pytest.param(
            b'{"id": "event_1", "event": "x", "data": {"id": "a\\u0000"}}',
            Announcement("event_1", "x", None),
            id="an organization id that can't be one",
        ),
        pytest.param(
            json.dumps({"id": "e" * 300, "event": "x"}).encode(),
            Announcement(content_id(b"e" * 300), "x", None),
            id="an endless id: its hash",
        ),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"{", None, id="not JSON"),
        pytest.param(b"\xff\xfe", None, id="not text"),
        pytest.param(b"[" * 100_000, None, id="nested without end"),
        pytest.param(b"1" * 5_000, None, id="a number without end"),
        pytest.param(b"null", None, id="null"),
        pytest.param(b"[]", None, id="a list"),
        pytest.param(b'{"event": "x"}', None, id="no id"),
        pytest.param(b'{"id": "", "event": "x"}', None, id="empty id"),
        pytest.param(b'{"id": 5, "event": "x"}', None, id="id a number"),
        pytest.param(b'{"id": "a\\u0000", "event": "x"}', None, id="NUL in id"),
        pytest.param(b'{"id": "\\ud800", "event": "x"}', None, id="lone surrogate in id"),
        pytest.param(b'{"id": "event_1"}', None, id="no type"),
        pytest.param(b'{"id": "event_1", "event": "\\u0000"}', None, id="NUL in type"),
    ],
)
def test_a_webhooks_body_announces(body: bytes, announcement: Announcement | None) -> None:
    assert edge.parse_announcement(body) == announcement


# What guards it -----------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{}", b"\xff\xfe"], ids=["text", "bytes"])
def test_nothing_but_the_constant_time_comparison_decides_about_a_signature(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    now = int(time.time() * 1000)
    right, wrong = (sign(secret, body, now) for secret in ("whsec_right", "whsec_wrong"))

    def verdicts(comparison: bool) -> list[bool]:
        monkeypatch.setattr(hmac, "compare_digest", lambda *_: comparison)
        return [edge.is_signed(body, signature, ("whsec_right",)) for signature in (right, wrong)]

    assert verdicts(comparison=True) == [True, True]
    assert verdicts(comparison=False) == [False, False]


def test_the_certificate_of_who_answers_is_checked(workos: FakeWorkOS) -> None:
    backend: Any = edge._client()._backend

    context = backend._inner._client._transport._pool._ssl_context

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
