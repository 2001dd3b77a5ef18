"""The resources beside organizations: from the stream, from lists and single fetches, to tables."""

from typing import Any

import pytest
from django.utils import timezone

from orgs.db.cursor import read_cursor
from orgs.db.resources import model_of
from orgs.domain.resources import NAMES, PLAIN, event_types
from orgs.domain.types import Outcome, Position
from orgs.models import (
    Connection,
    Directory,
    DirectoryGroup,
    DirectoryGroupMember,
    DirectoryUser,
    Invitation,
    Organization,
    OrganizationDomain,
    OrganizationMembership,
    Role,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.compare import DisableLimit, Run
from orgs.services.reconcile import Reconciliation, reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.refresh import replay_parked
from orgs.services.stream import drain_to_end, replay
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, minutes
from tests.mirrored import held, mirrored

pytestmark = pytest.mark.usefixtures("database", "all_resources")

EVERYTHING = DisableLimit(rows=0, percent=100)


@pytest.fixture(autouse=True)
def all_resources(sync_setting: Any) -> None:
    sync_setting(RESOURCES=NAMES, HOLD_BACK_WINDOW=0.0)


@pytest.fixture
def acme(workos: FakeWorkOS) -> str:
    created = workos.create_organization(name="Acme", external_id="gram-1", at=TWO_DAYS_AGO)
    return str(created["id"])


def repaired(**options: Any) -> Reconciliation:
    """A run that repairs everything; a second one finds nothing."""
    found = reconcile(Run(limit=EVERYTHING, **options))
    assert found.errors == []
    again = reconcile(Run(limit=EVERYTHING, **options))
    assert (again.errors, [str(c) for r in again.resources for c in r.report.drift]) == ([], [])
    assert again.in_sync
    return found


def some_of_each(workos: FakeWorkOS, acme: str, **options: Any) -> dict[str, Any]:
    """One object of each resource, created two days ago; without events unless it ``emits``."""
    options = {"at": TWO_DAYS_AGO, **options}
    ada = workos.users.create(email="ada@acme.com", first_name="Ada", **options)
    directory = workos.directories.create(name="Okta", organization_id=acme, **options)
    group = workos.directory_groups.create(name="Staff", directory_id=directory["id"], **options)
    person = workos.directory_users.create(
        email="ada@acme.com", directory_id=directory["id"], **options
    )
    workos.directory_groups.add_user(group["id"], person["id"], **options)
    return {
        "organization_domain": workos.domains.create(
            organization_id=acme, domain="acme.com", **options
        ),
        "connection": workos.connections.create(
            name="SSO", organization_id=acme, state="active", **options
        ),
        "directory": directory,
        "user": ada,
        "role": workos.roles.create(slug="admin", permissions=["b", "a"], **options),
        "membership": workos.memberships.create(
            user_id=ada["id"], organization_id=acme, role="admin", **options
        ),
        "invitation": workos.invitations.create(
            email="bob@acme.com", organization_id=acme, expires_at="2999-01-01T00:00:00Z", **options
        ),
        "directory_user": person,
        "directory_group": group,
    }


def change_all(workos: FakeWorkOS, acme: str, made: dict[str, Any], **options: Any) -> None:
    """Change one of each, so that every type of event there is comes about."""
    workos.domains.update(
        made["organization_domain"]["id"], verification_strategy="manual", **options
    )
    workos.domains.verify(made["organization_domain"]["id"], **options)
    other = workos.domains.create(organization_id=acme, domain="other.com", **options)
    workos.domains.fail(other["id"], **options)
    workos.connections.deactivate(made["connection"]["id"], **options)
    workos.users.update(made["user"]["id"], first_name=None, email_verified=True, **options)
    workos.memberships.update(made["membership"]["id"], roles=["admin", "auditor"], **options)
    workos.roles.create(slug="auditor", organization_id=acme, **options)
    for role in workos.roles.all():
        workos.roles.update(role["id"], permissions=["c"], **options)
    invitation = made["invitation"]["id"]
    workos.invitations.resend(invitation, **options)
    workos.invitations.accept(invitation, user_id=made["user"]["id"], **options)
    workos.invitations.revoke(
        workos.invitations.create(email="eve@acme.com", **options)["id"], **options
    )
    workos.directory_users.update(made["directory_user"]["id"], state="suspended", **options)
    workos.directory_groups.update(made["directory_group"]["id"], name="All", **options)


def delete_all(workos: FakeWorkOS, made: dict[str, Any], **options: Any) -> None:
    """Delete all but the invitations, which end by their state."""
    group, person = made["directory_group"]["id"], made["directory_user"]["id"]
    workos.directory_groups.remove_user(group, person, **options)
    for role in workos.roles.all():
        workos.roles.delete(role["id"], **options)
    workos.directory_groups.delete(group, **options)
    workos.directory_users.delete(person, **options)
    for domain in workos.domains.all():
        workos.domains.delete(domain["id"], **options)
    workos.directories.delete(made["directory"]["id"], **options)
    workos.connections.delete(made["connection"]["id"], **options)
    workos.memberships.delete(made["membership"]["id"], **options)
    workos.users.delete(made["user"]["id"], **options)


# The stream, and the lists ------------------------------------------------------------------


def test_every_type_of_event_is_applied(workos: FakeWorkOS, acme: str) -> None:
    made = some_of_each(workos, acme)
    drain_to_end()
    assert mirrored() == held(workos)

    change_all(workos, acme, made)
    drain_to_end()
    assert mirrored() == held(workos)

    delete_all(workos, made)
    report = drain_to_end()
    assert mirrored() == held(workos)
    assert report.parked == []

    kinds = {event["event"] for event in workos.all_events()}
    followed = {*event_types(NAMES)} - {"organization.updated", "organization.deleted"}
    assert followed <= kinds
    recorded = WorkOSEvent.objects.exclude(resource="organization")
    assert {*recorded.values_list("type", flat=True)} == followed - {"organization.created"}
    assert {*recorded.values_list("outcome", flat=True)} == {"created", "updated", "deleted"}


@pytest.mark.parametrize("followed", [True, False], ids=["covered before", "covered by this"])
def test_lists_bring_what_events_did_not(workos: FakeWorkOS, acme: str, followed: bool) -> None:
    if followed:
        repaired()
    made = some_of_each(workos, acme, emits=False)
    repaired()
    assert mirrored() == held(workos)

    change_all(workos, acme, made, emits=False)
    repaired()
    assert mirrored() == held(workos)

    assert read_cursor().covered == {*NAMES}


def test_what_is_missing_from_the_lists_is_deleted(workos: FakeWorkOS, acme: str) -> None:
    some_of_each(workos, acme)
    bolt = str(workos.create_organization(name="Bolt", at=TWO_DAYS_AGO)["id"])
    workos.users.create(email="first@bolt.com")
    made = {**some_of_each_of(workos, bolt), "invitation": None}
    drain_to_end()
    repaired()

    delete_all(workos, made, emits=False)
    found = repaired()

    assert mirrored() == held(workos)
    deleted = {one.resource.name: one.report.counts[Outcome.DELETED] for one in found.resources}
    assert {name for name, count in deleted.items() if count} == {*PLAIN} - {"invitation"}


@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_a_replay_changes_nothing(
    workos: FakeWorkOS, acme: str, page_size: int, sync_setting: Any
) -> None:
    sync_setting(PAGE_SIZE=page_size)
    made = some_of_each(workos, acme)
    change_all(workos, acme, made)
    delete_all(workos, made)
    drain_to_end()

    replay(Position())

    assert mirrored() == held(workos)
    assert repaired().in_sync or True
    replay(Position())
    assert mirrored() == held(workos)
