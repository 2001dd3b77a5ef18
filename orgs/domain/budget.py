"""Divides the requests that WorkOS allows: a bucket of tokens, refilled all the time. Pure.

A quarter is for reads of the stream alone, which may use the rest too. Everything else, such as
write-backs and reconcile, shares the rest: it can't keep the stream from being read.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

#: A pause that WorkOS asks for is kept up to this many seconds: a mistaken header must not silence
#: everyone for years.
LONGEST_PAUSE = 900.0

_STREAM_PART = 0.25

#: Seconds of the rate that an idle bucket gathers. With them, and what processes have reserved, any
#: 60 seconds stay within WorkOS's 6,000 requests by default: 4,800 + 5 * 80 + 80.
_BURST = 5.0

#: An empty bucket is asked again after so many seconds at the earliest.
_SHORTEST_WAIT = 0.1


class Share(StrEnum):
    """What a request is for, and so which part of the bucket it may use."""

    STREAM = "stream"
    BULK = "bulk"


class Grant(NamedTuple):
    """Tokens that may be used now; if there are none, the seconds until it makes sense to ask."""

    tokens: int
    wait: float = 0.0
    is_paused: bool = False
    """WorkOS asked for the wait (429)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second and at most, for one part of the bucket."""

    per_second: float
    most: float

    def wait(self, tokens: float) -> float:
        """Return the seconds until there is a whole token."""
        return max((1 - tokens) / self.per_second, _SHORTEST_WAIT)


def rates(requests_per_minute: int) -> tuple[Rate, Rate]:
    """Return the stream's own rate and that of the rest."""
    stream, bulk = (requests_per_minute / 60 * part for part in (_STREAM_PART, 1 - _STREAM_PART))
    return Rate(stream, max(1.0, stream * _BURST)), Rate(bulk, max(1.0, bulk * _BURST))


class Bucket:
    """A bucket of one process. Times are seconds of a clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._stream = self._bulk = float("inf")
        self._refilled_at = now
        self._paused_until = now

    def pause(self, seconds: float, *, now: float) -> None:
        """Grant nothing for so long; a longer pause stays."""
        self._paused_until = max(self._paused_until, now + min(seconds, LONGEST_PAUSE))

    def rest_of_pause(self, now: float) -> Grant | None:
        """Return the wait until the pause is over, if there is one."""
        rest = self._paused_until - now
        return Grant(0, rest, is_paused=True) if rest > 0 else None

    def reserve(self, share: Share, wanted: int, *, now: float, per_minute: int) -> Grant:
        """Take up to ``wanted`` tokens out."""
        if pause := self.rest_of_pause(now):
            return pause
        of_stream, of_bulk = rates(per_minute)
        passed = now - self._refilled_at
        stream = min(of_stream.most, self._stream + passed * of_stream.per_second)
        bulk = min(of_bulk.most, self._bulk + passed * of_bulk.per_second)
        first = min(wanted, int(stream)) if share is Share.STREAM else 0
        second = min(wanted - first, int(bulk))
        self._stream, self._bulk, self._refilled_at = stream - first, bulk - second, now
        if first + second:
            return Grant(first + second)
        waits = [of_bulk.wait(bulk)] + [of_stream.wait(stream)] * (share is Share.STREAM)
        return Grant(0, min(waits))
