"""Reconciling, against real PostgreSQL and a WorkOS that lies in every way it is known to."""

import hashlib
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, ProgrammingError, connection
from pytest_django import DjangoAssertNumQueries

import orgs.workos
from orgs.db.cursor import ensure_cursor, read_cursor
from orgs.db.leases import Lease
from orgs.domain.naming import derived_id
from orgs.domain.report import Change
from orgs.domain.status import ReadError
from orgs.domain.types import ObjectPage, Observation, Outcome, Position, Row
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.services import compare, conclude, outbox
from orgs.services import reconcile as reconciling
from orgs.services.compare import Comparing, DisableLimit, Run
from orgs.services.conclude import Reconciliation
from orgs.services.reconcile import reconcile, reconcile_unless_busy
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.refresh import Lookups, WrongEnvironment
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from orgs.workos import Unavailable
from tests.builders import (
    NOON,
    TWO_DAYS_AGO,
    a_deletion,
    a_mirrored_organization,
    a_page,
    an_old_organization,
    an_organization_row,
    apply_page,
)
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked
from tests.moved_clock import moved_clock
from tests.triggers import a_constraint, a_trigger, attempts, execute, locked

pytestmark = pytest.mark.usefixtures("database")

LogCapture = pytest.LogCaptureFixture
MonkeyPatch = pytest.MonkeyPatch
Setting = Callable[..., None]

FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)
BUSY = "locked, or writes it at the same time; run it again"


def compared(**values: Any) -> Reconciliation:
    """A run that compares, without the events."""
    return reconcile(Run(**values), drain_events=False)


def only(*ids: str, **values: Any) -> Reconciliation:
    return reconcile_organizations(Run(**values), ids)


def changes(found: Reconciliation) -> list[tuple[str | None, str]]:
    listed = sorted(found.snapshot.changes, key=lambda change: change.order)
    return [(change.organization_id, change.change) for change in listed]


def kinds(found: Reconciliation) -> list[str]:
    return sorted(change.change for change in found.snapshot.changes)


def row(organization_id: str) -> Organization:
    return Organization.objects.get(id=organization_id)


def disabled() -> list[str]:
    return sorted(Organization.objects.disabled().values_list("id", flat=True))


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def conflicts() -> dict[str, tuple[str | None, str]]:
    stored = WorkOSConflict.objects.all()
    return {c.workos_organization_id: (c.organization_id, c.kind) for c in stored}


def missing_rows(count: int) -> None:
    for number in range(count):
        an_organization_row(f"missing-{number:03}", workos_id=f"org_missing_{number}")


# Repair -------------------------------------------------------------------------------------


def test_drift_of_every_kind_is_repaired_and_then_there_is_none(
    workos: FakeWorkOS,
) -> None:
    created = an_old_organization(workos, "Created")
    an_old_organization(workos, "Linked", external_id="gram-linked")
    an_organization_row("gram-linked", name="Linked")
    relinked = an_old_organization(workos, "Relinked", external_id="gram-relinked")
    an_organization_row("gram-relinked", name="Relinked", workos_id="org_replaced")
    renamed = an_old_organization(workos, "WorkOS's name", external_id="gram-renamed")
    an_organization_row("gram-renamed", name="Renamed here", workos_id=renamed)
    an_organization_row("gram-deleted", name="Deleted", workos_id="org_deleted")
    forgotten = an_old_organization(workos, "Forgotten")
    an_organization_row("gram-forgotten", name="Forgotten", workos_id=forgotten)

    first, second = compared(), compared()

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
    assert second.snapshot.counts["unchanged"] == second.organizations == 5
    assert row("gram-relinked").workos_id == relinked
    assert row("gram-renamed").name == "WorkOS's name"
    deleted = row("gram-deleted")
    assert deleted.disabled_at is not None
    assert deleted.workos_deleted_at is not None
    assert deleted.workos_id == "org_deleted"
    assert row(derived_id(created)).slug == "created"


def test_a_first_run_mirrors_what_was_there_before(workos: FakeWorkOS) -> None:
    workos.seed(organizations=250, at=NOON, emits=False)

    found = compared()
    drift = cursor().last_drift
    compared()

    assert found.organizations == found.snapshot.counts["created"] == 250
    assert Organization.objects.count() == 250
    assert not ExternalIdWriteBack.objects.exists()
    assert cursor().reconciled_at is not None
    assert (drift, cursor().last_drift) == (250, 0)


def test_a_repair_writes_only_what_workos_owns(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    before = an_organization_row(
        "gram-1", name="Old", slug="by-hand", workos_id=acme, gram_account_type="pro"
    )

    compared()

    after = row("gram-1")
    assert (after.slug, after.gram_account_type) == ("by-hand", "pro")
    assert after.created_at == before.created_at
    assert after.workos_last_event_id is None


def test_what_is_recent_is_left_to_its_event(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Just now", emits=False)
    workos.create_organization(name="Takes a row over", external_id="gram-1", emits=False)
    a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id="org_deleted")

    found = compared(limit=DisableLimit(rows=0, percent=0))

    assert (found.in_sync, found.errors) == (True, [])
    assert found.snapshot.counts["unchanged"] == 3
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

    found = compared()

    assert changes(found) == [("gram-1", "created")]


@pytest.mark.parametrize(
    "outcome", [Outcome.UNKNOWN, Outcome.DISABLED], ids=["it had no row", "its row is disabled"]
)
def test_what_the_stream_has_deleted_is_not_brought_back(
    workos: FakeWorkOS, outcome: Outcome
) -> None:
    acme = an_old_organization(workos, external_id="gram-1")
    if outcome is Outcome.DISABLED:
        an_organization_row("gram-1", workos_id=acme)
    apply_page(a_page(a_deletion(1, workos_id=acme)))
    assert WorkOSEvent.objects.get().outcome == outcome

    found = compared()

    counts = found.snapshot.counts
    assert (counts["stale"], counts["disabled_here"], found.in_sync) == (1, 0, True)
    assert not Organization.objects.filter(disabled_at=None).exists()


def test_an_organization_that_is_listed_twice_is_compared_once(workos: FakeWorkOS) -> None:
    listed = workos.organization(an_old_organization(workos, external_id="gram-1"))
    body = {"data": [listed, listed], "list_metadata": {"after": None}}
    workos.misbehave("body", path="/organizations", exact=True, body=body)

    found = compared()

    assert (found.organizations, changes(found)) == (1, [("gram-1", "created")])


# Left to people -----------------------------------------------------------------------------


def test_a_row_disabled_here_is_reported_and_not_enabled(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    an_organization_row("gram-1", name="Acme", workos_id=acme, disabled_at=NOON)

    found = compared()

    assert (changes(found), found.in_sync) == ([("gram-1", "disabled_here")], True)
    assert found.snapshot.counts["disabled_here"] == 1
    assert disabled() == ["gram-1"]


def test_a_row_disabled_here_is_noted_as_deleted_in_workos_too(
    workos: FakeWorkOS,
) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id="org_deleted", disabled_at=NOON)

    first = compared()
    workos.forget_requests()
    second = compared()

    assert row("gram-1").workos_deleted_at is not None
    assert row("gram-1").disabled_at == NOON
    assert (kinds(first), first.in_sync, second.in_sync) == ([], True, True)
    assert workos.count_requests(path="/organizations/") == 0, "it is not asked for again"


def test_conflicts_are_stored_and_the_rest_is_repaired(
    workos: FakeWorkOS, caplog: LogCapture
) -> None:
    alive = an_old_organization(workos, "WorkOS's name", external_id="elsewhere")
    claims = an_old_organization(workos, "Claims the row", external_id="gram-1")
    an_organization_row("gram-1", name="Old", workos_id=alive)

    first = compared()
    lines = len(caplog.records)
    second = compared()

    assert kinds(first) == ["conflict", "conflict", "updated"]
    assert (kinds(second), second.in_sync) == (["conflict", "conflict"], True)
    assert (row("gram-1").workos_id, row("gram-1").name) == (alive, "WorkOS's name")
    assert conflicts() == {
        alive: ("gram-1", "other_external_id"),
        claims: ("gram-1", "row_claimed"),
    }
    assert len(caplog.records) == lines, "each is logged once"
    assert caplog.text.count("a conflict waits for a person") == 2


@pytest.mark.parametrize("way", ["a full run", "--org", "an event"])
def test_a_conflict_is_removed_when_it_is_found_solved(workos: FakeWorkOS, way: str) -> None:
    acme = an_old_organization(workos, external_id="elsewhere")
    an_organization_row("gram-1", workos_id=acme)
    compared()
    before = conflicts()

    at = TWO_DAYS_AGO if way == "a full run" else None
    workos.update_organization(acme, external_id="gram-1", emits=way == "an event", at=at)
    if way == "an event":
        drain_to_end()
    else:
        compared() if way == "a full run" else only(acme)

    assert (len(before), conflicts()) == (1, {})


@pytest.mark.parametrize("way", ["a full run", "--org"])
def test_a_conflict_without_a_row_ends_with_the_deletion(workos: FakeWorkOS, way: str) -> None:
    mirrored = a_mirrored_organization(workos)
    claims = an_old_organization(workos, external_id="gram-1")
    owner = an_old_organization(workos, external_id="elsewhere")
    an_organization_row("gram-1", workos_id=owner)
    compared()
    workos.delete_organization(claims, emits=False)

    found = compared() if way == "a full run" else only(claims)

    assert mirrored not in conflicts()
    assert conflicts() == {owner: ("gram-1", "other_external_id")}
    assert (found.errors, disabled()) == ([], [])


def test_an_organization_that_cant_be_read_is_in_conflict_and_is_there(workos: FakeWorkOS) -> None:
    odd = an_old_organization(workos)
    an_organization_row("gram-1", workos_id=odd)
    body = {"data": [{"id": odd, "name": None}], "list_metadata": {"after": None}}
    workos.misbehave("body", path="/organizations", exact=True, body=body, times=None)

    found = compared()

    assert changes(found) == [(None, "conflict")]
    assert (disabled(), conflicts()) == ([], {odd: (None, "unreadable")})


def test_an_id_that_workos_cant_hold_waits_for_a_person(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos)
    an_organization_row("grämmm", name="Acme", workos_id=acme)

    first, second = compared(), compared()

    assert (first.write_backs.conflicts, second.in_sync) == (1, True)
    assert changes(second) == [("grämmm", "conflict")]
    assert conflicts() == {acme: ("grämmm", "write_back_refused")}
    assert workos.count_requests(method="PUT", path=None) == 0


def test_what_is_left_alone_needs_no_lock(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    acme = an_old_organization(workos, external_id="gram-1")
    an_organization_row("gram-1", workos_id=acme, disabled_at=NOON)

    with locked():
        found = compared()

    assert (changes(found), found.errors) == ([("gram-1", "disabled_here")], [])


# What PostgreSQL refuses --------------------------------------------------------------------


def test_what_postgresql_refuses_is_failed_and_the_rest_is_done(
    workos: FakeWorkOS,
) -> None:
    forbidden = an_old_organization(workos, "Forbidden")
    an_old_organization(workos, "Allowed")

    with a_constraint():
        found = compared()

    assert kinds(found) == ["created", "failed"]
    assert Organization.objects.get().name == "Allowed"
    (failed,) = found.snapshot.of(Outcome.FAILED)
    assert failed.workos_id == forbidden
    assert "theirs" in failed.reason
    assert found.errors[0].startswith(
        f"PostgreSQL refused to write 1 organization; the first, {forbidden}: PostgreSQL 23514: "
    )
    assert not found.in_sync
    assert conflicts() == {}


def test_a_column_that_must_not_be_null_fails_each_organization(workos: FakeWorkOS) -> None:
    """As in a table that was there before, and has columns of its own."""
    workos.seed(organizations=22, at=NOON, emits=False)
    workos.create_organization(name="By an event")
    execute("ALTER TABLE organization_metadata ADD COLUMN billing_email text NOT NULL")

    try:
        found = reconcile(Run())
        noted = cursor()
    finally:
        execute("ALTER TABLE organization_metadata DROP COLUMN billing_email")

    assert found.snapshot.counts["failed"] == 22
    assert all("billing_email" in failed.reason for failed in found.snapshot.of(Outcome.FAILED))
    assert "PostgreSQL refused to write 22 organizations" in found.errors[0]
    assert not found.in_sync
    assert (noted.reconciled_at, noted.last_failed) == (None, 22)
    assert noted.snapshot_error_kind == ReadError.WRITES_REFUSED
    assert "billing_email" in noted.snapshot_trouble
    assert [change.workos_id for change in found.events.parked] != []
    assert compared().snapshot.counts["created"] == 22
    assert (cursor().last_failed, cursor().snapshot_error_kind, cursor().snapshot_trouble) == (
        0,
        "",
        "",
    )


def test_a_row_that_cant_be_disabled_does_not_keep_the_rest_enabled(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(3)

    with a_constraint("disabled_at IS NULL OR id <> 'missing-001'"):
        found = compared()

    assert kinds(found) == ["disabled", "disabled", "failed"]
    assert disabled() == ["missing-000", "missing-002"]
    assert "org_missing_1" in found.errors[0]


@pytest.mark.parametrize("is_missing", [False, True], ids=["listed", "missing"])
def test_an_error_of_the_environment_ends_a_run(workos: FakeWorkOS, is_missing: bool) -> None:
    a_mirrored_organization(workos)
    if is_missing:
        missing_rows(2)
    else:
        workos.seed(organizations=2, at=NOON, emits=False)

    with a_trigger("PERFORM nextval('attempts'); RAISE SQLSTATE '53100';"):
        with pytest.raises(DatabaseError):
            compared()
        assert attempts() == 1, "it is not looked for in each organization"

    assert "53100" in cursor().snapshot_trouble


def test_the_environment_is_not_left_to_the_worker(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    push = outbox.push_due

    def and_the_table_changes(**options: Any) -> outbox.WriteBackReport:
        report = push(**options)
        execute("ALTER TABLE workos_event RENAME type TO renamed")
        return report

    monkeypatch.setattr(outbox, "push_due", and_the_table_changes)

    try:
        with pytest.raises(ProgrammingError):
            reconcile(Run())
    finally:
        execute("ALTER TABLE workos_event RENAME renamed TO type")


@pytest.mark.parametrize(
    "how", ["RAISE EXCEPTION 'not this one';", "RETURN NULL;"], ids=["raises", "leaves it out"]
)
def test_a_write_back_that_cant_be_written_does_not_end_the_run_without_its_report(
    workos: FakeWorkOS, how: str
) -> None:
    for number in (1, 2):
        id_ = an_old_organization(workos, "Acme")
        an_organization_row(f"gram-{number}", name="Old", workos_id=id_)

    with a_trigger(how, table="workos_external_id_write_back", on="UPDATE OR DELETE"):
        found = compared()

    assert (found.snapshot.counts["updated"], found.write_backs.failed) == (2, 2)
    assert not found.in_sync
    assert "PostgreSQL refused to write 2 rows of the outbox; the first, gram-1" in found.errors[1]


def test_a_locked_outbox_does_not_end_the_run_without_its_report(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch, sync_setting: Setting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-1", name="Old", workos_id=an_old_organization(workos, "Acme"))
    push = outbox.push_due

    def and_it_is_locked(**options: Any) -> outbox.WriteBackReport:
        with another_program() as program:
            program.execute("LOCK TABLE workos_external_id_write_back IN SHARE MODE")
            return push(**options)

    monkeypatch.setattr(outbox, "push_due", and_it_is_locked)

    found = compared()

    assert found.snapshot.counts["updated"] == 1
    (error,) = found.errors
    assert error.startswith("write-backs are left for the worker: PostgreSQL 55P03")


# Other programs meanwhile -------------------------------------------------------------------


def test_a_locked_row_does_not_stop_the_rest(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    a_mirrored_organization(workos)
    held = an_old_organization(workos, "Locked", external_id="gram-locked")
    an_organization_row("gram-locked", name="Old", workos_id=held)
    an_old_organization(workos, "Free", external_id="gram-free")
    missing_rows(2)

    with locked(where="id IN ('gram-locked', 'missing-001')"):
        found = compared()

    assert changes(found) == [("gram-free", "created")]
    assert found.errors == [f"another program has {held} {BUSY}"]
    assert cursor().reconciled_at is None
    assert changes(compared()) == [
        ("gram-locked", "updated"),
        ("missing-000", "disabled"),
        ("missing-001", "disabled"),
    ]


def test_a_row_that_is_locked_is_not_disabled(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    a_mirrored_organization(workos)
    missing_rows(3)

    with locked(where="id = 'missing-001'"):
        found = compared()

    assert disabled() == ["missing-000", "missing-002"]
    assert found.errors == [f"another program has org_missing_1 {BUSY}"]


def test_a_page_is_decided_again_under_its_locks(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "WorkOS's name", external_id="gram-1")
    an_organization_row("gram-1", name="Drifted", workos_id=acme)

    with another_program() as program, in_thread() as start:
        program.execute(
            "UPDATE organization_metadata SET name = 'Newer', workos_updated_at = now(),"
            " workos_last_event_id = 'event_9'"
        )
        running = start(partial(reconcile, Run()))
        wait_until_blocked()
        program.commit()
        found = running.result()

    assert (changes(found), found.snapshot.counts["stale"]) == ([], 1)
    assert (row("gram-1").name, row("gram-1").workos_last_event_id) == ("Newer", "event_9")


@pytest.mark.parametrize("when", ["while WorkOS is asked", "while it is locked"])
def test_a_link_that_moves_meanwhile(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch, when: str
) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)
    lookup, move = orgs.workos.lookup, "UPDATE organization_metadata SET workos_id = 'org_new'"

    with another_program() as program, in_thread() as start:

        def and_then_it_moves(workos_id: str, **values: Any) -> Observation:
            answer = lookup(workos_id, **values)
            if workos_id == "org_missing_0":
                program.execute(f"{move} WHERE workos_id = 'org_missing_0'")
                if when == "while WorkOS is asked":
                    program.commit()
            return answer

        monkeypatch.setattr(orgs.workos, "lookup", and_then_it_moves)
        running = start(partial(reconcile, Run()))
        if when == "while it is locked":
            wait_until_blocked()
            program.commit()
        found = running.result()

    assert (disabled(), changes(found)) == ([], [])


@pytest.mark.parametrize("ids", [["org_deleted"], ["gram-1"]])
def test_a_row_that_is_locked_while_another_takes_it_over_is_not_disabled(
    workos: FakeWorkOS, sync_setting: Setting, monkeypatch: MonkeyPatch, ids: list[str]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    a_mirrored_organization(workos)
    new = an_old_organization(workos, "New", external_id="gram-1")
    an_organization_row("gram-1", name="Old", workos_id="org_deleted")
    confirm_absent = Comparing.confirm_absent

    with locked(where="id = 'gram-1'") as program:

        def and_it_is_free_again(self: Comparing, *args: Any) -> None:
            program.rollback()
            confirm_absent(self, *args)

        monkeypatch.setattr(Comparing, "confirm_absent", and_it_is_free_again)
        only(*ids)

    assert disabled() == []
    compared()
    assert row("gram-1").workos_id == new


def test_runs_at_once_end_in_the_same_rows(workos: FakeWorkOS) -> None:
    workos.seed(organizations=120, at=NOON, emits=False)

    with in_thread() as start:
        for running in [start(compared), start(compared)]:
            assert running.result().snapshot.errors == []

    assert Organization.objects.count() == 120
    # A write-back that one asked for while the other confirmed it is made once more.
    assert compared().errors == []
    assert compared().in_sync


# The missing --------------------------------------------------------------------------------


def test_more_missing_than_the_limit_disables_none(
    workos: FakeWorkOS,
) -> None:
    a_mirrored_organization(workos)
    missing_rows(30)

    found = compared(limit=DisableLimit(rows=4, percent=0))

    assert disabled() == []
    assert "more than 4 of 31 linked organizations are missing" in found.errors[0]
    assert (found.in_sync, cursor().reconciled_at) == (False, None)
    assert workos.count_requests(path="/organizations/") <= 8


def test_as_many_missing_as_the_limit(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_CHUNK", 3)
    a_mirrored_organization(workos)
    missing_rows(10)

    found = compared(limit=DisableLimit(rows=10, percent=0))

    assert len(disabled()) == found.snapshot.counts["disabled"] == 10
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


def test_rows_that_another_organization_takes_over_count_for_no_limit(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    for number in range(12):
        an_old_organization(workos, f"New {number}", external_id=f"gram-{number}")
        an_organization_row(f"gram-{number}", workos_id=f"org_missing_{number}")
    limit = DisableLimit(rows=0, percent=0)

    dry, real = compared(dry=True, limit=limit), compared(limit=limit)

    assert {kind for _, kind in changes(dry)} == {"relinked"}
    assert changes(dry) == changes(real)
    assert (dry.errors, real.errors, disabled()) == ([], [], [])


def test_a_link_that_cant_be_asked_for_is_unproven_and_stops_nothing(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)
    an_organization_row("gram-odd", workos_id="..")

    found = compared()

    assert (kinds(found), disabled()) == (["disabled", "unproven"], ["missing-000"])
    assert "refuses to say whether it exists" in found.errors[0]


def test_a_link_of_any_length_is_one_short_line_and_stops_nothing(
    workos: FakeWorkOS, caplog: LogCapture
) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)
    an_organization_row("gram-odd", workos_id="x" * 70_000)

    found = compared()

    assert (kinds(found), disabled()) == (["disabled", "unproven"], ["missing-000"])
    assert all(len(line) < 1_500 for line in [*caplog.messages, *map(str, found.snapshot.changes)])


def test_an_error_of_one_that_is_missing_disables_none(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(5)
    workos.misbehave("status", status=500, path="/organizations/org_missing_3")

    found = compared()

    assert (disabled(), len(found.errors)) == ([], 1)
    assert compared().snapshot.counts["disabled"] == 5


def test_one_that_was_created_while_the_list_was_read_is_not_missing(workos: FakeWorkOS) -> None:
    mirrored = workos.organization(a_mirrored_organization(workos))
    young = workos.create_organization(name="Young", external_id="gram-1", emits=False)
    an_organization_row("gram-1", name="Young", workos_id=young["id"])
    body = {"data": [mirrored], "list_metadata": {"after": None}}
    workos.misbehave("body", path="/organizations", exact=True, body=body, times=None)

    found = compared()

    assert (found.errors, disabled()) == ([], [])


def test_neither_a_deleted_row_nor_one_that_was_listed_is_asked_for(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-2", workos_id="org_deleted", disabled_at=NOON, workos_deleted_at=NOON)

    compared()

    assert workos.count_requests(path="/organizations/") == 0


@pytest.mark.parametrize("listed_at", [TWO_DAYS_AGO, FAR_AHEAD], ids=["then", "in the future"])
def test_a_time_in_the_future_keeps_no_row_from_being_repaired(
    workos: FakeWorkOS, listed_at: datetime
) -> None:
    live = workos.create_organization(name="New", external_id="gram-1", at=listed_at)["id"]
    an_organization_row("gram-1", name="Old", workos_id=live, workos_updated_at=FAR_AHEAD)

    assert changes(compared()) == [("gram-1", "updated")]
    assert Organization.objects.get().name == "New"
    assert compared().in_sync


def test_a_list_that_leaves_out_what_changes_in_the_future_is_not_complete(
    workos: FakeWorkOS,
) -> None:
    listed = workos.create_organization(name="Listed", external_id="gram-1", at=TWO_DAYS_AGO)
    hidden = workos.create_organization(name="Hidden", external_id="gram-2", at=FAR_AHEAD)
    an_organization_row("gram-1", name="Listed", workos_id=listed["id"])
    an_organization_row("gram-2", name="Hidden", workos_id=hidden["id"])
    page = {"data": [listed], "list_metadata": {"before": None, "after": None}}
    workos.misbehave("body", path="/organizations", exact=True, times=None, body=page)

    assert "the list is not complete" in compared().errors[0]


# A 404 of the wrong place -------------------------------------------------------------------

#: What a route that does not exist answers, as an organization that does not exist does.
NO_ROUTE = {"message": "Not Found", "code": "not_found"}


@pytest.fixture(params=["wrong path", "key of another environment"])
def wrong_place(
    request: pytest.FixtureRequest, workos: FakeWorkOS, sync_setting: Setting
) -> Iterator[FakeWorkOS]:
    """Two linked organizations that live in WorkOS, and settings that ask elsewhere."""
    for number in (1, 2):
        live = an_old_organization(workos, external_id=f"gram-{number}")
        an_organization_row(f"gram-{number}", workos_id=live)
    with FakeWorkOS() as elsewhere:
        elsewhere.create_organization(name="Another", at=NOON)
        if request.param == "wrong path":
            workos.misbehave("status", status=404, path="/v1", body=NO_ROUTE, times=None)
            sync_setting(BASE_URL=f"{workos.base_url}/v1")
        else:
            sync_setting(BASE_URL=elsewhere.base_url)
        yield workos


@pytest.mark.parametrize("drains", [False, True])
def test_a_run_in_the_wrong_place_writes_nothing(wrong_place: FakeWorkOS, drains: bool) -> None:
    try:
        error = reconcile(Run(), drain_events=drains).errors[0]
    except WrongEnvironment as wrong:
        error = str(wrong)

    assert "lists none of the organizations that rows are linked to" in error or "404" in error
    assert (Organization.objects.count(), disabled()) == (2, [])
    assert not WorkOSEvent.objects.exists()
    assert (cursor().reconciled_at, cursor().last_event_id) == (None, None)
    assert error[:50] in cursor().snapshot_trouble


def test_a_single_organization_in_the_wrong_place_is_unproven(wrong_place: FakeWorkOS) -> None:
    found = only("gram-1")

    assert (changes(found), disabled()) == ([(None, "unproven")], [])
    assert "proves nothing: see WORKOS_BASE_URL and WORKOS_API_KEY" in found.errors[0]
    assert not found.in_sync


@pytest.mark.parametrize("dry", [False, True])
def test_a_row_that_the_mirror_alone_seems_to_know_is_unproven_in_the_wrong_place(
    workos: FakeWorkOS, dry: bool
) -> None:
    a_mirrored_organization(workos)
    an_old_organization(workos, "New", external_id="gram-1")
    an_organization_row("gram-1", name="Old")
    workos.misbehave("status", status=404, body=NO_ROUTE, path=None, times=None)

    found = only("gram-1", dry=dry)

    assert (kinds(found), found.in_sync) == (["unproven"], False)
    assert "the first, gram-1: no other linked organization" in found.errors[0]


def test_a_row_that_the_mirror_alone_knows_is_in_sync(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-1")

    assert only("gram-1").in_sync


def test_a_row_that_is_created_in_the_wrong_place_proves_nothing(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    """Both are asked for in one run, and the place knows one of them."""
    a_mirrored_organization(workos)
    with FakeWorkOS() as elsewhere:
        new = elsewhere.create_organization(name="New", at=NOON)
        sync_setting(BASE_URL=elsewhere.base_url)
        found = only(new["id"], "gram-mirrored")

    assert "proves nothing" in found.errors[0]
    assert (found.in_sync, disabled()) == (False, [])


@pytest.mark.parametrize("state", ["enabled", "disabled by another program"])
@pytest.mark.parametrize("external_id", [None, "gram-1", "gram-unlinked"])
def test_an_organization_of_another_environment_gets_no_row(
    workos: FakeWorkOS, sync_setting: Setting, state: str, external_id: str | None
) -> None:
    """Its row would prove that environment right in the next run."""
    live = an_old_organization(workos, external_id="gram-1")
    an_organization_row("gram-1", workos_id=live, disabled_at=None if state == "enabled" else NOON)
    an_organization_row("gram-unlinked")
    with FakeWorkOS() as elsewhere:
        new = elsewhere.create_organization(name="New", at=NOON, external_id=external_id)
        sync_setting(BASE_URL=elsewhere.base_url)
        found = only(new["id"])
        with pytest.raises(WrongEnvironment):
            reconcile(Run())

    assert (kinds(found), found.in_sync) == (["unproven"], False)
    links = Organization.objects.order_by("id").values_list("id", "workos_id")
    assert [*links] == [("gram-1", live), ("gram-unlinked", None)]


def test_a_linked_organization_proves_the_place_for_a_new_one(workos: FakeWorkOS) -> None:
    mirrored = a_mirrored_organization(workos)
    new = an_old_organization(workos, "New", external_id="gram-new")

    found = only(mirrored, new)

    assert ("gram-new", "created") in changes(found)
    assert found.errors == []


def test_a_lost_cursor_in_the_wrong_place(workos: FakeWorkOS, sync_setting: Setting) -> None:
    live = workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    lost = read_cursor().position

    with FakeWorkOS() as elsewhere:
        elsewhere.create_organization(name="Another", at=NOON)
        sync_setting(BASE_URL=elsewhere.base_url)
        with pytest.raises(WrongEnvironment):
            reconcile(Run())

    assert read_cursor().position == lost
    assert Organization.objects.get().workos_id == live["id"]


def test_the_only_linked_row_can_not_be_proven_to_be_missing(workos: FakeWorkOS) -> None:
    an_old_organization(workos, "Another", external_id="gram-2")
    missing_rows(1)

    found = only("missing-000")
    with pytest.raises(WrongEnvironment):
        compared()

    assert kinds(found) == ["unproven"]
    assert disabled() == []


@pytest.mark.parametrize("way", ["a full run", "--org"])
def test_a_true_deletion_is_proven_by_another_linked_row(workos: FakeWorkOS, way: str) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)

    found = compared() if way == "a full run" else only("org_missing_0")

    assert (changes(found), found.errors) == ([("missing-000", "disabled")], [])
    assert disabled() == ["missing-000"]


def test_a_list_that_is_right_proves_nothing_for_another_route(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(2)
    workos.misbehave("status", status=404, path="/organizations/", body=NO_ROUTE, times=None)

    found = compared()

    assert (kinds(found), disabled()) == (["unproven", "unproven"], [])
    assert "2 missing organizations not disabled" in found.errors[0]
    assert cursor().reconciled_at is None


def test_only_a_404_of_workoss_own_disables(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)
    workos.misbehave("html", status=404, path="/organizations/")

    found = compared()

    assert disabled() == []
    assert "a 404 that is not WorkOS's own" in found.errors[0]


# Broken lists -------------------------------------------------------------------------------


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
            {"kind": "body", "body": {"data": [], "list_metadata": {"after": "org_1"}}},
            "listed nothing, and said that there is more",
            id="empty, with more",
        ),
        pytest.param(
            {"kind": "body", "body": {"data": [{"name": "?"}], "list_metadata": {"after": None}}},
            "has no usable id",
            id="without an id",
        ),
        pytest.param({"kind": "repeated_page", "times": None}, "same page", id="repeats"),
        pytest.param({"kind": "ends_early"}, "the list is not complete", id="ends early"),
        pytest.param(
            {"kind": "body", "body": {"data": [], "list_metadata": {"after": None}}},
            "the list is not complete",
            id="an empty list",
        ),
        pytest.param({"kind": "status", "status": 500}, "does not answer", id="500"),
        pytest.param({"kind": "reset"}, "can't be asked", id="reset"),
    ],
)
@pytest.mark.parametrize("pages_before", [0, 1])
def test_a_broken_list_disables_nothing(
    workos: FakeWorkOS,
    monkeypatch: MonkeyPatch,
    misbehaviour: dict[str, Any],
    error: str,
    pages_before: int,
) -> None:
    # It reads the first page too.
    monkeypatch.setattr(Lookups, "verify_environment", lambda _: None)
    workos.seed(organizations=250, at=NOON, external_id_prefix="gram-", emits=False)
    compared()
    an_organization_row("gone", workos_id="org_deleted")
    if pages_before:
        workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave(path="/organizations", exact=True, **misbehaviour)

    found = compared()
    workos.behave()

    assert disabled() == []
    assert error in found.errors[0]
    assert not found.in_sync
    assert error in cursor().snapshot_trouble
    assert changes(compared()) == [("gone", "disabled")]


def test_a_list_that_breaks_at_once_ends_the_run_before_it_writes(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    workos.create_organization(name="Unread")
    workos.misbehave("status", status=500, path="/organizations")

    found = reconcile(Run())

    assert (Organization.objects.count(), workos.count_requests(path="/events")) == (1, 0)
    assert "500" in found.errors[0]
    assert "500" in cursor().snapshot_trouble


# Pacing -------------------------------------------------------------------------------------


def test_more_missing_than_workos_allows_requests_are_waited_for(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(25)
    workos.limit_requests(15, seconds=0.5)

    found = compared(limit=DisableLimit(rows=100))

    assert (found.errors, len(disabled())) == ([], 25)
    assert workos.count_requests(status=429) >= 1


@pytest.mark.parametrize("pages_before", [0, 1])
def test_a_pause_that_workos_asks_for_is_waited_out(workos: FakeWorkOS, pages_before: int) -> None:
    workos.seed(organizations=150, at=NOON, external_id_prefix="gram-", emits=False)
    if pages_before:
        workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave("rate_limited", retry_after=1, path="/organizations", exact=True)

    found = compared()

    assert (found.errors, Organization.objects.count()) == ([], 150)


def test_the_lease_is_renewed_while_a_run_waits_for_the_stream(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "_LEASE_SECONDS", 0.4)
    workos.misbehave("rate_limited", retry_after=2, path="/events")

    with in_thread() as start:
        running = start(partial(reconcile, Run()))
        wait_until(lambda: workos.count_requests(status=429), "it waits")
        time.sleep(1.0)
        acquired = Lease.SNAPSHOT.acquire(60)

    assert acquired is None
    assert running.result().errors == []


# Dry ----------------------------------------------------------------------------------------


def contents() -> str:
    """Every byte of every table of ours, but for the requests that are counted."""
    digest = hashlib.sha256()
    tables = "organization_metadata", "workos_sync_cursor", "workos_event", "workos_conflict"
    with connection.cursor() as cursor:
        for table in (*tables, "workos_external_id_write_back", "django_q_ormq"):
            cursor.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
            digest.update(repr(cursor.fetchall()).encode())
    return digest.hexdigest()


def a_drifted_world(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_old_organization(workos, "Created")
    renamed = an_old_organization(workos, "There", external_id="gram-renamed")
    an_organization_row("gram-renamed", name="Here", workos_id=renamed)
    an_organization_row("gram-deleted", workos_id="org_deleted")
    claimed = an_old_organization(workos, "Claimed", external_id="elsewhere")
    an_organization_row("gram-claimed", name="Claimed", workos_id=claimed)
    workos.create_organization(name="Waiting")


def test_a_dry_run_finds_the_same_and_writes_nothing(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    ensure_cursor()
    before = contents()

    dry = reconcile(Run(dry=True))
    one = only("gram-renamed", "org_deleted", dry=True)

    assert contents() == before
    assert workos.count_requests(method="PUT", path=None) == 0
    assert (dry.events.waiting, dry.in_sync, dry.errors) == (1, False, [])
    assert cursor().reconciled_at is None
    assert kinds(dry) == ["conflict", "created", "disabled", "updated"]
    assert kinds(one) == ["disabled", "updated"]
    assert changes(compared()) == changes(dry)


def test_every_transaction_of_a_dry_run_begins_read_only(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        in_transaction = context["connection"].in_atomic_block
        if "workos_request_budget" not in sql:
            statements.append(sql if in_transaction else f"outside a transaction: {sql}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        reconcile(Run(dry=True))
        only("gram-renamed", "org_deleted", dry=True)

    assert not [statement for statement in statements if "outside" in statement]
    begins = [number for number, s in enumerate(statements) if "TRANSACTION READ ONLY" in s]
    assert len(begins) >= 5
    assert begins[0] == 0


def test_postgresql_itself_keeps_it_from_writing(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    """A mistake in our code, such as this one, is an error and not a write."""
    a_drifted_world(workos)
    before = contents()
    mistake = lambda *_, **__: Organization.objects.all().delete()  # noqa: E731
    monkeypatch.setattr("orgs.services.apply.decide", mistake)

    with pytest.raises(Exception, match="read-only transaction"):
        compared(dry=True)

    assert contents() == before


def test_a_dry_run_goes_on_from_page_to_page(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    """The second page finds the row that the first would have created."""
    read_one = partial(orgs.workos.read_organizations, limit=1)
    monkeypatch.setattr(reconciling, "read_organizations", read_one)
    second = workos.create_organization(
        id="org_second", name="Second", at=NOON + timedelta(minutes=1), emits=False
    )
    an_old_organization(workos, "First", external_id=derived_id(second["id"]))

    dry, real = compared(dry=True), compared()

    assert kinds(real) == ["conflict", "created"]
    assert dry.snapshot.changes == real.snapshot.changes


def test_what_a_dry_run_would_have_changed_is_not_in_sync(
    workos: FakeWorkOS,
) -> None:
    a_mirrored_organization(workos)
    comparing = Comparing(Run(dry=True), Lookups(dry=True))
    comparing.overlay["gram-mirrored"] = Row(id="gram-mirrored", name="Renamed by an earlier page")

    comparing.compare(orgs.workos.read_organizations(None).observations)

    assert [change.change for change in comparing.report.changes] == ["linked"]


# The lost cursor ----------------------------------------------------------------------------


def a_lost_cursor(workos: FakeWorkOS) -> Position:
    """The mirror is behind by a deletion and a creation whose events nobody can list any more."""
    a_mirrored_organization(workos)
    deleted = workos.create_organization(name="Deleted", external_id="gram-deleted")
    drain_to_end()
    lost = read_cursor().position
    workos.delete_organization(str(deleted["id"]), at=NOON)
    an_old_organization(workos, "Created meanwhile", external_id="gram-created")
    workos.expire_events()
    return lost


def test_a_lost_cursor_is_recovered_and_the_stream_goes_on(workos: FakeWorkOS) -> None:
    lost = a_lost_cursor(workos)

    found = reconcile(Run())
    workos.create_organization(name="Later", external_id="gram-later")
    drain_to_end()

    assert found.lost is not None
    assert not found.in_sync
    assert disabled() == ["gram-deleted"]
    assert row("gram-created").name == "Created meanwhile"
    assert row("gram-later").name == "Later"
    assert read_cursor().position != lost


@pytest.mark.parametrize(
    ("workos_ahead", "database_ahead"),
    [
        pytest.param(0, 0, id="both are right"),
        pytest.param(-3_600, 0, id="WorkOS's clock is behind"),
        pytest.param(0, -3_600, id="the database's clock is behind"),
        pytest.param(3_600, 0, id="WorkOS's clock is ahead"),
        pytest.param(0, 31 * 86_400, id="the database's clock is a month ahead"),
    ],
)
def test_the_stream_goes_on_from_before_the_earlier_of_the_two_clocks(
    workos: FakeWorkOS, workos_ahead: float, database_ahead: float
) -> None:
    a_lost_cursor(workos)
    workos.set_clock_offset(workos_ahead)
    began = datetime.now(UTC)

    with moved_clock() as move:
        move(database_ahead)
        reconcile(Run())

    position = read_cursor().position
    earlier = began + timedelta(seconds=min(workos_ahead, database_ahead, 0), minutes=-6)
    assert position.last_event_id is None
    assert position.last_event_at is not None
    # The Date header has whole seconds.
    assert timedelta(seconds=-1) <= position.last_event_at - earlier < timedelta(minutes=1)


def test_what_happens_meanwhile_is_not_lost(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    """Renamed after its page was read, and before the stream goes on."""
    a_lost_cursor(workos)
    read = orgs.workos.read_organizations

    def and_then_it_is_renamed(*args: Any, **values: Any) -> ObjectPage:
        page = read(*args, **values)
        created = next(o for o in workos.all_organizations() if o["external_id"] == "gram-created")
        workos.update_organization(str(created["id"]), name="Renamed meanwhile")
        return page

    monkeypatch.setattr(reconciling, "read_organizations", and_then_it_is_renamed)

    found = reconcile(Run())

    assert found.events.counts[Outcome.UPDATED] >= 1
    assert row("gram-created").name == "Renamed meanwhile"


def test_a_row_locked_during_the_recovery_is_tried_again_before_the_stream_goes_on(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    lost = a_lost_cursor(workos)
    an_organization_row("gram-created", name="Old", slug="old")

    with locked(where="id = 'gram-created'"):
        blocked = reconcile(Run())
        while_locked = read_cursor().position
    freed = reconcile(Run())

    assert BUSY in blocked.errors[0]
    assert while_locked == lost, "or the change would be lost until the next full reconcile"
    assert freed.errors == []
    assert row("gram-created").name == "Created meanwhile"


def test_a_list_that_breaks_leaves_it_lost(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(Lookups, "verify_environment", lambda _: None)
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
    assert disabled() == []


def test_a_cursor_that_was_moved_is_left_alone(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    a_lost_cursor(workos)
    read = orgs.workos.read_organizations

    def and_it_is_moved(*args: Any, **values: Any) -> ObjectPage:
        with another_program() as program:
            program.execute(
                "UPDATE workos_sync_cursor SET last_event_id = NULL, last_event_at = now()"
            )
        return read(*args, **values)

    began = datetime.now(UTC)
    monkeypatch.setattr(reconciling, "read_organizations", and_it_is_moved)

    reconcile(Run())

    assert SyncCursor.objects.filter(last_event_at__gte=began).exists()


@pytest.mark.parametrize("why", ["expired", "not drained for too long"])
def test_a_dry_run_reports_a_lost_cursor_and_leaves_it(workos: FakeWorkOS, why: str) -> None:
    lost = a_lost_cursor(workos)
    if why != "expired":
        workos.misbehave("slow", seconds=0, times=None)
        SyncCursor.objects.update(drained_at=datetime.now(UTC) - timedelta(days=40))

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


def test_the_event_of_a_write_back_is_read_by_the_same_run(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")

    first, second = reconcile(Run()), reconcile(Run())

    assert (first.write_backs.pushed, first.events.counts.total()) == (1, 1)
    assert (second.events.counts.total(), second.in_sync) == (0, True)


def test_the_event_of_a_write_back_that_is_held_back_is_no_drift(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.set_hold_back(1_000)
    compared()
    workos.set_hold_back(0)

    second = reconcile(Run())

    assert (second.events.counts, second.in_sync) == ({Outcome.UPDATED: 1}, True)


@pytest.mark.parametrize("stopped_by", ["WorkOS", "a lock"])
def test_events_of_write_backs_that_cant_be_read_are_left_to_the_worker(
    workos: FakeWorkOS,
    sync_setting: Setting,
    caplog: LogCapture,
    stopped_by: str,
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    acme = workos.create_organization(name="Acme")
    drain_to_end()
    if stopped_by == "WorkOS":
        workos.misbehave("slow", seconds=0)
        workos.misbehave("status", status=500)

    with locked(where=f"workos_id = '{acme['id']}'") if stopped_by == "a lock" else nullcontext():
        found = reconcile(Run())

    assert found.write_backs.pushed == 1
    assert "are left to the worker" in caplog.text


def test_an_event_that_is_parked_with_those_of_write_backs_is_reported(workos: FakeWorkOS) -> None:
    an_old_organization(workos)
    bad = {"id": "event_bad", "event": "organization.created", "data": {"id": "org_bad"}}

    def emit(*_: object) -> None:
        workos.emit(bad)

    found = reconcile(Run(progress=emit))

    assert WorkOSEvent.objects.parked().get().id == "event_bad"
    assert [change.event_id for change in found.events.parked] == ["event_bad"]


def test_what_waits_or_is_due_is_not_in_sync(workos: FakeWorkOS) -> None:
    acme = a_mirrored_organization(workos)
    reconcile(Run())
    before = reconcile(Run(dry=True)).in_sync

    ExternalIdWriteBack.objects.create(organization_id="gram-mirrored", workos_id=acme)
    with_due = reconcile(Run(dry=True))
    ExternalIdWriteBack.objects.update(next_attempt_at=None)
    with_needless_conflict = reconcile(Run(dry=True))
    ExternalIdWriteBack.objects.all().delete()
    workos.update_organization(acme, name="Renamed")
    with_event = reconcile(Run(dry=True))

    assert before
    assert (with_due.due_write_backs, with_due.in_sync) == (1, False)
    assert (with_needless_conflict.snapshot.withdrawn, with_needless_conflict.in_sync) == (1, False)
    assert (with_event.events.waiting, with_event.in_sync) == (1, False)


def test_a_write_back_that_failed_is_an_error_and_found_once(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos)
    an_organization_row("gram-1", name="Acme", workos_id=acme)
    workos.misbehave("status", status=500, method="PUT", path="/organizations")

    first, second, third = compared(), compared(), compared()

    assert first.errors == [
        "1 write-back failed and will be tried again; see the write-backs of external_id"
    ]
    assert (first.in_sync, first.write_backs.failed, second.write_backs.pushed) == (False, 1, 1)
    assert (changes(second), third.in_sync) == ([("gram-1", "write_back")], True)


def test_write_backs_without_time_are_an_error(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(conclude, "_PUSH_SECONDS", 0.0)
    an_old_organization(workos)

    found = compared()

    assert found.errors == ["some write-backs are left for the worker: there was no time for them"]


# Single organizations -----------------------------------------------------------------------


def test_one_organization_is_compared_by_either_id(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    an_old_organization(workos, "Untouched", external_id="gram-3")

    assert changes(only(acme)) == [("gram-1", "created")]
    assert changes(only("gram-2")) == [("gram-2", "created")]
    assert row("gram-2").workos_id == bolt
    assert Organization.objects.count() == 2
    assert workos.count_requests(path="/organizations", exact=True) == 0


def test_a_recent_difference_of_one_is_applied_all_the_same(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Just now", emits=False)

    found = only(acme["id"])

    assert (kinds(found), found.write_backs.pushed) == (["created"], 1)


def test_the_write_backs_of_others_are_left_to_their_schedule(workos: FakeWorkOS) -> None:
    acme, other = an_old_organization(workos, "Acme"), an_old_organization(workos, "Other")
    an_organization_row("gram-other", name="Other", workos_id=other)
    ExternalIdWriteBack.objects.create(organization_id="gram-other", workos_id=other)

    found = only(acme)

    assert found.write_backs.pushed == 1
    assert ExternalIdWriteBack.objects.get().organization_id == "gram-other"


@pytest.mark.parametrize("id_", ["gram-0", "org_missing_0"])
@pytest.mark.parametrize("has_new_owner", [False, True])
def test_one_that_is_missing(workos: FakeWorkOS, id_: str, has_new_owner: bool) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-0", workos_id="org_missing_0")
    if has_new_owner:
        an_old_organization(workos, "New", external_id="gram-0")

    assert changes(only(id_)) == [("gram-0", "relinked" if has_new_owner else "disabled")]
    assert disabled() == ([] if has_new_owner else ["gram-0"])


def test_one_that_only_the_mirror_has_is_left_alone(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1")

    found = only("gram-1", "gram-1")

    assert found.in_sync
    assert found.organizations == found.snapshot.counts["unchanged"] == 1


@pytest.mark.parametrize("unknown", ["gram-nowhere", " ", "a\0", "..", "\ud800"])
def test_an_id_that_is_none_does_not_stop_the_rest(workos: FakeWorkOS, unknown: str) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    with pytest.raises(UnknownOrganization):
        only(unknown)
    found = only(unknown, acme)

    assert changes(found) == [("gram-1", "created")]
    assert (len(found.errors), found.in_sync) == (1, False)


@pytest.mark.parametrize("again", ["workos_id", "gram_id"])
def test_an_organization_named_twice_is_compared_once(workos: FakeWorkOS, again: str) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    found = only(acme, acme if again == "workos_id" else "gram-1")

    assert (found.organizations, changes(found)) == (1, [("gram-1", "created")])


def test_one_that_cant_be_read_is_in_conflict(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_odd")
    workos.misbehave("body", path="/organizations/", body={"id": "org_odd"}, times=None)

    found = only("gram-1")

    assert found.snapshot.changes == [
        Change(None, "org_odd", Outcome.CONFLICT, reason="name is missing or empty")
    ]
    assert conflicts() == {"org_odd": (None, "unreadable")}


def test_what_cant_all_be_asked_for_in_time_is_left_alone(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    with pytest.raises(Unavailable, match="choose fewer"):
        reconcile_organizations(Run(), [acme], deadline=time.monotonic() - 1)

    assert not Organization.objects.exists()
    assert workos.count_requests() == 0


# Leases -------------------------------------------------------------------------------------


def lease_ends() -> datetime | None:
    return SyncCursor.objects.values_list("reconciling_until", flat=True).get()


def test_a_second_run_logs_it_and_goes_on(workos: FakeWorkOS, caplog: LogCapture) -> None:
    an_old_organization(workos, external_id="gram-1")
    ensure_cursor()
    lease = Lease.SNAPSHOT.acquire(60)

    assert changes(compared()) == [("gram-1", "created")]
    assert "another process reconciles too" in caplog.text
    assert lease_ends() == lease


def test_the_scheduled_run_leaves_it_to_the_other(workos: FakeWorkOS) -> None:
    ensure_cursor()
    Lease.SNAPSHOT.acquire(60)

    assert reconcile_unless_busy(Run()) is None
    assert workos.count_requests() == 0


def test_the_lease_ends_with_a_run_that_fails(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    an_old_organization(workos)

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(reconciling._FullRun, "_resolve_missing", interrupted)

    with pytest.raises(KeyboardInterrupt):
        compared()

    assert lease_ends() is None
    assert Lease.SNAPSHOT.acquire(60) is not None


def test_repairs_are_reported_whatever_ends_it(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_old_organization(workos, external_id="gram-1")

    with another_program() as program:

        def lock(*_: object) -> None:
            program.execute("SELECT FROM workos_sync_cursor FOR UPDATE")

        found = compared(progress=lock)

    assert (changes(found), len(found.errors)) == ([("gram-1", "created")], 1)


# Size ---------------------------------------------------------------------------------------


def test_a_page_in_sync_takes_few_queries_and_no_write(
    workos: FakeWorkOS, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    workos.seed(organizations=300, at=NOON, external_id_prefix="gram-", emits=False)
    compared()
    page = orgs.workos.read_organizations(None)

    with django_assert_num_queries(1):
        Comparing(Run(), Lookups()).compare(page.observations, recent_after=NOON)


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

    early, late = peaks
    assert (late - early) / 3_000 < 128, "bytes an organization: its hash"
