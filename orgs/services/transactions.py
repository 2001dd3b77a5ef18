"""Opens the transactions: each the outermost one, and each with a bound on its waits for locks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from orgs.conf import sync_settings
from orgs.services import sql


@contextmanager
def bounded_transaction(*, most: float | None = None) -> Iterator[None]:
    """A transaction, committed at the end, in which no wait for a lock is longer than the setting,
    nor than ``most`` seconds.

    Raises ``RuntimeError`` inside another transaction, whose commit ours would wait for.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(sql.SET_LOCK_TIMEOUT, [_bound(most)])
        yield


def execute_alone(
    statement: str, values: Sequence[Any], *, most: float | None = None
) -> list[tuple[Any, ...]]:
    """One statement as such a transaction, and the rows that it returns, in one round trip.

    PostgreSQL takes statements that come together for one transaction, unless there is one already:
    then this raises ``RuntimeError``.
    """
    if connection.in_atomic_block:
        raise RuntimeError("a statement alone can't be executed inside a transaction")
    with connection.cursor() as cursor:
        cursor.execute(f"{sql.SET_LOCK_TIMEOUT}; {statement}", [_bound(most), *values])
        cursor.nextset()
        return cursor.fetchall() if cursor.description else []


def _bound(most: float | None) -> str:
    seconds = min(sync_settings().lock_timeout, most or float("inf"))
    return f"{int(seconds * 1000)}ms"


@contextmanager
def read_only_transaction(*, statement_seconds: float | None = None) -> Iterator[None]:
    """A transaction in which PostgreSQL refuses every write, whatever our code does.

    And in which it ends any statement that takes longer than ``statement_seconds``, if given.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            # First of all: later PostgreSQL does not allow it.
            cursor.execute(sql.SET_READ_ONLY)
            if statement_seconds is not None:
                cursor.execute(sql.SET_STATEMENT_TIMEOUT, [f"{int(statement_seconds * 1000)}ms"])
        yield
