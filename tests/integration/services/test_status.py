"""The figures, read from the real tables; and a status also when there are none."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django_q.brokers.redis_broker import Redis as RedisBroker
from django_q.models import Schedule
from orgs.services.repair import Run
from redis import Redis

from orgs.db.cursor import Lease, ensure_cursor
from orgs.domain.status import (
    EventCount,
    Figures,
    OrganizationFigures,
    ProblemCode,
    ReadError,
    Status,
)
from orgs.domain.types import (
    Outcome,
)
from orgs.models import ExternalIdWriteBack, SyncCursor, WorkOSEvent
from orgs.services import queue as ring_module
from orgs.services import status as status_module
from orgs.services.queue import SYNC_EVENTS, ring
from orgs.services.reconcile import reconcile
from orgs.services.schedules import ensure_schedules
from orgs.services.status import current_status
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import an_announcement, an_organization_row, minutes
from tests.concurrency import another_program

pytestmark = pytest.mark.usefixtures("database")

HOUR = timedelta(hours=1)
_EARLIER, _LATER = minutes(20), minutes(10)


@pytest.fixture(autouse=True)
def schedules_that_are_not_due(database: None) -> None:
    ensure_schedules(using="default")
    Schedule.objects.update(next_run=datetime.now(UTC) + minutes(1))


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


def a_cursor(**values: Any) -> None:
    now = datetime.now(UTC)
    SyncCursor.objects.create(
        **{"stream": "organizations", "drained_at": now, "reconciled_at": now, **values}
    )


def a_processed_event(
    event_id: str,
    *,
    occurred: timedelta = _EARLIER,
    announced: timedelta | None = None,
    processed: timedelta = _LATER,
    outcome: str = Outcome.UPDATED,
) -> None:
    """An event of so long ago."""
    WorkOSEvent.objects.create(
        id=event_id,
        type="organization.updated",
        occurred_at=ago(occurred),
        announced_at=None if announced is None else ago(announced),
        processed_at=ago(processed),
        outcome=outcome,
    )


def a_write_back(organization_id: str, **values: Any) -> None:
    an_organization_row(organization_id, workos_id=f"org_{organization_id}")
    ExternalIdWriteBack.objects.create(
        organization_id=organization_id, workos_id=f"org_{organization_id}", **values
    )


def figures() -> Figures:
    found = current_status().figures
    assert found is not None
    return found


def codes(status: Status) -> list[ProblemCode]:
    return [problem.code for problem in status.problems]


def test_a_mirror_that_was_just_drained_is_ready(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    SyncCursor.objects.update(reconciled_at=datetime.now(UTC))

    status = current_status()

    assert status.problems == ()
    assert status.figures is not None
    assert status.figures.organizations == OrganizationFigures(linked=1, unlinked=0, disabled=0)
    assert status.figures.last_day.outcomes == {"created": 1}


def test_before_the_first_drain_nothing_was_ever_drained() -> None:
    assert codes(current_status()) == [ProblemCode.CURSOR_OLD, ProblemCode.SNAPSHOT_OLD]


def test_the_cursor_is_told_as_it_stands() -> None:
    ensure_cursor()
    Lease.DRAIN.take(60)
    at = ago(minutes(7))
    SyncCursor.objects.update(drained_at=at, last_event_at=at, failures=2)
    SyncCursor.objects.update(last_trouble="unavailable", last_error="refused", last_drift=4)

    cursor = figures().cursor

    assert (cursor.drained_at, cursor.last_event_at, cursor.reconciled_at) == (at, at, None)
    assert (cursor.failures, cursor.last_error) == (2, "refused")
    assert (cursor.last_trouble, cursor.last_drift) == (ReadError.UNAVAILABLE, 4)
    assert (cursor.is_draining, cursor.is_reconciling) == (True, False)


def test_organizations_are_counted_once_each() -> None:
    an_organization_row("linked", workos_id="org_1")
    an_organization_row("unlinked")
    an_organization_row("disabled", workos_id="org_2", disabled_at=ago(HOUR))
    an_organization_row("disabled and unlinked", disabled_at=ago(HOUR))

    assert figures().organizations == OrganizationFigures(linked=1, unlinked=1, disabled=2)


def test_an_announcement_is_overdue_past_the_window() -> None:
    a_cursor()
    an_announcement("event_1", ago=minutes(0.5))
    an_announcement("event_2", ago=minutes(2))

    status = current_status()

    assert codes(status) == [ProblemCode.ANNOUNCEMENTS_OVERDUE]
    assert status.figures is not None
    waiting = status.figures.waiting
    assert (waiting.announced, waiting.overdue) == (2, 1)
    assert waiting.announced_since == WorkOSEvent.objects.get(id="event_2").announced_at


def test_parked_events_are_counted() -> None:
    a_cursor()
    a_processed_event("event_1", announced=minutes(15), outcome=Outcome.PARKED)

    assert codes(current_status()) == [ProblemCode.EVENTS_PARKED]
    assert figures().waiting.parked == 1


def test_a_write_back_fails_after_an_hour_and_a_conflict_waits_for_a_person() -> None:
    a_cursor()
    a_write_back("young", requested_at=ago(minutes(59)), last_error="still young")
    a_write_back("untried", requested_at=ago(3 * HOUR))
    a_write_back("old", requested_at=ago(2 * HOUR), last_error="no answer")
    a_write_back("conflict", requested_at=ago(9 * HOUR), next_attempt_at=None, last_error="taken")

    status = current_status()

    assert codes(status) == [ProblemCode.WRITE_BACKS_FAILING, ProblemCode.WRITE_BACK_CONFLICTS]
    assert status.problems[0].detail == "no answer"
    assert status.figures is not None
    waiting = status.figures.waiting
    assert (waiting.write_backs, waiting.write_backs_failing, waiting.conflicts) == (3, 2, 1)
    untried = ExternalIdWriteBack.objects.get(organization_id="untried")
    assert waiting.write_backs_since == untried.requested_at


def test_a_schedule_that_is_gone_and_one_that_nobody_rings_are_told_apart() -> None:
    a_cursor()
    Schedule.objects.filter(name="workos: prune").delete()
    Schedule.objects.filter(name="workos: sync events").update(next_run=ago(HOUR))

    status = current_status()

    assert codes(status) == [ProblemCode.SCHEDULES_MISSING, ProblemCode.WORKER_NOT_RUNNING]
    assert "workos: prune" in status.problems[0].sentence


def test_events_are_counted_by_hour_and_outcome_for_a_day() -> None:
    a_processed_event("event_1", processed=minutes(1), outcome=Outcome.CREATED)
    a_processed_event("event_2", processed=3 * HOUR, outcome=Outcome.STALE)
    a_processed_event("event_3", processed=3 * HOUR, outcome=Outcome.STALE)
    a_processed_event("event_4", processed=25 * HOUR)
    hours = {
        event.id: event.processed_at.replace(minute=0, second=0, microsecond=0)
        for event in WorkOSEvent.objects.all()
        if event.processed_at
    }

    last_day = figures().last_day

    # Both of an hour: the clock may turn one between the two rows.
    assert last_day.outcomes == {"stale": 2, "created": 1}
    assert EventCount(hours["event_1"], "created", 1) in last_day.events
    assert {event.hour for event in last_day.events} == {
        hours["event_1"],
        hours["event_2"],
        hours["event_3"],
    }


def test_latency_is_from_the_first_webhook_to_the_row() -> None:
    announced_at = ago(HOUR)
    for number in range(1, 101):
        WorkOSEvent.objects.create(
            id=f"event_{number}",
            type="organization.updated",
            announced_at=announced_at,
            processed_at=announced_at + timedelta(seconds=number),
            outcome=Outcome.UPDATED,
        )
    # Late, lost, and never applied: none of them says how long a webhook took to become a row.
    a_processed_event("late", announced=minutes(1), processed=minutes(5))
    a_processed_event("lost")
    a_processed_event("parked", announced=9 * HOUR, outcome=Outcome.PARKED)
    a_processed_event("dismissed", announced=9 * HOUR, outcome=Outcome.DISMISSED)

    last_day = figures().last_day

    assert last_day.latency_p50 == timedelta(seconds=50.5)
    assert last_day.latency_p99 == timedelta(seconds=99.01)


def test_latency_is_told_for_each_hour_in_which_there_was_one() -> None:
    a_processed_event("event_1", announced=3 * HOUR + minutes(2), processed=3 * HOUR)
    a_processed_event("event_2", announced=minutes(1.5), processed=minutes(1))
    a_processed_event("lost", processed=5 * HOUR)
    a_processed_event("too long ago", announced=26 * HOUR, processed=25 * HOUR)

    earlier, later = figures().last_day.latencies

    assert abs(earlier.p50 - minutes(2)) < timedelta(seconds=1)
    assert abs(later.p99 - minutes(0.5)) < timedelta(seconds=1)
    processed_at = WorkOSEvent.objects.get(id="event_2").processed_at
    assert processed_at is not None
    assert later.hour == processed_at.replace(minute=0, second=0, microsecond=0)


def test_without_webhooks_there_is_no_latency() -> None:
    last_day = figures().last_day

    assert (last_day.latency_p50, last_day.latency_p99) == (None, None)


def test_lost_and_late_webhooks_are_told_apart() -> None:
    a_processed_event("in time", announced=minutes(11))
    a_processed_event("late", announced=minutes(1))
    a_processed_event("lost")
    a_processed_event("lost hours ago", occurred=3 * HOUR, processed=3 * HOUR)
    a_processed_event("may still come", processed=minutes(4))
    a_processed_event("of an old stream, just read", occurred=timedelta(days=9))
    a_processed_event("not followed", outcome=Outcome.IGNORED)

    last_day = figures().last_day

    assert (last_day.announced, last_day.late, last_day.lost) == (2, 1, 2)
    assert (last_day.recently_announced, last_day.recently_lost) == (2, 1)


def test_an_hour_without_any_webhook_is_told() -> None:
    a_cursor()
    a_processed_event("lost")

    assert codes(current_status()) == [ProblemCode.WEBHOOKS_ABSENT]


@pytest.fixture
def a_missing_migration(database: None) -> Iterator[None]:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("orgs", "0004_kind_of_trouble")
    yield
    recorder.record_applied("orgs", "0004_kind_of_trouble")


@pytest.mark.usefixtures("a_missing_migration")
def test_a_migration_that_is_not_applied_is_named_and_the_figures_are_there() -> None:
    a_cursor()

    status = current_status()

    assert codes(status) == [ProblemCode.MIGRATIONS_UNAPPLIED]
    assert "orgs.0004_kind_of_trouble" in status.problems[0].sentence
    assert status.figures is not None


@pytest.mark.usefixtures("a_missing_table")
def test_without_a_table_there_are_no_figures(a_missing_migration: None) -> None:
    status = current_status()

    assert codes(status) == [ProblemCode.MIGRATIONS_UNAPPLIED]
    assert status.figures is None


@pytest.mark.usefixtures("a_missing_table")
def test_a_table_that_is_missing_although_all_is_migrated_is_a_problem_too() -> None:
    assert codes(current_status()) == [ProblemCode.DATABASE_UNUSABLE]


@pytest.mark.usefixtures("no_database")
def test_a_database_that_is_gone_is_the_only_problem() -> None:
    assert codes(current_status()) == [ProblemCode.DATABASE_UNUSABLE]


def test_a_database_that_does_not_answer_in_time_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status_module, "_STATEMENT_SECONDS", 0.1)

    with another_program() as rival:
        rival.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
        status = current_status()

    assert codes(status) == [ProblemCode.TABLES_LOCKED]
    assert "pg_stat_activity" in status.problems[0].remedy
    assert not status.is_ready


def status_for_a_user(*grants: str) -> Status:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE somebody")
        try:
            for grant in grants:
                cursor.execute(grant)
            cursor.execute("SET ROLE somebody")
            return current_status()
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY somebody")
            cursor.execute("DROP ROLE somebody")


def test_a_table_that_may_not_be_read_is_a_missing_grant() -> None:
    status = status_for_a_user("GRANT SELECT ON django_migrations TO somebody")

    assert codes(status) == [ProblemCode.GRANTS_MISSING]
    assert not status.is_ready


def test_a_database_that_takes_no_writes_is_named_before_what_comes_of_it() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            status = current_status()
        finally:
            cursor.execute("RESET default_transaction_read_only")

    # What comes of it is not told beside it: its remedies would mend nothing.
    assert codes(status) == [ProblemCode.DATABASE_READ_ONLY]
    assert status.figures is not None


def test_a_grant_to_write_that_is_missing_is_named() -> None:
    a_cursor()
    status = status_for_a_user(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO somebody",
        "REVOKE UPDATE ON workos_event FROM somebody",
    )

    assert codes(status) == [ProblemCode.GRANTS_MISSING]
    assert "UPDATE ON workos_event" in status.problems[0].sentence
    assert status.figures is not None


def test_a_snapshot_that_ends_with_an_error_is_told(workos: FakeWorkOS) -> None:
    workos.seed(organizations=1, at="2026-01-01T00:00:00Z", emits=False)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE organization_metadata RENAME slug TO gone")
        try:
            with pytest.raises(ProgrammingError):
                reconcile(Run(now=datetime.now(UTC)))
        finally:
            cursor.execute("ALTER TABLE organization_metadata RENAME gone TO slug")

    (told,) = [p for p in current_status().problems if p.code is ProblemCode.SNAPSHOT_INCOMPLETE]
    assert "slug" in told.detail
    assert "UTC: " in told.detail


def test_tasks_that_wait_are_counted() -> None:
    ring(SYNC_EVENTS)

    assert figures().queue_length == 1


def test_a_queue_that_cant_be_asked_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cursor()
    nowhere = RedisBroker.__new__(RedisBroker)
    nowhere.connection = Redis(unix_socket_path="/nowhere/redis.socket")
    nowhere.list_key = "django_q:gram_sync:q"
    monkeypatch.setattr(ring_module, "get_broker", lambda: nowhere)

    status = current_status()

    assert codes(status) == [ProblemCode.QUEUE_UNUSABLE]
    assert status.figures is not None


@pytest.mark.parametrize(
    "change",
    [
        {"next_run": datetime(2199, 1, 1, tzinfo=UTC)},
        {"cluster": "another"},
        {"repeats": 0},
        {"func": "gone"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_schedule_that_will_not_do_what_it_is_for_is_a_problem_that_migrate_mends(
    change: dict[str, Any],
) -> None:
    a_cursor()
    Schedule.objects.filter(name="workos: push external ids").update(**change)

    before = current_status()
    call_command("migrate", verbosity=0)
    after = current_status()

    assert codes(before) == [ProblemCode.SCHEDULES_MISSING]
    assert "workos: push external ids" in before.problems[0].sentence
    assert codes(after) == []


def test_a_snapshot_that_did_not_complete_is_told_until_one_does(workos: FakeWorkOS) -> None:
    workos.misbehave("html", path="/organizations")
    reconcile(Run(now=datetime.now(UTC)))
    failed = current_status()

    reconcile(Run(now=datetime.now(UTC)))
    completed = current_status()

    (told,) = [p for p in failed.problems if p.code is ProblemCode.SNAPSHOT_INCOMPLETE]
    assert "WorkOS answered 200 with" in told.detail
    assert codes(completed) == []


def test_it_writes_nothing_and_asks_little() -> None:
    with CaptureQueriesContext(connection) as queries:
        current_status()

    asked = [
        query["sql"] for query in queries if re.match(r"\s*SELECT (?!set_config)", query["sql"])
    ]
    assert len(asked) <= 8
    written = [
        query["sql"] for query in queries if re.match(r"\s*(INSERT|UPDATE|DELETE)\b", query["sql"])
    ]
    assert written == []
