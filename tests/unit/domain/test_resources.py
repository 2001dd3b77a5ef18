"""The declarations of the resources: what WorkOS's JSON becomes, and which events there are."""

from typing import Any, TypeAlias

import pytest

from orgs.domain.resources import (
    DEFAULT,
    NAMES,
    PLAIN,
    RESOURCE_OF_EVENT,
    event_types,
    followed_by,
)
from orgs.domain.types import Observation, PlainFields, Position, State
from orgs.workos.errors import BrokenAnswer
from orgs.workos.parsing import parse_events, parse_object
from tests.builders import NOON

Json: TypeAlias = dict[str, Any]

OWNED, GROUP, PERSON = {"organization_id": "org_1"}, {"id": "group_1"}, {"id": "user_1"}
MEMBER = "group_1:user_1"


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


CHANGED = "created updated deleted"
TYPES = {
    "organization": f"organization: {CHANGED}",
    "organization_domain": f"organization_domain: {CHANGED} verified verification_failed",
    "connection": "connection: activated deactivated deleted",
    "directory": "dsync: activated deleted",
    "user": f"user: {CHANGED}",
    "role": f"role: {CHANGED}, organization_role: {CHANGED}",
    "membership": f"organization_membership: {CHANGED}",
    "invitation": "invitation: created accepted revoked resent",
    "directory_user": f"dsync.user: {CHANGED}",
    "directory_group": f"dsync.group: {CHANGED}",
    "directory_group_member": "dsync.group: user_added user_removed",
}


def test_each_type_of_event_is_about_one_resource() -> None:
    for name, types in TYPES.items():
        kinds = [kind.split(": ") for kind in types.split(", ")]
        expected = {f"{kind}.{change}" for kind, changes in kinds for change in changes.split()}
        assert {*event_types([name])} == expected

    assert TYPES.keys() == {*NAMES}
    assert len(event_types(NAMES)) == len(RESOURCE_OF_EVENT) == 37
    assert event_types(NAMES) == event_types(reversed(NAMES))


def test_people_are_not_mirrored_unless_they_are_named() -> None:
    assert {*DEFAULT} == {"organization", "organization_domain", "connection", "directory"}
    assert not any(PLAIN[name].is_personal for name in DEFAULT if name in PLAIN)


def test_a_resource_is_covered_by_all_of_its_types() -> None:
    types = event_types(["user", "membership"])

    covered = [followed_by(types[:end], ["user", "membership"]) for end in (None, 5, 3, 2)]

    assert covered == [{"user", "membership"}, {"user"}, {"user"}, set()]


# Columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("organization_domain.verified", {"domain": "acme.com", "state": "verified"}),
        ("connection.activated", {"connection_type": "OktaSAML", "name": "SSO", "state": "active"}),
        ("dsync.activated", {"name": "Okta", "state": "a new one"}),
        ("user.updated", {"email": "a@b.c", "email_verified": True, "first_name": None}),
        ("organization_membership.created", {"status": "suspended by law"}),
        ("invitation.created", {"email": "a@b.c", "state": "pending"}),
        ("dsync.user.created", {"email": None, "state": "suspended"}),
        ("dsync.group.created", {"name": "Staff"}),
        ("role.created", {"slug": "admin", "name": "Admin"}),
    ],
)
def test_fields_become_columns_and_all_others_do_not(type_: str, data: Json) -> None:
    assert columns(type_, **data, metadata={}) == data


@pytest.mark.parametrize(
    ("type_", "data", "expected"),
    [
        ("connection.activated", {"state": "active", "status": "linked"}, {"state": "active"}),
        ("connection.activated", {"status": "as it was called"}, {"state": "as it was called"}),
        ("dsync.activated", {"type": "okta scim v2.0"}, {"directory_type": "okta scim v2.0"}),
        ("user.updated", {"email_verified": "yes"}, {"email_verified": None}),
        ("user.updated", {"email": 7}, {"email": "7"}),
        ("organization_membership.created", {"user_id": "user_1"}, {"workos_user_id": "user_1"}),
        ("invitation.created", {"expires_at": "2026-01-15T12:00:00"}, {"expires_at": NOON}),
        ("dsync.user.created", {"directory_id": "dir_1"}, {"workos_directory_id": "dir_1"}),
        ("dsync.group.created", {"directory_id": "dir_1"}, {"workos_directory_id": "dir_1"}),
    ],
)
def test_a_column_may_have_another_name_or_value(type_: str, data: Json, expected: Json) -> None:
    assert columns(type_, **data) == expected


def test_an_object_is_the_same_in_an_event_and_in_a_list() -> None:
    raw = {"id": "conn_1", "created_at": NOON.isoformat(), "state": "active"}
    fields = PlainFields(None, NOON, None, {"state": "active"}, raw)
    about: Json = {"workos_id": "conn_1", "resource": "connection", "plain": fields}
    seen = Observation(state=State.PRESENT, **about)

    assert parse_object(PLAIN["connection"], raw) == seen._replace(raw=raw)
    said = event("connection.activated", raw)
    assert said._replace(event=None, raw=None) == seen
    assert event("connection.deleted", raw).state is State.ABSENT


def test_an_object_without_a_key_is_named() -> None:
    in_event = event("connection.activated", {"id": 5})

    assert in_event.error == "it names no usable key of a connection"
    for item in ({"id": 5}, "conn_1"):
        with pytest.raises(BrokenAnswer, match="a connection without a usable key"):
            parse_object(PLAIN["connection"], item)


A, B = {"slug": "a"}, {"slug": "b"}


@pytest.mark.parametrize(
    ("data", "slugs"),
    [
        ({"role": A}, ["a"]),
        ({"roles": [B, A]}, ["a", "b"]),
        ({"role_slug": "older"}, ["older"]),
        ({"role": A, "roles": [A, B], "role_slug": "c"}, ["a", "b", "c"]),
        ({"role": None, "roles": None, "role_slug": None}, []),
        ({"role": "odd", "roles": [1, {}, {"slug": ""}, {"slug": 2}]}, []),
        ({"role": {"slug": {}}, "roles": [{"slug": []}], "role_slug": ["a"]}, []),
    ],
)
def test_role_slugs_are_the_union(data: Json, slugs: list[str]) -> None:
    assert columns("organization_membership.updated", **data)["role_slugs"] == slugs


def test_a_failed_verification_nests_the_domain() -> None:
    updated = {"updated_at": "2026-01-15T12:00:00.000Z"}
    domain = {"id": "org_domain_1", "domain": "a.b", "state": "failed", **OWNED, **updated}
    data = {"reason": "domain_verification_period_expired", "organization_domain": domain}

    observation = event("organization_domain.verification_failed", data)

    assert observation.workos_id == "org_domain_1"
    found = plain(observation)
    assert (found.workos_organization_id, found.columns["state"]) == ("org_1", "failed")
    assert found.updated_at == NOON


@pytest.mark.parametrize(
    ("type_", "data", "key", "organization"),
    [
        ("role.created", {"slug": "admin"}, ":admin", ""),
        ("organization_role.created", {"slug": "admin", **OWNED}, "org_1:admin", "org_1"),
        ("dsync.group.user_added", {"group": GROUP | OWNED, "user": PERSON}, MEMBER, "org_1"),
        ("dsync.group.user_removed", {"group": GROUP, "user": PERSON | OWNED}, MEMBER, "org_1"),
        ("user.created", PERSON | OWNED, "user_1", None),
        ("connection.deleted", {"id": "conn_1", "organization_id": None}, "conn_1", None),
    ],
)
def test_keys(type_: str, data: Json, key: str, organization: str | None) -> None:
    observation = event(type_, data)

    assert observation.workos_id == key
    assert plain(observation).workos_organization_id == organization


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("role.created", {"slug": ""}),
        ("dsync.group.user_added", {"group": {}, "user": PERSON}),
        ("dsync.group.user_added", {"group": "group_1", "user": PERSON}),
        ("user.created", {"id": "x" * 600}),
        ("organization_domain.verification_failed", {}),
        ("organization_domain.verification_failed", {"organization_domain": "x"}),
    ],
)
def test_an_event_without_a_usable_key_is_unreadable(type_: str, data: Json) -> None:
    observation = event(type_, data)

    assert observation.state is State.UNREADABLE
    assert observation.resource == RESOURCE_OF_EVENT[type_]


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
def test_an_item_of_a_list(name: str, number: int, item: Json, key: str | None) -> None:
    resource = PLAIN[name]
    found = parse_object(resource, item, resource.listings[number], "org_1")

    assert (found and found.workos_id) == key


def test_every_resource_can_be_refreshed_and_listed_and_memberships_in_every_status() -> None:
    (listing,) = PLAIN["membership"].listings
    assert listing.params["statuses"] == "active,inactive,pending"
    for resource in PLAIN.values():
        assert resource.listings
        assert resource.fetch or any(one.scope != "environment" for one in resource.listings)


# Data ---------------------------------------------------------------------------------------


def test_secrets_are_not_kept() -> None:
    secrets = {"token": "secret", "accept_invitation_url": "https://secret"}

    found = plain(event("invitation.created", {"id": "inv_1", **secrets, "x": 1}))

    assert found.data == {"id": "inv_1", "x": 1}
    assert "secret" not in str(found.columns)


def test_a_group_member_keeps_ids_alone() -> None:
    group, person = GROUP | {"name": "Staff"}, PERSON | {"email": "ada@acme.com", "first_name": "A"}

    data = {"directory_id": "d", "group": group, "user": person}

    found = plain(event("dsync.group.user_added", data))

    assert found.data == {"directory_id": "d", "group": GROUP, "user": PERSON}


def test_characters_that_postgresql_cannot_hold_are_replaced() -> None:
    data = PERSON | {"first_name": "A\x00\ud800b", "metadata": {"\x00": ["\x00"]}}

    found = plain(event("user.created", data))

    assert found.columns == {"first_name": "A\ufffd\ufffdb"}
    assert found.data["metadata"] == {"\ufffd": ["\ufffd"]}
