"""The project's own settings, as in production, but that every logger says all it has to say."""

from gram_sync.settings import *  # noqa: F403
from gram_sync.settings import LOGGING

_loggers = ("django", "django.db", "django.request", "django.server", "django-q", "orgs")

LOGGING |= {
    "root": {"handlers": ["stderr"], "level": "DEBUG"},
    "loggers": {name: {"level": "DEBUG", "propagate": True} for name in _loggers},
}
