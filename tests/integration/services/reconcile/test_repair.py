"""What a run repairs, what it leaves to people and to events, and when it says ``in_sync``."""

import hashlib
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django import DjangoAssertNumQueries

import orgs.workos
from orgs.db.cursor import ensure_cursor
from orgs.domain.naming import derived_id
from orgs.domain.types import Outcome
from orgs.models import Organization
from orgs.services.compare import Comparison, DisableLimit, Run
from orgs.services.coverage import adopt_settings
from orgs.services.lookups import Lookups
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.testing import FakeWorkOS
from tests.builders import (
    NOON,
    TWO_DAYS_AGO,
    a_linked_row,
    a_mirrored_organization,
    an_old_organization,
    an_organization_row,
)
from tests.integration.services.stored import (
    changes,
    compared,
    conflicts,
    cursor,
    disabled,
    impatient,
    kinds,
    only,
    row,
)
from tests.mirrored import held, mirrored, some_of_each
from tests.triggers import locked

FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("no_link", [None, ""])
def test_drift_of_every_kind_is_repaired_and_then_there_is_none(
    workos: FakeWorkOS, no_link: str | None
) -> None:
    created = an_old_organization(workos, "Created")
    an_old_organization(workos, "Linked", external_id="gram-linked")
    an_organization_row("gram-linked", name="Linked", workos_id=no_link)
    relinked = an_old_organization(workos, "Relinked", external_id="gram-relinked")
    an_organization_row("gram-relinked", name="Relinked", workos_id="org_replaced")
    a_linked_row(workos, "gram-renamed", there="WorkOS's name", name="Renamed here")
    an_organization_row("gram-deleted", name="Deleted", workos_id="org_deleted")
    a_linked_row(workos, "gram-forgotten", there="Forgotten", external_id=None, name="Forgotten")

    first, noted = compared(), cursor()
    second = compared()

    assert (noted.last_drift, cursor().last_drift) == (6, 0)
    assert noted.reconciled_at is not None
    assert changes(first) == sorted(
        [
            (derived_id(created), "created"),
            ("gram-linked", "linked"),
            ("gram-relinked", "relinked"),
            ("gram-renamed", "updated"),
            ("gram-deleted", "disabled"),
            ("gram-forgotten", "write_back"),
        ]
    )
    assert (first.in_sync, first.write_backs.pushed) == (False, 2)
    assert (changes(second), second.in_sync) == ([], True)
    assert second.organizations.counts["unchanged"] == second.organizations_listed == 5
    assert row("gram-relinked").workos_id == relinked
    assert row("gram-renamed").name == "WorkOS's name"
    deleted = row("gram-deleted")
    assert None not in (deleted.disabled_at, deleted.workos_deleted_at)
    assert deleted.workos_id == "org_deleted"
    assert row(derived_id(created)).slug == "created"


@pytest.mark.parametrize("listed_at", [TWO_DAYS_AGO, FAR_AHEAD], ids=["then", "in the future"])
def test_a_time_in_the_future_keeps_no_row_wrong(workos: FakeWorkOS, listed_at: datetime) -> None:
    live = workos.create_organization(name="New", external_id="gram-1", at=listed_at)["id"]
    an_organization_row("gram-1", name="Old", workos_id=live, workos_updated_at=FAR_AHEAD)

    assert changes(compared()) == [("gram-1", "updated")]
    assert Organization.objects.get().name == "New"
    assert compared().in_sync


def test_what_is_recent_is_left_to_its_event(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Just now", emits=False)
    workos.create_organization(name="Takes a row over", external_id="gram-1", emits=False)
    a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id="org_deleted")

    found = compared(limit=DisableLimit(rows=0, percent=0))

    assert (found.in_sync, found.errors) == (True, [])
    assert found.organizations.counts["unchanged"] == 3
    assert Organization.objects.count() == 2
    assert disabled() == [], "a row that is about to be taken over is not disabled either"


@pytest.mark.parametrize("is_linked", [True, False])
def test_what_is_recent_is_so_by_workos_clock(workos: FakeWorkOS, is_linked: bool) -> None:
    """The database's clock is ten hours behind it."""
    workos.set_clock_offset(10 * 3_600.0)
    if is_linked:
        a_mirrored_organization(workos)
    an_hour_ago = datetime.now(UTC) + timedelta(hours=9)
    workos.create_organization(name="Missed", external_id="gram-1", at=an_hour_ago, emits=False)
    workos.create_organization(name="Just now", external_id="gram-2", emits=False)

    assert changes(compared()) == [("gram-1", "created")]


@impatient
def test_a_row_disabled_here_is_reported_and_left_alone_without_a_lock(workos: FakeWorkOS) -> None:
    a_linked_row(workos, disabled_at=NOON)

    with locked():
        found = compared()

    assert (changes(found), found.errors) == ([("gram-1", "disabled_here")], [])
    assert (found.in_sync, found.organizations.counts["disabled_here"]) == (True, 1)
    assert disabled() == ["gram-1"]


def test_conflicts_are_stored_and_all_else_repaired(workos: FakeWorkOS) -> None:
    alive = a_linked_row(workos, there="WorkOS's name", external_id="elsewhere", name="Old")
    claims = an_old_organization(workos, "Claims the row", external_id="gram-1")

    first, second = compared(), compared()

    assert kinds(first) == ["conflict", "conflict", "updated"]
    assert (kinds(second), second.in_sync) == (["conflict", "conflict"], True)
    assert (row("gram-1").workos_id, row("gram-1").name) == (alive, "WorkOS's name")
    other, claimed = ("gram-1", "other_external_id"), ("gram-1", "row_claimed")
    assert conflicts() == {alive: other, claims: claimed}


@pytest.mark.parametrize("is_full", [True, False], ids=["a full run", "--org"])
def test_a_conflict_without_a_row_ends_with_the_deletion(workos: FakeWorkOS, is_full: bool) -> None:
    a_mirrored_organization(workos)
    claims = an_old_organization(workos, external_id="gram-1")
    owner = a_linked_row(workos, external_id="elsewhere")
    compared()
    workos.delete_organization(claims, emits=False)

    found = compared() if is_full else only(claims)

    assert conflicts() == {owner: ("gram-1", "other_external_id")}
    assert (found.errors, disabled()) == ([], [])


@pytest.mark.parametrize("is_full", [True, False], ids=["a full run", "--org"])
def test_one_that_cant_be_read_is_in_conflict_and_exists(workos: FakeWorkOS, is_full: bool) -> None:
    odd = a_linked_row(workos)
    shown = {"id": odd, "name": None}
    listed = {"data": [shown], "list_metadata": {"after": None}}
    workos.misbehave("body", path="/organizations", exact=True, body=listed, times=None)
    workos.misbehave("body", path="/organizations/", body=shown, times=None)

    found = compared() if is_full else only("gram-1")

    (change,) = found.organizations.changes
    assert (change.organization_id, change.workos_id, change.change) == (None, odd, "conflict")
    assert change.reason == "name is missing or empty"
    assert (disabled(), conflicts()) == ([], {odd: (None, "unreadable")})


def contents() -> str:
    """Every byte of every table of ours, but for the requests that are counted."""
    digest = hashlib.sha256()
    tables = "organization_metadata", "workos_sync_cursor", "workos_event", "workos_conflict"
    with connection.cursor() as cursor:
        for table in (*tables, "workos_external_id_write_back", "django_q_ormq"):
            cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
            digest.update(repr(cursor.fetchall()).encode())
    return digest.hexdigest()


@pytest.fixture
def drifted(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_old_organization(workos, "Created")
    a_linked_row(workos, "gram-renamed", there="There", name="Here")
    an_organization_row("gram-deleted", workos_id="org_deleted")
    a_linked_row(workos, "gram-claimed", external_id="elsewhere")
    workos.create_organization(name="Waiting")


@pytest.mark.usefixtures("drifted")
def test_a_dry_run_finds_the_same_and_writes_nothing(workos: FakeWorkOS) -> None:
    ensure_cursor()
    before = contents()
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        in_transaction = context["connection"].in_atomic_block
        if "workos_request_budget" not in sql:
            statements.append(sql if in_transaction else f"outside a transaction: {sql}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        dry = reconcile(Run(dry=True))
        one = only("gram-renamed", "org_deleted", dry=True)

    assert contents() == before
    assert workos.count_requests(method="PUT", path=None) == 0
    assert (dry.events.waiting, dry.in_sync, dry.errors) == (1, False, [])
    assert cursor().reconciled_at is None
    assert kinds(dry) == ["conflict", "created", "disabled", "updated"]
    assert kinds(one) == ["disabled", "updated"]
    # Every transaction begins read-only.
    assert not [statement for statement in statements if "outside" in statement]
    begins = [number for number, s in enumerate(statements) if "TRANSACTION READ ONLY" in s]
    assert (begins[0], len(begins) >= 5) == (0, True)
    assert changes(compared()) == changes(dry)


def test_a_page_in_sync_takes_few_queries_and_no_write(
    workos: FakeWorkOS, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    workos.seed(organizations=300, at=NOON, external_id_prefix="gram-", emits=False)
    compared()
    page = orgs.workos.read_organizations(None)

    with django_assert_num_queries(1):
        Comparison(Run(), Lookups(), recent_after=NOON).compare(page.observations)


def test_memory_grows_by_a_hash_an_organization(workos: FakeWorkOS) -> None:
    workos.seed(organizations=4_000, at=NOON, external_id_prefix="gram-", emits=False)
    compared()
    peaks: list[int] = []

    def note(_: str, count: int) -> None:
        if count in (1_000, 4_000):
            peaks.append(tracemalloc.get_traced_memory()[1])

    tracemalloc.start()
    try:
        compared(progress=note)
    finally:
        tracemalloc.stop()

    early, late, *_ = peaks
    assert (late - early) / 3_000 < 128, "bytes an organization: its hash"


QUIETLY: dict[str, Any] = {"at": TWO_DAYS_AGO, "emits": False}


@pytest.fixture
def organizations(all_resources: None, workos: FakeWorkOS) -> list[str]:
    """Two organizations that have everything, and of which no event is read."""
    adopt_settings()
    ids = []
    for name in ("Acme", "Bolt"):
        created: Any = workos.create_organization(name=name, external_id=name.lower(), **QUIETLY)
        some_of_each(workos, created["id"], emits=False)
        ids.append(created["id"])
    return ids


def lines(run: Run, *ids: str) -> list[str]:
    found = reconcile_organizations(run, ids) if ids else reconcile(run)
    assert found.errors == []
    return sorted(str(change) for change in found.changes)


@pytest.mark.usefixtures("organizations")
def test_what_belongs_to_organizations_that_are_not_here_yet(workos: FakeWorkOS) -> None:
    an_organization_row("acme")  # which is linked
    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert len(dry) == 22
    assert mirrored() == held(workos)


@pytest.mark.usefixtures("organizations")
def test_a_row_of_which_several_columns_differ_is_one_change(workos: FakeWorkOS) -> None:
    reconcile(Run())
    Organization.objects.filter(id="bolt").update(workos_last_event_id="event_1")
    Organization.objects.update(name="Drifted", sso_enabled=None)
    an_organization_row("gram-relinked", workos_id="org_deleted", scim_enabled=True)
    an_old_organization(workos, "New", external_id="gram-relinked")
    dry = reconcile(Run(dry=True))
    found = reconcile(Run())

    assert [*map(str, found.changes)] == [*map(str, dry.changes)]
    assert [report.organizations.counts[Outcome.UPDATED] for report in (dry, found)] == [2, 2]
    assert "sso_enabled" in str(found.changes[1])
    assert found.organizations.counts[Outcome.RELINKED] == 1


@pytest.mark.parametrize(
    "what",
    [
        *("an organization", "one that is disabled here", "one in conflict"),
        *("one whose row another one takes over", "a user of a directory"),
    ],
)
def test_what_belongs_to_something_that_is_deleted(
    workos: FakeWorkOS, organizations: list[str], what: str
) -> None:
    reconcile(Run())
    bolt = organizations[1]
    row = Organization.objects.filter(workos_id=bolt)
    if what == "one that is disabled here":
        row.update(disabled_at=Now())
    elif what == "one in conflict":
        row.update(workos_id=workos.create_organization(name="Bolt", **QUIETLY)["id"])
        assert reconcile(Run()).organizations.counts[Outcome.CONFLICT]
    if what == "a user of a directory":
        workos.directory_users.delete(workos.directory_users.all()[0]["id"], emits=False)
    else:
        workos.delete_organization(bolt, emits=False)
    if what == "one whose row another one takes over":
        workos.create_organization(name="Bolt", external_id="bolt", **QUIETLY)

    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert mirrored() == held(workos)


def test_one_organization_alone(workos: FakeWorkOS, organizations: list[str]) -> None:
    dry = lines(Run(dry=True), organizations[0])

    assert lines(Run(), organizations[0]) == dry
    assert any("directory_group_member" in line for line in dry)
    reconcile(Run())
    okta = workos.directories.where("organization_id", organizations[0])[0]["id"]
    workos.directories.delete(okta, emits=False)

    assert lines(Run(dry=True), organizations[0]) == lines(Run(), organizations[0])
