"""What the admin shows of each table, and to whom: lists, filters, searches, rows' pages.

``test_any_value`` reads every page of rows with odd values in every column.
"""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from orgs.domain.types import ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
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
    carry_out,
    durable,
    listed,
    page_of,
    read,
    text_of,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes
from tests.triggers import execute

pytestmark = pytest.mark.django_db

TABLES: list[Any] = [Organization, WorkOSEvent, ExternalIdWriteBack, WorkOSConflict, SyncCursor]


@pytest.fixture
def one_of_each() -> list[Any]:
    organization = an_organization_row("gram-1", workos_id="org_1")
    cursor = SyncCursor.objects.create(stream="organizations", last_error="503", failures=7)
    return [organization, a_parked_event(), a_write_back(organization), a_conflict(), cursor]


# Finding rows -------------------------------------------------------------------------------


@pytest.fixture
def four_of_each() -> None:
    gone = {"disabled_at": NOON, "workos_deleted_at": NOON}
    an_organization_row("bare", slug="a-slug")
    an_organization_row("here", slug="b", workos_id="org_3", disabled_at=NOON)
    linked = an_organization_row("linked", slug="c", name="Umbrella", workos_id="org_1", **gone)
    a_write_back(linked, requested_at=NOON - minutes(60))
    pending = an_organization_row("pending", slug="d", workos_id="org_2")
    a_write_back(pending, requested_at=NOON, next_attempt_at=None)
    a_ledger_row("event_1", type="", organization_id="gram-1")
    deleted = {"type": "organization.deleted", "workos_organization_id": "org_2"}
    a_ledger_row("event_2", **deleted, outcome=Outcome.DISABLED, announced_at=NOON)
    an_announcement("event_3")
    a_ledger_row("event_4", announced_at=NOON, outcome=Outcome.MISSING)
    now = datetime.now(UTC)
    a_parked_event("event_9", processed_at=now - minutes(1), announced_at=now)
    claimed = {"kind": ConflictKind.ROW_CLAIMED, "reason": "claims", "organization_id": "gram-9"}
    a_conflict("org_1", **claimed, found_at=NOON - minutes(1), acknowledged_at=NOON)
    a_conflict("org_2", found_at=NOON)


#: By table and query, the keys of the rows that are found.
FOUND = {
    ORGANIZATIONS: {
        "": "bare here linked pending",
        "q=Umbrella": "linked",
        "q=pend": "pending",
        "q=a-slug": "bare",
        "q=org_2": "pending",
        "q=a-slug&linked=yes": "",
        "linked=yes": "here linked pending",
        "linked=no": "bare",
        "disabled=yes": "here linked",
        "disabled=here": "here",
        "disabled=no": "bare pending",
        "write_back=yes": "linked pending",
        "linked=yes&disabled=no": "pending",
        "linked=nonsense": "bare here linked pending",
    },
    EVENTS: {
        "": "event_9 event_4 event_3 event_2 event_1",
        "outcome=unseen": "event_3",
        "outcome=disabled": "event_2",
        "outcome=nonsense": "event_9 event_4 event_3 event_2 event_1",
        "type=organization.deleted": "event_2",
        "outcome=parked": "event_9",
        "type=other": "event_1",
        "webhook=none": "event_1",
        "webhook=alone": "event_4",
        "webhook=came": "event_9 event_4 event_3 event_2",
        "webhook=late": "event_9",
        "processed=day": "event_9",
        "reason=data.name": "event_9",
        "q=t_1": "event_1",
        "q=org_2": "event_2",
        "q=gram-1": "event_1",
    },
    OUTBOX: {
        "": "pending linked",
        "state=waiting": "linked",
        "state=conflict": "pending",
        "q=org_2": "pending",
        "q=pend": "pending",
    },
    CONFLICTS: {
        "": "org_2 org_1",
        "kind=row_claimed": "org_1",
        "acknowledged=yes": "org_1",
        "acknowledged=no": "org_2",
        "q=org_2": "org_2",
        "q=gram-9": "org_1",
        "q=theirs": "org_2",
    },
}


@pytest.mark.usefixtures("four_of_each")
@pytest.mark.parametrize("url", LISTS)
def test_rows_are_found_by(url: str) -> None:
    client = a_client()

    found = {query: " ".join(listed(client.get(f"{url}?{query}"))) for query in FOUND[url]}

    assert found == FOUND[url]


def test_a_search_that_finds_too_much_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orgs.admin.base._MAX_FOUND", 2)
    for number in range(3):
        an_organization_row(f"gram-{number}")

    response = a_client().get(f"{ORGANIZATIONS}?q=gram")

    assert len(listed(response)) == 2
    assert "More than 2 rows match; these are some of them" in response.content.decode()


# A million rows -----------------------------------------------------------------------------


def plan_of(url: str, query: str = "") -> str:
    """PostgreSQL's plan for a page, if it could only walk through an index or sort."""
    a_client()
    request = RequestFactory().get(f"{url}?{query}")
    request.user = User.objects.get()
    model = next(table for table in TABLES if f"/{table._meta.model_name}/" in url)
    changelist: Any = site._registry[model].get_changelist_instance(request)
    rows: QuerySet[Any] = changelist.queryset
    for way in ("seqscan", "sort", "bitmapscan"):
        execute(f"SET LOCAL enable_{way} = off")
    return rows[:50].explain()


@pytest.mark.parametrize(
    ("url", "query", "has"),
    [
        (ORGANIZATIONS, "", "organization_metadata_slug_key"),
        (EVENTS, "", "workos_event_pkey"),
        (ORGANIZATIONS, "o=2", "Presorted Key"),
        (ORGANIZATIONS, "o=-3", "Presorted Key"),
        # PostgreSQL would walk through an index for fifty rows if it took them to be frequent.
        (ORGANIZATIONS, "linked=no", "Sort"),
        (ORGANIZATIONS, "disabled=here&o=1", "Sort"),
        (ORGANIZATIONS, "disabled=here&o=-2", "Sort"),
        (EVENTS, "type=other", "Sort"),
        (EVENTS, "type=other&o=0", "Sort"),
    ],
)
def test_a_list_is_read_by_an_index_unless_it_is_filtered(url: str, query: str, has: str) -> None:
    plan = plan_of(url, query)

    assert has in plan
    assert {"Sort": "Presorted Key", "Presorted Key": "never"}.get(has, "Sort") not in plan


SORTABLE = {
    ORGANIZATIONS: {"slug", "id", "workos_id"},
    EVENTS: {"id"},
    OUTBOX: {"next_attempt_at"},
    CONFLICTS: {"workos_organization_id"},
}


@pytest.mark.usefixtures("four_of_each")
def test_a_list_can_be_sorted_by_what_has_an_index_alone() -> None:
    pages = {url: read(a_client(), url) for url in SORTABLE}

    found = {url: re.findall(r'class="sortable column-(\w+)', page) for url, page in pages.items()}
    assert {url: {*names} for url, names in found.items()} == SORTABLE


@pytest.mark.usefixtures("four_of_each")
@pytest.mark.parametrize(
    ("url", "query"), [(ORGANIZATIONS, "write_back=yes"), (OUTBOX, "q=org"), (OUTBOX, "q=gram")]
)
def test_no_filter_and_no_search_joins_two_large_tables(url: str, query: str) -> None:
    client = a_client()
    with CaptureQueriesContext(connection) as asked:
        client.get(f"{url}?{query}")

    statements = [each["sql"] for each in asked if "write_back" in each["sql"]]
    assert statements
    assert not [text for text in statements if "JOIN" in text]


@pytest.mark.parametrize("url", LISTS)
def test_no_list_offers_what_would_read_a_large_table_whole(
    url: str, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    monkeypatch.setattr("orgs.admin.base._MAX_PAGES", 2)
    execute(
        """
        INSERT INTO organization_metadata (id, name, slug)
        SELECT 'gram-' || n, 'Acme', n FROM generate_series(1, 150) AS n;
        INSERT INTO workos_external_id_write_back (organization_id, workos_id)
        SELECT id, '' FROM organization_metadata;
        INSERT INTO workos_event (id, type, organization_id, outcome, processed_at)
        SELECT id, 'organization.updated', id, 'updated', now() FROM organization_metadata;
        INSERT INTO workos_conflict (workos_organization_id, kind, reason)
        SELECT id, 'other_external_id', '' FROM organization_metadata
        """
    )
    client = a_client()

    # Session, user, two for permissions; the count, the page, and perhaps what belongs to it, or
    # why events are parked.
    with django_assert_num_queries(6 + (url != CONFLICTS)):
        first = client.get(f"{url}?_facets=True")
    second, third = (client.get(f"{url}?p={page}") for page in (2, 3))

    page = first.content.decode()
    assert "remove_facets" not in page
    assert "Show counts" not in page
    assert f"150 {first.context['cl'].opts.verbose_name_plural}" in page
    assert len(listed(second)) == 50
    assert (third.status_code, third.headers["Location"]) == (302, f"{url}?e=1")


# What rows show -----------------------------------------------------------------------------


def test_times_have_one_form_on_every_page(one_of_each: list[Any], settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    Organization.objects.update(created_at=NOON, updated_at=NOON, disabled_at=NOON)
    ExternalIdWriteBack.objects.update(requested_at=NOON, next_attempt_at=NOON)
    WorkOSConflict.objects.update(found_at=NOON, last_seen_at=NOON, acknowledged_at=NOON)
    SyncCursor.objects.update(drained_at=NOON)
    client = a_client()

    for url in [*LISTS, *map(page_of, one_of_each)]:
        page = read(client, url)

        assert "2026-01-15 13:00:00 CET" in page
        assert "Jan" not in text_of(page)


def test_parked_events_are_listed_with_organization_age_and_by_reason() -> None:
    an_organization_row("gram-1", name="A & B", workos_id="org_1")
    for number, error in enumerate(("b", "a", "<a> " * 100, "a")):
        now = datetime.now(UTC)
        a_parked_event(f"event_{number}", error=error, processed_at=now - minutes(125))

    page = read(a_client(), f"{EVENTS}?outcome=parked")

    assert page.count(f'<a href="{ORGANIZATIONS}gram-1/change/">A &amp; B</a>') == 4
    assert page.count('<br><span class="quiet">2 hours ago</span>') == 4
    reasons = re.findall(r'<a href="\?outcome=parked&amp;reason=[^"]+">\s*(\d+): ([^<]*)', page)
    assert reasons[0] == ("2", "a\n") or reasons[0][1].strip() == "a"
    assert len(reasons) == 3
    assert max(len(reason) for _, reason in reasons) < 700


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "It is about the row Acme"),
        ({"workos_organization_id": "org_9"}, "No row here is linked to org_9"),
        ({"workos_organization_id": None}, "It names nothing that could be asked for"),
    ],
)
def test_a_parked_event_says_which_row_it_is_about(columns: dict[str, Any], said: str) -> None:
    an_organization_row("gram-1", name="Acme", workos_id="org_1")
    event = a_parked_event(**columns)

    page = text_of(read(a_client("dismiss_workosevent", "replay_workosevent"), page_of(event)))

    places = [page.index(text) for text in ("data.name is wrong", "{ &quot;name&quot;", said)]
    assert places == sorted(places)
    assert places[-1] < page.index("Changes no row.")


def test_a_rows_page_shows_its_columns_and_what_they_mean(one_of_each: list[Any]) -> None:
    client = a_client()

    *_, cursor = one_of_each
    for row in one_of_each:
        response = client.get(page_of(row))
        shown = {
            name if isinstance(name, str) else name.__name__
            for fieldset in response.context["adminform"]
            for line in fieldset
            for name in line.fields
        }
        elsewhere = {"error", "payload", "kind", "organization", "organization_id", "reason"}
        assert {field.name for field in row._meta.fields} - shown <= elsewhere
    assert "When a read last reached the end of the stream." in read(client, page_of(cursor))


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"organization_id": "gram/1"}, f'<a href="{ORGANIZATIONS}gram_2F1/change/">A &amp; B</a>'),
        ({}, f'<a href="{ORGANIZATIONS}gram-2/change/">Two</a>'),
        ({"organization_id": "gram-9"}, ">Two</a>"),
        ({"organization_id": "gram-9", "workos_organization_id": "org_9"}, "gram-9"),
    ],
    ids=["the row it names", "the linked one", "a row that is missing", "none"],
)
def test_events_link_to_their_organization(columns: dict[str, Any], shown: str) -> None:
    an_organization_row("gram/1", name="A & B")
    an_organization_row("gram-2", name="Two", workos_id="org_1")
    event = a_ledger_row(**columns)
    client = a_client()

    assert all(shown in read(client, url) for url in (page_of(event), EVENTS))


def test_organizations_and_write_backs_link_to_one_another() -> None:
    one = an_organization_row("gram-1", name="A & B", workos_id="org_1")
    two = an_organization_row("gram-2", workos_id="org_2", disabled_at=NOON)
    write_back = a_write_back(one, attempts=7, last_error="<503>")
    a_write_back(two, next_attempt_at=None)
    client = a_client()

    listing = read(client, ORGANIZATIONS)

    assert listing.count("icon-yes") == 2
    assert f'<a href="{OUTBOX}gram-1/change/">pending</a>' in listing
    assert f'<a href="{OUTBOX}gram-2/change/">conflict</a>' in listing
    for page in (read(client, url) for url in (OUTBOX, page_of(write_back))):
        assert f'<a href="{ORGANIZATIONS}gram-1/change/">A &amp; B</a>' in page
        assert "&lt;503&gt;" in page


@pytest.mark.parametrize("kind", [*ConflictKind, "of another release"])
def test_a_conflict_says_what_to_do_about_its_kind(kind: str) -> None:
    conflict = a_conflict(kind=kind, reason="<why>")
    client = a_client()

    for page in (read(client, url) for url in (CONFLICTS, page_of(conflict))):
        assert "choose <em>" in page
        assert "&lt;why&gt;" in page


PAYLOADS = {
    "JSON": ('{"a": {"b": 1}}', "{\n  &quot;a&quot;: {\n    &quot;b&quot;"),
    "HTML": ('{"a": "<script></pre>"}', "&lt;script&gt;&lt;/pre&gt;"),
    "lone surrogate": (r'["\ud800"]', "\\ud800"),
    "NUL": (r'["\u0000"]', "\\u0000"),
    "letters": (r'["\u00e9"]', "é"),
    "not JSON": ("{not <b>JSON", "{not &lt;b&gt;JSON"),
    "too deep to parse": ("[" * 100_000, "[" * 100_000),
    "a number too long to parse": ("9" * 5000, "9" * 5000),
    "none": (None, ""),
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_parked_event_begins_with_its_error_and_payload(kind: str) -> None:
    payload, shown = PAYLOADS[kind]
    event = a_parked_event(payload=payload, error="<b>why</b>")

    page = read(a_client(), page_of(event))

    assert shown in page.partition('tabindex="0">')[2].partition("</pre>")[0]
    assert page.index("&lt;b&gt;why&lt;/b&gt;") < page.index("field-type")
    assert ("Nothing was kept" in page) == (payload is None)


# Nobody adds or deletes; most may only look --------------------------------------------------


def test_no_superuser_changes_rows(one_of_each: list[Any], admin_client: Client) -> None:
    posted = {"post": "yes", "outcome": "dismissed", "attempts": 0, "failures": 0, "reason": "x"}
    for row in one_of_each:
        rows = type(row).objects.values()
        before = rows.get()

        added = admin_client.get(page_of(row).replace(f"{quote(row.pk)}/change", "add"))
        deleted = admin_client.post(page_of(row, "delete"), posted)
        changed = admin_client.post(page_of(row), posted)

        assert (added.status_code, deleted.status_code) == (403, 403)
        assert changed.status_code == (200 if isinstance(row, Organization) else 403)
        assert rows.get() == before


def test_a_permission_is_needed_for_every_page(one_of_each: list[Any]) -> None:
    pages = [
        reverse(f"admin:{url.name}", args=[row.pk] if "<path:" in str(url.pattern) else [])
        for row in one_of_each
        for url in site._registry[type(row)].get_urls()
        if url.name
    ]
    assert len(pages) == len(TABLES) * 5 + 4
    client = a_client(sees="nothing")
    for url in pages:
        assert {client.get(url).status_code, client.post(url).status_code} == {403}, url


# Every page ---------------------------------------------------------------------------------


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


def test_what_is_long_is_cut_in_lists_and_shown_as_such() -> None:
    long = "é" * 100_000
    rows = [an_organization_row("gram-1", name=long), a_parked_event(error=long, payload=long)]
    client = a_client("change_organization")

    shown = [read(client, page_of(row)) for row in rows]
    lists = [read(client, url) for url in (ORGANIZATIONS, EVENTS)]

    assert all(len(page) < 60_000 for page in lists)
    assert "… (100000 characters)" in lists[0]
    assert all("ééé" in page for page in shown)


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
