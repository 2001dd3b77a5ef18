"""Reads the mirror's tables, and writes them as other programs do: with plain SQL."""

from typing import Any

import psycopg
from psycopg.rows import args_row, namedtuple_row

from gram_sync.demo.comparison import Row


class Mirror:
    """The tables of the demo, by a connection of its own; rows are named tuples."""

    def __init__(self, database_url: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(
            database_url, autocommit=True, row_factory=namedtuple_row
        )
        self.first_slugs: dict[str, str] = {}
        """By id, the slug that each row had when it was first read."""

    def rows(self) -> list[Row]:
        """Return every organization, oldest first."""
        query = """
            SELECT id, name, slug, workos_id, disabled_at IS NOT NULL
            FROM organization_metadata ORDER BY created_at, id
        """
        rows = self.connection.cursor(row_factory=args_row(Row)).execute(query).fetchall()
        self.first_slugs = {row.id: row.slug for row in rows} | self.first_slugs
        return rows

    def members(self) -> list[Any]:
        """Return every membership with its organization and its user."""
        query = """
            SELECT o.name AS organization, u.email, m.status, o.sso_enabled,
                array_to_string(m.role_slugs, ', ') AS roles
            FROM workos_organization_membership AS m
            JOIN workos_user AS u ON u.workos_id = m.workos_user_id
            JOIN organization_metadata AS o ON o.workos_id = m.workos_organization_id
            WHERE m.deleted_at IS NULL AND u.deleted_at IS NULL ORDER BY u.email, o.name
        """
        return self.connection.execute(query).fetchall()

    def events(self) -> list[Any]:
        """Return every event of the ledger, oldest first."""
        query = "SELECT id, type, outcome, error FROM workos_event ORDER BY occurred_at, id"
        return self.connection.execute(query).fetchall()

    def is_idle_after(self, event_id: str) -> bool:
        """Return True if this event was the last to be applied, and WorkOS has every id."""
        query = """
            SELECT FROM workos_sync_cursor WHERE last_event_id = %s
            AND NOT EXISTS (SELECT FROM workos_event WHERE outcome IS NULL)
            AND NOT EXISTS (SELECT FROM workos_external_id_write_back)
        """
        return self.connection.execute(query, [event_id]).rowcount > 0

    def try_blind_upsert(self, *values: str) -> str:
        """Write a rename as the system before this one did, undo it, and return the error."""
        query = """
            INSERT INTO organization_metadata (id, name, slug) VALUES (%s, %s, %s)
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, slug = excluded.slug
        """
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(query, values)
        except psycopg.errors.UniqueViolation as violation:
            return str(violation.diag.message_primary)
        return "no error"
