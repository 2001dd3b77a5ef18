"""Ends everything of a run when the run ends, however that ends: it waits for the end of a pipe.

``python -m tests.system.chaos.warden FOLDER``, started in a session of its own, with the pipe
as its standard input. A pipe ends with whoever holds it, even by SIGKILL.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from gram_sync.processes import PROJECT
from tests.concurrency import wait_until
from tests.processes import alive
from tests.system.chaos import postgres

#: In the environment of all that is started: the folder of the run.
MARK: Final = "GRAM_SYNC_CHAOS_RUN"
POSTGRES: Final = "postgres"


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """Start the warden of a run. Closing its ``stdin`` has it do its work; then it ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.system.chaos.warden", str(folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )


def end_everything(folder: Path) -> None:
    """Kill all that has the folder's mark, and stop the PostgreSQL in it. Safe to repeat."""

    def nothing_is_left() -> bool:
        is_left = False
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == str(folder) and alive([process]):
                    is_left = True
                    process.kill()
        return not is_left

    wait_until(nothing_is_left, "all with the mark are killed")
    postgres.await_starts(folder / POSTGRES)
    postgres.stop(folder / POSTGRES)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_everything(Path(sys.argv[1]))
