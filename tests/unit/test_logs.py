"""One event a line, JSON for programs and text for people, and no secret in either."""

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.exception import convert_exception_to_response
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.log import log_response
from pytest_django import Settings

from gram_sync import redaction
from gram_sync.logs import JsonFormatter, LineFormatter, OncePerMinute, configuration
from orgs.conf import Secret

API_KEY = 'sk_live_"quoted"\\'


@pytest.fixture
def an_api_key(settings: Settings) -> None:
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "API_KEY": Secret(API_KEY)}


def a_record(message: str, *args: object, exc_info: Any = None, **more: Any) -> logging.LogRecord:
    about = ("orgs.test", logging.WARNING, __file__, 1, message, args, exc_info)
    return logging.getLogger("orgs.test").makeRecord(*about, **more)


def an_error() -> Any:
    local = "a local variable"
    try:
        raise ValueError(f"Bearer {API_KEY}")
    except ValueError:
        assert local
        return sys.exc_info()


def test_a_record_is_one_object_with_what_it_is_about() -> None:
    about = {"event": "event_1", "outcome": "parked"}
    left_out = {"organization": None, "status_code": 503, "request": "<WSGIRequest>"}

    record = a_record("parked %s:\n%s", "event_1", "é", extra=about | left_out)
    line = JsonFormatter().format(record)

    logged = json.loads(line)
    assert line.isascii()
    assert "\n" not in line
    assert logged.pop("at").endswith("+00:00")
    assert logged == {
        "level": "WARNING",
        "logger": "orgs.test",
        "process": os.getpid(),
        "message": "parked event_1:\né",
        **about,
    }


@pytest.mark.parametrize("formatter", [JsonFormatter, LineFormatter])
@pytest.mark.parametrize("is_followed", [False, True])
def test_a_traceback_shows_no_detail_of_postgresqls(
    formatter: Callable[[], logging.Formatter], is_followed: bool
) -> None:
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


@pytest.mark.usefixtures("an_api_key")
@pytest.mark.parametrize("formatter", [JsonFormatter, LineFormatter])
def test_neither_a_secret_nor_a_local_variable_is_in_any_field(
    formatter: Callable[[], logging.Formatter],
) -> None:
    about = {"organization": API_KEY, "event": [API_KEY]}

    line = formatter().format(a_record("key %s", API_KEY, extra=about, exc_info=an_error()))

    assert "quoted" not in line
    assert "a local variable" not in line
    assert "key ********" in line
    if formatter is JsonFormatter:
        assert "\n" not in line
        traceback = json.loads(line)["traceback"]
        assert traceback.startswith("Traceback (most recent call last):\n")
        assert traceback.endswith("ValueError: Bearer ********")


def test_people_read_a_line_and_words_of_others_make_no_second_one() -> None:
    line = LineFormatter().format(a_record("parked: %s", "a\n2026-01-01 CRITICAL orgs: forged"))

    assert line.endswith(" WARNING orgs.test: parked: a 2026-01-01 CRITICAL orgs: forged")
    assert "\n" not in line


@pytest.mark.parametrize("is_terminal", [True, False])
def test_lines_are_for_terminals_and_json_is_for_all_else(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    formatter = configuration("INFO")["formatters"]["line"]["()"]

    assert formatter is (LineFormatter if is_terminal else JsonFormatter)


def test_without_settings_what_is_wrong_with_them_can_be_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unset:
        def __getattr__(self, name: str) -> Any:
            raise ImproperlyConfigured(name)

    monkeypatch.setattr(redaction, "settings", Unset())

    assert json.loads(JsonFormatter().format(a_record("no settings")))["message"] == "no settings"


@pytest.mark.parametrize("status", [401, 404, 503])
def test_an_answer_is_no_news(
    status: int, caplog: pytest.LogCaptureFixture, rf: RequestFactory
) -> None:
    """Django logs a line for each; /readyz is asked every few seconds, and by anyone."""
    answer = HttpResponse(status=status)

    log_response("%s", "Service Unavailable", response=answer, request=rf.get("/"))

    assert caplog.records == []


def test_an_exception_is_news(rf: RequestFactory, caplog: pytest.LogCaptureFixture) -> None:
    def view(_: HttpRequest) -> HttpResponse:
        raise ValueError("unforeseen")

    convert_exception_to_response(view)(rf.get("/somewhere"))

    (record,) = caplog.records
    assert record.getMessage() == "Internal Server Error: /somewhere"
    assert "unforeseen" in caplog.text


# The same warning again ---------------------------------------------------------------------


class Warnings:
    """Logs through the filter, at a time that the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.filter = OncePerMinute()
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def log(self, message: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("orgs", level, __file__, 1, "%s", (message,), None)
        return record.getMessage() if self.filter.filter(record) else None


def test_it_is_let_through_once_a_minute_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = Warnings(monkeypatch)
    first = [warnings.log(text) for text in ("forged", "forged", "forged", "another")]
    warnings.now = 61.0
    later = [warnings.log(text) for text in ("forged", "forged", "another")]

    assert first == ["forged", None, None, "another"]
    assert later == ["forged (and 2 times more since)", None, "another"]
    # What was asked for always passes, and nothing is remembered without end.
    assert [warnings.log("detail", logging.DEBUG) for _ in range(2)] == ["detail"] * 2
    for number in range(10_000):
        warnings.log(f"parked {number}")
    assert len(warnings.filter._seen) <= 1_000
