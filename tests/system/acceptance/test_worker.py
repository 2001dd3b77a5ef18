"""The worker as it is started: its whole way from webhook to write-back, and each of its processes
killed in turn."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from django.db import connection
from django.db.models.functions import Now
from django_q.models import OrmQ, Schedule

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services.queue import SYNC_EVENTS, enqueue
from orgs.testing import FakeWorkOS
from tests.concurrency import PATIENCE, another_program, wait_until
from tests.processes import (
    SYNC_WORKER,
    WEBHOOK_SECRET,
    a_cluster,
    alive,
    environment_for,
    family,
    manage,
)

pytestmark = pytest.mark.usefixtures("database")

#: The command, which after SIGUSR1 waits for its cluster's work for two seconds, not for minutes.
IMPATIENT = (
    sys.executable,
    "-c",
    """
import signal, django
from django.core.management import call_command
django.setup()
from orgs.services import worker
def hurry(*_):
    worker.PATIENCE, worker.Conf.TIMEOUT = 2.0, None
def begin(watch, begin=worker.Watch.begin):
    worker.PATIENCE = 120.0
    begin(watch)
signal.signal(signal.SIGUSR1, hurry)
worker.Watch.begin = begin
call_command("sync_worker")
""",
)
#: Tasks end within seven seconds by themselves.
LITTLE_TIME = {
    "DRAIN_DEADLINE_SECONDS": "1",
    "REQUEST_TIMEOUT_SECONDS": "0.7",
    "LOCK_TIMEOUT_SECONDS": "0.1",
}


@pytest.fixture(autouse=True)
def quiet_schedules(database: None) -> None:
    """Schedules that are not due: the tests enqueue what they wait for."""
    Schedule.objects.update(next_run=Now() + timedelta(hours=1))


@dataclass
class Worker:
    """A running sync_worker, and what it has started."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def family(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def cluster(self) -> dict[str, psutil.Process]:
        """The cluster's processes by what they are, once all of them run."""
        children = psutil.Process(self.process.pid).children()
        (main,) = (each for each in children if each.name() != "sh")
        (sentinel,) = main.children()
        # In the order in which django-q2 starts them.
        started = sorted(sentinel.children(), key=lambda each: int(each.pid))
        names = ("main", "sentinel", "worker", "monitor", "pusher")
        return dict(zip(names, (main, sentinel, *started), strict=True))

    def has_worked(self) -> None:
        """Waits until the cluster has worked, and is idle: before, it may not have started yet."""
        # What a killed one has taken comes again only after minutes.
        OrmQ.objects.all().delete()
        enqueue(SYNC_EVENTS)
        wait_until(lambda: not OrmQ.objects.exists(), "the task is acknowledged")
        wait_until(self.is_up, "all of it runs")

    def is_up(self) -> bool:
        with suppress(ValueError, psutil.NoSuchProcess):
            return bool(self.cluster())
        return False


@contextmanager
def a_worker(
    workos: FakeWorkOS, tmp_path: Path, command: Sequence[str] = SYNC_WORKER, **settings: str
) -> Iterator[Worker]:
    """A sync_worker whose cluster has worked, and is idle. It takes that along when it is killed,
    at the end."""
    environment, log = environment_for(workos, **settings), tmp_path / "worker.log"
    with log.open("wb") as output, a_cluster(environment, output, command) as process:
        worker = Worker(process, log)
        worker.has_worked()
        yield worker
        members = worker.family()
        process.kill()
        process.wait()
        wait_until(lambda: not alive(members), "its cluster is gone")


@contextmanager
def no_new_connections() -> Iterator[None]:
    """Connections that are open go on."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with another_program(dbname="postgres") as other:
        other.autocommit = True
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            yield
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def rests(process: psutil.Process) -> Callable[[], bool]:
    """Whether it was asleep at the last ten looks, and all the time between them."""
    seen: list[object] = []

    def look() -> bool:
        seen.append((process.status(), process.num_ctx_switches()))
        return seen[-10:] == [(psutil.STATUS_SLEEPING, process.num_ctx_switches())] * 10

    return look


def is_written_back(workos: FakeWorkOS, workos_id: str) -> bool:
    row = Organization.objects.filter(workos_id=workos_id).first()
    there = workos.organization(workos_id)
    return row is not None and there is not None and there["external_id"] == row.id


def test_a_webhook_becomes_a_row_and_a_write_back_without_a_word(
    live_server: Any, workos: FakeWorkOS, tmp_path: Path
) -> None:
    workos.add_webhook_endpoint(url=f"{live_server.url}/webhooks/workos/", secret=WEBHOOK_SECRET)
    workos.set_hold_back(1.0)

    with a_worker(workos, tmp_path) as worker:
        acme = workos.create_organization(name="Acme")
        wait_until(lambda: is_written_back(workos, acme["id"]), "the id is written back")
        wait_until(
            lambda: WorkOSEvent.objects.filter(outcome="updated").exists(),
            "the echo of the write-back is read",
        )
        assert SyncCursor.objects.filter(worker_started_at__lte=Now()).exists()
        family = worker.family()
        worker.process.terminate()
        code = worker.process.wait(PATIENCE)

        assert code == 0
        assert alive(family) == []
    assert Organization.objects.get().slug == "acme"
    assert not ExternalIdWriteBack.objects.exists()
    levels = {json.loads(line)["level"] for line in worker.log.read_text().splitlines()}
    assert levels <= {"INFO"}


#: Each of a cluster's processes, and why the cluster is started anew when it is killed.
VICTIMS = {
    "sentinel": "it ended by itself",
    # Waiting for work, they hold the lock of the queue that they read from.
    "worker": "no task was ",
    "monitor": "no task was ",
    "pusher": "",  # django-q2 itself replaces it
}


@pytest.mark.parametrize("victims", [["sentinel", "worker"], ["pusher", "monitor"]])
def test_whichever_of_its_processes_is_killed_the_work_goes_on(
    workos: FakeWorkOS, tmp_path: Path, victims: list[str]
) -> None:
    with a_worker(workos, tmp_path, IMPATIENT) as worker:
        for victim in victims:
            the_work_goes_on_without(victim, VICTIMS[victim], worker, workos)


def the_work_goes_on_without(victim: str, reason: str, worker: Worker, workos: FakeWorkOS) -> None:
    cluster, logged = worker.cluster(), len(worker.log.read_text())
    if victim in ("worker", "monitor"):
        wait_until(rests(cluster[victim]), "it waits for work")
    cluster[victim].kill()
    wait_until(lambda: not alive([cluster[victim]]), "it is dead")
    if victim in ("worker", "monitor"):
        worker.process.send_signal(signal.SIGUSR1)
    workos.create_organization(name=victim, external_id=f"gram-{victim}")
    for _ in range(20):
        enqueue(SYNC_EVENTS)
    wait_until(Organization.objects.filter(name=victim).exists, "the event is applied")
    if reason:
        anew = f"is started anew: {reason}"
        wait_until(lambda: anew in worker.log.read_text()[logged:], anew)
        wait_until(lambda: not alive(cluster.values()), "the old cluster is gone")
    worker.has_worked()


def test_a_cluster_whose_main_process_is_killed_while_the_database_is_away_is_started_anew(
    workos: FakeWorkOS, tmp_path: Path
) -> None:
    with a_worker(workos, tmp_path) as worker:
        cluster = worker.cluster()
        with no_new_connections():
            cluster["main"].kill()
            wait_until(lambda: "failed to start" in worker.log.read_text(), "it is tried again")
            wait_until(lambda: not alive(cluster.values()), "the old cluster is gone")
        assert "is started anew: it ended by itself" in worker.log.read_text()
        worker.has_worked()


@pytest.mark.parametrize(
    ("signals", "environment"),
    [
        pytest.param([signal.SIGTERM], LITTLE_TIME, id="after the time limit of a task"),
        pytest.param([signal.SIGTERM, signal.SIGINT], {}, id="by a second signal"),
    ],
)
def test_a_stuck_cluster_is_stopped_too(
    workos: FakeWorkOS, tmp_path: Path, signals: list[int], environment: dict[str, str]
) -> None:
    with a_worker(workos, tmp_path, **environment) as worker:
        family = worker.family()
        idle = worker.cluster()["worker"]
        wait_until(rests(idle), "it waits for work")
        idle.kill()
        wait_until(lambda: "reincarnated worker" in worker.log.read_text(), "it is replaced")
        for number in signals:
            worker.process.send_signal(number)
        code = worker.process.wait(PATIENCE)

        assert code == 0
        wait_until(lambda: not alive(family), "all of it is gone")


def test_a_cluster_that_cant_be_started_is_an_error(workos: FakeWorkOS) -> None:
    result = manage(environment_for(workos, REDIS_URL="redis://127.0.0.1:1/0"), "sync_worker")

    assert result.returncode == 1
    assert "can't be started" in result.stderr
