"""Signals about resources: after the commit, and inside the transaction; no danger to the sync."""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from django.db import connection

import orgs.workos
from orgs import signals
from orgs.domain.report import Change
from orgs.domain.resources import NAMES
from orgs.domain.types import Outcome
from orgs.models import (
    Connection,
    Directory,
    DirectoryGroup,
    DirectoryUser,
    Organization,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.compare import DisableLimit, Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_old_organization, an_organization_row
from tests.concurrency import another_program, in_thread
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database", "all_resources")


@pytest.fixture(autouse=True)
def all_resources(sync_setting: Any) -> None:
    sync_setting(RESOURCES=NAMES, HOLD_BACK_WINDOW=0.0)


@pytest.fixture
def receive() -> Iterator[Callable[[Any, Any], None]]:
    """Connects a receiver to a signal for one test."""
    connected: list[tuple[Any, Any]] = []

    def connect(signal: Any, receiver: Any) -> None:
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def sent(receive: Any) -> list[tuple[Any, ...]]:
    """What ``resource_changed`` reported: the model, the key, the organization and the change."""
    found: list[tuple[Any, ...]] = []

    def note(sender: Any, *, key: str, workos_organization_id: Any, change: Any, **_: Any) -> None:
        assert not connection.in_atomic_block
        found.append((sender, key, workos_organization_id, change))

    receive(signals.resource_changed, note)
    return found


Applied: TypeAlias = list[list[tuple[str, str | None, Outcome]]]


@pytest.fixture
def applied(receive: Any) -> Applied:
    """What ``changes_applied`` brought, page by page."""
    found: Applied = []

    def note(changes: tuple[Change, ...], **_: Any) -> None:
        assert connection.in_atomic_block
        found.append([(one.resource, one.workos_id, one.change) for one in changes])

    receive(signals.changes_applied, note)
    return found


# After the commit ---------------------------------------------------------------------------


def test_what_changed_is_sent_after_the_commit(workos: FakeWorkOS, sent: Any) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    sso = workos.connections.create(name="SSO", organization_id=acme, state="active")["id"]
    ada = workos.users.create(email="ada@acme.com")["id"]
    drain_to_end()
    workos.connections.deactivate(sso)
    workos.connections.delete(sso)
    drain_to_end()

    assert sent == [
        (Connection, sso, acme, Outcome.UPDATED),
        (WorkOSUser, ada, None, Outcome.UPDATED),
        (Connection, sso, acme, Outcome.DELETED),
    ]


def test_what_is_deleted_along_is_sent_too(workos: FakeWorkOS, sent: Any, applied: Applied) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    directory = workos.directories.create(name="Okta", organization_id=acme)["id"]
    group = workos.directory_groups.create(name="Staff", directory_id=directory)["id"]
    person = workos.directory_users.create(email="a@b.c", directory_id=directory)["id"]
    drain_to_end()
    sent.clear()
    applied.clear()
    workos.directories.delete(directory)
    drain_to_end()

    keys = {Directory: directory, DirectoryGroup: group, DirectoryUser: person}
    assert {*sent} == {(model, key, acme, Outcome.DELETED) for model, key in keys.items()}
    assert len(sent) == 3
    names = {"directory": directory, "directory_group": group, "directory_user": person}
    assert {*applied[0]} == {(name, key, Outcome.DELETED) for name, key in names.items()}


def test_a_receiver_after_the_commit_that_raises_stops_nothing(
    workos: FakeWorkOS, receive: Any, sent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise ValueError("the receiver's own")

    receive(signals.resource_changed, fail)
    workos.users.create(email="ada@acme.com")
    workos.users.create(email="bob@acme.com")
    drain_to_end()

    assert WorkOSUser.objects.count() == len(sent) == 2
    assert "the receiver's own" in caplog.text


def test_a_slow_receiver_keeps_no_lock(workos: FakeWorkOS, receive: Any) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait(**_: Any) -> None:
        reached.set()
        assert go_on.wait(20)

    receive(signals.resource_changed, wait)
    workos.users.create(email="ada@acme.com")
    with in_thread() as start:
        draining = start(drain_to_end)
        assert reached.wait(20)
        with another_program() as other:
            other.execute("SET lock_timeout = '1s'")
            other.execute("SELECT FROM workos_sync_cursor FOR UPDATE")
            other.execute("UPDATE workos_user SET email = email")
        go_on.set()
        draining.result()


def test_what_is_committed_stays_after_a_kill(workos: FakeWorkOS, receive: Any, sent: Any) -> None:
    """What must not be missed is for ``changes_applied``, or to be read from the table."""
    workos.users.create(email="ada@acme.com")
    receive(signals.resource_changed, lambda **_: os._exit(9))
    orgs.workos.close()
    connection.close()
    if (child := os.fork()) == 0:
        try:
            drain_to_end()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    assert WorkOSUser.objects.get().email == "ada@acme.com"
    assert [*WorkOSEvent.objects.values_list("outcome", flat=True)] == ["created"]
    assert sent == []


# Inside the transaction ---------------------------------------------------------------------


def test_a_page_is_one_signal_in_the_order_of_decision(workos: FakeWorkOS, applied: Any) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")["id"]
    ada = workos.users.create(email="ada@acme.com")["id"]
    workos.users.update(ada, first_name="Ada")
    drain_to_end()
    workos.users.delete(ada)
    drain_to_end()

    kinds = [("organization", acme, "created"), ("user", ada, "created"), ("user", ada, "updated")]
    assert applied == [kinds, [("user", ada, "deleted")]]


class Refusing:
    """A receiver that refuses some keys."""

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


REFUSALS = {
    raise_an_error: "A receiver of changes_applied raised ValueError: the receiver's own",
    violate_a_constraint: "PostgreSQL 23505: ",
    divide_by_zero: "PostgreSQL 22012: ",
}


@pytest.mark.parametrize(("refuse", "error"), REFUSALS.items())
def test_an_event_that_a_receiver_refuses_is_parked(
    workos: FakeWorkOS, receive: Any, refuse: Callable[[], object], error: str
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
def test_an_object_that_a_receiver_refuses_is_reported_as_failed(
    workos: FakeWorkOS, receive: Any, refuse: Callable[[], object]
) -> None:
    drain_to_end()
    reconcile(Run())
    old: dict[str, Any] = {"at": TWO_DAYS_AGO, "emits": False}
    ids = [workos.users.create(email=f"{n}@acme.com", **old)["id"] for n in range(3)]
    receive(signals.changes_applied, Refusing({ids[1]}, refuse))

    found = reconcile(Run())

    (users,) = [one for one in found.resources if one.resource.name == "user"]
    assert [one.workos_id for one in users.report.of(Outcome.FAILED)] == [ids[1]]
    assert users.report.counts[Outcome.CREATED] == 2
    assert not found.in_sync
    assert "PostgreSQL refused to write 1 row of user" in found.errors[0]
    assert {row.pk for row in WorkOSUser.objects.all()} == {ids[0], ids[2]}


def test_nothing_is_sent_in_a_dry_run(workos: FakeWorkOS, sent: Any, applied: Any) -> None:
    drain_to_end()
    reconcile(Run())
    acme = an_old_organization(workos, external_id="gram-1")
    workos.connections.create(name="A", organization_id=acme, at=TWO_DAYS_AGO, emits=False)

    assert not reconcile(Run(dry=True, limit=DisableLimit(percent=100))).in_sync

    assert (sent, applied) == ([], [])
    reconcile(Run())
    assert len(sent) == 1
    assert [len(page) for page in applied] == [1, 1]


def test_nothing_is_sent_if_nothing_is_written(workos: FakeWorkOS, sent: Any, applied: Any) -> None:
    workos.users.create(email="ada@acme.com")
    drain_to_end()
    sent.clear()
    applied.clear()

    drain_to_end()
    reconcile(Run())

    assert (sent, applied) == ([], [])


def test_what_is_deleted_along_names_its_organization(workos: FakeWorkOS, receive: Any) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    directory = workos.directories.create(name="Okta", organization_id=acme)["id"]
    workos.directory_users.create(directory_id=directory, email="ada@acme.com")
    drain_to_end()
    found: list[str | None] = []

    def note(changes: tuple[Change, ...], **_: Any) -> None:
        found.extend(change.workos_organization_id for change in changes)

    receive(signals.changes_applied, note)
    workos.directories.delete(directory)
    drain_to_end()

    assert found == [acme, acme]
