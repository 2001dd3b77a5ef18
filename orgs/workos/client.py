"""Talks to WorkOS: alone knows its SDK, and parses its JSON into our types. Never the database.

The SDK turns a 200 of HTML, a truncated one or ``{"data": null}`` into an empty page, and one
malformed event into a page that fails whole. So lists are read raw, checked here, and parsed event
by event. Its built-in retries sleep for up to minutes: they are off, our own schedules retry.
"""

import hmac
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeGuard

import httpx2
from workos import (
    HTTPResponse,
    NotFoundError,
    RateLimitExceededError,
    WorkOSClient,
    WorkOSError,
)
from workos._http import HttpxBackend
from workos._types import RequestOptions
from workos.webhooks._verification import verify_header

from orgs.conf import sync_settings
from orgs.domain.drift import Unreadable
from orgs.domain.naming import content_id, is_storable, one_line
from orgs.domain.resolution import (
    Event,
    IgnoredEvent,
    OrganizationChanged,
    OrganizationDeleted,
    RemoteOrganization,
    UnreadableEvent,
)
from orgs.domain.types import (
    EventType,
    Position,
)
from orgs.workos import tolerant_json

FOLLOWED_TYPES = tuple(EventType)

#: Far above any id of WorkOS's, far below what a B-tree page of PostgreSQL can hold.
MAX_ID_BYTES = 255

#: A hundred events whose names are as long as a hundred thousand pages fit; a flood does not.
_MAX_ANSWER_BYTES = 256 * 1024 * 1024

#: A pause that WorkOS asks for is honoured up to this many seconds: a mistaken header must not
#: silence a process for years.
_MAX_RETRY_AFTER = 900.0


class WorkOSTrouble(Exception):
    """WorkOS could not be asked, or did not answer usefully. Trying again later may help.

    ``retry_after`` is how many seconds WorkOS asked to be left alone, if it did.
    """

    retry_after: float | None = None


class NotConfigured(WorkOSTrouble):
    """There is no API key to ask with."""


class Unavailable(WorkOSTrouble):
    """No answer, a time-out, or a 5xx."""


class RateLimited(WorkOSTrouble):
    """A 429, or the pause that an earlier one asked for is not over."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(WorkOSTrouble):
    """A 401 or 403: the API key is wrong, revoked, or may not do this."""


class BrokenAnswer(WorkOSTrouble):
    """A success that is not one: HTML, a truncated body, a page without a list."""


class Refused(WorkOSTrouble):
    """Any other 4xx: WorkOS understood the request and does not want it."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class NotFound(Refused):
    """WorkOS says, in its own words, that there is no such thing."""


class ExternalIdConflict(Exception):
    """WorkOS knows the organization, or our id, under another name: a person has to decide."""


class UnreadableOrganization(Exception):
    """The organization is there, but what WorkOS says of it can't be applied.

    ``payload`` is WorkOS's JSON, as text.
    """

    def __init__(self, message: str, payload: str) -> None:
        super().__init__(message)
        self.payload = payload


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event of a page, its raw JSON beside it, and the position after it."""

    event: Event
    raw: object
    position: Position

    @property
    def payload(self) -> str:
        """The raw event as ASCII text: ``jsonb`` would refuse a NUL, ``text`` a lone surrogate."""
        return _as_text(self.raw)


@dataclass(frozen=True, slots=True)
class EventPage:
    """What one read returned. ``is_last`` if WorkOS had nothing more to list then."""

    read_from: Position
    events: tuple[ListedEvent, ...]
    position: Position
    is_last: bool
    read_at: datetime
    """When the read began, by this machine's clock."""


def read_events(position: Position, *, limit: int) -> EventPage:
    """The page of organization events after ``position``, oldest first.

    Only reads, so it may be repeated and run in any thread. An event that can't be parsed comes as
    an ``UnreadableEvent``; a page that can't be raises ``BrokenAnswer``. Raises ``Refused`` if
    WorkOS does not take the position (what it answers to an expired one is undocumented), and
    other ``WorkOSTrouble``.
    """
    read_at = datetime.now(UTC)
    params = {"events": ",".join(FOLLOWED_TYPES), "limit": limit, "order": "asc"}
    if position.last_event_id is not None:
        params["after"] = position.last_event_id
    elif position.last_event_at is not None:
        params["range_start"] = _as_iso(position.last_event_at)
    listed, after = _checked_list(_request("GET", ("events",), params=params))
    if after is not None and not listed:
        raise BrokenAnswer("WorkOS listed no event, and said that there are more")
    events: list[ListedEvent] = []
    reached = position
    for raw in listed:
        event = _parse_event(raw)
        reached = _position_after(reached, event, raw)
        events.append(ListedEvent(event, raw, reached))
    if after is not None and not _is_usable_id(_key_of(listed[-1])):
        # The last event has no usable id; the cursor that WorkOS names is one it listed.
        reached = replace(reached, last_event_id=after)
    return EventPage(position, tuple(events), reached, after is None, read_at)


def first_event_id() -> str | None:
    """The id of the first event that WorkOS still lists; None if it lists none."""
    page = read_events(Position(), limit=1)
    return page.events[0].event.id if page.events else None


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """One page of the listing. ``position`` is where the next one starts."""

    organizations: tuple[RemoteOrganization | Unreadable, ...]
    position: str | None
    is_last: bool


def read_organizations(position: str | None, *, limit: int = 100) -> OrganizationPage:
    """A page of all organizations, oldest first, after the one at ``position``.

    Only reads, so it may be repeated and run in any thread. Raises ``BrokenAnswer`` if the page is
    not one, or lists something that has no id: then nobody knows what is missing from it. Raises
    other ``WorkOSTrouble``.
    """
    params: dict[str, Any] = {"limit": limit, "order": "asc"}
    if position is not None:
        params["after"] = position
    listed, after = _checked_list(_request("GET", ("organizations",), params=params))
    if after is not None and not listed:
        raise BrokenAnswer("WorkOS listed no organization, and said that there are more")
    organizations = tuple(map(_parse_listed, listed))
    return OrganizationPage(organizations, after, after is None)


def get_organization(workos_id: str) -> RemoteOrganization:
    """The organization as WorkOS has it now.

    Raises ``NotFound`` only if WorkOS itself says so, ``UnreadableOrganization`` if it is there
    but can't be applied, and other ``WorkOSTrouble``.
    """
    raw = _get_organization_json(workos_id)
    try:
        return _parse_organization(raw)
    except _Malformed as problem:
        raise UnreadableOrganization(str(problem), _as_text(raw)) from None


def find_by_external_id(external_id: str) -> str | None:
    """The WorkOS id of the organization that has this ``external_id``; None if none has."""
    try:
        answer = _request("GET", ("organizations", "external_id", external_id))
    except NotFound:
        return None
    workos_id = answer.get("id")
    if not _is_usable_id(workos_id) or answer.get("external_id") != external_id:
        raise BrokenAnswer(f"WorkOS answered for external_id {external_id!r} with something else")
    return workos_id


def exists(workos_id: str, *, before: datetime) -> bool | None:
    """Whether the organization is there: False if WorkOS says it isn't, None if it came later.

    Raises ``WorkOSTrouble`` for any answer that is neither.
    """
    try:
        created_at = _parse_time_leniently(_get_organization_json(workos_id).get("created_at"))
    except NotFound:
        return False
    return None if created_at is not None and created_at >= before else True


def offer_external_id(workos_id: str, external_id: str) -> None:
    """Tells WorkOS our id of its organization, unless it has one; returns once WorkOS confirms.

    May be repeated and run concurrently. WorkOS has no conditional PUT: between the GET and the
    PUT another program could set a value, and this would overwrite it. Raises
    ``ExternalIdConflict`` if WorkOS has another value or has ours elsewhere, and ``WorkOSTrouble``.
    """
    present = _get_organization_json(workos_id).get("external_id")
    if not present:
        if not _fits_external_id(external_id):
            raise ExternalIdConflict(f"our id {external_id!r} does not fit WorkOS's external_id")
        try:
            answer = _request(
                "PUT", ("organizations", workos_id), body={"external_id": external_id}
            )
        except Refused as refusal:
            if refusal.code == "external_id_already_used":
                raise ExternalIdConflict(str(refusal)) from None
            raise
        present = answer.get("external_id")
        if present != external_id:
            raise BrokenAnswer(f"WorkOS answered the write-back with external_id {present!r}")
    if present != external_id:
        raise ExternalIdConflict(f"WorkOS has external_id {present!r} for {workos_id}")


def _fits_external_id(value: str) -> bool:
    # ASCII, and 64 characters by the documentation but 128 by the schema: the weaker reading.
    return value.isascii() and len(value) <= 128


def is_signed(body: bytes, signature: str, secrets: tuple[str, ...]) -> bool:
    """Whether ``body`` was signed with any of ``secrets``, within the SDK's tolerance of 3 minutes.

    Never raises, whatever bytes ``body`` and ``signature`` hold.
    """
    well_formed = _SIGNATURE.fullmatch(signature) is not None
    return well_formed and any(_is_signed_with(body, signature, secret) for secret in secrets)


#: The SDK cuts the header at fixed places, whatever stands there.
_SIGNATURE = re.compile(r"t=[0-9]{1,20}, v1=[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is kept of a webhook: that an event exists. Its content is never applied."""

    id: str
    """The event's id, or a hash of one that is too long to be a key."""
    type: str
    workos_id: str | None


def parse_announcement(body: bytes) -> Announcement | None:
    """The event that a signed webhook announces, or None if it announces none.

    Never raises, whatever ``body`` holds.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    event_id, event_type = raw.get("id"), raw.get("event")
    if not (_is_text(event_id) and _is_text(event_type)):
        return None
    key = event_id if _is_usable_id(event_id) else content_id(event_id.encode())
    return Announcement(key, event_type, _workos_id_of(raw))


def event_time(event_id: str) -> datetime | None:
    """When the event was created, as its ULID tells; None if the id isn't one."""
    ulid = event_id.removeprefix("event_").upper()
    if len(ulid) != 26 or not set(ulid) <= _CROCKFORD.keys() or ulid[0] > "7":
        return None
    milliseconds = 0
    for char in ulid[:10]:
        milliseconds = milliseconds * 32 + _CROCKFORD[char]
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


_CROCKFORD = {char: value for value, char in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


# Parsing ------------------------------------------------------------------------------------


class _Malformed(Exception):
    """Says which field is wrong, and how."""


def _checked_list(answer: dict[str, Any]) -> tuple[list[object], str | None]:
    listed, metadata = answer.get("data"), answer.get("list_metadata")
    if not isinstance(listed, list) or not isinstance(metadata, dict):
        raise BrokenAnswer("WorkOS answered 200 with something that is not a page of a list")
    after = metadata.get("after", _ABSENT) or None
    if after is not None and not _is_text(after):
        raise BrokenAnswer("WorkOS answered with a page that doesn't say whether there are more")
    return listed, after


_ABSENT = object()


def _parse_event(raw: object) -> Event:
    fields = raw if isinstance(raw, dict) else {}
    event_id, event_type = fields.get("id"), fields.get("event")
    key = event_id if _is_usable_id(event_id) else content_id(_as_text(raw).encode())
    occurred_at = _parse_time_leniently(fields.get("created_at")) or event_time(key)
    workos_id = _workos_id_of(fields)
    try:
        _id(fields, "id", "id")
        if not _is_text(event_type):
            raise _Malformed("event is not non-empty text without NUL")
        if event_type not in FOLLOWED_TYPES:
            return IgnoredEvent(
                id=key, type=event_type, workos_id=workos_id, occurred_at=occurred_at
            )
        return _parse_followed(key, EventType(event_type), fields, occurred_at)
    except _Malformed as problem:
        return UnreadableEvent(
            id=key,
            type=event_type if _is_text(event_type) else "",
            workos_id=workos_id,
            occurred_at=occurred_at,
            error=str(problem),
        )


def _parse_followed(
    event_id: str, event_type: EventType, fields: dict[str, Any], occurred_at: datetime | None
) -> Event:
    content = fields.get("data")
    if not isinstance(content, dict):
        raise _Malformed("data is not an object")
    if event_type is EventType.DELETED:
        return OrganizationDeleted(
            id=event_id, workos_id=_id(content, "id", "data.id"), occurred_at=occurred_at
        )
    return OrganizationChanged(
        id=event_id,
        type=event_type,
        organization=_parse_organization(content, path="data."),
        occurred_at=occurred_at,
    )


def _parse_organization(fields: dict[str, Any], *, path: str = "") -> RemoteOrganization:
    external_id = fields.get("external_id")
    return RemoteOrganization(
        workos_id=_id(fields, "id", f"{path}id"),
        name=_text(fields, "name", f"{path}name"),
        external_id=_id(fields, "external_id", f"{path}external_id") if external_id else None,
        updated_at=_parse_time(fields.get("updated_at"), f"{path}updated_at"),
    )


def _parse_listed(raw: object) -> RemoteOrganization | Unreadable:
    fields = raw if isinstance(raw, dict) else {}
    workos_id = fields.get("id")
    if not _is_usable_id(workos_id):
        raise BrokenAnswer("WorkOS listed an organization that has no usable id")
    try:
        return _parse_organization(fields)
    except _Malformed as problem:
        return Unreadable(workos_id, str(problem))


def _position_after(before: Position, event: Event, raw: object) -> Position:
    if _key_of(raw) != event.id:
        return before
    return Position(event.id, event.occurred_at or before.last_event_at)


def _key_of(raw: object) -> object:
    return raw.get("id") if isinstance(raw, dict) else None


def _as_text(raw: object) -> str:
    try:
        return json.dumps(raw)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _workos_id_of(fields: dict[str, Any]) -> str | None:
    content = fields.get("data")
    workos_id = content.get("id") if isinstance(content, dict) else None
    return workos_id if _is_usable_id(workos_id) else None


def _text(fields: dict[str, Any], key: str, path: str) -> str:
    value = fields.get(key)
    if not _is_text(value):
        raise _Malformed(f"{path} is not non-empty text without NUL")
    return str(value)


def _id(fields: dict[str, Any], key: str, path: str) -> str:
    value = _text(fields, key, path)
    if not _is_usable_id(value):
        raise _Malformed(f"{path} is longer than {MAX_ID_BYTES} bytes")
    return value


def _is_text(value: object) -> TypeGuard[str]:
    """Whether PostgreSQL can store ``value`` as text, and it is some."""
    return isinstance(value, str) and is_storable(value)


def _is_usable_id(value: object) -> TypeGuard[str]:
    return _is_text(value) and len(str(value).encode()) <= MAX_ID_BYTES


def _parse_time(value: object, path: str) -> datetime:
    parsed = _parse_time_leniently(value)
    if parsed is None:
        raise _Malformed(f"{path} is not a time in ISO 8601")
    return parsed


def _parse_time_leniently(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        # One of WorkOS's documented samples has no time zone; it means UTC.
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _as_iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_signed_with(body: bytes, signature: str, secret: str) -> bool:
    try:
        verify_header(event_body=body, event_signature=signature, secret=secret)
    except UnicodeDecodeError:
        # It takes the body for text, after it has checked the time. What is signed are bytes.
        return _is_mac_of(body, signature, secret)
    except Exception:  # noqa: BLE001 - it raises TypeError and OverflowError for some signatures
        return False
    return True


def _is_mac_of(body: bytes, signature: str, secret: str) -> bool:
    moment, mac = signature.removeprefix("t=").split(", v1=")
    expected = hmac.new(secret.encode(), f"{moment}.".encode() + body, sha256).hexdigest()
    return hmac.compare_digest(mac, expected)


# Asking -------------------------------------------------------------------------------------


def _get_organization_json(workos_id: str) -> dict[str, Any]:
    answer = _request("GET", ("organizations", workos_id))
    if answer.get("id") != workos_id:
        raise BrokenAnswer(f"WorkOS answered for {workos_id} with something else")
    return answer


def _request(
    method: str,
    path: tuple[str, ...],
    *,
    params: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One call. An answer that isn't a JSON object comes back as ``{}``: callers check."""
    if any(segment in _NO_IDS for segment in path):
        raise Refused(f"{path[-1]!r} is no id")
    _raise_while_limited()
    client = _client()
    options: RequestOptions = {"timeout": sync_settings().request_timeout}
    try:
        return client.request_raw(method, path, params=params, body=body, request_options=options)
    except WorkOSError as error:
        raise _translated(error) from None
    except Exception as error:  # noqa: BLE001 - the SDK chokes on odd answers in odd ways
        raise Unavailable(f"WorkOS can't be asked: {_told(error)}") from None


#: Segments that would change the address that is asked.
_NO_IDS = ("", ".", "..")


def _client() -> WorkOSClient:
    current = sync_settings()
    if not current.api_key:
        raise NotConfigured("there is no WorkOS API key; set WORKOS_API_KEY")
    if not is_header_text(current.api_key):
        raise NotConfigured("WORKOS_API_KEY holds characters that no key has; copy it again")
    with _building:
        return _client_of_process(os.getpid(), current.api_key, current.base_url)


#: Threads that come first together must not build a client each, and leave one's sockets open.
_building = threading.Lock()


@lru_cache(maxsize=1)
def _client_of_process(
    pid: int,  # noqa: ARG001 - a key: connections must not be shared across a fork
    api_key: str,
    base_url: str,
) -> WorkOSClient:
    http_client = httpx2.Client(follow_redirects=True, event_hooks={"response": [_bound]})
    return WorkOSClient(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        http_client=_TolerantBackend(HttpxBackend(http_client)),
    )


def is_header_text(value: str) -> bool:
    """Whether ``value`` can be sent in a header: printable ASCII."""
    return value.isascii() and value.isprintable()


class _TolerantResponse(HTTPResponse):
    """An answer in which one odd value does not spoil the rest."""

    def json(self) -> Any:
        return tolerant_json.loads(self.content)


class _TolerantBackend:
    """The SDK's own way to speak HTTP, with another way to read JSON."""

    def __init__(self, inner: HttpxBackend) -> None:
        self._inner = inner

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None,
        timeout: float,
    ) -> HTTPResponse:
        answer = self._inner.request(method, url, headers=headers, content=content, timeout=timeout)
        return _TolerantResponse(
            answer.status_code,
            answer.headers,
            answer.content,
            answer.request_method,
            answer.request_url,
        )

    def close(self) -> None:
        self._inner.close()


def _bound(response: httpx2.Response) -> None:
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _BoundedBody(response.stream, sync_settings().request_timeout)


class _BoundedBody(httpx2.SyncByteStream):
    """A body that must be here in time. The client's own time-out is for each piece of it: a body
    that comes byte by byte would hold a worker for as long as it likes."""

    def __init__(self, body: httpx2.SyncByteStream, seconds: float) -> None:
        self._body = body
        self._deadline = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for piece in self._body:
            length += len(piece)
            if time.monotonic() > self._deadline or length > _MAX_ANSWER_BYTES:
                raise httpx2.ReadTimeout("the answer takes too long, or is too long")
            yield piece

    def close(self) -> None:
        self._body.close()


def _translated(error: WorkOSError) -> WorkOSTrouble:
    status = getattr(error, "status_code", None) or 0
    code = getattr(error, "code", None)
    message = _told(error)
    if isinstance(error, RateLimitExceededError):
        retry_after = min(error.retry_after or 0.0, _MAX_RETRY_AFTER)
        _limits.pause(retry_after)
        return RateLimited(message, retry_after)
    if status in (401, 403):
        return Unauthorized(f"WorkOS refused the API key: {message}")
    if isinstance(error, NotFoundError):
        if _is_workos_own(error.response_json):
            return NotFound(message, code)
        # A proxy's or a wrong host's 404 says nothing about the organization.
        return BrokenAnswer(f"a 404 that is not WorkOS's own: {message}")
    if status in _REFUSALS:
        return Refused(message, code)
    return Unavailable(f"WorkOS does not answer: {message}")


def _is_workos_own(answer: object) -> bool:
    """Whether a 404 says that an entity is not there, and not that an address is not.

    What WorkOS's own looks like is not documented, so any JSON object is one, but for those that
    are known to be a gateway's: their code is a number, or there is no such address.
    """
    if not isinstance(answer, dict) or not answer:
        return False
    code, message = answer.get("code", "none"), answer.get("message")
    has_odd_code = not isinstance(code, str) or code == ""
    is_route = isinstance(message, str) and message.startswith(("Cannot ", "no Route "))
    return not has_odd_code and not is_route


#: What WorkOS may say of an expired cursor, an unknown id or a bad value. Other 4xx (408, 409, 425)
#: are about the moment, not about what was asked.
_REFUSALS = (400, 404, 410, 422)


def _told(error: Exception) -> str:
    """What an error says, in a line, without the key that an answer may echo."""
    return one_line(str(error).replace(sync_settings().api_key or "\n", "********"))


@dataclass(slots=True)
class _Limits:
    """WorkOS limits requests by API key, so a 429 silences every caller of this process."""

    clock: Callable[[], float] = time.monotonic
    silent_until: float = 0.0

    def pause(self, seconds: float) -> None:
        self.silent_until = max(self.silent_until, self.clock() + seconds)

    def remaining(self) -> float:
        return self.silent_until - self.clock()


_limits = _Limits()


def _raise_while_limited() -> None:
    remaining = _limits.remaining()
    if remaining > 0:
        raise RateLimited(f"WorkOS asked for a pause of {remaining:.0f} s more", remaining)
