"""Decides, from a seed alone, what happens to the resources beside organizations. Pure."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.system.chaos.actions import Action, Call, Repeat, Way
from tests.system.chaos.kinds import KINDS, ORGANIZATION, Kind, member_key, role_key

_BURIED: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    kind: Kind
    key: str
    arguments: Mapping[str, Any]
    """What it was created with."""
    holders: frozenset[str]
    """The ids of all whose deletion ends it too."""
    born: int
    """The round; only in later ones does anything happen to it, so that it is there."""
    is_kept: bool
    """It is never deleted: where it can be read, WorkOS's 404 for another one counts."""

    @property
    def named(self) -> Mapping[str, Any]:
        """The arguments that say which one is meant."""
        return self.arguments if self.kind.create == "add_user" else {"id": self.key}


@dataclass(slots=True)
class ResourcePlanner:
    """Plans the changes of a round, in the order of time."""

    chance: random.Random
    created: int = 0
    alive: list[_Object] = field(default_factory=list)
    buried: list[_Object] = field(default_factory=list)
    """What is deleted, by its own event or with its directory, group or user: late events of it
    change nothing."""

    def anchors(self, organization_id: str) -> Iterator[Action]:
        """One of each, of an organization that stays."""
        for kind in KINDS:
            yield from self._create(kind, -1, [organization_id])

    def actions(self, number: int, organizations: Collection[str]) -> Iterator[Action]:
        """What happens in a round, to what belongs to these organizations, or will. Organizations
        are deleted elsewhere, with all that is theirs."""
        self.alive = [
            one
            for one in self.alive
            if all(id_ in organizations for id_ in one.holders if id_.startswith("org_"))
        ]
        for _ in range(self.chance.choice((4, 5, 6))):
            there = [one for one in self.alive if one.born < number]
            (what,) = self.chance.choices(("create", "change", "delete", "repeat"), (9, 8, 4, 2))
            match what:
                case "create":
                    yield from self._create(self.chance.choice(KINDS), number, [*organizations])
                case "change":
                    yield from self._change([one for one in there if one.kind.verbs])
                case "delete":
                    there = [one for one in there if one.kind.delete and not one.is_kept]
                    yield from self._delete(there, number)
                case "repeat":
                    yield from self._repeat(there)

    def _create(self, kind: Kind, number: int, organizations: Sequence[str]) -> Iterator[Action]:
        arguments: dict[str, Any] = {}
        if kind.needs_parents or self.chance.random() >= 0.3:
            for name, parent in kind.parents.items():
                # All of one directory.
                directory = arguments.get("id") and self._directory_of(arguments["id"])
                candidates: Sequence[str] = organizations
                if parent != ORGANIZATION:
                    candidates = [
                        one.key
                        for one in self.alive
                        if one.kind.name == parent
                        and (one.born < number or number < 0)
                        and directory in (None, one.arguments.get("directory_id"))
                    ]
                if not candidates:
                    return
                arguments[name] = self.chance.choice(candidates)
        fields = {name: self.chance.choice(values) for name, values in kind.fields.items()}
        yield from self._add(kind, number, {**arguments, **fields})

    def _directory_of(self, key: str) -> object:
        return next(one.arguments.get("directory_id") for one in self.alive if one.key == key)

    def _add(self, kind: Kind, number: int, arguments: Mapping[str, Any]) -> Iterator[Action]:
        self.created += 1
        key = f"{kind.name}_01CHAOS{self.created:019d}"
        # Some have a key that is made of what they are about.
        if kind.name == "role":
            key = role_key(arguments.get("organization_id"), arguments["slug"])
        elif kind.name == "directory_group_member":
            key = member_key(arguments["id"], arguments["user_id"])
        if any(one.key == key for one in self.alive):
            return
        holders = {id_ for name in kind.parents if (id_ := arguments.get(name))}
        for one in self.alive:
            if one.key in holders:
                holders |= one.holders
        new = _Object(kind, key, arguments, frozenset(holders), number, number < 0)
        self.alive.append(new)
        yield self._call(new, kind.create, {**arguments, **new.named})

    def _change(self, there: Sequence[_Object]) -> Iterator[Action]:
        if there:
            one = self.chance.choice(there)
            verb, names = self.chance.choice(list(one.kind.verbs.items()))
            given = {
                name: self.chance.choice(one.kind.fields[name])
                for name in names
                if self.chance.random() < 0.5
            }
            yield self._call(one, verb, {**one.named, **given})

    def _delete(self, there: Sequence[_Object], number: int) -> Iterator[Action]:
        if there:
            one = self.chance.choice(there)
            with_it = [other for other in self.alive if one.key in other.holders]
            itself = [] if one.kind.key_comes_back else [one]
            self.buried = [*self.buried, *itself, *with_it][-_BURIED:]
            self.alive = [other for other in self.alive if other not in (one, *with_it)]
            yield self._call(one, str(one.kind.delete), one.named)
            if self.chance.random() < 0.5:
                yield from self._add(one.kind, number, one.arguments)

    def _repeat(self, there: Sequence[_Object]) -> Iterator[Action]:
        ways: tuple[Way, ...] = ("listed", "never listed")
        if self.buried and self.chance.random() < 0.4:
            there, ways = self.buried, ("listed",)
        if there:
            one = self.chance.choice(there)
            yield Repeat(one.kind.name, one.key, self.chance.choice(ways))

    def _call(self, one: _Object, method: str, arguments: Mapping[str, Any]) -> Call:
        """Some have no event: only a list shows them."""
        is_silent = not one.is_kept and self.chance.random() < 0.1
        silently = {"emits": False} if is_silent else {}
        return Call(f"{one.kind.controls}.{method}", {**arguments, **silently})
