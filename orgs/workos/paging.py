"""Reads WorkOS's pages ahead: the next one while the caller is busy with this one."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from orgs.workos import pacing
from orgs.workos.errors import BrokenAnswer

P_co = TypeVar("P_co", covariant=True)


class Page(Protocol[P_co]):
    """What a read returns: where the next one starts, and whether there is a next one."""

    @property
    def position(self) -> P_co: ...
    @property
    def is_last(self) -> bool: ...


P = TypeVar("P")
PageT = TypeVar("PageT", bound="Page[object]")


def read_ahead(read: Callable[[P], PageT], start: P) -> Generator[PageT]:
    """Yield the pages from ``start`` to the last. ``read`` runs in a thread: no database there.

    Raises what ``read`` raises when its page is due, and ``BrokenAnswer`` if the pages go round in
    circles. Close it if it is not read to its end: that also ends a wait for WorkOS.
    """
    visited: set[object] = {start}
    closed = threading.Event()
    with ThreadPoolExecutor(1, initializer=pacing.interrupt_by, initargs=(closed,)) as reader:
        try:
            upcoming = reader.submit(read, start)
            while True:
                page = upcoming.result()
                if page.is_last:
                    yield page
                    return
                if page.position in visited:
                    raise BrokenAnswer("WorkOS lists the same page again")
                visited.add(page.position)
                upcoming = reader.submit(read, page.position)  # type: ignore[arg-type]
                yield page
        finally:
            closed.set()
