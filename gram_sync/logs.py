"""How every process logs: one event a line; as JSON, unless a person reads it on a terminal."""

import logging
import sys
import threading
import time
from typing import Any, Final

from pythonjsonlogger.core import LogData
from pythonjsonlogger.json import JsonFormatter as BaseJsonFormatter
from redis.exceptions import RedisError

from gram_sync.redaction import redact
from orgs.db.errors import DatabaseFailed, without_detail
from orgs.domain.naming import one_line

#: What a line of JSON may say: of a record's extra fields, WorkOS's ids of the event and the
#: organization, and what became of it.
_KEYS: Final = (
    *("at", "level", "logger", "process", "message"),
    *("event", "organization", "outcome", "traceback"),
)
_MINUTE: Final = 60.0
_MOST_REMEMBERED: Final = 1_000


class _WithoutDetail(logging.Formatter):
    """Writes tracebacks without PostgreSQL's DETAIL, which shows customers' names."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        _, error, traceback = ei
        shown = error and without_detail(error)
        return super().formatException((type(shown), shown, traceback))


class LineFormatter(_WithoutDetail):
    """For people: a line and, below it, the traceback. Without secrets."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        # Words of others may hold line breaks, and must not look like lines of ours.
        record.message = " ".join(record.message.splitlines())
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(_WithoutDetail, BaseJsonFormatter):
    """For programs: an object a line, a traceback in one of its fields. Without secrets."""

    def __init__(self) -> None:
        super().__init__(
            ("levelname", "name", "process", "message"),
            style="__sequence__",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
            timestamp="at",
            # What a stream can't encode would be escaped in a way that no JSON parser reads.
            json_ensure_ascii=True,
        )

    def process_log_record(self, log_data: LogData) -> LogData:
        log_data["at"] = log_data["at"].isoformat(timespec="milliseconds")
        # Before they are written as JSON, which would write some secrets otherwise.
        return {
            key: value if key == "process" else redact(str(value))
            for key in _KEYS
            if (value := log_data.get(key)) is not None
        }


def is_news(record: logging.LogRecord) -> bool:
    """Return True if a record of Django's says more than that the answer was a 4xx or a 5xx: ours
    say why themselves. An exception that nobody expected is worth a line."""
    return record.exc_info is not None and getattr(record, "status_code", 500) >= 500


def shortened(record: logging.LogRecord) -> bool:
    """Let every record through: as one line if PostgreSQL or Redis failed, and not a statement of
    ours. The traceback of a task is kept in the admin, under Failed tasks."""
    error = record.exc_info and record.exc_info[1]
    if isinstance(shown := error and without_detail(error), RedisError | DatabaseFailed):
        record.msg = f"{record.getMessage()}: {one_line(shown)}"
        record.args, record.exc_info = (), None
    said, _, traceback = record.getMessage().partition(" : Traceback (most recent call last)")
    if DatabaseFailed.__name__ in traceback:
        record.msg, record.args = said, ()
    return True


class OncePerMinute:
    """Lets the same warning through once a minute; the next one says how many there were.

    Anyone can send forged webhooks, and some libraries complain twice a second while what they need
    is unavailable.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: When each was let through, and how many were dropped since.
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        message, now = record.getMessage(), time.monotonic()
        key = (record.name, record.levelno, message)
        with self._lock:
            at, dropped = self._seen.get(key, (-_MINUTE, 0))
            if now < at + _MINUTE:
                self._seen[key] = (at, dropped + 1)
                return False
            if len(self._seen) >= _MOST_REMEMBERED:
                self._seen.clear()
            self._seen[key] = (now, 0)
        if dropped:
            record.msg, record.args = f"{message} (and {dropped} times more since)", ()
        return True


def configuration(level: str) -> dict[str, Any]:
    """Return what ``logging.config.dictConfig`` takes, for Django and gunicorn. ``level`` is the
    mirror's own: at DEBUG it logs every event."""
    # There may be no stderr at all.
    is_for_people = sys.stderr is not None and sys.stderr.isatty()
    to_stderr = {"class": "logging.StreamHandler"}
    # The INFO of gunicorn's is each start and stop of its processes.
    alone = {"handlers": ["stderr"], "level": "WARNING", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter if is_for_people else JsonFormatter}},
        "handlers": {"stderr": {**to_stderr, "formatter": "line", "filters": [OncePerMinute()]}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "orgs": {"level": level},
            # Its INFO is two lines a task, of which there are two a minute when nothing happens.
            "django-q": {"level": "WARNING", "filters": [shortened]},
            "django.request": {"filters": [is_news, shortened]},
            "django.server": alone,
            "gunicorn.error": alone,
        },
    }
