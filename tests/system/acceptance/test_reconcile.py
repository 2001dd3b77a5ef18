"""``reconcile_workos`` as a real process: killed at any point, interrupted, and on a terminal."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from orgs.models import Organization, SyncCursor
from orgs.testing import FakeWorkOS
from tests.builders import an_organization_row
from tests.concurrency import wait_until
from tests.processes import MANAGE, PROJECT, environment_for

pytestmark = pytest.mark.usefixtures("database")

COMMAND = [*MANAGE, "reconcile_workos"]
LONG_AGO = (datetime.now(UTC) - timedelta(days=2)).isoformat()


@contextmanager
def running(workos: FakeWorkOS, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=PROJECT,
        env=environment_for(workos),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def finished(workos: FakeWorkOS, *arguments: str) -> tuple[str, str, int]:
    with running(workos, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return out, err, process.returncode


def a_drifted_world(workos: FakeWorkOS) -> None:
    """Three pages of which one organization has a row, and three rows that WorkOS does not know."""
    workos.seed(organizations=250, external_id_prefix="gram-", at=LONG_AGO, emits=False)
    known = workos.all_organizations()[0]
    an_organization_row(known["external_id"], workos_id=known["id"])
    for number in range(3):
        an_organization_row(f"gone-{number}", workos_id=f"org_gone_{number}")


@pytest.mark.parametrize(
    ("path", "exact", "answered"),
    [
        pytest.param("/events", True, 0, id="while the events are read"),
        pytest.param("/organizations", True, 0, id="while the environment is verified"),
        pytest.param("/organizations", True, 1, id="before the first page"),
        pytest.param("/organizations", True, 2, id="after the first page"),
        pytest.param("/organizations", True, 3, id="after the second page"),
        pytest.param("/organizations/", False, 0, id="while the missing are asked for"),
        pytest.param("/organizations/", False, 2, id="before the last of the missing"),
    ],
)
def test_a_run_that_is_killed_and_run_again_ends_as_if_undisturbed(
    workos: FakeWorkOS, path: str, exact: bool, answered: int
) -> None:
    a_drifted_world(workos)
    if answered:
        workos.misbehave("slow", seconds=0, path=path, exact=exact, times=answered)
    workos.misbehave("time_out", path=path, exact=exact, times=None)

    with running(workos) as process:
        wait_until(lambda: workos.count_requests(path=path, exact=exact) > answered, "it is asking")
        process.kill()
    workos.behave()
    disabled_before = Organization.objects.disabled().count()
    # The killed one's lease runs out by itself; until then the next says so, and runs.
    again = finished(workos)
    third = finished(workos)

    assert disabled_before == 0
    assert again[2] == 0
    assert third[0].endswith("in sync: nothing to do\n")
    assert Organization.objects.count() == 253
    assert Organization.objects.disabled().count() == 3


def test_ctrl_c_is_one_line_and_lets_the_lease_go(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    workos.misbehave("slow", seconds=0.2, path="/organizations", exact=True, times=None)

    with running(workos) as process:
        wait_until(lambda: workos.count_requests(path="/organizations") > 1, "it is asking")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert (out, err) == ("", "CommandError: interrupted; run it again\n")
    assert SyncCursor.objects.get().reconciling_until is None


def test_on_a_terminal_it_shows_how_far_it_is_and_otherwise_nothing(
    workos: FakeWorkOS,
) -> None:
    a_drifted_world(workos)
    shown, terminal = pty.openpty()

    with subprocess.Popen(
        [*COMMAND, "--dry-run", "--format", "json"],
        cwd=PROJECT,
        env=environment_for(workos, TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        out, _ = process.communicate(timeout=60)
    progress = os.read(shown, 65_536).decode()
    os.close(shown)
    piped = finished(workos, "--dry-run", "--format", "json")

    assert "organization: 250 compared" in progress
    assert piped == (out, "", 0)


def test_what_a_terminal_cant_show_is_shown_in_escapes(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Bücher", external_id="gram-1", at=LONG_AGO, emits=False)

    result = subprocess.run(
        COMMAND,
        cwd=PROJECT,
        env=environment_for(workos, PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert 'name: null \\u2192 "B\\xfccher"' in result.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [("--org", r"'\udcff' is not the id of an organization"), ("--since", "--since wants ")],
)
def test_an_argument_that_is_no_text_is_one_line(
    workos: FakeWorkOS, option: str, said: str
) -> None:
    events_only = ["--events-only"] if option == "--since" else []

    result = subprocess.run(
        [*COMMAND, *events_only, option, b"\xff"],
        cwd=PROJECT,
        env=environment_for(workos),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith(f"CommandError: {said}")
    assert result.stderr.count("\n") == 1


def test_nobody_reading_the_report_is_said_in_one_line(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)

    with running(workos) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        err = process.stderr.read()

    assert (err.count("\n"), process.wait()) == (1, 1)
    assert "The output can't be written: Broken pipe" in err
    assert Organization.objects.count() == 253
