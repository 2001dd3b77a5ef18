"""Sets the stage: starts every process of a run, with an environment made for it alone."""

import fcntl
import logging
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

from gram_sync.embedded_postgres import server
from gram_sync.run import MANAGE, listen
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import alive, inherited_environment, manage, status_of
from tests.system.chaos import postgres
from tests.system.chaos.database import Database
from tests.system.chaos.fleet import Fleet
from tests.system.chaos.plan import AT_FIRST, CLUSTERS, WEBS

#: How long the mirror waits for an event that was announced. The fake's hold-back is far below.
WINDOW_SECONDS: Final = 8.0

#: How a command is run: a Ctrl-C is ours alone.
APART: Final[dict[str, Any]] = {"stdin": subprocess.DEVNULL, "start_new_session": True}

#: The PostgreSQL, in the folder of the run.
POSTGRES: Final = "postgres"

#: In the environment of all that is started: the folder of the run.
_MARK: Final = "GRAM_SYNC_CHAOS_RUN"

_GUNICORN: Final = (
    *(sys.executable, "-m", "gunicorn", "gram_sync.wsgi"),
    *("--config", "python:gram_sync.gunicorn", "--workers", "1"),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is, once everything runs."""

    folder: Path
    environment: dict[str, str]
    fleet: Fleet
    workos: FakeWorkOS
    database: Database
    port: int

    def is_web_answering(self) -> bool:
        """Whether the web processes answer at all."""
        return status_of(self.port, "GET", "/admin/login/", timeout=2) == 200


@contextmanager
def set_stage(folder: Path) -> Iterator[Stage]:
    """Start everything; when the context ends, nothing is left running.

    Nor of an earlier run in this folder that was killed. Raises AssertionError if something does
    not come up, and what the parts raise: BlockingIOError if another run has the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _end_everything(folder)
        with ExitStack() as stack:
            stack.callback(_end_everything, folder)
            yield _started(folder, stack)


def _end_everything(folder: Path) -> None:
    """Kill all that has the folder's mark, and stop the PostgreSQL in it."""

    def nothing_is_left() -> bool:
        is_left = False
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == str(folder) and alive([process]):
                    is_left = True
                    process.kill()
        return not is_left

    wait_until(nothing_is_left, "all with the mark are killed")
    server.stop(folder / POSTGRES)


def _started(folder: Path, stack: ExitStack) -> Stage:
    listener = stack.enter_context(listen("127.0.0.1", 0))
    workos = stack.enter_context(FakeWorkOS(api_key="sk_chaos"))
    port, secret, logs = listener.getsockname()[1], f"whsec_{secrets.token_hex()}", folder / "logs"
    logs.mkdir(exist_ok=True)
    for log in logs.iterdir():
        log.unlink()
    # What happens when, with the milliseconds since the beginning.
    actions = logging.FileHandler(logs / "actions.log")
    actions.setFormatter(logging.Formatter("%(relativeCreated)9.0f %(message)s"))
    logging.getLogger("chaos").addHandler(actions)
    logging.getLogger("chaos").setLevel("INFO")
    workos.add_webhook_endpoint(url=f"http://127.0.0.1:{port}/webhooks/workos/", secret=secret)
    url = postgres.create(folder / POSTGRES)
    environment = inherited_environment() | {
        _MARK: str(folder),
        # setproctitle, which comes with mutmut, would write a cluster's title over its mark.
        "SPT_NOENV": "1",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "DATABASE_URL": url,
        "WORKOS_API_KEY": workos.api_key,
        "WORKOS_BASE_URL": workos.base_url,
        "WORKOS_WEBHOOK_SECRET": secret,
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
    manage(environment, "migrate", "--noinput", "--verbosity=0", check=True, **APART)
    database = Database(url)
    database.prepare()
    fleet = Fleet(environment, logs)
    stack.callback(fleet.stop)
    stage = Stage(folder, environment, fleet, workos, database, port)
    fd = listener.fileno()
    for name in WEBS:
        # Both serve the one socket that is held here: what one of them can't answer, the other may.
        fleet.add(name, (*_GUNICORN, "--bind", f"fd://{fd}"), pass_fds=(fd,))
    for name in CLUSTERS:
        fleet.add(name, (*MANAGE, "qcluster"))
    wait_until(stage.is_web_answering, "the web processes answer")
    # A snapshot that is killed keeps others from beginning one for a minute.
    wait_until(lambda: database.mirror()[0].covered >= set(AT_FIRST), "resources are covered")
    return stage
