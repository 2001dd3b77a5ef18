"""Sets the stage: starts every process of a run, with an environment made for it alone."""

import fcntl
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from gram_sync.components import MANAGE, listen
from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOSClient
from tests.system.chaos import postgres, warden
from tests.system.chaos.chronicle import Chronicle
from tests.system.chaos.database import Database
from tests.system.chaos.fleet import Fleet
from tests.system.chaos.plan import AT_FIRST, CLUSTERS, WEBS

#: How long the mirror waits for an event that was announced. The fake's hold-back is far below.
WINDOW_SECONDS: Final = 8.0

API_KEY: Final = "sk_chaos"

# What the machine needs, and nothing that could lead a child to somebody's database or WorkOS.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "ENV_FILE")
_PATIENCE_SECONDS: Final = 90.0


class Busy(Exception):
    """Another run has the folder."""


class CannotStart(Exception):
    """Something does not come up even while nobody breaks it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is, once everything runs."""

    folder: Path
    logs: Path
    environment: dict[str, str]
    chronicle: Chronicle
    fleet: Fleet
    workos: FakeWorkOSClient
    database: Database
    webhook_url: str
    webhook_secret: str

    @property
    def data_dir(self) -> Path:
        return self.folder / warden.POSTGRES

    def is_web_answering(self) -> bool:
        """Whether the web processes answer at all."""
        return _answers(self.webhook_url)


@contextmanager
def folder_of_our_own(folder: Path) -> Iterator[Path]:
    """The run's folder, nobody else's, with nothing left running of an earlier run. Raises Busy."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(f"another chaos run is at work in {folder}") from None
    else:
        warden.end_everything(folder)
        yield folder
    finally:
        os.close(lock)


@contextmanager
def set_stage(folder: Path) -> Iterator[Stage]:
    """Start everything; when the context ends, however it ends, nothing is left running.

    Raises CannotStart and what the parts raise.
    """
    logs = _new_logs(folder)
    guard = warden.start(folder)
    try:
        with listen("127.0.0.1", 0) as listener:
            stage = _started(folder, logs, listener)
            try:
                yield stage
            finally:
                stage.fleet.stop()
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait()


def _started(folder: Path, logs: Path, listener: socket.socket) -> Stage:
    webhook_url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhooks/workos/"
    secret = f"whsec_{secrets.token_hex()}"
    environment = _environment(folder, secret)
    database_url = postgres.create(folder / warden.POSTGRES)
    workos_url = _start_fake(environment, logs / "workos.log", webhook_url, secret)
    environment |= {"DATABASE_URL": database_url, "WORKOS_BASE_URL": workos_url}
    _migrate(environment, logs / "migrate.log")
    database = Database(database_url)
    database.prepare()
    chronicle = Chronicle(logs / "actions.log")
    fleet = Fleet(environment, logs, chronicle.note)
    stage = Stage(
        folder=folder,
        logs=logs,
        environment=environment,
        chronicle=chronicle,
        fleet=fleet,
        workos=FakeWorkOSClient(workos_url, timeout=60),
        database=database,
        webhook_url=webhook_url,
        webhook_secret=secret,
    )
    _start_fleet(fleet, listener)
    _wait_for(stage.is_web_answering, "the web processes answer")
    # A snapshot that is killed keeps others from beginning one for two minutes.
    _wait_for(lambda: database.covered() >= set(AT_FIRST), "the resources are covered")
    return stage


def _new_logs(folder: Path) -> Path:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.iterdir():
        log.unlink()
    return logs


def _environment(folder: Path, webhook_secret: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        warden.MARK: str(folder),
        # setproctitle, which comes with mutmut, would write a cluster's title over its mark.
        "SPT_NOENV": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "WORKOS_API_KEY": API_KEY,
        "WORKOS_WEBHOOK_SECRET": webhook_secret,
        "DEBUG": "false",
        "ALLOWED_HOSTS": "127.0.0.1",
        "WORKERS": "2",
        "WORKOS_RESOURCES": ",".join(AT_FIRST),
        # Small numbers, so that every limit is met, and often.
        "HOLD_BACK_SECONDS": str(WINDOW_SECONDS),
        "POLL_PAUSE_SECONDS": "0.2",
        "DRAIN_DEADLINE_SECONDS": "6",
        "PAGE_SIZE": "7",
        "LOCK_TIMEOUT_SECONDS": "0.8",
        "REQUEST_TIMEOUT_SECONDS": "1.5",
    }


def _start_fake(environment: dict[str, str], log: Path, webhook_url: str, secret: str) -> str:
    command = (
        *(sys.executable, "-m", "orgs.testing", "--api-key", API_KEY),
        *("--webhook-url", webhook_url, "--webhook-secret", secret),
    )
    _start(command, environment, log)
    _wait_for(lambda: log.read_text().endswith("\n"), "the fake says where it listens")
    return log.read_text().strip()


def _migrate(environment: dict[str, str], log: Path) -> None:
    process = _start((*MANAGE, "migrate", "--noinput", "--verbosity=0"), environment, log)
    if process.wait(_PATIENCE_SECONDS) != 0:
        raise CannotStart(f"manage.py migrate failed: {log.read_text()[-2000:]}")


def _start(
    command: tuple[str, ...], environment: dict[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _start_fleet(fleet: Fleet, listener: socket.socket) -> None:
    gunicorn = (
        *(sys.executable, "-m", "gunicorn", "gram_sync.wsgi"),
        *("--config", "python:gram_sync.gunicorn", "--workers", "1"),
        # Both serve the one socket that is held here: what one of them can't answer, the other may.
        *("--bind", f"fd://{listener.fileno()}"),
    )
    for name in WEBS:
        fleet.add(name, gunicorn, pass_fds=(listener.fileno(),))
    for name in CLUSTERS:
        fleet.add(name, (*MANAGE, "qcluster"))
    fleet.start()


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CannotStart(f"waited in vain until {what}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    connection = HTTPConnection(url.split("/")[2], timeout=2)
    try:
        connection.request("GET", "/admin/login/")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
