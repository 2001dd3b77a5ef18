"""The demo as people start it: real processes, watched from outside."""

import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import MagicMock

import psycopg
import pytest

from gram_sync.demo import __main__ as command
from gram_sync.embedded_postgres import server
from tests.concurrency import wait_until
from tests.processes import alive, family, finished, inherited_environment, printed_until, started

#: What must not lead the demo to anybody's database or WorkOS.
MISLEADING = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "WORKOS_API_KEY": "sk_real"}


def a_folder() -> "tempfile.TemporaryDirectory[str]":
    """Not pytest's: each start of pytest closes those to all other users, and root's PostgreSQL
    runs as one."""
    return tempfile.TemporaryDirectory(prefix="gram-sync-test-")


def a_demo(folder: Path, *arguments: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    demo = (sys.executable, "-m", "gram_sync.demo", *arguments, "--folder", folder)
    return started(demo, inherited_environment() | MISLEADING)


def test_it_plays_a_day_finds_what_differs_and_leaves_nothing_running() -> None:
    """Somebody changes a slug meanwhile."""
    with a_folder() as name:
        folder = Path(name)
        with a_demo(folder, "--stay") as process:
            output = printed_until(process, "2. ")
            with psycopg.connect(server.start(folder / "postgres")) as connection:
                connection.execute(
                    "UPDATE organization_metadata SET slug = 'x' WHERE slug = 'acme'"
                )
            output += printed_until(process, "/admin/orgs/workosevent/")
            processes = family(process.pid)
            process.send_signal(signal.SIGINT)
            code, rest = finished(process)
        is_running = server.is_running(folder / "postgres")

    output += rest
    differs = output.partition("✗ WorkOS and the mirror differ:")[2]
    found = re.findall(r"✗ slug: the mirror (.*) \('[\w-]+', '(.*)'\)", differs)
    assert found == [("should have", "acme"), ("should not have", "x")]
    assert differs.count("✗") == 2
    assert code == 1
    assert re.search(r"webhooks \d+ delivered, 2 of them repeats; 1 lost", output)
    assert re.search(r"parked event_\S+, organization.updated: data.name ", output)
    assert re.search(r"Admin +http://127.0.0.1:\d+/admin/ .*password \S+", output)
    assert len(processes) > 5
    assert (alive(processes), is_running) == ([], False)


def test_stopped_while_its_database_is_made_leaves_nothing_running() -> None:
    with a_folder() as name, a_demo(Path(name)) as process:
        wait_until(lambda: any("initdb" in each.name() for each in family(process.pid)), "initdb")
        processes = family(process.pid)
        process.send_signal(signal.SIGTERM)
        code, output = finished(process)

        assert code == 128 + signal.SIGTERM
        assert "The demo was stopped" in output
        assert alive(processes) == []
        assert not server.is_running(Path(name) / "postgres")


# In this process ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command is given."""
    monkeypatch.setattr(sys, "argv", ["demo", "--folder", str(tmp_path)])
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_if_both_agree_it_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("Stage", "Story"):
        monkeypatch.setattr(command, name, MagicMock())

    assert command.main() == 0
    assert "✓ WorkOS and the mirror agree" in capsys.readouterr().out


def test_a_folder_that_was_used_before_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "logs").mkdir()

    assert command.main() == 1
    assert f"The demo failed: [Errno 17] File exists: '{folder}/logs'" in capsys.readouterr().err
