"""django-q2's schedules: made once, and kept right."""

from datetime import UTC, datetime
from threading import Barrier

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils.module_loading import import_string
from django_q.brokers import get_broker
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler

from orgs.services import queue as ring
from orgs.services.schedules import ensure_schedules
from tests.concurrency import in_thread

pytestmark = pytest.mark.usefixtures("database")


def schedules() -> dict[str, tuple[str, str, int | None]]:
    rows = Schedule.objects.filter(name__startswith="workos: ").values_list(
        "name", "func", "schedule_type", "minutes"
    )
    return {name: (func, kind, minutes) for name, func, kind, minutes in rows}


WANTED = {
    "workos: sync events": ("orgs.tasks.sync_events", Schedule.MINUTES, 1),
    "workos: push external ids": ("orgs.tasks.push_external_ids", Schedule.MINUTES, 1),
    "workos: prune": ("orgs.tasks.prune", Schedule.DAILY, None),
    "workos: reconcile": ("orgs.tasks.reconcile", Schedule.DAILY, None),
}


def test_migrating_makes_the_schedules() -> None:
    Schedule.objects.all().delete()

    call_command("migrate", verbosity=0)

    assert schedules() == WANTED


def test_migrating_again_leaves_them_and_their_next_run_alone() -> None:
    ensure_schedules(using="default")
    before = list(Schedule.objects.order_by("id").values())

    call_command("migrate", verbosity=0)

    assert list(Schedule.objects.order_by("id").values()) == before


def test_one_that_differs_is_mended_and_doubles_are_removed() -> None:
    ensure_schedules(using="default")
    first = Schedule.objects.get(name="workos: sync events")
    Schedule.objects.create(name=first.name, func="gone", schedule_type=Schedule.HOURLY)
    Schedule.objects.filter(name="workos: prune").update(
        func="old.path", repeats=0, cluster="another", kwargs="{broken"
    )

    ensure_schedules(using="default")

    assert schedules() == WANTED
    assert Schedule.objects.get(name=first.name).id == first.id
    prune = Schedule.objects.get(name="workos: prune")
    assert (prune.repeats, prune.cluster, prune.kwargs) == (-1, None, None)


def test_every_column_that_could_keep_one_from_running_is_mended() -> None:
    ensure_schedules(using="default")
    before = list(Schedule.objects.order_by("id").values())
    Schedule.objects.update(
        func="old.path",
        args="{broken",
        kwargs="{broken",
        hook="their.hook",
        cluster="another",
        cron="0 0 31 2 *",
        schedule_type=Schedule.CRON,
        minutes=600,
        repeats=0,
    )

    ensure_schedules(using="default")

    assert list(Schedule.objects.order_by("id").values()) == before


def test_the_snapshots_time_limit_is_its_own_and_its_arguments_parse() -> None:
    ensure_schedules(using="default")
    Schedule.objects.update(next_run=datetime(2026, 1, 1, tzinfo=UTC))

    scheduler(broker=get_broker())

    limits = {queued.func(): queued.task.get("timeout") for queued in OrmQ.objects.all()}
    assert limits == {
        "orgs.tasks.sync_events": None,
        "orgs.tasks.push_external_ids": None,
        "orgs.tasks.prune": None,
        "orgs.tasks.reconcile": 3_600,
    }


def test_schedules_of_others_are_left_alone() -> None:
    theirs = Schedule.objects.create(name="theirs", func="their.task")

    ensure_schedules(using="default")

    assert Schedule.objects.get(name="theirs").id == theirs.id


def test_machines_that_migrate_at_once_make_them_once() -> None:
    Schedule.objects.all().delete()
    all_are_there = Barrier(4)

    def migrate() -> None:
        all_are_there.wait()
        ensure_schedules(using="default")

    with in_thread() as start:
        for migrating in [start(migrate) for _ in range(4)]:
            migrating.result()

    assert Schedule.objects.filter(name__startswith="workos: ").count() == len(WANTED)


def test_without_django_q2s_tables_nothing_is_done() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_q_schedule RENAME TO gone")
    try:
        ensure_schedules(using="default")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO django_q_schedule")


@pytest.mark.parametrize(
    "task", [ring.SYNC_EVENTS, ring.PUSH_EXTERNAL_IDS, ring.PRUNE, ring.RECONCILE, ring.RECOVER]
)
def test_every_task_that_is_rung_by_path_can_be_imported(task: str) -> None:
    assert callable(import_string(task))
