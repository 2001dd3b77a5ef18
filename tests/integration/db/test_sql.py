"""Arrays as PostgreSQL reads them."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from orgs.db import sql

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.usefixtures("database")
@given(st.lists(st.none() | texts))
def test_an_array_comes_back_as_it_was(values: list[str | None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::text[]", [sql.array(values)])

        assert cursor.fetchone() == (values,)


@pytest.mark.usefixtures("database")
def test_times_and_truths_come_back_too() -> None:
    moments = [datetime(2026, 1, 15, 12, 30, 0, 123456, tzinfo=UTC), None]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT %s::timestamptz[], %s::boolean[]",
            [sql.array(moments), sql.array([True, False, None])],
        )

        assert cursor.fetchone() == (moments, [True, False, None])
