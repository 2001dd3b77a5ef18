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
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Member:
    """A process that has to run."""

    name: str
    command: Sequence[str]
    log: Path
    pass_fds: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    start_at: float | None = None
    """When it is to be started, if it is down."""
    kill_at: float | None = None
    """When it is to be killed whole: a cluster that may be wedged."""


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
        with self._lock:
            self._members[name] = _Member(name, command, self._logs / f"{name}.log", pass_fds)
            self._start(self._members[name])

    def kill(self, kill: Kill) -> str:
        """Kill what it says, as far as there is something to kill, and say what that was."""
        with self._lock:
            member = self._members[kill.member]
            if member.process is None or member.process.poll() is not None:
                return "it was down"
            back_at = time.monotonic() + kill.back_after
            if kill.whole:
                self._kill_whole(member)
                member.start_at = back_at
                result = "all of it"
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
            return all(
                member.process is not None
                and member.process.poll() is None
                and member.kill_at is None
                for member in self._members.values()
            )

    # Supervising

    def _supervise(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            with self._lock:
                for member in self._members.values():
                    self._look_after(member, time.monotonic())

    def _look_after(self, member: _Member, now: float) -> None:
        if member.start_at is not None:
            if now >= member.start_at:
                self._start(member)
        elif member.process is not None and (code := member.process.poll()) is not None:
            self._has_ended(member, code, now)
        elif member.kill_at is not None and now >= member.kill_at:
            self._kill_whole(member)
            member.start_at = now

    def _has_ended(self, member: _Member, code: int, now: float) -> None:
        # Its children would go on, and do what nobody supervises.
        self._kill_whole(member)
        self._note(f"ended by itself, exit code {code}", member.name)
        self.ended_by_themselves[member.name.split("-")[0]] += 1
        member.start_at = now + _PAUSE_SECONDS

    def _start(self, member: _Member) -> None:
        with member.log.open("ab") as log:
            member.process = subprocess.Popen(
                member.command,
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=member.pass_fds,
                start_new_session=True,
            )
        member.start_at = member.kill_at = None

    def _kill_whole(self, member: _Member) -> None:
        if member.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(member.process.pid, signal.SIGKILL)
            member.process.wait()
        member.kill_at = None


def _kill_child(pid: int, pick: float) -> str:
    with suppress(psutil.NoSuchProcess):
        children = sorted(psutil.Process(pid).children(recursive=True), key=lambda one: one.pid)
        if children:
            place = int(pick * len(children))
            children[place].kill()
            return f"child {place + 1} of {len(children)}"
    return "it had no child"
