"""The stand-in, spoken to by the real SDK over real HTTP."""

import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from workos import (
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    RateLimitExceededError,
    ServerError,
    UnprocessableEntityError,
    WorkOSClient,
    WorkOSError,
)
from workos._errors import APIError, WorkOSConnectionError, WorkOSTimeoutError
from workos.common.models import OrganizationCreated, OrganizationDeleted, OrganizationUpdated
from workos.organizations.models import Organization

from orgs.testing import JsonObject, Refused, StandInClient, WorkOSStandIn
from orgs.testing.__main__ import main
from orgs.testing.controls import CONTROLS
from orgs.testing.ulid import UlidFactory, ulid_milliseconds

FOLLOWED = ["organization.created", "organization.updated", "organization.deleted"]
SECRET = "whsec_test"
MANY = 100_000


@pytest.fixture
def workos() -> Iterator[WorkOSStandIn]:
    with WorkOSStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def sdk(workos: WorkOSStandIn) -> Iterator[WorkOSClient]:
    with an_sdk(workos) as client:
        yield client


@pytest.fixture(scope="module")
def crowded() -> Iterator[WorkOSStandIn]:
    """Share a stand-in with many organizations and their events; not to be changed."""
    with WorkOSStandIn() as stand_in:
        stand_in.seed(organizations=MANY)
        yield stand_in


@pytest.fixture
def receiver() -> Iterator["Receiver"]:
    with Receiver() as server:
        yield server


def an_sdk(
    workos: WorkOSStandIn | StandInClient, api_key: str = "sk_test_stand_in"
) -> WorkOSClient:
    return WorkOSClient(api_key=api_key, base_url=workos.base_url, max_retries=0)


def read_events(sdk: WorkOSClient, **parameters: Any) -> JsonObject:
    """Read one page of events as it was sent."""
    parameters = {"events": ",".join(FOLLOWED), "limit": 100, **parameters}
    return sdk.request_raw("get", ("events",), params=parameters)


def ids(page: JsonObject) -> list[str]:
    return [entry["id"] for entry in page["data"]]


def names(page: JsonObject) -> list[str]:
    return [entry["data"]["name"] for entry in page["data"]]


def event_ids(workos: WorkOSStandIn) -> list[str]:
    return [event["id"] for event in workos.all_events()]


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.002)


def stand_in_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("workos-stand-in")}


class Receiver:
    """A webhook endpoint that keeps what it gets, and answers 204 unless told otherwise."""

    def __init__(self) -> None:
        self.received: list[tuple[Mapping[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answers = threading.Event()
        self.answers.set()
        handler = type("Handler", (ReceiverConnection,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/workos/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self) -> list[JsonObject]:
        return [json.loads(body) for _, body in self.received]

    def names(self) -> list[str]:
        return [event["data"]["name"] for event in self.events()]

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        self.received.append((headers, body))
        self.answers.wait()
        return self.statuses.pop(0) if self.statuses else 204


class ReceiverConnection(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.receiver.receive(dict(self.headers), body))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class TestOrganizations:
    def test_the_sdk_reads_what_it_created(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(
            name="Åcme", external_id="gram/1", metadata={"plan": "pro"}
        )

        assert isinstance(created, Organization)
        assert (created.name, created.external_id) == ("Åcme", "gram/1")
        assert created.metadata == {"plan": "pro"}
        assert created.created_at == created.updated_at
        assert sdk.organizations.get_organization(created.id) == created
        assert sdk.organizations.get_organization_by_external_id("gram/1") == created
        assert sdk.organizations.list_organizations().data == [created]

    def test_an_update_changes_what_it_names(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme", external_id="gram-1")

        renamed = sdk.organizations.update_organization(created.id, name="Acme Inc.")
        unlinked = sdk.organizations.update_organization(created.id, external_id=None)

        assert (renamed.name, renamed.external_id) == ("Acme Inc.", "gram-1")
        assert (unlinked.name, unlinked.external_id) == ("Acme Inc.", None)

    def test_updated_at_always_moves_on(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme")

        updates = [
            sdk.organizations.update_organization(created.id, name="Acme").updated_at
            for _ in range(10)
        ]

        assert sorted({created.updated_at, *updates}) == [created.updated_at, *updates]

    def test_a_deleted_one_is_gone(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme", external_id="gram-1")

        sdk.organizations.delete_organization(created.id)

        requests: list[Callable[[], object]] = [
            lambda: sdk.organizations.get_organization(created.id),
            lambda: sdk.organizations.get_organization_by_external_id("gram-1"),
            lambda: sdk.organizations.update_organization(created.id, name="New"),
            lambda: sdk.organizations.delete_organization(created.id),
        ]
        for request in requests:
            with pytest.raises(NotFoundError) as missing:
                request()
            assert missing.value.code == "entity_not_found"
        assert sdk.organizations.list_organizations().data == []

    def test_an_external_id_is_unique(self, sdk: WorkOSClient) -> None:
        holder = sdk.organizations.create_organization(name="Holder", external_id="gram-1")
        other = sdk.organizations.create_organization(name="Other", external_id="gram-2")

        writes: list[Callable[[], object]] = [
            lambda: sdk.organizations.create_organization(name="New", external_id="gram-1"),
            lambda: sdk.organizations.update_organization(other.id, external_id="gram-1"),
        ]
        for write in writes:
            with pytest.raises(BadRequestError) as refused:
                write()
            assert refused.value.code == "external_id_already_used"
        assert sdk.organizations.get_organization_by_external_id("gram-1") == holder
        assert sdk.organizations.get_organization_by_external_id("gram-2") == other

    def test_an_external_id_may_be_set_again(self, sdk: WorkOSClient) -> None:
        holder = sdk.organizations.create_organization(name="Holder", external_id="gram-1")

        again = sdk.organizations.update_organization(holder.id, external_id="gram-1")

        assert again.external_id == "gram-1"

    def test_an_external_id_given_up_is_free(self, sdk: WorkOSClient) -> None:
        changed = sdk.organizations.create_organization(name="Changed", external_id="gram-1")
        deleted = sdk.organizations.create_organization(name="Deleted", external_id="gram-2")

        sdk.organizations.update_organization(changed.id, external_id="gram-3")
        sdk.organizations.delete_organization(deleted.id)

        for external_id in ("gram-1", "gram-2"):
            new = sdk.organizations.create_organization(name="New", external_id=external_id)
            assert sdk.organizations.get_organization_by_external_id(external_id) == new

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"name": "Acme", "external_id": "grüm"}, id="external id not ASCII"),
            pytest.param({"name": "Acme", "external_id": "x" * 65}, id="external id too long"),
            pytest.param({"name": "Acme", "external_id": ""}, id="external id empty"),
            pytest.param({"name": "Acme", "external_id": 1}, id="external id not text"),
            pytest.param({"name": ""}, id="name empty"),
            pytest.param({"name": None}, id="name null"),
            pytest.param({}, id="name missing"),
            pytest.param({"name": "Acme", "metadata": "x"}, id="metadata not an object"),
            pytest.param({"name": "Acme", "slug": "acme"}, id="unknown field"),
        ],
    )
    def test_bad_fields_are_refused(self, sdk: WorkOSClient, fields: JsonObject) -> None:
        with pytest.raises(UnprocessableEntityError) as refused:
            sdk.request_raw("post", ("organizations",), body=fields)

        assert refused.value.code == "invalid_request_parameters"
        assert sdk.organizations.list_organizations().data == []

    def test_the_longest_external_id_is_taken(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme", external_id="x" * 64)

        assert created.external_id == "x" * 64

    def test_metadata_is_merged(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="A", metadata={"a": "1", "b": "2"})

        path = ("organizations", created.id)
        merged = sdk.request_raw("put", path, body={"metadata": {"b": None, "c": "3"}})
        cleared = sdk.organizations.update_organization(created.id, metadata=None)

        assert merged["metadata"] == {"a": "1", "c": "3"}
        assert cleared.metadata == {}

    def test_one_id_is_one_organization(self, workos: WorkOSStandIn) -> None:
        workos.create_organization(name="Acme", id="org_1")

        with pytest.raises(ValueError, match="there is an organization org_1 already"):
            workos.create_organization(name="Acme", id="org_1")

    def test_a_wrong_key_is_refused(self, workos: WorkOSStandIn) -> None:
        with an_sdk(workos, api_key="sk_test_wrong") as sdk, pytest.raises(AuthenticationError):
            sdk.organizations.list_organizations()

    def test_an_unknown_path_is_not_found(self, sdk: WorkOSClient) -> None:
        with pytest.raises(NotFoundError):
            sdk.request_raw("get", ("users",))

    def test_many_are_created_at_once(self, workos: WorkOSStandIn) -> None:
        seeded = workos.seed(organizations=3, prefix="N", external_id_prefix="gram-")

        listed = workos.all_organizations()
        assert seeded == 3
        assert [one["name"] for one in listed] == ["N 0", "N 1", "N 2"]
        assert [one["external_id"] for one in listed] == ["gram-0", "gram-1", "gram-2"]


class TestListingOrganizations:
    def test_the_newest_come_first_ten_at_a_time(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.seed(organizations=12, prefix="N")

        page = sdk.organizations.list_organizations()

        assert [one.name for one in page] == [f"N {number}" for number in range(11, 1, -1)]
        assert page.after == page.data[-1].id
        assert page.before is None

    @pytest.mark.parametrize(
        ("order", "cursor", "listed", "has_before", "has_after"),
        [
            pytest.param("asc", {}, [0, 1], False, True, id="oldest first"),
            pytest.param("asc", {"after": 1}, [2, 3], True, True, id="on, oldest first"),
            pytest.param("asc", {"after": 3}, [4], True, False, id="last, oldest first"),
            pytest.param("asc", {"before": 3}, [1, 2], True, True, id="back, oldest first"),
            pytest.param("asc", {"before": 1}, [0], False, True, id="back to the oldest"),
            pytest.param("desc", {}, [4, 3], False, True, id="newest first"),
            pytest.param("desc", {"after": 3}, [2, 1], True, True, id="on, newest first"),
            pytest.param("desc", {"after": 1}, [0], True, False, id="last, newest first"),
            pytest.param("desc", {"before": 1}, [3, 2], True, True, id="back, newest first"),
            pytest.param("desc", {"before": 3}, [4], False, True, id="back to the newest"),
            pytest.param("desc", {"after": 0}, [], False, False, id="nothing more"),
        ],
    )
    def test_pages_follow_each_other(
        self,
        workos: WorkOSStandIn,
        sdk: WorkOSClient,
        *,
        order: str,
        cursor: dict[str, int],
        listed: list[int],
        has_before: bool,
        has_after: bool,
    ) -> None:
        known = [workos.create_organization(name="Acme")["id"] for _ in range(5)]
        cursors = {name: known[number] for name, number in cursor.items()}

        page = sdk.organizations.list_organizations(order=order, limit=2, **cursors)

        shown = [one.id for one in page]
        assert shown == [known[number] for number in listed]
        assert page.before == (shown[0] if has_before else None)
        assert page.after == (shown[-1] if has_after else None)

    def test_goes_on_after_one_that_was_deleted(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        known = [workos.create_organization(name="Acme")["id"] for _ in range(3)]
        workos.delete_organization(known[1])

        page = sdk.organizations.list_organizations(order="asc", after=known[1])

        assert [one.id for one in page] == [known[2]]

    @pytest.mark.parametrize(
        ("parameters", "status"),
        [
            pytest.param({"limit": 0}, 422, id="limit too small"),
            pytest.param({"limit": 101}, 422, id="limit too large"),
            pytest.param({"limit": "ten"}, 422, id="limit no number"),
            pytest.param({"order": "normal"}, 422, id="unknown order"),
            pytest.param({"search": "acme"}, 422, id="unknown parameter"),
            pytest.param({"after": "org_1", "before": "org_2"}, 422, id="two cursors"),
            pytest.param({"after": "org_1"}, 400, id="unknown cursor"),
        ],
    )
    def test_bad_parameters_are_refused(
        self, sdk: WorkOSClient, parameters: JsonObject, status: int
    ) -> None:
        with pytest.raises(APIError) as refused:
            sdk.request_raw("get", ("organizations",), params=parameters)

        assert refused.value.status_code == status

    @pytest.mark.parametrize("order", ["asc", "desc"])
    def test_each_of_many_is_listed_once(self, crowded: WorkOSStandIn, order: str) -> None:
        listed: list[str] = []

        with an_sdk(crowded) as sdk:
            page = list_raw(sdk, order=order)
            listed += ids(page)
            while page["list_metadata"]["after"] is not None:
                page = list_raw(sdk, order=order, after=page["list_metadata"]["after"])
                listed += ids(page)

        assert len(listed) == len(set(listed)) == MANY
        assert listed == sorted(listed, reverse=order == "desc")


def list_raw(sdk: WorkOSClient, **parameters: Any) -> JsonObject:
    """List one page of organizations as it was sent."""
    return sdk.request_raw("get", ("organizations",), params={"limit": 100, **parameters})


class TestEvents:
    def test_the_sdk_reads_what_happened(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme")
        updated = sdk.organizations.update_organization(created.id, name="Acme Inc.")
        sdk.organizations.delete_organization(created.id)

        first, second, third = sdk.events.list_events(events=FOLLOWED).data

        assert isinstance(first, OrganizationCreated)
        assert isinstance(second, OrganizationUpdated)
        assert isinstance(third, OrganizationDeleted)
        assert (first.data.name, second.data.name) == ("Acme", "Acme Inc.")
        assert second.context is not None
        assert second.context.previous_attributes == {"name": "Acme"}
        assert third.data.to_dict() == second.data.to_dict()
        assert third.data.updated_at == updated.updated_at

    def test_an_event_has_the_documented_shape(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        organization = workos.create_organization(name="Acme", at="2100-01-15T12:00:00Z")

        (event,) = read_events(sdk)["data"]

        assert list(event) == ["object", "id", "event", "created_at", "context", "data"]
        assert event["object"] == "event"
        assert event["created_at"] == "2100-01-15T12:00:00.000Z"
        assert event["data"] == organization
        assert organization == {
            "object": "organization",
            "id": organization["id"],
            "name": "Acme",
            "external_id": None,
            "metadata": {},
            "domains": [],
            "created_at": "2100-01-15T12:00:00.000Z",
            "updated_at": "2100-01-15T12:00:00.000Z",
        }

    def test_a_written_external_id_comes_back_as_an_event(self, sdk: WorkOSClient) -> None:
        created = sdk.organizations.create_organization(name="Acme")

        sdk.organizations.update_organization(created.id, external_id="gram-1")

        event = read_events(sdk)["data"][-1]
        assert event["event"] == "organization.updated"
        assert event["data"]["external_id"] == "gram-1"
        assert event["context"]["actor"]["source"] == "api"
        assert event["context"]["previous_attributes"] == {"external_id": None}

    def test_ids_increase_and_tell_the_time(self, workos: WorkOSStandIn) -> None:
        before = int(time.time() * 1000)
        workos.seed(organizations=1000)
        after = int(time.time() * 1000)

        known = event_ids(workos)

        assert known == sorted(set(known))
        assert {len(event_id) for event_id in known} == {len("event_") + 26}
        assert before <= ulid_milliseconds(known[0].removeprefix("event_")) <= after

    def test_an_event_of_the_past_has_an_id_of_the_past(self, workos: WorkOSStandIn) -> None:
        at = days_ago(3)

        workos.create_organization(name="Acme", at=at)

        (event,) = workos.all_events()
        milliseconds = ulid_milliseconds(event["id"].removeprefix("event_"))
        assert abs(milliseconds - at.timestamp() * 1000) <= 1

    def test_pages_follow_each_other(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=5, prefix="N")

        first = read_events(sdk, limit=2)
        second = read_events(sdk, limit=2, after=first["list_metadata"]["after"])
        third = read_events(sdk, limit=2, after=second["list_metadata"]["after"])

        assert [names(page) for page in (first, second, third)] == [
            ["N 0", "N 1"],
            ["N 2", "N 3"],
            ["N 4"],
        ]
        assert first["list_metadata"] == {"before": None, "after": ids(first)[-1]}
        assert third["list_metadata"] == {"before": ids(third)[0], "after": None}
        assert read_events(sdk, after=ids(third)[-1])["data"] == []

    def test_each_of_many_is_listed_once(self, crowded: WorkOSStandIn) -> None:
        listed: list[str] = []

        with an_sdk(crowded) as sdk:
            page = read_events(sdk)
            listed += ids(page)
            while page["list_metadata"]["after"] is not None:
                page = read_events(sdk, after=ids(page)[-1])
                listed += ids(page)

        assert len(listed) == MANY
        assert listed == sorted(set(listed))

    def test_the_order_asked_for_is_ignored(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=3)

        assert ids(read_events(sdk, order="desc")) == event_ids(workos)

    def test_only_the_types_asked_for_are_listed(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        organization = workos.create_organization(name="Acme")
        workos.emit({"event": "user.created", "data": {"id": "user_1"}})
        workos.delete_organization(organization["id"])

        types = "organization.deleted,user.created"
        listed = [event["event"] for event in read_events(sdk, events=types)["data"]]

        assert listed == ["user.created", "organization.deleted"]

    def test_an_organization_has_a_stream_of_its_own(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        mine, other = (workos.create_organization(name=name)["id"] for name in ("Mine", "Other"))
        workos.emit({"event": "connection.activated", "data": {"organization_id": mine}})
        workos.update_organization(mine, name="Ours")
        workos.delete_organization(other)

        types = ",".join([*FOLLOWED, "connection.activated"])
        page = read_events(sdk, events=types, organization_id=mine)

        assert [event["event"] for event in page["data"]] == [
            "organization.created",
            "connection.activated",
            "organization.updated",
        ]
        with pytest.raises(BadRequestError, match="Organization not found"):
            read_events(sdk, organization_id=other)

    def test_a_range_is_listed(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        for days in (4, 3, 2, 1):
            workos.create_organization(name=f"{days} days", at=days_ago(days))

        page = sdk.events.list_events(
            events=FOLLOWED, range_start=days_ago(3.5), range_end=days_ago(1.5)
        )

        assert names({"data": [event.to_dict() for event in page]}) == ["3 days", "2 days"]

    @pytest.mark.parametrize(
        ("parameters", "status"),
        [
            pytest.param({"events": "organization.renamed"}, 422, id="unknown type"),
            pytest.param({"events": ""}, 422, id="no type"),
            pytest.param({"limit": 101}, 422, id="limit too large"),
            pytest.param({"order": "random"}, 422, id="unknown order"),
            pytest.param({"page": 2}, 422, id="unknown parameter"),
            pytest.param({"range_start": "2026-01-15T12:00:00+00:00"}, 422, id="range with offset"),
            pytest.param({"range_end": "yesterdayZ"}, 422, id="range no time"),
            pytest.param(
                {"after": "event_1", "range_start": "2026-01-15T12:00:00Z"},
                400,
                id="cursor and range",
            ),
            pytest.param({"after": "event_1"}, 400, id="unknown cursor"),
            pytest.param({"organization_id": "org_1"}, 400, id="unknown organization"),
        ],
    )
    def test_bad_parameters_are_refused(
        self, sdk: WorkOSClient, parameters: JsonObject, status: int
    ) -> None:
        with pytest.raises(APIError) as refused:
            read_events(sdk, **parameters)

        assert refused.value.status_code == status

    def test_a_change_without_an_event_is_only_in_the_listing(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        kept = workos.create_organization(name="Kept", emits=False)
        gone = workos.create_organization(name="Gone", emits=False)
        workos.update_organization(kept["id"], name="Renamed", emits=False)
        workos.delete_organization(gone["id"], emits=False)

        assert read_events(sdk)["data"] == []
        assert [one.name for one in sdk.organizations.list_organizations()] == ["Renamed"]


class TestHoldBackAndRetention:
    def test_a_young_event_is_held_back(self) -> None:
        with WorkOSStandIn(hold_back=5) as workos, an_sdk(workos) as sdk:
            workos.create_organization(name="Old", at=days_ago(1))
            workos.create_organization(name="Young")

            held_back = names(read_events(sdk))
            workos.set_clock_offset(5)
            readable = names(read_events(sdk))

        assert held_back == ["Old"]
        assert readable == ["Old", "Young"]

    def test_the_hold_back_can_change(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.create_organization(name="Acme")

        workos.set_hold_back(60)
        assert read_events(sdk)["data"] == []

        workos.set_hold_back(0)
        assert names(read_events(sdk)) == ["Acme"]

    def test_a_late_event_appears_between_the_others(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.create_organization(name="First")
        workos.emit({"data": {"id": "org_1", "name": "Late"}}, visible_after=60)
        workos.create_organization(name="Last")

        before = names(read_events(sdk))
        workos.set_clock_offset(60)
        after = names(read_events(sdk))

        assert before == ["First", "Last"]
        assert after == ["First", "Late", "Last"]

    def test_a_future_event_is_readable_at_once(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.create_organization(name="Future", at="2100-01-01")

        assert names(read_events(sdk)) == ["Future"]

    def test_an_old_event_is_forgotten(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.create_organization(name="Kept", at=days_ago(29))
        workos.create_organization(name="Forgotten", at=days_ago(31))
        workos.create_organization(name="New")

        assert names(read_events(sdk)) == ["Kept", "New"]

    def test_all_is_forgotten_in_time(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.create_organization(name="Acme")

        workos.set_clock_offset(31 * 24 * 60 * 60)

        assert read_events(sdk)["data"] == []
        assert len(workos.all_events()) == 1

    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_a_lost_cursor_is_refused(self, status: int) -> None:
        with WorkOSStandIn(lost_cursor_status=status) as workos, an_sdk(workos) as sdk:
            workos.seed(organizations=3)
            first, second, third = event_ids(workos)
            workos.expire_events(before=second)

            for cursor in (first, "event_unknown"):
                with pytest.raises(APIError) as refused:
                    read_events(sdk, after=cursor)
                assert refused.value.status_code == status
            assert ids(read_events(sdk, after=second)) == [third]
            assert ids(read_events(sdk)) == [second, third]

    def test_a_lost_cursor_restarts_silently(self) -> None:
        with WorkOSStandIn(on_lost_cursor="restart") as workos, an_sdk(workos) as sdk:
            workos.seed(organizations=3)
            known = event_ids(workos)

            assert ids(read_events(sdk, after="event_unknown")) == known

    def test_a_cursor_expires_with_its_event(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.create_organization(name="Old", at=days_ago(31))
        workos.create_organization(name="New")

        with pytest.raises(BadRequestError):
            read_events(sdk, after=event_ids(workos)[0])

    def test_all_events_can_expire(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=2)

        workos.expire_events()
        workos.create_organization(name="New")

        assert names(read_events(sdk)) == ["New"]

    def test_an_unknown_event_expires_nothing(self, workos: WorkOSStandIn) -> None:
        with pytest.raises(ValueError, match="there is no event event_1"):
            workos.expire_events(before="event_1")


class TestEmit:
    def test_what_is_missing_is_filled_in(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        emitted = workos.emit({"data": {"id": "org_1"}})

        assert isinstance(emitted, dict)
        assert read_events(sdk)["data"] == [emitted]
        assert emitted["id"].startswith("event_")
        assert emitted["event"] == "organization.updated"
        assert datetime.fromisoformat(emitted["created_at"]).tzinfo == UTC

    def test_what_is_given_stays(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        given = {"id": None, "event": None, "created_at": "yesterday", "data": 1}

        workos.emit(given)

        assert read_events(sdk)["data"] == [given]

    def test_what_is_named_absent_is_absent(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.emit({"data": {}}, absent=["id", "created_at"])

        assert read_events(sdk)["data"] == [{"event": "organization.updated", "data": {}}]

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(None, id="null"),
            pytest.param(7, id="number"),
            pytest.param("event", id="text"),
            pytest.param([], id="list"),
            pytest.param({}, id="empty object"),
            pytest.param({"event": "organization.renamed", "id": "event_1"}, id="unknown type"),
            pytest.param({"event": ["organization.updated"], "id": {}}, id="wrong types"),
            pytest.param({"id": "event_\0", "data": "\ud800 Å"}, id="odd characters"),
        ],
    )
    def test_any_json_reaches_the_reader(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, value: Any
    ) -> None:
        workos.create_organization(name="First")
        workos.emit(value, raw=True)
        workos.create_organization(name="Last")

        first, odd, last = read_events(sdk)["data"]

        assert odd == value
        assert (first["data"]["name"], last["data"]["name"]) == ("First", "Last")
        assert workos.all_events() == [first, odd, last]

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            pytest.param('{"id": "first", "id": "event_1"}', {"id": "event_1"}, id="a key twice"),
            pytest.param("[1e999, -0]", [float("inf"), 0], id="numbers"),
            pytest.param(r'"\ud800"', "\ud800", id="half a character"),
        ],
    )
    def test_any_text_reaches_the_reader(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, text: str, value: Any
    ) -> None:
        workos.create_organization(name="First")
        workos.emit_text(text, id="event_1")
        workos.create_organization(name="Last")

        first, odd, last = read_events(sdk)["data"]
        after = read_events(sdk, after="event_1")["data"]

        assert odd == value
        assert (first["data"]["name"], last["data"]["name"]) == ("First", "Last")
        assert after == [last]

    def test_bytes_that_are_no_text_reach_the_reader(self, workos: WorkOSStandIn) -> None:
        workos.emit_text("\udcff", id="event_1")

        answer = httpx2.get(
            f"{workos.base_url}/events?events=organization.created",
            headers={"Authorization": f"Bearer {workos.api_key}"},
        )

        assert b"[\xff]" in answer.content

    def test_only_an_object_is_filled_in(self, workos: WorkOSStandIn) -> None:
        with pytest.raises(TypeError, match="raw=True"):
            workos.emit([])

    def test_pages_pass_an_event_without_an_id(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.emit("first", raw=True)
        workos.emit("second", raw=True)

        first = read_events(sdk, limit=1)
        second = read_events(sdk, limit=1, after=first["list_metadata"]["after"])

        assert (first["data"], second["data"]) == (["first"], ["second"])

    def test_one_malformed_event_fails_the_typed_page(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.create_organization(name="Acme")
        workos.emit({"event": "organization.updated", "data": {"id": "org_1"}})

        with pytest.raises(WorkOSError, match="Unexpected API response"):
            sdk.events.list_events(events=FOLLOWED)

    def test_the_place_is_that_of_emission(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        new = workos.create_organization(name="New")
        old_id = f"event_{UlidFactory().make(0)}"
        workos.emit({"id": old_id, "data": new})
        workos.create_organization(name="Last")

        page = read_events(sdk, limit=2)

        assert ids(page)[1] == old_id < ids(page)[0]
        assert names(read_events(sdk, after=old_id)) == ["Last"]

    def test_two_events_may_share_a_millisecond(self, workos: WorkOSStandIn) -> None:
        at = days_ago(1)

        workos.create_organization(name="First", at=at)
        workos.create_organization(name="Between", at=days_ago(2))
        workos.create_organization(name="Second", at=at)

        first, _, second = workos.all_events()
        assert first["created_at"] == second["created_at"]
        assert first["id"] < second["id"]

    def test_an_event_may_only_be_announced(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, receiver: Receiver
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

        workos.emit({"data": {"name": "Announced"}}, listed=False)
        workos.emit({"data": {"name": "Listed"}}, announced=False)

        assert workos.wait_for_deliveries()
        assert receiver.names() == ["Announced"]
        assert names(read_events(sdk)) == ["Listed"]


class TestWebhooks:
    def test_the_sdk_verifies_a_delivery(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, receiver: Receiver
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

        organization = workos.create_organization(name="Åcme")

        assert workos.wait_for_deliveries()
        ((headers, body),) = receiver.received
        event = sdk.webhooks.verify_event(
            event_body=body, event_signature=headers["WorkOS-Signature"], secret=SECRET
        )
        assert isinstance(event, OrganizationCreated)
        assert event.data.id == organization["id"]
        assert "object" not in json.loads(body)
        with pytest.raises(ValueError, match="Signature hash does not match"):
            sdk.webhooks.verify_event(
                event_body=body, event_signature=headers["WorkOS-Signature"], secret="other"
            )

    def test_an_event_is_announced_before_it_is_readable(self, receiver: Receiver) -> None:
        with WorkOSStandIn(hold_back=60) as workos, an_sdk(workos) as sdk:
            workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

            workos.create_organization(name="Acme")

            assert workos.wait_for_deliveries()
            assert receiver.names() == ["Acme"]
            assert read_events(sdk)["data"] == []

    def test_every_endpoint_gets_what_it_asked_for(
        self, workos: WorkOSStandIn, receiver: Receiver
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.add_webhook_endpoint(
            url=receiver.url + "?deleted=1", secret=SECRET, events=["organization.deleted"]
        )

        organization = workos.create_organization(name="Acme")
        workos.delete_organization(organization["id"])

        assert workos.wait_for_deliveries()
        assert [(one["event"], one["url"]) for one in workos.deliveries()] == [
            ("organization.created", receiver.url),
            ("organization.deleted", receiver.url),
            ("organization.deleted", receiver.url + "?deleted=1"),
        ]

    def test_a_failed_delivery_is_repeated(self, receiver: Receiver) -> None:
        receiver.statuses = [500, 302, 204]
        with WorkOSStandIn(delivery_pauses=[0.0] * 5) as workos:
            workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

            workos.create_organization(name="Acme")

            assert workos.wait_for_deliveries()
            assert [(one["attempt"], one["status"]) for one in workos.deliveries()] == [
                (1, 500),
                (2, 302),
                (3, 204),
            ]
            assert len({one["event_id"] for one in workos.deliveries()}) == 1
        assert len({body for _, body in receiver.received}) == 1

    def test_the_sixth_failure_is_the_last(self) -> None:
        with Receiver() as closed:
            pass
        with WorkOSStandIn(delivery_pauses=[0.0] * 5) as workos:
            workos.add_webhook_endpoint(url=closed.url, secret=SECRET)

            workos.create_organization(name="Acme")

            assert workos.wait_for_deliveries()
            failures = workos.deliveries()
        assert [(one["attempt"], one["status"]) for one in failures] == [
            (attempt, None) for attempt in range(1, 7)
        ]
        assert failures[0]["error"].startswith("ConnectionRefusedError")

    def test_deliveries_are_dropped(self, workos: WorkOSStandIn, receiver: Receiver) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

        workos.drop_deliveries(2)
        for name in ("Lost", "Lost too", "Delivered"):
            workos.create_organization(name=name)

        assert workos.wait_for_deliveries()
        assert receiver.names() == ["Delivered"]
        assert [one["error"] for one in workos.deliveries()] == ["dropped", "dropped", None]

    def test_one_event_is_dropped(self, workos: WorkOSStandIn, receiver: Receiver) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.hold_deliveries()
        for name in ("First", "Lost", "Last"):
            workos.create_organization(name=name)

        workos.drop_deliveries(event_id=event_ids(workos)[1])
        workos.release_deliveries()

        assert workos.wait_for_deliveries()
        assert receiver.names() == ["First", "Last"]

    def test_deliveries_are_repeated(self, workos: WorkOSStandIn, receiver: Receiver) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

        workos.repeat_deliveries(3)
        workos.create_organization(name="Thrice")
        workos.repeat_deliveries(1)
        workos.create_organization(name="Once")

        assert workos.wait_for_deliveries()
        assert receiver.names() == ["Thrice", "Thrice", "Thrice", "Once"]

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ("as sent", ["0", "1", "2", "3", "4"]),
            ("reversed", ["4", "3", "2", "1", "0"]),
            ("shuffled", ["2", "1", "3", "4", "0"]),
        ],
    )
    def test_held_deliveries_are_released_in_an_order(
        self, workos: WorkOSStandIn, receiver: Receiver, order: Any, expected: list[str]
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.hold_deliveries()
        for number in range(5):
            workos.create_organization(name=str(number))
        assert workos.wait_for_deliveries()
        assert receiver.received == []

        released = workos.release_deliveries(order=order, seed=2)
        workos.create_organization(name="Last")

        assert workos.wait_for_deliveries()
        assert released == 5
        assert receiver.names() == [*expected, "Last"]

    def test_an_unknown_order_releases_nothing(
        self, workos: WorkOSStandIn, receiver: Receiver
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.hold_deliveries()
        workos.create_organization(name="Acme")
        unknown: Any = "sideways"

        with pytest.raises(ValueError, match="not 'sideways'"):
            workos.release_deliveries(order=unknown)

        assert workos.release_deliveries() == 1

    def test_deliveries_are_delayed(self, workos: WorkOSStandIn, receiver: Receiver) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)

        workos.delay_deliveries(60)
        workos.create_organization(name="Later")
        workos.delay_deliveries(0)
        workos.create_organization(name="Now")

        eventually(workos.deliveries)
        assert receiver.names() == ["Now"]
        assert not workos.wait_for_deliveries(timeout=0)

    def test_records_can_be_forgotten(self, workos: WorkOSStandIn, receiver: Receiver) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.create_organization(name="Acme")
        assert workos.wait_for_deliveries()

        workos.forget_deliveries()

        assert workos.deliveries() == []

    def test_a_hanging_endpoint_does_not_hold_up_the_stop(self, receiver: Receiver) -> None:
        receiver.answers.clear()
        others = stand_in_threads()
        with WorkOSStandIn() as workos:
            workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
            workos.create_organization(name="Acme")
            eventually(lambda: receiver.received)

            workos.stop()

            assert [one["status"] for one in workos.deliveries()] == [None]
            assert stand_in_threads() == others

    def test_what_is_left_is_delivered_after_a_start(
        self, workos: WorkOSStandIn, receiver: Receiver
    ) -> None:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        workos.stop()
        workos.create_organization(name="Acme")
        assert not workos.wait_for_deliveries()

        workos.start()

        assert workos.wait_for_deliveries()
        assert receiver.names() == ["Acme"]

    @pytest.mark.parametrize(
        ("url", "secret"),
        [
            ("ftp://example.org/", SECRET),
            ("http://", SECRET),
            ("http://localhost:65536/", SECRET),
            ("http://localhost/", ""),
        ],
    )
    def test_a_useless_endpoint_is_refused(
        self, workos: WorkOSStandIn, url: str, secret: str
    ) -> None:
        with pytest.raises(ValueError, match=r"a webhook endpoint needs|Port out of range"):
            workos.add_webhook_endpoint(url=url, secret=secret)


class TestMisbehaviour:
    @pytest.mark.parametrize("retry_after", [None, 7])
    def test_too_many_requests(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, retry_after: int | None
    ) -> None:
        workos.misbehave("rate_limited", retry_after=retry_after)

        with pytest.raises(RateLimitExceededError) as refused:
            read_events(sdk)

        assert refused.value.retry_after == retry_after

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_server_error(self, workos: WorkOSStandIn, sdk: WorkOSClient, status: int) -> None:
        workos.misbehave("status", status=status)

        with pytest.raises(ServerError) as failed:
            read_events(sdk)

        assert failed.value.status_code == status

    def test_any_status_with_any_body(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.misbehave("status", status=418, body={"message": "Short and stout", "code": "tea"})

        with pytest.raises(APIError, match="Short and stout") as refused:
            read_events(sdk)

        assert (refused.value.status_code, refused.value.code) == (418, "tea")

    def test_any_text(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.misbehave("text", text='{"data": 1, "data": 2}')

        assert read_events(sdk) == {"data": 2}

    def test_a_time_out(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.misbehave("time_out")

        with pytest.raises(WorkOSTimeoutError):
            sdk.request_raw("get", ("events",), request_options={"timeout": 0.05})

    @pytest.mark.parametrize(("kind", "parameters"), [("reset", {}), ("time_out", {"seconds": 0})])
    def test_no_answer(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, kind: str, parameters: JsonObject
    ) -> None:
        workos.misbehave(kind, **parameters)

        with pytest.raises(WorkOSError):
            read_events(sdk)

        assert [request["status"] for request in workos.requests()] == [None]

    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [
            pytest.param("html", {}, id="HTML"),
            pytest.param("truncated", {}, id="truncated"),
            pytest.param("empty", {}, id="empty"),
            pytest.param("body", {"body": []}, id="a list"),
            pytest.param("body", {"body": {"data": None}}, id="null for a list"),
        ],
    )
    @pytest.mark.parametrize("path", ["/events", "/organizations"])
    def test_the_sdk_takes_a_broken_answer_for_an_empty_page(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, path: str, kind: str, parameters: JsonObject
    ) -> None:
        workos.create_organization(name="Acme")
        workos.misbehave(kind, path=path, **parameters)
        pages: dict[str, Callable[[], Any]] = {
            "/events": lambda: sdk.events.list_events(events=FOLLOWED),
            "/organizations": sdk.organizations.list_organizations,
        }

        page = pages[path]()

        assert (page.data, page.after) == ([], None)
        assert len(pages[path]().data) == 1

    def test_a_listing_that_ends_early(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=5)
        workos.misbehave("ends_early", path="/organizations")

        page = list_raw(sdk, limit=2)

        assert len(page["data"]) == 2
        assert page["list_metadata"]["after"] is None

    def test_a_page_that_repeats(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=3)
        first = read_events(sdk, limit=2)
        workos.misbehave("repeated_page", times=None)

        pages = [read_events(sdk, limit=2, after=ids(first)[-1]) for _ in range(3)]

        assert [ids(page) for page in pages] == [event_ids(workos)[2:]] * 3
        assert pages[0]["list_metadata"]["after"] == ids(pages[0])[-1]

    def test_a_listing_without_metadata(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=1)
        workos.misbehave("no_list_metadata")

        page = read_events(sdk)

        assert len(page["data"]) == 1
        assert "list_metadata" not in page

    @pytest.mark.parametrize("kind", ["ends_early", "repeated_page", "no_list_metadata"])
    def test_what_is_no_listing_stays(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, kind: str
    ) -> None:
        organization = workos.create_organization(name="Acme")
        workos.misbehave(kind, path="/organizations/")

        answer = sdk.request_raw("get", ("organizations", organization["id"]))

        assert answer == organization

    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_a_cursor_that_is_refused(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, status: int
    ) -> None:
        workos.seed(organizations=2)
        first, second = event_ids(workos)
        workos.misbehave("expired_cursor", status=status)

        assert ids(read_events(sdk)) == [first, second]
        with pytest.raises(APIError) as refused:
            read_events(sdk, after=first)
        assert refused.value.status_code == status
        assert ids(read_events(sdk, after=first)) == [second]

    def test_a_cursor_that_restarts(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=2)
        first, second = event_ids(workos)
        workos.misbehave("expired_cursor", restart=True)

        assert ids(read_events(sdk, after=second)) == [first, second]

    def test_a_slow_answer_is_right(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.seed(organizations=1)
        workos.misbehave("slow", seconds=0.01)

        assert ids(read_events(sdk)) == event_ids(workos)

    @pytest.mark.parametrize(
        ("kind", "parameters"),
        [
            ("status", {"status": 503}),
            ("reset", {}),
            ("time_out", {"seconds": 0}),
            ("html", {"status": 502}),
        ],
    )
    @pytest.mark.parametrize("applied", [False, True])
    def test_a_change_may_be_made_all_the_same(
        self,
        workos: WorkOSStandIn,
        sdk: WorkOSClient,
        kind: str,
        parameters: JsonObject,
        applied: bool,
    ) -> None:
        organization = workos.create_organization(name="Acme")
        workos.misbehave(kind, method="PUT", path="/organizations", applied=applied, **parameters)

        with pytest.raises(WorkOSError):
            sdk.organizations.update_organization(organization["id"], external_id="gram-1")

        expected = "gram-1" if applied else None
        assert sdk.organizations.get_organization(organization["id"]).external_id == expected

    def test_a_change_is_made_once(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        organization = workos.create_organization(name="Acme")
        workos.misbehave("truncated", method="PUT", path="/organizations", applied=True)

        sdk.request_raw("put", ("organizations", organization["id"]), body={"name": "New"})

        assert len(workos.all_events()) == 2

    def test_it_ends_after_so_many_times(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.misbehave("status", status=500, times=2)
        workos.misbehave("status", status=503)

        statuses = [status_of(sdk) for _ in range(4)]

        assert statuses == [500, 500, 503, 200]

    def test_it_goes_on_until_told_to_behave(
        self, workos: WorkOSStandIn, sdk: WorkOSClient
    ) -> None:
        workos.misbehave("status", status=500, times=None)
        while_misbehaving = [status_of(sdk) for _ in range(5)]

        workos.behave()

        assert while_misbehaving == [500] * 5
        assert status_of(sdk) == 200

    @pytest.mark.parametrize(
        ("meant", "hit"),
        [
            pytest.param({"path": "/organizations"}, {"list", "get"}, id="below a path"),
            pytest.param({"path": "/organizations", "exact": True}, {"list"}, id="a path"),
            pytest.param({"path": "/organizations/"}, {"get"}, id="single ones"),
            pytest.param({"method": "PUT", "path": "/organizations"}, {"put"}, id="a method"),
            pytest.param(
                {"method": None, "path": None}, {"events", "list", "get", "put"}, id="everything"
            ),
        ],
    )
    def test_it_concerns_the_requests_meant(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, meant: Any, hit: set[str]
    ) -> None:
        path = ("organizations", workos.create_organization(name="Acme")["id"])
        workos.misbehave("status", status=500, times=None, **meant)
        requests: dict[str, Callable[[], object]] = {
            "events": lambda: read_events(sdk),
            "list": lambda: list_raw(sdk),
            "get": lambda: sdk.request_raw("get", path),
            "put": lambda: sdk.request_raw("put", path, body={"name": "New"}),
        }

        assert {name for name, request in requests.items() if fails(request)} == hit

    @pytest.mark.parametrize(
        ("kind", "parameters", "error", "message"),
        [
            ("sulk", {}, ValueError, "unknown misbehaviour 'sulk'"),
            ("slow", {}, TypeError, "seconds"),
            ("reset", {"status": 500}, TypeError, "status"),
        ],
    )
    def test_what_is_unknown_is_refused(
        self,
        workos: WorkOSStandIn,
        kind: str,
        parameters: JsonObject,
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            workos.misbehave(kind, **parameters)

    def test_requests_are_limited(self) -> None:
        with WorkOSStandIn(requests_per_minute=2) as workos, an_sdk(workos) as sdk:
            read_events(sdk)
            read_events(sdk)

            with pytest.raises(RateLimitExceededError) as refused:
                read_events(sdk)

        assert refused.value.retry_after is not None
        assert 1 <= refused.value.retry_after <= 60

    def test_deletions_are_limited(self) -> None:
        with WorkOSStandIn(deletions_per_minute=1) as workos, an_sdk(workos) as sdk:
            first, second = (workos.create_organization(name="Acme")["id"] for _ in range(2))
            sdk.organizations.delete_organization(first)

            with pytest.raises(RateLimitExceededError):
                sdk.organizations.delete_organization(second)
            assert sdk.organizations.get_organization(second).id == second


def status_of(sdk: WorkOSClient) -> int:
    try:
        read_events(sdk)
    except APIError as error:
        return error.status_code or 0
    return 200


def fails(request: Callable[[], object]) -> bool:
    try:
        request()
    except ServerError:
        return True
    return False


class TestRequests:
    def test_requests_are_recorded(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        list_raw(sdk, order="asc")
        with pytest.raises(NotFoundError):
            sdk.organizations.get_organization("org_1")
        sdk.organizations.create_organization(name="Acme")

        assert workos.requests() == [
            {
                "method": "GET",
                "path": "/organizations",
                "query": {"limit": "100", "order": "asc"},
                "status": 200,
            },
            {"method": "GET", "path": "/organizations/org_1", "query": {}, "status": 404},
            {"method": "POST", "path": "/organizations", "query": {}, "status": 201},
        ]
        assert workos.count_requests() == 3
        assert workos.count_requests(method="GET") == 2
        assert workos.count_requests(path="/organizations", exact=True) == 2
        workos.forget_requests()
        assert workos.requests() == []


class TestHttp:
    def test_a_body_that_is_no_json_is_refused(self, workos: WorkOSStandIn) -> None:
        answer = post_organization(workos, b"{")

        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_json"

    def test_a_body_that_is_no_object_is_refused(self, workos: WorkOSStandIn) -> None:
        assert post_organization(workos, b"[]").status_code == 422

    def test_a_body_needs_a_length(self, workos: WorkOSStandIn) -> None:
        assert post_organization(workos, iter([b"{}"])).status_code == 411

    @pytest.mark.parametrize("status", [204, 304])
    def test_an_answer_without_a_body_leaves_the_connection_whole(
        self, workos: WorkOSStandIn, sdk: WorkOSClient, status: int
    ) -> None:
        workos.create_organization(name="Acme")
        workos.misbehave("status", status=status)

        assert read_events(sdk) == {}
        assert names(read_events(sdk)) == ["Acme"]

    def test_a_connection_serves_many_requests(self, workos: WorkOSStandIn) -> None:
        before = stand_in_threads()

        with an_sdk(workos) as sdk:
            for _ in range(5):
                read_events(sdk)

            assert len(stand_in_threads() - before) == 1


def post_organization(workos: WorkOSStandIn, body: bytes | Iterator[bytes]) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {workos.api_key}"}
    return httpx2.post(f"{workos.base_url}/organizations", headers=headers, content=body)


class TestRunning:
    def test_nothing_is_left_of_it(self) -> None:
        others = stand_in_threads()
        with WorkOSStandIn() as workos, an_sdk(workos) as sdk:
            read_events(sdk)
            assert stand_in_threads() > others

            workos.stop()

            assert stand_in_threads() == others
            with pytest.raises(WorkOSConnectionError):
                read_events(sdk)

    def test_a_time_out_does_not_hold_up_the_stop(self) -> None:
        others = stand_in_threads()
        with WorkOSStandIn() as workos, an_sdk(workos) as sdk:
            workos.misbehave("time_out", seconds=3600)
            reader = threading.Thread(target=fails_without_answer, args=(sdk,))
            reader.start()
            eventually(workos.count_requests)

            workos.stop()

            reader.join()
            assert stand_in_threads() == others

    def test_an_outage_loses_nothing(self, workos: WorkOSStandIn, sdk: WorkOSClient) -> None:
        workos.create_organization(name="Before")
        address = workos.base_url
        workos.stop()
        workos.create_organization(name="Meanwhile")

        workos.start()

        assert workos.base_url == address
        assert names(read_events(sdk)) == ["Before", "Meanwhile"]

    def test_it_runs_once(self, workos: WorkOSStandIn) -> None:
        with pytest.raises(RuntimeError, match="is running"):
            workos.start()

    def test_it_stops_twice(self, workos: WorkOSStandIn) -> None:
        workos.stop()
        workos.stop()

    def test_it_has_no_address_before_it_starts(self) -> None:
        with pytest.raises(RuntimeError, match="no address"):
            _ = WorkOSStandIn().base_url

    def test_a_taken_port_is_an_error(self, workos: WorkOSStandIn) -> None:
        port = int(workos.base_url.rsplit(":", 1)[1])

        with pytest.raises(OSError, match="in use"):
            WorkOSStandIn(port=port).start()

    def test_threads_can_share_it(self, workos: WorkOSStandIn) -> None:
        def work(worker: int) -> None:
            with an_sdk(workos) as sdk:
                for number in range(20):
                    created = sdk.organizations.create_organization(name="Acme")
                    external_id = f"{worker}-{number}"
                    sdk.organizations.update_organization(created.id, external_id=external_id)
                    read_events(sdk)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        known = event_ids(workos)
        assert len(known) == 8 * 20 * 2
        assert known == sorted(set(known))
        assert len({one["external_id"] for one in workos.all_organizations()}) == 8 * 20


def fails_without_answer(sdk: WorkOSClient) -> None:
    with pytest.raises(WorkOSError):
        read_events(sdk)


class TestClient:
    @pytest.fixture
    def client(self, workos: WorkOSStandIn) -> StandInClient:
        return StandInClient(workos.base_url)

    def test_it_has_the_same_controls(self) -> None:
        for name, method in CONTROLS.items():
            assert inspect.signature(getattr(StandInClient, name)) == inspect.signature(method)

    def test_it_does_what_the_stand_in_does(
        self, workos: WorkOSStandIn, client: StandInClient, receiver: Receiver
    ) -> None:
        client.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        created = client.create_organization(name="Åcme", at=days_ago(1))
        updated = client.update_organization(created["id"], external_id="gram-1")
        emitted = client.emit({"data": None}, absent=["created_at"])

        assert client.wait_for_deliveries()
        assert workos.organization(created["id"]) == client.organization(created["id"]) == updated
        assert client.all_organizations() == [updated]
        assert client.all_events() == workos.all_events()
        assert client.all_events()[-1] == emitted
        assert client.deliveries() == workos.deliveries()
        client.delete_organization(created["id"])
        assert client.organization(created["id"]) is None

    def test_it_misbehaves(
        self, workos: WorkOSStandIn, client: StandInClient, sdk: WorkOSClient
    ) -> None:
        client.misbehave("status", status=503, times=None)
        assert status_of(sdk) == 503

        client.behave()
        assert status_of(sdk) == 200
        assert client.requests() == workos.requests()

    def test_it_raises_what_the_stand_in_raises(self, client: StandInClient) -> None:
        client.create_organization(name="Acme", external_id="gram-1")

        with pytest.raises(Refused) as refused:
            client.create_organization(name="Acme", external_id="gram-1")
        assert (refused.value.status, refused.value.code) == (400, "external_id_already_used")
        with pytest.raises(Refused, match="there is no event event_1"):
            client.expire_events(before="event_1")

    @pytest.mark.parametrize("name", ["stop", "_respond", "__init__", "api_key"])
    def test_only_controls_are_called(self, sdk: WorkOSClient, name: str) -> None:
        with pytest.raises(BadRequestError, match="there is no control"):
            sdk.request_raw("post", ("_stand_in", name))

    @pytest.mark.parametrize("body", [b"[1]", b"{", b'{"nme": "Acme"}', b"{}"])
    def test_bad_arguments_are_refused(self, workos: WorkOSStandIn, body: bytes) -> None:
        url = f"{workos.base_url}/_stand_in/create_organization"

        answer = httpx2.post(url, content=body)

        assert answer.status_code == 400
        assert answer.json()["code"] == "bad_control"


@contextmanager
def a_process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], StandInClient]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "orgs.testing", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, StandInClient(process.stdout.readline().strip())
        finally:
            process.kill()


class TestProcess:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_serves_until_told_to_stop(self, receiver: Receiver, number: signal.Signals) -> None:
        arguments = ["--api-key", "sk_test_other", "--hold-back", "60"]
        webhook = ["--webhook-url", receiver.url, "--webhook-secret", SECRET]
        with a_process(*arguments, *webhook) as (process, client):
            client.create_organization(name="Acme")

            with an_sdk(client, api_key="sk_test_other") as sdk:
                assert [one.name for one in sdk.organizations.list_organizations()] == ["Acme"]
                assert read_events(sdk)["data"] == []
            assert client.wait_for_deliveries()
            assert receiver.names() == ["Acme"]
            process.send_signal(number)
            assert process.wait(timeout=10) == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--port", "http"], "argument --port: http is not a port"),
            (["--port", "65536"], "argument --port: 65536 is not a port"),
            (["--hold-back", "-1"], "argument --hold-back: -1 is not a number of seconds"),
            (["--hold-back", "soon"], "argument --hold-back: soon is not a number of seconds"),
            (["--api-key", ""], "argument --api-key: must not be empty"),
            (["--webhook-url", "http://a/"], "--webhook-url and --webhook-secret need each other"),
            (
                ["--webhook-url", "a", "--webhook-secret", "b"],
                "a webhook endpoint needs an http or https URL, not 'a'",
            ),
        ],
    )
    def test_bad_arguments_are_explained(
        self, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
    ) -> None:
        out, err, code = run_main(capsys, *arguments)

        assert (out, code) == ("", 2)
        assert err.splitlines()[-1] == f"python -m orgs.testing: error: {message}"

    def test_a_taken_port_is_explained(
        self, workos: WorkOSStandIn, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, err, code = run_main(capsys, "--port", workos.base_url.rsplit(":", 1)[1])

        assert (out, code) == ("", 2)
        assert "Address already in use" in err.splitlines()[-1]


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, object]:
    """Run a stand-in that won't start; return what it wrote to both streams, and its exit code."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return out, err, end.value.code
