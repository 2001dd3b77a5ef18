"""``apply_page`` against real PostgreSQL, beside rivals that hold real locks."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Barrier

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from orgs.db.cursor import CursorLocked, ensure_cursor
from orgs.domain.naming import derived_id
from orgs.domain.resolution import (
    UnreadableEvent,
)
from orgs.domain.types import (
    EventType,
    Outcome,
    Position,
)
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services.apply import Applied, apply_page
from orgs.workos import EventPage
from tests.builders import (
    NOON,
    a_deletion,
    a_page,
    an_event,
    an_event_id,
    an_organization_row,
    minutes,
)
from tests.concurrency import another_program, in_thread, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")


def position() -> Position:
    row = SyncCursor.objects.get()
    return Position(row.last_event_id, row.last_event_at)


def outcomes(applied: Applied) -> list[Outcome]:
    return [entry.resolved.outcome for entry in applied.entries]


def in_ledger() -> dict[str, str | None]:
    return dict(WorkOSEvent.objects.values_list("id", "outcome"))


# What a page writes -------------------------------------------------------------------------


def test_a_page_writes_rows_ledger_outbox_and_cursor_at_once() -> None:
    page = a_page(an_event(1, name="Acme"), an_event(2, workos_id="org_2", external_id="gram-2"))

    applied = apply_page(page)

    assert outcomes(applied) == [Outcome.CREATED, Outcome.CREATED]
    assert applied.requested_write_backs
    row = Organization.objects.get(workos_id="org_1")
    assert (row.id, row.name, row.slug) == (derived_id("org_1"), "Acme", "acme")
    assert (row.workos_updated_at, row.workos_last_event_id) == (NOON, an_event_id(1))
    assert (row.gram_account_type, row.whitelisted, row.disabled_at) == ("free", True, None)
    assert in_ledger() == {an_event_id(1): "created", an_event_id(2): "created"}
    assert [(w.organization_id, w.workos_id) for w in ExternalIdWriteBack.objects.all()] == [
        (row.id, "org_1")
    ]
    assert position() == Position(an_event_id(2), NOON)


def test_the_ledger_says_what_became_of_which_row() -> None:
    apply_page(a_page(an_event(1, external_id="gram-1")))

    entry = WorkOSEvent.objects.get()
    assert (entry.type, entry.workos_organization_id) == ("organization.updated", "org_1")
    assert (entry.organization_id, entry.occurred_at) == ("gram-1", NOON)
    assert entry.processed_at is not None
    assert (entry.error, entry.payload, entry.announced_at) == ("", None, None)


def test_an_update_leaves_the_columns_of_others_alone() -> None:
    before = an_organization_row(
        "gram-1",
        workos_id="org_1",
        name="Old",
        slug="chosen-by-hand",
        gram_account_type="enterprise",
        whitelisted=False,
        disabled_at=NOON,
        created_at=NOON,
    )

    apply_page(a_page(an_event(name="Renamed")))

    after = Organization.objects.get()
    assert after.name == "Renamed"
    assert after.updated_at > before.updated_at
    for column in ("slug", "gram_account_type", "whitelisted", "disabled_at", "created_at"):
        assert getattr(after, column) == getattr(before, column), column


def test_a_deletion_disables_the_row_and_keeps_when_that_was_first() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    apply_page(a_page(a_deletion(1)))
    first = Organization.objects.get()

    apply_page(a_page(a_deletion(2), read_from=position()))

    again = Organization.objects.get()
    assert first.disabled_at is not None
    assert again.disabled_at == first.disabled_at
    assert (again.workos_id, again.workos_last_event_id) == ("org_1", an_event_id(2))


def test_a_row_that_is_created_and_deleted_in_a_page_is_inserted_disabled() -> None:
    apply_page(a_page(an_event(1), a_deletion(2)))

    row = Organization.objects.get()
    assert row.disabled_at is not None
    assert not ExternalIdWriteBack.objects.exists()


def test_links_can_be_handed_on_within_a_page() -> None:
    an_organization_row("gram-a", workos_id="org_1")
    an_organization_row("gram-b", workos_id="org_2")

    apply_page(
        a_page(
            an_event(1, workos_id="org_3", external_id="gram-b"),
            an_event(2, workos_id="org_2", external_id="gram-a"),
            an_event(3, workos_id="org_1", external_id="gram-c"),
        )
    )

    assert dict(Organization.objects.values_list("id", "workos_id")) == {
        "gram-a": "org_2",
        "gram-b": "org_3",
        "gram-c": "org_1",
    }


def test_an_event_that_shows_our_id_takes_the_row_out_of_the_outbox() -> None:
    apply_page(a_page(an_event(1)))

    apply_page(a_page(an_event(2, external_id=derived_id("org_1")), read_from=position()))

    assert not ExternalIdWriteBack.objects.exists()


def test_a_new_request_for_a_row_replaces_the_one_that_waits_for_a_person() -> None:
    apply_page(a_page(an_event(1)))
    ExternalIdWriteBack.objects.update(next_attempt_at=None, attempts=7, last_error="taken")
    before = ExternalIdWriteBack.objects.get()

    apply_page(a_page(an_event(2), read_from=position()))

    after = ExternalIdWriteBack.objects.get()
    assert after.next_attempt_at is not None
    assert (after.attempts, after.last_error) == (0, "")
    assert after.requested_at > before.requested_at


def test_the_end_of_the_stream_is_noted_only_when_it_was_reached() -> None:
    apply_page(a_page(an_event(1), is_last=False))
    before = SyncCursor.objects.get().drained_at

    apply_page(a_page(an_event(2), read_from=position(), is_last=True))

    assert before is None
    assert SyncCursor.objects.get().drained_at == NOON


def test_a_page_of_a_hundred_takes_as_many_statements_as_a_page_of_two(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    def page(count: int, first: int) -> EventPage:
        events = [
            an_event(first + n, workos_id=f"org_{first + n}", name=f"Org {first + n}")
            for n in range(count)
        ]
        return a_page(*events, read_from=position())

    apply_page(a_page(an_event(0, workos_id="org_0")))

    for size, first in ((2, 10), (100, 1000)):
        creations = page(size, first)
        # BEGIN; time-out and cursor; rows and deletions; slug locks and slugs taken; rows, outbox,
        # ledger and cursor; COMMIT.
        with django_assert_num_queries(6):
            apply_page(creations)


# Slugs --------------------------------------------------------------------------------------


def test_a_rename_into_a_siblings_slug_changes_the_name_and_no_slug() -> None:
    apply_page(a_page(an_event(1, name="Acme"), an_event(2, workos_id="org_2", name="Bolt")))

    applied = apply_page(a_page(an_event(3, workos_id="org_2", name="Acme"), read_from=position()))

    assert outcomes(applied) == [Outcome.UPDATED]
    assert sorted(Organization.objects.values_list("name", "slug")) == [
        ("Acme", "acme"),
        ("Acme", "bolt"),
    ]


def test_namesakes_in_a_page_get_slugs_of_their_own() -> None:
    an_organization_row("gram-0", slug="acme")

    apply_page(a_page(*(an_event(n, workos_id=f"org_{n}", name="Acme") for n in range(1, 30))))

    slugs = list(Organization.objects.exclude(id="gram-0").values_list("slug", flat=True))
    assert len(set(slugs)) == 29
    assert all(slug.startswith("acme-") and len(slug) == len("acme-0000") for slug in slugs)


# The compare-and-set ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read_from",
    [
        pytest.param(Position(), id="from the beginning"),
        pytest.param(Position("event_0000"), id="from another event"),
        pytest.param(Position(None, NOON), id="from a time"),
    ],
)
def test_a_page_read_from_elsewhere_is_dropped(read_from: Position) -> None:
    apply_page(a_page(an_event(1, name="Acme")))
    stands_at = position()

    applied = apply_page(a_page(an_event(9, name="Skipped ahead"), read_from=read_from))

    assert applied == Applied((), dropped=True)
    assert Organization.objects.get().name == "Acme"
    assert position() == stands_at
    assert list(in_ledger()) == [an_event_id(1)]


@pytest.mark.parametrize("read_from", [Position(), Position(None, NOON - minutes(1))])
def test_a_page_read_from_another_time_is_dropped(read_from: Position) -> None:
    """A position that was recovered has a time alone: it is all there is to compare."""
    ensure_cursor()
    SyncCursor.objects.update(last_event_at=NOON)

    assert apply_page(a_page(an_event(1), read_from=read_from)).dropped
    assert not Organization.objects.exists()


def test_two_drains_of_one_page_apply_it_once() -> None:
    page = a_page(*(an_event(n, workos_id=f"org_{n}") for n in range(50)))
    both_are_there = Barrier(2)

    def drain() -> Applied:
        both_are_there.wait()
        return apply_page(page)

    with in_thread() as start:
        results = [drain_.result() for drain_ in [start(drain), start(drain)]]

    assert sorted(applied.dropped for applied in results) == [False, True]
    assert Organization.objects.count() == 50


def test_a_page_waits_for_the_one_before_it_and_is_then_dropped() -> None:
    apply_page(a_page(an_event(1)))
    stale_page = a_page(an_event(2, name="Twice"), read_from=position())

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        applying = start(lambda: apply_page(stale_page))
        wait_until_blocked()
        rival.execute("UPDATE workos_sync_cursor SET last_event_id = 'event_0002'")
        rival.commit()
        applied = applying.result()

    assert applied.dropped
    assert Organization.objects.get().name == "Acme"


def test_a_replay_neither_needs_nor_moves_the_cursor() -> None:
    apply_page(a_page(an_event(5, name="Newest")))
    stands_at = position()
    an_organization_row("gram-9", workos_id="org_9", name="Missed")

    applied = apply_page(
        a_page(an_event(3, name="Old"), an_event(4, workos_id="org_9", name="Found")), replay=True
    )

    assert outcomes(applied) == [Outcome.STALE, Outcome.UPDATED]
    assert position() == stands_at
    assert Organization.objects.get(id="gram-9").name == "Found"


# Beside other programs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        pytest.param(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-1', 'Signup', 's')",
            Outcome.LINKED,
            id="same id: the insert becomes our update",
        ),
        pytest.param(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-9', 'Acme', 'acme')",
            Outcome.CREATED,
            id="same slug: ours gets another",
        ),
        pytest.param(
            "INSERT INTO organization_metadata (id, name, slug, workos_id)"
            " VALUES ('gram-9', 'Signup', 's', 'org_1')",
            Outcome.UPDATED,
            id="same workos_id: the row is theirs",
        ),
    ],
)
def test_an_insert_of_another_program_that_commits_first_wins(
    statement: str, outcome: Outcome
) -> None:
    with another_program() as rival, in_thread() as start:
        rival.execute(statement)
        applying = start(lambda: apply_page(a_page(an_event(1, external_id="gram-1"))))
        wait_until_blocked()
        rival.commit()
        applied = applying.result()

    assert outcomes(applied) == [outcome]
    assert Organization.objects.get(workos_id="org_1").name == "Acme"
    assert len(set(Organization.objects.values_list("slug", flat=True))) == (
        Organization.objects.count()
    )


def test_a_deadlock_with_another_program_is_survived() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    an_organization_row("gram-2", workos_id="org_2")
    page = a_page(an_event(1, name="A"), an_event(2, workos_id="org_2", name="B"))

    with another_program() as rival, in_thread() as start:
        rival.execute("UPDATE organization_metadata SET name = 'theirs' WHERE id = 'gram-2'")
        applying = start(lambda: apply_page(page))
        wait_until_blocked()
        # Now each waits for the other; PostgreSQL ends one of the two.
        try:
            rival.execute("UPDATE organization_metadata SET name = 'theirs' WHERE id = 'gram-1'")
            rival.commit()
        except psycopg.errors.DeadlockDetected:
            rival.rollback()
        applied = applying.result()

    assert outcomes(applied) == [Outcome.UPDATED, Outcome.UPDATED]
    assert sorted(Organization.objects.values_list("name", flat=True)) == ["A", "B"]


def test_rows_are_locked_in_id_order_so_that_pages_never_deadlock() -> None:
    ids = [f"gram-{n}" for n in range(10)]
    for id_ in ids:
        an_organization_row(id_, workos_id=f"org_{id_}")
    events = [an_event(n, workos_id=f"org_{id_}") for n, id_ in enumerate(ids)]

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM organization_metadata WHERE id = 'gram-5' FOR UPDATE")
        applying = start(lambda: apply_page(a_page(*reversed(events)), replay=True))
        wait_until_blocked()
        with another_program() as onlooker:
            free = onlooker.execute(
                "SELECT id FROM organization_metadata ORDER BY id FOR UPDATE SKIP LOCKED"
            ).fetchall()
        rival.rollback()
        applying.result()

    assert [id_ for (id_,) in free] == ["gram-6", "gram-7", "gram-8", "gram-9"]


def test_a_locked_cursor_is_waited_for_once(sync_setting: Callable[..., None]) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    ensure_cursor()
    page = a_page(*(an_event(number, workos_id=f"org_{number}") for number in (1, 2)))

    with another_program() as rival, CaptureQueriesContext(connection) as queries:
        rival.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        with pytest.raises(CursorLocked):
            apply_page(page)

    assert len([query for query in queries if "FROM workos_sync_cursor" in query["sql"]]) == 1


def test_foreign_keys_of_other_programs_go_on_working_while_a_page_is_applied() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    with another_program() as rival:
        rival.execute("CREATE TABLE theirs (id text REFERENCES organization_metadata (id))")
        rival.commit()
        try:
            with another_program() as holder, in_thread() as start:
                # Stops the page after it has locked its rows: at the ledger.
                holder.execute("LOCK TABLE workos_event IN EXCLUSIVE MODE")
                applying = start(lambda: apply_page(a_page(an_event(1))))
                wait_until_blocked()
                rival.execute("SET lock_timeout = '100ms'")
                rival.execute("INSERT INTO theirs VALUES ('gram-1')")
                rival.commit()
                holder.rollback()
                applying.result()
        finally:
            rival.rollback()
            rival.execute("DROP TABLE theirs")
            rival.commit()

    assert Organization.objects.get().workos_last_event_id == an_event_id(1)


def test_pages_with_the_same_new_names_wait_for_each_others_slugs() -> None:
    ensure_cursor()
    first = a_page(an_event(1, workos_id="org_1", name="Acme"))
    second = a_page(an_event(2, workos_id="org_2", name="Acme"))

    with another_program() as holder, in_thread() as start:
        holder.execute("LOCK TABLE workos_event IN EXCLUSIVE MODE")
        applying = [start(lambda: apply_page(first, replay=True))]
        wait_until_blocked(1)
        applying.append(start(lambda: apply_page(second, replay=True)))
        wait_until_blocked(2)
        waits_for = holder.execute(
            "SELECT locktype FROM pg_locks JOIN pg_database AS d ON d.oid = database"
            " WHERE NOT granted AND datname = current_database() ORDER BY locktype"
        ).fetchall()
        holder.rollback()
        for page in applying:
            page.result()

    assert waits_for == [("advisory",), ("relation",)]
    assert Organization.objects.filter(slug__startswith="acme").count() == 2


def test_slug_locks_are_taken_in_the_order_of_their_hashes() -> None:
    names = [f"Name {n}" for n in range(20)]
    page = a_page(*(an_event(n, workos_id=f"org_{n}", name=name) for n, name in enumerate(names)))

    with another_program() as rival, in_thread() as start:
        slugs = [name.lower().replace(" ", "-") for name in names]
        rows = rival.execute(
            "SELECT hashtext(slug) FROM unnest(%s::text[]) AS slug ORDER BY 1", [slugs]
        )
        hashes = [key for (key,) in rows]
        rival.execute("SELECT pg_advisory_xact_lock(%s)", [hashes[10]])
        applying = start(lambda: apply_page(page, replay=True))
        wait_until_blocked()
        held = rival.execute(
            """
            SELECT (classid::bigint << 32) | objid::bigint AS key
            FROM pg_locks JOIN pg_database AS d ON d.oid = database
            WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
                AND datname = current_database()
            ORDER BY key
            """
        ).fetchall()
        rival.rollback()
        applying.result()

    assert [key for (key,) in held] == hashes[:10]


# Trouble ------------------------------------------------------------------------------------


@pytest.fixture
def a_name_is_forbidden(database: None) -> Iterator[None]:
    """PostgreSQL refuses one name, as a constraint of another program's might."""
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE organization_metadata ADD CONSTRAINT theirs CHECK (name <> 'Forbidden')"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE organization_metadata DROP CONSTRAINT theirs")


@pytest.mark.usefixtures("a_name_is_forbidden")
def test_an_event_whose_content_postgresql_refuses_is_parked_and_the_rest_goes_on() -> None:
    bad = an_event(2, workos_id="org_2", name="Forbidden")

    applied = apply_page(a_page(an_event(1), bad, an_event(3, workos_id="org_3")))

    assert outcomes(applied) == [Outcome.CREATED, Outcome.PARKED, Outcome.CREATED]
    assert applied.requested_write_backs
    assert position() == Position(an_event_id(3), NOON)
    parked = WorkOSEvent.objects.parked().get()
    assert (parked.id, parked.workos_organization_id) == (an_event_id(2), "org_2")
    assert "theirs" in parked.error
    assert parked.payload == '{"id": "event_0002"}'
    assert set(Organization.objects.values_list("workos_id", flat=True)) == {"org_1", "org_3"}


@pytest.mark.usefixtures("a_name_is_forbidden")
def test_a_replay_parks_what_postgresql_refuses_and_leaves_the_cursor_alone() -> None:
    apply_page(a_page(an_event(1)))

    applied = apply_page(
        a_page(an_event(2, workos_id="org_2", name="Forbidden"), an_event(3)), replay=True
    )

    assert outcomes(applied) == [Outcome.PARKED, Outcome.UPDATED]
    assert position() == Position(an_event_id(1), NOON)


@pytest.mark.usefixtures("a_name_is_forbidden")
def test_one_by_one_stops_where_someone_else_has_moved_the_cursor() -> None:
    page = a_page(
        an_event(1),
        an_event(2, workos_id="org_2"),
        an_event(3, workos_id="org_3", name="Forbidden"),
    )
    with connection.cursor() as cursor:
        # The first event, applied alone, jumps the cursor, as a rival between the two would.
        cursor.execute(
            """
            CREATE FUNCTION jump() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.last_event_id = 'event_0001' THEN NEW.last_event_id := 'event_0002'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER jump BEFORE UPDATE ON workos_sync_cursor
            FOR EACH ROW EXECUTE FUNCTION jump();
            """
        )
    try:
        applied = apply_page(page)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION jump CASCADE")

    assert outcomes(applied) == [Outcome.CREATED]
    assert applied.dropped
    assert not WorkOSEvent.objects.parked().exists()


def test_an_unreadable_event_is_parked_with_its_payload_and_its_error() -> None:
    unreadable = UnreadableEvent(
        id="event_9",
        type="organization.updated",
        workos_id=None,
        occurred_at=None,
        error="data.name has a \0 and a \ud800",
    )

    applied = apply_page(a_page(unreadable, raw={"id": "event_9", "data": {"name": "\0\ud800"}}))

    assert outcomes(applied) == [Outcome.PARKED]
    parked = WorkOSEvent.objects.get()
    assert parked.error == "data.name has a \\x00 and a \\ud800"
    assert parked.payload == '{"id": "event_9", "data": {"name": "\\u0000\\ud800"}}'


def test_a_missing_column_parks_nothing_and_moves_nothing() -> None:
    apply_page(a_page(an_event(1)))
    stands_at = position()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE organization_metadata RENAME workos_updated_at TO gone")
    try:
        with pytest.raises(ProgrammingError):
            apply_page(a_page(an_event(2), an_event(3), read_from=stands_at))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata RENAME gone TO workos_updated_at")

    assert position() == stands_at
    assert list(in_ledger()) == [an_event_id(1)]


def test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it(
    sync_setting: Callable[..., None],
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-2", workos_id="org_2", name="Before")
    page = a_page(an_event(1), an_event(2, workos_id="org_2", name="After"), an_event(3))

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata WHERE id = 'gram-2' FOR UPDATE")
        applied = apply_page(page)

    assert [entry.event.id for entry in applied.entries] == [an_event_id(1)]
    assert isinstance(applied.interrupted_by, OperationalError)
    assert applied.requested_write_backs
    assert position() == Position(an_event_id(1), NOON)
    assert not WorkOSEvent.objects.parked().exists()
    assert Organization.objects.get(id="gram-2").name == "Before"


def test_the_lock_time_out_ends_with_the_transaction() -> None:
    apply_page(a_page(an_event(1)))

    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.usefixtures("a_name_is_forbidden")
def test_a_race_that_is_lost_every_time_is_given_up_after_a_bounded_number() -> None:
    # A trigger that fails as a unique index would, whatever is tried.
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE SEQUENCE attempts;
            CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM nextval('attempts');
                RAISE unique_violation USING MESSAGE = 'lost the race';
            END $$;
            CREATE TRIGGER lose BEFORE INSERT ON organization_metadata
            FOR EACH ROW WHEN (NEW.workos_id = 'org_1') EXECUTE FUNCTION lose();
            """
        )
    try:
        applied = apply_page(a_page(an_event(1), an_event(2, workos_id="org_2")))
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM attempts")
            (attempts,) = cursor.fetchone()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION lose CASCADE; DROP SEQUENCE attempts")

    assert outcomes(applied) == [Outcome.PARKED, Outcome.CREATED]
    assert attempts == 10, "five times as a page, five times alone"


# The ledger ---------------------------------------------------------------------------------


def test_the_first_outcome_of_an_event_stays() -> None:
    apply_page(a_page(an_event(1)))
    first = WorkOSEvent.objects.get()

    applied = apply_page(a_page(an_event(1)), replay=True)

    assert outcomes(applied) == [Outcome.STALE]
    again = WorkOSEvent.objects.get()
    assert (again.outcome, again.processed_at) == ("created", first.processed_at)


def test_an_event_listed_twice_in_a_page_keeps_its_first_outcome() -> None:
    applied = apply_page(a_page(an_event(1), an_event(1)))

    assert outcomes(applied) == [Outcome.CREATED, Outcome.STALE]
    assert in_ledger() == {an_event_id(1): "created"}


def test_a_parked_events_outcome_changes_when_it_is_applied_after_all() -> None:
    unreadable = UnreadableEvent(
        id=an_event_id(1), type="", workos_id=None, occurred_at=None, error="no"
    )
    apply_page(a_page(unreadable))

    apply_page(a_page(an_event(1, external_id="gram-1")), replay=True)

    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.error, entry.payload) == ("created", "", None)
    assert entry.organization_id == "gram-1"


def test_an_announced_event_keeps_when_it_was_announced() -> None:
    announced_at = datetime(2026, 1, 1, tzinfo=UTC)
    WorkOSEvent.objects.create(id=an_event_id(1), type=EventType.UPDATED, announced_at=announced_at)

    apply_page(a_page(an_event(1)))

    entry = WorkOSEvent.objects.get()
    assert (entry.announced_at, entry.outcome) == (announced_at, "created")


def test_a_failed_page_leaves_nothing_behind() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE workos_sync_cursor RENAME failures TO gone")
    try:
        with pytest.raises(DatabaseError):
            apply_page(a_page(an_event(1)))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE workos_sync_cursor RENAME gone TO failures")

    assert not Organization.objects.exists()
    assert not WorkOSEvent.objects.exists()
    assert not ExternalIdWriteBack.objects.exists()


def test_an_older_events_time_does_not_matter_to_a_greater_id() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    apply_page(a_page(an_event(1, updated_at=NOON + minutes(5))))

    applied = apply_page(a_page(an_event(2, updated_at=NOON), read_from=position()))

    assert outcomes(applied) == [Outcome.UPDATED]


@pytest.mark.parametrize("size", [1, 2])
def test_a_deletion_listed_before_the_creation_keeps_the_organization_out(size: int) -> None:
    ensure_cursor()
    listed = [a_deletion(2), an_event(1)]

    for start in range(0, 2, size):
        apply_page(a_page(*listed[start : start + size], read_from=position()))

    assert not Organization.objects.exists()
    assert not ExternalIdWriteBack.objects.exists()
    assert dict(WorkOSEvent.objects.values_list("id", "outcome")) == {
        an_event_id(1): Outcome.STALE,
        an_event_id(2): Outcome.UNKNOWN,
    }
