"""The databases of a run: templates that are filled once, and a copy of one for every turn.

So each turn begins with the very same pages, whatever the turn before it did to them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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

#: Ids like WorkOS's: those of events and of organizations grow; ours are random.
FILL = """
INSERT INTO organization_metadata
    (id, name, slug, workos_id, workos_updated_at, workos_last_event_id)
SELECT md5(n::text)::uuid::text, 'Organization ' || n, 'organization-' || n,
    'org_01' || lpad(n::text, 24, '0'), now() - interval '1 day',
    'event_01' || lpad(n::text, 24, '0')
FROM generate_series(1, %s) AS n
"""

_TABLES = (
    "workos_external_id_write_back",
    "workos_event",
    "workos_sync_cursor",
    "organization_metadata",
    "django_q_ormq",
    "benchmark_webhook",
)

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


def gram_id(number: int) -> str:
    """The id of an organization of ``FILL``."""
    return str(UUID(md5(str(number).encode()).hexdigest()))  # noqa: S324 - as PostgreSQL makes it


def make_templates() -> None:
    """Makes the first one, ``EMPTY``: our tables and the baselines', without a row."""
    _admin(f"CREATE DATABASE {_IN_USE}")
    call_command("migrate", interactive=False, verbosity=0)
    with connect() as raw:
        raw.execute(_BASELINE_TABLES)
    keep_as(EMPTY)


def make_template(name: str, *, organizations: int) -> None:
    """Makes another one, with so many organizations; nothing happens if there is one."""
    if _exists(name):
        return
    use(EMPTY)
    with connect() as raw:
        raw.execute(FILL, [organizations])
    keep_as(name)


def use(template: str) -> None:
    """Puts a copy of a template in the place of the database in use, all of it on the disk."""
    connection.close()
    _admin(
        f"DROP DATABASE IF EXISTS {_IN_USE} WITH (FORCE)",
        f"CREATE DATABASE {_IN_USE} TEMPLATE {template} STRATEGY file_copy",
        "CHECKPOINT",
    )
    connection.ensure_connection()


def empty() -> None:
    """Empties the tables of the database in use, under the connections of others."""
    with connect() as raw:
        raw.execute(f"TRUNCATE {', '.join(_TABLES)}".encode())
        raw.execute("VACUUM (ANALYZE)")
        raw.execute("CHECKPOINT")


def copy_out(table: str) -> bytes:
    """The table, with columns in parentheses, as ``COPY`` writes it."""
    with connect() as raw, raw.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
        return b"".join(bytes(part) for part in copy)


def copy_in(table: str, rows: bytes) -> None:
    """The opposite, in one transaction."""
    with connect() as raw, raw.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        copy.write(rows)


@contextmanager
def connect(*, autocommit: bool = True) -> Iterator[Connection]:
    """A connection of a program that knows nothing of Django, to the database in use."""
    with psycopg.connect(_conninfo(_IN_USE), autocommit=autocommit) as raw:
        yield raw


def described() -> dict[str, str]:
    """The server's version, and its settings that decide what a commit costs."""
    names = (
        "server_version",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "shared_buffers",
        "max_wal_size",
    )
    query = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    with psycopg.connect(_conninfo("postgres")) as raw:
        return dict(raw.execute(query, [list(names)]).fetchall())


def keep_as(template: str) -> None:
    """Makes a template of the database in use, which is gone then."""
    connection.close()
    with connect() as raw:
        # Also sets the hint bits, which the first reader of each page would set otherwise.
        raw.execute("VACUUM (ANALYZE, FREEZE)")
    _admin(f"ALTER DATABASE {_IN_USE} RENAME TO {template}")


def _exists(name: str) -> bool:
    with psycopg.connect(_conninfo("postgres")) as raw:
        found = raw.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        return found.fetchone() is not None


def _admin(*statements: str) -> None:
    with psycopg.connect(_conninfo("postgres"), autocommit=True) as raw:
        for statement in statements:
            raw.execute(statement.encode())


def _conninfo(database: str) -> str:
    return make_conninfo(server.start(SERVER_DATA), dbname=database)
