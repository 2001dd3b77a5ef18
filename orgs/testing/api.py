"""The HTTP API of WorkOS, as far as the mirror speaks to it."""

import hmac
import json
from collections.abc import Mapping
from typing import Final

from .events import EventQuery
from .messages import Answer, JsonObject, Refused, Request
from .organizations import Organizations
from .parameters import check_names, limit, order, range_bound
from .resources import Resources
from .state import WorkOSState

_EVENT_PARAMETERS: Final = frozenset(
    {"events", "after", "range_start", "range_end", "limit", "order", "organization_id"}
)
_ORGANIZATION_FIELDS: Final = frozenset({"name", "external_id", "metadata"})


class Api:
    """Answers requests from the state. Thread-safe.

    What it doesn't know, be it a route, a parameter or a field, it refuses: a fake that
    ignores what it can't do would let a test pass for nothing.
    """

    def __init__(self, state: WorkOSState, resources: Resources, api_key: str) -> None:
        self._state = state
        self._organizations = resources.of(Organizations)
        self._resources = resources
        self._authorization = f"Bearer {api_key}"

    def answer(self, request: Request) -> Answer:
        """Do what a request asks for, or answer as WorkOS refuses it."""
        try:
            given = (request.authorization or "").encode()
            if not hmac.compare_digest(given, self._authorization.encode()):
                raise Refused(401, "unauthorized", "Unauthorized")
            with self._state.through_api():
                return self._route(request)
        except Refused as refused:
            return refused.answer()

    def _route(self, request: Request) -> Answer:
        match request.method, request.segments:
            case "GET", ["events"]:
                return self._list_events(request.query)
            case "POST", ["organizations"]:
                created = self._organizations.create(**_fields(request))
                return Answer.of_json(created, 201)
            case "PUT", ["organizations", organization_id]:
                updated = self._organizations.update(organization_id, **_fields(request))
                return Answer.of_json(updated)
            case "DELETE", ["organizations", organization_id]:
                self._organizations.delete(organization_id)
                return Answer(204)
            case "GET", segments:
                return self._resources.answer(segments, request.query)
        raise Refused(404, "not_found", "Not Found")

    def _list_events(self, query: Mapping[str, str]) -> Answer:
        """List events oldest first: `order` is ignored, as workos-node issue 1610 reports."""
        check_names(query, _EVENT_PARAMETERS)
        order(query, "asc")
        if "after" in query and "range_start" in query:
            message = "Only one of `after` and `range_start` can be given."
            raise Refused(400, "invalid_request_parameters", message)
        organization_id = query.get("organization_id")
        if organization_id and self._organizations.get(organization_id) is None:
            raise Refused(400, "organization_not_found", "Organization not found")
        wanted = EventQuery(
            types=frozenset(query.get("events", "").split(",")),
            limit=limit(query),
            after=query.get("after"),
            since=range_bound(query, "range_start"),
            until=range_bound(query, "range_end"),
            organization_id=organization_id,
        )
        return Answer.of_page(self._state.list_events(wanted))


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
