"""Commands whose standard streams are closed, full, or a pipe with no reader."""

import os
import subprocess
import sys

import pytest

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS
from tests.processes import environment_for

REDIRECTIONS = [
    pytest.param(">&-", False, id="no stdout"),
    pytest.param("2>&-", False, id="no stderr"),
    pytest.param("<&- >&- 2>&-", False, id="none at all"),
    pytest.param(">/dev/full", True, id="a full disk"),
    pytest.param("2>/dev/full", False, id="a full disk for errors"),
    pytest.param(">&3", True, id="a pipe that nobody reads"),
]
COMMANDS = (
    "manage.py check",
    "-m gram_sync.run --nothing",
    "-m gram_sync.embedded_postgres status /nowhere",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("redirection", "is_lost"), REDIRECTIONS)
def test_a_stream_that_cant_be_written_is_no_traceback(
    command: str, redirection: str, is_lost: bool
) -> None:
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull}
    if "manage.py" in command:
        environment["DEBUG"] = "true"

    normal, redirected = (run(command, there, environment) for there in ("", redirection))

    is_as_it_should_be(normal, redirected, is_lost=is_lost)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "command", ["reconcile_workos", "workos_user_data user_1", "workos_user_data user_1 --erase"]
)
@pytest.mark.parametrize(
    ("redirection", "is_lost"),
    [pytest.param("<&-", False, id="no stdin"), *REDIRECTIONS],
)
def test_so_it_is_in_a_project_that_guards_nothing_itself(
    workos: FakeWorkOS, command: str, redirection: str, is_lost: bool
) -> None:
    environment = environment_for(workos)

    normal, redirected = (
        run(f"-m django {command}", there, environment) for there in ("", redirection)
    )

    is_as_it_should_be(normal, redirected, is_lost=is_lost)


def run(
    command: str, redirection: str, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run Python; its descriptor 3 is a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            ["sh", "-c", f"exec 3>&{writing}; exec {sys.executable} {command} {redirection}"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=(writing,),
            check=False,
        )
    finally:
        os.close(writing)


def is_as_it_should_be(
    normal: "subprocess.CompletedProcess[str]",
    redirected: "subprocess.CompletedProcess[str]",
    *,
    is_lost: bool,
) -> None:
    assert "Traceback" not in redirected.stderr
    if is_lost and normal.stdout:
        assert redirected.returncode == 1
        assert "The output can't be written: " in redirected.stderr
    else:
        assert redirected.returncode == normal.returncode
