"""The run's own tables, what it reads of the mirror's, and what other programs do to these. Plain
SQL over psycopg, nothing of Django.

In the schema ``chaos``: the journal, in which other programs note each write in its transaction,
after the row's lock is taken, so that it holds what committed, and that of each row in order, even
if the server died before it could say so; and the audit, which a trigger fills with every change of
a row, as many a company has on its tables.
"""

import logging
import time
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.system.chaos.actions import Lock, Write
from tests.system.chaos.comparison import Mirror
from tests.system.chaos.kinds import KINDS

# What is rolled back with a connection that was killed needs no line.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

#: What another program calls itself.
_OTHER: Final = "other"

_SCHEMA: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.journal (
    seq bigserial PRIMARY KEY, kind text NOT NULL, organization_id text NOT NULL,
    columns jsonb NOT NULL, at timestamptz DEFAULT clock_timestamp()
);
CREATE TABLE chaos.audit (
    seq bigserial PRIMARY KEY, writer text NOT NULL, tab text NOT NULL, operation text NOT NULL,
    id text NOT NULL, before jsonb, after jsonb, at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.audit (id, seq);
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.audit (writer, tab, operation, id, before, after) VALUES (
        CASE current_setting('application_name') WHEN 'other' THEN 'other' ELSE 'sync' END,
        TG_TABLE_NAME, TG_OP,
        coalesce(to_jsonb(NEW), to_jsonb(OLD))->>
            CASE TG_TABLE_NAME WHEN 'organization_metadata' THEN 'id' ELSE 'workos_id' END,
        to_jsonb(OLD), to_jsonb(NEW)
    );
    RETURN NULL;
END $$;
"""
_NOTED: Final = """
CREATE TRIGGER chaos_note AFTER INSERT OR UPDATE OR DELETE ON {}
    FOR EACH ROW EXECUTE FUNCTION chaos.note();
"""

_OUTBOX: Final = "SELECT organization_id, last_error FROM workos_external_id_write_back"
_JOURNAL: Final = "SELECT kind, organization_id, columns FROM chaos.journal ORDER BY seq"
_DRAINED: Final = """
    SELECT NOT EXISTS (SELECT FROM workos_event WHERE processed_at IS NULL)
        AND NOT EXISTS (SELECT FROM workos_external_id_write_back)
"""
_CREATED_SLUGS: Final = """
    SELECT DISTINCT ON (id) id, after->>'slug' FROM chaos.audit
    WHERE operation = 'INSERT' AND writer = 'sync' AND tab = 'organization_metadata'
    ORDER BY id, seq DESC
"""
_COVERED: Final = (
    "SELECT value FROM workos_sync_cursor, jsonb_array_elements_text(covered) AS value"
)

#: What the sync must never do, whatever the order of things: the changes that break it.
_NEVER: Final = {
    "the sync changed a column that it does not own": """
        writer = 'sync' AND operation = 'UPDATE' AND
            (before->'id', before->'slug', before->'gram_account_type', before->'whitelisted',
             before->'created_at') IS DISTINCT FROM
            (after->'id', after->'slug', after->'gram_account_type', after->'whitelisted',
             after->'created_at')
    """,
    "the sync deleted a row": "writer = 'sync' AND operation = 'DELETE'",
    "a row that was disabled was enabled, or disabled anew": """
        operation = 'UPDATE' AND before->>'disabled_at' IS NOT NULL
            AND before->'disabled_at' IS DISTINCT FROM after->'disabled_at'
    """,
    "an older event was applied over a newer one": """
        writer = 'sync' AND operation = 'UPDATE' AND (after->>'workos_last_event_id') COLLATE "C"
            < (before->>'workos_last_event_id') COLLATE "C"
    """,
    # The derived columns follow in a statement of their own.
    "an event was applied twice to a row": """
        writer = 'sync' AND operation = 'UPDATE' AND tab = 'organization_metadata'
            AND after->>'workos_id' IS NOT NULL AND before->>'workos_id' IS NOT NULL
            AND after->>'workos_last_event_id' = before->>'workos_last_event_id'
            AND before->'disabled_at' IS NOT DISTINCT FROM after->'disabled_at'
            AND before - '{sso_enabled,scim_enabled}'::text[]
                IS DISTINCT FROM after - '{sso_enabled,scim_enabled}'::text[]
    """,
    "what an event has deleted for good is there again": """
        operation = 'UPDATE' AND tab NOT IN ('workos_role', 'workos_directory_group_member')
            AND before->>'deleted_at' IS NOT NULL AND after->>'deleted_at' IS NULL
            AND before->>'workos_last_event_id' IS NOT NULL
    """,
    "an invitation's secret was stored": "after::text LIKE '%token-of-%'",
}


class Database:
    """The run's own view of the database; a connection for each call, for they get killed."""

    def __init__(self, url: str) -> None:
        self._url = url

    def prepare(self) -> None:
        """Make the journal and the audit, once the tables of the mirror are there."""
        with self._connected() as connection:
            connection.execute(_SCHEMA)
            for table in ("organization_metadata", *(kind.table for kind in KINDS)):
                connection.execute(sql.SQL(_NOTED).format(sql.Identifier(table)))

    def is_drained(self) -> bool:
        """Whether nothing waits any more, as far as the mirror knows: cheap, and no proof."""
        with self._connected() as connection:
            return connection.execute(_DRAINED).fetchall() == [(True,)]

    def mirror(self) -> tuple[Mirror, list[Write]]:
        """The mirror and the journal, as of one moment."""
        with self._connected() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            mirror = Mirror(
                rows=_objects(connection, "organization_metadata", "id"),
                ledger=_objects(connection, "workos_event", "id"),
                outbox=dict(connection.execute(_OUTBOX).fetchall()),
                created_slugs=dict(connection.execute(_CREATED_SLUGS).fetchall()),
                resources={kind.name: _objects(connection, kind.table) for kind in KINDS},
                covered=frozenset(name for (name,) in connection.execute(_COVERED)),
            )
            return mirror, [Write(*write) for write in connection.execute(_JOURNAL)]

    def broken_promises(self) -> list[str]:
        """A line for each change of a row that must never happen, whatever happened around it."""
        return [
            f"{what}: {change}"
            for what, condition in _NEVER.items()
            for change in self.changes(condition)
        ]

    def changes(self, condition: str = "true") -> list[str]:
        """Every change of a row, or those that fulfil it, in order: a line of JSON each."""
        query = f"SELECT row_to_json(a)::text FROM chaos.audit AS a WHERE {condition} ORDER BY seq"  # noqa: S608 - ours
        with self._connected() as connection:
            return [line for (line,) in connection.execute(query.encode())]

    def _connected(self) -> Connection:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=10)


def _objects(connection: Connection, table: str, key: str = "workos_id") -> dict[str, Any]:
    """The rows of a table as JSON, by key."""
    query = sql.SQL("SELECT {}, to_jsonb(t) FROM {} AS t")
    return dict(connection.execute(query.format(*map(sql.Identifier, (key, table)))).fetchall())


# Other programs -----------------------------------------------------------------------------

_INSERT: Final = "INSERT INTO organization_metadata (id, {}) VALUES ({}, {})"
_SET: Final = "UPDATE organization_metadata SET ({}) = ROW ({}) WHERE id = {}"
_DELETE: Final = "DELETE FROM organization_metadata WHERE id = {} AND workos_id IS NULL"
_LOCK: Final = "SELECT FROM organization_metadata WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_NOTE: Final = "INSERT INTO chaos.journal (kind, organization_id, columns) VALUES (%s, %s, %s)"


def act_as_another_program(action: Write | Lock, database_url: str) -> str:
    """Do it, as soon as the server answers, and say what came of it."""
    try:
        with _connected(database_url) as connection:
            connection.execute("SET lock_timeout = '5s'")
            with connection.transaction(force_rollback=isinstance(action, Lock)):
                if isinstance(action, Lock):
                    count = connection.execute(_LOCK, [list(action.organization_ids)]).rowcount
                else:
                    count = _write(connection, action)
                time.sleep(action.hold)
    except psycopg.Error as error:
        # Refused, or the server went away: whether that committed, the journal knows.
        return type(error).__name__
    return f"{count} rows"


def _connected(database_url: str) -> Connection:
    for _ in range(100):
        with suppress(psycopg.OperationalError):
            return psycopg.connect(database_url, autocommit=True, application_name=_OTHER)
        time.sleep(0.1)
    raise AssertionError("PostgreSQL does not answer")


def _write(connection: Connection, write: Write) -> int:
    """Write and note it; return 0 if there is no such row."""
    names = sql.SQL(", ").join(map(sql.Identifier, write.columns))
    values = sql.SQL(", ").join(map(sql.Literal, write.columns.values()))
    id_ = sql.Literal(write.organization_id)
    match write.kind:
        case "insert":
            statement = sql.SQL(_INSERT).format(names, id_, values)
        case "set":
            statement = sql.SQL(_SET).format(names, values, id_)
        case _:
            statement = sql.SQL(_DELETE).format(id_)
    count = connection.execute(statement).rowcount
    if count:
        columns = Jsonb(dict(write.columns))
        connection.execute(_NOTE, [write.kind, write.organization_id, columns])
    return count
