"""System checks: what must be set, and what each message says to do."""

from collections.abc import Callable

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

from orgs.conf import sync_settings


def found() -> dict[str | None, str]:
    return {message.id: str(message.hint) for message in run_checks(tags=["orgs"])}


def test_nothing_is_missing_when_all_is_set() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("setting", "value", "check_id", "hint"),
    [
        ("API_KEY", "", "orgs.E002", "WorkOS dashboard, API Keys"),
        ("WEBHOOK_SECRETS", (), "orgs.E003", "WorkOS dashboard, Webhooks"),
    ],
)
def test_a_missing_setting_is_an_error_that_says_where_to_find_it(
    sync_setting: Callable[..., None], setting: str, value: object, check_id: str, hint: str
) -> None:
    sync_setting(**{setting: value})

    assert list(found()) == [check_id]
    assert hint in found()[check_id]


def test_a_key_with_a_line_break_is_an_error(sync_setting: Callable[..., None]) -> None:
    sync_setting(API_KEY="sk_live\nabc")

    assert list(found()) == ["orgs.E004"]


def test_a_missing_secret_key_is_an_error_that_says_what_to_set(settings: Settings) -> None:
    settings.SECRET_KEY = ""

    assert list(found()) == ["orgs.E001"]
    assert "random characters" in found()["orgs.E001"]


def test_with_debug_on_nothing_has_to_be_set(
    settings: Settings, sync_setting: Callable[..., None]
) -> None:
    settings.DEBUG = True
    settings.SECRET_KEY = ""
    sync_setting(API_KEY="", WEBHOOK_SECRETS=())

    assert found() == {}


def test_a_setting_that_does_not_exist_is_named(sync_setting: Callable[..., None]) -> None:
    sync_setting(PAGE_SIZES=5)

    with pytest.raises(TypeError, match="no setting named PAGE_SIZES"):
        sync_settings()
