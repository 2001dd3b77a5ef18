"""Starts, awaits and stops child processes, and knows nothing of what they do.

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
from types import FrameType, TracebackType
from typing import Final, NoReturn, Self, TypeVar

PROJECT: Final = Path(__file__).resolve().parents[1]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS: Final = 0.1
_LINES_SHOWN: Final = 15

_T = TypeVar("_T")


class Stopped(Exception):
    """A signal asked this program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class ChildFailed(Exception):
    """A child did not do what it should; the message says what, and shows the end of its log."""


class TooSlow(ChildFailed):
    """A child has not done in time what was awaited of it."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that was started. Without a ``log``, its output is where ours is."""

    name: str
    process: subprocess.Popen[bytes]
    patience: float
    """Seconds from SIGTERM to SIGKILL."""
    log: Path | None = None

    def told(self, what: str) -> str:
        """What happened to the child, and the last lines of its log."""
        if self.log is None:
            return f"{self.name} {what}; its output above may say why."
        lines = self.log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
        shown = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
        return f"{self.name} {what}. The end of its log, {self.log}:\n{shown}"


class Children:
    """The children of this process, as a context: when it ends, however it ends, all are stopped.

    For the main thread alone, which it makes deaf to signals except while it waits here. While the
    children are being stopped, one more Ctrl-C kills them at once. Each child gets the descriptors
    ``inherited``.
    """

    def __init__(self, inherited: Sequence[int] = ()) -> None:
        self._inherited = tuple(inherited)
        self._running: list[Child] = []
        self._cleanup = ExitStack()
        self._signals: list[int] = []
        self._signals_before_stop: int | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # nohup has a process ignore SIGHUP.
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:
                self._handlers[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._signals_before_stop = len(self._signals)
        try:
            self._cleanup.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

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
        """Start a child; it is stopped before those that were started earlier. Raises OSError."""
        with nullcontext() if log is None else log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(*self._inherited, *pass_fds),
                start_new_session=True,
            )
        child = Child(name, process, patience, log)
        self._running.append(child)
        self._cleanup.callback(self._stop, child)
        return child

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        interruptible: bool = True,
    ) -> None:
        """Run a command to its end. Raises ChildFailed if it doesn't exit with 0.

        If it is not ``interruptible``, a signal is raised only when it has ended.
        """
        child = self.start(name, command, environment=environment, log=log)
        while child.process.poll() is None:
            if interruptible:
                self._raise_signal()
            time.sleep(_POLL_SECONDS)
        self._running.remove(child)
        if child.process.returncode != 0:
            raise ChildFailed(child.told(f"failed ({_how_it_ended(child.process.returncode)})"))
        self.check()

    def at_the_end(self, callback: Callable[[], object]) -> None:
        """Call this after stopping the children that are started from now on."""
        self._cleanup.callback(callback)

    def check(self) -> None:
        """Raise Stopped if a signal came, and ChildFailed if a child has ended."""
        self._raise_signal()
        for child in self._running:
            code = child.process.poll()
            if code is not None:
                raise ChildFailed(child.told(f"ended by itself ({_how_it_ended(code)})"))

    def wait_until(
        self, condition: Callable[[], _T | None], done: str, *, of: Child, seconds: float
    ) -> _T:
        """Return the condition's first true value: the child has then ``done`` what it should.

        Raises as ``check`` does, and TooSlow.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise TooSlow(of.told(f"has not {done} within {seconds:g} seconds"))
            time.sleep(_POLL_SECONDS)

    def wait(self) -> NoReturn:
        """Wait until a signal comes or a child ends, which is raised as ``check`` does."""
        while True:
            self.check()
            time.sleep(_POLL_SECONDS)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _raise_signal(self) -> None:
        if self._signals:
            raise Stopped(self._signals[0])

    def _stop(self, child: Child) -> None:
        if child not in self._running:
            # It ended long ago, and its pid may be another's by now.
            return
        # To the process itself, not to its group: django-q2's processes have to end in order, and
        # those that end out of order leave orphans that wait for each other for ever.
        child.process.terminate()
        deadline = time.monotonic() + child.patience
        while child.process.poll() is None and time.monotonic() < deadline and not self._hurried():
            time.sleep(_POLL_SECONDS / 2)
        # Something is left in the group only if the process is stuck or was killed.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()

    def _hurried(self) -> bool:
        # Only Ctrl-C: `make` passes a SIGTERM on that we may already have got ourselves.
        return signal.SIGINT in self._signals[self._signals_before_stop :]


def _how_it_ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
