"""Paces the requests of this process, by a budget that processes share or by one of its own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orgs.conf import sync_settings
from orgs.domain.budget import Bucket, Grant, Share, rates
from orgs.domain.naming import one_line
from orgs.workos.errors import RateLimited

logger = logging.getLogger(__name__)

#: Seconds for which tokens are reserved. What is not used by then is lost, so that a process that
#: stops has taken little, and a pause reaches all processes soon.
_LOT_SECONDS = 1.0

#: Seconds that every call may wait for its turn: the rate is kept by waiting, not by failing.
_SHORT_WAIT = 5.0

#: Seconds for which a shared budget that failed is not asked again.
_AVOID_SECONDS = 5.0


class Budget(Protocol):
    """A budget that processes share. May raise anything: then each process paces itself."""

    def reserve(self, share: Share, wanted: int) -> Grant:
        """Take up to ``wanted`` tokens out."""

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long, to anybody; a longer pause stays."""


@dataclass(slots=True)
class _Lot:
    """Tokens that are reserved, or, if there are none, when to ask for some again."""

    tokens: int = 0
    taken: int = 0
    until: float = 0.0
    wait: Grant | None = None


class Pacer:
    """Hands out the turns of this process's requests. Thread-safe."""

    def __init__(self, shared: Budget | None = None) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self._own = Bucket(time.monotonic())
        self._lots = {share: _Lot() for share in Share}
        self._avoid_shared_until = 0.0

    def fresh(self) -> "Pacer":
        """Return one that knows of no pause and has nothing reserved, as a forked process needs."""
        return Pacer(self._shared)

    def take(self, share: Share) -> Grant:
        """Take one token; without one, return when to come again."""
        with self._lock:
            lot, now = self._lots[share], time.monotonic()
            if now < lot.until:
                if lot.wait:
                    return lot.wait._replace(wait=lot.until - now)
                if lot.tokens > lot.taken:
                    lot.taken += 1
                    return Grant(1)
            self._lots[share] = lot = self._reserve(share, self._wanted(lot, now))
            lot.taken = min(lot.tokens, 1)
            return lot.wait or Grant(1)

    def pause(self, seconds: float) -> None:
        """Make everybody wait, as WorkOS asked."""
        with self._lock:
            self._own.pause(seconds, now=time.monotonic())
            self._lots = {share: _Lot() for share in Share}
            self._ask_shared(lambda shared: shared.pause(seconds))

    def _wanted(self, last: _Lot, now: float) -> int:
        """Twice the last lot if it was used up in time, else what was used of it: a process that
        asks seldom takes no more than it needs."""
        stream, bulk = rates(sync_settings().requests_per_minute)
        most = int(max(bulk.per_second, stream.per_second) * _LOT_SECONDS)
        grown = 2 * last.taken if now < last.until else last.taken
        return max(1, min(grown, most))

    def _reserve(self, share: Share, wanted: int) -> _Lot:
        grant = self._own_pause() or self._ask_shared(lambda shared: shared.reserve(share, wanted))
        if grant is None:
            per_minute = sync_settings().requests_per_minute
            grant = self._own.reserve(share, wanted, now=time.monotonic(), per_minute=per_minute)
        seconds = _LOT_SECONDS if grant.tokens else grant.wait
        until = time.monotonic() + seconds
        return _Lot(grant.tokens, until=until, wait=None if grant.tokens else grant)

    def _own_pause(self) -> Grant | None:
        return self._own.rest_of_pause(time.monotonic())

    def _ask_shared(self, ask: Callable[[Budget], Grant | None]) -> Grant | None:
        if self._shared is None or time.monotonic() < self._avoid_shared_until:
            return None
        try:
            return ask(self._shared)
        except Exception as error:  # noqa: BLE001 - whatever it is, WorkOS can be asked without it
            logger.warning(
                "the shared request budget can't be used, this process paces itself: %s",
                one_line(error),
            )
            self._avoid_shared_until = time.monotonic() + _AVOID_SECONDS
            return None


_pacer = Pacer()


def use_budget(budget: Budget | None) -> None:
    """Pace this process by a budget that it shares with others; by its own one if None."""
    global _pacer  # noqa: PLW0603 - one for the process, as the client
    _pacer = Pacer(budget)


def forget() -> None:
    """Forget pauses and what is reserved, in this process: after a fork, and between tests."""
    global _pacer  # noqa: PLW0603 - as above
    _pacer = _pacer.fresh()


def note_pause(seconds: float) -> None:
    """Make every caller wait, as WorkOS asked."""
    _pacer.pause(seconds)


def wait_for_turn(share: Share, *, deadline: float) -> None:
    """Return when a request may be sent.

    Raises ``RateLimited`` if that is after ``deadline``; for the budget, but not for a pause that
    WorkOS asked for, it waits a few seconds in any case.
    """
    patient_until = max(deadline, time.monotonic() + _SHORT_WAIT)
    while not (grant := _pacer.take(share)).tokens:
        limit = deadline if grant.is_paused else patient_until
        if time.monotonic() + grant.wait > limit or not _sleep(grant.wait):
            raise RateLimited(
                "WorkOS asked for a pause (429)"
                if grant.is_paused
                else "the request budget (REQUESTS_PER_MINUTE) is used up",
                retry_after=grant.wait,
            )


# Waits that can be interrupted ----------------------------------------------------------------

_of_thread = threading.local()


def interrupt_by(event: threading.Event) -> None:
    """End the waits of the current thread, now and later, once ``event`` is set.

    For the ``initializer`` of a pool: who leaves the pool must not wait for a pause to end.
    """
    _of_thread.interrupt = event


def _sleep(seconds: float) -> bool:
    interrupt: threading.Event | None = getattr(_of_thread, "interrupt", None)
    if interrupt is not None:
        return not interrupt.wait(seconds)
    time.sleep(seconds)
    return True
