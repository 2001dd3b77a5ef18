"""``make run`` as people start it: real processes, watched from outside."""

import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import (
    alive,
    environment_for,
    family,
    finished,
    free_port,
    printed_until,
    started,
    status_of,
    without_settings,
)

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def settings_of_it(workos: FakeWorkOS, tmp_path: Path, port: int) -> dict[str, str]:
    """All that it needs, and a file of its own for what it makes."""
    return environment_for(workos, PORT=str(port), ENV_FILE=str(tmp_path / "env"))


def running(environment: dict[str, str]) -> "AbstractContextManager[subprocess.Popen[str]]":
    return started([sys.executable, "-m", "gram_sync.run"], environment)


def test_without_settings_it_says_what_to_set_and_starts_nothing(port: int) -> None:
    with running(without_settings(PORT=str(port))) as process:
        code, output = finished(process)

    first, second = output.splitlines()
    assert code == 1
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
        pytest.param({}, "Address already in use", id="a port that is taken"),
    ],
)
def test_what_it_cant_use_is_said_in_a_line(
    settings_of_it: dict[str, str], environment: dict[str, str], said: str, port: int
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0 if environment else port)),
        running(settings_of_it | environment) as process,
    ):
        code, output = finished(process)

    assert code == 1
    assert said in output
    assert "Traceback" not in output
    assert environment or f"can't listen on 127.0.0.1, port {port}: " in output


def test_it_makes_a_key_for_its_owner_alone_and_sigterm_stops_web_and_worker(
    settings_of_it: dict[str, str], port: int, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("LOG_LEVEL=INFO")
    file.chmod(0o600)

    with running(settings_of_it | {"SECRET_KEY": ""}) as process:
        said = printed_until(process, "createsuperuser")
        answers = status_of(port, "POST", "/webhooks/workos/")
        processes = family(process.pid)
        process.terminate()
        code, rest = finished(process)

    level, key = file.read_text().split()
    assert level == "LOG_LEVEL=INFO"
    assert len(key.removeprefix("SECRET_KEY=")) >= 50
    assert "https://YOUR-HOST/webhooks/workos/" in said
    assert answers == 401
    assert (code, rest.splitlines()[-1]) == (0, "Stopped.")
    wait_until(lambda: not alive(processes), "all of it is gone")
    assert status_of(port, "GET", "/") is None


def test_a_worker_that_is_killed_takes_the_web_process_along_and_a_key_is_kept(
    settings_of_it: dict[str, str], tmp_path: Path
) -> None:
    file, line = tmp_path / "env", f"SECRET_KEY={50 * 'x'}\n"
    file.write_text(line)

    with running(settings_of_it | {"SECRET_KEY": ""}) as process:
        printed_until(process, "createsuperuser")
        processes = family(process.pid)
        next(each for each in processes if "sync_worker" in each.cmdline()).kill()
        code, rest = finished(process)

    assert code == 1
    assert "The worker ended by itself (killed by SIGKILL)" in rest
    wait_until(lambda: not alive(processes), "all of it is gone")
    assert file.read_text() == line
