"""What is logged of the mirror's work, and how real processes log."""

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gram_sync.logs import JsonFormatter
from orgs.models import WorkOSEvent
from orgs.services.stream import drain_and_wait
from orgs.testing import FakeWorkOS
from tests.processes import MANAGE, PROJECT, environment_for


@pytest.mark.usefixtures("database")
def test_a_parked_event_says_which_and_of_whom(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.emit({"event": "organization.created", "data": {"id": "org_1", "name": 5}})

    drain_and_wait()

    (record,) = (each for each in caplog.records if each.levelno > logging.INFO)
    logged = json.loads(JsonFormatter().format(record))
    assert logged["event"] == WorkOSEvent.objects.parked().get().id
    assert (logged["organization"], logged["outcome"]) == ("org_1", "parked")


@pytest.mark.usefixtures("database")
def test_nothing_is_a_warning_when_all_is_well(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.create_organization(name="Acme")

    drain_and_wait()

    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


def test_json_is_for_pipes_and_lines_are_for_terminals(workos: FakeWorkOS) -> None:
    script = "import logging; logging.getLogger('orgs').warning('spoken')"
    command = [*MANAGE, "shell", "-v", "0", "-c", script]
    environment = environment_for(workos)

    piped = subprocess.run(
        command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, timeout=60, check=True
    )
    ours, theirs = pty.openpty()
    subprocess.run(command, cwd=PROJECT, env=environment, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(1000)

    assert json.loads(piped.stderr)["message"] == "spoken"
    assert shown.endswith(b" WARNING orgs: spoken\r\n")


def test_gunicorn_logs_as_everything_does_also_without_settings(tmp_path: Path) -> None:
    gunicorn = subprocess.run(
        [
            *(sys.executable, "-m", "gunicorn", "gram_sync.wsgi", "--workers", "1"),
            *("--config", "python:gram_sync.gunicorn", "--bind", f"unix:{tmp_path}/socket"),
        ],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DATABASE_URL": "mysql://x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # It prints why a worker did not start once more, past every log.
    printed = "DATABASE_URL must name a PostgreSQL: postgresql://… or postgres://…"
    lines = [json.loads(line) for line in gunicorn.stderr.splitlines() if line != printed]
    assert {line["logger"] for line in lines} == {"gunicorn.error"}
    assert any(printed in line.get("traceback", "") for line in lines)
