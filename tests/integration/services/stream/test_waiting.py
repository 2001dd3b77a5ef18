"""How the worker drains: it waits for what is announced, resolves what is missed, tries again."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError

from orgs.conf import sync_settings
from orgs.db.cursor import read_cursor
from orgs.db.leases import Lease, note_enqueued
from orgs.domain.status import ReadError
from orgs.domain.types import Outcome, Position
from orgs.models import SyncCursor, WorkOSEvent
from orgs.services import refresh, stream
from orgs.services.coverage import prepare_to_read
from orgs.services.queue import PUSH_EXTERNAL_IDS, SYNC_EVENTS
from orgs.services.refusals import text_of
from orgs.services.stream import drain_and_wait, drain_to_end, resolve_overdue
from orgs.testing import FakeWorkOS
from orgs.workos import RateLimited, Unavailable, WorkOSError
from tests.builders import (
    a_linked_row,
    an_announcement,
    an_event_id,
    an_old_organization,
    an_organization_row,
)
from tests.concurrency import another_program, in_thread, wait_until
from tests.integration.services.stored import (
    Around,
    LogCapture,
    MonkeyPatch,
    Setting,
    cursor,
    enqueued,
    impatient,
    is_waiting,
    names,
    problems,
    read,
    set_cursor,
)
from tests.triggers import LEAVES_OUT, RAISES, REASONS, a_trigger, locked, renamed

LONG_AGO = timedelta(minutes=5)


@pytest.fixture
def time_is_up(monkeypatch: MonkeyPatch) -> Callable[..., object]:
    """Puts the process's clock past every deadline."""
    clock = SimpleNamespace(monotonic=lambda: 1e12, sleep=time.sleep)
    return lambda *_: [monkeypatch.setattr(module, "time", clock) for module in (stream, refresh)]


# Missed webhooks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "outcome"),
    [
        pytest.param(LONG_AGO, "missing", id="overdue"),
        pytest.param(-timedelta(days=31), "missing", id="in the future"),
        pytest.param(timedelta(0), None, id="still waited for"),
    ],
)
def test_what_is_overdue_is_resolved_as_it_is_in_workos(
    workos: FakeWorkOS, ago: timedelta, outcome: str | None
) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1", emits=False)
    an_announcement("event_lost", ago=ago, workos_id=acme["id"])

    report = drain_to_end()

    assert (read(report), names()) == (0, ["Acme"] if outcome else [])
    event = WorkOSEvent.objects.get()
    assert (event.outcome, event.organization_id) == (outcome, "gram-1" if outcome else None)
    assert read_cursor().position == Position(), "announcements never move the cursor"


def test_behind_a_false_end_nothing_is_overdue(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=3)
    for event in workos.all_events():
        an_announcement(event["id"], ago=LONG_AGO, workos_id=event["data"]["id"])
    workos.misbehave("ends_early")

    first = drain_to_end()
    outcomes = set(WorkOSEvent.objects.values_list("outcome", flat=True))

    assert (read(first), read(drain_to_end())) == (1, 2)
    assert outcomes == {"created", None}, "and none is missing"


def test_what_was_announced_by_a_clock_that_was_ahead_is_not_waited_for() -> None:
    an_announcement("event_now", ago=timedelta(0))
    an_announcement("event_old", ago=LONG_AGO)
    an_announcement("event_ahead", ago=-LONG_AGO)

    waited_for = WorkOSEvent.objects.unseen(within=timedelta(minutes=1))

    assert [event.id for event in waited_for] == ["event_now"]


def test_an_error_of_the_last_look_leaves_what_is_overdue_for_later(workos: FakeWorkOS) -> None:
    an_announcement("event_1", ago=LONG_AGO)
    workos.misbehave("slow", seconds=0)
    workos.misbehave("status", status=500)

    assert isinstance(drain_to_end().unresolved, Unavailable)
    assert WorkOSEvent.objects.get().outcome is None


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        pytest.param("", "WorkOS does not answer: HTTP 500", id="WorkOS does not answer"),
        pytest.param(RAISES, REASONS[RAISES], id="the ledger raises"),
        pytest.param(LEAVES_OUT, REASONS[LEAVES_OUT], id="the ledger leaves it out"),
    ],
)
def test_what_cant_be_resolved_does_not_stop_the_rest(
    workos: FakeWorkOS, how: str, reason: str
) -> None:
    for number in range(9):
        an_announcement(an_event_id(number), ago=LONG_AGO * 2, workos_id=f"org_down_{number}")
    an_announcement("event_free", ago=LONG_AGO, workos_id=an_old_organization(workos, "Free"))
    if not how:
        workos.misbehave("status", status=500, path="/organizations/org_down", times=None)

    with a_trigger(how, table="workos_event", when="NEW.id <> 'event_free'", on="UPDATE"):
        report = drain_to_end()
    left = WorkOSEvent.objects.announced_and_unseen().count()
    workos.behave()
    drain_to_end()

    assert report.unresolved
    assert text_of(report.unresolved).startswith(reason)
    assert (names(), left) == (["Free"], 9)
    assert WorkOSEvent.objects.missing().count() == 10


@impatient
def test_a_locked_row_does_not_stop_the_rest(workos: FakeWorkOS) -> None:
    held = a_linked_row(workos, there="Locked", name="Old")
    an_announcement("event_1", ago=LONG_AGO * 2, workos_id=held)
    an_announcement("event_2", ago=LONG_AGO, workos_id=an_old_organization(workos, "Free"))

    with locked():
        report = drain_to_end()

    assert isinstance(report.unresolved, OperationalError)
    assert names() == ["Free", "Old"]


def test_one_that_is_resolved_meanwhile(workos: FakeWorkOS, before: Around) -> None:
    prepare_to_read()
    an_announcement("event_1", ago=LONG_AGO)
    resolved = {"outcome": Outcome.MISSING, "processed_at": datetime.now(UTC)}
    before(stream, "_is_at_the_end", lambda _: WorkOSEvent.objects.update(**resolved))

    assert resolve_overdue() is None
    assert workos.count_requests(path="/organizations") == 0


def test_what_is_overdue_is_tried_in_another_order_each_time(workos: FakeWorkOS) -> None:
    prepare_to_read()
    for number in range(12):
        an_announcement(an_event_id(number), ago=LONG_AGO, workos_id=f"org_{number}")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    orders = []
    for _ in range(2):
        workos.forget_requests()
        resolve_overdue()
        orders.append([request["path"] for request in workos.requests(path="/organizations")])

    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_worker_tries_what_cant_be_resolved_once_a_drain(workos: FakeWorkOS) -> None:
    an_announcement("event_overdue", ago=LONG_AGO, workos_id="org_down")
    recent = an_announcement("event_recent")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: workos.count_requests(path="/events") > 4, "it has read again")
        recent.delete()
        report = waiting.result()

    assert isinstance(report.unresolved, Unavailable)
    assert workos.count_requests(path="/organizations/org_down") == 1
    assert cursor().failures == 0, "the stream was read all the time"
    assert WorkOSEvent.objects.announced_and_unseen().exists()
    assert enqueued() == [], "for what is overdue it has not waited until its deadline"


@pytest.mark.usefixtures("workos")
def test_after_its_deadline_it_resolves_no_more(after: Around, time_is_up: Any) -> None:
    for number in range(3):
        an_announcement(an_event_id(number), ago=LONG_AGO)
    after(refresh, "resolve", time_is_up)

    drain_and_wait()

    assert WorkOSEvent.objects.announced_and_unseen().count() == 2


# Waiting ------------------------------------------------------------------------------------


def test_a_waiting_drain_waits_until_what_was_announced_can_be_read(workos: FakeWorkOS) -> None:
    workos.set_hold_back(1_000)
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: workos.count_requests() >= 3, "the drain has read in vain")
        still_waiting = is_waiting()
        workos.set_hold_back(0)
        report = waiting.result()

    assert report.counts == {Outcome.CREATED: 1}
    assert (still_waiting, is_waiting()) == (True, False)
    assert enqueued() == [PUSH_EXTERNAL_IDS]


def test_a_drain_beside_a_waiting_one_reads_to_the_end_once(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    an_announcement("event_held_back")
    prepare_to_read()
    lease = Lease.DRAIN.acquire(60)

    report = drain_and_wait()

    assert (report.counts, workos.count_requests()) == ({Outcome.CREATED: 1}, 1)
    assert cursor().draining_until == lease


def test_enqueued_is_cleared_before_it_reads(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    prepare_to_read()
    note_enqueued(60)
    at_the_read: list[datetime | None] = []
    monkeypatch.setattr(stream, "_drain", lambda *_: at_the_read.append(cursor().rung_until))

    drain_and_wait()

    assert at_the_read == [None]


@impatient
def test_a_lease_that_could_not_be_released_is_released_at_the_end(
    before: Around, after: Around
) -> None:
    with another_program() as program:
        lock = b"SELECT FROM workos_sync_cursor FOR UPDATE"
        after(stream, "_has_unseen", lambda *_: program.execute(lock))
        before(Lease, "release_or_expire", lambda *_: program.rollback())
        drain_and_wait()

    assert cursor().draining_until is None


def test_at_its_deadline_a_drain_releases_the_lease_and_then_enqueues_another(
    workos: FakeWorkOS, sync_setting: Setting, monkeypatch: MonkeyPatch
) -> None:
    sync_setting(DRAIN_DEADLINE=0.2)
    an_announcement("event_held_back")
    seen: list[tuple[str, bool]] = []
    monkeypatch.setattr(stream, "enqueue", lambda task: seen.append((task, is_waiting())))

    drain_and_wait()

    assert seen == [(SYNC_EVENTS, False)]
    assert WorkOSEvent.objects.get().outcome is None


def test_for_the_rest_of_a_backlog_it_enqueues(
    workos: FakeWorkOS, sync_setting: Setting, after: Around, time_is_up: Any
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=3)
    after(stream, "apply", time_is_up)

    report = drain_and_wait()

    assert (read(report), report.drained, cursor().drained_at) == (1, False, None)
    assert SYNC_EVENTS in enqueued()


def test_what_is_announced_at_the_end_is_seen(workos: FakeWorkOS, before: Around) -> None:
    """The race that the last look is for: a webhook that sees the lease, and enqueues nothing."""
    saw_the_lease: list[bool] = []

    def announce(*_: object) -> None:
        if not saw_the_lease:
            workos.create_organization(name="Acme")
            an_announcement(workos.all_events()[0]["id"])
            saw_the_lease.append(not note_enqueued(60))

    before(Lease, "release", announce)

    drain_and_wait()

    assert (saw_the_lease, names()) == ([True], ["Acme"])


@pytest.mark.usefixtures("workos")
def test_a_lease_that_another_drain_acquires(after: Around) -> None:
    theirs: list[datetime | None] = []

    def acquire(lease: Lease, _: datetime) -> None:
        if not theirs:
            an_announcement("event_held_back")
            theirs.append(lease.acquire(60))

    after(Lease, "release", acquire)

    drain_and_wait()

    assert cursor().draining_until == theirs[0]
    assert enqueued() == []


# Errors while waiting -----------------------------------------------------------------------


@impatient
@pytest.mark.parametrize(
    ("is_locked", "kind", "said"),
    [(False, ReadError.UNAVAILABLE, "503"), (True, ReadError.LOCK_NOT_AVAILABLE, "lock timeout")],
    ids=["503", "a lock"],
)
def test_an_error_is_tried_again_while_something_is_announced(
    workos: FakeWorkOS, is_locked: bool, kind: ReadError, said: str
) -> None:
    an_organization_row("gram-1", name="Before")
    workos.create_organization(name="After", external_id="gram-1")
    an_announcement(workos.all_events()[0]["id"])
    if not is_locked:
        workos.misbehave("status", status=503, times=None)

    with locked(where=str(is_locked)) as program, in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: SyncCursor.objects.filter(failures__gte=3).exists(), "it is tried again")
        noted = cursor()
        workos.behave()
        program.rollback()
        waiting.result()

    assert (noted.last_trouble, said in noted.last_error) == (kind, True)
    assert noted.failing_since is not None
    assert names() == ["After"]
    assert not WorkOSEvent.objects.parked().exists()
    row = cursor()
    assert (row.failures, row.failing_since, row.last_trouble, row.last_error) == (0, None, "", "")


@pytest.mark.parametrize(
    ("misbehaviour", "kind", "level", "said"),
    [
        ({"kind": "status", "status": 401}, ReadError.KEY_REFUSED, "CRITICAL", "the API key"),
        ({"kind": "status", "status": 503}, ReadError.UNAVAILABLE, "WARNING", "503"),
        ({"kind": "status", "status": 429}, ReadError.RATE_LIMITED, "WARNING", "429"),
        ({"kind": "html"}, ReadError.NOT_UNDERSTOOD, "WARNING", "not a page"),
    ],
    ids=["401", "503", "429", "HTML"],
)
def test_an_error_with_nothing_announced_is_left_to_the_schedule(
    workos: FakeWorkOS, caplog: LogCapture, misbehaviour: Any, kind: str, level: str, said: str
) -> None:
    workos.misbehave(times=None, **misbehaviour)

    drain_and_wait()

    assert (workos.count_requests(), cursor().failures, is_waiting()) == (1, 1, False)
    assert (cursor().last_trouble, said in cursor().last_error) == (kind, True)
    ((logged_at, line),) = problems(caplog)
    assert (logged_at, said in line) == (level, True)


def test_errors_of_one_kind_are_logged_once(workos: FakeWorkOS, caplog: LogCapture) -> None:
    for number in range(3):
        # As the id of the request that real answers quote.
        body = {"message": f"req_{number} was not served, try again in {number} s"}
        workos.misbehave("status", status=503, body=body)
        drain_and_wait()

    assert (cursor().failures, len(problems(caplog))) == (3, 1)


DOWN, LATER = Unavailable("down"), RateLimited("slowly", retry_after=7.0)
FULL_DISK = partial(a_trigger, "RAISE SQLSTATE '53100';")
NO_COLUMN = partial(renamed, "organization_metadata", "name")


@pytest.mark.parametrize(
    ("error", "failures", "pause"),
    [
        *((DOWN, *pause) for pause in ((0, 2), (1, 4), (2, 8), (9, 60), (5_000, 60))),
        pytest.param(LATER, 0, 7, id="WorkOS asks for longer"),
        pytest.param(LATER, 9, 60, id="WorkOS asks for less"),
        # As soon as it is released, a person waits for nothing else.
        *(("a lock of another program", failures, 1) for failures in (0, 9, 5_000)),
    ],
)
def test_pauses_grow_with_the_failures_up_to_a_minute_but_not_for_locks(
    sync_setting: Setting, error: WorkOSError | OperationalError | str, failures: int, pause: float
) -> None:
    sync_setting(POLL_PAUSE=1.0, LOCK_TIMEOUT=0.01)
    set_cursor(failures=failures)
    if isinstance(error, str):
        with locked("workos_sync_cursor"), pytest.raises(OperationalError) as not_available:
            Lease.DRAIN.acquire(60)
        error = not_available.value

    assert stream._note(error) == pause


def test_a_long_pause_ends_at_the_deadline(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    event = an_announcement("event_1")
    workos.misbehave("rate_limited", retry_after=600)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        event.delete()

    monkeypatch.setattr(time, "sleep", sleep)

    drain_and_wait()

    assert 0 < slept[0] <= sync_settings().drain_deadline
    assert workos.count_requests() == 1


@impatient
def test_a_locked_table_is_not_waited_for_without_end(
    workos: FakeWorkOS, sync_setting: Setting, caplog: LogCapture
) -> None:
    sync_setting(DRAIN_DEADLINE=0.5)
    prepare_to_read()
    workos.create_organization(name="Acme")

    with another_program() as program:
        program.execute("LOCK TABLE workos_sync_cursor IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock"):
            drain_to_end()
        assert read(drain_and_wait()) == 0

    assert "a lock is not available; the schedule tries again" in caplog.text


@impatient
def test_a_locked_cursor_hides_no_error_and_ends_no_drain(
    sync_setting: Setting, caplog: LogCapture, after: Around
) -> None:
    sync_setting(DRAIN_DEADLINE=0.5)
    an_announcement("event_held_back")
    lock = "SELECT FROM workos_sync_cursor FOR UPDATE"

    with another_program() as program:
        after(Lease, "acquire", lambda *_: program.execute(lock))
        drain_and_wait()

    assert "the stream could not be drained: " in caplog.text
    assert "it runs out by itself" in caplog.text
    assert enqueued() == [SYNC_EVENTS]


@pytest.mark.parametrize(
    ("damage", "is_missed", "kind", "said"),
    [
        pytest.param(FULL_DISK, False, ReadError.DATABASE_FULL, "53100", id="a full disk"),
        pytest.param(FULL_DISK, True, ReadError.DATABASE_FULL, "53100", id="at a missed webhook"),
        pytest.param(NO_COLUMN, False, ReadError.DATABASE, "column", id="no column"),
    ],
)
def test_another_error_of_the_database_is_raised_and_noted(
    workos: FakeWorkOS, damage: Any, is_missed: bool, kind: ReadError, said: str
) -> None:
    acme = workos.create_organization(name="Acme", emits=not is_missed)
    if is_missed:
        an_announcement("event_1", ago=LONG_AGO, workos_id=acme["id"])

    with damage(), pytest.raises(DatabaseError):
        drain_and_wait()

    assert not is_waiting()
    assert (cursor().failures, cursor().last_trouble) == (1, kind)
    assert said in cursor().last_error
    assert not WorkOSEvent.objects.exclude(outcome=None).exists()


@impatient
def test_what_was_applied_before_an_error_is_logged_and_written_back(
    workos: FakeWorkOS, caplog: LogCapture
) -> None:
    workos.emit({"event": "organization.created", "data": {"id": "org_bad"}})
    workos.create_organization(name="Free")
    held = workos.create_organization(name="Locked")
    an_organization_row("gram-locked", workos_id=held["id"], name="Old")

    with locked():
        report = drain_and_wait()

    assert (names(), cursor().failures) == (["Free", "Old"], 1)
    assert [change.workos_id for change in report.parked] == ["org_bad"]
    assert "parked event_" in caplog.text
    assert enqueued() == [PUSH_EXTERNAL_IDS]


@pytest.mark.parametrize("id_", ["event_1\nERROR forged", "event_\x1b[31m"])
def test_an_id_cant_forge_a_line(workos: FakeWorkOS, caplog: LogCapture, id_: str) -> None:
    workos.emit({"id": id_, "event": "organization.created", "data": None})

    drain_and_wait()

    ((_, line),) = problems(caplog)
    assert line.startswith("parked event_")
    assert line.endswith(": data is not an object")
    assert line.isprintable()
