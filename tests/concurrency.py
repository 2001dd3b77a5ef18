"""Runs things at the same time on purpose, and waits by asking PostgreSQL who waits for whom."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from django.db import connection, connections

T = TypeVar("T")

#: Seconds. Only what fails waits for so long, and a machine may be busy.
PATIENCE = 90.0


@contextmanager
def another_program(**changes: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A connection of another program's: raw psycopg, knowing nothing of Django. As another
    ``user`` if given."""
    params = {
        key: value
        for key, value in connection.get_connection_params().items()
        if key in ("host", "port", "user", "password", "dbname")
    }
    with psycopg.connect(**{**params, **changes}) as program:
        yield program


@contextmanager
def in_thread() -> Iterator[Callable[[Callable[[], T]], "Future[T]"]]:
    """Starts functions in threads with database connections of their own."""
    with ThreadPoolExecutor() as threads:

        def start(function: Callable[[], T]) -> "Future[T]":
            return threads.submit(_with_own_connection, function)

        yield start


def _with_own_connection(function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        connections.close_all()


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    patience: float = PATIENCE,
    longest_pause: float = 0.1,
) -> None:
    """Returns once ``condition`` holds; fails if that takes longer than anything here should."""
    deadline, pause = time.monotonic() + patience, 0.002
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        # What is waited for needs the processor itself.
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)


def wait_until_blocked() -> None:
    """Returns once a backend of this database waits for a lock."""
    wait_until(blocked, "a backend waits for a lock")


@contextmanager
def stopped_at(lock: str, run: Callable[[], T]) -> Iterator["Future[T]"]:
    """Have something run until it waits for a lock that another program's statement takes. It goes
    on after the block, and ends before the caller goes on."""
    with another_program() as program, in_thread() as start:
        program.execute(lock.encode())
        running = start(run)
        try:
            wait_until_blocked()
            yield running
        finally:
            program.rollback()
        running.result()


def blocked() -> int:
    """How many backends of this database wait for a lock of another connection. Autovacuum, which
    locks a table for the moment in which it truncates it, is none."""
    query = """
        SELECT count(*) FROM pg_stat_activity AS waiting
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND EXISTS (
            SELECT FROM pg_stat_activity AS other
            WHERE other.pid = ANY (pg_blocking_pids(waiting.pid))
                AND other.backend_type = 'client backend'
        )
    """
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def open_transactions() -> int:
    """How many backends of this database, but the one that asks, are in a transaction."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend' AND state <> 'idle'
    """
    with another_program() as onlooker:
        return int(str(onlooker.execute(query).fetchall()[0][0]))
