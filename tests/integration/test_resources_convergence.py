"""Any mixture of changes, events, page cuts, replays, lists and fetches ends where WorkOS is.

The model is what the fake WorkOS holds. A change may come without an event, and then only a list
shows it. What happens is drawn from the declarations of the chaos run: every resource is created,
changed, deleted and created again, and some events come twice, or after what they are about.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import orgs.workos
from orgs.db.cursor import database_now, read_cursor
from orgs.domain.resources import NAMES, PLAIN, Scope, event_types
from orgs.domain.types import Observation, Page, Position
from orgs.models import Organization, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.compare import DisableLimit, Run
from orgs.services.coverage import adopt_settings
from orgs.services.decide import Batch
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.stream import drain_to_end, replay
from orgs.services.webhook import receive_webhook
from orgs.testing import FakeWorkOS, Json, Refused, sign
from orgs.workos import read_events, read_objects
from tests.builders import TWO_DAYS_AGO, apply_page, empty_tables
from tests.mirrored import held, mirrored, not_applied
from tests.system.chaos.actions import Action, Call, Repeat
from tests.system.chaos.kinds import COMING_BACK, last_showing
from tests.system.chaos.resource_plan import ResourcePlanner

pytestmark = pytest.mark.usefixtures("database")

Setting: TypeAlias = Callable[..., None]

EVERYTHING = Run(limit=DisableLimit(rows=0, percent=100))

SECRET = "whsec_convergence"

#: What became of every event: none waits, and none is parked.
APPLIED = ("created", "updated", "disabled", "deleted", "stale", "unknown", "missing", "ignored")

#: Those that are switched off and on again, so that events are missed.
SWITCHED = ("connection", "directory", "membership", "role", "directory_group_member")


class World:
    """A WorkOS in which things happen one minute after the other, two days ago."""

    def __init__(self, workos: FakeWorkOS, setting: Setting, chance: Random) -> None:
        self.workos, self.set, self.chance = workos, setting, chance
        self.planner = ResourcePlanner(chance)
        self.minute = self.round = 0
        self.has_switched = False
        self.pages: list[Page[Position]] = []
        self.lists: list[tuple[datetime, list[Observation]]] = []
        self.anchor = self._create(emits=True)
        self.organizations = [self._create(emits=True) for _ in range(2)]
        for action in self.planner.anchors(self.anchor):
            self._do(action)

    # In WorkOS

    def change(self) -> None:
        self.round += 1
        for action in self.planner.actions(self.round, [self.anchor, *self.organizations]):
            # WorkOS refuses an address that is taken, say.
            with suppress(Refused):
                self._do(action)

    def create_an_organization(self) -> None:
        """Perhaps it is here later than what belongs to it."""
        self.organizations.append(self._create(emits=self._happens()))

    def delete_an_organization(self) -> None:
        if self.organizations:
            workos_id = self.organizations.pop(self.chance.randrange(len(self.organizations)))
            self.workos.delete_organization(workos_id, at=self._now(), emits=self._happens())

    def _create(self, *, emits: bool) -> str:
        at = self._now()
        id_ = f"org_{self.minute}"
        self.workos.create_organization(id=id_, name=id_, at=at, emits=emits)
        return id_

    def _do(self, action: Action) -> None:
        match action:
            case Call(control, arguments):
                attrgetter(control)(self.workos)(**arguments, at=self._now())
            case Repeat(resource, key):
                last = last_showing(self.workos.all_events(), resource, key)
                if last is not None:
                    again = {"event": last["event"], "data": last["data"]}
                    is_listed = action.way == "listed"
                    event = self.workos.emit(again, at=self._now(), listed=is_listed)
                    if not is_listed:
                        self._announce(event)

    def _announce(self, event: Json) -> None:
        """An event that is never listed: its object is fetched."""
        body = json.dumps(event).encode()
        receive_webhook(body, sign(SECRET, body, int(time.time() * 1000)))

    def _happens(self) -> bool:
        return self.chance.random() < 0.5

    def _now(self) -> datetime:
        self.minute += 1
        return TWO_DAYS_AGO + timedelta(minutes=self.minute)

    # Here

    def drain(self) -> None:
        self.set(PAGE_SIZE=self.chance.randint(1, 9))
        drain_to_end()

    def replay(self) -> None:
        replay(self._somewhere())

    def read_a_page(self) -> None:
        """As a slow drain or replay does."""
        position = self.chance.choice((read_cursor().position, self._somewhere()))
        size = self.chance.randint(1, 9)
        self.pages.append(read_events(position, types=event_types(NAMES), limit=size))

    def apply_a_page_late(self) -> None:
        if self.pages:
            mode = self.chance.choice((Mode.LIVE, Mode.REPLAY))
            apply_page(self.chance.choice(self.pages), mode)

    def read_a_list(self) -> None:
        resource = PLAIN[self.chance.choice(list(PLAIN))]
        listing = self.chance.choice(resource.listings)
        scopes = {
            Scope.ENVIRONMENT: [""],
            Scope.ORGANIZATION: [self.anchor, *self.organizations],
            Scope.DIRECTORY: [one["id"] for one in self.workos.directories.all()],
            Scope.GROUP: [one["id"] for one in self.workos.directory_groups.all()],
        }[listing.scope]
        began_at = database_now()
        if resource.name != "organization_domain":  # which is listed inside organizations
            found = read_objects(resource, listing, None, scope=self.chance.choice(scopes))
            self.lists.append((began_at, [*found.observations]))

    def compare_a_list_late(self) -> None:
        if self.lists:
            began_at, observations = self.chance.choice(self.lists)
            apply(Batch(observations=observations, read_began_at=began_at), Mode.RECONCILE)

    def reconcile(self) -> None:
        assert reconcile(EVERYTHING).errors == []

    def fetch(self) -> None:
        with suppress(UnknownOrganization):
            everyone = [self.anchor, *self.organizations]
            reconcile_organizations(EVERYTHING, [self.chance.choice(everyone)])

    def switch(self) -> None:
        """Some resources are switched off, or on again."""
        self.has_switched = True
        off = self.chance.sample(SWITCHED, self.chance.randint(0, 2))
        self.set(RESOURCES=tuple(name for name in NAMES if name not in off))
        adopt_settings()

    def _somewhere(self) -> Position:
        events = self.workos.all_events()
        return self.chance.choice((Position(), Position(self.chance.choice(events)["id"])))


Step: TypeAlias = Callable[[World], None]
CHANGES: list[Step] = [
    *[World.change] * 6,
    World.create_an_organization,
    World.delete_an_organization,
]
READS: list[Step] = [
    *[World.drain] * 3,
    *[World.read_a_page, World.apply_a_page_late, World.read_a_list, World.compare_a_list_late] * 2,
    *[World.replay, World.reconcile, World.fetch, World.switch],
]
histories = st.lists(
    st.one_of(st.sampled_from(CHANGES), st.sampled_from(READS)), min_size=10, max_size=40
)


@pytest.mark.timeout(600)
@hypothesis_settings(max_examples=12)
@given(history=histories, chance=st.randoms(use_true_random=False))
def test_it_ends_like_workos(history: list[Step], chance: Random, sync_setting: Setting) -> None:
    empty_tables()
    with FakeWorkOS() as workos:
        sync_setting(BASE_URL=workos.base_url, API_KEY=workos.api_key, RESOURCES=NAMES)
        sync_setting(WEBHOOK_SECRETS=SECRET, HOLD_BACK_WINDOW=0.0)
        world = World(workos, sync_setting, chance)
        drain_to_end()
        for step in history:
            step(world)
        world.set(RESOURCES=NAMES)
        adopt_settings()
        drain_to_end()
        assert world.has_switched or not [*filter(_is_due, not_applied(workos))]
        # What was never announced is found by its absence, and what hangs on it after that.
        assert [reconcile(EVERYTHING).errors for _ in range(2)] == [[], []]

        assert mirrored() == held(workos)
        assert reconcile(EVERYTHING).in_sync
        replay(Position())
        assert mirrored() == held(workos)
        assert_derived()
        assert not WorkOSEvent.objects.exclude(outcome__in=APPLIED).exists()
        orgs.workos.close()


def _is_due(difference: str) -> bool:
    """All but one: it happens two days ago here, and so before what an absence deleted now."""
    name, *_, what = difference.split()
    return name not in COMING_BACK or what != "deleted"


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
