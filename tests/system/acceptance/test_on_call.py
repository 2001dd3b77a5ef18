"""Called at night: real processes are broken, and only the admin, /readyz, /metrics and the logs
may be used to find out what it is, and to mend it as they say."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django_q.models import Schedule
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoDbBlocker

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor
from orgs.testing import FakeWorkOS
from tests.admin_pages import CURSOR, EVENTS, ORGANIZATIONS, OUTBOX, FormFields
from tests.concurrency import another_program, wait_until
from tests.processes import WEBHOOK_SECRET, a_cluster, a_web_process, environment_for, free_port

pytestmark = pytest.mark.usefixtures("database")

DRAIN, SNAPSHOT = f"{CURSOR}ring/drain/", f"{CURSOR}ring/snapshot/"


@dataclass
class OnCall:
    """A person with a browser who is logged in as an administrator, and with the logs."""

    http: httpx2.Client
    logs: Path
    web_log: Path
    log_begins: int
    """Where that log began to be about this test."""

    def problems(self) -> dict[str, dict[str, str]]:
        """What /readyz says is wrong, by its code."""
        answer = self.http.get("/readyz")
        problems = {problem["code"]: problem for problem in answer.json()["problems"]}
        has_error = any(problem["severity"] == "error" for problem in problems.values())
        assert answer.status_code == (503 if has_error else 200)
        return problems

    def exposed(self, name: str) -> set[str]:
        """The values of the first label that /metrics has at 1."""
        (family,) = [
            family
            for family in text_string_to_metric_families(self.http.get("/metrics").text)
            if family.name == name
        ]
        return {next(iter(s.labels.values())) for s in family.samples if s.value == 1}

    def sees(self, code: str) -> str:
        """Waits until /readyz names the problem; what it says of it, which the metrics and the
        status page have too."""
        wait_until(lambda: code in self.problems(), f"/readyz says {code}")
        # A figure in it may change between one answer and the next.
        wait_until(
            lambda: self.problems()[code]["sentence"] in self.page(CURSOR),
            f"the status page says the same of {code}",
        )
        assert code in self.exposed("gram_sync_problem")
        problem = self.problems()[code]
        return f"{problem['sentence']} {problem['remedy']}"

    def sees_that_all_is_well(self) -> None:
        wait_until(lambda: self.problems() == {}, f"all is well: {self.problems()}")
        assert self.exposed("gram_sync_problem") == set()
        assert "nothing is wrong" in self.page(CURSOR)

    def page(self, address: str) -> str:
        """The text of a page, as it is read."""
        html = self.http.get(address).raise_for_status().text
        return " ".join(unescape(re.sub("<[^>]*>", "", html)).split())

    def press(self, address: str) -> str:
        """A button whose page asks first; what is said afterwards."""
        return self._send(address, self.http.get(address).text)

    def choose(self, table: str, action: str, key: str) -> str:
        """An action on a row that is ticked in a list, and the yes to its question."""
        token = self._fields(self.http.get(table).text)["csrfmiddlewaretoken"][0]
        ticked = {"action": action, "_selected_action": key, "csrfmiddlewaretoken": token}
        return self._send(table, self.http.post(table, data=ticked).text)

    def _send(self, address: str, html: str) -> str:
        answer = self.http.post(address, data=self._fields(html)).raise_for_status().text
        return " ".join(re.findall('<li class="(?:success|info|warning|error)">(.*?)</li>', answer))

    def _fields(self, html: str) -> dict[str, Any]:
        form = FormFields()
        form.feed(html)
        return form.fields

    def told(self, level: str) -> list[str]:
        """What the processes have logged at this level."""
        logs = [log.read_bytes() for log in self.logs.glob("worker.log")]
        logs.append(self.web_log.read_bytes()[self.log_begins :])
        lines = [json.loads(line) for log in logs for line in log.splitlines()]
        return [line["message"] for line in lines if line["level"] == level]


@dataclass
class Machine:
    """Where the processes run, and are started and killed."""

    workos: FakeWorkOS
    logs: Path
    port: int
    web_log: Path

    def person(self) -> AbstractContextManager[OnCall]:
        """Who works with the web process that all tests have, which nothing is wrong with."""
        return self._person(self.port, self.web_log)

    @contextmanager
    def web(self, **changes: str) -> Iterator[OnCall]:
        """A web process with other settings, and who works with it."""
        log = self.logs / "other_web.log"
        with (
            a_web_process(environment(self.workos, **changes), log) as port,
            self._person(port, log) as person,
        ):
            yield person

    @contextmanager
    def _person(self, port: int, log: Path) -> Iterator[OnCall]:
        url = f"http://127.0.0.1:{port}"
        self.workos.add_webhook_endpoint(url=f"{url}/webhooks/workos/", secret=WEBHOOK_SECRET)
        User.objects.get_or_create(username="admin", is_staff=True, is_superuser=True)
        session = Client()
        session.force_login(User.objects.get())
        with httpx2.Client(base_url=url, follow_redirects=True, timeout=30) as http:
            http.cookies.set("sessionid", session.cookies["sessionid"].value)
            yield OnCall(http, self.logs, log, log.stat().st_size)

    @contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        with (
            (self.logs / "worker.log").open("ab") as output,
            a_cluster(environment(self.workos), output) as cluster,
        ):
            yield cluster


def environment(workos: FakeWorkOS, **changes: str) -> dict[str, str]:
    quick = {
        # A cluster works off the schedules when it starts, not half a minute later.
        "DJANGO_SETTINGS_MODULE": "tests.prompt_settings",
        "LOCK_TIMEOUT_SECONDS": "0.2",
        "REQUEST_TIMEOUT_SECONDS": "1",
        "DRAIN_DEADLINE_SECONDS": "5",
    }
    return environment_for(
        workos, ALLOWED_HOSTS="127.0.0.1", HTTPS_ONLY="false", **quick, **changes
    )


@pytest.fixture(scope="module")
def web(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[int, int, Path]]:
    """The port of a web process, that of the WorkOS it asks, and its log."""
    log, port_of_workos = tmp_path_factory.mktemp("web") / "web.log", free_port()
    with django_db_blocker.unblock():
        settings = environment(FakeWorkOS(port=port_of_workos))
    with a_web_process(settings, log) as port:
        yield port, port_of_workos, log


@pytest.fixture
def machine(web: tuple[int, int, Path], tmp_path: Path) -> Iterator[Machine]:
    port, port_of_workos, log = web
    # Or a cluster would take a snapshot of its own accord in the middle of what a test breaks.
    Schedule.objects.filter(schedule_type=Schedule.DAILY).update(next_run=Now() + timedelta(days=1))
    with FakeWorkOS(port=port_of_workos) as workos:
        yield Machine(workos, tmp_path, port, log)


def work_is_done(person: OnCall) -> None:
    """Waits for the first drain and snapshot."""
    person.press(SNAPSHOT)
    wait_until(
        lambda: SyncCursor.objects.exclude(reconciled_at=None).exclude(drained_at=None).exists(),
        "there was a first snapshot",
    )


def later(*, minutes: int, while_no_worker_runs: bool = False) -> None:
    """As if so much time had passed."""
    columns: dict[str, tuple[str, ...]] = {
        "workos_sync_cursor": ("drained_at", "reconciled_at", "failing_since", "worker_started_at"),
        "workos_event": ("announced_at", "processed_at", "occurred_at"),
        "workos_external_id_write_back": ("requested_at",),
    }
    if while_no_worker_runs:
        columns["django_q_schedule"] = ("next_run",)
    with connection.cursor() as cursor:
        for table, moments in columns.items():
            shifts = (
                f"{column} = {column} - make_interval(mins => {minutes})" for column in moments
            )
            cursor.execute(f"UPDATE {table} SET {', '.join(shifts)}")  # noqa: S608 - ours


def name_is(workos_id: str, name: str) -> bool:
    return Organization.objects.filter(workos_id=workos_id, name=name).exists()


def an_organization_whose_push_fails(workos: FakeWorkOS) -> Any:
    workos.misbehave("status", method="PUT", path="/organizations", status=500, times=None)
    organization = workos.create_organization(name="Acme")
    wait_until(lambda: ExternalIdWriteBack.objects.exclude(last_error="").exists(), "a push fails")
    return organization


def test_a_revoked_key(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person:
        with machine.worker():
            work_is_done(person)
            workos.misbehave("status", status=401, method=None, path=None, times=None)
            acme = workos.create_organization(name="Acme", external_id="gram-1")

            said = person.sees("key_refused")

        assert "WorkOS refuses the API key" in said
        assert "set WORKOS_API_KEY, and restart web and worker" in said
        assert person.exposed("gram_sync_read_trouble") == {"key_refused"}
        assert any("refused the API key" in line for line in person.told("CRITICAL"))
        # With the new key.
        workos.behave()
        with machine.worker():
            person.press(DRAIN)
            wait_until(lambda: name_is(acme["id"], "Acme"), "the event is applied")
            person.sees_that_all_is_well()


def test_a_dead_worker(machine: Machine) -> None:
    with machine.person() as person:
        with machine.worker() as cluster:
            work_is_done(person)
            os.killpg(cluster.pid, signal.SIGKILL)
        acme = machine.workos.create_organization(name="Acme", external_id="gram-1")
        machine.workos.wait_for_deliveries()
        later(minutes=6, while_no_worker_runs=True)

        said = person.sees("worker_not_running")

        assert "systemctl restart gram-sync-worker" in said
        assert list(person.problems()) == ["worker_not_running"]
        with machine.worker():
            wait_until(lambda: name_is(acme["id"], "Acme"), "the event is applied")
            person.sees_that_all_is_well()


def test_a_parked_event(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        work_is_done(person)
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        workos.emit(
            {"event": "organization.updated", "data": {**acme, "name": None}, "id": "event_odd"}
        )

        said = person.sees("events_parked")

        assert "Apply what WorkOS says now" in said
        (logged,) = person.told("ERROR")
        assert logged.startswith("parked event_odd: data.name")
        assert "event_odd" in person.page(f"{EVENTS}?outcome=parked")
        assert "Applied what WorkOS says now" in person.choose(
            EVENTS, "replay_selected", "event_odd"
        )
        person.sees_that_all_is_well()


def test_a_wrong_webhook_secret(machine: Machine) -> None:
    workos = machine.workos
    with ExitStack() as stack:
        stack.enter_context(machine.worker())
        with machine.web(WORKOS_WEBHOOK_SECRET="whsec_of_another_endpoint") as person:
            work_is_done(person)
            acme = workos.create_organization(name="Acme", external_id="gram-1")
            workos.wait_for_deliveries()
            person.press(DRAIN)
            wait_until(lambda: name_is(acme["id"], "Acme"), "the schedule brings the event")

            said = person.sees("webhooks_refused")

            assert "Set WORKOS_WEBHOOK_SECRET to the endpoint's signing secret" in said
            assert any("WORKOS_WEBHOOK_SECRET" in line for line in person.told("WARNING"))
        person = stack.enter_context(machine.web())
        workos.update_organization(acme["id"], name="Ajax")
        wait_until(lambda: name_is(acme["id"], "Ajax"), "a webhook brings the event")
        person.sees_that_all_is_well()


def test_a_lost_cursor_that_no_snapshot_has_mended_yet(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        wait_until(lambda: name_is(acme["id"], "Acme"), "the event is applied")
        work_is_done(person)
        workos.misbehave("status", status=503, path="/organizations", times=None)
        workos.expire_events()
        workos.update_organization(acme["id"], name="Ajax")
        wait_until(lambda: SyncCursor.objects.filter(failures__gt=0).exists(), "a read fails")
        later(minutes=3)

        said = person.sees("cursor_lost")

        assert "WorkOS can't read on from the stored position" in said
        assert "takes a snapshot by itself" in said
        assert person.exposed("gram_sync_read_trouble") == {"cursor_lost"}
        assert any("the cursor is lost" in line for line in person.told("CRITICAL"))
        workos.behave()
        assert "Take a snapshot now" in person.press(SNAPSHOT)
        wait_until(lambda: name_is(acme["id"], "Ajax"), "the snapshot repairs it")
        person.sees_that_all_is_well()


def test_a_write_back_that_fails_for_an_hour(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        work_is_done(person)
        acme = an_organization_whose_push_fails(workos)
        later(minutes=61)
        person.press(DRAIN)

        said = person.sees("write_backs_failing")

        assert "Try again now" in said
        assert "500" in person.page(CURSOR), (
            person.page(CURSOR),
            ExternalIdWriteBack.objects.values(),
        )
        assert any("write-backs failed" in line for line in person.told("WARNING"))
        workos.behave()
        row = Organization.objects.get()
        person.choose(OUTBOX, "retry_selected", row.id)
        wait_until(
            lambda: (workos.organization(acme["id"]) or {})["external_id"] == row.id,
            "WorkOS is told the id",
        )
        wait_until(lambda: not ExternalIdWriteBack.objects.exists(), "nothing waits")
        person.press(DRAIN)
        person.sees_that_all_is_well()


def test_a_write_back_in_conflict(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        work_is_done(person)
        acme = an_organization_whose_push_fails(workos)
        workos.behave()
        # Someone is quicker.
        row = Organization.objects.get()
        workos.update_organization(acme["id"], external_id="theirs")
        person.choose(OUTBOX, "retry_selected", row.id)

        said = person.sees("write_back_conflicts")

        assert "Overwrite in WorkOS" in said
        assert acme["id"] in person.page(f"{OUTBOX}?state=conflict")
        for address in (f"{ORGANIZATIONS}{row.id}/change/", f"{OUTBOX}{row.id}/change/"):
            assert "WorkOS has external_id 'theirs'" in person.page(address)
        assert any("waits for a person" in line for line in person.told("WARNING"))
        workos.update_organization(acme["id"], external_id=row.id)
        person.choose(OUTBOX, "retry_selected", row.id)
        wait_until(lambda: not ExternalIdWriteBack.objects.exists(), "nothing waits")
        person.sees_that_all_is_well()


def test_a_lock_that_another_program_holds(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        wait_until(lambda: name_is(acme["id"], "Acme"), "the event is applied")
        work_is_done(person)
        with another_program() as rival:
            rival.execute("LOCK TABLE organization_metadata IN SHARE MODE")
            workos.update_organization(acme["id"], name="Ajax")
            wait_until(lambda: SyncCursor.objects.filter(failures__gt=0).exists(), "it is noted")
            later(minutes=3)

            said = person.sees("reads_failing")

            assert "another program holds a lock" in said
            assert "pg_stat_activity" in said
            assert person.exposed("gram_sync_read_trouble") == {"lock_not_had"}
        person.press(DRAIN)
        wait_until(lambda: name_is(acme["id"], "Ajax"), "the event is applied")
        person.sees_that_all_is_well()


def test_a_table_that_is_locked_while_someone_looks_at_it(machine: Machine) -> None:
    with machine.web(STATEMENT_TIMEOUT_SECONDS="0.3") as person:
        with another_program() as rival:
            rival.execute("LOCK TABLE organization_metadata IN ACCESS EXCLUSIVE MODE")
            # More than there are threads.
            answers = [person.http.get(ORGANIZATIONS) for _ in range(10)]
            alive = person.http.get("/healthz")

            said = person.sees("tables_locked")

        assert {answer.status_code for answer in answers} == {503}
        assert "/readyz says what is wrong" in " ".join(answers[0].text.split()).replace("</a>", "")
        assert alive.status_code == 200
        assert "a table is locked" in said
        assert "pg_stat_activity" in said
        assert any("could not be answered" in line for line in person.told("ERROR"))
        assert person.http.get(ORGANIZATIONS).status_code == 200
        assert "tables_locked" not in person.problems()


def test_a_database_that_takes_no_writes(machine: Machine) -> None:
    with machine.person() as person, machine.worker():
        work_is_done(person)
        database = connection.settings_dict["NAME"]
        with read_only(database):
            person.sees("database_read_only")
        wait_until(lambda: "database_read_only" not in person.problems(), "it takes writes again")


@contextmanager
def read_only(database: str) -> Iterator[None]:
    """Sessions that begin from now on; those that there are, are ended."""
    change = f"ALTER DATABASE {database} SET default_transaction_read_only = "
    end_sessions = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = %s AND pid <> pg_backend_pid()"
    )
    for value in ("on", "off"):
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(change + value)
            cursor.execute(end_sessions, [database])
        if value == "on":
            yield
    connection.close()


def test_a_workos_that_does_not_answer(machine: Machine) -> None:
    workos = machine.workos
    with machine.person() as person, machine.worker():
        work_is_done(person)
        workos.misbehave("time_out", method=None, path=None, seconds=30, times=None)
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        wait_until(lambda: SyncCursor.objects.filter(failures__gt=0).exists(), "it is noted")
        later(minutes=6)

        said = person.sees("reads_failing")

        assert "WorkOS does not answer" in said
        assert "status.workos.com" in said
        assert person.exposed("gram_sync_read_trouble") == {"unavailable"}
        workos.behave()
        person.press(DRAIN)
        wait_until(lambda: name_is(acme["id"], "Acme"), "it is tried again")
        person.sees_that_all_is_well()


def test_a_worker_that_was_down_for_longer_than_workos_remembers(machine: Machine) -> None:
    workos, day = machine.workos, 24 * 60
    with machine.person() as person:
        workos.drop_deliveries(2)
        with machine.worker():
            workos.set_clock_offset(-40 * day * 60)
            acme = workos.create_organization(name="Acme", external_id="gram-1")
            work_is_done(person)
            wait_until(lambda: name_is(acme["id"], "Acme"), "the event is applied")
        workos.set_clock_offset(-31 * day * 60)
        workos.update_organization(acme["id"], name="Ajax")
        workos.expire_events()
        workos.set_clock_offset(0)
        later(minutes=31 * day)

        said = person.sees("retention_near")

        assert "no read reached the end for 31 days" in said
        assert "manage.py reconcile_workos" in said
        with machine.worker():
            person.press(DRAIN)
            wait_until(lambda: name_is(acme["id"], "Ajax"), "a snapshot repairs it by itself")
            assert any("the cursor is lost" in line for line in person.told("CRITICAL"))
            person.sees_that_all_is_well()
