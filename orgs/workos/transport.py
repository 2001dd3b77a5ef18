"""Sends requests to WorkOS and checks the answers. Alone knows the SDK, by its public names.

The SDK takes a 200 of HTML for an empty object, raises odd errors for error bodies that are not
JSON objects, and puts the id of the request into its errors' texts; its retries sleep for minutes.
So it makes the addresses and headers, and what is sent, read and raised is decided here.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from workos import HTTPResponse, RequestOptions, WorkOSClient

from orgs.conf import sync_settings
from orgs.domain.budget import LONGEST_PAUSE, Share
from orgs.domain.naming import one_line
from orgs.workos import errors, pacing, tolerant_json
from orgs.workos.parsing import Json

#: Enough for a hundred events with very long names. An endless answer must not fill the memory.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

#: Seconds between tries after a 429 without Retry-After: 1, doubling, and at most so many.
_LONGEST_BACK_OFF = 60.0

#: What the HTTP client reads from the environment.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

#: Bytes that an id or a parameter may have: httpx2 refuses addresses of 65,536 characters.
_LONGEST_PART = 4_000


class Answer(dict[str, Any]):
    """A JSON object that WorkOS answered with; empty if it answered with anything else."""

    date: datetime | None = None
    """The ``Date`` header: WorkOS's own clock."""


def request(
    method: str,
    path: Sequence[str],
    *,
    share: Share = Share.BULK,
    patience: float = 0.0,
    params: Json | None = None,
    body: Json | None = None,
) -> Answer:
    """Ask WorkOS once; after a 429 again, if ``patience`` (seconds) suffices for the pause.

    Parameters that are None are not sent.
    """
    deadline, back_off = time.monotonic() + patience, 1.0
    params = {name: value for name, value in (params or {}).items() if value is not None}
    asked = one_line("/".join(path))
    for part in (*path, *params.values()):
        if len(str(part).encode(errors="replace")) > _LONGEST_PART:
            raise errors.Refused(f"{asked} can't be asked for: it is too long")
    while True:
        client = _client()
        pacing.wait_for_turn(share, deadline=deadline)
        options: RequestOptions = {"timeout": sync_settings().request_timeout}
        try:
            answer = client.request_raw(
                method, path, params=params or None, body=body, request_options=options
            )
            return answer if isinstance(answer, Answer) else Answer()
        except ValueError as error:
            # Nor does the SDK send an id that would change the address (".."), or is not text.
            raise errors.Refused(f"{asked} can't be asked for: {one_line(error)}") from None
        except errors.RateLimited as limited:
            pause = limited.retry_after or back_off
            is_too_long = time.monotonic() + pause > deadline
            if limited.retry_after or not is_too_long:
                pacing.pacer.pause(pause)
            if is_too_long:
                raise
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)


# The client ---------------------------------------------------------------------------------

_lock = threading.Lock()
_kept: dict[tuple[str, str], tuple[WorkOSClient, "_Backend"]] = {}
_verified: set[tuple[str, str]] = set()


def close() -> None:
    """Close this process's connections to WorkOS, and forget pauses and what is verified: for
    tests, each of which has a WorkOS of its own. The next call begins anew."""
    with _lock:
        while _kept:
            _kept.popitem()[1][1].close()
    _verified.clear()
    pacing.pacer.forget()


def note_verified() -> None:
    """Note that this address and key lead to the environment that is mirrored."""
    _verified.add(_address_and_key())


def is_verified() -> bool:
    """Return True if this process has found that out, for the settings of now."""
    return _address_and_key() in _verified


def _address_and_key() -> tuple[str, str]:
    return str(sync_settings().api_key), sync_settings().base_url


def _after_fork() -> None:
    # The connections stay open: they are the parent's.
    _kept.clear()
    _lock.release()
    pacing.pacer.forget()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


def is_header_text(value: str) -> bool:
    """Return True if ``value`` can be sent in a header: printable ASCII."""
    return value.isascii() and value.isprintable()


def _client() -> WorkOSClient:
    key, url = _address_and_key()
    if not key:
        raise errors.NotConfigured("there is no WorkOS API key; set WORKOS_API_KEY")
    if not is_header_text(key):
        raise errors.NotConfigured("WORKOS_API_KEY holds characters that no key has; copy it again")
    # Threads that come first together must not build a client each, and leave one's sockets open.
    with _lock:
        if (key, url) not in _kept:
            http = _Backend()
            made = WorkOSClient(api_key=key, base_url=url, request_timeout=60, http_client=http)
            _kept[key, url] = made, http
        return _kept[key, url][0]


def _set_variables(names: Sequence[str]) -> list[str]:
    # Without their values, and errors' texts: the address of a proxy may hold a password.
    return [name for name in os.environ if name.upper() in names]


class _Response(HTTPResponse):
    """An answer in which one odd value does not spoil the rest."""

    def json(self) -> Any:
        parsed = tolerant_json.loads(self.content)
        if not isinstance(parsed, dict):
            return parsed
        answer = Answer(parsed)
        answer.date = _http_date(self.headers.get("Date"))
        return answer


class _Backend:
    """A ``workos.HTTPBackend`` that bounds the answer and raises our errors, which the SDK neither
    retries nor changes."""

    def __init__(self) -> None:
        try:
            self._http = httpx2.Client(follow_redirects=True)
        except Exception as error:  # noqa: BLE001 - it reads the environment, raises what it will
            names = _set_variables(_FILES if isinstance(error, OSError) else _PROXIES)
            named = getattr(error, "filename", None)
            names = [name for name in names if os.environ[name] == named] or names
            what = " and ".join(names) or "the proxies of this machine"
            is_socks = isinstance(error, ImportError)
            remedy = "install the package socksio" if is_socks else "correct it"
            message = f"no HTTP client can be built with {what}: {remedy}, or unset it"
            raise errors.Misconfigured(message) from None

    def request(self, method: str, url: str, *, timeout: float, **sent: Any) -> HTTPResponse:
        # The client's time-out is for each piece of the body: one that comes byte by byte would
        # keep a worker for as long as it likes.
        deadline, body = time.monotonic() + timeout, bytearray()
        try:
            with self._http.stream(method, url, timeout=timeout, **sent) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() > deadline or len(body) > MAX_ANSWER_BYTES:
                        raise httpx2.ReadTimeout("the answer takes too long, or is too long")
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            names = " or ".join(["WORKOS_BASE_URL", *_set_variables(_PROXIES)])
            raise errors.Misconfigured(f"{names} is not an address: correct it") from None
        except Exception as error:  # noqa: BLE001 - HTTP libraries raise odd errors for odd answers
            raise errors.Unavailable(f"WorkOS can't be asked: {_in_a_line(error)}") from None
        answer = _Response(response.status_code, response.headers, bytes(body), method, url)
        if answer.status_code >= 400:
            raise _error_of(answer)
        return answer

    def close(self) -> None:
        self._http.close()


# Errors -------------------------------------------------------------------------------------


def _error_of(answer: HTTPResponse) -> errors.WorkOSError:
    status, fields = answer.status_code, Answer()
    with suppress(ValueError):
        parsed = answer.json()
        fields = parsed if isinstance(parsed, Answer) else fields
    code = fields.get("code")
    said = (fields.get(key) for key in ("message", "error_description", "error"))
    text = next(filter(None, said), httpx2.codes.get_reason_phrase(status))
    message = _in_a_line(f"HTTP {status}: {text}" + (f" (code {code})" if code else ""))
    if status == 429:
        return errors.RateLimited(message, retry_after=_retry_after(answer.headers))
    if status in (401, 403):
        return errors.Unauthorized(f"WorkOS refused the API key: {message}")
    if status == 404 and not _is_workos_own(fields):
        return errors.BrokenAnswer(f"a 404 that is not WorkOS's own: {message}")
    # What WorkOS may say of an expired cursor, an unknown id or a bad value. Other 4xx (408, 409,
    # 425) are about the moment, not about what was asked.
    if status in (400, 404, 410, 414, 422):
        kind = errors.NotFound if status == 404 else errors.Refused
        return kind(message, code=code if isinstance(code, str) else None)
    return errors.Unavailable(f"WorkOS does not answer: {message}")


def _in_a_line(text: object) -> str:
    """Return an error's text in a line, without the key that an answer may echo."""
    return one_line(str(text).replace(sync_settings().api_key or "\n", "********"))


def _is_workos_own(error: Json) -> bool:
    """Return True if a 404 says that an object is missing, and not that an address is wrong.

    What WorkOS's own looks like is not documented. So any JSON object is one, but for those that
    are known to be a gateway's: their code is a number, or there is no such address.
    """
    code, message = error.get("code", "none"), str(error.get("message"))
    is_of_a_route = message.startswith(("Cannot ", "no Route "))
    return bool(error and code) and isinstance(code, str) and not is_of_a_route


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause that an answer asks for, in seconds: RFC 9110 has a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_PAUSE)
    # By WorkOS's own clock, if it says what that is.
    until, now = _http_date(value), _http_date(headers.get("Date")) or datetime.now(UTC)
    return None if until is None else min(max((until - now).total_seconds(), 0.0), LONGEST_PAUSE)


def _http_date(value: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(value or "")
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
