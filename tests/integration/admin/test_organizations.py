"""An organization's page: what can be edited, its state, and its history."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, LiteralString

import pytest
from django.db.models.functions import Now

from orgs.admin import OrganizationAdmin
from orgs.models import Organization
from tests.admin_pages import (
    CONFLICTS,
    EVENTS,
    ORGANIZATIONS,
    Response,
    a_client,
    a_conflict,
    a_ledger_row,
    a_parked_event,
    a_write_back,
    carry_out,
    durable,
    form_of,
    page_of,
    read,
    said,
    text_of,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes
from tests.concurrency import another_program

pytestmark = pytest.mark.django_db


def save(
    row: Organization, posted: dict[str, str], before: Callable[[], object] = lambda: None
) -> Response:
    """What follows on saving the page, of which ``posted`` was changed and ``before`` happened."""
    client = a_client("change_organization")
    fields = form_of(client.get(page_of(row)))
    before()
    return client.post(page_of(row), {**fields, **posted}, follow=True)


OF_WORKOS = {"name": "Mine", "workos_id": "org_2", "disabled_at": "2026-01-01"}


@pytest.mark.parametrize(
    ("posted", "written"),
    [
        ({"gram_account_type": "pro"}, {"gram_account_type": "pro"}),
        ({}, {}),
        ({"slug": "new", **OF_WORKOS}, {"slug": "new"}),
    ],
    ids=["changed", "nothing", "what WorkOS owns"],
)
def test_saving_writes_what_was_changed(posted: dict[str, str], written: dict[str, str]) -> None:
    row = an_organization_row("gram-1", workos_id="org_1", updated_at=NOON)
    # What another program writes while the page is shown survives.
    save(row, posted, lambda: Organization.objects.update(whitelisted=False))

    before: dict[str, Any] = {**vars(row), "whitelisted": False}
    after: dict[str, Any] = dict(Organization.objects.values().get())
    changed = {name: after[name] for name in after if after[name] != before[name]}
    assert bool(changed.pop("updated_at", None)) == bool(written)
    assert changed == written


@durable
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        pytest.param("UPDATE organization_metadata SET name = 'Renamed'", "", id="renames"),
        pytest.param(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-2', 'Other', 'new')",
            "organization_metadata_slug_key",
            id="takes the slug",
        ),
        pytest.param("DELETE FROM organization_metadata", "did not affect any rows", id="deletes"),
    ],
)
def test_a_save_that_another_program_was_quicker_than_takes_nothing_back(
    statement: LiteralString, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = an_organization_row("gram-1")
    save_model = OrganizationAdmin.save_model

    def be_late(*arguments: Any) -> None:
        with another_program() as elsewhere:
            elsewhere.execute(statement)
        save_model(*arguments)

    monkeypatch.setattr(OrganizationAdmin, "save_model", be_late)
    response = save(row, {"slug": "new"})

    level, text = said(response)[0]
    assert response.status_code == 200
    if error:
        assert (level, text[:11]) == ("error", "Not saved: ")
        assert error in text
    else:
        row.refresh_from_db()
        assert (row.name, row.slug) == ("Renamed", "new")


LINKED = {"workos_id": "org_1"}
DISABLED, DELETED = {"disabled_at": NOON}, {"disabled_at": NOON, "workos_deleted_at": NOON}
FAILING = {"last_error": "<503>", "attempts": 7, "requested_at": NOON}
AT = "2026-01-15 12:00:00 UTC"


#: What a page begins with, by the row's columns and its write-back's.
STATES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "Enabled": (LINKED, None),
    "No write-back waits: WorkOS knows the id": (LINKED, None),
    "Not linked to WorkOS": ({}, None),
    f"Disabled at {AT}": (DISABLED, None),
    f"Disabled here at {AT}; it lives in WorkOS": (LINKED | DISABLED, None),
    f"Deleted in WorkOS at {AT}": (LINKED | DELETED, None),
    f"Write-back pending since {AT}, attempts 7: &lt;503&gt;": (LINKED, FAILING),
    "Write-back in conflict since": (LINKED, {"next_attempt_at": None}),
}


@pytest.mark.parametrize("state", STATES)
def test_a_page_begins_with_the_state(state: str) -> None:
    columns, write_back = STATES[state]
    row = an_organization_row("gram-1", **columns)
    if write_back:
        a_write_back(row, **write_back)

    page = text_of(read(a_client(), page_of(row)))

    assert page.index(state) < page.index("Owned by Gram")


@durable
def test_a_page_says_who_disabled_the_row_here() -> None:
    row = an_organization_row("gram-1", workos_id="org_1")
    client = a_client("disable_organization", "enable_organization")

    def state() -> str:
        return text_of(read(client, page_of(row)))

    carry_out(client, ORGANIZATIONS, "disable", "gram-1")
    assert re.search(r"Disabled here at [-0-9]+ [:0-9]+ UTC by staff; it lives in", state())

    carry_out(client, ORGANIZATIONS, "enable", "gram-1")
    Organization.objects.update(disabled_at=Now())
    assert " by staff" not in state()

    carry_out(client, ORGANIZATIONS, "enable", "gram-1")
    carry_out(client, ORGANIZATIONS, "disable", "gram-1")
    Organization.objects.update(disabled_at=Now() + timedelta(hours=1))
    assert " by staff" not in state()


@pytest.mark.parametrize(
    ("environment", "workos_id", "link"),
    [
        ("environment_01", "org_1", "environment_01/organizations/org_1"),
        ("a/../b", "org/1?a", "a%2F..%2Fb/organizations/org%2F1%3Fa"),
        ("environment_01", None, None),
        ("", "org_1", None),
    ],
)
def test_the_state_links_to_workoss_dashboard(
    environment: str, workos_id: str | None, link: str | None, sync_setting: Any
) -> None:
    sync_setting(ENVIRONMENT_ID=environment)
    row = an_organization_row("gram-1", workos_id=workos_id)

    page = read(a_client(), page_of(row))

    expected = f'<a href="https://dashboard.workos.com/{link}" rel="noreferrer">'
    assert (expected in page) == ("dashboard.workos.com" in page) == bool(link)


def test_a_page_links_to_what_a_person_has_to_decide_and_to_the_events() -> None:
    row = an_organization_row("gram&1", workos_id="org_2")
    client = a_client()
    before = read(client, page_of(row))
    a_ledger_row("event_1", organization_id="gram&1", occurred_at=NOON - minutes(1))
    parked = a_parked_event("event_2", workos_organization_id="org_2")
    an_announcement("event_3", workos_id="org_2")
    a_ledger_row("event_4", workos_organization_id="org_3", organization_id="gram-3")
    conflict = a_conflict("org_2", reason="<why>")
    a_conflict("org_3", organization_id="gram-3")

    response = client.get(page_of(row))
    blind = read(a_client(sees="organization"), page_of(row))

    page = response.content.decode()
    assert "The ledger knows no event about it." in before
    assert [event.pk for event in response.context["history"]] == ["event_3", "event_2", "event_1"]
    assert f'<a href="{page_of(parked)}">An event is parked</a></strong>: data.name is wr' in page
    assert f'<a href="{page_of(parked)}" title="event_2">organization.updated</a>' in page
    assert f'<a href="{page_of(conflict)}">In conflict</a></strong>: &lt;why&gt;' in page
    assert page.count("In conflict") == 1
    assert "<td>not read yet</td>" in page
    assert f'<a href="{EVENTS}?q=gram%261">' in page
    assert not [url for url in (EVENTS, CONFLICTS) if url in blind]
