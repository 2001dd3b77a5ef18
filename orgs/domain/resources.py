"""Declares the resources that are mirrored, one declaration each. Pure.

A declaration says which events are about the resource, how WorkOS's JSON becomes columns, where it
is fetched and listed, and what its deletion takes along. The model has the columns. Adding a
resource is a declaration here, a model and a migration. Organizations have rules of their own, in
``orgs.domain.resolution``: what becomes columns, and how, is not in their declaration.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from orgs.domain.naming import NESTED_TOO_DEEPLY, json_text
from orgs.domain.types import ORGANIZATION, State

Json = Mapping[str, Any]

#: A field that WorkOS's JSON does not have: the column keeps its value.
NOT_SENT: Final = object()


class Scope(StrEnum):
    """For what each list is read."""

    ENVIRONMENT = "environment"
    ORGANIZATION = "organization"
    DIRECTORY = "directory"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Where WorkOS lists a resource. ``{scope}`` in path and parameters is the scope's id."""

    path: tuple[str, ...]
    params: Mapping[str, str] = field(default_factory=dict)
    scope: Scope = Scope.ENVIRONMENT
    is_paged: bool = True
    by_organization: bool = False
    """The list of the environment can be narrowed to one organization."""
    as_event: Callable[[Json, str], Json | None] = lambda item, _: item
    """Turns an item of the list, and the scope's id, into what an event's ``data`` would hold;
    None: another list shows the item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One kind of object that WorkOS lists and sends events about."""

    name: str
    model: str
    events: Mapping[str, State]
    """Type of event to what it says of the object."""
    columns: Mapping[str, Callable[[Json], Any]]
    """Column to the function that takes its value out of the JSON, or returns ``NOT_SENT``."""
    key: Callable[[Json], Any] = lambda data: data.get("id")
    """Takes the primary key out of the JSON."""
    organization: Callable[[Json], Any] = lambda data: data.get("organization_id", NOT_SENT)
    """Takes out the WorkOS id of the organization that it belongs to."""
    listings: tuple[Listing, ...] = ()
    fetch: tuple[str, ...] = ()
    """The path of one object, with ``{key}``; empty: the list that holds it is read."""
    unwrap: Callable[[Json], Any] = lambda data: data
    """Finds the object in what an event has as its data."""
    is_personal: bool = False
    """Its rows are about a person: ``data`` is emptied by erasure, and the columns below."""
    personal: frozenset[str] = frozenset()
    """Columns with personal data, emptied by erasure."""
    stored: Callable[[Json], Json] = dict
    """Turns the JSON into what the column ``data`` holds: no secrets, no other person's data."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Column to the resource whose deletion deletes this object too, because WorkOS sends no
    events for it. Name every ancestor: a deletion goes down one level only."""
    key_comes_back: bool = False
    """A deleted key may be given again; for others, a deletion event is final."""
    has_order: bool = True
    """``updated_at`` shows whether a list is newer than an event."""
    deleted_column: str = "deleted_at"

    def differs(self, column: str, old: Any, new: Any) -> bool:
        """Return True if the values mean something else; spellings of one state do not."""
        if column == "state":
            old, new = _STATES.get(old, old), _STATES.get(new, new)
        return bool(old != new)


#: Directories have other states in lists than in events, and connections in older payloads.
_STATES = {"linked": "active", "unlinked": "inactive"}


def _column(name: str, read: Callable[[Any], Any]) -> Callable[[Json], Any]:
    return lambda data: read(data[name]) if name in data else NOT_SENT


def _text(name: str) -> Callable[[Json], Any]:
    """Text, or whatever else WorkOS sends as text: an unknown value is kept as it is."""
    return _column(name, lambda value: value if value is None else str(value))


def _flag(name: str) -> Callable[[Json], Any]:
    return _column(name, lambda value: value if isinstance(value, bool) else None)


def parse_time(value: object) -> datetime | None:
    """Return a time in ISO 8601; one without a time zone is UTC, as in WorkOS's samples."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
        return parsed and (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _first_text(*names: str) -> Callable[[Json], Any]:
    """Text of the first of these names that is present: older payloads use another one."""
    return lambda data: next((_text(name)(data) for name in names if name in data), NOT_SENT)


def _nested(outer: str, name: str) -> Callable[[Json], Any]:
    def column(data: Json) -> Any:
        inner = data.get(outer)
        return _text(name)(inner) if isinstance(inner, Mapping) else NOT_SENT

    return column


def _role_slugs(data: Json) -> Any:
    """The union of ``role``, ``roles`` and, in older payloads, ``role_slug``."""
    if not any(name in data for name in ("role", "roles", "role_slug")):
        return NOT_SENT
    roles = data.get("roles")
    found = [data.get("role"), *(roles if isinstance(roles, list) else ())]
    slugs = [role.get("slug") for role in found if isinstance(role, Mapping)]
    slugs.append(data.get("role_slug"))
    return sorted({slug for slug in slugs if isinstance(slug, str) and slug})


def _texts(value: object) -> list[str]:
    return sorted({str(item) for item in value}) if isinstance(value, list) else []


def _role_key(data: Json) -> Any:
    slug = data.get("slug")
    organization = data.get("organization_id") or ""
    return f"{organization}:{slug}" if isinstance(slug, str) and slug else None


def _organization_role(item: Json, scope: str) -> Json | None:
    """An organization's list holds the environment's roles too."""
    is_own = item.get("organization_id") == scope or item.get("type") == "OrganizationRole"
    return {**item, "organization_id": scope} if is_own else None


def _member_key(data: Json) -> Any:
    group, user = _nested("group", "id")(data), _nested("user", "id")(data)
    return f"{group}:{user}" if isinstance(group, str) and isinstance(user, str) else None


def _of_member(name: str) -> Callable[[Json], Any]:
    """Text of the member itself, or else of its group or user."""

    def read(data: Json) -> Any:
        found = (data.get(name), _nested("group", name)(data), _nested("user", name)(data))
        return next((value for value in found if isinstance(value, str)), NOT_SENT)

    return read


def without_secrets(value: Any) -> Any:
    """Return JSON without what lets anyone accept an invitation, wherever it stands."""
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    secrets = ("token", "accept_invitation_url")
    return {key: without_secrets(item) for key, item in value.items() if key not in secrets}


def payload_of(raw: object) -> str:
    """Return what WorkOS sent, as JSON text for a parked event. Secrets are left out of every one:
    the resource of a malformed event may not be known."""
    try:
        return json_text(without_secrets(raw))
    except RecursionError:
        return NESTED_TOO_DEEPLY


def _ids_alone(data: Json) -> Json:
    """Keep the ids alone: the row of the directory user has the personal data."""
    ids = {outer: {"id": _nested(outer, "id")(data)} for outer in ("group", "user")}
    return {"directory_id": data.get("directory_id"), **ids}


def _without_user(data: Json) -> Json:
    """Leave out the user, whom lists show in a membership: the row of the user has that data."""
    return {name: value for name, value in data.items() if name != "user"}


def _event_states(prefix: str, *changed: str, deleted: str = "deleted") -> dict[str, State]:
    """Return each type of event with what it says of the object."""
    events = {f"{prefix}.{verb}": State.PRESENT for verb in changed}
    return {**events, f"{prefix}.{deleted}": State.ABSENT} if deleted else events


_PEOPLE = ("email", "first_name", "last_name")

ORGANIZATIONS = Resource(
    name=ORGANIZATION,
    model="Organization",
    events=_event_states("organization", "created", "updated"),
    columns={},
    fetch=("organizations", "{key}"),
    listings=(Listing(path=("organizations",)),),
)
DOMAIN = Resource(
    name="organization_domain",
    model="OrganizationDomain",
    events=_event_states(
        "organization_domain", "created", "updated", "verified", "verification_failed"
    ),
    # A failed verification nests the domain, beside the reason.
    unwrap=lambda data: data.get("organization_domain", data),
    columns={"domain": _text("domain"), "state": _text("state")},
    fetch=("organization_domains", "{key}"),
    # Inside each organization.
    listings=ORGANIZATIONS.listings,
)
CONNECTION = Resource(
    name="connection",
    model="Connection",
    events=_event_states("connection", "activated", "deactivated"),
    columns={
        "connection_type": _first_text("connection_type", "type"),
        "name": _text("name"),
        "state": _first_text("state", "status"),
    },
    fetch=("connections", "{key}"),
    listings=(Listing(path=("connections",), by_organization=True),),
)
DIRECTORY = Resource(
    name="directory",
    model="Directory",
    events=_event_states("dsync", "activated"),
    columns={"directory_type": _text("type"), "name": _text("name"), "state": _text("state")},
    fetch=("directories", "{key}"),
    listings=(Listing(path=("directories",), by_organization=True),),
)
USER = Resource(
    name="user",
    model="WorkOSUser",
    events=_event_states("user", "created", "updated"),
    organization=lambda _: NOT_SENT,
    columns={
        "email_verified": _flag("email_verified"),
        "external_id": _text("external_id"),
        **{name: _text(name) for name in _PEOPLE},
    },
    fetch=("user_management", "users", "{key}"),
    listings=(Listing(path=("user_management", "users"), by_organization=True),),
    is_personal=True,
    personal=frozenset({*_PEOPLE, "external_id"}),
)
MEMBERSHIP = Resource(
    name="membership",
    model="OrganizationMembership",
    events=_event_states("organization_membership", "created", "updated"),
    columns={
        "workos_user_id": _text("user_id"),
        "status": _text("status"),
        "role_slugs": _role_slugs,
    },
    fetch=("user_management", "organization_memberships", "{key}"),
    listings=(
        Listing(
            path=("user_management", "organization_memberships"),
            # Only the active ones are listed unless it says so, in one parameter as the SDK does.
            params={"organization_id": "{scope}", "statuses": "active,inactive,pending"},
            scope=Scope.ORGANIZATION,
        ),
    ),
    is_personal=True,
    stored=_without_user,
)
ROLE = Resource(
    name="role",
    model="Role",
    events={
        **_event_states("role", "created", "updated"),
        **_event_states("organization_role", "created", "updated"),
    },
    key=_role_key,
    organization=lambda data: data.get("organization_id") or "",
    columns={
        "slug": _text("slug"),
        "name": _text("name"),
        "description": _text("description"),
        "permissions": _column("permissions", _texts),
    },
    listings=(
        Listing(
            path=("authorization", "roles"),
            is_paged=False,
            as_event=lambda item, _: None if item.get("organization_id") else item,
        ),
        Listing(
            path=("authorization", "organizations", "{scope}", "roles"),
            scope=Scope.ORGANIZATION,
            is_paged=False,
            as_event=_organization_role,
        ),
    ),
    key_comes_back=True,
    has_order=False,
)
INVITATION = Resource(
    name="invitation",
    model="Invitation",
    events=_event_states("invitation", "created", "accepted", "revoked", "resent", deleted=""),
    columns={
        "email": _text("email"),
        "state": _text("state"),
        "accepted_user_id": _text("accepted_user_id"),
        "role_slug": _text("role_slug"),
        "expires_at": _column("expires_at", parse_time),
    },
    fetch=("user_management", "invitations", "{key}"),
    listings=(Listing(path=("user_management", "invitations"), by_organization=True),),
    is_personal=True,
    personal=frozenset({"email"}),
    stored=without_secrets,
)
DIRECTORY_USER = Resource(
    name="directory_user",
    model="DirectoryUser",
    events=_event_states("dsync.user", "created", "updated"),
    columns={
        "workos_directory_id": _text("directory_id"),
        "state": _text("state"),
        **{name: _text(name) for name in _PEOPLE},
    },
    fetch=("directory_users", "{key}"),
    listings=(
        Listing(path=("directory_users",), params={"directory": "{scope}"}, scope=Scope.DIRECTORY),
    ),
    is_personal=True,
    personal=frozenset(_PEOPLE),
    parents={"workos_directory_id": "directory"},
)
DIRECTORY_GROUP = Resource(
    name="directory_group",
    model="DirectoryGroup",
    events=_event_states("dsync.group", "created", "updated"),
    columns={"workos_directory_id": _text("directory_id"), "name": _text("name")},
    fetch=("directory_groups", "{key}"),
    listings=(
        Listing(path=("directory_groups",), params={"directory": "{scope}"}, scope=Scope.DIRECTORY),
    ),
    parents={"workos_directory_id": "directory"},
)
DIRECTORY_GROUP_MEMBER = Resource(
    name="directory_group_member",
    model="DirectoryGroupMember",
    events=_event_states("dsync.group", "user_added", deleted="user_removed"),
    key=_member_key,
    stored=_ids_alone,
    organization=_of_member("organization_id"),
    columns={
        "workos_directory_id": _of_member("directory_id"),
        "workos_group_id": _nested("group", "id"),
        "workos_directory_user_id": _nested("user", "id"),
    },
    listings=(
        Listing(
            path=("directory_users",),
            params={"group": "{scope}"},
            scope=Scope.GROUP,
            as_event=lambda item, scope: {
                "directory_id": item.get("directory_id"),
                "group": {"id": scope},
                "user": item,
            },
        ),
    ),
    parents={
        "workos_directory_id": "directory",
        "workos_group_id": "directory_group",
        "workos_directory_user_id": "directory_user",
    },
    key_comes_back=True,
    has_order=False,
    deleted_column="removed_at",
)

#: In the order in which they are listed: scopes before what is listed for them.
PLAIN: Final[Mapping[str, Resource]] = {
    resource.name: resource
    for resource in (
        *(DOMAIN, CONNECTION, DIRECTORY, USER, ROLE, MEMBERSHIP, INVITATION),
        *(DIRECTORY_USER, DIRECTORY_GROUP, DIRECTORY_GROUP_MEMBER),
    )
}

#: For each list that is not the environment's: what it belongs to, and the column that says so.
SCOPES: Final[Mapping[Scope, tuple[Resource, str]]] = {
    Scope.ORGANIZATION: (ORGANIZATIONS, "workos_organization_id"),
    Scope.DIRECTORY: (DIRECTORY, "workos_directory_id"),
    Scope.GROUP: (DIRECTORY_GROUP, "workos_group_id"),
}

NAMES: Final = (ORGANIZATION, *PLAIN)

#: Those without personal data that most have; people are named in the settings.
DEFAULT: Final = (ORGANIZATION, DOMAIN.name, CONNECTION.name, DIRECTORY.name)

RESOURCE_OF_EVENT: Final[Mapping[str, str]] = {
    type_: resource.name
    for resource in (ORGANIZATIONS, *PLAIN.values())
    for type_ in resource.events
}


def event_types(resources: Iterable[str]) -> tuple[str, ...]:
    """Return the types of events that are about these resources, in one fixed order."""
    followed = set(resources)
    return tuple(type_ for type_, name in RESOURCE_OF_EVENT.items() if name in followed)


def scopes_of(resource: str) -> set[str]:
    """Return what a resource is listed for, one list each: organization, directory or group."""
    listings = PLAIN[resource].listings if resource in PLAIN else ()
    return {SCOPES[one.scope][0].name for one in listings if one.scope in SCOPES}


def followed_by(types: Collection[str], resources: Iterable[str]) -> set[str]:
    """Return those of the resources of which every type of event is read."""
    return {name for name in resources if set(event_types([name])) <= set(types)}
