"""The worker with Redis as its queue."""

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


def test_a_task_travels_by_redis(workos: FakeWorkOS, redis_url: str) -> None:
    # Or the schedule might enqueue one.
    Schedule.objects.all().delete()
    workos.create_organization(name="Acme", external_id="gram-1")

    environment = environment_for(workos, REDIS_URL=redis_url)
    log = manage(environment, "shell", "-v", "0", "-c", ENQUEUE, check=True).stderr
    assert not OrmQ.objects.exists()
    with a_cluster(environment):
        wait_until(Organization.objects.exists, "the event is applied")

    assert log == ""
