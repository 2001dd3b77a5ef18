"""Runs the project's own commands as real processes, against the test database and a stand-in."""

import os
import sys
from pathlib import Path
from urllib.parse import urlencode

from django.conf import settings
from django.db import connection

from tests.workos_stand_in import WorkOSStandIn

PROJECT = Path(settings.BASE_DIR)
MANAGE = [sys.executable, "manage.py"]
WEBHOOK_SECRET = "whsec_test_secret"


def environment_for(workos: WorkOSStandIn, **more: str) -> dict[str, str]:
    """What a process is told by its environment, and nothing else tells it."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "gram_sync.settings",
        "DATABASE_URL": database_url(),
        "SECRET_KEY": str(settings.SECRET_KEY),
        "WORKOS_API_KEY": workos.api_key,
        "WORKOS_BASE_URL": workos.base_url,
        "WORKOS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        **more,
    }


def database_url(**instead: str) -> str:
    """Where the test database is, or where a process is told that it is."""
    params = {**connection.get_connection_params(), **instead}
    password = f":{params['password']}" if params.get("password") else ""
    query = {key: params[key] for key in ("host", "port") if params.get(key)}
    return f"postgresql://{params['user']}{password}@/{params['dbname']}?{urlencode(query)}"
