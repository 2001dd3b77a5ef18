"""Finds out which of several rows PostgreSQL refuses, after it has refused them together, and says
why something could not be done."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.db import DatabaseError

from orgs.db.errors import describe, is_passing
from orgs.domain.naming import one_line
from orgs.services.maintenance import fails_every_row
from orgs.workos import WorkOSError

T = TypeVar("T")
R = TypeVar("R")


def said(error: Exception) -> str:
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
        report(text.format(said(error)))


def is_refusal(error: DatabaseError) -> bool:
    """Return True if PostgreSQL refuses what was written, now and later."""
    return not (is_passing(error) or fails_every_row(error))


def together_or_alone(
    items: Iterable[T],
    write: Callable[[Sequence[T]], list[R]],
    together: Callable[[], list[R]] | None = None,
) -> tuple[list[R], dict[T, str]]:
    """Write items, or call ``together``; if PostgreSQL refuses that, write each alone. Return what
    was returned, and as ``each_alone`` the items that failed. Raises ``django.db.Error``.

    With ``together``, ``items`` are found only once it was refused.
    """
    try:
        return (write([*items]) if together is None else together()), {}
    except DatabaseError as error:
        if not is_refusal(error):
            raise
    found, refused = each_alone(items, lambda item: write([item]))
    return [one for returned in found for one in returned], refused


def each_alone(items: Iterable[T], write: Callable[[T], R]) -> tuple[list[R], dict[T, str]]:
    """Write each item, in a transaction that ``write`` opens; return what was returned, and the
    items that failed with the reasons.

    A lock that another program has is such a reason too. Raises ``django.db.DatabaseError`` if the
    environment failed: that concerns every item.
    """
    returned, refused = [], {}
    for item in items:
        try:
            returned.append(write(item))
        except DatabaseError as error:
            if fails_every_row(error):
                raise
            refused[item] = describe(error)
    return returned, refused
