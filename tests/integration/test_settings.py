"""The project's settings, read by real processes from a real environment."""

import os
import subprocess

import pytest

from tests import processes

COMPLETE = {
    "SECRET_KEY": "a long and random enough value for the checks of Django",
    "WORKOS_API_KEY": "sk_live_0123456789",
    "WORKOS_WEBHOOK_SECRET": "whsec_0123456789",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **environment}
    return processes.manage(variables, *arguments)


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        pytest.param("--help", {}, "sync_worker", id="help needs no setting"),
        pytest.param(
            "check --deploy --fail-level WARNING",
            COMPLETE | {"HTTPS_ONLY": "on"},
            "no issues",
            id="HTTPS_ONLY passes the deployment checks",
        ),
    ],
)
def test_a_command_has_the_settings_that_it_needs(
    command: str, environment: dict[str, str], said: str
) -> None:
    result = manage(*command.split(), **environment)

    assert result.returncode == 0, result.stderr
    assert said in result.stdout


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        pytest.param(
            "check",
            {"WORKERS": "0"},
            "gram-sync is not configured: WORKERS must be a whole number from 1 to 64,",
            id="a bad value",
        ),
        pytest.param(
            "createsuperuser --noinput --username=staff --email=",
            {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            "The database can't be used: connection failed: ",
            id="no database",
        ),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(
    command: str, environment: dict[str, str], said: str
) -> None:
    result = manage(*command.split(), **COMPLETE, **environment)

    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1
