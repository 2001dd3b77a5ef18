"""The runbook, followed as it is printed: a state, its code in /readyz, the remedy, and it is over.

``worker_not_running`` needs real processes: ``tests/system/acceptance/test_on_call.py`` follows it.
"""

import json
import re
import shlex
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any, TypeAlias

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django_q.brokers.redis_broker import Redis as RedisBroker
from django_q.models import OrmQ, Schedule
from redis import Redis

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
from orgs.testing import FakeWorkOS, sign
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
from tests.builders import an_announcement, an_old_organization, minutes
from tests.concurrency import another_program, in_thread, wait_until_blocked
from tests.processes import WEBHOOK_SECRET
from tests.triggers import a_constraint, a_trigger, execute

pytestmark = pytest.mark.usefixtures("database")

#: Makes the state, yields, follows the section, and may yield once more before it cleans up.
State: TypeAlias = Callable[["OnCall"], Generator[None]]

STATES: dict[str, State] = {}


def state(make: State) -> State:
    """Register a state; its code is the name of its function, up to two underscores."""
    STATES[make.__name__] = make
    return make


def by_calls(make: Callable[["OnCall"], object], follow: Callable[["OnCall"], object]) -> State:
    """Return a state that one call makes, and another leads out of."""

    def steps(on_call: OnCall) -> Generator[None]:
        make(on_call)
        yield
        follow(on_call)

    return steps


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
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

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
        headers = {"WorkOS-Signature": sign(secret, body, int(time.time() * 1000))}
        answer = self.client.post(
            "/webhooks/workos/", body, content_type="application/json", headers=headers
        )
        return answer.status_code


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


# The database -------------------------------------------------------------------------------


@state
def database_unusable(on_call: OnCall) -> Generator[None]:
    nowhere = {"host": "/nowhere", "dbname": "gone", "client_encoding": "UTF8"}
    connection.close()
    with on_call.patch.context() as patch:
        patch.setattr(connection, "get_connection_params", lambda: nowhere)
        yield
    on_call.is_told("Start PostgreSQL")


@state
def database_unusable__a_date_style(on_call: OnCall) -> Generator[None]:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    execute(f"ALTER DATABASE {name} SET DateStyle = German")
    try:
        connection.close()
        yield
        (fix,) = re.findall(
            r"Run: ALTER ROLE that user (SET .*?)\.",
            on_call.run("check --database default", code=1),
        )
        execute(f"ALTER ROLE CURRENT_USER {fix}")
        on_call.restart()
        yield
    finally:
        execute(f"ALTER DATABASE {name} RESET DateStyle")
        execute("ALTER ROLE CURRENT_USER RESET DateStyle")
        connection.close()


@state
def database_full(on_call: OnCall) -> Generator[None]:
    with a_trigger("RAISE EXCEPTION 'no space left' USING ERRCODE = '53100';"):
        on_call.workos.create_organization(name="Bolt")
        on_call.worker_works()
        yield
        on_call.sql("SELECT pg_size_pretty(pg_database_size(current_database()))")
    on_call.worker_works()


@state
def tables_locked(on_call: OnCall) -> Generator[None]:
    on_call.patch.setattr(status_module, "STATEMENT_SECONDS", 0.2)
    with another_program() as other, in_thread() as start:
        other.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
        yield
        waiting = start(WorkOSEvent.objects.count)
        wait_until_blocked()
        ((_, (blocking,), *_),) = on_call.sql(
            "SELECT pid, pg_blocking_pids(pid), state, query FROM pg_stat_activity "
            "WHERE cardinality(pg_blocking_pids(pid)) > 0"
        )
        on_call.sql("SELECT pg_terminate_backend(PID)", PID=blocking)
        waiting.result()
        on_call.patch.undo()
        yield


@state
def grants_missing(on_call: OnCall) -> Generator[None]:
    execute("CREATE ROLE somebody")
    execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO somebody")
    execute("REVOKE UPDATE ON workos_event FROM somebody")
    try:
        execute("SET ROLE somebody")
        yield
        printed = on_call.run("check --database default", code=1)
        execute("RESET ROLE")
        for grant in re.findall(r"GRANT .*? TO that user", printed):
            execute(grant.replace("that user", "somebody"))
        execute("SET ROLE somebody")
        assert "no issues" in on_call.run("check --database default")
        yield
    finally:
        execute("RESET ROLE; DROP OWNED BY somebody; DROP ROLE somebody")


@state
def grants_missing__all_at_once(on_call: OnCall) -> Generator[None]:
    execute("CREATE ROLE somebody; SET ROLE somebody")
    try:
        yield
        execute("RESET ROLE")
        for grant in (
            "GRANT USAGE ON SCHEMA public TO the user",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO the user",
        ):
            on_call.sql(grant, **{"the user": "somebody"})
        execute("SET ROLE somebody")
        yield
    finally:
        execute("RESET ROLE; DROP OWNED BY somebody; DROP ROLE somebody")


@state
def migrations_unapplied(on_call: OnCall) -> Generator[None]:
    applied = MigrationRecorder(connection).migration_qs.filter(app="orgs").order_by("name")
    last, before = applied.values_list("name", flat=True).reverse()[:2]
    call_command("migrate", "orgs", before, verbosity=0)
    yield
    on_call.is_told("`manage.py showmigrations --plan | grep '\\[ \\]'`")
    out = StringIO()
    call_command("showmigrations", "--plan", stdout=out)
    assert [line for line in out.getvalue().splitlines() if "[ ]" in line] == [f"[ ]  orgs.{last}"]
    on_call.run("migrate")


@state
def database_read_only(on_call: OnCall) -> Generator[None]:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    connection.close()
    try:
        yield
        assert on_call.sql("SELECT pg_is_in_recovery()") == [(False,)]
        assert on_call.sql("SHOW default_transaction_read_only") == [("on",)]
        shown = on_call.sql("SELECT setconfig FROM pg_db_role_setting")
        assert "default_transaction_read_only=on" in str(shown)
    finally:
        execute("SET default_transaction_read_only = off")
        execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        on_call.restart()


# Queue, worker, settings ----------------------------------------------------------------------


@state
def schedules_missing(on_call: OnCall) -> Generator[None]:
    Schedule.objects.filter(name="workos: prune").delete()
    Schedule.objects.filter(name="workos: reconcile").update(next_run=ago(minutes(-60 * 24 * 9)))
    yield
    on_call.run("migrate")


@state
def queue_unusable(on_call: OnCall) -> Generator[None]:
    nowhere = RedisBroker.__new__(RedisBroker)
    nowhere.connection = Redis(unix_socket_path="/nowhere/redis.socket")
    nowhere.list_key = "django_q:gram_sync:q"
    with on_call.patch.context() as patch:
        patch.setattr(queue, "get_broker", lambda: nowhere)
        yield
        on_call.workos.create_organization(name="Bolt", external_id="gram-2")
        on_call.run("reconcile_workos --events-only")
        assert Organization.objects.filter(id="gram-2").exists()
    on_call.is_told("Start Redis")


@state
def key_missing(on_call: OnCall) -> Generator[None]:
    on_call.set(API_KEY="")
    yield
    on_call.patch.delattr(mail, "outbox")
    with pytest.raises(CommandError, match=r"WORKOS_API_KEY .* is not set"):
        call_command("check", "--deploy")
    on_call.is_told("`manage.py check --deploy`")
    on_call.is_told("*WORKOS_API_KEY is not set*")
    on_call.set(API_KEY=on_call.workos.api_key)


STATES["key_refused"] = by_calls(
    lambda on_call: on_call.set(API_KEY="sk_revoked"),
    lambda on_call: on_call.set(API_KEY=on_call.workos.api_key),
)


@state
def client_misconfigured(on_call: OnCall) -> Generator[None]:
    on_call.patch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    on_call.set()
    yield
    on_call.is_told("`SSL_CERT_FILE`")
    assert "SSL_CERT_FILE" in on_call.client.get(CURSOR).content.decode()
    on_call.patch.delenv("SSL_CERT_FILE")
    on_call.set()


# Reads --------------------------------------------------------------------------------------


@state
def wrong_environment(on_call: OnCall) -> Generator[None]:
    none = {"object": "list", "data": [], "list_metadata": {"before": None, "after": None}}
    on_call.workos.misbehave("body", path="/organizations", body=none, times=None)
    tasks.reconcile()
    yield
    on_call.workos.behave()
    on_call.restart()
    on_call.run("reconcile_workos")


@state
def wrong_environment__all_are_deleted(on_call: OnCall) -> Generator[None]:
    on_call.workos.delete_organization(on_call.acme, emits=False)
    tasks.reconcile()
    yield
    section = runbook_section(ProblemCode.WRONG_ENVIRONMENT)
    execute(section.partition("```sql\n")[2].partition("```")[0])
    on_call.run("reconcile_workos")


@state
def writes_refused(on_call: OnCall) -> Generator[None]:
    execute("ALTER TABLE organization_metadata ADD theirs text NOT NULL DEFAULT ''")
    try:
        execute("ALTER TABLE organization_metadata ALTER theirs DROP DEFAULT")
        for number in range(12):
            on_call.workos.create_organization(name=f"Bolt {number}")
        on_call.worker_works()
        yield
        on_call.is_told("Give the column a default")
        execute("ALTER TABLE organization_metadata ALTER theirs SET DEFAULT ''")
        on_call.worker_works()
        assert "writes_refused" not in on_call.codes()
        on_call.run("reconcile_workos --replay-parked")
        assert Organization.objects.count() == 13
        yield
    finally:
        execute("ALTER TABLE organization_metadata DROP theirs")


@state
def cursor_lost(on_call: OnCall) -> Generator[None]:
    on_call.workos.misbehave("status", status=503, path="/organizations", times=None)
    on_call.workos.expire_events()
    on_call.workos.update_organization(on_call.acme, name="Ajax")
    on_call.worker_works()
    SyncCursor.objects.update(failing_since=ago(minutes(3)))
    yield
    on_call.workos.behave()
    on_call.run("reconcile_workos")
    on_call.worker_works()


@state
def reads_failing(on_call: OnCall) -> Generator[None]:
    on_call.workos.misbehave("status", status=503, times=None)
    on_call.worker_works()
    SyncCursor.objects.update(failing_since=ago(minutes(3)))
    yield
    on_call.workos.behave()
    on_call.run("reconcile_workos --events-only")


def stamped(**spans: timedelta) -> Callable[[OnCall], object]:
    """Set times of the cursor to so long ago."""
    return lambda _: SyncCursor.objects.update(**{name: ago(spans[name]) for name in spans})


STATES["cursor_old"] = by_calls(
    stamped(drained_at=minutes(6)), lambda on_call: on_call.run("reconcile_workos --events-only")
)


@state
def retention_near(on_call: OnCall) -> Generator[None]:
    SyncCursor.objects.update(drained_at=ago(timedelta(days=24)))
    yield
    on_call.worker_works()
    on_call.run("reconcile_workos")


@state
def announcements_overdue(on_call: OnCall) -> Generator[None]:
    an_announcement("event_9", ago=minutes(2), workos_id=on_call.acme)
    yield
    on_call.run("reconcile_workos --events-only")
    assert WorkOSEvent.objects.get(id="event_9").outcome == "missing"


# What waits for a person ----------------------------------------------------------------------


def a_parked_event(on_call: OnCall) -> None:
    data = {"id": on_call.acme}
    on_call.workos.emit({"id": "event_zz", "event": "organization.updated", "data": data})
    on_call.worker_works()


STATES["events_parked"] = by_calls(
    a_parked_event, lambda on_call: on_call.run("reconcile_workos --replay-parked")
)
STATES["events_parked__applied"] = by_calls(
    a_parked_event,
    lambda on_call: on_call.choose("Apply what WorkOS says now", EVENTS, "replay", "event_zz"),
)
STATES["events_parked__all_replayed"] = by_calls(
    a_parked_event,
    lambda on_call: on_call.press("Replay all parked events", f"{EVENTS}replay-all/"),
)
STATES["events_parked__dismissed"] = by_calls(
    a_parked_event, lambda on_call: on_call.choose("Dismiss", EVENTS, "dismiss", "event_zz")
)


def another_external_id(on_call: OnCall) -> None:
    on_call.workos.update_organization(on_call.acme, external_id="theirs")
    on_call.worker_works()


@state
def conflicts(on_call: OnCall) -> Generator[None]:
    another_external_id(on_call)
    yield
    on_call.choose("Overwrite in WorkOS", CONFLICTS, "overwrite", on_call.acme)
    on_call.worker_works()
    on_call.run("reconcile_workos --check --strict")


@state
def conflicts__kept(on_call: OnCall) -> Generator[None]:
    another_external_id(on_call)
    yield
    on_call.choose("Keep as it is", CONFLICTS, "acknowledge", on_call.acme)
    on_call.run("reconcile_workos --check --strict")


@state
def conflicts__corrected(on_call: OnCall) -> Generator[None]:
    another_external_id(on_call)
    yield
    on_call.workos.update_organization(on_call.acme, external_id="gram-1", emits=False)
    on_call.choose("Look again", CONFLICTS, "recheck", on_call.acme)
    on_call.run("reconcile_workos --check --strict")


@state
def conflicts__claimed(on_call: OnCall) -> Generator[None]:
    workos = on_call.workos
    first = workos.create_organization(name="A")["id"]
    drain_to_end()
    ExternalIdWriteBack.objects.all().delete()
    second = workos.create_organization(name="B", external_id=derived_id(first))["id"]
    workos.update_organization(first, name="A2")
    drain_to_end()
    yield
    workos.update_organization(second, external_id=None)
    on_call.choose("Give the row to the new organization", CONFLICTS, "relink", first)
    on_call.worker_works()
    assert Organization.objects.get(pk=derived_id(first)).workos_id == first
    # The event that found the conflict is parked too, and has a section of its own.
    assert on_call.codes() == ["events_parked"]
    call_command("reconcile_workos", "--replay-parked", stdout=StringIO())


@state
def conflicts__ledger(on_call: OnCall) -> Generator[None]:
    with a_constraint("type <> 'organization.deleted'", table="workos_event"):
        on_call.workos.emit({"event": "organization.deleted", "data": {"id": "org_9"}})
        on_call.worker_works()
        assert WorkOSConflict.objects.get().kind == "ledger_refused"
        WorkOSConflict.objects.update(last_seen_at=ago(minutes(5)))
        yield
    take_a_snapshot(on_call)


def a_write_back_in_conflict(on_call: OnCall) -> str:
    bolt = on_call.workos.create_organization(name="Bolt")["id"]
    drain_to_end()
    on_call.workos.update_organization(bolt, external_id="theirs", emits=False)
    tasks.push_external_ids()
    return str(bolt)


@state
def write_back_conflicts(on_call: OnCall) -> Generator[None]:
    bolt = a_write_back_in_conflict(on_call)
    yield
    on_call.choose("Overwrite in WorkOS", CONFLICTS, "overwrite", bolt)


@state
def write_back_conflicts__corrected(on_call: OnCall) -> Generator[None]:
    bolt = a_write_back_in_conflict(on_call)
    yield
    on_call.workos.update_organization(bolt, external_id=derived_id(bolt), emits=False)
    on_call.choose("Look again", CONFLICTS, "recheck", bolt)


STATES["disabled_here"] = by_calls(
    lambda _: Organization.objects.update(disabled_at=ago(minutes(1))),
    lambda on_call: on_call.choose("Enable here", ORGANIZATIONS, "enable", "gram-1"),
)


@state
def write_backs_failing(on_call: OnCall) -> Generator[None]:
    on_call.workos.misbehave("status", method="PUT", path="/organizations", status=500, times=None)
    bolt = on_call.workos.create_organization(name="Bolt")["id"]
    on_call.worker_works()
    ExternalIdWriteBack.objects.update(requested_at=ago(minutes(61)))
    yield
    on_call.workos.behave()
    on_call.choose("Try again now", OUTBOX, "retry", derived_id(bolt))
    on_call.worker_works()


# Webhooks, resources, snapshots ---------------------------------------------------------------


@state
def webhooks_refused(on_call: OnCall) -> Generator[None]:
    on_call.patch.setattr(webhook, "refused_webhooks", maintenance.RefusedWebhooks())
    assert [on_call.webhook("event_1", secret="other") for _ in range(3)] == [401] * 3
    yield
    assert on_call.webhook("event_1") == 204


@state
def webhooks_absent(on_call: OnCall) -> Generator[None]:
    on_call.workos.update_organization(on_call.acme, name="Ajax")
    on_call.worker_works()
    WorkOSEvent.objects.update(occurred_at=ago(minutes(20)), processed_at=ago(minutes(19)))
    yield
    assert on_call.webhook(WorkOSEvent.objects.all()[0].id) == 204


def a_refused_type(on_call: OnCall) -> None:
    on_call.setting(RESOURCES=("organization", "role"))
    on_call.restart()
    tasks.reconcile()
    on_call.workos.refuse_event_types(["role.created"])
    on_call.workos.update_organization(on_call.acme, name="Ajax")
    on_call.worker_works()


@state
def event_types_refused(on_call: OnCall) -> Generator[None]:
    a_refused_type(on_call)
    yield
    on_call.workos.refuse_event_types([])
    take_a_snapshot(on_call)


STATES["event_types_refused__left_out"] = by_calls(
    a_refused_type, lambda on_call: on_call.set(RESOURCES=("organization",))
)
STATES["resources_not_covered"] = by_calls(
    lambda on_call: on_call.set(RESOURCES=("organization", "connection")),
    lambda on_call: on_call.run("reconcile_workos --resource connection"),
)


@state
def snapshot_incomplete(on_call: OnCall) -> Generator[None]:
    old = [an_old_organization(on_call.workos, f"Bolt {number}") for number in range(30)]
    tasks.reconcile()
    for workos_id in old[:25]:
        on_call.workos.delete_organization(workos_id, emits=False)
    tasks.reconcile()
    yield
    printed = on_call.run("reconcile_workos --dry-run --max-disable 100%")
    assert re.search(r"disabled +25", printed), printed
    on_call.is_told("the same without `--dry-run` disables them")
    call_command("reconcile_workos", "--max-disable", "100%", stdout=StringIO())
    assert Organization.objects.disabled().count() == 25


def take_a_snapshot(on_call: OnCall) -> None:
    on_call.press("Take a snapshot now", f"{CURSOR}snapshot/")
    on_call.worker_works()


AN_OLD_SNAPSHOT = stamped(reconciled_at=timedelta(hours=51))
STATES["snapshot_old"] = by_calls(AN_OLD_SNAPSHOT, lambda on_call: on_call.run("reconcile_workos"))
STATES["snapshot_old__from_the_admin"] = by_calls(AN_OLD_SNAPSHOT, take_a_snapshot)


# --------------------------------------------------------------------------------------------


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
    on_call = OnCall(code, workos, monkeypatch, sync_setting, admin_client)
    tasks.sync_events()
    tasks.reconcile()
    assert on_call.codes() == []

    with closing(STATES[name](on_call)) as steps:
        next(steps)
        assert code in on_call.codes()
        next(steps, None)
        assert on_call.codes() == []
    connections.close_all()


def test_every_code_has_a_state() -> None:
    assert {name.partition("__")[0] for name in STATES} == {*ProblemCode} - {"worker_not_running"}
