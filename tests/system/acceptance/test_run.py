"""``make run`` as people start it, watched from outside, and what it says if it can't run."""

import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import django
import pytest

from gram_sync import run
from gram_sync.processes import Children
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import (
    alive,
    environment_for,
    family,
    finished,
    free_port,
    inherited_environment,
    printed_until,
    started,
    status_of,
)

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def port() -> int:
    return free_port()


def running(environment: dict[str, str]) -> "AbstractContextManager[subprocess.Popen[str]]":
    return started([sys.executable, "-m", "gram_sync.run"], environment)


def test_without_settings_it_says_what_to_set_and_starts_nothing(port: int) -> None:
    with running(inherited_environment() | {"PORT": str(port)}) as process:
        code, output = finished(process)

    first, second = output.splitlines()
    assert code == 1
    assert first.startswith("WORKOS_API_KEY ")
    assert second.startswith("WORKOS_WEBHOOK_SECRET ")
    assert status_of(port, "GET", "/") is None


def test_it_makes_a_key_for_its_owner_alone_and_sigterm_stops_web_and_worker(
    workos: FakeWorkOS, port: int, tmp_path: Path
) -> None:
    file = tmp_path / "env"
    file.write_text("LOG_LEVEL=INFO")
    file.chmod(0o600)

    environment = environment_for(workos, PORT=str(port), ENV_FILE=str(file), SECRET_KEY="")
    with running(environment) as process:
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


# In this process: another one would take a second to start ---------------------------------------


@pytest.fixture
def here(workos: FakeWorkOS, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with all that it needs, and a file of its own for what it makes."""
    environment = {"HOST": "127.0.0.1", "PORT": str(port), "ENV_FILE": str(tmp_path / "env")}
    for name, value in (environment | {"SECRET_KEY": "x"}).items():
        monkeypatch.setenv(name, value)
    # It would set up the tests' own logging anew.
    monkeypatch.setattr(django, "setup", lambda: None)
    monkeypatch.setattr(run, "migrate", lambda children: None)
    for name in ("start_web", "start_worker"):
        monkeypatch.setattr(run, name, lambda *_, **__: pytest.fail("it should not have started"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"PORT": "0"}, "PORT must be a whole number from 1 to 65535", id="no port"),
        pytest.param({"HOST": "nowhere.invalid"}, "can't listen on nowhere.invalid", id="no host"),
        pytest.param(
            {"SECRET_KEY": "", "ENV_FILE": "/nowhere/env"},
            "No such file or directory: '/nowhere/env'",
            id="no place for a key",
        ),
    ],
)
def test_what_it_cant_use_is_said(
    here: None,
    environment: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert run.main() == 1
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(
    here: None, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", port)):
        assert run.main() == 1

    said = capsys.readouterr().err
    assert f"can't listen on 127.0.0.1, port {port}: " in said
    assert "Address already in use" in said
    assert "If an earlier run was killed, end its gunicorn and sync_worker" in said


def test_a_database_that_cant_be_used_is_said(
    here: None, no_database: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main() == 1

    assert capsys.readouterr().err.startswith("connection ")


def test_a_worker_that_is_killed_ends_it_and_a_key_is_kept(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, line = tmp_path / "env", f"SECRET_KEY={50 * 'x'}\n"
    file.write_text(line)

    def start_all(children: Children, _: socket.socket) -> None:
        children.start("The worker", ["sh", "-c", "kill -9 $$"])

    monkeypatch.setenv("SECRET_KEY", "")
    monkeypatch.setattr(run, "_start_all", start_all)

    assert run.main() == 1
    assert "The worker ended by itself (killed by SIGKILL)" in capsys.readouterr().err
    assert file.read_text() == line
