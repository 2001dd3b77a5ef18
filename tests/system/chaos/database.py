"""The run's own tables, and what it reads of the mirror's. Plain SQL, nothing of Django.

In the schema ``chaos``: the journal, in which each rival notes a write in the transaction of that
write, so that what committed is known even if the server died before it could say so; and the
audit, which a trigger fills with every change of a row, as many a company has on its tables.
"""

import json
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from tests.system.chaos.comparison import Mirror, SeenEvent, SeenRow
from tests.system.chaos.kinds import KINDS
from tests.system.chaos.model import Committed
from tests.system.chaos.resource_audit import SeenResources
from tests.system.chaos.rivals import Connection

_SCHEMA: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.journal (
    seq bigserial PRIMARY KEY, rival text NOT NULL, kind text NOT NULL,
    organization_id text NOT NULL, columns jsonb NOT NULL, at timestamptz DEFAULT clock_timestamp()
);
CREATE TABLE chaos.audit (
    seq bigserial PRIMARY KEY, writer text NOT NULL, tab text NOT NULL, operation text NOT NULL,
    id text NOT NULL, before jsonb, after jsonb, at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.audit (id, seq);
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.audit (writer, tab, operation, id, before, after) VALUES (
        CASE WHEN current_setting('application_name') LIKE 'rival-%'
            THEN current_setting('application_name') ELSE 'sync' END,
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

_ROWS: Final = """
    SELECT id, name, slug, workos_id, gram_account_type, whitelisted,
        disabled_at IS NOT NULL AS is_disabled
    FROM organization_metadata
"""
_LEDGER: Final = """
    SELECT id, outcome, announced_at IS NOT NULL AS is_announced, error FROM workos_event
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
_RIVAL_WRITES: Final = "SELECT rival, count(*) FROM chaos.journal GROUP BY rival ORDER BY rival"

#: What the sync must never do, whatever the order of things. Each finds the changes that break it.
_NEVER: Final[dict[str, LiteralString]] = {
    "the sync changed a column that it does not own": """
        SELECT * FROM chaos.audit WHERE writer = 'sync' AND operation = 'UPDATE' AND
            (before->'id', before->'slug', before->'gram_account_type', before->'whitelisted',
             before->'created_at') IS DISTINCT FROM
            (after->'id', after->'slug', after->'gram_account_type', after->'whitelisted',
             after->'created_at')
    """,
    "the sync deleted a row": """
        SELECT * FROM chaos.audit WHERE writer = 'sync' AND operation = 'DELETE'
    """,
    "a row that was disabled was enabled, or disabled anew": """
        SELECT * FROM chaos.audit WHERE operation = 'UPDATE'
            AND before->>'disabled_at' IS NOT NULL
            AND before->'disabled_at' IS DISTINCT FROM after->'disabled_at'
    """,
    "an older event was applied over a newer one": """
        SELECT * FROM chaos.audit WHERE writer = 'sync' AND operation = 'UPDATE'
            AND (after->>'workos_last_event_id') COLLATE "C"
                < (before->>'workos_last_event_id') COLLATE "C"
    """,
    "an event was applied twice to a row": """
        SELECT * FROM chaos.audit WHERE writer = 'sync' AND operation = 'UPDATE'
            AND tab = 'organization_metadata'
            AND after->>'workos_id' IS NOT NULL AND before->>'workos_id' IS NOT NULL
            AND after->>'workos_last_event_id' = before->>'workos_last_event_id'
            AND before->'disabled_at' IS NOT DISTINCT FROM after->'disabled_at'
            -- The derived columns follow in a statement of their own.
            AND before - '{sso_enabled,scim_enabled}'::text[]
                IS DISTINCT FROM after - '{sso_enabled,scim_enabled}'::text[]
    """,
    "what an event has deleted for good is there again": """
        SELECT * FROM chaos.audit WHERE operation = 'UPDATE'
            AND tab NOT IN ('workos_role', 'workos_directory_group_member')
            AND before->>'deleted_at' IS NOT NULL AND after->>'deleted_at' IS NULL
            AND before->>'workos_last_event_id' IS NOT NULL
    """,
    "an invitation's secret was stored": """
        SELECT * FROM chaos.audit WHERE after::text LIKE '%token-of-%'
    """,
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

    def covered(self) -> frozenset[str]:
        """The resources that were listed in full since they are followed."""
        with self._connected() as connection:
            return _covered(connection)

    def mirror(self) -> tuple[Mirror, list[Committed]]:
        """The mirror and the journal, as of one moment."""
        with self._connected() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            with connection.cursor(row_factory=class_row(SeenRow)) as rows:
                seen_rows = {row.id: row for row in rows.execute(_ROWS)}
            with connection.cursor(row_factory=class_row(SeenEvent)) as events:
                ledger = {event.id: event for event in events.execute(_LEDGER)}
            mirror = Mirror(
                rows=seen_rows,
                ledger=ledger,
                outbox=_pairs(connection, _OUTBOX),
                created_slugs=_pairs(connection, _CREATED_SLUGS),
                resources=SeenResources(
                    {kind.name: _objects(connection, kind.table) for kind in KINDS},
                    _covered(connection),
                    _objects(connection, "organization_metadata", "id"),
                ),
            )
            return mirror, [Committed(*write) for write in connection.execute(_JOURNAL)]

    def broken_promises(self) -> list[str]:
        """A line for each change of a row that must never happen, whatever happened around it."""
        with self._connected() as connection:
            return [
                f"{what}: {json.dumps(change[:-1], default=str)}"
                for what, query in _NEVER.items()
                for change in connection.execute(query)
            ]

    def audit(self) -> list[str]:
        """Every change of every row, in order: a line of JSON each."""
        with self._connected() as connection:
            query = "SELECT row_to_json(audit)::text FROM chaos.audit ORDER BY seq"
            return [line for (line,) in connection.execute(query)]

    def rival_writes(self) -> dict[str, int]:
        """How many writes of each rival committed."""
        with self._connected() as connection:
            return _pairs(connection, _RIVAL_WRITES)

    def _connected(self) -> Connection:
        return psycopg.connect(self._url, autocommit=True, connect_timeout=10)


def _covered(connection: Connection) -> frozenset[str]:
    return frozenset(name for (name,) in connection.execute(_COVERED))


def _objects(connection: Connection, table: str, key: str = "workos_id") -> dict[str, Any]:
    """The rows of a table as JSON, by key."""
    query = sql.SQL("SELECT {}, to_jsonb(t) FROM {} AS t")
    return dict(connection.execute(query.format(*map(sql.Identifier, (key, table)))).fetchall())


def _pairs(connection: Connection, query: LiteralString) -> dict[str, Any]:
    return dict(connection.execute(query).fetchall())
