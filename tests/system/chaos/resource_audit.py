"""Says how the tables of the resources beside organizations differ from what WorkOS holds. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from tests.system.chaos.kinds import (
    COMING_BACK,
    HOLDERS,
    KINDS,
    RESOURCES,
    Kind,
    is_deletion,
    member_key,
    shown_by,
    subject_of,
)

Objects: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Rows, or what WorkOS shows, by key."""

_SPELLINGS: Final = {"linked": "active", "unlinked": "inactive"}


@dataclass(frozen=True, slots=True)
class SeenResources:
    """The tables, at one moment."""

    rows: Mapping[str, Objects]
    """By resource."""
    covered: frozenset[str]
    organizations: Objects
    """The rows of ``organization_metadata``, by Gram id."""


def held_by(workos: Any, roles: Objects) -> dict[str, Objects]:
    """What the fake WorkOS holds of each resource, by key. It does not say whose a role is."""
    held: dict[str, Objects] = {
        kind.name: {one["id"]: one for one in getattr(workos, kind.controls).all()}
        for kind in KINDS
    }
    held["role"] = roles
    held["directory_group_member"] = {
        member_key(group["id"], user_id): {**group, "group_id": group["id"], "user_id": user_id}
        for group in held["directory_group"].values()
        for user_id in workos.directory_groups.members(group["id"])
    }
    return held


def resource_differences(
    seen: SeenResources,
    held: Mapping[str, Objects],
    events: Sequence[Mapping[str, Any]],
    *,
    not_followed: Collection[str] = (),
    reconciled: bool,
) -> Iterator[str]:
    """A line for each thing that is not as it must be.

    ``held`` is what WorkOS holds, by resource. Before it is ``reconciled``, what no event has told
    may be otherwise, or missing; so may what only events that were not followed have deleted.
    """
    for name in sorted(set(RESOURCES) - seen.covered):
        yield f"{name} is not covered"
    told = None if reconciled else _Told(events, not_followed)
    for kind in KINDS:
        yield from _of_kind(kind, seen.rows[kind.name], held[kind.name], told)
    yield from _derived(seen)


def _of_kind(kind: Kind, rows: Objects, held: Objects, told: "_Told | None") -> Iterator[str]:
    for key in sorted(rows.keys() | held.keys()):
        row, one = rows.get(key), held.get(key)
        is_there = row is not None and row[kind.deleted_column] is None
        if one is None:
            if row is not None and is_there and (told is None or told.deletes(kind.name, key, row)):
                yield f"{kind.name} {key} is deleted in WorkOS, and not here"
        elif told is None or told.shows(kind, key, one):
            if row is None or not is_there:
                yield f"{kind.name} {key} is {'deleted' if row else 'missing'}"
            else:
                yield from _columns(kind, key, row, one, told)


def _columns(
    kind: Kind, key: str, row: Mapping[str, Any], one: Mapping[str, Any], told: "_Told | None"
) -> Iterator[str]:
    for column, name in kind.columns.items():
        if told is not None and not told.has(kind.name, key, name):
            continue
        seen, wanted = value_of(column, row[column]), value_of(column, one.get(name))
        if seen != wanted:
            yield f"{kind.name} {key}: {column} is {seen!r}, not {wanted!r}"


def value_of(column: str, value: Any) -> Any:
    """A column's value, or its field's: those that mean the same are equal."""
    match column:
        case "state":
            return _SPELLINGS.get(value, value)
        case "expires_at":
            return datetime.fromisoformat(value) if isinstance(value, str) else value
        case "role_slugs" | "permissions":
            return sorted(item["slug"] if isinstance(item, dict) else item for item in value)
    return value


def _derived(seen: SeenResources) -> Iterator[str]:
    for column, resource in (("sso_enabled", "connection"), ("scim_enabled", "directory")):
        active = {
            row["workos_organization_id"]
            for row in seen.rows[resource].values()
            if row["deleted_at"] is None and value_of("state", row["state"]) == "active"
        }
        for id_, organization in sorted(seen.organizations.items()):
            workos_id = organization["workos_id"]
            if workos_id is not None and organization[column] is not (workos_id in active):
                yield f"row {id_}: {column} is {organization[column]}, not {workos_id in active}"


@dataclass(slots=True)
class _Told:
    """What the events alone say: a change may come without one."""

    events: Sequence[Mapping[str, Any]]
    not_followed: Collection[str]
    last: dict[tuple[str, str], Mapping[str, Any]] = field(init=False)
    deleted: set[tuple[str, str]] = field(init=False)
    """By an event; where keys come back, by the last one."""

    def __post_init__(self) -> None:
        self.last = {subject_of(event): event for event in self.events}
        deletions = (event for event in self.events if is_deletion(event))
        deleted = {subject_of(one) for one in deletions if one["id"] not in self.not_followed}
        self.deleted = {
            one for one in deleted if one[0] not in COMING_BACK or is_deletion(self.last[one])
        }

    def shows(self, kind: Kind, key: str, one: Mapping[str, Any]) -> bool:
        """Whether the last event of an object that is there shows it as it is."""
        event = self.last.get((kind.name, key))
        if event is None or is_deletion(event):
            return False
        return bool(shown_by(event).get("updated_at") == one.get("updated_at"))

    def has(self, name: str, key: str, field_name: str) -> bool:
        """Whether its events have the field: those of the environment's roles lack some."""
        return name != "role" or field_name in shown_by(self.last[name, key])

    def deletes(self, name: str, key: str, row: Mapping[str, Any]) -> bool:
        """Whether an event deletes it, or what it is in."""
        holders = ((holder, row.get(column)) for column, holder in HOLDERS.items())
        return not self.deleted.isdisjoint({(name, key), *holders})
