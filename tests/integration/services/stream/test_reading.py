"""The stream is read to its end, from where it can be, and from the right environment alone."""

import json
import time
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django_q.models import OrmQ

import orgs.workos
from orgs import tasks
from orgs.db.cursor import read_cursor
from orgs.domain.resources import NAMES, event_types
from orgs.domain.status import ReadError
from orgs.domain.types import Outcome, Position
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services import reconcile as reconciling
from orgs.services import stream
from orgs.services.compare import Run
from orgs.services.coverage import prepare_to_read
from orgs.services.lookups import WrongEnvironment
from orgs.services.pages import CursorLost
from orgs.services.queue import RECONCILE_TIMEOUT, RECOVER
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.refresh import resolve
from orgs.services.stream import UnknownEvent, drain_and_wait, drain_to_end, replay
from orgs.testing import FakeWorkOS
from orgs.testing.events import EventQuery, EventStream
from orgs.testing.messages import Page
from orgs.workos import BrokenAnswer, Refused, Unavailable, WorkOSError
from tests.builders import (
    a_linked_row,
    a_mirrored_organization,
    a_parked_event,
    an_announcement,
    an_organization_row,
)
from tests.concurrency import (
    in_thread,
    open_transactions,
    stopped_at,
    wait_until,
    wait_until_blocked,
)
from tests.integration.services.stored import (
    Around,
    LogCapture,
    MonkeyPatch,
    Setting,
    cursor,
    enqueued,
    from_now,
    is_waiting,
    names,
    problems,
    read,
    set_cursor,
)
from tests.triggers import a_trigger, execute, locked

LONG_AGO = timedelta(minutes=5)


def test_a_list_is_applied_page_by_page_once(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=10)
    assert drain_to_end().drained
    assert (read_cursor().position, cursor().drained_at is None) == (Position(), False)
    workos.seed(organizations=35)
    workos.forget_requests()

    first = drain_to_end()
    drained_at, reads = cursor().drained_at, workos.count_requests(path="/events")
    second = drain_to_end()

    assert (first.counts, first.drained, reads) == ({Outcome.CREATED: 35}, True, 4)
    assert Organization.objects.count() == 35
    assert cursor().last_event_id == workos.all_events()[-1]["id"]
    assert (read(second), second.drained) == (0, True)
    assert workos.count_requests(path="/events") == 5
    assert SyncCursor.objects.filter(drained_at__gt=drained_at).exists()


def test_the_next_page_is_read_meanwhile(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=2)

    with stopped_at("LOCK TABLE organization_metadata IN EXCLUSIVE MODE", drain_to_end) as draining:
        wait_until(lambda: workos.count_requests() == 2, "the second page is read")

    assert draining.result().counts == {Outcome.CREATED: 2}


def test_behind_a_dropped_page_it_reads_on(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    prepare_to_read()
    workos.seed(organizations=5)

    with locked("workos_sync_cursor") as program, in_thread() as start:
        draining = start(drain_to_end)
        wait_until_blocked()
        last = workos.all_events()[-1]["id"]
        workos.create_organization(name="Ours")
        move = "UPDATE workos_sync_cursor SET last_event_at = now(), last_event_id = %s"
        program.execute(move, [last])
        program.commit()
        report = draining.result()

    assert (report.counts, names()) == ({Outcome.CREATED: 1}, ["Ours"])
    assert workos.count_requests() == 3, "the first, the one read ahead, and from the new position"


def test_no_transaction_is_open_meanwhile(
    workos: FakeWorkOS, before: Around, monkeypatch: MonkeyPatch
) -> None:
    found: Counter[str] = Counter()
    calls = ("read_events", "read_organizations", "lookup", "find_by_external_id")
    for name in (*calls, "offer_external_id"):
        note = lambda *_, name=name: found.update({name: open_transactions()})  # noqa: E731
        before(orgs.workos, name, note)
    monkeypatch.setattr(reconciling, "read_organizations", orgs.workos.read_organizations)
    a_mirrored_organization(workos)
    acme = a_linked_row(workos)
    Organization.objects.filter(id="gram-1").update(workos_id="org_deleted")
    an_organization_row("gram-2", workos_id="org_deleted_too")
    an_announcement("event_held_back")
    an_announcement("event_lost", ago=LONG_AGO, workos_id=acme)
    an_announcement("event_lost_too", ago=LONG_AGO, workos_id="org_deleted")

    def sleep(_: float) -> None:
        found.update(sleep=open_transactions())
        WorkOSEvent.objects.all().delete()

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        drain_and_wait()
    workos.create_organization(name="Bolt")
    reconcile(Run(dry=True))
    reconcile(Run())
    reconcile_organizations(Run(), ["gram-2"])
    a_parked_event(acme)
    resolve("event_1")

    assert found == dict.fromkeys([*calls, "offer_external_id", "sleep"], 0)


@pytest.fixture
def late_filter(sync_setting: Setting, monkeypatch: MonkeyPatch) -> None:
    """WorkOS does not say whether it leaves other types out before it cuts a page or after."""
    page = EventStream.page
    sync_setting(PAGE_SIZE=2, RESOURCES="organization")

    def cut_first(stream: EventStream, query: EventQuery, now: int) -> Page:
        every = replace(query, types=frozenset(event_types(NAMES)))
        found = page(stream, every, now)
        wanted = [b for b in found.bodies if json.loads(b)["event"] in query.types]
        return replace(found, bodies=wanted)

    monkeypatch.setattr(EventStream, "page", cut_first)


@pytest.mark.usefixtures("late_filter")
def test_a_restart_that_begins_with_a_page_of_other_types_is_noticed(workos: FakeWorkOS) -> None:
    workos.set_lost_cursor("restart")
    at = from_now(hours=-3)
    workos.create_organization(name="Lost", at=at)
    first, *_ = [workos.users.create(email=f"{n}@acme.com", at=at)["id"] for n in range(6)]
    workos.create_organization(name="Kept", at=at)
    (kept_from,) = (it["id"] for it in workos.all_events() if it["data"].get("id") == first)
    workos.expire_events(before=kept_from)
    set_cursor(last_event_id="event_01M8J8CTANZZZZZZZZZZZZZZZZ", last_event_at=from_now(minutes=-5))

    with pytest.raises(CursorLost, match="from its first event"):
        drain_to_end()

    assert names() == []


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.usefixtures("late_filter")
def test_a_page_of_other_types_alone_is_not_the_end(workos: FakeWorkOS, by_time: bool) -> None:
    if by_time:
        set_cursor(last_event_at=from_now(hours=-1))
    for number in range(20):
        if number % 6 == 5:
            workos.create_organization(name=f"Acme {number}")
        workos.users.create(email=f"{number}@acme.com")
    lost = workos.create_organization(name="Missed", emits=False)["id"]
    an_announcement("event_lost", ago=LONG_AGO, workos_id=lost)

    dry, real = reconcile(Run(dry=True)), drain_to_end()

    assert (dry.events.waiting, real.counts, real.drained) == (3, {Outcome.CREATED: 3}, True)
    assert (real.unresolved, names()[-1]) == (None, "Missed")
    assert not drain_to_end().counts
    workos.create_organization(name="Later")
    assert drain_to_end().counts == {Outcome.CREATED: 1}


@pytest.mark.parametrize("error", ["lists the same page again", "the cursor stays"])
def test_empty_pages_without_end_are_an_error(workos: FakeWorkOS, error: str) -> None:
    prepare_to_read()
    body = {"data": [], "list_metadata": {"after": "event_1"}}
    workos.misbehave("body", times=None, body=body)
    is_ours = error == "the cursor stays"
    refused = a_trigger(f"RAISE EXCEPTION '{error}';", table="workos_sync_cursor")

    with (
        refused if is_ours else nullcontext(),
        pytest.raises(DatabaseError if is_ours else BrokenAnswer, match=error),
    ):
        drain_to_end()

    assert cursor().drained_at is None


# A lost cursor ------------------------------------------------------------------------------


@pytest.mark.parametrize("begins_with", ["a dated event", "an undated one"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *(({"status": status}, "refuses to read on") for status in (400, 404, 410, 422)),
        pytest.param({"restart": True}, "from its first event", id="silent restart"),
    ],
)
def test_a_position_that_workos_does_not_know_is_a_lost_cursor(
    workos: FakeWorkOS, answer: dict[str, Any], reason: str, begins_with: str
) -> None:
    if begins_with == "an undated one":
        undated = {"id": "undated", "event": "organization.deleted", "data": {"id": "org_x"}}
        workos.emit(undated, absent=["created_at"])
    workos.create_organization(name="First", at=from_now(minutes=-10))
    workos.create_organization(name="Second")
    drain_to_end()
    position = read_cursor().position
    workos.create_organization(name="Missed")
    workos.misbehave("expired_cursor", times=None, **answer)

    with pytest.raises(CursorLost, match=reason):
        drain_to_end()

    assert read_cursor().position == position
    assert names() == ["First", "Second"]


def test_a_restart_within_a_minute_is_harmless(workos: FakeWorkOS) -> None:
    workos.create_organization(name="First", at=from_now(seconds=-20))
    workos.create_organization(name="Second")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=1)

    assert drain_to_end().counts == {Outcome.STALE: 2}


@pytest.mark.usefixtures("drained")
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
    workos: FakeWorkOS, statuses: list[int], error: type[Exception]
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


@pytest.mark.parametrize(
    "created_at",
    [
        pytest.param("1970-01-01T00:00:00Z", id="an old time"),
        pytest.param("0001-01-01T00:00:00Z", id="the first moment there is"),
        pytest.param(from_now(days=400).isoformat(), id="a time in the future"),
    ],
)
def test_an_event_with_an_odd_time_is_no_lost_cursor_and_stops_nothing(
    workos: FakeWorkOS, drained: Position, created_at: str
) -> None:
    odd = {"id": "org_odd", "name": "Odd", "updated_at": "2026-01-01T00:00:00Z"}
    workos.emit({"event": "organization.created", "created_at": created_at, "data": odd})

    for _ in range(3):
        drain_and_wait()
    workos.create_organization(name="Later")
    drain_and_wait()

    assert names() == ["First", "Later", "Odd", "Second"]
    assert RECOVER not in enqueued()


def test_not_drained_for_too_long_is_a_lost_cursor(workos: FakeWorkOS, drained: Position) -> None:
    set_cursor(drained_at=from_now(days=-30, minutes=-1))

    with pytest.raises(CursorLost, match="keeps events for 30 days"):
        drain_to_end()

    assert workos.count_requests() == 0


NO_EVENT = {"last_event_id": None, "last_event_at": None}


@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"drained_at": from_now(days=-29)}, id="a quiet month"),
        pytest.param({**NO_EVENT, "drained_at": from_now(days=-40)}, id="no position to lose yet"),
        pytest.param({"drained_at": from_now(days=31)}, id="drained in the future"),
        pytest.param({**NO_EVENT, "last_event_at": from_now(minutes=50)}, id="a little ahead"),
    ],
)
def test_no_lost_cursor(columns: dict[str, Any]) -> None:
    SyncCursor.objects.update(**columns)

    assert drain_to_end().drained
    assert SyncCursor.objects.filter(drained_at__lt=from_now(minutes=1)).exists()


def test_a_loss_does_not_count_if_another_process_has_moved_the_position(
    workos: FakeWorkOS, drained: Position, monkeypatch: MonkeyPatch
) -> None:
    SyncCursor.objects.update(last_event_id="event_forgotten")
    workos.misbehave("expired_cursor", times=1)
    # The read is refused, and by the time that is known the position is a good one again.
    is_moved = lambda _: SyncCursor.objects.update(last_event_id=drained.last_event_id)  # noqa: E731
    monkeypatch.setattr(stream, "raise_if_expired", is_moved)

    assert drain_to_end().drained


@pytest.mark.usefixtures("drained")
def test_a_lost_cursor_is_noted_and_recovered(workos: FakeWorkOS, caplog: LogCapture) -> None:
    workos.misbehave("expired_cursor", times=None)
    an_announcement("event_9")
    caplog.clear()

    drain_and_wait()

    # Once: it makes room for the reconcile, and does not wait for what was announced.
    assert (cursor().failures, cursor().last_trouble) == (1, ReadError.CURSOR_LOST)
    assert "the cursor is lost: " in cursor().last_error
    assert not is_waiting()
    assert [level for level, _ in problems(caplog)] == ["CRITICAL"]
    (queued,) = OrmQ.objects.all()
    assert (queued.func(), queued.task["timeout"]) == (RECOVER, RECONCILE_TIMEOUT)


@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize(
    "at",
    [from_now(days=31).isoformat(), "infinity", "9999-12-31 12:00+00"],
    ids=["a month", "for ever", "the last day"],
)
def test_a_position_in_the_future_is_recovered_once(workos: FakeWorkOS, at: str) -> None:
    """As a snapshot leaves it behind that ran on a machine whose clock was ahead; Python can't hold
    each."""
    execute("UPDATE workos_sync_cursor SET last_event_id = NULL, last_event_at = %s", at)
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


@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize("on_lost_cursor", ["refuse", "restart"])
@pytest.mark.parametrize("position", ["no position", "a time", "an event"])
@pytest.mark.parametrize("is_empty", [False, True])
def test_the_stream_of_another_environment_is_not_read(
    workos: FakeWorkOS, sync_setting: Setting, on_lost_cursor: Any, position: str, is_empty: bool
) -> None:
    """It may also list from its first event, which is younger than the position. A read of the
    right one ends what a full run has noted, and does not make up for the snapshot."""
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
        drain_and_wait()
        assert cursor().snapshot_error_kind == ReadError.WRONG_ENVIRONMENT

    is_lost = position == "an event" and on_lost_cursor == "refuse"
    assert noted == (ReadError.CURSOR_LOST if is_lost else ReadError.WRONG_ENVIRONMENT)
    assert names() == before
    assert (read_cursor().position, cursor().drained_at) == (since, drained_at)
    assert not Organization.objects.disabled().exists()
    sync_setting(BASE_URL=workos.base_url)
    drain_and_wait()
    assert (cursor().failures, cursor().snapshot_error_kind) == (0, "")
    assert cursor().snapshot_trouble


def test_a_process_that_was_verified_reads_on_although_a_full_run_found_no_linked_one(
    workos: FakeWorkOS,
) -> None:
    """Only its event could have said that the only linked organization was deleted."""
    acme = str(workos.create_organization(name="Acme")["id"])
    drain_to_end()
    workos.update_organization(acme, name="Acme Ltd")
    drain_to_end()
    workos.delete_organization(acme, emits=False)
    assert tasks.reconcile() == "not complete"
    workos.create_organization(name="Bolt")

    drain_and_wait()

    assert "Bolt" in names()
    assert cursor().snapshot_error_kind == ReadError.WRONG_ENVIRONMENT


@pytest.mark.parametrize("others", [0, 3], ids=["on the first page", "on a later page"])
def test_a_deletion_of_a_linked_organization_proves_the_environment(
    workos: FakeWorkOS, sync_setting: Setting, others: int
) -> None:
    """None is listed any more, and so no list could tell."""
    sync_setting(PAGE_SIZE=2)
    acme = workos.create_organization(name="Acme")["id"]
    drain_to_end()
    orgs.workos.close()
    for number in range(others):
        workos.create_organization(name=f"Other {number}")
    workos.delete_organization(acme)

    drain_to_end()

    assert Organization.objects.get(workos_id=acme).disabled_at


# Replay -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "found"),
    [
        pytest.param(None, 0, id="the last event"),
        pytest.param(timedelta(days=400), 2, id="before all"),
        pytest.param(timedelta(minutes=5), 1, id="a time in between"),
    ],
)
def test_a_replay_starts_anywhere(drained: Position, since: timedelta | None, found: int) -> None:
    start = Position(drained.last_event_id)
    if since is not None:
        start = Position(None, datetime.now(UTC) - since)

    before = cursor().drained_at
    report = replay(start)

    assert (read(report), report.drained) == (found, True)
    assert (read_cursor().position, cursor().drained_at) == (drained, before)


@pytest.mark.parametrize("on_lost_cursor", ["refuse", "restart"])
def test_a_replay_after_an_unknown_event_fails(workos: FakeWorkOS, on_lost_cursor: Any) -> None:
    workos.create_organization(name="Acme")
    workos.set_lost_cursor(on_lost_cursor)

    with pytest.raises(UnknownEvent):
        replay(Position("event_unknown"))

    assert names() == []


def test_a_replay_checks_its_position_once(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=4)

    replay(Position(workos.all_events()[0]["id"]))

    reads = workos.requests(path="/events")
    assert sum("after" not in request["query"] for request in reads) == 1


@pytest.mark.usefixtures("drained")
@pytest.mark.parametrize("fault", [None, "expired_cursor"])
def test_little_of_another_environments_stream_is_read_to_find_that_out(
    sync_setting: Setting, fault: Any
) -> None:
    set_cursor(last_event_id=None, last_event_at=None)
    sync_setting(PAGE_SIZE=1)
    with FakeWorkOS() as elsewhere:
        for number in range(20):
            elsewhere.create_organization(name=f"Another's {number}")
        if fault:
            elsewhere.misbehave(fault, times=None)
        sync_setting(BASE_URL=elsewhere.base_url)
        with pytest.raises(WrongEnvironment):
            drain_to_end()
        asked = elsewhere.count_requests(path="/events")

    # The first page, ten more, and what each of the two reads ahead.
    assert asked <= 13
