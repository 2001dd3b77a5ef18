"""What other apps may call: who has access, with which roles, and a fetch that does not wait."""

from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orgs import api
from orgs.domain.resources import NAMES
from orgs.models import Organization, OrganizationMembership, Role, SyncCursor, WorkOSUser
from orgs.services.conclude import Reconciliation
from orgs.testing import FakeWorkOS
from orgs.workos import RateLimited
from tests.builders import TWO_DAYS_AGO, an_old_organization, an_organization_row
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

NOW = TWO_DAYS_AGO


@pytest.fixture
def covered(database: None) -> None:
    SyncCursor.objects.create(stream="organizations", covered=["membership", "role"])


@pytest.fixture
def acme(database: None) -> Organization:
    return an_organization_row("gram-1", workos_id="org_1")


def a_membership(workos_id: str = "om_1", **values: Any) -> OrganizationMembership:
    ids = {"workos_user_id": "user_1", "workos_organization_id": "org_1"}
    columns = {"status": "active", "role_slugs": ["admin", "auditor"], **ids, **values}
    return OrganizationMembership.objects.create(workos_id=workos_id, **columns)


def a_role(key: str, **values: Any) -> Role:
    owner, _, slug = key.rpartition(":")
    return Role.objects.create(workos_id=key, workos_organization_id=owner, slug=slug, **values)


def change(model: Any, **values: Any) -> Any:
    return lambda: model.objects.update(**values)


def nothing() -> None:
    pass


RULES = [
    pytest.param(nothing, True, id="active"),
    pytest.param(change(OrganizationMembership, status="inactive"), False, id="inactive"),
    pytest.param(change(OrganizationMembership, status="pending"), False, id="pending"),
    pytest.param(change(OrganizationMembership, status="Active"), False, id="unknown status"),
    pytest.param(change(OrganizationMembership, status=None), False, id="no status"),
    pytest.param(change(OrganizationMembership, deleted_at=NOW), False, id="deleted"),
    pytest.param(change(Organization, disabled_at=NOW), False, id="organization disabled"),
    pytest.param(change(Organization, workos_id="org_2"), False, id="organization not here"),
    pytest.param(change(WorkOSUser, deleted_at=NOW), False, id="user deleted"),
    pytest.param(lambda: WorkOSUser.objects.all().delete(), True, id="user not here"),
    pytest.param(change(WorkOSUser, email=None, erased_at=NOW), True, id="user erased"),
]


@pytest.mark.parametrize(("happens", "has_access"), RULES)
@pytest.mark.usefixtures("covered")
def test_who_has_access(happens: Any, has_access: bool, acme: Organization) -> None:
    WorkOSUser.objects.create(workos_id="user_1")
    a_membership()
    a_membership(workos_id="om_2", workos_user_id="user_2", workos_organization_id="org_3")
    for slug in ("admin", "auditor"):
        a_role(f":{slug}")
    ada = WorkOSUser(workos_id="user_1")
    # Somebody without an id; and no text in PostgreSQL holds the others.
    assert not api.has_access(None, acme)  # type: ignore[arg-type]
    assert not api.has_access("user_1\0", "gram-1\0")
    assert api.roles_of("user_\ud800", acme) == []

    happens()

    assert api.has_access("user_1", acme) is has_access
    assert api.has_access("user_1", "gram-1") is has_access
    assert api.roles_of("user_1", acme) == (["admin", "auditor"] if has_access else [])
    assert [one.pk for one in ada.organizations()] == (["gram-1"] if has_access else [])
    active = OrganizationMembership.objects.active().values_list("pk", flat=True)
    assert [*active] == (["om_1"] if has_access else [])
    # Users, as far as they are here.
    here = ["user_1"] if has_access and WorkOSUser.objects.exists() else []
    assert [user.pk for user in acme.members()] == here
    assert not api.has_access("user_2", "gram-1")
    assert not api.has_access("user_1", "gram-2")


@pytest.mark.parametrize(
    ("roles", "slugs"),
    [
        pytest.param([":admin"], ["admin"], id="environment's"),
        pytest.param(["org_1:admin"], ["admin"], id="organization's"),
        pytest.param([":admin", "org_1:admin", "org_1:auditor"], ["admin", "auditor"], id="both"),
        pytest.param(["org_2:admin"], [], id="another organization's"),
        pytest.param([":other"], [], id="other"),
        pytest.param([], [], id="none"),
    ],
)
@pytest.mark.usefixtures("covered")
def test_roles_that_are_here(roles: list[str], slugs: list[str], acme: Organization) -> None:
    a_membership()
    for key in roles:
        a_role(key)

    assert api.roles_of("user_1", acme) == slugs

    Role.objects.filter(slug="admin").update(deleted_at=NOW)
    assert api.roles_of("user_1", acme) == [slug for slug in slugs if slug != "admin"]


@pytest.mark.parametrize(
    ("covered", "access_is_known", "roles_are_known"),
    [
        (["membership", "role"], True, True),
        (["membership"], True, False),
        (["role"], False, False),
        ([], False, False),
        (None, False, False),
    ],
)
def test_what_is_not_covered_is_not_guessed(
    covered: list[str] | None, access_is_known: bool, roles_are_known: bool, acme: Organization
) -> None:
    if covered is not None:
        SyncCursor.objects.create(stream="organizations", covered=covered)
    a_membership()

    for ask, is_known in [(api.has_access, access_is_known), (api.roles_of, roles_are_known)]:
        if is_known:
            ask("user_1", acme)
        else:
            with pytest.raises(api.ResourceNotCovered, match="is not covered"):
                ask("user_1", acme)


@pytest.mark.usefixtures("covered")
def test_access_is_found_by_one_query_that_uses_indexes() -> None:
    execute(
        "INSERT INTO organization_metadata (id, name, slug, workos_id) "
        "SELECT 'g' || n, 'n', 's' || n, 'o' || n FROM generate_series(1, 2000) AS n;"
        "INSERT INTO workos_organization_membership "
        "(workos_id, workos_user_id, workos_organization_id, status) "
        "SELECT 'om' || n, 'u' || n % 5000, 'o' || n % 2000, 'active' "
        "FROM generate_series(1, 20000) AS n;"
        "ANALYZE organization_metadata, workos_organization_membership"
    )
    for ask in (
        lambda: api.has_access("u7", "g7"),
        lambda: api.roles_of("u7", "g7"),
        lambda: list(WorkOSUser(workos_id="u7").organizations()),
        lambda: list(Organization(pk="g7").members()),
        lambda: list(OrganizationMembership.objects.active().filter(workos_user_id="u7")),
    ):
        with CaptureQueriesContext(connection) as queries:
            ask()
        assert len(queries) == 1
        plan = "\n".join(line for (line,) in execute(f"EXPLAIN {queries[0]['sql']}"))
        assert "on workos_organization_membership" in plan
        assert "Seq Scan on organization_metadata" not in plan
        assert "Seq Scan on workos_organization_membership" not in plan


@pytest.mark.parametrize("ask", [api.has_access, api.roles_of])
@pytest.mark.parametrize("one", [None, UUID(int=1), 1], ids=["none", "uuid", "number"])
@pytest.mark.usefixtures("covered")
def test_what_is_no_organization_is_refused(ask: Any, one: Any) -> None:
    with pytest.raises(TypeError, match=r"^an Organization or its id as text is needed, not "):
        ask("user_1", one)
    with pytest.raises(TypeError, match=r"^an Organization or its id as text is needed, not "):
        api.ensure_fresh(one)


def test_members_are_found_by_one_query_without_a_column_of_the_organization(
    acme: Organization, django_assert_num_queries: Any
) -> None:
    WorkOSUser.objects.create(workos_id="user_1")
    a_membership()
    deferred = Organization.objects.only("name").get()

    with django_assert_num_queries(1):
        assert [user.pk for user in deferred.members()] == ["user_1"]


def test_ensure_fresh_brings_one_with_its_resources(workos: FakeWorkOS, sync_setting: Any) -> None:
    """At a sign-up, of which the events can't be read yet."""
    sync_setting(RESOURCES=NAMES)
    workos.set_hold_back(60.0)
    acme = workos.create_organization(name="Acme", external_id="gram-1")["id"]
    ada = workos.users.create(email="ada@acme.com")["id"]
    workos.roles.create(slug="admin")
    workos.memberships.create(user_id=ada, organization_id=acme, role="admin")

    found = api.ensure_fresh(acme)

    assert isinstance(found, Reconciliation)
    assert found.errors == []
    membership = OrganizationMembership.objects.active().get()
    assert membership.workos_organization == Organization.objects.get(pk="gram-1")
    assert membership.workos_user.email == "ada@acme.com"
    assert api.ensure_fresh("gram-1").in_sync
    assert api.ensure_fresh(Organization.objects.get()).in_sync
    with pytest.raises(api.UnknownOrganization):
        api.ensure_fresh("org_unknown")


def test_ensure_fresh_is_refused_inside_a_transaction(workos: FakeWorkOS) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="outside of transactions"):
        api.ensure_fresh("gram-1")
    assert workos.requests() == []


@pytest.mark.parametrize("is_covered", [True, False])
def test_ensure_fresh_shows_errors(workos: FakeWorkOS, sync_setting: Any, is_covered: bool) -> None:
    sync_setting(RESOURCES=("organization", "connection", "directory"))
    acme = an_old_organization(workos)
    covered = ["organization", "connection"] if is_covered else ["organization"]
    SyncCursor.objects.create(stream="organizations", covered=covered)
    workos.misbehave("status", status=403, path="/connections", times=None)

    found = api.ensure_fresh(acme)

    row = Organization.objects.get()
    shown = workos.organization(acme)
    assert shown is not None
    assert (row.name, shown["external_id"]) == ("Acme", row.id)
    first = found.resources[0]
    said = first.not_listed or first.report.errors[0]
    assert "WorkOS refused the API key: HTTP 403" in said
    name = "connection" if is_covered else "connection is not covered"
    assert found.errors == [f"{name}: {said.removeprefix('connection: ')}"]
    assert "directory" in [one.resource.name for one in found.resources]
    assert repr(found).count("ResourceComparison(") == len(found.resources), "each is shown once"


@pytest.mark.usefixtures("no_pauses")
def test_ensure_fresh_waits_for_a_short_pause_alone(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    workos.misbehave("rate_limited", retry_after=1, path="/organizations/")
    assert api.ensure_fresh(acme).errors == []

    workos.misbehave("rate_limited", retry_after=11, path="/organizations/")
    with pytest.raises(RateLimited):
        api.ensure_fresh(acme)


def test_nothing_else_is_promised() -> None:
    errors = ["ResourceNotCovered", "UnknownOrganization"]
    assert [*api.__all__] == [*errors, "ensure_fresh", "has_access", "roles_of"]
