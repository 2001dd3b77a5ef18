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

from tests.system.chaos.actions import Lock, Remove, RivalAction, SetColumns, SignUp

# What is rolled back with a connection that was killed needs no line.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Note: TypeAlias = Callable[[str, object], None]
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_TABLE: Final = sql.Identifier("organization_metadata")
_CONNECT_SECONDS: Final = 15.0
_REFUSALS: Final = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
)
_INSERT: Final = """
    INSERT INTO organization_metadata (id, name, slug) VALUES (%s, %s, %s)
"""
_REMOVE: Final = "DELETE FROM organization_metadata WHERE id = %s AND workos_id IS NULL"
_LOCK: Final = """
    SELECT id FROM organization_metadata WHERE id = ANY(%s) ORDER BY id FOR UPDATE
"""
_NOTE: Final = """
    INSERT INTO chaos.journal (rival, kind, organization_id, columns) VALUES (%s, %s, %s, %s)
"""


class Rivals:
    """All of them, from ``start`` to ``stop``. What each action came to is told to ``note``."""

    def __init__(self, names: tuple[str, ...], database_url: str, note: Note) -> None:
        self._rivals = {name: _Rival(name, database_url, note) for name in names}

    def start(self) -> None:
        for rival in self._rivals.values():
            rival.thread.start()

    def do(self, action: RivalAction) -> None:
        """Have it done by the rival it names, after what that has still to do."""
        self._rivals[action.rival].queue.put(action)

    def stop(self) -> Counter[str]:
        """Wait until all is done, and return what it came to."""
        for rival in self._rivals.values():
            rival.queue.put(None)
        results: Counter[str] = Counter()
        for rival in self._rivals.values():
            rival.thread.join()
            results += rival.results
        return results


class _Rival:
    def __init__(self, name: str, database_url: str, note: Note) -> None:
        self.name = name
        self.queue: Queue[RivalAction | None] = Queue()
        self.results: Counter[str] = Counter()
        self.thread = Thread(target=self._work, name=name, daemon=True)
        self._url = database_url
        self._note = note
        self._connection: Connection | None = None

    def _work(self) -> None:
        while (action := self.queue.get()) is not None:
            result = self._result_of(action)
            self.results[result] += 1
            self._note(result, action)
        self._disconnect()

    def _result_of(self, action: RivalAction) -> str:
        try:
            connection = self._connected()
            with connection.transaction(force_rollback=isinstance(action, Lock)):
                wrote = self._do(connection, action)
        except _REFUSALS as error:
            return f"refused: {type(error).__name__}"
        except psycopg.Error as error:
            # The server went away: whether that committed, the journal knows.
            self._disconnect()
            return f"interrupted: {type(error).__name__}"
        return "committed" if wrote else "nothing to do"

    def _do(self, connection: Connection, action: RivalAction) -> bool:
        """Whether it wrote something."""
        connection.execute("SET LOCAL lock_timeout = '5s'")
        match action:
            case SignUp():
                self._sign_up(connection, action)
            case SetColumns():
                return self._set(connection, action)
            case Remove(organization_id=id_):
                removed = connection.execute(_REMOVE, [id_]).rowcount
                return bool(removed) and self._journal(connection, "delete", id_, {})
            case Lock():
                connection.execute(_LOCK, [list(action.organization_ids)])
                time.sleep(action.seconds)
                return False
        return True

    def _sign_up(self, connection: Connection, action: SignUp) -> None:
        connection.execute(_INSERT, [action.organization_id, action.name, action.slug])
        columns = {"name": action.name, "slug": action.slug}
        self._journal(connection, "insert", action.organization_id, columns)
        time.sleep(action.hold)

    def _set(self, connection: Connection, action: SetColumns) -> bool:
        columns = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in action.columns.items()
        )
        statement = sql.SQL("UPDATE {} SET {} WHERE id = {}").format(
            _TABLE, columns, sql.Literal(action.organization_id)
        )
        updated = connection.execute(statement).rowcount
        return bool(updated) and self._journal(
            connection, "set", action.organization_id, action.columns
        )

    def _journal(
        self, connection: Connection, kind: str, organization_id: str, columns: Any
    ) -> bool:
        connection.execute(_NOTE, [self.name, kind, organization_id, Jsonb(columns)])
        return True

    def _connected(self) -> Connection:
        deadline = time.monotonic() + _CONNECT_SECONDS
        while self._connection is None:
            try:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, application_name=self.name, connect_timeout=5
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
