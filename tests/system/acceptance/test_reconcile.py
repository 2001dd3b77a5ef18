"""``reconcile_workos`` as a real process: interrupted, and on a terminal.

``tests/system/kill`` kills it at every step.
"""

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from select import select

import pytest
from django.core.management import call_command

from orgs.models import SyncCursor
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_organization_row
from tests.concurrency import PATIENCE, wait_until
from tests.processes import MANAGE, environment_for, manage, run, started

pytestmark = pytest.mark.usefixtures("database")

COMMAND = [*MANAGE, "reconcile_workos"]
INTERRUPTED = "CommandError: interrupted; run it again\n"


def a_drifted_world(workos: FakeWorkOS) -> None:
    """Three pages of which one organization has a row, and three rows that WorkOS does not know."""
    workos.seed(organizations=250, external_id_prefix="gram-", at=TWO_DAYS_AGO, emits=False)
    known = workos.all_organizations()[0]
    an_organization_row(known["external_id"], workos_id=known["id"])
    for number in range(3):
        an_organization_row(f"gone-{number}", workos_id=f"org_gone_{number}")


def interrupted(environment: dict[str, str], is_asking: Callable[[], bool]) -> tuple[int, str, str]:
    """How it ends by Ctrl-C while it is asking, and what it has printed."""
    with started(COMMAND, environment, subprocess.PIPE) as process:
        wait_until(is_asking, "it is asking")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/organizations/org_gone", id="missing ones"),
        pytest.param("GET", "/user_management/organization_memberships", id="lists"),
        pytest.param("PUT", "/organizations", id="write-backs"),
    ],
)
def test_ctrl_c_ends_the_wait_for_a_pause_in_threads(
    workos: FakeWorkOS, method: str, path: str
) -> None:
    a_drifted_world(workos)
    workos.create_organization(name="New", at=TWO_DAYS_AGO, emits=False)
    workos.misbehave("rate_limited", retry_after=300, method=method, path=path, times=None)

    environment = environment_for(
        workos, WORKOS_RESOURCES="organization,membership,user", LOG_LEVEL="ERROR"
    )
    ended = interrupted(environment, lambda: workos.count_requests(method=method, path=path) > 0)

    assert ended == (130, "", INTERRUPTED)


def test_more_of_it_is_no_traceback(workos: FakeWorkOS) -> None:
    path = "/organizations/org_gone"
    a_drifted_world(workos)
    workos.misbehave("time_out", path=path, times=None)

    with started(COMMAND, environment_for(workos), subprocess.PIPE) as process:
        wait_until(lambda: workos.count_requests(path=path) > 0, "it is asking")
        assert process.stderr is not None
        # The first one lets it wait for what is under way, and the second one does not.
        while not select([process.stderr], [], [], 0.2)[0]:
            process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)

    assert (said, out, err) == (INTERRUPTED, "", "")


def test_ctrl_c_is_one_line_and_lets_the_lease_go(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave("time_out", path="/organizations", exact=True, times=None)

    # What is under way ends before the process does.
    environment = environment_for(workos, REQUEST_TIMEOUT_SECONDS="4")
    ended = interrupted(environment, lambda: workos.count_requests(path="/organizations") > 1)

    assert ended == (130, "", INTERRUPTED)
    assert SyncCursor.objects.get().reconciling_until is None


@pytest.mark.parametrize(
    ("command", "to"),
    [
        ("reconcile_workos", ">/dev/full"),
        *(("workos_user_data user_1", to) for to in (">/dev/full", ">&-", "| true")),
    ],
)
def test_a_report_that_cant_be_written_is_one_line_and_exit_1(
    workos: FakeWorkOS, command: str, to: str
) -> None:
    script = f'{{ "$@"; echo "exit $?" >&2; }} {to}'

    ended = run(["sh", "-c", script, "sh", *MANAGE, *command.split()], environment_for(workos))

    assert ended.stderr.startswith("CommandError: the report can't be written: ")
    assert ended.stderr.splitlines()[1:] == ["exit 1"]


def all_of(shown: int) -> str:
    """What was sent to a terminal that nobody writes to any more. One read gives 4 KiB at most, and
    a slow machine draws more often."""
    pieces = []
    with suppress(OSError):
        while piece := os.read(shown, 65_536):
            pieces.append(piece)
    return b"".join(pieces).decode()


def test_on_a_terminal_it_shows_how_far_it_is_and_otherwise_nothing(
    workos: FakeWorkOS, capfd: pytest.CaptureFixture[str]
) -> None:
    a_drifted_world(workos)
    shown, terminal = pty.openpty()
    dry_run = ("reconcile_workos", "--dry-run", "--format", "json")

    on_terminal = manage(
        environment_for(workos, TERM="xterm"),
        *dry_run,
        capture_output=False,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    progress = all_of(shown)
    os.close(shown)
    call_command(*dry_run, stdout=(piped := StringIO()))

    assert "organization: 250 compared" in progress
    assert piped.getvalue() == on_terminal.stdout
    assert capfd.readouterr().err == ""
