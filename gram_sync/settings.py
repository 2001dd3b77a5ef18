"""Settings, all from the environment and .env; docs/settings.md lists them."""

import warnings
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from gram_sync import environment as env
from gram_sync import logs
from gram_sync.processes import PROJECT
from orgs.conf import RANGES, Secret, SyncSettings, is_url, least_task_timeout

env.read_env_file()

# Secrets and what guards them ---------------------------------------------------------------

DEBUG = env.switch("DEBUG")
#: Without one, and with DEBUG off, a system check says what to set.
SECRET_KEY = Secret(env.text("SECRET_KEY", "insecure-key-for-development-only" if DEBUG else ""))
# A process is asked on its own machine, too: by whoever started it, and by monitoring.
ALLOWED_HOSTS = [*env.items("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.items("CSRF_TRUSTED_ORIGINS")

HTTPS_ONLY = env.switch("HTTPS_ONLY")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
# Monitoring asks the process itself, not the proxy before it.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)/?$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS_ONLY
# TLS ends at a proxy, which must set this header itself and not pass on a client's.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS_ONLY else None

DEFAULT_EXCEPTION_REPORTER = "gram_sync.redaction.RedactingExceptionReporter"

# WorkOS and the mirror ----------------------------------------------------------------------

_defaults = SyncSettings()
WORKOS_SYNC: dict[str, Any] = {
    "API_KEY": Secret(env.text("WORKOS_API_KEY")),
    "BASE_URL": env.text("WORKOS_BASE_URL", _defaults.base_url),
    "ENVIRONMENT_ID": env.text("WORKOS_ENVIRONMENT_ID"),
    "WEBHOOK_SECRETS": tuple(Secret(secret) for secret in env.items("WORKOS_WEBHOOK_SECRET")),
    "RESOURCES": tuple(env.items("WORKOS_RESOURCES")) or _defaults.resources,
}
for _setting, (_least, _most) in RANGES.items():
    _default = getattr(_defaults, _setting)
    # hold_back_window is HOLD_BACK_SECONDS in the environment.
    _unit = "_SECONDS" if isinstance(_default, float) else ""
    _name = f"{_setting.removesuffix('_window').upper()}{_unit}"
    WORKOS_SYNC[_setting.upper()] = env.number(_name, _default, least=_least, most=_most)

# Database -----------------------------------------------------------------------------------

_options: dict[str, Any] = {
    # A host that is down answers nothing at all, and WorkOS waits for an answer for 5 seconds.
    "connect_timeout": 3,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_database = env.database_url("DATABASE_URL") or {
    "ENGINE": "gram_sync.embedded_postgres",
    "NAME": "gram_sync",
    "OPTIONS": {"data_dir": PROJECT / ".data" / "postgres"},
}
_options |= _database.get("OPTIONS", {})
_is_pooled = env.choice("DATABASE_POOLER", "none", "transaction") == "transaction"
_statement_timeout = int(1000 * env.number("STATEMENT_TIMEOUT_SECONDS", 0.0, least=0, most=3_600))
if _is_pooled:
    # Without what lasts longer than a transaction: so long is a pooled session ours.
    _options["prepare_threshold"] = None
elif _statement_timeout:
    # The web process has it, whose threads are few: a page must not wait for another program's lock
    # for as long as that is held.
    _limits = f"-c statement_timeout={_statement_timeout} -c lock_timeout={_statement_timeout // 5}"
    _options["options"] = f"{_options.get('options', '')} {_limits}".strip()
DATABASES = {
    "default": {
        **_database,
        "OPTIONS": _options,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": _is_pooled,
    }
}

# Worker -------------------------------------------------------------------------------------

_task_timeout = least_task_timeout(SyncSettings(**{k.lower(): v for k, v in WORKOS_SYNC.items()}))

# In a table, or in Redis, which loses the tasks of a killed worker; the schedule makes that good.
_broker: dict[str, Any] = {"orm": "default"}
if _redis := env.text("REDIS_URL"):
    if not is_url(_redis, "redis://", "rediss://", "unix://"):
        form = "begin with redis://, rediss:// or unix://, and have %XX for special characters"
        raise ImproperlyConfigured(f"REDIS_URL must {form}")
    # As for the database, and longer than the second for which a worker waits for a task.
    _limits = "socket_connect_timeout=2&socket_timeout=3"
    _broker = {"redis": Secret(f"{_redis}{'&' if '?' in _redis else '?'}{_limits}")}

Q_CLUSTER = {
    "name": "gram_sync",
    **_broker,
    "workers": env.number("WORKERS", 2, least=1, most=64),
    "timeout": _task_timeout,
    # It counts from dequeue, waiting in memory included: more than twice the timeout, so that no
    # task runs beside itself. The schedule enqueues again: a failed task is not delivered again.
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
    "gram_sync.admin.GramSyncAdminConfig",
    *(f"django.contrib.{app}" for app in ("auth", "contenttypes", "sessions", "messages")),
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
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT / "gram_sync" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

ROOT_URLCONF = "gram_sync.urls"
WSGI_APPLICATION = "gram_sync.wsgi.application"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
]

TIME_ZONE = "UTC"

STATIC_URL = "static/"
#: For `collectstatic`, where a proxy serves the files. WhiteNoise needs none: the admin's own files
#: are all there is to serve, and it finds them where they are installed.
STATIC_ROOT = PROJECT / ".data" / "static"
WHITENOISE_USE_FINDERS = True
warnings.filterwarnings("ignore", "No directory at", UserWarning)

LOGGING = logs.configuration(env.choice("LOG_LEVEL", "INFO", "DEBUG", "WARNING", "ERROR"))
