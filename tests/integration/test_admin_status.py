"""The page of the sync status, and the line at the head of the admin that leads there."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.template import RequestContext, Template
from django.test import Client, RequestFactory
from django_q.models import OrmQ, Schedule

from orgs.admin import SyncCursorAdmin
from orgs.domain.types import (
    Outcome,
)
from orgs.models import ExternalIdWriteBack, SyncCursor
from orgs.services.maintenance import ensure_schedules
from orgs.services.queue import RECONCILE, SYNC_EVENTS
from orgs.templatetags.orgs_admin import ago, marked
from tests.admin_pages import (
    CURSOR,
    EVENTS,
    OUTBOX,
    VIEW,
    a_client,
    a_ledger_row,
    a_parked_event,
    asks,
    confirm,
    durable,
    said,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes
from tests.concurrency import another_program

pytestmark = pytest.mark.django_db

INDEX = "/admin/"
APP = "/admin/orgs/"


@pytest.fixture(autouse=True)
def a_mirror_that_is_current(db: None) -> None:
    now = datetime.now(UTC)
    ensure_schedules(using="default")
    Schedule.objects.update(next_run=now + minutes(1))
    SyncCursor.objects.create(stream="organizations", drained_at=now, reconciled_at=now)


RINGS = {"drain": SYNC_EVENTS, "snapshot": RECONCILE}


def ring_page(name: str) -> str:
    return f"{CURSOR}ring/{name}/"


def break_everything() -> None:
    """A worker that is gone, a key that is refused, an event parked, a conflict."""
    now = datetime.now(UTC)
    Schedule.objects.update(next_run=now - minutes(10))
    SyncCursor.objects.update(
        drained_at=now - minutes(13), failures=3, last_error="401 <b>Unauthorized</b>"
    )
    a_parked_event(processed_at=now)
    organization = an_organization_row("gram-1", workos_id="org_1")
    ExternalIdWriteBack.objects.create(
        organization=organization, workos_id="org_1", next_attempt_at=None
    )


def text_of(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def read(client: Client, url: str = CURSOR) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


# What it says -------------------------------------------------------------------------------


def test_when_nothing_is_wrong_it_says_so() -> None:
    page = read(a_client())

    assert "Current, and nothing is wrong." in page
    assert "What is wrong, and what to do" not in page
    assert "WorkOS's stream was read to its end 0 seconds ago" in text_of(page)


def test_what_is_wrong_is_said_with_what_to_do_and_where() -> None:
    break_everything()

    page = read(a_client())

    said = text_of(page)
    assert "3 things to act on now, 1 thing to look into." in said
    assert (
        "Act now: No worker runs, or its scheduler fails: the minute schedule should have rung "
        in said
    )
    assert "Look into it: 1 write-back in conflict" in said
    assert "<code>systemctl restart gram-sync-worker</code>" in page
    assert "401 &lt;b&gt;Unauthorized&lt;/b&gt;" in page
    assert f'<a href="{EVENTS}?outcome=parked">Parked events</a>' in page
    assert f'<a href="{OUTBOX}?state=conflict">Conflicts</a>' in page


def test_a_read_that_failed_is_shown_with_its_reason_before_anything_is_wrong() -> None:
    SyncCursor.objects.update(failures=1, last_error="401 <b>Unauthorized</b>")

    page = read(a_client())

    assert "Reads that failed since the last good one 1: 401" in text_of(page)
    assert "1: 401 &lt;b&gt;Unauthorized&lt;/b&gt;" in page


def test_what_waits_is_counted_and_leads_to_its_list() -> None:
    an_announcement("event_1", ago=minutes(0.5))
    an_announcement("event_2", ago=timedelta(0))

    page = read(a_client())

    announced = f'<a href="{EVENTS}?outcome=unseen">Announced by a webhook, not yet read'
    assert announced in page
    assert "not yet read from the stream 2 30 seconds ago" in text_of(page)


def test_the_last_day_is_drawn_and_is_there_as_a_table_too() -> None:
    processed_at = datetime.now(UTC) - minutes(1)
    for number, outcome in enumerate((Outcome.CREATED, Outcome.CREATED, Outcome.STALE)):
        a_ledger_row(
            f"event_{number}",
            outcome=outcome,
            announced_at=processed_at - timedelta(seconds=2),
            processed_at=processed_at,
        )

    page = read(a_client())

    assert re.findall(r'<rect class="bar outcome-(\w+)"', page) == ["created", "stale"]
    assert (
        '<svg viewBox="0 0 25 100" preserveAspectRatio="none" role="img" aria-labelledby="' in page
    )
    hour = f"{processed_at:%H}:00"
    assert f"Hour from created stale all {hour} 2 1 3" in text_of(page)
    assert f"Hour from p50 p99 {hour} 2 s 2 s" in text_of(page)


def test_a_day_without_events_is_said_and_not_drawn() -> None:
    page = read(a_client())

    assert "Events by outcome and hour: none." in page
    assert "no event was announced and then applied" in page
    assert "<svg viewBox=" not in page


@durable
def test_without_figures_what_is_wrong_is_said_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orgs.services.status._STATEMENT_SECONDS", 0.1)
    client = a_client()

    with another_program() as rival:
        rival.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
        page = read(client)

    assert "another program holds a lock on a table" in page
    assert "There are no figures" in page


def test_numbers_of_the_plots_are_svgs_in_whatever_language(settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    a_ledger_row(processed_at=datetime.now(UTC) - minutes(1))

    page = read(a_client())

    (bar,) = re.findall(r'<rect class="bar[^>]+>', page)
    assert all(re.fullmatch(r"[\d.]+", number) for number in re.findall(r' \w+="(\d[^"]*)"', bar))
    assert 'width="0.84"' in bar


# Who sees it --------------------------------------------------------------------------------


def without(*codenames: str) -> Client:
    client = a_client()
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename__in=codenames))
    return client


def test_without_the_permission_to_look_at_the_cursor_there_is_no_status() -> None:
    client = without("view_synccursor")

    assert client.get(CURSOR).status_code == 403
    assert "sync-state" not in read(client, INDEX)
    assert "sync-state" not in read(client, APP)


def test_strangers_are_sent_to_the_login() -> None:
    response = Client().get(CURSOR)

    assert (response.status_code, response.headers["Location"][:13]) == (302, "/admin/login/")


def test_places_that_a_person_may_not_look_at_are_not_linked() -> None:
    break_everything()

    page = read(without("view_workosevent", "view_externalidwriteback", "view_organization"))

    assert "1 event parked" in page
    assert f'href="{EVENTS}' not in page
    assert f'href="{OUTBOX}' not in page


# The head of the admin ----------------------------------------------------------------------


@durable
@pytest.mark.parametrize("url", [INDEX, APP])
def test_the_admin_begins_with_the_state_of_the_sync(url: str) -> None:
    client = a_client()

    well = read(client, url)
    break_everything()
    ill = read(client, url)

    link = f'<a href="{CURSOR}">Sync status</a>'
    assert f'state-ok">{link}: current, and nothing is wrong' in well
    assert f'state-error">{link}: 3 things to act on now, 1 thing to look into' in ill
    assert well.index(link) < well.index("content-main")


def test_a_sites_own_first_page_is_left_alone() -> None:
    site = AdminSite()
    site.index_template = "theirs.html"

    SyncCursorAdmin(SyncCursor, site)

    assert site.index_template == "theirs.html"


@durable
def test_inside_a_transaction_the_head_of_the_admin_leads_to_the_status_without_it() -> None:
    a_client()
    request = RequestFactory().get(INDEX)
    request.user = User.objects.get()
    template = Template("{% load orgs_admin %}{% sync_status_line %}")

    with transaction.atomic():
        line = template.render(RequestContext(request))

    assert text_of(line) == "Sync status"


# Whatever the page is made of ---------------------------------------------------------------


@pytest.mark.parametrize("url", [INDEX, APP, CURSOR])
def test_pages_load_nothing_from_elsewhere_and_hold_no_script_and_no_style(url: str) -> None:
    a_ledger_row(processed_at=datetime.now(UTC), announced_at=datetime.now(UTC) - minutes(1))

    page = read(a_client(), url)

    assert not re.findall(r"""(?:src|href|action)=["']?(?:\w+:)?//[^"']*""", page)
    assert not re.findall(r"<script(?![^>]* src=)[^>]*>|<[^>]* on\w+=|<style|<[^>]* style=", page)


def test_all_ids_that_a_page_refers_to_are_there_once() -> None:
    break_everything()
    a_ledger_row("event_2", processed_at=datetime.now(UTC), announced_at=datetime.now(UTC))

    page = read(a_client())

    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r' aria-labelledby="([^"]+)"', page)) <= set(ids)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        pytest.param(None, "never", id="never"),
        pytest.param(NOON, "0 seconds ago", id="now"),
        pytest.param(NOON - minutes(3), "3 minutes ago", id="past"),
        pytest.param(NOON + minutes(3), "in 3 minutes", id="future"),
    ],
)
def test_a_moment_is_told_from_now(moment: datetime | None, words: str) -> None:
    assert ago(moment, NOON) == words


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Run `a b` now.", "Run <code>a b</code> now."),
        ("Choose *This* or *That*.", "Choose <em>This</em> or <em>That</em>."),
        ("<b> & `<i>`", "&lt;b&gt; &amp; <code>&lt;i&gt;</code>"),
        ("2 * 3 = 6", "2 * 3 = 6"),
    ],
)
def test_commands_and_names_are_marked_and_all_else_is_text(text: str, html: str) -> None:
    assert marked(text) == html


# What the worker can be told from there -----------------------------------------------------


@pytest.mark.parametrize("name", RINGS)
def test_the_worker_is_told_after_a_question(name: str) -> None:
    client = a_client(f"{name}_synccursor")

    status = client.get(CURSOR).content.decode()
    page = client.get(ring_page(name))
    asked = OrmQ.objects.count()
    response = confirm(client, page)

    assert [ring for ring in RINGS if ring_page(ring) in status] == [name]
    assert (asks(page), asked) == (True, 0)
    assert [level for level, _ in said(response)] == ["success"]
    assert response.request["PATH_INFO"] == CURSOR
    assert [queued.task["func"] for queued in OrmQ.objects.all()] == [RINGS[name]]
    assert LogEntry.objects.get().object_id == "organizations"


@pytest.mark.parametrize(("name", "other"), [("drain", "snapshot"), ("snapshot", "drain")])
def test_the_permission_for_the_other_does_not_do(name: str, other: str) -> None:
    client = a_client(f"{other}_synccursor")

    statuses = [
        client.get(ring_page(name)).status_code,
        client.post(ring_page(name), {"confirmed": "yes"}).status_code,
    ]

    assert statuses == [403, 403]
    assert not OrmQ.objects.exists()


def test_a_permission_without_that_to_look_does_not_ring() -> None:
    client = a_client("drain_synccursor")
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename__in=VIEW))

    response = client.post(ring_page("drain"), {"confirmed": "yes"})

    assert response.status_code == 403
    assert not OrmQ.objects.exists()


def test_strangers_who_would_ring_are_sent_to_the_login() -> None:
    response = Client().post(ring_page("drain"), {"confirmed": "yes"})

    assert response.headers["Location"].startswith("/admin/login/")
    assert not OrmQ.objects.exists()


def test_a_ring_takes_the_pages_token() -> None:
    client = a_client("drain_synccursor", enforce_csrf_checks=True)

    forged = client.post(ring_page("drain"), {"confirmed": "yes"})

    assert forged.status_code == 403
    assert not OrmQ.objects.exists()


def test_there_is_nothing_else_to_ring_for() -> None:
    assert a_client("drain_synccursor").get(ring_page("prune")).status_code == 404


def test_a_worker_that_could_not_be_told_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr("orgs.services.queue.async_task", full)
    client = a_client("drain_synccursor")

    response = client.post(ring_page("drain"), {"confirmed": "yes"}, follow=True)

    assert [level for level, _ in said(response)] == ["error"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("drift", "told"),
    [(0, "and repaired nothing"), (1, "and repaired 1 organization"), (2, "2 organizations")],
)
def test_what_the_last_snapshot_repaired_is_told(drift: int, told: str) -> None:
    SyncCursor.objects.update(last_drift=drift)

    page = text_of(a_client().get(CURSOR).content.decode())

    assert told in page
