"""What tests and demos may do to the fake: in its process, or over HTTP by name."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack, cast

from .clock import Moment
from .deliveries import Endpoint, ReleaseOrder, WebhookSender
from .directory_sync import Connections, Directories, DirectoryGroups, DirectoryUsers, Domains
from .faults import Fault, Faults
from .journal import Journal
from .limits import RateLimit, RateLimits
from .messages import Answer, Json, JsonObject, Refused, Request, RequestFilter
from .organizations import OrganizationChanges, Organizations, copied
from .people import Invitations, Memberships, Roles, Users
from .resources import RESOURCES
from .state import OnLostCursor, WorkOSState

CONTROL_PATH: Final = "/_fake/"

_Method = TypeVar("_Method", bound=Callable[..., Any])

CONTROLS: Final[dict[str, Callable[..., Any]]] = {}
"""The methods other processes may call by name, and no others."""


def control(method: _Method) -> _Method:
    """Let other processes call a method; it takes and returns plain JSON."""
    CONTROLS[method.__name__] = method
    return method


class Controls:
    """The fake's controls. Thread-safe; what they return is the caller's own copy.

    Changes are made as by an administrator in the dashboard, not as through the API. A moment
    (`at`) is a datetime or an ISO 8601 text, now by default; what is older than the retention
    isn't listed.
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

    _state: WorkOSState
    _organizations: Organizations
    _webhooks: WebhookSender
    _faults: Faults
    _journal: Journal
    _limits: RateLimits

    @control
    def create_organization(
        self,
        *,
        name: str,
        external_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 -- WorkOS's word
        at: Moment | None = None,
        emits: bool = True,
    ) -> JsonObject:
        """Create an organization and return it; without an event unless it `emits`.

        Raises Refused as the API would, and ValueError if there is one of that id.
        """
        organization = self._organizations.create(
            name=name,
            external_id=external_id,
            metadata=metadata,
            organization_id=id,
            at=at,
            emits=emits,
        )
        return copied(organization)

    @control
    def update_organization(
        self,
        id: str,  # noqa: A002 -- WorkOS's word
        *,
        at: Moment | None = None,
        emits: bool = True,
        **changes: Unpack[OrganizationChanges],
    ) -> JsonObject:
        """Change the fields given and return the organization; Refused as the API would."""
        return copied(self._organizations.update(id, changes, at=at, emits=emits))

    @control
    def delete_organization(
        self,
        id: str,  # noqa: A002 -- WorkOS's word
        *,
        at: Moment | None = None,
        emits: bool = True,
    ) -> None:
        """Delete an organization and what is its own; Refused (404) if there is none."""
        self._organizations.delete(id, at=at, emits=emits)

    @control
    def organization(self, id: str) -> JsonObject | None:  # noqa: A002 -- WorkOS's word
        """Return an organization, or None."""
        return self._organizations.find(id)

    @control
    def all_organizations(self) -> list[JsonObject]:
        """Return every organization, oldest first."""
        return self._organizations.all()

    @control
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
        for number in range(organizations):
            organization = self._organizations.create(
                name=f"{prefix} {number}",
                external_id=external_id_prefix and f"{external_id_prefix}{number}",
                at=at,
                emits=emits,
                announces=announces,
            )
            for member in range(members):
                email = f"{member}.of.{organization['id']}@example.com".lower()
                how: Any = {"at": at, "emits": emits, "announces": announces}
                user = self.users.create(email=email, **how)
                ids = {"user_id": user["id"], "organization_id": organization["id"]}
                self.memberships.create(**ids, **how)
        return len(self._organizations)

    @control
    def emit(
        self,
        event: Json,
        *,
        raw: bool = False,
        absent: Sequence[str] = (),
        at: Moment | None = None,
        visible_after: float | None = None,
        listed: bool = True,
        announced: bool = True,
    ) -> Json:
        """Put any JSON value into the stream as an event, and return it as it is listed.

        What an object leaves out of `id`, `event` and `created_at` is filled in, unless it is
        `raw` or the name is in `absent`. Its place is the end of the stream, whatever its id
        says; its age counts from `at`, whatever its `created_at` says. A type that WorkOS
        doesn't know, or none, passes every filter. It is readable `visible_after` seconds from
        now, instead of after the hold-back; if not `listed`, never; if not `announced`, no
        webhook is sent.
        """
        return self._state.emit(
            event,
            raw=raw,
            absent=absent,
            at=at,
            visible_after=visible_after,
            listed=listed,
            announced=announced,
        )

    @control
    def emit_text(self, text: str, *, id: str) -> None:  # noqa: A002 -- WorkOS's word
        """Put any text into the stream where an event would stand, be it JSON or not.

        `id` is what a cursor may name it by. It passes every filter, and no webhook is sent. A
        lone surrogate from U+DC80 to U+DCFF is the byte it stands for, as `surrogateescape` has
        it. With one that isn't JSON in the stream, `all_events` is a ValueError.
        """
        self._state.emit_text(text, event_id=id)

    @control
    def all_events(self) -> list[Any]:
        """Return every event in the order of emission, those not readable (any more) included."""
        return self._state.all_events()

    @control
    def expire_events(self, *, before: str | None = None) -> None:
        """Forget the events before one, or all, as if retention had passed."""
        self._state.expire_events(before)

    @control
    def set_hold_back(self, seconds: float) -> None:
        """List events only so long after they happened, those listed already included."""
        self._state.set_hold_back(seconds)

    @control
    def set_clock_offset(self, seconds: float) -> None:
        """Live so many seconds ahead of the real time, or behind it. Signatures don't."""
        self._state.set_clock_offset(seconds)

    @control
    def set_lost_cursor(self, answer: OnLostCursor, *, status: int = 400) -> None:
        """Refuse an unknown or expired cursor with a status, or restart from the first event."""
        self._state.set_lost_cursor(answer, status)

    @control
    def refuse_event_types(self, types: Sequence[str], *, status: int = 422) -> None:
        """Refuse reads that ask for one of these types, as if it did not exist; [] for none."""
        self._state.refuse_event_types(types, status)

    @control
    def misbehave(
        self,
        kind: str,
        *,
        method: str | None = "GET",
        path: str | None = "/events",
        exact: bool = False,
        times: int | None = 1,
        applied: bool = False,
        **parameters: Any,
    ) -> None:
        """Answer the next `times` requests wrongly, or all until `behave`.

        Concerns the requests of that method whose path begins so, or is exactly that; None is
        any. What was asked for earlier goes wrong first. With `applied`, the request is done
        and only its answer goes wrong. Kinds, with their parameters:

        - `rate_limited` (retry_after=None, bare=False: `Ratelimited` instead of JSON)
        - `status` (status, body=None), `html` (status=200)
        - `time_out` (seconds=60), `reset`, `slow` (seconds)
        - `empty`, `body` (body: any JSON), `text` (text: as for `emit_text`), `truncated`
        - `headers` (headers: those to add, replace or, with None, leave out)
        - `ends_early`, `repeated_page`, `no_list_metadata`: listings
        - `expired_cursor` (status=400, restart=False): reads with an `after`
        """
        meant = RequestFilter(method, path, exact)
        self._faults.add(Fault(kind, meant, times, applied, parameters))

    @control
    def behave(self) -> None:
        """Answer rightly again."""
        self._faults.clear()

    @control
    def limit_requests(
        self,
        limit: int | None,
        *,
        seconds: float = 60.0,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
    ) -> None:
        """Refuse what is more than a number of requests in so many seconds with a 429.

        Counts the requests that match as for `misbehave`, by default all. A None ends the limit
        of those. WorkOS's own limits are 6,000 requests, and 50 deletions of organizations, in 60
        seconds.
        """
        meant = RequestFilter(method, path, exact)
        if limit is None:
            self._limits.remove(meant)
        else:
            self._limits.add(RateLimit(meant, limit, seconds))

    @control
    def add_webhook_endpoint(
        self, *, url: str, secret: str, events: Sequence[str] | None = None
    ) -> None:
        """Deliver the events to come to an endpoint, all or those of some types."""
        types = None if events is None else frozenset(events)
        self._webhooks.add_endpoint(Endpoint(url, secret, types))

    @control
    def drop_deliveries(self, count: int = 1, *, event_id: str | None = None) -> None:
        """Lose the next deliveries for good, or those of one event that are still to be sent."""
        if event_id is None:
            self._webhooks.drop(count)
        else:
            self._webhooks.drop_event(event_id)

    @control
    def repeat_deliveries(self, copies: int) -> None:
        """Deliver every event to come so many times; 1 is normal."""
        self._webhooks.repeat(copies)

    @control
    def delay_deliveries(self, seconds: float) -> None:
        """Deliver every event to come so much later; 0 is normal."""
        self._webhooks.delay(seconds)

    @control
    def hold_deliveries(self) -> None:
        """Deliver nothing that comes until it is released."""
        self._webhooks.hold()

    @control
    def release_deliveries(
        self, *, order: ReleaseOrder = "as sent", seed: int | None = None
    ) -> int:
        """Deliver what was held in an order, and hold no more; return how many those were."""
        return self._webhooks.release(order, seed)

    @control
    def wait_for_deliveries(self, *, timeout: float = 10.0) -> bool:
        """Wait until all is delivered or given up, but for what is held; False if time is up."""
        return self._webhooks.wait(timeout)

    @control
    def deliveries(self) -> list[JsonObject]:
        """Return what became of each delivery, in the order they ended.

        Each has `event_id`, `event`, `url`, `attempt`, `status` (None if there was no answer)
        and `error` ("dropped" for those lost on request).
        """
        return self._webhooks.records()

    @control
    def forget_deliveries(self) -> None:
        """Begin the record of deliveries anew."""
        self._webhooks.forget_records()

    @control
    def requests(
        self,
        *,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
        status: int | None = None,
    ) -> list[JsonObject]:
        """Return the API requests so far that match as for `misbehave`, in order of arrival.

        Each has `method`, `path`, `query` and `status`, which is None without an answer (yet);
        a `status` asks for those answered so.
        """
        entries = self._journal.entries(RequestFilter(method, path, exact), status)
        return [entry.as_json() for entry in entries]

    @control
    def count_requests(
        self,
        *,
        method: str | None = None,
        path: str | None = None,
        exact: bool = False,
        status: int | None = None,
    ) -> int:
        """Count the API requests that `requests` would return."""
        return len(self._journal.entries(RequestFilter(method, path, exact), status))

    @control
    def forget_requests(self) -> None:
        """Begin the record of requests anew."""
        self._journal.forget()


def answer_control(controls: Controls, request: Request) -> Answer:
    """Call the control a request names with its body's arguments; a 400 says what is wrong."""
    try:
        method = _named_control(controls, request)
        return Answer.of_json(method(**json.loads(request.body or b"{}")))
    except Refused as refused:
        error = {"status": refused.status, "code": refused.code, "message": refused.message}
        return Answer.of_json(error, 400)
    except (TypeError, ValueError) as wrong:
        error = {"status": 400, "code": "bad_control", "message": str(wrong)}
        return Answer.of_json(error, 400)


def keyword_arguments(
    signature: inspect.Signature, *positional: object, **keywords: object
) -> dict[str, object]:
    """Return a call's arguments all by keyword, `self` left out; TypeError if they don't fit."""
    bound = signature.bind(None, *positional, **keywords).arguments
    variable = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.VAR_KEYWORD
    ]
    extra: Mapping[str, object] = bound.pop(variable[0], {}) if variable else {}
    del bound["self"]
    return {**bound, **extra}


def _named_control(controls: Controls, request: Request) -> Callable[..., Json]:
    """Find a control by its name, or a resource's by both names: `users.create`."""
    name = request.path.removeprefix(CONTROL_PATH)
    resource, _, method = name.rpartition(".")
    if request.method == "POST" and resource in RESOURCES:
        if method in RESOURCES[resource].controls:
            return cast(Callable[..., Json], getattr(getattr(controls, resource), method))
    elif request.method == "POST" and name in CONTROLS:
        return functools.partial(CONTROLS[name], controls)
    known = sorted(CONTROLS)
    message = f"there is no control {request.method} {name!r}; POST one of {known}"
    raise ValueError(message)
