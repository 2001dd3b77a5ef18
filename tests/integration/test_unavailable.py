"""The page of a database that does not answer, and what is an error all the same."""

import pytest
from django.db import DataError
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from gram_sync.unavailable import DatabaseUnavailableMiddleware
from tests.admin_pages import EVENTS, a_client
from tests.triggers import changed

pytestmark = pytest.mark.usefixtures("database")


def an_operator() -> Client:
    client = a_client()
    client.raise_request_exception = False
    return client


def test_a_table_that_is_not_there_is_the_databases_trouble(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    client = an_operator()
    request.getfixturevalue("a_missing_table")

    answer = client.get(EVENTS)

    assert answer.status_code == 503
    assert "/readyz" in answer.content.decode()
    assert "workos_event" not in answer.content.decode()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert 'relation "workos_event" does not exist' in caplog.text


def test_a_database_that_takes_no_writes_is_said_to_who_logs_in() -> None:
    client = an_operator()
    read_only = "default_transaction_read_only"
    with changed(f"SET {read_only} = on", f"RESET {read_only}"):
        answer = client.post("/admin/login/", {"username": "staff", "password": "wrong"})
        looked = client.get(EVENTS)
        written = client.get("/admin/logout/")
        left = client.post("/admin/logout/")

    assert (answer.status_code, looked.status_code, written.status_code) == (200, 200, 405)
    assert left.status_code == 503


def test_without_a_database_nobody_is_known_and_the_page_says_where_to_look(
    request: pytest.FixtureRequest,
) -> None:
    client = an_operator()
    request.getfixturevalue("no_database")

    assert client.get(EVENTS).status_code == 503


def test_a_mistake_of_ours_is_an_error(rf: RequestFactory) -> None:
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse()

    middleware = DatabaseUnavailableMiddleware(view)

    assert middleware.process_exception(rf.get("/"), DataError("a mistake")) is None
    assert middleware.process_exception(rf.get("/"), ValueError("a mistake")) is None
