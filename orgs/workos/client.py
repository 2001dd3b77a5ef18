"""Makes the calls to WorkOS. Each may be repeated, and made in any thread.

All raise ``WorkOSError``. ``patience``: as in ``orgs.workos``.
"""

import time
from datetime import UTC
from functools import partial

from orgs.domain.budget import Share
from orgs.domain.resources import ORGANIZATIONS, Listing, Resource
from orgs.domain.types import ObjectPage, Observation, Page, Position, State
from orgs.workos.errors import BrokenAnswer, ExternalIdConflict, NotFound, WorkOSError
from orgs.workos.parsing import (
    Json,
    is_usable_id,
    parse_events,
    parse_object,
    parse_page,
)
from orgs.workos.transport import request

#: Objects that a page lists: as many as WorkOS allows.
_PAGE_SIZE = 100


def read_events(
    position: Position, *, types: tuple[str, ...], limit: int, patience: float = 0.0
) -> Page[Position]:
    """Return the page of events of these types after ``position``, oldest first. It may be empty
    and not the last one: WorkOS does not say whether it leaves other types out before it cuts.

    Raises ``BrokenAnswer`` if what is answered is not a page, and ``Refused`` if WorkOS does not
    accept the position: what it answers to an expired one is undocumented.
    """
    read_began = time.monotonic()
    params: Json = {"events": ",".join(types), "limit": limit, "order": "asc"}
    if position.last_event_id is not None:
        params["after"] = position.last_event_id
    elif position.last_event_at is not None:
        # WorkOS takes UTC with a Z, and refuses an offset.
        at = position.last_event_at.astimezone(UTC).isoformat(timespec="milliseconds")
        params["range_start"] = at.replace("+00:00", "Z")
    answer = request("GET", ("events",), share=Share.STREAM, params=params, patience=patience)
    listed, after = parse_page(answer)
    observations, reached = parse_events(listed, position, after, types)
    parse = partial(tuple, observations)
    return Page(position, parse, reached, after is None, read_began, answer.date)


def read_objects(
    resource: Resource,
    listing: Listing,
    position: str | None,
    *,
    scope: str = "",
    patience: float = 0.0,
) -> ObjectPage:
    """Return a page of a list, oldest first, after the one at ``position``; ``scope`` is the
    organization, directory or group that it is the list of. Only a page that is not full is the
    last one.

    Raises ``BrokenAnswer`` if what is answered is not a page, or lists something without a key.
    """
    read_began = time.monotonic()
    given = {"{scope}": scope}
    params: Json = {name: given.get(value, value) for name, value in listing.params.items()}
    params["after"] = position
    if listing.is_paged:
        params |= {"limit": _PAGE_SIZE, "order": "asc"}
    path = tuple(given.get(part, part) for part in listing.path)
    answer = request("GET", path, params=params, patience=patience)
    # An unpaged list need not have the metadata of a page.
    whole = answer if listing.is_paged else {"list_metadata": {"after": None}, **answer}
    listed, after = parse_page(whole)
    if after and not listed:
        raise BrokenAnswer("WorkOS listed nothing, and said that there is more")
    if after is None and listing.is_paged and len(listed) == _PAGE_SIZE:
        # It may only seem to be the last one: nothing else shows that a list ended early.
        last_id = listed[-1].get("id") if isinstance(listed[-1], dict) else None
        after = last_id if is_usable_id(last_id) else None

    def parse() -> tuple[Observation, ...]:
        found = (parse_object(resource, item, listing, scope) for item in listed)
        return tuple(filter(None, found))

    return Page(position, parse, after, after is None, read_began, answer.date)


#: Returns a page of all organizations.
read_organizations = partial(read_objects, ORGANIZATIONS, ORGANIZATIONS.listings[0])


def lookup(resource: Resource, key: str, *, patience: float = 0.0) -> Observation:
    """Return an object as WorkOS has it now: present, absent (a 404) or unreadable.

    A 404 proves nothing alone: a wrong route, or the key of another environment, gets the same.
    """
    path = tuple(key if part == "{key}" else part for part in resource.fetch)
    try:
        found = parse_object(resource, request("GET", path, patience=patience))
    except NotFound:
        return Observation(workos_id=key, state=State.ABSENT, resource=resource.name)
    if found is None or found.workos_id != key:
        raise BrokenAnswer(f"WorkOS answered for {key} with something else")
    return found


def find_by_external_id(external_id: str, *, patience: float = 0.0) -> str | None:
    """Return the WorkOS id of the organization that has this ``external_id``; None if none has."""
    if not _fits(external_id):
        return None
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
) -> str | None:
    """Write our id of its organization to WorkOS, unless it has one; return once it confirms, with
    what it had before.

    WorkOS has no conditional PUT: between the GET and the PUT another program could set a value,
    and this would overwrite it. Raises ``ExternalIdConflict`` if WorkOS has another value (unless
    ``overwrite``), has ours elsewhere, or can't hold it, and ``NotFound``.
    """
    if not _fits(external_id):
        raise ExternalIdConflict(f"{external_id!r} does not fit into WorkOS's external_id")
    path = ("organizations", workos_id)
    shown = request("GET", path, patience=patience)
    if shown.get("id") != workos_id:
        raise BrokenAnswer(f"WorkOS answered for {workos_id} with something else")
    present: str | None = shown.get("external_id") or None
    if present == external_id:
        return present
    if present is not None and not overwrite:
        raise ExternalIdConflict(f"WorkOS has external_id {present!r} for {workos_id}")
    body = {"external_id": external_id}
    try:
        answer = request("PUT", path, body=body, patience=patience)
    except WorkOSError as error:
        if error.code == "external_id_already_used":
            raise ExternalIdConflict(str(error)) from None
        raise
    if answer.get("external_id") != external_id:
        raise BrokenAnswer("WorkOS answered the write-back with another external_id")
    return present


def _fits(external_id: str) -> bool:
    # 64 characters by WorkOS's documentation, 128 by its schema: the weaker reading.
    return 0 < len(external_id) <= 128 and external_id.isascii()
