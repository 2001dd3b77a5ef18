"""Which errors are the environment's, which pass, and how they are described."""

import psycopg
import pytest
from django.db import DatabaseError, DataError, Error, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.db.transaction import TransactionManagementError

from orgs.db.errors import (
    CursorSkipped,
    DatabaseFailed,
    DescribedError,
    ReceiverFailed,
    WriteSkipped,
    describe,
    is_database_failure,
    is_full,
    is_mistake,
    is_out_of_time,
    is_outage,
    is_passing,
    origin,
    retry_races,
    without_detail,
)


def refused(code: str) -> DatabaseError:
    """As Django raises what PostgreSQL answers."""
    error = DatabaseError("it says no")
    error.__cause__ = psycopg.errors.lookup(code)("it says no")
    return error


def each_of(codes: str) -> list[DatabaseError]:
    return [refused(code) for code in codes.split()]


LOST, NUL = OperationalError("the connection is lost"), DataError("a NUL, which psycopg refuses")
RAISED = ReceiverFailed("A receiver of changes_applied raised KeyError: 'x'")

#: What Django raises by itself: a connection that is closed; a row that is gone, and others.
CLOSED, KEPT = InterfaceError("it is closed"), CursorSkipped("a trigger")
GONE, BROKEN = DatabaseError("no rows"), TransactionManagementError("end the atomic block")
PROTECTED = ProtectedError("it is referenced", set())

#: What libpq itself finds wrong.
NO_MEMORY = DatabaseError("no memory for an answer")
NO_MEMORY.__cause__ = psycopg.DatabaseError("out of memory for query result")

STATES = "08000 08006 53100 53300 58030 25006 57P01 57P02 57P03 57P05"
ENVIRONMENT = [*each_of(STATES), LOST, CLOSED, KEPT, NO_MEMORY]
PASSING = each_of("40001 40P01 55P03")
ITEMS = each_of("22001 23502 23505 23514 42501 25P02 54000 57014 P0001 XX000")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((error, "environment") for error in ENVIRONMENT),
        *((error, "passing") for error in PASSING),
        *(
            (error, "item")
            for error in (*ITEMS, NUL, RAISED, WriteSkipped("left out"), GONE, BROKEN, PROTECTED)
        ),
    ],
)
def test_who_is_at_fault(error: Error, kind: str) -> None:
    assert is_database_failure(error) is is_outage(error) is (kind == "environment")
    assert is_passing(error) is (kind == "passing")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        *((it, True) for it in (*each_of("42P01 42703 25P02"), GONE, BROKEN, PROTECTED, NUL)),
        *((it, False) for it in (*ENVIRONMENT, *PASSING, *each_of("22012 23505 23514 P0001"))),
    ],
)
def test_whose_mistake_it_is(error: Error, is_one: bool) -> None:
    assert is_mistake(error) is is_one


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((it, DatabaseFailed) for it in each_of("08006 25006 53100 57P01 58030 57014 55P03")),
        *((it, DescribedError) for it in each_of("42P01 42501 42703 22001 23514")),
        *((LOST, DatabaseFailed), (NUL, DescribedError)),
    ],
)
def test_of_which_errors_a_traceback_says_nothing_more(error: Error, kind: type[Exception]) -> None:
    assert type(without_detail(error)) is kind


def test_out_of_time_and_full() -> None:
    assert [is_out_of_time(error) for error in each_of("57014 55P03 23505")] == [True, True, False]
    assert [is_full(error) for error in each_of("53100 53200 58030")] == [True, True, False]


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (refused("P0001"), "PostgreSQL P0001: it says no"),
        (OperationalError("lost\x1b[1m\nDETAIL: a name"), r"PostgreSQL: lost\x1b[1m"),
        (WriteSkipped("left out"), "PostgreSQL: left out"),
        (ReceiverFailed("A receiver raised X: a\nb"), "A receiver raised X: a b"),
    ],
)
def test_an_error_is_described_in_one_line_after_its_origin(error: Error, description: str) -> None:
    assert describe(error) == description
    assert description.startswith(f"{origin(error)}: ")


@pytest.mark.parametrize(
    ("code", "attempts"),
    [("40001", 5), ("40P01", 5), ("23505", 5), ("55P03", 1), ("23514", 1), ("08006", 1)],
)
def test_only_races_are_retried_and_a_bounded_number_of_times(code: str, attempts: int) -> None:
    tried = []

    def lose() -> None:
        tried.append(code)
        raise refused(code)

    with pytest.raises(DatabaseError, match="it says no"):
        retry_races(lose)

    assert len(tried) == attempts
