"""Reads WorkOS's pages ahead: the next one while the caller is busy with this one."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from orgs.domain.types import EventPage, ObjectPage
from orgs.workos.errors import BrokenAnswer
from orgs.workos.pacing import interrupt_by

PageT = TypeVar("PageT", EventPage, ObjectPage)


def read_ahead(read: Callable[[Any], PageT], start: object) -> Generator[PageT]:
    """Yield the pages from ``start`` to the last. ``read`` runs in a thread: no database there.

    Raises what ``read`` raises when its page is due, and ``BrokenAnswer`` if the pages go round in
    circles. Close it if it is not read to its end: that ends a wait for WorkOS too.
    """
    visited, closed = {start}, threading.Event()
    with ThreadPoolExecutor(1, initializer=interrupt_by, initargs=(closed,)) as reader:
        try:
            upcoming = reader.submit(read, start)
            while not (page := upcoming.result()).is_last:
                if page.position in visited:
                    raise BrokenAnswer("WorkOS lists the same page again")
                visited.add(page.position)
                upcoming = reader.submit(read, page.position)
                yield page
            yield page
        finally:
            closed.set()
