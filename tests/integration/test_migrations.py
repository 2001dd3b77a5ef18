"""Migrations that do more than Django generates."""

from collections.abc import Iterator
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

from tests.concurrency import another_program, in_thread, wait_until
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

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
