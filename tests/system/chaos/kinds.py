"""Declares the resources beside organizations: how WorkOS changes each, and what its table holds.

Written from WorkOS's documentation and docs/architecture.md, without the product's code. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ORGANIZATION: Final = "organization"

_GIVEN_NAMES: Final = (None, "Ada", "Grace", "Zoë")
_FAMILY_NAMES: Final = (None, "Lovelace", "Hopper")
#: Few, so that an address, a slug or a domain that is free again is used by another one.
_ADDRESSES: Final = tuple(f"person-{number}@example.com" for number in range(60))
_SLUGS: Final = ("admin", "member", "viewer")
_OF_ORGANIZATION: Final = {"organization_id": ORGANIZATION}
_OF_DIRECTORY: Final = {"directory_id": "directory"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """A resource. ``parents`` and ``fields`` are what it is created with."""

    name: str
    table: str
    events: tuple[str, ...]
    """How the types of its events begin."""
    controls: str
    """What the fake calls it."""
    parents: Mapping[str, str]
    """Field to the resource whose id it holds."""
    fields: Mapping[str, Sequence[Any]]
    """Field to the values that a run gives it."""
    verbs: Mapping[str, tuple[str, ...]]
    """What can be done to one that exists, and which fields that may give."""
    columns: Mapping[str, str]
    """Column to the field that it holds."""
    create: str = "create"
    delete: str | None = "delete"
    needs_parents: bool = True
    """Otherwise some belong to no organization."""
    key_comes_back: bool = False
    """Its key is made of what it is about, and is used again after a deletion."""
    deleted_column: str = "deleted_at"


def _kind(name: str, columns: str, **declared: Any) -> Kind:
    """The kind, with what follows from its name unless declared otherwise. ``columns`` have the
    name of the field that they hold, or ``column=field``."""
    pairs = (column.partition("=") for column in columns.split())
    usual: dict[str, Any] = {
        "table": f"workos_{name}",
        "events": (f"{name}.",),
        "controls": f"{name}s",
        "parents": _OF_ORGANIZATION,
        "fields": {},
        "verbs": {},
        "columns": {column: field or column for column, _, field in pairs},
    }
    return Kind(name=name, **(usual | declared))


KINDS: Final = (
    _kind(
        "organization_domain",
        "workos_organization_id=organization_id domain state",
        controls="domains",
        fields={
            "domain": tuple(f"{number}.example" for number in range(20)),
            "state": ("pending", "verified"),
        },
        verbs={"verify": (), "fail": (), "update": ("state",)},
    ),
    _kind(
        "connection",
        "workos_organization_id=organization_id connection_type name state",
        fields={
            "name": ("Okta", "Entra", "Google"),
            "connection_type": ("OktaSAML", "GenericOIDC"),
            "state": ("active", "active", "inactive"),
        },
        # WorkOS has no event for an update.
        verbs={"activate": (), "deactivate": (), "update": ("name",)},
    ),
    _kind(
        "directory",
        "workos_organization_id=organization_id directory_type=type name state",
        events=("dsync.",),
        controls="directories",
        fields={
            "name": ("Okta", "Entra", "Workday"),
            "type": ("okta scim v2.0", "azure scim v2.0"),
            "state": ("linked", "linked", "validating"),
        },
        verbs={"activate": (), "update": ("name",)},
    ),
    _kind(
        "user",
        "email email_verified first_name last_name external_id",
        parents={},
        fields={
            "email": _ADDRESSES,
            "email_verified": (True, False),
            "first_name": _GIVEN_NAMES,
            "last_name": _FAMILY_NAMES,
            "external_id": (None, *(f"person-{number}" for number in range(40))),
        },
        verbs={"update": ("email_verified", "first_name", "last_name")},
    ),
    _kind(
        "role",
        "workos_organization_id=organization_id slug name description permissions",
        events=("role.", "organization_role."),
        fields={
            "slug": _SLUGS,
            "name": ("Admin", "Member"),
            "description": (None, "May do things"),
            "permissions": ([], ["read"], ["write", "read"]),
        },
        verbs={"update": ("name", "description", "permissions")},
        needs_parents=False,
        key_comes_back=True,
    ),
    _kind(
        "membership",
        "workos_organization_id=organization_id workos_user_id=user_id status role_slugs=roles",
        table="workos_organization_membership",
        events=("organization_membership.",),
        parents={"user_id": "user", **_OF_ORGANIZATION},
        fields={
            "status": ("active", "inactive", "pending"),
            "roles": (["member"], ["admin"], ["member", "admin"]),
        },
        verbs={"deactivate": (), "reactivate": (), "update": ("status", "roles")},
    ),
    _kind(
        "invitation",
        "workos_organization_id=organization_id email state accepted_user_id role_slug expires_at",
        fields={"email": _ADDRESSES, "role_slug": (None, *_SLUGS)},
        verbs={"accept": (), "revoke": (), "resend": ()},
        delete=None,
        needs_parents=False,
    ),
    _kind(
        "directory_user",
        "workos_organization_id=organization_id workos_directory_id=directory_id "
        "email first_name last_name state",
        events=("dsync.user.",),
        parents=_OF_DIRECTORY,
        fields={
            "email": (None, *_ADDRESSES),
            "first_name": _GIVEN_NAMES,
            "last_name": _FAMILY_NAMES,
            "state": ("active", "inactive", "suspended"),
        },
        verbs={"update": ("email", "first_name", "last_name", "state")},
    ),
    _kind(
        "directory_group",
        "workos_organization_id=organization_id workos_directory_id=directory_id name",
        events=("dsync.group.",),
        parents=_OF_DIRECTORY,
        fields={"name": ("Staff", "Sales", "Owners")},
        verbs={"update": ("name",)},
    ),
    _kind(
        "directory_group_member",
        "workos_organization_id=organization_id workos_directory_id=directory_id "
        "workos_group_id=group_id workos_directory_user_id=user_id",
        events=("dsync.group.user_",),
        controls="directory_groups",
        parents={"id": "directory_group", "user_id": "directory_user"},
        create="add_user",
        delete="remove_user",
        key_comes_back=True,
        deleted_column="removed_at",
    ),
)

RESOURCES: Final = (ORGANIZATION, *(kind.name for kind in KINDS))

#: Those of which one may be there after an event of its deletion.
COMING_BACK: Final = {ORGANIZATION, *(kind.name for kind in KINDS if kind.key_comes_back)}

#: What takes along what it holds, without events: by the column that says in what a row is.
HOLDERS: Final = {
    "workos_directory_id": "directory",
    "workos_group_id": "directory_group",
    "workos_directory_user_id": "directory_user",
}

_NAME_OF: Final = {
    "organization.": ORGANIZATION,
    **{prefix: kind.name for kind in KINDS for prefix in kind.events},
}


def role_key(organization_id: str | None, slug: str) -> str:
    return f"{organization_id or ''}:{slug}"


def member_key(group_id: str, user_id: str) -> str:
    return f"{group_id}:{user_id}"


def subject_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """The resource and the key of the object that an event is about."""
    type_, data = event["event"], event["data"]
    name = _NAME_OF[max(filter(type_.startswith, _NAME_OF), key=len)]
    if name == "role":
        return name, role_key(data.get("organization_id"), data["slug"])
    if name == "directory_group_member":
        return name, member_key(data["group"]["id"], data["user"]["id"])
    return name, shown_by(event)["id"]


def shown_by(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an event shows of its object: a failed verification nests the domain."""
    data: Mapping[str, Any] = event["data"].get("organization_domain", event["data"])
    return data


def last_showing(
    events: Sequence[Mapping[str, Any]], resource: str, key: str
) -> Mapping[str, Any] | None:
    """The last event that shows an object: also of one that is deleted, if that is for good."""
    about = [event for event in events if subject_of(event) == (resource, key)]
    if about and is_deletion(about[-1]) and resource in COMING_BACK:
        return None
    return next((event for event in reversed(about) if not is_deletion(event)), None)


def is_deletion(event: Mapping[str, Any]) -> bool:
    return str(event["event"]).endswith((".deleted", ".user_removed"))
