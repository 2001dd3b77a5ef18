"""Every page: its name, what it shows of odd rows, and what is shown if it fails.

``test_any_value`` reads every page of rows with odd values in every column.
"""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from tests.admin_pages import (
    CURSOR,
    EVENTS,
    ORGANIZATIONS,
    a_client,
    a_parked_event,
    durable,
    page_of,
    read,
    text_of,
)
from tests.builders import an_organization_row

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("url", ["/admin/", CURSOR, EVENTS, ORGANIZATIONS, "/admin/auth/user/"])
def test_every_page_has_the_projects_name(url: str, admin_client: Client) -> None:
    page = read(admin_client, url)

    assert re.search(r"<title>[^<|]+\| gram-sync</title>", page)
    assert '<a href="/admin/">gram-sync</a>' in page
    assert "Django" not in text_of(page).replace("Django Q", "")


def test_the_mirror_is_listed_first_and_external_id_is_written_so(admin_client: Client) -> None:
    page = read(admin_client, "/admin/") + read(admin_client, "/admin/orgs/workosuser/")

    apps = re.findall(r'<div class="app-(\w+)', page)
    assert (apps[0], len(apps) > 2) == ("orgs", True)
    assert "Write-backs of external_id" in page
    assert not re.search(r"External_id|[Ee]xternal id", page)
    assert Permission.objects.filter(codename="retry_externalidwriteback").exists()


# Odd rows -----------------------------------------------------------------------------------------


def test_megabytes_are_cut_in_lists_and_shown_as_such() -> None:
    long = "é" * 1_000_000
    rows = [an_organization_row("gram-1", name=long), a_parked_event(error=long, payload=long)]
    client = a_client("change_organization")

    shown = [read(client, page_of(row)) for row in rows]
    lists = [read(client, url) for url in (ORGANIZATIONS, EVENTS)]

    assert all(len(page) < 60_000 for page in lists)
    assert "… (1000000 characters)" in lists[0]
    assert all("ééé" in page for page in shown)


# If it fails -------------------------------------------------------------------------------------


@durable
@pytest.mark.parametrize(
    ("state", "logged", "is_one_line"),
    [
        ("no_database", f"Internal Server Error: {EVENTS}: PostgreSQL: connect", True),
        ("a_missing_table", 'relation "workos_event" does not exist', False),
    ],
)
def test_a_page_that_fails_says_where_to_look_and_the_log_says_why(
    state: str,
    logged: str,
    is_one_line: bool,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = a_client()
    client.raise_request_exception = False
    request.getfixturevalue(state)

    answer = client.get(EVENTS)

    page = answer.content.decode()
    assert answer.status_code == 500
    assert '<a href="/readyz">' in page
    assert not [text for text in ("PostgreSQL:", "workos_event") if text in page]
    (record,) = caplog.records
    assert logged in caplog.text
    assert (record.levelname, record.exc_info is None) == ("ERROR", is_one_line)
