"""The calls to WorkOS: what they ask, and what they make of the answers."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from orgs import workos as edge
from orgs.domain.budget import Share
from orgs.domain.resources import ORGANIZATIONS
from orgs.domain.types import Page, Position, State
from orgs.testing import FakeWorkOS
from orgs.workos import pacing
from tests.builders import TYPES

ORGANIZATION = {"id": "org_1", "name": "Acme", "updated_at": "2026-01-15T12:00:00.000Z"}


def read(position: Position | None = None, limit: int = 100) -> Page[Position]:
    return edge.read_events(position or Position(), types=TYPES, limit=limit)


@pytest.mark.parametrize(
    ("at", "query"),
    [
        (None, {}),
        ("2026-01-15T12:00:00.123456+02:00", {"range_start": "2026-01-15T10:00:00.123Z"}),
    ],
    ids=["the beginning", "a time: in UTC, with a Z"],
)
def test_the_query_of_a_read(workos: FakeWorkOS, at: str | None, query: dict[str, str]) -> None:
    read(Position(None, datetime.fromisoformat(at) if at else None), limit=7)

    (request,) = workos.requests()
    types = "organization.created,organization.updated,organization.deleted"
    assert request["query"] == {"events": types, "order": "asc", "limit": "7", **query}


def test_only_the_stream_has_its_share(workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Share] = []
    monkeypatch.setattr(pacing, "wait_for_turn", lambda share, **_: asked.append(share))
    acme = workos.create_organization(name="Acme")
    calls: list[Callable[[], object]] = [
        read,
        partial(edge.read_organizations, None),
        partial(edge.lookup, ORGANIZATIONS, acme["id"]),
        partial(edge.find_by_external_id, "gram-1"),
    ]
    for call in calls:
        call()
    edge.offer_external_id(acme["id"], "gram-1")

    assert asked == [Share.STREAM, *[Share.BULK] * 5]


def test_organizations_are_listed_in_pages_with_workoss_own_time(workos: FakeWorkOS) -> None:
    workos.set_clock_offset(-86_400)
    workos.seed(organizations=101)

    first = edge.read_organizations(None)
    last = edge.read_organizations(first.position)

    assert [len(first.observations), len(last.observations)] == [100, 1]
    assert (first.is_last, last.is_last) == (False, True)
    assert all(seen.state is State.PRESENT for seen in first.observations)
    assert first.date is not None
    assert first.date < datetime.now(UTC) - timedelta(hours=23)
    for date in (None, "yesterday"):
        workos.misbehave("headers", path="/organizations", headers={"Date": date})
        assert edge.read_organizations(None).date is None


def test_a_page_with_something_without_an_id_is_no_empty_one(workos: FakeWorkOS) -> None:
    body = {"data": [ORGANIZATION, {"name": "Acme"}], "list_metadata": {"after": None}}
    workos.misbehave("body", path="/organizations", body=body)
    page = edge.read_organizations(None)

    for _ in range(2):
        with pytest.raises(edge.BrokenAnswer, match="no usable id"):
            page.observations  # noqa: B018 - parsed when it is asked for


@pytest.mark.parametrize("body", [[], {}, {**ORGANIZATION, "id": "org_2"}])
def test_an_answer_about_another_organization_is_broken(workos: FakeWorkOS, body: object) -> None:
    workos.misbehave("body", path="/organizations", body=body)

    with pytest.raises(edge.BrokenAnswer):
        edge.lookup(ORGANIZATIONS, "org_1")


@pytest.mark.parametrize(
    ("id_", "why"),
    [
        *(pytest.param(id_, "asked for", id=repr(id_)) for id_ in ("", ".", "..", "org_\udcff")),
        pytest.param("x" * 70_000, "too long", id="too long"),
        pytest.param("株" * 30_000, "too long", id="too long, not ASCII"),
    ],
)
def test_an_id_that_no_address_can_have_is_refused(workos: FakeWorkOS, id_: str, why: str) -> None:
    with pytest.raises(edge.Refused, match=why):
        edge.lookup(ORGANIZATIONS, id_)
    if len(id_) > 2:
        with pytest.raises(edge.Refused, match=why):
            read(Position(id_))

    assert workos.count_requests() == 0


def test_an_id_is_one_segment_of_the_address(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")

    assert edge.lookup(ORGANIZATIONS, "external_id/gram-1").state is State.ABSENT


@pytest.mark.parametrize(
    ("body", "is_own"),
    [
        ({"code": "entity_not_found", "message": "Organization not found: 'org_1'."}, True),
        ({"message": "Organization not found"}, True),
        ({"message": "Not Found", "code": "not_found"}, True),
        ({"error": "not_found"}, True),
        pytest.param({}, False, id="says nothing"),
        pytest.param([], False, id="not an object"),
        pytest.param({"message": "no Route matched with those values"}, False, id="a gateway's"),
        pytest.param({"code": 5, "message": "Method does not exist."}, False, id="a number"),
        pytest.param({"code": "", "message": "Not Found"}, False, id="an empty code"),
        pytest.param({"code": "not_found", "message": "Cannot GET /v2/x"}, False, id="no address"),
    ],
)
def test_only_workoss_404_is_an_absence(workos: FakeWorkOS, body: object, is_own: object) -> None:
    workos.misbehave("status", status=404, path="/organizations", body=body)

    with nullcontext() if is_own else pytest.raises(edge.BrokenAnswer, match="not WorkOS's own"):
        assert edge.lookup(ORGANIZATIONS, "org_1").state is State.ABSENT


def test_an_organization_is_found_by_its_external_id(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")

    assert edge.find_by_external_id("gram-1") == acme["id"]
    assert edge.find_by_external_id("gram-2") is None
    assert edge.find_by_external_id("gram-\u00e9") is None
    assert workos.count_requests(path="/organizations/external_id") == 2


@pytest.mark.parametrize(
    "change", [{"id": None}, {"id": 7}, {"id": "a" * 256}, {"external_id": "gram-2"}]
)
def test_an_answer_for_another_id_is_broken(workos: FakeWorkOS, change: dict[str, object]) -> None:
    body = {"id": "org_1", "external_id": "gram-1", **change}
    workos.misbehave("body", path="/organizations/external_id", body=body)

    with pytest.raises(edge.BrokenAnswer):
        edge.find_by_external_id("gram-1")


@pytest.mark.parametrize(
    ("gram_id", "conflict", "puts"),
    [
        pytest.param("a" * 64, None, 1, id="as long as WorkOS takes"),
        pytest.param("a" * 129, "does not fit", 0, id="too long"),
        pytest.param("gram-é", "does not fit", 0, id="not ASCII"),
        pytest.param("gram-1", "already", 1, id="used elsewhere"),
    ],
)
def test_an_id_that_workos_cant_hold_is_a_conflict_and_not_offered(
    workos: FakeWorkOS, gram_id: str, conflict: str | None, puts: int
) -> None:
    workos.create_organization(name="Other", external_id="gram-1")
    acme = workos.create_organization(name="Acme")

    raises = pytest.raises(edge.ExternalIdConflict, match=conflict)
    with raises if conflict else nullcontext():
        edge.offer_external_id(acme["id"], gram_id)

    assert workos.count_requests(method="PUT") == puts


def test_an_id_that_is_used_elsewhere_is_a_conflict_whatever_the_status(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    body = {"code": "external_id_already_used", "message": "It is used."}
    workos.misbehave("status", status=409, method="PUT", path="/organizations", body=body)

    with pytest.raises(edge.ExternalIdConflict):
        edge.offer_external_id(acme["id"], "gram-1")


def test_a_write_back_that_is_refused_for_another_reason_is_no_conflict(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    workos.misbehave("status", status=422, method="PUT", path="/organizations")

    with pytest.raises(edge.Refused):
        edge.offer_external_id(acme["id"], "gram-1")
