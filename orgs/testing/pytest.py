"""Fixtures for pytest with pytest-django: ``pytest_plugins = ["orgs.testing.pytest"]``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from orgs.workos import close

from .fake import FakeWorkOS

if TYPE_CHECKING:  # older versions of pytest-django have the fixture under another name
    from pytest_django import Settings


@pytest.fixture
def workos(settings: "Settings") -> Iterator[FakeWorkOS]:
    """Run a fake WorkOS for one test, with ``settings.WORKOS_SYNC`` pointed at it."""
    with FakeWorkOS() as fake:
        settings.WORKOS_SYNC = {
            **(getattr(settings, "WORKOS_SYNC", None) or {}),
            "BASE_URL": fake.base_url,
            "API_KEY": fake.api_key,
        }
        yield fake
        close()


@pytest.fixture
def workos_url(workos: FakeWorkOS) -> str:
    """Return the address of the fake WorkOS."""
    return workos.base_url
