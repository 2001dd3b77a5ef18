"""Every page: its name, and what it shows of odd rows.

``test_any_value`` reads every page of rows with odd values in every column.
"""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from tests.admin_pages import (
    CURSOR,
    EVENTS,
    LISTS,
    ORGANIZATIONS,
    a_client,
    a_parked_event,
    carry_out,
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


# Whatever can be asked for ------------------------------------------------------------------


QUESTIONS = (
    *("%00/change/", "%00/history/", "%00/delete/", "%00/", "%ED%A0%80/change/"),
    *("?q=%00", "?q=%ED%A0%80", "?q=%22", "?outcome=%00", "?type=%00", "?linked=%00"),
    *("?state=%00", "?kind=%00", "?pk=%00", "?pk__regex=(", "?o=%00", "?p=%00", "?p=0"),
    *("?_to_field=%00", "?nonsense=1"),
)


@pytest.mark.parametrize("table", [*LISTS, CURSOR, "/admin/orgs/organizationmembership/"])
def test_no_question_is_answered_500(table: str, admin_client: Client) -> None:
    admin_client.raise_request_exception = False

    answers = {rest: admin_client.get(table + rest).status_code for rest in QUESTIONS}

    assert {rest: status for rest, status in answers.items() if status >= 500} == {}


@durable
@pytest.mark.parametrize("ids", [["\x00"], ["event_nowhere"], [], [""], ["x" * 10_000]])
@pytest.mark.parametrize("from_row", [True, False], ids=["button", "list"])
def test_no_choice_is_answered_500(ids: list[str], from_row: bool, admin_client: Client) -> None:
    for action in ("replay", "dismiss"):
        answer = carry_out(admin_client, EVENTS, action, *ids, from_row=from_row)
        assert answer.status_code == 200
