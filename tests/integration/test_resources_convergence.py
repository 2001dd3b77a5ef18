"""Any mixture of changes, events, page cuts, replays, lists and fetches ends where WorkOS is.

The model is what the fake WorkOS holds. A change may come without an event, and then only a list
shows it.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

import orgs.workos
from orgs.domain.resources import NAMES
from orgs.domain.types import Position
from orgs.models import Organization
from orgs.services.compare import DisableLimit, Run
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.stream import drain_to_end, replay
from orgs.testing import FakeWorkOS, Refused
from tests.builders import TWO_DAYS_AGO, empty_tables
from tests.mirrored import held, mirrored

pytestmark = pytest.mark.usefixtures("database")

EVERYTHING = Run(limit=DisableLimit(rows=0, percent=100))


class World:
    """A WorkOS in which things happen one minute after the other, two days ago."""

    def __init__(self, workos: FakeWorkOS) -> None:
        self.workos, self.minute = workos, 0
        self.organizations = [
            workos.create_organization(name=name, at=self.now()["at"])["id"] for name in ("A", "B")
        ]
        # One of each that stays: where it can be read, a 404 for another one counts.
        anchor = workos.create_organization(name="Anchor", at=self.now()["at"])["id"]
        user = workos.users.create(email="anchor@b.c", **self.now())["id"]
        directory = workos.directories.create(name="D", organization_id=anchor, **self.now())["id"]
        workos.directory_users.create(directory_id=directory, **self.now())
        workos.directory_groups.create(directory_id=directory, name="G", **self.now())
        workos.memberships.create(user_id=user, organization_id=anchor, **self.now())
        workos.connections.create(name="C", organization_id=anchor, state="active", **self.now())
        workos.domains.create(organization_id=anchor, domain="b.c", **self.now())
        workos.invitations.create(email="x@b.c", expires_at="2999-01-01T00:00:00Z", **self.now())
        self.kept = {one["id"] for resource in self.all() for one in resource.all()} | {anchor}

        for pick in range(36):
            # Two of each for a start.
            with suppress(KeyError, Refused):
                create(self, pick, **self.now(emits=pick % 3 > 0))
        for pick in range(4):
            with suppress(KeyError):
                join(self, pick, **self.now())

    def now(self, *, emits: bool = True) -> dict[str, Any]:
        self.minute += 1
        return {"at": TWO_DAYS_AGO + timedelta(minutes=self.minute), "emits": emits}

    def all(self) -> list[Any]:
        w = self.workos
        people = [w.users, w.memberships, w.roles, w.invitations]
        directories = [w.directories, w.directory_users, w.directory_groups]
        return [*people, *directories, w.connections, w.domains]

    def one(self, resource: Any, pick: int) -> str:
        """The id of one that may change; KeyError if there is none."""
        ids = [one["id"] for one in resource.all() if one["id"] not in self.kept]
        if not ids:
            raise KeyError
        return str(ids[pick % len(ids)])

    def organization(self, pick: int) -> str:
        return str(self.organizations[pick % 2])


def create(world: World, pick: int, **when: Any) -> None:
    w, acme, name = world.workos, world.organization(pick), f"{pick}"
    match pick // 2 % 9:
        case 0:
            w.users.create(email=f"{name}@b.c", first_name=name, **when)
        case 1:
            w.memberships.create(
                user_id=world.one(w.users, pick), organization_id=acme, role="r0", **when
            )
        case 2:
            w.roles.create(slug=f"r{pick % 4}", organization_id=acme, **when)
        case 3:
            w.connections.create(name=name, organization_id=acme, state="active", **when)
        case 4:
            w.directories.create(name=name, organization_id=acme, **when)
        case 5:
            w.directory_users.create(directory_id=world.one(w.directories, pick), **when)
        case 6:
            w.directory_groups.create(
                name=name, directory_id=world.one(w.directories, pick), **when
            )
        case 7:
            w.domains.create(organization_id=acme, domain=f"{name}.com", **when)
        case 8:
            w.invitations.create(
                email=f"{name}@b.c", expires_at="2999-01-01T00:00:00Z", organization_id=acme, **when
            )


def update(world: World, pick: int, **when: Any) -> None:
    w, name = world.workos, f"new {pick}"
    match pick % 8:
        case 0:
            w.users.update(world.one(w.users, pick), first_name=name, **when)
        case 1:
            status = ("active", "inactive", "pending")[pick // 8 % 3]
            w.memberships.update(world.one(w.memberships, pick), status=status, **when)
        case 2:
            w.roles.update(world.one(w.roles, pick), permissions=[name], **when)
        case 3:
            w.connections.deactivate(world.one(w.connections, pick), **when)
        case 4:
            w.directories.activate(world.one(w.directories, pick), **when)
        case 5:
            w.directory_users.update(world.one(w.directory_users, pick), state="inactive", **when)
        case 6:
            w.domains.fail(world.one(w.domains, pick), **when)
        case 7:
            w.invitations.revoke(world.one(w.invitations, pick), **when)


def delete(world: World, pick: int, **when: Any) -> None:
    resource = [r for r in world.all() if r is not world.workos.invitations][pick % 8]
    resource.delete(world.one(resource, pick), **when)


def join(world: World, pick: int, **when: Any) -> None:
    w = world.workos
    group, user = world.one(w.directory_groups, pick), world.one(w.directory_users, pick // 2)
    if (
        w.directory_groups.fetch(group)["directory_id"]
        == (w.directory_users.fetch(user)["directory_id"])
    ):
        w.directory_groups.add_user(group, user, **when)


def leave(world: World, pick: int, **when: Any) -> None:
    group = world.one(world.workos.directory_groups, pick)
    for user in world.workos.directory_groups.members(group)[:1]:
        world.workos.directory_groups.remove_user(group, user, **when)


CHANGES: list[Callable[..., None]] = [create, create, create, create, update, update, delete]
CHANGES += [join, join, leave]
Step: TypeAlias = tuple[Any, int, bool]
changes = st.tuples(st.sampled_from(CHANGES), st.integers(0, 71), st.booleans())
reads = st.tuples(
    st.sampled_from(["drain", "drain", "replay", "list", "fetch"]), st.integers(1, 9), st.just(True)
)
histories = st.lists(st.one_of(changes, changes, changes, reads), min_size=8, max_size=40)


def take(world: World, step: Step, settings: Settings) -> None:
    what, pick, flag = step
    if callable(what):
        # There may be nothing to change, or WorkOS refuses it.
        with suppress(KeyError, Refused):
            what(world, pick, **world.now(emits=flag))
        return
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "PAGE_SIZE": pick}
    match what:
        case "drain":
            drain_to_end()
        case "replay":
            replay(Position())
        case "list":
            assert reconcile(EVERYTHING).errors == []
        case "fetch":
            with suppress(UnknownOrganization):
                reconcile_organizations(EVERYTHING, [world.organization(pick)])


@hypothesis_settings(max_examples=12)
@given(history=histories)
def test_it_ends_where_workos_is(history: list[Step], settings: Settings) -> None:
    empty_tables()
    with FakeWorkOS() as workos:
        settings.WORKOS_SYNC = {
            **settings.WORKOS_SYNC,
            "BASE_URL": workos.base_url,
            "API_KEY": workos.api_key,
            "RESOURCES": NAMES,
            "HOLD_BACK_WINDOW": 0.0,
        }
        world = World(workos)
        drain_to_end()
        for step in history:
            take(world, step, settings)
        drain_to_end()
        # What was never announced is found by its absence, and what hangs on it after that.
        assert [reconcile(EVERYTHING).errors for _ in range(2)] == [[], []]

        assert mirrored() == held(workos)
        assert reconcile(EVERYTHING).in_sync
        replay(Position())
        assert mirrored() == held(workos)
        assert_derived()
        orgs.workos.close()


def assert_derived() -> None:
    tables = mirrored()
    for row in Organization.objects.all():
        for name, column in [("connection", row.sso_enabled), ("directory", row.scim_enabled)]:
            active = [
                one
                for one in tables[name].values()
                if one["workos_organization_id"] == row.workos_id and one["state"] == "active"
            ]
            assert column is bool(active)
