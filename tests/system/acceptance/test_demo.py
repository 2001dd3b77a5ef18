"""The demo as people start it: real processes, watched from outside."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import MagicMock

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from gram_sync.demo import __main__ as command
from gram_sync.embedded_postgres import server
from tests.concurrency import wait_until
from tests.processes import alive, family, finished, printed_until, started, without_settings

#: What must not lead the demo to anybody's database or WorkOS.
MISLEADING = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "WORKOS_API_KEY": "sk_real"}


def a_demo(folder: Path, *arguments: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    demo = (sys.executable, "-m", "gram_sync.demo", *arguments, "--folder", folder)
    return started(demo, without_settings(**MISLEADING))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A temporary folder. Not pytest's: each start of pytest closes those to all other users, and
    root's PostgreSQL runs as one."""
    with tempfile.TemporaryDirectory(prefix="gram-sync-test-") as name:
        yield Path(name)


@dataclass(frozen=True)
class Played:
    """A demo that was played to its end, and then stopped."""

    folder: Path
    code: int
    output: str
    processes: list[psutil.Process]


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Played]:
    """A demo during which somebody changes a slug."""
    with a_demo(folder, "--stay") as process:
        output = printed_until(process, "2. ")
        with psycopg.connect(server.start(folder / "postgres")) as connection:
            connection.execute("UPDATE organization_metadata SET slug = 'x' WHERE slug = 'acme'")
        output += printed_until(process, "/admin/orgs/workosevent/")
        processes = family(process.pid)
        process.send_signal(signal.SIGINT)
        code, rest = finished(process)
        yield Played(folder, code, output + rest, processes)


def test_it_plays_a_day_and_finds_what_differs_and_nothing_else(demo: Played) -> None:
    differs = demo.output.partition("✗ WorkOS and the mirror differ:")[2]
    found = re.findall(r"✗ slug: the mirror (.*) \('[\w-]+', '(.*)'\)", differs)
    assert found == [("should have", "acme"), ("should not have", "x")]
    assert differs.count("✗") == 2
    assert demo.code == 1
    assert re.search(r"webhooks \d+ delivered, 2 of them repeats; 1 lost", demo.output)
    assert re.search(r"parked event_\S+, organization.updated: data.name ", demo.output)


def test_if_both_agree_it_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--folder", str(tmp_path)])
    for name in ("Stage", "Story"):
        monkeypatch.setattr(command, name, MagicMock())

    assert command.main() == 0
    assert "✓ WorkOS and the mirror agree" in capsys.readouterr().out


def test_it_says_where_everything_is(demo: Played) -> None:
    assert re.search(r"Admin +http://127.0.0.1:\d+/admin/ .*password \S+", demo.output)


def test_it_leaves_nothing_running(demo: Played) -> None:
    assert len(demo.processes) > 5
    assert alive(demo.processes) == []
    assert not server.is_running(demo.folder / "postgres")


def test_stopped_while_its_database_is_made_leaves_nothing_running() -> None:
    prefix = "gram-sync-test-"
    with tempfile.TemporaryDirectory(prefix=prefix) as name, a_demo(Path(name)) as process:
        wait_until(lambda: any("initdb" in each.name() for each in family(process.pid)), "initdb")
        processes = family(process.pid)
        process.send_signal(signal.SIGTERM)
        code, output = finished(process)

        assert code == 128 + signal.SIGTERM
        assert "The demo was stopped" in output
        assert alive(processes) == []
        assert not server.is_running(Path(name) / "postgres")


def test_a_folder_that_was_used_before_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(sys, "argv", ["demo", "--folder", str(tmp_path)])

    assert command.main() == 1
    assert f"The demo failed: [Errno 17] File exists: '{tmp_path}/logs'" in capsys.readouterr().err
