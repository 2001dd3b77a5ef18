"""The drain: real HTTP, real PostgreSQL, and its lease beside webhooks and other drains."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import OperationalError, ProgrammingError, connection
from django_q.models import OrmQ

from orgs.db.cursor import Lease, ensure_cursor, is_drain_waiting, standing
from orgs.domain.status import ReadError
from orgs.domain.types import (
    Outcome,
    Position,
)
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services import stream as drain
from orgs.services.queue import PUSH_EXTERNAL_IDS, RECONCILE_TIMEOUT, RECOVER, SYNC_EVENTS
from orgs.services.stream import CursorLost, UnknownEvent, drain_and_wait, drain_to_end, replay
from orgs.testing import FakeWorkOS
from orgs.workos import (
    BrokenAnswer,
    RateLimited,
    Refused,
    Unavailable,
)
from tests.builders import an_announcement, an_organization_row
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")

SyncSetting = Callable[..., None]


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def drained_at() -> datetime:
    moment = cursor().drained_at
    assert moment is not None
    return moment


def rung() -> list[str]:
    return [queued.func() for queued in OrmQ.objects.order_by("id")]


def names() -> list[str]:
    return sorted(Organization.objects.values_list("name", flat=True))


# To the end ---------------------------------------------------------------------------------


def test_everything_listed_is_applied_once_page_by_page(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=10)
    workos.seed(organizations=35)

    report = drain_to_end()

    assert (report.read, report.outcomes[Outcome.CREATED], report.drained) == (35, 35, True)
    assert Organization.objects.count() == 35
    assert workos.count_requests(path="/events") == 4
    assert cursor().last_event_id == workos.all_events()[-1]["id"]


def test_a_second_drain_reads_once_and_finds_nothing(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    first_drained_at = drained_at()
    workos.forget_requests()

    report = drain_to_end()

    assert (report.read, report.drained) == (0, True)
    assert workos.count_requests() == 1
    assert drained_at() > first_drained_at


def test_an_empty_stream_is_drained_and_its_position_stays_the_beginning(
    workos: FakeWorkOS,
) -> None:
    report = drain_to_end()

    assert report.drained
    assert standing().position == Position()
    assert cursor().drained_at is not None


def test_the_next_page_is_read_while_this_one_is_applied(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=2)

    with another_program() as rival, in_thread() as start:
        rival.execute("LOCK TABLE organization_metadata IN EXCLUSIVE MODE")
        draining = start(drain_to_end)
        wait_until_blocked()
        wait_until(lambda: workos.count_requests() == 2, "the second page is read")
        rival.rollback()
        report = draining.result()

    assert report.outcomes[Outcome.CREATED] == 2


def test_two_drains_at_once_apply_everything_once(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=5)
    workos.seed(organizations=60)

    with in_thread() as start:
        reports = [draining.result() for draining in [start(drain_to_end), start(drain_to_end)]]

    assert sum(report.outcomes[Outcome.CREATED] for report in reports) == 60
    assert sum(report.read for report in reports) == 60
    assert all(report.drained for report in reports)


def test_a_bad_event_is_reported_and_the_rest_goes_on(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Before")
    bad = workos.emit({"event": "organization.created", "data": {"id": "org_bad"}})
    workos.create_organization(name="After")

    report = drain_to_end()

    assert [entry.event.id for entry in report.parked] == [bad["id"]]  # type: ignore[index, call-overload]
    assert names() == ["After", "Before"]


def test_events_without_a_usable_id_are_parked_and_passed(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.emit({"event": "organization.created"}, raw=True)
    workos.emit(None, raw=True)
    workos.create_organization(name="After")

    report = drain_to_end()

    assert report.outcomes == {Outcome.PARKED: 2, Outcome.CREATED: 1}
    assert report.drained


def test_an_event_without_an_id_at_the_streams_end_is_reported_once(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")
    workos.emit({"event": "organization.created"}, raw=True)

    first, second = drain_to_end(), drain_to_end()
    workos.create_organization(name="After", external_id="gram-2")
    third = drain_to_end()

    assert (len(first.parked), len(second.parked), second.read) == (1, 0, 0)
    assert third.outcomes == {Outcome.CREATED: 1}


def test_trouble_on_the_way_keeps_what_was_applied(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=3)
    workos.misbehave("slow", seconds=0, times=2)
    workos.misbehave("status", status=500)

    with pytest.raises(Unavailable):
        drain_to_end()

    assert Organization.objects.count() == 2
    assert drain_to_end().outcomes == {Outcome.CREATED: 1}


def test_a_page_that_repeats_is_an_error_and_no_endless_loop(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    workos.misbehave("repeated_page", times=None)

    with pytest.raises(BrokenAnswer, match="same page again"):
        drain_to_end()

    assert names() == ["Acme"]


def test_a_listing_that_ends_early_loses_nothing(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=2)
    workos.seed(organizations=5)
    workos.misbehave("ends_early")

    first, second = drain_to_end(), drain_to_end()

    assert (first.read, second.read) == (2, 3)


# A lost cursor ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_a_refused_cursor_is_lost_if_reading_without_one_works(
    workos: FakeWorkOS, status: int
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    stands_at = standing().position
    workos.create_organization(name="Missed")
    workos.misbehave("expired_cursor", status=status, times=None)

    with pytest.raises(CursorLost, match="refuses"):
        drain_to_end()

    assert standing().position == stands_at
    assert names() == ["Acme"]


def test_a_refusal_of_every_read_is_trouble_and_no_loss(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("status", status=400, times=None)

    with pytest.raises(Refused):
        drain_to_end()


def test_a_first_read_that_is_refused_is_trouble_and_no_loss(workos: FakeWorkOS) -> None:
    workos.misbehave("status", status=422)

    with pytest.raises(Refused):
        drain_to_end()


def test_a_silent_restart_is_a_lost_cursor(workos: FakeWorkOS) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    workos.create_organization(name="Old", at=past)
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=None)

    with pytest.raises(CursorLost, match="from its first event"):
        drain_to_end()


def test_a_silent_restart_that_begins_with_an_undated_event_is_a_lost_cursor_too(
    workos: FakeWorkOS,
) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    undated = {"id": "undated", "event": "organization.deleted", "data": {"id": "org_x"}}
    workos.emit(undated, absent=["created_at"])
    workos.create_organization(name="Old", at=past)
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=None)

    with pytest.raises(CursorLost, match="from its first event"):
        drain_to_end()


def test_a_408_is_trouble_and_no_lost_cursor(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("status", status=408)

    with pytest.raises(Unavailable):
        drain_to_end()


def test_an_event_with_an_old_time_alone_is_no_lost_cursor(workos: FakeWorkOS) -> None:
    workos.create_organization(name="First")
    drain_to_end()
    workos.emit(
        {
            "id": "event_odd",
            "event": "organization.created",
            "created_at": "1970-01-01T00:00:00Z",
            "data": {"id": "org_odd", "name": "Odd", "updated_at": "2026-01-01T00:00:00Z"},
        }
    )

    drain_to_end()

    assert names() == ["First", "Odd"]


def test_an_event_of_the_first_moment_there_is_does_not_stop_the_stream(
    workos: FakeWorkOS,
) -> None:
    workos.emit({"event": "organization.archived", "created_at": "0001-01-01T00:00:00Z"})
    drain_to_end()
    workos.create_organization(name="After it")

    drain_to_end()

    assert names() == ["After it"]


def test_nothing_drained_for_longer_than_workos_keeps_events_is_a_lost_cursor(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    long_ago = datetime.now(UTC) - timedelta(days=30, minutes=1)
    SyncCursor.objects.update(drained_at=long_ago)
    workos.forget_requests()

    with pytest.raises(CursorLost, match="keeps events for 30 days"):
        drain_to_end()

    assert workos.count_requests() == 0


def test_a_quiet_month_is_no_lost_cursor(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    SyncCursor.objects.update(drained_at=datetime.now(UTC) - timedelta(days=29))

    report = drain_to_end()

    assert report.drained


def test_a_loss_does_not_count_if_someone_else_has_moved_the_position(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    here = standing()
    SyncCursor.objects.update(last_event_id="event_forgotten")
    forgotten = standing()
    workos.misbehave("expired_cursor", times=1)
    # The read is refused, and by the time that is known the position is a good one again.
    monkeypatch.setattr(
        drain,
        "_raise_if_expired",
        lambda _: SyncCursor.objects.update(last_event_id=here.position.last_event_id),
    )

    report = drain_to_end()

    assert forgotten.position != here.position
    assert report.drained


# Replay -------------------------------------------------------------------------------------


def test_a_replay_applies_what_followed_an_event_and_moves_nothing(workos: FakeWorkOS) -> None:
    workos.create_organization(name="One")
    workos.create_organization(name="Two")
    drain_to_end()
    stands_at = standing()
    Organization.objects.all().delete()

    report = replay(Position(workos.all_events()[0]["id"]))

    assert (report.outcomes, report.drained) == ({Outcome.CREATED: 1}, True)
    assert names() == ["Two"]
    assert standing() == stands_at


def test_a_replay_from_a_time_reads_from_that_time(workos: FakeWorkOS) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=3)
    workos.create_organization(name="Before", at=(hours_ago - timedelta(hours=1)).isoformat())
    workos.create_organization(name="After", at=(hours_ago + timedelta(hours=1)).isoformat())

    replay(Position(None, hours_ago))

    assert names() == ["After"]


@pytest.mark.parametrize("restart", [False, True], ids=["refused", "silently restarted"])
def test_a_replay_after_an_unknown_event_is_an_error(workos: FakeWorkOS, restart: bool) -> None:
    workos.create_organization(name="Acme")
    if restart:
        workos.set_lost_cursor("restart")

    with pytest.raises(UnknownEvent):
        replay(Position("event_unknown"))

    assert names() == []


# Announcements that never come --------------------------------------------------------------

LONG_AGO = timedelta(minutes=5)


def test_an_overdue_announcement_is_settled_by_what_workos_says_now(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_lost", ago=LONG_AGO, workos_id=acme["id"])

    report = drain_to_end()

    assert report.read == 0
    assert names() == ["Acme"]
    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.organization_id) == ("missing", Organization.objects.get().id)
    assert standing().position == Position(), "announcements never move the cursor"


def test_an_announcement_within_the_window_is_waited_for(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_held_back", workos_id=acme["id"])

    drain_to_end()

    assert names() == []
    assert WorkOSEvent.objects.get().outcome is None


def test_what_stands_behind_a_page_that_says_it_is_the_last_is_not_overdue(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=3)
    for event in workos.all_events():
        an_announcement(event["id"], ago=LONG_AGO, workos_id=event["data"]["id"])
    workos.misbehave("ends_early")

    first = drain_to_end()
    outcomes = set(WorkOSEvent.objects.values_list("outcome", flat=True))
    second = drain_to_end()

    assert (first.read, second.read) == (1, 2)
    assert outcomes == {"created", None}, "and none is missing"


def test_trouble_with_the_last_look_leaves_what_is_overdue_for_later(
    workos: FakeWorkOS,
) -> None:
    an_announcement("event_1", ago=LONG_AGO)
    workos.misbehave("slow", seconds=0)
    workos.misbehave("status", status=500)

    report = drain_to_end()

    assert isinstance(report.unsettled, Unavailable)
    assert WorkOSEvent.objects.get().outcome is None


def test_an_overdue_deletion_disables_the_row(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_gone")
    an_announcement("event_lost", ago=LONG_AGO, workos_id="org_gone")

    drain_to_end()

    assert Organization.objects.get().disabled_at is not None


def test_overdue_announcements_that_cant_be_settled_do_not_stop_the_rest(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_1", ago=LONG_AGO * 2, workos_id="org_1")
    an_announcement("event_2", ago=LONG_AGO, workos_id=acme["id"])
    workos.misbehave("status", status=500, path="/organizations/org_1")

    report = drain_to_end()

    assert isinstance(report.unsettled, Unavailable)
    assert names() == ["Acme"]
    assert WorkOSEvent.objects.get(id="event_1").outcome is None
    drain_to_end()
    assert WorkOSEvent.objects.get(id="event_1").outcome == "missing"


def test_an_overdue_announcement_of_a_locked_row_does_not_stop_the_rest(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    locked = workos.create_organization(name="Locked", external_id="gram-locked", emits=False)
    free = workos.create_organization(name="Free", emits=False)
    an_organization_row("gram-locked", name="Old", workos_id=locked["id"])
    an_announcement("event_1", ago=LONG_AGO * 2, workos_id=locked["id"])
    an_announcement("event_2", ago=LONG_AGO, workos_id=free["id"])

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        report = drain_to_end()

    assert isinstance(report.unsettled, OperationalError)
    assert names() == ["Free", "Old"]


def test_what_stands_before_a_locked_row_is_told_and_written_back(
    workos: FakeWorkOS, sync_setting: SyncSetting, caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    workos.emit({"event": "organization.created", "data": {"id": "org_bad"}})
    workos.create_organization(name="Free")
    held = workos.create_organization(name="Held")
    an_organization_row("gram-held", workos_id=held["id"], name="Old")

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata WHERE id = 'gram-held' FOR UPDATE")
        report = drain_and_wait()

    assert names() == ["Free", "Old"]
    assert [entry.event.workos_id for entry in report.parked] == ["org_bad"]
    assert "parked event_" in caplog.text
    assert rung() == [PUSH_EXTERNAL_IDS]


def test_what_cant_be_settled_is_tried_once_a_drain(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=1.0)
    an_announcement("event_overdue", ago=LONG_AGO, workos_id="org_down")
    an_announcement("event_fresh")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    report = drain_and_wait()

    assert isinstance(report.unsettled, Unavailable)
    assert workos.count_requests(path="/organizations/org_down") == 1
    assert workos.count_requests(path="/events") > 3
    assert cursor().failures == 0, "the stream was read all the time"


def test_however_many_cant_be_settled_the_rest_are(workos: FakeWorkOS) -> None:
    for number in range(120):
        an_announcement(f"event_{number}", ago=LONG_AGO * 2, workos_id=f"org_down_{number}")
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_acme", ago=LONG_AGO, workos_id=acme["id"])
    workos.misbehave("status", status=500, path="/organizations/org_down", times=None)

    drain_to_end()

    assert names() == ["Acme"]


def test_a_late_event_is_stale_or_applied_and_its_entry_says_missing(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_late", ago=LONG_AGO, workos_id=acme["id"])
    drain_to_end()
    workos.emit({"id": "event_late", "event": "organization.created", "data": acme})

    report = drain_to_end()

    assert report.outcomes == {Outcome.UPDATED: 1}
    assert WorkOSEvent.objects.get().outcome == "missing"


# Waiting ------------------------------------------------------------------------------------


def test_a_waiting_drain_waits_until_what_was_announced_can_be_read(
    workos: FakeWorkOS,
) -> None:
    workos.set_hold_back(1_000)
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: workos.count_requests() >= 3, "the drain has read in vain")
        still_waiting = is_drain_waiting()
        workos.set_hold_back(0)
        report = waiting.result()

    assert still_waiting
    assert report.outcomes == {Outcome.CREATED: 1}
    assert not is_drain_waiting()
    assert rung() == [PUSH_EXTERNAL_IDS]


def test_a_drain_with_nothing_to_wait_for_ends_at_once(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")

    drain_and_wait()

    assert workos.count_requests() == 1
    assert not is_drain_waiting()
    assert rung() == []


def test_a_drain_beside_a_waiting_one_reads_to_the_end_once(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    an_announcement("event_held_back")
    ensure_cursor()
    lease = Lease.DRAIN.take(60)

    report = drain_and_wait()

    assert report.outcomes == {Outcome.CREATED: 1}
    assert workos.count_requests() == 1
    assert cursor().draining_until == lease


def test_a_drain_hears_its_ring_before_it_reads(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_cursor()
    Lease.RING.take(60)
    at_the_read: list[datetime | None] = []

    monkeypatch.setattr(drain, "_drain", lambda *_: at_the_read.append(cursor().rung_until))

    drain_and_wait()

    assert at_the_read == [None]


def test_at_its_deadline_a_drain_gives_the_lease_up_and_rings(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=0.2)
    an_announcement("event_held_back")

    drain_and_wait()

    assert not is_drain_waiting()
    assert rung() == [SYNC_EVENTS]
    assert WorkOSEvent.objects.get().outcome is None


def test_a_backlog_longer_than_the_deadline_is_rung_for(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=0.2, PAGE_SIZE=1)
    workos.seed(organizations=20)
    workos.misbehave("slow", seconds=0.15, times=None)

    report = drain_and_wait()

    assert 0 < report.read < 20
    assert not report.drained
    assert SYNC_EVENTS in rung()


def test_a_lease_that_ran_out_can_be_taken(workos: FakeWorkOS) -> None:
    ensure_cursor()
    SyncCursor.objects.update(draining_until=datetime.now(UTC) - timedelta(seconds=1))

    assert Lease.DRAIN.take(60) is not None


def test_one_drain_at_a_time_gets_the_lease() -> None:
    ensure_cursor()
    all_are_there = Barrier(5)

    def take() -> datetime | None:
        all_are_there.wait()
        return Lease.DRAIN.take(60)

    with in_thread() as start:
        leases = [taking.result() for taking in [start(take) for _ in range(5)]]

    assert sum(lease is not None for lease in leases) == 1


def test_a_drain_that_overslept_does_not_end_its_successors_lease() -> None:
    ensure_cursor()
    old = Lease.DRAIN.take(0)
    new = Lease.DRAIN.take(60)
    assert old is not None

    Lease.DRAIN.release(old)

    assert cursor().draining_until == new


def test_what_is_announced_after_the_last_read_is_seen_by_the_last_look(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race the last look is for: a webhook that sees the lease held, and so does not ring."""
    saw_the_lease_held: list[bool] = []

    release = Lease.release

    def announced_just_before(self: Lease, held: datetime) -> None:
        if not saw_the_lease_held:
            workos.create_organization(name="Acme")
            an_announcement(workos.all_events()[0]["id"])
            saw_the_lease_held.append(is_drain_waiting())
        release(self, held)

    monkeypatch.setattr(Lease, "release", announced_just_before)

    drain_and_wait()

    assert saw_the_lease_held == [True]
    assert names() == ["Acme"]


def test_trouble_with_workos_is_noted_and_tried_again_while_something_is_announced(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])
    workos.misbehave("status", status=503, times=2)

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: SyncCursor.objects.filter(failures=1).exists(), "trouble is noted")
        noted = cursor().last_error
        waiting.result()

    assert "503" in noted
    assert names() == ["Acme"]
    row = cursor()
    assert (row.failures, row.last_trouble, row.last_error) == (0, "", "")


def test_trouble_with_nothing_announced_is_left_to_the_schedule(workos: FakeWorkOS) -> None:
    workos.misbehave("html", times=None)

    drain_and_wait()

    assert workos.count_requests() == 1
    assert cursor().failures == 1
    assert "not a page" in cursor().last_error
    assert not is_drain_waiting()


@pytest.mark.parametrize(
    ("misbehaviour", "kind"),
    [
        (("status", {"status": 401}), ReadError.KEY_REFUSED),
        (("status", {"status": 403}), ReadError.KEY_REFUSED),
        (("status", {"status": 429}), ReadError.RATE_LIMITED),
        (("status", {"status": 503}), ReadError.UNAVAILABLE),
        (("html", {}), ReadError.NOT_UNDERSTOOD),
        (("expired_cursor", {}), ReadError.CURSOR_LOST),
    ],
)
def test_the_kind_of_the_trouble_is_noted(
    workos: FakeWorkOS, misbehaviour: tuple[str, dict[str, Any]], kind: ReadError
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    name, how = misbehaviour
    workos.misbehave(name, times=None, **how)

    drain_and_wait()

    assert cursor().last_trouble == kind


def test_a_missing_key_is_noted_as_such(workos: FakeWorkOS, sync_setting: SyncSetting) -> None:
    sync_setting(API_KEY="")

    drain_and_wait()

    assert cursor().last_trouble == ReadError.KEY_MISSING


def test_a_429_is_waited_out_for_as_long_as_it_asks(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(drain, "_drain", _raising(RateLimited("slow down", 7.0), times=1))
    an_announcement("event_1")
    monkeypatch.setattr(drain, "_unseen", _answering(True, False, False))

    drain_and_wait()

    assert slept == [pytest.approx(7.0)]


def test_a_lost_cursor_is_noted_and_the_snapshot_rung_for(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("expired_cursor", times=None)
    an_announcement("event_9")

    drain_and_wait()

    # Once: it makes room for the snapshot, and does not wait for what was announced.
    assert (cursor().failures, is_drain_waiting()) == (1, False)
    assert "the cursor is lost: " in cursor().last_error
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert rung() == [RECOVER]
    assert [queued.task["timeout"] for queued in OrmQ.objects.all()] == [RECONCILE_TIMEOUT]


def test_a_lock_not_had_is_noted_and_tried_again(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-1", name="Before")
    workos.create_organization(name="After", external_id="gram-1")
    an_announcement(workos.all_events()[0]["id"])

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        waiting = start(drain_and_wait)
        wait_until(lambda: SyncCursor.objects.filter(failures__gte=1).exists(), "it is noted")
        noted = cursor().last_trouble
        rival.rollback()
        waiting.result()

    assert noted == ReadError.LOCK_NOT_HAD
    assert names() == ["After"]
    assert not WorkOSEvent.objects.parked().exists()


@pytest.mark.parametrize(
    "lock",
    [
        "SELECT FROM workos_sync_cursor FOR UPDATE",
        "LOCK TABLE workos_sync_cursor IN ACCESS EXCLUSIVE MODE",
    ],
    ids=["row", "table"],
)
def test_a_locked_cursor_is_not_waited_for_without_end(
    lock: str, workos: FakeWorkOS, sync_setting: SyncSetting, caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    ensure_cursor()

    with another_program() as rival:
        rival.execute(lock)
        with pytest.raises(OperationalError, match="lock timeout"):
            drain_to_end()
        report = drain_and_wait()

    assert report.read == 0
    assert "another program holds a lock" in caplog.text


def test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Acme")
    with connection.cursor() as sql:
        sql.execute("ALTER TABLE organization_metadata RENAME name TO gone")
    try:
        with pytest.raises(ProgrammingError):
            drain_and_wait()
    finally:
        with connection.cursor() as sql:
            sql.execute("ALTER TABLE organization_metadata RENAME gone TO name")

    assert not is_drain_waiting()
    assert cursor().failures == 1
    assert cursor().last_trouble == ReadError.DATABASE
    assert "column" in cursor().last_error


def test_a_revoked_key_is_said_once_and_loudly(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    an_announcement("event_1")
    workos.misbehave("status", status=401, times=4)

    with in_thread() as start:
        waiting = start(drain_and_wait)
        wait_until(lambda: workos.count_requests(path="/events") > 5, "it has tried again")
        WorkOSEvent.objects.all().delete()
        waiting.result()

    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert "WorkOS refused the API key" in caplog.text


def test_what_is_parked_is_logged(workos: FakeWorkOS, caplog: pytest.LogCaptureFixture) -> None:
    bad = workos.emit({"event": "organization.created", "data": None})

    drain_and_wait()

    assert [record.getMessage() for record in caplog.records] == [
        f"parked {bad['id']}: data is not an object"  # type: ignore[index, call-overload]
    ]


def test_an_id_cant_forge_a_line_of_the_log(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.emit({"id": "event_1\nERROR forged", "event": "organization.created", "data": None})

    drain_and_wait()

    assert "\n" not in caplog.records[0].getMessage()


def _raising(error: Exception, *, times: int) -> Callable[..., None]:
    left = iter([error] * times)

    def function(*_: Any, **__: Any) -> None:
        for trouble in left:
            raise trouble

    return function


def _answering(*answers: bool) -> Callable[[], bool]:
    left: Iterator[bool] = iter(answers)
    return lambda: next(left)


def test_a_drain_ends_soon_after_its_deadline_when_workos_asks_for_a_long_pause(
    workos: FakeWorkOS, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=0.3)
    an_announcement("event_1")
    workos.misbehave("rate_limited", retry_after=600)
    began = time.monotonic()

    drain_and_wait()

    # Ten minutes of pause were asked for: no measure of speed, but of not sleeping them.
    assert time.monotonic() - began < 60
    assert rung() == [SYNC_EVENTS]
    assert workos.count_requests() == 1
