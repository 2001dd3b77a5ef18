"""Safety lines that no other test would miss: each of these turns red without one of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, ProgrammingError, connection, transaction
from django_q.models import OrmQ
from orgs.services.repair import DisableLimit, Run, SnapshotReport

from orgs.db import errors as faults
from orgs.db.cursor import Lease, ensure_cursor, is_drain_waiting, note_drained, standing
from orgs.db.transactions import bounded_transaction, read_only_transaction
from orgs.domain.naming import derived_id, slug_candidates
from orgs.domain.resolution import (
    Fold,
    UnreadableEvent,
)
from orgs.domain.types import (
    EventType,
    Outcome,
    Position,
)
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services import apply as applying
from orgs.services import outbox as write_back
from orgs.services import reconcile as reconciling
from orgs.services import refresh as snapshots
from orgs.services import repair as repairing
from orgs.services import stream as drain
from orgs.services.apply import Applied, apply_page
from orgs.services.outbox import push_due
from orgs.services.queue import PUSH_EXTERNAL_IDS, SYNC_EVENTS
from orgs.services.reconcile import reconcile, reconcile_organizations
from orgs.services.refresh import honour_announcement, replay_parked
from orgs.services.stream import drain_and_wait, drain_to_end, replay
from orgs.testing import WorkOSStandIn
from orgs.workos import client as edge
from tests.builders import (
    NOON,
    a_deletion,
    a_page,
    a_row,
    an_announcement,
    an_event,
    an_event_id,
    an_organization_row,
    minutes,
)
from tests.concurrency import another_program, blocked, in_thread, wait_until, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")

SyncSetting = Callable[..., None]
LONG_AGO = timedelta(minutes=5)
TWO_DAYS_AGO = (datetime.now(UTC) - timedelta(days=2)).isoformat()


def outcomes(applied: Applied) -> list[Outcome]:
    return [entry.resolved.outcome for entry in applied.entries]


def position() -> Position:
    return standing().position


def free_rows(table: str, key: str) -> list[str]:
    """The keys of rows that nobody has locked."""
    query = f"SELECT {key} FROM {table} ORDER BY 1 FOR UPDATE SKIP LOCKED"  # noqa: S608
    with another_program() as onlooker:
        return [str(row[0]) for row in onlooker.execute(query)]


@contextmanager
def a_trigger(
    body: str, *, when: str = "true", table: str = "organization_metadata"
) -> Iterator[None]:
    """PostgreSQL does this before each write to the table; ``attempts`` counts what it likes."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE SEQUENCE attempts;
            CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {body} RETURN NEW; END $$;
            CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON {table}
                FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION meddle();
            """
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION meddle CASCADE; DROP SEQUENCE attempts")


@pytest.fixture
def at_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Any:
        raise AssertionError("the page had to be applied event by event")

    monkeypatch.setattr(applying, "_apply_one_by_one", refused)


def a_request(workos_id: str, organization_id: str = "gram-1", **values: Any) -> None:
    an_organization_row(organization_id, workos_id=workos_id)
    ExternalIdWriteBack.objects.create(
        organization_id=organization_id, workos_id=workos_id, **values
    )


def a_parked_event(workos_id: str = "org_1", event_id: str = "event_1") -> None:
    WorkOSEvent.objects.create(
        id=event_id,
        type=EventType.UPDATED,
        workos_organization_id=workos_id,
        processed_at=datetime.now(UTC),
        outcome=Outcome.PARKED,
        error="the first reason",
        payload="{}",
    )


# Locks and their order ----------------------------------------------------------------------


def test_a_row_is_locked_before_it_is_decided_about() -> None:
    an_organization_row("gram-1", workos_id="org_1")

    with another_program() as rival, in_thread() as start:
        rival.execute(
            "UPDATE organization_metadata SET name = 'Newer', workos_last_event_id = 'event_0009'"
        )
        applying_ = start(lambda: apply_page(a_page(an_event(5, name="Older"))))
        wait_until_blocked()
        rival.commit()
        applied = applying_.result()

    assert outcomes(applied) == [Outcome.STALE]
    assert Organization.objects.get().name == "Newer"


@pytest.mark.parametrize(
    ("table", "key", "locked", "free"),
    [
        ("organization_metadata", "id", "gram-2", ["gram-3", "gram-4"]),
        ("workos_event", "id", "event_0002", ["event_0003", "event_0004"]),
        (
            "workos_external_id_write_back",
            "organization_id",
            "gram-2",
            ["gram-3", "gram-4"],
        ),
    ],
)
def test_rows_of_every_table_are_locked_in_the_order_of_their_keys(
    table: str, key: str, locked: str, free: list[str]
) -> None:
    for number in reversed(range(5)):
        a_request(f"org_{number}", f"gram-{number}")
        an_announcement(an_event_id(number), workos_id=f"org_{number}")
    page = a_page(*(an_event(n, workos_id=f"org_{n}") for n in reversed(range(5))))

    with another_program() as rival, in_thread() as start:
        rival.execute(f"SELECT FROM {table} WHERE {key} = %s FOR UPDATE", [locked])
        replaying = start(lambda: apply_page(page, replay=True))
        wait_until_blocked()
        still_free = free_rows(table, key)
        rival.rollback()
        replaying.result()

    assert still_free == free


def test_new_rows_are_inserted_in_the_order_of_their_ids() -> None:
    page = a_page(
        *(
            an_event(n, workos_id=f"org_{n}", name=f"Name {n}", external_id=f"gram-{n}")
            for n in reversed(range(5))
        )
    )

    with another_program() as rival, in_thread() as start:
        rival.execute(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-2', '', 'x')"
        )
        replaying = start(lambda: apply_page(page, replay=True))
        wait_until_blocked()
        rival.execute("SET LOCAL lock_timeout = '200ms'")
        # Not inserted yet by the page, or this would have to wait for it.
        rival.execute(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-4', '', 'y')"
        )
        rival.rollback()
        replaying.result()

    assert Organization.objects.count() == 5


@pytest.mark.parametrize("ours", [bounded_transaction, read_only_transaction])
def test_our_transactions_are_the_outermost(ours: Callable[[], Any]) -> None:
    with (
        transaction.atomic(),
        pytest.raises(RuntimeError, match="durable"),
        ours(),
    ):
        pytest.fail("it was opened inside another")


def test_a_wait_is_as_long_as_the_shorter_of_setting_and_call(sync_setting: SyncSetting) -> None:
    sync_setting(LOCK_TIMEOUT=5.0)
    waits = []

    for most in (None, 2.0, 9.0):
        with bounded_transaction(most=most), connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            waits.append(cursor.fetchone()[0])

    assert waits == ["5s", "2s", "5s"]


def test_a_cursor_that_two_make_at_once_is_made_once() -> None:
    with another_program() as rival, in_thread() as start:
        rival.execute("INSERT INTO workos_sync_cursor (stream) VALUES ('organizations')")
        making = start(ensure_cursor)
        wait_until_blocked()
        rival.commit()
        making.result()

    assert SyncCursor.objects.count() == 1


# Pages --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once_or_not_at_all")
def test_links_are_handed_on_in_one_go() -> None:
    an_organization_row("gram-a", workos_id="org_1")
    an_organization_row("gram-b", workos_id="org_2")

    apply_page(
        a_page(
            an_event(1, workos_id="org_3", external_id="gram-b"),
            an_event(2, workos_id="org_2", external_id="gram-a"),
        )
    )

    assert dict(Organization.objects.values_list("id", "workos_id")) == {
        "gram-a": "org_2",
        "gram-b": "org_3",
    }


@pytest.mark.usefixtures("at_once_or_not_at_all")
def test_a_link_is_handed_on_to_a_new_row_in_one_go() -> None:
    an_organization_row("gram-a", workos_id="org_1")

    apply_page(
        a_page(
            an_event(1, workos_id="org_2", external_id="gram-a"),
            an_event(2, workos_id="org_1", external_id="gram-new"),
        )
    )

    assert Organization.objects.get(id="gram-new").workos_id == "org_1"


@pytest.mark.usefixtures("at_once_or_not_at_all")
def test_namesakes_get_their_slugs_in_one_go() -> None:
    apply_page(a_page(*(an_event(n, workos_id=f"org_{n}", name="Acme") for n in range(1, 30))))

    assert Organization.objects.count() == 29


@pytest.mark.usefixtures("at_once_or_not_at_all")
@pytest.mark.parametrize("state", ["40001", "40P01", "23505"])
def test_a_race_that_is_lost_once_is_run_again(state: str) -> None:
    once = f"IF nextval('attempts') = 1 THEN RAISE SQLSTATE '{state}'; END IF;"

    with a_trigger(once):
        applied = apply_page(a_page(an_event(1)))

    assert outcomes(applied) == [Outcome.CREATED]


@pytest.mark.parametrize("state", ["22000", "23514", "54000"])
def test_content_that_is_refused_is_parked_without_being_tried_again(state: str) -> None:
    with a_trigger(f"PERFORM nextval('attempts'); RAISE SQLSTATE '{state}';"):
        applied = apply_page(a_page(an_event(1)))
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM attempts")
            (attempts,) = cursor.fetchone()

    assert outcomes(applied) == [Outcome.PARKED]
    assert attempts == 2, "once in its page, once alone"


@pytest.mark.parametrize("state", ["42703", "57014", "53100"])
def test_trouble_that_is_no_events_is_not_looked_for_in_each(state: str) -> None:
    with a_trigger(f"PERFORM nextval('attempts'); RAISE SQLSTATE '{state}';"):
        with pytest.raises(DatabaseError):
            apply_page(a_page(an_event(1), an_event(2, workos_id="org_2")))
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM attempts")
            (attempts,) = cursor.fetchone()

    assert attempts == 1


@pytest.mark.parametrize("names", [("Forbidden", "Acme"), ("Acme", "Forbidden")])
def test_what_is_applied_event_by_event_is_told_of(names: tuple[str, str]) -> None:
    page = a_page(*(an_event(n, workos_id=f"org_{n}", name=name) for n, name in enumerate(names)))

    with a_trigger("RAISE SQLSTATE '22000';", when="NEW.name = 'Forbidden'"):
        applied = apply_page(page)

    assert (applied.moved_rows, applied.requested_write_backs) == (True, True)


def test_event_by_event_a_race_that_is_lost_once_is_run_again() -> None:
    # The page loses it as often as a page may, and then the event alone once more.
    body = "IF nextval('attempts') < 7 THEN RAISE SQLSTATE '40001'; END IF;"

    with a_trigger(body):
        applied = apply_page(a_page(an_event(1)))

    assert outcomes(applied) == [Outcome.CREATED]


def test_event_by_event_trouble_with_the_first_is_raised() -> None:
    with a_trigger("RAISE SQLSTATE '40001';"), pytest.raises(OperationalError):
        apply_page(a_page(an_event(1), an_event(2, workos_id="org_2")))


def test_an_event_is_not_parked_in_a_page_that_others_have_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ensure_cursor()
    is_contents_fault = faults.is_contents_fault

    def and_another_applies_it(error: DatabaseError) -> bool:
        SyncCursor.objects.update(last_event_id="event_0009")
        return is_contents_fault(error)

    monkeypatch.setattr(applying, "is_contents_fault", and_another_applies_it)

    with a_trigger("RAISE SQLSTATE '22000';"):
        applied = apply_page(a_page(an_event(1)))

    assert applied.dropped
    assert position().last_event_id == "event_0009"
    assert not WorkOSEvent.objects.parked().exists()


def test_a_connection_that_is_lost_is_not_the_contents_fault() -> None:
    """It comes without an SQLSTATE, as what psycopg refuses does."""
    assert not faults.is_contents_fault(OperationalError("the connection is lost"))


def test_what_psycopg_refuses_before_postgresql_sees_it_is_parked() -> None:
    applied = apply_page(a_page(an_event(1, name="a\0"), an_event(2, workos_id="org_2")))

    assert outcomes(applied) == [Outcome.PARKED, Outcome.CREATED]


def test_a_race_that_lasts_lets_through_what_stands_before_it_and_parks_nothing() -> None:
    with a_trigger("RAISE SQLSTATE '40001';", when="NEW.workos_id = 'org_2'"):
        applied = apply_page(a_page(an_event(1), an_event(2, workos_id="org_2")))

    assert isinstance(applied.interrupted_by, OperationalError)
    assert position() == Position(an_event_id(1), NOON)
    assert not WorkOSEvent.objects.parked().exists()
    assert SyncCursor.objects.get().drained_at is None, "the page was not applied to its end"


def test_event_by_event_ends_where_the_page_does() -> None:
    without_id = UnreadableEvent(
        id="sha256:1", type="", workos_id=None, occurred_at=None, error="no id"
    )
    listed = a_page(an_event(1, name="Forbidden"), without_id)
    beyond = Position("event_0007", NOON)

    with a_trigger("RAISE SQLSTATE '22000';", when="NEW.name = 'Forbidden'"):
        apply_page(edge.EventPage(Position(), listed.events, beyond, is_last=True, read_at=NOON))

    assert position() == beyond
    assert SyncCursor.objects.get().drained_at == NOON


def test_the_end_that_was_reached_once_stays_noted() -> None:
    apply_page(a_page(an_event(1)))

    apply_page(a_page(an_event(2), read_from=position(), is_last=False))

    assert SyncCursor.objects.get().drained_at == NOON


@pytest.mark.parametrize(
    "elsewhere", [Position("event_1", NOON), Position(None, NOON - minutes(1))]
)
def test_an_empty_read_from_elsewhere_notes_nothing(elsewhere: Position) -> None:
    ensure_cursor()
    SyncCursor.objects.update(last_event_at=NOON)

    note_drained(a_page(read_from=elsewhere))

    assert SyncCursor.objects.get().drained_at is None


def test_a_parked_event_that_is_applied_after_all_gets_all_its_columns() -> None:
    unreadable = UnreadableEvent(
        id=an_event_id(1), type="", workos_id=None, occurred_at=None, error="no"
    )
    apply_page(a_page(unreadable))

    apply_page(a_page(an_event(1)), replay=True)

    entry = WorkOSEvent.objects.get()
    assert (entry.type, entry.workos_organization_id, entry.occurred_at) == (
        "organization.updated",
        "org_1",
        NOON,
    )


def test_a_request_is_for_the_organization_that_is_linked_last() -> None:
    shared = derived_id("org_1")
    an_organization_row(shared, workos_id="org_2")
    apply_page(a_page(an_event(1, workos_id="org_2")))

    apply_page(a_page(an_event(2, workos_id="org_1"), read_from=position()))

    assert ExternalIdWriteBack.objects.get().workos_id == "org_1"


def test_a_name_whose_slugs_are_all_taken_is_parked() -> None:
    for number, slug in enumerate(slug_candidates("acme", "org_1")):
        an_organization_row(f"gram-{number}", slug=slug)

    applied = apply_page(a_page(an_event(1, name="Acme"), an_event(2, workos_id="org_2")))

    assert outcomes(applied)[0] is Outcome.PARKED
    assert Organization.objects.filter(workos_id="org_2").exists()


def test_a_deletion_tells_when_the_row_was_changed() -> None:
    before = an_organization_row("gram-1", workos_id="org_1")

    apply_page(a_page(a_deletion(1)))

    assert Organization.objects.get().updated_at > before.updated_at


def test_an_absence_withdraws_the_request_of_a_disabled_row() -> None:
    fold = Fold([a_row(workos_id="org_1", disabled=True)])

    fold.apply_absence("org_1")

    assert fold.plan().known_to_workos == ("gram-1",)


def test_a_reason_that_cant_be_stored_is_stored_in_escapes() -> None:
    unreadable = UnreadableEvent(
        id=an_event_id(1), type="", workos_id=None, occurred_at=None, error="no \0 and no \ud800"
    )

    apply_page(a_page(unreadable))

    assert WorkOSEvent.objects.get().error == r"no \x00 and no \ud800"


def test_of_two_known_deletions_the_later_one_counts() -> None:
    for number in (5, 9):
        WorkOSEvent.objects.create(
            id=an_event_id(number),
            type=EventType.DELETED,
            outcome=Outcome.UNKNOWN,
            workos_organization_id="org_1",
            processed_at=datetime.now(UTC),
        )

    applied = apply_page(a_page(an_event(7)))

    assert outcomes(applied) == [Outcome.STALE]


# The drain ----------------------------------------------------------------------------------


def test_a_dropped_page_is_read_again_from_where_the_cursor_is(workos: WorkOSStandIn) -> None:
    ensure_cursor()
    workos.create_organization(name="Applied by another", external_id="gram-1")

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        draining = start(drain_to_end)
        wait_until_blocked()
        first = workos.all_events()[0]
        workos.create_organization(name="Ours", external_id="gram-2")
        rival.execute("UPDATE workos_sync_cursor SET last_event_id = %s", [first["id"]])
        rival.commit()
        report = draining.result()

    assert report.outcomes == {Outcome.CREATED: 1}
    assert Organization.objects.get().name == "Ours"


def test_trouble_that_interrupts_a_page_is_raised_once_the_rest_is_told(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-locked", name="Old")
    workos.create_organization(name="Free", external_id="gram-free")
    workos.create_organization(name="Locked", external_id="gram-locked")

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        with pytest.raises(OperationalError):
            drain_to_end()

    assert sorted(Organization.objects.values_list("name", flat=True)) == ["Free", "Old"]


def test_behind_a_dropped_page_the_drain_reads_no_further(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    ensure_cursor()
    workos.seed(organizations=6)
    last = workos.all_events()[-1]["id"]

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        draining = start(drain_to_end)
        wait_until_blocked()
        rival.execute("UPDATE workos_sync_cursor SET last_event_id = %s", [last])
        rival.commit()
        draining.result()

    assert workos.count_requests() == 3, "the first, the one read ahead, and from the new position"


def test_no_transaction_is_open_while_workos_is_called_or_a_drain_sleeps(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_transactions: dict[str, int] = {}

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **options: Any) -> Any:
            open_transactions[name] = open_transactions.get(name, 0) + count_open_transactions()
            return function(*args, **options)

        return watching

    for name in ("read_events", "read_organizations", "get_organization", "exists"):
        monkeypatch.setattr(edge, name, watched(name, getattr(edge, name)))
    for name in ("find_by_external_id", "offer_external_id"):
        monkeypatch.setattr(edge, name, watched(name, getattr(edge, name)))
    slept = iter([WorkOSEvent.objects.all])
    sleeping = watched("sleep", lambda _: [rest().delete() for rest in slept])
    long_ago = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    acme = workos.create_organization(name="Acme", external_id="gram-1", at=long_ago, emits=False)
    an_organization_row("gram-1", workos_id="org_gone")
    an_organization_row("gram-2", workos_id="org_gone_too")
    an_announcement("event_held_back")
    an_announcement("event_lost", ago=LONG_AGO, workos_id=acme["id"])
    an_announcement("event_lost_too", ago=LONG_AGO, workos_id="org_gone")

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleeping)
        drain_and_wait()
    workos.create_organization(name="Bolt")
    reconcile(Run(now=datetime.now(UTC), dry=True))
    reconcile(Run(now=datetime.now(UTC)))
    reconcile_organizations(Run(now=datetime.now(UTC)), ["gram-2"])
    a_parked_event(acme["id"])
    replay_parked("event_1")

    assert open_transactions == dict.fromkeys(
        [
            *("read_events", "read_organizations", "get_organization", "exists"),
            *("find_by_external_id", "offer_external_id", "sleep"),
        ],
        0,
    )


def count_open_transactions() -> int:
    """Of all programs but the one that asks."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend' AND state <> 'idle'
    """
    with another_program() as onlooker:
        (count,) = onlooker.execute(query).fetchall()[0]
    return int(str(count))


def test_a_restart_within_a_minute_is_harmless(workos: WorkOSStandIn) -> None:
    moments_ago = (datetime.now(UTC) - timedelta(seconds=20)).isoformat()
    workos.create_organization(name="First", at=moments_ago)
    workos.create_organization(name="Second")
    drain_to_end()
    workos.misbehave("expired_cursor", restart=True, times=1)

    report = drain_to_end()

    assert report.outcomes == {Outcome.STALE: 2}


def test_an_environment_without_events_has_no_cursor_to_lose(workos: WorkOSStandIn) -> None:
    drain_to_end()
    SyncCursor.objects.update(drained_at=datetime.now(UTC) - timedelta(days=40))

    assert drain_to_end().drained


def test_a_lease_that_another_takes_meanwhile_is_left_to_it(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Lease.release
    theirs: list[datetime | None] = []

    def and_another_takes_it(self: Lease, held: datetime) -> None:
        release(self, held)
        if not theirs:
            an_announcement("event_held_back")
            theirs.append(self.take(60))

    monkeypatch.setattr(Lease, "release", and_another_takes_it)

    drain_and_wait()

    assert SyncCursor.objects.get().draining_until == theirs[0]
    assert not OrmQ.objects.exists()


def test_at_the_deadline_the_lease_is_released_before_the_ring(
    workos: WorkOSStandIn, sync_setting: SyncSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_setting(DRAIN_DEADLINE=0.1)
    an_announcement("event_held_back")
    waiting: list[bool] = []
    monkeypatch.setattr(drain, "ring", lambda _: waiting.append(is_drain_waiting()))

    drain_and_wait()

    assert waiting == [False]


def test_a_locked_cursor_hides_no_trouble_and_ends_no_drain(
    workos: WorkOSStandIn, sync_setting: SyncSetting, caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(DRAIN_DEADLINE=1.0, LOCK_TIMEOUT=0.05)
    an_announcement("event_held_back")

    with another_program() as rival, in_thread() as start:
        draining = start(drain_and_wait)
        wait_until(is_drain_waiting, "the drain has its lease")
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        draining.result()

    assert "the stream could not be drained: " in caplog.text
    assert "it runs out by itself" in caplog.text
    assert [queued.func() for queued in OrmQ.objects.all()] == [SYNC_EVENTS]


def test_a_drain_does_not_wait_for_what_is_overdue(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=2.0)
    an_announcement("event_1", ago=LONG_AGO)
    workos.misbehave("status", status=500, path="/organizations", times=None)

    drain_and_wait()

    assert WorkOSEvent.objects.announced_and_unseen().exists()
    assert not OrmQ.objects.exists(), "it has not waited until its deadline"


def test_a_race_that_lasts_is_tried_again_by_the_worker(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Acme")
    an_announcement(workos.all_events()[0]["id"])
    # As often as a page and then its event are tried.
    body = "IF nextval('attempts') <= 10 THEN RAISE SQLSTATE '40001'; END IF;"

    with a_trigger(body):
        drain_and_wait()

    assert Organization.objects.get().name == "Acme"


def test_what_was_applied_before_trouble_is_told_and_rung_for(
    workos: WorkOSStandIn, sync_setting: SyncSetting, caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.create_organization(name="Acme")
    workos.emit({"event": "organization.created", "data": None})
    workos.create_organization(name="Bolt")
    workos.misbehave("slow", seconds=0, times=2)
    workos.misbehave("status", status=500)

    drain_and_wait()

    assert "parked" in caplog.text
    assert [queued.func() for queued in OrmQ.objects.all()] == [PUSH_EXTERNAL_IDS]


@pytest.mark.parametrize(("failures", "pause"), [(0, 2), (1, 4), (2, 8), (9, 60), (5_000, 60)])
def test_pauses_grow_with_the_failures_up_to_a_minute(
    sync_setting: SyncSetting, failures: int, pause: float
) -> None:
    sync_setting(POLL_PAUSE=1.0)
    ensure_cursor()
    SyncCursor.objects.update(failures=failures)

    assert drain._note(edge.Unavailable("down")) == pause


def test_the_worker_settles_what_is_overdue_until_its_deadline(workos: WorkOSStandIn) -> None:
    an_announcement("event_1", ago=LONG_AGO)

    drain.settle_overdue(deadline=time.monotonic() - 1)
    too_late = workos.count_requests(path="/organizations")
    drain_and_wait()

    assert too_late == 0
    assert WorkOSEvent.objects.get().outcome == "missing"


def test_the_worker_settles_no_more_after_its_deadline(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(DRAIN_DEADLINE=0.3)
    for number in range(20):
        an_announcement(an_event_id(number), ago=LONG_AGO)
    workos.misbehave("slow", seconds=0.1, path="/organizations", times=None)

    drain_and_wait()

    assert WorkOSEvent.objects.announced_and_unseen().exists()


def test_what_is_overdue_is_tried_in_another_order_each_time(workos: WorkOSStandIn) -> None:
    for number in range(30):
        an_announcement(an_event_id(number), ago=LONG_AGO, workos_id=f"org_{number}")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    orders = []
    for _ in range(2):
        workos.forget_requests()
        drain.settle_overdue()
        orders.append([request["path"] for request in workos.requests(path="/organizations")])

    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_other_trouble_with_the_database_is_no_announcements(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_1", ago=LONG_AGO, workos_id=acme["id"])

    with a_trigger("RAISE SQLSTATE '42703';"), pytest.raises(ProgrammingError):
        drain.settle_overdue()

    assert WorkOSEvent.objects.get().outcome is None


def test_an_announcement_that_another_drain_settles_meanwhile_ends_nothing(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_announcement("event_1", ago=LONG_AGO)

    def and_another_settles_it() -> bool:
        WorkOSEvent.objects.update(outcome=Outcome.MISSING, processed_at=datetime.now(UTC))
        return True

    monkeypatch.setattr(drain, "_is_at_the_end", and_another_settles_it)

    assert drain.settle_overdue() is None
    assert workos.count_requests() == 0


def test_a_second_question_that_fails_otherwise_is_trouble_and_no_loss(
    workos: WorkOSStandIn,
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("status", status=400, times=1)
    workos.misbehave("status", status=500, times=1)

    with pytest.raises(edge.Refused):
        drain_to_end()


def test_a_replay_asks_once_whether_its_position_is_known(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(PAGE_SIZE=1)
    workos.seed(organizations=4)

    replay(Position(workos.all_events()[0]["id"]))

    assert sum("after" not in request["query"] for request in workos.requests()) == 1


@pytest.mark.parametrize("since", ["the last event", "before all"])
def test_a_replay_takes_any_place_that_is_listed(workos: WorkOSStandIn, since: str) -> None:
    workos.create_organization(name="Acme")
    last = workos.all_events()[-1]["id"]
    start = Position(last) if since == "the last event" else Position(None, NOON)

    report = replay(start)

    assert report.read == (0 if since == "the last event" else 1)


# Single organizations -----------------------------------------------------------------------


def test_a_snapshot_and_its_note_are_one_transaction(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    acme = workos.create_organization(name="Acme")
    a_parked_event(acme["id"])

    with another_program() as rival:
        rival.execute("SELECT FROM workos_event FOR UPDATE")
        with pytest.raises(OperationalError):
            replay_parked("event_1")

    assert not Organization.objects.exists()


def test_a_snapshot_that_loses_a_race_is_applied_again(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    a_parked_event(acme["id"])

    with another_program() as rival, in_thread() as start:
        rival.execute(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-1', '', 'x')"
        )
        replaying = start(lambda: replay_parked("event_1"))
        wait_until_blocked()
        rival.commit()
        resolved = replaying.result()

    assert resolved.outcome is Outcome.LINKED


@pytest.mark.parametrize("then", ["applied", "refused"])
def test_an_event_dismissed_meanwhile_stays_dismissed(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    acme = workos.create_organization(name="Acme")
    a_parked_event(acme["id"])
    take = snapshots.take_snapshot

    def and_it_is_dismissed(workos_id: str) -> snapshots.Snapshot:
        snapshots.dismiss_parked(["event_1"])
        if then == "refused":
            raise edge.UnreadableOrganization("name is wrong", "{}")
        return take(workos_id)

    monkeypatch.setattr(snapshots, "take_snapshot", and_it_is_dismissed)

    replay_parked("event_1")

    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.error) == ("dismissed", "")


def test_an_announcement_that_the_stream_brings_meanwhile_is_not_parked(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = an_announcement("event_1")

    def and_it_is_read(_: str) -> snapshots.Snapshot:
        WorkOSEvent.objects.update(outcome=Outcome.CREATED, processed_at=datetime.now(UTC))
        raise edge.UnreadableOrganization("name is wrong", "{}")

    monkeypatch.setattr(snapshots, "take_snapshot", and_it_is_read)

    honour_announcement(event.id)

    assert WorkOSEvent.objects.get().outcome == "created"


def test_an_announcement_that_the_stream_brings_meanwhile_keeps_its_outcome(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = workos.create_organization(name="Acme")
    event = an_announcement("event_1", workos_id=acme["id"])
    take = snapshots.take_snapshot

    def and_it_is_read(workos_id: str) -> snapshots.Snapshot:
        WorkOSEvent.objects.update(outcome=Outcome.CREATED, processed_at=datetime.now(UTC))
        return take(workos_id)

    monkeypatch.setattr(snapshots, "take_snapshot", and_it_is_read)

    honour_announcement(event.id)

    assert WorkOSEvent.objects.get().outcome == "created"


def test_a_replay_of_all_passes_over_what_is_dismissed_meanwhile(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many that, in whatever order, one that is dismissed stands before one that is not.
    for number in range(20):
        a_parked_event(f"org_{number}", an_event_id(number))
    take = snapshots.take_snapshot

    def and_others_are_dismissed(workos_id: str) -> snapshots.Snapshot:
        others = WorkOSEvent.objects.exclude(workos_organization_id=workos_id)
        ids = [an_event_id(number) for number in range(0, 20, 2)]
        snapshots.dismiss_parked(list(others.filter(id__in=ids).values_list("id", flat=True)))
        return take(workos_id)

    monkeypatch.setattr(snapshots, "take_snapshot", and_others_are_dismissed)

    snapshots.replay_all_parked(deadline=time.monotonic() + 30)

    assert not WorkOSEvent.objects.parked().exists()
    assert WorkOSEvent.objects.filter(outcome=Outcome.UNKNOWN).count() >= 10


@pytest.mark.parametrize(
    ("event_type", "outcome", "made"),
    [
        (EventType.UPDATED, Outcome.STALE, 1),
        (EventType.DELETED, Outcome.UNKNOWN, 0),
        (EventType.DELETED, Outcome.STALE, 0),
    ],
)
def test_only_deletions_keep_an_organization_out(
    workos: WorkOSStandIn, event_type: EventType, outcome: Outcome, made: int
) -> None:
    acme = workos.create_organization(name="Acme")
    WorkOSEvent.objects.create(
        id="event_0",
        type=event_type,
        outcome=outcome,
        workos_organization_id=acme["id"],
        processed_at=datetime.now(UTC),
    )
    a_parked_event(acme["id"])

    replay_parked("event_1")

    assert Organization.objects.count() == made


@pytest.mark.parametrize("by", ["an announcement", "a reconcile"])
def test_a_deletion_that_the_stream_brings_meanwhile_is_not_undone(
    workos: WorkOSStandIn, by: str
) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    acme = workos.create_organization(name="Acme", at=long_ago, emits=False)
    event = an_announcement("event_0009", workos_id=acme["id"])
    run = Run(now=datetime.now(UTC))
    snapshot: Callable[[], object] = lambda: honour_announcement(event.id)  # noqa: E731
    if by == "a reconcile":
        snapshot = lambda: reconcile(run, drain_events=False)  # noqa: E731

    with another_program() as rival, in_thread() as start:
        # Stops the snapshot after its look for deletions, and before its insert.
        rival.execute("SELECT pg_advisory_xact_lock(hashtext('acme'))")
        applying_snapshot = start(snapshot)
        wait_until_blocked(1)
        deleting = start(lambda: apply_page(a_page(a_deletion(10, workos_id=acme["id"]))))
        wait_until_blocked(2)
        rival.rollback()
        applying_snapshot.result()
        deleting.result()

    assert not Organization.objects.filter(disabled_at=None).exists()


def test_an_organization_that_is_linked_rightly_is_asked_for_once(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    an_organization_row("gram-1", name="Old", workos_id=acme["id"])
    an_organization_row("gram-2", workos_id="org_of_nobodys_business")
    a_parked_event(acme["id"])

    replay_parked("event_1")

    assert workos.count_requests() == 1


# The snapshot -------------------------------------------------------------------------------


def test_other_trouble_with_the_database_ends_a_repair(workos: WorkOSStandIn) -> None:
    workos.seed(organizations=2, at=TWO_DAYS_AGO, emits=False)
    attempts = "SELECT last_value FROM attempts"

    with a_trigger("PERFORM nextval('attempts'); RAISE SQLSTATE '42703';"):
        with pytest.raises(ProgrammingError):
            reconcile(Run(now=datetime.now(UTC)))
        with connection.cursor() as cursor:
            cursor.execute(attempts)
            assert cursor.fetchone() == (1,)


def test_other_trouble_with_the_database_is_no_lock_that_keeps_a_row_enabled(
    workos: WorkOSStandIn,
) -> None:
    an_organization_row("gram-1", workos_id="org_gone")

    with a_trigger("RAISE SQLSTATE '42703';"), pytest.raises(ProgrammingError):
        reconcile(Run(now=datetime.now(UTC)))


def test_other_trouble_with_the_database_is_not_left_to_the_worker(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    push = push_due

    def and_the_table_changes(**options: Any) -> write_back.WriteBackReport:
        report = push(**options)
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata RENAME name TO gone")
        return report

    monkeypatch.setattr(write_back, "push_due", and_the_table_changes)

    try:
        with pytest.raises(ProgrammingError):
            reconcile(Run(now=datetime.now(UTC)))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata RENAME gone TO name")


@pytest.mark.parametrize("state", ["23505", "40001"])
def test_a_repair_that_loses_a_race_once_is_run_again(workos: WorkOSStandIn, state: str) -> None:
    workos.create_organization(name="New", at=TWO_DAYS_AGO, emits=False)
    an_organization_row("gram-gone", workos_id="org_gone")
    # The creation is lost once, and so is the disabling.
    body = f"IF nextval('attempts') IN (1, 3) THEN RAISE SQLSTATE '{state}'; END IF;"

    with a_trigger(body):
        found = reconcile(Run(now=datetime.now(UTC)))

    assert (found.trouble, found.snapshot.counts["conflict"]) == ([], 0)
    assert Organization.objects.disabled().get().id == "gram-gone"


def test_all_the_missing_are_disabled_however_many_are_looked_at_at_once(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "_CHUNK", 2)
    for number in range(5):
        an_organization_row(f"gram-{number}", workos_id=f"org_{number}")

    reconcile(Run(now=datetime.now(UTC)))

    assert Organization.objects.disabled().count() == 5


def test_a_snapshot_with_trouble_is_not_noted_as_completed(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    workos.create_organization(name="New", external_id="gram-1", at=TWO_DAYS_AGO, emits=False)
    an_organization_row("gram-1", name="Old")

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        found = reconcile(Run(now=datetime.now(UTC)))

    assert found.trouble
    assert SyncCursor.objects.get().reconciled_at is None


def test_a_dry_run_tells_of_an_expired_position(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    SyncCursor.objects.update(drained_at=datetime.now(UTC) - timedelta(days=40))

    found = reconcile(Run(now=datetime.now(UTC), dry=True))

    assert found.lost is not None
    assert not found.in_sync


def test_a_dry_run_finds_what_a_repair_would_page_by_page(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "read_organizations", partial(edge.read_organizations, limit=1))
    gram_id = derived_id("org_second")
    workos.create_organization(
        id="org_first", name="First", external_id=gram_id, at=TWO_DAYS_AGO, emits=False
    )
    workos.create_organization(id="org_second", name="Second", at=TWO_DAYS_AGO, emits=False)

    dry, real = (reconcile(Run(now=datetime.now(UTC), dry=dry)) for dry in (True, False))

    assert [change.change for change in real.snapshot.changes] == ["created", "conflict"]
    assert dry.snapshot.changes == real.snapshot.changes


def test_write_backs_that_there_was_no_time_for_are_trouble(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "_PUSH_SECONDS", 0.0)
    workos.create_organization(name="Acme", at=TWO_DAYS_AGO, emits=False)

    found = reconcile(Run(now=datetime.now(UTC)))

    assert found.trouble == ["some write-backs are left for the worker: there was no time for them"]


def test_a_pause_of_many_minutes_is_not_kept_in_a_listing(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    workos.misbehave("rate_limited", retry_after=600, path="/organizations", exact=True)

    found = reconcile(Run(now=datetime.now(UTC)), drain_events=False)

    assert "429" in found.trouble[0]
    assert slept == []


def test_a_row_that_the_stream_has_disabled_is_not_told_to_be_disabled_here(
    workos: WorkOSStandIn,
) -> None:
    acme = workos.create_organization(
        name="Acme", external_id="gram-1", at=TWO_DAYS_AGO, emits=False
    )
    an_organization_row("gram-1", workos_id=acme["id"])
    apply_page(a_page(a_deletion(1, workos_id=acme["id"])))

    found = reconcile(Run(now=datetime.now(UTC)), drain_events=False)

    assert (found.snapshot.counts["stale"], found.snapshot.counts["disabled_here"]) == (1, 0)
    assert found.in_sync


def test_a_row_that_another_organization_names_is_relinked_by_its_old_ones_id(
    workos: WorkOSStandIn,
) -> None:
    new = workos.create_organization(name="New", external_id="gram-1", emits=False)
    an_organization_row("gram-1", workos_id="org_gone")

    reconcile_organizations(Run(now=datetime.now(UTC)), ["org_gone"])

    row = Organization.objects.get()
    assert (row.workos_id, row.disabled_at) == (new["id"], None)


def test_a_dry_run_is_not_noted_as_completed(workos: WorkOSStandIn) -> None:
    ensure_cursor()

    found = reconcile(Run(now=datetime.now(UTC), dry=True))

    assert found.trouble == []
    assert SyncCursor.objects.get().reconciled_at is None


def test_a_row_whose_relink_is_on_its_way_counts_for_no_limit(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Young", external_id="gram-1", emits=False)
    an_organization_row("gram-1", workos_id="org_gone")

    found = reconcile(Run(now=datetime.now(UTC), limit=DisableLimit(rows=0, percent=0)))

    assert found.trouble == []


def test_a_row_is_locked_before_it_is_disabled() -> None:
    an_organization_row("gram-1", workos_id="org_gone")
    run, report = Run(now=datetime.now(UTC)), SnapshotReport()

    with another_program() as rival, in_thread() as start:
        rival.execute("UPDATE organization_metadata SET workos_id = 'org_new'")
        disabling = start(lambda: repairing.disable_absent(run, report, ["org_gone"]))
        wait_until_blocked()
        rival.commit()
        disabling.result()

    row = Organization.objects.get()
    assert (row.workos_id, row.disabled_at) == ("org_new", None)


def test_a_row_of_the_mirrors_alone_that_is_named_twice_is_counted_once(
    workos: WorkOSStandIn,
) -> None:
    an_organization_row("gram-1")

    found = reconcile_organizations(Run(now=datetime.now(UTC)), ["gram-1", "gram-1"])

    assert found.snapshot.organizations == 1


def test_neither_a_disabled_row_nor_one_that_was_listed_is_asked_for(
    workos: WorkOSStandIn,
) -> None:
    acme = workos.create_organization(
        name="Acme", external_id="gram-1", at=TWO_DAYS_AGO, emits=False
    )
    an_organization_row("gram-1", workos_id=acme["id"])
    an_organization_row("gram-2", workos_id="org_gone", disabled_at=NOON)

    reconcile(Run(now=datetime.now(UTC)))

    assert workos.count_requests(path="/organizations/") == 0


@pytest.mark.parametrize("ids", [["org_gone"], ["gram-1"]])
def test_a_row_that_is_locked_while_another_takes_it_over_is_not_disabled(
    workos: WorkOSStandIn, sync_setting: SyncSetting, ids: list[str]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    new = workos.create_organization(name="New", external_id="gram-1", at=TWO_DAYS_AGO, emits=False)
    an_organization_row("gram-1", name="Old", workos_id="org_gone")
    disable = repairing.disable_absent

    with another_program() as rival, pytest.MonkeyPatch.context() as patch:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")

        def and_it_is_free_again(*args: Any) -> None:
            rival.rollback()
            disable(*args)

        patch.setattr(reconciling, "disable_absent", and_it_is_free_again)
        reconcile_organizations(Run(now=datetime.now(UTC)), ids)

    assert Organization.objects.get().disabled_at is None
    reconcile(Run(now=datetime.now(UTC)))
    assert Organization.objects.get().workos_id == new["id"]


def test_a_deletion_that_the_stream_brings_beside_a_replay_is_not_undone() -> None:
    ensure_cursor()

    with another_program() as rival, in_thread() as start:
        # Stops the replay after its look for deletions, and before its insert.
        rival.execute("SELECT pg_advisory_xact_lock(hashtext('acme'))")
        replaying = start(lambda: apply_page(a_page(an_event(1)), replay=True))
        wait_until_blocked(1)
        deleting = start(lambda: apply_page(a_page(a_deletion(2))))
        wait_until(lambda: deleting.done() or blocked() == 2, "it is applied, or waits")
        rival.rollback()
        replaying.result()
        deleting.result()

    assert not Organization.objects.filter(disabled_at=None).exists()


def test_a_process_that_stands_still_does_not_keep_its_locks_for_ever() -> None:
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        (timeout,) = cursor.fetchone()

    assert timeout != "0"


# The write-back -----------------------------------------------------------------------------


def test_what_is_claimed_is_left_to_whoever_claimed_it() -> None:
    a_request("org_1")

    claims = [len(write_back._claim(write_back._begin())) for _ in range(2)]

    assert claims == [1, 0]


def test_a_locked_organization_does_not_keep_its_request_from_being_pushed(
    workos: WorkOSStandIn,
) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        report = push_due(deadline=time.monotonic() + 30)

    assert report.pushed == 1


@pytest.mark.parametrize("states", [("42703", "55P03"), ("55P03", "42703")])
def test_other_trouble_with_the_outbox_is_raised(
    workos: WorkOSStandIn, states: tuple[str, str]
) -> None:
    a_request("org_1")
    first, second = states
    body = f"""
        CASE nextval('attempts')
            WHEN 1 THEN RAISE SQLSTATE '{first}';
            WHEN 2 THEN RAISE SQLSTATE '{second}';
            ELSE NULL;
        END CASE;
    """
    outbox = "workos_external_id_write_back"

    with (
        a_trigger(body, when="NEW.last_error <> ''", table=outbox),
        pytest.raises(ProgrammingError),
    ):
        push_due(deadline=time.monotonic() + 30)


def test_the_oldest_requests_are_claimed_first(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_back, "_BATCH_SIZE", 1)
    now = datetime.now(UTC)
    for number in (2, 1, 3):
        due_at = now - timedelta(minutes=9 - number)
        a_request(f"org_{number}", f"gram-{number}", next_attempt_at=due_at)

    push_due(deadline=time.monotonic() + 30)

    asked = [str(request["path"]).rsplit("/", 1)[-1] for request in workos.requests()]
    assert asked == ["org_1", "org_2", "org_3"]


def test_attempts_add_up(workos: WorkOSStandIn) -> None:
    a_request("org_1")
    workos.misbehave("status", status=500, path="/organizations", times=None)

    for _ in range(3):
        ExternalIdWriteBack.objects.update(next_attempt_at=datetime.now(UTC))
        push_due(deadline=time.monotonic() + 30)

    assert ExternalIdWriteBack.objects.get().attempts == 3


def test_a_request_is_tried_once_a_run_even_if_it_is_due_again(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_back, "retry_delay", lambda _: 0.0)
    a_request("org_1")

    push_due(deadline=time.monotonic() + 30)

    assert workos.count_requests() == 1


def test_a_locked_request_of_an_unlinked_row_stops_no_push(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"], "gram-1")
    a_request("org_x", "gram-2")
    Organization.objects.filter(id="gram-2").update(workos_id=None)

    with another_program() as rival:
        rival.execute("DELETE FROM organization_metadata WHERE id = 'gram-2'")
        report = push_due(deadline=time.monotonic() + 30)

    assert report.pushed == 1


def test_nothing_is_pushed_after_the_deadline(workos: WorkOSStandIn) -> None:
    a_request("org_1")

    push_due(deadline=time.monotonic() - 1)

    assert workos.count_requests() == 0


def test_only_a_404_ends_the_request_of_a_disabled_row(workos: WorkOSStandIn) -> None:
    a_request("org_1")
    Organization.objects.update(disabled_at=datetime.now(UTC))
    workos.misbehave("status", status=500, path="/organizations")

    push_due(deadline=time.monotonic() + 30)

    assert ExternalIdWriteBack.objects.count() == 1


def test_a_newer_request_outlives_the_404_of_an_older_one(
    workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_request("org_1")
    Organization.objects.update(disabled_at=datetime.now(UTC))

    def gone(*_: str) -> None:
        with another_program() as rival:
            rival.execute(
                "UPDATE workos_external_id_write_back SET requested_at = clock_timestamp()"
            )
        raise edge.NotFound("gone")

    monkeypatch.setattr(edge, "offer_external_id", gone)

    push_due(deadline=time.monotonic() + 30)

    assert ExternalIdWriteBack.objects.count() == 1


# The command --------------------------------------------------------------------------------


@pytest.fixture
def a_clock_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("a_clock_elsewhere")
def test_a_time_without_a_zone_is_utc_wherever_the_machine_is(workos: WorkOSStandIn) -> None:
    since = ("--since", "2026-01-15T12:00:00")
    call_command("reconcile_workos", "--events-only", *since, stdout=StringIO())

    assert workos.requests()[0]["query"]["range_start"] == "2026-01-15T12:00:00.000Z"
