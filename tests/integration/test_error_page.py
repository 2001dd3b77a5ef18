"""The page of what failed: where to look, without PostgreSQL's words; and a line in the log."""

import pytest
from django.test import Client

from tests.admin_pages import EVENTS, a_client

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def operator() -> Client:
    client = a_client()
    client.raise_request_exception = False
    return client


def test_a_database_that_does_not_answer_is_one_line_and_the_page_says_where_to_look(
    operator: Client, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request.getfixturevalue("no_database")

    answer = operator.get(EVENTS)

    assert answer.status_code == 500
    assert '<a href="/readyz">' in answer.content.decode()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"Internal Server Error: {EVENTS}: PostgreSQL: connect")
    assert (record.levelname, record.exc_info) == ("ERROR", None)


def test_a_table_that_is_not_there_keeps_its_traceback_and_is_not_shown(
    operator: Client, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    request.getfixturevalue("a_missing_table")

    answer = operator.get(EVENTS)

    assert answer.status_code == 500
    assert "workos_event" not in answer.content.decode()
    assert 'relation "workos_event" does not exist' in caplog.text
