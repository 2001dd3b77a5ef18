"""Runs a work in a process, notes its steps, and kills it at one of them."""

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
from typing import NamedTuple

from tests.processes import PROJECT
from tests.system.kill.relay import Address, Http, Moment, PostgreSQL, Way, relay


class Step(NamedTuple):
    """A moment in a process's work, and how often it was there by the same way. Threads may come
    the other way round in another run, but by the same ways."""

    moment: Moment
    way: Way
    occurrence: int

    def __str__(self) -> str:
        moment = "before it was sent" if self.moment == "before" else "before its answer came"
        requests = " → ".join(name[:60] for name in self.way[-1])
        return f"killed {moment}, time {self.occurrence}: {requests}"


@dataclass(slots=True)
class Watch:
    """What a process did, and whether it was killed."""

    kill_at: Step | None
    steps: list[Step] = field(default_factory=list)
    is_killed: bool = False
    exit_code: int | None = None
    _pid: int = 0
    _counts: Counter[tuple[Moment, Way]] = field(default_factory=Counter)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def note_start(self, pid: int) -> None:
        self._pid = pid
        self._started.set()

    def note_end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self._ended.set()

    async def reach(self, moment: Moment, way: Way) -> None:
        """Takes note of a step, or kills the process there. Nothing passes after that."""
        await self._started.wait()
        if not self.is_killed:
            self._counts[moment, way] += 1
            self.steps.append(Step(moment, way, self._counts[moment, way]))
            if self.steps[-1] == self.kill_at:
                self.is_killed = True
                os.kill(self._pid, signal.SIGKILL)
        if self.is_killed:
            await self._ended.wait()
            raise ConnectionAbortedError


@dataclass(slots=True)
class Launcher:
    """Starts a process at a time."""

    process: "subprocess.Popen[str]"
    shown: Address
    """Where processes look for PostgreSQL."""
    postgres: Address
    """Where it is."""

    def run(self, work: str, workos: Address, *, kill_at: Step | None = None) -> Watch:
        """Runs a work until it ends, or is killed at a step."""
        return asyncio.run(self._run(work, workos, Watch(kill_at)))

    async def _run(self, work: str, workos: Address, watch: Watch) -> Watch:
        async with (
            relay(PostgreSQL, listen=self.shown, upstream=self.postgres, gate=watch.reach),
            relay(Http, listen=("127.0.0.1", 0), upstream=workos, gate=watch.reach) as address,
        ):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({"work": work, "address": address}) + "\n")
            self.process.stdin.flush()
            watch.note_start(self._read())
            watch.note_end(await asyncio.to_thread(self._read))
        return watch

    def _read(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


@contextmanager
def launcher(environment: dict[str, str], shown: Address, postgres: Address) -> Iterator[Launcher]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.kill.launcher"],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Launcher(process, shown, postgres)
