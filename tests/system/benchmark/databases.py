"""The databases of a run: templates that are filled once, and a copy of one for every turn.

So each turn begins with the very same pages, whatever the turn before it did to them.
"""

from hashlib import md5
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
from django.core.management import call_command
from django.db import connection
from psycopg.conninfo import make_conninfo

from gram_sync.embedded_postgres import server
from tests.system.benchmark.settings import SERVER_DATA

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

EMPTY = "empty"

_IN_USE = "benchmark"

#: What the baselines keep, beside our tables.
_BASELINE_TABLES = """
CREATE TABLE benchmark_organization_cursor (
    workos_organization_id text PRIMARY KEY,
    last_event_id text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE benchmark_webhook (id text PRIMARY KEY, type text NOT NULL, received_at timestamptz
    NOT NULL DEFAULT clock_timestamp());
"""


def fill(organizations: int) -> str:
    """The statement. Ids like WorkOS's: those of events and of organizations grow; ours are
    random."""
    return f"""
        INSERT INTO organization_metadata
            (id, name, slug, workos_id, workos_updated_at, workos_last_event_id)
        SELECT md5(n::text)::uuid::text, 'Organization ' || n, 'organization-' || n,
            'org_01' || lpad(n::text, 24, '0'), now() - interval '1 day',
            'event_01' || lpad(n::text, 24, '0')
        FROM generate_series(1, {organizations}) AS n
    """  # noqa: S608 - a number


def gram_id(number: int) -> str:
    """The id of an organization of ``fill``."""
    return str(UUID(md5(str(number).encode()).hexdigest()))  # noqa: S324 - as PostgreSQL makes it


def make_templates() -> None:
    """Makes the first one, ``EMPTY``: our tables and the baselines', without a row."""
    execute(f"CREATE DATABASE {_IN_USE}", database="postgres")
    call_command("migrate", interactive=False, verbosity=0)
    execute(_BASELINE_TABLES)
    keep_as(EMPTY)


def make_template(name: str, statement: str) -> None:
    """Makes another one, which is filled by a statement."""
    use(EMPTY)
    execute(statement)
    keep_as(name)


def use(template: str) -> None:
    """Puts a copy of a template in the place of the database in use, all of it on the disk."""
    connection.close()
    execute(
        f"DROP DATABASE IF EXISTS {_IN_USE} WITH (FORCE)",
        f"CREATE DATABASE {_IN_USE} TEMPLATE {template} STRATEGY file_copy",
        "CHECKPOINT",
        database="postgres",
    )
    connection.ensure_connection()


def keep_as(template: str) -> None:
    """Makes a template of the database in use, which is gone then."""
    connection.close()
    # Also sets the hint bits, which the first reader of each page would set otherwise.
    execute("VACUUM (ANALYZE, FREEZE)")
    execute(f"ALTER DATABASE {_IN_USE} RENAME TO {template}", database="postgres")


def execute(*statements: str, database: str = _IN_USE) -> None:
    with connect(database) as raw:
        for statement in statements:
            raw.execute(statement.encode())


def connect(database: str = _IN_USE, *, autocommit: bool = True) -> Connection:
    """A connection of a program that knows nothing of Django."""
    conninfo = make_conninfo(server.start(SERVER_DATA), dbname=database)
    return psycopg.connect(conninfo, autocommit=autocommit)


def described() -> str:
    """The server's version, and whether a commit waits for the disk."""
    query = """SELECT concat('PostgreSQL ', current_setting('server_version'), ', fsync ',
        current_setting('fsync'))"""
    with connect("postgres") as raw:
        return str(raw.execute(query.encode()).fetchall()[0][0])
