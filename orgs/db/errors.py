"""Tells whose fault a database error is: by SQLSTATE, never by its message.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError, DataError, Error

T = TypeVar("T")

_UNIQUE_VIOLATION = "23505"
_SERIALIZATION_FAILURE = "40001"
_DEADLOCK_DETECTED = "40P01"
_LOCK_NOT_AVAILABLE = "55P03"
_QUERY_CANCELED = "57014"
_INSUFFICIENT_PRIVILEGE = "42501"

#: Another transaction was quicker. Resolved again, its row is found and becomes our update.
_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})

#: Data exceptions, integrity violations, limits of PostgreSQL's.
_CONTENT_CLASSES = ("22", "23", "54")

_MAX_ATTEMPTS = 5


def retry_races(transact: Callable[[], T]) -> T:
    """Calls ``transact``, a whole transaction, again while it loses races, a few times at most.

    Raises what the last attempt raised.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return transact()
        except DatabaseError as error:
            if _sqlstate(error) not in _RACES:
                raise
    return transact()


def is_contents_fault(error: DatabaseError) -> bool:
    """Whether PostgreSQL refused the content itself: it would do so every time."""
    state = _sqlstate(error)
    # psycopg refuses some values (a NUL) before PostgreSQL sees them, and then gives no state.
    return state.startswith(_CONTENT_CLASSES) if state else isinstance(error, DataError)


def is_one_events_trouble(error: DatabaseError) -> bool:
    """Whether a page failed for what may be the matter with a single event of it."""
    return is_contents_fault(error) or _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}


def is_passing(error: DatabaseError) -> bool:
    """Whether a lost race or a lock not had is all there is, so that waiting is what helps."""
    return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}


def is_out_of_time(error: Error) -> bool:
    """Whether a statement took longer than it may, or a lock was not had in time."""
    return _sqlstate(error) in (_QUERY_CANCELED, _LOCK_NOT_AVAILABLE)


def is_not_granted(error: Error) -> bool:
    """Whether the user may not do that."""
    return _sqlstate(error) == _INSUFFICIENT_PRIVILEGE


def _sqlstate(error: Error) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
