"""What a batch writes, in each mode, beside other programs that hold real locks."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from orgs.db.cursor import CursorLocked, database_now, ensure_cursor
from orgs.domain.naming import derived_id
from orgs.domain.report import Report
from orgs.domain.types import Observation, Outcome, Position, State
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from tests.builders import (
    NOON,
    a_deletion,
    a_page,
    an_absence,
    an_announcement,
    an_event,
    an_event_id,
    an_organization,
    an_organization_row,
    an_unreadable_event,
    apply_page,
    blocked_by,
    compare,
    live,
    minutes,
)
from tests.concurrency import another_program, blocked, in_thread, stopped_at, wait_until
from tests.integration.services.stored import LogCapture, impatient, ledger, links, position
from tests.triggers import changed, execute

#: BEGIN; time-out and cursor; what is known; slugs; what is written; COMMIT.
ROUND_TRIPS = 6


def write_backs() -> dict[str, str]:
    return dict(ExternalIdWriteBack.objects.values_list("organization_id", "workos_id"))


def replay(*observations: Observation) -> Report:
    return apply_page(a_page(*observations), Mode.REPLAY)


# What a page writes -------------------------------------------------------------------------


def test_a_page_writes_rows_ledger_outbox_and_cursor_at_once() -> None:
    report = live(an_event(1), an_event(2, workos_id="org_2", external_id="gram-2"))

    assert +report.counts == {Outcome.CREATED: 2}
    assert (report.requested_write_backs, report.changed_rows) == (True, True)
    row = Organization.objects.get(workos_id="org_1")
    assert (row.id, row.name, row.slug) == (derived_id("org_1"), "Acme", "acme")
    assert (row.workos_updated_at, row.workos_last_event_id) == (NOON, an_event_id(1))
    assert (row.gram_account_type, row.whitelisted, row.disabled_at) == ("free", True, None)
    assert write_backs() == {row.id: "org_1"}
    entry, other = WorkOSEvent.objects.order_by("id")
    assert (entry.id, entry.outcome, other.outcome) == (an_event_id(1), "created", "created")
    assert (entry.type, entry.workos_organization_id) == ("organization.updated", "org_1")
    assert (entry.organization_id, entry.occurred_at) == (row.id, NOON)
    assert (entry.error, entry.payload, entry.announced_at) == ("", None, None)
    assert position() == Position(an_event_id(2), NOON)


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.RECONCILE])
def test_an_update_leaves_the_slug_and_the_columns_of_others_alone(mode: Mode) -> None:
    others = {"slug": "by-hand", "gram_account_type": "enterprise", "whitelisted": False}
    others |= {"disabled_at": NOON, "created_at": NOON}
    before = an_organization_row("gram-1", workos_id="org_1", name="Old", **others)
    an_organization_row("gram-2", name="Renamed", slug="renamed")

    shown_by(mode, 1, name="Renamed")

    after = Organization.objects.get(id="gram-1")
    assert (after.name, after.updated_at > before.updated_at) == ("Renamed", True)
    assert {column: getattr(after, column) for column in others} == others
    assert after.workos_last_event_id == (an_event_id(1) if mode is Mode.LIVE else None)


def test_a_deletion_notes_when_it_was_first_disabled_and_deleted() -> None:
    before = an_organization_row("gram-1", workos_id="org_1", disabled_at=NOON)
    live(a_deletion(1))
    first = Organization.objects.get()
    live(a_deletion(2))

    again = Organization.objects.get()
    assert first.updated_at > before.updated_at
    assert (first.disabled_at, again.disabled_at) == (NOON, NOON)
    assert first.workos_deleted_at == again.workos_deleted_at is not None
    assert (again.workos_id, again.workos_last_event_id) == ("org_1", an_event_id(2))


def test_links_are_handed_on_within_a_page_that_is_applied_at_once(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    ensure_cursor()
    an_organization_row("gram-a", workos_id="org_1")
    an_organization_row("gram-b", workos_id="org_2")
    page = a_page(
        an_event(1, workos_id="org_3", external_id="gram-b"),
        an_event(2, workos_id="org_2", external_id="gram-a"),
        an_event(3, workos_id="org_1", external_id="gram-new"),
    )

    with django_assert_num_queries(ROUND_TRIPS):
        apply_page(page)

    assert links() == {"gram-a": "org_2", "gram-b": "org_3", "gram-new": "org_1"}


@pytest.mark.parametrize(
    ("mode", "pause", "pause_after"),
    [
        pytest.param(Mode.LIVE, minutes(9), minutes(9), id="it goes on, with its pause"),
        pytest.param(Mode.RECONCILE, minutes(9), minutes(0), id="a run that lists tries it now"),
        pytest.param(Mode.LIVE, None, minutes(0), id="a conflict is tried once more"),
        pytest.param(Mode.RECONCILE, None, None, id="but leaves a conflict to a person"),
        pytest.param(Mode.LIVE, minutes(999), minutes(0), id="a time that a wrong clock left"),
    ],
)
def test_a_repeated_request_stays_as_old_as_it_is(
    mode: Mode, pause: timedelta | None, pause_after: timedelta | None
) -> None:
    live(an_event(1))
    now = database_now()
    tried = {"attempts": 7, "last_error": "HTTP 500", "requested_at": now - minutes(59)}
    ExternalIdWriteBack.objects.update(next_attempt_at=pause and now + pause, **tried)

    shown_by(mode, 2)

    after = ExternalIdWriteBack.objects.get()
    assert {column: getattr(after, column) for column in tried} == tried
    if pause_after is None or after.next_attempt_at is None:
        assert after.next_attempt_at is pause_after
    else:
        assert abs(after.next_attempt_at - now - pause_after) < minutes(4)


def test_a_page_of_a_hundred_takes_as_many_round_trips_as_a_page_of_two(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    ensure_cursor()

    for numbers in (range(10, 12), range(1000, 1100)):
        events = (an_event(n, workos_id=f"org_{n}", name=f"Org {n}") for n in numbers)
        page = a_page(*events, read_from=position())
        with django_assert_num_queries(ROUND_TRIPS):
            apply_page(page)


# The compare-and-set ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read_from",
    [
        pytest.param(Position(), id="the beginning"),
        pytest.param(Position("event_0000", NOON), id="another event"),
        pytest.param(Position(an_event_id(1), NOON - minutes(1)), id="another time"),
        pytest.param(Position(None, NOON), id="a time alone"),
    ],
)
def test_a_page_that_was_read_from_elsewhere_is_dropped(read_from: Position) -> None:
    live(an_event(1))

    report = apply_page(a_page(an_event(9, name="Skipped ahead"), read_from=read_from))

    assert report == Report(dropped=True)
    assert Organization.objects.get().name == "Acme"
    assert position() == Position(an_event_id(1), NOON)
    assert list(ledger()) == [an_event_id(1)]


def test_a_page_waits_for_the_one_before_it_and_is_then_dropped() -> None:
    live(an_event(1))
    page = a_page(an_event(2, name="Twice"), read_from=position())

    move = "UPDATE workos_sync_cursor SET last_event_id = 'event_0002'"
    report = blocked_by(move, lambda: apply_page(page))

    assert report.dropped
    assert Organization.objects.get().name == "Acme"


@impatient
@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.REPLAY, Mode.REFRESH, Mode.RECONCILE])
def test_a_locked_cursor_keeps_every_item_waiting_and_only_once(mode: Mode) -> None:
    """Each writer has it alone: also derived columns rest on what another one may be writing."""
    ensure_cursor()
    page = a_page(an_event(1, workos_id="org_2"), an_event(2, workos_id="org_3"))

    with another_program() as rival:
        rival.execute("SELECT FROM workos_sync_cursor FOR SHARE")
        with CaptureQueriesContext(connection) as queries, pytest.raises(CursorLocked):
            apply_page(page, mode)

    assert not Organization.objects.exists()
    assert len([query for query in queries if "FROM workos_sync_cursor" in query["sql"]]) == 1


# The ledger ---------------------------------------------------------------------------------


def test_the_first_outcome_of_an_event_stays_and_when_it_was_announced() -> None:
    an_announcement(an_event_id(1), ago=minutes(9))
    announced = WorkOSEvent.objects.get()
    live(an_event(1), an_event(1))
    first = WorkOSEvent.objects.get()

    report = replay(an_event(1))

    again = WorkOSEvent.objects.get()
    assert +report.counts == {Outcome.STALE: 1}
    assert (again.outcome, again.processed_at) == ("created", first.processed_at)
    assert again.announced_at == announced.announced_at


def test_an_unreadable_event_is_parked_once_and_may_be_applied_after_all() -> None:
    raw = {"id": "event_0001", "data": {"name": "\0\ud800"}}
    unreadable = an_unreadable_event(1, error="data.name has a \0, a \ud800 and a \x1b")

    first = live(unreadable._replace(raw=raw))
    again = live(unreadable._replace(raw=raw))

    parked = WorkOSEvent.objects.get()
    assert [change.event_id for change in first.changes] == [an_event_id(1)]
    assert parked.error == r"data.name has a \x00, a \ud800 and a \x1b"
    assert parked.payload == r'{"id": "event_0001", "data": {"name": "\u0000\ud800"}}'
    assert again.changes == []

    report = replay(an_event(1, external_id="gram-1"))

    entry = WorkOSEvent.objects.get()
    assert +report.counts == {Outcome.CREATED: 1}
    assert (entry.outcome, entry.error, entry.payload) == ("created", "", None)
    assert (entry.type, entry.workos_organization_id) == ("organization.updated", "org_1")
    assert (entry.organization_id, entry.occurred_at) == ("gram-1", NOON)


def test_the_later_of_the_deletions_in_the_ledger_keeps_an_organization_out() -> None:
    live(a_deletion(9), a_deletion(5))

    live(an_event(7))

    assert (links(), write_backs()) == ({}, {})
    assert ledger()[an_event_id(7)] == "stale"


@pytest.mark.parametrize(
    ("make", "outcome"), [(an_event, "created"), (an_unreadable_event, "parked")]
)
def test_an_event_that_was_ignored_is_recorded_when_it_is_applied_or_parked(
    make: Any, outcome: str
) -> None:
    """A process that does not follow its resource resolved it as a missed webhook."""
    WorkOSEvent.objects.create(id=an_event_id(1), outcome="ignored", processed_at=NOON)

    live(make(1))

    assert ledger() == {an_event_id(1): outcome}


def test_a_replay_parks_no_event_that_was_applied_or_dismissed() -> None:
    live(an_event(1), an_unreadable_event(2))
    WorkOSEvent.objects.parked().update(outcome=Outcome.DISMISSED)

    report = replay(*(an_unreadable_event(number) for number in (1, 2, 3)))

    assert +report.counts == {Outcome.IGNORED: 2, Outcome.PARKED: 1}
    assert [change.event_id for change in report.changes] == [an_event_id(3)]
    assert [event.id for event in WorkOSEvent.objects.parked()] == [an_event_id(3)]


def some_drift() -> list[Observation]:
    an_organization_row("gram-old", workos_id="org_old", name="Old")
    an_organization_row("gram-gone", workos_id="org_gone")
    an_organization_row("gram-off", workos_id="org_off", disabled_at=NOON)
    an_organization_row("gram-same", workos_id="org_same")
    an_organization_row("gram-newer", workos_id="org_newer", workos_updated_at=NOON + minutes(1))
    return [
        an_organization("org_new"),
        an_organization("org_old", name="New", external_id="other"),
        an_absence("org_gone"),
        an_organization("org_off", external_id="gram-off"),
        an_organization("org_same", external_id="gram-same"),
        an_organization("org_newer", external_id="gram-newer"),
        Observation(workos_id="org_bad", state=State.UNREADABLE, error="no name"),
    ]


def test_a_dry_run_finds_what_a_run_repairs_and_neither_locks_nor_writes() -> None:
    observations = some_drift()
    rows = list(Organization.objects.order_by("id").values())

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata, workos_sync_cursor FOR UPDATE")
        dry = compare(*observations, mode=Mode.DRY_RUN)
    after_the_dry_run = list(Organization.objects.order_by("id").values())
    real = compare(*observations)

    assert after_the_dry_run == rows
    assert dry.needs_writing
    one_each = ("created", "updated", "disabled", "disabled_here", "unchanged", "stale")
    assert +dry.counts == +real.counts
    assert +real.counts == {**dict.fromkeys(one_each, 1), "conflict": 2, "write_backs": 1}
    assert dry.changes == real.changes
    assert [change.change for change in real.drift] == ["created", "updated", "disabled"]
    assert Organization.objects.get(id="gram-old").name == "New"
    assert Organization.objects.get(id="gram-gone").workos_deleted_at is not None
    assert write_backs() == {derived_id("org_new"): "org_new"}
    assert (position(), ledger()) == (Position(), {})
    assert not compare(an_organization("org_same", external_id="gram-same")).needs_writing


def shown_by(mode: Mode, number: int, **values: Any) -> Report:
    """WorkOS shows this of the organization that the row is linked to."""
    event = an_event(number, **values)
    if mode in (Mode.LIVE, Mode.REPLAY):
        return apply_page(a_page(event, read_from=position()), mode)
    return compare(event._replace(event=None), mode=mode)


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.REPLAY, Mode.REFRESH, Mode.RECONCILE])
def test_a_conflict_is_stored_until_it_is_solved(mode: Mode, caplog: LogCapture) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    reason = "WorkOS has external_id 'gram-2' for org_1, which is linked to gram-1"

    shown_by(mode, 1, external_id="gram-2")
    shown_by(mode, 2, external_id="gram-2")

    stored = WorkOSConflict.objects.get()
    assert (stored.workos_organization_id, stored.organization_id) == ("org_1", "gram-1")
    assert (stored.kind, stored.reason) == ("other_external_id", reason)
    assert stored.last_seen_at > stored.found_at
    assert caplog.messages == [f"a conflict waits for a person: {reason}"]

    WorkOSConflict.objects.update(acknowledged_at=NOON)
    shown_by(mode, 3, external_id="gram-2")
    assert WorkOSConflict.objects.get().acknowledged_at == NOON
    shown_by(mode, 4, external_id="gram-3")
    assert WorkOSConflict.objects.get().acknowledged_at is None, "it is a new one"

    shown_by(mode, 5, external_id="gram-1")
    assert not WorkOSConflict.objects.exists()


# Beside other programs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        pytest.param("'gram-1', 's', NULL", "linked", id="same id: our insert becomes an update"),
        pytest.param("'gram-9', 'acme', NULL", "created", id="same slug: ours gets another"),
        pytest.param("'gram-9', 's', 'org_1'", "updated", id="same link: the row is theirs"),
    ],
)
def test_an_insert_of_another_program_that_commits_first_wins(values: str, outcome: str) -> None:
    insert = f"INSERT INTO organization_metadata (name, id, slug, workos_id) VALUES ('', {values})"  # noqa: S608

    report = blocked_by(insert, lambda: live(an_event(1, external_id="gram-1")))

    assert +report.counts == {outcome: 1}
    assert Organization.objects.get(workos_id="org_1").name == "Acme"


@pytest.mark.parametrize("mode", [Mode.LIVE, Mode.RECONCILE])
def test_a_row_is_locked_before_it_is_decided_about(mode: Mode) -> None:
    an_organization_row("gram-1", workos_id="org_1")

    report = blocked_by(
        "UPDATE organization_metadata SET name = 'Newer', workos_last_event_id = 'event_0009',"
        " workos_updated_at = '2026-02-01'",
        lambda: shown_by(mode, 5, name="Older"),
    )

    assert +report.counts == {Outcome.STALE: 1}
    assert Organization.objects.get().name == "Newer"


@pytest.mark.parametrize(
    ("table", "key", "locked", "free"),
    [
        ("organization_metadata", "id", "gram-2", ["gram-3", "gram-4"]),
        ("workos_event", "id", "event_0002", ["event_0003", "event_0004"]),
        ("workos_external_id_write_back", "organization_id", "gram-2", ["gram-3", "gram-4"]),
        ("workos_conflict", "workos_organization_id", "org_c2", ["org_c3", "org_c4"]),
    ],
)
def test_rows_of_every_table_are_locked_in_the_order_of_their_keys(
    table: str, key: str, locked: str, free: list[str]
) -> None:
    numbers = [*reversed(range(5))]
    for number in numbers:
        an_organization_row(f"gram-{number}", workos_id=f"org_{number}")
        an_organization_row(f"gram-c{number}", workos_id=f"org_c{number}")
    events = [an_event(n, workos_id=f"org_{n}") for n in numbers]
    replay(*events, *(an_event(n + 10, workos_id=f"org_c{n}", external_id="x") for n in numbers))
    WorkOSEvent.objects.filter(id__lte=an_event_id(4)).update(outcome=None, processed_at=None)
    Organization.objects.update(workos_last_event_id=None)
    conflicts = [an_event(n + 20, workos_id=f"org_c{n}", external_id="y") for n in numbers]

    lock = f"SELECT FROM {table} WHERE {key} = '{locked}' FOR UPDATE"
    with stopped_at(lock, lambda: replay(*events, *conflicts)):
        query = f"SELECT {key} FROM {table} ORDER BY 1 FOR UPDATE SKIP LOCKED"  # noqa: S608
        still_free = [id_ for (id_,) in execute(query)]

    assert [id_ for id_ in still_free if id_ >= locked][: len(free)] == free
    assert not [id_ for id_ in still_free if locked[:-1] in id_ and id_ <= locked]


def test_new_rows_are_inserted_in_the_order_of_their_ids() -> None:
    numbers = reversed(range(5))
    events = [
        an_event(n, workos_id=f"org_{n}", name=f"Name {9 - n}", external_id=f"gram-{n}")
        for n in numbers
    ]
    insert = "INSERT INTO organization_metadata (id, name, slug) VALUES ('{0}', '', '{0}')"

    with (
        stopped_at(insert.format("gram-2"), lambda: replay(*events)),
        changed("SET lock_timeout = '200ms'", "RESET lock_timeout"),
        transaction.atomic(),
    ):
        # Not inserted yet by the page, or this would have to wait for it.
        execute(insert.format("gram-4"))
        transaction.set_rollback(True)

    assert Organization.objects.count() == 5


def test_foreign_keys_of_other_programs_go_on_working_while_a_page_is_applied() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    theirs = "CREATE TABLE theirs (id text REFERENCES organization_metadata (id))"

    with (
        changed(theirs, "DROP TABLE theirs"),
        # Stops the page after it has locked its rows: at the ledger.
        stopped_at("LOCK TABLE workos_event IN EXCLUSIVE MODE", lambda: live(an_event(1))),
        changed("SET lock_timeout = '200ms'", "RESET lock_timeout"),
    ):
        execute("INSERT INTO theirs VALUES ('gram-1')")

    assert Organization.objects.get().workos_last_event_id == an_event_id(1)


def test_slug_locks_are_acquired_in_the_order_of_their_hashes() -> None:
    numbers = range(20)
    events = [an_event(n, workos_id=f"org_{n}", name=f"Name {n}") for n in numbers]

    query = "SELECT hashtext(slug) FROM unnest(%s::text[]) AS slug ORDER BY 1"
    hashes = [key for (key,) in execute(query, [f"name-{n}" for n in numbers])]
    with stopped_at(f"SELECT pg_advisory_xact_lock({hashes[10]})", lambda: replay(*events)):
        acquired = execute(
            """
            SELECT (classid::bigint << 32) | objid::bigint AS key
            FROM pg_locks JOIN pg_database AS d ON d.oid = database
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                AND datname = current_database()
            ORDER BY key
            """
        )

    assert [key for (key,) in acquired] == hashes[:11], "the last one is the other program's"


@pytest.mark.parametrize("mode", [Mode.REPLAY, Mode.REFRESH, Mode.RECONCILE])
def test_a_deletion_that_the_stream_brings_meanwhile_is_not_undone(mode: Mode) -> None:
    """The other writers share the cursor's lock, and the stream waits for them."""
    ensure_cursor()
    said = an_event(1) if mode is Mode.REPLAY else an_organization()

    # Stops the first after its look for deletions, and before its insert.
    lock = "SELECT pg_advisory_xact_lock(hashtext('acme'))"
    with in_thread() as start:
        with stopped_at(lock, lambda: apply(Batch(observations=[said]), mode)):
            deleting = start(lambda: live(a_deletion(2)))
            wait_until(lambda: deleting.done() or blocked() == 2, "it is applied, or waits")
        deleting.result()

    assert not Organization.objects.filter(disabled_at=None).exists()
