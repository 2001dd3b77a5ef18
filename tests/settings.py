"""Settings of the suite: the project's own, with a database server of its own and no outside."""

from gram_sync.processes import PROJECT
from gram_sync.settings import *  # noqa: F403
from gram_sync.settings import DATABASES, Q_CLUSTER, WORKOS_SYNC
from orgs.conf import Secret

SECRET_KEY = Secret("a key for tests alone, long enough for every check of Django's")
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]

#: Unless DATABASE_URL names another; started by the first test that needs it, stopped at the end.
TEST_SERVER_DATA = PROJECT / ".data" / "test-postgres"

if DATABASES["default"]["ENGINE"] == "gram_sync.embedded_postgres":
    DATABASES["default"]["OPTIONS"] = {"data_dir": TEST_SERVER_DATA}

# Whatever is set in the caller's environment: no test may reach the real WorkOS.
WORKOS_SYNC |= {
    # Tests of other resources name them.
    "RESOURCES": ("organization",),
    "API_KEY": Secret("sk_test_fake"),
    "BASE_URL": "http://127.0.0.1:9",
    "WEBHOOK_SECRETS": (Secret("whsec_test_secret"),),
    "HOLD_BACK_WINDOW": 60.0,
    "POLL_PAUSE": 0.02,
    "DRAIN_DEADLINE": 20.0,
    "PAGE_SIZE": 100,
    "LOCK_TIMEOUT": 10.0,
    "REQUEST_TIMEOUT": 10.0,
    "REQUESTS_PER_MINUTE": 600_000,
    "LEDGER_RETENTION_DAYS": 90,
}

# Nor a Redis that others use: the test that needs one starts its own.
Q_CLUSTER.pop("redis", None)
Q_CLUSTER["orm"] = "default"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

#: Each client of a test has a middleware of its own, which would look for all static files first.
WHITENOISE_AUTOREFRESH = True
