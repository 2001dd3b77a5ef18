"""Reads WorkOS's pages ahead: the next one while the caller is busy with this one."""

from collections.abc import Callable, Generator

from orgs.domain.types import Page, PositionT
from orgs.workos import pacing
from orgs.workos.errors import BrokenAnswer
from orgs.workos.pacing import asking_threads


def read_ahead(
    read: Callable[[PositionT], Page[PositionT]], start: PositionT
) -> Generator[Page[PositionT]]:
    """Yield the pages from ``start`` to the last. ``read`` runs in a thread, which keeps what it
    asks the shared budget with until the end, and uses no other database.

    Raises what ``read`` raises when its page is due, and ``BrokenAnswer`` if the pages go round in
    circles. Close it if it is not read to its end: that ends a wait for WorkOS too.
    """
    pages, budget = read_all(read, start), pacing.pacer.shared
    with asking_threads(1) as reader:
        if budget:
            reader.submit(budget.keep)
        following = reader.submit(next, pages, None)
        try:
            while True:
                # Before this page is here: then the thread asks for the next one without us.
                upcoming, following = following, reader.submit(next, pages, None)
                if (page := upcoming.result()) is None:
                    return
                yield page
        finally:
            following.cancel()
            if budget:
                reader.submit(budget.release)


def read_all(
    read: Callable[[PositionT], Page[PositionT]], start: PositionT
) -> Generator[Page[PositionT]]:
    """Yield the pages from ``start`` to the last, each read when it is due. Raises what ``read``
    raises, and ``BrokenAnswer`` if they go round in circles."""
    visited, position, is_last = {start}, start, False
    while not is_last:
        page = read(position)
        position, is_last = page.position, page.is_last
        if position in visited and not is_last:
            raise BrokenAnswer("WorkOS lists the same page again")
        visited.add(position)
        yield page
