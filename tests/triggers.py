"""What other programs put around the tables: triggers that refuse rows, skip them or count."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def a_trigger(
    body: str,
    *,
    when: str = "true",
    table: str = "organization_metadata",
    at_commit: bool = False,
) -> Iterator[None]:
    """PostgreSQL does this before each write to the table, or when it is committed.

    ``nextval('attempts')`` counts what it likes.
    """
    kind, timing = ("CONSTRAINT", "AFTER") if at_commit else ("", "BEFORE")
    deferred = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    execute(
        f"""
        CREATE SEQUENCE attempts;
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN {body} RETURN NEW; END $$;
        CREATE {kind} TRIGGER meddle {timing} INSERT OR UPDATE ON {table} {deferred}
            FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION meddle();
        """
    )
    try:
        yield
    finally:
        execute("DROP FUNCTION meddle CASCADE; DROP SEQUENCE attempts")


def attempts() -> int:
    """How often ``nextval('attempts')`` was called. Sequences are not rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM attempts")
        return int(cursor.fetchone()[0])
