"""WorkOS's rate limits: so many requests of a kind in a window of time."""

import time
from dataclasses import dataclass
from threading import Lock

from .messages import Answer, JsonObject, Request, RequestFilter, encode


@dataclass(slots=True)
class RateLimit:
    """A number of requests in a window of seconds; the next begins with the next request."""

    meant: RequestFilter
    limit: int
    window: float
    used: int = 0
    window_ends_at: float = 0.0

    def __post_init__(self) -> None:
        if self.limit < 0 or self.window <= 0:
            raise ValueError(f"no limit: {self.limit} requests in {self.window} seconds")

    def admit(self, now: float) -> float | None:
        """Count a request; return the seconds to wait if it is one too many."""
        if now >= self.window_ends_at:
            self.window_ends_at = now + self.window
            self.used = 0
        self.used += 1
        return self.window_ends_at - now if self.used > self.limit else None


class RateLimits:
    """The limits in force. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._limits: list[RateLimit] = []

    def limit_requests(
        self,
        limit: int | None,
        *,
        seconds: float = 60.0,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
    ) -> None:
        """Refuse what is more than a number of requests in so many seconds with a 429.

        Counts the requests that match as for `misbehave`, by default all, instead of an earlier
        limit of those. None ends that. WorkOS's own limits are 6,000 requests, and 50 deletions
        of organizations, in 60 seconds.
        """
        meant = RequestFilter(method, path, exact)
        added = [] if limit is None else [RateLimit(meant, limit, seconds)]
        with self._lock:
            self._limits = [*(each for each in self._limits if each.meant != meant), *added]

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


def too_many_requests(*, retry_after: float | str | None, bare: bool = False) -> Answer:
    """Answer 429, with a Retry-After if one is given; a bare one is no JSON, as was reported."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if bare:
        return Answer(429, b"Ratelimited", "text/plain; charset=utf-8", headers)
    error: JsonObject = {"message": "Too many requests.", "code": "rate_limit_exceeded"}
    return Answer(429, encode(error), headers=headers)
