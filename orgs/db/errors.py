"""Classifies database errors: by SQLSTATE, never by message.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, Error, InterfaceError, OperationalError

from orgs.domain.naming import one_line

T = TypeVar("T")

_UNIQUE_VIOLATION = "23505"
_LOCK_NOT_AVAILABLE = "55P03"
_QUERY_CANCELED = "57014"
_INSUFFICIENT_PRIVILEGE = "42501"
_IN_FAILED_TRANSACTION = "25P02"

#: Another transaction was quicker: serialization failure, deadlock.
_LOST_RACES = frozenset({"40001", "40P01"})

#: Connections, resources, the system itself; a read-only server, and one that shuts down.
_ENVIRONMENT_CLASSES = ("08", "53", "58")
_ENVIRONMENT = frozenset({"25006", "57P01", "57P02", "57P03", "57P04", "57P05"})

_MAX_ATTEMPTS = 5


class DescribedError(Exception):
    """What ``describe`` says of an error of the database, to be logged or raised in its place."""


class DatabaseFailed(DescribedError):
    """As ``DescribedError``, of an outage or a time-out: no bug of ours."""


class WriteSkipped(DatabaseError):
    """A statement did not write what it was given: a trigger or a policy left out or changed it."""


class CursorSkipped(OperationalError):
    """A trigger or a policy left the cursor's row as it was: no item is the reason."""


class ReceiverFailed(DatabaseError):
    """A receiver of ``changes_applied`` raised an exception."""


def retry_races(transact: Callable[[], T]) -> T:
    """Call ``transact``, a whole transaction, again while it loses races, a few times at most.

    A unique violation is a race too: resolved again, the other program's row is found, and ours
    becomes an update. Raises what the last attempt raised.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return transact()
        except DatabaseError as error:
            if sqlstate(error) not in _LOST_RACES | {_UNIQUE_VIOLATION}:
                raise
    return transact()


def is_database_failure(error: Error) -> bool:
    """Return True if the database failed, and not what was written.

    Of class 42, PostgreSQL points into a statement of ours that it can't even parse, because a
    table or column is missing; not into what a trigger or a policy executes.
    """
    if sqlstate(error).startswith("42"):
        return error.__cause__.diag.statement_position is not None  # type: ignore[union-attr]
    return is_outage(error)


def is_outage(error: Error) -> bool:
    """Return True if the database failed, whatever the statement.

    Without a SQLSTATE, a connection failed; any other such error is Django's or psycopg's, of what
    was to be written: a NUL, a row that ``on_delete`` protects.
    """
    if not (state := sqlstate(error)):
        # As the plain class, psycopg raises what libpq itself finds wrong, and Django has no cause.
        is_libpqs = type(error) is DatabaseError and error.__cause__ is not None
        return is_libpqs or isinstance(error, OperationalError | InterfaceError)
    return state.startswith(_ENVIRONMENT_CLASSES) or state in _ENVIRONMENT


def is_mistake(error: Error) -> bool:
    """Return True if a receiver's own code is wrong, and not the database or what was written: a
    statement that PostgreSQL can't parse, one after an error that was caught without a savepoint,
    or an error that Django or psycopg raises by itself."""
    if not (state := sqlstate(error)):
        return not is_outage(error)
    return state.startswith("42") or state == _IN_FAILED_TRANSACTION


def is_passing(error: Error) -> bool:
    """Return True if a lost race or a lock that another program has is all: waiting helps."""
    return sqlstate(error) in _LOST_RACES | {_LOCK_NOT_AVAILABLE}


def is_out_of_time(error: Error) -> bool:
    """Return True if a statement, or its wait for a lock, took longer than it may."""
    return sqlstate(error) in (_QUERY_CANCELED, _LOCK_NOT_AVAILABLE)


def is_full(error: Error) -> bool:
    """Return True if PostgreSQL has no disk space or no memory left. That it has no connection left
    comes without a SQLSTATE, as every error of connecting does."""
    return sqlstate(error).startswith("53")


def is_not_granted(error: Error) -> bool:
    """Return True if the user may not do that: a grant is missing, or a policy forbids the row."""
    return sqlstate(error) == _INSUFFICIENT_PRIVILEGE


def sqlstate(error: Error) -> str:
    """Return the five characters of the SQLSTATE; empty if the error has none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def describe(error: Error) -> str:
    """Return what PostgreSQL says as one line, without its DETAIL, which shows the row's values."""
    if isinstance(error, ReceiverFailed):
        return one_line(error)
    diagnostics = getattr(error.__cause__, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    message = primary or str(error).partition("\n")[0]
    return one_line(f"{origin(error)}: {message}")


def without_detail(error: BaseException) -> BaseException:
    """Return the error to log or raise in place of this one: with the same stack, and without
    PostgreSQL's DETAIL, which a traceback would show.

    One that only follows from an error of the database stays, and gets another cause.
    """
    if isinstance(error, Error):
        is_ours = not (is_outage(error) or is_out_of_time(error))
        kind = DescribedError if is_ours else DatabaseFailed
        return kind(describe(error)).with_traceback(error.__traceback__)
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and (described := without_detail(earlier)) is not earlier:
        error.__cause__ = described
    return error


def origin(error: Error) -> str:
    """Return what ``describe`` begins with, up to a colon: who refuses, and by which code."""
    if isinstance(error, ReceiverFailed):
        return str(error).partition(":")[0]
    return f"PostgreSQL {sqlstate(error)}".rstrip()
