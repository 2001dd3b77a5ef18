"""The fake's clock, and moments as WorkOS writes them."""

import time
from datetime import UTC, datetime
from typing import TypeAlias

Moment: TypeAlias = datetime | str
"""A datetime or an ISO 8601 text; without a time zone it is UTC."""


class Clock:
    """Milliseconds since 1970, never going back unless the offset is changed.

    Not thread-safe: its owner reads it under a lock.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._latest = 0

    def now(self) -> int:
        """Return the current millisecond, which may be that of the last call."""
        self._latest = max(self._latest, int((time.time() + self._offset) * 1000))
        return self._latest

    def set_offset(self, seconds: float) -> None:
        """Show the real time plus so many seconds from now on."""
        self._offset = seconds
        self._latest = 0


def to_iso(milliseconds: int) -> str:
    """Write a moment as WorkOS does: ISO 8601 with milliseconds and Z."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_milliseconds(moment: Moment) -> int:
    """Read a moment as milliseconds since 1970; ValueError if it isn't one."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
