"""Commands whose standard streams are closed, full, or a pipe with no reader."""

import os
import subprocess
import sys

import pytest

from orgs.testing import FakeWorkOS
from tests.processes import environment_for, run

PIPE = "a pipe that nobody reads"
CLOSED = "<&- >&- 2>&-"

#: The one way to exit where output is lost; otherwise a command ends as it does anyway.
LOST = None

#: The quickest has every redirection, the others what their own streams make of it.
STATUS = "-m gram_sync.embedded_postgres status /nowhere"


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("command", "redirection", "code"),
    [
        (STATUS, ">&-", 1),
        (STATUS, "2>&-", 1),
        (STATUS, CLOSED, 1),
        (STATUS, ">/dev/full", LOST),
        (STATUS, "2>/dev/full", 1),
        (STATUS, PIPE, LOST),
        ("manage.py check", ">/dev/full", LOST),
        # As in a project whose manage.py guards nothing itself.
        ("-m django workos_user_data user_1", PIPE, LOST),
        ("-m django reconcile_workos", ">/dev/full", LOST),
    ],
)
def test_a_stream_that_cant_be_written_is_no_traceback(
    workos: FakeWorkOS, command: str, redirection: str, code: int | None
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    script = f"exec {sys.executable} {command} {redirection.replace(PIPE, '')}"
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "capture_output": False}
    stdout = writing if redirection == PIPE else subprocess.PIPE
    done = run(["sh", "-c", script], environment_for(workos), stdout=stdout, **streams)
    os.close(writing)

    for unwanted in ("sh: ", "Traceback", "Exception ignored"):
        assert unwanted not in done.stderr
    if code is LOST:
        assert done.returncode == 1
        assert "The output can't be written: " in done.stderr
    else:
        # Python has 120 for what it can't write at its end.
        assert done.returncode in (code, 120 if code else 0)
