"""Signals: those inside the transaction are committed with it; those after it stop nothing."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, TypeAlias

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.dispatch import Signal

from orgs import signals
from orgs.domain.report import Change
from orgs.domain.types import Outcome
from orgs.models import (
    Connection,
    Directory,
    DirectoryGroup,
    DirectoryUser,
    Organization,
    SyncCursor,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.apply import EVENTS_REFUSED_IN_A_ROW
from orgs.services.compare import DisableLimit, Run
from orgs.services.disabling import disable, enable
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import (
    TWO_DAYS_AGO,
    a_page,
    an_event,
    an_old_organization,
    an_organization_row,
    apply_page,
    live,
)
from tests.concurrency import another_program
from tests.triggers import a_constraint, changed, execute

pytestmark = pytest.mark.usefixtures("database", "all_resources")

Receive: TypeAlias = Callable[[Signal, Callable[..., None]], None]
Sent: TypeAlias = list[tuple[Any, ...]]
Applied: TypeAlias = list[list[tuple[str | None, ...]]]

OF_ORGANIZATIONS = {
    signals.organization_created: "created",
    signals.organization_updated: "updated",
    signals.organization_relinked: "relinked",
    signals.organization_disabled: "disabled",
    signals.organization_enabled: "enabled",
}


@pytest.fixture
def receive() -> Iterator[Receive]:
    """Connects a receiver to a signal for one test."""
    connected: list[tuple[Signal, Any]] = []

    def connect(signal: Signal, receiver: Any) -> None:
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def sent(receive: Receive) -> Sent:
    """What was sent of organizations after commits: the signal's name, Gram's id and WorkOS's."""
    found: Sent = []

    def note(
        sender: type, signal: Signal, organization_id: str, workos_id: str | None, **_: Any
    ) -> None:
        assert sender is Organization
        assert not connection.in_atomic_block
        found.append((OF_ORGANIZATIONS[signal], organization_id, workos_id))

    for signal in OF_ORGANIZATIONS:
        receive(signal, note)
    return found


@pytest.fixture
def sent_of_resources(receive: Receive) -> Sent:
    """What ``resource_changed`` reported: the model, the key, the organization and the change."""
    found: Sent = []

    def note(sender: Any, *, key: str, workos_organization_id: Any, change: Any, **_: Any) -> None:
        assert not connection.in_atomic_block
        found.append((sender, key, workos_organization_id, change))

    receive(signals.resource_changed, note)
    return found


@pytest.fixture
def applied(receive: Receive) -> Applied:
    """What ``changes_applied`` brought, page by page."""
    found: Applied = []

    def note(changes: tuple[Change, ...], **_: Any) -> None:
        assert connection.in_atomic_block
        about = ["resource", "workos_id", "workos_organization_id", "change"]
        found.append([tuple(getattr(change, name) for name in about) for change in changes])

    receive(signals.changes_applied, note)
    return found


def test_the_life_of_an_organization(sent: Sent, workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")["id"]
    drain_to_end()
    workos.update_organization(acme, name="Ajax")
    drain_to_end()
    workos.update_organization(acme, external_id=None)
    owner = workos.create_organization(name="Ajax", external_id="gram-1")["id"]
    drain_to_end()
    workos.delete_organization(owner)
    drain_to_end()

    changes = [("created", acme), ("updated", acme), ("relinked", owner), ("disabled", owner)]
    assert sent == [(name, "gram-1", workos_id) for name, workos_id in changes]


def test_what_a_person_disables_and_enables_is_sent_once(sent: Sent) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    an_organization_row("gram-2")

    for switch in (disable, disable, enable, enable):
        switch(["gram-2", "gram-1"])

    rows = (("gram-1", "org_1"), ("gram-2", None))
    assert sent == [(name, *row) for name in ("disabled", "enabled") for row in rows]


def test_the_life_of_other_resources_and_what_is_deleted_along(
    workos: FakeWorkOS, sent_of_resources: Sent, applied: Applied
) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    ada = workos.users.create(email="ada@acme.com")["id"]
    sso = workos.connections.create(name="SSO", organization_id=acme, state="active")["id"]
    directory = workos.directories.create(name="Okta", organization_id=acme)["id"]
    group = workos.directory_groups.create(name="Staff", directory_id=directory)["id"]
    person = workos.directory_users.create(email="a@b.c", directory_id=directory)["id"]
    drain_to_end()
    workos.connections.deactivate(sso)
    drain_to_end()
    workos.connections.delete(sso)
    workos.directories.delete(directory)
    drain_to_end()

    keys = {Connection: sso, Directory: directory, DirectoryGroup: group, DirectoryUser: person}
    assert sorted(sent_of_resources, key=str) == sorted(
        [
            (WorkOSUser, ada, None, Outcome.CREATED),
            *((model, key, acme, Outcome.CREATED) for model, key in keys.items()),
            (Connection, sso, acme, Outcome.UPDATED),
            *((model, key, acme, Outcome.DELETED) for model, key in keys.items()),
        ],
        key=str,
    )
    along = [("directory_group", group), ("directory_user", person)]
    assert {(*which, acme, "deleted") for which in along} <= {*applied[-1]}


def test_a_receiver_that_raises_is_logged_and_stops_nothing(
    workos: FakeWorkOS,
    receive: Receive,
    sent: Sent,
    sent_of_resources: Sent,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(**_: Any) -> None:
        with transaction.atomic():
            execute("SELECT 1 / 0")

    receive(signals.organization_created, broken)
    receive(signals.resource_changed, broken)
    for name in ("gram-1", "gram-2"):
        workos.create_organization(name=name, external_id=name)
        workos.users.create(email=f"{name}@acme.com")

    assert drain_to_end().drained
    assert [id_ for _, id_, _ in sent] == ["gram-1", "gram-2"]
    assert WorkOSUser.objects.count() == len(sent_of_resources) == 2
    assert caplog.text.count("Error calling") == 4
    assert "division by zero" in caplog.text


def test_nothing_is_sent_of_what_is_rolled_back_or_was_a_dry_run(
    workos: FakeWorkOS, sent: Sent, sent_of_resources: Sent, applied: Applied
) -> None:
    drain_to_end()
    reconcile(Run())
    with a_constraint():
        live(an_event(name="Forbidden"))
    assert WorkOSEvent.objects.get().outcome == "parked"
    acme = an_old_organization(workos, external_id="gram-1")
    workos.connections.create(name="A", organization_id=acme, at=TWO_DAYS_AGO, emits=False)

    for is_dry in (True, False):
        reconcile(Run(dry=is_dry, limit=DisableLimit(percent=100)))
        assert (len(sent), len(sent_of_resources), len(applied)) == (
            (0, 0, 0) if is_dry else (1, 1, 2)
        )


def test_a_page_sends_its_changes(workos: FakeWorkOS, receive: Receive, applied: Applied) -> None:
    def grant(changes: tuple[Change, ...], **_: Any) -> None:
        with another_program() as rival:
            assert rival.execute("SELECT FROM workos_user").fetchone() is None
        for change in changes:
            execute("INSERT INTO grants VALUES (%s)", f"{change.change} {change.workos_id}")

    acme = workos.create_organization(name="Acme", external_id="gram-1")["id"]
    ada = workos.users.create(email="ada@acme.com")["id"]
    workos.users.update(ada, first_name="Ada")
    with changed("CREATE TABLE grants (id text PRIMARY KEY)", "DROP TABLE grants"):
        receive(signals.changes_applied, grant)
        drain_to_end()
        granted = execute("SELECT id FROM grants")
    workos.users.delete(ada)
    signals.changes_applied.disconnect(grant)
    drain_to_end()
    # Of what is known already, nothing is sent.
    reconcile(Run())

    kinds = [("organization", acme, "created"), ("user", ada, "created"), ("user", ada, "updated")]
    *first, last = [[(name, key, change) for name, key, _, change in page] for page in applied]
    assert (first, last) == ([kinds], [("user", ada, "deleted")])
    assert granted == [(f"{change} {key}",) for _, key, change in kinds]


class Refusing:
    """A receiver that writes a row for each change, and refuses some keys."""

    def __init__(self, keys: set[str], refuse: Callable[[], object]) -> None:
        self.keys, self.refuse = keys, refuse

    def __call__(self, changes: tuple[Change, ...], **_: Any) -> None:
        for change in changes:
            an_organization_row(f"for {change.workos_id}")
        if self.keys & {change.workos_id for change in changes}:
            self.refuse()


def raise_an_error() -> None:
    raise ValueError("the receiver's own")


def violate_a_constraint() -> None:
    for _ in range(2):
        an_organization_row("twice")


def divide_by_zero() -> None:
    execute("SELECT 1 / 0")


def update_a_row_that_is_gone() -> None:
    Organization(id="gone", name="Acme").save(update_fields=["name"])


def select_from_no_table() -> None:
    execute("SELECT FROM no_such_table")


def hide_a_violation() -> None:
    with suppress(IntegrityError):
        for _ in range(2):
            Organization.objects.create(id="twice", slug="twice")


def hide_a_violation_and_go_on() -> None:
    hide_a_violation()
    Organization.objects.count()


def hide_it_from_django() -> None:
    with suppress(DatabaseError):
        divide_by_zero()


RAISED = "A receiver of changes_applied raised "
REFUSALS = {
    # The row's own error, by the name that this Django has for it.
    update_a_row_that_is_gone: RAISED,
    select_from_no_table: f"{RAISED}ProgrammingError: PostgreSQL 42P01: ",
    hide_a_violation: f"{RAISED}no exception: it caught one without an own atomic()",
    hide_a_violation_and_go_on: f"{RAISED}TransactionManagementError: ",
    hide_it_from_django: f"{RAISED}InternalError: PostgreSQL 25P02: ",
    raise_an_error: f"{RAISED}ValueError: the receiver's own",
    violate_a_constraint: "PostgreSQL 23505: ",
    divide_by_zero: "PostgreSQL 22012: ",
}


@pytest.mark.parametrize(("refuse", "error"), REFUSALS.items())
def test_an_event_that_a_receiver_refuses_is_parked(
    workos: FakeWorkOS, receive: Receive, refuse: Callable[[], object], error: str
) -> None:
    ids = [workos.users.create(email=f"{n}@acme.com")["id"] for n in range(3)]
    receiver = Refusing({ids[1]}, refuse)
    receive(signals.changes_applied, receiver)

    report = drain_to_end()

    assert [change.workos_id for change in report.parked] == [ids[1]]
    assert {row.pk for row in WorkOSUser.objects.all()} == {ids[0], ids[2]}
    assert {row.pk for row in Organization.objects.all()} == {f"for {ids[0]}", f"for {ids[2]}"}
    parked = WorkOSEvent.objects.parked().get()
    assert (parked.object_key, parked.error.startswith(error)) == (ids[1], True)

    receiver.keys.clear()
    reconcile(Run())
    assert WorkOSUser.objects.count() == 3


@pytest.mark.parametrize("refuse", REFUSALS)
def test_a_receiver_that_refuses_everything_stops_the_stream_after_a_few(
    workos: FakeWorkOS, receive: Receive, refuse: Callable[[], object]
) -> None:
    ids = [workos.users.create(email=f"{n}@acme.com")["id"] for n in range(12)]
    receive(signals.changes_applied, Refusing({*ids}, refuse))

    (error,) = drain_to_end().errors

    assert error.startswith("the stream waits: ")
    assert WorkOSEvent.objects.parked().count() == EVENTS_REFUSED_IN_A_ROW - 1


def test_an_object_that_a_receiver_refuses_is_failed(workos: FakeWorkOS, receive: Receive) -> None:
    drain_to_end()
    reconcile(Run())
    old: dict[str, Any] = {"at": TWO_DAYS_AGO, "emits": False}
    ids = [workos.users.create(email=f"{n}@acme.com", **old)["id"] for n in range(3)]
    receive(signals.changes_applied, Refusing({ids[1]}, raise_an_error))

    found = reconcile(Run())

    (users,) = [one for one in found.resources if one.resource.name == "user"]
    assert [one.workos_id for one in users.report.of(Outcome.FAILED)] == [ids[1]]
    assert users.report.counts[Outcome.CREATED] == 2
    assert not found.in_sync
    assert "PostgreSQL refused to write 1 row of user" in found.errors[0]
    assert {row.pk for row in WorkOSUser.objects.all()} == {ids[0], ids[2]}


@pytest.mark.parametrize(
    ("code", "is_parked"), [("23514", True), ("40001", False), ("55P03", False), ("08006", False)]
)
def test_a_receivers_database_error_is_ours(receive: Receive, code: str, is_parked: bool) -> None:
    def refuse(**_: Any) -> None:
        execute(f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")

    receive(signals.changes_applied, refuse)
    with nullcontext() if is_parked else pytest.raises(OperationalError):
        apply_page(a_page(an_event()))

    assert WorkOSEvent.objects.parked().exists() is is_parked
    assert SyncCursor.objects.exists() is is_parked
