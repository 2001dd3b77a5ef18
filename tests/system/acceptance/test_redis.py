"""The worker with Redis as its queue: a real one, and one that does not answer."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_q.models import OrmQ, Schedule

from orgs.models import Organization
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import a_cluster, environment_for, manage

pytestmark = pytest.mark.usefixtures("database")

ENQUEUE = "from orgs.services.queue import *; enqueue(SYNC_EVENTS)"


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's, on a socket in its folder."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt install redis-server)")
    socket = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        wait_until(socket.exists, "Redis listens")
        yield f"unix://{socket}"
        server.terminate()


def log_of_enqueue(workos: FakeWorkOS, redis_url: str) -> str:
    """Return what a process logs that enqueues a task there."""
    environment = environment_for(workos, REDIS_URL=redis_url)
    return manage(environment, "shell", "-v", "0", "-c", ENQUEUE, check=True).stderr


def test_a_task_travels_by_redis(workos: FakeWorkOS, redis_url: str) -> None:
    # Or the schedule might enqueue one.
    Schedule.objects.all().delete()
    workos.create_organization(name="Acme", external_id="gram-1")

    log = log_of_enqueue(workos, redis_url)
    assert not OrmQ.objects.exists()
    with a_cluster(environment_for(workos, REDIS_URL=redis_url)):
        wait_until(Organization.objects.exists, "the event is applied")

    assert log == ""


def test_without_redis_the_failure_is_logged_and_nothing_raised(
    workos: FakeWorkOS, tmp_path: Path
) -> None:
    pytest.importorskip("redis")

    log = log_of_enqueue(workos, f"unix://{tmp_path}/missing.sock")

    assert "could not enqueue orgs.tasks.sync_events; the minute schedule will" in log
