"""The shared request budget: one row, for all threads and processes, by the database's clock."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now

from orgs.db import budget
from orgs.db.budget import SharedBudget
from orgs.db.cursor import database_now
from orgs.domain.budget import Grant, Share
from orgs.models import RequestBudget
from tests.builders import blocked_by
from tests.concurrency import in_thread
from tests.triggers import locked

STREAM, BULK = Share.STREAM, Share.BULK


@pytest.fixture(autouse=True)
def _rate(database: None, sync_setting: Callable[..., None]) -> None:
    sync_setting(REQUESTS_PER_MINUTE=4_800)


def reserve(share: Share = BULK, wanted: int = 1_000) -> Grant:
    return SharedBudget().reserve(share, wanted)


def a_bucket(*, stream: float = 0, bulk: float = 0, age: float = -3_600) -> None:
    """One that was filled so many seconds ago; by default its clock was set back: it stays so."""
    RequestBudget.objects.create(
        stream_tokens=stream, bulk_tokens=bulk, refilled_at=Now() - timedelta(seconds=age)
    )


def test_it_begins_full_and_gives_out_no_more_than_it_has() -> None:
    first, second = reserve(wanted=250), reserve()

    assert first == Grant(250)
    assert 50 <= second.tokens <= 300, "five seconds of three quarters of 80 a second"


@pytest.mark.parametrize(
    ("share", "stream", "bulk", "granted"),
    [
        pytest.param(BULK, 9, 7, 7, id="the rest: never the stream's"),
        pytest.param(BULK, 9, 0.9, 0, id="no half tokens"),
        pytest.param(STREAM, 9, 7, 9, id="the stream: its own first"),
        pytest.param(STREAM, 0.9, 7, 7, id="and then the rest"),
        pytest.param(STREAM, 0, 0, 0, id="nothing"),
    ],
)
def test_a_part_is_the_streams_own(share: Share, stream: float, bulk: float, granted: int) -> None:
    a_bucket(stream=stream, bulk=bulk)

    grant = reserve(share)

    assert grant == (Grant(granted) if granted else Grant(0, 0.25))
    left = RequestBudget.objects.get()
    assert left.stream_tokens + left.bulk_tokens == pytest.approx(stream + bulk - granted)


@pytest.mark.parametrize(
    ("share", "age", "granted"),
    [
        pytest.param(BULK, 2, 120, id="three quarters of 80 a second"),
        pytest.param(STREAM, 2, 40, id="a quarter"),
        pytest.param(BULK, 86_400, 300, id="and of five seconds at most"),
        pytest.param(STREAM, 86_400, 100, id="of a quarter too"),
        pytest.param(BULK, -86_400, 0, id="a clock that was set back fills nothing"),
    ],
)
def test_it_is_filled_as_time_passes(share: Share, age: float, granted: int) -> None:
    began_at = database_now()
    a_bucket(age=age)

    first, later = reserve(share), RequestBudget.objects.get().refilled_at

    # What passes during the test, on a busy machine, is granted too.
    passed = (database_now() - began_at).total_seconds()
    assert granted <= first.tokens <= granted + 80 * passed
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s BETWEEN now() - interval '1 minute' AND now()", [later])
        assert cursor.fetchone() == (True,), "a clock that was set back stops nothing for good"


def test_two_at_once_do_not_get_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_BOUNDS", "SELECT 1;")
    a_bucket(bulk=7)

    taken = "UPDATE workos_request_budget SET bulk_tokens = bulk_tokens - 5"
    assert blocked_by(taken, reserve) == Grant(2)


def test_a_pause_is_everyones_and_a_shorter_one_does_not_end_it() -> None:
    SharedBudget().pause(600)
    SharedBudget().pause(1)

    for share in Share:
        grant = reserve(share)
        assert (grant.tokens, grant.is_paused) == (0, True)
        assert 500 < grant.wait <= 600


@pytest.mark.parametrize(
    ("seconds", "is_paused"),
    [
        pytest.param(-1, False, id="it is over"),
        pytest.param(890, True, id="it lasts"),
        pytest.param(86_400, False, id="noted before the clock was set back"),
    ],
)
def test_a_pause_ends_and_a_new_one_begins(seconds: float, is_paused: object) -> None:
    until = Now() + timedelta(seconds=seconds)
    RequestBudget.objects.create(bulk_tokens=1, paused_until=until, refused_webhooks=3)

    assert reserve().is_paused is is_paused
    SharedBudget().pause(600)
    assert reserve().is_paused
    assert RequestBudget.objects.get().refused_webhooks == 3, "what others keep in the row stays"


def test_nothing_is_reserved_in_somebody_elses_transaction() -> None:
    a_bucket(bulk=7)

    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        reserve()

    assert reserve() == Grant(7)


def test_a_row_that_is_locked_is_not_waited_for() -> None:
    a_bucket(bulk=7)

    with locked("workos_request_budget"), pytest.raises(OperationalError, match="lock timeout"):
        reserve()


def test_a_thread_that_only_calls_workos_leaves_no_connection_behind() -> None:
    def reserve_and_look() -> object:
        reserve()
        return connection.connection

    connection.ensure_connection()
    with in_thread() as start:
        left_behind = start(reserve_and_look).result()
    reserve()

    assert left_behind is None
    assert connection.connection is not None, "what was open stays open"


def test_a_thread_that_keeps_its_connection_has_one_until_it_releases_it() -> None:
    def ask_often() -> list[object]:
        SharedBudget().keep()
        reserve()
        first = connection.connection
        reserve()
        found: list[object] = [first is not None, connection.connection is first]
        connection.connection.close()
        with pytest.raises(OperationalError):
            reserve()
        reserve()
        found.append(connection.connection is not first)
        SharedBudget().release()
        return [*found, connection.connection]

    with in_thread() as start:
        assert start(ask_often).result() == [True, True, True, None]
