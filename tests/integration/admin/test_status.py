"""The page of the sync status, and the line at the head of the admin that leads there."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin import AdminSite, site
from django.contrib.auth.models import User
from django.db import transaction
from django.template import RequestContext, Template
from django.test import Client, RequestFactory
from django_q.models import Schedule, Task

from orgs import tasks
from orgs.admin import SyncCursorAdmin
from orgs.domain import status
from orgs.domain.types import Outcome
from orgs.models import Connection, Organization, SyncCursor
from orgs.monitoring import runbook_section
from orgs.services.queue import DRY_RUN
from orgs.templatetags.orgs_admin import ago, marked, runbook
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    CONFLICTS,
    CURSOR,
    EVENTS,
    LISTS,
    ORGANIZATIONS,
    OUTBOX,
    a_client,
    a_conflict,
    a_ledger_row,
    a_parked_event,
    a_write_back,
    durable,
    read,
    text_of,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes
from tests.concurrency import another_program

pytestmark = pytest.mark.django_db

HEADS = ["/admin/", "/admin/orgs/"]
ROWS = [f"{ORGANIZATIONS}gram-1/change/", f"{EVENTS}event_5F1/change/", f"{OUTBOX}gram-1/change/"]


@pytest.fixture(autouse=True)
def a_mirror_that_is_current(db: None) -> None:
    now = datetime.now(UTC)
    Schedule.objects.update(next_run=now + minutes(1))
    SyncCursor.objects.create(stream="organizations", drained_at=now, reconciled_at=now)


def break_everything() -> None:
    """A worker that is not running, an event parked, a conflict, a row disabled here."""
    now = datetime.now(UTC)
    Schedule.objects.update(next_run=now - minutes(10))
    failing = {"failures": 3, "failing_since": now - minutes(12)}
    SyncCursor.objects.update(
        drained_at=now - minutes(13), last_error="401 <b>Unauthorized</b>", **failing
    )
    a_parked_event(processed_at=now)
    organization = an_organization_row("gram-1", workos_id="org_1", disabled_at=now)
    a_write_back(organization, next_attempt_at=None)
    a_conflict("org_2")


def test_when_nothing_is_wrong_it_says_so_and_the_page_reads_itself_again() -> None:
    page = read(a_client(), CURSOR)

    assert '<meta http-equiv="refresh" content="30">' in page
    assert "Current, and nothing is wrong." in page
    assert "What is wrong, and what to do" not in page
    assert re.search(r"WorkOS's stream was read to its end \d+ seconds? ago", text_of(page))
    assert "Events by outcome and hour: none." in page
    assert "no event was announced and then applied" in page
    assert "<svg viewBox=" not in page


def test_what_is_wrong_is_said_with_what_to_do_and_where() -> None:
    break_everything()

    page = read(a_client(), CURSOR)

    text = text_of(page)
    assert re.search(r"\d things? to act on now, \d things to look into\.", text)
    assert text.index("Act now: ") < text.index("Look into it: ")
    assert "<code>systemctl restart gram-sync-worker</code>" in page
    assert "401 &lt;b&gt;Unauthorized&lt;/b&gt;" in page
    for url, query, label in (
        (EVENTS, "outcome=parked", "Parked events"),
        (CONFLICTS, "acknowledged=no", "Conflicts"),
        (ORGANIZATIONS, "disabled=here", "Organizations disabled here"),
    ):
        assert f'<p><a href="{url}?{query}">{label}</a></p>' in page


def test_each_problem_is_shown_with_its_code_and_its_section_of_the_runbook() -> None:
    break_everything()
    client = a_client()

    shown = unescape(text_of(read(client, CURSOR)))

    problems = client.get("/readyz").json()["problems"]
    assert len(problems) >= 3
    for code in (problem["code"] for problem in problems):
        assert f"Runbook: {code} {unescape(section_in_words(code))}" in shown


def section_in_words(code: str) -> str:
    return text_of("".join(f"<p>{marked(part)}</p>" for part in runbook(code)))


@pytest.mark.parametrize("code", status.ProblemCode)
def test_a_section_of_the_runbook_is_shown_whole_and_without_signs_of_markdown(code: str) -> None:
    said = unescape(section_in_words(code))

    assert not re.search(r"`|\*\*|\]\(|#", said)
    written = re.sub(r"```sql|[`*]", "", runbook_section(code))
    assert "".join(said.replace("*", "").split()) == "".join(written.split())


def test_what_waits_is_counted_and_leads_to_its_rows(admin_client: Client) -> None:
    an_announcement("event_1", ago=minutes(0.5))
    an_announcement("event_2", ago=timedelta(0))
    an_organization_row("gram-1", workos_id="org_1", disabled_at=datetime.now(UTC) - minutes(2))

    page = read(admin_client, CURSOR)

    for url, number, text in (
        (f"{EVENTS}?outcome=unseen", 2, "by a webhook, not yet read from the stream 2"),
        (f"{EVENTS}?outcome=parked", 0, "Parked, for a person 0"),
        (f"{OUTBOX}?state=waiting", 0, "Write-backs: ids that WorkOS does not know yet 0"),
        (f"{CONFLICTS}?acknowledged=no", 0, "Conflicts, for a person 0"),
        (f"{ORGANIZATIONS}?disabled=here", 1, "disabled here that live in WorkOS 1 2 min"),
        (f"{ORGANIZATIONS}?linked=yes&amp;disabled=no", 0, "Linked to WorkOS 0"),
        (f"{EVENTS}?processed=day&amp;webhook=came", 0, "Webhooks: 0 events were announced"),
        ("/admin/django_q/ormq/?", 0, "Tasks that wait for a worker 0"),
        (f"{CURSOR}organizations/change/", 0, "Reads that failed since the last good one 0"),
    ):
        assert f'href="{url}">{number}</a>' in page
        assert text in text_of(page)


def test_each_resource_is_counted_with_its_last_listing(sync_setting: Any) -> None:
    sync_setting(RESOURCES=("connection", "role"))
    now = datetime.now(UTC)
    listed = {"connection": (now - minutes(5)).isoformat()}
    SyncCursor.objects.update(event_types=[], covered=["connection"], listed_at=listed)
    Connection.objects.create(workos_id="conn_1")
    Connection.objects.create(workos_id="conn_2", deleted_at=now)

    page = read(a_client(), CURSOR)

    assert "Connections 1 1 5 minutes ago" in text_of(page)
    assert "Roles 0 0 Not covered yet" in text_of(page)
    assert 'href="/admin/orgs/connection/?deleted=no">1</a>' in page
    assert "Memberships" not in text_of(page).partition("The other resources")[2]


def a_dry_run(result: str, **task: Any) -> None:
    """A dry run that has ended."""
    number = f"{Task.objects.count()}"
    about = {"id": number, "name": number, "func": DRY_RUN, "started": NOON, "stopped": NOON}
    Task.objects.create(**{**about, "success": True, "result": result, **task})


@durable
def test_what_a_snapshot_repaired_or_would_is_listed(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(HOLD_BACK_WINDOW=0.0)
    workos.create_organization(id="org_1", external_id="gram-1", name="New")
    tasks.sync_events()
    Organization.objects.update(name="Old")
    change = 'updated gram-1 (org_1): name: "Old" → "New"'
    a_dry_run(tasks.dry_run())
    before = unescape(text_of(read(a_client(), CURSOR)))

    tasks.reconcile()
    page = read(a_client(), CURSOR)
    row = f"{CURSOR}organizations/change/"
    shown = read(a_client(), row)
    blind = [read(a_client(sees="synccursor"), page) for page in (CURSOR, row)]
    tasks.reconcile()
    after = text_of(read(a_client(), CURSOR))
    SyncCursor.objects.update(last_drift=2)

    assert "and repaired nothing" in after
    assert "2 organizations" in text_of(read(a_client(), CURSOR))
    assert f"1 row would be repaired. Organization Change gram-1 {change}" in before
    assert "What the last snapshot repaired" not in before
    assert '<a href="#repaired">1 organization</a>' in page
    repaired = unescape(text_of(page)).partition("What the last snapshot repaired")[2]
    assert repaired.startswith(f" Organization Change gram-1 {change}")
    assert f'<a href="{ORGANIZATIONS}gram-1/change/">gram-1</a>' in page
    assert "gram-1" in shown
    assert "gram-1" not in "".join(blind)


@durable
def test_a_dry_run_that_failed_or_could_not_be_made_says_why(workos: FakeWorkOS) -> None:
    a_dry_run('{"errors": [], "count": 7}')
    a_dry_run("no space\n  left", success=False, stopped=NOON + minutes(1))
    failed = text_of(read(a_client(), CURSOR))
    workos.misbehave("status", status=401, path=None, times=None)
    result = tasks.dry_run()
    a_dry_run(result, stopped=NOON + minutes(2))

    assert "It ended at 2026-01-15 12:01:00 UTC. no space left" in failed
    assert json.loads(result)["errors"][0] in unescape(text_of(read(a_client(), CURSOR)))


def test_the_last_day_is_drawn_and_is_there_as_a_table_too(settings: Any) -> None:
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    processed_at = datetime.now(UTC) - minutes(1)
    for number, outcome in enumerate((Outcome.CREATED, Outcome.CREATED, Outcome.STALE)):
        announced_at = processed_at - timedelta(seconds=2)
        times = {"announced_at": announced_at, "processed_at": processed_at}
        a_ledger_row(f"event_{number}", outcome=outcome, **times)

    page = read(a_client(), CURSOR)

    bars = re.findall(r'<rect class="bar outcome-(\w+)" \S+ ([^>]+)>', page)
    assert bars == [
        ("created", 'y="2" width=".84" height="2"'),
        ("stale", 'y="1" width=".84" height="1"'),
    ]
    assert 'viewBox="0 0 25 1000" preserveAspectRatio="none" role="img" aria-labelledby="' in page
    hour = f"{processed_at:%H}:00"
    assert f"Hour from created stale all {hour} 2 1 3" in text_of(page)
    assert f"Hour from p50 p99 {hour} 2 s 2 s" in text_of(page)


@durable
def test_without_figures_what_is_wrong_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orgs.services.status.STATEMENT_SECONDS", 0.1)
    client = a_client()

    with another_program() as elsewhere:
        elsewhere.execute("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE")
        page = read(client, CURSOR)

    assert "a table is locked" in page
    assert "There are no figures" in page


def test_every_button_and_filter_that_a_remedy_names_is_there() -> None:
    remedies = [rule.remedy for rule in status.RULES]
    remedies += [remedy for _, remedy in status.DATABASE_TEXTS.values()]
    tables: list[Any] = [table for model, table in site._registry.items() if hasattr(table, "acts")]
    labels = {action.label for table in tables for action in table.acts}
    for offered in (offered for table in tables for offered in table.list_filter):
        labels |= {label for _, label in offered.lookups(None, None, None)}

    named = {name for each in remedies for name in re.findall(r"<em>(.+?)</em>", marked(each))}

    assert named - labels <= {"Could not create task from schedule"}


@durable
@pytest.mark.parametrize("url", HEADS)
def test_the_admin_begins_with_the_state_of_the_sync(url: str) -> None:
    client = a_client()

    well = read(client, url)
    break_everything()
    ill = read(client, url)

    link = f'<a href="{CURSOR}">Sync status</a>'
    assert f'state-ok">{link}: current, and nothing is wrong' in well
    assert re.search(rf'state-error">{link}: \d things? to act on now', ill)
    assert well.index(link) < well.index("content-main")


def test_who_may_not_see_the_cursor_or_the_rows_sees_no_status_or_no_links() -> None:
    break_everything()

    client = a_client(sees="organization")
    statuses = [client.get(CURSOR).status_code, *["sync-state" in read(client, u) for u in HEADS]]
    page = read(a_client(sees="synccursor"), CURSOR)

    assert "/admin/django_q/" not in page
    assert statuses == [403, False, False]
    assert "Parked, for a person" in page
    assert not [url for url in (EVENTS, OUTBOX, CONFLICTS, ORGANIZATIONS) if f'"{url}' in page]


def test_a_sites_own_first_page_is_left_alone() -> None:
    other = AdminSite()
    other.index_template = "theirs.html"

    SyncCursorAdmin(SyncCursor, other)

    assert other.index_template == "theirs.html"


@durable
def test_inside_a_transaction_the_head_of_the_admin_leads_to_the_status_without_it() -> None:
    a_client()
    request = RequestFactory().get("/admin/")
    request.user = User.objects.get()
    template = Template("{% load orgs_admin %}{% sync_status_line %}")

    with transaction.atomic():
        line = template.render(RequestContext(request))

    assert text_of(line) == "Sync status"


@pytest.mark.parametrize("url", [*HEADS, CURSOR, *LISTS, *ROWS])
def test_pages_run_no_script_of_their_own_and_refer_to_what_is_there(url: str) -> None:
    break_everything()
    now = datetime.now(UTC)
    a_ledger_row("event_2", processed_at=now, announced_at=now - minutes(1))

    page = read(a_client("change_organization"), url)

    assert not re.findall(r"""(?:src|href|action)=["']?(?:\w+:)?//[^"']*""", page)
    assert not re.findall(r"<script(?![^>]* src=)[^>]*>|<[^>]* on\w+=", page)
    if url in (*HEADS, CURSOR):
        assert not re.findall(r"<style|<[^>]* style=", page)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r' aria-labelledby="([^"]+)"', page)) <= set(ids)


def test_a_moment_is_described_from_now() -> None:
    described = {
        None: "never",
        NOON: "0 seconds ago",
        NOON - minutes(3): "3 minutes ago",
        NOON + minutes(3): "in 3 minutes",
    }

    assert {moment: ago(moment, NOON) for moment in described} == described


def test_commands_and_names_are_marked_and_all_else_is_text() -> None:
    texts = {
        "Run `a b` now.": "Run <code>a b</code> now.",
        "Choose *This* or *That*.": "Choose <em>This</em> or <em>That</em>.",
        "<b> & `<i>`": "&lt;b&gt; &amp; <code>&lt;i&gt;</code>",
        "2 * 3 = 6": "2 * 3 = 6",
    }

    assert {text: marked(text) for text in texts} == texts
