"""The tables: their defaults for programs that write SQL, an index for each hot query, and what
migrations do beside what Django generates."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, connection

from orgs.db import sql, sql_outbox
from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.domain.types import EVENT_OUTCOMES
from orgs.models import ExternalIdWriteBack, Organization, OrganizationMembership, WorkOSEvent
from tests.builders import NOON, an_organization_row
from tests.concurrency import another_program, in_thread, wait_until
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

DAY, MINUTE = timedelta(days=1), timedelta(seconds=60)
EVENTS = WorkOSEvent.objects


@pytest.mark.parametrize(
    "row",
    [
        "organization_metadata (id, name, slug) VALUES ('2', 'A', 'a')",
        "workos_sync_cursor (stream) VALUES ('organizations')",
        "workos_event (id, type) VALUES ('event_1', 'organization.created')",
        "workos_external_id_write_back (organization_id, workos_id) VALUES ('1', '2')",
        "workos_request_budget DEFAULT VALUES",
        "workos_conflict (workos_organization_id, kind, reason) VALUES ('org_1', 'a', '')",
    ],
)
def test_other_programs_insert_with_the_columns_they_know(row: str) -> None:
    an_organization_row("1")

    execute(f"INSERT INTO {row}")

    assert ExternalIdWriteBack.objects.due().count() == ("write_back" in row)
    for organization in Organization.objects.all():
        assert (organization.gram_account_type, organization.whitelisted) == ("free", True)
        assert (organization.workos_id, organization.disabled_at) == (None, None)
        assert abs(organization.created_at - datetime.now(UTC)) < timedelta(minutes=5)
        assert organization.updated_at == organization.created_at


def test_tables_of_resources_have_room_for_updates_that_no_index_sees() -> None:
    tables = [model_of(resource)._meta.db_table for resource in PLAIN.values()]

    found = execute("SELECT relname, reloptions FROM pg_class WHERE relname = ANY(%s)", tables)

    assert dict(found) == {table: ["fillfactor=85"] for table in tables}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"outcome": "unchanged", "processed_at": NOON}, id="a snapshot's"),
        pytest.param({"outcome": "created"}, id="outcome without time"),
        pytest.param({"processed_at": NOON}, id="time without outcome"),
    ],
)
def test_the_ledger_takes_every_outcome_and_refuses_what_is_none(values: dict[str, Any]) -> None:
    for outcome in EVENT_OUTCOMES:
        WorkOSEvent.objects.create(id=outcome, outcome=outcome, processed_at=NOON)
    with pytest.raises(IntegrityError, match="workos_event_outcome"):
        WorkOSEvent.objects.create(id="event_1", **values)


@pytest.mark.parametrize(
    ("stored", "year"),
    [("infinity", 9999), ("12026-01-01", 9999), ("-infinity", 1), ("0044-03-15 BC", 1)],
)
def test_a_time_that_python_cant_hold_is_read_as_the_nearest_one(stored: str, year: int) -> None:
    an_organization_row("gram-1", created_at=stored)

    assert Organization.objects.get().created_at.year == year


@pytest.fixture
def full_tables(database: None) -> None:
    """Enough rows that reading a whole table is never the cheapest plan."""
    execute(
        """
        INSERT INTO organization_metadata (id, name, slug, workos_id)
        SELECT 'gram-' || n, 'Name', 'slug-' || n, 'org_' || n FROM generate_series(1, 60000) n;
        INSERT INTO workos_event (id, type, workos_organization_id, outcome, processed_at)
        SELECT 'event_' || n, 'organization.updated', 'org_' || n,
            CASE WHEN n % 1000 = 0 THEN 'parked' ELSE 'updated' END, now()
        FROM generate_series(1, 20000) n;
        INSERT INTO workos_external_id_write_back (organization_id, workos_id, next_attempt_at)
        SELECT id, workos_id, now() + interval '1 hour' FROM organization_metadata LIMIT 20000;
        ANALYZE organization_metadata, workos_event, workos_external_id_write_back
        """
    )


def explained(statement: str, *parameters: object) -> Callable[[], str]:
    return lambda: "\n".join(line for (line,) in execute(f"EXPLAIN {statement}", *parameters))


ORGANIZATIONS, ROWS = [f"org_{n}" for n in range(100)], [f"gram-{n}" for n in range(100)]
#: Of the rows of a page: both are used.
BOTH_KEYS = "organization_metadata_workos_id_key organization_metadata_"
SLUGS = [f"slug-{n}" for n in range(600)]
ROW = Organization(id="gram-7", workos_id="org_7")

#: How it is asked, and the index that PostgreSQL uses for it.
PLANS = {
    "rows of a page": (explained(sql.LOCK_ORGANIZATIONS, ORGANIZATIONS, ROWS), BOTH_KEYS),
    "slugs": (explained(sql.TAKEN_SLUGS, SLUGS), "organization_metadata_slug_key"),
    "deletions": (explained(sql.KNOWN_DELETIONS, ["org_1"]), "workos_event_deletion"),
    "refused": (
        explained(sql.REFUSED_BEFORE, "PostgreSQL 23502:", "org_1"),
        "workos_event_processed",
    ),
    "due": (
        explained(sql_outbox.LOCK_DUE_WRITE_BACKS, NOON, ["gram-1"], None, None, 40),
        "workos_write_back_due",
    ),
    "unseen": (EVENTS.unseen(within=MINUTE).explain, "workos_event_unseen"),
    "overdue": (EVENTS.overdue(after=MINUTE)[:100].explain, "workos_event_unseen"),
    "parked": (EVENTS.parked().filter(id="event_1000").explain, "workos_event_"),
    "history": (EVENTS.about(ROW)[:50].explain, "workos_event_row workos_event_organization"),
    "prunable": (EVENTS.prunable(after=90 * DAY).explain, "workos_event_processed"),
}


@pytest.mark.usefixtures("full_tables")
def test_what_is_asked_often_uses_its_index() -> None:
    wrong = {}
    for what, (explain, indexes) in PLANS.items():
        plan = explain()
        if "Seq Scan" in plan or not all(index in plan for index in indexes.split()):
            wrong[what] = plan

    assert wrong == {}


# Migrations ---------------------------------------------------------------------------------

THEIRS = "organization_metadata_id_2812479d_like"
OURS = "workos_event_id_b7e6a2b6_like"


@pytest.fixture
def doubled_indexes(database: None) -> Iterator[None]:
    """As Django makes them for text keys."""
    execute(f"CREATE INDEX {THEIRS} ON organization_metadata (id text_pattern_ops)")
    execute(f"CREATE INDEX {OURS} ON workos_event (id text_pattern_ops)")
    yield
    execute(f"DROP INDEX IF EXISTS {THEIRS}, {OURS}")
    execute("ALTER TABLE organization_metadata SET (fillfactor = 85)")


def drop_doubled_indexes() -> None:
    migration = import_module("orgs.migrations.0003_one_index_a_key")
    with connection.schema_editor(atomic=False) as schema_editor:
        migration.drop(apps, schema_editor)


def indexes() -> set[str]:
    return {name for (name,) in execute("SELECT indexname FROM pg_indexes")} & {THEIRS, OURS}


@pytest.mark.usefixtures("doubled_indexes")
@pytest.mark.parametrize("was_there_before", [False, True])
def test_unused_indexes_are_dropped_but_of_a_table_that_was_there(was_there_before: bool) -> None:
    if was_there_before:
        execute("ALTER TABLE organization_metadata RESET (fillfactor)")

    drop_doubled_indexes()

    assert indexes() == ({THEIRS} if was_there_before else set())


@pytest.mark.usefixtures("doubled_indexes")
def test_while_it_waits_for_a_long_reader_everyone_goes_on() -> None:
    with another_program() as reader, in_thread() as start:
        reader.execute("SELECT count(*) FROM workos_event")
        dropping = start(drop_doubled_indexes)
        wait_until(_someone_waits_for_the_reader, "the migration waits")
        with another_program() as other:
            other.execute("SET lock_timeout = '1s'")
            other.execute("SELECT count(*) FROM organization_metadata")
            other.execute("UPDATE workos_event SET error = ''")
        reader.rollback()
        dropping.result()

    assert indexes() == set()


def _someone_waits_for_the_reader() -> bool:
    waiting = "query LIKE 'DROP INDEX%' AND wait_event_type = 'Lock'"
    ours = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    return bool(execute(f"{ours} AND {waiting}"))


def test_the_user_that_a_membership_held_is_removed_from_each_row() -> None:
    user = {"email": "a@b.c"}
    rows = {f"om_{number:04}": {"id": number, "user": user} for number in range(1_001)}
    kept = {"om_none": {"custom_attributes": {"user": 1}}}
    OrganizationMembership.objects.bulk_create(
        OrganizationMembership(pk=key, data=data) for key, data in (rows | kept).items()
    )
    migration = import_module("orgs.migrations.0012_memberships_without_user").Migration

    for _ in range(2):
        with connection.schema_editor(atomic=migration.atomic) as schema_editor:
            migration.operations[-1].database_forwards("orgs", schema_editor, None, None)

    left = dict(OrganizationMembership.objects.values_list("pk", "data"))
    assert left == {key: {"id": data["id"]} for key, data in rows.items()} | kept
