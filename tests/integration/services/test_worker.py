"""What sync_worker sees in the database, and when it has its cluster started anew."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule

from orgs.models import ORGANIZATIONS_STREAM, SyncCursor
from orgs.services import worker
from orgs.services.worker import Watch, due_schedules, queued_tasks
from tests.builders import no_redis
from tests.integration.services.stored import MonkeyPatch
from tests.triggers import renamed

HOUR = timedelta(hours=1)
NO_SCHEDULE = "no schedule that is due was worked off for 121 s"
NOT_RUN = "no task was run for 151 s"


class Clock:
    """The process's clock, which the test moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("orgs.services.worker.time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_schedules(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "ensure_schedules", lambda: None)
    Schedule.objects.all().delete()


def schedule(due_in: timedelta, **values: object) -> Schedule:
    # By the database's clock, whatever the process's is.
    row: Schedule = Schedule.objects.create(func="a.task", next_run=Now() + due_in, **values)
    return row


def enqueue(count: int = 1, key: str = "gram_sync") -> None:
    for _ in range(count):
        OrmQ.objects.create(key=key, payload="", lock=timezone.now())


def looks(watch: Watch, clock: Clock, *at: float) -> list[str | None]:
    found = []
    for clock.now in at:
        found.append(watch.look())
    return found


@pytest.mark.parametrize(
    ("values", "is_due"),
    [
        pytest.param({"due_in": -HOUR}, True, id="due"),
        pytest.param({"due_in": HOUR}, False, id="later"),
        pytest.param({"due_in": -HOUR, "repeats": 0}, False, id="switched off"),
        pytest.param({"due_in": -HOUR, "cluster": "gram_sync"}, True, id="this cluster's"),
        pytest.param({"due_in": -HOUR, "cluster": "another"}, False, id="another cluster's"),
    ],
)
def test_which_schedules_are_due_here(values: dict[str, object], is_due: bool) -> None:
    row = schedule(**values)  # type: ignore[arg-type]
    row.refresh_from_db()

    assert due_schedules() == ({(row.id, row.next_run)} if is_due else set())


def test_queued_are_the_tasks_of_this_cluster_unless_a_reconcile_runs() -> None:
    enqueue()
    enqueue(key="another")
    cursor = SyncCursor.objects.create(stream=ORGANIZATIONS_STREAM)

    assert len(queued_tasks()) == 1
    SyncCursor.objects.filter(pk=cursor.pk).update(reconciling_until=Now() + HOUR)
    assert queued_tasks() == set()
    for wrong in (-HOUR, timedelta(days=31)):
        SyncCursor.objects.filter(pk=cursor.pk).update(reconciling_until=Now() + wrong)
        assert len(queued_tasks()) == 1


@pytest.mark.parametrize(
    ("started", "drained", "failures", "is_kept"),
    [
        pytest.param(None, None, 3, False, id="the first"),
        pytest.param(-HOUR, -HOUR / 2, 0, False, id="it read"),
        pytest.param(-HOUR, -2 * HOUR, 0, True, id="it read nothing"),
        pytest.param(-HOUR, -2 * HOUR, 3, False, id="its reads failed"),
        pytest.param(-HOUR, None, 0, True, id="nobody ever read"),
        pytest.param(HOUR, -HOUR, 0, False, id="a wrong clock"),
    ],
)
def test_a_start_is_noted_unless_the_one_before_led_to_no_read(
    started: timedelta | None, drained: timedelta | None, failures: int, is_kept: bool
) -> None:
    Watch().look()
    times = {"worker_started_at": started, "drained_at": drained}
    ago = {column: after and Now() + after for column, after in times.items()}
    SyncCursor.objects.update(**ago, failures=failures)
    before = SyncCursor.objects.get().worker_started_at

    Watch().look()

    noted = {"worker_started_at__range": (Now() - HOUR / 2, Now())}
    kept = {"worker_started_at": before}
    assert SyncCursor.objects.filter(failures=failures, **(kept if is_kept else noted)).exists()


@pytest.mark.parametrize(
    ("due_in", "queued", "at", "reason"),
    [
        pytest.param(-HOUR, 0, (0, 119, 121), NO_SCHEDULE, id="a schedule for two minutes"),
        pytest.param(HOUR, 0, (0, 1_000, 2_000), None, id="nothing is due"),
        pytest.param(HOUR, 1, (0, 149, 151), NOT_RUN, id="a task for the cluster's time limit"),
    ],
)
def test_what_nobody_works_off_is_a_reason(
    clock: Clock, due_in: timedelta, queued: int, at: tuple[int, ...], reason: str | None
) -> None:
    schedule(due_in)
    enqueue(queued)

    assert looks(Watch(), clock, *at) == [None, None, reason]


@pytest.mark.parametrize(
    ("seconds", "work", "reason"),
    [
        pytest.param(120, lambda: Schedule.objects.update(next_run=Now() - HOUR / 2), NO_SCHEDULE),
        pytest.param(120, lambda: Schedule.objects.first().delete(), NO_SCHEDULE),
        pytest.param(150, lambda: SyncCursor.objects.update(drained_at=Now()), NOT_RUN),
        pytest.param(150, lambda: SyncCursor.objects.update(failures=1), NOT_RUN),
        pytest.param(150, lambda: OrmQ.objects.first().delete(), NOT_RUN),
    ],
    ids=["scheduled", "one of several", "a drain", "a drain that fails", "another task"],
)
def test_what_was_worked_off_meanwhile_is_none(
    clock: Clock, seconds: int, work: Callable[[], object], reason: str
) -> None:
    for _ in range(2):
        if reason == NO_SCHEDULE:
            schedule(-HOUR)
        else:
            enqueue()
    watch = Watch()
    looks(watch, clock, 0, seconds - 1)

    work()

    looked = looks(watch, clock, seconds + 1, 2 * seconds, 2 * seconds + 2)
    assert looked == [None, None, reason]


@pytest.mark.parametrize("is_many", [False, True], ids=["a killed cluster's", "too many"])
def test_tasks_run_and_never_acknowledged_are_a_reason(clock: Clock, is_many: bool) -> None:
    """As when the process that acknowledges was killed: each is delivered again for ever."""
    enqueue(worker._MANY_TASKS + is_many)
    watch = Watch()

    found = []
    for clock.now in (0, 75, 149, 151):
        found.append(watch.look())
        SyncCursor.objects.update(drained_at=Now())

    reason = "no task was acknowledged for 151 s" if is_many else None
    assert found == [None, None, None, reason]


def test_a_restart_that_did_not_help_doubles_the_patience(clock: Clock) -> None:
    schedule(-HOUR)
    watch = Watch()
    assert looks(watch, clock, 0, 121)[-1]

    watch.begin()
    again = looks(watch, clock, 122, 361, 363)
    Schedule.objects.update(next_run=Now() + HOUR)
    watch.begin()
    looks(watch, clock, 364)
    schedule(-HOUR)

    assert [bool(reason) for reason in again] == [False, False, True]
    assert [bool(reason) for reason in looks(watch, clock, 365, 484, 486)] == [False, False, True]


@contextmanager
def redis_away() -> Iterator[None]:
    with MonkeyPatch.context() as patch:
        patch.setattr(Conf, "ORM", None)
        no_redis(patch)
        yield


@pytest.mark.parametrize(
    "away",
    [pytest.param(partial(renamed, "django_q_schedule"), id="database"), redis_away],
)
def test_what_does_not_answer_is_no_reason(
    clock: Clock, away: Callable[[], AbstractContextManager[None]]
) -> None:
    schedule(-HOUR)
    watch = Watch()
    looks(watch, clock, 0, 100)

    with away():
        assert looks(watch, clock, 121, 1_000) == [None, None]

    assert looks(watch, clock, 1_001, 1_120, 1_121) == [None, None, NO_SCHEDULE]
