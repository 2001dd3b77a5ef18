"""What goes over the wire: requests, answers, pages of listings, and refusals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

JsonObject: TypeAlias = dict[str, Any]
Json: TypeAlias = JsonObject | list[Any] | str | int | float | bool | None


_TO_UTF8: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_TO_ASCII: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(value: Json) -> bytes:
    """Serialize to JSON, compact and in UTF-8 like WorkOS; ValueError for NaN and the like."""
    try:
        return _TO_UTF8.encode(value).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only carry escaped
        return _TO_ASCII.encode(value).encode()


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` is as it was sent, `query` holds the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = None
    body: bytes = b""

    @classmethod
    def of(cls, method: str, target: str, authorization: str | None, body: bytes) -> "Request":
        """Build a request from its target, the path and query of its first line."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(method, parts.path, query, authorization, body)

    @property
    def segments(self) -> list[str]:
        """The path's parts, each decoded by itself, so that an id may hold a slash."""
        return [unquote(segment) for segment in self.path.strip("/").split("/")]


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Matches requests by method and path; None matches any, a path its subpaths too."""

    method: str | None = None
    path: str | None = None
    exact: bool = False

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and (self.path is None or self._leads_to(path))

    def _leads_to(self, path: str) -> bool:
        return path == self.path if self.exact else path.startswith(self.path or "")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, its entries serialized already.

    `before` and `after` are the cursors it is sent with, `last` is that of its last entry.
    """

    bodies: Sequence[bytes]
    before: str | None
    after: str | None
    last: str | None

    def to_json(self, *, list_metadata: bool = True) -> bytes:
        """Serialize the page, on request without the metadata that says whether there is more."""
        entries = b'{"object":"list","data":[' + b",".join(self.bodies) + b"]"
        if not list_metadata:
            return entries + b"}"
        metadata = encode({"before": self.before, "after": self.after})
        return entries + b',"list_metadata":' + metadata + b"}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `page` is the listing its body was made of, if it was.

    A header that is None is not sent, whatever it would be otherwise.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    page: Page | None = None

    @classmethod
    def of_json(cls, value: Json, status: int = 200) -> "Answer":
        return cls(status, encode(value))

    @classmethod
    def of_page(cls, page: Page) -> "Answer":
        return cls(200, page.to_json(), page=page)


class Refused(Exception):
    """WorkOS doesn't do what it was asked to; `status`, `code` and `message` as it answers them."""

    def __init__(
        self, status: int, code: str, message: str, errors: Sequence[JsonObject] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.errors = list(errors)

    @classmethod
    def invalid(cls, parameter: str, message: str) -> "Refused":
        """Refuse one field of a body or one parameter of a query: a 422."""
        errors = [{"field": parameter, "code": "invalid", "message": message}]
        return cls(422, "invalid_request_parameters", message, errors)

    def answer(self) -> Answer:
        body: JsonObject = {"message": self.message, "code": self.code}
        if self.errors:
            body["errors"] = self.errors
        return Answer.of_json(body, self.status)
