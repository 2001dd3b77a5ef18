"""Members switched on, off and on again in a running service, beside a worker that still has the
old settings. ``MEMBERSHIPS=50000`` tries it with as many; the timeout grows with them."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from django_q.models import OrmQ

from orgs.db.cursor import read_cursor
from orgs.models import Organization, OrganizationMembership, WorkOSUser
from orgs.services.queue import SYNC_EVENTS, enqueue
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import a_cluster, environment_for

_MEMBERSHIPS = int(os.environ.get("MEMBERSHIPS", "100"))
_IN_ONE = 100
_PATIENCE = 120.0 + _MEMBERSHIPS / 50

OFF = "organization"
ON = "organization,user,membership"

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(4 * _PATIENCE)]


def test_members_switched_on_off_and_on_again(workos: FakeWorkOS, tmp_path: Path) -> None:
    people = People(workos)
    with ExitStack() as stack:
        stack.enter_context(a_worker(workos, tmp_path / "old.log", OFF))
        wait_for(lambda: read_cursor().types, "the old worker follows its settings")

        with a_worker(workos, tmp_path / "on.log", ON):
            people.change_until(lambda: {"user", "membership"} <= read_cursor().covered)
            people.are_mirrored()

        with a_worker(workos, tmp_path / "off.log", OFF):
            wait_for(lambda: "membership" not in read_cursor().covered, "members are off")
            people.change()
            # The stream goes on without what happened to members.
            last = workos.create_organization(name="Last")
            wait_for(
                lambda: Organization.objects.filter(workos_id=last["id"]).exists(),
                "the stream goes on",
            )

        with a_worker(workos, tmp_path / "on_again.log", ON):
            people.change_until(lambda: {"user", "membership"} <= read_cursor().covered)
            people.are_mirrored()


class People:
    """Members in WorkOS, changed while they are listed, and compared with the mirror."""

    def __init__(self, workos: FakeWorkOS) -> None:
        self.workos = workos
        self.numbers = count()
        for number in range(_MEMBERSHIPS // _IN_ONE):
            organization = workos.create_organization(name=f"Organization {number}")
            for _ in range(_IN_ONE):
                self.join(organization["id"], emits=False)

    def join(self, organization_id: str, *, emits: bool = True) -> None:
        email = f"user{next(self.numbers)}@example.com"
        user = self.workos.users.create(email=email, emits=emits)
        self.workos.memberships.create(
            user_id=user["id"], organization_id=organization_id, emits=emits
        )

    def change(self) -> None:
        """Two join, one leaves, one has another role, one is deleted."""
        organization, *_ = self.workos.all_organizations()
        leaving, other, inactive, deleted = self.workos.memberships.all()[:4]
        for _ in range(2):
            self.join(organization["id"])
        self.workos.memberships.delete(leaving["id"])
        self.workos.memberships.update(other["id"], roles=["admin"])
        self.workos.memberships.deactivate(inactive["id"])
        self.workos.users.delete(deleted["user_id"])

    def change_until(self, condition: Callable[[], object]) -> None:
        def met() -> object:
            # As often as the worker is through with what was enqueued.
            if not OrmQ.objects.exists():
                self.change()
            return condition()

        wait_for(met, "members are covered")

    def are_mirrored(self) -> None:
        wait_for(lambda: self.mirrored() == self.in_workos(), "the mirror agrees")

    def in_workos(self) -> tuple[set[object], set[object]]:
        return (
            {
                (each["id"], each["user_id"], each["status"], each["role"]["slug"])
                for each in self.workos.memberships.all()
            },
            {(each["id"], each["email"]) for each in self.workos.users.all()},
        )

    def mirrored(self) -> tuple[set[object], set[object]]:
        memberships = OrganizationMembership.objects.filter(deleted_at=None)
        users = WorkOSUser.objects.filter(deleted_at=None)
        columns = ("workos_id", "workos_user_id", "status", "role_slugs__0")
        return (
            set(memberships.values_list(*columns)),
            set(users.values_list("workos_id", "email")),
        )


@contextmanager
def a_worker(workos: FakeWorkOS, log: Path, resources: str) -> Iterator[None]:
    """A sync_worker that follows these resources; it has ended afterwards."""
    environment = environment_for(workos, WORKOS_RESOURCES=resources)
    with log.open("wb") as output, a_cluster(environment, output, "sync_worker"):
        yield


def wait_for(condition: Callable[[], object], what: str) -> None:
    def met() -> object:
        if not (is_met := condition()) and not OrmQ.objects.exists():
            enqueue(SYNC_EVENTS)
        return is_met

    wait_until(met, what, patience=_PATIENCE)
