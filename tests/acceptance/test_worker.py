"""From webhook to row to write-back, with a real ``qcluster`` in its own session."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services.ring import SYNC_EVENTS, ring
from tests.concurrency import wait_until
from tests.processes import MANAGE, PROJECT, WEBHOOK_SECRET, environment_for
from tests.workos_stand_in import WorkOSStandIn

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(120)]


@contextmanager
def a_cluster(
    workos: WorkOSStandIn, *, output: IO[bytes] | None = None, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running ``qcluster`` with one worker; its whole session is gone afterwards."""
    cluster = subprocess.Popen(
        [*MANAGE, "qcluster"],
        cwd=PROJECT,
        env=environment_for(workos, POLL_PAUSE_SECONDS="0.05", WORKERS="1", **environment),
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield cluster
    finally:
        cluster.terminate()
        with suppress(subprocess.TimeoutExpired):
            cluster.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait()


@pytest.fixture
def webhooks(
    live_server: Any, workos: WorkOSStandIn, settings: Settings
) -> Callable[..., WorkOSStandIn]:
    """The stand-in, delivering to the real view."""
    workos.add_webhook_endpoint(url=f"{live_server.url}/webhooks/workos/", secret=WEBHOOK_SECRET)
    return lambda: workos


def is_written_back(workos: WorkOSStandIn, workos_id: str) -> bool:
    row = Organization.objects.filter(workos_id=workos_id).first()
    there = workos.organization(workos_id)
    return row is not None and there is not None and there["external_id"] == row.id


def test_a_webhook_becomes_a_row_and_a_write_back(
    webhooks: Callable[[], WorkOSStandIn],
) -> None:
    workos = webhooks()
    workos.set_hold_back(1.0)

    with a_cluster(workos):
        acme = workos.create_organization(name="Acme")
        wait_until(lambda: is_written_back(workos, acme["id"]), "the id is written back")
        wait_until(
            lambda: WorkOSEvent.objects.filter(outcome="updated").exists(),
            "the echo of the write-back is read",
        )

    assert Organization.objects.get().slug == "acme"
    assert not ExternalIdWriteBack.objects.exists()
    assert WorkOSEvent.objects.exclude(announced_at=None).exclude(processed_at=None).count() == 2


def test_a_worker_killed_in_the_middle_loses_nothing_and_applies_nothing_twice(
    webhooks: Callable[[], WorkOSStandIn],
) -> None:
    workos = webhooks()
    workos.misbehave("time_out", seconds=60)

    with a_cluster(workos) as cluster:
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        wait_until(lambda: workos.count_requests(path="/events") == 1, "a drain is reading")
        os.killpg(cluster.pid, signal.SIGKILL)
    # The killed holder's lease, and the task it took along, would run out by themselves.
    SyncCursor.objects.update(draining_until=None)
    ring(SYNC_EVENTS)
    with a_cluster(workos):
        wait_until(Organization.objects.exists, "the event is applied")

    assert Organization.objects.get().workos_id == acme["id"]
    assert WorkOSEvent.objects.get().outcome == "created"


def test_a_cluster_says_what_is_missing_and_does_not_start(workos: WorkOSStandIn) -> None:
    with a_cluster(workos, WORKOS_API_KEY="") as cluster:
        code = cluster.wait(60)

    assert code == 1


def test_no_secret_and_no_payload_reaches_the_logs(
    webhooks: Callable[[], WorkOSStandIn], tmp_path: Path
) -> None:
    workos = webhooks()
    log = tmp_path / "cluster.log"
    workos.misbehave("status", status=401, body={"message": f"bad key {workos.api_key}"})
    workos.emit({"event": "organization.created", "data": {"id": "org_1", "name": "S3cr3t Ltd"}})

    with log.open("wb") as output, a_cluster(workos, output=output, LOG_LEVEL="DEBUG"):
        wait_until(lambda: WorkOSEvent.objects.parked().exists(), "the bad event is parked")

    told = log.read_text()
    assert "WorkOS refused the API key" in told
    assert "parked event_" in told
    for secret in (workos.api_key, WEBHOOK_SECRET, str(django_settings.SECRET_KEY), "S3cr3t Ltd"):
        assert secret not in told
