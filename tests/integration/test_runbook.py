"""The runbook, followed as it is printed: a state, its code in /readyz, the remedy, and it is over.

``worker_not_running`` needs real processes: ``tests/system/acceptance/test_on_call.py`` follows it.
"""

import json
import re
import shlex
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django_q.models import OrmQ, Schedule

import orgs.workos
from orgs import tasks
from orgs.db.errors import DescribedError
from orgs.domain.naming import derived_id
from orgs.domain.status import ProblemCode
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.monitoring import runbook_section
from orgs.services import maintenance, queue, webhook
from orgs.services import status as status_module
from orgs.services.coverage import adopt_settings
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    CONFLICTS,
    CURSOR,
    EVENTS,
    ORGANIZATIONS,
    OUTBOX,
    carry_out,
    confirm,
    said,
)
from tests.builders import (
    a_claimed_row,
    a_signature,
    an_announcement,
    an_old_organization,
    minutes,
    no_redis,
    post_webhook,
)
from tests.concurrency import another_program, in_thread, wait_until_blocked
from tests.processes import WEBHOOK_SECRET
from tests.triggers import a_constraint, a_trigger, as_a_user, changed, execute

pytestmark = pytest.mark.usefixtures("database")


class OnCall:
    """A person who has only /readyz, a section of the runbook, and what that tells them to do."""

    def __init__(
        self,
        code: str,
        workos: FakeWorkOS,
        patch: pytest.MonkeyPatch,
        setting: Callable[..., None],
        client: Client,
    ) -> None:
        self.workos, self.patch, self.setting, self.client = workos, patch, setting, client
        self.section = " ".join(runbook_section(ProblemCode(code)).split())
        self.acme = workos.all_organizations()[0]["id"]

    def codes(self) -> list[str]:
        return [problem["code"] for problem in self.client.get("/readyz").json()["problems"]]

    def is_told(self, words: str) -> None:
        assert words in self.section

    def run(self, command: str, *, code: int = 0) -> str:
        """The output of a command that the section prints."""
        self.is_told(f"`manage.py {command}`")
        out, ended = StringIO(), 0
        try:
            call_command(*shlex.split(command), stdout=out, stderr=out)
        except CommandError as error:
            out.write(str(error))
            ended = error.returncode
        assert ended == code, out.getvalue()
        return out.getvalue()

    def sql(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows of a statement that the section prints."""
        self.is_told(statement)
        for name, value in values.items():
            statement = statement.replace(name, str(value))
        return execute(statement)

    def choose(self, label: str, table: str, action: str, key: str) -> None:
        """An action on a row that the section names."""
        self.is_told(f"*{label}*")
        answer = carry_out(self.client, table, action, key)
        assert {level for level, _ in said(answer)} == {"success"}, said(answer)

    def press(self, label: str, address: str) -> None:
        """A button above a list that the section names."""
        self.is_told(f"*{label}*")
        answer = confirm(self.client, self.client.get(address))
        assert {level for level, _ in said(answer)} == {"success"}, said(answer)

    def restart(self) -> None:
        """Web and worker, as far as it matters to what they read."""
        connection.close()
        orgs.workos.close()
        adopt_settings()

    def set(self, **values: object) -> None:
        """Change settings, restart, and wait until the worker has worked."""
        self.setting(**values)
        self.restart()
        self.worker_works()

    def worker_works(self) -> None:
        """What it does within a minute; and what is enqueued."""
        for run in (tasks.sync_events, tasks.push_external_ids):
            with suppress(DescribedError):
                run()
        if queue.RECONCILE in {task.func() for task in OrmQ.objects.all()}:
            tasks.reconcile()

    def webhook(self, event_id: str, *, secret: str = WEBHOOK_SECRET) -> int:
        body = json.dumps({"id": event_id, "event": "organization.updated", "data": {}}).encode()
        return int(post_webhook(self.client, body, a_signature(body, secret)).status_code)


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


class States(OnCall):
    """Each makes a state, yields, follows the section, and may yield again before it cleans up.

    The name begins with the code; two underscores come before another way out of the same state.
    """

    # The database -------------------------------------------------------------------------------

    def database_unusable(self) -> Generator[None]:
        nowhere = {"host": "/nowhere", "dbname": "gone", "client_encoding": "UTF8"}
        connection.close()
        with self.patch.context() as patch:
            patch.setattr(connection, "get_connection_params", lambda: nowhere)
            yield
        self.is_told("Start PostgreSQL")

    def database_unusable__a_date_style(self) -> Generator[None]:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        execute(f"ALTER DATABASE {name} SET DateStyle = German")
        try:
            connection.close()
            yield
            (fix,) = re.findall(
                r"Run: ALTER ROLE that user (SET .*?)\.",
                self.run("check --database default", code=1),
            )
            execute(f"ALTER ROLE CURRENT_USER {fix}")
            self.restart()
            yield
        finally:
            execute(f"ALTER DATABASE {name} RESET DateStyle")
            execute("ALTER ROLE CURRENT_USER RESET DateStyle")
            connection.close()

    def database_full(self) -> Generator[None]:
        with a_trigger("RAISE EXCEPTION 'no space left' USING ERRCODE = '53100';"):
            self.workos.create_organization(name="Bolt")
            self.worker_works()
            yield
            self.sql("SELECT pg_size_pretty(pg_database_size(current_database()))")
        self.worker_works()

    def tables_locked(self) -> Generator[None]:
        self.patch.setattr(status_module, "STATEMENT_SECONDS", 0.2)
        with in_thread() as start, another_program() as other:
            other.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
            yield
            waiting = start(WorkOSEvent.objects.count)
            wait_until_blocked()
            shown = self.sql(
                "SELECT pid, pg_blocking_pids(pid), state, query FROM pg_stat_activity "
                "WHERE cardinality(pg_blocking_pids(pid)) > 0"
            )
            # Another process of the suite may have backends that wait in its own database.
            assert [other.info.backend_pid] in [blocking for _, blocking, *_ in shown]
            self.sql("SELECT pg_terminate_backend(PID)", PID=other.info.backend_pid)
            waiting.result()
            self.patch.undo()
            yield

    def grants_missing(self) -> Generator[None]:
        with as_a_user(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}",
            "REVOKE UPDATE ON workos_event FROM {user}",
        ) as user:
            yield
            printed = self.run("check --database default", code=1)
            execute("RESET ROLE")
            for grant in re.findall(r"GRANT .*? TO that user", printed):
                execute(grant.replace("that user", user))
            execute(f"SET ROLE {user}")
            assert "no issues" in self.run("check --database default")
            yield

    def grants_missing__all_at_once(self) -> Generator[None]:
        with as_a_user() as user:
            yield
            execute("RESET ROLE")
            for grant in (
                "GRANT USAGE ON SCHEMA public TO the user",
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO the user",
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO the user",
            ):
                self.sql(grant, **{"the user": user})
            execute(f"SET ROLE {user}")
            yield

    def migrations_unapplied(self) -> Generator[None]:
        applied = MigrationRecorder(connection).migration_qs.filter(app="orgs").order_by("name")
        last, before = applied.values_list("name", flat=True).reverse()[:2]
        call_command("migrate", "orgs", before, verbosity=0)
        try:
            yield
            self.is_told("`manage.py showmigrations --plan | grep '\\[ \\]'`")
            out = StringIO()
            call_command("showmigrations", "--plan", stdout=out)
            left = [line for line in out.getvalue().splitlines() if "[ ]" in line]
            assert left == [f"[ ]  orgs.{last}"]
        finally:
            self.run("migrate")

    def database_read_only(self) -> Generator[None]:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.close()
        try:
            yield
            assert self.sql("SELECT pg_is_in_recovery()") == [(False,)]
            assert self.sql("SHOW default_transaction_read_only") == [("on",)]
            shown = self.sql(
                "SELECT datname, setrole::regrole, setconfig FROM pg_db_role_setting LEFT JOIN "
                "pg_database d ON d.oid = setdatabase"
            )
            settings = {database: values for database, role, values in shown if role == "-"}
            here = settings[connection.settings_dict["NAME"]]
            assert "default_transaction_read_only=on" in here
        finally:
            execute("SET default_transaction_read_only = off")
            execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            self.restart()

    # Queue, worker, settings ----------------------------------------------------------------------

    def schedules_missing(self) -> Generator[None]:
        Schedule.objects.filter(name="workos: prune").delete()
        Schedule.objects.filter(name="workos: reconcile").update(
            next_run=ago(minutes(-60 * 24 * 9))
        )
        yield
        self.run("migrate")

    def queue_unusable(self) -> Generator[None]:
        with self.patch.context() as patch:
            no_redis(patch)
            yield
            self.workos.create_organization(name="Bolt", external_id="gram-2")
            self.run("reconcile_workos --events-only")
            assert Organization.objects.filter(id="gram-2").exists()
        self.is_told("Start Redis")

    def key_missing(self) -> Generator[None]:
        self.set(API_KEY="")
        yield
        self.patch.delattr(mail, "outbox")
        with pytest.raises(CommandError, match=r"WORKOS_API_KEY .* is not set"):
            call_command("check", "--deploy")
        self.is_told("`manage.py check --deploy`")
        self.is_told("*WORKOS_API_KEY is not set*")
        self.set(API_KEY=self.workos.api_key)

    def key_refused(self) -> Generator[None]:
        self.set(API_KEY="sk_revoked")
        yield
        self.set(API_KEY=self.workos.api_key)

    def client_misconfigured(self) -> Generator[None]:
        self.patch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
        self.set()
        yield
        self.is_told("`SSL_CERT_FILE`")
        assert "SSL_CERT_FILE" in self.client.get(CURSOR).content.decode()
        self.patch.delenv("SSL_CERT_FILE")
        self.set()

    # Reads --------------------------------------------------------------------------------------

    def wrong_environment(self) -> Generator[None]:
        none = {"object": "list", "data": [], "list_metadata": {"before": None, "after": None}}
        self.workos.misbehave("body", path="/organizations", body=none, times=None)
        tasks.reconcile()
        yield
        self.workos.behave()
        self.restart()
        self.worker_works()
        assert self.codes() == ["snapshot_incomplete"]
        self.is_told("`snapshot_incomplete` stays")
        self.run("reconcile_workos")

    def wrong_environment__all_are_deleted(self) -> Generator[None]:
        self.workos.delete_organization(self.acme, emits=False)
        tasks.reconcile()
        self.worker_works()
        yield
        section = runbook_section(ProblemCode.WRONG_ENVIRONMENT)
        execute(section.partition("```sql\n")[2].partition("```")[0])
        self.run("reconcile_workos")

    def writes_refused(self) -> Generator[None]:
        table = "ALTER TABLE organization_metadata"
        with changed(f"{table} ADD theirs text NOT NULL DEFAULT ''", f"{table} DROP theirs"):
            execute(f"{table} ALTER theirs DROP DEFAULT")
            for number in range(12):
                self.workos.create_organization(name=f"Bolt {number}")
            self.worker_works()
            yield
            self.is_told("Give the column a default")
            execute(f"{table} ALTER theirs SET DEFAULT ''")
            self.worker_works()
            assert "writes_refused" not in self.codes()
            self.run("reconcile_workos --replay-parked")
            assert Organization.objects.count() == 13
            yield

    def cursor_lost(self) -> Generator[None]:
        self.workos.misbehave("status", status=503, path="/organizations", times=None)
        self.workos.expire_events()
        self.workos.update_organization(self.acme, name="Ajax")
        self.worker_works()
        SyncCursor.objects.update(failing_since=ago(minutes(3)))
        yield
        self.workos.behave()
        self.run("reconcile_workos")
        self.worker_works()

    def reads_failing(self) -> Generator[None]:
        self.workos.misbehave("status", status=503, times=None)
        self.worker_works()
        SyncCursor.objects.update(failing_since=ago(minutes(3)))
        yield
        self.workos.behave()
        self.run("reconcile_workos --events-only")

    def cursor_old(self) -> Generator[None]:
        SyncCursor.objects.update(drained_at=ago(minutes(6)))
        yield
        self.run("reconcile_workos --events-only")

    def retention_near(self) -> Generator[None]:
        SyncCursor.objects.update(drained_at=ago(timedelta(days=24)))
        yield
        self.worker_works()
        self.run("reconcile_workos")

    def announcements_overdue(self) -> Generator[None]:
        an_announcement("event_9", ago=minutes(2), workos_id=self.acme)
        yield
        self.run("reconcile_workos --events-only")
        assert WorkOSEvent.objects.get(id="event_9").outcome == "missing"

    # What waits for a person ----------------------------------------------------------------------

    def _park_event(self) -> None:
        data = {"id": self.acme}
        self.workos.emit({"id": "event_zz", "event": "organization.updated", "data": data})
        self.worker_works()

    def events_parked(self) -> Generator[None]:
        self._park_event()
        yield
        self.run("reconcile_workos --replay-parked")

    def events_parked__applied(self) -> Generator[None]:
        self._park_event()
        yield
        self.choose("Apply what WorkOS says now", EVENTS, "replay", "event_zz")

    def events_parked__all_replayed(self) -> Generator[None]:
        self._park_event()
        yield
        self.press("Replay all parked events", f"{EVENTS}replay-all/")

    def events_parked__dismissed(self) -> Generator[None]:
        self._park_event()
        yield
        self.choose("Dismiss", EVENTS, "dismiss", "event_zz")

    def _give_another_id(self) -> None:
        self.workos.update_organization(self.acme, external_id="theirs")
        self.worker_works()

    def conflicts(self) -> Generator[None]:
        self._give_another_id()
        yield
        self.choose("Overwrite in WorkOS", CONFLICTS, "overwrite", self.acme)
        self.worker_works()
        self.run("reconcile_workos --check --strict")

    def conflicts__kept(self) -> Generator[None]:
        self._give_another_id()
        yield
        self.choose("Keep as it is", CONFLICTS, "acknowledge", self.acme)
        self.run("reconcile_workos --check --strict")

    def conflicts__corrected(self) -> Generator[None]:
        self._give_another_id()
        yield
        self.workos.update_organization(self.acme, external_id="gram-1", emits=False)
        self.choose("Look again", CONFLICTS, "recheck", self.acme)
        self.run("reconcile_workos --check --strict")

    def conflicts__claimed(self) -> Generator[None]:
        row, first, second = a_claimed_row(self.workos)
        yield
        self.workos.update_organization(second, external_id=None)
        self.choose("Give the row to the new organization", CONFLICTS, "relink", first)
        self.worker_works()
        assert Organization.objects.get(pk=row).workos_id == first
        # The event that found the conflict is parked too, and has a section of its own.
        assert self.codes() == ["events_parked"]
        call_command("reconcile_workos", "--replay-parked", stdout=StringIO())

    def conflicts__ledger(self) -> Generator[None]:
        with a_constraint("type <> 'organization.deleted'", table="workos_event"):
            self.workos.emit({"event": "organization.deleted", "data": {"id": "org_9"}})
            self.worker_works()
            assert WorkOSConflict.objects.get().kind == "ledger_refused"
            WorkOSConflict.objects.update(last_seen_at=ago(minutes(5)))
            yield
        self._take_a_snapshot()

    def _bring_a_write_back_into_conflict(self) -> str:
        bolt = self.workos.create_organization(name="Bolt")["id"]
        drain_to_end()
        self.workos.update_organization(bolt, external_id="theirs", emits=False)
        tasks.push_external_ids()
        return str(bolt)

    def write_back_conflicts(self) -> Generator[None]:
        bolt = self._bring_a_write_back_into_conflict()
        yield
        self.choose("Overwrite in WorkOS", CONFLICTS, "overwrite", bolt)

    def write_back_conflicts__corrected(self) -> Generator[None]:
        bolt = self._bring_a_write_back_into_conflict()
        yield
        self.workos.update_organization(bolt, external_id=derived_id(bolt), emits=False)
        self.choose("Look again", CONFLICTS, "recheck", bolt)

    def write_back_conflicts__refused(self) -> Generator[None]:
        bolt = self.workos.create_organization(name="Bolt")["id"]
        drain_to_end()
        other = self.workos.create_organization(name="Other", emits=False)["id"]
        self.workos.update_organization(other, external_id=derived_id(bolt), emits=False)
        tasks.push_external_ids()
        assert WorkOSConflict.objects.get().kind == "write_back_refused"
        yield
        self.workos.update_organization(other, external_id="theirs", emits=False)
        carry_out(self.client, CONFLICTS, "recheck", bolt)
        assert WorkOSConflict.objects.exists(), "it does not try again"
        self.choose("Try again now", OUTBOX, "retry", derived_id(bolt))
        self.worker_works()

    def disabled_here(self) -> Generator[None]:
        Organization.objects.update(disabled_at=ago(minutes(1)))
        yield
        self.choose("Enable here", ORGANIZATIONS, "enable", "gram-1")

    def write_backs_failing(self) -> Generator[None]:
        self.workos.misbehave("status", method="PUT", path="/organizations", status=500, times=None)
        bolt = self.workos.create_organization(name="Bolt")["id"]
        self.worker_works()
        ExternalIdWriteBack.objects.update(requested_at=ago(minutes(61)))
        yield
        self.workos.behave()
        self.choose("Try again now", OUTBOX, "retry", derived_id(bolt))
        self.worker_works()

    # Webhooks, resources, snapshots ---------------------------------------------------------------

    def webhooks_refused(self) -> Generator[None]:
        for _ in range(3):  # each by a process of its own
            self.patch.setattr(webhook, "refused_webhooks", maintenance.RefusedWebhooks())
            assert self.webhook("event_1", secret="other") == 401
        yield
        assert self.webhook("event_1") == 204

    def webhooks_absent(self) -> Generator[None]:
        self.workos.update_organization(self.acme, name="Ajax")
        self.worker_works()
        WorkOSEvent.objects.update(occurred_at=ago(minutes(20)), processed_at=ago(minutes(19)))
        yield
        assert self.webhook(WorkOSEvent.objects.all()[0].id) == 204

    def _refuse_a_type(self) -> None:
        self.setting(RESOURCES=("organization", "role"))
        self.restart()
        tasks.reconcile()
        self.workos.refuse_event_types(["role.created"])
        self.workos.update_organization(self.acme, name="Ajax")
        self.worker_works()

    def event_types_refused(self) -> Generator[None]:
        self._refuse_a_type()
        yield
        self.workos.refuse_event_types([])
        self._take_a_snapshot()

    def event_types_refused__left_out(self) -> Generator[None]:
        self._refuse_a_type()
        yield
        self.set(RESOURCES=("organization",))

    def resources_not_covered(self) -> Generator[None]:
        self.set(RESOURCES=("organization", "connection"))
        yield
        self.run("reconcile_workos --resource connection")

    def snapshot_incomplete(self) -> Generator[None]:
        old = [an_old_organization(self.workos, f"Bolt {number}") for number in range(30)]
        tasks.reconcile()
        for workos_id in old[:25]:
            self.workos.delete_organization(workos_id, emits=False)
        tasks.reconcile()
        yield
        printed = self.run("reconcile_workos --dry-run --max-disable 100%")
        assert re.search(r"disabled +25", printed), printed
        self.is_told("the same without `--dry-run` disables them")
        call_command("reconcile_workos", "--max-disable", "100%", stdout=StringIO())
        assert Organization.objects.disabled().count() == 25

    def _take_a_snapshot(self) -> None:
        self.press("Take a snapshot now", f"{CURSOR}snapshot/")
        self.worker_works()

    def snapshot_old(self) -> Generator[None]:
        SyncCursor.objects.update(reconciled_at=ago(timedelta(hours=51)))
        yield
        self.run("reconcile_workos")

    def snapshot_old__from_the_admin(self) -> Generator[None]:
        SyncCursor.objects.update(reconciled_at=ago(timedelta(hours=51)))
        yield
        self._take_a_snapshot()


STATES = [name for name in vars(States) if not name.startswith("_")]


@pytest.mark.parametrize("name", STATES)
def test_the_section_leads_out_of_the_state(
    name: str,
    workos: FakeWorkOS,
    monkeypatch: pytest.MonkeyPatch,
    sync_setting: Any,
    admin_client: Client,
) -> None:
    code = name.partition("__")[0]
    Schedule.objects.update(next_run=ago(minutes(-1)))
    workos.create_organization(name="Acme", external_id="gram-1")
    sync_setting(DRAIN_DEADLINE=1.0)
    on_call = States(code, workos, monkeypatch, sync_setting, admin_client)
    tasks.sync_events()
    tasks.reconcile()
    assert on_call.codes() == []

    with closing(getattr(on_call, name)()) as steps:
        next(steps)
        assert code in on_call.codes()
        next(steps, None)
        assert on_call.codes() == []
    connections.close_all()


def test_every_code_has_a_state() -> None:
    assert {name.partition("__")[0] for name in STATES} == {*ProblemCode} - {"worker_not_running"}
