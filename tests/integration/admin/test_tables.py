"""What the admin shows of each table, and to whom: lists, filters, searches, rows' pages."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import QuerySet
from django.test import Client, RequestFactory
from django.urls import URLPattern, reverse
from django_q.models import OrmQ
from pytest_django import DjangoAssertNumQueries

from orgs.domain.types import EVENT_OUTCOMES, ConflictKind, Outcome
from orgs.models import (
    ExternalIdWriteBack,
    Organization,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)
from orgs.testing import WorkOSStandIn
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
    durable,
    listed,
    page_of,
    read,
)
from tests.builders import NOON, an_announcement, an_organization_row, minutes

pytestmark = pytest.mark.django_db

LISTS = [ORGANIZATIONS, EVENTS, OUTBOX, CONFLICTS]
TABLES: list[Any] = [Organization, ExternalIdWriteBack, WorkOSEvent, WorkOSConflict, SyncCursor]


@pytest.fixture
def a_row_of_each() -> list[Any]:
    organization = an_organization_row("gram-1", workos_id="org_1")
    cursor = SyncCursor.objects.create(stream="organizations", last_error="503", failures=7)
    return [organization, a_write_back(organization), a_parked_event(), a_conflict(), cursor]


# Finding rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", "bare here linked pending", id="everything, by slug"),
        pytest.param("q=Umbrella", "linked", id="name"),
        pytest.param("q=pend", "pending", id="id, and a part of it"),
        pytest.param("q=the-slug", "bare", id="slug"),
        pytest.param("q=org_2", "pending", id="WorkOS id"),
        pytest.param("q=the-slug&linked=yes", "", id="search in a filtered list"),
        pytest.param("linked=yes", "here linked pending", id="linked"),
        pytest.param("linked=no", "bare", id="not linked"),
        pytest.param("disabled=yes", "here linked", id="disabled"),
        pytest.param("disabled=here", "here", id="disabled here, lives in WorkOS"),
        pytest.param("disabled=no", "bare pending", id="not disabled"),
        pytest.param("write_back=yes", "pending", id="write-back pending"),
        pytest.param("write_back=no", "bare here linked", id="no write-back pending"),
        pytest.param("linked=yes&disabled=no", "pending", id="two filters"),
        pytest.param("linked=perhaps", "bare here linked pending", id="nonsense"),
    ],
)
def test_organizations_are_found_by(query: str, found: str) -> None:
    an_organization_row("bare", slug="a-the-slug")
    an_organization_row("here", slug="b", workos_id="org_3", disabled_at=NOON)
    gone = {"disabled_at": NOON, "workos_deleted_at": NOON}
    an_organization_row("linked", slug="c", name="Umbrella", workos_id="org_1", **gone)
    a_write_back(an_organization_row("pending", slug="d", workos_id="org_2"))

    assert listed(a_client().get(f"{ORGANIZATIONS}?{query}")) == found.split()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", "event_4 event_3 event_2 event_1", id="everything, the newest first"),
        pytest.param("outcome=unseen", "event_3", id="announced, not yet seen"),
        pytest.param("outcome=unchanged", "event_4 event_3 event_2 event_1", id="not an outcome"),
        pytest.param("type=organization.deleted", "event_2", id="a type"),
        pytest.param("type=other", "event_1", id="another type"),
        pytest.param("type=nonsense", "event_4 event_3 event_2 event_1", id="not a type"),
        pytest.param("webhook=none", "event_1", id="no webhook came"),
        pytest.param("webhook=alone", "event_4", id="a webhook alone"),
        pytest.param("q=t_1", "event_1", id="event id"),
        pytest.param("q=org_2", "event_2", id="WorkOS organization id"),
        pytest.param("q=gram-1", "event_1", id="organization id"),
    ],
)
def test_events_are_found_by(query: str, found: str) -> None:
    a_ledger_row("event_1", type="", organization_id="gram-1")
    deleted = {"type": "organization.deleted", "workos_organization_id": "org_2"}
    a_ledger_row("event_2", **deleted, outcome=Outcome.DISABLED, announced_at=NOON)
    an_announcement("event_3")
    a_ledger_row("event_4", announced_at=NOON, outcome=Outcome.MISSING)

    assert listed(a_client().get(f"{EVENTS}?{query}")) == found.split()


@pytest.mark.parametrize("outcome", EVENT_OUTCOMES)
def test_events_are_filtered_by_outcome(outcome: Outcome) -> None:
    for each in EVENT_OUTCOMES:
        a_ledger_row(f"event_{each}", outcome=each)

    assert listed(a_client().get(f"{EVENTS}?outcome={outcome}")) == [f"event_{outcome}"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", "gram-2 gram-1", id="everything, the newest first"),
        pytest.param("state=waiting", "gram-1", id="waiting"),
        pytest.param("state=conflict", "gram-2", id="conflict"),
        pytest.param("state=nonsense", "gram-2 gram-1", id="nonsense"),
        pytest.param("q=org_2", "gram-2", id="WorkOS id"),
        pytest.param("q=Umbrella", "gram-1", id="the organization's name"),
        pytest.param("q=gram-2", "gram-2", id="the organization's id"),
    ],
)
def test_write_backs_are_found_by(query: str, found: str) -> None:
    first = an_organization_row("gram-1", name="Umbrella", workos_id="org_1")
    second = an_organization_row("gram-2", workos_id="org_2")
    a_write_back(first, requested_at=NOON - minutes(60))
    a_write_back(second, requested_at=NOON, next_attempt_at=None)

    assert listed(a_client().get(f"{OUTBOX}?{query}")) == found.split()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", "org_2 org_1", id="everything, the newest first"),
        pytest.param("kind=row_claimed", "org_1", id="kind"),
        pytest.param("kind=nonsense", "org_2 org_1", id="nonsense"),
        pytest.param("acknowledged=yes", "org_1", id="kept as it is"),
        pytest.param("acknowledged=no", "org_2", id="to be decided"),
        pytest.param("q=org_2", "org_2", id="WorkOS id"),
        pytest.param("q=gram-9", "org_1", id="the organization's id"),
        pytest.param("q=theirs", "org_2", id="reason"),
    ],
)
def test_conflicts_are_found_by(query: str, found: str) -> None:
    claimed = {"kind": ConflictKind.ROW_CLAIMED, "reason": "claims", "organization_id": "gram-9"}
    a_conflict("org_1", **claimed, found_at=NOON - minutes(1), acknowledged_at=NOON)
    a_conflict("org_2", found_at=NOON)

    assert listed(a_client().get(f"{CONFLICTS}?{query}")) == found.split()


def test_a_search_that_finds_too_much_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orgs.admin.base._MAX_FOUND", 2)
    for number in range(3):
        an_organization_row(f"gram-{number}")

    response = a_client().get(f"{ORGANIZATIONS}?q=gram")

    assert len(listed(response)) == 2
    assert "More than 2 rows match; these are some of them" in response.content.decode()


# A million rows -----------------------------------------------------------------------------


def rows_shown(url: str, query: str = "") -> "QuerySet[Any]":
    """What a list would read, without the limit of a page."""
    request = RequestFactory().get(f"{url}?{query}")
    request.user = a_client().session and _staff()
    model = next(table for table in TABLES if f"/{table._meta.model_name}/" in url)
    changelist: Any = site._registry[model].get_changelist_instance(request)
    return changelist.queryset  # type: ignore[no-any-return]


def _staff() -> Any:
    from django.contrib.auth.models import User

    return User.objects.get()


def plan_of(rows: "QuerySet[Any]") -> str:
    """PostgreSQL's plan for a page of many rows."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
    return rows[:50].explain()


@pytest.mark.parametrize(
    ("url", "index"),
    [(ORGANIZATIONS, "organization_metadata_slug_key"), (EVENTS, "workos_event_pkey")],
)
def test_a_list_reads_its_first_page_in_the_order_of_an_index(url: str, index: str) -> None:
    plan = plan_of(rows_shown(url))

    assert index in plan
    assert "Sort" not in plan


@pytest.mark.parametrize(
    ("url", "query"),
    [
        (ORGANIZATIONS, "write_back=no"),
        (ORGANIZATIONS, "disabled=here&o=2"),
        (EVENTS, "type=other"),
        (EVENTS, "type=other&o=1"),
    ],
)
def test_a_filtered_list_never_walks_through_an_index_for_a_few_rows(url: str, query: str) -> None:
    # As PostgreSQL would for fifty rows if it took them to be frequent.
    assert "Sort" in plan_of(rows_shown(url, query))


@pytest.mark.parametrize("url", LISTS)
def test_no_list_offers_what_would_read_a_large_table_whole(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgs.admin.base._MAX_PAGES", 2)
    for number in range(150):
        id_, organization = f"gram-{number:03}", an_organization_row(f"gram-{number:03}")
        a_write_back(organization)
        a_ledger_row(id_)
        a_conflict(id_)
    client = a_client()

    first, counted, second = (client.get(f"{url}?{q}") for q in ("", "_facets=True", "p=2"))
    third = client.get(f"{url}?p=3")

    page = first.content.decode()
    assert "_facets" not in page
    assert f"150 {first.context['cl'].opts.verbose_name_plural}" in page
    assert counted.content.decode().count("(150)") == 0
    assert len(listed(second)) == 50
    assert (third.status_code, third.headers["Location"]) == (302, f"{url}?e=1")


@pytest.mark.parametrize("url", LISTS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    url: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(20):
        organization = an_organization_row(f"gram-{number}", workos_id=f"org_{number}")
        a_write_back(organization)
        a_ledger_row(f"event_{number}", organization_id=organization.id)
        a_conflict(f"org_{number}")
    client = a_client()

    # Session, user, two for permissions; the count, the page, and perhaps what belongs to it.
    with django_assert_num_queries(6 + (url in (ORGANIZATIONS, OUTBOX))):
        response = client.get(url)

    assert len(listed(response)) == 20


# What rows show -----------------------------------------------------------------------------


def test_times_have_one_form_on_every_page(a_row_of_each: list[Any], settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    Organization.objects.update(created_at=NOON, updated_at=NOON, disabled_at=NOON)
    WorkOSEvent.objects.update(announced_at=NOON)
    ExternalIdWriteBack.objects.update(requested_at=NOON, next_attempt_at=NOON)
    WorkOSConflict.objects.update(found_at=NOON, last_seen_at=NOON, acknowledged_at=NOON)
    SyncCursor.objects.update(drained_at=NOON)
    client = a_client()

    for url in [*LISTS, *map(page_of, a_row_of_each)]:
        page = read(client, url)

        assert "2026-01-15 13:00:00 CET" in page
        assert "Jan" not in page


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_a_rows_page_shows_its_columns_and_what_they_mean(
    number: int, a_row_of_each: list[Any]
) -> None:
    row = a_row_of_each[number]

    response = a_client().get(page_of(row))

    page = response.content.decode()
    shown = {
        name if isinstance(name, str) else name.__name__
        for fieldset in response.context["adminform"]
        for line in fieldset
        for name in line.fields
    }
    elsewhere = {"error", "payload", "kind", "organization", "organization_id"}
    assert {field.name for field in row._meta.fields} - shown <= elsewhere
    if isinstance(row, SyncCursor):
        assert "When a read last reached the end of the stream." in page
        assert "503" in page


def test_the_list_of_organizations_shows_their_state_at_a_glance() -> None:
    an_organization_row("gram-1", workos_id="org_1", disabled_at=NOON)
    a_write_back(an_organization_row("gram-2", workos_id="org_2"))
    a_write_back(an_organization_row("gram-3", workos_id="org_3"), next_attempt_at=None)

    page = read(a_client(), ORGANIZATIONS)

    assert page.count("icon-yes") == 3
    assert page.count("2026-01-15 12:00:00 UTC") == 1
    assert f'<a href="{OUTBOX}gram-2/change/">pending</a>' in page
    assert f'<a href="{OUTBOX}gram-3/change/">conflict</a>' in page


@pytest.mark.parametrize(
    ("make", "url"), [(a_ledger_row, EVENTS), (lambda **k: a_conflict(**k), CONFLICTS)]
)
@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        pytest.param(
            {"organization_id": "gram/1"},
            f'<a href="{ORGANIZATIONS}gram_2F1/change/">A &amp; B</a>',
            id="the row that it names",
        ),
        pytest.param({}, f'<a href="{ORGANIZATIONS}gram-2/change/">Two</a>', id="the linked one"),
        pytest.param({"organization_id": "gram-9"}, ">Two</a>", id="a row that is not there"),
    ],
)
def test_events_and_conflicts_link_to_their_organization(
    make: Callable[..., Any], url: str, columns: dict[str, Any], shown: str
) -> None:
    an_organization_row("gram/1", name="A & B")
    an_organization_row("gram-2", name="Two", workos_id="org_1")
    client = a_client()

    pages = [page_of(make(**columns)), url]

    assert all(shown in read(client, page) for page in pages)


def test_a_write_back_shows_its_error_and_links_to_its_organization() -> None:
    organization = an_organization_row("gram-1", name="A & B", workos_id="org_1")
    write_back = a_write_back(organization, attempts=7, last_error="<503>", next_attempt_at=None)
    client = a_client()

    for page in (read(client, url) for url in (OUTBOX, page_of(write_back))):
        assert f'<a href="{ORGANIZATIONS}gram-1/change/">A &amp; B</a>' in page
        assert "&lt;503&gt;" in page


@pytest.mark.parametrize("kind", [*ConflictKind, "of another release"])
def test_a_conflict_says_what_to_do_about_its_kind(kind: str) -> None:
    conflict = a_conflict(kind=kind, reason="<why>")
    client = a_client()

    for page in (read(client, url) for url in (CONFLICTS, page_of(conflict))):
        assert "Look again" in page or "Keep as it is" in page
        assert "&lt;why&gt;" in page


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        pytest.param('{"a": {"b": 1}}', "{\n  &quot;a&quot;: {\n    &quot;b&quot;", id="JSON"),
        pytest.param('{"a": "<script></pre>"}', "&lt;script&gt;&lt;/pre&gt;", id="HTML"),
        pytest.param(r'["\ud800"]', "\\ud800", id="lone surrogate"),
        pytest.param(r'["\u0000"]', "\\u0000", id="NUL"),
        pytest.param(r'["\u00e9"]', "é", id="letters"),
        pytest.param("{not <b>JSON", "{not &lt;b&gt;JSON", id="not JSON"),
        pytest.param("[" * 990 + "]" * 990, "[" * 990, id="too deep to indent"),
        pytest.param("[" * 100_000, "[" * 100_000, id="too deep to parse"),
        pytest.param("9" * 5000, "9" * 5000, id="a number too long to parse"),
        pytest.param(None, "", id="none"),
    ],
)
def test_a_parked_event_begins_with_its_error_and_payload(payload: str | None, shown: str) -> None:
    event = a_parked_event(payload=payload, error="<b>why</b>")

    page = read(a_client(), page_of(event))

    assert shown in page.partition('tabindex="0">')[2].partition("</pre>")[0]
    assert page.index("&lt;b&gt;why&lt;/b&gt;") < page.index("field-type")
    assert ("Nothing was kept" in page) == (payload is None)


# Nobody adds or deletes; most may only look --------------------------------------------------


@pytest.mark.parametrize("url", [*LISTS, CURSOR])
def test_nobody_adds_rows_by_hand(url: str, admin_client: Client) -> None:
    assert admin_client.get(f"{url}add/").status_code == 403


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_not_even_a_superuser_deletes_or_changes_rows(
    number: int, a_row_of_each: list[Any], admin_client: Client
) -> None:
    row = a_row_of_each[number]
    before = type(row).objects.values().get()

    deleted = admin_client.post(page_of(row, "delete"), {"post": "yes"})
    changed = admin_client.post(
        page_of(row), {"outcome": "dismissed", "attempts": 0, "failures": 0, "reason": "x"}
    )

    assert deleted.status_code == 403
    assert changed.status_code == (200 if isinstance(row, Organization) else 403)
    assert type(row).objects.values().get() == before


def pages_of_the_admin(rows: list[Any]) -> list[str]:
    """Every page that there is of our tables, each of a row that is there."""

    def arguments(pattern: URLPattern, row: Any) -> list[str]:
        return [row.pk] if "<path:" in str(pattern.pattern) else []

    return [
        reverse(f"admin:{pattern.name}", args=arguments(pattern, row))
        for row in rows
        for pattern in site._registry[type(row)].get_urls()
        if pattern.name
    ]


@durable
def test_no_page_is_shown_to_and_no_post_taken_from_staff_without_permissions(
    a_row_of_each: list[Any],
) -> None:
    pages = pages_of_the_admin(a_row_of_each)
    client = a_client(sees="nothing")

    answers = {url: {client.get(url).status_code, client.post(url).status_code} for url in pages}

    assert len(pages) == len(TABLES) * 5 + 3
    assert all(codes == {403} for codes in answers.values()), answers


@durable
def test_whatever_one_who_may_only_look_posts_nothing_is_changed(
    a_row_of_each: list[Any], workos: WorkOSStandIn
) -> None:
    client = a_client()
    attempts: list[dict[str, Any]] = [
        {"slug": "new", "outcome": "dismissed", "attempts": 9, "failures": 9, "post": "yes"},
        {"confirmed": "yes"},
    ]
    for row in a_row_of_each:
        for action in [*site._registry[type(row)].acts, "delete"]:  # type: ignore[attr-defined]
            ticked = [each.pk for each in a_row_of_each]
            name = getattr(action, "name", "delete_selected")
            attempts.append({"action": name, "_selected_action": ticked, "confirmed": "yes"})

    def everything() -> list[Any]:
        return [list(table.objects.values()) for table in [*TABLES, OrmQ]]

    before = everything()
    for url in pages_of_the_admin(a_row_of_each):
        for attempt in attempts:
            client.post(url, attempt)

    assert everything() == before
    assert not LogEntry.objects.exists()
    assert workos.count_requests(method=None, path=None) == 0
