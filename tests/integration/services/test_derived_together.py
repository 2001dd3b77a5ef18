"""``sso_enabled`` and ``scim_enabled`` are right when two transactions write what they rest on."""

from collections.abc import Callable
from typing import Any

import pytest

from orgs.models import Connection
from orgs.services.compare import Run
from orgs.services.coverage import repair_derived
from orgs.services.reconcile import reconcile
from orgs.services.refresh import resolve
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import an_announcement
from tests.concurrency import another_program, blocked, in_thread, wait_until, wait_until_blocked
from tests.integration.services.stored import sso_enabled
from tests.triggers import a_trigger, execute

#: A trigger waits for this lock before its transaction commits, and the test holds it.
GATE = "PERFORM pg_advisory_xact_lock_shared(815);"


@pytest.fixture(autouse=True)
def bolt(all_resources: None, workos: FakeWorkOS) -> None:
    bolt = workos.create_organization(name="Bolt", external_id="bolt")["id"]
    workos.connections.create(name="Other", organization_id=bolt, state="active")


def missed(type_: str, data: Any) -> Callable[[], object]:
    """What resolves a webhook about this object that the stream never listed."""
    event = an_announcement(f"event_{data['id']}", workos_id=None, type=type_)
    event.resource, event.object_key = data["object"], data["id"]
    event.save()
    return lambda: resolve(event.id)


def together(first: Callable[[], object], second: Callable[[], object], table: str) -> None:
    """Have the second begin while the first one is about to commit."""
    waits = a_trigger(GATE, table=table, at_commit=True)
    with another_program() as program, in_thread() as start, waits:
        program.execute("SELECT pg_advisory_lock(815)")
        one = start(first)
        wait_until_blocked()
        two = start(second)
        wait_until(lambda: two.done() or blocked() == 2, "the second one waits, or is through")
        program.execute("SELECT pg_advisory_unlock(815)")
        one.result(), two.result()


def test_two_connections_that_are_deactivated(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="acme")["id"]
    values: Any = {"organization_id": acme, "state": "active"}
    made = [workos.connections.create(name=name, **values)["id"] for name in "ab"]
    reconcile(Run())
    first, second = (
        missed("connection.deactivated", workos.connections.update(id_, state="inactive"))
        for id_ in made
    )

    together(first, second, "workos_connection")

    assert not Connection.objects.filter(pk__in=made, state="active").exists()
    assert sso_enabled()["acme"] is False


@pytest.mark.parametrize("connection_first", [False, True])
def test_an_organization_and_its_connection(workos: FakeWorkOS, connection_first: bool) -> None:
    reconcile(Run())
    acme = workos.create_organization(name="Acme", external_id="acme", emits=False)
    values: Any = {"organization_id": acme["id"], "state": "active", "emits": False}
    made = workos.connections.create(name="Okta", **values)
    both = [missed("organization.created", acme), missed("connection.activated", made)]

    if connection_first:
        together(both[1], both[0], "workos_connection")
    else:
        together(both[0], both[1], "organization_metadata")

    assert sso_enabled()["acme"] is True


def test_a_comparison_beside_the_stream(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="acme")["id"]
    made = workos.connections.create(name="Okta", organization_id=acme, state="active")["id"]
    reconcile(Run())
    execute("UPDATE organization_metadata SET sso_enabled = false WHERE id = 'acme'")
    workos.connections.deactivate(made)

    together(lambda: [*repair_derived()], drain_to_end, "organization_metadata")

    assert sso_enabled()["acme"] is False
