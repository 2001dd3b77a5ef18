"""One event a line, JSON for programs and text for people; no secret in either, nor on a page."""

import html
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.exception import convert_exception_to_response
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response
from django.views.debug import technical_500_response
from psycopg.conninfo import make_conninfo
from pytest_django import Settings

from gram_sync import redaction
from gram_sync.logs import JsonFormatter, LineFormatter, OncePerMinute, configuration
from gram_sync.redaction import redact
from orgs.conf import Secret

Formatter: TypeAlias = Callable[[], logging.Formatter]

API_KEY, FIRST, SECOND = 'sk_live_"quoted"\\', "whsec_first_secret", "whsec_second_secret"
PASSWORD, DJANGOS = "pass/word", "a-key-of-django"
SECRETS = (API_KEY, FIRST, SECOND, PASSWORD, DJANGOS, "redis@secret", "pass%2Fword")

both_formatters = pytest.mark.parametrize("formatter", [JsonFormatter, LineFormatter])


@pytest.fixture
def secrets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = DJANGOS
    keys = {"API_KEY": Secret(API_KEY), "WEBHOOK_SECRETS": (Secret(FIRST), Secret(SECOND))}
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, **keys}
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", PASSWORD)
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "redis": "redis://:redis%40secret@queue:6379/1"}


def a_record(message: str, *args: object, exc_info: Any = None, **more: Any) -> logging.LogRecord:
    about = ("orgs.test", logging.WARNING, __file__, 1, message, args, exc_info)
    return logging.getLogger("orgs.test").makeRecord(*about, **more)


def raised(error: Exception) -> Any:
    """What ``sys.exc_info()`` says of an error, with a variable in its frame."""
    try:
        local = f"a variable with {SECOND}"  # noqa: F841 - shown by an error page
        raise error
    except type(error):
        return sys.exc_info()


# Lines --------------------------------------------------------------------------------------


def test_a_record_is_one_object_with_what_it_is_about() -> None:
    about = {"event": "event_1", "outcome": "parked"}
    left_out = {"organization": None, "status_code": 503, "request": "<WSGIRequest>"}

    line = JsonFormatter().format(a_record("parked %s:\n%s", "1", "é", extra=about | left_out))

    logged = json.loads(line)
    assert line.isascii()
    assert "\n" not in line
    assert logged.pop("at").endswith("+00:00")
    said = {"level": "WARNING", "logger": "orgs.test", "message": "parked 1:\né"}
    assert logged == {**said, "process": os.getpid(), **about}


def test_people_read_a_line_and_words_of_others_make_no_second_one() -> None:
    line = LineFormatter().format(a_record("parked: %s", "a\n2026-01-01 CRITICAL orgs: forged"))

    assert line.endswith(" WARNING orgs.test: parked: a 2026-01-01 CRITICAL orgs: forged")
    assert "\n" not in line


@pytest.mark.parametrize("is_terminal", [True, False])
def test_lines_are_for_terminals(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    formatter = configuration("INFO")["formatters"]["line"]["()"]

    assert formatter is (LineFormatter if is_terminal else JsonFormatter)


@both_formatters
@pytest.mark.parametrize("is_followed", [False, True])
def test_a_traceback_shows_no_detail(formatter: Formatter, is_followed: bool) -> None:
    values = "Confid" + "ential"  # the stack shows this line
    try:
        try:
            raise IntegrityError(f"refused\nDETAIL:  {values}") from OSError(values)
        except IntegrityError as error:
            if is_followed:
                raise KeyError("what follows") from error
            raise
    except (IntegrityError, KeyError):
        line = formatter().format(a_record("failed", exc_info=sys.exc_info()))

    assert "Confidential" not in line
    assert "PostgreSQL: refused" in line
    assert "test_logs.py" in line
    assert ("what follows" in line) == is_followed


def test_an_answer_is_no_news(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    """Django logs a line for each; /readyz is asked every few seconds, and by anyone."""
    for status in (401, 404, 503):
        answer = HttpResponse(status=status)
        log_response("%s", "Unavailable", response=answer, request=rf.get("/"))

    assert caplog.records == []


def test_an_exception_is_news(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    def view(_: HttpRequest) -> HttpResponse:
        raise ValueError("unforeseen")

    convert_exception_to_response(view)(rf.get("/somewhere"))

    (record,) = caplog.records
    assert record.getMessage() == "Internal Server Error: /somewhere"
    assert "unforeseen" in caplog.text


def test_a_warning_is_let_through_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, once = 0.0, OncePerMinute()
    monkeypatch.setattr("time.monotonic", lambda: now)

    def log(*messages: str, level: int = logging.WARNING) -> list[str | None]:
        records = [
            logging.LogRecord("orgs", level, __file__, 1, "%s", (m,), None) for m in messages
        ]
        return [record.getMessage() if once.filter(record) else None for record in records]

    assert log("forged", "forged", "forged", "another") == ["forged", None, None, "another"]
    now = 61.0
    again = ["forged (and 2 times more since)", None, "another"]
    assert log("forged", "forged", "another") == again
    # What was asked for always passes, and nothing is remembered without end.
    assert log("detail", "detail", level=logging.DEBUG) == ["detail"] * 2
    log(*(f"parked {number}" for number in range(10_000)))
    assert len(once._seen) <= 1_000


# Secrets ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("secret", [*SECRETS, "redis%40secret"])
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    assert redact(f"before {secret} after") == "before ******** after"


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("key", ["dev", ""])
def test_what_is_too_short_for_a_secret_is_left(settings: Settings, key: str) -> None:
    settings.SECRET_KEY = key

    assert redact(f"developer {API_KEY}") == "developer ********"


def test_a_secret_does_not_show_itself() -> None:
    assert repr(Secret("sk_live")) == "'********'"
    assert str(Secret("sk_live")) == "sk_live"


@pytest.mark.usefixtures("secrets")
@both_formatters
def test_neither_a_secret_nor_a_variable_is_in_any_field(formatter: Formatter) -> None:
    about = {"organization": API_KEY, "event": [API_KEY]}
    error = raised(ValueError(f"Bearer {API_KEY}"))

    line = formatter().format(a_record("key %s", API_KEY, extra=about, exc_info=error))

    assert "quoted" not in line
    assert "a variable with ***" not in line
    assert "key ********" in line
    if formatter is JsonFormatter:
        assert "\n" not in line
        traceback = json.loads(line)["traceback"]
        assert traceback.startswith("Traceback (most recent call last):\n")
        assert traceback.endswith("ValueError: Bearer ********")


def test_without_settings_their_error_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unset:
        def __getattr__(self, name: str) -> Any:
            raise ImproperlyConfigured(name)

    monkeypatch.setattr(redaction, "settings", Unset())

    assert json.loads(JsonFormatter().format(a_record("no settings")))["message"] == "no settings"


def page_of(error: Exception) -> str:
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {API_KEY}"})
    request.META["DATABASE_URL"] = "postgresql://u:pass%2Fword@db/gram"
    return technical_500_response(request, *raised(error)).content.decode()


@pytest.mark.usefixtures("secrets")
def test_an_error_page_shows_no_secret() -> None:
    page = page_of(ValueError(FIRST))

    assert "a variable with ********" in page
    assert not any(secret in page for secret in SECRETS)


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("is_in_url", [True, False])
@pytest.mark.parametrize("password", ["hunter2&co<x>", "it's \\ 'quoted'", 'say "hi" & bye'])
def test_a_password_is_masked_however_a_page_writes_it(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, password: str, is_in_url: bool
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", password if is_in_url else "")
    monkeypatch.setenv("PGPASSWORD", "" if is_in_url else password)
    parameters = {"password": password, "conninfo": make_conninfo(password=password)}

    shown = html.unescape(html.unescape(page_of(ValueError(str(parameters)))))

    assert "********" in shown
    assert password not in shown
    assert repr(password)[1:-1] not in shown
