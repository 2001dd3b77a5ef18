"""What PostgreSQL refuses, what others do meanwhile, and what a run does beside comparing."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from django.db import DatabaseError, OperationalError, connection
from django.db.models.functions import Now

import orgs.workos
from orgs.db.cursor import ensure_cursor
from orgs.db.errors import is_passing
from orgs.db.leases import Lease
from orgs.domain.status import ReadError
from orgs.domain.types import Outcome
from orgs.models import Connection, ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services import conclude, outbox
from orgs.services.compare import Comparison, Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end, resolve_overdue
from orgs.testing import FakeWorkOS
from tests.builders import (
    NOON,
    TWO_DAYS_AGO,
    a_linked_row,
    a_mirrored_organization,
    an_announcement,
    an_old_organization,
    an_organization_row,
)
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked
from tests.integration.services.stored import (
    BUSY,
    Around,
    LogCapture,
    MonkeyPatch,
    Setting,
    changes,
    compared,
    conflicts,
    cursor,
    disabled,
    impatient,
    kinds,
    missing_rows,
    names,
    only,
    row,
)
from tests.triggers import a_constraint, a_trigger, locked


def test_what_postgresql_refuses_is_failed_and_noted_and_all_else_done(workos: FakeWorkOS) -> None:
    forbidden = an_old_organization(workos, "Forbidden")
    an_old_organization(workos, "Allowed")

    with a_constraint():
        found, noted = compared(), cursor()
    again, noted_again = compared(), cursor()

    assert kinds(found) == ["created", "failed"]
    (failed,) = found.organizations.of(Outcome.FAILED)
    assert (failed.workos_id, "theirs" in failed.reason) == (forbidden, True)
    said = f"PostgreSQL refused to write 1 organization; the first, {forbidden}: PostgreSQL 23514: "
    assert found.errors[0].startswith(said)
    assert (found.in_sync, conflicts()) == (False, {})
    assert (noted.reconciled_at, noted.last_failed) == (None, 1)
    assert noted.snapshot_error_kind == ReadError.WRITES_REFUSED
    assert said in noted.snapshot_trouble
    assert again.organizations.counts["created"] == 1
    assert (noted_again.last_failed, noted_again.snapshot_error_kind) == (0, "")
    assert noted_again.snapshot_trouble == ""


@pytest.mark.parametrize(
    ("refused", "table", "kind"),
    [
        ("name = 'Forbidden'", "organization_metadata", Outcome.FAILED),
        ("name = 'Forbidden'", "workos_connection", Outcome.FAILED),
        ("type LIKE 'connection.%'", "workos_event", Outcome.CREATED),
    ],
)
def test_what_is_recent_is_not_left_to_an_event_that_was_refused(
    workos: FakeWorkOS, follow: Setting, refused: str, table: str, kind: Outcome
) -> None:
    follow("connection")
    acme = a_mirrored_organization(workos)
    reconcile(Run())
    workos.create_organization(name="Forbidden", external_id="gram-2")
    workos.connections.create(organization_id=acme, name="Forbidden", state="active")

    with a_constraint(f"NOT ({refused})", table=table):
        drain_to_end()
        dry, found = compared(dry=True), compared()

    assert [change.change for change in dry.changes] == [Outcome.CREATED]
    assert [change.change for change in found.changes] == [kind]
    assert not dry.in_sync
    assert not found.in_sync


@impatient
def test_a_locked_row_does_not_keep_the_rest_enabled(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(3)

    with locked(where="id = 'missing-001'"):
        found = compared()

    assert disabled() == ["missing-000", "missing-002"]
    assert found.organizations.counts["disabled"] == 2
    assert found.errors == [f"another program has org_missing_1 {BUSY}"]


def test_an_error_of_the_environment_ends_a_run_and_is_noted(workos: FakeWorkOS) -> None:
    workos.seed(organizations=2, at=NOON, emits=False)

    with a_trigger("RAISE SQLSTATE '53100';"), pytest.raises(DatabaseError):
        compared()

    assert "53100" in cursor().snapshot_trouble


def test_a_connection_that_is_killed_leaves_a_trace(workos: FakeWorkOS, before: Around) -> None:
    an_old_organization(workos)

    def kill(*_: object) -> None:
        with another_program() as program, connection.cursor() as killed:
            killed.execute("SELECT pg_backend_pid()")
            program.execute("SELECT pg_terminate_backend(%s)", killed.fetchone())

    before(Comparison, "compare", kill)
    with pytest.raises(OperationalError):
        reconcile(Run())

    assert cursor().snapshot_trouble


@impatient
def test_a_run_with_a_locked_outbox_still_reports(workos: FakeWorkOS, before: Around) -> None:
    a_linked_row(workos, external_id=None, name="Old")
    lock = "LOCK TABLE workos_external_id_write_back IN SHARE MODE"

    with another_program() as program:
        before(outbox, "push_due", lambda: program.execute(lock))
        found = compared()

    assert found.organizations.counts["updated"] == 1
    (error,) = found.errors
    assert error.startswith("write-backs are left for the worker: PostgreSQL 55P03")


@impatient
@pytest.mark.parametrize("how", ["a row is locked", "/events does not answer"])
@pytest.mark.parametrize("dry", [False, True])
def test_a_stream_that_stops_does_not_keep_the_rest_from_being_compared(
    workos: FakeWorkOS, how: str, dry: bool
) -> None:
    acme = an_old_organization(workos, external_id="gram-acme")
    an_old_organization(workos, name="Bolt", external_id="gram-bolt")
    assert reconcile(Run()).errors == []
    workos.update_organization(acme, name="Renamed")
    Organization.objects.filter(id="gram-bolt").update(name="Drifted")
    if how == "/events does not answer":
        workos.misbehave("status", status=500, times=None)

    with locked(where="id = 'gram-acme'"):
        found = reconcile(Run(dry=dry))

    assert ("gram-bolt", "updated") in changes(found)
    if dry and how == "a row is locked":
        assert (found.errors, found.events.waiting) == ([], 1)
    else:
        assert found.errors[0].startswith("the stream is not read to its end: ")
    workos.behave()
    reconcile(Run())
    assert names() == ["Bolt", "Renamed"]


@impatient
@pytest.mark.parametrize("table", ["organization_metadata", "workos_role"])
@pytest.mark.parametrize("run", [compared, partial(only, "gram-acme"), resolve_overdue])
def test_a_table_that_stays_locked_is_not_waited_for_without_end(
    workos: FakeWorkOS, follow: Setting, table: str, run: Callable[[], object]
) -> None:
    follow("role")
    acme = an_old_organization(workos, external_id="gram-acme")
    assert reconcile(Run()).errors == []
    an_announcement("event_lost", ago=timedelta(days=1), workos_id=acme)
    an_announcement("event_of_role", ago=timedelta(days=1), resource="role", object_key=f"{acme}:a")

    with another_program() as program, in_thread() as start:
        program.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        try:
            error = start(run).exception(timeout=30)
        finally:
            program.rollback()

    assert error is None or (isinstance(error, DatabaseError) and is_passing(error))


@impatient
def test_a_locked_row_does_not_stop_the_rest(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    held = a_linked_row(workos, "gram-locked", name="Old")
    an_old_organization(workos, "Free", external_id="gram-free")
    missing_rows(2)

    with locked(where="id IN ('gram-locked', 'missing-001')"):
        found = compared()

    assert changes(found) == [("gram-free", "created")]
    assert found.errors == [f"another program has {held} {BUSY}"]
    assert cursor().reconciled_at is None
    off = [("missing-000", "disabled"), ("missing-001", "disabled")]
    assert changes(compared()) == [("gram-locked", "updated"), *off]


@impatient
def test_a_row_that_was_locked_for_a_moment_is_compared_again(
    workos: FakeWorkOS, before: Around
) -> None:
    a_mirrored_organization(workos)
    a_linked_row(workos, "gram-locked", name="Old")

    with locked(where="id = 'gram-locked'") as program:
        before(orgs.workos, "lookup", lambda *_: program.rollback())
        found = compared()

    assert (changes(found), found.errors) == ([("gram-locked", "updated")], [])
    assert cursor().reconciled_at is not None


@pytest.mark.parametrize("when", ["while WorkOS is asked", "while it is locked"])
def test_a_link_moves_meanwhile(workos: FakeWorkOS, after: Around, when: str) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)

    with another_program() as program, in_thread() as start:

        def move(_: object, workos_id: str) -> None:
            link = "UPDATE organization_metadata SET workos_id = 'org_new' WHERE workos_id = %s"
            if workos_id == "org_missing_0":
                program.execute(link, [workos_id])
                if when == "while WorkOS is asked":
                    program.commit()

        after(orgs.workos, "lookup", move)
        running = start(partial(reconcile, Run()))
        if when == "while it is locked":
            wait_until_blocked()
            program.commit()
        found = running.result()

    assert (disabled(), changes(found)) == ([], [])


@impatient
@pytest.mark.parametrize("id_", ["org_deleted", "gram-1"])
def test_a_row_taken_over_is_not_disabled(workos: FakeWorkOS, before: Around, id_: str) -> None:
    a_mirrored_organization(workos)
    new = an_old_organization(workos, "New", external_id="gram-1")
    an_organization_row("gram-1", name="Old", workos_id="org_deleted")

    with locked(where="id = 'gram-1'") as program:
        before(Comparison, "remove", lambda *_: program.rollback())
        only(id_)

    assert disabled() == []
    compared()
    assert row("gram-1").workos_id == new


def test_a_second_run_logs_it_and_goes_on(workos: FakeWorkOS, caplog: LogCapture) -> None:
    an_old_organization(workos, external_id="gram-1")
    ensure_cursor()
    lease = Lease.SNAPSHOT.acquire(60)

    assert changes(compared()) == [("gram-1", "created")]
    assert "another process reconciles too" in caplog.text
    assert cursor().reconciling_until == lease


@impatient
def test_repairs_are_reported_whatever_ends_it(workos: FakeWorkOS) -> None:
    an_old_organization(workos, external_id="gram-1")

    with another_program() as program:

        def lock(*_: object) -> None:
            program.execute("SELECT FROM workos_sync_cursor FOR UPDATE")

        found = compared(progress=lock)

    assert (changes(found), len(found.errors)) == ([("gram-1", "created")], 1)


def test_a_run_that_applied_events_or_wrote_back_was_not_in_sync(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")

    wrote_back, nothing = reconcile(Run()), reconcile(Run())
    workos.update_organization(acme["id"], name="Renamed")
    renamed = reconcile(Run())

    assert (wrote_back.write_backs.pushed, wrote_back.in_sync) == (1, False)
    assert (nothing.events.counts.total(), nothing.in_sync) == (0, True), "its event was read too"
    assert (renamed.events.counts, renamed.in_sync) == ({Outcome.UPDATED: 1}, False)


def test_the_event_of_a_write_back_that_is_held_back_is_no_drift(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.set_hold_back(1_000)
    compared()
    workos.set_hold_back(0)

    second = reconcile(Run())

    assert (second.events.counts, second.in_sync) == ({Outcome.UPDATED: 1}, True)


def test_events_of_write_backs_that_cant_be_read_are_left_to_the_worker(
    workos: FakeWorkOS, caplog: LogCapture
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()
    workos.misbehave("slow", seconds=0)
    workos.misbehave("status", status=500)

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
    due = reconcile(Run(dry=True))
    ExternalIdWriteBack.objects.all().delete()
    workos.update_organization(acme, name="Renamed")
    waiting = reconcile(Run(dry=True))

    assert before
    assert (due.due_write_backs, due.in_sync) == (1, False)
    assert (waiting.events.waiting, waiting.in_sync) == (1, False)


def test_write_backs_without_time_fail(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(conclude, "_PUSH_SECONDS", 0.0)
    an_old_organization(workos)

    said = "some write-backs are left for the worker: there was no time for them"
    assert compared().errors == [said]


def test_a_list_is_as_old_as_its_request(workos: FakeWorkOS, follow: Setting) -> None:
    """The next page is asked for while this one is compared."""
    follow("connection", HOLD_BACK_WINDOW=0.0)
    acme = a_mirrored_organization(workos)
    made = [
        workos.connections.create(name="Okta", organization_id=acme, at=TWO_DAYS_AGO)["id"]
        for _ in range(101)
    ]
    assert reconcile(Run()).errors == []
    asked = workos.count_requests(path="/connections")

    def meanwhile(name: str, compared: int) -> None:
        if (name, compared) == ("connection", 100):
            wait_until(
                lambda: workos.count_requests(path="/connections") == asked + 2, "it is asked"
            )
            Connection.objects.filter(pk=made[-1]).update(deleted_at=Now())

    assert reconcile(Run(progress=meanwhile)).in_sync
    assert Connection.objects.exclude(deleted_at=None).count() == 1
