"""Other programs that write the same table: plain SQL over raw psycopg, nothing of Django.

Each is a thread with a connection and a queue of its own. It notes a write in the journal within
the transaction of that write, and takes the row's lock first: so the journal holds what committed,
and that of each row in order.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.system.chaos.actions import Lock, Write

# What is rolled back with a connection that was killed needs no line.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Note: TypeAlias = Callable[[str, object], None]
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_CONNECT_SECONDS: Final = 15.0
_REFUSALS: Final = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
)
_REMOVE: Final = "DELETE FROM organization_metadata WHERE id = %s AND workos_id IS NULL"
_LOCK: Final = "SELECT FROM organization_metadata WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_NOTE: Final = """
    INSERT INTO chaos.journal (rival, kind, organization_id, columns) VALUES (%s, %s, %s, %s)
"""


class Rival:
    """One of them, from ``start`` to ``stop``. What each action came to is told to ``note``."""

    def __init__(self, name: str, database_url: str, note: Note) -> None:
        self.results: Counter[str] = Counter()
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
            result = self._result_of(action)
            self.results[result] += 1
            self._note(result, action)
        self._disconnect()

    def _result_of(self, action: Write | Lock) -> str:
        try:
            connection = self._connected()
            with connection.transaction(force_rollback=isinstance(action, Lock)):
                connection.execute("SET LOCAL lock_timeout = '5s'")
                wrote = isinstance(action, Write) and _write(connection, action)
                if isinstance(action, Lock):
                    connection.execute(_LOCK, [list(action.organization_ids)])
                time.sleep(action.hold)
        except _REFUSALS as error:
            return f"refused: {type(error).__name__}"
        except psycopg.Error as error:
            # The server went away: whether that committed, the journal knows.
            self._disconnect()
            return f"interrupted: {type(error).__name__}"
        return "committed" if wrote else "nothing to do"

    def _connected(self) -> Connection:
        deadline = time.monotonic() + _CONNECT_SECONDS
        while self._connection is None:
            try:
                self._connection = psycopg.connect(
                    self._url,
                    autocommit=True,
                    application_name=self._thread.name,
                    connect_timeout=5,
                )
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _write(connection: Connection, write: Write) -> bool:
    """Write and note it; return False if there is no such row."""
    id_, columns = write.organization_id, write.columns
    names = [sql.Identifier(name) for name in columns]
    match write.kind:
        case "insert":
            statement = sql.SQL("INSERT INTO organization_metadata ({}) VALUES ({})").format(
                sql.SQL(", ").join([sql.Identifier("id"), *names]),
                sql.SQL(", ").join(map(sql.Literal, [id_, *columns.values()])),
            )
            written = connection.execute(statement)
        case "set":
            pairs = zip(names, map(sql.Literal, columns.values()), strict=True)
            statement = sql.SQL("UPDATE organization_metadata SET {} WHERE id = {}").format(
                sql.SQL(", ").join(sql.SQL("{} = {}").format(*pair) for pair in pairs),
                sql.Literal(id_),
            )
            written = connection.execute(statement)
        case _:
            written = connection.execute(_REMOVE, [id_])
    if written.rowcount:
        connection.execute(_NOTE, [write.rival, write.kind, id_, Jsonb(dict(columns))])
    return bool(written.rowcount)
