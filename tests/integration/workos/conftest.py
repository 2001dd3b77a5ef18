"""A server that answers whatever a test wants, below what the fake WorkOS can say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from orgs.workos import close


@contextmanager
def answering(status: int, pieces: Iterable[bytes], headers: Mapping[str, str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        close()
        server.shutdown()
        server.server_close()


@pytest.fixture
def workos_answers(sync_setting: Any) -> Iterator[Callable[..., None]]:
    """Make WorkOS answer everything with this: ``workos_answers(404, b"{}", {"Date": …})``."""
    with ExitStack() as servers:

        def answer(status: int, body: bytes | Iterable[bytes], headers: Mapping[str, str]) -> None:
            pieces = [body] if isinstance(body, bytes) else body
            sync_setting(BASE_URL=servers.enter_context(answering(status, pieces, headers)))

        yield answer
