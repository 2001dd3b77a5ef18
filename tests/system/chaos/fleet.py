"""Runs our own processes as a supervisor would, and kills them as bad luck would.

Everything that is started carries the mark of its run in its environment: whatever happens, what
has the mark can be found and ended (see ``stage``).
"""

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

from gram_sync.processes import PROJECT
from tests.processes import family
from tests.system.chaos.actions import Kill

_PAUSE_SECONDS: Final = 1.0
"""Before what ended by itself is started again."""


class Fleet:
    """The processes of a run, each started again whenever it ends, until ``stop``."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = environment
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pauses: dict[str, float] = {}
        """Of those that are killed whole: how long each is down."""
        self._starting = Lock()
        self._stopped = Event()

    def add(self, name: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        """Start a process, and keep it running from now on."""

        def start() -> None:
            with (self._logs / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    command,
                    cwd=PROJECT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )

        start()
        Thread(target=self._keep_running, args=(name, start), daemon=True).start()

    def stop(self) -> None:
        """Start nothing any more; what runs goes on."""
        with self._starting:
            self._stopped.set()

    def kill(self, kill: Kill) -> str:
        """Kill what it says, as far as there is something to kill, and say what that was."""
        process = self._processes[kill.member]
        if process.poll() is not None:
            return "it was down"
        if kill.whole:
            self._pauses[kill.member] = kill.back_after
            _kill_group(process)
            return "all of it"
        children = sorted(family(process.pid), key=lambda child: int(child.pid))
        if not children:
            return "it had no child"
        place = int(kill.pick * len(children))
        children[place].kill()
        return f"child {place + 1} of {len(children)}"

    def is_whole(self) -> bool:
        """Whether everything runs."""
        return all(process.poll() is None for process in self._processes.values())

    def _keep_running(self, name: str, start: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            process = self._processes[name]
            code = process.wait()
            pause = self._pauses.pop(name, None)
            if pause is None and not self._stopped.is_set():
                logging.getLogger("chaos").info("%s ended by itself, exit code %s", name, code)
            # Its children would go on, and do what nobody supervises.
            _kill_group(process)
            self._stopped.wait(_PAUSE_SECONDS if pause is None else pause)
            with self._starting:
                if not self._stopped.is_set():
                    start()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
