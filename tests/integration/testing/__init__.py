"""Tests of the fake WorkOS, spoken to by the real SDK over real HTTP."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from workos import WorkOSClient
from workos._errors import APIError

from orgs.testing import FakeWorkOS, FakeWorkOSClient, JsonObject

FOLLOWED = ["organization.created", "organization.updated", "organization.deleted"]


def an_sdk(fake: FakeWorkOS | FakeWorkOSClient, api_key: str = "sk_test_fake") -> WorkOSClient:
    return WorkOSClient(api_key=api_key, base_url=fake.base_url, max_retries=0)


def read(sdk: WorkOSClient, path: str = "events", **parameters: Any) -> JsonObject:
    """Read one page, by default of events, as it was sent."""
    types = {"events": ",".join(FOLLOWED)} if path == "events" else {}
    return sdk.request_raw("get", path.split("/"), params={"limit": 100, **types, **parameters})


def ids(page: JsonObject) -> list[str]:
    return [entry["id"] for entry in page["data"]]


def names(page: JsonObject) -> list[str]:
    return [entry["data"]["name"] for entry in page["data"]]


def event_ids(fake: FakeWorkOS) -> list[str]:
    return ids({"data": fake.all_events()})


def status_of(request: Callable[[], object]) -> int:
    try:
        request()
    except APIError as error:
        return error.status_code or 0
    return 200


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def fake_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("fake-workos")}
