"""Starts, awaits and stops child processes.

Each child leads a session and a process group of its own, out of the reach of the terminal's
Ctrl-C: it is this process that stops it. A signal is only noted, and raised by the next wait: an
exception between starting a child and keeping it would leave it running.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

PROJECT: Final = Path(__file__).resolve().parents[1]

_POLL_SECONDS: Final = 0.1
_T = TypeVar("_T")


class Stopped(Exception):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        self.number = number


class ChildFailed(Exception):
    """A child did not do what it should; the message says what, and where its log is."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started. Without a ``log``, its output is where ours is."""

    name: str
    process: subprocess.Popen[bytes]
    patience: float
    log: Path | None

    def failed(self, what: str) -> ChildFailed:
        """Say what happened, how it ended if it has, and where its output is."""
        if (code := self.process.returncode) is not None:
            how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
            what = f"{what} ({how})"
        return ChildFailed(f"{self.name} {what}. Its output: {self.log or 'above'}")


class Children(ExitStack):
    """The children of this process: when the context ends, all are stopped, the last one first. A
    ``callback`` is called after those that are started later were stopped.

    For the main thread alone, which is deaf to signals except while it waits here. A second Ctrl-C
    kills children that are being stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self._running: list[Child] = []
        self._signals: list[int] = []

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup has a process ignore SIGHUP.
            if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):
                before = signal.signal(number, lambda number, _: self._signals.append(number))
                self.callback(signal.signal, number, before)
        return self

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
        patience: float = 10,
    ) -> Child:
        """Start a child, which has ``patience`` seconds from SIGTERM to SIGKILL. Raises OSError."""
        with nullcontext() if log is None else log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        child = Child(name, process, patience, log)
        self._running.append(child)
        self.callback(self._stop, child)
        return child

    def run(self, name: str, command: Sequence[str], **options: Any) -> None:
        """Run a command to its end. Raises as ``check`` does, and ChildFailed if it fails."""
        child = self.start(name, command, **options)
        while child.process.poll() is None and not self._signals:
            time.sleep(_POLL_SECONDS)
        if child.process.returncode is not None:
            self._running.remove(child)
            if child.process.returncode != 0:
                raise child.failed("failed")
        self.check()

    def check(self) -> None:
        """Raise Stopped if a signal came, and ChildFailed if a child has ended."""
        if self._signals:
            raise Stopped(self._signals[0])
        for child in self._running:
            if child.process.poll() is not None:
                raise child.failed("ended by itself")

    def wait_until(
        self, condition: Callable[[], _T | None], done: str, *, of: Child, seconds: float
    ) -> _T:
        """Return the condition's first true value: the child has ``done`` what it should. Raises
        as ``check`` does, and ChildFailed when the time is over."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            self.check()
            if time.monotonic() > deadline:
                raise of.failed(f"has not {done} within {seconds:g} seconds")
            time.sleep(_POLL_SECONDS)
        return value

    def wait(self) -> NoReturn:
        """Wait until a signal comes or a child ends, which is raised as ``check`` does."""
        while True:
            self.check()
            time.sleep(_POLL_SECONDS)

    def _stop(self, child: Child) -> None:
        if child not in self._running:  # it ended long ago: its pid may be another's by now
            return
        # To the process itself, not to its group: it has to end its own in order.
        child.process.terminate()
        deadline = time.monotonic() + child.patience
        while child.process.poll() is None and time.monotonic() < deadline:
            if self._signals.count(signal.SIGINT) > 1:
                break
            time.sleep(_POLL_SECONDS)
        # Something is left in the group only if the process is stuck or was killed.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
