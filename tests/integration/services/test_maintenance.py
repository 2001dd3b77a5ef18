"""What the ledger keeps; schedules that are made once and kept right; grants; refused webhooks."""

from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_q.brokers import get_broker
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule, Task
from django_q.scheduler import scheduler

from orgs import tasks
from orgs.domain.status import LEAST_REFUSED_WEBHOOKS
from orgs.domain.types import EventType, Outcome
from orgs.models import RequestBudget, SyncCursor, WorkOSEvent, WorkOSUser
from orgs.services import maintenance, refusals
from orgs.services.maintenance import (
    SCHEDULES,
    RefusedWebhooks,
    broken_schedules,
    ensure_schedules,
    prune,
    sync_due_at,
)
from orgs.services.refusals import missing_grants
from orgs.services.worker import Watch
from tests.builders import minutes
from tests.concurrency import another_program, in_thread
from tests.integration.services.stored import LogCapture, MonkeyPatch
from tests.triggers import ALL_GRANTS, a_trigger, as_a_user, changed, locked, renamed

SYNC = "workos: sync events"


# The ledger ---------------------------------------------------------------------------------


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def an_entry(id_: str, *, days: float = 100, **values: Any) -> None:
    entry = {"type": EventType.UPDATED, "outcome": Outcome.UPDATED, **values}
    WorkOSEvent.objects.create(id=id_, processed_at=days_ago(days), **entry)


def entries(count: int) -> list[str]:
    ids = [f"event_{number:02}" for number in range(count)]
    for id_ in ids:
        an_entry(id_)
    return ids


def left() -> list[str]:
    return sorted(WorkOSEvent.objects.values_list("id", flat=True))


def deletions(queries: CaptureQueriesContext) -> list[str]:
    statements = (query["sql"] for query in queries)
    return [sql for sql in statements if sql.startswith('DELETE FROM "workos_event"')]


def test_old_entries_go_in_batches_and_needed_ones_stay(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_BATCH_SIZE", 10)
    entries(23)
    an_entry("old", days=90.1)
    an_entry("dismissed", days=900, outcome=Outcome.DISMISSED)
    an_entry("recent", days=89.9)
    an_entry("parked", days=900, outcome=Outcome.PARKED)
    an_entry("deletion", days=900, outcome=Outcome.DISABLED, type=EventType.DELETED)
    WorkOSEvent.objects.create(id="unseen", type=EventType.UPDATED, announced_at=days_ago(900))
    for id_, at in (("old", days_ago(91)), ("recent", days_ago(1))):
        Task.objects.create(id=id_, name=id_, func="f", started=at, stopped=at)

    with CaptureQueriesContext(connection) as queries:
        assert prune() == 25

    assert left() == ["deletion", "parked", "recent", "unseen"]
    assert Task.objects.get().id == "recent", "records of tasks go too"
    assert len(deletions(queries)) == 3


def test_an_entry_that_someone_has_locked_is_left_and_the_others_go_together(
    caplog: LogCapture,
) -> None:
    an_entry("locked")
    entries(3)

    with locked("workos_event", "id = 'locked'"), CaptureQueriesContext(connection) as queries:
        assert prune() == 3

    assert left() == ["locked"]
    assert len(deletions(queries)) == 1
    assert "stay as they are: 1: it is locked" in caplog.text


def test_an_entry_that_a_trigger_keeps_does_not_keep_the_others(
    monkeypatch: MonkeyPatch, caplog: LogCapture
) -> None:
    monkeypatch.setattr(refusals, "_BATCH_SIZE", 3)
    ids = entries(10)

    keeps = "RAISE 'it says no';"
    with a_trigger(keeps, table="workos_event", on="DELETE", when="OLD.id < 'event_04'"):
        pruned = prune()

    assert (pruned, left()) == (6, ids[:4])
    text = "rows of workos_event that can't be changed, and that stay as they are: 4: "
    assert f"{text}PostgreSQL P0001: it says no" in caplog.text
    assert prune() == 4


def test_an_entry_that_a_host_protects_keeps_no_other_and_no_personal_data(
    caplog: LogCapture,
) -> None:
    """As Django does for a foreign key of the host's with ``on_delete=PROTECT``."""

    def protect(instance: WorkOSEvent, **_: Any) -> None:
        if instance.id == "event_01":
            raise ProtectedError("a row of the host's names it", {instance})

    entries(3)
    WorkOSUser.objects.create(workos_id="user_1", email="a@b.c", deleted_at=days_ago(100))
    pre_delete.connect(protect, sender=WorkOSEvent)
    try:
        assert tasks.prune() == "pruned 2, erased 1"
    finally:
        pre_delete.disconnect(protect, sender=WorkOSEvent)

    assert left() == ["event_01"]
    assert "stay as they are: 1: PostgreSQL: " in caplog.text
    assert prune() == 1


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param("RAISE SQLSTATE '53100';", id="at once"),
        pytest.param(
            "IF nextval('attempts') > 1 THEN RAISE SQLSTATE '53100'; END IF; RAISE 'no';",
            id="while they are tried alone",
        ),
        pytest.param("RAISE SQLSTATE '55P03';", id="locked"),
    ],
)
def test_an_error_of_the_environment_ends_it(refusal: str) -> None:
    ids = entries(30)

    with a_trigger(refusal, table="workos_event", on="DELETE"), pytest.raises(DatabaseError):
        prune()

    assert left() == ids


# Schedules ----------------------------------------------------------------------------------


@pytest.fixture
def no_schedules() -> None:
    Schedule.objects.all().delete()


def rows() -> list[dict[str, Any]]:
    return list(Schedule.objects.order_by("id").values())


@pytest.mark.usefixtures("no_schedules")
def test_migrating_creates_the_schedules_and_a_second_time_changes_nothing() -> None:
    assert broken_schedules() == tuple(SCHEDULES)
    assert sync_due_at() is None

    call_command("migrate", verbosity=0)
    created = rows()
    call_command("migrate", verbosity=0)

    assert rows() == created
    columns = ("func", "schedule_type", "minutes")
    assert {row["name"]: tuple(row[column] for column in columns) for row in created} == {
        "workos: sync events": ("orgs.tasks.sync_events", "I", 1),
        "workos: push external ids": ("orgs.tasks.push_external_ids", "I", 1),
        "workos: prune": ("orgs.tasks.prune", "D", None),
        "workos: reconcile": ("orgs.tasks.reconcile", "D", None),
    }
    assert broken_schedules() == ()
    assert sync_due_at() == next(row["next_run"] for row in created if row["name"] == SYNC)


@pytest.mark.parametrize(
    "change",
    [
        {"func": "old.path"},
        {"args": "{broken"},
        {"kwargs": "{broken"},
        {"hook": "their.hook"},
        {"intended_date_kwarg": "at"},
        {"cluster": "another"},
        {"cron": "0 0 31 2 *", "schedule_type": Schedule.CRON},
        {"minutes": 600},
        {"repeats": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_that_would_not_run_is_reported_and_repaired(change: dict[str, Any]) -> None:
    before = rows()
    Schedule.objects.filter(name=SYNC).update(**change)

    assert broken_schedules() == (SYNC,)
    ensure_schedules()

    assert rows() == before


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_that_is_saved_in_the_admin_as_it_is_stays_sound(
    admin_client: Client, name: str
) -> None:
    address = f"/admin/django_q/schedule/{Schedule.objects.get(name=name).pk}/change/"
    shown = admin_client.get(address).context["adminform"].form.initial

    written = {key: value for key, value in shown.items() if value is not None}
    at = written.pop("next_run")
    written |= {"next_run_0": at.date(), "next_run_1": at.time()}
    assert admin_client.post(address, written).status_code == 302

    assert Schedule.objects.get(name=name).args == ""
    assert broken_schedules() == ()


@pytest.mark.parametrize("next_run", ["infinity", "-infinity", "20000-12-31", "2199-01-01", None])
def test_one_that_is_due_when_it_could_not_be_is_due_now(next_run: str | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_q_schedule SET next_run = %s", [next_run])

    assert broken_schedules() == tuple(SCHEDULES)
    assert sync_due_at() is None
    ensure_schedules()

    assert broken_schedules() == ()
    due_at = sync_due_at()
    assert due_at is not None
    assert abs(due_at - datetime.now(UTC)) < minutes(5)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll", "UTC"]
)
def test_a_change_of_clocks_breaks_no_schedule(monkeypatch: MonkeyPatch, zone: str) -> None:
    monkeypatch.setattr(Conf, "TIME_ZONE", zone)
    daily = Schedule.objects.get(name="workos: prune")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    longest = max(
        daily.calculate_next_run(noon + timedelta(days=day)) - noon - timedelta(days=day)
        for day in range(365)
    )

    Schedule.objects.filter(name="workos: prune").update(next_run=datetime.now(UTC) + longest)

    assert longest >= timedelta(hours=24)
    assert broken_schedules() == ()


def test_doubles_are_removed_and_schedules_of_others_left_alone() -> None:
    first = Schedule.objects.get(name=SYNC)
    theirs = Schedule.objects.create(name="theirs", func="their.task")
    Schedule.objects.create(name=SYNC, func="gone", schedule_type=Schedule.HOURLY)

    ensure_schedules()

    assert Schedule.objects.get(name=SYNC).id == first.id
    assert Schedule.objects.get(name="theirs").id == theirs.id


@pytest.mark.usefixtures("no_schedules")
def test_a_refused_schedule_stops_no_other_and_no_worker(caplog: LogCapture) -> None:
    watch, refusal = Watch(), "RAISE 'it says no';"
    with a_trigger(refusal, table="django_q_schedule", when=f"NEW.name = '{SYNC}'"):
        watch.look()

    assert broken_schedules() == (SYNC,)
    assert f"the schedule {SYNC!r} can't be repaired: PostgreSQL P0001: it says no" in caplog.text
    assert SyncCursor.objects.get().worker_started_at is not None
    watch.look()
    assert broken_schedules() == (SYNC,), "the start of a worker alone repairs them"


@pytest.mark.usefixtures("no_schedules")
def test_machines_that_migrate_at_once_create_them_once() -> None:
    all_are_there = Barrier(4)

    def migrate() -> None:
        all_are_there.wait()
        ensure_schedules()

    with in_thread() as start:
        for migrating in [start(migrate) for _ in range(4)]:
            migrating.result()

    assert Schedule.objects.count() == len(SCHEDULES)


def test_the_snapshots_time_limit_is_its_own_and_its_arguments_parse() -> None:
    Schedule.objects.update(next_run=datetime.now(UTC) - minutes(2))

    scheduler(broker=get_broker())

    limits = {queued.func(): queued.task.get("timeout") for queued in OrmQ.objects.all()}
    assert limits == {
        "orgs.tasks.sync_events": None,
        "orgs.tasks.push_external_ids": None,
        "orgs.tasks.prune": None,
        "orgs.tasks.reconcile": 3_600,
    }


def test_without_django_q2s_tables_nothing_is_done_and_nothing_missing() -> None:
    with renamed("django_q_schedule"):
        ensure_schedules()
        assert (broken_schedules(), missing_grants()) == ((), ())


# Grants -------------------------------------------------------------------------------------


NEVER_DELETED = "organization_metadata, workos_sync_cursor, workos_request_budget, workos_user"


@pytest.mark.parametrize(
    ("revoked", "missing"),
    [
        ([], []),
        ([f"DELETE ON {NEVER_DELETED}"], []),
        (
            ["DELETE ON workos_conflict", "INSERT ON workos_user", "UPDATE ON workos_event"],
            ["DELETE ON workos_conflict", "INSERT ON workos_user"],
        ),
    ],
    ids=["none", "one that is not needed", "some"],
)
def test_each_missing_grant_is_named(revoked: list[str], missing: list[str]) -> None:
    revokes = (f"REVOKE {grant} FROM {{user}}" for grant in revoked)

    with as_a_user(ALL_GRANTS, *revokes, "GRANT UPDATE (announced_at) ON workos_event TO {user}"):
        assert [*missing_grants()] == missing


def test_a_schema_that_may_not_be_used_is_named() -> None:
    usage = "USAGE ON SCHEMA public"

    with changed(f"REVOKE {usage} FROM PUBLIC", f"GRANT {usage} TO PUBLIC"), as_a_user(ALL_GRANTS):
        assert missing_grants() == (usage,)


def test_a_schema_that_is_not_searched_is_not_missed() -> None:
    moved = "CREATE SCHEMA staging; ALTER TABLE workos_event SET SCHEMA staging"
    back = "ALTER TABLE staging.workos_event SET SCHEMA public; DROP SCHEMA staging"

    with changed(moved, back), as_a_user():
        missing = missing_grants()

    assert "SELECT ON organization_metadata" in missing
    assert not [one for one in missing if "SCHEMA" in one or "workos_event" in one]


# Refused webhooks ---------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def refuse(webhooks: RefusedWebhooks, times: int) -> int:
    for _ in range(times):
        webhooks.refuse()
    return sum(RequestBudget.objects.values_list("refused_webhooks", flat=True))


def test_refused_webhooks_are_counted_with_three_writes_a_minute(clock: list[float]) -> None:
    webhooks, of_another_process = RefusedWebhooks(), RefusedWebhooks()

    assert refuse(webhooks, 1) == 1
    assert refuse(of_another_process, 2) == LEAST_REFUSED_WEBHOOKS, "a part each, and all at once"
    assert refuse(webhooks, 2) == LEAST_REFUSED_WEBHOOKS + 2
    with CaptureQueriesContext(connection) as queries:
        for _ in range(1_000):
            webhooks.refuse()
    assert len(queries) == 0
    clock[0] += 60
    assert refuse(webhooks, 1) == LEAST_REFUSED_WEBHOOKS + 1_003
    budget = RequestBudget.objects.get()
    assert budget.refused_since is not None
    assert budget.last_refused_at is not None
    assert budget.refused_since < budget.last_refused_at


def test_one_that_is_accepted_clears_the_count_for_all_processes(clock: list[float]) -> None:
    webhooks, of_another_process = RefusedWebhooks(), RefusedWebhooks()
    refuse(webhooks, LEAST_REFUSED_WEBHOOKS)

    of_another_process.accept()
    with CaptureQueriesContext(connection) as queries:
        of_another_process.accept()

    assert len(queries) == 0, "the next costs nothing"
    budget = RequestBudget.objects.get()
    assert (budget.refused_webhooks, budget.refused_since) == (0, None)
    assert budget.last_refused_at is None
    assert refuse(webhooks, 2) == 0
    webhooks.accept()
    clock[0] += 60
    assert refuse(webhooks, 1) == 1, "those before are forgotten"


def test_a_count_that_cant_be_kept_is_logged(monkeypatch: MonkeyPatch, caplog: LogCapture) -> None:
    monkeypatch.setattr(maintenance, "LONGEST_WAIT", 0.05)
    webhooks = RefusedWebhooks()

    with another_program() as other:
        other.execute("LOCK TABLE workos_request_budget IN ACCESS EXCLUSIVE MODE")
        webhooks.refuse()
        webhooks.accept()

    assert caplog.text.count("refused webhooks could not be counted") == 2
