"""Every action: who may take it, that it asks first, what it says, and what it leaves behind."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django_q.models import OrmQ

from orgs.domain.types import ConflictKind
from orgs.models import (
    ExternalIdWriteBack,
    Organization,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)
from orgs.services.queue import RECONCILE, SYNC_EVENTS
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    CONFLICTS,
    CURSOR,
    EVENTS,
    ORGANIZATIONS,
    OUTBOX,
    a_client,
    a_conflict,
    a_parked_event,
    a_write_back,
    asks,
    carry_out,
    choose,
    confirm,
    durable,
    fields_of,
    page_of,
    read,
    said,
)
from tests.builders import NOON, an_organization_row
from tests.concurrency import another_program

pytestmark = pytest.mark.django_db

#: Table, action, the row that it is about, the right permission.
ON_ROWS = [
    pytest.param(ORGANIZATIONS, "reconcile", "gram-3", "reconcile_organization", id="reconcile"),
    pytest.param(ORGANIZATIONS, "disable", "gram-1", "disable_organization", id="disable"),
    pytest.param(ORGANIZATIONS, "enable", "gram-2", "enable_organization", id="enable"),
    pytest.param(EVENTS, "replay", "event_1", "replay_workosevent", id="replay"),
    pytest.param(EVENTS, "dismiss", "event_1", "dismiss_workosevent", id="dismiss"),
    pytest.param(OUTBOX, "retry", "gram-1", "retry_externalidwriteback", id="retry"),
    pytest.param(CONFLICTS, "recheck", "org_3", "recheck_workosconflict", id="recheck"),
    pytest.param(CONFLICTS, "overwrite", "org_2", "overwrite_workosconflict", id="overwrite"),
    pytest.param(CONFLICTS, "relink", "org_1", "relink_workosconflict", id="relink"),
    pytest.param(CONFLICTS, "acknowledge", "org_1", "acknowledge_workosconflict", id="keep"),
]

#: The page of an action about no row in particular, and its permission.
WITH_PAGES = [
    pytest.param(CURSOR, "drain/", "drain_synccursor", id="drain"),
    pytest.param(CURSOR, "snapshot/", "snapshot_synccursor", id="snapshot"),
    pytest.param(EVENTS, "replay-all/", "replay_workosevent", id="replay all"),
]

PERMISSIONS = sorted({str(each.values[-1]) for each in (*ON_ROWS, *WITH_PAGES)})


@pytest.fixture
def rows(workos: FakeWorkOS) -> FakeWorkOS:
    """A row for each action to be about, none of which is as it should be."""
    workos.create_organization(id="org_1", name="There", external_id="gram-1")
    workos.create_organization(id="org_2", name="Two", external_id="theirs")
    workos.create_organization(id="org_3", name="New", external_id="gram-3")
    a_write_back(an_organization_row("gram-1", name="Here", workos_id="org_0"), attempts=3)
    an_organization_row("gram-2", name="Two", workos_id="org_2", disabled_at=NOON)
    an_organization_row("gram-3", name="Old", workos_id="org_3")
    a_parked_event(workos_organization_id="org_3")
    a_conflict("org_1", kind=ConflictKind.ROW_CLAIMED, organization_id="gram-1")
    a_conflict("org_2", organization_id="gram-2")
    a_conflict("org_3", organization_id="gram-3")
    SyncCursor.objects.create(stream="organizations")
    return workos


def state() -> list[Any]:
    return [
        *Organization.objects.order_by("id").values_list("name", "workos_id", "disabled_at"),
        *ExternalIdWriteBack.objects.values_list("next_attempt_at", "attempts"),
        *WorkOSEvent.objects.values_list("outcome", "error"),
        *WorkOSConflict.objects.order_by("pk").values_list("pk", "acknowledged_at"),
        OrmQ.objects.count(),
    ]


def posted(action: str, *ids: str, **more: str) -> dict[str, Any]:
    """An action confirmed without a look at the page that asks."""
    ticked = {"action": f"{action}_selected", "_selected_action": ids, "confirmed": "yes"}
    return {**ticked, **more}


# Who may, and how ---------------------------------------------------------------------------


@durable
@pytest.mark.parametrize(("table", "action", "id_", "permission"), ON_ROWS)
def test_an_action_takes_its_permission_a_look_a_login_and_the_pages_token(
    table: str, action: str, id_: str, permission: str, rows: FakeWorkOS
) -> None:
    before, sure = state(), posted(action, id_)
    others = [other for other in PERMISSIONS if other != permission]

    client = a_client("change_organization", *others)
    shown = read(client, table) + read(client, f"{table}{quote(id_)}/change/")
    refused = client.post(table, sure, follow=True)
    blind = a_client(permission, sees="nothing").post(table, sure)
    forged = a_client(permission, enforce_csrf_checks=True).post(table, sure)
    stranger = Client().post(table, sure)

    assert f'value="{action}_selected"' not in shown
    # Where there is no other action, there is nothing to choose.
    assert said(refused) == [("warning", "No action selected.")] * (table != OUTBOX)
    assert (blind.status_code, forged.status_code) == (403, 403)
    assert stranger.headers["Location"].startswith("/admin/login/")
    assert state() == before
    assert rows.count_requests(method=None) == 0


@durable
@pytest.mark.parametrize(("table", "page", "permission"), WITH_PAGES)
def test_an_action_with_a_page_takes_the_same(
    table: str, page: str, permission: str, rows: FakeWorkOS
) -> None:
    before, sure = state(), {"confirmed": "yes"}
    url, others = table + page, [other for other in PERMISSIONS if other != permission]

    for permissions, sees in ((others, ""), ([permission], "nothing")):
        client = a_client(*permissions, sees=sees)
        assert (client.get(url).status_code, client.post(url, sure).status_code) == (403, 403)
    forged = a_client(permission, enforce_csrf_checks=True).post(url, sure)
    stranger = Client().post(url, sure)

    assert forged.status_code == 403
    assert stranger.headers["Location"].startswith("/admin/login/")
    assert state() == before
    assert rows.count_requests(method=None) == 0


@durable
@pytest.mark.parametrize(("table", "action", "id_", "permission"), ON_ROWS)
@pytest.mark.parametrize("from_row", [True, False], ids=["button", "list"])
def test_an_action_is_offered_asks_and_then_does(
    table: str, action: str, id_: str, permission: str, from_row: bool, rows: FakeWorkOS
) -> None:
    client = a_client(permission)
    before, page = state(), f"{table}{quote(id_)}/change/"
    back = page if from_row else table

    shown = read(client, back)
    question = choose(client, table, action, id_, from_row=from_row)
    asked = state()
    answer = confirm(client, question)

    assert f'value="{action}_selected"' in shown
    assert asks(question)
    assert f'<a href="{back}" class="closelink">' in question.content.decode()
    assert asked == before
    assert state() != before
    assert {level for level, _ in said(answer)} <= {"success", "warning"}
    entries = LogEntry.objects.filter(object_id=id_)
    assert {entry.user.get_username() for entry in entries} == {"staff"}
    assert answer.redirect_chain[0] == (back, 302)


@durable
@pytest.mark.parametrize(("table", "page", "permission"), WITH_PAGES)
def test_an_action_with_a_page_is_offered_asks_and_then_does(
    table: str, page: str, permission: str, rows: FakeWorkOS
) -> None:
    client = a_client(permission, enforce_csrf_checks=True)
    before = state()

    listing = read(client, table)
    question = client.get(table + page)
    asked = state()
    answer = client.post(table + page, fields_of(question), follow=True)

    pages = [str(each.values[1]) for each in WITH_PAGES]
    assert [each for each in pages if f'href="{table}{each}"' in listing] == [page]
    assert asks(question)
    assert asked == before
    assert state() != before
    assert answer.redirect_chain == [(table, 302)]
    assert [level for level, _ in said(answer)] == ["success"]
    assert LogEntry.objects.get().object_id == ("event_1" if table == EVENTS else "organizations")
    if table == CURSOR:
        task = {"drain/": SYNC_EVENTS, "snapshot/": RECONCILE}[page]
        assert [queued.task["func"] for queued in OrmQ.objects.all()] == [task]


@pytest.mark.parametrize("name", ["drain", "snapshot"])
def test_the_pages_of_earlier_releases_still_work(name: str) -> None:
    assert a_client(f"{name}_synccursor").get(f"{CURSOR}ring/{name}/").status_code == 200


# What it says -------------------------------------------------------------------------------


@durable
def test_the_page_that_asks_says_what_will_happen_to_each_row() -> None:
    an_organization_row("gram-1", name="One <b>")
    an_organization_row("gram-2", name="Two", disabled_at=NOON)
    client = a_client("disable_organization")

    question = choose(client, ORGANIZATIONS, "disable", "gram-1", "gram-2", "gram-3")
    answer = confirm(client, question)

    page = question.content.decode()
    assert "<h1>Disable here: 3 organizations</h1>" in page
    assert "Sets disabled_at to now." in page
    assert "One &lt;b&gt;</a></th><td>Enabled</td>" in page
    assert "<td>Disabled since 2026-01-15 12:00:00 UTC: nothing happens</td>" in page
    assert '<th scope="row">gram-3</th><td>Not there: nothing happens</td>' in page
    assert said(answer) == [
        ("success", "Disabled: gram-1"),
        ("info", "Nothing to do: gram-2, gram-3"),
    ]
    assert {entry.object_id: entry.change_message for entry in LogEntry.objects.all()} == {
        "gram-1": "Disabled"
    }


@durable
def test_where_there_is_nothing_to_do_there_is_nothing_to_confirm() -> None:
    an_organization_row("gram-1")

    question = choose(a_client("enable_organization"), ORGANIZATIONS, "enable", "gram-1", "gram-2")

    page = question.content.decode()
    assert "<td>Enabled: nothing happens</td>" in page
    assert "<td>Not there: nothing happens</td>" in page
    assert 'value="Yes: ' not in page


@durable
def test_the_ticked_rows_alone_are_acted_on_and_many_are_counted() -> None:
    ids = [f"event_{number}" for number in range(8)]
    for id_ in [*ids, "event_8"]:
        a_parked_event(id_)
    client = a_client("dismiss_workosevent")

    answer = client.post(EVENTS, posted("dismiss", *ids, select_across="1"), follow=True)

    assert said(answer) == [("success", f"Dismissed: {', '.join(ids[:5])} and 3 more")]
    assert LogEntry.objects.count() == 8
    assert [event.pk for event in WorkOSEvent.objects.parked()] == ["event_8"]


@durable
def test_a_button_leads_back_to_the_row_and_keeps_the_lists_filters() -> None:
    event = a_parked_event("event:1/2")
    client = a_client("dismiss_workosevent")

    response = client.post(f"{EVENTS}?outcome=parked", posted("dismiss", event.pk, from_row="yes"))

    kept = "?_changelist_filters=outcome%3Dparked"
    assert response.headers["Location"] == page_of(event) + kept
    assert "Dismissed" in read(client, page_of(event, "history"))


@durable
@pytest.mark.parametrize(("table", "action", "id_", "permission"), ON_ROWS)
def test_an_error_of_the_database_is_said(
    table: str, action: str, id_: str, permission: str, rows: FakeWorkOS, sync_setting: Any
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    client = a_client(permission)
    question = choose(client, table, action, id_)

    with another_program() as elsewhere:
        for locked in (Organization, ExternalIdWriteBack, WorkOSEvent, WorkOSConflict):
            elsewhere.execute(f"SELECT FROM {locked._meta.db_table} FOR UPDATE")
        answer = confirm(client, question)

    assert "error" in [level for level, _ in said(answer)]
    assert not LogEntry.objects.filter(change_message__contains="abled").exists()


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
        ("success", "Disabled: gram-1"),
    ]


def test_a_task_that_could_not_be_enqueued_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr("orgs.services.queue.async_task", full)

    answer = a_client("drain_synccursor").post(f"{CURSOR}drain/", {"confirmed": "yes"}, follow=True)

    assert [level for level, _ in said(answer)] == ["error"]
    assert not LogEntry.objects.exists()
