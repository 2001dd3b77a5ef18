"""The declarations of the resources: what WorkOS's JSON becomes, and which events there are."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orgs.domain.resources import (
    DEFAULT,
    NAMES,
    PLAIN,
    RESOURCE_OF_EVENT,
    children_of,
    covered_by,
    event_types,
    parse_time,
)
from orgs.domain.types import Observation, PlainFields, Position, State
from orgs.workos.parsing import parse_events, parse_object

TIMES = {"created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-15T12:00:00.000Z"}


def event(type_: str, data: Any) -> Observation:
    """What an event of this type with this ``data`` says."""
    raw: list[object] = [{"id": "event_1", "event": type_, "data": data}]
    (observation,), _ = parse_events(raw, Position(), None, [type_])
    return observation


def plain(observation: Observation | None) -> PlainFields:
    assert observation is not None
    assert observation.plain is not None, observation.error
    return observation.plain


def columns(type_: str, **data: Any) -> Any:
    return plain(event(type_, {"id": "id_1", **data})).columns


# Event types --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("organization", "organization.created organization.updated organization.deleted"),
        (
            "organization_domain",
            (
                "organization_domain.created organization_domain.updated"
                " organization_domain.verified organization_domain.verification_failed"
                " organization_domain.deleted"
            ),
        ),
        ("connection", "connection.activated connection.deactivated connection.deleted"),
        ("directory", "dsync.activated dsync.deleted"),
        ("user", "user.created user.updated user.deleted"),
        (
            "role",
            (
                "role.created role.updated role.deleted organization_role.created"
                " organization_role.updated organization_role.deleted"
            ),
        ),
        (
            "membership",
            (
                "organization_membership.created organization_membership.updated"
                " organization_membership.deleted"
            ),
        ),
        (
            "invitation",
            "invitation.created invitation.accepted invitation.revoked invitation.resent",
        ),
        ("directory_user", "dsync.user.created dsync.user.updated dsync.user.deleted"),
        ("directory_group", "dsync.group.created dsync.group.updated dsync.group.deleted"),
        ("directory_group_member", "dsync.group.user_added dsync.group.user_removed"),
    ],
)
def test_the_types_of_events_of_each_resource(name: str, types: str) -> None:
    assert event_types([name]) == tuple(types.split())


def test_each_type_of_event_is_about_one_resource() -> None:
    assert len(event_types(NAMES)) == len(RESOURCE_OF_EVENT) == 37
    assert event_types(NAMES) == event_types(reversed(NAMES))


def test_people_are_not_mirrored_unless_they_are_named() -> None:
    assert {*DEFAULT} == {"organization", "organization_domain", "connection", "directory"}
    assert not any(PLAIN[name].is_personal for name in DEFAULT if name in PLAIN)


@pytest.mark.parametrize(
    ("types", "covered"),
    [
        (event_types(["user", "membership"]), {"user", "membership"}),
        (event_types(["user"]), {"user"}),
        (event_types(["user", "membership"])[:-1], {"user"}),
        ((), set()),
    ],
    ids=["all", "one", "a type is missing", "none"],
)
def test_a_resource_is_covered_by_all_of_its_types(
    types: tuple[str, ...], covered: set[str]
) -> None:
    assert covered_by(types, ["user", "membership"]) == covered


@pytest.mark.parametrize(
    ("parent", "children"),
    [
        ("directory", {"directory_user", "directory_group", "directory_group_member"}),
        ("directory_group", {"directory_group_member"}),
        ("directory_user", {"directory_group_member"}),
        ("user", set()),
        ("connection", set()),
    ],
)
def test_what_a_deletion_takes_along(parent: str, children: set[str]) -> None:
    assert {child.name for child, _ in children_of(parent)} == children


# Columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "data", "expected"),
    [
        pytest.param(
            "organization_domain.verified",
            {"domain": "acme.com", "state": "verified"},
            {"domain": "acme.com", "state": "verified"},
            id="domain",
        ),
        pytest.param(
            "connection.activated",
            {"connection_type": "OktaSAML", "name": "Okta", "state": "active", "status": "linked"},
            {"connection_type": "OktaSAML", "name": "Okta", "state": "active"},
            id="connection",
        ),
        pytest.param(
            "connection.activated", {"status": "linked"}, {"state": "linked"}, id="older connection"
        ),
        pytest.param(
            "dsync.activated",
            {"type": "okta scim v2.0", "name": "Okta", "state": "a new one"},
            {"directory_type": "okta scim v2.0", "name": "Okta", "state": "a new one"},
            id="directory in an unknown state",
        ),
        pytest.param(
            "user.updated",
            {"email": "a@b.c", "email_verified": True, "first_name": None, "metadata": {}},
            {"email": "a@b.c", "email_verified": True, "first_name": None},
            id="user",
        ),
        pytest.param(
            "user.updated", {"email_verified": "yes"}, {"email_verified": None}, id="odd flag"
        ),
        pytest.param("user.updated", {"email": 7}, {"email": "7"}, id="odd text"),
        pytest.param(
            "organization_membership.created",
            {"user_id": "user_1", "status": "suspended by law", "role": {"slug": "admin"}},
            {"workos_user_id": "user_1", "status": "suspended by law", "role_slugs": ["admin"]},
            id="membership",
        ),
        pytest.param(
            "invitation.created",
            {"email": "a@b.c", "state": "pending", "expires_at": "2026-01-15T12:00:00"},
            {
                "email": "a@b.c",
                "state": "pending",
                "expires_at": datetime(2026, 1, 15, 12, tzinfo=UTC),
            },
            id="invitation",
        ),
        pytest.param(
            "dsync.user.created",
            {"directory_id": "directory_1", "email": None, "state": "suspended"},
            {"workos_directory_id": "directory_1", "email": None, "state": "suspended"},
            id="directory user",
        ),
        pytest.param(
            "dsync.group.created",
            {"directory_id": "directory_1", "name": "Staff"},
            {"workos_directory_id": "directory_1", "name": "Staff"},
            id="directory group",
        ),
    ],
)
def test_json_becomes_columns(type_: str, data: dict[str, Any], expected: dict[str, Any]) -> None:
    assert columns(type_, **data) == expected


@pytest.mark.parametrize("name", [n for n in PLAIN if n not in ("role", "directory_group_member")])
def test_an_absent_field_is_no_column(name: str) -> None:
    found = plain(parse_object(PLAIN[name], {"id": "id_1"}))

    assert found == PlainFields(
        organization_id=None, created_at=None, updated_at=None, columns={}, data={"id": "id_1"}
    )


@pytest.mark.parametrize(
    ("data", "slugs"),
    [
        ({"role": {"slug": "admin"}}, ["admin"]),
        ({"roles": [{"slug": "b"}, {"slug": "a"}]}, ["a", "b"]),
        ({"role_slug": "older"}, ["older"]),
        (
            {"role": {"slug": "a"}, "roles": [{"slug": "a"}, {"slug": "b"}], "role_slug": "c"},
            ["a", "b", "c"],
        ),
        ({"role": None, "roles": None, "role_slug": None}, []),
        ({"role": "odd", "roles": [1, {}, {"slug": ""}, {"slug": 2}]}, []),
    ],
)
def test_role_slugs_are_the_union(data: dict[str, Any], slugs: list[str]) -> None:
    assert columns("organization_membership.updated", **data)["role_slugs"] == slugs


def test_a_failed_verification_nests_the_domain() -> None:
    domain = {"id": "org_domain_1", "organization_id": "org_1", "domain": "a.b", "state": "failed"}
    observation = event(
        "organization_domain.verification_failed",
        {
            "reason": "domain_verification_period_expired",
            "organization_domain": {**domain, **TIMES},
        },
    )

    assert observation.workos_id == "org_domain_1"
    found = plain(observation)
    assert (found.organization_id, found.columns["state"]) == ("org_1", "failed")
    assert found.updated_at == datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.mark.parametrize("data", [{"organization_domain": None}, {"organization_domain": "x"}, {}])
def test_an_event_without_a_key_is_unreadable(data: dict[str, Any]) -> None:
    observation = event("organization_domain.verification_failed", data)

    assert observation.state is State.UNREADABLE
    assert observation.resource == "organization_domain"


@pytest.mark.parametrize(
    ("type_", "data", "key", "organization"),
    [
        ("role.created", {"slug": "admin"}, ":admin", ""),
        (
            "organization_role.created",
            {"slug": "admin", "organization_id": "org_1"},
            "org_1:admin",
            "org_1",
        ),
        (
            "dsync.group.user_added",
            {"group": {"id": "group_1", "organization_id": "org_1"}, "user": {"id": "user_1"}},
            "group_1:user_1",
            "org_1",
        ),
        (
            "dsync.group.user_removed",
            {"group": {"id": "group_1"}, "user": {"id": "user_1", "organization_id": "org_1"}},
            "group_1:user_1",
            "org_1",
        ),
        ("user.created", {"id": "user_1", "organization_id": "org_1"}, "user_1", None),
        ("connection.deleted", {"id": "conn_1", "organization_id": None}, "conn_1", None),
    ],
)
def test_keys(type_: str, data: dict[str, Any], key: str, organization: str | None) -> None:
    observation = event(type_, data)

    assert observation.workos_id == key
    assert plain(observation).organization_id == organization


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("role.created", {"slug": ""}),
        ("role.created", {"slug": None}),
        ("dsync.group.user_added", {"group": {}, "user": {"id": "user_1"}}),
        ("dsync.group.user_added", {"group": "group_1", "user": {"id": "user_1"}}),
        ("user.created", {"id": "x" * 600}),
        ("user.created", {"id": 1}),
    ],
)
def test_an_unusable_key_is_unreadable(type_: str, data: dict[str, Any]) -> None:
    assert event(type_, data).state is State.UNREADABLE


# Lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "item", "key"),
    [
        ("role", 0, {"slug": "admin", "type": "EnvironmentRole"}, ":admin"),
        ("role", 0, {"slug": "admin", "organization_id": "org_1"}, None),
        ("role", 1, {"slug": "admin", "type": "OrganizationRole"}, "org_1:admin"),
        ("role", 1, {"slug": "admin", "organization_id": "org_1"}, "org_1:admin"),
        ("role", 1, {"slug": "admin", "type": "EnvironmentRole"}, None),
        ("directory_group_member", 0, {"id": "user_1", "directory_id": "d"}, "org_1:user_1"),
    ],
)
def test_an_item_of_a_list_reads_as_an_event(
    name: str, number: int, item: dict[str, Any], key: str | None
) -> None:
    resource = PLAIN[name]
    found = parse_object(resource, item, resource.listings[number], "org_1")

    assert (found and found.workos_id) == key


def test_memberships_are_listed_in_every_status() -> None:
    (listing,) = PLAIN["membership"].listings

    assert listing.params["statuses"] == "active,inactive,pending"


def test_every_resource_can_be_refreshed_and_listed() -> None:
    for resource in PLAIN.values():
        assert resource.listings
        assert resource.fetch or any(one.scope != "environment" for one in resource.listings)


# Data ---------------------------------------------------------------------------------------


def test_secrets_are_not_kept() -> None:
    found = plain(
        event(
            "invitation.created",
            {"id": "inv_1", "token": "secret", "accept_invitation_url": "https://secret", "x": 1},
        )
    )

    assert found.data == {"id": "inv_1", "x": 1}
    assert "secret" not in str(found.columns)


def test_a_group_member_keeps_ids_alone() -> None:
    person = {"id": "user_1", "email": "ada@acme.com", "first_name": "Ada"}
    data = {"directory_id": "directory_1", "group": {"id": "group_1", "name": "x"}, "user": person}

    assert plain(event("dsync.group.user_added", data)).data == {
        "directory_id": "directory_1",
        "group": {"id": "group_1"},
        "user": {"id": "user_1"},
    }


def test_characters_that_postgresql_cannot_hold_are_replaced() -> None:
    observation = event(
        "user.created",
        {"id": "user_1", "first_name": "A\x00\ud800b", "metadata": {"\x00": ["\x00"]}},
    )

    assert plain(observation).columns == {"first_name": "A\ufffd\ufffdb"}
    assert plain(observation).data["metadata"] == {"\ufffd": ["\ufffd"]}


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-01-15T12:00:00.000Z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15T13:00:00+01:00", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15T12:00:00", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", None),
        ("soon", None),
        (None, None),
        (5, None),
    ],
)
def test_times(written: object, moment: datetime | None) -> None:
    assert parse_time(written) == moment
