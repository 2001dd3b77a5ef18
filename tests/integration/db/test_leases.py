"""Leases: what only one process at a time should do, by the database's clock."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection

from orgs.db.cursor import database_now, ensure_cursor
from orgs.db.leases import Lease, clear_enqueued, note_enqueued
from orgs.models import SyncCursor
from tests.concurrency import another_program, wait_until

pytestmark = pytest.mark.usefixtures("database", "a_cursor")


@pytest.fixture
def a_cursor(database: None) -> None:
    ensure_cursor()


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


@pytest.mark.parametrize("lease", Lease)
def test_a_lease_is_one_processes_until_it_ends(lease: Lease) -> None:
    ours = lease.acquire(60)

    assert ours is not None
    assert lease.acquire(60) is None
    lease.release(ours)
    assert lease.acquire(0) is not None
    assert lease.acquire(60) is not None, "the one before has run out"


@pytest.mark.parametrize("lease", Lease)
def test_our_own_lease_alone_is_renewed_or_released(lease: Lease) -> None:
    overslept = lease.acquire(0)
    assert overslept is not None
    theirs = lease.acquire(60)
    assert theirs is not None

    assert lease.renew(overslept, 60) is None
    lease.release(overslept)
    assert getattr(cursor(), lease.value) == theirs
    renewed = lease.renew(theirs, 600)
    assert renewed is not None
    assert renewed - theirs > timedelta(seconds=500)
    assert getattr(cursor(), lease.value) == renewed


def test_one_that_a_wrong_clock_has_left_behind_is_acquired() -> None:
    SyncCursor.objects.update(draining_until=database_now() + timedelta(hours=2))

    assert note_enqueued(-1)
    assert Lease.DRAIN.acquire(60) is not None


@pytest.mark.parametrize(
    ("lease", "seconds", "enqueues"),
    [(Lease.DRAIN, 60, False), (Lease.DRAIN, -1, True), (Lease.SNAPSHOT, 60, True)],
)
def test_a_drain_that_waits_is_not_enqueued(lease: Lease, seconds: float, enqueues: bool) -> None:
    lease.acquire(seconds)

    assert note_enqueued(60) is enqueues


def test_a_drain_is_enqueued_once_until_it_begins_or_is_late() -> None:
    enqueues = [note_enqueued(60), note_enqueued(60)]
    clear_enqueued()
    enqueues += [note_enqueued(-1), note_enqueued(60)]

    assert enqueues == [True, False, True, True]


def test_a_lease_is_renewed_until_ctrl_c_also_after_its_connection_was_lost() -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database()"
    others += " AND backend_type = 'client backend' AND pid NOT IN (pg_backend_pid(), %s)"
    ours = [connection.connection.info.backend_pid]

    def renewed() -> None:
        before = cursor().reconciling_until
        wait_until(lambda: cursor().reconciling_until != before, "it is renewed")

    with another_program() as rival:
        rival.autocommit = True
        with suppress(KeyboardInterrupt), Lease.SNAPSHOT.auto_renewed(0.2) as is_alone:
            assert is_alone
            renewed()
            rival.execute(f"SELECT pg_terminate_backend(pid) {others}".encode(), ours)
            renewed()
            raise KeyboardInterrupt
        are_left = f"SELECT 1 {others}".encode()
        wait_until(lambda: not rival.execute(are_left, ours).fetchall(), "its own is closed")
    assert cursor().reconciling_until is None
