"""Runs the project's own commands as real processes, with the test database and a fake WorkOS."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection

from gram_sync.components import listen, start_web
from gram_sync.processes import Children
from orgs.testing import FakeWorkOS

PROJECT = Path(settings.BASE_DIR)
MANAGE = [sys.executable, "manage.py"]
WEBHOOK_SECRET = "whsec_test_secret"


def environment_for(workos: FakeWorkOS, **more: str) -> dict[str, str]:
    """What a process is told by its environment, and nothing else tells it."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "gram_sync.settings",
        "DATABASE_URL": database_url(),
        "SECRET_KEY": str(settings.SECRET_KEY),
        "WORKOS_API_KEY": workos.api_key,
        "WORKOS_BASE_URL": workos.base_url,
        "WORKOS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "REDIS_URL": "",
        # As the tests' own settings.
        "WORKOS_RESOURCES": "organization",
        **more,
    }


def database_url(**instead: str) -> str:
    """Where the test database is, or where a process is told that it is."""
    params = {**connection.get_connection_params(), **instead}
    password = f":{params['password']}" if params.get("password") else ""
    query = {key: params[key] for key in ("host", "port") if params.get(key)}
    return f"postgresql://{params['user']}{password}@/{params['dbname']}?{urlencode(query)}"


@contextmanager
def a_web_process(environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """A gunicorn with one worker, as in production; gives its port."""
    one_worker = {**environment, "GUNICORN_CMD_ARGS": "--workers 1 --log-level debug"}
    with Children() as children:
        listener = listen("127.0.0.1", 0)
        port: int = listener.getsockname()[1]
        start_web(children, listener, environment=one_worker, log=log)
        yield port


@contextmanager
def a_cluster(
    environment: Mapping[str, str], output: IO[bytes] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running ``qcluster`` with one worker; its whole session is gone afterwards."""
    cluster = subprocess.Popen(
        [*MANAGE, "qcluster"],
        cwd=PROJECT,
        env={**environment, "POLL_PAUSE_SECONDS": "0.05", "WORKERS": "1"},
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
