"""Other programs that write the same table: plain SQL over raw psycopg, nothing of Django.

Each is a thread with a connection and a queue of its own. It notes a write in the journal within
the transaction of that write, and takes the row's lock first: so the journal holds what committed,
and that of each row in order.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.concurrency import wait_until
from tests.system.chaos.actions import Lock, Write

# What is rolled back with a connection that was killed needs no line.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Note: TypeAlias = Callable[[str, object], None]
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_REFUSALS: Final = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
)
_INSERT: Final = "INSERT INTO organization_metadata (id, {}) VALUES ({}, {})"
_SET: Final = "UPDATE organization_metadata SET ({}) = ROW ({}) WHERE id = {}"
_DELETE: Final = "DELETE FROM organization_metadata WHERE id = {} AND workos_id IS NULL"
_LOCK: Final = "SELECT FROM organization_metadata WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_NOTE: Final = """
    INSERT INTO chaos.journal (rival, kind, organization_id, columns) VALUES (%s, %s, %s, %s)
"""


class Rival:
    """One of them, from ``start`` to ``stop``. What each action came to is told to ``note``."""

    def __init__(self, name: str, database_url: str, note: Note) -> None:
        self._queue: Queue[Write | Lock | None] = Queue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._url = database_url
        self._note = note
        self._connection: Connection | None = None

    def start(self) -> None:
        self._thread.start()

    def do(self, action: Write | Lock) -> None:
        """Have it done after what it has still to do."""
        self._queue.put(action)

    def stop(self) -> None:
        """Wait until all is done."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (action := self._queue.get()) is not None:
            try:
                result = self._do(action)
            except _REFUSALS as error:
                result = f"refused: {type(error).__name__}"
            except psycopg.Error as error:
                # The server went away: whether that committed, the journal knows.
                result = f"interrupted: {type(error).__name__}"
                self._connection = None
            self._note(result, action)

    def _do(self, action: Write | Lock) -> str:
        while self._connection is None:
            wait_until(self._connects, "PostgreSQL answers")
        connection = self._connection
        with connection.transaction(force_rollback=isinstance(action, Lock)):
            connection.execute("SET LOCAL lock_timeout = '5s'")
            if isinstance(action, Lock):
                count = connection.execute(_LOCK, [list(action.organization_ids)]).rowcount
            else:
                count = _write(connection, action)
            time.sleep(action.hold)
        return f"{count} rows"

    def _connects(self) -> bool:
        options: dict[str, Any] = {"autocommit": True, "application_name": self._thread.name}
        with suppress(psycopg.OperationalError):
            self._connection = psycopg.connect(self._url, connect_timeout=5, **options)
        return self._connection is not None


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
        connection.execute(_NOTE, [write.rival, write.kind, write.organization_id, columns])
    return count
