"""Notes the steps of a process's work, from within it, and kills it at one of them."""

import os
import re
import signal
from collections import Counter
from threading import Lock
from types import GeneratorType
from typing import Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import httpx2
import psycopg
from psycopg.pq import TransactionStatus

Request: TypeAlias = "GeneratorType[Any, Any, Any]"
"""What psycopg sends and receives, as it is given to ``Connection.wait``."""


class Step(NamedTuple):
    """What a process has changed for good, when the answer is here and nobody has seen it; and how
    often it came there by the same way. Threads may come the other way round in another run, but by
    the same ways."""

    way: str
    """The requests of two transactions of a connection: the last one that changed what stays, and
    the one under way. Of HTTP, a request alone: threads share connections."""
    occurrence: int


#: With what psycopg sends by itself: a commit stays for what else its transaction has.
_READS: Final = ("SELECT", "SET", "SHOW", "_")

#: Spaces, and the time limits that stand before a statement, which may write.
_SHORTENED: Final = ((r"\s+", " "), (r"^ ?(SELECT set_config\([^;]*; )*", ""))


class Watch:
    """What this process does, by the libraries with which it does it."""

    def __init__(self, kill_at: Step | None) -> None:
        self.steps: list[Step] = []
        self._kill_at = kill_at
        self._counts: Counter[str] = Counter()
        self._one_at_a_time = Lock()
        self._wait, self._handle = psycopg.Connection.wait, httpx2.HTTPTransport.handle_request
        #: The requests of the last transaction that changed what stays, and of the one under way.
        self._ways: WeakKeyDictionary[Any, tuple[list[str], list[str]]] = WeakKeyDictionary()

    def begin(self) -> None:
        """Watch all that psycopg and the HTTP client send from now on."""
        watch = self

        def wait(connection: Any, request: Request, *limits: Any) -> Any:
            return watch._of_postgres(connection, request, *limits)

        def handle(transport: Any, request: httpx2.Request) -> httpx2.Response:
            return watch._of_http(transport, request)

        psycopg.Connection.wait = wait  # type: ignore[method-assign, assignment]
        httpx2.HTTPTransport.handle_request = handle  # type: ignore[method-assign, assignment]

    def _of_postgres(self, connection: Any, request: Request, *limits: Any) -> Any:
        past, names = self._ways.setdefault(connection, ([], []))
        names.append(_name_of(request))
        try:
            return self._wait(connection, request, *limits)
        finally:
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                # For others it makes no difference to the next request that is never sent.
                if not all(map(_is_read, names)):
                    self._reach([*past, "", *names])
                    past = names
                self._ways[connection] = past, []

    def _of_http(self, transport: Any, request: httpx2.Request) -> httpx2.Response:
        name = f"{request.method} {re.sub(r'/org_[^/]*', '/…', request.url.path)}"
        answer = self._handle(transport, request)
        if request.method != "GET":
            self._reach([name])
        return answer

    def _reach(self, requests: list[str]) -> None:
        """Take note of a step, or kill the process there. Nothing is sent after that."""
        way = " → ".join(requests)
        with self._one_at_a_time:
            self._counts[way] += 1
            self.steps.append(Step(way, self._counts[way]))
            if self.steps[-1] == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _name_of(request: Request) -> str:
    """The statement, without values; or what psycopg calls what it sends."""
    sent = request.gi_frame.f_locals if request.gi_frame else {}
    name = str(sent.get("query", request.__name__))
    for pattern, shown in _SHORTENED:
        name = re.sub(pattern, shown, name)
    return name


def _is_read(name: str) -> bool:
    # How many requests were sent of late is nothing that a mirror could lose.
    return name.startswith(_READS) or "workos_request_budget" in name
