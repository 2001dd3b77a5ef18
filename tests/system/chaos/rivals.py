"""What other programs do to the same table: plain SQL over raw psycopg, nothing of Django.

A write is noted in the journal within its transaction, after the row's lock is taken: so the
journal holds what committed, and that of each row in order.
"""

import logging
import time
from contextlib import suppress
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.system.chaos.actions import Lock, Write

# What is rolled back with a connection that was killed needs no line.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_INSERT: Final = "INSERT INTO organization_metadata (id, {}) VALUES ({}, {})"
_SET: Final = "UPDATE organization_metadata SET ({}) = ROW ({}) WHERE id = {}"
_DELETE: Final = "DELETE FROM organization_metadata WHERE id = {} AND workos_id IS NULL"
_LOCK: Final = "SELECT FROM organization_metadata WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_NOTE: Final = "INSERT INTO chaos.journal (kind, organization_id, columns) VALUES (%s, %s, %s)"


def do(action: Write | Lock, database_url: str) -> str:
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
            return psycopg.connect(database_url, autocommit=True, application_name="rival")
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
