"""The drain: real HTTP, real PostgreSQL, and its lease beside webhooks and other drains."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connection
from django_q.models import OrmQ

import orgs.workos
from orgs import tasks
from orgs.conf import sync_settings
from orgs.db.cursor import read_cursor
from orgs.db.leases import Lease, is_drain_expected
from orgs.domain.status import ReadError
from orgs.domain.types import EventType, Outcome, Position
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services import stream
from orgs.services.compare import Run
from orgs.services.coverage import prepare_to_read
from orgs.services.pages import CursorLost
from orgs.services.queue import PUSH_EXTERNAL_IDS, RECONCILE_TIMEOUT, RECOVER, SYNC_EVENTS
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.refresh import WrongEnvironment, replay_parked
from orgs.services.stream import (
    DrainReport,
    UnknownEvent,
    drain_and_wait,
    drain_to_end,
    replay,
    resolve_overdue,
)
from orgs.testing import FakeWorkOS
from orgs.workos import BrokenAnswer, RateLimited, Refused, Unavailable, WorkOSError
from tests.builders import (
    NOON,
    a_mirrored_organization,
    a_parked_event,
    an_announcement,
    an_event_id,
    an_old_organization,
    an_organization_row,
)
from tests.concurrency import (
    another_program,
    in_thread,
    open_transactions,
    wait_until,
    wait_until_blocked,
)
from tests.triggers import a_renamed_column, a_trigger, locked

pytestmark = pytest.mark.usefixtures("database")

LogCapture = pytest.LogCaptureFixture
MonkeyPatch = pytest.MonkeyPatch
Setting = Callable[..., None]
LONG_AGO = timedelta(minutes=5)


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def set_cursor(**values: Any) -> None:
    prepare_to_read()
    SyncCursor.objects.update(**values)


def from_now(**values: float) -> datetime:
    return datetime.now(UTC) + timedelta(**values)


def is_waiting() -> bool:
    return SyncCursor.objects.filter(draining_until__isnull=False).exists()


def enqueued() -> list[str]:
    return [queued.func() for queued in OrmQ.objects.order_by("id")]


def names() -> list[str]:
    return sorted(Organization.objects.values_list("name", flat=True))


def problems(caplog: LogCapture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.levelname != "INFO"]


def read(report: DrainReport) -> int:
    return report.counts.total()


# To the end ---------------------------------------------------------------------------------


def test_all_that_is_listed_is_applied_page_by_page(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    sync_setting(PAGE_SIZE=10)
    workos.seed(organizations=35)

    report = drain_to_end()

    assert (report.counts, report.drained) == ({Outcome.CREATED: 35}, True)
    assert Organization.objects.count() == 35
    assert workos.count_requests(path="/events") == 4
    assert cursor().last_event_id == workos.all_events()[-1]["id"]


def test_a_second_drain_reads_once_and_finds_nothing(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    first = cursor().drained_at
    workos.forget_requests()

    report = drain_to_end()

    assert (read(report), report.drained, workos.count_requests(path="/events")) == (0, True, 1)
    assert first is not None
    assert SyncCursor.objects.filter(drained_at__gt=first).exists()


def test_an_empty_stream_is_drained_and_its_position_stays_there(
    workos: FakeWorkOS,
) -> None:
    assert drain_to_end().drained
    assert read_cursor().position == Position()
    assert cursor().drained_at is not None


def test_the_next_page_is_read_meanwhile(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=2)

    with another_program() as program, in_thread() as start:
        program.execute("LOCK TABLE organization_metadata IN EXCLUSIVE MODE")
        draining = start(drain_to_end)
        wait_until_blocked()
        wait_until(lambda: workos.count_requests() == 2, "the second page is read")
        program.rollback()

        assert draining.result().counts == {Outcome.CREATED: 2}


def test_two_drains_apply_everything_once(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=5)
    workos.seed(organizations=60)

    with in_thread() as start:
        reports = [draining.result() for draining in [start(drain_to_end), start(drain_to_end)]]

    assert sum((report.counts for report in reports), Counter()) == {Outcome.CREATED: 60}
    assert all(report.drained for report in reports)


@pytest.mark.parametrize("page_size", [1, 100])
@pytest.mark.parametrize(
    ("bad", "raw"),
    [
        pytest.param({"event": "organization.created", "data": {"id": "org_bad"}}, False, id="bad"),
        pytest.param({"event": "organization.created"}, True, id="without an id"),
        pytest.param(None, True, id="null"),
    ],
)
def test_a_bad_event_is_parked_once_and_the_rest_goes_on(
    workos: FakeWorkOS, sync_setting: Setting, bad: Any, raw: bool, page_size: int
) -> None:
    sync_setting(PAGE_SIZE=page_size)
    workos.create_organization(name="Before", external_id="gram-1")
    workos.emit(bad, raw=raw)

    first, again = drain_to_end(), drain_to_end()
    workos.create_organization(name="After", external_id="gram-2")
    last = drain_to_end()

    assert first.counts == {Outcome.CREATED: 1, Outcome.PARKED: 1}
    assert (len(first.parked), read(again), again.drained) == (1, 0, True)
    assert last.counts == {Outcome.CREATED: 1}


def test_an_error_keeps_what_was_applied(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=3)
    workos.misbehave("slow", seconds=0, times=2)
    workos.misbehave("status", status=500)

    with pytest.raises(Unavailable):
        drain_to_end()

    assert Organization.objects.count() == 2
    assert drain_to_end().counts == {Outcome.CREATED: 1}


def test_a_page_that_repeats_is_an_error_and_no_endless_loop(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    workos.misbehave("repeated_page", times=None)

    with pytest.raises(BrokenAnswer, match="same page again"):
        drain_to_end()

    assert names() == ["Acme"]


def test_a_list_that_ends_early_is_read_on(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=2)
    workos.seed(organizations=5)
    workos.misbehave("ends_early")

    assert [read(drain_to_end()) for _ in range(2)] == [2, 3]


def test_a_dropped_page_is_read_again_from_where_the_cursor_is(workos: FakeWorkOS) -> None:
    prepare_to_read()
    workos.create_organization(name="Applied by another", external_id="gram-1")

    with locked("workos_sync_cursor") as program, in_thread() as start:
        draining = start(drain_to_end)
        wait_until_blocked()
        first = workos.all_events()[0]
        workos.create_organization(name="Ours", external_id="gram-2")
        program.execute("UPDATE workos_sync_cursor SET last_event_id = %s", [first["id"]])
        program.commit()
        report = draining.result()

    assert report.counts == {Outcome.CREATED: 1}
    assert names() == ["Ours"]


def test_behind_a_dropped_page_it_reads_no_more(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    prepare_to_read()
    workos.seed(organizations=6)
    last = workos.all_events()[-1]["id"]

    with locked("workos_sync_cursor") as program, in_thread() as start:
        draining = start(drain_to_end)
        wait_until_blocked()
        program.execute("UPDATE workos_sync_cursor SET last_event_id = %s", [last])
        program.commit()
        draining.result()

    assert workos.count_requests() == 3, "the first, the one read ahead, and from the new position"


def test_a_lock_interrupts_a_page(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-locked", name="Old")
    workos.create_organization(name="Free", external_id="gram-free")
    workos.create_organization(name="Locked", external_id="gram-locked")

    with locked(), pytest.raises(OperationalError):
        drain_to_end()

    assert names() == ["Free", "Old"]


def test_no_transaction_is_open_meanwhile(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    found: Counter[str] = Counter()

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **options: Any) -> Any:
            found[name] += open_transactions()
            return function(*args, **options)

        return watching

    calls = ("read_events", "read_organizations", "lookup", "find_by_external_id")
    for name in (*calls, "offer_external_id"):
        monkeypatch.setattr(orgs.workos, name, watch(name, getattr(orgs.workos, name)))
    monkeypatch.setattr(
        "orgs.services.reconcile.read_organizations", orgs.workos.read_organizations
    )
    a_mirrored_organization(workos)
    acme = an_old_organization(workos, external_id="gram-1")
    an_organization_row("gram-1", workos_id="org_deleted")
    an_organization_row("gram-2", workos_id="org_deleted_too")
    an_announcement("event_held_back")
    an_announcement("event_lost", ago=LONG_AGO, workos_id=acme)
    an_announcement("event_lost_too", ago=LONG_AGO, workos_id="org_deleted")

    with monkeypatch.context() as patch:
        rest = iter([WorkOSEvent.objects.all])
        sleep = watch("sleep", lambda _: [events().delete() for events in rest])
        patch.setattr(time, "sleep", sleep)
        drain_and_wait()
    workos.create_organization(name="Bolt")
    reconcile(Run(dry=True))
    reconcile(Run())
    reconcile_organizations(Run(), ["gram-2"])
    a_parked_event(acme)
    replay_parked("event_1")

    assert found == dict.fromkeys([*calls, "offer_external_id", "sleep"], 0)


# A lost cursor ------------------------------------------------------------------------------


@pytest.fixture
def drained(workos: FakeWorkOS) -> Position:
    """Where the cursor stands after two events, of which the first is ten minutes old."""
    workos.create_organization(name="First", at=from_now(minutes=-10))
    workos.create_organization(name="Second")
    drain_to_end()
    workos.forget_requests()
    return read_cursor().position


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *(
            pytest.param({"status": status}, "refuses to read on", id=str(status))
            for status in (400, 404, 410, 422)
        ),
        pytest.param({"restart": True}, "from its first event", id="silent restart"),
    ],
)
def test_a_position_that_workos_does_not_know_is_a_lost_cursor(
    workos: FakeWorkOS, drained: Position, answer: dict[str, Any], reason: str
) -> None:
    workos.create_organization(name="Missed")
    workos.misbehave("expired_cursor", times=None, **answer)

    with pytest.raises(CursorLost, match=reason):
        drain_to_end()

    assert read_cursor().position == drained
    assert names() == ["First", "Second"]


def test_a_silent_restart_that_begins_with_an_undated_event(
    workos: FakeWorkOS,
) -> None:
    undated = {"id": "undated", "event": "organization.deleted", "data": {"id": "org_x"}}
    workos.emit(undated, absent=["created_at"])
    workos.create_organization(name="First", at=from_now(minutes=-10))
    workos.create_organization(name="Second")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=None)

    with pytest.raises(CursorLost, match="from its first event"):
        drain_to_end()


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        pytest.param([400] * 30, Refused, id="every read is refused"),
        pytest.param([400] * 2, Refused, id="two are refused"),
        pytest.param([400, 500], Unavailable, id="the second question fails otherwise"),
        pytest.param([408], Unavailable, id="408 is about the moment"),
        pytest.param([401], WorkOSError, id="401"),
    ],
)
def test_an_error_is_no_lost_cursor(
    workos: FakeWorkOS, drained: Position, statuses: list[int], error: type[Exception]
) -> None:
    for status in statuses:
        workos.misbehave("status", status=status)

    with pytest.raises(error):
        drain_to_end()
    workos.behave()

    assert drain_to_end().drained


def test_a_first_read_that_is_refused_is_no_lost_cursor(workos: FakeWorkOS) -> None:
    workos.misbehave("status", status=422)

    with pytest.raises(Refused):
        drain_to_end()


def test_a_restart_within_a_minute_is_harmless(workos: FakeWorkOS) -> None:
    workos.create_organization(name="First", at=from_now(seconds=-20))
    workos.create_organization(name="Second")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=1)

    assert drain_to_end().counts == {Outcome.STALE: 2}


@pytest.mark.parametrize(
    ("created_at", "later"),
    [
        pytest.param("1970-01-01T00:00:00Z", "Later", id="an old time"),
        pytest.param("0001-01-01T00:00:00Z", "Later", id="the first moment there is"),
        pytest.param(from_now(days=400).isoformat(), "Later", id="a time in the future"),
    ],
)
def test_an_event_with_an_odd_time_is_no_lost_cursor_and_stops_nothing(
    workos: FakeWorkOS, drained: Position, created_at: str, later: str
) -> None:
    workos.emit(
        {
            "id": "event_odd",
            "event": "organization.created",
            "created_at": created_at,
            "data": {"id": "org_odd", "name": "Odd", "updated_at": "2026-01-01T00:00:00Z"},
        }
    )

    for _ in range(3):
        drain_and_wait()
    workos.create_organization(name=later)
    drain_and_wait()

    assert names() == ["First", later, "Odd", "Second"]
    assert RECOVER not in enqueued()


def test_nothing_drained_for_too_long_is_a_lost_cursor(
    workos: FakeWorkOS, drained: Position
) -> None:
    set_cursor(drained_at=from_now(days=-30, minutes=-1))

    with pytest.raises(CursorLost, match="keeps events for 30 days"):
        drain_to_end()

    assert workos.count_requests() == 0


@pytest.mark.parametrize(
    ("days", "position"),
    [
        pytest.param(-29, "event", id="a quiet month"),
        pytest.param(-40, None, id="no event yet, and so no position to lose"),
        pytest.param(31, "event", id="drained in the future, by a clock that was wrong"),
    ],
)
def test_no_lost_cursor(
    workos: FakeWorkOS, drained: Position, days: int, position: str | None
) -> None:
    if position is None:
        set_cursor(last_event_id=None, last_event_at=None)
    SyncCursor.objects.update(drained_at=from_now(days=days))

    assert drain_to_end().drained
    assert SyncCursor.objects.filter(drained_at__lt=from_now(minutes=1)).exists()


def test_a_loss_does_not_count_if_another_process_has_moved_the_position(
    workos: FakeWorkOS, drained: Position, monkeypatch: MonkeyPatch
) -> None:
    SyncCursor.objects.update(last_event_id="event_forgotten")
    workos.misbehave("expired_cursor", times=1)
    # The read is refused, and by the time that is known the position is a good one again.
    monkeypatch.setattr(
        stream,
        "raise_if_expired",
        lambda _: SyncCursor.objects.update(last_event_id=drained.last_event_id),
    )

    assert drain_to_end().drained


def test_a_lost_cursor_is_noted_and_a_full_reconcile_enqueued(
    workos: FakeWorkOS, drained: Position, caplog: LogCapture
) -> None:
    workos.misbehave("expired_cursor", times=None)
    an_announcement("event_9")
    caplog.clear()

    drain_and_wait()

    # Once: it makes room for the reconcile, and does not wait for what was announced.
    assert (cursor().failures, is_waiting()) == (1, False)
    assert "the cursor is lost: " in cursor().last_error
    assert [level for level, _ in problems(caplog)] == ["CRITICAL"]
    assert [(q.func(), q.task["timeout"]) for q in OrmQ.objects.all()] == [
        (RECOVER, RECONCILE_TIMEOUT)
    ]


# Another environment ------------------------------------------------------------------------


@pytest.mark.parametrize("on_lost_cursor", ["refuse", "restart"])
@pytest.mark.parametrize("position", ["no position", "a time", "an event"])
@pytest.mark.parametrize("is_empty", [False, True])
def test_the_stream_of_another_environment_is_not_read(
    workos: FakeWorkOS,
    sync_setting: Setting,
    drained: Position,
    on_lost_cursor: Any,
    position: str,
    is_empty: bool,
) -> None:
    """It may also list from its first event, which is younger than the position."""
    if position != "an event":
        at = from_now(hours=-1) if position == "a time" else None
        set_cursor(last_event_id=None, last_event_at=at)
    since, before, drained_at = read_cursor().position, names(), cursor().drained_at
    with FakeWorkOS() as elsewhere:
        elsewhere.set_lost_cursor(on_lost_cursor)
        if not is_empty:
            elsewhere.create_organization(name="Another's")
        sync_setting(BASE_URL=elsewhere.base_url)
        drain_and_wait()
        noted = cursor().last_trouble
        with suppress(WrongEnvironment, UnknownEvent):
            replay(since)
        assert tasks.reconcile() == "not complete"

    is_lost = position == "an event" and on_lost_cursor == "refuse"
    assert noted == (ReadError.CURSOR_LOST if is_lost else ReadError.WRONG_ENVIRONMENT)
    assert names() == before
    assert read_cursor().position == since
    assert cursor().drained_at == drained_at
    assert not Organization.objects.disabled().exists()


def test_a_deletion_of_a_linked_organization_is_of_the_right_environment(
    workos: FakeWorkOS,
) -> None:
    """None is listed any more, and so no list could tell."""
    acme = workos.create_organization(name="Acme")["id"]
    drain_to_end()
    orgs.workos.close()
    workos.delete_organization(acme)

    drain_to_end()

    assert Organization.objects.get().disabled_at


# Clocks that were wrong ---------------------------------------------------------------------


def test_a_position_in_the_future_is_recovered_once(workos: FakeWorkOS, drained: Position) -> None:
    """As a snapshot leaves it behind that ran on a machine whose clock was a month ahead."""
    set_cursor(last_event_id=None, last_event_at=from_now(days=31))
    workos.create_organization(name="Unseen")

    with pytest.raises(CursorLost, match="in the future"):
        drain_to_end()
    drain_and_wait()
    recovered = [tasks.recover() for _ in range(2)]
    workos.create_organization(name="Later")
    drain_and_wait()

    assert enqueued()[0] == RECOVER
    assert recovered[0] != recovered[1] == "left to the one that is running, or not needed"
    assert names() == ["First", "Later", "Second", "Unseen"]


@pytest.mark.parametrize("at", ["infinity", "9999-12-31 12:00+00"])
def test_a_position_that_python_cant_hold_is_recovered(
    workos: FakeWorkOS, drained: Position, at: str
) -> None:
    with connection.cursor() as raw:
        raw.execute("UPDATE workos_sync_cursor SET last_event_id = NULL, last_event_at = %s", [at])
    workos.create_organization(name="Unseen")

    tasks.recover()

    assert names() == ["First", "Second", "Unseen"]
    assert drain_to_end().drained


def test_a_position_a_little_ahead_is_waited_for(workos: FakeWorkOS, drained: Position) -> None:
    set_cursor(last_event_id=None, last_event_at=from_now(minutes=50))

    assert drain_to_end().drained


def test_an_announcement_in_the_future_is_overdue(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos)
    an_announcement("event_lost", ago=-timedelta(days=31), workos_id=acme)

    drain_and_wait()

    assert WorkOSEvent.objects.get().outcome == Outcome.MISSING


# Replay -------------------------------------------------------------------------------------


def test_a_replay_applies_again_and_moves_nothing(workos: FakeWorkOS, drained: Position) -> None:
    before = cursor().drained_at
    Organization.objects.all().delete()

    report = replay(Position(workos.all_events()[0]["id"]))

    assert (report.counts, report.drained) == ({Outcome.CREATED: 1}, True)
    assert names() == ["Second"]
    assert (read_cursor().position, cursor().drained_at) == (drained, before)


@pytest.mark.parametrize(
    ("since", "found"),
    [
        pytest.param("last", 0, id="the last event"),
        pytest.param(NOON, 2, id="before all"),
        pytest.param("in between", 1, id="a time in between"),
    ],
)
def test_a_replay_takes_any_place_that_is_listed(
    workos: FakeWorkOS, drained: Position, since: str | datetime, found: int
) -> None:
    # Not when the tests are collected: the whole suite takes longer than five minutes.
    at = since if isinstance(since, datetime) else from_now(minutes=-5)
    start = Position(drained.last_event_id) if since == "last" else Position(None, at)

    assert read(replay(start)) == found


@pytest.mark.parametrize("restarts", [False, True], ids=["refused", "silently restarted"])
def test_a_replay_after_an_unknown_event_is_an_error(workos: FakeWorkOS, restarts: bool) -> None:
    workos.create_organization(name="Acme")
    workos.set_lost_cursor("restart" if restarts else "refuse")

    with pytest.raises(UnknownEvent):
        replay(Position("event_unknown"))

    assert names() == []


def test_a_replay_checks_its_position_once(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=4)

    replay(Position(workos.all_events()[0]["id"]))

    reads = workos.requests(path="/events")
    assert sum("after" not in request["query"] for request in reads) == 1


# Missed webhooks ----------------------------------------------------------------------------


def test_an_overdue_announcement_is_resolved_by_what_workos_says_now(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_lost", ago=LONG_AGO, workos_id=acme["id"])

    report = drain_to_end()

    assert (read(report), names()) == (0, ["Acme"])
    event = WorkOSEvent.objects.get()
    assert (event.outcome, event.organization_id) == ("missing", Organization.objects.get().id)
    assert read_cursor().position == Position(), "announcements never move the cursor"


def test_an_announcement_within_the_window_is_waited_for(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_held_back", workos_id=acme["id"])

    drain_to_end()

    assert (names(), WorkOSEvent.objects.get().outcome) == ([], None)


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


def test_an_error_of_the_last_look_leaves_what_is_overdue_for_later(workos: FakeWorkOS) -> None:
    an_announcement("event_1", ago=LONG_AGO)
    workos.misbehave("slow", seconds=0)
    workos.misbehave("status", status=500)

    report = drain_to_end()

    assert isinstance(report.unresolved, Unavailable)
    assert WorkOSEvent.objects.get().outcome is None


def test_an_overdue_deletion_disables_the_row(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id="org_deleted")
    an_announcement("event_lost", ago=LONG_AGO, workos_id="org_deleted")

    drain_to_end()

    assert Organization.objects.disabled().get().id == "gram-1"
    assert WorkOSEvent.objects.get().outcome == Outcome.MISSING


def test_what_cant_be_resolved_does_not_stop_the_rest(workos: FakeWorkOS) -> None:
    for number in range(120):
        an_announcement(f"event_{number}", ago=LONG_AGO * 2, workos_id=f"org_down_{number}")
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_acme", ago=LONG_AGO, workos_id=acme["id"])
    workos.misbehave("status", status=500, path="/organizations/org_down", times=None)

    report = drain_to_end()
    left = WorkOSEvent.objects.announced_and_unseen().count()
    workos.behave()
    drain_to_end()

    assert isinstance(report.unresolved, Unavailable)
    assert (names(), left) == (["Acme"], 120)
    assert WorkOSEvent.objects.missing().count() == 121


def test_a_locked_row_does_not_stop_the_rest(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    held = an_old_organization(workos, "Locked", external_id="gram-locked")
    free = an_old_organization(workos, "Free")
    an_organization_row("gram-locked", name="Old", workos_id=held)
    an_announcement("event_1", ago=LONG_AGO * 2, workos_id=held)
    an_announcement("event_2", ago=LONG_AGO, workos_id=free)

    with locked():
        report = drain_to_end()

    assert isinstance(report.unresolved, OperationalError)
    assert names() == ["Free", "Old"]


def test_another_error_of_the_database_is_raised(workos: FakeWorkOS) -> None:
    prepare_to_read()
    acme = an_old_organization(workos)
    an_announcement("event_1", ago=LONG_AGO, workos_id=acme)

    with a_trigger("RAISE SQLSTATE '53100';"), pytest.raises(DatabaseError):
        resolve_overdue()

    assert WorkOSEvent.objects.get().outcome is None


def test_one_that_is_resolved_meanwhile(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    prepare_to_read()
    an_announcement("event_1", ago=LONG_AGO)

    def and_another_resolves_it(_: float) -> bool:
        WorkOSEvent.objects.update(outcome=Outcome.MISSING, processed_at=datetime.now(UTC))
        return True

    monkeypatch.setattr(stream, "_is_at_the_end", and_another_resolves_it)

    assert resolve_overdue() is None
    assert workos.count_requests() == 0


def test_what_is_overdue_is_tried_in_another_order_each_time(workos: FakeWorkOS) -> None:
    prepare_to_read()
    for number in range(30):
        an_announcement(an_event_id(number), ago=LONG_AGO, workos_id=f"org_{number}")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    orders = []
    for _ in range(2):
        workos.forget_requests()
        resolve_overdue()
        orders.append([request["path"] for request in workos.requests(path="/organizations")])

    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_worker_tries_what_cant_be_resolved_once_a_drain(
    workos: FakeWorkOS,
) -> None:
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


def test_the_worker_does_not_wait_for_what_is_overdue(workos: FakeWorkOS) -> None:
    an_announcement("event_1", ago=LONG_AGO)
    workos.misbehave("status", status=500, path="/organizations", times=None)

    drain_and_wait()

    assert WorkOSEvent.objects.announced_and_unseen().exists()
    assert enqueued() == [], "it has not waited until its deadline"


def test_after_its_deadline_it_resolves_no_more(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(DRAIN_DEADLINE=0.3)
    for number in range(20):
        an_announcement(an_event_id(number), ago=LONG_AGO)
    workos.misbehave("slow", seconds=0.1, path="/organizations", times=None)

    resolve_overdue(deadline=time.monotonic() - 1)
    too_late = workos.count_requests(path="/organizations")
    drain_and_wait()

    assert too_late == 0
    assert WorkOSEvent.objects.announced_and_unseen().exists()


def test_a_late_event_is_applied_and_the_ledger_still_says_missing(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_late", ago=LONG_AGO, workos_id=acme["id"])
    drain_to_end()
    workos.emit({"id": "event_late", "event": EventType.CREATED, "data": acme})

    assert drain_to_end().counts == {Outcome.UPDATED: 1}
    assert WorkOSEvent.objects.get().outcome == "missing"


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


def test_a_drain_with_nothing_to_wait_for_ends_at_once(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")

    drain_and_wait()

    assert (workos.count_requests(), is_waiting(), enqueued()) == (1, False, [])


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
    Lease.ENQUEUED.acquire(60)
    at_the_read: list[datetime | None] = []
    monkeypatch.setattr(stream, "_drain", lambda *_: at_the_read.append(cursor().rung_until))

    drain_and_wait()

    assert at_the_read == [None]


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


def test_for_the_rest_of_a_backlog_it_enqueues(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(DRAIN_DEADLINE=2.0, PAGE_SIZE=1)
    workos.seed(organizations=20)
    workos.misbehave("slow", seconds=0.2, times=None)

    report = drain_and_wait()

    assert 0 < read(report) < 20
    assert not report.drained
    assert SYNC_EVENTS in enqueued()


def test_what_is_announced_after_the_last_read_is_seen(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    """The race that the last look is for: a webhook that sees the lease, and enqueues nothing."""
    saw_the_lease: list[bool] = []
    release = Lease.release

    def announced_just_before(self: Lease, lease: datetime) -> None:
        if not saw_the_lease:
            workos.create_organization(name="Acme")
            an_announcement(workos.all_events()[0]["id"])
            saw_the_lease.append(is_drain_expected())
        release(self, lease)

    monkeypatch.setattr(Lease, "release", announced_just_before)

    drain_and_wait()

    assert (saw_the_lease, names()) == ([True], ["Acme"])


def test_a_lease_that_another_drain_acquires(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    release = Lease.release
    theirs: list[datetime | None] = []

    def and_another_acquires_it(self: Lease, lease: datetime) -> None:
        release(self, lease)
        if not theirs:
            an_announcement("event_held_back")
            theirs.append(self.acquire(60))

    monkeypatch.setattr(Lease, "release", and_another_acquires_it)

    drain_and_wait()

    assert cursor().draining_until == theirs[0]
    assert enqueued() == []


# Errors while waiting -----------------------------------------------------------------------


def test_an_error_is_tried_again_while_something_is_announced(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])
    workos.misbehave("status", status=503, times=2)

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: SyncCursor.objects.filter(failures=1).exists(), "it is noted")
        noted = cursor()
        waiting.result()

    assert "503" in noted.last_error
    assert noted.failing_since is not None
    assert names() == ["Acme"]
    row = cursor()
    assert (row.failures, row.failing_since, row.last_trouble, row.last_error) == (0, None, "", "")


def test_an_error_with_nothing_announced_is_left_to_the_schedule(workos: FakeWorkOS) -> None:
    workos.misbehave("html", times=None)

    drain_and_wait()

    assert (workos.count_requests(), cursor().failures, is_waiting()) == (1, 1, False)
    assert "not a page" in cursor().last_error


@pytest.mark.parametrize(
    ("misbehaviour", "kind"),
    [
        pytest.param({"kind": "status", "status": 401}, ReadError.KEY_REFUSED, id="401"),
        pytest.param({"kind": "status", "status": 403}, ReadError.KEY_REFUSED, id="403"),
        pytest.param({"kind": "status", "status": 429}, ReadError.RATE_LIMITED, id="429"),
        pytest.param({"kind": "status", "status": 503}, ReadError.UNAVAILABLE, id="503"),
        pytest.param({"kind": "html"}, ReadError.NOT_UNDERSTOOD, id="HTML"),
        pytest.param({"kind": "expired_cursor"}, ReadError.CURSOR_LOST, id="lost"),
        pytest.param(None, ReadError.KEY_MISSING, id="no key"),
    ],
)
def test_the_kind_of_an_error_is_noted(
    workos: FakeWorkOS,
    drained: Position,
    sync_setting: Setting,
    misbehaviour: dict[str, Any] | None,
    kind: ReadError,
) -> None:
    if misbehaviour is None:
        sync_setting(API_KEY="")
    else:
        workos.misbehave(times=None, **misbehaviour)

    drain_and_wait()

    assert cursor().last_trouble == kind


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        pytest.param(401, "CRITICAL", "WorkOS refused the API key", id="a person has to act"),
        pytest.param(503, "WARNING", "WorkOS does not answer", id="it passes by itself"),
    ],
)
def test_errors_of_one_kind_are_logged_once_however_their_texts_differ(
    workos: FakeWorkOS, caplog: LogCapture, status: int, level: str, said: str
) -> None:
    an_announcement("event_1")
    for number in range(5):
        # As the id of the request that real answers quote.
        body = {"message": f"req_{number} was not served, try again in {number} s"}
        workos.misbehave("status", status=status, body=body)

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: workos.count_requests(path="/events") > 6, "it has tried again")
        WorkOSEvent.objects.all().delete()
        waiting.result()

    ((logged_at, line),) = problems(caplog)
    assert logged_at == level
    assert said in line


def test_an_error_that_comes_back_is_logged_again(workos: FakeWorkOS, caplog: LogCapture) -> None:
    for _ in range(2):
        workos.misbehave("status", status=401, times=2)
        for _ in range(3):
            drain_and_wait()

    assert [level for level, _ in problems(caplog)] == ["CRITICAL"] * 2


@pytest.mark.parametrize(
    ("error", "failures", "pause"),
    [
        *(
            pytest.param(Unavailable("down"), failures, pause, id=f"down, after {failures}")
            for failures, pause in ((0, 2), (1, 4), (2, 8), (9, 60), (5_000, 60))
        ),
        pytest.param(RateLimited("slowly", retry_after=7.0), 0, 7, id="WorkOS asks for longer"),
        pytest.param(RateLimited("slowly", retry_after=7.0), 9, 60, id="WorkOS asks for less"),
        *(
            # As soon as it is released, a person waits for nothing else.
            pytest.param("lock", failures, 1, id=f"a lock of another program, after {failures}")
            for failures in (0, 9, 5_000)
        ),
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


def test_a_429_is_waited_out(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    slept: list[float] = []
    errors = iter([RateLimited("slowly", retry_after=7.0)])
    unseen = iter([True, False, False])

    def drain(*_: object) -> None:
        for error in errors:
            raise error

    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(stream, "_drain", drain)
    monkeypatch.setattr(stream, "_has_unseen", lambda: next(unseen))

    drain_and_wait()

    assert slept == [pytest.approx(7.0)]


def test_a_long_pause_is_slept_until_the_deadline(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    event = an_announcement("event_1")
    workos.misbehave("rate_limited", retry_after=600)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        event.delete()

    monkeypatch.setattr(time, "sleep", sleep)

    drain_and_wait()

    assert slept[0] <= sync_settings().drain_deadline
    assert workos.count_requests() == 1


def test_a_lock_is_tried_again_until_it_is_released(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-1", name="Before")
    workos.create_organization(name="After", external_id="gram-1")
    an_announcement(workos.all_events()[0]["id"])

    with locked() as program, in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: SyncCursor.objects.filter(failures__gte=5).exists(), "it is noted")
        noted = cursor().last_trouble
        program.rollback()
        waiting.result()

    assert noted == ReadError.LOCK_NOT_HAD
    assert names() == ["After"]
    assert not WorkOSEvent.objects.parked().exists()


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("SELECT FROM workos_sync_cursor FOR UPDATE", id="row"),
        pytest.param("LOCK TABLE workos_sync_cursor IN ACCESS EXCLUSIVE MODE", id="table"),
    ],
)
def test_a_locked_cursor_is_not_waited_for_without_end(
    lock: str, workos: FakeWorkOS, sync_setting: Setting, caplog: LogCapture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    prepare_to_read()

    with another_program() as program:
        program.execute(lock)
        with pytest.raises(OperationalError, match="lock"):
            drain_to_end()
        report = drain_and_wait()

    assert read(report) == 0
    assert "a lock is not available" in caplog.text


def test_a_locked_cursor_hides_no_error_and_ends_no_drain(
    workos: FakeWorkOS, sync_setting: Setting, caplog: LogCapture
) -> None:
    sync_setting(DRAIN_DEADLINE=3.0, LOCK_TIMEOUT=0.05)
    an_announcement("event_held_back")

    with another_program() as program, in_thread() as start:
        draining = start(drain_and_wait)
        wait_until(is_waiting, "the drain has its lease")
        program.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        draining.result()

    assert "the stream could not be drained: " in caplog.text
    assert "it runs out by itself" in caplog.text
    assert enqueued() == [SYNC_EVENTS]


def test_another_error_of_the_database_is_raised_and_noted(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme")

    with a_renamed_column(), pytest.raises(ProgrammingError):
        drain_and_wait()

    assert not is_waiting()
    assert (cursor().failures, cursor().last_trouble) == (1, ReadError.DATABASE)
    assert "column" in cursor().last_error


def test_a_race_that_lasts_is_tried_again_by_the_worker(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])
    # As often as a page and then its event are tried.
    body = "IF nextval('attempts') <= 10 THEN RAISE SQLSTATE '40001'; END IF;"

    with a_trigger(body):
        drain_and_wait()

    assert names() == ["Acme"]


# What is logged and enqueued ----------------------------------------------------------------


@pytest.mark.parametrize("stopped_by", ["a lock", "WorkOS"])
def test_what_was_applied_before_an_error_is_logged_and_written_back(
    workos: FakeWorkOS,
    sync_setting: Setting,
    caplog: LogCapture,
    stopped_by: str,
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    workos.emit({"event": "organization.created", "data": {"id": "org_bad"}})
    workos.create_organization(name="Free")
    held = workos.create_organization(name="Locked")
    an_organization_row("gram-locked", workos_id=held["id"], name="Old")
    if stopped_by == "WorkOS":
        sync_setting(PAGE_SIZE=1)
        workos.misbehave("slow", seconds=0, times=2)
        workos.misbehave("status", status=500)

    with locked():
        report = drain_and_wait()

    assert names() == ["Free", "Old"]
    assert [change.workos_id for change in report.parked] == ["org_bad"]
    assert "parked event_" in caplog.text
    assert enqueued() == [PUSH_EXTERNAL_IDS]


@pytest.mark.parametrize("id_", ["event_1", "event_1\nERROR forged", "event_\x1b[31m"])
def test_what_is_parked_is_logged_and_its_id_cant_forge_a_line(
    workos: FakeWorkOS, caplog: LogCapture, id_: str
) -> None:
    workos.emit({"id": id_, "event": "organization.created", "data": None})

    drain_and_wait()

    ((_, line),) = problems(caplog)
    assert line.startswith("parked event_")
    assert line.endswith(": data is not an object")
    assert line.isprintable()
