"""Transactions: each the outermost one, and each with a bound on its waits for locks; and arrays as
PostgreSQL reads them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC
from typing import Any

import pytest
from django.db import InternalError, OperationalError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from orgs.db import sql
from orgs.db.transactions import (
    Statement,
    bounded_transaction,
    execute_alone,
    execute_together,
    read_only_transaction,
)
from tests.builders import an_organization_row
from tests.concurrency import another_program
from tests.triggers import changed, execute

pytestmark = pytest.mark.usefixtures("database")

Ours = Callable[[], AbstractContextManager[Any]]


def shown(setting: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {setting}")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("ours", [bounded_transaction, read_only_transaction])
def test_ours_is_the_outermost(ours: Ours) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"), ours():
        pytest.fail("it was opened inside another")


def test_a_statement_alone_is_no_part_of_another_transaction() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        execute_alone("SELECT 1", [])


@pytest.mark.parametrize(
    ("at_most", "statement_timeout", "wait"),
    [
        *((None, "0", "10s"), (2.0, "0", "2s"), (99.0, "0", "10s")),
        *((None, "500ms", "450ms"), (None, "4s", "3600ms"), (None, "2h", "10s")),
    ],
)
def test_a_wait_is_as_long_as_setting_call_and_statement_allow(
    at_most: float | None, statement_timeout: str, wait: str
) -> None:
    bound = f"SET statement_timeout = '{statement_timeout}'"
    with changed(bound, "RESET statement_timeout"), bounded_transaction(at_most=at_most):
        execute("SET LOCAL statement_timeout = 0")
        assert shown("lock_timeout") == wait


@pytest.mark.parametrize("ours", [bounded_transaction, read_only_transaction])
def test_the_bounds_end_with_the_transaction(ours: Ours) -> None:
    with ours():
        inside = shown("lock_timeout"), shown("idle_in_transaction_session_timeout")

    # A process that stands still does not keep its locks for ever.
    assert inside == ("10s", "1min")
    assert (shown("lock_timeout"), shown("transaction_read_only")) == ("0", "off")


def read() -> None:
    with read_only_transaction():
        execute_together([Statement("SELECT FROM workos_event", [])])


@pytest.mark.parametrize(
    "wait", [lambda: execute_alone("SELECT FROM workos_event", [], at_most=0.05), read]
)
def test_every_wait_for_a_lock_is_bounded(wait: Callable[[], None], sync_setting: Any) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)

    with another_program() as migration:
        migration.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            wait()


def test_a_read_only_transaction_writes_nothing_and_ends_slow_statements() -> None:
    an_organization_row("gram-1")

    with pytest.raises(InternalError, match="read-only"), read_only_transaction():
        execute_together([Statement("UPDATE organization_metadata SET name = ''", [])])
    with (
        pytest.raises(OperationalError, match="statement timeout"),
        read_only_transaction(statement_seconds=0.01),
    ):
        execute_together([Statement("SELECT pg_sleep(60)", [])])


def test_a_null_in_an_array_is_one_whatever_the_database_says() -> None:
    select = Statement("SELECT %s::text[]", [sql.array([None, "NULL"])])

    with changed("SET array_nulls = off", "RESET array_nulls"):
        assert execute_alone(select.text, select.values) == [([None, "NULL"],)]
        with bounded_transaction(select) as (rows,):
            assert rows == [([None, "NULL"],)]
        with read_only_transaction():
            assert execute_together([select]) == [rows]


def test_statements_together_take_one_round_trip(django_assert_num_queries: Any) -> None:
    statements = [
        Statement("SELECT %s::text", ["a;b"]),
        Statement("CREATE TEMPORARY TABLE t (n int) ON COMMIT DROP", []),
        Statement("INSERT INTO t SELECT generate_series(1, %s) RETURNING n", [2]),
    ]

    with transaction.atomic(), django_assert_num_queries(1):
        assert execute_together(statements) == [[("a;b",)], [], [(1,), (2,)]]
        assert execute_together([]) == []


@given(
    st.lists(
        st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    ),
    st.lists(st.none() | st.datetimes(timezones=st.just(UTC))),
    st.lists(st.none() | st.booleans()),
)
def test_arrays_come_back_as_sent(texts: list[Any], times: list[Any], truths: list[Any]) -> None:
    values = [sql.array(texts), sql.array(times), sql.array(truths)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text[], %s::timestamptz[], %s::boolean[]", values)

        assert cursor.fetchone() == (texts, times, truths)
