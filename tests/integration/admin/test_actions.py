"""Every action: who may take it, that it asks first, what it says, and what it leaves behind."""

from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.test import Client
from django_q.models import OrmQ

from orgs.domain.types import ConflictKind
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.services.queue import DRY_RUN, RECONCILE, SYNC_EVENTS
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    CONFLICTS,
    CURSOR,
    EVENTS,
    ORGANIZATIONS,
    OUTBOX,
    a_client,
    a_conflict,
    a_ledger_row,
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
from tests.builders import NOON, an_organization_row, no_redis
from tests.concurrency import another_program
from tests.triggers import a_trigger, locked, renamed

pytestmark = durable

#: Table, action, and the row that it is about.
ON_ROWS = [
    (ORGANIZATIONS, "reconcile", "gram-3"),
    (ORGANIZATIONS, "disable", "gram-1"),
    (ORGANIZATIONS, "enable", "gram-2"),
    (EVENTS, "replay", "event_1"),
    (EVENTS, "dismiss", "event_1"),
    (OUTBOX, "retry", "gram-1"),
    (CONFLICTS, "recheck", "org_3"),
    (CONFLICTS, "overwrite", "org_2"),
    (CONFLICTS, "relink", "org_1"),
    (CONFLICTS, "acknowledge", "org_1"),
]

#: The page of an action about no row in particular, and its permission.
WITH_PAGES = [
    (CURSOR, "drain/", "drain_synccursor"),
    (CURSOR, "snapshot/", "snapshot_synccursor"),
    (CURSOR, "dry-run/", "snapshot_synccursor"),
    (EVENTS, "replay-all/", "replay_workosevent"),
]

TABLE = {action: table for table, action, _ in ON_ROWS}
PERMISSION = {action: f"{action}_{table.split('/')[-2]}" for action, table in TABLE.items()}
PERMISSIONS = {*PERMISSION.values(), *(permission for *_, permission in WITH_PAGES)}


@pytest.fixture
def rows(workos: FakeWorkOS) -> FakeWorkOS:
    """A row for each action to be about, none of which is as it should be."""
    workos.create_organization(id="org_1", name="There", external_id="gram-1")
    workos.create_organization(id="org_2", name="Two", external_id="theirs")
    workos.create_organization(id="org_3", name="New", external_id="gram-3")
    a_write_back(an_organization_row("gram-1", name="One <b>", workos_id="org_0"), last_error="503")
    an_organization_row("gram-2", name="Two", workos_id="org_2", disabled_at=NOON)
    an_organization_row("gram-3", name="Old", workos_id="org_3")
    a_parked_event("event_1", workos_organization_id="org_3")
    a_conflict("org_1", kind=ConflictKind.ROW_CLAIMED, organization_id="gram-1")
    a_conflict("org_2", organization_id="gram-2")
    a_conflict("org_3", organization_id="gram-3")
    SyncCursor.objects.create(stream="organizations")
    return workos


@pytest.fixture
def more_events(rows: FakeWorkOS) -> FakeWorkOS:
    a_parked_event("event_2", workos_organization_id="org_4")
    a_parked_event("event_3", workos_organization_id=None)
    a_ledger_row("event_4")
    return rows


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


def act(action: str, ids: str = "") -> list[tuple[str, str]]:
    """What is said after an action on these rows; on all, if the action has a page."""
    client = a_client(PERMISSION[action])
    if ids:
        return said(client.post(TABLE[action], posted(action, *ids.split()), follow=True))
    return said(client.post(f"{EVENTS}replay-all/", {"confirmed": "yes"}, follow=True))


# Who may, and how ---------------------------------------------------------------------------


#: Those with pages have no row.
ALL = [
    *((table, action, id_, PERMISSION[action]) for table, action, id_ in ON_ROWS),
    *((table, page, "", permission) for table, page, permission in WITH_PAGES),
]


@pytest.mark.parametrize(("table", "what", "id_", "permission"), ALL)
def test_an_action_takes_its_permission_a_look_a_login_and_the_pages_token(
    table: str, what: str, id_: str, permission: str, rows: FakeWorkOS
) -> None:
    before = state()
    url, sure = (table, posted(what, id_)) if id_ else (table + what, {"confirmed": "yes"})
    others = PERMISSIONS - {permission}

    client = a_client("change_organization", *others)
    shown = read(client, table) + (read(client, f"{table}{quote(id_)}/change/") if id_ else "")
    refused, looked = client.post(url, sure, follow=True), client.get(url)
    blind = a_client(permission, sees="nothing").post(url, sure)
    forged = a_client(permission, enforce_csrf_checks=True).post(url, sure)
    stranger = Client().post(url, sure)

    assert f'value="{what}_selected"' not in shown
    if not id_:
        assert refused.status_code == looked.status_code == 403
    elif table != OUTBOX:  # where there is no other action, there is nothing to choose
        assert said(refused) == [("warning", "No action selected.")]
    assert (blind.status_code, forged.status_code) == (403, 403)
    assert stranger.headers["Location"].startswith("/admin/login/")
    assert state() == before
    assert rows.count_requests(method=None) == 0


#: From the list of each table. What the other actions do from there is below.
ON_LISTS = [row for row in ON_ROWS if row[1] in ("enable", "dismiss", "retry", "relink")]


@pytest.mark.parametrize(
    ("table", "action", "id_", "from_row"),
    [
        *(pytest.param(*row, True, id=f"{row[1]} by a button") for row in ON_ROWS),
        *(pytest.param(*row, False, id=f"{row[1]} from the list") for row in ON_LISTS),
    ],
)
def test_an_action_is_offered_asks_and_then_does(
    table: str, action: str, id_: str, from_row: bool, rows: FakeWorkOS
) -> None:
    client = a_client(PERMISSION[action])
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


@pytest.mark.parametrize("key", ["gram\x1b5", "\r1\n2\u202e\x9b", "50%25 é'\"<&amp;>"])
@pytest.mark.parametrize("from_row", [True, False], ids=["button", "list"])
def test_a_row_with_any_key_can_be_acted_on(key: str, from_row: bool) -> None:
    row = an_organization_row(key)
    client = a_client("disable_organization")
    shown = client.get(page_of(row) if from_row else ORGANIZATIONS)

    ticked = fields_of(shown)["_selected_action"]
    answer = carry_out(client, ORGANIZATIONS, "disable", *ticked, from_row=from_row)

    assert [level for level, _ in said(answer)] == ["success"]
    assert Organization.objects.get().disabled_at is not None
    assert LogEntry.objects.get().object_id == key
    assert f'href="{page_of(row)}"' in unescape(read(client, ORGANIZATIONS))


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
    idle = client.get(table + page).content.decode()

    offered = [each for _, each, _ in WITH_PAGES if f'href="{table}{each}"' in listing]
    assert offered == ([page] if "snapshot" not in permission else ["snapshot/", "dry-run/"])
    assert asks(question)
    assert asked == before
    assert state() != before
    assert answer.redirect_chain == [(table, 302)]
    assert [level for level, _ in said(answer)] == ["success"]
    assert LogEntry.objects.get().object_id == ("event_1" if table == EVENTS else "organizations")
    if table == EVENTS:
        assert "Parked events: 1" in question.content.decode()
        assert "There is nothing to do" in idle
    if table == CURSOR:
        task = {"drain/": SYNC_EVENTS, "snapshot/": RECONCILE, "dry-run/": DRY_RUN}[page]
        assert [queued.task["func"] for queued in OrmQ.objects.all()] == [task]
        # The project saves no results but this one, which the status page shows.
        assert [queued.task.get("save") for queued in OrmQ.objects.all()] == [
            True if page == "dry-run/" else None
        ]
        # As in earlier releases.
        assert client.get(f"{table}ring/{page}").status_code == 200


# What it says -------------------------------------------------------------------------------


ASKED = {
    ("disable", "gram-1 gram-2 gram-9"): [
        "<h1>Disable here: 3 organizations</h1>",
        "Sets disabled_at to now.",
        "One &lt;b&gt;</a></th><td>Enabled</td>",
        "<td>Disabled since 2026-01-15 12:00:00 UTC: nothing happens</td>",
        '<th scope="row">gram-9</th><td>Not there: nothing happens</td>',
    ],
    ("replay", "event_1 event_4"): [
        "<td>Parked: data.name is wrong</td>",
        "<td>Not parked any more: nothing happens</td>",
    ],
    ("retry", "gram-1"): ["gram-1 → org_0</a></th><td>Waiting: 503</td>"],
    ("retry", "gram-1 gram-2"): ["<h1>Try again now: 2 write-backs of external_id</h1>"],
    ("overwrite", "org_2"): ["<td>other_external_id: WorkOS has theirs</td>"],
    ("reconcile", "gram-3 gram-9"): [
        "name: &quot;Old&quot; → &quot;New&quot;",
        "knows an organization gram-9",
    ],
    ("reconcile", "gram-2"): ["WorkOS has external_id"],
    ("enable", "gram-1 gram-9"): ["There is nothing to do", "<td>Enabled: nothing happens</td>"],
}


@pytest.mark.usefixtures("more_events")
@pytest.mark.parametrize(("action", "ids"), ASKED, ids=" ".join)
def test_the_page_that_asks_says_what_will_happen(action: str, ids: str) -> None:
    question = choose(a_client(PERMISSION[action]), TABLE[action], action, *ids.split())

    page = question.content.decode()
    assert [line for line in ASKED[action, ids] if line not in page] == []
    assert ("There is nothing to do" in page) != ('value="Yes: ' in page)


STILL_PARKED = "Still parked (It names no organization, so it can only be dismissed.): event_3"


@pytest.mark.usefixtures("more_events")
@pytest.mark.parametrize(
    ("action", "ids", "messages"),
    [
        ("disable", "gram-1 gram-2", ["Disabled: gram-1", "Nothing to do: gram-2"]),
        ("replay", "event_1", ["Applied what WorkOS says now (updated): event_1"]),
        ("replay", "event_3 event_4", [STILL_PARKED, "Nothing to do: event_4"]),
        ("dismiss", "event_1 event_4", ["Dismissed: event_1", "Nothing to do: event_4"]),
        ("dismiss", "\x1b[2J", ["Nothing to do: \\x1b[2J"]),
        ("retry", "gram-1 gram-2", ["Enqueued: gram-1", "Nothing to do: gram-2"]),
        ("reconcile", "gram-3", ['updated gram-3 (org_3): name: "Old" → "New"']),
        ("reconcile", "gram-9", ["Not done: gram-9: "]),
        ("recheck", "org_3", ['updated gram-3 (org_3): name: "Old" → "New"']),
        ("overwrite", "org_9", ["Not done: org_9 has no conflict any more"]),
        ("overwrite", "org_2", ['write_back gram-2 (org_2): external_id: "theirs" → "gram-2"']),
        ("acknowledge", "org_1 org_9", ["Kept as it is: org_1", "Nothing to do: org_9"]),
        ("acknowledge", "org_1 org_2", ["Kept as it is: org_1, org_2"]),
    ],
)
def test_an_action_says_what_became_of_each_row(action: str, ids: str, messages: list[str]) -> None:
    texts = [text for _, text in act(action, ids)]

    assert len(texts) == len(messages)
    assert all(text.startswith(start) for text, start in zip(texts, messages, strict=True)), texts
    done = " ".join(text for text in texts if not text.startswith(("Nothing to do", "Not done")))
    kept = set(LogEntry.objects.values_list("object_id", flat=True))
    assert kept == {id_ for id_ in ids.split() if id_ in done}


def test_the_ticked_rows_alone_are_acted_on_and_many_are_counted(more_events: FakeWorkOS) -> None:
    eight = [a_parked_event(f"event_{number}").pk for number in range(10, 18)]
    client = a_client("dismiss_workosevent")

    question = choose(client, EVENTS, "dismiss", *eight, "event_4").content.decode()
    answer = client.post(EVENTS, posted("dismiss", *eight, select_across="1"), follow=True)

    assert "<h1>Dismiss: 9 WorkOS events</h1>" in question
    assert '<th scope="row">8 WorkOS events</th><td>Parked: data.name is wrong</td>' in question
    assert "Not parked any more: nothing happens" in question
    assert "This can&#x27;t be undone." in question
    assert not [id_ for id_ in eight if f">{id_}<" in question]
    assert said(answer) == [("success", f"Dismissed: {', '.join(eight[:5])} and 3 more")]
    assert LogEntry.objects.count() == 8
    assert WorkOSEvent.objects.parked().count() == 3


def test_a_button_leads_back_to_the_row_and_keeps_the_lists_filters() -> None:
    event = a_parked_event("event:1/2")
    client = a_client("dismiss_workosevent")

    response = client.post(f"{EVENTS}?outcome=parked", posted("dismiss", event.pk, from_row="yes"))

    kept = "?_changelist_filters=outcome%3Dparked"
    assert response.headers["Location"] == page_of(event) + kept
    assert "Why it was parked" in read(client, page_of(event))
    assert "Dismissed" in read(client, page_of(event, "history"))


# Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["", "event_1 event_2 event_3 event_4 event_5"])
def test_errors_stop_no_other_event(ids: str, more_events: FakeWorkOS, sync_setting: Any) -> None:
    a_parked_event("event_5", workos_organization_id="org_5")
    more_events.create_organization(id="org_5", name="Five", external_id="gram-5")
    more_events.misbehave("status", path="/organizations/org_4", status=503, times=None)
    sync_setting(LOCK_TIMEOUT=0.05)

    with locked(where="id = 'gram-3'"):
        messages = act("replay", ids)

    assert ("success", "Applied what WorkOS says now (created): event_5") in messages
    assert ("warning", STILL_PARKED) in messages
    if ids:
        assert messages.pop() == ("info", "Nothing to do: event_4")
    assert [level for level, _ in messages[-2:]] == ["error", "error"]
    assert "Not all could be replayed: " in messages[-2][1]
    assert messages[-1][1] == "Left as they were: 2. Replay them again later"
    left = WorkOSEvent.objects.parked().values_list("pk", flat=True)
    assert {*left} == {"event_1", "event_2", "event_3"}


@pytest.mark.parametrize("status", [401, 429])
def test_an_error_of_all_stops_the_replay(status: int, more_events: FakeWorkOS) -> None:
    WorkOSEvent.objects.filter(pk="event_3").update(workos_organization_id="org_3")
    more_events.misbehave("status", path="/organizations", times=None, status=status)

    assert act("replay")[-1] == ("error", "Left as they were: 3. Replay them again later")
    assert more_events.count_requests(path="/organizations") == 1


def test_a_refusal_of_one_row_stops_no_other_and_shows_no_values(
    rows: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    a_parked_event("event_2")
    refusal = "RAISE 'it says no' USING DETAIL = 'Confidential';"
    with a_trigger(refusal, table="workos_event", when="NEW.id = 'event_1'"):
        messages = act("dismiss", "event_1 event_2")

    assert messages == [
        ("success", "Dismissed: event_2"),
        ("error", "Not done: event_1: PostgreSQL P0001: it says no"),
    ]
    (record,) = caplog.records
    assert record.getMessage() == "not done: 'event_1': PostgreSQL P0001: it says no"
    assert record.exc_info is None
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["event_2"]


@pytest.mark.parametrize("seconds", [20.0, 0.0])
def test_a_lock_of_one_row_stops_no_other_for_twenty_seconds(
    rows: FakeWorkOS, sync_setting: Any, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr("orgs.admin.calls.MAX_SECONDS", seconds)
    sync_setting(LOCK_TIMEOUT=0.05)

    with locked(where="id = 'gram-1'"):
        texts = [text.partition(" 55P03")[0] for _, text in act("disable", "gram-1 gram-3")]

    other = "Disabled: gram-3" if seconds else "Not done: gram-3: PostgreSQL"
    assert sorted(texts) == sorted([other, "Not done: gram-1: PostgreSQL"])


NOT_DONE = {
    "deleted": "Not done: org_2: HTTP 404",
    400: "Not done: org_2: HTTP 400",
    "locked": "Not done: org_2: PostgreSQL 55P03",
    401: "Not done: org_2, org_3: ",
    429: "Not done: org_2, org_3: ",
    503: "Not done: org_2, org_3: ",
}


@pytest.mark.parametrize("why", NOT_DONE)
def test_an_error_of_one_conflict_stops_no_other(
    why: int | str, rows: FakeWorkOS, sync_setting: Any
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    if why == "deleted":
        rows.delete_organization("org_2")
    elif why != "locked":
        rows.misbehave("status", path="/organizations/org_2", status=why, times=None)
    where = "workos_organization_id = 'org_2'" if why == "locked" else "false"

    with locked("workos_conflict", where):
        messages = act("overwrite", "org_2 org_3")

    assert messages[0][1].startswith(NOT_DONE[why])
    is_of_all = ", org_3" in NOT_DONE[why]
    assert ("error", "success")[: 2 - is_of_all] == tuple(level for level, _ in messages)
    assert WorkOSConflict.objects.filter(pk="org_3").exists() is is_of_all


@pytest.mark.parametrize(
    ("action", "ids", "errors"),
    [("replay", "event_1 event_2", 1), ("reconcile", "gram-3", 1), ("overwrite", "org_2 org_3", 2)],
)
def test_what_takes_too_long_ends(
    action: str, ids: str, errors: int, more_events: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgs.admin.calls.MAX_SECONDS", -1.0)
    before = state()

    assert [level for level, _ in act(action, ids)] == ["error"] * errors
    assert (state(), more_events.count_requests()) == (before, 0)


@pytest.mark.parametrize(
    ("method", "text"), [("PUT", "1 write-back failed"), ("GET", "Not done: gram-5: ")]
)
def test_reconciling_says_what_workos_did_not(method: str, text: str, workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_5", name="Five")
    an_organization_row("gram-5", name="Five", workos_id="org_5")
    workos.misbehave("status", status=503, method=method, path="/organizations", times=None)

    level, said_last = act("reconcile", "gram-5")[-1]

    assert (level, said_last[: len(text)]) == ("error", text)


@pytest.mark.parametrize(("action", "id_"), [case[1:] for case in ON_ROWS])
def test_an_error_of_the_database_is_said(
    action: str, id_: str, rows: FakeWorkOS, sync_setting: Any
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)

    with another_program() as elsewhere:
        for model in (Organization, ExternalIdWriteBack, WorkOSEvent, WorkOSConflict):
            elsewhere.execute(f"SELECT FROM {model._meta.db_table} FOR UPDATE")
        messages = act(action, id_)

    assert "error" in [level for level, _ in messages]
    assert not LogEntry.objects.filter(change_message__contains="abled").exists()


def test_what_was_done_and_cant_be_kept_in_the_history_is_said(rows: FakeWorkOS) -> None:
    with renamed("django_admin_log"):
        messages = act("disable", "gram-1")

    assert Organization.objects.get(pk="gram-1").disabled_at is not None
    assert messages == [
        ("warning", "Done, but it could not be kept in the history: gram-1"),
        ("success", "Disabled: gram-1"),
    ]


def test_a_task_that_could_not_be_enqueued_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    no_redis(monkeypatch)

    answer = a_client("drain_synccursor").post(f"{CURSOR}drain/", {"confirmed": "yes"}, follow=True)

    assert [level for level, _ in said(answer)] == ["error"]
    assert not LogEntry.objects.exists()
