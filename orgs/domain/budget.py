"""Defines how the requests that WorkOS allows are divided. Pure.

A quarter of them is for reads of the stream alone, which may use the rest too. Everything else
(write-backs, reconcile) shares the rest, so that it can't keep the stream from being read.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Share(StrEnum):
    """What a request is for, and so which requests it may use up."""

    STREAM = "stream"
    BULK = "bulk"


#: Of all requests.
PARTS: Final = {Share.STREAM: 0.25, Share.BULK: 0.75}

#: For so many seconds, requests that nobody makes accumulate. With these, and with what is
#: reserved, any 60 seconds stay within WorkOS's 6,000 requests by default: 4,800 + 5 * 80, and 80
#: for each process.
BURST: Final = 5.0

#: Seconds until a process that got none asks again.
WAIT: Final = 0.25

#: Seconds; a mistaken ``Retry-After`` must not silence everyone for years.
LONGEST_PAUSE: Final = 900.0


class Grant(NamedTuple):
    """Requests that may be made now; if there are none, the seconds until it makes sense to ask."""

    tokens: int
    wait: float = 0.0
    is_paused: bool = False
    """WorkOS asked for the wait (429)."""
