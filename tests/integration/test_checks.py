"""System checks: what must be set, and what each message says to do."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.db.backends.base import base
from django.db.utils import ConnectionHandler
from django_q.models import Schedule
from pytest_django import Settings

from orgs import checks
from orgs.conf import RANGES, SyncSettings, sync_settings
from orgs.services.maintenance import ensure_schedules


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


@pytest.mark.parametrize("key", ["PAGE_SIZES", "api_keys"])
def test_a_setting_that_does_not_exist_is_an_error(
    sync_setting: Callable[..., None], key: str
) -> None:
    sync_setting(**{key: 5})

    assert list(found()) == ["orgs.E005"]


def test_without_any_setting_what_is_needed_is_named(settings: Settings) -> None:
    del settings.WORKOS_SYNC

    assert list(found()) == ["orgs.E002", "orgs.E003"]


def test_secrets_may_be_plain_text_and_a_single_one(sync_setting: Callable[..., None]) -> None:
    sync_setting(API_KEY="sk_live", WEBHOOK_SECRETS="whsec")

    current = sync_settings()

    assert repr((current.api_key, current.webhook_secrets)) == "('********', ('********',))"
    assert current.webhook_secrets == ("whsec",)
    assert found() == {}


@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("PAGE_SIZE", 101, "a number from 1 to 100"),
        ("PAGE_SIZE", "100", "a number from 1 to 100"),
        ("HOLD_BACK_WINDOW", -1, "a number from 0 to 86400"),
        ("POLL_PAUSE", 0, "a number from 0.01 to 60"),
        ("DRAIN_DEADLINE", float("nan"), "a number from 1 to 100"),
        ("LOCK_TIMEOUT", float("inf"), "a number from 0.001 to 60"),
        ("REQUEST_TIMEOUT", None, "a number from 0.1 to 60"),
        ("LEDGER_RETENTION_DAYS", 0, "a number from 1 to 36500"),
    ],
)
def test_a_number_that_makes_no_sense_is_an_error(
    sync_setting: Callable[..., None], setting: str, value: object, hint: str
) -> None:
    sync_setting(**{setting: value})

    assert list(found()) == ["orgs.E006"]
    assert hint in found()["orgs.E006"]


def test_every_number_has_a_range() -> None:
    numbers = {
        field.name
        for field in fields(SyncSettings)
        if isinstance(getattr(SyncSettings(), field.name), int | float)
    }

    assert RANGES.keys() == numbers


# django-q2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "check_id", "hint"),
    [
        pytest.param({"timeout": None}, "orgs.E007", "DRAIN_DEADLINE", id="no time-out"),
        pytest.param({"timeout": 139}, "orgs.E007", "Set it to 140 or more", id="too short"),
        pytest.param({"retry": 280}, "orgs.E008", "more than 280", id="retried beside itself"),
        pytest.param(
            {"ack_failures": False, "max_attempts": 0}, "orgs.W009", "ack_failures", id="for ever"
        ),
        pytest.param({"sync": True}, "orgs.E010", "qcluster", id="inside the webhook"),
    ],
)
def test_a_queue_that_does_not_fit_is_said(
    settings: Settings, values: dict[str, object], check_id: str, hint: str
) -> None:
    # A deadline of 20 seconds, 8 calls and 4 waits of 10 each: the suite's.
    fitting = {"timeout": 140, "retry": 281, "ack_failures": True, "max_attempts": 1}
    settings.Q_CLUSTER = fitting
    assert found() == {}

    settings.Q_CLUSTER = {**fitting, **values}

    assert list(found()) == [check_id]
    assert hint in found()[check_id]


def test_no_queue_at_all_is_an_error(settings: Settings) -> None:
    del settings.Q_CLUSTER

    assert "orgs.E007" in found()


# Database -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "check_id", "hint"),
    [
        ("ATOMIC_REQUESTS", True, "orgs.E012", "inside a transaction"),
        ("OPTIONS", {"pool": True}, "orgs.E013", "PgBouncer"),
        ("OPTIONS", {"pool": {"min_size": 2}}, "orgs.E013", "the worker forks"),
        ("OPTIONS", {"server_side_binding": True}, "orgs.E018", "sent together"),
    ],
)
def test_a_database_setting_that_breaks_the_sync_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, check_id: str, hint: str
) -> None:
    monkeypatch.setitem(connection.settings_dict, name, value)

    assert list(found()) == [check_id]
    assert hint in found()[check_id]


def test_another_database_than_postgresql_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":"}})
    monkeypatch.setattr(checks, "connections", sqlite)

    assert list(found()) == ["orgs.E011"]


# What the database says ---------------------------------------------------------------------


def found_in_database() -> dict[str | None, str]:
    messages = run_checks(tags=["database"], databases=["default"])
    return {message.id: f"{message.msg} {message.hint}" for message in messages}


@pytest.fixture
def schedules(database: None) -> None:
    ensure_schedules(using="default")


@pytest.mark.usefixtures("schedules")
def test_a_migrated_database_is_sound() -> None:
    assert found_in_database() == {}


@pytest.mark.usefixtures("schedules")
def test_without_being_told_to_no_check_asks_the_database(
    django_assert_num_queries: Callable[[int], AbstractContextManager[object]],
) -> None:
    with django_assert_num_queries(0):
        run_checks()


@pytest.mark.usefixtures("schedules")
def test_a_missing_schedule_is_a_warning_that_does_not_stop_migrate() -> None:
    Schedule.objects.filter(name="workos: prune").delete()

    assert list(found_in_database()) == ["orgs.W017"]
    call_command("migrate", verbosity=0, skip_checks=False, stderr=StringIO())
    assert found_in_database() == {}


@pytest.mark.usefixtures("schedules")
def test_a_missing_grant_is_named() -> None:
    with as_a_user_of("SELECT, INSERT, UPDATE ON workos_event"):
        told = run_checks(tags=["database"], databases=["default"])

    lacking = {message.msg for message in told if message.id == "orgs.E016"}
    assert "The database's user lacks DELETE ON workos_event." in lacking
    assert "The database's user lacks UPDATE ON organization_metadata." in lacking
    assert "The database's user lacks UPDATE ON workos_event." not in lacking


@pytest.mark.usefixtures("schedules")
def test_grants_on_columns_are_grants() -> None:
    with as_a_user_of("UPDATE (name, workos_id) ON organization_metadata"):
        told = run_checks(tags=["database"], databases=["default"])

    lacking = {message.msg for message in told if message.id == "orgs.E016"}
    assert "The database's user lacks UPDATE ON organization_metadata." not in lacking
    assert "The database's user lacks INSERT ON organization_metadata." in lacking


@contextmanager
def as_a_user_of(grant: str) -> Iterator[None]:
    """As a database user with this grant, and what the schedules' check reads, and nothing else."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE somebody")
        try:
            cursor.execute(f"GRANT {grant} TO somebody")
            cursor.execute("GRANT SELECT ON django_q_schedule TO somebody")
            cursor.execute("SET ROLE somebody")
            yield
        finally:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY somebody")
            cursor.execute("DROP ROLE somebody")


@pytest.mark.usefixtures("schedules")
def test_a_postgresql_that_is_too_old_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_POSTGRES", 99)

    assert "PostgreSQL 99 or newer" in found_in_database()["orgs.E015"]


@pytest.mark.usefixtures("schedules")
def test_a_postgresql_that_django_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.features, "minimum_database_version", (99,))
    # Django looks once in a process.
    monkeypatch.setattr(base, "RAN_DB_VERSION_CHECK", set())
    connection.close()

    assert "PostgreSQL 99 or later is required" in found_in_database()["orgs.E015"]


def test_the_least_postgresql_is_djangos() -> None:
    assert connection.features.minimum_database_version == (checks.LEAST_POSTGRES,)


@pytest.mark.usefixtures("no_database")
def test_a_database_that_is_gone_is_an_error_and_no_traceback() -> None:
    assert list(found_in_database()) == ["orgs.E014"]


@pytest.mark.usefixtures("schedules", "a_missing_table")
def test_a_table_that_is_not_there_yet_misses_nothing() -> None:
    assert found_in_database() == {}
