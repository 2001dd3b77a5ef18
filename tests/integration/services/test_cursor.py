"""The cursor's row: what is noted there, what becomes of a lost position, and the leases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from orgs.db.cursor import (
    Failure,
    Lease,
    ensure_cursor,
    is_drain_waiting,
    note_drained,
    note_failure,
    replace_lost,
    standing,
)
from orgs.domain.status import ReadError
from orgs.domain.types import Position
from orgs.models import SyncCursor
from tests.builders import NOON, a_page, minutes
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")

BEHIND = Position(None, NOON - minutes(6))


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


@pytest.fixture
def lost() -> Position:
    """Where the cursor stands, after it has failed for a while."""
    ensure_cursor()
    SyncCursor.objects.update(
        last_event_id="event_1", last_event_at=NOON, failures=3, last_error="it is lost"
    )
    SyncCursor.objects.update(last_trouble=ReadError.CURSOR_LOST)
    return standing().position


def failure_of(row: SyncCursor) -> tuple[int, str, str]:
    return row.failures, row.last_trouble, row.last_error


# What is noted ------------------------------------------------------------------------------


def test_failures_add_up_and_the_same_one_is_news_once() -> None:
    ensure_cursor()

    failures = [note_failure(ReadError.UNAVAILABLE, error) for error in ("down", "down", "slow")]

    assert failures == [Failure(1, True), Failure(2, False), Failure(3, True)]
    assert (cursor().failures, cursor().last_error) == (3, "slow")
    assert cursor().last_trouble == ReadError.UNAVAILABLE


def test_failures_at_once_are_counted_both() -> None:
    ensure_cursor()

    with another_program() as rival, in_thread() as start:
        rival.execute("UPDATE workos_sync_cursor SET failures = 1, last_error = 'down'")
        noting = start(lambda: note_failure(ReadError.UNAVAILABLE, "down"))
        wait_until_blocked()
        rival.commit()

        assert noting.result() == Failure(2, False)
    assert cursor().failures == 2


def test_an_empty_read_ends_the_failures(lost: Position) -> None:
    note_drained(a_page(read_from=lost))

    assert failure_of(cursor()) == (0, "", "")
    assert cursor().drained_at == NOON


# A lost position ----------------------------------------------------------------------------


def test_a_lost_position_is_replaced_with_all_that_was_known_of_it(lost: Position) -> None:
    assert replace_lost(lost, BEHIND, drained_at=NOON)

    row = cursor()
    assert (row.last_event_id, row.last_event_at, row.drained_at) == (
        None,
        BEHIND.last_event_at,
        NOON,
    )
    assert failure_of(row) == (0, "", "")


@pytest.mark.parametrize(
    "elsewhere", [Position("event_0", NOON), Position("event_1", NOON - minutes(1)), Position()]
)
def test_a_position_that_has_moved_on_is_left_alone(lost: Position, elsewhere: Position) -> None:
    assert not replace_lost(elsewhere, BEHIND, drained_at=NOON)

    assert standing().position == lost


# Leases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", Lease)
def test_a_lease_that_another_has_taken_meanwhile_is_not_renewed(lease: Lease) -> None:
    ensure_cursor()
    overslept = lease.take(0)
    assert overslept is not None
    theirs = lease.take(60)

    assert lease.renew(overslept, 60) is None
    assert getattr(cursor(), lease.value) == theirs


def test_a_lease_is_held_for_so_long_from_its_renewal() -> None:
    ensure_cursor()
    held = Lease.SNAPSHOT.take(60)
    assert held is not None

    renewed = Lease.SNAPSHOT.renew(held, 600)

    assert renewed is not None
    assert renewed - held > timedelta(seconds=500)
    assert cursor().reconciling_until == renewed


def test_the_leases_do_not_get_in_each_others_way() -> None:
    ensure_cursor()

    assert Lease.SNAPSHOT.take(60) is not None
    assert not is_drain_waiting()
    assert Lease.DRAIN.take(60) is not None


def test_a_drain_whose_lease_has_run_out_waits_no_more() -> None:
    ensure_cursor()
    SyncCursor.objects.update(draining_until=datetime.now(UTC) - timedelta(seconds=1))

    assert not is_drain_waiting()


def test_a_lease_that_cant_be_released_runs_out_by_itself(
    sync_setting: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    ensure_cursor()
    held = Lease.DRAIN.take(60)
    assert held is not None

    with another_program() as rival:
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        Lease.DRAIN.let_go(held)

    assert "it runs out by itself" in caplog.text
    assert cursor().draining_until == held


def test_a_lease_that_cant_be_renewed_for_a_while_is_kept(
    sync_setting: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    ensure_cursor()

    with Lease.SNAPSHOT.kept(0.4) as is_alone:
        with another_program() as rival:
            rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
            first = cursor().reconciling_until
            wait_until(lambda: "could not be renewed" in caplog.text, "a renewal has failed")
        wait_until(lambda: cursor().reconciling_until != first, "it is renewed after all")

    assert is_alone
    assert cursor().reconciling_until is None


def test_a_lease_that_is_kept_leaves_no_connection_open() -> None:
    ensure_cursor()
    with Lease.SNAPSHOT.kept(0.2):
        before = cursor().reconciling_until
        wait_until(lambda: cursor().reconciling_until != before, "it is renewed")

    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
            AND pid NOT IN (pg_backend_pid(), %s)
    """
    ours = connection.connection.info.backend_pid

    def is_alone() -> bool:
        with another_program() as onlooker:
            return onlooker.execute(query, [ours]).fetchone() == (0,)

    wait_until(is_alone, "its connection is closed")
