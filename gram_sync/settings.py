"""Settings, all from the environment; the README's table lists them."""

import os
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from gram_sync import logs
from orgs.conf import RANGES, Secret, SyncSettings, least_task_timeout

BASE_DIR = Path(__file__).resolve().parent.parent


def _text(name: str) -> str:
    # Not through django-environ, which takes a value that begins with "$" for another's name.
    return os.environ.get(name, "").strip()


def _number(name: str, default: float, *, least: float, most: float) -> Any:
    """The number in the environment's ``name``, of the type of ``default``."""
    kind = type(default)
    text = _text(name)
    try:
        value = kind(text) if text else default
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        wanted = "a whole number" if kind is int else "a number"
        raise ImproperlyConfigured(
            f"{name} must be {wanted} from {least:g} to {most:g}, not {text!r}"
        )
    return value


def _switch(name: str) -> bool:
    text = _text(name).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("", "0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {text!r}")


def _choice(name: str, default: str, *others: str) -> str:
    chosen = {choice.lower(): choice for choice in (default, *others)}
    text = _text(name)
    if text and text.lower() not in chosen:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(chosen.values())}, not {text!r}")
    return chosen[text.lower()] if text else default


def _list(name: str) -> list[str]:
    return [item.strip() for item in _text(name).split(",") if item.strip()]


# Secrets and what guards them ---------------------------------------------------------------

DEBUG = _switch("DEBUG")
#: Without one, and with DEBUG off, a system check says what to set.
SECRET_KEY = Secret(_text("SECRET_KEY") or ("insecure-key-for-development-only" if DEBUG else ""))
ALLOWED_HOSTS = _list("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]

HTTPS_ONLY = _switch("HTTPS_ONLY")
SECURE_SSL_REDIRECT = HTTPS_ONLY
# Monitoring asks the process itself, not the proxy before it.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)/?$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS_ONLY
SECURE_HSTS_PRELOAD = HTTPS_ONLY
SESSION_COOKIE_SECURE = HTTPS_ONLY
CSRF_COOKIE_SECURE = HTTPS_ONLY
# TLS ends at a proxy, which must set this header itself and not pass on a client's.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS_ONLY else None
X_FRAME_OPTIONS = "DENY"

DEFAULT_EXCEPTION_REPORTER = "gram_sync.redaction.RedactingExceptionReporter"

# WorkOS and the mirror ----------------------------------------------------------------------

_defaults = SyncSettings()


def _sync_number(name: str, setting: str) -> Any:
    """The number in the environment's ``name``, as ``setting`` of the mirror allows it."""
    least, most = RANGES[setting]
    return _number(name, getattr(_defaults, setting), least=least, most=most)


WORKOS_SYNC = {
    "API_KEY": Secret(_text("WORKOS_API_KEY")),
    "BASE_URL": _text("WORKOS_BASE_URL") or _defaults.base_url,
    "ENVIRONMENT_ID": _text("WORKOS_ENVIRONMENT_ID"),
    "WEBHOOK_SECRETS": tuple(Secret(secret) for secret in _list("WORKOS_WEBHOOK_SECRET")),
    "HOLD_BACK_WINDOW": _sync_number("HOLD_BACK_SECONDS", "hold_back_window"),
    "POLL_PAUSE": _sync_number("POLL_PAUSE_SECONDS", "poll_pause"),
    "DRAIN_DEADLINE": _sync_number("DRAIN_DEADLINE_SECONDS", "drain_deadline"),
    "PAGE_SIZE": _sync_number("PAGE_SIZE", "page_size"),
    "LOCK_TIMEOUT": _sync_number("LOCK_TIMEOUT_SECONDS", "lock_timeout"),
    "REQUEST_TIMEOUT": _sync_number("REQUEST_TIMEOUT_SECONDS", "request_timeout"),
    "REQUESTS_PER_MINUTE": _sync_number("REQUESTS_PER_MINUTE", "requests_per_minute"),
    "LEDGER_RETENTION_DAYS": _sync_number("LEDGER_RETENTION_DAYS", "ledger_retention_days"),
}

# Database -----------------------------------------------------------------------------------

_EMBEDDED_POSTGRES = {
    "ENGINE": "gram_sync.embedded_postgres",
    "NAME": "gram_sync",
    "OPTIONS": {"data_dir": BASE_DIR / ".data" / "postgres"},
}


def _database() -> dict[str, Any]:
    if not (url := _text("DATABASE_URL")):
        return _EMBEDDED_POSTGRES
    # What can't be read is not shown either: it holds a password.
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured("DATABASE_URL must name a PostgreSQL: postgresql://…")
    try:
        return _with_time_limit(dict(environ.Env.db_url_config(url)))
    except ValueError:
        raise ImproperlyConfigured(
            "DATABASE_URL can't be read; it must look like postgresql://user:password@host:5432/name,"
            " with %XX for special characters in the password"
        ) from None


def _with_time_limit(database: dict[str, Any]) -> dict[str, Any]:
    # A host that is gone answers nothing at all, and WorkOS waits for a webhook's answer 5 seconds.
    limits = {
        "connect_timeout": 3,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    return {**database, "OPTIONS": {**limits, **database.get("OPTIONS", {})}}


def _behind_pooler(database: dict[str, Any]) -> dict[str, Any]:
    """Without what lasts longer than a transaction: that is as long as a pooled session is ours."""
    options = {**database.get("OPTIONS", {}), "prepare_threshold": None}
    return {**database, "OPTIONS": options, "DISABLE_SERVER_SIDE_CURSORS": True}


def _with_statement_limit(database: dict[str, Any]) -> dict[str, Any]:
    """As the web process has it, whose threads are few: a page must not wait for another program's
    lock for as long as that is held."""
    seconds = _number("STATEMENT_TIMEOUT_SECONDS", 0.0, least=0, most=3_600)
    if not seconds:
        return database
    options = database.get("OPTIONS", {})
    milliseconds = int(seconds * 1000)
    limits = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 5}"
    told = f"{options.get('options', '')} {limits}".strip()
    return {**database, "OPTIONS": {**options, "options": told}}


_is_pooled = _choice("DATABASE_POOLER", "none", "transaction") != "none"
DATABASES = {
    "default": {
        **(_behind_pooler if _is_pooled else _with_statement_limit)(_database()),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Worker -------------------------------------------------------------------------------------

#: ``retry`` counts from dequeue, waiting in memory included: more than twice the timeout, so that
#: no task runs beside itself. Tasks are doorbells, the schedule rings again: a failed one is not
#: delivered again.
_task_timeout = least_task_timeout(
    SyncSettings(**{name.lower(): value for name, value in WORKOS_SYNC.items()})
)


def _broker() -> dict[str, Any]:
    """Where tasks are queued: in a table, or in Redis, which loses those of a killed worker; the
    schedule makes that good."""
    if not (url := _text("REDIS_URL")):
        return {"orm": "default"}
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured("REDIS_URL must name a Redis: redis://…, rediss://… or unix://…")
    # As for the database, and longer than the second for which a worker waits for a task.
    limits = "socket_connect_timeout=2&socket_timeout=3"
    return {"redis": Secret(f"{url}{'&' if '?' in url else '?'}{limits}")}


Q_CLUSTER = {
    "name": "gram_sync",
    **_broker(),
    "workers": _number("WORKERS", 2, least=1, most=64),
    "timeout": _task_timeout,
    "retry": 2 * _task_timeout + 60,
    "queue_limit": 4,
    "bulk": 1,
    "poll": 0.2,
    "save_limit": -1,
    "ack_failures": True,
    "max_attempts": 1,
    "catch_up": False,
}

# Django -------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "orgs",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "gram_sync.unavailable.DatabaseUnavailableMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "gram_sync.urls"
WSGI_APPLICATION = "gram_sync.wsgi.application"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
# The admin's own files are all there is to serve: straight from where they are installed.
WHITENOISE_USE_FINDERS = True

LOGGING = logs.configuration(_choice("LOG_LEVEL", "INFO", "DEBUG", "WARNING", "ERROR"))
