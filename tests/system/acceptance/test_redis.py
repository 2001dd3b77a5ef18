"""The worker with Redis as its queue: a real one, and one that is gone."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django_q.models import OrmQ, Schedule

from orgs.models import Organization
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import MANAGE, PROJECT, a_cluster, environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(120)]

RING = "from orgs.services.queue import *; ring(SYNC_EVENTS)"


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


def ring(workos: FakeWorkOS, redis_url: str) -> str:
    """Rings from a process that has its queue there; what it logs."""
    rung = subprocess.run(
        [*MANAGE, "shell", "-v", "0", "-c", RING],
        cwd=PROJECT,
        env=environment_for(workos, REDIS_URL=redis_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return rung.stderr


def test_a_ring_travels_by_redis(workos: FakeWorkOS, redis_url: str) -> None:
    # Or the schedule might ring.
    Schedule.objects.all().delete()
    workos.create_organization(name="Acme", external_id="gram-1")

    told = ring(workos, redis_url)
    assert not OrmQ.objects.exists()
    with a_cluster(environment_for(workos, REDIS_URL=redis_url)):
        wait_until(Organization.objects.exists, "the event is applied")

    assert told == ""


def test_without_redis_a_ring_is_logged_and_nothing_raised(
    workos: FakeWorkOS, tmp_path: Path
) -> None:
    pytest.importorskip("redis")

    told = ring(workos, f"unix://{tmp_path}/gone.sock")

    assert "could not ring orgs.tasks.sync_events; the minute schedule will" in told
