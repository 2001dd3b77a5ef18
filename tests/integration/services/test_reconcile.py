"""The snapshot against real PostgreSQL and a WorkOS that lies in every way it is known to."""

import hashlib
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from orgs import workos as edge
from orgs.db.cursor import ensure_cursor, read_cursor, replace_lost
from orgs.db.leases import Lease
from orgs.domain.naming import derived_id
from orgs.domain.types import Change, EventType, ObjectPage, Outcome, Position, Row
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services import apply as applying
from orgs.services import compare as comparing
from orgs.services import reconcile as reconciling
from orgs.services.compare import Comparing, DisableLimit, Run
from orgs.services.reconcile import Reconciliation, reconcile, reconcile_unless_busy
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.refresh import Lookups
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import an_organization_row
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")

LONG_AGO = (datetime.now(UTC) - timedelta(days=2)).isoformat()


def an_old_organization(workos: FakeWorkOS, name: str = "Acme", **values: Any) -> str:
    """Created two days ago, without an event that could still be listed."""
    organization = workos.create_organization(name=name, at=LONG_AGO, emits=False, **values)
    return str(organization["id"])


def snapshot(**values: Any) -> Reconciliation:
    return reconcile(Run(**values), drain_events=False)


def changes(found: Reconciliation) -> list[tuple[str | None, str]]:
    ordered = sorted(found.snapshot.changes, key=lambda change: change.order)
    return [(change.organization_id, change.change) for change in ordered]


def row(organization_id: str) -> Organization:
    return Organization.objects.get(id=organization_id)


# Repair -------------------------------------------------------------------------------------


def test_drift_of_every_kind_is_repaired_and_the_second_run_is_empty(
    workos: FakeWorkOS,
) -> None:
    created = an_old_organization(workos, "Created")
    an_old_organization(workos, "Linked", external_id="gram-linked")
    an_organization_row("gram-linked", name="Linked")
    relinked = an_old_organization(workos, "Relinked", external_id="gram-relinked")
    an_organization_row("gram-relinked", name="Relinked", workos_id="org_missing")
    renamed = an_old_organization(workos, "WorkOS's name", external_id="gram-renamed")
    an_organization_row("gram-renamed", name="Renamed here", workos_id=renamed)
    an_organization_row("gram-deleted", name="Deleted", workos_id="org_deleted")
    forgotten = an_old_organization(workos, "Forgotten")
    an_organization_row("gram-forgotten", name="Forgotten", workos_id=forgotten)

    first, second = snapshot(), snapshot()

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
    assert not first.in_sync
    assert first.write_backs.pushed == 2
    assert changes(second) == []
    assert second.in_sync
    assert second.snapshot.counts["unchanged"] == second.organizations == 5
    assert row("gram-relinked").workos_id == relinked
    assert row("gram-renamed").name == "WorkOS's name"
    assert row("gram-deleted").disabled_at is not None
    assert row("gram-deleted").workos_id == "org_deleted"
    assert row(derived_id(created)).slug == "created"


def test_a_first_run_mirrors_what_was_there_before(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    workos.seed(organizations=250, at=LONG_AGO, emits=False)

    found = snapshot()

    assert found.organizations == 250
    assert found.snapshot.counts["created"] == 250
    assert Organization.objects.count() == 250
    assert not ExternalIdWriteBack.objects.exists()
    assert SyncCursor.objects.get().reconciled_at is not None
    assert SyncCursor.objects.get().last_drift == 250


def test_a_run_that_finds_nothing_says_so_of_itself(workos: FakeWorkOS) -> None:
    workos.seed(organizations=2, at=LONG_AGO, emits=False)
    snapshot()

    snapshot()

    assert SyncCursor.objects.get().last_drift == 0


def test_a_repair_writes_only_what_workos_owns(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    before = an_organization_row(
        "gram-1", name="Old", slug="by-hand", workos_id=acme, gram_account_type="pro"
    )

    snapshot()

    after = row("gram-1")
    assert (after.slug, after.gram_account_type) == ("by-hand", "pro")
    assert after.created_at == before.created_at
    assert after.workos_last_event_id is None


def test_a_row_disabled_here_is_told_and_not_enabled(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    an_organization_row("gram-1", name="Acme", workos_id=acme, disabled_at=datetime.now(UTC))

    found = snapshot()

    assert changes(found) == [("gram-1", "disabled_here")]
    assert found.in_sync
    assert row("gram-1").disabled_at is not None


def test_conflicts_are_told_and_left_alone(workos: FakeWorkOS) -> None:
    alive = an_old_organization(workos, "Alive")
    an_old_organization(workos, "Acme", external_id="gram-1")
    an_organization_row("gram-1", name="Alive", workos_id=alive)
    workos.update_organization(alive, external_id="elsewhere", at=LONG_AGO, emits=False)

    found = snapshot()

    assert [change.change for change in found.snapshot.changes] == ["conflict", "conflict"]
    assert found.in_sync
    assert row("gram-1").workos_id == alive
    assert Organization.objects.count() == 1


def test_what_postgresql_refuses_is_failed_and_the_rest_of_the_page_is_repaired(
    workos: FakeWorkOS,
) -> None:
    an_old_organization(workos, "Forbidden")
    an_old_organization(workos, "Allowed")
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE organization_metadata ADD CONSTRAINT theirs CHECK (name <> 'Forbidden')"
        )
    try:
        found = snapshot()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata DROP CONSTRAINT theirs")

    assert sorted(change.change for change in found.snapshot.changes) == ["created", "failed"]
    assert "PostgreSQL refused to write 1 organization" in found.errors[0]
    assert not found.in_sync
    assert Organization.objects.get().name == "Allowed"


def test_a_row_that_another_program_has_locked_does_not_keep_the_rest_from_repair(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    locked = an_old_organization(workos, "Locked", external_id="gram-locked")
    an_organization_row("gram-locked", name="Old", workos_id=locked)
    an_old_organization(workos, "Free", external_id="gram-free")

    with another_program() as other:
        other.execute("SELECT FROM organization_metadata WHERE id = 'gram-locked' FOR UPDATE")
        found = snapshot()

    assert changes(found) == [("gram-free", "created")]
    assert "locked by another program" in found.errors[0]
    assert changes(snapshot()) == [("gram-locked", "updated")]


def test_a_page_is_decided_again_under_its_locks(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "WorkOS's name", external_id="gram-1")
    an_organization_row("gram-1", name="Drifted", workos_id=acme)

    with another_program() as other, in_thread() as start:
        other.execute(
            "UPDATE organization_metadata SET name = 'Newer', workos_updated_at = now(),"
            " workos_last_event_id = 'event_9'"
        )
        running = start(snapshot)
        wait_until_blocked()
        other.commit()
        found = running.result()

    assert changes(found) == []
    assert found.snapshot.counts["stale"] == 1
    assert row("gram-1").name == "Newer"
    assert row("gram-1").workos_last_event_id == "event_9"


def test_traffic_is_left_to_its_event(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Just now", emits=False)

    found = snapshot()

    assert found.in_sync
    assert found.snapshot.counts["unchanged"] == 1
    assert not Organization.objects.exists()


def test_a_snapshot_does_not_bring_back_what_the_stream_has_deleted(
    workos: FakeWorkOS,
) -> None:
    acme = an_old_organization(workos)
    WorkOSEvent.objects.create(
        id="event_1",
        type=EventType.DELETED,
        workos_organization_id=acme,
        outcome=Outcome.UNKNOWN,
        processed_at=datetime.now(UTC),
    )

    found = snapshot()

    assert found.snapshot.counts["stale"] == 1
    assert not Organization.objects.exists()


def test_a_write_back_that_is_due_is_not_found_twice(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos)
    an_organization_row("gram-1", name="Acme", workos_id=acme)
    workos.misbehave("status", status=500, method="PUT", path="/organizations")

    first, second, third = snapshot(), snapshot(), snapshot()

    assert (first.write_backs.failed, second.write_backs.pushed) == (1, 1)
    assert changes(second) == [("gram-1", "write_back")]
    assert third.in_sync


# The missing --------------------------------------------------------------------------------


def a_live_organization(workos: FakeWorkOS) -> str:
    """An organization in sync: without one, a 404 proves nothing, and the list shows no link."""
    live = an_old_organization(workos, "Live", external_id="gram-live")
    an_organization_row("gram-live", name="Live", workos_id=live)
    return live


def linked_rows(count: int, workos_id: str = "org_missing_{}") -> None:
    for number in range(count):
        an_organization_row(f"missing-{number:03}", workos_id=workos_id.format(number))


def nothing_is_disabled() -> bool:
    return not Organization.objects.disabled().exists()


def test_more_missing_than_the_limit_disables_nothing_and_asks_for_one_more(
    workos: FakeWorkOS,
) -> None:
    a_live_organization(workos)
    linked_rows(30)

    found = snapshot(limit=DisableLimit(rows=4, percent=0))

    assert nothing_is_disabled()
    assert "more than 4 of 31 linked organizations are missing" in found.errors[0]
    assert not found.in_sync
    assert SyncCursor.objects.get().reconciled_at is None
    assert workos.count_requests(path="/organizations/") <= 8


def test_as_many_missing_as_the_limit_are_disabled(workos: FakeWorkOS) -> None:
    a_live_organization(workos)
    linked_rows(10)

    found = snapshot(limit=DisableLimit(rows=10, percent=0))

    assert Organization.objects.disabled().count() == 10
    assert found.snapshot.counts["disabled"] == 10
    assert found.errors == []


@pytest.mark.parametrize(
    ("limit", "linked", "allowed"),
    [
        (DisableLimit(), 100, 10),
        (DisableLimit(), 5_000, 50),
        (DisableLimit(rows=3, percent=0), 5_000, 3),
        (DisableLimit(rows=0, percent=Fraction("2.3")), 3_000, 69),
        (DisableLimit(rows=0, percent=0), 1_000, 0),
    ],
)
def test_the_limit_is_the_larger_of_the_two(limit: DisableLimit, linked: int, allowed: int) -> None:
    assert limit.allows(linked) == allowed


def a_relink(workos: FakeWorkOS, number: int = 0) -> None:
    """A living organization names a row that is linked to one that is missing."""
    an_old_organization(workos, f"New {number}", external_id=f"gram-{number}")
    an_organization_row(f"gram-{number}", workos_id=f"org_missing_{number}")


def test_a_relinked_row_is_not_told_to_be_disabled_by_a_dry_run_either(
    workos: FakeWorkOS,
) -> None:
    a_live_organization(workos)
    for number in range(12):
        a_relink(workos, number)

    dry = snapshot(dry=True)
    wet = snapshot()

    assert {kind for _, kind in changes(dry)} == {"relinked"}
    assert changes(dry) == changes(wet)
    assert (dry.errors, wet.errors) == ([], [])
    assert nothing_is_disabled()


@pytest.mark.parametrize("ids", [["gram-0"], ["org_missing_0"]])
def test_a_row_that_another_organization_names_is_relinked_and_not_disabled(
    workos: FakeWorkOS, ids: list[str]
) -> None:
    a_live_organization(workos)
    a_relink(workos)

    found = reconcile_organizations(Run(), ids)

    assert changes(found) == [("gram-0", "relinked")]
    assert nothing_is_disabled()


def test_a_row_whose_relink_is_on_its_way_is_not_disabled(workos: FakeWorkOS) -> None:
    a_live_organization(workos)
    workos.create_organization(name="Young", external_id="gram-1", emits=False)
    an_organization_row("gram-1", workos_id="org_missing")

    found = snapshot()

    assert found.in_sync
    assert nothing_is_disabled()


def test_a_link_that_cant_be_asked_for_is_a_conflict_and_stops_nothing(
    workos: FakeWorkOS,
) -> None:
    a_live_organization(workos)
    an_organization_row("gram-odd", workos_id="..")
    an_organization_row("gram-missing", workos_id="org_missing")

    found = snapshot()

    assert sorted(kind for _, kind in changes(found)) == ["disabled", "unproven"]
    assert row("gram-odd").disabled_at is None


def test_what_cant_all_be_asked_for_in_time_is_left_alone(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    with pytest.raises(edge.Unavailable, match="choose fewer"):
        reconcile_organizations(Run(), [acme], deadline=time.monotonic() - 1)

    assert not Organization.objects.exists()
    assert workos.count_requests() == 0


def test_a_row_that_cant_be_disabled_does_not_keep_the_rest_enabled(
    workos: FakeWorkOS,
) -> None:
    a_live_organization(workos)
    linked_rows(3)
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE organization_metadata ADD CONSTRAINT theirs "
            "CHECK (disabled_at IS NULL OR id <> 'missing-001')"
        )
    try:
        found = snapshot()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata DROP CONSTRAINT theirs")

    assert sorted(change.change for change in found.snapshot.changes) == [
        "disabled",
        "disabled",
        "failed",
    ]
    assert row("missing-001").disabled_at is None
    assert "PostgreSQL refused to write 1 organization" in found.errors[0]


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "12026-01-01", "0044-03-15 BC"])
def test_a_time_that_python_cant_hold_does_not_keep_the_rest_from_repair(
    workos: FakeWorkOS, moment: str
) -> None:
    for number in (1, 2, 3):
        an_old_organization(workos, f"Acme {number}", external_id=f"gram-{number}")
    snapshot()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organization_metadata SET name = 'Theirs'")
        cursor.execute(
            "UPDATE organization_metadata SET workos_updated_at = %s WHERE id = 'gram-2'", [moment]
        )

    snapshot()

    names = Organization.objects.exclude(id="gram-2").values_list("name", flat=True)
    assert sorted(names) == ["Acme 1", "Acme 3"]
    # Or its page in the admin could not be shown, nor the table be emptied.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE organization_metadata SET workos_updated_at = NULL")


def test_a_row_that_is_locked_while_it_is_disabled_is_said(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    a_live_organization(workos)
    sync_setting(LOCK_TIMEOUT=0.05)
    linked_rows(3)

    with another_program() as other:
        other.execute("SELECT FROM organization_metadata WHERE id = 'missing-001' FOR UPDATE")
        found = snapshot()

    assert [id_ for id_, _ in changes(found)] == ["missing-000", "missing-002"]
    assert found.errors == ["org_missing_1 is locked by another program; run it again"]


def test_an_organization_that_is_listed_twice_is_compared_once(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, external_id="gram-1")
    listed = workos.organization(acme)
    workos.misbehave(
        "body",
        path="/organizations",
        exact=True,
        body={"data": [listed, listed], "list_metadata": {"after": None}},
    )

    found = snapshot()

    assert found.organizations == 1
    assert changes(found) == [("gram-1", "created")]


def test_a_pause_that_workos_asks_for_in_a_listing_is_kept(workos: FakeWorkOS) -> None:
    workos.seed(organizations=150, at=LONG_AGO, external_id_prefix="gram-", emits=False)
    workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave("rate_limited", retry_after=1, path="/organizations", exact=True)

    found = snapshot()

    assert found.errors == []
    assert Organization.objects.count() == 150


def test_a_write_back_that_failed_is_trouble(workos: FakeWorkOS) -> None:
    an_old_organization(workos)
    workos.misbehave("status", status=500, method="PUT", path="/organizations")

    found = snapshot()

    assert found.errors == [
        "1 write-back failed and will be tried again; see the external_id write-backs"
    ]
    assert not found.in_sync


def test_an_id_that_workos_cant_hold_waits_for_a_person(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos)
    an_organization_row("grämmm", name="Acme", workos_id=acme)

    first, second = snapshot(), snapshot()

    assert first.write_backs.conflicts == 1
    assert changes(second) == [("grämmm", "conflict")]
    assert second.in_sync
    assert workos.count_requests(method="PUT", path=None) == 0


def test_only_a_404_of_workoss_own_disables(workos: FakeWorkOS) -> None:
    a_live_organization(workos)
    linked_rows(1)
    workos.misbehave("html", status=404, path="/organizations/")

    found = snapshot()

    assert nothing_is_disabled()
    assert "a 404 that is not WorkOS's own" in found.errors[0]


def test_trouble_with_one_that_is_missing_disables_none(workos: FakeWorkOS) -> None:
    a_live_organization(workos)
    linked_rows(5)
    workos.misbehave("status", status=500, path="/organizations/org_missing_3")

    found = snapshot()

    assert nothing_is_disabled()
    assert len(found.errors) == 1
    assert snapshot().snapshot.counts["disabled"] == 5


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        pytest.param({"kind": "html"}, "not a page of a list", id="HTML"),
        pytest.param({"kind": "truncated"}, "not a page of a list", id="truncated"),
        pytest.param({"kind": "empty"}, "not a page of a list", id="empty"),
        pytest.param({"kind": "body", "body": []}, "not a page of a list", id="a bare list"),
        pytest.param({"kind": "body", "body": {"data": None}}, "not a page", id="data null"),
        pytest.param({"kind": "no_list_metadata"}, "not a page of a list", id="no list_metadata"),
        pytest.param(
            {
                "kind": "body",
                "body": {"data": [], "list_metadata": {"before": None, "after": "org_1"}},
            },
            "WorkOS listed nothing, and said that there is more",
            id="empty, with more",
        ),
        pytest.param(
            {
                "kind": "body",
                "body": {"data": [{"name": "?"}], "list_metadata": {"after": None}},
            },
            "has no usable id",
            id="without an id",
        ),
        pytest.param({"kind": "repeated_page", "times": None}, "same page", id="repeats"),
        pytest.param({"kind": "status", "status": 500}, "does not answer", id="500"),
        pytest.param({"kind": "reset"}, "can't be asked", id="reset"),
    ],
)
@pytest.mark.parametrize("pages_before", [0, 1, 2])
def test_a_broken_listing_disables_nothing(
    workos: FakeWorkOS, misbehaviour: dict[str, Any], error: str, pages_before: int
) -> None:
    workos.seed(organizations=250, at=LONG_AGO, external_id_prefix="gram-", emits=False)
    snapshot()
    an_organization_row("missing", workos_id="org_missing")
    for _ in range(pages_before):
        workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave(path="/organizations", exact=True, **misbehaviour)

    found = snapshot()
    workos.behave()

    assert nothing_is_disabled()
    assert error in found.errors[0]
    assert not found.in_sync
    assert changes(snapshot()) == [("missing", "disabled")]


def test_an_organization_that_cant_be_read_is_a_conflict_and_is_there(
    workos: FakeWorkOS,
) -> None:
    an_organization_row("gram-1", workos_id="org_odd")
    workos.misbehave(
        "body",
        times=2,
        path="/organizations",
        exact=True,
        body={"data": [{"id": "org_odd", "name": None}], "list_metadata": {"after": None}},
    )

    found = snapshot()

    assert changes(found) == [(None, "conflict")]
    assert nothing_is_disabled()


def test_one_that_was_created_while_the_listing_was_read_is_not_missing(
    workos: FakeWorkOS,
) -> None:
    live = workos.organization(id=a_live_organization(workos))
    young = workos.create_organization(name="Young", external_id="gram-1", emits=False)
    an_organization_row("gram-1", name="Young", workos_id=young["id"])
    workos.misbehave(
        "body",
        times=2,
        path="/organizations",
        exact=True,
        body={"data": [live], "list_metadata": {"after": None}},
    )

    found = snapshot()

    assert found.errors == []
    assert nothing_is_disabled()


def test_a_link_that_moved_meanwhile_is_not_disabled(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_live_organization(workos)
    linked_rows(1)
    look_up = Lookups.look_up

    def and_then_it_moves(lookups: Lookups, workos_id: str) -> Any:
        answer = look_up(lookups, workos_id)
        with another_program() as other:
            other.execute(
                "UPDATE organization_metadata SET workos_id = 'org_new' WHERE id LIKE 'missing%'"
            )
        return answer

    monkeypatch.setattr(Lookups, "look_up", and_then_it_moves)

    found = snapshot()

    assert nothing_is_disabled()
    assert changes(found) == []


# Dry ----------------------------------------------------------------------------------------


def contents() -> str:
    """Every byte of every table of ours."""
    digest = hashlib.sha256()
    with connection.cursor() as cursor:
        for table in (
            "organization_metadata",
            "workos_sync_cursor",
            "workos_event",
            "workos_external_id_write_back",
            "django_q_ormq",
        ):
            cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
            digest.update(repr(cursor.fetchall()).encode())
    return digest.hexdigest()


def a_drifted_world(workos: FakeWorkOS) -> None:
    an_old_organization(workos, "Created")
    renamed = an_old_organization(workos, "There", external_id="gram-renamed")
    an_organization_row("gram-renamed", name="Here", workos_id=renamed)
    an_organization_row("gram-deleted", workos_id="org_deleted")
    workos.create_organization(name="Waiting")


def test_a_dry_run_finds_the_same_and_writes_nothing(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    before = contents()

    dry = reconcile(Run(dry=True))
    after = contents()

    assert after == before
    assert workos.count_requests(method="PUT", path=None) == 0
    assert dry.events.waiting == 1
    assert not dry.in_sync
    assert sorted(change.change for change in dry.snapshot.changes) == [
        "created",
        "disabled",
        "updated",
    ]
    wet = reconcile(Run(), drain_events=False)
    assert changes(wet) == changes(dry)


def test_every_transaction_of_a_dry_run_begins_read_only(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        in_transaction = context["connection"].in_atomic_block
        statements.append(sql if in_transaction else f"outside a transaction: {sql}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        reconcile(Run(dry=True))
        reconcile_organizations(Run(dry=True), ["gram-renamed", "org_deleted"])

    statements = [one for one in statements if "workos_request_budget" not in one]
    assert not [statement for statement in statements if "outside" in statement]
    starts = [s for s in statements if s.startswith("SET TRANSACTION READ ONLY")]
    assert len(starts) >= 5
    assert statements[0].startswith("SET TRANSACTION READ ONLY")


def test_postgresql_itself_keeps_a_dry_run_from_writing(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in our code, such as this one, is an error and not a write."""
    a_drifted_world(workos)
    before = contents()

    def mistaken(*_: Any, **__: Any) -> Any:
        Organization.objects.all().delete()

    monkeypatch.setattr(applying, "decide", mistaken)

    with pytest.raises(Exception, match="read-only transaction"):
        reconcile(Run(dry=True), drain_events=False)

    assert contents() == before


# The lost cursor ----------------------------------------------------------------------------


def a_lost_cursor(workos: FakeWorkOS) -> Position:
    """The mirror is behind by a deletion and a creation whose events nobody can list any more."""
    a_live_organization(workos)
    deleted = workos.create_organization(name="Deleted", external_id="gram-deleted")
    drain_to_end()
    lost = read_cursor().position
    workos.delete_organization(str(deleted["id"]), at=LONG_AGO)
    an_old_organization(workos, "Created meanwhile", external_id="gram-created")
    workos.expire_events()
    return lost


def test_a_lost_cursor_is_recovered_by_the_snapshot_and_the_stream_goes_on(
    workos: FakeWorkOS,
) -> None:
    lost = a_lost_cursor(workos)
    began = datetime.now(UTC)

    found = reconcile(Run())
    workos.create_organization(name="Later", external_id="gram-later")
    drain_to_end()

    assert found.lost is not None
    assert not found.in_sync
    assert row("gram-deleted").disabled_at is not None
    assert row("gram-created").name == "Created meanwhile"
    assert row("gram-later").name == "Later"
    assert read_cursor().position != lost


def test_the_new_position_lies_before_the_run_by_the_earlier_of_two_clocks(
    workos: FakeWorkOS,
) -> None:
    a_lost_cursor(workos)
    began = datetime.now(UTC)

    reconcile(Run())

    moved_to = read_cursor().position.last_event_at
    assert moved_to is not None
    overlap = timedelta(seconds=60, minutes=5)
    # WorkOS's Date header has whole seconds.
    assert began - overlap - timedelta(seconds=1) <= moved_to <= datetime.now(UTC) - overlap


def test_what_happens_while_the_snapshot_is_taken_is_not_lost(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed after its page was read, and before the stream goes on."""
    a_lost_cursor(workos)
    read = edge.read_organizations

    def and_then_it_is_renamed(*args: Any, **values: Any) -> ObjectPage:
        page = read(*args, **values)
        created = next(o for o in workos.all_organizations() if o["external_id"] == "gram-created")
        workos.update_organization(str(created["id"]), name="Renamed meanwhile")
        return page

    monkeypatch.setattr(reconciling, "read_organizations", and_then_it_is_renamed)

    found = reconcile(Run())

    assert found.events.counts[Outcome.UPDATED] == 1
    assert row("gram-created").name == "Renamed meanwhile"


def test_a_row_locked_during_the_recovery_is_tried_again_before_the_stream_goes_on(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    lost = a_lost_cursor(workos)
    an_organization_row("gram-created", name="Old", slug="old")

    with another_program() as other:
        other.execute("SELECT FROM organization_metadata WHERE id = 'gram-created' FOR UPDATE")
        locked = reconcile(Run())
        while_locked = read_cursor().position
    freed = reconcile(Run())

    assert "is locked by another program" in locked.errors[0]
    assert while_locked == lost, "or the change would be lost until the next snapshot"
    assert freed.errors == []
    assert row("gram-created").name == "Created meanwhile"


def test_a_listing_that_breaks_off_leaves_the_cursor_lost(workos: FakeWorkOS) -> None:
    lost = a_lost_cursor(workos)
    workos.misbehave("html", path="/organizations", exact=True)

    found = reconcile(Run())

    assert found.errors
    assert read_cursor().position == lost


def test_the_stream_goes_on_whatever_the_disables_wait_for(workos: FakeWorkOS) -> None:
    lost = a_lost_cursor(workos)

    found = reconcile(Run(limit=DisableLimit(rows=0, percent=0)))

    assert found.errors
    assert read_cursor().position != lost
    assert row("gram-deleted").disabled_at is None


def test_a_cursor_that_someone_else_has_moved_is_not_moved_back(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_lost_cursor(workos)
    read = edge.read_organizations

    def and_someone_moves_it(*args: Any, **values: Any) -> ObjectPage:
        with another_program() as other:
            other.execute(
                "UPDATE workos_sync_cursor SET last_event_id = NULL, last_event_at = now()"
            )
        return read(*args, **values)

    monkeypatch.setattr(reconciling, "read_organizations", and_someone_moves_it)
    began = datetime.now(UTC)

    reconcile(Run())

    moved_to = read_cursor().position.last_event_at
    assert moved_to is not None
    assert moved_to >= began


def test_a_dry_run_tells_of_a_lost_cursor_and_leaves_it(workos: FakeWorkOS) -> None:
    lost = a_lost_cursor(workos)

    found = reconcile(Run(dry=True))

    assert found.lost is not None
    assert not found.in_sync
    assert read_cursor().position == lost


# In sync with events ------------------------------------------------------------------------


def test_a_run_that_applied_events_was_not_in_sync(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    first = reconcile(Run())
    workos.update_organization(acme["id"], name="Renamed")

    second, third = reconcile(Run()), reconcile(Run())

    assert [found.in_sync for found in (first, second, third)] == [False, False, True]


def test_the_echo_of_a_write_back_is_read_by_the_same_run(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")

    first = reconcile(Run())
    second = reconcile(Run())

    assert (first.write_backs.pushed, first.events.counts.total()) == (1, 1)
    assert (second.events.counts.total(), second.in_sync) == (0, True)


def test_an_echo_that_is_held_back_is_no_drift(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.set_hold_back(1_000)
    reconcile(Run(), drain_events=False)
    workos.set_hold_back(0)

    second = reconcile(Run())

    assert second.events.counts[Outcome.UPDATED] == 1
    assert second.in_sync


def test_an_echo_that_cant_be_read_is_left_to_the_worker(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    workos.create_organization(name="Acme")
    workos.misbehave("slow", seconds=0)
    workos.misbehave("status", status=500)

    found = reconcile(Run())

    assert found.write_backs.pushed == 1
    assert "left to the worker" in caplog.text


def test_what_waits_or_is_due_is_not_in_sync(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, external_id="gram-1")
    an_organization_row("gram-1", name="Acme", workos_id=acme)
    reconcile(Run())
    dry = Run(dry=True)
    before = reconcile(dry).in_sync

    ExternalIdWriteBack.objects.create(organization_id="gram-1", workos_id=acme)
    with_due = reconcile(dry)
    ExternalIdWriteBack.objects.update(next_attempt_at=None)
    with_needless_conflict = reconcile(dry)
    ExternalIdWriteBack.objects.all().delete()
    workos.update_organization(acme, name="Renamed")
    with_event = reconcile(dry)

    assert before
    assert (with_due.due_write_backs, with_due.in_sync) == (1, False)
    assert (with_needless_conflict.snapshot.withdrawn, with_needless_conflict.in_sync) == (1, False)
    assert (with_event.events.waiting, with_event.in_sync) == (1, False)


# Single organizations -----------------------------------------------------------------------


def only(*ids: str, **values: Any) -> Reconciliation:
    return reconcile_organizations(Run(**values), ids)


def test_one_organization_is_compared_by_either_id(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    an_old_organization(workos, "Untouched", external_id="gram-3")

    by_workos_id, by_gram_id = only(acme), only("gram-2")

    assert (changes(by_workos_id), changes(by_gram_id)) == (
        [("gram-1", "created")],
        [("gram-2", "created")],
    )
    assert row("gram-2").workos_id == bolt
    assert Organization.objects.count() == 2
    assert workos.count_requests(path="/organizations", exact=True) == 0


def test_a_young_difference_of_one_is_applied_all_the_same(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Just now", emits=False)

    found = only(acme["id"])

    assert [change.change for change in found.snapshot.changes] == ["created"]
    assert found.write_backs.pushed == 1


def test_the_write_backs_of_others_are_left_to_their_schedule(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme")
    other = an_old_organization(workos, "Other")
    an_organization_row("gram-other", name="Other", workos_id=other)
    ExternalIdWriteBack.objects.create(organization_id="gram-other", workos_id=other)

    found = only(acme)

    assert found.write_backs.pushed == 1
    assert ExternalIdWriteBack.objects.get().organization_id == "gram-other"


@pytest.mark.parametrize("id_", ["gram-1", "org_missing"])
def test_one_that_is_missing_is_disabled_by_either_id(workos: FakeWorkOS, id_: str) -> None:
    a_live_organization(workos)
    an_organization_row("gram-1", workos_id="org_missing")

    found = only(id_)

    assert changes(found) == [("gram-1", "disabled")]
    assert row("gram-1").disabled_at is not None


def test_one_that_only_the_mirror_has_is_left_alone(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1")

    found = only("gram-1")

    assert found.in_sync
    assert found.snapshot.counts["unchanged"] == 1


def test_one_that_neither_side_knows_is_an_error_and_the_others_are_repaired(
    workos: FakeWorkOS,
) -> None:
    acme = an_old_organization(workos)

    found = only(acme, "gram-nowhere")
    with pytest.raises(UnknownOrganization, match="gram-nowhere"):
        only("gram-nowhere")

    assert "gram-nowhere" in found.errors[0]
    assert Organization.objects.get().workos_id == acme


@pytest.mark.parametrize("again", ["workos_id", "gram_id"])
def test_an_organization_named_twice_is_compared_once(workos: FakeWorkOS, again: str) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    found = only(acme, acme if again == "workos_id" else "gram-1")

    assert found.organizations == 1
    assert changes(found) == [("gram-1", "created")]


def test_one_that_cant_be_read_is_a_conflict(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_odd")
    workos.misbehave("body", path="/organizations/", body={"id": "org_odd"}, times=None)

    found = only("gram-1")

    assert found.snapshot.changes == [
        Change(None, "org_odd", Outcome.CONFLICT, reason="name is missing or empty")
    ]


def test_a_dry_run_of_one_writes_nothing(workos: FakeWorkOS) -> None:
    a_live_organization(workos)
    acme = an_old_organization(workos)
    an_organization_row("gram-1", workos_id="org_missing")
    before = contents()

    found = only(acme, "org_missing", dry=True)

    assert [kind for _, kind in changes(found)] == ["created", "disabled"] or [
        kind for _, kind in changes(found)
    ] == ["disabled", "created"]
    assert contents() == before


# Two at once --------------------------------------------------------------------------------


def test_a_second_run_says_so_and_runs_all_the_same(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    an_old_organization(workos, external_id="gram-1")
    ensure_cursor()
    lease = Lease.SNAPSHOT.acquire(60)

    found = snapshot()

    assert changes(found) == [("gram-1", "created")]
    assert "another process reconciles too" in caplog.text
    assert SyncCursor.objects.get().reconciling_until == lease


def test_the_scheduled_run_leaves_it_to_the_other(workos: FakeWorkOS) -> None:
    ensure_cursor()
    Lease.SNAPSHOT.acquire(60)

    assert reconcile_unless_busy(Run()) is None
    assert workos.count_requests() == 0


def test_the_lease_ends_with_the_run_even_if_that_fails(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_old_organization(workos)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing.Comparing, "are_few_enough", interrupted)

    with pytest.raises(KeyboardInterrupt):
        snapshot()

    assert SyncCursor.objects.get().reconciling_until is None
    assert Lease.SNAPSHOT.acquire(60) is not None


def test_a_long_run_keeps_its_lease(workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch) -> None:
    an_old_organization(workos)
    monkeypatch.setattr(reconciling, "_LEASE_SECONDS", 0.5)

    def outlast_the_lease(_: str, __: int) -> None:
        taken = SyncCursor.objects.get().reconciling_until
        wait_until(lambda: lease_end() != taken, "the lease is renewed")
        renewed = lease_end()
        wait_until(lambda: lease_end() != renewed, "it is renewed again")

    assert snapshot(progress=outlast_the_lease).snapshot.errors == []
    assert lease_end() is None


def test_a_lease_is_kept_over_the_loss_of_its_connection(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    an_old_organization(workos)
    monkeypatch.setattr(reconciling, "_LEASE_SECONDS", 0.5)

    def cut_off(_: str, __: int) -> None:
        with another_program() as other:
            wait_until(lambda: other_backends(other), "the keeper is connected")
            wait_until(lambda: "could not be renewed" in caplog.text, "a renewal has failed")
        lost = lease_end()
        wait_until(lambda: lease_end() != lost, "the lease is renewed again")

    assert snapshot(progress=cut_off).snapshot.errors == []
    assert lease_end() is None


def other_backends(other: "psycopg.Connection[Any]") -> list[tuple[object, ...]]:
    """Those that are ended hereby: all but the other's and ours."""
    # In a transaction PostgreSQL shows the same backends again and again.
    other.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (ours,) = cursor.fetchone()
    return other.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)
            AND backend_type = 'client backend'
        """,
        [ours],
    ).fetchall()


def test_a_lost_cursor_is_not_waited_for_without_end(sync_setting: Callable[..., None]) -> None:
    ensure_cursor()
    sync_setting(LOCK_TIMEOUT=0.05)

    with another_program() as other:
        other.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        with pytest.raises(OperationalError):
            replace_lost(Position(), began_at=datetime.now(UTC), workos_date=None, overlap=0.0)


def test_echoes_that_cant_be_absorbed_are_left_to_the_worker(
    workos: FakeWorkOS, sync_setting: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    acme = workos.create_organization(name="Acme")
    drain_to_end()

    with another_program() as other:
        other.execute(
            "SELECT FROM organization_metadata WHERE workos_id = %s FOR UPDATE", [acme["id"]]
        )
        found = reconcile(Run())

    assert found.write_backs.pushed == 1
    assert found.errors == [f"{acme['id']} is locked by another program; run it again"]
    assert "the events of our write-backs are left to the worker" in caplog.text


def lease_end() -> datetime | None:
    return SyncCursor.objects.get().reconciling_until


def test_a_locked_cursor_does_not_end_a_run(
    workos: FakeWorkOS,
    monkeypatch: pytest.MonkeyPatch,
    sync_setting: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    an_old_organization(workos)
    monkeypatch.setattr(reconciling, "_LEASE_SECONDS", 0.2)
    sync_setting(LOCK_TIMEOUT=0.3)

    def lock_for_a_while(_: str, __: int) -> None:
        with another_program() as other:
            other.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
            wait_until(lambda: "could not be renewed" in caplog.text, "a renewal has failed")

    assert snapshot(progress=lock_for_a_while).snapshot.errors == []
    assert lease_end() is None


def test_what_was_repaired_is_reported_even_if_the_cursor_is_locked_at_the_end(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_old_organization(workos, external_id="gram-1")

    with another_program() as other:
        found = snapshot(
            progress=lambda *_: other.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        )

    assert changes(found) == [("gram-1", "created")]
    assert len(found.errors) == 1


def test_a_locked_cursor_is_waited_for_once_and_not_by_each_organization(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    ensure_cursor()
    ids = [an_old_organization(workos, f"Org {number}") for number in range(5)]

    with another_program() as other, CaptureQueriesContext(connection) as queries:
        other.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
        with suppress(OperationalError):
            reconcile_organizations(Run(), ids)

    waits = [query for query in queries if "FROM workos_sync_cursor\nWHERE" in query["sql"]]
    assert len(waits) <= 2


def test_an_event_that_is_parked_with_the_echoes_is_told(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    an_old_organization(workos)
    bad = {"id": "event_bad", "event": "organization.created", "data": {"id": "org_bad"}}

    def emit(_: str, __: int) -> None:
        workos.emit(bad)

    found = reconcile(Run(progress=emit))

    assert WorkOSEvent.objects.parked().get().id == "event_bad"
    assert found.events.parked or "event_bad" in caplog.text


def test_runs_at_once_end_in_the_same_rows(workos: FakeWorkOS) -> None:
    workos.seed(organizations=120, at=LONG_AGO, emits=False)

    with in_thread() as start:
        for running in [start(snapshot), start(snapshot)]:
            assert running.result().snapshot.errors == []

    assert Organization.objects.count() == 120
    assert snapshot().in_sync


# Size ---------------------------------------------------------------------------------------


def test_a_page_in_sync_takes_few_queries_and_no_write(
    workos: FakeWorkOS, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    workos.seed(organizations=300, at=LONG_AGO, external_id_prefix="gram-", emits=False)
    snapshot()
    page = edge.read_organizations(None)

    with django_assert_num_queries(1):
        Comparing(Run(), Lookups()).compare(page.observations)


def test_what_is_told_and_left_alone_needs_no_lock(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    disabled = an_old_organization(workos, external_id="gram-1")
    an_organization_row("gram-1", workos_id=disabled, disabled_at=datetime.now(UTC))

    with another_program() as other:
        other.execute("SELECT FROM organization_metadata WHERE id = 'gram-1' FOR UPDATE")
        found = snapshot()

    assert changes(found) == [("gram-1", "disabled_here")]
    assert found.errors == []


def test_a_dry_run_takes_nothing_for_in_sync_that_it_would_have_changed(
    workos: FakeWorkOS,
) -> None:
    workos.seed(organizations=1, at=LONG_AGO, external_id_prefix="gram-", emits=False)
    snapshot()
    comparing_dry = Comparing(Run(dry=True), Lookups(dry=True))
    (linked,) = Organization.objects.all()
    comparing_dry.overlay[linked.id] = Row(id=linked.id, name="Renamed by an earlier page")

    comparing_dry.compare(edge.read_organizations(None).observations)

    assert [change.change for change in comparing_dry.report.changes] == ["linked"]


def test_memory_grows_by_a_hash_an_organization(workos: FakeWorkOS) -> None:
    workos.seed(organizations=4_000, at=LONG_AGO, external_id_prefix="gram-", emits=False)
    snapshot()
    peaks: list[int] = []

    def note(_: str, compared: int) -> None:
        if compared in (1_000, 4_000):
            peaks.append(tracemalloc.get_traced_memory()[1])

    tracemalloc.start()
    try:
        snapshot(progress=note)
    finally:
        tracemalloc.stop()

    early, late = peaks
    assert (late - early) / 3_000 < 128, "bytes an organization: its hash in a set"
