"""No configured secret is in a log or an error page, however it is written there."""

import html
import sys

import pytest
from django.test import RequestFactory
from django.views.debug import technical_500_response
from psycopg.conninfo import make_conninfo
from pytest_django import Settings

from gram_sync.redaction import redact
from orgs.conf import Secret

API_KEY, FIRST, SECOND = "sk_live_secret", "whsec_first_secret", "whsec_second_secret"
PASSWORD, DJANGOS = "pass/word", "a-key-of-django"
SECRETS = (API_KEY, FIRST, SECOND, PASSWORD, DJANGOS, "redis@secret")


@pytest.fixture(autouse=True)
def secrets(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = DJANGOS
    keys = {"API_KEY": Secret(API_KEY), "WEBHOOK_SECRETS": (Secret(FIRST), Secret(SECOND))}
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, **keys}
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", PASSWORD)
    settings.Q_CLUSTER = {**settings.Q_CLUSTER, "redis": "redis://:redis%40secret@queue:6379/1"}


@pytest.mark.parametrize("secret", [*SECRETS, "pass%2Fword", "redis%40secret"])
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    assert redact(f"before {secret} after") == "before ******** after"


@pytest.mark.parametrize("key", ["dev", ""])
def test_what_is_too_short_for_a_secret_is_left(settings: Settings, key: str) -> None:
    settings.SECRET_KEY = key

    assert redact(f"developer {API_KEY}") == "developer ********"


def page_of(error: Exception) -> str:
    try:
        local = f"a variable with {SECOND}"  # noqa: F841 - shown by the page
        raise error
    except type(error):
        request = RequestFactory().get("/", headers={"Authorization": f"Bearer {API_KEY}"})
        request.META["DATABASE_URL"] = "postgresql://u:pass%2Fword@db/gram"
        return technical_500_response(request, *sys.exc_info()).content.decode()


def test_an_error_page_shows_no_secret() -> None:
    page = page_of(ValueError(FIRST))

    assert "a variable with ********" in page
    assert not any(secret in page for secret in (*SECRETS, "pass%2Fword"))


@pytest.mark.parametrize("password", ["hunter2&co<x>", "it's \\ 'quoted'", 'say "hi" & bye'])
def test_a_password_is_masked_however_a_page_writes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", password)
    parameters = {"password": password, "conninfo": make_conninfo(password=password)}

    page = page_of(ValueError(str(parameters)))

    shown = html.unescape(html.unescape(page))
    assert "********" in shown
    assert password not in shown
    assert repr(password)[1:-1] not in shown


def test_a_secret_does_not_show_itself() -> None:
    assert repr(Secret("sk_live")) == "'********'"
    assert str(Secret("sk_live")) == "sk_live"
