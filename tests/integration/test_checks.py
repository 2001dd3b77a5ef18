"""System checks: each setting that can't be supported has one, and each says what to do."""

import re
from dataclasses import fields
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, transaction
from django.db.backends.base import base
from django.db.utils import ConnectionHandler
from django_q.models import Schedule
from pytest_django import DjangoAssertNumQueries, Settings

from orgs import checks
from orgs.conf import RANGES, SyncSettings, sync_settings
from orgs.models.organizations import SLUG_CONSTRAINT
from orgs.services.maintenance import ensure_schedules
from tests.processes import PROJECT
from tests.triggers import changed, execute

#: A deadline of 20 seconds, 8 calls and 4 waits of 10 each: the suite's.
FITTING_QUEUE = {"timeout": 140, "retry": 281, "ack_failures": True, "max_attempts": 1}

#: The unique constraint on (workos_id) gives way to this unique index.
UNIQUE = (
    "DROP CONSTRAINT organization_metadata_workos_id_key; "
    "CREATE UNIQUE INDEX ON organization_metadata {}"
)


@pytest.fixture
def outside_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that is not a test's."""
    monkeypatch.delattr(mail, "outbox")


def found() -> dict[str | None, str]:
    messages = run_checks(tags=["orgs"])
    return {message.id: f"{message.msg} {message.hint}" for message in messages}


def a_router(
    label: str, *, reads: str | None = None, writes: str | None = None, migrates: bool = True
) -> SimpleNamespace:
    """Sends the models of an app elsewhere, as a host project's router might."""
    return SimpleNamespace(
        db_for_read=lambda model, **_: reads if model._meta.app_label == label else None,
        db_for_write=lambda model, **_: writes if model._meta.app_label == label else None,
        allow_migrate=lambda _, app_label, **__: migrates if app_label == label else None,
    )


# Settings -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("outside_tests")
@pytest.mark.parametrize(
    ("values", "ids", "text"),
    [
        pytest.param({}, [], "", id="all is set"),
        pytest.param({"API_KEY": ""}, ["orgs.E002"], "dashboard, API Keys", id="no key"),
        pytest.param({"API_KEY": None}, ["orgs.E002"], "dashboard, API Keys", id="key is None"),
        pytest.param({"API_KEY": "sk_live\nabc"}, ["orgs.E004"], "line breaks", id="line break"),
        pytest.param({"API_KEY": "   "}, ["orgs.E002"], "dashboard, API Keys", id="blank key"),
        pytest.param({"API_KEY": b"sk_live"}, ["orgs.E005"], "must be text, not bytes", id="bytes"),
        pytest.param({"WEBHOOK_SECRETS": ()}, ["orgs.E003"], "Webhooks", id="no secret"),
        pytest.param({"WEBHOOK_SECRETS": None}, ["orgs.E003"], "Webhooks", id="secret is None"),
        pytest.param(
            {"WEBHOOK_SECRETS": [b"x"]}, ["orgs.E005"], "texts, not bytes", id="secret is bytes"
        ),
        pytest.param({"WEBHOOK_SECRETS": [" \n"]}, ["orgs.E003"], "Webhooks", id="blank secret"),
        pytest.param({"PAGE_SIZES": 5}, ["orgs.E005"], "named PAGE_SIZES.", id="unknown"),
        pytest.param({7: 5}, ["orgs.E005"], "named 7.", id="key that is no text"),
        *(
            pytest.param(
                {name: value},
                ["orgs.E005"],
                f"WORKOS_SYNC[{name!r}] must be text {said}.",
                id=f"{name} {type(value).__name__}",
            )
            for name, value, said in (
                ("RESOURCES", 5, "or a list of texts, not int"),
                ("RESOURCES", [7], "or a list of texts, not int"),
                ("RESOURCES", (name for name in ["user"]), "or a list of texts, not generator"),
                ("WEBHOOK_SECRETS", iter(["s"]), "or a list of texts, not list_iterator"),
                ("WEBHOOK_SECRETS", 5, "or a list of texts, not int"),
            )
        ),
        pytest.param(
            {"RESOURCES": "directory_user"}, ["orgs.E029"], "Add directory, or", id="no directory"
        ),
        pytest.param({"REQUEST_TIMEOUT": None}, [], "", id="None is not set"),
        *(
            pytest.param({"BASE_URL": url}, ["orgs.E027"], "https://api.workos.com", id=f"<{url}>")
            for url in (
                *("api.workos.com", "ftp://h", "https://", "http://a b", "", 5),
                *("https://[::1", "http://h:1x"),
            )
        ),
        pytest.param({"BASE_URL": "http://[::1]:8001/"}, [], "", id="an address"),
        *(
            pytest.param({name: value}, ["orgs.E006"], f"number from {hint}", id=f"{name} {value}")
            for name, value, hint in (
                ("PAGE_SIZE", 101, "1 to 100"),
                ("PAGE_SIZE", "100", "1 to 100"),
                ("PAGE_SIZE", 99.5, "1 to 100"),
                ("PAGE_SIZE", True, "1 to 100"),
                ("LOCK_TIMEOUT", True, "0.001 to 60"),
                ("HOLD_BACK_WINDOW", -1, "0 to 86400"),
                ("POLL_PAUSE", 0, "0.01 to 60"),
                ("DRAIN_DEADLINE", float("nan"), "1 to 100"),
                ("LOCK_TIMEOUT", float("inf"), "0.001 to 60"),
                ("LEDGER_RETENTION_DAYS", 0, "1 to 36500"),
            )
        ),
    ],
)
def test_a_bad_setting_is_named(
    settings: Settings, values: dict[str, object], ids: list[str], text: str
) -> None:
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, **values}

    assert list(found()) == ids
    assert text in "".join(found().values())


def test_settings_that_are_no_dictionary_are_named(settings: Settings) -> None:
    settings.WORKOS_SYNC = [("API_KEY", "sk_live")]

    assert "WORKOS_SYNC must be a dictionary, not list." in found()["orgs.E005"]


@pytest.mark.usefixtures("outside_tests")
@pytest.mark.parametrize("written", [{}, None], ids=["empty", "None"])
@pytest.mark.parametrize(
    ("name", "needed"),
    [("WORKOS_SYNC", ["orgs.E002", "orgs.E003"]), ("Q_CLUSTER", ["orgs.E007", "orgs.W009"])],
)
def test_without_any_setting_what_is_needed_is_named(
    settings: Settings, name: str, needed: list[str], written: object
) -> None:
    setattr(settings, name, written)
    assert list(found()) == needed

    delattr(settings, name)
    assert list(found()) == needed


@pytest.mark.parametrize("debug", [True, False], ids=["development", "tests"])
def test_development_and_tests_need_no_keys_and_tests_may_run_tasks_at_once(
    settings: Settings, sync_setting: Any, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    if debug:
        monkeypatch.delattr(mail, "outbox")
    settings.DEBUG = debug
    settings.SECRET_KEY = ""
    settings.Q_CLUSTER = {**FITTING_QUEUE, "sync": not debug}
    sync_setting(API_KEY=None, WEBHOOK_SECRETS=())

    assert found() == {}


@pytest.mark.parametrize("secrets", ["whsec", ["whsec\n", " "], ("whsec", None)])
def test_secrets_may_be_plain_text_and_one_or_several(sync_setting: Any, secrets: object) -> None:
    sync_setting(API_KEY=" sk_live\n", WEBHOOK_SECRETS=secrets)

    current = sync_settings()

    assert repr((current.api_key, current.webhook_secrets)) == "('********', ('********',))"
    assert (current.api_key, current.webhook_secrets) == ("sk_live", ("whsec",))
    assert found() == {}


def test_every_number_has_a_range() -> None:
    defaults = {field.name: getattr(SyncSettings(), field.name) for field in fields(SyncSettings)}

    assert RANGES.keys() == {n for n, value in defaults.items() if isinstance(value, int | float)}


# django-q2 and the project ------------------------------------------------------------------


@pytest.mark.usefixtures("outside_tests")
@pytest.mark.parametrize(
    ("name", "value", "ids", "hint"),
    [
        ("Q_CLUSTER", {}, [], ""),
        ("Q_CLUSTER", {"timeout": None}, ["orgs.E007"], "DRAIN_DEADLINE"),
        ("Q_CLUSTER", {"timeout": 139}, ["orgs.E007"], "Set it to 140 or more"),
        ("Q_CLUSTER", {"timeout": "150"}, ["orgs.E007"], "is '150'"),
        ("Q_CLUSTER", {"retry": 280}, ["orgs.E008"], "more than 280"),
        ("Q_CLUSTER", {"retry": "400"}, ["orgs.E008"], "is '400'"),
        ("Q_CLUSTER", {"ack_failures": False, "max_attempts": 0}, ["orgs.W009"], "ack_failures"),
        ("Q_CLUSTER", {"sync": True}, ["orgs.E010"], "in tests alone"),
        ("Q_CLUSTER", {"scheduler": False}, ["orgs.W025"], "one worker"),
        ("SECRET_KEY", "", ["orgs.E001"], "random characters"),
        ("USE_TZ", False, ["orgs.E021"], "TIME_ZONE may be any"),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", 1_048_575, ["orgs.W026"], "Set it to 1048576"),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", 1_048_576, [], ""),
        ("DATA_UPLOAD_MAX_MEMORY_SIZE", None, [], ""),
        ("ATOMIC_REQUESTS", True, ["orgs.E012"], "inside a transaction"),
        ("AUTOCOMMIT", False, ["orgs.E023"], "nothing would commit"),
        ("OPTIONS", {"pool": True}, ["orgs.E013"], "PgBouncer"),
        ("OPTIONS", {"pool": {"min_size": 2}}, ["orgs.E013"], "the worker forks"),
        ("OPTIONS", {"server_side_binding": True}, ["orgs.E018"], "sent together"),
        ("OPTIONS", {"isolation_level": 4}, ["orgs.E024"], "waited for a lock"),
    ],
)
def test_a_setting_of_the_project_that_cant_be_supported_is_named(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    ids: list[str],
    hint: str,
) -> None:
    if name in connection.settings_dict:
        monkeypatch.setitem(connection.settings_dict, name, value)
    else:
        setattr(settings, name, FITTING_QUEUE | value if name == "Q_CLUSTER" else value)

    assert list(found()) == ids
    for text in found().values():
        assert name in text
        assert hint in text


@pytest.mark.parametrize(
    ("queue", "ids"),
    [
        ({}, ["orgs.W031"]),
        ({"redis": "redis://h"}, ["orgs.W031"]),
        ({"orm": "default"}, []),
        ({"sqs": {"aws_region": "eu-1"}}, []),
    ],
)
def test_a_queue_in_redis_without_its_package_is_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, queue: dict[str, Any], ids: list[str]
) -> None:
    settings.Q_CLUSTER = FITTING_QUEUE | queue
    assert found() == {}

    monkeypatch.setattr(checks, "find_spec", lambda name: None if name == "redis" else name)
    assert list(found()) == ids


@pytest.mark.parametrize(
    ("router", "named"),
    [
        pytest.param(a_router("orgs", reads="replica"), "orgs.Organization", id="reads"),
        pytest.param(a_router("orgs", writes="other"), "orgs.Organization", id="writes"),
        pytest.param(a_router("orgs", migrates=False), "orgs.Organization", id="migrations"),
        pytest.param(a_router("django_q", writes="other"), "django_q.Schedule", id="schedules"),
        pytest.param(a_router("auth", reads="other", writes="other"), "", id="other apps"),
    ],
)
def test_a_router_that_sends_tables_elsewhere_is_an_error(
    settings: Settings, router: SimpleNamespace, named: str
) -> None:
    settings.DATABASE_ROUTERS = [router]

    told = run_checks(tags=["orgs"])

    assert {message.id for message in told} == ({"orgs.E022"} if named else set())
    assert named in "".join(message.msg for message in told)


def test_another_database_or_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":"}}
    with monkeypatch.context() as patch:
        patch.setattr(checks, "connections", ConnectionHandler(sqlite))
        assert "but sqlite" in found()["orgs.E011"]
        assert found_in_database() == {}
    monkeypatch.setattr(connection, "Database", SimpleNamespace(__name__="psycopg2"))
    assert "psycopg[binary]" in found()["orgs.E020"]
    assert found_in_database() == {}


# What the database says ---------------------------------------------------------------------


def found_in_database() -> dict[str | None, str]:
    messages = run_checks(tags=["database"], databases=["default"])
    return {message.id: f"{message.msg} {message.hint}" for message in messages}


@pytest.fixture
def schedules(database: None) -> None:
    ensure_schedules()


@pytest.mark.usefixtures("schedules")
def test_only_database_checks_query_it(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        run_checks()


@pytest.mark.usefixtures("schedules")
def test_a_missing_schedule_is_a_warning_that_does_not_stop_migrate() -> None:
    Schedule.objects.filter(name="workos: prune").delete()

    assert list(found_in_database()) == ["orgs.W017"]
    call_command("migrate", verbosity=0, skip_checks=False, stderr=StringIO())
    assert found_in_database() == {}


@pytest.mark.usefixtures("schedules")
@pytest.mark.parametrize(
    ("name", "style", "remedy"),
    [
        ("DateStyle", "German", "SET DateStyle = 'ISO'"),
        ("IntervalStyle", "iso_8601", "SET IntervalStyle = 'postgres'"),
    ],
)
def test_a_style_that_psycopg_cant_read_is_an_error(name: str, style: str, remedy: str) -> None:
    with changed(f"SET {name} = {style}", f"RESET {name}"):
        told = found_in_database()

    assert list(told) == ["orgs.E028"]
    assert remedy in told["orgs.E028"]


@pytest.mark.usefixtures("schedules")
def test_a_postgresql_too_old_for_django_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.features, "minimum_database_version", (99,))
    # Django looks once in a process.
    monkeypatch.setattr(base, "RAN_DB_VERSION_CHECK", set())
    connection.close()
    said = found_in_database()["orgs.E014"]
    assert "PostgreSQL 99 or later is required" in said
    assert "a version that this Django supports" in said


@pytest.mark.usefixtures("schedules")
@pytest.mark.parametrize(
    ("state", "ids"), [("no_database", ["orgs.E014"]), ("a_missing_table", [])], ids=str
)
def test_a_database_that_is_gone_is_an_error_and_a_table_that_is_not_there_yet_is_none(
    request: pytest.FixtureRequest, state: str, ids: list[str]
) -> None:
    request.getfixturevalue(state)

    assert list(found_in_database()) == ids


@pytest.mark.usefixtures("schedules")
@pytest.mark.parametrize(
    ("misfit", "lacks"),
    [
        ("RENAME whitelisted TO w", ["the column whitelisted"]),
        ("RENAME workos_id TO w", ["the column workos_id", "a unique index on (workos_id)"]),
        ("ALTER slug TYPE uuid USING slug::uuid", ["the type text for slug"]),
        ("ALTER name TYPE varchar(255)", []),
        ("RENAME sso_enabled TO s", []),
        ("DROP CONSTRAINT organization_metadata_pkey CASCADE", ["a unique index on (id)"]),
        (f"DROP CONSTRAINT {SLUG_CONSTRAINT}", ["a unique index on (slug)"]),
        (UNIQUE.format("(workos_id) WHERE workos_id IS NOT NULL"), []),
        *(
            (UNIQUE.format(index), ["a unique index on (workos_id)"])
            for index in ("(workos_id) WHERE disabled_at IS NULL", "(workos_id, slug)")
        ),
        ("RENAME TO not_there_yet", []),
    ],
)
def test_a_table_that_was_there_and_does_not_fit_is_an_error(misfit: str, lacks: list[str]) -> None:
    with transaction.atomic():
        execute(f"ALTER TABLE organization_metadata {misfit}")
        told = run_checks(tags=["database"], databases=["default"])
        transaction.set_rollback(True)

    assert [message.msg for message in told] == [
        f"organization_metadata lacks {it}." for it in lacks
    ]
    assert {message.id for message in told} <= {"orgs.E030"}


# The contract -------------------------------------------------------------------------------


def test_every_check_has_a_number_of_its_own_and_a_test() -> None:
    """That of orgs.E019 needs a database of its own: tests/system/acceptance/test_encoding.py.
    For what orgs.E016 says, see ``test_runbook``."""
    numbers = [number[1:] for number in checks._TEXTS]
    tests = (PROJECT / "tests/integration/test_checks.py").read_text()
    assert len(numbers) == len(set(numbers))
    tested = set(re.findall(r"orgs\.([EW]\d{3})", tests))
    assert tested == checks._TEXTS.keys()
