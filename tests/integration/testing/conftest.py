"""Fixtures: the SDK, and an endpoint for the webhooks of the fake."""

from collections.abc import Iterator

import pytest
from workos import WorkOSClient

from orgs.testing import FakeWorkOS
from tests.integration.testing import an_sdk
from tests.integration.testing.receiver import SECRET, Receiver


@pytest.fixture
def sdk(workos: FakeWorkOS) -> Iterator[WorkOSClient]:
    with an_sdk(workos) as client:
        yield client


@pytest.fixture
def receiver(workos: FakeWorkOS) -> Iterator[Receiver]:
    """An endpoint that gets all webhooks."""
    with Receiver() as endpoint:
        workos.add_webhook_endpoint(url=endpoint.url, secret=SECRET)
        yield endpoint
