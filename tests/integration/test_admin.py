"""The admin, through Django's test client: what it shows, what it does and what it says of it."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import URLPattern, reverse
from django_q.models import OrmQ
from pytest_django import DjangoAssertNumQueries

from orgs.admin import OrganizationAdmin
from orgs.domain.types import (
    EVENT_OUTCOMES,
    Outcome,
)
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    CURSOR,
    EVENTS,
    ORGANIZATIONS,
    OUTBOX,
    VIEW,
    Response,
    a_client,
    a_ledger_row,
    a_parked_event,
    a_write_back,
    an_operator,
    carry_out,
    choose,
    durable,
    form_of,
    listed,
    page_of,
    said,
)
from tests.builders import NOON, an_announcement, an_organization_row

pytestmark = pytest.mark.django_db

REPLAY_ALL = f"{EVENTS}replay-all/"
CONFIRMED = {"confirmed": "yes"}
ACTIONS = ("replay", "dismiss")


# What a person does --------------------------------------------------------------------------


def press(client: Client, button: str, event: WorkOSEvent) -> Response:
    """What follows a click on a button of the event's own page, and a yes if it asks."""
    return carry_out(client, EVENTS, button, event.pk, from_row=True)


@contextmanager
def another_program() -> Iterator[psycopg.Connection]:
    """A connection of another program's; what it did is committed at the end."""
    given = connection.get_connection_params()
    names = ("host", "port", "dbname", "user", "password")
    with psycopg.connect(**{name: given[name] for name in names if given.get(name)}) as elsewhere:
        elsewhere.execute("SET lock_timeout = '5s'")
        yield elsewhere


def row_in_database(organization: Organization) -> Organization:
    return Organization.objects.get(pk=organization.pk)


# Organizations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", ["bare", "linked", "pending"], id="everything, by slug"),
        pytest.param("?q=Umbrella", ["linked"], id="name"),
        pytest.param("?q=pend", ["pending"], id="id, and a part of it"),
        pytest.param("?q=the-slug", ["bare"], id="slug"),
        pytest.param("?q=org_2", ["pending"], id="WorkOS id"),
        pytest.param("?linked=yes", ["linked", "pending"], id="linked"),
        pytest.param("?linked=no", ["bare"], id="not linked"),
        pytest.param("?disabled=yes", ["linked"], id="disabled"),
        pytest.param("?disabled=no", ["bare", "pending"], id="not disabled"),
        pytest.param("?write_back=yes", ["pending"], id="write-back pending"),
        pytest.param("?write_back=no", ["bare", "linked"], id="no write-back pending"),
        pytest.param("?linked=yes&disabled=no", ["pending"], id="two filters"),
        pytest.param("?linked=perhaps", ["bare", "linked", "pending"], id="nonsense"),
    ],
)
def test_organizations_are_found_by(query: str, found: list[str]) -> None:
    an_organization_row("bare", slug="a-the-slug")
    an_organization_row("linked", slug="b", name="Umbrella", workos_id="org_1", disabled_at=NOON)
    a_write_back(an_organization_row("pending", slug="c", workos_id="org_2"))

    response = a_client().get(ORGANIZATIONS + query)

    assert listed(response) == found


def test_the_list_of_organizations_shows_their_state_at_a_glance() -> None:
    an_organization_row("gram-1", workos_id="org_1", disabled_at=NOON)
    a_write_back(an_organization_row("gram-2", workos_id="org_2"))
    a_write_back(an_organization_row("gram-3", workos_id="org_3"), next_attempt_at=None)

    page = a_client().get(ORGANIZATIONS).content.decode()

    assert page.count("icon-yes") == 3
    assert page.count("2026-01-15 12:00:00") == 1
    assert f'<a href="{OUTBOX}gram-2/change/">pending</a>' in page
    assert f'<a href="{OUTBOX}gram-3/change/">conflict</a>' in page


@pytest.mark.parametrize("url", [ORGANIZATIONS, EVENTS, OUTBOX])
def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    url: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(20):
        organization = an_organization_row(f"gram-{number}", workos_id=f"org_{number}")
        a_write_back(organization)
        a_ledger_row(f"event_{number}", organization_id=organization.id)
    client = a_client()

    # Session, user, two for permissions; the count, the page. No full count, none for a row.
    with django_assert_num_queries(6):
        response = client.get(url)

    assert len(listed(response)) == 20


def test_only_what_gram_owns_can_be_edited() -> None:
    organization = an_organization_row("gram-1", workos_id="org_1")

    response = an_operator().get(page_of(organization))

    assert list(response.context["adminform"].form.fields) == [
        "slug",
        "gram_account_type",
        "whitelisted",
    ]


def test_what_workos_owns_stays_whatever_is_posted() -> None:
    organization = an_organization_row("gram-1", workos_id="org_1")
    client = an_operator()
    posted = form_of(client.get(page_of(organization)))

    client.post(
        page_of(organization),
        {
            **posted,
            "slug": "new",
            "name": "Mine",
            "workos_id": "org_2",
            "disabled_at": "2026-01-01",
        },
    )

    row = row_in_database(organization)
    assert (row.slug, row.name, row.workos_id, row.disabled_at) == ("new", "Acme", "org_1", None)


def test_saving_writes_what_was_changed_and_when() -> None:
    organization = an_organization_row("gram-1", updated_at=NOON)
    client = an_operator()
    posted = form_of(client.get(page_of(organization)))
    del posted["whitelisted"]

    response = client.post(page_of(organization), {**posted, "gram_account_type": "pro"})

    row = row_in_database(organization)
    assert response.status_code == 302
    assert (row.slug, row.gram_account_type, row.whitelisted) == ("gram-1", "pro", False)
    assert abs(row.updated_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_saving_nothing_writes_nothing() -> None:
    organization = an_organization_row("gram-1", updated_at=NOON)
    client = an_operator()

    client.post(page_of(organization), form_of(client.get(page_of(organization))))

    assert row_in_database(organization).updated_at == NOON


@durable
def test_a_name_that_the_sync_writes_while_the_form_is_saved_survives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    organization = an_organization_row("gram-1", name="Old")
    client = an_operator()
    posted = form_of(client.get(page_of(organization)))
    save_model = OrganizationAdmin.save_model

    def rename_then_save(*arguments: Any) -> None:
        with another_program() as elsewhere:
            elsewhere.execute("UPDATE organization_metadata SET name = 'Renamed'")
        save_model(*arguments)

    monkeypatch.setattr(OrganizationAdmin, "save_model", rename_then_save)
    client.post(page_of(organization), {**posted, "slug": "new"})

    row = row_in_database(organization)
    assert (row.name, row.slug) == ("Renamed", "new")


def test_what_another_program_wrote_since_the_page_was_shown_survives() -> None:
    organization = an_organization_row("gram-1")
    client = an_operator()
    posted = form_of(client.get(page_of(organization)))
    Organization.objects.update(gram_account_type="enterprise", whitelisted=False)

    client.post(page_of(organization), {**posted, "slug": "new"})

    row = row_in_database(organization)
    assert (row.slug, row.gram_account_type, row.whitelisted) == ("new", "enterprise", False)


@durable
@pytest.mark.parametrize(
    ("statement", "trouble"),
    [
        pytest.param(
            "INSERT INTO organization_metadata (id, name, slug) VALUES ('gram-2', 'Other', 'new')",
            "organization_metadata_slug_key",
            id="takes the slug",
        ),
        pytest.param("DELETE FROM organization_metadata", "did not affect any rows", id="deletes"),
    ],
)
def test_a_save_that_another_program_was_quicker_than_is_said_to_have_failed(
    statement: LiteralString, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = an_organization_row("gram-1")
    client = an_operator()
    posted = form_of(client.get(page_of(organization)))
    save_model = OrganizationAdmin.save_model

    def be_late(*arguments: Any) -> None:
        with another_program() as elsewhere:
            elsewhere.execute(statement)
        save_model(*arguments)

    monkeypatch.setattr(OrganizationAdmin, "save_model", be_late)
    response = client.post(page_of(organization), {**posted, "slug": "new"}, follow=True)

    level, text = said(response)[0]
    assert response.status_code == 200
    assert level == "error"
    assert text.startswith("Not saved: ")
    assert trouble in text


# Nobody adds or deletes; most may only look --------------------------------------------------


@pytest.fixture
def superuser(admin_client: Client) -> Client:
    return admin_client


@pytest.mark.parametrize("url", [ORGANIZATIONS, EVENTS, OUTBOX, CURSOR])
def test_nobody_adds_rows_by_hand(url: str, superuser: Client) -> None:
    assert superuser.get(f"{url}add/").status_code == 403


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: an_organization_row("gram-1"), id="organization"),
        pytest.param(a_parked_event, id="event"),
        pytest.param(lambda: a_write_back(an_organization_row("gram-1")), id="write-back"),
        pytest.param(lambda: SyncCursor.objects.create(stream="organizations"), id="cursor"),
    ],
)
def test_nobody_deletes_rows_by_hand(make: Callable[[], Any], superuser: Client) -> None:
    row = make()

    response = superuser.post(page_of(row, "delete"), {"post": "yes"})

    assert response.status_code == 403
    assert type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(a_parked_event, id="event"),
        pytest.param(lambda: a_write_back(an_organization_row("gram-1")), id="write-back"),
        pytest.param(lambda: SyncCursor.objects.create(stream="organizations"), id="cursor"),
    ],
)
def test_not_even_a_superuser_changes(make: Callable[[], Any], superuser: Client) -> None:
    row = make()

    page = superuser.get(page_of(row))
    answer = superuser.post(page_of(row), {"outcome": "dismissed", "attempts": 0, "failures": 0})

    assert page.status_code == 200
    assert not page.context["adminform"].form.fields
    assert answer.status_code == 403


def test_the_cursor_shows_all_its_fields(superuser: Client) -> None:
    cursor = SyncCursor.objects.create(stream="organizations", last_error="503", failures=7)

    response = superuser.get(page_of(cursor))

    fields = {field.name for field in SyncCursor._meta.get_fields()}
    (fieldset,) = response.context["adminform"]
    assert {name for line in fieldset for name in line.fields} == fields
    assert "When a read last reached the end of the stream." in response.content.decode()


# The ledger ---------------------------------------------------------------------------------


def test_the_ledger_lists_the_newest_event_first() -> None:
    a_ledger_row("event_1", occurred_at=NOON)
    a_ledger_row("event_3", occurred_at=NOON - timedelta(hours=1))
    a_ledger_row("event_2", occurred_at=NOON)

    response = a_client().get(EVENTS)

    assert listed(response) == ["event_2", "event_1", "event_3"]


@pytest.mark.parametrize("outcome", EVENT_OUTCOMES)
def test_the_ledger_is_filtered_by_outcome(outcome: Outcome) -> None:
    for each in EVENT_OUTCOMES:
        a_ledger_row(f"event_{each}", outcome=each)

    response = a_client().get(f"{EVENTS}?outcome={outcome}")

    assert listed(response) == [f"event_{outcome}"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("?outcome=unseen", ["event_unseen"], id="announced, not yet seen"),
        pytest.param(
            "?outcome=unchanged",
            ["event_deleted", "event_odd", "event_unseen"],
            id="not an outcome",
        ),
        pytest.param("?type=organization.deleted", ["event_deleted"], id="a type"),
        pytest.param("?type=other", ["event_odd"], id="another type"),
        pytest.param(
            "?type=nonsense", ["event_deleted", "event_odd", "event_unseen"], id="not a type"
        ),
        pytest.param("?q=_odd", ["event_odd"], id="event id"),
        pytest.param("?q=org_2", ["event_deleted"], id="WorkOS organization id"),
        pytest.param("?q=gram-1", ["event_odd"], id="organization id"),
    ],
)
def test_events_are_found_by(query: str, found: list[str]) -> None:
    an_announcement("event_unseen")
    a_ledger_row(
        "event_deleted",
        type="organization.deleted",
        workos_organization_id="org_2",
        outcome=Outcome.DISABLED,
        announced_at=NOON,
    )
    a_ledger_row("event_odd", type="", organization_id="gram-1")

    response = a_client().get(EVENTS + query)

    assert sorted(listed(response)) == found


def test_an_event_links_to_its_organization() -> None:
    a_ledger_row(organization_id="gram/1")
    client = a_client()
    link = f'<a href="{ORGANIZATIONS}gram_2F1/change/">gram/1</a>'

    pages = [client.get(EVENTS), client.get(page_of(WorkOSEvent.objects.get()))]

    assert [page.content.decode().count(link) for page in pages] == [1, 1]


def test_an_organization_links_to_its_events() -> None:
    organization = an_organization_row("gram&1")
    a_ledger_row(organization_id="gram&1")
    client = a_client()

    page = client.get(page_of(organization)).content.decode()

    assert f'<a href="{EVENTS}?q=gram%261">' in page
    assert listed(client.get(f"{EVENTS}?q=gram%261")) == ["event_1"]


UGLY = {"name": "<script>alert(1)</script></pre>", "others": ["\ud800", "\x00", "é"]}


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        pytest.param(
            '{"a": {"b": 1}}', "{\n  &quot;a&quot;: {\n    &quot;b&quot;: 1\n  }\n}", id="JSON"
        ),
        pytest.param(
            json.dumps(UGLY), "&lt;script&gt;alert(1)&lt;/script&gt;&lt;/pre&gt;", id="HTML"
        ),
        pytest.param(json.dumps(UGLY), "\\ud800", id="lone surrogate"),
        pytest.param(json.dumps(UGLY), "\\u0000", id="NUL"),
        pytest.param(json.dumps(UGLY), "é", id="letters"),
        pytest.param("{not <b>JSON", "{not &lt;b&gt;JSON", id="not JSON"),
        pytest.param("[" * 990 + "]" * 990, "[" * 990, id="too deep to indent"),
        pytest.param("[" * 100_000, "[" * 100_000, id="too deep to parse"),
        pytest.param("9" * 5000, "9" * 5000, id="a number too long to parse"),
    ],
)
def test_a_parked_event_shows_its_payload_and_error(payload: str, shown: str) -> None:
    event = a_parked_event(payload=payload, error="<b>why</b>")

    response = a_client().get(page_of(event))

    page = response.content.decode()
    assert response.status_code == 200
    assert shown in page.partition('tabindex="0">')[2].partition("</pre>")[0]
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    assert "<script>alert" not in page


def test_a_parked_event_without_a_payload_is_shown_too() -> None:
    event = a_parked_event(payload=None)

    response = a_client().get(page_of(event))

    assert '<div class="readonly">-</div>' in response.content.decode()


# The actions on a parked event --------------------------------------------------------------

ACT = [
    pytest.param(press, id="button"),
    pytest.param(lambda client, name, event: carry_out(client, EVENTS, name, event.pk), id="list"),
]


@durable
@pytest.mark.parametrize("act", ACT)
def test_replaying_applies_what_workos_says_now(
    act: Callable[..., Response], workos: FakeWorkOS
) -> None:
    workos.create_organization(id="org_1", name="As it is now", external_id="gram-1")
    event = a_parked_event()

    response = act(an_operator(), "replay", event)

    event.refresh_from_db()
    assert said(response) == [("success", "Applied what WorkOS says now (created): event_1")]
    assert (event.outcome, event.payload) == ("created", None)
    assert Organization.objects.get(id="gram-1").name == "As it is now"


@durable
@pytest.mark.parametrize("act", ACT)
def test_replaying_says_why_an_event_is_still_parked(
    act: Callable[..., Response], workos: FakeWorkOS
) -> None:
    event = a_parked_event(workos_organization_id=None)

    response = act(an_operator(), "replay", event)

    reason = "It names no organization, so it can only be dismissed."
    assert said(response) == [("warning", f"Still parked ({reason}): event_1")]


@durable
@pytest.mark.parametrize(
    ("status", "level"),
    [pytest.param(422, "warning", id="refused"), pytest.param(503, "error", id="trouble")],
)
def test_words_of_workos_that_cant_be_shown_are_said_in_escapes(
    status: int, level: str, workos: FakeWorkOS
) -> None:
    answer = {"message": "odd \ud800 \x00 words", "code": "odd"}
    workos.misbehave("status", path="/organizations", status=status, body=answer)

    response = press(an_operator(), "replay", a_parked_event())

    ((said_as, text),) = said(response)
    assert response.status_code == 200
    assert said_as == level
    assert "odd \\ud800 \\x00 words" in text


@durable
@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("act", ACT)
def test_an_event_that_is_not_parked_any_more_is_left_alone(
    act: Callable[..., Response], name: str, workos: FakeWorkOS
) -> None:
    event = a_ledger_row()

    response = act(an_operator(), name, event)

    event.refresh_from_db()
    assert said(response) == [("warning", "Not parked any more: event_1")]
    assert event.outcome == Outcome.UPDATED


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_an_event_that_dropped_out_of_a_filtered_list_is_accounted_for(name: str) -> None:
    a_ledger_row()

    response = carry_out(an_operator(), EVENTS, name, "event_1", query="?outcome=parked")

    assert said(response) == [("warning", "Not parked any more: event_1")]


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_an_event_that_is_gone_altogether_is_said_to_be(name: str) -> None:
    response = press(an_operator(), name, WorkOSEvent(id="event_1"))

    assert said(response)[0] == ("warning", "Not parked any more: event_1")


@durable
@pytest.mark.parametrize("act", ACT)
def test_dismissing_is_the_end_of_a_parked_event(act: Callable[..., Response]) -> None:
    event = a_parked_event()

    response = act(an_operator(), "dismiss", event)

    event.refresh_from_db()
    assert said(response) == [("success", "Dismissed: event_1")]
    assert event.outcome == Outcome.DISMISSED


@durable
def test_replaying_stops_when_workos_cant_be_asked(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="Acme", external_id="gram-1")
    for number in (1, 2, 3):
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    workos.misbehave("status", path="/organizations/org_2", status=503, times=None)

    response = carry_out(an_operator(), EVENTS, "replay", "event_1", "event_2", "event_3")

    (trouble, applied) = said(response)
    assert applied == ("success", "Applied what WorkOS says now (created): event_1")
    assert trouble[0] == "error"
    assert trouble[1].startswith("WorkOS could not be asked (WorkOS does not answer: ")
    assert trouble[1].endswith("). Left as they were: 2")
    assert workos.count_requests(path="/organizations/org_3") == 0
    assert sorted(WorkOSEvent.objects.parked().values_list("pk", flat=True)) == [
        "event_2",
        "event_3",
    ]


@durable
@pytest.mark.parametrize("act", ACT)
def test_trouble_with_the_database_is_said(
    act: Callable[..., Response], workos: FakeWorkOS, sync_setting: Any
) -> None:
    workos.create_organization(id="org_1", name="New name", external_id="gram-1")
    an_organization_row("gram-1", workos_id="org_1")
    event = a_parked_event()
    sync_setting(LOCK_TIMEOUT=0.05)
    client = an_operator()

    with another_program() as elsewhere:
        elsewhere.execute("SELECT FROM organization_metadata FOR UPDATE")
        response = act(client, "replay", event)

    ((level, text),) = said(response)
    assert response.status_code == 200
    assert level == "error"
    assert text.startswith("Trouble with the database (")
    assert text.endswith("): event_1")
    assert WorkOSEvent.objects.parked().exists()


@durable
@pytest.mark.parametrize(
    ("act", "levels"),
    [
        pytest.param(
            lambda client: carry_out(client, EVENTS, "replay", "event_1", "event_2"),
            {"error", "success"},
            id="some",
        ),
        pytest.param(
            lambda client: client.post(REPLAY_ALL, CONFIRMED, follow=True),
            {"error", "success", "warning"},
            id="all",
        ),
    ],
)
def test_trouble_with_the_database_over_one_event_does_not_stop_the_rest(
    act: Callable[[Client], Response],
    levels: set[str],
    workos: FakeWorkOS,
    sync_setting: Any,
) -> None:
    workos.create_organization(id="org_1", name="New name", external_id="gram-1")
    an_organization_row("gram-1", workos_id="org_1")
    a_parked_event("event_1")
    a_parked_event("event_2", workos_organization_id="org_2")
    sync_setting(LOCK_TIMEOUT=0.05)
    client = an_operator()

    with another_program() as elsewhere:
        elsewhere.execute("SELECT FROM organization_metadata FOR UPDATE")
        response = act(client)

    assert {level for level, _ in said(response)} == levels
    assert list(WorkOSEvent.objects.parked().values_list("pk", flat=True)) == ["event_1"]


@durable
def test_no_more_than_the_ticked_rows_of_a_page_are_acted_on() -> None:
    for number in range(60):
        a_parked_event(f"event_{number}")
    client = an_operator()
    across = {
        "action": "dismiss_selected",
        "_selected_action": "event_7",
        "select_across": "1",
        "confirmed": "yes",
    }

    page = client.get(EVENTS)
    client.post(EVENTS, across)

    assert len(listed(page)) == 50
    assert "Select all 60" not in page.content.decode()
    assert WorkOSEvent.objects.parked().count() == 59


@durable
def test_events_with_the_same_end_are_told_of_together(workos: FakeWorkOS) -> None:
    for number in (1, 2):
        workos.create_organization(id=f"org_{number}", name="Acme", external_id=f"gram-{number}")
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    a_parked_event("event_3", workos_organization_id="org_3")

    response = carry_out(an_operator(), EVENTS, "replay", "event_1", "event_2", "event_3")

    assert said(response) == [
        ("success", "Applied what WorkOS says now (created): event_1, event_2"),
        ("success", "Applied what WorkOS says now (unknown): event_3"),
    ]


@durable
def test_who_acted_is_kept_in_the_history() -> None:
    event = a_parked_event()
    client = an_operator()

    press(client, "dismiss", event)

    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id) == ("staff", "event_1")
    assert "Dismissed" in client.get(page_of(event, "history")).content.decode()


@durable
def test_a_button_leads_back_to_the_event_and_keeps_the_lists_filters() -> None:
    event = a_parked_event("event:1/2")
    pressed = {"action": "dismiss_selected", "_selected_action": event.pk, "from_row": "yes"}

    response = an_operator().post(f"{EVENTS}?outcome=parked", {**pressed, "confirmed": "yes"})

    assert response.status_code == 302
    kept = "?_changelist_filters=outcome%3Dparked"
    assert response.headers["Location"] == page_of(event) + kept


@durable
@pytest.mark.parametrize("from_row", [True, False])
def test_before_an_event_is_acted_on_a_page_says_what_will_happen(
    from_row: bool, workos: FakeWorkOS
) -> None:
    event = a_parked_event()
    client = an_operator()

    question = choose(client, EVENTS, "replay", event.pk, from_row=from_row)

    page = question.content.decode()
    event.refresh_from_db()
    assert "<h1>Apply what WorkOS says now: 1 WorkOS event</h1>" in page
    assert "About org_1; parked because: data.name is wrong" in page
    assert f'<a href="{page_of(event) if from_row else EVENTS}" class="closelink">' in page
    assert event.is_parked
    assert workos.count_requests(method=None, path=None) == 0


@durable
def test_the_page_that_asks_tells_which_events_are_not_parked_any_more() -> None:
    a_parked_event("event_1")
    a_ledger_row("event_2")

    page = choose(an_operator(), EVENTS, "dismiss", "event_1", "event_2").content.decode()

    assert "<h1>Dismiss: 2 WorkOS events</h1>" in page
    assert page.count("Not parked any more: nothing happens.") == 1


# All that are parked ------------------------------------------------------------------------


@durable
def test_replaying_all_asks_first_and_says_what_came_of_it(workos: FakeWorkOS) -> None:
    for number in (1, 2):
        workos.create_organization(id=f"org_{number}", name="Acme", external_id=f"gram-{number}")
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    a_parked_event("event_3", workos_organization_id="org_3")
    a_parked_event("event_4", workos_organization_id=None)
    client = an_operator()

    page = client.get(REPLAY_ALL)
    untouched = WorkOSEvent.objects.parked().count()
    response = client.post(REPLAY_ALL, CONFIRMED, follow=True)

    assert f'<a href="{REPLAY_ALL}">' in client.get(EVENTS).content.decode()
    assert "Parked events: 4." in page.content.decode()
    assert untouched == 4
    assert said(response) == [
        ("success", "Applied what WorkOS says now (created): 2"),
        ("warning", "Still parked: 1"),
        ("success", "Applied what WorkOS says now (unknown): 1"),
    ]
    assert listed(response) == ["event_4"]
    assert Organization.objects.count() == 2
    entries = LogEntry.objects.order_by("object_id").values_list("object_id", flat=True)
    assert list(entries) == ["event_1", "event_2", "event_3", "event_4"]


@durable
def test_replaying_all_when_none_is_parked_is_said() -> None:
    response = an_operator().post(REPLAY_ALL, CONFIRMED, follow=True)

    assert said(response) == [("info", "No event is parked")]


@durable
def test_replaying_all_stops_when_the_time_is_up_and_says_how_many_are_left(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_parked_event("event_1")
    a_parked_event("event_2")
    monkeypatch.setattr("orgs.admin.events._REPLAY_SECONDS", -1.0)

    response = an_operator().post(REPLAY_ALL, CONFIRMED, follow=True)

    assert said(response) == [("warning", "Left as they were: 2. Replay all again for these")]
    assert WorkOSEvent.objects.parked().count() == 2


@durable
def test_trouble_with_workos_over_one_event_does_not_stop_the_replay_of_the_rest(
    workos: FakeWorkOS,
) -> None:
    for number in (1, 2, 3):
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    workos.misbehave("status", path="/organizations/org_2", status=503, times=None)

    response = an_operator().post(REPLAY_ALL, CONFIRMED, follow=True)

    applied, (level, trouble), left = said(response)
    assert applied == ("success", "Applied what WorkOS says now (unknown): 2")
    assert level == "error"
    assert trouble.startswith("There was trouble: WorkOS does not answer: ")
    assert left == ("warning", "Left as they were: 1. Replay all again for these")
    assert listed(response) == ["event_2"]


@durable
@pytest.mark.parametrize("status", [401, 429])
def test_trouble_that_is_the_same_for_all_stops_the_replay(status: int, workos: FakeWorkOS) -> None:
    for number in (1, 2, 3):
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    workos.misbehave("status", path="/organizations", times=None, status=status)

    response = an_operator().post(REPLAY_ALL, CONFIRMED, follow=True)

    assert said(response)[-1] == ("warning", "Left as they were: 3. Replay all again for these")
    assert workos.count_requests(path="/organizations") == 1


@durable
def test_other_trouble_with_the_database_over_a_replay_of_all_is_said(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(id="org_1", name="Acme")
    a_parked_event()
    client = an_operator()

    with another_program() as elsewhere:
        elsewhere.execute("ALTER TABLE organization_metadata RENAME workos_id TO gone")
        elsewhere.commit()
        response = client.post(REPLAY_ALL, CONFIRMED, follow=True)
        elsewhere.execute("ALTER TABLE organization_metadata RENAME gone TO workos_id")

    ((level, text),) = said(response)
    assert level == "error"
    assert text.startswith("Trouble with the database: ")
    assert listed(response) == ["event_1"]


@durable
@pytest.mark.parametrize("permissions", [(), ("dismiss_workosevent",)], ids=["viewer", "dismisser"])
def test_without_its_permission_nobody_replays_all(
    permissions: tuple[str, ...], workos: FakeWorkOS
) -> None:
    a_parked_event()
    client = a_client(*permissions)

    listing = client.get(EVENTS).content.decode()
    statuses = [client.get(REPLAY_ALL).status_code, client.post(REPLAY_ALL, CONFIRMED).status_code]

    assert REPLAY_ALL not in listing
    assert statuses == [403, 403]
    assert WorkOSEvent.objects.parked().exists()
    assert workos.count_requests(method=None, path=None) == 0


@durable
def test_strangers_who_would_replay_all_are_sent_to_the_login() -> None:
    a_parked_event()

    answers = [Client().get(REPLAY_ALL), Client().post(REPLAY_ALL, CONFIRMED)]

    assert [answer.headers.get("Location", "")[:13] for answer in answers] == ["/admin/login/"] * 2
    assert WorkOSEvent.objects.parked().exists()


@durable
def test_all_are_replayed_by_post_with_the_pages_token_alone(workos: FakeWorkOS) -> None:
    a_parked_event()
    client = a_client("replay_workosevent", enforce_csrf_checks=True)
    page = client.get(REPLAY_ALL)

    forged = client.post(REPLAY_ALL, CONFIRMED)
    kept = WorkOSEvent.objects.parked().exists()
    pressed = client.post(REPLAY_ALL, form_of(page))

    assert (forged.status_code, kept, pressed.status_code) == (403, True, 302)
    assert not WorkOSEvent.objects.parked().exists()


# Who may act --------------------------------------------------------------------------------

BUTTON = {
    "replay": 'value="replay_selected" aria-describedby="replay_selected-effect"',
    "dismiss": 'value="dismiss_selected" aria-describedby="dismiss_selected-effect"',
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_permission_shows_its_action_alone(name: str) -> None:
    event = a_parked_event()
    client = a_client(f"{name}_workosevent")

    page, listing = (client.get(url).content.decode() for url in (page_of(event), EVENTS))

    assert [action for action in ACTIONS if BUTTON[action] in page] == [name]
    assert [action for action in ACTIONS if f'value="{action}_selected"' in listing] == [name]


def test_a_viewer_sees_no_action() -> None:
    event = a_parked_event()
    client = a_client()

    page, listing = (client.get(url).content.decode() for url in (page_of(event), EVENTS))

    assert 'class="row-actions"' not in page
    assert not [action for action in ACTIONS if action in listing.replace("dismissed", "")]


def test_an_event_that_is_not_parked_has_no_buttons() -> None:
    event = a_ledger_row()

    page = an_operator().get(page_of(event)).content.decode()

    assert 'class="row-actions"' not in page


@durable
@pytest.mark.parametrize(
    ("name", "other"), [("replay", "dismiss"), ("dismiss", "replay")], ids=ACTIONS
)
def test_the_other_permission_does_not_do(name: str, other: str, workos: FakeWorkOS) -> None:
    event = a_parked_event()
    client = a_client(f"{other}_workosevent")

    button, action = press(client, name, event), carry_out(client, EVENTS, name, event.pk)

    event.refresh_from_db()
    assert [said(answer) for answer in (button, action)] == [
        [("warning", "No action selected.")]
    ] * 2
    assert event.is_parked
    assert workos.count_requests(method=None, path=None) == 0


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_a_permission_without_that_to_look_does_not_do(name: str) -> None:
    event = a_parked_event()
    client = a_client(f"{name}_workosevent")
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename__in=VIEW))

    statuses = [
        press(client, name, event).status_code,
        carry_out(client, EVENTS, name, "event_1").status_code,
    ]

    event.refresh_from_db()
    assert statuses == [403, 403]
    assert event.is_parked


@durable
def test_who_may_not_look_does_not_replay_all(workos: FakeWorkOS) -> None:
    event = a_parked_event()
    client = a_client("replay_workosevent")
    User.objects.get().user_permissions.remove(*Permission.objects.filter(codename__in=VIEW))

    response = client.post(REPLAY_ALL, CONFIRMED)

    event.refresh_from_db()
    assert response.status_code == 403
    assert event.is_parked
    assert workos.count_requests() == 0


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_strangers_are_sent_to_the_login(name: str) -> None:
    event = a_parked_event()

    response = Client().post(
        EVENTS,
        {"action": f"{name}_selected", "_selected_action": event.pk, "confirmed": "yes"},
    )

    event.refresh_from_db()
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/admin/login/")
    assert event.is_parked


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_works_by_post_with_its_pages_token_alone(name: str) -> None:
    event = a_parked_event(workos_organization_id=None)
    client = a_client(f"{name}_workosevent", enforce_csrf_checks=True)
    sure = {"action": f"{name}_selected", "_selected_action": event.pk, "confirmed": "yes"}
    token = {"csrfmiddlewaretoken": str(client.get(page_of(event)).context["csrf_token"])}

    client.get(EVENTS, sure)
    forged = client.post(EVENTS, sure)
    untouched = WorkOSEvent.objects.filter(error="data.name is wrong").count()
    pressed = client.post(EVENTS, {**sure, **token})

    assert [answer.status_code for answer in (forged, pressed)] == [403, 302]
    assert untouched == 1
    assert not WorkOSEvent.objects.filter(error="data.name is wrong").exists()


def pages_of_the_admin() -> list[str]:
    """Every page that there is of our tables, each of a row that is there, named by its URL."""
    organization = an_organization_row("gram-1", workos_id="org_1")
    cursor = SyncCursor.objects.create(stream="organizations")
    rows: list[Any] = [organization, a_write_back(organization), a_parked_event(), cursor]
    return [
        reverse(f"admin:{pattern.name}", args=_arguments(pattern, row))
        for row in rows
        for pattern in site._registry[type(row)].get_urls()
        if pattern.name
    ]


def _arguments(pattern: URLPattern, row: Any) -> list[str]:
    if ":" not in str(pattern.pattern):
        return []
    return ["drain" if "ring" in str(pattern.pattern) else quote(row.pk)]


@durable
def test_no_page_is_shown_to_and_no_post_taken_from_staff_without_permissions() -> None:
    pages = pages_of_the_admin()
    client = a_client()
    User.objects.get().user_permissions.clear()

    answers = {url: {client.get(url).status_code, client.post(url).status_code} for url in pages}

    assert len(pages) == 4 * 5 + 2
    assert all(codes == {403} for codes in answers.values()), answers


@durable
def test_whatever_one_who_may_only_look_posts_nothing_is_changed(workos: FakeWorkOS) -> None:
    pages = pages_of_the_admin()
    client = a_client()
    names = ("replay", "dismiss", "reconcile", "disable", "enable", "retry", "delete")
    attempts: list[dict[str, Any]] = [
        {"slug": "new", "outcome": "dismissed", "attempts": 9, "failures": 9, "post": "yes"},
        *(
            {
                "action": f"{name}_selected",
                "_selected_action": ["gram-1", "event_1"],
                "confirmed": "yes",
            }
            for name in names
        ),
    ]

    def everything() -> list[Any]:
        tables: list[Any] = [Organization, ExternalIdWriteBack, WorkOSEvent, SyncCursor, OrmQ]
        return [list(table.objects.values()) for table in tables]

    before = everything()
    for url in pages:
        for attempt in attempts:
            client.post(url, attempt)

    assert everything() == before
    assert not LogEntry.objects.exists()
    assert workos.count_requests(method=None, path=None) == 0


# The outbox ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("", ["gram-2", "gram-1"], id="everything, newest first"),
        pytest.param("?state=waiting", ["gram-1"], id="waiting"),
        pytest.param("?state=conflict", ["gram-2"], id="conflict"),
        pytest.param("?state=nonsense", ["gram-2", "gram-1"], id="nonsense"),
        pytest.param("?q=org_2", ["gram-2"], id="WorkOS id"),
        pytest.param("?q=Umbrella", ["gram-1"], id="the organization's name"),
        pytest.param("?q=gram-2", ["gram-2"], id="the organization's id"),
    ],
)
def test_write_backs_are_found_by(query: str, found: list[str]) -> None:
    first = an_organization_row("gram-1", name="Umbrella", workos_id="org_1")
    second = an_organization_row("gram-2", workos_id="org_2")
    a_write_back(first, requested_at=NOON - timedelta(hours=1))
    a_write_back(second, requested_at=NOON, next_attempt_at=None)

    response = a_client().get(OUTBOX + query)

    assert listed(response) == found


def test_a_write_back_shows_its_error_and_links_to_its_organization() -> None:
    organization = an_organization_row("gram-1", name="A & B", workos_id="org_1")
    write_back = a_write_back(organization, attempts=7, last_error="<503>", next_attempt_at=None)
    client = a_client()

    pages = [client.get(url).content.decode() for url in (OUTBOX, page_of(write_back))]

    link = f'<a href="{ORGANIZATIONS}gram-1/change/">A &amp; B</a>'
    assert [(link in page, "&lt;503&gt;" in page) for page in pages] == [(True, True)] * 2


# Whatever can be asked for ------------------------------------------------------------------


@pytest.mark.parametrize("table", [ORGANIZATIONS, EVENTS, OUTBOX, CURSOR])
@pytest.mark.parametrize(
    "rest",
    [
        "%00/change/",
        "%00/history/",
        "%00/delete/",
        "%00/",
        "%ED%A0%80/change/",
        "?q=%00",
        "?q=%ED%A0%80",
        "?q=%22",
        "?outcome=%00",
        "?type=%00",
        "?linked=%00",
        "?state=%00",
        "?pk=%00",
        "?pk__regex=(",
        "?o=%00",
        "?p=%00",
        "?p=0",
        "?_to_field=%00",
        "?nonsense=1",
    ],
)
def test_no_question_is_answered_500(table: str, rest: str, superuser: Client) -> None:
    superuser.raise_request_exception = False

    response = superuser.get(table + rest)

    assert response.status_code < 500


@durable
@pytest.mark.parametrize("name", ACTIONS)
def test_no_ticked_row_or_button_is_answered_500(name: str, superuser: Client) -> None:
    superuser.raise_request_exception = False

    answers = [
        carry_out(superuser, EVENTS, name, "\x00", from_row=True),
        carry_out(superuser, EVENTS, name, "event_nowhere", from_row=True),
        carry_out(superuser, EVENTS, name, "\x00"),
        carry_out(superuser, EVENTS, name),
    ]

    assert [answer.status_code for answer in answers] == [200] * 4


@pytest.mark.parametrize("table", [ORGANIZATIONS, EVENTS, OUTBOX])
def test_pages_load_nothing_from_elsewhere_and_run_no_script_of_their_own(
    table: str, superuser: Client
) -> None:
    a_write_back(an_organization_row("gram-1"))
    SyncCursor.objects.create(stream="organizations")
    a_parked_event()
    (key,) = listed(superuser.get(table))

    for url in (table, f"{table}{quote(key)}/change/"):
        page = superuser.get(url).content.decode()

        assert not re.findall(r"""(?:src|href|action)=["']?(?:\w+:)?//[^"']*""", page)
        assert not re.findall(r"<script(?![^>]* src=)[^>]*>|<[^>]* on\w+=", page)


# Reconciling organizations ------------------------------------------------------------------


def reconcile_rows(client: Client, *ids: str) -> Response:
    return carry_out(client, ORGANIZATIONS, "reconcile", *ids)


@durable
def test_reconciling_selected_rows_repairs_them_and_says_what_it_did(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(id="org_1", name="There", external_id="gram-1")
    workos.create_organization(id="org_2", name="Same", external_id="gram-2")
    an_organization_row("gram-1", name="Here", workos_id="org_1")
    an_organization_row("gram-2", name="Same", workos_id="org_2")
    an_organization_row("gram-3", name="Gone", workos_id="org_gone")
    an_organization_row("gram-4", name="Not asked for", workos_id="org_gone_too")
    client = a_client("change_organization", "reconcile_organization")

    response = reconcile_rows(client, "gram-1", "gram-2", "gram-3")

    assert said(response) == [
        ("success", 'updated gram-1 (org_1): name: "Here" → "There"'),
        ("success", 'disabled gram-3 (org_gone): disabled_at: null → "now"'),
        ("info", "In sync with WorkOS: 1"),
    ]
    assert Organization.objects.get(id="gram-1").name == "There"
    assert [row.id for row in Organization.objects.disabled()] == ["gram-3"]
    assert {entry.object_id: entry.change_message for entry in LogEntry.objects.all()} == {
        "gram-1": 'Reconciled with WorkOS: updated gram-1 (org_1): name: "Here" → "There"',
        "gram-2": "Reconciled with WorkOS: nothing to repair",
        "gram-3": 'Reconciled with WorkOS: disabled gram-3 (org_gone): disabled_at: null → "now"',
    }


@durable
def test_reconciling_tells_of_what_it_leaves_alone(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="Acme", external_id="theirs")
    an_organization_row("gram-1", name="Acme", workos_id="org_1")

    response = reconcile_rows(a_client("reconcile_organization"), "gram-1")

    ((level, text),) = said(response)
    assert level == "warning"
    assert "WorkOS has external_id 'theirs'" in text


@durable
def test_reconciling_says_what_could_not_be_written_back(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="Acme")
    an_organization_row("gram-1", name="Acme", workos_id="org_1")
    workos.misbehave("status", status=500, method="PUT", path="/organizations")

    response = reconcile_rows(a_client("reconcile_organization"), "gram-1")

    assert said(response)[-1] == ("warning", "Not written back to WorkOS: 1; see the outbox")


@durable
def test_reconciling_says_when_workos_cant_be_asked(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    workos.misbehave("status", status=503, path="/organizations")

    response = reconcile_rows(a_client("reconcile_organization"), "gram-1")

    ((level, text),) = said(response)
    assert (level, text[:32]) == ("error", "Nothing was done: WorkOS does no")
    assert Organization.objects.get().disabled_at is None


@durable
def test_reconciling_a_row_that_is_gone_is_said(workos: FakeWorkOS) -> None:
    response = reconcile_rows(a_client("reconcile_organization"), "gram-nowhere")

    ((level, text),) = said(response)
    assert level == "error"
    assert "neither the mirror nor WorkOS knows" in text


@durable
def test_reconciling_many_that_are_gone_disables_none(workos: FakeWorkOS) -> None:
    ids = [f"gram-{number}" for number in range(12)]
    for id_ in ids:
        an_organization_row(id_, workos_id=f"org_{id_}")

    response = reconcile_rows(a_client("reconcile_organization"), *ids)

    assert ("error", "more than 10 of 12 linked") in [
        (level, text[:25]) for level, text in said(response)
    ]
    assert not Organization.objects.disabled().exists()


@durable
def test_without_its_permission_nobody_reconciles(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_gone")
    client = a_client("change_organization")

    page = client.get(ORGANIZATIONS)
    reconcile_rows(client, "gram-1")

    assert "Reconcile with WorkOS" not in page.content.decode()
    assert Organization.objects.get().disabled_at is None
    assert workos.count_requests() == 0


@pytest.mark.parametrize(
    ("webhook", "found"), [("none", "event_1"), ("alone", "event_2"), ("?", "event_1 event_2")]
)
def test_the_ledger_shows_lost_webhooks_and_lost_events(webhook: str, found: str) -> None:
    a_ledger_row("event_1", announced_at=None)
    a_ledger_row("event_2", announced_at=NOON, outcome=Outcome.MISSING)

    response = a_client().get(EVENTS, {"webhook": webhook})

    assert sorted(listed(response)) == found.split()


def test_the_ledger_counts_lost_webhooks_and_lost_events_on_request() -> None:
    for number in (1, 2, 3):
        a_ledger_row(f"event_{number}", announced_at=None)
    a_ledger_row("event_4", announced_at=NOON, outcome=Outcome.MISSING)
    client = a_client()

    page = client.get(EVENTS).content.decode()
    counted = client.get(EVENTS, {"_facets": "True"}).content.decode()

    assert 'href="?_facets=True"' in page
    assert "Listed, but no webhook came (3)" in counted
    assert "A webhook came, but it was never listed (1)" in counted
