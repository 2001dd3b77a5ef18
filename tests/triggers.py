"""What other programs put around the tables: triggers, constraints, other columns, and locks."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from django.db import connection

from tests.concurrency import another_program

#: What a trigger does to a row that it refuses, and what is reported of that.
RAISES, LEAVES_OUT = "RAISE EXCEPTION 'not this one';", "RETURN NULL;"
REASONS = {
    RAISES: "PostgreSQL P0001: not this one",
    LEAVES_OUT: "PostgreSQL: a trigger or a policy leaves it as it is",
}

#: For ``as_a_user``: all that the service needs.
ALL_GRANTS = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"


def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement as another program would, and return its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def insert(table: str, row: Mapping[str, Any], then: str = "") -> None:
    """Insert a row as another program would, with the columns that it knows."""
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) {then}", *row.values())  # noqa: S608


@contextmanager
def changed(statement: str, back: str) -> Iterator[None]:
    """PostgreSQL as it is after one statement; the other undoes it at the end."""
    execute(statement)
    try:
        yield
    finally:
        execute(back)


def renamed(table: str, column: str = "") -> AbstractContextManager[None]:
    """A table, or one of its columns, is not there, as before a migration."""
    if not column:
        return changed(f"ALTER TABLE {table} RENAME TO gone", f"ALTER TABLE gone RENAME TO {table}")
    return changed(
        f"ALTER TABLE {table} RENAME {column} TO gone",
        f"ALTER TABLE {table} RENAME gone TO {column}",
    )


def a_constraint(
    condition: str = "name <> 'Forbidden'", *, table: str = "organization_metadata"
) -> AbstractContextManager[None]:
    """Rows for which the condition does not hold are refused, by the name ``theirs``."""
    return changed(
        f"ALTER TABLE {table} ADD CONSTRAINT theirs CHECK ({condition})",
        f"ALTER TABLE {table} DROP CONSTRAINT theirs",
    )


@contextmanager
def a_trigger(
    body: str,
    *,
    when: str = "true",
    table: str = "organization_metadata",
    at_commit: bool = False,
    on: str = "INSERT OR UPDATE",
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
            $$ BEGIN {body} RETURN coalesce(NEW, OLD); END $$;
        CREATE {kind} TRIGGER meddle {timing} {on} ON {table} {deferred}
            FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION meddle();
        """
    )
    try:
        yield
    finally:
        execute("DROP FUNCTION meddle CASCADE; DROP SEQUENCE attempts")


def attempts() -> int:
    """How often ``nextval('attempts')`` was called. Sequences are not rolled back."""
    return int(execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM attempts")[0][0])


@contextmanager
def as_a_user(*grants: str) -> Iterator[str]:
    """As a user with these grants, in which ``{user}`` is its name, and no others.

    Roles belong to the whole server, which several processes of the suite share.
    """
    user = f"somebody_of_{connection.settings_dict['NAME']}"
    execute(f"CREATE ROLE {user}")
    try:
        for grant in grants:
            execute(grant.format(user=user))
        execute(f"SET ROLE {user}")
        yield user
    finally:
        execute(f"RESET ROLE; DROP OWNED BY {user}; DROP ROLE {user}")


@contextmanager
def locked(
    table: str = "organization_metadata", where: str = "true"
) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """Another program's connection, which has locked these rows of a table."""
    with another_program() as program:
        program.execute(f"SELECT FROM {table} WHERE {where} FOR UPDATE")
        yield program


@contextmanager
def as_a_limited_user(policy: str = "USING (true)", *revoked: str) -> Iterator[None]:
    """The tables as a user sees them who is neither their owner nor a superuser."""
    grants = ["GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}"]
    grants += [f"REVOKE {grant} FROM {{user}}" for grant in revoked]
    security = "ALTER TABLE organization_metadata {} ROW LEVEL SECURITY;"
    with (
        changed(
            f"{security.format('ENABLE')} CREATE POLICY theirs ON organization_metadata {policy}",
            f"{security.format('DISABLE')} DROP POLICY theirs ON organization_metadata",
        ),
        as_a_user(*grants),
    ):
        yield
