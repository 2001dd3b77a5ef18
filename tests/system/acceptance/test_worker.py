"""From webhook to row to write-back, with a real ``qcluster`` in its own session."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services.queue import SYNC_EVENTS, ring
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import WEBHOOK_SECRET, a_cluster, environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(120)]


@pytest.fixture
def webhooks(live_server: Any, workos: FakeWorkOS, settings: Settings) -> Callable[..., FakeWorkOS]:
    """The fake, delivering to the real view."""
    workos.add_webhook_endpoint(url=f"{live_server.url}/webhooks/workos/", secret=WEBHOOK_SECRET)
    return lambda: workos


def is_written_back(workos: FakeWorkOS, workos_id: str) -> bool:
    row = Organization.objects.filter(workos_id=workos_id).first()
    there = workos.organization(workos_id)
    return row is not None and there is not None and there["external_id"] == row.id


def test_a_webhook_becomes_a_row_and_a_write_back_without_a_word(
    webhooks: Callable[[], FakeWorkOS], tmp_path: Path
) -> None:
    workos = webhooks()
    workos.set_hold_back(1.0)
    log = tmp_path / "cluster.log"

    with log.open("wb") as output, a_cluster(environment_for(workos), output):
        acme = workos.create_organization(name="Acme")
        wait_until(lambda: is_written_back(workos, acme["id"]), "the id is written back")
        wait_until(
            lambda: WorkOSEvent.objects.filter(outcome="updated").exists(),
            "the echo of the write-back is read",
        )

    assert Organization.objects.get().slug == "acme"
    assert not ExternalIdWriteBack.objects.exists()
    assert WorkOSEvent.objects.exclude(announced_at=None).exclude(processed_at=None).count() == 2
    assert log.read_text() == ""


def test_a_worker_killed_in_the_middle_loses_nothing_and_applies_nothing_twice(
    webhooks: Callable[[], FakeWorkOS],
) -> None:
    workos = webhooks()
    workos.misbehave("time_out", seconds=60)

    with a_cluster(environment_for(workos)) as cluster:
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        wait_until(lambda: workos.count_requests(path="/events") == 1, "a drain is reading")
        os.killpg(cluster.pid, signal.SIGKILL)
    # The killed holder's lease, and the task it took along, would run out by themselves.
    SyncCursor.objects.update(draining_until=None)
    ring(SYNC_EVENTS)
    with a_cluster(environment_for(workos)):
        wait_until(Organization.objects.exists, "the event is applied")

    assert Organization.objects.get().workos_id == acme["id"]
    assert WorkOSEvent.objects.get().outcome == "created"


def test_a_cluster_says_what_is_missing_and_does_not_start(workos: FakeWorkOS) -> None:
    with a_cluster(environment_for(workos, WORKOS_API_KEY="")) as cluster:
        code = cluster.wait(60)

    assert code == 1
