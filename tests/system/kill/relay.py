"""Stands between a process and a server, and asks before it passes on a request or an answer."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Address: TypeAlias = Path | tuple[str, int]
"""A UNIX socket, or a host and a port."""

Moment: TypeAlias = Literal["before", "after"]
"""A request is about to be passed on to the server, or its answer to the process."""

Way: TypeAlias = tuple[tuple[str, ...], ...]
"""The names of the requests of two transactions of a connection: the last one that changed what
stays, and the one under way. Of HTTP, a request alone: threads share connections."""

Gate: TypeAlias = Callable[[Moment, Way], Awaitable[None]]
"""Called with each moment, and the way to it; what it raises ends the connection."""


@asynccontextmanager
async def relay(
    protocol: "type[Http | PostgreSQL]", *, listen: Address, upstream: Address, gate: Gate
) -> AsyncIterator[Address]:
    """Relays connections, and gives the address where. Ends when both ends of all have hung up."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: Reader, writer: Writer) -> None:
        connection = asyncio.ensure_future(_serve(protocol(), (reader, writer), upstream, gate))
        connections.add(connection)

    if isinstance(listen, Path):
        server = await asyncio.start_unix_server(accept, listen)
        address: Address = listen
    else:
        server = await asyncio.start_server(accept, *listen)
        address = server.sockets[0].getsockname()
    try:
        yield address
    finally:
        server.close()
        await asyncio.gather(*connections)


async def _serve(
    protocol: "Http | PostgreSQL", process: tuple[Reader, Writer], upstream: Address, gate: Gate
) -> None:
    from_process, to_process = process
    if isinstance(upstream, Path):
        from_server, to_server = await asyncio.open_unix_connection(upstream)
    else:
        from_server, to_server = await asyncio.open_connection(*upstream)
    before: Way = ()
    names: tuple[str, ...] = ()
    # One of them hangs up: that is how every connection ends.
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            name, request = await protocol.read_request(from_process)
            names = (*names, name)
            await gate("before", (*before, names))
            to_server.write(request)
            if name == DISCONNECT:
                break
            answer = await protocol.read_answer(from_server)
            if protocol.is_end(answer):
                # For others it makes no difference to the next request that is never sent.
                if not all(map(protocol.is_read, names)):
                    await gate("after", (*before, names))
                    before = (names,) if protocol.is_in_order else ()
                names = ()
            to_process.write(answer)
    for writer in (to_server, to_process):
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


class Http:
    """HTTP/1.1 with a Content-Length, one request after the other."""

    is_in_order = False

    async def read_request(self, reader: Reader) -> tuple[str, bytes]:
        """A request, and its name: a method with its path, without the query and an id."""
        content = await self.read_answer(reader)
        method, target, _ = content.decode("latin-1").split(" ", 2)
        return f"{method} {re.sub(r'/org_[^/?]*', '/…', target).partition('?')[0]}", content

    async def read_answer(self, reader: Reader) -> bytes:
        """Head and body."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await reader.readexactly(int(length[1])) if length else b"")

    def is_end(self, answer: bytes) -> bool:
        """Each request stands for itself."""
        return True

    def is_read(self, name: str) -> bool:
        return name.startswith("GET ")


class PostgreSQL:
    """The PostgreSQL protocol, version 3, without TLS, as ``libpq`` speaks it outside pipelines."""

    is_in_order = True
    _is_connected = False

    async def read_request(self, reader: Reader) -> tuple[str, bytes]:
        """Messages up to the one that PostgreSQL answers; named by the statement they carry."""
        if not self._is_connected:
            self._is_connected = True
            return "connect", await _read_body(reader)
        content, name = b"", ""
        while True:
            kind, message = await _read_message(reader)
            content += message
            if kind in (_QUERY, _PARSE):
                name = _statement(message, follows_name=kind == _PARSE)
            if kind == _QUERY or kind in _NAMES:
                return name or _NAMES[kind], content

    async def read_answer(self, reader: Reader) -> bytes:
        """Messages up to the one that says PostgreSQL is ready, or asks for a password."""
        content = b""
        while True:
            kind, message = await _read_message(reader)
            content += message
            if kind == _READY or (kind == _AUTHENTICATION and message[5:9] not in _AUTHENTICATED):
                return content

    def is_end(self, answer: bytes) -> bool:
        """Of a transaction, or of what was sent outside one."""
        return answer.endswith(b"I")

    def is_read(self, name: str) -> bool:
        # How many requests were sent of late is nothing that a mirror could lose.
        return name.startswith(_READS) or "workos_request_budget" in name


DISCONNECT: Final = "disconnect"

_QUERY, _PARSE, _READY, _AUTHENTICATION = b"Q", b"P", b"Z", b"R"
_NAMES: Final = {b"S": "sync", b"X": DISCONNECT, b"p": "log in"}
_READS: Final = ("SELECT", "BEGIN", "SET", "COMMIT", "ROLLBACK", "SHOW", "connect", "log in")
#: It is over, or over but for the server's own proof.
_AUTHENTICATED: Final = (b"\0\0\0\0", b"\0\0\0\x0c")

#: Values are others in each run, and the time limit stands before a statement, which may write.
_SHORTENED: Final = (
    (r"E?'(?:[^']|'')*'|\b[0-9][0-9.e-]*", "?"),
    (r"\s+", " "),
    (r"^(SELECT set_config\([^;]*; )+", ""),
)


async def _read_message(reader: Reader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    return kind, kind + await _read_body(reader)


async def _read_body(reader: Reader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


def _statement(message: bytes, *, follows_name: bool) -> str:
    """The statement of a message, without values."""
    text = message[5:].split(b"\0")[follows_name].decode().strip()
    for pattern, shown in _SHORTENED:
        text = re.sub(pattern, shown, text)
    return text
