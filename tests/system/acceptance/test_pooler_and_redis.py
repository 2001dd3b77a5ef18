"""The worker behind a transaction-pooling proxy, which is a real PgBouncer with a single connection
to PostgreSQL, and with Redis as its queue."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django_q.models import OrmQ, Schedule

from orgs.models import ExternalIdWriteBack, Organization
from orgs.services.queue import SYNC_EVENTS, enqueue
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import a_cluster, environment_for, manage

pytestmark = pytest.mark.usefixtures("database")

_CONFIGURATION = """
[databases]
{name} = {server}
[pgbouncer]
pool_mode = transaction
default_pool_size = 1
auth_type = any
listen_port = 6432
unix_socket_dir = {folder}
logfile = {folder}/log
pidfile = {folder}/pid
"""


@pytest.fixture
def pooled_url() -> Iterator[str]:
    """The test database's address, through a PgBouncer of this test's."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian: apt install pgbouncer)")
    params = connection.get_connection_params()
    server = " ".join(
        f"{key}={params[key]}" for key in ("host", "port", "user", "password") if params.get(key)
    )
    # A short path, as sockets need, that PgBouncer may write to: it refuses to be root.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        settings = folder / "settings"
        settings.write_text(
            _CONFIGURATION.format(name=params["dbname"], server=server, folder=folder)
        )
        command = [program, "-q", *_as_another_user(str(params.get("host", ""))), str(settings)]
        with subprocess.Popen(command) as proxy:
            wait_until((folder / ".s.PGSQL.6432").exists, "PgBouncer listens")
            yield f"postgresql://{params['user']}@/{params['dbname']}?host={folder}&port=6432"
            proxy.terminate()


def _as_another_user(host: str) -> list[str]:
    """Who may come to PostgreSQL's socket, if it is one, and is not root."""
    if os.geteuid() != 0:
        return []
    owner = pwd.getpwuid(Path(host).stat().st_uid).pw_name if Path(host).is_dir() else "nobody"
    return ["-u", "nobody" if owner == "root" else owner]


def session_settings(pooled_url: str) -> list[object]:
    with psycopg.connect(pooled_url, prepare_threshold=None) as pooled:
        return [
            (pooled.execute(f"SHOW {name}").fetchone() or [None])[0]
            for name in ("lock_timeout", "statement_timeout", "transaction_read_only")
        ]


def test_the_mirror_works_and_leaves_nothing_behind_in_a_session(
    workos: FakeWorkOS, pooled_url: str
) -> None:
    before = session_settings(pooled_url)
    acme = workos.create_organization(name="Acme")

    # A dry run's transactions are read-only, and the next client gets the same session.
    environment = environment_for(workos, DATABASE_URL=pooled_url, DATABASE_POOLER="transaction")
    manage(environment, "reconcile_workos", "--dry-run", check=True)
    enqueue(SYNC_EVENTS)
    with a_cluster(environment):
        wait_until(Organization.objects.exists, "the event is applied")
        wait_until(lambda: not ExternalIdWriteBack.objects.exists(), "the id is written back")

    there = workos.organization(acme["id"])
    assert there is not None
    assert there["external_id"] == Organization.objects.get().id
    assert session_settings(pooled_url) == before


# Redis --------------------------------------------------------------------------------------

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
