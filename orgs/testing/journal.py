"""A record of the requests that came in."""

from dataclasses import dataclass
from threading import Lock

from .messages import JsonObject, Request, RequestFilter


@dataclass(slots=True)
class Entry:
    """One request; `status` is None until it is answered, and for good if it never is."""

    request: Request
    status: int | None = None

    def as_json(self) -> JsonObject:
        """Say what was asked for and how it was answered."""
        return {
            "method": self.request.method,
            "path": self.request.path,
            "query": dict(self.request.query),
            "status": self.status,
        }


class Journal:
    """All requests in the order they came in. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[Entry] = []

    def begin(self, request: Request) -> Entry:
        """Record a request; its status is the caller's to fill in."""
        entry = Entry(request)
        with self._lock:
            self._entries.append(entry)
        return entry

    def entries(self, meant: RequestFilter, status: int | None) -> list[Entry]:
        """Return those that match, and were answered so unless the status is None."""
        with self._lock:
            return [
                entry
                for entry in self._entries
                if meant.matches(entry.request.method, entry.request.path)
                and status in (None, entry.status)
            ]

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._entries.clear()
