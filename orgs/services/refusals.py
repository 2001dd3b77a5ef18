"""Says what PostgreSQL refuses: a row, a grant or everything; and finds out which of several rows,
after it has refused them together."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from django.apps import apps
from django.db import DatabaseError, Error, connection
from django.db.models import QuerySet
from django_q.models import OrmQ, Schedule, Task

from orgs.db.errors import (
    WriteSkipped,
    describe,
    is_database_failure,
    is_not_granted,
    is_passing,
)
from orgs.db.figures import MISSING_GRANTS
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import one_line
from orgs.models import ExternalIdWriteBack, WorkOSConflict, WorkOSEvent
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


def text_of(error: Exception) -> str:
    """Return what an error says, as one line without the values of a row."""
    return describe(error) if isinstance(error, DatabaseError) else one_line(error)


@contextmanager
def reporting(report: Callable[[str], object], text: str = "{}") -> Iterator[None]:
    """Report an error of WorkOS's, or a lock that another program has, instead of raising it.

    ``text``: where ``{}`` is what the error says. Any other ``django.db.Error`` is raised.
    """
    try:
        yield
    except (WorkOSError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and not is_passing(error):
            raise
        report(text.format(text_of(error)))


# What is refused ---------------------------------------------------------------------------


def is_refusal(error: DatabaseError) -> bool:
    """Return True if PostgreSQL refuses what was written, now and later."""
    return not (is_passing(error) or fails_every_row(error))


def fails_every_row(error: Error) -> bool:
    """Return True if the database failed, or a grant is missing, and not what was written."""
    if is_not_granted(error):
        # A missing grant fails every row; a policy on rows fails one.
        return bool(missing_grants())
    return is_database_failure(error)


#: Elsewhere rows are disabled or marked as deleted, and stay.
_DELETED_FROM = (WorkOSEvent, ExternalIdWriteBack, WorkOSConflict, OrmQ, Schedule, Task)


def missing_grants() -> tuple[str, ...]:
    """Return what is needed and not granted to the database's user, as in ``UPDATE ON
    workos_event``. Tables that are not there miss nothing. Raises ``django.db.Error``."""
    needed = [
        (model._meta.db_table, privilege)
        for model in (*apps.get_app_config("orgs").get_models(), OrmQ, Schedule, Task)
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
        if privilege != "DELETE" or model in _DELETED_FROM
    ]
    needed.append(("django_migrations", "SELECT"))  # for the status
    with connection.cursor() as cursor:
        cursor.execute(MISSING_GRANTS, [list(column) for column in zip(*needed, strict=True)])
        return tuple(f"{privilege} ON {table}" for table, privilege in cursor.fetchall())


# Together, else alone -----------------------------------------------------------------------


def together_or_alone(
    items: Iterable[T],
    write: Callable[[Sequence[T]], list[R]],
    together: Callable[[], list[R]] | None = None,
    *,
    deadline: float | None = None,
) -> tuple[list[R], dict[T, str]]:
    """Write items, or call ``together``; if PostgreSQL refuses that, write each alone. Return what
    was returned, and the items that failed with the reasons.

    Each call is a transaction. A lock that another program has fails one item that is written
    alone, and is raised for all of them together, unless there is a ``deadline``
    (``time.monotonic()``), after which none is written alone. With ``together``, ``items`` are
    found only once it was refused. Raises ``django.db.Error`` if the database failed.
    """
    try:
        return (write([*items]) if together is None else together()), {}
    except DatabaseError as error:
        if not is_refusal(error) and (deadline is None or not is_passing(error)):
            raise
        reason = describe(error)
    returned, refused = list[R](), {}
    for item in items:
        if deadline is not None and time.monotonic() > deadline:
            refused[item] = reason
            continue
        try:
            returned += write([item])
        except DatabaseError as error:
            if fails_every_row(error):
                raise
            refused[item] = describe(error)
    return returned, refused


# Many rows, a batch at a time ----------------------------------------------------------------

_BATCH_SIZE = 1_000


def write_in_batches(
    rows: QuerySet[Any], write: Callable[[QuerySet[Any]], object]
) -> tuple[int, list[str]]:
    """Call ``write`` with ``rows``, a batch at a time: it deletes them, or changes them so that
    they are not among ``rows`` any more. Return how many were written, and why others were not.

    Each call is a transaction. The rows of a batch that PostgreSQL refuses are written alone. Those
    that are refused then, and those that another program has locked, are left, and logged. Raises
    ``django.db.Error`` if the database failed, or a lock is not available.
    """
    count, reasons = 0, list[str]()
    following = rows.order_by("pk")
    while True:
        with bounded_transaction():
            keys = list(following.values_list("pk", flat=True)[:_BATCH_SIZE])
        if not keys:
            break
        # By key, and not until none is found: those that are left would be found again.
        following = rows.filter(pk__gt=keys[-1]).order_by("pk")
        written, refused = together_or_alone(keys, partial(_write_batch, rows, write))
        count += len(written)
        reasons += refused.values()
        if left := {*keys}.difference(written, refused):
            with bounded_transaction():
                held = rows.filter(pk__in=left).count()
            reasons += ["it is locked"] * held
    if reasons:
        text = "rows of %s that can't be changed, and that stay as they are: %d: %s"
        logger.warning(text, rows.model._meta.db_table, len(reasons), reasons[-1])
    return count, reasons


def _write_batch(
    rows: QuerySet[Any], write: Callable[[QuerySet[Any]], object], keys: Sequence[Any]
) -> list[Any]:
    """Write those of the rows that no other program has locked; return their keys."""
    with bounded_transaction():
        # Some may have left ``rows`` since.
        free = rows.filter(pk__in=keys).order_by("pk").select_for_update(skip_locked=True)
        locked = list(free.values_list("pk", flat=True))
        write(rows.filter(pk__in=locked))
        if rows.filter(pk__in=locked).exists():
            raise WriteSkipped("a trigger or a policy leaves it as it is")
    return locked
