"""Commands whose standard streams are closed, full, or a pipe with no reader."""

import os
import re
import subprocess
import sys

import pytest

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS
from tests.processes import environment_for

PIPE = "a pipe that nobody reads"
REDIRECTIONS = [
    pytest.param(">&-", False, id="no stdout"),
    pytest.param("2>&-", False, id="no stderr"),
    pytest.param("<&- >&- 2>&-", False, id="none at all"),
    pytest.param(">/dev/full", True, id="a full disk"),
    pytest.param("2>/dev/full", False, id="a full disk for errors"),
    pytest.param(PIPE, True, id=PIPE),
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
    ("command", "redirection", "is_lost"),
    [
        ("workos_user_data user_1", ">&-", False),
        ("workos_user_data user_1", ">/dev/full", True),
        ("workos_user_data user_1", PIPE, True),
        ("workos_user_data user_1 --erase", "<&-", False),
        ("workos_user_data user_1 --erase", "<&- >&- 2>&-", False),
        ("reconcile_workos", ">&-", False),
        ("reconcile_workos", ">/dev/full", True),
    ],
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
    is_pipe = redirection == PIPE
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            ["sh", "-c", f"exec {sys.executable} {command} {'' if is_pipe else redirection}"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing if is_pipe else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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
    assert "sh: " not in normal.stderr
    assert not re.search("Traceback|Exception ignored", redirected.stderr)
    if is_lost and normal.stdout:
        assert redirected.returncode == 1
        assert "The output can't be written: " in redirected.stderr
    else:
        # Python has 120 for what it can't write at its end.
        assert redirected.returncode in (normal.returncode, 120 if normal.returncode else 0)
