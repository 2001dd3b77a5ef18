"""How the fake WorkOS misbehaves on request: each kind, its aim and its end; and its limits."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest
from workos import WorkOSClient

from orgs.testing import FakeWorkOS, JsonObject
from tests.integration.testing import days_ago, event_ids, ids, read, status_of


def get_events(workos: FakeWorkOS, after: str = "") -> httpx2.Response:
    return httpx2.get(
        f"{workos.base_url}/events?events=organization.created" + (after and f"&after={after}"),
        headers={"Authorization": f"Bearer {workos.api_key}"},
    )


@pytest.mark.parametrize(
    ("kind", "parameters", "status", "text"),
    [
        ("status", {"status": 418, "body": {"message": "Tea"}}, 418, '{"message":"Tea"}'),
        ("html", {}, 200, "<!doctype html>"),
        ("truncated", {}, 200, '{"object":"list","data":['),
        ("expired_cursor", {"status": 404}, 404, '{"message":"Unknown cursor: \'event_'),
        ("time_out", {"seconds": 0}, None, ""),
    ],
)
def test_one_answer_is_wrong(
    workos: FakeWorkOS, kind: str, parameters: JsonObject, status: int | None, text: str
) -> None:
    workos.seed(organizations=2)
    first, second = event_ids(workos)
    workos.misbehave(kind, **parameters)

    if status is None:
        with pytest.raises(httpx2.TransportError):
            get_events(workos, first)
    else:
        answer = get_events(workos, first)
        assert answer.status_code == status
        assert answer.text.startswith(text)
        assert second not in answer.text[-60:]
    assert workos.requests()[0]["status"] == status
    assert ids(get_events(workos, first).json()) == [second]


@pytest.mark.parametrize(
    ("kind", "parameters", "listed", "metadata"),
    [
        pytest.param("slow", {"seconds": 0.01}, [1, 2], {"before": 1, "after": 2}, id="slow"),
        pytest.param("ends_early", {}, [1, 2], {"before": 1, "after": None}, id="ends early"),
        pytest.param("no_list_metadata", {}, [1, 2], None, id="no metadata"),
        pytest.param(
            "expired_cursor", {"restart": True}, [0, 1], {"before": None, "after": 1}, id="restart"
        ),
    ],
)
def test_a_listing_is_altered_and_nothing_else(
    workos: FakeWorkOS, sdk: WorkOSClient, kind: str, parameters: Any, listed: Any, metadata: Any
) -> None:
    workos.seed(organizations=4)
    known = event_ids(workos)
    organization = workos.all_organizations()[0]
    workos.misbehave(kind, path=None, times=2, **parameters)

    page = read(sdk, limit=2, after=known[0])
    single = sdk.request_raw("get", ("organizations", organization["id"]))

    assert ids(page) == [known[number] for number in listed]
    assert page.get("list_metadata") == (
        metadata and {key: None if at is None else known[at] for key, at in metadata.items()}
    )
    assert single == organization


@pytest.mark.parametrize(
    ("meant", "hit"),
    [
        pytest.param({"path": "/organizations"}, {"list", "get"}, id="below a path"),
        pytest.param({"path": "/organizations", "exact": True}, {"list"}, id="a path"),
        pytest.param({"path": "/organizations/"}, {"get"}, id="single ones"),
        pytest.param({"method": "PUT", "path": "/organizations"}, {"put"}, id="a method"),
        pytest.param({"method": None, "path": None}, {"events", "list", "get", "put"}, id="all"),
    ],
)
@pytest.mark.parametrize("way", ["misbehave", "limit"])
def test_it_concerns_the_requests_meant(
    workos: FakeWorkOS, sdk: WorkOSClient, meant: Any, hit: set[str], way: str
) -> None:
    path = ("organizations", workos.create_organization(name="Acme")["id"])
    meant = {"method": "GET", **meant}
    if way == "misbehave":
        workos.misbehave("status", status=429, times=None, **meant)
    else:
        workos.limit_requests(0, **meant)
    requests: dict[str, Callable[[], object]] = {
        "events": lambda: read(sdk),
        "list": lambda: read(sdk, "organizations"),
        "get": lambda: sdk.request_raw("get", path),
        "put": lambda: sdk.request_raw("put", path, body={"name": "New"}),
    }

    assert {name for name, request in requests.items() if status_of(request) == 429} == hit
    assert workos.count_requests(**meant) == workos.count_requests(status=429) == len(hit)


def test_requests_are_limited_in_a_window(workos: FakeWorkOS) -> None:
    workos.limit_requests(2, seconds=3600)

    answers = [get_events(workos) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "3600"
    workos.limit_requests(1, seconds=1e-9)
    assert [get_events(workos).status_code for _ in range(2)] == [200, 200]
    workos.limit_requests(0)
    workos.limit_requests(None)
    assert get_events(workos).status_code == 200
    with pytest.raises(ValueError, match="no limit"):
        workos.limit_requests(1, seconds=0)


def test_every_answer_has_an_id_and_the_date_of_the_fakes_clock(workos: FakeWorkOS) -> None:
    workos.set_clock_offset(-86_400)
    workos.misbehave("rate_limited", retry_after=7)
    workos.misbehave("headers", headers={"Date": None, "X-Request-ID": "req_1"})

    limited, altered, *others = [get_events(workos) for _ in range(4)]

    assert limited.headers["Retry-After"] == "7"
    assert (altered.headers.get("Date"), altered.headers["X-Request-ID"]) == (None, "req_1")
    assert len({answer.headers["X-Request-ID"] for answer in (limited, *others)}) == 3
    for answer in (limited, *others):
        date = parsedate_to_datetime(answer.headers["Date"])
        assert abs((days_ago(1) - date).total_seconds()) < 60
