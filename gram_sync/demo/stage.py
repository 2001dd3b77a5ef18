"""Sets the stage: starts every process of the demo, each with an environment made for it alone."""

import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel's own dependency

from gram_sync.components import (
    MANAGE,
    listen,
    migrate,
    start_postgres,
    start_web,
    start_worker,
    stop_postgres,
)
from gram_sync.processes import Child, Children
from orgs.testing import StandInClient

HOLD_BACK_SECONDS: Final = 2
API_KEY: Final = "sk_demo"

# A task of the worker may wait so long for an event, and no longer than a person does for Ctrl-C.
_PATIENCE_SECONDS: Final = 10

# What the machine needs, and nothing that could lead a child to somebody's database or WorkOS.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")


class StageTaken(Exception):
    """Another demo runs in the same folder, or has left processes behind."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is, once everything runs."""

    children: Children
    workos: StandInClient
    worker: Child
    web_url: str
    database_url: str
    environment: dict[str, str]
    logs: Path

    def make_login(self, name: str, password: str) -> None:
        """Make a superuser of the admin. Raises ChildFailed."""
        login = {"DJANGO_SUPERUSER_USERNAME": name, "DJANGO_SUPERUSER_PASSWORD": password}
        self.children.run(
            "manage.py createsuperuser",
            (*MANAGE, "createsuperuser", "--noinput", "--email="),
            environment=self.environment | login,
            log=self.logs / "createsuperuser.log",
        )


def set_stage(children: Children, folder: Path) -> Stage:
    """Start everything, with a new database. Raises ChildFailed, ServerError and OSError."""
    logs = _new_logs(folder)
    listener = listen("127.0.0.1", 0)
    web_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    environment = _environment()
    log = logs / "workos.log"
    stand_in = _start_stand_in(children, environment, web_url, log)
    workos_url = _address(children, stand_in, log)
    database_url = _new_database(children, folder / "postgres", logs / "postgres.log")
    environment |= {"DATABASE_URL": database_url, "WORKOS_BASE_URL": workos_url}
    migrate(children, environment=environment, log=logs / "migrate.log")
    worker = start_worker(
        children, environment=environment, log=logs / "worker.log", patience=_PATIENCE_SECONDS
    )
    start_web(children, listener, environment=environment, log=logs / "web.log")
    workos = StandInClient(workos_url, timeout=20)
    return Stage(children, workos, worker, web_url, database_url, environment, logs)


@contextmanager
def folder_of_our_own(folder: Path) -> Iterator[int]:
    """Hold the folder against other demos. What is yielded is for the children to inherit: as long
    as one of them runs, the folder is held. Raises StageTaken and OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _hold(lock, folder)
        yield lock
    finally:
        os.close(lock)


def _hold(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StageTaken(_who_holds(folder / "lock")) from None


def _who_holds(lock: Path) -> str:
    holders = [str(process.pid) for process in psutil.process_iter() if _has_open(process, lock)]
    return (
        f"Another demo (make demo, make serve) runs in {lock.parent}: stop that first. If it was "
        f"killed, this ends what it left behind: kill -KILL {' '.join(holders)}"
    )


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return process.pid != os.getpid() and any(
            file.path == str(path.resolve()) for file in process.open_files()
        )
    except psutil.Error:
        return False


def _new_logs(folder: Path) -> Path:
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.glob("*.log"):
        log.unlink()
    return logs


def _environment() -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | {
        "SECRET_KEY": secrets.token_urlsafe(50),
        "WORKOS_API_KEY": API_KEY,
        "WORKOS_WEBHOOK_SECRET": f"whsec_{secrets.token_hex()}",
        "DEBUG": "false",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        # Nobody wants to wait longer here; the defaults are for the real WorkOS.
        "HOLD_BACK_SECONDS": "30",
        "POLL_PAUSE_SECONDS": "0.5",
        "DRAIN_DEADLINE_SECONDS": "20",
    }


def _start_stand_in(
    children: Children, environment: dict[str, str], web_url: str, log: Path
) -> Child:
    command = (
        *(sys.executable, "-m", "orgs.testing"),
        *("--api-key", API_KEY),
        *("--hold-back", str(HOLD_BACK_SECONDS)),
        *("--webhook-url", f"{web_url}/webhooks/workos/"),
        *("--webhook-secret", environment["WORKOS_WEBHOOK_SECRET"]),
    )
    return children.start("The WorkOS stand-in", command, environment=environment, log=log)


def _address(children: Children, stand_in: Child, log: Path) -> str:
    """Where the stand-in listens: the line that it prints when it does."""
    return children.wait_until(
        lambda: _first_line(log), "said where it listens", of=stand_in, seconds=60
    )


def _first_line(log: Path) -> str | None:
    line, newline, _ = log.read_text().partition("\n")
    return line if newline and line.startswith("http://") else None


def _new_database(children: Children, data_dir: Path, log: Path) -> str:
    # One that was killed before it could stop its server may have been here.
    stop_postgres(data_dir)
    if (data_dir / "PG_VERSION").exists():
        shutil.rmtree(data_dir)
    return start_postgres(children, data_dir, log=log)
