"""Fixtures: a real PostgreSQL, emptied after each test; those of the fake WorkOS are a plugin's."""

import asyncio
import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpcore2
import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker, Settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

import orgs.workos
from gram_sync.embedded_postgres import server
from orgs.domain.resources import NAMES
from orgs.workos import pacing
from tests.settings import TEST_SERVER_DATA
from tests.triggers import renamed

# A shell starts what is in the background without SIGINT, and children would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["orgs.testing.pytest"]

# Database and HTTP examples take milliseconds that vary: no deadline. The same examples each time,
# so that a red suite is red again; raise max_examples by hand to search further.
hypothesis_settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
hypothesis_settings.load_profile("suite")

#: No commit of a test has to outlive the server. What the migrations leave in the tables is kept.
#: A DELETE of the few rows that there are is quicker than a TRUNCATE of every table, and a function
#: keeps its plans. Schedules are due at once, as new ones are: long after the migrations, they
#: would be overdue.
_PREPARE = """
ALTER DATABASE {database} SET synchronous_commit = off;
CREATE SCHEMA kept;
CREATE TABLE kept.schedules AS TABLE django_q_schedule;
CREATE FUNCTION kept.empty_tables() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL DEFERRED;
    {deletes}
    INSERT INTO django_q_schedule TABLE kept.schedules;
    UPDATE django_q_schedule SET next_run = clock_timestamp();
END $$
"""

_KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}

#: What takes longest, the longest first: the last one to begin must not be waited for alone.
_LONG = (
    "tests/system/acceptance/test_demo.py",
    "tests/system/matrix/",
    "tests/integration/test_state_machine.py",
    "tests/system/kill/",
    "tests/integration/test_resources_convergence.py",
    "tests/integration/test_any_value.py",
    "tests/system/",
    "tests/integration/test_embedded_postgres.py",
    "tests/integration/services/",
    "tests/integration/test_runbook.py",
    "tests/integration/admin/",
)

_BY_TEST = tuple(
    f"tests/system/{name}"
    for name in ("kill/", *(f"acceptance/test_{it}.py" for it in ("reconcile", "run", "worker")))
)

_was_running = server.is_running(TEST_SERVER_DATA)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [item.nodeid.startswith(long) for long in _LONG], reverse=True)


class _Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Has a few processes share the suite: by the file, whose fixtures may be dear, or by the test,
    where each starts processes of its own and mostly waits for them."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_BY_TEST) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Sharing:
    config.option.loadscopereorder = False
    return _Sharing(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    # One of several processes of the suite that is done must not stop it for the rest.
    is_one_of_several = hasattr(config, "workerinput")
    if not _was_running and not is_one_of_several:
        server.stop(TEST_SERVER_DATA)


@pytest.fixture
def database(transactional_db: None) -> None:
    """The database, outside any transaction of the test's, so that services can open theirs."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database, and a quicker way to empty it."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        tables = {*connection.introspection.table_names()} - _KEPT_TABLES
        deletes = "".join(f'DELETE FROM "{name}";' for name in tables)  # noqa: S608 - ours
        cursor.execute(_PREPARE.format(database=connection.settings_dict["NAME"], deletes=deletes))
        connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty_database())
        # A new connection for each test would fill PostgreSQL's caches again. In a browser's event
        # loop Django has a connection of its own, which is not closed at the end.
        patch.setattr(
            TransactionTestCase, "_should_reload_connections", lambda _: _has_event_loop()
        )
        yield


def _has_event_loop() -> bool:
    with suppress(RuntimeError):
        return bool(asyncio.get_running_loop())
    return False


def empty_database() -> None:
    """Leave the tables, and the session, as they were before the first test."""
    with connection.cursor() as cursor:
        cursor.execute("RESET ALL; SELECT kept.empty_tables()")
    connection.ensure_timezone()


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Each test has a client of its own, which would read all certificates of the machine again."""
    real, made = httpcore2.default_ssl_context, dict[tuple[str | None, ...], ssl.SSLContext]()

    def default_ssl_context(**options: bool) -> ssl.SSLContext:
        named = tuple(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")))
        if named not in made:
            made[named] = real(**options)
        return made[named]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", default_ssl_context)
        yield


@pytest.fixture
def no_database(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A database that can't be reached any more."""
    nowhere = {"host": "/nowhere", "dbname": "gone", "client_encoding": "UTF8"}
    connection.close()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "get_connection_params", lambda: nowhere)
        yield


@pytest.fixture
def a_missing_table(database: None) -> Iterator[None]:
    """A ledger that is not there, as before a migration."""
    with renamed("workos_event"):
        yield


@pytest.fixture(autouse=True)
def _no_client_left_over() -> Iterator[None]:
    """A process has one client, and a 429 pauses it; the next test has another fake WorkOS."""
    yield
    orgs.workos.close()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that WorkOS asks for is not waited out; who has no patience raises an error."""
    monkeypatch.setattr(pacing.pacer, "pause", lambda _: None)


@pytest.fixture
def all_resources(sync_setting: Any) -> None:
    """Every resource is followed, and what is new is not left to its event."""
    sync_setting(RESOURCES=NAMES, HOLD_BACK_WINDOW=0.0)


@pytest.fixture
def sync_setting(settings: Settings) -> Any:
    """Sets some of ``WORKOS_SYNC`` for one test: ``sync_setting(PAGE_SIZE=2)``."""

    def change(**values: Any) -> None:
        settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, **values}

    return change
