"""WorkOS's rate limits: so many requests of a kind a minute."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from .messages import Answer, JsonObject, Request, RequestFilter, encode

_WINDOW: Final = 60.0


@dataclass(slots=True)
class RateLimit:
    """A number of requests in a window of a minute; the next begins with the next request."""

    meant: RequestFilter
    limit: int
    used: int = 0
    window_ends_at: float = 0.0

    def admit(self, now: float) -> float | None:
        """Count a request; return the seconds to wait if it is one too many."""
        if now >= self.window_ends_at:
            self.window_ends_at = now + _WINDOW
            self.used = 0
        self.used += 1
        return self.window_ends_at - now if self.used > self.limit else None


class RateLimits:
    """The limits in force. Thread-safe."""

    def __init__(self, limits: Sequence[RateLimit]) -> None:
        self._lock = Lock()
        self._limits = limits

    def refuse(self, request: Request) -> Answer | None:
        """Return a 429 for one request too many, or None."""
        with self._lock:
            for limit in self._limits:
                if not limit.meant.matches(request.method, request.path):
                    continue
                pause = limit.admit(time.monotonic())
                if pause is not None:
                    return too_many_requests(retry_after=int(pause) + 1)
        return None


def too_many_requests(*, retry_after: float | str | None) -> Answer:
    """Answer 429, with a Retry-After if one is given."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error: JsonObject = {"message": "Too many requests.", "code": "rate_limit_exceeded"}
    return Answer(429, encode(error), headers=headers)
