"""Says how the tables of the resources beside organizations differ from what WorkOS holds. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from tests.system.chaos.kinds import (
    COMING_BACK,
    HOLDERS,
    KINDS,
    Kind,
    is_deletion,
    member_key,
    role_key,
    shown_by,
    subject_of,
)

Objects: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Rows, or what WorkOS shows, by key."""

_SPELLINGS: Final = {"linked": "active", "unlinked": "inactive"}


def held_by(workos: Any) -> dict[str, Objects]:
    """What the fake WorkOS holds of each resource, by key."""
    held: dict[str, Objects] = {
        kind.name: {one["id"]: one for one in getattr(workos, kind.controls).all()}
        for kind in KINDS
    }
    owners = ["", *(organization["id"] for organization in workos.all_organizations())]
    held["role"] = {
        role_key(owner, role["slug"]): role
        for owner in owners
        for role in workos.roles.where("organization_id", owner)
    }
    held["directory_group_member"] = {
        member_key(group["id"], user_id): {**group, "group_id": group["id"], "user_id": user_id}
        for group in held["directory_group"].values()
        for user_id in workos.directory_groups.members(group["id"])
    }
    return held


def resource_differences(
    rows: Mapping[str, Objects],
    held: Mapping[str, Objects],
    events: Sequence[Mapping[str, Any]],
    *,
    not_followed: Collection[str] = (),
    reconciled: bool,
) -> Iterator[str]:
    """A line for each thing that is not as it must be; ``rows`` and ``held`` are by resource.

    Before it is ``reconciled``, what no event has said may be otherwise, or missing; so may what
    only events that were not followed have deleted.
    """
    said = None if reconciled else _Said(events, not_followed)
    for kind in KINDS:
        for key in sorted(rows[kind.name].keys() | held[kind.name].keys()):
            row, one = rows[kind.name].get(key), held[kind.name].get(key)
            is_there = row is not None and row[kind.deleted_column] is None
            if one is None:
                if row and is_there and (said is None or said.deletes(kind.name, key, row)):
                    yield f"{kind.name} {key} is deleted in WorkOS, and not here"
            elif said is None or said.shows(kind.name, key, one):
                if row is None or not is_there:
                    yield f"{kind.name} {key} is {'deleted' if row else 'missing'}"
                else:
                    yield from _columns(kind, key, row, one, said)


def _columns(
    kind: Kind, key: str, row: Mapping[str, Any], one: Mapping[str, Any], said: "_Said | None"
) -> Iterator[str]:
    for column, name in kind.columns.items():
        if said is None or said.has(kind.name, key, name):
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


class _Said:
    """What the events alone say: a change may come without one."""

    def __init__(self, events: Sequence[Mapping[str, Any]], not_followed: Collection[str]) -> None:
        self._last = {subject_of(event): event for event in events}
        deletions = (event for event in events if is_deletion(event))
        deleted = {subject_of(one) for one in deletions if one["id"] not in not_followed}
        # Where keys come back, by the last event.
        self._deleted = {
            one for one in deleted if one[0] not in COMING_BACK or is_deletion(self._last[one])
        }

    def shows(self, name: str, key: str, one: Mapping[str, Any]) -> bool:
        """Whether the last event of an object that is there shows it as it is."""
        event = self._last.get((name, key))
        if event is None or is_deletion(event):
            return False
        return bool(shown_by(event).get("updated_at") == one.get("updated_at"))

    def has(self, name: str, key: str, field_name: str) -> bool:
        """Whether its events have the field: those of the environment's roles lack some."""
        return name != "role" or field_name in shown_by(self._last[name, key])

    def deletes(self, name: str, key: str, row: Mapping[str, Any]) -> bool:
        """Whether an event deletes it, or what it is in."""
        holders = ((holder, row.get(column)) for column, holder in HOLDERS.items())
        return not self._deleted.isdisjoint({(name, key), *holders})
