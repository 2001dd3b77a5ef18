"""Every page: its name, and what it shows of odd rows.

``test_any_value`` reads every page of rows with odd values in every column.
"""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from orgs.models import Organization
from tests.admin_pages import (
    CURSOR,
    EVENTS,
    LISTS,
    ORGANIZATIONS,
    Response,
    a_client,
    a_parked_event,
    carry_out,
    durable,
    form_of,
    page_of,
    read,
    said,
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


#: Control characters, of which ESC moves a terminal's cursor, and one that turns the text around.
CONTROL = "\x1b[2J\x07\x7f\x9b\u202etxt"
SHOWN = r"\x1b[2J\x07\x7f\x9b\u202etxt"


def test_megabytes_are_cut_in_lists_and_shown_as_such() -> None:
    long = "é" * 1_000_000
    rows = [an_organization_row("gram-1", name=long), a_parked_event(error=long, payload=long)]
    client = a_client("change_organization")

    shown = [read(client, page_of(row)) for row in rows]
    lists = [read(client, url) for url in (ORGANIZATIONS, EVENTS)]

    assert all(len(page) < 60_000 for page in lists)
    assert "… (1000000 characters)" in lists[0]
    assert all("ééé" in page for page in shown)


@durable
def test_control_characters_reach_no_message_and_no_history() -> None:
    an_organization_row(CONTROL, name=CONTROL)
    client = a_client("disable_organization")
    posted = {"action": "disable_selected", "_selected_action": CONTROL, "confirmed": "yes"}

    disabled = client.post(ORGANIZATIONS, posted, follow=True)
    first = client.get("/admin/").content.decode()

    assert said(disabled) == [("success", f"Disabled: {SHOWN}")]
    assert SHOWN in first
    assert "\x1b" not in first
    assert LogEntry.objects.count() == 1


def test_saving_leaves_control_characters_as_they_are() -> None:
    an_organization_row("gram-1", gram_account_type=CONTROL)
    client = a_client("change_organization")
    page = f"{ORGANIZATIONS}gram-1/change/"

    client.post(page, {**form_of(client.get(page)), "slug": "new"})

    row = Organization.objects.get()
    assert (row.slug, row.gram_account_type) == ("new", CONTROL)


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
@pytest.mark.parametrize("name", ["replay", "dismiss"])
def test_no_tick_or_button_is_answered_500(name: str, ids: list[str], admin_client: Client) -> None:
    admin_client.raise_request_exception = False

    answers: list[Response] = [
        carry_out(admin_client, EVENTS, name, *ids, from_row=from_row) for from_row in (True, False)
    ]

    assert [answer.status_code for answer in answers] == [200] * 2
