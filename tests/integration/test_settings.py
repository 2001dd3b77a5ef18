"""The project's settings, read by real processes from a real environment."""

import os

import pytest

from tests.processes import manage

COMPLETE = {
    "SECRET_KEY": "a long and random enough value for the checks of Django",
    "WORKOS_API_KEY": "sk_live_0123456789",
    "WORKOS_WEBHOOK_SECRET": "whsec_0123456789",
}


@pytest.mark.parametrize(
    ("command", "environment", "code", "said"),
    [
        pytest.param("--help", {}, 0, "sync_worker", id="help needs no setting"),
        pytest.param(
            "check --deploy --fail-level WARNING",
            COMPLETE | {"HTTPS_ONLY": "on"},
            0,
            "System check identified no issues",
            id="HTTPS_ONLY passes the deployment checks",
        ),
        pytest.param(
            "check",
            COMPLETE | {"WORKERS": "0"},
            1,
            "gram-sync is not configured: WORKERS must be a whole number from 1 to 64,",
            id="a bad value is said without a traceback",
        ),
        pytest.param(
            "createsuperuser --noinput --username=staff --email=",
            COMPLETE | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
            1,
            "The database can't be used: connection failed: ",
            id="no database is said without a traceback",
        ),
    ],
)
def test_a_command_says(command: str, environment: dict[str, str], code: int, said: str) -> None:
    variables = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **environment}

    result = manage(variables, *command.split())

    assert result.returncode == code, result.stderr
    printed = result.stderr if code else result.stdout
    assert said in printed
    assert code == 0 or (printed.startswith(said), printed.count("\n")) == (True, 1)
