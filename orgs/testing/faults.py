"""How WorkOS misbehaves on request: which answers go wrong, and in which of the known ways."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Final, NoReturn

from .limits import too_many_requests
from .messages import Answer, Json, JsonObject, Request, RequestFilter


class NoAnswer(Exception):
    """The connection ends without an answer: closed, or reset."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("connection reset" if reset else "connection closed")
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that is to go wrong, and the means to do it.

    `carry_out` gives the right answer, `wait` waits until the fake stops at the latest, and
    `memory` lives as long as the misbehaviour.
    """

    request: Request
    carry_out: Callable[[Request], Answer]
    wait: Callable[[float], object]
    memory: dict[str, Answer]


Misbehaviour = Callable[..., Answer]


def _rate_limited(
    _: Exchange, *, retry_after: float | str | None = None, bare: bool = False
) -> Answer:
    return too_many_requests(retry_after=retry_after, bare=bare)


def _status(_: Exchange, *, status: int, body: Json = None) -> Answer:
    error: JsonObject = {"message": f"The fake WorkOS says {status}.", "code": "fake"}
    return Answer.of_json(error if body is None else body, status)


def _time_out(exchange: Exchange, *, seconds: float = 60) -> NoReturn:
    """Say nothing for so long, then end the connection."""
    exchange.wait(seconds)
    raise NoAnswer


def _reset(_: Exchange) -> NoReturn:
    raise NoAnswer(reset=True)


def _html(_: Exchange, *, status: int = 200) -> Answer:
    """Answer with a gateway's page, and a 200 unless another status is given."""
    page = b"<!doctype html><html><title>Maintenance</title><h1>Back soon</h1></html>"
    return Answer(status, page, content_type="text/html; charset=utf-8")


def _truncated(exchange: Exchange) -> Answer:
    right = exchange.carry_out(exchange.request)
    return replace(right, body=right.body[: len(right.body) // 2])


def _empty(_: Exchange) -> Answer:
    return Answer(200)


def _body(_: Exchange, *, body: Json) -> Answer:
    return Answer.of_json(body)


def _text(_: Exchange, *, text: str) -> Answer:
    """Answer 200 with any text as if it were JSON; escaped surrogates are bytes."""
    return Answer(200, text.encode("utf-8", "surrogateescape"))


def _ends_early(exchange: Exchange) -> Answer:
    """Answer with the right page, but say that it is the last."""
    right = exchange.carry_out(exchange.request)
    return right if right.page is None else Answer.of_page(replace(right.page, after=None))


def _repeated_page(exchange: Exchange) -> Answer:
    """Answer with the first page asked for and a cursor to go on; then with that page for ever."""
    if "page" not in exchange.memory:
        right = exchange.carry_out(exchange.request)
        if right.page is not None and right.page.after is None:
            right = Answer.of_page(replace(right.page, after=right.page.last))
        exchange.memory["page"] = right
    return exchange.memory["page"]


def _no_list_metadata(exchange: Exchange) -> Answer:
    """Answer with the right page, without a word on whether there is more."""
    right = exchange.carry_out(exchange.request)
    if right.page is None:
        return right
    return replace(right, body=right.page.to_json(list_metadata=False))


def _expired_cursor(exchange: Exchange, *, status: int = 400, restart: bool = False) -> Answer:
    """Refuse the cursor with a status, or silently take it for the beginning."""
    request = exchange.request
    if restart:
        query = {name: value for name, value in request.query.items() if name != "after"}
        return exchange.carry_out(replace(request, query=query))
    message = f"Unknown cursor: '{request.query['after']}'."
    return Answer.of_json({"message": message, "code": "invalid_cursor"}, status)


def _slow(exchange: Exchange, *, seconds: float) -> Answer:
    exchange.wait(seconds)
    return exchange.carry_out(exchange.request)


def _headers(exchange: Exchange, *, headers: Mapping[str, str | None]) -> Answer:
    right = exchange.carry_out(exchange.request)
    return replace(right, headers={**right.headers, **headers})


def _by_name(*misbehaviours: Misbehaviour) -> Mapping[str, Misbehaviour]:
    return {one.__name__.removeprefix("_"): one for one in misbehaviours}


INSTEAD: Final = _by_name(
    *(_rate_limited, _status, _time_out, _reset, _html, _empty, _body, _text, _expired_cursor)
)
"""What is answered instead of doing what was asked for, or after doing it."""

ALTERED: Final = _by_name(
    _truncated, _ends_early, _repeated_page, _no_list_metadata, _slow, _headers
)
"""What becomes of the right answer; what was asked for is done."""

MISBEHAVIOURS: Final[Mapping[str, Misbehaviour]] = {**INSTEAD, **ALTERED}


@dataclass(slots=True)
class Fault:
    """One misbehaviour that was asked for, and how many answers it is still good for."""

    kind: str
    meant: RequestFilter
    times: int | None
    applied: bool
    parameters: Mapping[str, Any]
    memory: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in MISBEHAVIOURS:
            known = ", ".join(MISBEHAVIOURS)
            raise ValueError(f"unknown misbehaviour {self.kind!r}; there are {known}")
        inspect.signature(MISBEHAVIOURS[self.kind]).bind(None, **self.parameters)

    def concerns(self, request: Request) -> bool:
        """Return True if it applies to a request; only a read with a cursor can lose one."""
        if self.times == 0 or (self.kind == "expired_cursor" and "after" not in request.query):
            return False
        return self.meant.matches(request.method, request.path)

    def answer(
        self,
        request: Request,
        carry_out: Callable[[Request], Answer],
        wait: Callable[[float], object],
    ) -> Answer:
        """Answer wrongly; NoAnswer if the connection is to end without one.

        If `applied`, what was asked for is done before the answer goes wrong.
        """
        if self.applied and self.kind in INSTEAD:
            carry_out(request)
        exchange = Exchange(request, carry_out, wait, self.memory)
        return MISBEHAVIOURS[self.kind](exchange, **self.parameters)


class Faults:
    """The misbehaviours asked for; thread-safe. The first that concerns a request is used."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._faults: list[Fault] = []

    def misbehave(
        self,
        /,
        kind: str,
        *,
        method: str | None = "GET",
        path: str | None = "/events",
        exact: bool = False,
        times: int | None = 1,
        applied: bool = False,
        **parameters: Any,
    ) -> None:
        """Answer the next `times` requests wrongly, or all until `behave`.

        Concerns the requests of that method whose path begins so, or is exactly that; None is
        any. What was asked for earlier goes wrong first. With `applied`, the request is done
        and only its answer goes wrong. Kinds, with their parameters:

        - `rate_limited` (retry_after=None, bare=False: `Ratelimited` instead of JSON)
        - `status` (status, body=None), `html` (status=200)
        - `time_out` (seconds=60), `reset`, `slow` (seconds)
        - `empty`, `body` (body: any JSON), `text` (text: as for `emit_text`), `truncated`
        - `headers` (headers: those to add, replace or, with None, leave out)
        - `ends_early`, `repeated_page`, `no_list_metadata`: listings
        - `expired_cursor` (status=400, restart=False): reads with an `after`
        """
        fault = Fault(kind, RequestFilter(method, path, exact), times, applied, parameters)
        with self._lock:
            self._faults.append(fault)

    def behave(self) -> None:
        """Answer rightly again."""
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> Fault | None:
        """Return what is to go wrong with a request, used up by one, or None."""
        with self._lock:
            fault = next((one for one in self._faults if one.concerns(request)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
            return fault
