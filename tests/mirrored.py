"""Compares what the fake WorkOS holds with the tables, for every resource beside organizations."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from django.db.models import F

from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.testing import FakeWorkOS, JsonObject

Held: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""Resource, key, column: value."""

#: The columns compared, as the fake's fields are called.
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "organization_domain": {"domain": "domain", "state": "state"},
    "connection": {"connection_type": "connection_type", "name": "name", "state": "state"},
    "directory": {"directory_type": "type", "name": "name", "state": "state"},
    "user": {"email": "email", "first_name": "first_name", "email_verified": "email_verified"},
    "membership": {"workos_user_id": "user_id", "status": "status"},
    "invitation": {"email": "email", "state": "state", "role_slug": "role_slug"},
    "directory_user": {"workos_directory_id": "directory_id", "email": "email", "state": "state"},
    "directory_group": {"workos_directory_id": "directory_id", "name": "name"},
}
_SPELLINGS = {"linked": "active", "unlinked": "inactive"}


def held(workos: FakeWorkOS) -> Held:
    """What the fake WorkOS holds."""
    listed: Mapping[str, Any] = {
        "organization_domain": workos.domains,
        "connection": workos.connections,
        "directory": workos.directories,
        "user": workos.users,
        "membership": workos.memberships,
        "invitation": workos.invitations,
        "directory_user": workos.directory_users,
        "directory_group": workos.directory_groups,
    }
    found: Held = {
        name: {one["id"]: _columns(name, one) for one in resource.all()}
        for name, resource in listed.items()
    }
    for one in workos.memberships.all():
        slugs = sorted(role["slug"] for role in one["roles"])
        found["membership"][one["id"]]["role_slugs"] = slugs
    owners = ["", *(organization["id"] for organization in workos.all_organizations())]
    found["role"] = {
        f"{owner}:{role['slug']}": {
            "workos_organization_id": owner,
            "permissions": sorted(role["permissions"]),
        }
        for owner in owners
        for role in workos.roles.where("organization_id", owner)
    }
    found["directory_group_member"] = {
        f"{group['id']}:{user_id}": {
            "workos_group_id": group["id"],
            "workos_directory_user_id": user_id,
        }
        for group in workos.directory_groups.all()
        for user_id in workos.directory_groups.members(group["id"])
    }
    return found


def mirrored() -> Held:
    """What the tables hold, without what is deleted."""
    found: Held = {}
    for name, resource in PLAIN.items():
        columns = {
            "role": ["workos_organization_id", "permissions"],
            "directory_group_member": ["workos_group_id", "workos_directory_user_id"],
        }.get(name) or [*_FIELDS[name], "workos_organization_id"]
        if name == "user":
            columns.remove("workos_organization_id")
        if name == "membership":
            columns.append("role_slugs")
        rows = model_of(resource)._default_manager.filter(**{resource.deleted_column: None})
        found[name] = {
            row.pop("pk"): _spelled(row) for row in rows.values(*columns, pk=F("workos_id"))
        }
    return found


def _columns(name: str, one: JsonObject) -> dict[str, Any]:
    columns = {column: one[field] for column, field in _FIELDS[name].items()}
    if name != "user":
        columns["workos_organization_id"] = one["organization_id"]
    return _spelled(columns)


def _spelled(columns: dict[str, Any]) -> dict[str, Any]:
    if (state := columns.get("state")) is not None:
        columns["state"] = _SPELLINGS.get(state, state)
    return columns


Change: TypeAlias = Callable[[FakeWorkOS], object]
