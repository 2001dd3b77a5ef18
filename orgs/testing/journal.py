"""A record of the requests that came in."""

from threading import Lock

from .messages import JsonObject, Request, RequestFilter


class Journal:
    """All requests in the order they came in. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[JsonObject] = []

    def begin(self, request: Request) -> JsonObject:
        """Record a request; its status is the caller's to fill in once it is answered."""
        query = dict(request.query)
        entry = {"method": request.method, "path": request.path, "query": query, "status": None}
        with self._lock:
            self._entries.append(entry)
        return entry

    def requests(
        self,
        *,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
        status: int | None = None,
    ) -> list[JsonObject]:
        """Return the API requests so far that match as for `misbehave`, in order of arrival.

        Each has `method`, `path`, `query` and `status`, which is None without an answer (yet);
        a `status` asks for those answered so.
        """
        meant = RequestFilter(method, path, exact)
        with self._lock:
            return [
                dict(entry)
                for entry in self._entries
                if meant.matches(entry["method"], entry["path"])
                and status in (None, entry["status"])
            ]

    def count_requests(
        self,
        *,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
        status: int | None = None,
    ) -> int:
        """Count the API requests that `requests` would return."""
        return len(self.requests(method=method, path=path, exact=exact, status=status))

    def forget_requests(self) -> None:
        """Begin the record of requests anew."""
        with self._lock:
            self._entries.clear()
