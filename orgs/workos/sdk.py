"""Asks WorkOS by its SDK, and checks the answers. Alone knows the SDK, by its public names.

The SDK takes a 200 of HTML for an empty object, raises odd errors for error bodies that are not
JSON objects, and puts the id of the request into its errors' texts; its retries sleep for minutes.
So it makes the addresses and headers, and what is sent, read and raised is decided here.

It is imported with the first request: that was measured to take half of a process's start.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from workos import HTTPResponse, WorkOSClient

from orgs.conf import sync_settings
from orgs.domain.budget import LONGEST_PAUSE
from orgs.domain.naming import one_line
from orgs.workos import errors, tolerant_json
from orgs.workos.parsing import Answer, Json

#: Enough for a hundred events with very long names. An endless answer must not fill the memory.
MAX_ANSWER_BYTES = 256 * 1024 * 1024

#: What the HTTP client reads from the environment.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


class Client:
    """Keeps the connections to one address of WorkOS, with one key. Thread-safe.

    Raises ``Misconfigured``.
    """

    def __init__(self, key: str, url: str) -> None:
        self._http = _Backend()
        self._sdk = WorkOSClient(
            api_key=key, base_url=url, request_timeout=60, http_client=self._http
        )

    def request(
        self, method: str, path: Sequence[str], *, params: Json, body: Json | None
    ) -> Answer:
        """Ask once. Raises ``WorkOSError``, and ``ValueError`` for what has no address."""
        answer = self._sdk.request_raw(
            method,
            path,
            params=params or None,
            body=body,
            request_options={"timeout": sync_settings().request_timeout},
        )
        return answer if isinstance(answer, Answer) else Answer()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


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
    kept = code if isinstance(code, str) else None
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
        return kind(message, code=kept)
    return errors.Unavailable(f"WorkOS does not answer: {message}", code=kept)


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
