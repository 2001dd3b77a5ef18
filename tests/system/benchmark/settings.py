"""Settings of the benchmark: the project's own, with a database server and a WorkOS of its own."""

import os

from gram_sync.processes import PROJECT
from gram_sync.settings import *  # noqa: F403
from gram_sync.settings import DATABASES, WORKOS_SYNC
from orgs.conf import Secret

#: Whatever is set in the caller's environment: nothing here may reach another database or WorkOS.
SERVER_DATA = PROJECT / ".data" / "benchmark" / "postgres"
DATABASES["default"] |= {
    "ENGINE": "gram_sync.embedded_postgres",
    "NAME": "benchmark",
    "OPTIONS": {"data_dir": SERVER_DATA},
}
WORKOS_SYNC |= {
    "API_KEY": Secret("sk_benchmark"),
    "BASE_URL": os.environ.get("BENCHMARK_WORKOS_URL", "http://127.0.0.1:9"),
    "WEBHOOK_SECRETS": (Secret("whsec_benchmark"),),
    # The code is measured, and not how long it waits for its share of requests.
    "REQUESTS_PER_MINUTE": int(os.environ.get("BENCHMARK_PER_MINUTE", "1000000")),
    "RESOURCES": os.environ.get("BENCHMARK_RESOURCES", "organization"),
}

SECRET_KEY = Secret("a key for benchmarks alone, long enough for every check of Django's")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.system.benchmark.web"
