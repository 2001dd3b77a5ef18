"""Fills the fake WorkOS with every resource beside organizations; compares it with the tables."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO
from tests.system.chaos.kinds import KINDS, Kind
from tests.system.chaos.resource_audit import Objects, held_by, resource_differences, value_of

Held: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""Resource, key, column: value."""


def some_of_each(workos: FakeWorkOS, acme: str, **options: Any) -> dict[str, Any]:
    """One object of each resource, created two days ago; with events unless ``emits`` is False."""
    options = {"at": TWO_DAYS_AGO, **options}
    ours = {"organization_id": acme, **options}
    ada = workos.users.create(email=f"ada@{acme}.com", first_name="Ada", **options)
    okta = workos.directories.create(name="Okta", **ours)
    group = workos.directory_groups.create(name="Staff", directory_id=okta["id"], **options)
    person = workos.directory_users.create(email="a@acme.com", directory_id=okta["id"], **options)
    workos.directory_groups.add_user(group["id"], person["id"], **options)
    end = "2999-01-01T00:00:00Z"
    return {
        "organization_domain": workos.domains.create(domain="acme.com", **ours),
        "connection": workos.connections.create(name="SSO", state="active", **ours),
        "directory": okta,
        "user": ada,
        "role": workos.roles.create(slug="admin", permissions=["b", "a"], **ours),
        "membership": workos.memberships.create(user_id=ada["id"], role="admin", **ours),
        "invitation": workos.invitations.create(email="bob@acme.com", expires_at=end, **ours),
        "directory_user": person,
        "directory_group": group,
    }


def held(workos: FakeWorkOS) -> Held:
    """What the fake WorkOS holds."""
    found = held_by(workos)
    return {
        kind.name: {key: _columns(kind, key, one) for key, one in found[kind.name].items()}
        for kind in KINDS
    }


def mirrored() -> Held:
    """What the tables hold, without what is deleted."""
    tables = _tables()
    return {
        kind.name: {
            key: _columns(kind, key, row, is_row=True)
            for key, row in tables[kind.name].items()
            if row[kind.deleted_column] is None
        }
        for kind in KINDS
    }


def not_applied(workos: FakeWorkOS) -> list[str]:
    """What the tables do not hold though events said it, once all are drained."""
    events = workos.all_events()
    return [*resource_differences(_tables(), held_by(workos), events, reconciled=False)]


def _tables() -> Mapping[str, Objects]:
    return {
        name: {row["workos_id"]: row for row in model_of(resource)._default_manager.values()}
        for name, resource in PLAIN.items()
    }


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
