"""The demo and ``gram_sync.run`` as people start them: real processes, watched from outside."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from gram_sync.embedded_postgres import server

PROJECT = Path(__file__).resolve().parents[3]

#: Slow machines are slow, and none of it waits longer than it has to.
PATIENCE_SECONDS = 100

#: What must not lead the demo to anybody's database or WorkOS.
MISLEADING = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "WORKOS_API_KEY": "sk_real"}

pytestmark = pytest.mark.timeout(2 * PATIENCE_SECONDS)


@contextmanager
def started(module: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The module's process; whatever of it outlives the test's body is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=PROJECT,
        env=without_settings() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        for each in family(process.pid):
            each.kill()
        process.kill()
        process.communicate()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder. Not pytest's: each start of pytest closes those to all other users, and
    root's PostgreSQL runs as one."""
    with tempfile.TemporaryDirectory(prefix="gram-sync-test-") as folder:
        yield Path(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def without_settings() -> dict[str, str]:
    ours = ("WORKOS_", "DJANGO_", "SECRET_KEY", "DATABASE_URL", "DEBUG", "ALLOWED_HOSTS", "HOST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1"}


def family(pid: int) -> list[psutil.Process]:
    """Everything that a process has started, as long as it runs itself."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process prints, up to the line that has the text."""
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(f"it never said {text!r}:\n{printed}")


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running_ones(processes: list[psutil.Process]) -> list[str]:
    """Those that still run; in a container, the dead may wait long for their burial."""
    _, alive = psutil.wait_procs(processes, timeout=0)
    return [str(each) for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def the_worker_of(processes: list[psutil.Process]) -> psutil.Process:
    """Its main process, which comes before those it has started."""
    return next(each for each in processes if "sync_worker" in each.cmdline())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def status_of(port: int, method: str, path: str) -> int | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


@dataclass(frozen=True)
class Played:
    """A demo that was played to its end, and then stopped."""

    folder: Path
    code: int
    output: str
    processes: list[psutil.Process]


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[Played, Played]]:
    """Two demos, at once because they mostly wait: one is left alone, in the other somebody changes
    a slug meanwhile."""
    with (
        open_folder() as alone,
        open_folder() as disturbed,
        started("gram_sync.demo", "--stay", "--folder", alone, **MISLEADING) as first,
        started("gram_sync.demo", "--stay", "--folder", disturbed) as second,
    ):
        (alone / "admin_password").write_text("of-an-earlier-start")
        output = read_until(second, "2. ")
        with psycopg.connect(server.start(disturbed / "postgres")) as connection:
            connection.execute("UPDATE organization_metadata SET slug = 'x' WHERE slug = 'acme'")
        yield stopped(first, alone, ""), stopped(second, disturbed, output)


def stopped(process: subprocess.Popen[str], folder: Path, output: str) -> Played:
    output += read_until(process, "/admin/orgs/workosevent/")
    processes = family(process.pid)
    process.send_signal(signal.SIGINT)
    code, rest = finished(process)
    return Played(folder, code, output + rest, processes)


class TestDemo:
    def test_agrees(self, played: tuple[Played, Played]) -> None:
        demo, _ = played

        assert "✓ WorkOS and the mirror agree" in demo.output
        assert demo.code == 0
        assert re.search(r"webhooks \d+ delivered, 2 of them repeats; 1 lost", demo.output)
        assert re.search(r"parked event_\S+, organization.updated: data.name ", demo.output)

    def test_says_what_differs(self, played: tuple[Played, Played]) -> None:
        _, demo = played

        assert "✗ Acme: its row's slug is 'x', not 'acme'" in demo.output
        assert demo.code == 1

    def test_says_where_everything_is(self, played: tuple[Played, Played]) -> None:
        places = [
            re.search(r"Admin +(\S+)/admin/ .*password (\S+)", demo.output) for demo in played
        ]

        (first, password), (second, _) = (place.groups() for place in places if place)
        assert first != second
        assert password == "of-an-earlier-start"

    def test_leaves_nothing_running(self, played: tuple[Played, Played]) -> None:
        for demo in played:
            assert len(demo.processes) > 5
            assert running_ones(demo.processes) == []
            assert not server.is_running(demo.folder / "postgres")

    def test_stopped_while_its_database_is_made_leaves_nothing_running(self, folder: Path) -> None:
        with started("gram_sync.demo", "--folder", folder) as process:
            wait_until(lambda: any("initdb" in each.name() for each in family(process.pid)))
            processes = family(process.pid)
            process.send_signal(signal.SIGTERM)
            code, output = finished(process)

        assert code == 128 + signal.SIGTERM
        assert "The demo was stopped" in output
        assert running_ones(processes) == []
        assert not server.is_running(folder / "postgres")

    def test_two_in_one_folder_are_one_too_many(self, folder: Path) -> None:
        with started("gram_sync.demo", "--folder", folder) as first:
            read_until(first, "Setting up")
            with started("gram_sync.demo", "--folder", folder) as second:
                code, output = finished(second)
            first.send_signal(signal.SIGINT)
            finished(first)

        assert code == 1
        assert f"Another demo (make demo, make serve) runs in {folder}" in output
        assert output.count("\n") == 1
