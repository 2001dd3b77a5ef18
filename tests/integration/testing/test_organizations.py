"""Organizations of the fake WorkOS: read, changed, refused and listed."""

from typing import Any

import pytest
from workos import AuthenticationError, BadRequestError, NotFoundError, WorkOSClient
from workos.organizations.models import Organization

from orgs.testing import FakeWorkOS, JsonObject
from tests.integration.testing import an_sdk, ids, read, status_of


def test_the_sdk_reads_what_it_created(sdk: WorkOSClient) -> None:
    created = sdk.organizations.create_organization(
        name="Åcme", external_id="gram/1", metadata={"plan": "pro"}
    )

    assert isinstance(created, Organization)
    assert (created.name, created.external_id) == ("Åcme", "gram/1")
    assert created.metadata == {"plan": "pro"}
    assert created.created_at == created.updated_at
    assert sdk.organizations.get_organization(created.id) == created
    assert sdk.organizations.get_organization_by_external_id("gram/1") == created
    assert sdk.organizations.list_organizations().data == [created]


def test_an_update_changes_what_it_names_and_updated_at(sdk: WorkOSClient) -> None:
    created = sdk.organizations.create_organization(name="Acme", external_id="gram-1")
    changes: list[JsonObject] = [
        {"name": "Acme Inc."},
        {"metadata": {"a": "1", "b": "2"}},
        {"metadata": {"b": None, "c": "3"}},
        {"external_id": None},
        {},
    ]

    updates = [
        sdk.request_raw("put", ("organizations", created.id), body=change) for change in changes
    ]

    assert updates[0]["external_id"] == "gram-1"
    assert updates[-1]["name"] == "Acme Inc."
    assert updates[-1]["external_id"] is None
    assert updates[-1]["metadata"] == {"a": "1", "c": "3"}
    moments = [update["updated_at"] for update in updates]
    assert moments == sorted(set(moments))


def test_an_external_id_is_unique_as_long_as_it_is_used(sdk: WorkOSClient) -> None:
    first = sdk.organizations.create_organization(name="First", external_id="gram-1")
    second = sdk.organizations.create_organization(name="Second", external_id="gram-2")

    with pytest.raises(BadRequestError) as by_creation:
        sdk.organizations.create_organization(name="New", external_id="gram-1")
    with pytest.raises(BadRequestError) as by_update:
        sdk.organizations.update_organization(second.id, external_id="gram-1")

    assert {by_creation.value.code, by_update.value.code} == {"external_id_already_used"}
    assert sdk.organizations.update_organization(first.id, external_id="gram-1").name == "First"
    sdk.organizations.update_organization(first.id, external_id="gram-3")
    sdk.organizations.delete_organization(second.id)
    for external_id in ("gram-1", "gram-2"):
        new = sdk.organizations.create_organization(name="New", external_id=external_id)
        assert sdk.organizations.get_organization_by_external_id(external_id) == new


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"name": "Acme", "external_id": "x" * 64}, 200, id="longest external id"),
        pytest.param({"name": "Acme", "external_id": "x" * 65}, 422, id="external id too long"),
        pytest.param({"name": "Acme", "external_id": "grüm"}, 422, id="external id not ASCII"),
        pytest.param({"name": "Acme", "external_id": ""}, 422, id="external id empty"),
        pytest.param({}, 422, id="name missing"),
        pytest.param({"name": "Acme", "metadata": "x"}, 422, id="metadata not an object"),
        pytest.param({"name": "Acme", "slug": "acme"}, 422, id="unknown field"),
    ],
)
def test_fields_are_checked(sdk: WorkOSClient, fields: JsonObject, status: int) -> None:
    assert status_of(lambda: sdk.request_raw("post", ("organizations",), body=fields)) == status
    assert len(read(sdk, "organizations")["data"]) == (status == 200)


def test_pages_follow_each_other(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    workos.seed(organizations=5)
    a, b, c, d, e = ids({"data": workos.all_organizations()})

    def page(**parameters: str) -> tuple[list[str], str | None, str | None]:
        shown = read(sdk, "organizations", limit=2, **parameters)
        return ids(shown), shown["list_metadata"]["before"], shown["list_metadata"]["after"]

    assert page(order="asc") == page(order="asc", before=c) == ([a, b], None, b)
    assert page(order="asc", after=b) == page(order="asc", before=e) == ([c, d], c, d)
    assert page(order="asc", after=d) == ([e], e, None)
    assert page(order="asc", after=e) == page(order="asc", before=a) == ([], None, None)
    assert page() == page(order="desc") == page(order="desc", before=c) == ([e, d], None, d)
    assert page(order="desc", after=d) == page(after=d) == page(before=a) == ([c, b], c, b)
    workos.delete_organization(b)  # a listing goes on after it all the same
    assert page(order="asc", after=b) == ([c, d], c, d)
    workos.seed(organizations=20)
    assert len(sdk.request_raw("get", ("organizations",))["data"]) == 10


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        ("nonsense", {}, 404),
        ("v1/organizations/org_1", {}, 404),
        ("organizations", {"limit": 101}, 422),
        ("organizations", {"order": "normal"}, 422),
        ("organizations", {"search": "acme"}, 422),
        ("organizations", {"after": "org_1", "before": "org_2"}, 422),
        ("organizations", {"after": "org_2"}, 400),
        ("events", {"events": "organization.renamed"}, 422),
        ("events", {"events": ""}, 422),
        ("events", {"range_start": "2026-01-15T12:00:00+00:00"}, 422),
        ("events", {"range_end": "yesterdayZ"}, 422),
        ("events", {"after": "event_1", "range_start": "2026-01-15T12:00:00Z"}, 400),
        ("events", {"after": "event_1"}, 400),
        ("events", {"organization_id": "org_2"}, 400),
        ("user_management/organization_memberships", {}, 422),
        ("user_management/organization_memberships", {"user_id": "user_1"}, 404),
        ("user_management/organization_memberships", {"organization_id": "org_2"}, 404),
        ("directory_users", {}, 422),
        ("directory_users", {"directory": "directory_1"}, 404),
        ("directory_groups", {"user": "directory_user_1"}, 404),
        ("connections", {"state": "active"}, 422),
        ("connections/conn_1", {}, 404),
        ("organization_domains", {}, 404),
        ("authorization/roles/admin", {}, 404),
        ("authorization/organizations/org_2/roles", {}, 404),
        ("user_management/users", {"after": "user_1"}, 400),
    ],
)
def test_what_workos_would_not_answer_is_refused(
    workos: FakeWorkOS, sdk: WorkOSClient, path: str, parameters: dict[str, Any], status: int
) -> None:
    workos.create_organization(name="Acme", id="org_1")

    assert status_of(lambda: read(sdk, path, **parameters)) == status


def test_what_is_not_found_says_so_as_workos_does(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    workos.delete_organization(workos.create_organization(name="Acme", id="org_1")["id"])
    no_route = {"message": "Not Found", "code": "not_found"}
    no_such = {"message": "Organization not found: 'org_1'.", "code": "entity_not_found"}

    for method, path, expected in [
        ("delete", "events", no_route),
        ("get", "organizations", no_such),
        ("put", "organizations", no_such),
        ("delete", "organizations", no_such),
    ]:
        with pytest.raises(NotFoundError) as missing:
            sdk.request_raw(method, (path, "org_1"), body={} if method == "put" else None)
        assert missing.value.response_json == expected


def test_a_wrong_key_is_refused(workos: FakeWorkOS) -> None:
    with an_sdk(workos, api_key="sk_test_wrong") as sdk, pytest.raises(AuthenticationError):
        read(sdk)
