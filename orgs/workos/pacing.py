"""Paces this process's requests, by a budget that processes share or by one of its own."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from orgs.conf import sync_settings
from orgs.domain.budget import BURST, LONGEST_PAUSE, PARTS, WAIT, Grant, Share
from orgs.domain.naming import one_line
from orgs.workos.errors import RateLimited

logger = logging.getLogger(__name__)

#: Seconds for which tokens are reserved; then what is left is lost. A pause reaches every process
#: by then, and one that stops has not taken much.
_RESERVED_SECONDS = 1.0

#: Seconds that any call waits for its turn: the rate is kept by waiting, not by failing.
_SHORT_WAIT = 5.0

#: Seconds for which a shared budget is not asked again after an error.
_AVOID_SECONDS = 5.0


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
        self._own_used_until = dict.fromkeys(Share, 0.0)
        self._paused_until = self._avoid_shared_until = 0.0

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
        per_second = sync_settings().requests_per_minute / 60
        most = int(per_second * _RESERVED_SECONDS)
        self._sizes[share] = wanted = max(1, min(self._sizes[share], most))
        if (grant := self._ask_shared(lambda shared: shared.reserve(share, wanted))) is not None:
            return grant
        now = time.monotonic()
        for part in dict.fromkeys((share, Share.BULK)):
            rate = PARTS[part] * per_second
            start = max(self._own_used_until[part], now - BURST)
            if tokens := min(wanted, int((now - start) * rate)):
                self._own_used_until[part] = start + tokens / rate
                return Grant(tokens)
        return Grant(0, WAIT)

    def _ask_shared(self, ask: Callable[[Budget], Grant | None]) -> Grant | None:
        if self.shared is None or time.monotonic() < self._avoid_shared_until:
            return None
        try:
            grant = ask(self.shared)
        except Exception as error:  # noqa: BLE001 - whatever it is, WorkOS can be asked without it
            if not self._avoid_shared_until:
                logger.warning("this process paces its requests alone: %s", one_line(error))
            self._avoid_shared_until = time.monotonic() + _AVOID_SECONDS
            return None
        self._avoid_shared_until = 0.0
        return grant


pacer = Pacer()


def use_budget(budget: Budget | None) -> None:
    """Pace this process by ``budget``, which it shares with others; None: by one of its own."""
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


def interrupt_by(event: threading.Event) -> None:
    """End this thread's waits once ``event`` is set: the ``initializer`` of a pool of threads, so
    that who leaves the pool does not wait until a pause is over."""
    _of_thread.interrupt = event


def _is_interrupted(seconds: float) -> bool:
    interrupt: threading.Event = getattr(_of_thread, "interrupt", None) or threading.Event()
    return interrupt.wait(seconds)
