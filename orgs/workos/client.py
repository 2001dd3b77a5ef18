"""Makes the calls to WorkOS. Each may be repeated, and made in any thread.

``patience`` is for how many seconds a call may wait for the request budget, or for a pause that
WorkOS asks for, before it raises ``RateLimited``.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orgs.domain.budget import Share
from orgs.domain.types import EventPage, ObjectPage, Observation, Position, State
from orgs.workos.errors import BrokenAnswer, ExternalIdConflict, NotFound, Refused
from orgs.workos.parsing import (
    FOLLOWED_TYPES,
    checked_list,
    is_usable_id,
    parse_events,
    parse_listed,
    parse_organization,
)
from orgs.workos.transport import Answer, request

#: The most that WorkOS holds: 64 characters by its documentation, 128 by its schema.
_MAX_EXTERNAL_ID = 128


def read_events(position: Position, *, limit: int) -> EventPage:
    """Return the page of events after ``position``, oldest first.

    Raises ``BrokenAnswer`` if what is answered is not a page, ``Refused`` if WorkOS does not accept
    the position (what it answers to an expired one is undocumented), and other ``WorkOSError``.
    """
    read_began = time.monotonic()
    params: dict[str, Any] = {"events": ",".join(FOLLOWED_TYPES), "limit": limit, "order": "asc"}
    if position.last_event_id is not None:
        params["after"] = position.last_event_id
    elif position.last_event_at is not None:
        params["range_start"] = _as_iso(position.last_event_at)
    listed, after = checked_list(request("GET", ("events",), share=Share.STREAM, params=params))
    observations = parse_events(listed, position)
    reached = position
    if observations and observations[-1].event:
        reached = observations[-1].event.position
        if after is not None and reached.last_event_id != observations[-1].event.id:
            # The last event has no usable id; the cursor that WorkOS names is one it listed.
            reached = replace(reached, last_event_id=after)
    return EventPage(position, observations, reached, after is None, read_began)


def first_event_id() -> str | None:
    """Return the id of the first event that WorkOS still lists; None if it lists none."""
    page = read_events(Position(), limit=1)
    return (
        page.observations[0].event.id if page.observations and page.observations[0].event else None
    )


def read_organizations(
    position: str | None, *, limit: int = 100, patience: float = 0.0
) -> ObjectPage:
    """Return a page of all organizations, oldest first, after the one at ``position``.

    Raises ``BrokenAnswer`` if what is answered is not a page, or lists something that has no id:
    then nobody knows what is missing from it. Raises other ``WorkOSError``.
    """
    params: dict[str, Any] = {"limit": limit, "order": "asc"}
    if position is not None:
        params["after"] = position
    answer = request("GET", ("organizations",), params=params, patience=patience)
    listed, after = checked_list(answer)
    return ObjectPage(tuple(map(parse_listed, listed)), after, after is None, answer.date)


def lookup(workos_id: str, *, patience: float = 0.0) -> Observation:
    """Return the organization as WorkOS has it now: present, absent (a 404) or unreadable.

    A 404 proves nothing alone: a wrong route, or the key of another environment, gets the same.
    Raises ``WorkOSError``.
    """
    try:
        return parse_organization(_get_organization(workos_id, patience))
    except NotFound:
        return Observation(workos_id=workos_id, state=State.ABSENT)


def find_by_external_id(external_id: str, *, patience: float = 0.0) -> str | None:
    """Return the WorkOS id of the organization that has this ``external_id``; None if none has.

    Raises ``WorkOSError``.
    """
    try:
        answer = request("GET", ("organizations", "external_id", external_id), patience=patience)
    except NotFound:
        return None
    workos_id = answer.get("id")
    if not is_usable_id(workos_id) or answer.get("external_id") != external_id:
        raise BrokenAnswer(f"WorkOS answered for external_id {external_id!r} with something else")
    return workos_id


def offer_external_id(
    workos_id: str, external_id: str, *, overwrite: bool = False, patience: float = 0.0
) -> None:
    """Write our id of its organization to WorkOS, unless it has one; return once it confirms.

    WorkOS has no conditional PUT: between the GET and the PUT another program could set a value,
    and this would overwrite it. Raises ``ExternalIdConflict`` if WorkOS has another value (unless
    ``overwrite``), has ours elsewhere, or can't hold it; ``NotFound`` and other ``WorkOSError``.
    """
    if not external_id.isascii() or len(external_id) > _MAX_EXTERNAL_ID:
        raise ExternalIdConflict(f"{external_id!r} does not fit into WorkOS's external_id")
    present = _get_organization(workos_id, patience).get("external_id") or None
    if present == external_id:
        return
    if present is not None and not overwrite:
        raise ExternalIdConflict(f"WorkOS has external_id {present!r} for {workos_id}")
    body = {"external_id": external_id}
    try:
        answer = request("PUT", ("organizations", workos_id), body=body, patience=patience)
    except Refused as refusal:
        if refusal.code == "external_id_already_used":
            raise ExternalIdConflict(str(refusal)) from None
        raise
    if answer.get("external_id") != external_id:
        raise BrokenAnswer("WorkOS answered the write-back with another external_id")


def _get_organization(workos_id: str, patience: float) -> Answer:
    answer = request("GET", ("organizations", workos_id), patience=patience)
    if answer.get("id") != workos_id:
        raise BrokenAnswer(f"WorkOS answered for {workos_id} with something else")
    return answer


def _as_iso(moment: datetime) -> str:
    # WorkOS takes UTC with a Z, and refuses an offset.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
