"""Sends requests to WorkOS and checks the answers: alone knows the SDK, by its public names.

The SDK turns a 200 of HTML, or a truncated one, into an empty page; trips over error bodies that
are not JSON objects; and its retries sleep for minutes. So it builds addresses and headers, and
what is sent and read, and what an error means, is here.
"""

import itertools
import os
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from workos import HTTPResponse, RequestOptions, WorkOSClient

from orgs.conf import sync_settings
from orgs.domain.budget import LONGEST_PAUSE, Share
from orgs.domain.naming import one_line
from orgs.workos import pacing, tolerant_json
from orgs.workos.errors import (
    BrokenAnswer,
    Misconfigured,
    NotConfigured,
    NotFound,
    RateLimited,
    Refused,
    Unauthorized,
    Unavailable,
    WorkOSError,
)

#: A hundred events whose names are as long as a hundred thousand pages fit; a flood does not.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

#: Segments that would change the address that is asked.
_NO_IDS = ("", ".", "..")

#: Seconds between tries after a 429 without Retry-After: 1, doubling, up to a minute.
_LONGEST_BACK_OFF = 60.0

#: What WorkOS may say of an expired cursor, an unknown id or a bad value. Other 4xx (408, 409, 425)
#: are about the moment, not about what was asked.
_REFUSALS = (400, 404, 410, 414, 422)

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Answer(dict[str, Any]):
    """A JSON object that WorkOS answered with; empty if it answered with something else."""

    date: datetime | None = None
    """The ``Date`` header: WorkOS's own clock."""


def request(
    method: str,
    path: Sequence[str],
    *,
    share: Share = Share.BULK,
    patience: float = 0.0,
    params: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
) -> Answer:
    """Ask WorkOS once, or again after a 429 if ``patience`` (seconds) allows for the pause.

    Raises ``WorkOSError``.
    """
    if any(segment in _NO_IDS for segment in path):
        raise Refused(f"{path[-1]!r} is no id")
    deadline = time.monotonic() + patience
    for attempt in itertools.count():
        client = _client()
        pacing.wait_for_turn(share, deadline=deadline)
        try:
            return _call(client, method, path, params, body)
        except RateLimited as error:
            pause = error.retry_after or min(2.0**attempt, _LONGEST_BACK_OFF)
            is_too_long = time.monotonic() + pause > deadline
            if error.retry_after or not is_too_long:
                pacing.note_pause(pause)
            if is_too_long:
                raise
    raise AssertionError("unreachable")


def is_header_text(value: str) -> bool:
    """Return True if ``value`` can be sent in a header: printable ASCII."""
    return value.isascii() and value.isprintable()


def _call(
    client: WorkOSClient,
    method: str,
    path: Sequence[str],
    params: dict[str, Any] | None,
    body: dict[str, Any] | None,
) -> Answer:
    options: RequestOptions = {"timeout": sync_settings().request_timeout}
    try:
        answer = client.request_raw(method, path, params=params, body=body, request_options=options)
    except WorkOSError:
        raise
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, OverflowError) as error:
        raise Misconfigured(
            f"the address of WorkOS or of the proxy can't be used ({_redacted(str(error))}); "
            f"correct WORKOS_BASE_URL, {', '.join(_PROXIES)}"
        ) from None
    except Exception as error:  # noqa: BLE001 - HTTP libraries raise odd errors for odd answers
        raise Unavailable(f"WorkOS can't be asked: {_redacted(str(error))}") from None
    return answer if isinstance(answer, Answer) else Answer()


# The client ---------------------------------------------------------------------------------

#: Threads that come first together must not build a client each, and leave one's sockets open.
_lock = threading.Lock()
_built: "tuple[tuple[str, str], WorkOSClient, _Backend] | None" = None


def close() -> None:
    """Close the connections of this process, and forget pauses and reserved requests.

    The next call begins anew. For tests, in which each has a WorkOS of its own.
    """
    global _built  # noqa: PLW0603 - one for the process: connections are kept
    with _lock:
        if _built is not None:
            _built[2].close()
        _built = None
    pacing.forget()


def _forget_after_fork() -> None:
    global _built, _lock
    # The connections stay open: they are the parent's.
    _inherited.append(_built)
    _built, _lock = None, threading.Lock()
    pacing.forget()


_inherited: list[Any] = []
os.register_at_fork(after_in_child=_forget_after_fork)


def _client() -> WorkOSClient:
    global _built  # noqa: PLW0603 - as above
    current = sync_settings()
    if not current.api_key:
        raise NotConfigured("there is no WorkOS API key; set WORKOS_API_KEY")
    if not is_header_text(current.api_key):
        raise NotConfigured("WORKOS_API_KEY holds characters that no key has; copy it again")
    key = (str(current.api_key), current.base_url)
    with _lock:
        if _built is None or _built[0] != key:
            backend = _Backend(_http_client(current.base_url))
            client = WorkOSClient(
                api_key=current.api_key,
                base_url=current.base_url,
                max_retries=0,
                http_client=backend,
            )
            _built = (key, client, backend)
        return _built[1]


def _http_client(base_url: str) -> httpx2.Client:
    try:
        address = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError):
        address = httpx2.URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise Misconfigured("WORKOS_BASE_URL is not an address; set it to https://… or unset it")
    try:
        return httpx2.Client(follow_redirects=True)
    except Exception as error:  # noqa: BLE001 - it reads the environment, and raises what it will
        raise Misconfigured(f"the HTTP client can't be built: {_wrong_variable(error)}") from None


def _wrong_variable(error: Exception) -> str:
    """Say which variable of the environment is wrong. Not its value: proxies have passwords."""
    for name, kind in (("SSL_CERT_FILE", "cafile"), ("SSL_CERT_DIR", "capath")):
        if name in os.environ:
            try:
                ssl.create_default_context(**{kind: os.environ[name]})
            except (OSError, ValueError):
                return f"{name} names no readable certificates; correct or unset it"
    for name, value in os.environ.items():
        if name.upper() not in _PROXIES or not value:
            continue
        try:
            httpx2.Client(trust_env=False, proxy=value if "://" in value else f"http://{value}")
        except ImportError:
            return f"{name} names a SOCKS proxy; install the package socksio, or unset it"
        except Exception:  # noqa: BLE001 - as above
            return f"{name} is not the address of a proxy (http://…); correct or unset it"
    return f"see the proxy and certificate settings of this machine ({type(error).__name__})"


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
    """Sends what the SDK wants to send, and raises our errors (a ``workos.HTTPBackend``)."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None,
        timeout: float,
    ) -> HTTPResponse:
        """Return a success. The body must be here in time: the client's own time-out is for each
        piece of it, and a body that comes byte by byte would keep a worker as long as it likes."""
        deadline = time.monotonic() + timeout
        body = bytearray()
        with self._http.stream(
            method, url, headers=headers, content=content, timeout=timeout
        ) as response:
            for piece in response.iter_bytes():
                body += piece
                if time.monotonic() > deadline or len(body) > MAX_ANSWER_BYTES:
                    raise Unavailable("WorkOS's answer takes too long, or is too long")
        answer = _Response(response.status_code, response.headers, bytes(body), method, url)
        if answer.status_code >= 400:
            raise _error_of(answer)
        return answer

    def close(self) -> None:
        self._http.close()


# Errors -------------------------------------------------------------------------------------


def _error_of(answer: HTTPResponse) -> WorkOSError:
    """Return the error that an answer means. Its text leaves out what differs each time, such as
    the id of the request."""
    status, content = answer.status_code, _json(answer)
    code = content.get("code") if isinstance(content, dict) else None
    message = _message(status, content)
    if status == 429:
        return RateLimited(message, retry_after=_retry_after(answer.headers))
    if status in (401, 403):
        return Unauthorized(f"WorkOS refused the API key: {message}")
    if status == 404 and not _is_workos_own(content):
        # A proxy's or a wrong host's 404 says nothing about the object.
        return BrokenAnswer(f"a 404 that is not WorkOS's own: {message}")
    if status in _REFUSALS:
        return (NotFound if status == 404 else Refused)(message, str(code) if code else None)
    return Unavailable(f"WorkOS does not answer: {message}")


def _json(answer: HTTPResponse) -> object:
    try:
        return answer.json()
    except ValueError:
        return None


def _message(status: int, content: object) -> str:
    fields = content if isinstance(content, dict) else {}
    texts = (fields.get(key) for key in ("message", "error_description", "error"))
    said = next((text for text in texts if isinstance(text, str) and text), None)
    phrase = httpx2.codes.get_reason_phrase(status) or "no reason given"
    code = fields.get("code")
    return _redacted(f"HTTP {status}: {said or phrase}" + (f" (code {code})" if code else ""))


def _redacted(message: str) -> str:
    """Return an error's text in a line, without the key that an answer may echo."""
    return one_line(message.replace(sync_settings().api_key or "\n", "********"))


def _is_workos_own(content: object) -> bool:
    """Return True if a 404 says that an object is not there, and not that an address is not.

    What WorkOS's own looks like is not documented, so any JSON object is one, but for those that
    are known to be a gateway's: their code is a number, or there is no such address.
    """
    if not isinstance(content, dict) or not content:
        return False
    code, message = content.get("code", "none"), content.get("message")
    has_odd_code = not isinstance(code, str) or code == ""
    is_route = isinstance(message, str) and message.startswith(("Cannot ", "no Route "))
    return not has_odd_code and not is_route


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause that an answer asks for, in seconds: RFC 9110 has a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return min(float(value), LONGEST_PAUSE)
    until = _http_date(value)
    if until is None:
        return None
    # By WorkOS's own clock, if it says what that is.
    now = _http_date(headers.get("Date")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), LONGEST_PAUSE)


def _http_date(value: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(value or "")
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
