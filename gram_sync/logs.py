"""How every process logs: one event a line; as JSON, unless a person reads it on a terminal."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from gram_sync.redaction import redact

#: What a record may say beside its message: WorkOS's ids of the event and the organization, and
#: what became of it.
_FIELDS: Final = ("event", "organization", "outcome")


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

    Ours say why themselves, and of others' requests no 404 is worth a line. An exception is.
    """
    return record.exc_info is not None


def configuration(level: str) -> dict[str, Any]:
    """For ``logging.config.dictConfig``, and so for Django and gunicorn: quiet when all is well.

    ``level`` is the mirror's own: at DEBUG it tells of every event.
    """
    formatter = LineFormatter if _is_for_people() else JsonFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"news": {"()": lambda: _is_news}},
        "formatters": {"told": {"()": formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "told"}},
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
