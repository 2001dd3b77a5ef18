"""The tables: their defaults for programs that write SQL, and an index for each hot query."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.db.models import QuerySet

from orgs.db import sql, sql_outbox
from orgs.domain.types import EVENT_OUTCOMES, EventType, Outcome
from orgs.models import (
    ExternalIdWriteBack,
    Organization,
    RequestBudget,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)
from tests.builders import NOON, an_announcement, an_organization_row
from tests.concurrency import another_program
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

MINUTE = timedelta(seconds=60)


def test_other_programs_insert_with_the_columns_they_know() -> None:
    with another_program() as rival:
        rival.execute("INSERT INTO organization_metadata (id, name, slug) VALUES ('1', 'A', 'a')")

    row = Organization.objects.get()
    assert (row.gram_account_type, row.whitelisted) == ("free", True)
    assert row.workos_id is None
    assert row.disabled_at is None
    assert abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert row.updated_at == row.created_at


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO workos_sync_cursor (stream) VALUES ('organizations')",
        "INSERT INTO workos_event (id, type) VALUES ('event_1', 'organization.created')",
        "INSERT INTO workos_external_id_write_back (organization_id, workos_id) VALUES ('1', '2')",
        "INSERT INTO workos_request_budget DEFAULT VALUES",
        (
            "INSERT INTO workos_conflict (workos_organization_id, kind, reason)"
            " VALUES ('org_1', 'row_claimed', 'two claim it')"
        ),
    ],
)
def test_every_table_has_its_defaults_in_the_database(statement: str) -> None:
    an_organization_row("1")

    with another_program() as rival:
        rival.execute(statement)


def test_a_new_write_back_is_due() -> None:
    an_organization_row("gram-1")
    ExternalIdWriteBack.objects.create(organization_id="gram-1", workos_id="org_1")

    assert ExternalIdWriteBack.objects.due().count() == 1


@pytest.mark.parametrize("column", ["slug", "workos_id"])
def test_slugs_and_links_are_unique_by_name(column: str) -> None:
    an_organization_row("gram-1", **{column: "same"})

    with pytest.raises(IntegrityError, match=f"organization_metadata_{column}_key"):
        an_organization_row("gram-2", **{column: "same"})


@pytest.mark.parametrize("outcome", EVENT_OUTCOMES)
def test_the_ledger_takes_every_outcome_of_an_event(outcome: Outcome) -> None:
    WorkOSEvent.objects.create(id="event_1", outcome=outcome, processed_at=datetime.now(UTC))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"outcome": "unchanged", "processed_at": NOON}, id="a snapshot's"),
        pytest.param({"outcome": "created"}, id="outcome without time"),
        pytest.param({"processed_at": NOON}, id="time without outcome"),
    ],
)
def test_the_ledger_refuses_what_makes_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="workos_event_outcome"):
        WorkOSEvent.objects.create(id="event_1", **values)


def a_processed_event(event_id: str, outcome: Outcome, announced_at: datetime | None) -> None:
    times = {"announced_at": announced_at, "processed_at": datetime.now(UTC)}
    WorkOSEvent.objects.create(id=event_id, outcome=outcome, **times)


def test_unseen_and_overdue_part_at_the_window() -> None:
    an_announcement("event_recent", ago=timedelta(seconds=30))
    an_announcement("event_old", ago=timedelta(seconds=90))
    a_processed_event("event_seen", Outcome.CREATED, datetime.now(UTC))
    a_processed_event("event_never_announced", Outcome.CREATED, None)

    assert [e.id for e in WorkOSEvent.objects.unseen(within=MINUTE)] == ["event_recent"]
    assert [e.id for e in WorkOSEvent.objects.overdue(after=MINUTE)] == ["event_old"]


def test_lost_webhooks_and_lost_events_can_be_told_apart() -> None:
    a_processed_event("event_both", Outcome.CREATED, datetime.now(UTC))
    a_processed_event("event_without_webhook", Outcome.CREATED, None)
    a_processed_event("event_never_listed", Outcome.MISSING, datetime.now(UTC))
    an_announcement("event_waiting")

    assert [e.id for e in WorkOSEvent.objects.unannounced()] == ["event_without_webhook"]
    assert [e.id for e in WorkOSEvent.objects.missing()] == ["event_never_listed"]


# Plans --------------------------------------------------------------------------------------


@pytest.fixture
def full_tables(database: None) -> None:
    """Enough rows that reading a whole table is never the cheapest plan."""
    execute(
        """
        INSERT INTO organization_metadata (id, name, slug, workos_id)
        SELECT 'gram-' || n, 'Name', 'slug-' || n, 'org_' || n FROM generate_series(1, 20000) n;
        INSERT INTO workos_event (id, type, workos_organization_id, outcome, processed_at)
        SELECT 'event_' || n, 'organization.updated', 'org_' || n,
            CASE WHEN n % 1000 = 0 THEN 'parked' ELSE 'updated' END, now()
        FROM generate_series(1, 20000) n;
        INSERT INTO workos_external_id_write_back (organization_id, workos_id, next_attempt_at)
        SELECT id, workos_id, now() + interval '1 hour' FROM organization_metadata;
        ANALYZE organization_metadata, workos_event, workos_external_id_write_back
        """
    )


def uses(explained: str, indexes: str) -> bool:
    return "Seq Scan" not in explained and all(index in explained for index in indexes.split())


ORGANIZATIONS, ROWS = [f"org_{n}" for n in range(100)], [f"gram-{n}" for n in range(200)]
SLUGS = [f"slug-{n}" for n in range(600)]


@pytest.mark.usefixtures("full_tables")
@pytest.mark.parametrize(
    ("statement", "parameters", "indexes"),
    [
        pytest.param(
            *(sql.LOCK_ORGANIZATIONS, [ORGANIZATIONS, ROWS]),
            "organization_metadata_workos_id_key organization_metadata_",
            id="rows of a page",
        ),
        pytest.param(sql.TAKEN_SLUGS, [SLUGS], "organization_metadata_slug_key", id="slugs taken"),
        pytest.param(sql.KNOWN_DELETIONS, [["org_1"]], "workos_event_deletion", id="deletions"),
        pytest.param(
            *(sql.REFUSED_BEFORE, ["PostgreSQL 23502:", "org_1"], "workos_event_processed"),
            id="refused in a row",
        ),
        pytest.param(
            *(sql_outbox.CLAIM_WRITE_BACKS, [NOON, ["gram-1"], None, None, 40, 60]),
            "workos_write_back_due",
            id="due write-backs",
        ),
    ],
)
def test_hot_statements_use_their_index(statement: str, parameters: Any, indexes: str) -> None:
    explained = "\n".join(line for (line,) in execute(f"EXPLAIN {statement}", *parameters))

    assert uses(explained, indexes), explained


EVENTS = WorkOSEvent.objects
ROW = Organization(id="gram-7", workos_id="org_7")


@pytest.mark.usefixtures("full_tables")
@pytest.mark.parametrize(
    ("find", "indexes"),
    [
        pytest.param(lambda: EVENTS.unseen(within=MINUTE), "workos_event_unseen", id="unseen"),
        pytest.param(
            lambda: EVENTS.overdue(after=MINUTE)[:100], "workos_event_unseen", id="overdue"
        ),
        pytest.param(
            lambda: EVENTS.parked().filter(id="event_1000"), "workos_event_", id="a parked event"
        ),
        pytest.param(
            lambda: EVENTS.about(ROW)[:50],
            "workos_event_row workos_event_organization",
            id="an organization's history",
        ),
        pytest.param(
            lambda: EVENTS.prunable(after=timedelta(days=90)),
            "workos_event_processed",
            id="prunable events",
        ),
    ],
)
def test_hot_queries_use_their_index(
    find: Callable[[], QuerySet[WorkOSEvent]], indexes: str
) -> None:
    explained = find().explain()

    assert uses(explained, indexes), explained


def test_rows_describe_themselves() -> None:
    assert str(Organization(id="gram-1", name="Acme")) == "Acme"
    assert str(SyncCursor(stream="organizations")) == "organizations"
    assert str(WorkOSEvent(id="event_1", type=EventType.CREATED)) == "event_1"
    assert str(ExternalIdWriteBack(organization_id="gram-1", workos_id="org_1")) == "gram-1 → org_1"
    assert str(WorkOSConflict(workos_organization_id="org_1")) == "org_1"
    assert str(RequestBudget()) == "workos_request_budget"


def test_organizations_can_be_asked_for_by_state() -> None:
    now = datetime.now(UTC)
    an_organization_row("gram-1", workos_id="org_1")
    an_organization_row("gram-2", workos_id="org_2", disabled_at=now)
    an_organization_row("gram-3", workos_id="org_3", disabled_at=now, workos_deleted_at=now)
    an_organization_row("gram-4", disabled_at=now)
    an_organization_row("gram-5")
    ExternalIdWriteBack.objects.create(organization_id="gram-1", workos_id="org_1")
    organizations = Organization.objects.order_by("id")

    def numbers(found: QuerySet[Organization]) -> str:
        return "".join(row.id.removeprefix("gram-") for row in found)

    assert numbers(organizations.linked()) == "123"
    assert numbers(organizations.live()) == "1"
    assert numbers(organizations.disabled()) == "234"
    assert numbers(organizations.disabled_here()) == "2"
    assert numbers(organizations.awaiting_write_back()) == "1"
    assert numbers(organizations.by_either_id("org_2")) == "2"
    assert numbers(organizations.by_either_id("gram-2")) == "2"


def test_conflicts_wait_until_they_are_acknowledged() -> None:
    for workos_id, at in (("org_1", None), ("org_2", datetime.now(UTC))):
        WorkOSConflict.objects.create(workos_organization_id=workos_id, acknowledged_at=at)

    assert [str(conflict) for conflict in WorkOSConflict.objects.undecided()] == ["org_1"]
