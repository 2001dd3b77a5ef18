"""Commands whose standard streams are closed, full, or a pipe with no reader."""

import os
import subprocess
import sys

import pytest

from orgs.testing import FakeWorkOS
from tests.processes import PROJECT, environment_for

PIPE = "a pipe that nobody reads"
CLOSED = "<&- >&- 2>&-"

#: The one way to exit where output is lost; otherwise a command ends as it does anyway.
LOST = None

#: The quickest has every redirection, the others what their own streams make of it.
STATUS = "-m gram_sync.embedded_postgres status /nowhere"


@pytest.mark.parametrize(
    ("command", "redirection", "code"),
    [
        (STATUS, ">&-", 1),
        (STATUS, "2>&-", 1),
        (STATUS, CLOSED, 1),
        (STATUS, ">/dev/full", LOST),
        (STATUS, "2>/dev/full", 1),
        (STATUS, PIPE, LOST),
        ("manage.py check", CLOSED, 0),
        ("manage.py check", ">/dev/full", LOST),
        ("-m gram_sync.run", CLOSED, 1),
        ("-m gram_sync.run", "2>/dev/full", 1),
    ],
)
def test_a_stream_that_cant_be_written_is_no_traceback(
    command: str, redirection: str, code: int | None
) -> None:
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull}
    if "manage.py" in command:
        environment["DEBUG"] = "true"

    ends(command, redirection, environment, code)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("command", "redirection", "code"),
    [
        ("workos_user_data user_1", PIPE, LOST),
        ("workos_user_data user_1 --erase", CLOSED, 1),
        ("reconcile_workos", ">&-", 0),
        ("reconcile_workos", ">/dev/full", LOST),
    ],
)
def test_so_it_is_in_a_project_that_guards_nothing_itself(
    workos: FakeWorkOS, command: str, redirection: str, code: int | None
) -> None:
    ends(f"-m django {command}", redirection, environment_for(workos), code)


def ends(command: str, redirection: str, environment: dict[str, str], code: int | None) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {command} {redirection.replace(PIPE, '')}"],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writing if redirection == PIPE else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)

    for unwanted in ("sh: ", "Traceback", "Exception ignored"):
        assert unwanted not in done.stderr
    if code is LOST:
        assert done.returncode == 1
        assert "The output can't be written: " in done.stderr
    else:
        # Python has 120 for what it can't write at its end.
        assert done.returncode in (code, 120 if code else 0)
