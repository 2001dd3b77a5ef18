"""How every process logs: one event a line; as JSON, unless a person reads it on a terminal."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gram_sync.redaction import redact

#: What a record may say beside its message: WorkOS's ids of the event and the organization, and
#: what became of it.
_FIELDS: Final = ("event", "organization", "outcome")


_MINUTE: Final = 60.0
_MOST_REMEMBERED: Final = 1_000


class LineFormatter(logging.Formatter):
    """For people: a line and, below it, the traceback. Without secrets."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        # Words of others may hold line breaks, and must not look like lines of ours.
        record.message = " ".join(record.message.splitlines())
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """For programs: an object a line, a traceback in one of its fields. Without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            # Masked before they are written as JSON, which would write some secrets otherwise.
            "message": redact(record.getMessage()),
        }
        for field in _FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                told[field] = redact(str(value))
        if record.exc_info:
            told["traceback"] = redact(self.formatException(record.exc_info))
        # ASCII: what a stream can't encode would be escaped in a way that no JSON parser reads.
        return json.dumps(told)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record of Django's says more than that the answer was a 4xx or a 5xx.

    Ours say why themselves, and of others' requests no 403 or 404 is worth a line. An exception
    that nobody expected is.
    """
    return record.exc_info is not None and getattr(record, "status_code", 500) >= 500


class OncePerMinute(logging.Filter):
    """Lets the same warning through once a minute; the next one says how many there were.

    Anyone can send forged webhooks, and some libraries complain twice a second while what they need
    is gone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[tuple[str, int, str], _Told] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        message = record.getMessage()
        now = self._clock()
        with self._lock:
            before = self._told.get((record.name, record.levelno, message))
            if before is not None and now < before.at + _MINUTE:
                before.dropped += 1
                return False
            if len(self._told) >= _MOST_REMEMBERED:
                self._told.clear()
            self._told[record.name, record.levelno, message] = _Told(now)
        if before is not None and before.dropped:
            record.msg, record.args = f"{message} (and {before.dropped} times more since)", ()
        return True


@dataclass(slots=True)
class _Told:
    at: float
    dropped: int = 0


def configuration(level: str) -> dict[str, Any]:
    """For ``logging.config.dictConfig``, and so for Django and gunicorn: quiet when all is well.

    ``level`` is the mirror's own: at DEBUG it tells of every event.
    """
    formatter = LineFormatter if _is_for_people() else JsonFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"news": {"()": lambda: _is_news}, "once": {"()": OncePerMinute}},
        "formatters": {"told": {"()": formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "told",
                "filters": ["once"],
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "orgs": {"level": level},
            # Its INFO is two lines a task, of which there are two a minute when nothing happens.
            "django-q": {"level": "WARNING"},
            "django.request": {"filters": ["news"]},
            "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            # Its INFO tells of each start and stop of its processes.
            "gunicorn.error": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        },
    }


def _is_for_people() -> bool:
    # There may be no stderr at all.
    return sys.stderr is not None and sys.stderr.isatty()
