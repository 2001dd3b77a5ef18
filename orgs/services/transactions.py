"""Opens the transactions: each the outermost one, and each with a bound on its waits for locks."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from orgs.conf import sync_settings
from orgs.services import sql


@contextmanager
def bounded_transaction(*, most: float | None = None) -> Iterator[None]:
    """A transaction, committed at the end, in which no wait for a lock is longer than the setting,
    nor than ``most`` seconds.

    Raises ``RuntimeError`` inside another transaction, whose commit ours would wait for.
    """
    seconds = min(sync_settings().lock_timeout, most or float("inf"))
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(sql.SET_LOCK_TIMEOUT, [f"{int(seconds * 1000)}ms"])
        yield


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
