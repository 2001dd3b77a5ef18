"""The project's settings, read by real processes from a real environment."""

import ast
import os
import subprocess
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests import processes
from tests.processes import PROJECT

COMPLETE = {
    "SECRET_KEY": "a long and random enough value for the checks of Django",
    "WORKOS_API_KEY": "sk_live_0123456789",
    "WORKOS_WEBHOOK_SECRET": "whsec_0123456789",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **environment}
    return processes.manage(variables, *arguments)


STATIC = f"static files copied to '{PROJECT / '.data' / 'static'}'"


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        pytest.param("--help", {}, "sync_worker", id="help needs no setting"),
        pytest.param("check", {"DEBUG": "true"}, "no issues", id="nor does DEBUG"),
        pytest.param(
            "check --deploy --fail-level WARNING",
            COMPLETE | {"HTTPS_ONLY": "on"},
            "no issues",
            id="HTTPS_ONLY passes the deployment checks",
        ),
        pytest.param("collectstatic --dry-run --noinput", COMPLETE, STATIC, id="static files"),
    ],
)
def test_a_command_has_the_settings_that_it_needs(
    command: str, environment: dict[str, str], said: str
) -> None:
    result = manage(*command.split(), **environment)

    assert result.returncode == 0, result.stderr
    assert said in result.stdout


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    written = COMPLETE | {"WORKERS": "1"}
    file.write_text("\n".join(f"{name}='{value}'" for name, value in written.items()))

    from_file = manage("check", ENV_FILE=str(file))
    both = manage("check", ENV_FILE=str(file), WORKERS="0", WORKOS_API_KEY="")

    assert (from_file.returncode, from_file.stderr) == (0, "")
    assert both.stderr.startswith("gram-sync is not configured: WORKERS must be")


NOT_CONFIGURED = "gram-sync is not configured:"


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        (
            "check",
            {"WORKERS": "0"},
            f"{NOT_CONFIGURED} WORKERS must be a whole number from 1 to 64,",
        ),
        (
            "migrate",
            {"DATABASE_URL": "postgresql://u:secret@h/db?schema=gram"},
            f"{NOT_CONFIGURED} DATABASE_URL has ?schema=, ",
        ),
        (
            "createsuperuser --noinput --username=staff --email=",
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "The database can't be used: connection failed: ",
        ),
    ],
    ids=["a bad value", "a URL with a schema", "no database"],
)
def test_what_is_wrong_is_said_without_a_traceback(
    command: str, environment: dict[str, str], said: str
) -> None:
    result = manage(*command.split(), **COMPLETE, **environment)

    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


LIMITS = {
    "connect_timeout": 3,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
DATABASE, SYNC = "settings.DATABASES['default']", "settings.WORKOS_SYNC"


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        pytest.param(
            {},
            {
                f"{DATABASE}['ENGINE']": "gram_sync.embedded_postgres",
                f"{SYNC}['BASE_URL']": "https://api.workos.com",
                "settings.Q_CLUSTER.get('orm')": "default",
                "settings.CSRF_TRUSTED_ORIGINS": [],
            },
            id="defaults",
        ),
        pytest.param(
            {
                "DATABASE_URL": "postgres://u:p@db/gram?options=-c%20jit%3Doff",
                "STATEMENT_TIMEOUT_SECONDS": "1.5",
                "WORKOS_WEBHOOK_SECRET": "one, two,,",
                "WORKOS_API_KEY": "$HOME",
                "PAGE_SIZE": "7",
                "HOLD_BACK_SECONDS": "2.5",
                "ALLOWED_HOSTS": "a.example, b.example",
                "CSRF_TRUSTED_ORIGINS": "https://a.example:8443",
                "REDIS_URL": "redis://:pass%2Fword@queue:6379/1",
            },
            {
                f"{DATABASE}['OPTIONS']": {
                    **LIMITS,
                    "options": "-c jit=off -c statement_timeout=1500 -c lock_timeout=300",
                },
                f"{DATABASE}['CONN_MAX_AGE']": 600,
                f"{DATABASE}['CONN_HEALTH_CHECKS']": True,
                f"[str.__str__(one) for one in {SYNC}['WEBHOOK_SECRETS']]": ["one", "two"],
                f"str.__str__({SYNC}['API_KEY'])": "$HOME",
                f"{SYNC}['PAGE_SIZE']": 7,
                f"{SYNC}['HOLD_BACK_WINDOW']": 2.5,
                "settings.ALLOWED_HOSTS": ["a.example", "b.example"],
                "settings.CSRF_TRUSTED_ORIGINS": ["https://a.example:8443"],
                "str.__str__(settings.Q_CLUSTER['redis']).partition('?')[::2]": (
                    "redis://:pass%2Fword@queue:6379/1",
                    "socket_connect_timeout=2&socket_timeout=3",
                ),
            },
            id="all of them",
        ),
        pytest.param(
            {"DATABASE_URL": "postgres://u:p@db/gram", "DATABASE_POOLER": "Transaction"},
            {
                f"{DATABASE}['OPTIONS']": {**LIMITS, "prepare_threshold": None},
                f"{DATABASE}['DISABLE_SERVER_SIDE_CURSORS']": True,
            },
            id="behind a pooler",
        ),
    ],
)
def test_a_setting_is_read_from_the_environment(
    environment: dict[str, str], values: dict[str, object]
) -> None:
    script = f"from django.conf import settings; print([{', '.join(values)}])"

    result = manage("shell", "-v", "0", "-c", script, **{**COMPLETE, **environment})

    assert dict(zip(values, ast.literal_eval(result.stdout), strict=True)) == values


def test_a_drain_ends_long_before_the_workers_time_out() -> None:
    cluster = django_settings.Q_CLUSTER

    assert django_settings.WORKOS_SYNC["DRAIN_DEADLINE"] * 2 < cluster["timeout"]
    assert cluster["retry"] > 2 * cluster["timeout"]
    assert cluster["bulk"] == 1
    assert cluster["save_limit"] == -1
    assert not {"sync", "guard_cycle"} & cluster.keys()


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("trusted", "status"), [([], 403), (["https://gram.example:8443"], 302)], ids=["not", "trusted"]
)
def test_a_proxy_on_another_port_is_trusted_to_log_in(
    settings: Settings, trusted: list[str], status: int
) -> None:
    login = {"username": "staff", "password": "staff"}
    User.objects.create_superuser(**login)
    settings.ALLOWED_HOSTS = ["gram.example"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.CSRF_TRUSTED_ORIGINS = trusted
    headers = {"Host": "gram.example", "X-Forwarded-Proto": "https"}
    headers["Origin"] = "https://gram.example:8443"
    client = Client(enforce_csrf_checks=True, headers=headers)
    client.get("/admin/login/")
    token = {"next": "/admin/", "csrfmiddlewaretoken": client.cookies["csrftoken"].value}

    answer = client.post("/admin/login/", login | token)

    assert answer.status_code == status
