"""The cursor's row: what is noted there, and what becomes of a lost position."""

import time
from datetime import timedelta

import pytest

from orgs.db.cursor import (
    database_now,
    ensure_cursor,
    follow,
    note_drained,
    note_failure,
    note_incomplete,
    note_listed,
    note_progress,
    note_reconciled,
    read_cursor,
    replace_lost,
)
from orgs.domain.report import Change
from orgs.domain.status import ReadError
from orgs.domain.types import Outcome, Position
from orgs.models import SyncCursor
from tests.builders import NOON, blocked_by, minutes

pytestmark = pytest.mark.usefixtures("database")

LOST = Position("event_1", NOON)
ELSEWHERE = [Position("event_0", NOON), Position("event_1", NOON - minutes(1)), Position()]


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


@pytest.fixture
def failing(database: None) -> None:
    """The cursor, after reads have failed for a while."""
    ensure_cursor()
    trouble = {"last_trouble": ReadError.CURSOR_LOST, "last_error": "it is lost"}
    position = {"last_event_id": "event_1", "last_event_at": NOON}
    SyncCursor.objects.update(failures=3, failing_since=NOON, **position, **trouble)


def failure() -> tuple[object, ...]:
    row = cursor()
    return row.failures, row.failing_since, row.last_trouble, row.last_error


NONE = (0, None, "", "")


def test_a_cursor_that_two_create_at_once_is_created_once() -> None:
    blocked_by("INSERT INTO workos_sync_cursor (stream) VALUES ('organizations')", ensure_cursor)

    assert SyncCursor.objects.count() == 1


def test_failures_add_up_and_each_kind_is_new_once() -> None:
    ensure_cursor()
    kinds = [("unavailable", "down"), ("unavailable", "slow"), ("refused", "no")]

    noted = [(note_failure(*kind), cursor().failing_since) for kind in kinds]

    assert [found for found, _ in noted] == [(1, True), (2, False), (3, True)]
    assert len({since for _, since in noted}) == 1
    assert failure()[2:] == ("refused", "no")


def test_failures_at_once_are_both_counted() -> None:
    ensure_cursor()
    noted = "UPDATE workos_sync_cursor SET failures = 1, last_trouble = 'unavailable'"

    failure = blocked_by(noted, lambda: note_failure(ReadError.UNAVAILABLE, "down"))

    assert failure == (2, False)


@pytest.mark.usefixtures("failing")
def test_an_empty_read_ends_the_failures_and_notes_when_it_began() -> None:
    note_drained(LOST, read_began=time.monotonic() - 60)

    state = read_cursor()
    assert failure() == NONE
    assert state.since_drained is not None
    assert timedelta(seconds=60) <= state.since_drained < timedelta(seconds=120)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_an_empty_read_or_a_replacement_from_elsewhere_notes_nothing(elsewhere: Position) -> None:
    note_drained(elsewhere, read_began=time.monotonic())
    replaced = replace_lost(elsewhere, began_at=NOON, workos_date=None, overlap=0)

    assert (replaced, read_cursor().position) == (None, LOST)
    assert cursor().drained_at is None
    assert cursor().failures == 3


def test_a_drain_that_lies_in_the_future_is_reset() -> None:
    """A clock that was wrong has left it behind."""
    ensure_cursor()
    noted = []

    for ahead in (minutes(0.5), timedelta(days=31)):
        SyncCursor.objects.update(drained_at=database_now() + ahead)
        since_drained = read_cursor().since_drained
        ensure_cursor()
        noted.append((since_drained, cursor().drained_at is None))

    assert noted == [(None, False), (None, True)]


@pytest.mark.usefixtures("failing")
def test_a_lost_position_is_replaced_by_a_time_and_the_failures_are_over() -> None:
    replaced = replace_lost(LOST, began_at=NOON, workos_date=None, overlap=360)

    row = cursor()
    assert replaced == row.last_event_at == NOON - minutes(6)
    assert (row.last_event_id, row.drained_at) == (None, NOON)
    assert failure() == NONE


@pytest.mark.parametrize("stored", [{}, "by hand", 7, [1]])
def test_what_was_listed_and_where_lists_go_on_is_noted(stored: object) -> None:
    ensure_cursor()
    SyncCursor.objects.update(listed_at=stored, progress=stored)
    state = read_cursor()

    assert follow(state, ["connection.activated"], ["connection"], {})
    assert not follow(state, [], [], {}), "it has changed since"
    note_progress("directory", "org_1")
    note_listed("connection")
    state = read_cursor()
    assert (state.types, state.covered) == (("connection.activated",), frozenset({"connection"}))
    assert state.progress == {"directory": "org_1"}
    assert state.listed_at("connection") is not None
    note_progress("directory", None)
    assert read_cursor().progress == {}


@pytest.mark.parametrize("at", ["", "now", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_was_not_listed(at: str) -> None:
    ensure_cursor()
    SyncCursor.objects.update(listed_at={"connection": at})

    assert read_cursor().listed_at("connection") is None


def test_what_a_reconcile_found_is_noted() -> None:
    ensure_cursor()

    note_incomplete("it is down", kind="unavailable", failed=2)
    incomplete = cursor()
    note_reconciled(NOON, [Change(f"gram-{n}", f"org_{n}", Outcome.UPDATED) for n in range(201)])
    completed = cursor()

    assert (incomplete.reconciled_at, incomplete.last_failed) == (None, 2)
    assert incomplete.snapshot_trouble.endswith(" UTC: it is down")
    assert (incomplete.snapshot_error_kind, completed.snapshot_error_kind) == ("unavailable", "")
    assert (completed.reconciled_at, completed.last_drift, completed.last_failed) == (NOON, 201, 0)
    assert completed.last_changes[0] == ["gram-0", "updated gram-0 (org_0): "]
    assert len(completed.last_changes) == 200
    assert completed.snapshot_trouble == ""
