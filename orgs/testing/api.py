"""The HTTP API of WorkOS, as far as the mirror speaks to it."""

import hmac
import json
from collections.abc import Mapping
from typing import Final, cast

from .events import EventQuery
from .messages import Answer, JsonObject, Refused, Request
from .organizations import OrganizationChanges, Organizations
from .parameters import PAGING, check_names, choice, limit, list_query, range_bound
from .resources import Resources
from .state import WorkOSState
from .store import Item

_EVENT_PARAMETERS: Final = frozenset(
    {"events", "after", "range_start", "range_end", "limit", "order", "organization_id"}
)
_ORGANIZATION_FIELDS: Final = frozenset({"name", "external_id", "metadata"})


class Api:
    """Answers requests from the state. Thread-safe.

    What it doesn't know, be it a route, a parameter or a field, it refuses: a fake that
    ignores what it can't do would let a test pass for nothing.
    """

    def __init__(
        self, state: WorkOSState, organizations: Organizations, resources: Resources, api_key: str
    ) -> None:
        self._state = state
        self._organizations = organizations
        self._resources = resources
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
                answer = _of(self._organizations.get_by_external_id(external_id))
            case "GET", ["organizations", organization_id]:
                answer = _of(self._organizations.get(organization_id))
            case "PUT", ["organizations", organization_id]:
                answer = self._update_organization(organization_id, request)
            case "DELETE", ["organizations", organization_id]:
                answer = self._delete_organization(organization_id)
            case "GET", segments:
                answer = self._resources.answer(segments, request.query)
            case _:
                raise Refused(404, "not_found", "Not Found")
        return answer

    def _list_events(self, query: Mapping[str, str]) -> Answer:
        """List events oldest first: `order` is ignored, as workos-node issue 1610 reports."""
        check_names(query, _EVENT_PARAMETERS)
        choice(query, "order", "asc")
        if "after" in query and "range_start" in query:
            message = "Only one of `after` and `range_start` can be given."
            raise Refused(400, "invalid_request_parameters", message)
        wanted = EventQuery(
            types=frozenset(query.get("events", "").split(",")),
            limit=limit(query),
            after=query.get("after"),
            since=range_bound(query, "range_start"),
            until=range_bound(query, "range_end"),
            organization_id=query.get("organization_id"),
        )
        return Answer.of_page(self._state.list_events(wanted))

    def _list_organizations(self, query: Mapping[str, str]) -> Answer:
        check_names(query, PAGING)
        return Answer.of_page(self._organizations.page(list_query(query)))

    def _create_organization(self, request: Request) -> Answer:
        fields = _fields(request)
        organization = self._organizations.create(
            name=fields.get("name", ""),
            external_id=fields.get("external_id"),
            metadata=fields.get("metadata"),
            source="api",
        )
        return Answer.of_json(organization, 201)

    def _update_organization(self, organization_id: str, request: Request) -> Answer:
        changes = cast(OrganizationChanges, _fields(request))
        organization = self._organizations.update(organization_id, changes, source="api")
        return Answer.of_json(organization)

    def _delete_organization(self, organization_id: str) -> Answer:
        self._organizations.delete(organization_id, source="api")
        return Answer(204)


def _of(organization: Item) -> Answer:
    return Answer(200, organization.body or b"")


def _fields(request: Request) -> JsonObject:
    """Read the body of a creation or an update; the state checks the values."""
    try:
        fields = json.loads(request.body)
    except ValueError:
        raise Refused(400, "invalid_json", "The body is not JSON.") from None
    if not isinstance(fields, dict):
        raise Refused.invalid("body", "the body must be an object")
    check_names(fields, _ORGANIZATION_FIELDS)
    return fields
