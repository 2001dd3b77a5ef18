"""The HTTP server: reads requests from sockets and writes answers to them, nothing else."""

import http.client
import logging
import os
import socket
import socketserver
import struct
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from threading import Event, Lock, Thread, current_thread
from typing import Any, Final

from .faults import NoAnswer
from .messages import Answer, Refused, Request

logger = logging.getLogger(__name__)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_ACCEPT_POLL: Final = 0.02


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves `respond` over HTTP/1.1, a thread for each connection.

    `stopping` is set when it closes; whoever waits inside `respond` waits on it.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, respond: Callable[[Request], Answer]) -> None:
        self.respond = respond
        self.stopping = Event()
        self._lock = Lock()
        self._connections: dict[Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", port), _Connection)
        self._thread = Thread(
            target=self.serve_forever, args=(_ACCEPT_POLL,), name="fake-workos", daemon=True
        )

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop serving: end every connection, and wait for every thread."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join()
        with self._lock:
            connections = list(self._connections.items())
        for thread, connection in connections:
            with suppress(OSError):  # its thread has closed it meanwhile
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread that `close` can find."""
        thread = Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name=f"fake-workos-{client_address[1]}",
            daemon=True,
        )
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._connections[current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong, unless it is only that a client left."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            # socketserver calls this while it handles the exception.
            logger.exception("Connection from %s failed", client_address)  # noqa: LOG004


class _Connection(BaseHTTPRequestHandler):
    """One connection; `respond` answers what it reads."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        try:
            request = self._read_request()
            answer = self.server.respond(request)
        except NoAnswer as end:
            self._end(reset=end.reset)
        except Refused as refused:
            self.close_connection = True
            self._write(refused.answer())
        except ConnectionError:  # the client left
            self.close_connection = True
        except Exception:
            logger.exception("%s %s failed", self.command, self.path)
            self._write(Answer.of_json({"message": "The fake WorkOS failed; see its log."}, 500))
        else:
            self._write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 -- http.server's names

    def _read_request(self) -> Request:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            raise Refused(411, "length_required", "A body needs a Content-Length.")
        body = self.rfile.read(int(length))
        return Request.of(self.command, self.path, self.headers.get("Authorization"), body)

    def _write(self, answer: Answer) -> None:
        status = answer.status
        phrase = http.client.responses.get(status, "Unknown")
        lines, body = [f"HTTP/1.1 {status} {phrase}"], b""
        if status not in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            body = answer.body
            lines += [f"Content-Type: {answer.content_type}", f"Content-Length: {len(body)}"]
        # WorkOS's SDK puts the request's id into every error message.
        headers = {"X-Request-ID": f"req_{uuid.uuid4()}", **answer.headers}
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        if self.close_connection or self.server.stopping.is_set():
            self.close_connection = True
            lines.append("Connection: close")
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.wfile.write(head.encode("latin-1") + body)  # in one segment

    def _end(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            os.close(self.connection.detach())  # now, or the server would say goodbye first

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""
