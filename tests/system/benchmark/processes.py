"""The other processes of a measurement: fakes of WorkOS, the web process, the worker, and
children that measure themselves."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gram_sync.processes import Child, Children
from gram_sync.run import listen, start_web, start_worker
from orgs.testing import FakeWorkOSClient
from tests.processes import inherited_environment
from tests.system.benchmark.settings import SERVER_DATA

FOLDER: Final = SERVER_DATA.parent
_LOGS: Final = FOLDER / "logs"

API_KEY: Final = "sk_benchmark"
WEBHOOK_SECRET: Final = "whsec_benchmark"

#: A fake may be busy for so long with making up organizations.
_CONTROL_SECONDS: Final = 300.0


@dataclass(slots=True)
class Processes:
    """Starts processes; all of them are stopped at the end of ``processes``."""

    children: Children
    _started: int = field(default=0)

    def fake(self, *, hold_back: float = 0.0) -> FakeWorkOSClient:
        """A WorkOS in a process of its own."""
        log = self._log("workos")
        command = (
            *(sys.executable, "-m", "orgs.testing"),
            *("--api-key", API_KEY, "--hold-back", str(hold_back)),
        )
        child = self.children.start("The fake", command, environment=_environment(), log=log)
        url = self.children.wait_until(
            lambda: _first_line(log), "said where it listens", of=child, seconds=60
        )
        return FakeWorkOSClient(url, timeout=_CONTROL_SECONDS)

    def web(self, workos: FakeWorkOSClient) -> str:
        """The web process as the project starts it, two workers; returns its URL."""
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start_web(self.children, listener, environment=_environment(workos), log=self._log("web"))
        return url

    def worker(self, workos: FakeWorkOSClient) -> None:
        """django-q2's cluster as the project starts it."""
        start_worker(
            self.children, environment=_environment(workos), log=self._log("worker"), patience=20
        )

    @contextmanager
    def while_running(self, task: str, workos: FakeWorkOSClient) -> Iterator[None]:
        """A child does a task of ``tests.system.benchmark.child`` meanwhile, and is killed then."""
        environment, log = _environment(workos), self._log(task)
        with Children() as children:
            children.start(task, _command(task), environment=environment, log=log, patience=0)
            yield

    def start(self, task: str, workos: FakeWorkOSClient, **options: str) -> Child:
        """Have a child do a task beside what follows."""
        environment = _environment(workos)
        environment |= {f"BENCHMARK_{name.upper()}": value for name, value in options.items()}
        log = self._log(task)
        return self.children.start(
            task, _command(task), environment=environment, log=log, patience=0
        )

    def run(self, task: str, workos: FakeWorkOSClient) -> dict[str, Any]:
        """Have a child do a task to its end, and return what it measured. Raises ChildFailed."""
        log, environment = self._log(task), _environment(workos)
        self.children.run(task, _command(task), environment=environment, log=log)
        measured: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
        return measured

    def _log(self, name: str) -> Path:
        self._started += 1
        _LOGS.mkdir(parents=True, exist_ok=True)
        return _LOGS / f"{name}-{self._started}.log"


@contextmanager
def processes() -> Iterator[Processes]:
    with Children() as children:
        yield Processes(children)


def _command(task: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.system.benchmark.child", task)


def _environment(workos: FakeWorkOSClient | None = None) -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "tests.system.benchmark.settings"}
    there = {"BENCHMARK_WORKOS_URL": workos.base_url} if workos else {}
    return inherited_environment() | own | there


def _first_line(log: Path) -> str | None:
    line, newline, _ = log.read_text().partition("\n")
    return line if newline and line.startswith("http://") else None
