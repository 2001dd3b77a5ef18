"""Runs a work in a process, numbers its steps, and kills it at one of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.processes import PROJECT
from tests.system.kill.relay import Address, Http, Moment, PostgreSQL, relay


@dataclass(frozen=True, slots=True)
class Step:
    """A moment in a process's work. The same one in another run: calls and statements of different
    threads may come the other way round there, so its number counts for nothing."""

    moment: Moment
    request: str
    occurrence: int
    number: int = field(compare=False)

    def __str__(self) -> str:
        again = f", time {self.occurrence}" if self.occurrence > 1 else ""
        moment = "before it was sent" if self.moment == "before" else "before its answer came"
        return f"killed at step {self.number}, {moment}: {self.request}{again}"


@dataclass(slots=True)
class Watch:
    """What a process did, and where it was killed, if it was."""

    kill_at: Step | None
    steps: list[Step] = field(default_factory=list)
    is_killed: bool = False
    exit_code: int | None = None
    _pid: int | None = None
    _counts: Counter[tuple[Moment, str]] = field(default_factory=Counter)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def note_start(self, pid: int) -> None:
        self._pid = pid
        self._started.set()

    def note_end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self._ended.set()

    async def reach(self, moment: Moment, request: str) -> None:
        """Takes note of a step, or kills the process there. Nothing passes after that."""
        await self._started.wait()
        if not self.is_killed:
            self._counts[moment, request] += 1
            occurrence = self._counts[moment, request]
            step = Step(moment, request, occurrence, len(self.steps) + 1)
            self.steps.append(step)
            if step == self.kill_at:
                self._kill()
        if self.is_killed:
            await self._ended.wait()
            raise ConnectionAbortedError

    def _kill(self) -> None:
        assert self._pid is not None
        self.is_killed = True
        os.kill(self._pid, signal.SIGKILL)


@dataclass(slots=True)
class Launcher:
    """Starts a process at a time."""

    process: "subprocess.Popen[str]"
    shown: Address
    """Where processes look for PostgreSQL."""
    postgres: Address
    """Where it is."""

    @classmethod
    @contextmanager
    def running(
        cls, environment: dict[str, str], shown: Address, postgres: Address
    ) -> Iterator[Self]:
        with subprocess.Popen(
            [sys.executable, "-m", "tests.system.kill.launcher"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield cls(process, shown, postgres)

    def run(self, work: str, workos: Address, *, kill_at: Step | None = None) -> Watch:
        """Runs a work until it ends, or is killed at a step."""
        return asyncio.run(self._run(work, workos, Watch(kill_at)))

    async def _run(self, work: str, workos: Address, watch: Watch) -> Watch:
        async with (
            relay(PostgreSQL, listen=self.shown, upstream=self.postgres, gate=watch.reach),
            relay(Http, listen=("127.0.0.1", 0), upstream=workos, gate=watch.reach) as address,
        ):
            watch.note_start(self._start(work, _url(address)))
            watch.note_end(int(await asyncio.to_thread(self._read)))
        return watch

    def _start(self, work: str, base_url: str) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"work": work, "base_url": base_url}) + "\n")
        self.process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def _url(address: Address) -> str:
    assert not isinstance(address, Path)
    host, port = address
    return f"http://{host}:{port}"
