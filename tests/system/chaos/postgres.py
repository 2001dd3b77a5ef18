"""A run's own embedded PostgreSQL: made anew, restarted as badly as asked for."""

import shutil
import signal
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from gram_sync.embedded_postgres import server
from gram_sync.processes import Children
from tests.concurrency import wait_until
from tests.processes import alive
from tests.system.chaos.actions import StopMode

_SIGNALS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def create(data_dir: Path) -> str:
    """Start a new one where another may have been, and return its URL. Raises ServerError, and
    Stopped once it runs: a Ctrl-C half-way would leave a server that nobody knows of."""
    with Children() as signals:
        server.stop(data_dir)
        shutil.rmtree(data_dir, ignore_errors=True)
        url = server.start(data_dir)
        signals.check()
    return url


def restart(data_dir: Path, mode: StopMode) -> None:
    """Stop it as PostgreSQL's documentation of the modes says, and start it again."""
    postmaster = psutil.Process(int((data_dir / "postmaster.pid").read_text().split()[0]))
    postmaster.send_signal(_SIGNALS[mode])
    wait_until(lambda: not alive([postmaster]), f"PostgreSQL has stopped ({mode})")
    server.start(data_dir)
