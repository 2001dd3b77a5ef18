"""``make run`` as people start it: real processes, watched from outside."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from django.db import connection

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(240)]

PATIENCE = 90.0
NAMES = ("WORKOS_", "DJANGO_", "SECRET_KEY", "DATABASE_URL", "DEBUG", "ALLOWED_HOSTS", "HOST")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def settings_of_it(workos: FakeWorkOS, tmp_path: Path, port: int) -> dict[str, str]:
    """All that it needs, and a file of its own for what it makes."""
    return {
        **environment_for(workos, PORT=str(port)),
        "ENV_FILE": str(tmp_path / "env"),
    }


@contextmanager
def running(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gram_sync.run"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        for each in family(process):
            each.kill()
        process.kill()
        process.communicate()
        connection.close()


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    try:
        return list(psutil.Process(process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def until(process: "subprocess.Popen[str]", text: str) -> str:
    """What the process prints, up to the line that has the text."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(f"it never said {text!r}:\n{printed}")


def wait_until_gone(processes: list[psutil.Process]) -> None:
    def alive() -> list[psutil.Process]:
        _, left = psutil.wait_procs(processes, timeout=0)
        return [each for each in left if each.status() != psutil.STATUS_ZOMBIE]

    wait_until(lambda: not alive(), "all of it is gone", patience=PATIENCE)


def status_of(port: int, method: str, path: str) -> int | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def test_without_settings_it_says_what_to_set_and_starts_nothing(port: int) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}

    with running({**kept, "PORT": str(port)}) as process:
        output, _ = process.communicate(timeout=PATIENCE)

    first, second = output.splitlines()
    assert process.returncode == 1
    assert first.startswith("WORKOS_API_KEY ")
    assert second.startswith("WORKOS_WEBHOOK_SECRET ")
    assert status_of(port, "GET", "/") is None


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"PORT": "0"}, "PORT must be a whole number from 1 to 65535", id="no port"),
        pytest.param({"HOST": "nowhere.invalid"}, "can't listen on nowhere.invalid", id="no host"),
        pytest.param(
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "The database can't be used: connection failed: ",
            id="no database",
        ),
        pytest.param(
            {"SECRET_KEY": "", "ENV_FILE": "/nowhere/env"},
            "No such file or directory: '/nowhere/env': set SECRET_KEY",
            id="no place for a key",
        ),
    ],
)
def test_what_it_cant_use_is_said_in_a_line(
    settings_of_it: dict[str, str], environment: dict[str, str], said: str
) -> None:
    with running(settings_of_it | environment) as process:
        output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert said in output
    assert "Traceback" not in output


def test_a_port_that_is_taken_is_said(settings_of_it: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running(settings_of_it | {"PORT": port}) as process:
            output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert f"can't listen on 127.0.0.1, port {port}: " in output
    assert "Address already in use" in output


def test_sigterm_stops_web_and_worker(settings_of_it: dict[str, str], port: int) -> None:
    with running(settings_of_it) as process:
        said = until(process, "createsuperuser")
        answers = status_of(port, "POST", "/webhooks/workos/")
        processes = family(process)
        process.terminate()
        rest, _ = process.communicate(timeout=PATIENCE)

    assert "https://YOUR-HOST/webhooks/workos/" in said
    assert answers == 401
    assert (process.returncode, rest.splitlines()[-1]) == (0, "Stopped.")
    wait_until_gone(processes)
    assert status_of(port, "GET", "/") is None


def test_a_worker_that_is_killed_takes_the_web_process_along(
    settings_of_it: dict[str, str],
) -> None:
    with running(settings_of_it) as process:
        until(process, "createsuperuser")
        processes = family(process)
        next(each for each in processes if "sync_worker" in each.cmdline()).kill()
        rest, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert "The worker ended by itself (killed by SIGKILL)" in rest
    wait_until_gone(processes)


def test_a_secret_key_is_made_once_and_kept_for_its_owner_alone(
    settings_of_it: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("LOG_LEVEL=INFO")
    file.chmod(0o600)
    kept = []
    for _ in range(2):
        with running(settings_of_it | {"SECRET_KEY": ""}) as process:
            until(process, "Migrating")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        kept.append(file.read_text())

    level, key = kept[0].split()
    assert level == "LOG_LEVEL=INFO"
    assert len(key.removeprefix("SECRET_KEY=")) >= 50
    assert kept[1] == kept[0]
