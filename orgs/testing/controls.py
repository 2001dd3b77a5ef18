"""What tests and demos may do to the fake: in its process, or over HTTP by name."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, Unpack, cast

from .clock import Moment
from .deliveries import WebhookSender
from .directory_sync import Connections, Directories, DirectoryGroups, DirectoryUsers, Domains
from .faults import Faults
from .journal import Journal
from .limits import RateLimits
from .messages import Answer, Json, JsonObject, Refused, Request
from .organizations import OrganizationChanges, Organizations
from .people import Invitations, Memberships, Roles, Users
from .resources import RESOURCES
from .state import WorkOSState

CONTROL_PATH: Final = "/_fake/"

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _method_of(
    part: str, method: Callable[Concatenate[Any, _P], _T]
) -> Callable[Concatenate["Controls", _P], _T]:
    """Return a control that is a method of a part of the fake."""

    @functools.wraps(method)
    def control(self: "Controls", /, *positional: _P.args, **keywords: _P.kwargs) -> _T:
        return method(getattr(self, part), *positional, **keywords)

    return control


class Controls:
    """The fake's controls. Thread-safe; what they return is the caller's own copy.

    Changes are made as by an administrator in the dashboard, not as through the API. A moment
    (`at`) is a datetime or an ISO 8601 text, now by default; what is older than the retention
    isn't listed. They take and return plain JSON.
    """

    users: Users
    memberships: Memberships
    roles: Roles
    invitations: Invitations
    connections: Connections
    directories: Directories
    directory_users: DirectoryUsers
    directory_groups: DirectoryGroups
    domains: Domains

    _organizations: Organizations

    def create_organization(
        self,
        *,
        name: str,
        external_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        id: str | None = None,
        at: Moment | None = None,
        emits: bool = True,
    ) -> JsonObject:
        """Create an organization and return it; without an event unless it `emits`.

        Raises Refused as the API would, and ValueError if there is one of that id.
        """
        fields: JsonObject = {"name": name, "external_id": external_id, "metadata": metadata}
        return self._organizations.create(id=id, at=at, emits=emits, **fields)

    def update_organization(
        self,
        id: str,
        *,
        at: Moment | None = None,
        emits: bool = True,
        **changes: Unpack[OrganizationChanges],
    ) -> JsonObject:
        """Change the fields given and return the organization; Refused as the API would."""
        return self._organizations.update(id, at=at, emits=emits, **changes)

    def delete_organization(self, id: str, *, at: Moment | None = None, emits: bool = True) -> None:
        """Delete an organization and what is its own; Refused (404) if there is none."""
        self._organizations.delete(id, at=at, emits=emits)

    def organization(self, id: str) -> JsonObject | None:
        """Return an organization, or None."""
        return self._organizations.get(id)

    def all_organizations(self) -> list[JsonObject]:
        """Return every organization, oldest first."""
        return self._organizations.all()

    def seed(
        self,
        *,
        organizations: int,
        prefix: str = "Organization",
        external_id_prefix: str | None = None,
        members: int = 0,
        at: Moment | None = None,
        emits: bool = True,
        announces: bool = False,
    ) -> int:
        """Create many organizations, named and identified by prefix and number from 0.

        They have an external id only if there is a prefix for it, and each so many members of its
        own. Returns how many organizations there are.
        """
        how: Any = {"at": at, "emits": emits, "announces": announces}
        for number in range(organizations):
            external_id = external_id_prefix and f"{external_id_prefix}{number}"
            organization_id = self._organizations.create(
                name=f"{prefix} {number}", external_id=external_id, **how
            )["id"]
            for member in range(members):
                email = f"{member}.of.{organization_id}@example.com".lower()
                user_id = self.users.create(email=email, **how)["id"]
                self.memberships.create(user_id=user_id, organization_id=organization_id, **how)
        return len(self._organizations)

    emit = _method_of("_state", WorkOSState.emit)
    emit_text = _method_of("_state", WorkOSState.emit_text)
    all_events = _method_of("_state", WorkOSState.all_events)
    expire_events = _method_of("_state", WorkOSState.expire_events)
    set_hold_back = _method_of("_state", WorkOSState.set_hold_back)
    set_clock_offset = _method_of("_state", WorkOSState.set_clock_offset)
    set_lost_cursor = _method_of("_state", WorkOSState.set_lost_cursor)
    refuse_event_types = _method_of("_state", WorkOSState.refuse_event_types)

    misbehave = _method_of("_faults", Faults.misbehave)
    behave = _method_of("_faults", Faults.behave)
    limit_requests = _method_of("_limits", RateLimits.limit_requests)

    add_webhook_endpoint = _method_of("_webhooks", WebhookSender.add_webhook_endpoint)
    drop_deliveries = _method_of("_webhooks", WebhookSender.drop_deliveries)
    repeat_deliveries = _method_of("_webhooks", WebhookSender.repeat_deliveries)
    delay_deliveries = _method_of("_webhooks", WebhookSender.delay_deliveries)
    hold_deliveries = _method_of("_webhooks", WebhookSender.hold_deliveries)
    release_deliveries = _method_of("_webhooks", WebhookSender.release_deliveries)
    wait_for_deliveries = _method_of("_webhooks", WebhookSender.wait_for_deliveries)
    deliveries = _method_of("_webhooks", WebhookSender.deliveries)
    forget_deliveries = _method_of("_webhooks", WebhookSender.forget_deliveries)

    requests = _method_of("_journal", Journal.requests)
    count_requests = _method_of("_journal", Journal.count_requests)
    forget_requests = _method_of("_journal", Journal.forget_requests)


CONTROLS: Final[Mapping[str, Callable[..., Any]]] = {
    name: method for name, method in vars(Controls).items() if not name.startswith("_")
}
"""The methods other processes may call by name, and no others."""


def answer_control(controls: Controls, request: Request) -> Answer:
    """Call the control a request names with its body's arguments; a 400 says what is wrong."""
    try:
        method = _named_control(controls, request)
        return Answer.of_json(method(**json.loads(request.body or b"{}")))
    except Refused as refused:
        error = {"status": refused.status, "code": refused.code, "message": refused.message}
    except (TypeError, ValueError) as wrong:
        error = {"status": 400, "code": "bad_control", "message": str(wrong)}
    return Answer.of_json(error, 400)


def _named_control(controls: Controls, request: Request) -> Callable[..., Json]:
    """Find a control by its name, or a resource's by both names: `users.create`."""
    name = request.path.removeprefix(CONTROL_PATH)
    resource, _, method = name.rpartition(".")
    holder: object = None
    if resource in RESOURCES and method in RESOURCES[resource].controls:
        holder = getattr(controls, resource)
    elif name in CONTROLS:
        holder = controls
    if holder is None or request.method != "POST":
        known = sorted(CONTROLS)
        raise ValueError(f"there is no control {request.method} {name!r}; POST one of {known}")
    return cast(Callable[..., Json], getattr(holder, method))
