"""The event stream of the fake WorkOS: what it lists, and when."""

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from workos import BadRequestError, WorkOSClient
from workos.common.models import OrganizationCreated, OrganizationDeleted, OrganizationUpdated

from orgs.testing import FakeWorkOS, UlidFactory, ulid_milliseconds
from tests.integration.testing import FOLLOWED, days_ago, event_ids, ids, names, read, status_of


def test_each_change_has_an_event_as_documented(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    created = workos.create_organization(name="Acme", at="2100-01-15T12:00:00Z")
    sdk.organizations.update_organization(created["id"], external_id="gram-1")
    workos.delete_organization(created["id"])

    models = [type(event) for event in sdk.events.list_events(events=FOLLOWED).data]
    first, second, third = read(sdk)["data"]

    assert models == [OrganizationCreated, OrganizationUpdated, OrganizationDeleted]
    assert list(first) == ["object", "id", "event", "created_at", "context", "data"]
    assert (first["object"], first["created_at"]) == ("event", "2100-01-15T12:00:00.000Z")
    assert first["data"] == created
    sources = [event["context"]["actor"]["source"] for event in (first, second, third)]
    assert sources == ["dashboard", "api", "dashboard"]
    assert second["context"]["previous_attributes"] == {"external_id": None}
    assert third["data"] == second["data"]


def test_ids_increase_and_have_the_time_of_the_event(workos: FakeWorkOS) -> None:
    moments = [days_ago(1), days_ago(2), days_ago(1)]
    for at in moments:
        workos.create_organization(name="Acme", at=at)

    known = event_ids(workos)
    times = [ulid_milliseconds(one.removeprefix("event_")) for one in known]

    assert {len(one) for one in known} == {len("event_") + 26}
    assert all(abs(ms - at.timestamp() * 1000) <= 1 for ms, at in zip(times, moments, strict=True))
    assert known[1] < known[0] < known[2]


def test_types_organization_and_range_are_filters(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    mine = workos.create_organization(name="Mine", at=days_ago(4))["id"]
    other = workos.create_organization(name="Other", at=days_ago(3))["id"]
    activated = {"event": "connection.activated", "data": {"organization_id": mine}}
    workos.emit(activated, at=days_ago(2))
    workos.update_organization(mine, name="Ours", at=days_ago(1))
    workos.delete_organization(other)
    both = ",".join([*FOLLOWED, "connection.activated"])

    def listed(**parameters: Any) -> list[str]:
        return [event["event"].split(".")[1] for event in read(sdk, **parameters)["data"]]

    def bound(days: float) -> str:
        return days_ago(days).isoformat().replace("+00:00", "Z")

    assert listed() == ["created", "created", "updated", "deleted"]
    assert listed(events="organization.deleted,connection.activated") == ["activated", "deleted"]
    assert listed(events=both, organization_id=mine) == ["created", "activated", "updated"]
    assert listed(range_start=bound(3.5), range_end=bound(0.5)) == ["created", "updated"]
    with pytest.raises(BadRequestError, match="Organization not found"):
        read(sdk, organization_id=other)


def test_a_recent_event_is_held_back(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    workos.set_hold_back(5)
    workos.create_organization(name="Old", at=days_ago(1))
    workos.create_organization(name="Recent")
    workos.create_organization(name="Future", at="2100-01-01")
    workos.emit({"data": {"id": "org_1", "name": "Late"}}, visible_after=60)
    workos.create_organization(name="Last")

    listed = []
    for seconds in (0, 5, 60):
        workos.set_clock_offset(seconds)
        listed.append(names(read(sdk)))

    assert listed[0] == ["Old"]
    assert listed[1] == ["Old", "Recent", "Future", "Last"]
    assert listed[2] == ["Old", "Recent", "Future", "Late", "Last"]


def test_an_old_event_and_its_cursor_expire(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    workos.create_organization(name="Kept", at=days_ago(29))
    workos.create_organization(name="Expired", at=days_ago(31))
    workos.create_organization(name="New")
    kept, expired, new = event_ids(workos)

    assert names(read(sdk)) == ["Kept", "New"]
    for status in (400, 404, 422):
        workos.set_lost_cursor("refuse", status=status)
        assert status_of(lambda: read(sdk, after=expired)) == status
        assert status_of(lambda: read(sdk, after="event_unknown")) == status
    workos.set_lost_cursor("restart")
    assert ids(read(sdk, after=expired)) == [kept, new]
    assert ids(read(sdk, after=kept)) == [new]
    workos.expire_events(before=new)
    assert ids(read(sdk, after=kept)) == [new]
    workos.set_clock_offset(31 * 24 * 60 * 60)
    assert read(sdk)["data"] == []
    assert len(workos.all_events()) == 3
    with pytest.raises(ValueError, match="there is no event event_1"):
        workos.expire_events(before="event_1")


def test_any_json_and_any_text_reach_the_reader(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    texts = ['{"id": "first", "id": "last"}', "[1e999, -0]", r'"\ud800"', "\udcff"]
    values: list[Any] = [
        *(None, 7, "event", [], {}),
        {"event": "organization.renamed", "id": "event_1"},
        {"event": ["organization.updated"], "id": {}},
        {"id": "event_\0", "data": "\ud800 Å"},
    ]
    for value in values:
        workos.emit(value, raw=True)
    workos.emit({"data": 1}, absent=["id", "created_at"])
    filled_in: Any = workos.emit({"data": {}})

    listed: list[Any] = []
    page = read(sdk, limit=1)
    while page["list_metadata"]["after"] is not None:
        listed += page["data"]
        page = read(sdk, limit=1, after=page["list_metadata"]["after"])
    for number, text in enumerate(texts):
        workos.emit_text(text, id=f"text_{number}")
    answer = httpx2.get(
        f"{workos.base_url}/events?events=organization.updated&after=text_0",
        headers={"Authorization": f"Bearer {workos.api_key}"},
    )

    assert listed == [*values, {"event": "organization.updated", "data": 1}]
    assert page["data"] == [filled_in]
    assert filled_in["id"].startswith("event_")
    assert datetime.fromisoformat(filled_in["created_at"]).tzinfo == UTC
    sent = ",".join(texts[1:]).encode("utf-8", "surrogateescape")
    assert b"[" + sent + b"]" in answer.content
    with pytest.raises(TypeError, match="raw=True"):
        workos.emit([])


def test_the_place_is_that_of_emission(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    new = workos.create_organization(name="New")
    old_id = f"event_{UlidFactory().make(0)}"
    workos.emit({"id": old_id, "data": new})
    workos.create_organization(name="Last")

    assert ids(read(sdk))[1] == old_id
    assert names(read(sdk, after=old_id)) == ["Last"]
