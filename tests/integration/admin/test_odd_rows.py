"""No page breaks on a question that a browser can ask, nor on a row that another program wrote."""

import json
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.test import Client

from orgs.models import Organization, WorkOSEvent
from tests.admin_pages import (
    CURSOR,
    EVENTS,
    LISTS,
    ORGANIZATIONS,
    Response,
    a_client,
    carry_out,
    durable,
    form_of,
    said,
)
from tests.builders import an_organization_row
from tests.triggers import insert

pytestmark = pytest.mark.django_db

#: Beyond what Python can hold, on either side.
TIMES = ["infinity", "-infinity", "12026-01-01", "0044-03-15 BC", "9999-12-31 23:59:59+00"]

#: Control characters, of which ESC moves a terminal's cursor, and one that turns the text around.
CONTROL = "\x1b[2J\x07\x7f\x9b\u202etxt"
SHOWN = r"\x1b[2J\x07\x7f\x9b\u202etxt"

TEXTS = [
    pytest.param(CONTROL, id="control characters"),
    pytest.param("", id="empty"),
    pytest.param(" ", id="a space"),
    pytest.param("../a/%2F?x=1#y", id="an address"),
    pytest.param("add", id="the name of a page"),
    pytest.param("_2F\n<b>&amp;'\"\\", id="quotes and marks"),
    pytest.param("\U0001d518 \ufeff\u200b\u2028\uffff\U0010fffd e\u0301", id="odd letters"),
]


MEMBERSHIPS = "/admin/orgs/organizationmembership/"


def write_one_of_each(text: str, moment: str = "2026-01-15") -> None:
    """A row of each table, with this text and this time in every column that takes them."""
    times = dict.fromkeys(("created_at", "updated_at", "disabled_at", "workos_updated_at"), moment)
    texts = dict.fromkeys(("id", "name", "slug", "workos_id", "gram_account_type"), text)
    insert("organization_metadata", texts | times | {"workos_deleted_at": moment})
    times = dict.fromkeys(("occurred_at", "announced_at", "processed_at"), moment)
    texts = dict.fromkeys(("id", "type", "workos_organization_id", "error", "payload"), text)
    insert("workos_event", texts | times | {"outcome": "parked", "organization_id": text})
    times = dict.fromkeys(("requested_at", "next_attempt_at"), moment)
    texts = dict.fromkeys(("organization_id", "workos_id", "last_error"), text)
    insert("workos_external_id_write_back", texts | times)
    times = dict.fromkeys(("found_at", "last_seen_at", "acknowledged_at"), moment)
    texts = dict.fromkeys(("organization_id", "workos_organization_id", "kind", "reason"), text)
    insert("workos_conflict", texts | times)
    times = dict.fromkeys(("workos_updated_at", "deleted_at", "synced_at"), moment)
    texts = dict.fromkeys(("workos_id", "workos_organization_id", "workos_user_id", "status"), text)
    insert("workos_organization_membership", texts | times | {"data": json.dumps({"a": text})})
    times = dict.fromkeys(("last_event_at", "draining_until", "reconciled_at"), moment)
    texts = dict.fromkeys(("last_event_id", "last_error", "snapshot_trouble"), text)
    insert("workos_sync_cursor", texts | times | {"stream": "organizations"})


def pages(key: str) -> list[str]:
    tables = [*LISTS, MEMBERSHIPS]
    rows = [f"{table}{quote(key)}/" for table in tables if key]
    return ["/admin/", *tables, CURSOR, f"{CURSOR}organizations/change/"] + [
        f"{row}{page}/" for row in rows for page in ("change", "history")
    ]


@pytest.mark.parametrize("moment", TIMES)
def test_no_time_that_a_column_can_hold_breaks_a_page(moment: str) -> None:
    write_one_of_each("gram-1", moment)
    client = a_client("change_organization")

    answers = {url: client.get(url).status_code for url in pages("gram-1")}

    assert set(answers.values()) == {200}, answers
    year = 9999 if moment[0] in "i19" else 1
    assert {row.created_at.year for row in Organization.objects.all()} == {year}


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_that_a_column_can_hold_breaks_a_page(text: str) -> None:
    write_one_of_each(text)
    client = a_client("change_organization")

    answers = {url: client.get(url) for url in pages(text)}

    statuses = {url: answer.status_code for url, answer in answers.items()}
    assert set(statuses.values()) == {200}, statuses
    for answer in answers.values():
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", answer.content.decode())
    if text == CONTROL:
        assert all(SHOWN in answers[url].content.decode() for url in pages(text)[1:5])


def test_megabytes_are_cut_in_lists_and_shown_as_such() -> None:
    write_one_of_each("a")
    long = "é" * 1_000_000
    Organization.objects.update(name=long)
    WorkOSEvent.objects.update(error=long, payload=long)
    client = a_client("change_organization")

    answers = [client.get(url) for url in pages("a")]

    assert {answer.status_code for answer in answers} == {200}
    assert all(len(answer.content) < 60_000 for answer in answers[1:5])
    assert "… (1000000 characters)" in answers[1].content.decode()


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


@pytest.mark.parametrize("table", [*LISTS, CURSOR, MEMBERSHIPS])
@pytest.mark.parametrize(
    "rest",
    [
        *("%00/change/", "%00/history/", "%00/delete/", "%00/", "%ED%A0%80/change/"),
        *("?q=%00", "?q=%ED%A0%80", "?q=%22", "?outcome=%00", "?type=%00", "?linked=%00"),
        *("?state=%00", "?kind=%00", "?pk=%00", "?pk__regex=(", "?o=%00", "?p=%00", "?p=0"),
        *("?_to_field=%00", "?nonsense=1"),
    ],
)
def test_no_question_is_answered_500(table: str, rest: str, admin_client: Client) -> None:
    admin_client.raise_request_exception = False

    assert admin_client.get(table + rest).status_code < 500


@durable
@pytest.mark.parametrize("ids", [["\x00"], ["event_nowhere"], [], [""], ["x" * 10_000]])
@pytest.mark.parametrize("name", ["replay", "dismiss"])
def test_no_ticked_row_or_button_is_answered_500(
    name: str, ids: list[str], admin_client: Client
) -> None:
    admin_client.raise_request_exception = False

    answers: list[Response] = [
        carry_out(admin_client, EVENTS, name, *ids, from_row=from_row) for from_row in (True, False)
    ]

    assert [answer.status_code for answer in answers] == [200] * 2
