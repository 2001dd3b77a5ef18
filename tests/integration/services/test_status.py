"""The figures, read from the real tables; and a status also when there are none."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_q.models import Schedule
from pytest_django import Settings

from orgs.db import figures as statements
from orgs.domain.figures import MOST_EVENTS, EventCount
from orgs.domain.status import ProblemCode, Status
from orgs.domain.types import ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack, RequestBudget, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.services import queue
from orgs.services import status as status_module
from orgs.services.maintenance import ensure_schedules
from orgs.services.refusals import missing_grants
from orgs.services.status import current_status, resource_figures
from tests.builders import an_announcement, an_organization_row, minutes, no_redis
from tests.integration.services.stored import LogCapture, MonkeyPatch, Setting, figures
from tests.triggers import ALL_GRANTS, as_a_user, changed, execute, renamed

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def all_is_well(monkeypatch: MonkeyPatch) -> None:
    now = datetime.now(UTC)
    SyncCursor.objects.create(stream="organizations", drained_at=now, reconciled_at=now)
    ensure_schedules()
    Schedule.objects.update(next_run=now + minutes(1))
    monkeypatch.setattr(status_module, "_logged", set())
    monkeypatch.setattr(status_module, "_seen", {})


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


TEN, TWENTY = minutes(10), minutes(20)


def a_processed_event(
    event_id: str, *, outcome: str = Outcome.UPDATED, **ago: timedelta
) -> datetime:
    """An event that ``occurred``, was ``announced`` or ``processed`` so long ago; returns when it
    was processed."""
    now = datetime.now(UTC)
    spans = {"occurred": TWENTY, "processed": TEN, **ago}
    times = {f"{name}_at": now - span for name, span in spans.items()}
    WorkOSEvent.objects.create(id=event_id, type="organization.updated", outcome=outcome, **times)
    return times["processed_at"]


def a_write_back(id_: str, **values: Any) -> None:
    an_organization_row(id_, workos_id=f"org_{id_}")
    ExternalIdWriteBack.objects.create(organization_id=id_, workos_id=f"org_{id_}", **values)


def a_conflict(workos_id: str, kind: ConflictKind, **values: Any) -> None:
    WorkOSConflict.objects.create(workos_organization_id=workos_id, kind=kind, **values)


def codes(status: Status) -> list[ProblemCode]:
    return [problem.code for problem in status.problems]


# The figures --------------------------------------------------------------------------------


def test_without_a_row_in_any_table_nothing_was_ever_drained() -> None:
    SyncCursor.objects.all().delete()

    status = current_status()

    assert codes(status) == [ProblemCode.CURSOR_OLD]
    assert status.figures is not None
    cursor, last_day = status.figures, status.figures.last_day
    assert (cursor.drained_at, cursor.failures, cursor.last_error) == (None, 0, "")
    assert (cursor.is_draining, cursor.is_reconciling) == (False, False)
    assert status.figures.refused_webhooks == 0
    assert (last_day.latency_p50, last_day.latency_p99, last_day.latencies) == (None, None, ())


def test_the_cursor_the_budget_and_the_queue_are_read_as_they_are() -> None:
    at = ago(minutes(7))
    times = dict.fromkeys(("drained_at", "last_event_at", "failing_since", "worker_started_at"), at)
    texts = {"last_trouble": "unavailable", "last_error": "refused", "snapshot_trouble": "odd"}
    numbers = {"failures": 2, "last_drift": 4, "last_failed": 5}
    columns = {**times, **texts, **numbers, "snapshot_error_kind": "wrong_environment"}
    columns["reconciled_at"] = None
    SyncCursor.objects.update(draining_until=ago(-HOUR), reconciling_until=at, **columns)
    refused = {"refused_webhooks": 3, "refused_since": at, "last_refused_at": at}
    RequestBudget.objects.create(id=1, **refused)
    queue.enqueue(queue.SYNC_EVENTS)

    found = figures()

    assert {name: getattr(found, name) for name in columns} == columns
    assert (found.is_draining, found.is_reconciling) == (True, False)
    assert {name: getattr(found, name) for name in refused} == refused
    assert found.queue_length == 1


def test_a_worker_that_cant_start_because_no_key_is_set_is_not_sought(
    sync_setting: Setting,
) -> None:
    Schedule.objects.update(next_run=ago(minutes(3)))
    assert codes(current_status()) == [ProblemCode.WORKER_NOT_RUNNING]

    sync_setting(API_KEY="")

    assert codes(current_status()) == [ProblemCode.KEY_MISSING]


def test_a_lease_that_a_wrong_clock_left_behind_hides_nothing() -> None:
    ahead = ago(-timedelta(days=31))
    SyncCursor.objects.update(
        draining_until=ahead, reconciling_until=ahead, reconciled_at=ago(timedelta(days=3))
    )

    assert (figures().is_draining, figures().is_reconciling) == (False, False)
    assert codes(current_status()) == [ProblemCode.SNAPSHOT_OLD]


def test_a_resource_is_missing_until_it_is_covered(sync_setting: Setting) -> None:
    sync_setting(RESOURCES=("connection", "directory"))
    undecided = figures().uncovered
    SyncCursor.objects.update(event_types=["x"], covered=["organization", "directory"])
    uncovered, problems = figures().uncovered, codes(current_status())
    SyncCursor.objects.update(refused_types={"dsync.activated": "2026-01-01T00:00:00Z"})

    assert undecided == ()
    assert (uncovered, problems) == (("connection",), [ProblemCode.RESOURCES_NOT_COVERED])
    assert figures().refused_types == ("dsync.activated",)
    assert figures().refused_types_since == datetime(2026, 1, 1, tzinfo=UTC)
    both = [ProblemCode.EVENT_TYPES_REFUSED, ProblemCode.RESOURCES_NOT_COVERED]
    assert codes(current_status()) == both
    # What a refused type belongs to is not named twice.
    SyncCursor.objects.update(covered=["organization", "connection"])
    assert codes(current_status()) == [ProblemCode.EVENT_TYPES_REFUSED]

    # Taken out of the settings; the type is tried again daily all the same.
    sync_setting(RESOURCES=("organization",))
    SyncCursor.objects.update(covered=["organization"])
    assert codes(current_status()) == []


def test_organizations_are_counted_once_each() -> None:
    at = ago(HOUR)
    an_organization_row("linked", workos_id="org_1")
    an_organization_row("unlinked")
    an_organization_row("deleted", workos_id="org_2", disabled_at=at, workos_deleted_at=at)
    an_organization_row("disabled and unlinked", workos_id="", disabled_at=ago(9 * HOUR))
    an_organization_row("disabled here", workos_id="org_3", disabled_at=at)
    an_organization_row("disabled here later", workos_id="org_4", disabled_at=ago(minutes(1)))

    status = current_status()

    assert codes(status) == [ProblemCode.DISABLED_HERE]
    assert status.problems[0].since == at
    found = figures()
    assert (found.linked, found.unlinked, found.disabled, found.disabled_here) == (1, 1, 4, 2)


def test_announcements_are_overdue_past_the_window_or_in_the_future() -> None:
    an_announcement("event_1", ago=minutes(0))
    an_announcement("event_2", ago=minutes(2))
    an_announcement("event_3", ago=minutes(-90))

    waiting = figures()

    assert codes(current_status()) == [ProblemCode.ANNOUNCEMENTS_OVERDUE]
    assert (waiting.announced, waiting.overdue) == (3, 2)
    assert waiting.announced_since == WorkOSEvent.objects.get(id="event_2").announced_at


def test_parked_events_are_counted_since_the_oldest() -> None:
    at = a_processed_event("event_1", announced=minutes(15), outcome=Outcome.PARKED)
    a_processed_event("event_0", processed=minutes(5), outcome=Outcome.PARKED)

    (problem,) = current_status().problems

    assert (problem.code, problem.since) == (ProblemCode.EVENTS_PARKED, at)
    assert figures().parked == 2


def test_a_write_back_fails_after_an_hour_and_each_conflict_is_counted_once() -> None:
    a_write_back("recent", requested_at=ago(minutes(59)), last_error="too recent")
    a_write_back("untried", requested_at=ago(3 * HOUR))
    a_write_back("old", requested_at=ago(2 * HOUR), last_error="no answer")
    for name in ("taken", "kept", "without a conflict"):
        a_write_back(name, requested_at=ago(9 * HOUR), next_attempt_at=None, last_error="taken")
    at = ago(minutes(3))
    a_conflict("org_taken", ConflictKind.OTHER_EXTERNAL_ID, found_at=ago(HOUR))
    a_conflict("org_kept", ConflictKind.WRITE_BACK_REFUSED, acknowledged_at=at)
    a_conflict("org_1", ConflictKind.ROW_CLAIMED, found_at=at)
    a_conflict("org_2", ConflictKind.ROW_CLAIMED)
    a_conflict("org_3", ConflictKind.ROW_CLAIMED, acknowledged_at=at)

    status, waiting = current_status(), figures()

    assert codes(status) == ["conflicts", "write_back_conflicts", "write_backs_failing"]
    assert status.problems[2].detail == "no answer"
    assert (waiting.write_backs, waiting.write_backs_failing) == (3, 2)
    untried = ExternalIdWriteBack.objects.get(organization_id="untried")
    assert waiting.write_backs_since == untried.requested_at
    assert (waiting.write_back_conflicts, waiting.conflicts, waiting.conflicts_since) == (2, 2, at)
    assert waiting.conflicts_by_kind == {"other_external_id": 1, "row_claimed": 2}


def test_events_are_counted_by_hour_and_outcome_for_a_day(monkeypatch: MonkeyPatch) -> None:
    at = a_processed_event("event_1", processed=minutes(1), outcome=Outcome.CREATED)
    earlier = [
        a_processed_event(event_id, processed=3 * HOUR, outcome=Outcome.STALE)
        for event_id in ("event_2", "event_3")
    ]
    a_processed_event("event_4", processed=25 * HOUR)

    last_day = figures().last_day

    # Both of an hour: the clock may pass one between the two rows.
    assert last_day.outcomes == {"stale": 2, "created": 1}
    hours = [moment.replace(minute=0, second=0, microsecond=0) for moment in (at, *earlier)]
    assert EventCount(hours[0], "created", 1) in last_day.events
    assert {event.hour for event in last_day.events} == set(hours)

    monkeypatch.setattr("orgs.domain.figures.MOST_EVENTS", 1)
    assert figures().last_day.outcomes == {"created": 1}, "only the latest are looked at"


def test_latency_is_from_the_first_webhook_to_the_row_in_the_day_and_in_each_hour() -> None:
    for seconds in range(1, 101):
        processed = 3 * HOUR - timedelta(seconds=seconds)
        a_processed_event(f"event_{seconds}", announced=3 * HOUR, processed=processed)
    at = a_processed_event("later", announced=minutes(1.5), processed=minutes(1))
    # Late, lost, never applied, or too long ago: none says how long a webhook took to become a row.
    a_processed_event("late", announced=minutes(1), processed=minutes(5))
    a_processed_event("lost", processed=5 * HOUR)
    a_processed_event("parked", announced=9 * HOUR, outcome=Outcome.PARKED)
    a_processed_event("dismissed", announced=9 * HOUR, outcome=Outcome.DISMISSED)
    a_processed_event("too long ago", announced=26 * HOUR, processed=25 * HOUR)

    last_day = figures().last_day

    *earlier, last = last_day.latencies
    assert [last_day.latency_p50, last_day.latency_p99] == [minutes(50 / 60), minutes(99 / 60)]
    assert (last.hour, last.p50) == (at.replace(minute=0, second=0, microsecond=0), minutes(0.5))
    # The clock may pass an hour among the hundred.
    assert len(earlier) in (1, 2)
    assert earlier[-1].p99 > minutes(1.5)


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


def test_webhooks_are_absent_since_the_last_one_or_else_the_first_event_without_one() -> None:
    a_processed_event("lost hours ago", occurred=3 * HOUR, processed=3 * HOUR)
    a_processed_event("lost")
    first = WorkOSEvent.objects.get(id="lost hours ago")
    assert figures().last_day.unannounced_since == first.occurred_at

    a_processed_event("announced", occurred=2 * HOUR, announced=2 * HOUR)
    (problem,) = [p for p in current_status().problems if p.code is ProblemCode.WEBHOOKS_ABSENT]
    assert problem.since == WorkOSEvent.objects.get(id="announced").announced_at


@pytest.mark.parametrize("value", ["infinity", "-infinity", "20000-01-01", "0044-03-15 BC"])
def test_without_time_zones_a_probe_answers_too_whatever_time_a_row_holds(
    client: Client, settings: Settings, value: str
) -> None:
    settings.USE_TZ = False
    a_processed_event("parked", announced=minutes(15), outcome=Outcome.PARKED)
    a_conflict("org_2", ConflictKind.ROW_CLAIMED)
    execute(
        f"UPDATE workos_sync_cursor SET failures = 3, last_trouble = 'unavailable', "  # noqa: S608
        f"failing_since = '{value}', drained_at = '{value}', worker_started_at = '{value}';"
        f"UPDATE workos_event SET processed_at = '{value}', announced_at = '{value}';"
        f"UPDATE workos_conflict SET found_at = '{value}'"
    )

    found = {problem["code"] for problem in client.get("/readyz").json()["problems"]}

    assert found >= {"reads_failing", "events_parked", "conflicts"}
    assert b"gram_sync_events_parked 1.0" in client.get("/metrics").content


# Without figures ----------------------------------------------------------------------------


@contextmanager
def unapplied(app: str, name: str = "") -> Iterator[None]:
    """A migration of the app that is not applied: the last one, or one by name."""
    recorder = MigrationRecorder(connection)
    name = name or recorder.migration_qs.filter(app=app).latest("id").name
    recorder.record_unapplied(app, name)
    try:
        yield
    finally:
        recorder.record_applied(app, name)


def full(state: str) -> AbstractContextManager[Any]:
    raises = f"DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '{state}'; END $$ -- %(stream)s"
    return patch.object(statements, "STATUS", raises)


NO_TABLE = partial(renamed, "workos_event")
READ_ONLY = partial(
    changed, "SET default_transaction_read_only = on", "RESET default_transaction_read_only"
)
GERMAN = partial(changed, "SET DateStyle = German", "RESET DateStyle")


@contextmanager
def not_migrated() -> Iterator[None]:
    with NO_TABLE(), unapplied("orgs"):
        yield


@pytest.mark.parametrize(
    ("state", "problems", "has_figures"),
    [
        pytest.param(nullcontext, [], True, id="nothing"),
        pytest.param(partial(unapplied, "orgs"), ["migrations_unapplied"], True, id="migration"),
        pytest.param(not_migrated, ["migrations_unapplied"], False, id="why there is no table"),
        pytest.param(partial(unapplied, "sessions", "0001_initial"), [], True, id="another app's"),
        pytest.param(NO_TABLE, ["database_unusable"], False, id="no table"),
        pytest.param(READ_ONLY, ["database_read_only"], True, id="takes no writes"),
        pytest.param(GERMAN, ["database_unusable"], False, id="dates psycopg can't read"),
        *(
            pytest.param(partial(full, state), ["database_full"], False, id=state)
            for state in ("53100", "53200")
        ),
    ],
)
def test_what_is_wrong_with_the_database(
    state: Callable[[], AbstractContextManager[Any]], problems: list[str], has_figures: bool
) -> None:
    with state():
        status = current_status()

    assert (codes(status), status.figures is not None) == (problems, has_figures)
    assert problems != ["migrations_unapplied"] or "orgs.0" in status.problems[0].sentence


REVOKED = "REVOKE UPDATE ON workos_event FROM {user}"


@pytest.mark.parametrize(
    ("grants", "named", "has_figures"),
    [
        pytest.param([], ["SELECT ON django_migrations", "UPDATE ON workos_event"], False, id="no"),
        pytest.param(["GRANT SELECT ON django_migrations TO {user}"], [], False, id="one"),
        pytest.param([ALL_GRANTS, REVOKED], ["UPDATE ON workos_event."], True, id="all but one"),
    ],
)
def test_a_missing_grant_is_named_with_and_without_figures(
    grants: list[str], named: list[str], has_figures: bool
) -> None:
    with as_a_user(*grants):
        status = current_status()

    (problem,) = status.problems
    assert (problem.code, status.figures is not None) == (ProblemCode.GRANTS_MISSING, has_figures)
    assert [grant for grant in named if grant not in problem.sentence] == []


def test_a_missing_grant_on_the_sequence_of_a_column_is_named() -> None:
    named = "USAGE ON SEQUENCE public.django_q_ormq_n_seq"
    with changed("ALTER TABLE django_q_ormq ADD n serial", "ALTER TABLE django_q_ormq DROP n"):
        for grants, missing in (
            ([ALL_GRANTS], [named]),
            ([ALL_GRANTS, f"GRANT {named} TO {{user}}"], []),
        ):
            with as_a_user(*grants):
                assert [*missing_grants()] == missing


def test_without_grants_it_is_not_known_which_migrations_are_applied() -> None:
    usage = "USAGE ON SCHEMA public"
    with changed(f"REVOKE {usage} FROM PUBLIC", f"GRANT {usage} TO PUBLIC"), as_a_user():
        assert codes(current_status()) == [ProblemCode.GRANTS_MISSING]


def test_dates_that_psycopg_cant_read_are_no_exception(sync_setting: Setting) -> None:
    sync_setting(RESOURCES=("connection",))
    assert resource_figures()

    with GERMAN():
        assert resource_figures() == []


def test_why_there_are_no_figures_is_logged_once(caplog: LogCapture) -> None:
    with NO_TABLE():
        for _ in range(3):
            current_status()

    (record,) = caplog.records
    assert 'relation "workos_event" does not exist' in record.getMessage()


def no_figures(patch: MonkeyPatch) -> None:
    patch.setattr(statements, "STATUS", "SELECT nothing -- %(stream)s")


@pytest.mark.parametrize(
    ("damage", "code"), [(no_redis, "queue_unusable"), (no_figures, "database_unusable")]
)
def test_what_no_table_dates_is_a_problem_since_this_process_saw_it(
    monkeypatch: MonkeyPatch, damage: Callable[[MonkeyPatch], None], code: str
) -> None:
    seen = [datetime.now(UTC)]

    for _ in range(2):
        with monkeypatch.context() as patch:
            damage(patch)
            (first,), (again,) = current_status().problems, current_status().problems
        assert first.code == code
        assert first.since is not None
        assert first.since == again.since
        assert seen[-1] <= first.since <= datetime.now(UTC)
        assert codes(current_status()) == [], "and it is over"
        seen.append(datetime.now(UTC))


def test_what_was_not_seen_for_long_may_have_ended_between(monkeypatch: MonkeyPatch) -> None:
    no_redis(monkeypatch)
    (first,) = current_status().problems

    monkeypatch.setattr(status_module, "_SAME_INCIDENT", timedelta(0))
    (second,) = current_status().problems

    assert first.since is not None
    assert second.since is not None
    assert first.since < second.since


def test_a_status_that_cant_be_read_ends_no_problem(monkeypatch: MonkeyPatch) -> None:
    Schedule.objects.filter(name="workos: prune").delete()
    (before,) = current_status().problems

    with monkeypatch.context() as patch:
        no_figures(patch)
        (unreadable,) = current_status().problems
    (after,) = current_status().problems

    assert (before.code, unreadable.code) == ("schedules_missing", "database_unusable")
    assert after == before


def test_the_clock_of_the_web_process_does_not_matter(monkeypatch: MonkeyPatch) -> None:
    for off in (-10, 10, 31 * 24 * 60):
        at = datetime.now(UTC) + minutes(off)
        monkeypatch.setattr("django.utils.timezone.now", lambda at=at: at)

        assert codes(current_status()) == []


def test_it_writes_nothing_and_asks_little() -> None:
    with CaptureQueriesContext(connection) as queries:
        current_status()

    asked = [q["sql"] for q in queries if re.match(r"\s*SELECT (?!set_config)", q["sql"])]
    assert len(asked) <= 7
    assert not [q for q in queries if re.match(r"\s*(INSERT|UPDATE|DELETE)\b", q["sql"])]


def test_the_ledger_is_read_by_its_indexes() -> None:
    """However long it is: a sequential scan of a million events would take too long for a probe."""
    # Statistics of the tests before would count for the plan.
    execute(
        """
        INSERT INTO workos_event (id, type, outcome, processed_at, announced_at)
        SELECT n::text, 'organization.updated', 'updated', now() - n * interval '1 hour', now()
        FROM generate_series(1, 5000) AS n;
        ANALYZE workos_event
        """
    )
    values: dict[str, Any] = {"window": 60, "longest_write_back": 1, "stream": ""}
    with connection.cursor() as cursor, changed("SET enable_seqscan = off", "RESET enable_seqscan"):
        cursor.execute(f"EXPLAIN {statements.STATUS}", values)
        lines = cursor.fetchall()
        cursor.execute(f"EXPLAIN {statements.LAST_DAY}", [MOST_EVENTS])
        plan = "\n".join(row[0] for row in (*lines, *cursor.fetchall()))

    for index in ("workos_event_unseen", "workos_event_parked", "workos_event_processed"):
        assert f"using {index} on workos_event" in plan
    assert "Seq Scan on workos_event" not in plan
