"""What the service is installed and started with: make, requirements, systemd, a container, and
settings that manage.py reads from a real environment."""

import configparser
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gram_sync.environment import database_url
from orgs.conf import SyncSettings, least_task_timeout
from tests.processes import PROJECT, manage, run

UNITS = sorted((PROJECT / "gram_sync" / "deployment").glob("*.service"))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys keep their case
    parser.read(PROJECT / "gram_sync" / "deployment" / f"gram-sync-{name}.service")
    return parser


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        # It looks whether there is such a program.
        text = path.read_text().replace("/srv/gram-sync/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text)

    verified = run(["systemd-analyze", "verify", *(str(tmp_path / path.name) for path in UNITS)])

    # What it says of the machine's own units is not about ours.
    said = [line for line in verified.stderr.splitlines() if "gram-sync" in line]
    if verified.returncode and not said:
        pytest.skip(f"systemd-analyze can't work here: {verified.stderr}")
    assert said == []


@pytest.mark.parametrize(
    ("name", "command"),
    [("web", "-m gunicorn gram_sync.wsgi"), ("worker", "manage.py sync_worker")],
)
def test_a_process_that_ends_is_started_again_for_ever(name: str, command: str) -> None:
    service = unit(name)["Service"]

    assert command in service["ExecStart"]
    assert service["Restart"] == "always"
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_worker_ends_its_cluster_itself_and_has_the_time_for_it() -> None:
    service = unit("worker")["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > least_task_timeout(SyncSettings())


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a file, each of which must have hashes."""
    text = (PROJECT / name).read_text()
    found = re.findall(r"(?m)^([\w.-]+)(?:\[\w+\])?==(\S+).*\\\n    --hash=sha256:", text)
    assert len(found) == len(re.findall(r"(?m)^[\w.-]+.*==", text))
    return {package.lower(): version for package, version in found}


EXTRAS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def extra(name: str) -> dict[str, str]:
    found = [re.match(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", each) for each in EXTRAS[name]]
    return {match[1]: match[2] for match in found if match}


def test_requirements_are_what_pyproject_asks_for_and_production_has_no_test_tools() -> None:
    runs, develops = pins("requirements.txt"), pins("requirements-dev.txt")

    assert extra("service").items() <= runs.items()
    assert extra("dev").items() <= develops.items()
    assert runs.items() <= develops.items()
    assert not runs.keys() & extra("dev").keys()


def test_the_image_runs_as_nobody_special_and_has_no_secrets() -> None:
    steps = (PROJECT / "Dockerfile").read_text().splitlines()
    copied = [step.split()[1] for step in steps if step.startswith("COPY")]

    assert "USER 10001:10001" in steps
    assert copied == ["requirements.txt", "manage.py", "orgs", "gram_sync"]


@pytest.mark.parametrize("code", [200, 400, 503])
def test_the_image_is_asked_for_its_health_by_a_host_that_is_always_allowed(code: int) -> None:
    """Any other one would be an error in the log, each time."""
    step = (PROJECT / "Dockerfile").read_text().partition("\nHEALTHCHECK ")[2].partition("\n")[0]
    _, *arguments = json.loads(step[step.index("[") :])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        arguments[-1] = arguments[-1].replace("8000", str(server.getsockname()[1]))
        check = subprocess.Popen([sys.executable, *arguments])
        connection, _ = server.accept()
        with connection:
            request = connection.recv(4_096).decode()
            connection.sendall(f"HTTP/1.1 {code} Said\r\nContent-Length: 0\r\n\r\n".encode())

    assert request.startswith("GET /healthz ")
    assert "\r\nHost: localhost:" in request
    assert (check.wait(30) != 0) == (code != 200)


def test_compose_passes_any_password_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    compose = (PROJECT / "compose.yaml").read_text()
    variables = dict(re.findall(r"(?m)^    ([A-Z_]+): (.+)", compose))
    monkeypatch.setenv("DATABASE_URL", variables["DATABASE_URL"])

    assert "$" not in variables["DATABASE_URL"]
    assert (database_url("DATABASE_URL") or {})["HOST"] == "database"
    assert variables["PGPASSWORD"] == "${POSTGRES_PASSWORD:-gram}"
    assert f"POSTGRES_PASSWORD: {variables['PGPASSWORD']}\n" in compose


#: Does what the Makefile needs of a Python, and says the rest.
STUB = """#!/bin/sh
case "$*" in
*version_info* | *ensurepip*) exit 0 ;;
*"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"-c print(1)"*) echo 1 ;;
*) echo "$0 $*" ;;
esac
"""


@pytest.mark.parametrize("name", ["python", "a b/python"], ids=["plain", "with a space"])
def test_make_takes_the_python_that_it_is_given(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a project"
    folder.mkdir()
    for file in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / file, folder)
    python = tmp_path / name
    python.parent.mkdir(exist_ok=True)
    python.write_text(STUB)
    python.chmod(0o755)

    made = run(["make", "--no-print-directory", "run", f"PYTHON={python}"], cwd=folder)

    assert made.returncode == 0, made.stderr
    assert f"Making .venv with {python} --version" in made.stdout
    assert "--require-hashes --requirement requirements-dev.txt" in made.stdout
    assert made.stdout.splitlines()[-1] == ".venv/bin/python -m gram_sync.run"


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
