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
from dataclasses import dataclass
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


class Watch:
    """What a process did, and whether it was killed."""

    def __init__(self, kill_at: Step | None) -> None:
        self.steps: list[Step] = []
        self.pid: asyncio.Future[int] = asyncio.Future()
        self.exit_code: asyncio.Future[int] = asyncio.Future()
        self._kill_at = kill_at
        self._is_killed = False
        self._counts: Counter[tuple[Moment, Way]] = Counter()

    async def reach(self, moment: Moment, way: Way) -> None:
        """Takes note of a step, or kills the process there. Nothing passes after that."""
        pid = await asyncio.shield(self.pid)
        if not self._is_killed:
            self._counts[moment, way] += 1
            self.steps.append(Step(moment, way, self._counts[moment, way]))
            if self.steps[-1] == self._kill_at:
                self._is_killed = True
                os.kill(pid, signal.SIGKILL)
        if self._is_killed:
            await asyncio.shield(self.exit_code)
            raise ConnectionAbortedError


@dataclass(slots=True)
class Launcher:
    """Starts a process at a time."""

    process: "subprocess.Popen[str]"
    shown: Address
    """Where processes look for PostgreSQL."""
    postgres: Address
    """Where it is."""

    def run(
        self, work: str, workos: Address, *, kill_at: Step | None = None
    ) -> tuple[int, list[Step]]:
        """Runs a work until it ends, or is killed at a step; its exit code, and its steps."""
        return asyncio.run(self._run(work, workos, kill_at))

    async def _run(
        self, work: str, workos: Address, kill_at: Step | None
    ) -> tuple[int, list[Step]]:
        watch = Watch(kill_at)
        async with (
            relay(PostgreSQL, listen=self.shown, upstream=self.postgres, gate=watch.reach),
            relay(Http, listen=("127.0.0.1", 0), upstream=workos, gate=watch.reach) as address,
        ):
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({"work": work, "address": address}) + "\n")
            self.process.stdin.flush()
            watch.pid.set_result(self._read())
            watch.exit_code.set_result(await asyncio.to_thread(self._read))
        return watch.exit_code.result(), watch.steps

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
