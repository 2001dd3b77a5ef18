"""Reads what the service made of it: the demo's own connection, and plain SQL alone."""

from types import TracebackType
from typing import Final, LiteralString, Self

import psycopg
from psycopg.rows import class_row, scalar_row

from gram_sync.demo.comparison import LedgerEntry, Row

_ROWS: Final = """
    SELECT id, name, slug, workos_id, disabled_at IS NOT NULL AS disabled
    FROM organization_metadata ORDER BY created_at, id
"""
_LEDGER: Final = """
    SELECT id AS event_id, type, outcome, error FROM workos_event ORDER BY occurred_at, id
"""
_PENDING: Final = """
    SELECT organization_id FROM workos_external_id_write_back ORDER BY organization_id
"""
_POSITION: Final = "SELECT last_event_id FROM workos_sync_cursor"
_SIGN_UP: Final = """
    INSERT INTO organization_metadata (id, name, slug) VALUES (%s, %s, %s)
"""
_BLIND_UPSERT: Final = """
    INSERT INTO organization_metadata (id, name, slug) VALUES (%s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, slug = excluded.slug
"""


class Mirror:
    """The demo's database, as a context. Each method is one short transaction."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        self.first_slugs: dict[str, str] = {}
        """By id, the slug that each row had when it was first read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def rows(self) -> list[Row]:
        """Every row of ``organization_metadata``, oldest first."""
        with self._connection.cursor(row_factory=class_row(Row)) as cursor:
            rows = cursor.execute(_ROWS).fetchall()
        for row in rows:
            self.first_slugs.setdefault(row.id, row.slug)
        return rows

    def row_of(self, workos_id: str) -> Row | None:
        """The row that is linked to a WorkOS organization."""
        return next((row for row in self.rows() if row.workos_id == workos_id), None)

    def ledger(self) -> list[LedgerEntry]:
        """Every event that was announced or read, oldest first."""
        with self._connection.cursor(row_factory=class_row(LedgerEntry)) as cursor:
            return cursor.execute(_LEDGER).fetchall()

    def pending_write_backs(self) -> list[str]:
        """The ids that WorkOS is still to be told."""
        return self._column(_PENDING)

    def position(self) -> str | None:
        """The last event that was applied."""
        return next(iter(self._column(_POSITION)), None)

    def sign_up(self, gram_id: str, name: str, slug: str) -> None:
        """Insert a row as Gram's signup does, which knows nothing of WorkOS."""
        self._connection.execute(_SIGN_UP, (gram_id, name, slug))

    def try_blind_upsert(self, gram_id: str, name: str, slug: str) -> str:
        """Write a rename as the system before this one did, take it back, and return the error."""
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(_BLIND_UPSERT, (gram_id, name, slug))
        except psycopg.errors.UniqueViolation as violation:
            return str(violation.diag.message_primary)
        return "no error"

    def _column(self, query: LiteralString) -> list[str]:
        with self._connection.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query).fetchall()
