"""Fixtures of the services' tests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from orgs.db.cursor import read_cursor
from orgs.domain.types import Position
from orgs.services.coverage import adopt_settings
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import NO_ROUTE, NOON, minutes
from tests.integration.services.stored import Around, Setting


@pytest.fixture(autouse=True)
def _database(database: None) -> None:
    """Every service works on the database."""


@pytest.fixture
def elsewhere() -> Iterator[FakeWorkOS]:
    """Another environment, with one organization."""
    with FakeWorkOS() as fake:
        fake.create_organization(name="Another", at=NOON)
        yield fake


@pytest.fixture(params=["a wrong path", "the key of another environment"])
def wrong_place(
    request: pytest.FixtureRequest, workos: FakeWorkOS, elsewhere: FakeWorkOS, sync_setting: Any
) -> None:
    """Settings by which WorkOS answers, and knows no organization that a row is linked to."""
    workos.misbehave("status", status=404, path="/v1", body=NO_ROUTE, times=None)
    is_path = request.param == "a wrong path"
    sync_setting(BASE_URL=f"{workos.base_url}/v1" if is_path else elsewhere.base_url)


@pytest.fixture
def follow(sync_setting: Setting) -> Setting:
    """Has these resources followed beside organizations, as a worker with other settings does."""

    def follow(*resources: str, **settings: float) -> None:
        sync_setting(RESOURCES=("organization", *resources), **settings)
        adopt_settings()

    return follow


@pytest.fixture
def no_hold_back(sync_setting: Setting) -> None:
    """What is new is not left to its event."""
    sync_setting(HOLD_BACK_WINDOW=0.0)


@pytest.fixture
def impatient(sync_setting: Setting) -> None:
    """Locks of other programs are not waited for long."""
    sync_setting(LOCK_TIMEOUT=0.05)


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Around:
    """Has something happen whenever a function is called."""
    return _around(monkeypatch, is_before=True)


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Around:
    """Has something happen whenever a function has been called, before its caller goes on."""
    return _around(monkeypatch, is_before=False)


def _around(patch: pytest.MonkeyPatch, *, is_before: bool) -> Around:
    def set_up(owner: Any, name: str, happens: Callable[..., object]) -> None:
        real = getattr(owner, name)

        def calling(*values: Any, **options: Any) -> Any:
            if is_before:
                happens(*values)
            result = real(*values, **options)
            if not is_before:
                happens(*values)
            return result

        patch.setattr(owner, name, calling)

    return set_up


@pytest.fixture
def drained(workos: FakeWorkOS) -> Position:
    """Where the cursor stands after two events, of which the first is ten minutes old."""
    workos.create_organization(name="First", at=datetime.now(UTC) - minutes(10))
    workos.create_organization(name="Second")
    drain_to_end()
    workos.forget_requests()
    return read_cursor().position
