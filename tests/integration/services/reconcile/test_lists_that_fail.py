"""Errors while resources beside organizations are listed: what they stop, and what they do not."""

from typing import Any

import pytest

from orgs.db.cursor import read_cursor
from orgs.models import Connection, Organization, OrganizationDomain, Role
from orgs.services.compare import DisableLimit, Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, a_mirrored_organization
from tests.integration.services.stored import Setting, disabled
from tests.mirrored import held, mirrored

pytestmark = pytest.mark.usefixtures("no_hold_back")

EVERYTHING = DisableLimit(rows=0, percent=100)
OF_ROLES = "/authorization/organizations/{}/roles"


def test_a_domains_error_is_none_of_the_organizations(workos: FakeWorkOS, follow: Setting) -> None:
    follow("organization_domain")
    acme = a_mirrored_organization(workos)
    bolt: Any = workos.create_organization(name="Bolt", external_id="gram-bolt", at=TWO_DAYS_AGO)
    domains = [
        workos.domains.create(organization_id=acme, domain=f"{n}.com", at=TWO_DAYS_AGO)["id"]
        for n in range(12)
    ]
    assert reconcile(Run()).errors == []
    workos.delete_organization(bolt["id"], emits=False)
    for domain in domains[:11]:
        workos.domains.delete(domain, emits=False)
    workos.misbehave("status", status=500, path=f"/organization_domains/{domains[10]}", times=None)

    found = reconcile(Run(limit=EVERYTHING))

    assert found.snapshot.errors == []
    assert [error.partition(":")[0] for error in found.errors] == ["organization_domain"]
    assert disabled() == ["gram-bolt"]
    # Not all were asked for, so none is deleted.
    assert not OrganizationDomain.objects.exclude(deleted_at=None).exists()

    workos.behave()
    assert reconcile(Run(limit=EVERYTHING)).errors == []
    assert mirrored() == held(workos)


def test_a_run_that_fails_keeps_where_to_go_on(workos: FakeWorkOS, follow: Setting) -> None:
    follow("role")
    workos.seed(organizations=20, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    # Its lists are read in threads, a group of scopes at a time.
    assert reconcile(Run(scope_seconds=0.0)).errors == []
    stopped_after = read_cursor().progress["role"]
    assert sum(one["id"] > stopped_after for one in workos.all_organizations()) > 8
    failing = ("/authorization/organizations", "/authorization/roles")

    for path in failing:
        workos.misbehave("status", status=500, path=path, times=None)
        (error,) = reconcile(Run(scope_seconds=0.0)).errors
        assert error.startswith("role: ")
        assert read_cursor().progress == {"role": stopped_after}
        workos.behave()

    assert reconcile(Run(scope_seconds=0.0)).errors == []
    assert read_cursor().progress["role"] > stopped_after
    assert reconcile(Run(scope_seconds=60.0)).errors == []
    assert read_cursor().progress == {}


@pytest.fixture
def roles_of_deleted(workos: FakeWorkOS, follow: Setting) -> list[str]:
    """Organizations without a row, which WorkOS has deleted, and of which roles have rows."""
    follow("role")
    a_mirrored_organization(workos)
    ids = []
    for name in "ABC":
        ids.append(str(workos.create_organization(name=name, emits=False)["id"]))
        workos.roles.create(slug=name.lower(), organization_id=ids[-1], at=TWO_DAYS_AGO)
    drain_to_end()
    for id_ in ids:
        workos.delete_organization(id_, emits=False)
    assert Role.objects.filter(deleted_at=None).count() == len(ids)
    return ids


def test_a_refused_scope_keeps_its_rows(workos: FakeWorkOS, roles_of_deleted: list[str]) -> None:
    refused = roles_of_deleted[1]
    workos.misbehave("status", status=422, path=f"/organizations/{refused}", times=None)

    assert reconcile(Run(limit=EVERYTHING)).errors == []

    left = Role.objects.filter(deleted_at=None).values_list("workos_organization_id", flat=True)
    assert [*left] == [refused]


def test_scopes_are_only_asked_for_if_a_404_counts(
    workos: FakeWorkOS, roles_of_deleted: list[str]
) -> None:
    mirrored_one = Organization.objects.linked().get().workos_id
    body = {"message": "Not found.", "code": "entity_not_found"}
    path = f"/organizations/{mirrored_one}"
    workos.misbehave("status", status=404, body=body, path=path, exact=True, times=None)

    reconcile(Run(limit=EVERYTHING))

    assert [workos.count_requests(path=f"/organizations/{id_}") for id_ in roles_of_deleted] == [
        0
    ] * 3
    assert Role.objects.filter(deleted_at=None).count() == 3


def test_an_object_that_workos_refuses_to_show_is_kept(workos: FakeWorkOS, follow: Setting) -> None:
    follow("connection")
    acme = a_mirrored_organization(workos)
    made = [
        str(workos.connections.create(name=name, organization_id=acme, at=TWO_DAYS_AGO)["id"])
        for name in "ABC"
    ]
    assert reconcile(Run()).errors == []
    for key in made[1:]:
        workos.connections.delete(key, emits=False)
    workos.misbehave("status", status=422, path=f"/connections/{made[1]}", times=None)

    (error,) = reconcile(Run(limit=EVERYTHING)).errors

    assert f"1 missing row of connection not deleted; the first, {made[1]}: " in error
    left = Connection.objects.filter(deleted_at=None).values_list("pk", flat=True)
    assert {*left} == {*made[:2]}


@pytest.mark.parametrize(
    ("refused", "status", "left"),
    [
        pytest.param([OF_ROLES], 422, "C", id="its list is refused"),
        pytest.param([OF_ROLES, "/organizations/{}"], 422, "C", id="and so is it"),
        pytest.param([OF_ROLES], 500, "ABC", id="there is no answer"),
    ],
)
def test_a_list_that_is_refused_does_not_keep_what_other_lists_did_not_show(
    workos: FakeWorkOS, follow: Setting, refused: list[str], status: int, left: str
) -> None:
    """One role is absent in its organization, one is absent with it, and one may be or not."""
    follow("role")
    ids, roles = {}, {}
    for name in "ABC":
        created: Any = workos.create_organization(name=name, external_id=name, at=TWO_DAYS_AGO)
        ids[name] = created["id"]
        role = workos.roles.create(slug=name.lower(), organization_id=ids[name], at=TWO_DAYS_AGO)
        roles[name] = str(role["id"])
    assert reconcile(Run()).errors == []
    workos.roles.delete(roles["A"], emits=False)
    workos.roles.delete(roles["C"], emits=False)
    workos.delete_organization(ids["B"], emits=False)
    for path in refused:
        workos.misbehave("status", status=status, path=path.format(ids["C"]), times=None)

    found = reconcile(Run(limit=EVERYTHING))

    assert [error.partition(":")[0] for error in found.errors] == ["role"]
    assert (f"WorkOS refuses 1 list; the first, for {ids['C']}: " in found.errors[0]) == (
        left == "C"
    )
    kept = Role.objects.filter(deleted_at=None).order_by("slug")
    assert [role.slug for role in kept] == [*left.lower()]
    workos.behave()
    assert reconcile(Run(limit=EVERYTHING)).errors == []
    assert not Role.objects.filter(deleted_at=None).exists()


def test_lists_are_read_after_many_that_are_refused(workos: FakeWorkOS, follow: Setting) -> None:
    follow("role")
    workos.seed(organizations=20, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    *odd, last = sorted(str(one["id"]) for one in workos.all_organizations())
    workos.roles.create(slug="late", organization_id=last, emits=False, at=TWO_DAYS_AGO)
    for id_ in odd:
        workos.misbehave("status", status=422, path=OF_ROLES.format(id_), times=None)

    (error,) = reconcile(Run()).errors

    assert error.startswith(f"role: WorkOS refuses 19 lists; the first, for {odd[0]}: ")
    assert Role.objects.get(deleted_at=None).slug == "late"
