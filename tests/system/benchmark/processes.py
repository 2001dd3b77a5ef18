"""The other processes of a measurement: fakes of WorkOS, the web process, the worker, and
children that measure themselves."""

import json
import sys
from pathlib import Path
from typing import Any, Final

from gram_sync.processes import Child, Children
from gram_sync.run import listen, start_web, start_worker
from orgs.testing import FakeWorkOSClient
from tests.processes import inherited_environment
from tests.system.benchmark.settings import SERVER_DATA

WEBHOOK_SECRET: Final = "whsec_benchmark"

_LOGS: Final = SERVER_DATA.parent / "logs"


class Processes(Children):
    """All of them are stopped when the context ends. Logs are numbered in the order of starting."""

    _started = 0

    def fake(self, *, hold_back: float = 0.0) -> FakeWorkOSClient:
        """A WorkOS in a process of its own."""
        log = self._log("workos")
        options = ("--api-key", "sk_benchmark", "--hold-back", str(hold_back))
        command = (sys.executable, "-m", "orgs.testing", *options)
        child = self.start("The fake", command, environment=_environment(), log=log)
        url = self.wait_until(log.read_text, "said where it listens", of=child, seconds=60)
        # It may be busy for long with making up organizations.
        return FakeWorkOSClient(url.strip(), timeout=300.0)

    def web(self, workos: FakeWorkOSClient) -> str:
        """The web process as the project starts it, two workers; returns its URL."""
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start_web(self, listener, environment=_environment(workos), log=self._log("web"))
        return url

    def worker(self, workos: FakeWorkOSClient) -> None:
        """django-q2's cluster as the project starts it."""
        environment, log = _environment(workos), self._log("worker")
        start_worker(self, environment=environment, log=log, patience=20)

    def task(self, task: str, workos: FakeWorkOSClient, **options: str) -> tuple[Child, Path]:
        """Have a child do a task of ``child`` beside what follows; returns its log too."""
        environment = _environment(workos)
        environment |= {f"BENCHMARK_{name.upper()}": value for name, value in options.items()}
        command, log = (sys.executable, "-m", "tests.system.benchmark.child", task), self._log(task)
        child = self.start(task, command, environment=environment, log=log, patience=0)
        return child, log

    def measured(self, task: str, workos: FakeWorkOSClient) -> dict[str, Any]:
        """Have a child do a task to its end, and return what it measured."""
        with Processes() as alone:
            child, log = alone.task(task, workos)
            if child.process.wait() != 0:
                raise child.failed("failed")
        measured: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
        return measured

    def _log(self, name: str) -> Path:
        Processes._started += 1
        _LOGS.mkdir(parents=True, exist_ok=True)
        return _LOGS / f"{name}-{Processes._started}.log"


def _environment(workos: FakeWorkOSClient | None = None) -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "tests.system.benchmark.settings"}
    there = {"BENCHMARK_WORKOS_URL": workos.base_url} if workos else {}
    return inherited_environment() | own | there
