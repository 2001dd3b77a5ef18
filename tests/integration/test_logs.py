"""One event a line, JSON for programs and text for people, and no secret in either."""

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response
from pytest_django import Settings

from gram_sync import redaction
from gram_sync.logs import JsonFormatter, LineFormatter, OncePerMinute
from orgs.conf import Secret
from orgs.models import WorkOSEvent
from orgs.services.stream import drain_and_wait
from orgs.testing import FakeWorkOS
from tests.processes import MANAGE, PROJECT, environment_for

API_KEY = 'sk_live_"quoted"\\'


@pytest.fixture
def an_api_key(settings: Settings) -> None:
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "API_KEY": Secret(API_KEY)}


def a_record(message: str, *args: object, **more: Any) -> logging.LogRecord:
    return logging.getLogger("orgs.test").makeRecord(
        "orgs.test", logging.WARNING, __file__, 1, message, args, more.pop("exc_info", None), **more
    )


def an_error() -> Any:
    kept_to_itself = "a local variable"
    try:
        raise ValueError(f"Bearer {API_KEY}")
    except ValueError:
        assert kept_to_itself
        return sys.exc_info()


def test_a_record_is_one_object_with_what_it_is_about() -> None:
    about = {"event": "event_1", "organization": "org_1", "outcome": "parked"}

    line = JsonFormatter().format(a_record("parked %s:\n%s", "event_1", "é", extra=about))

    told = json.loads(line)
    assert "\n" not in line
    assert told.pop("at").endswith("+00:00")
    assert told == {
        "level": "WARNING",
        "logger": "orgs.test",
        "process": os.getpid(),
        "message": "parked event_1:\né",
        **about,
    }


def test_what_a_record_is_not_about_is_left_out() -> None:
    told = json.loads(JsonFormatter().format(a_record("hello", extra={"event": None})))

    assert told.keys() == {"at", "level", "logger", "process", "message"}


@pytest.mark.usefixtures("an_api_key")
def test_a_traceback_is_one_field_without_local_variables() -> None:
    line = JsonFormatter().format(a_record("failed", exc_info=an_error()))

    traceback = json.loads(line)["traceback"]
    assert "\n" not in line
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("ValueError: Bearer ********")
    assert "a local variable" not in traceback


@pytest.mark.usefixtures("an_api_key")
@pytest.mark.parametrize("formatter", [JsonFormatter, LineFormatter])
def test_no_secret_is_in_any_field(formatter: Callable[[], logging.Formatter]) -> None:
    record = a_record(
        "key %s", API_KEY, extra={"organization": API_KEY, "event": [API_KEY]}, exc_info=an_error()
    )

    line = formatter().format(record)

    assert "quoted" not in line
    assert "key ********" in line


def test_people_read_a_line_and_words_of_others_make_no_second_one() -> None:
    line = LineFormatter().format(a_record("parked: %s", "a\n2026-01-01 CRITICAL orgs: forged"))

    assert line.endswith(" WARNING orgs.test: parked: a 2026-01-01 CRITICAL orgs: forged")
    assert "\n" not in line


def test_without_settings_what_is_wrong_with_them_can_be_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unset:
        def __getattr__(self, name: str) -> Any:
            raise ImproperlyConfigured(name)

    monkeypatch.setattr(redaction, "settings", Unset())

    assert json.loads(JsonFormatter().format(a_record("no settings")))["message"] == "no settings"


@pytest.mark.usefixtures("database")
def test_a_parked_event_says_which_and_of_whom(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.emit({"event": "organization.created", "data": {"id": "org_1", "name": 5}})

    drain_and_wait()

    (record,) = caplog.records
    told = json.loads(JsonFormatter().format(record))
    assert told["event"] == WorkOSEvent.objects.parked().get().id
    assert (told["organization"], told["outcome"]) == ("org_1", "parked")


@pytest.mark.usefixtures("database")
def test_all_is_quiet_when_all_is_well_and_told_at_debug(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    acme = workos.create_organization(name="Acme")
    with caplog.at_level(logging.INFO, logger="orgs"):
        drain_and_wait()
    assert caplog.records == []

    workos.update_organization(acme["id"], name="Ajax")
    with caplog.at_level(logging.DEBUG, logger="orgs"):
        drain_and_wait()

    outcomes = [getattr(record, "outcome", None) for record in caplog.records]
    assert outcomes == ["updated"]


@pytest.mark.parametrize("status", [401, 404, 503])
def test_an_answer_is_no_news(
    status: int, caplog: pytest.LogCaptureFixture, rf: RequestFactory
) -> None:
    """Django logs a line for each; /readyz is asked every few seconds, and by anyone."""
    log_response(
        "%s", "Service Unavailable", response=HttpResponse(status=status), request=rf.get("/")
    )

    assert caplog.records == []


def test_an_exception_is_news(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    def view(_: HttpRequest) -> HttpResponse:
        raise ValueError("unforeseen")

    convert_exception_to_response(view)(rf.get("/somewhere"))

    assert [record.getMessage() for record in caplog.records] == [
        "Internal Server Error: /somewhere"
    ]
    assert "unforeseen" in caplog.text


def test_the_same_warning_is_let_through_once_a_minute_and_counted() -> None:
    now = 0.0
    once = OncePerMinute(clock=lambda: now)

    def tell(message: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("orgs", level, __file__, 1, "%s", (message,), None)
        return record.getMessage() if once.filter(record) else None

    first = [tell("forged"), tell("forged"), tell("forged"), tell("another")]
    now = 61.0
    later = [tell("forged"), tell("forged"), tell("another")]

    assert first == ["forged", None, None, "another"]
    assert later == ["forged (and 2 times more since)", None, "another"]
    assert [tell("asked for", logging.DEBUG) for _ in range(2)] == ["asked for"] * 2


def test_what_was_told_is_not_remembered_without_end() -> None:
    once = OncePerMinute(clock=lambda: 0.0)

    for number in range(10_000):
        once.filter(logging.LogRecord("orgs", logging.ERROR, "", 1, "parked %s", (number,), None))

    assert len(once._told) <= 1_000


# Real processes -----------------------------------------------------------------------------

SPEAKS = "import logging; logging.getLogger('orgs').warning('spoken')"


def test_json_is_for_pipes_and_lines_are_for_terminals(workos: FakeWorkOS) -> None:
    command = [*MANAGE, "shell", "-v", "0", "-c", SPEAKS]
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
        env={"PATH": os.environ["PATH"], "DATABASE_URL": "mysql://x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # It prints why a worker did not start once more, past every log.
    printed = "DATABASE_URL must name a PostgreSQL: postgresql://…"
    lines = [json.loads(line) for line in gunicorn.stderr.splitlines() if line != printed]
    assert {line["logger"] for line in lines} == {"gunicorn.error"}
    assert any(printed in line.get("traceback", "") for line in lines)
