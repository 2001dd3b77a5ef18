"""The HTTP API of WorkOS, as far as the mirror speaks to it."""

import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, cast

from .clock import to_milliseconds
from .events import EventQuery
from .messages import Answer, JsonObject, Refused, Request
from .organizations import Organization, OrganizationQuery
from .state import KNOWN_EVENT_TYPES, OrganizationChanges, WorkOSState

_LARGEST_PAGE: Final = 100
_DEFAULT_PAGE: Final = 10
_EVENT_PARAMETERS: Final = frozenset(
    {"events", "after", "range_start", "range_end", "limit", "order", "organization_id"}
)
_ORGANIZATION_PARAMETERS: Final = frozenset({"after", "before", "limit", "order"})
_ORGANIZATION_FIELDS: Final = frozenset({"name", "external_id", "metadata"})


class Api:
    """Answers requests from the state. Thread-safe.

    What it doesn't know, be it a route, a parameter or a field, it refuses: a fake that
    ignores what it can't do would let a test pass for nothing.
    """

    def __init__(self, state: WorkOSState, api_key: str) -> None:
        self._state = state
        self._authorization = f"Bearer {api_key}"

    def answer(self, request: Request) -> Answer:
        """Do what a request asks for, or answer as WorkOS refuses it."""
        try:
            self._check_authorization(request)
            return self._route(request)
        except Refused as refused:
            return refused.answer()

    def _check_authorization(self, request: Request) -> None:
        given = (request.authorization or "").encode()
        if not hmac.compare_digest(given, self._authorization.encode()):
            raise Refused(401, "unauthorized", "Unauthorized")

    def _route(self, request: Request) -> Answer:
        match request.method, request.segments:
            case "GET", ["events"]:
                answer = self._list_events(request.query)
            case "GET", ["organizations"]:
                answer = self._list_organizations(request.query)
            case "POST", ["organizations"]:
                answer = self._create_organization(request)
            case "GET", ["organizations", "external_id", external_id]:
                answer = _of(self._state.organization_by_external_id(external_id))
            case "GET", ["organizations", organization_id]:
                answer = _of(self._state.organization(organization_id))
            case "PUT", ["organizations", organization_id]:
                answer = self._update_organization(organization_id, request)
            case "DELETE", ["organizations", organization_id]:
                answer = self._delete_organization(organization_id)
            case _:
                raise Refused(404, "not_found", "Not Found")  # as the official emulator has it
        return answer

    def _list_events(self, query: Mapping[str, str]) -> Answer:
        """List events oldest first: `order` is ignored, as workos-node issue 1610 reports."""
        _check_names(query, _EVENT_PARAMETERS)
        _choice(query, "order", "asc")
        if "after" in query and "range_start" in query:
            message = "Only one of `after` and `range_start` can be given."
            raise Refused(400, "invalid_request_parameters", message)
        wanted = EventQuery(
            types=_event_types(query),
            limit=_limit(query),
            after=query.get("after"),
            since=_range_bound(query, "range_start"),
            until=_range_bound(query, "range_end"),
            organization_id=query.get("organization_id"),
        )
        return Answer.of_page(self._state.list_events(wanted))

    def _list_organizations(self, query: Mapping[str, str]) -> Answer:
        _check_names(query, _ORGANIZATION_PARAMETERS)
        if "after" in query and "before" in query:
            raise Refused.invalid("before", "before and after exclude each other")
        wanted = OrganizationQuery(
            limit=_limit(query),
            after=query.get("after"),
            before=query.get("before"),
            descending=_choice(query, "order", "desc") == "desc",
        )
        return Answer.of_page(self._state.list_organizations(wanted))

    def _create_organization(self, request: Request) -> Answer:
        fields = _fields(request)
        organization = self._state.create_organization(
            name=fields.get("name", ""),
            external_id=fields.get("external_id"),
            metadata=fields.get("metadata"),
            source="api",
        )
        return _of(organization, 201)

    def _update_organization(self, organization_id: str, request: Request) -> Answer:
        changes = cast(OrganizationChanges, _fields(request))
        organization = self._state.update_organization(organization_id, changes, source="api")
        return _of(organization)

    def _delete_organization(self, organization_id: str) -> Answer:
        self._state.delete_organization(organization_id, source="api")
        return Answer(204)


def _of(organization: Organization, status: int = 200) -> Answer:
    return Answer(status, organization.body)


def _fields(request: Request) -> JsonObject:
    """Read the body of a creation or an update; the state checks the values."""
    try:
        fields = json.loads(request.body)
    except ValueError:
        raise Refused(400, "invalid_json", "The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise Refused.invalid("body", "the body must be an object")
    _check_names(fields, _ORGANIZATION_FIELDS)
    return fields


def _check_names(given: Mapping[str, object], known: frozenset[str]) -> None:
    for name in given:
        if name not in known:
            raise Refused.invalid(name, f"property {name} should not exist")


def _limit(query: Mapping[str, str]) -> int:
    with suppress(ValueError):
        limit = int(query.get("limit", _DEFAULT_PAGE))
        if 1 <= limit <= _LARGEST_PAGE:
            return limit
    raise Refused.invalid("limit", f"limit must be between 1 and {_LARGEST_PAGE}")


def _choice(
    query: Mapping[str, str], name: str, default: Literal["asc", "desc"]
) -> Literal["asc", "desc"]:
    match query.get(name, default):
        case "asc":
            return "asc"
        case "desc":
            return "desc"
    raise Refused.invalid(name, f"{name} must be asc or desc")


def _event_types(query: Mapping[str, str]) -> frozenset[str]:
    types = frozenset(query.get("events", "").split(","))
    for event_type in sorted(types):
        if event_type not in KNOWN_EVENT_TYPES:
            raise Refused.invalid("events", f"events must be known event types: '{event_type}'")
    return types


def _range_bound(query: Mapping[str, str], name: str) -> int | None:
    """Read a bound as the SDK's documentation says: UTC, with Z; an offset is not accepted."""
    text = query.get(name)
    if text is None:
        return None
    with suppress(ValueError):
        if text.endswith("Z"):
            return to_milliseconds(text)
    raise Refused.invalid(name, f"{name} must be an ISO 8601 UTC timestamp with a Z")
