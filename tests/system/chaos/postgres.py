"""A run's own embedded PostgreSQL: made anew, restarted as badly as asked for, stopped."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT
from tests.concurrency import wait_until
from tests.processes import alive
from tests.system.chaos.actions import StopMode

_SCRIPT: Final = """
import pathlib, sys
from gram_sync.embedded_postgres import server
getattr(server, sys.argv[1])(pathlib.Path(sys.argv[2]))
"""
_COMMAND: Final = (sys.executable, "-c", _SCRIPT)
_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def create(data_dir: Path) -> str:
    """Start a new one where another may have been, and return its URL. Raises ServerError."""
    stop(data_dir)
    if data_dir.exists():
        shutil.rmtree(data_dir)
    _run("start", data_dir)
    return server.start(data_dir)


def restart(data_dir: Path, mode: StopMode) -> None:
    """Stop it as PostgreSQL's documentation of the modes says, and start it again."""
    postmaster = psutil.Process(int((data_dir / "postmaster.pid").read_text().split()[0]))
    postmaster.send_signal(_SIGNALS[mode])
    wait_until(lambda: not alive([postmaster]), f"PostgreSQL has stopped ({mode})")
    _run("start", data_dir)


def stop(data_dir: Path) -> None:
    """Stop it if it runs."""
    _run("stop", data_dir)


def await_starts(data_dir: Path) -> None:
    """Return once nobody is starting it any more: a server that is half started can't be found."""
    command = [*_COMMAND[1:], "start", str(data_dir)]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[1:] == command:
                process.wait(server.PATIENCE_SECONDS)


def _run(verb: str, data_dir: Path) -> None:
    # In a session of its own: a Ctrl-C half-way would leave a server that nobody knows of.
    subprocess.run(
        [*_COMMAND, verb, str(data_dir)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    )
