"""Decides, from a seed alone, what is done in which round. Pure."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.system.chaos.actions import (
    Action,
    Call,
    Kill,
    Lock,
    Reconcile,
    Repeat,
    RestartPostgres,
    Round,
    Step,
    Switch,
    Way,
    Write,
)
from tests.system.chaos.kinds import ORGANIZATION, RESOURCES
from tests.system.chaos.names import NAMES, derived_id, slug_base
from tests.system.chaos.resource_plan import ResourcePlanner

ROUND_SECONDS: Final = 1.2

WEBS: Final = ("web-1", "web-2")
CLUSTERS: Final = ("cluster-1", "cluster-2")

_READS: Final = ("/events", "/organizations")
_CALLS: Final = (
    *[("GET", "/events")] * 2,
    *(("GET", "/organizations"), ("PUT", "/organizations/")),
)
_LISTS: Final = ("/user_management/", "/authorization/", "/connections", "/director")

_FAULTS: Final[Sequence[tuple[str, dict[str, Any]]]] = (
    ("status", {"status": 500}),
    ("status", {"status": 503}),
    ("rate_limited", {"retry_after": 1}),
    ("time_out", {"seconds": 4}),
    ("reset", {}),
    ("slow", {"seconds": 1}),
    ("html", {}),
    ("html", {"status": 502}),
    ("truncated", {}),
    ("empty", {}),
    ("body", {"body": []}),
    ("body", {"body": {"data": None}}),
)
_FAULTS_OF_LISTS: Final = (
    *(("repeated_page", path) for path in _READS),
    *(("no_list_metadata", path) for path in _READS),
    *(("ends_early", path) for path in _READS),
    ("expired_cursor", "/events"),
)

#: What may become of webhooks, each as often as it stands here; mostly nothing.
_MAIL: Final = (
    *[None] * 10,
    *[Call("drop_deliveries", {"count": 1_000_000})] * 3,
    *[Call("repeat_deliveries", {"copies": 3})] * 3,
    *[Call("delay_deliveries", {"seconds": 1.5})] * 2,
    *[Call("hold_deliveries", {})] * 3,
)


def _all_but(left_out: Iterable[str]) -> tuple[str, ...]:
    """Leave out as well what is listed for each of these: settings must name both."""
    left = set(left_out)
    if "directory" in left:
        left |= {"directory_user", "directory_group"}
    if "directory_group" in left:
        left.add("directory_group_member")
    return tuple(name for name in RESOURCES if name not in left)


#: What is followed at the beginning; the others are switched on late.
AT_FIRST: Final = _all_but(["user", "membership", "directory_group"])


def make_plan(seed: int, rounds: int) -> list[Round]:
    """The plan of a run: always the same for the same seed, whatever happens when it is played."""
    resources = ResourcePlanner(random.Random(f"resources {seed}"))
    planner = _Planner(random.Random(f"chaos {seed}"), resources)
    return [planner.round(number) for number in range(rounds)]


def normal_mail(seed: int) -> Iterator[Call]:
    """Webhooks come as WorkOS sends them, and those that were held come in any order."""
    yield Call("drop_deliveries", {"count": 0})
    yield Call("repeat_deliveries", {"copies": 1})
    yield Call("delay_deliveries", {"seconds": 0})
    yield Call("release_deliveries", {"order": "shuffled", "seed": seed})


def workos_id(number: int) -> str:
    """The id of the run's nth organization, in the shape of WorkOS's."""
    return f"org_01CHAOS{number:019d}"


#: An organization to which nothing happens.
_ANCHOR: Final = workos_id(0)


@dataclass(slots=True)
class _Organization:
    workos_id: str
    name: str
    gram_id: str
    is_quiet: bool
    """It is neither deleted nor moved, so that a snapshot may overtake its events."""
    has_external_id: bool
    born: int
    """The round; only in later ones does anything happen to it, so that it is there."""

    def created(self) -> Call:
        named = {"id": self.workos_id, "name": self.name}
        external_id = self.gram_id if self.has_external_id else None
        return Call("create_organization", {**named, "external_id": external_id})

    def updated(self, **fields: str | None) -> Call:
        return Call("update_organization", {"id": self.workos_id, **fields})

    def deleted(self) -> Call:
        return Call("delete_organization", {"id": self.workos_id})


@dataclass(slots=True)
class _Planner:
    chance: random.Random
    resources: ResourcePlanner
    number: int = 0
    created: int = 0
    signed_up: int = 0
    alive: list[_Organization] = field(default_factory=list)
    gram_ids: list[str] = field(default_factory=list)

    def round(self, number: int) -> Round:
        """The next round, in the order of time."""
        self.number = number
        steps = [
            *self._creations(),
            *self._changes(),
            *self._removals(),
            *self._oddities(),
            *self._resource_changes(),
            *self._faults_of_workos(),
            *self._breakdowns(),
            *self._other_programs(),
        ]
        return tuple(sorted(steps, key=lambda step: step.at))

    # In WorkOS

    def _creations(self) -> Iterator[Step]:
        for _ in range(self.chance.choice((1, 2, 2))):
            at = self._moment()
            external_id = f"gram-{self.created + 1}" if self._happens(0.5) else None
            new = self._add(external_id, is_quiet=self._happens(0.2))
            yield Step(at, new.created())
            if self._happens(0.45):
                near = min(max(at + self.chance.uniform(-0.3, 0.5), 0.0), ROUND_SECONDS)
                yield Step(near, self._sign_up(new.gram_id, new.name))

    def _changes(self) -> Iterator[Step]:
        for _ in range(self.chance.choice((1, 2, 3))):
            if settled := self._settled():
                organization = self.chance.choice(settled)
                organization.name = self._name()
                yield self._step(organization.updated(name=organization.name))

    def _removals(self) -> Iterator[Step]:
        """An ``external_id`` goes from one organization to a new one; perhaps the old one goes. Or
        one is deleted, and a new one may get its ``external_id``."""
        movable = [one for one in self._settled() if one.has_external_id and not one.is_quiet]
        if movable and self._happens(0.25):
            old, at = self.chance.choice(movable), self._moment()
            new = self._add(old.gram_id)
            yield Step(at, old.updated(external_id=None))
            yield Step(at, new.created())
            # Mentioned again, it gets the row that is derived from its id.
            old.gram_id, old.has_external_id = derived_id(old.workos_id), False
            if self._happens(0.3):
                self.alive.remove(old)
                yield Step(at, old.deleted())
        deletable = [one for one in self._settled() if not one.is_quiet]
        if deletable and self._happens(0.25):
            old, at = self.chance.choice(deletable), self._moment()
            self.alive.remove(old)
            yield Step(at, old.deleted())
            if self._happens(0.4):
                later = min(at + self.chance.uniform(0, 0.5), ROUND_SECONDS)
                yield Step(later, self._add(old.gram_id).created())

    def _oddities(self) -> Iterator[Step]:
        quiet = [one for one in self._settled() if one.is_quiet]
        ways: tuple[Way, ...] = ("never listed", "listed late")
        for way in ways:
            if quiet and self._happens(0.1):
                yield self._step(Repeat(ORGANIZATION, self.chance.choice(quiet).workos_id, way))

    def _resource_changes(self) -> Iterator[Step]:
        if self.number == 0:
            yield Step(0.0, Call("create_organization", {"id": _ANCHOR, "name": "Anchor"}))
            actions = list(self.resources.anchors(_ANCHOR))
        else:
            settled = (one.workos_id for one in self._settled())
            actions = list(self.resources.actions(self.number, [_ANCHOR, *settled]))
        # Those of one object in their order.
        moments = sorted(self._moment() for _ in actions)
        yield from map(Step, moments, actions)

    def _settled(self) -> list[_Organization]:
        return [one for one in self.alive if one.born < self.number]

    def _add(self, external_id: str | None, *, is_quiet: bool = False) -> _Organization:
        self.created += 1
        id_, has_external_id = workos_id(self.created), external_id is not None
        gram_id = external_id or derived_id(id_)
        new = _Organization(id_, self._name(), gram_id, is_quiet, has_external_id, self.number)
        self.alive.append(new)
        self.gram_ids.append(gram_id)
        return new

    def _name(self) -> str:
        """Often a sibling's."""
        if self.alive and self._happens(0.5):
            return self.chance.choice(self.alive).name
        return self.chance.choice(NAMES)

    # Between WorkOS and the mirror

    def _faults_of_workos(self) -> Iterator[Step]:
        if self._happens(0.5):
            at, seed = self._moment(), self.chance.randrange(1_000_000)
            yield from (Step(at, call) for call in normal_mail(seed))
            if odd := self.chance.choice(_MAIL):
                yield Step(at, odd)
        if self._happens(0.3):
            seconds = self.chance.choice((0.0, 0.3, 1.0, 2.0))
            yield self._step(Call("set_hold_back", {"seconds": seconds}))
        # In turns: while almost no read succeeds, little else is tried.
        is_stormy = self.number % 40 < 12
        if self.number % 4 == 0 and not is_stormy:
            yield self._step(Call("behave", {}))
        for _ in range(self.chance.choice((0, 1, 1, 2) if is_stormy else (0, 0, 0, 1))):
            yield self._step(self._fault())

    def _fault(self) -> Call:
        method, parameters = "GET", dict[str, Any]()
        if self._happens(0.2):
            kind, path = self.chance.choice(_FAULTS_OF_LISTS)
        else:
            kind, parameters = self.chance.choice(_FAULTS)
            method, path = self.chance.choice((*_CALLS, ("GET", self.chance.choice(_LISTS))))
        order = {"kind": kind, "method": method, "path": path, "times": self.chance.randint(1, 4)}
        applied = method == "PUT" and self._happens(0.5)
        return Call("misbehave", {**order, "applied": applied, **parameters})

    # To our own processes

    def _breakdowns(self) -> Iterator[Step]:
        """By chance; and each kind in the first rounds, however short the run."""
        first: dict[int, Action] = {
            1: self._kill(CLUSTERS, whole=True),
            2: RestartPostgres("immediate"),
            3: self._kill(CLUSTERS, whole=False),
            4: self._kill(WEBS, whole=True),
            5: RestartPostgres("fast"),
        }
        if self.number in first:
            yield self._step(first[self.number])
        for members, probability in ((CLUSTERS, 0.15), (WEBS, 0.1)):
            if self._happens(probability):
                yield self._step(self._kill(members, whole=self._happens(0.5)))
        # Rare, because after each the clusters do nothing for ten seconds.
        if self._happens(0.03):
            yield self._step(RestartPostgres(self.chance.choice(("fast", "immediate"))))
        if self._happens(0.08):
            kill_after = self.chance.uniform(0.5, 3) if self._happens(0.5) else None
            yield self._step(Reconcile(kill_after))
        # Late; and in a long run, some are switched off, and on again.
        if self.number == 5 or self.number % 30 == 14:
            yield self._step(Switch(RESOURCES))
        elif self.number % 30 == 10:
            yield self._step(Switch(_all_but(self.chance.sample(RESOURCES[1:], 4))))

    def _kill(self, members: Sequence[str], *, whole: bool) -> Kill:
        member = self.chance.choice(members)
        return Kill(member, whole, self.chance.random(), self.chance.uniform(0.2, 3))

    # By other programs

    def _other_programs(self) -> Iterator[Step]:
        if self._happens(0.5):
            self.signed_up += 1
            # A slug that organizations to come will want.
            yield self._step(self._sign_up(f"local-{self.signed_up}", self._name()))
            self.gram_ids.append(f"local-{self.signed_up}")
        for _ in range(self.chance.randint(3, 6)):
            yield self._step(self._dashboard())
        if self._happens(0.5):
            columns = {"name": f"{self._name()} (drifted)"}
            yield self._step(Write("set", self._an_id(), columns))
        if self._happens(0.3):
            ids = tuple({self._an_id(): None for _ in range(8)})
            yield self._step(Lock(ids, self.chance.uniform(0.2, 1.5)))
        for _ in range(self.chance.randint(0, 2)):
            yield self._step(Write("delete", self._an_id(), {}))

    def _sign_up(self, organization_id: str, name: str) -> Write:
        hold = self.chance.choice((0.0, 0.0, 0.3, 1.0))
        return Write("insert", organization_id, {"name": name, "slug": slug_base(name)}, hold)

    def _dashboard(self) -> Write:
        columns: list[dict[str, str | bool]] = [
            {"gram_account_type": self.chance.choice(("free", "pro", "enterprise"))},
            {"whitelisted": self._happens(0.5)},
            {"slug": slug_base(self._name())},
            {"slug": f"renamed-{self.chance.randrange(1_000_000)}"},
        ]
        return Write("set", self._an_id(), self.chance.choice(columns))

    def _an_id(self) -> str:
        """Mostly one of the last ones, where the sync is at work too."""
        ids = self.gram_ids[-40:] if self._happens(0.7) else self.gram_ids
        return self.chance.choice(ids)

    # Chance

    def _happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def _moment(self) -> float:
        return self.chance.uniform(0, ROUND_SECONDS)

    def _step(self, action: Action) -> Step:
        return Step(self._moment(), action)
