"""Called at night: real processes are broken, and only the admin, /readyz, /metrics and the logs
may be used to find out what it is, and to mend it as they say.

Here are the problems in which the processes themselves matter: one ends, waits or is restarted.
``tests/integration/test_runbook.py`` makes every problem, without processes.

All tests have one service, and leave it as they found it: nothing is wrong.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F, Model
from django.db.models.functions import Now
from django.test import Client, TransactionTestCase
from django_q.models import OrmQ, Schedule
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoDbBlocker

from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.admin_pages import CURSOR, ORGANIZATIONS, fields_of
from tests.builders import minutes
from tests.concurrency import another_program, wait_until
from tests.conftest import empty_database
from tests.processes import WEBHOOK_SECRET, a_cluster, a_web_process, environment_for
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

DRAIN, SNAPSHOT = f"{CURSOR}ring/drain/", f"{CURSOR}ring/snapshot/"

QUICK = {
    # A cluster works off the schedules when it starts, not half a minute later.
    "DJANGO_SETTINGS_MODULE": "tests.prompt_settings",
    "ALLOWED_HOSTS": "127.0.0.1",
    "HTTPS_ONLY": "false",
    "LOCK_TIMEOUT_SECONDS": "0.2",
    "REQUEST_TIMEOUT_SECONDS": "1",
    "DRAIN_DEADLINE_SECONDS": "5",
    "STATEMENT_TIMEOUT_SECONDS": "2",
}


@dataclass
class OnCall:
    """A person with a browser who is logged in as an administrator, and with the logs, of a service
    that is started and killed here."""

    workos: FakeWorkOS
    environment: dict[str, str]
    http: httpx2.Client
    logs: tuple[Path, Path]
    """The web process's, and the worker's."""
    stack: ExitStack = field(default_factory=ExitStack)
    worker: "subprocess.Popen[bytes] | None" = None

    def start_worker(self) -> None:
        output = self.stack.enter_context(self.logs[1].open("ab"))
        self.worker = self.stack.enter_context(a_cluster(self.environment, output))

    @contextmanager
    def without_worker(self, *, killed: bool = False) -> Iterator[None]:
        """While the worker is stopped, or killed with all that it has started."""
        assert self.worker is not None
        if killed:
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.stack.close()
        yield
        self.start_worker()

    def problems(self) -> dict[str, dict[str, str]]:
        """What /readyz says is wrong, by its code."""
        answer = self.http.get("/readyz")
        problems = {problem["code"]: problem for problem in answer.json()["problems"]}
        has_error = any(problem["severity"] == "error" for problem in problems.values())
        assert answer.status_code == (503 if has_error else 200)
        return problems

    def exposed(self) -> set[str]:
        """The codes of the problems that /metrics has at 1."""
        families = text_string_to_metric_families(self.http.get("/metrics").text)
        (samples,) = [each.samples for each in families if each.name == "gram_sync_problem"]
        return {sample.labels["code"] for sample in samples if sample.value == 1}

    def sees(self, code: str, words: str = "") -> None:
        """Waits until /readyz names the problem, with these words (a regular expression), and the
        metrics and the status page have it too."""
        wait_until(lambda: code in self.problems(), f"/readyz says {code}")
        # A figure in it may change between one answer and the next.
        wait_until(
            lambda: self.problems()[code]["sentence"] in self.page(CURSOR),
            f"the status page says the same of {code}",
        )
        assert code in self.exposed()
        problem = self.problems()[code]
        assert re.search(words, f"{problem['sentence']} {problem['remedy']}", re.DOTALL)

    def sees_that_all_is_well(self) -> None:
        wait_until(lambda: is_idle() and not self.problems(), f"all is well: {self.problems()}")
        assert self.exposed() == set()
        assert "nothing is wrong" in self.page(CURSOR)

    def page(self, address: str) -> str:
        """The text of a page, as it is read."""
        html = self.http.get(address).raise_for_status().text
        return " ".join(unescape(re.sub("<[^>]*>", "", html)).split())

    def press(self, address: str) -> None:
        """A button whose page asks first."""
        form = fields_of(self.http.get(address))
        self.http.post(address, data=form).raise_for_status()

    def logged(self, level: str) -> list[str]:
        """What the processes have logged at this level."""
        lines = [json.loads(line) for log in self.logs for line in log.read_text().splitlines()]
        return [line["message"] for line in lines if line["level"] == level]


@pytest.fixture(scope="module")
def service(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OnCall]:
    """A WorkOS, a web process and a worker, with which nothing is wrong."""
    folder = tmp_path_factory.mktemp("logs")
    logs = (folder / "web.log", folder / "worker.log")
    with ExitStack() as stack:
        stack.enter_context(django_db_blocker.unblock())
        stack.callback(empty_database)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # The tests leave the tables as they are, under the feet of the worker.
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: None)
        # Or the cluster would take a snapshot of its own in the middle of what a test breaks.
        daily = Schedule.objects.filter(schedule_type=Schedule.DAILY)
        daily.update(next_run=Now() + timedelta(days=1))
        workos = stack.enter_context(FakeWorkOS())
        environment = environment_for(workos, **QUICK)
        port = stack.enter_context(a_web_process(environment, logs[0]))
        url = f"http://127.0.0.1:{port}"
        workos.add_webhook_endpoint(url=f"{url}/webhooks/workos/", secret=WEBHOOK_SECRET)
        session = Client()
        session.force_login(User.objects.create_superuser("admin"))
        http = stack.enter_context(httpx2.Client(base_url=url, follow_redirects=True, timeout=60))
        http.cookies.set("sessionid", session.cookies["sessionid"].value)
        on_call = OnCall(workos, environment, http, logs)
        stack.push(on_call.stack)
        on_call.start_worker()
        on_call.press(SNAPSHOT)
        on_call.sees_that_all_is_well()
        yield on_call


@pytest.fixture
def person(service: OnCall) -> Iterator[OnCall]:
    yield service
    service.workos.behave()
    service.sees_that_all_is_well()


@pytest.fixture
def workos(person: OnCall) -> FakeWorkOS:
    return person.workos


def is_idle() -> bool:
    """Whether the worker has read and compared everything, and has nothing to do."""
    done = SyncCursor.objects.exclude(reconciled_at=None).exclude(drained_at=None)
    idle = done.filter(draining_until=None, reconciling_until=None)
    return idle.exists() and not OrmQ.objects.exists()


def later(span: timedelta, *, while_no_worker_runs: bool = False) -> None:
    """As if so much time had passed."""
    moments: dict[type[Model], tuple[str, ...]] = {
        SyncCursor: ("drained_at", "reconciled_at", "worker_started_at"),
        WorkOSEvent: ("announced_at", "processed_at", "occurred_at"),
    }
    if while_no_worker_runs:
        moments[Schedule] = ("next_run",)
    for model, columns in moments.items():
        model._default_manager.update(**{column: F(column) - span for column in columns})


def has_come(organization: Any, name: str) -> None:
    """Waits until the row is named so."""
    rows = Organization.objects.filter(workos_id=organization["id"], name=name)
    wait_until(rows.exists, f"{name} is applied")


def test_a_dead_worker(person: OnCall, workos: FakeWorkOS) -> None:
    with person.without_worker(killed=True):
        acme = workos.create_organization(name="Acme", external_id="gram-of-a-dead-worker")
        workos.wait_for_deliveries()
        later(minutes(6), while_no_worker_runs=True)

        person.sees("worker_not_running", "systemctl restart gram-sync-worker")

        assert list(person.problems()) == ["worker_not_running"]
    has_come(acme, "Acme")


def test_a_table_that_is_locked_while_someone_looks_at_it(person: OnCall) -> None:
    with another_program() as program, ThreadPoolExecutor(10) as threads:
        program.execute("LOCK TABLE organization_metadata IN ACCESS EXCLUSIVE MODE")
        # More than the web process has threads.
        answers = list(threads.map(person.http.get, [ORGANIZATIONS] * 10))
        assert person.http.get("/healthz").status_code == 200

        person.sees("tables_locked", "a table is locked.*pg_stat_activity")

    assert {answer.status_code for answer in answers} == {500}
    assert "/readyz says what is wrong" in " ".join(answers[0].text.split()).replace("</a>", "")
    assert any("Internal Server Error: /admin/" in line for line in person.logged("ERROR"))
    assert person.http.get(ORGANIZATIONS).status_code == 200


def test_a_database_that_takes_no_writes(person: OnCall) -> None:
    database = connection.settings_dict["NAME"]
    for value in ("on", "off"):
        execute("SET default_transaction_read_only = off")
        execute(f"ALTER DATABASE {database} SET default_transaction_read_only = {value}")
        # Sessions that begin from now on; those that there are, are ended.
        execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND pid <> pg_backend_pid()",
            database,
        )
        if value == "on":
            person.sees("database_read_only")
    connection.close()


def test_a_worker_that_was_down_for_longer_than_workos_remembers(
    person: OnCall, workos: FakeWorkOS
) -> None:
    has_come(workos.create_organization(name="First", external_id="gram-first"), "First")
    now = datetime.now(UTC)
    # What is new is left to the stream, which will not tell it any more.
    acme = workos.create_organization(
        name="Old", external_id="gram-old", at=now - timedelta(hours=2), emits=False
    )
    person.press(SNAPSHOT)
    has_come(acme, "Old")
    with person.without_worker():
        then = now - timedelta(hours=1)
        workos.update_organization(acme["id"], name="Ajax", at=then, emits=False)
        workos.expire_events()
        later(timedelta(days=31))

        said = "no read reached the end for 31 days.*manage.py reconcile_workos"
        person.sees("retention_near", said)
    person.press(DRAIN)
    has_come(acme, "Ajax")
    assert any("the cursor is lost" in line for line in person.logged("CRITICAL"))
