"""Opens the transactions: each the outermost one, and each with a bound on its waits for locks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from orgs.conf import sync_settings
from orgs.db import sql

Rows: TypeAlias = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the values of its parameters."""

    text: str
    values: Sequence[Any]


@contextmanager
def bounded_transaction(*first: Statement, at_most: float | None = None) -> Iterator[list[Rows]]:
    """Open a transaction in which no wait for a lock is longer than the setting, nor ``at_most``.

    Executes the statements of ``first``, and yields their rows. Raises ``RuntimeError`` inside
    another transaction, whose commit ours would depend on.
    """
    bound = Statement(sql.SET_LOCK_TIMEOUT, [_lock_timeout(at_most)])
    with transaction.atomic(durable=True):
        yield execute_together([bound, *first])[1:]


@contextmanager
def read_only_transaction(*, statement_seconds: float | None = None) -> Iterator[None]:
    """Open a transaction in which PostgreSQL refuses every write, whatever our code does.

    Its waits for locks are bounded too. It also ends any statement that takes longer than
    ``statement_seconds``, if given.
    """
    # First of all: later PostgreSQL does not allow it.
    first = [Statement(sql.SET_READ_ONLY, []), Statement(sql.SET_LOCK_TIMEOUT, [_lock_timeout()])]
    if statement_seconds is not None:
        longest = f"{int(statement_seconds * 1000)}ms"
        first.append(Statement(sql.SET_STATEMENT_TIMEOUT, [longest]))
    with transaction.atomic(durable=True):
        execute_together(first)
        yield


def execute_together(statements: Sequence[Statement]) -> list[Rows]:
    """Execute statements in their order, in one round trip; return the rows of each.

    Needs the caller's transaction. Each sees what those before it wrote, and the first that fails
    raises what it would raise alone.
    """
    if not statements:
        return []
    text = ";".join(statement.text for statement in statements)
    with _cursor() as cursor:
        cursor.execute(text, [value for statement in statements for value in statement.values])
        results = [_rows(cursor)]
        while cursor.nextset():
            results.append(_rows(cursor))
    return results


def execute_alone(statement: str, values: Sequence[Any], *, at_most: float | None = None) -> Rows:
    """Execute one statement as a bounded transaction of its own, in one round trip.

    PostgreSQL takes statements that come together for one transaction, unless there is one already:
    then this raises ``RuntimeError``.
    """
    if connection.in_atomic_block:
        raise RuntimeError(
            "a statement alone can't be executed inside a transaction; in a test, open none: "
            "TransactionTestCase, or @pytest.mark.django_db(transaction=True)"
        )
    with _cursor() as cursor:
        cursor.execute(f"{sql.SET_LOCK_TIMEOUT}; {statement}", [_lock_timeout(at_most), *values])
        cursor.nextset()
        return _rows(cursor)


def execute_bounded(statement: Statement) -> Rows:
    """Execute one statement in the caller's transaction, else alone: bounded either way."""
    if connection.in_atomic_block:
        return execute_together([statement])[0]
    return execute_alone(statement.text, statement.values)


@contextmanager
def _cursor() -> Iterator[CursorWrapper]:
    """Django reads times in Python; psycopg in C, where it can: measured ten times as fast."""
    from psycopg.types.datetime import TimestamptzLoader

    with connection.cursor() as cursor:
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        yield cursor


def _rows(cursor: Any) -> Rows:
    # Its ``description`` would make an object of every column.
    return cursor.fetchall() if cursor.pgresult.nfields else []


def _lock_timeout(at_most: float | None = None) -> float:
    return 1000 * min(sync_settings().lock_timeout, at_most or float("inf"))
