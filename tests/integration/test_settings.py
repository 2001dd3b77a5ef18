"""The project's settings, read by real processes from a real environment; and its secrets."""

import html
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.test import RequestFactory
from django.views.debug import technical_500_response
from psycopg.conninfo import make_conninfo
from pytest_django import Settings

from gram_sync.redaction import redact
from orgs.conf import Secret

PROJECT = Path(django_settings.BASE_DIR)

COMPLETE = {
    "SECRET_KEY": "a long and random enough value for the checks of Django",
    "WORKOS_API_KEY": "sk_live_0123456789",
    "WORKOS_WEBHOOK_SECRET": "whsec_0123456789",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def value_of(expression: str, **environment: str) -> str:
    script = f"from django.conf import settings; print(repr({expression}))"
    return manage("shell", "-v", "0", "-c", script, **environment).stdout.strip()


def test_help_needs_no_setting_and_starts_nothing(tmp_path: Path) -> None:
    result = manage("--help")

    assert result.returncode == 0
    assert "reconcile_workos" in result.stdout


def test_with_everything_set_the_checks_are_silent() -> None:
    result = manage("check", **COMPLETE)

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", COMPLETE)
def test_without_one_of_them_the_check_says_what_to_set(name: str) -> None:
    result = manage("check", **{**COMPLETE, name: ""})

    assert result.returncode == 1
    assert f"{name} is not set." in result.stderr
    assert result.stderr.count("HINT") == 1


def test_with_debug_on_nothing_has_to_be_set() -> None:
    assert manage("check", DEBUG="true").returncode == 0


def test_https_only_passes_the_deployment_checks() -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", HTTPS_ONLY="on", **COMPLETE)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PAGE_SIZE", "ten", "PAGE_SIZE must be a whole number from 1 to 100, not 'ten'"),
        ("PAGE_SIZE", "101", "PAGE_SIZE must be a whole number from 1 to 100, not '101'"),
        (
            "POLL_PAUSE_SECONDS",
            "0",
            "POLL_PAUSE_SECONDS must be a number from 0.01 to 60, not '0'",
        ),
        (
            "HOLD_BACK_SECONDS",
            "nan",
            "HOLD_BACK_SECONDS must be a number from 0 to 86400, not 'nan'",
        ),
        ("LOG_LEVEL", "loud", "LOG_LEVEL must be INFO or DEBUG or WARNING or ERROR, not 'loud'"),
        (
            "REDIS_URL",
            "localhost:6379",
            "REDIS_URL must name a Redis: redis://…, rediss://… or unix://…",
        ),
        ("WORKERS", "0", "WORKERS must be a whole number from 1 to 64, not '0'"),
        ("DEBUG", "maybe", "DEBUG must be true or false, not 'maybe'"),
        (
            "DATABASE_URL",
            "mysql://x",
            "DATABASE_URL must name a PostgreSQL: postgresql://…",
        ),
        (
            "DATABASE_URL",
            "postgresql://u:pa/ss@h/db",
            (
                "DATABASE_URL can't be read; it must look like "
                "postgresql://user:password@host:5432/name, with %XX for special characters in the "
                "password"
            ),
        ),
        (
            "HOLD_BACK_SECONDS",
            "inf",
            "HOLD_BACK_SECONDS must be a number from 0 to 86400, not 'inf'",
        ),
    ],
)
def test_a_bad_value_is_said_in_one_line(name: str, value: str, message: str) -> None:
    result = manage("check", **{**COMPLETE, name: value})

    assert result.returncode == 1
    assert result.stderr.strip() == f"gram-sync is not configured: {message}"


LIMITS = (
    "'connect_timeout': 3, 'keepalives_idle': 15, 'keepalives_interval': 5, 'keepalives_count': 3, "
    "'tcp_user_timeout': 30000"
)


@pytest.mark.parametrize(
    ("environment", "expression", "value"),
    [
        ({}, "settings.DATABASES['default']['ENGINE']", "'gram_sync.embedded_postgres'"),
        (
            {"DATABASE_URL": "postgresql://u:p@db:6432/gram"},
            "[settings.DATABASES['default'][key] for key in ('HOST', 'PORT', 'NAME', 'USER')]",
            "['db', 6432, 'gram', 'u']",
        ),
        (
            {"DATABASE_URL": "postgres://u:p@db/gram"},
            "settings.DATABASES['default']['CONN_MAX_AGE']",
            "600",
        ),
        (
            {"DATABASE_URL": "postgres://u:p@db/gram"},
            "settings.DATABASES['default']['CONN_HEALTH_CHECKS']",
            "True",
        ),
        (
            {"WORKOS_WEBHOOK_SECRET": "one, two,,"},
            "[len(secret) for secret in settings.WORKOS_SYNC['WEBHOOK_SECRETS']]",
            "[3, 3]",
        ),
        ({}, "settings.WORKOS_SYNC['BASE_URL']", "'https://api.workos.com'"),
        ({"PAGE_SIZE": "7"}, "settings.WORKOS_SYNC['PAGE_SIZE']", "7"),
        ({"HOLD_BACK_SECONDS": "2.5"}, "settings.WORKOS_SYNC['HOLD_BACK_WINDOW']", "2.5"),
        (
            {"ALLOWED_HOSTS": "a.example, b.example"},
            "settings.ALLOWED_HOSTS",
            "['a.example', 'b.example']",
        ),
        ({"SECRET_KEY": "$abc" + "x" * 50}, "len(settings.SECRET_KEY)", "54"),
        ({"WORKOS_API_KEY": "$HOME"}, "str.__str__(settings.WORKOS_SYNC['API_KEY'])", "'$HOME'"),
        (
            {"DATABASE_URL": "postgres://u:p@db/gram", "DATABASE_POOLER": "Transaction"},
            (
                "[settings.DATABASES['default'][key] for key in "
                "('DISABLE_SERVER_SIDE_CURSORS', 'OPTIONS')]"
            ),
            f"[True, {{{LIMITS}, 'prepare_threshold': None}}]",
        ),
        (
            {
                "DATABASE_URL": "postgres://u:p@db/gram?options=-c%20jit%3Doff",
                "STATEMENT_TIMEOUT_SECONDS": "1.5",
            },
            "settings.DATABASES['default']['OPTIONS']['options']",
            "'-c jit=off -c statement_timeout=1500 -c lock_timeout=300'",
        ),
        (
            {"REDIS_URL": "redis://:pass%2Fword@queue:6379/1"},
            "[settings.Q_CLUSTER.get('orm'), str.__str__(settings.Q_CLUSTER['redis'])]",
            (
                "[None, 'redis://:pass%2Fword@queue:6379/1"
                "?socket_connect_timeout=2&socket_timeout=3']"
            ),
        ),
        ({}, "settings.SECURE_SSL_REDIRECT", "False"),
        ({"HTTPS_ONLY": "1"}, "settings.SECURE_SSL_REDIRECT", "True"),
    ],
)
def test_a_setting_is_read_from_the_environment(
    environment: dict[str, str], expression: str, value: str
) -> None:
    assert value_of(expression, **{**COMPLETE, **environment}) == value


def test_a_drain_ends_long_before_the_workers_time_out() -> None:
    cluster = django_settings.Q_CLUSTER

    assert django_settings.WORKOS_SYNC["DRAIN_DEADLINE"] * 2 < cluster["timeout"]
    assert cluster["retry"] > 2 * cluster["timeout"]
    assert cluster["bulk"] == 1
    assert cluster["save_limit"] == -1
    assert "sync" not in cluster
    assert "guard_cycle" not in cluster


# Secrets ------------------------------------------------------------------------------------

SECRETS = (
    "sk_live_secret",
    "whsec_first_secret",
    "whsec_second_secret",
    "pass/word",
    "redis@secret",
)


@pytest.fixture
def secrets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WORKOS_SYNC = {
        **settings.WORKOS_SYNC,
        "API_KEY": Secret(SECRETS[0]),
        "WEBHOOK_SECRETS": (Secret(SECRETS[1]), Secret(SECRETS[2])),
    }
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", SECRETS[3])
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "redis": "redis://:redis%40secret@queue:6379/1"}


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("secret", [*SECRETS, "pass%2Fword", "redis%40secret"])
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    assert redact(f"before {secret} after") == "before ******** after"


@pytest.mark.usefixtures("secrets")
def test_an_error_page_shows_no_secret(settings: Settings) -> None:
    settings.DEBUG = True
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {SECRETS[0]}"})
    request.META["DATABASE_URL"] = "postgresql://u:pass%2Fword@db/gram"
    try:
        local = f"a variable with {SECRETS[2]}"  # noqa: F841 - shown by the page
        raise ValueError(SECRETS[1])
    except ValueError:
        page = technical_500_response(request, *sys.exc_info()).content.decode()

    assert "a variable with ********" in page
    assert not any(secret in page for secret in (*SECRETS, "pass%2Fword"))


@pytest.mark.parametrize("password", ["hunter2&co<x>", "it's \\ 'quoted'", 'say "hi" & bye'])
def test_a_password_is_masked_however_a_page_writes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", password)
    settings.DEBUG = True
    try:
        conninfo = make_conninfo(password=password)
        parameters = {"password": password, "conninfo": conninfo}
        raise ValueError(str(parameters))
    except ValueError:
        page = technical_500_response(RequestFactory().get("/"), *sys.exc_info()).content.decode()

    shown = html.unescape(html.unescape(page))
    assert "********" in shown
    assert password not in shown
    assert repr(password)[1:-1] not in shown


def test_a_secret_does_not_show_itself() -> None:
    assert repr(Secret("sk_live")) == "'********'"
    assert str(Secret("sk_live")) == "sk_live"


def test_an_empty_secret_key_does_not_break_the_logs(settings: Settings) -> None:
    settings.SECRET_KEY = ""

    assert redact("harmless") == "harmless"
