"""Commands whose standard streams are closed, full, or a pipe with no reader."""

import os
import subprocess
import sys

import pytest

from gram_sync.processes import PROJECT

COMMANDS = (
    "manage.py check",
    "-m gram_sync.run --nothing",
    "-m gram_sync.embedded_postgres status /nowhere",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("redirection", "is_lost"),
    [
        pytest.param(">&-", False, id="no stdout"),
        pytest.param("2>&-", False, id="no stderr"),
        pytest.param("<&- >&- 2>&-", False, id="none at all"),
        pytest.param(">/dev/full", True, id="a full disk"),
        pytest.param("2>/dev/full", False, id="a full disk for errors"),
        pytest.param(">&3", True, id="a pipe that nobody reads"),
    ],
)
def test_a_stream_that_cant_be_written_is_no_traceback(
    command: str, redirection: str, is_lost: bool
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull}
    if "manage.py" in command:
        environment["DEBUG"] = "true"

    def run(redirection: str) -> subprocess.CompletedProcess[str]:
        shell = f"exec {sys.executable} {command} {redirection}"
        return subprocess.run(
            ["sh", "-c", f"exec 3>&{writing}; {shell}"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            pass_fds=(writing,),
            check=False,
        )

    normal, redirected = run(""), run(redirection)
    os.close(writing)

    assert "Traceback" not in redirected.stderr
    if is_lost and normal.stdout:
        assert redirected.returncode == 1
        assert redirected.stderr.startswith("The output can't be written: ")
    else:
        assert redirected.returncode == normal.returncode
