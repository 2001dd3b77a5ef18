"""A webhook endpoint that keeps what it gets."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

SECRET = "whsec_test"


class Receiver:
    """Answers 204 unless other ``statuses`` are given, as soon as ``answers`` is set."""

    def __init__(self) -> None:
        self.received: list[tuple[Mapping[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answers = threading.Event()
        self.answers.set()
        handler = type("Handler", (_Connection,), {"receiver": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/workos/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def names(self) -> list[str]:
        return [json.loads(body)["data"]["name"] for _, body in self.received]


class _Connection(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.receiver.received.append((dict(self.headers), body))
        self.receiver.answers.wait()
        self.send_response(self.receiver.statuses.pop(0) if self.receiver.statuses else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
