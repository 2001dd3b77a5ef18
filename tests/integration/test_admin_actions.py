"""An organization's page, and the actions on organizations and write-backs: they ask first."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django_q.models import OrmQ

from orgs.domain.types import (
    Outcome,
)
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    ORGANIZATIONS,
    OUTBOX,
    VIEW,
    a_client,
    a_ledger_row,
    a_write_back,
    asks,
    carry_out,
    choose,
    confirm,
    durable,
    page_of,
    said,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes
from tests.concurrency import another_program

pytestmark = pytest.mark.django_db

#: Action, its permission, its table.
ACTIONS = [
    pytest.param("reconcile", "reconcile_organization", ORGANIZATIONS, id="reconcile"),
    pytest.param("disable", "disable_organization", ORGANIZATIONS, id="disable"),
    pytest.param("enable", "enable_organization", ORGANIZATIONS, id="enable"),
    pytest.param("retry", "retry_externalidwriteback", OUTBOX, id="retry"),
]
PERMISSIONS = [action.values[1] for action in ACTIONS]


def others_than(permission: str) -> list[str]:
    return [str(other) for other in PERMISSIONS if other != permission]


@pytest.fixture
def rows(workos: FakeWorkOS) -> FakeWorkOS:
    """A row for each action to be about, none of which is as it should be."""
    workos.create_organization(id="org_1", name="There", external_id="gram-1")
    linked = an_organization_row("gram-1", name="Here", workos_id="org_1")
    a_write_back(linked, next_attempt_at=None, attempts=3)
    return workos


def state() -> list[Any]:
    return [
        *Organization.objects.values_list("name", "disabled_at"),
        *ExternalIdWriteBack.objects.values_list("next_attempt_at", "attempts"),
    ]


# Who may ------------------------------------------------------------------------------------


@durable
@pytest.mark.parametrize(("action", "permission", "table"), ACTIONS)
def test_without_its_own_permission_an_action_is_neither_offered_nor_done(
    action: str, permission: str, table: str, rows: FakeWorkOS
) -> None:
    client = a_client("change_organization", *others_than(permission))
    before = state()

    listing = client.get(table).content.decode()
    page = client.get(f"{table}gram-1/change/").content.decode()
    answer = client.post(
        table,
        {"action": f"{action}_selected", "_selected_action": "gram-1", "confirmed": "yes"},
        follow=True,
    )

    assert f"{action}_selected" not in listing + page
    # On the outbox there is no other action, and so nothing to choose.
    assert said(answer) == [("warning", "No action selected.")] * (table == ORGANIZATIONS)
    assert state() == before
    assert rows.count_requests() == 0


@durable
@pytest.mark.parametrize(("action", "permission", "table"), ACTIONS)
def test_with_its_permission_an_action_is_offered_and_asks_before_it_does(
    action: str, permission: str, table: str, rows: FakeWorkOS
) -> None:
    if action == "enable":
        Organization.objects.update(disabled_at=NOON)
    client = a_client(permission)
    before = state()

    listing = client.get(table).content.decode()
    page = client.get(f"{table}gram-1/change/").content.decode()
    question = choose(client, table, action, "gram-1")
    asked = state()
    answer = confirm(client, question)

    assert f'value="{action}_selected"' in listing
    assert f'value="{action}_selected"' in page
    assert asks(question)
    assert asked == before
    assert state() != before
    assert "error" not in [level for level, _ in said(answer)]
    (entry,) = LogEntry.objects.all()
    assert (entry.user.get_username(), entry.object_id) == ("staff", "gram-1")


@durable
@pytest.mark.parametrize(("action", "permission", "table"), ACTIONS)
def test_an_action_is_not_done_by_who_may_not_look(
    action: str, permission: str, table: str, rows: FakeWorkOS
) -> None:
    client = a_client(permission)
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename__in=VIEW))
    before = state()

    response = carry_out(client, table, action, "gram-1")

    assert response.status_code == 403
    assert state() == before


@durable
@pytest.mark.parametrize(("action", "permission", "table"), ACTIONS)
def test_a_yes_without_the_pages_token_is_refused(
    action: str, permission: str, table: str, rows: FakeWorkOS
) -> None:
    client = a_client(permission, enforce_csrf_checks=True)
    before = state()

    response = client.post(
        table, {"action": f"{action}_selected", "_selected_action": "gram-1", "confirmed": "yes"}
    )

    assert response.status_code == 403
    assert state() == before


# Disabling and enabling ---------------------------------------------------------------------


@durable
def test_disabling_says_what_will_happen_to_each_row_and_then_what_did() -> None:
    an_organization_row("gram-1", name="One <b>")
    an_organization_row("gram-2", name="Two", disabled_at=NOON)
    client = a_client("disable_organization")

    question = choose(client, ORGANIZATIONS, "disable", "gram-1", "gram-2", "gram-3")
    answer = confirm(client, question)

    page = question.content.decode()
    assert "<h1>Disable here: 3 organizations</h1>" in page
    assert "One &lt;b&gt;</a></th><td>Enabled; will be disabled.</td>" in page
    assert "Disabled since 2026-01-15 12:00; nothing happens." in page
    assert "Not there any more: nothing happens." in page
    assert said(answer) == [("success", "Disabled: 1"), ("info", "There was nothing to do for: 2")]
    assert {entry.object_id: entry.change_message for entry in LogEntry.objects.all()} == {
        "gram-1": "Disabled here"
    }


@durable
def test_what_was_done_and_cant_be_kept_in_the_history_is_said() -> None:
    organization = an_organization_row("gram-1")
    client = a_client("disable_organization")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_admin_log RENAME TO gone")
        try:
            answer = carry_out(client, ORGANIZATIONS, "disable", "gram-1")
        finally:
            cursor.execute("ALTER TABLE gone RENAME TO django_admin_log")

    organization.refresh_from_db()
    assert organization.disabled_at is not None
    assert said(answer) == [
        ("warning", "Done, but it could not be kept in the history: gram-1"),
        ("success", "Disabled: 1"),
    ]


@durable
def test_an_organization_is_disabled_and_enabled_from_its_own_page() -> None:
    organization = an_organization_row("gram/1")
    client = a_client("disable_organization", "enable_organization")

    enabled = client.get(page_of(organization)).content.decode()
    answer = carry_out(client, ORGANIZATIONS, "disable", "gram/1", from_row=True)
    disabled = answer.content.decode()
    back = carry_out(client, ORGANIZATIONS, "enable", "gram/1", from_row=True)

    assert ("disable_selected" in enabled, "enable_selected" in enabled) == (True, False)
    assert ("disable_selected" in disabled, "enable_selected" in disabled) == (False, True)
    assert answer.redirect_chain == back.redirect_chain == [(page_of(organization), 302)]
    assert said(back) == [("success", "Enabled: 1")]
    organization.refresh_from_db()
    assert organization.disabled_at is None


@durable
@pytest.mark.parametrize(("action", "permission", "table"), ACTIONS)
def test_trouble_with_the_database_is_said(
    action: str, permission: str, table: str, rows: FakeWorkOS, sync_setting: Any
) -> None:
    if action == "enable":
        Organization.objects.update(disabled_at=NOON)
    sync_setting(LOCK_TIMEOUT=0.05)
    client = a_client(permission)
    question = choose(client, table, action, "gram-1")

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        rival.execute("SELECT FROM workos_external_id_write_back FOR UPDATE")
        answer = confirm(client, question)

    assert answer.status_code == 200
    assert said(answer)[0][0] == "error"
    assert not LogEntry.objects.filter(change_message__contains="abled").exists()


# Reconciling --------------------------------------------------------------------------------


@durable
def test_what_reconciling_will_do_is_found_out_without_doing_it(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="There", external_id="gram-1")
    workos.create_organization(id="org_2", name="Same", external_id="gram-2")
    an_organization_row("gram-1", name="Here", workos_id="org_1")
    an_organization_row("gram-2", name="Same", workos_id="org_2")
    an_organization_row("gram-3", name="Gone", workos_id="org_gone")
    client = a_client("reconcile_organization")

    question = choose(client, ORGANIZATIONS, "reconcile", "gram-1", "gram-2", "gram-3")

    page = question.content.decode()
    assert "<h1>Reconcile with WorkOS: 3 organizations</h1>" in page
    assert "updated gram-1 (org_1): name: &quot;Here&quot; → &quot;There&quot;" in page
    assert "In sync with WorkOS: nothing happens." in page
    assert "disabled gram-3 (org_gone)" in page
    assert Organization.objects.get(id="gram-1").name == "Here"
    assert not Organization.objects.disabled().exists()


@durable
def test_where_nothing_differs_reconciling_asks_nothing(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="Same", external_id="gram-1")
    an_organization_row("gram-1", name="Same", workos_id="org_1")

    response = choose(a_client("reconcile_organization"), ORGANIZATIONS, "reconcile", "gram-1")

    assert said(response) == [("info", "In sync with WorkOS: 1")]


@durable
def test_another_row_that_a_reconcile_tells_of_is_not_chosen_with_it(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(id="org_heir", name="Heir", external_id="gram-1")
    an_organization_row("gram-1", name="Acme", workos_id="org_gone")
    an_organization_row("gram-2", name="Old", workos_id="org_heir")
    client = a_client("reconcile_organization")

    question = choose(client, ORGANIZATIONS, "reconcile", "gram-1", from_row=True)
    answer = confirm(client, question)

    page = question.content.decode()
    assert "<h1>Reconcile with WorkOS: 1 organization</h1>" in page
    assert page.count('name="_selected_action"') == 1
    assert '<th scope="row">gram-2</th><td>conflict gram-2 (org_heir)' in page
    assert answer.redirect_chain == [(f"{ORGANIZATIONS}gram-1/change/", 302)]
    assert [row.id for row in Organization.objects.disabled()] == ["gram-1"]


# Retrying write-backs -----------------------------------------------------------------------


@durable
def test_retrying_says_why_it_waits_and_rings_the_worker() -> None:
    a_write_back(
        an_organization_row("gram-1", workos_id="org_1"), next_attempt_at=None, last_error="taken"
    )
    a_write_back(an_organization_row("gram-2", workos_id="org_2"))
    client = a_client("retry_externalidwriteback")

    question = choose(client, OUTBOX, "retry", "gram-1", "gram-2", "gram-3")
    unrung = OrmQ.objects.count()
    answer = confirm(client, question)

    page = question.content.decode()
    assert "<h1>Try again now: 3 external_id write-backs</h1>" in page
    assert "gram-1 → org_1</a></th><td>In conflict: taken</td>" in page
    assert "gram-2 → org_2</a></th><td>Waiting</td>" in page
    assert "Not waiting any more: nothing happens." in page
    assert said(answer) == [
        ("success", "The worker tries them now: 2"),
        ("info", "Not waiting any more: 1"),
    ]
    assert (unrung, OrmQ.objects.count()) == (0, 1)
    assert ExternalIdWriteBack.objects.due().count() == 2
    assert LogEntry.objects.count() == 2


# An organization's story --------------------------------------------------------------------


def story_of(client: Client, organization: Organization) -> Sequence[str]:
    return [event.pk for event in client.get(page_of(organization)).context["story"]]


def test_a_story_has_the_events_that_were_applied_and_those_that_were_not() -> None:
    organization = an_organization_row("gram-1", workos_id="org_2")
    a_ledger_row("event_1", workos_organization_id="org_1", organization_id="gram-1")
    a_ledger_row(
        "event_2",
        workos_organization_id="org_2",
        outcome=Outcome.STALE,
        occurred_at=NOON + minutes(1),
    )
    an_announcement("event_3", workos_id="org_2")
    a_ledger_row("event_4", workos_organization_id="org_3", organization_id="gram-3")
    client = a_client()

    assert story_of(client, organization) == ["event_3", "event_2", "event_1"]
    page = client.get(page_of(organization)).content.decode()
    link = page_of(WorkOSEvent.objects.get(pk="event_2"))
    assert f'<a href="{link}" title="event_2">organization.updated</a>' in page
    assert "<td>stale</td>" in page
    assert "<td>not read yet</td>" in page


def test_the_story_of_one_that_is_not_linked_is_its_own() -> None:
    organization = an_organization_row("gram-1")
    a_ledger_row("event_1", workos_organization_id=None)

    client = a_client()

    assert story_of(client, organization) == []
    page = client.get(page_of(organization)).content.decode()
    assert "The ledger knows no event about it." in page


def test_who_may_not_look_at_events_reads_no_story() -> None:
    organization = an_organization_row("gram-1", workos_id="org_1")
    a_ledger_row("event_1")
    client = a_client()
    User.objects.get().user_permissions.remove(Permission.objects.get(codename="view_workosevent"))

    page = client.get(page_of(organization)).content.decode()

    assert "event_1" not in page


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        pytest.param(
            {"last_error": "<503>", "attempts": 7, "requested_at": NOON},
            "pending</a> since 2026-01-15 12:00:00, attempts 7: &lt;503&gt;",
            id="failing",
        ),
        pytest.param(
            {"requested_at": NOON},
            "pending</a> since 2026-01-15 12:00:00, attempts 0<",
            id="not tried yet",
        ),
        pytest.param({"next_attempt_at": None}, "conflict</a> since", id="conflict"),
        pytest.param(None, "Nothing waits: WorkOS knows the id.", id="none"),
    ],
)
def test_a_story_tells_of_the_write_back(columns: dict[str, Any] | None, told: str) -> None:
    organization = an_organization_row("gram-1", workos_id="org_1")
    if columns is not None:
        a_write_back(organization, **columns)

    assert told in a_client().get(page_of(organization)).content.decode()


@pytest.mark.parametrize(
    ("environment", "workos_id", "link"),
    [
        pytest.param(
            "environment_01",
            "org_1",
            "https://dashboard.workos.com/environment_01/organizations/org_1",
            id="linked",
        ),
        pytest.param(
            "a/../b",
            "org/1?a",
            "https://dashboard.workos.com/a%2F..%2Fb/organizations/org%2F1%3Fa",
            id="odd ids",
        ),
        pytest.param("environment_01", None, None, id="not linked"),
        pytest.param("", "org_1", None, id="environment not known"),
    ],
)
def test_a_story_links_to_workoss_dashboard(
    environment: str, workos_id: str | None, link: str | None, sync_setting: Any
) -> None:
    sync_setting(ENVIRONMENT_ID=environment)
    organization = an_organization_row("gram-1", workos_id=workos_id)

    page = a_client().get(page_of(organization)).content.decode()

    assert (f'<a href="{link}" rel="noreferrer">' in page) == (link is not None)
    assert ("dashboard.workos.com" in page) == (link is not None)
