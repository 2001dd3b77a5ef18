"""Members switched on, off and on again in a running service, beside a worker that still has the
old settings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from django_q.models import OrmQ

from orgs.db.cursor import read_cursor
from orgs.models import Organization
from orgs.services.coverage import adopt_settings
from orgs.services.queue import SYNC_EVENTS, enqueue
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.mirrored import held, mirrored
from tests.processes import SYNC_WORKER, a_cluster, environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(480)]

OFF = "organization"
ON = "organization,user,membership"


def test_members_switched_on_off_and_on_again(workos: FakeWorkOS, tmp_path: Path) -> None:
    people = People(workos)
    with a_worker(workos, tmp_path / "old.log", OFF):
        wait_for(lambda: read_cursor().types, "the old worker follows its settings")

        with a_worker(workos, tmp_path / "on.log", ON):
            people.change_until_covered_and_are_mirrored()

        # As a worker does that starts with the old settings: the old one works again.
        adopt_settings()
        assert "membership" not in read_cursor().covered
        people.change()
        # The stream goes on without what happened to members.
        last = workos.create_organization(name="Last")
        row = Organization.objects.filter(workos_id=last["id"])
        wait_for(row.exists, "the stream goes on")

        with a_worker(workos, tmp_path / "on_again.log", ON):
            people.change_until_covered_and_are_mirrored()


class People:
    """Members in WorkOS, changed while they are listed, and compared with the mirror."""

    def __init__(self, workos: FakeWorkOS) -> None:
        self.workos = workos
        self.numbers = count()
        self.organization_id = workos.create_organization(name="Acme")["id"]
        for _ in range(100):
            self.join(emits=False)

    def join(self, *, emits: bool = True) -> None:
        email = f"user{next(self.numbers)}@example.com"
        user_id = self.workos.users.create(email=email, emits=emits)["id"]
        here = {"user_id": user_id, "organization_id": self.organization_id}
        self.workos.memberships.create(**here, emits=emits)

    def change(self) -> None:
        """Two join, one leaves, one has another role, one is deactivated, one is deleted."""
        leaving, other, inactive, deleted = self.workos.memberships.all()[:4]
        for _ in range(2):
            self.join()
        self.workos.memberships.delete(leaving["id"])
        self.workos.memberships.update(other["id"], roles=["admin"])
        self.workos.memberships.deactivate(inactive["id"])
        self.workos.users.delete(deleted["user_id"])

    def change_until_covered_and_are_mirrored(self) -> None:
        def is_covered() -> bool:
            # As often as the worker is through with what was enqueued.
            if not OrmQ.objects.exists():
                self.change()
            return {"user", "membership"} <= read_cursor().covered

        wait_for(is_covered, "members are covered")
        wait_for(self.are_mirrored, "the mirror agrees")

    def are_mirrored(self) -> bool:
        here, there = mirrored(), held(self.workos)
        return all(here[name] == there[name] for name in ("user", "membership"))


@contextmanager
def a_worker(workos: FakeWorkOS, log: Path, resources: str) -> Iterator[None]:
    """A sync_worker that follows these resources; it has ended afterwards."""
    environment = environment_for(workos, WORKOS_RESOURCES=resources)
    with log.open("wb") as output, a_cluster(environment, output, SYNC_WORKER):
        yield


def wait_for(condition: Callable[[], object], what: str) -> None:
    def met() -> object:
        if not (is_met := condition()) and not OrmQ.objects.exists():
            enqueue(SYNC_EVENTS)
        return is_met

    wait_until(met, what, patience=120.0)
