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
    Skewed,
    Step,
    Switch,
    Way,
    Write,
)
from tests.system.chaos.kinds import ORGANIZATION, RESOURCES
from tests.system.chaos.names import NAMES, derived_id, slug_base, workos_id
from tests.system.chaos.resource_plan import ResourcePlanner

ROUND_SECONDS: Final = 1.2

WEBS: Final = ("web-1", "web-2")
CLUSTERS: Final = ("cluster-1", "cluster-2")

SIGN_UPS: Final = ("rival-signup-1", "rival-signup-2")
DASHBOARDS: Final = ("rival-dashboard-1", "rival-dashboard-2")
RENAMER: Final = "rival-renamer"
LOCKER: Final = "rival-locker"
JANITOR: Final = "rival-janitor"
RIVALS: Final = (*SIGN_UPS, *DASHBOARDS, RENAMER, LOCKER, JANITOR)

_CALLS: Final = (
    ("GET", "/events"),
    ("GET", "/events"),
    ("GET", "/organizations"),
    ("PUT", "/organizations/"),
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
    *(
        (kind, "GET", path)
        for kind in ("repeated_page", "no_list_metadata", "ends_early")
        for path in ("/events", "/organizations")
    ),
    ("expired_cursor", "GET", "/events"),
)

#: What may become of webhooks, and how often.
_MAIL: Final[Sequence[tuple[int, Sequence[Call]]]] = (
    (10, ()),
    (3, [Call("drop_deliveries", {"count": 1_000_000})]),
    (3, [Call("repeat_deliveries", {"copies": 3})]),
    (2, [Call("delay_deliveries", {"seconds": 1.5})]),
    (3, [Call("hold_deliveries", {})]),
)


def _all_but(left_out: Iterable[str]) -> tuple[str, ...]:
    """Leave out as well what is listed for each of these: settings must name both."""
    left = set(left_out)
    for name, scope in {
        "directory_user": "directory",
        "directory_group": "directory",
        "directory_group_member": "directory_group",
    }.items():
        if scope in left:
            left.add(name)
    return tuple(name for name in RESOURCES if name not in left)


#: What is followed at the beginning; the others are switched on late.
AT_FIRST: Final = _all_but(["user", "membership", "directory_group"])

#: An organization to which nothing happens.
_ANCHOR: Final = workos_id(0)


def make_plan(seed: int, rounds: int) -> list[Round]:
    """The plan of a run: always the same for the same seed, whatever happens when it is played."""
    planner = _Planner(
        random.Random(f"chaos {seed}"), ResourcePlanner(random.Random(f"resources {seed}"))
    )
    return [planner.round(number) for number in range(rounds)]


def normal_mail(seed: int) -> Iterator[Call]:
    """Webhooks come as WorkOS sends them, and those that were held come in any order."""
    yield Call("drop_deliveries", {"count": 0})
    yield Call("repeat_deliveries", {"copies": 1})
    yield Call("delay_deliveries", {"seconds": 0})
    yield Call("release_deliveries", {"order": "shuffled", "seed": seed})


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
            *self._weather(),
            *self._blows(),
            *self._switches(),
            *self._rivals(),
        ]
        return tuple(sorted(steps, key=lambda step: step.at))

    # In WorkOS

    def _creations(self) -> Iterator[Step]:
        for _ in range(self.chance.choice((1, 2, 2))):
            at = self._moment()
            number = self._next_number()
            external_id = f"gram-{number}" if self._happens(0.5) else None
            name = self._name()
            organization = self._add(number, name, external_id, is_quiet=self._happens(0.2))
            yield Step(at, _created(organization, external_id))
            if self._happens(0.45):
                near = min(max(at + self.chance.uniform(-0.3, 0.5), 0.0), ROUND_SECONDS)
                yield Step(near, self._sign_up(organization.gram_id, name))

    def _changes(self) -> Iterator[Step]:
        for _ in range(self.chance.choice((1, 2, 3))):
            if not self._settled():
                return
            organization = self.chance.choice(self._settled())
            organization.name = self._name()
            named = {"id": organization.workos_id, "name": organization.name}
            yield self._step(Call("update_organization", named))

    def _removals(self) -> Iterator[Step]:
        if self._happens(0.25):
            yield from self._move()
        if self._happens(0.25):
            yield from self._delete()

    def _move(self) -> Iterator[Step]:
        """An ``external_id`` goes from one organization to a new one; perhaps the old one goes."""
        movable = [one for one in self._settled() if one.has_external_id and not one.is_quiet]
        if not movable:
            return
        old = self.chance.choice(movable)
        new = self._add(self._next_number(), self._name(), old.gram_id, is_quiet=False)
        at = self._moment()
        moved = {"id": old.workos_id, "external_id": None}
        yield Step(at, Call("update_organization", moved))
        yield Step(at, _created(new, old.gram_id))
        if self._happens(0.3):
            yield Step(at, _deleted(old))
            self.alive.remove(old)
        else:
            # Mentioned again, it gets the row that is derived from its id.
            old.gram_id = derived_id(old.workos_id)
            old.has_external_id = False

    def _delete(self) -> Iterator[Step]:
        deletable = [one for one in self._settled() if not one.is_quiet]
        if not deletable:
            return
        old = self.chance.choice(deletable)
        self.alive.remove(old)
        at = self._moment()
        yield Step(at, _deleted(old))
        if self._happens(0.4):
            new = self._add(self._next_number(), self._name(), old.gram_id, is_quiet=False)
            later = min(at + self.chance.uniform(0, 0.5), ROUND_SECONDS)
            yield Step(later, _created(new, new.gram_id))

    def _oddities(self) -> Iterator[Step]:
        quiet = [one for one in self._settled() if one.is_quiet]
        ways: tuple[Way, ...] = ("never listed", "listed late")
        for way in ways:
            if quiet and self._happens(0.1):
                yield self._step(Repeat(ORGANIZATION, self.chance.choice(quiet).workos_id, way))
        if self._settled() and self._happens(0.4):
            seconds = self.chance.choice((-5, 60, -160, 170, 200, -240, 3600, -86_400))
            yield self._step(Skewed(self.chance.choice(self._settled()).workos_id, seconds))

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

    def _add(
        self, number: int, name: str, external_id: str | None, *, is_quiet: bool
    ) -> _Organization:
        id_ = workos_id(number)
        gram_id = external_id or derived_id(id_)
        organization = _Organization(
            id_, name, gram_id, is_quiet, external_id is not None, born=self.number
        )
        self.alive.append(organization)
        self.gram_ids.append(gram_id)
        return organization

    def _next_number(self) -> int:
        self.created += 1
        return self.created

    def _name(self) -> str:
        """Often a sibling's."""
        if self.alive and self._happens(0.5):
            return self.chance.choice(self.alive).name
        return self.chance.choice(NAMES)

    # Between WorkOS and the mirror

    def _weather(self) -> Iterator[Step]:
        if self._happens(0.5):
            (calls,) = self.chance.choices([calls for _, calls in _MAIL], [w for w, _ in _MAIL])
            at, seed = self._moment(), self.chance.randrange(1_000_000)
            yield from (Step(at, call) for call in (*normal_mail(seed), *calls))
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
        parameters: dict[str, Any] = {}
        if self._happens(0.2):
            kind, method, path = self.chance.choice(_FAULTS_OF_LISTS)
        else:
            kind, parameters = self.chance.choice(_FAULTS)
            method, path = self.chance.choice((*_CALLS, ("GET", self.chance.choice(_LISTS))))
        order = {"kind": kind, "method": method, "path": path, "times": self.chance.randint(1, 4)}
        applied = method == "PUT" and self._happens(0.5)
        return Call("misbehave", {**order, "applied": applied, **parameters})

    # To our own processes

    def _blows(self) -> Iterator[Step]:
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
        if self._happens(0.15):
            yield self._step(self._kill(CLUSTERS, whole=self._happens(0.5)))
        if self._happens(0.1):
            yield self._step(self._kill(WEBS, whole=self._happens(0.5)))
        # Rare, because after each the clusters do nothing for ten seconds.
        if self._happens(0.03):
            yield self._step(RestartPostgres(self.chance.choice(("fast", "immediate"))))
        if self._happens(0.08):
            kill_after = self.chance.uniform(0.5, 3) if self._happens(0.5) else None
            yield self._step(Reconcile(kill_after))

    def _switches(self) -> Iterator[Step]:
        """Late; and in a long run, some are switched off, and on again."""
        if self.number == 5 or self.number % 30 == 14:
            yield self._step(Switch(RESOURCES))
        elif self.number % 30 == 10:
            left_out = self.chance.sample([n for n in RESOURCES if n != ORGANIZATION], 4)
            yield self._step(Switch(_all_but(left_out)))

    def _kill(self, members: Sequence[str], *, whole: bool) -> Kill:
        member = self.chance.choice(members)
        return Kill(member, whole, self.chance.random(), self.chance.uniform(0.2, 3))

    # By other programs

    def _rivals(self) -> Iterator[Step]:
        if self._happens(0.5):
            self.signed_up += 1
            # A slug that organizations to come will want.
            yield self._step(self._sign_up(f"local-{self.signed_up}", self._name()))
            self.gram_ids.append(f"local-{self.signed_up}")
        if not self.gram_ids:
            return
        for _ in range(self.chance.randint(3, 6)):
            yield self._step(self._dashboard())
        if self._happens(0.5):
            columns = {"name": f"{self._name()} (drifted)"}
            yield self._step(Write(RENAMER, "set", self._an_id(), columns))
        if self._happens(0.3):
            ids = tuple({self._an_id() for _ in range(8)})
            yield self._step(Lock(LOCKER, tuple(sorted(ids)), self.chance.uniform(0.2, 1.5)))
        for _ in range(self.chance.randint(0, 2)):
            yield self._step(Write(JANITOR, "delete", self._an_id(), {}))

    def _sign_up(self, organization_id: str, name: str) -> Write:
        hold = self.chance.choice((0.0, 0.0, 0.3, 1.0))
        columns = {"name": name, "slug": slug_base(name)}
        return Write(self.chance.choice(SIGN_UPS), "insert", organization_id, columns, hold)

    def _dashboard(self) -> Write:
        id_ = self._an_id()
        owner = DASHBOARDS[self.gram_ids.index(id_) % len(DASHBOARDS)]
        columns: list[dict[str, str | bool]] = [
            {"gram_account_type": self.chance.choice(("free", "pro", "enterprise"))},
            {"whitelisted": self._happens(0.5)},
            {"slug": slug_base(self._name())},
            {"slug": f"renamed-{self.chance.randrange(1_000_000)}"},
        ]
        return Write(owner, "set", id_, self.chance.choice(columns))

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


def _created(organization: _Organization, external_id: str | None) -> Call:
    named = {"id": organization.workos_id, "name": organization.name}
    return Call("create_organization", {**named, "external_id": external_id})


def _deleted(organization: _Organization) -> Call:
    return Call("delete_organization", {"id": organization.workos_id})
