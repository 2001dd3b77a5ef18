"""Runs the project's own commands as real processes, with the test database and a fake WorkOS."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import psutil  # type: ignore[import-untyped]
from django.conf import settings
from django.db import connection

from gram_sync import processes
from gram_sync import run as service
from gram_sync.processes import Children
from gram_sync.run import listen, start_web
from orgs.testing import FakeWorkOS
from tests.concurrency import PATIENCE

PROJECT, MANAGE = processes.PROJECT, service.MANAGE
SYNC_WORKER = (*MANAGE, "sync_worker")
WEBHOOK_SECRET = "whsec_test_secret"


def environment_for(workos: FakeWorkOS, **more: str) -> dict[str, str]:
    """The settings of a process, all of them, as its environment has them."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "gram_sync.settings",
        "DATABASE_URL": database_url(),
        "SECRET_KEY": str(settings.SECRET_KEY),
        "WORKOS_API_KEY": workos.api_key,
        "WORKOS_BASE_URL": workos.base_url,
        "WORKOS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "REDIS_URL": "",
        # The fake WorkOS speaks no TLS: reading the machine's certificates would take most of the
        # time of a short process.
        "SSL_CERT_FILE": "",
        "SSL_CERT_DIR": str(PROJECT / "tests"),
        # As the tests' own settings.
        "WORKOS_RESOURCES": "organization",
        **more,
    }


def inherited_environment() -> dict[str, str]:
    """What the machine needs, and nothing that could lead a process to somebody's database or
    WorkOS."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "ENV_FILE")
    return {name: os.environ[name] for name in names if name in os.environ}


def database_url(**instead: str) -> str:
    """Where the test database is, or where a process is to look for it."""
    params = {**connection.get_connection_params(), **instead}
    password = f":{params['password']}" if params.get("password") else ""
    query = {key: params[key] for key in ("host", "port") if params.get(key)}
    return f"postgresql://{params['user']}{password}@/{params['dbname']}?{urlencode(query)}"


# Commands -----------------------------------------------------------------------------------


def run(
    command: Sequence[str | bytes], environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """How a command ended, and what it printed; by default in our own environment."""
    how = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": False, **options}
    return subprocess.run(command, env=environment, **{"cwd": PROJECT, **how})  # noqa: PLW1510


def manage(
    environment: Mapping[str, str], *arguments: str | bytes, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """How ``manage.py …`` ended, and what it printed."""
    return run([*MANAGE, *arguments], environment, **options)


@contextmanager
def started(
    command: Sequence[object], environment: Mapping[str, str], stderr: int = subprocess.STDOUT
) -> Iterator["subprocess.Popen[str]"]:
    """A process whose output can be read; at the end it is killed, with all that it has started."""
    with subprocess.Popen(
        list(map(str, command)),
        cwd=PROJECT,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            for each in family(process.pid):
                each.kill()
            process.kill()


def finished(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """How it ended by itself, and what it still printed."""
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def printed_until(process: "subprocess.Popen[str]", text: str) -> str:
    """What the process prints, up to the line that has the text."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(f"it never printed {text!r}:\n{printed}")


def family(pid: int) -> list[psutil.Process]:
    """Everything that a process has started, as long as it runs itself."""
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; where nobody waits for the dead, they keep their pid."""
    found = []
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


# Web and worker -----------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def status_of(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float = 30,
) -> int | None:
    """The status of an answer; None if nothing answers."""
    http = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        http.request(method, path, body, dict(headers or {}))
        return http.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        http.close()


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
    environment: Mapping[str, str],
    output: IO[bytes] | None = None,
    command: Sequence[str] = (*MANAGE, "qcluster"),
) -> Iterator["subprocess.Popen[bytes]"]:
    """A running cluster with one worker; afterwards, its whole session is gone."""
    cluster = subprocess.Popen(
        command,
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
            cluster.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait()
