"""Paces this process's requests by a budget that processes share."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from orgs.conf import sync_settings
from orgs.domain.budget import LONGEST_PAUSE, Grant, Share
from orgs.domain.naming import one_line
from orgs.workos.errors import RateLimited

logger = logging.getLogger(__name__)

#: Seconds for which tokens are reserved; then what is left is lost. A pause reaches every process
#: by then, and one that stops has not taken much.
_RESERVED_SECONDS = 1.0

#: Seconds that any call waits for its turn: the rate is kept by waiting, not by failing.
_SHORT_WAIT = 5.0


class Budget(Protocol):
    """A budget that processes share. What it raises never reaches a call."""

    def reserve(self, share: Share, wanted: int) -> Grant:
        """Take up to ``wanted`` tokens, one for each request."""

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long; a longer pause stays."""

    def keep(self) -> None:
        """Keep what this thread asks with, because it will ask often, until ``release``."""

    def release(self) -> None:
        """Give up what this thread asks with."""


class Pacer:
    """Gives each request of this process its turn. Thread-safe."""

    def __init__(self) -> None:
        self.shared: Budget | None = None
        self.forget()

    def forget(self) -> None:
        """Forget pauses and what is reserved."""
        self._lock = threading.Lock()
        self._reserved = dict.fromkeys(Share, (Grant(0), 0.0))
        self._sizes = dict.fromkeys(Share, 1)
        self._paused_until = 0.0
        self._is_unpaced = False

    def pause(self, seconds: float) -> None:
        """Make every request of every process wait for so long; a longer pause stays."""
        seconds = min(seconds, LONGEST_PAUSE)
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)
            self._ask_shared(lambda shared: shared.pause(seconds))

    def take(self, share: Share) -> Grant:
        """Take one token; without one, the grant says when to come again."""
        with self._lock:
            now = time.monotonic()
            if now < self._paused_until:
                return Grant(0, self._paused_until - now, is_paused=True)
            grant, until = self._reserved[share]
            if now >= until or not (grant.tokens or grant.wait):
                if now < until:
                    self._sizes[share] *= 2
                elif not grant.wait:
                    # It was not used up in time: a caller that asks seldom reserves what it needs.
                    self._sizes[share] //= 2
                grant = self._reserve(share)
                until = time.monotonic() + (grant.wait or _RESERVED_SECONDS)
            self._reserved[share] = grant._replace(tokens=max(grant.tokens - 1, 0)), until
            return grant if grant.tokens else grant._replace(wait=max(until - now, 0.0))

    def _reserve(self, share: Share) -> Grant:
        most = int(sync_settings().requests_per_minute / 60 * _RESERVED_SECONDS)
        self._sizes[share] = wanted = max(1, min(self._sizes[share], most))
        return self._ask_shared(lambda shared: shared.reserve(share, wanted)) or Grant(1)

    def _ask_shared(self, ask: Callable[[Budget], Grant | None]) -> Grant | None:
        """Return the answer; None if there is no budget, or if it can't be asked: without the
        database little is asked of WorkOS, and where its row is locked, the wait for it paces."""
        if self.shared is None:
            return None
        try:
            grant = ask(self.shared)
        except Exception as error:  # noqa: BLE001 - whatever it is, WorkOS can be asked without it
            if not self._is_unpaced:
                logger.warning("requests are not paced: %s", one_line(error))
            self._is_unpaced = True
            return None
        self._is_unpaced = False
        return grant


pacer = Pacer()

# What is reserved is the parent's, and a lock that another thread of it held is never released.
os.register_at_fork(after_in_child=pacer.forget)


def use_budget(budget: Budget) -> None:
    """Pace this process by ``budget``, which it shares with others."""
    pacer.shared = budget


def wait_for_turn(share: Share, *, deadline: float) -> None:
    """Return when a request may be sent. Raises ``RateLimited`` if that is after ``deadline``.

    For the budget it waits a few seconds in any case, but not for a pause that WorkOS asked for.
    """
    short = time.monotonic() + _SHORT_WAIT
    while not (grant := pacer.take(share)).tokens:
        latest = deadline if grant.is_paused else max(deadline, short)
        if time.monotonic() + grant.wait > latest or _is_interrupted(grant.wait):
            reason = (
                "WorkOS asked for a pause" if grant.is_paused else "REQUESTS_PER_MINUTE is used up"
            )
            raise RateLimited(reason, retry_after=grant.wait)


# Interrupts ---------------------------------------------------------------------------------

_of_thread = threading.local()


@contextmanager
def asking_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads for calls of WorkOS. Who leaves the block, by an error or Ctrl-C too, waits for
    what is under way, and not until a pause is over."""
    left = threading.Event()
    with ThreadPoolExecutor(count, initializer=interrupt_by, initargs=(left,)) as threads:
        try:
            yield threads
        finally:
            left.set()


def interrupt_by(event: threading.Event) -> None:
    """End this thread's waits once ``event`` is set."""
    _of_thread.interrupt = event


def _is_interrupted(seconds: float) -> bool:
    interrupt: threading.Event = getattr(_of_thread, "interrupt", None) or threading.Event()
    return interrupt.wait(seconds)
