"""Notes what happens when: all of it in a file, and the last of it at hand."""

import time
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Final

_KEPT: Final = 25


class Chronicle:
    """Lines with the seconds since the beginning. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._began_at = time.monotonic()
        self._lock = Lock()
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._file = path.open("w", buffering=1)

    def note(self, result: str, what: object) -> None:
        """Note what was done or happened, and what came of it."""
        line = f"{time.monotonic() - self._began_at:9.3f} {what}: {result}"
        with self._lock:
            self._last.append(line)
            self._file.write(f"{line}\n")

    def last(self) -> list[str]:
        with self._lock:
            return list(self._last)
