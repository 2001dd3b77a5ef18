"""Runs our own processes as a supervisor would, and kills them as bad luck would.

Everything that is started carries the mark of its run in its environment: whatever happens, what
has the mark can be found and ended (see ``warden``).
"""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Final

import psutil  # type: ignore[import-untyped]

from gram_sync.processes import PROJECT
from tests.system.chaos.actions import Kill

Note = Callable[[str, object], None]

_POLL_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 1.0
"""Before what ended by itself is started again."""


class _Member:
    """A process that has to run."""

    def __init__(self, popen: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self._popen = popen
        self.start()

    def start(self) -> None:
        self.process = self._popen()
        self.start_at: float | None = None
        """When it is to be started, if it is down."""
        self.kill_at: float | None = None
        """When it is to be killed whole: a cluster that may be wedged."""

    def kill(self, *, back_at: float) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.start_at, self.kill_at = back_at, None


class Fleet:
    """The processes of a run. Thread-safe, and with a thread of its own that supervises."""

    def __init__(self, environment: Mapping[str, str], logs: Path, note: Note) -> None:
        self._environment = environment
        self._logs = logs
        self._note = note
        self._members: dict[str, _Member] = {}
        self._lock = RLock()
        self._stopped = Event()
        self._thread = Thread(target=self._supervise, name="supervisor", daemon=True)
        self.ended_by_themselves: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Supervise no more; what runs goes on."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, name: str, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
        """Start a process, and keep it running from now on."""

        def popen() -> "subprocess.Popen[bytes]":
            with (self._logs / f"{name}.log").open("ab") as log:
                return subprocess.Popen(
                    command,
                    cwd=PROJECT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=pass_fds,
                    start_new_session=True,
                )

        with self._lock:
            self._members[name] = _Member(popen)

    def kill(self, kill: Kill) -> str:
        """Kill what it says, as far as there is something to kill, and say what that was."""
        with self._lock:
            member = self._members[kill.member]
            if member.process.poll() is not None:
                return "it was down"
            back_at, result = time.monotonic() + kill.back_after, "all of it"
            if kill.whole:
                member.kill(back_at=back_at)
            else:
                result = _kill_child(member.process.pid, kill.pick)
                # gunicorn replaces its children; a cluster may hang, and show nothing of it.
                if kill.member.startswith("cluster"):
                    member.kill_at = back_at
            self.kills[f"{kill.member.split('-')[0]} {'whole' if kill.whole else 'child'}"] += 1
            return result

    def is_whole(self) -> bool:
        """Whether everything runs, and nothing is to be killed any more."""
        with self._lock:
            members = self._members.values()
            return all(one.process.poll() is None and one.kill_at is None for one in members)

    def _supervise(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            with self._lock:
                for name, member in self._members.items():
                    self._look_after(name, member, time.monotonic())

    def _look_after(self, name: str, member: _Member, now: float) -> None:
        if member.start_at is not None:
            if now >= member.start_at:
                member.start()
        elif (code := member.process.poll()) is not None:
            self._note(f"ended by itself, exit code {code}", name)
            self.ended_by_themselves[name.split("-", maxsplit=1)[0]] += 1
            # Its children would go on, and do what nobody supervises.
            member.kill(back_at=now + _PAUSE_SECONDS)
        elif member.kill_at is not None and now >= member.kill_at:
            member.kill(back_at=now)


def _kill_child(pid: int, pick: float) -> str:
    with suppress(psutil.NoSuchProcess):
        children = sorted(psutil.Process(pid).children(recursive=True), key=lambda one: one.pid)
        if children:
            place = int(pick * len(children))
            children[place].kill()
            return f"child {place + 1} of {len(children)}"
    return "it had no child"
