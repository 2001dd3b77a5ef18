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


def change_all(workos: FakeWorkOS, acme: str, made: dict[str, Any], **options: Any) -> None:
    """Change one of each, so that every type of event there is comes about; what may come back
    does."""
    ids = {name: one["id"] for name, one in made.items()}
    workos.domains.update(ids["organization_domain"], verification_strategy="manual", **options)
    workos.domains.verify(ids["organization_domain"], **options)
    other = workos.domains.create(organization_id=acme, domain="other.com", **options)
    workos.domains.fail(other["id"], **options)
    workos.connections.deactivate(ids["connection"], **options)
    workos.users.update(ids["user"], first_name=None, email_verified=True, **options)
    workos.memberships.deactivate(ids["membership"], **options)
    workos.memberships.reactivate(ids["membership"], **options)
    workos.memberships.update(ids["membership"], roles=["admin", "auditor"], **options)
    for _ in range(2):
        auditor = workos.roles.create(slug="auditor", permissions=["old"], **options)
        workos.roles.delete(auditor["id"], **options)
    workos.roles.create(slug="auditor", **options)
    for role in workos.roles.all():
        workos.roles.update(role["id"], permissions=["c"], **options)
    workos.invitations.resend(ids["invitation"], **options)
    workos.invitations.accept(ids["invitation"], user_id=ids["user"], **options)
    eve = workos.invitations.create(email="eve@acme.com", **options)["id"]
    workos.invitations.revoke(eve, **options)
    workos.directory_users.update(ids["directory_user"], state="suspended", **options)
    workos.directory_groups.update(ids["directory_group"], name="All", **options)
    workos.directory_groups.remove_user(ids["directory_group"], ids["directory_user"], **options)
    workos.directory_groups.add_user(ids["directory_group"], ids["directory_user"], **options)


def delete_all(workos: FakeWorkOS, made: dict[str, Any], **options: Any) -> None:
    """Delete all of them but the invitation, which ends by its state."""
    ids = {name: one["id"] for name, one in made.items()}
    workos.directory_groups.remove_user(ids["directory_group"], ids["directory_user"], **options)
    workos.directory_groups.delete(ids["directory_group"], **options)
    workos.directory_users.delete(ids["directory_user"], **options)
    workos.roles.delete(ids["role"], **options)
    workos.domains.delete(ids["organization_domain"], **options)
    workos.directories.delete(ids["directory"], **options)
    workos.connections.delete(ids["connection"], **options)
    workos.memberships.delete(ids["membership"], **options)
    workos.users.delete(ids["user"], **options)


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
