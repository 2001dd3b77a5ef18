"""Compares what the fake WorkOS holds with the tables, for every resource beside organizations."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.testing import FakeWorkOS
from tests.system.chaos.kinds import KINDS, Kind, role_key
from tests.system.chaos.resource_audit import held_by, value_of

Held: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""Resource, key, column: value."""


def held(workos: FakeWorkOS) -> Held:
    """What the fake WorkOS holds."""
    owners = ["", *(organization["id"] for organization in workos.all_organizations())]
    roles = {
        role_key(owner, role["slug"]): role
        for owner in owners
        for role in workos.roles.where("organization_id", owner)
    }
    found = held_by(workos, roles)
    return {
        kind.name: {key: _columns(kind, key, one) for key, one in found[kind.name].items()}
        for kind in KINDS
    }


def mirrored() -> Held:
    """What the tables hold, without what is deleted."""
    found: Held = {}
    for kind in KINDS:
        rows = model_of(PLAIN[kind.name])._default_manager.filter(**{kind.deleted_column: None})
        found[kind.name] = {
            row["workos_id"]: _columns(kind, row["workos_id"], row, is_row=True)
            for row in rows.values()
        }
    return found


def _columns(
    kind: Kind, key: str, one: Mapping[str, Any], *, is_row: bool = False
) -> dict[str, Any]:
    # The events of the environment's roles have neither name nor description.
    unknown = {"name", "description"} if kind.name == "role" and key.startswith(":") else set()
    return {
        column: value_of(column, one[column if is_row else field])
        for column, field in kind.columns.items()
        if column not in unknown
    }
