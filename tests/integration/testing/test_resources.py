"""What the fake WorkOS has beside organizations: as the SDK reads it, and with its traps."""

from collections.abc import Callable
from typing import Any

import pytest
from workos import WorkOSClient

from orgs.domain.resources import NAMES, event_types
from orgs.testing import FakeWorkOS, Refused
from orgs.testing.resource import Resource
from orgs.testing.resources import RESOURCES
from tests.integration.testing import ids
from tests.mirrored import change_all, delete_all, some_of_each


@pytest.fixture
def acme(workos: FakeWorkOS) -> str:
    return str(workos.create_organization(name="Acme")["id"])


@pytest.fixture
def ada(workos: FakeWorkOS) -> str:
    return str(workos.users.create(email="ada@example.com", first_name="Ada")["id"])


@pytest.fixture
def okta(workos: FakeWorkOS, acme: str) -> str:
    return str(workos.directories.create(name="Okta", organization_id=acme)["id"])


def emitted(workos: FakeWorkOS) -> list[str]:
    return [event["event"] for event in workos.all_events()]


def test_the_sdk_reads_every_resource(workos: FakeWorkOS, sdk: WorkOSClient, acme: str) -> None:
    made = {name: one["id"] for name, one in some_of_each(workos, acme).items()}
    workos.connections.update(made["connection"], domains=["acme.com"])
    workos.directory_users.update(made["directory_user"], role="admin")
    workos.roles.create(slug="auditor", permissions=["read"])
    memberships = sdk.organization_membership
    singles: list[Any] = [
        sdk.user_management.get_user(made["user"]),
        memberships.get_organization_membership(made["membership"]),
        sdk.user_management.get_invitation(made["invitation"]),
        sdk.sso.get_connection(made["connection"]),
        sdk.directory_sync.get_directory(made["directory"]),
        sdk.directory_sync.get_group(made["directory_group"]),
        sdk.directory_sync.get_user(made["directory_user"]),
        sdk.authorization.get_environment_role("auditor"),
        sdk.authorization.get_organization_role(acme, "admin"),
        sdk.organization_domains.get_organization_domain(made["organization_domain"]),
    ]
    pages: list[Any] = [
        sdk.user_management.list_users(organization_id=acme),
        memberships.list_organization_memberships(organization_id=acme),
        sdk.user_management.list_invitations(organization_id=acme),
        sdk.sso.list_connections(organization_id=acme, domain="acme.com"),
        sdk.directory_sync.list_directories(organization_id=acme),
        sdk.directory_sync.list_groups(user=made["directory_user"]),
        sdk.directory_sync.list_users(directory=made["directory"]),
        sdk.authorization.list_environment_roles(),
    ]
    usable = sdk.authorization.list_organization_roles(acme)

    assert [page.data for page in pages] == [[single] for single in singles[:8]]
    assert [one.slug for one in usable.data] == ["auditor", "admin"]
    assert sdk.organizations.get_organization(acme).domains == [singles[-1]]
    shown = singles[1].to_dict()
    assert (shown["user"]["first_name"], shown["roles"]) == ("Ada", [{"slug": "admin"}])
    person = singles[6].to_dict()
    assert [one["id"] for one in person["groups"]] == [made["directory_group"]]
    assert person["roles"] == [{"slug": "admin"}]
    assert singles[2].to_dict()["token"]


def test_each_change_has_its_event_which_the_sdk_reads(
    workos: FakeWorkOS, sdk: WorkOSClient, acme: str
) -> None:
    types = {*event_types(NAMES)} - {"organization.updated", "organization.deleted"}
    made = some_of_each(workos, acme)
    change_all(workos, acme, made)
    workos.directory_users.create(directory_id=made["directory"]["id"])
    delete_all(workos, made)

    read: list[Any] = sdk.events.list_events(events=sorted(types), limit=100).data
    by_type = {event["event"]: event["data"] for event in workos.all_events()}

    assert by_type.keys() == types
    assert [event.event for event in read] == emitted(workos)
    assert all(type(event.data) is not dict for event in read)
    assert by_type["dsync.activated"]["state"] == "active"
    assert by_type["organization_domain.verification_failed"]["reason"]
    assert by_type["organization_domain.verification_failed"]["organization_domain"]["id"]
    assert by_type["dsync.user.created"]["email"] is None
    assert "name" not in by_type["role.created"]
    assert "user" not in by_type["organization_membership.created"]
    assert "groups" not in by_type["dsync.user.updated"]
    assert {len(resource.all()) for resource in (workos.users, workos.directories)} == {0}


@pytest.mark.parametrize("delete", ["directory", "organization"])
def test_there_are_no_events_for_what_a_deleted_directory_had_in_it(
    workos: FakeWorkOS, sdk: WorkOSClient, acme: str, ada: str, okta: str, delete: str
) -> None:
    workos.memberships.create(user_id=ada, organization_id=acme)
    group = workos.directory_groups.create(name="Staff", directory_id=okta)["id"]
    person = workos.directory_users.create(directory_id=okta)["id"]
    workos.directory_groups.add_user(group, person)
    before = len(workos.all_events())

    if delete == "directory":
        workos.directories.delete(okta)
        expected = ["dsync.deleted"]
    else:
        sdk.organizations.delete_organization(acme)
        expected = ["organization_membership.deleted", "dsync.deleted", "organization.deleted"]

    assert emitted(workos)[before:] == expected
    assert (workos.directory_users.all(), workos.directory_groups.all()) == ([], [])
    assert workos.directory_groups.members(group) == []


def test_a_change_without_an_event_is_only_listed(workos: FakeWorkOS, acme: str, ada: str) -> None:
    before = workos.all_events()
    membership = workos.memberships.create(user_id=ada, organization_id=acme, emits=False)
    workos.memberships.update(membership["id"], role="admin", emits=False)
    connection = workos.connections.create(name="SSO", organization_id=acme)
    workos.connections.update(connection["id"], organization_id=None)
    directory = workos.directories.create(name="Okta", state="unlinked")
    workos.directories.update(directory["id"], state="invalid_credentials")

    assert workos.all_events() == before
    assert workos.memberships.all()[0]["role"] == {"slug": "admin"}
    workos.memberships.delete(membership["id"], emits=False)
    assert workos.memberships.get(membership["id"]) is None


def test_memberships_are_listed_by_status(workos: FakeWorkOS, sdk: WorkOSClient, acme: str) -> None:
    for status in ("active", "inactive", "pending"):
        user = workos.users.create(email=f"{status}@example.com")["id"]
        workos.memberships.create(user_id=user, organization_id=acme, status=status)

    def listed(**parameters: Any) -> list[str]:
        parameters |= {"organization_id": acme, "order": "asc"}
        page = sdk.organization_membership.list_organization_memberships(**parameters)
        return [one.status for one in page.data]

    assert listed() == ["active"]
    assert listed(statuses=["inactive", "pending"]) == ["inactive", "pending"]
    assert listed(statuses=["active", "inactive", "pending"], limit=2) == ["active", "inactive"]


def test_roles_have_no_pages(workos: FakeWorkOS, sdk: WorkOSClient, acme: str) -> None:
    for number in range(150):
        workos.roles.create(slug=f"role-{number}")

    answer = sdk.request_raw("get", ("authorization", "organizations", acme, "roles"))

    assert list(answer) == ["object", "data"]
    assert len(answer["data"]) == 150


def test_an_invitation_expires_without_an_event(workos: FakeWorkOS) -> None:
    invitation = workos.invitations.create(email="bob@example.com")

    workos.set_clock_offset(4 * 24 * 60 * 60)

    assert workos.invitations.all()[0]["state"] == "expired"
    assert emitted(workos) == ["invitation.created"]
    assert workos.invitations.resend(invitation["id"])["state"] == "pending"


def test_what_workos_would_refuse_is_refused(workos: FakeWorkOS, acme: str, ada: str) -> None:
    workos.memberships.create(user_id=ada, organization_id=acme)
    workos.roles.create(slug="admin", organization_id=acme)
    before = workos.all_events()
    refused: list[tuple[Callable[..., object], dict[str, str]]] = [
        (workos.users.create, {"email": "ada@example.com"}),
        (workos.users.create, {"name": "without an email"}),
        (workos.users.create, {"email": "a", "phone": "is no field"}),
        (workos.memberships.create, {"user_id": ada, "organization_id": "org_1"}),
        (workos.memberships.create, {"user_id": ada, "organization_id": acme}),
        (workos.roles.create, {"slug": "admin", "organization_id": acme}),
    ]

    for create, fields in refused:
        with pytest.raises(Refused):
            create(**fields)

    assert workos.all_events() == before


def test_what_was_deleted_may_come_back(workos: FakeWorkOS, acme: str, ada: str) -> None:
    membership = workos.memberships.create(user_id=ada, organization_id=acme)["id"]
    workos.memberships.delete(membership)
    assert workos.memberships.create(user_id=ada, organization_id=acme)["id"] != membership
    # Also by the same id: tests make a role's id of its key.
    for slug in ("a", "b"):
        workos.roles.create(id=slug, slug=slug)
    workos.roles.delete("a")
    workos.roles.create(id="a", slug="a")
    assert [role["id"] for role in workos.roles.all()] == ["b", "a"]
    workos.users.delete(ada)
    assert workos.users.create(email="ada@example.com")["id"] != ada


@pytest.mark.parametrize("kind", RESOURCES.values())
def test_help_and_tracebacks_name_each_control(kind: type[Resource]) -> None:
    methods = {name: getattr(kind, name) for name in kind.controls}

    assert {name: method.__name__ for name, method in methods.items()} == {n: n for n in methods}
    assert {method.__code__.co_name for method in methods.values()} == {*methods}
    assert all(method.__doc__ for method in methods.values())


def test_many_members_are_created_at_once(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    workos.seed(organizations=3, members=2, emits=False)

    for organization in workos.all_organizations():
        path = ("user_management", "organization_memberships")
        page = sdk.request_raw("get", path, params={"organization_id": organization["id"]})
        assert len(ids(page)) == 2
    assert workos.all_events() == []
