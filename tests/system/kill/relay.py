"""Stands between a process and a server, and asks before it passes on a request or an answer."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Address: TypeAlias = Path | tuple[str, int]
"""A UNIX socket, or a host and a port."""

Moment: TypeAlias = Literal["before", "after"]
"""A request is about to be passed on to the server, or its answer to the process."""

Gate: TypeAlias = Callable[[Moment, str], Awaitable[None]]
"""Called with each moment and the request's name; what it raises ends the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a process sends before it waits for an answer."""

    name: str
    content: bytes
    is_answered: bool = True


class Conversation(Protocol):
    """How to cut a connection into requests and answers."""

    async def read_request(self, reader: Reader) -> Request:
        """The next request; ``IncompleteReadError`` if the process has nothing more to say."""

    async def read_answer(self, reader: Reader) -> bytes:
        """All that the server says to one request."""

    def is_lasting(self, request: Request, answer: bytes) -> bool:
        """Whether the server may have done something for it that stays if nothing follows."""


@asynccontextmanager
async def relay(
    protocol: Callable[[], Conversation], *, listen: Address, upstream: Address, gate: Gate
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
    protocol: Conversation, process: tuple[Reader, Writer], upstream: Address, gate: Gate
) -> None:
    from_process, to_process = process
    from_server, to_server = await _connect(upstream)
    # One of them hangs up: that is how every connection ends.
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            request = await protocol.read_request(from_process)
            await gate("before", request.name)
            to_server.write(request.content)
            if not request.is_answered:
                break
            answer = await protocol.read_answer(from_server)
            # For others it makes no difference to the next request that is never sent.
            if protocol.is_lasting(request, answer):
                await gate("after", request.name)
            to_process.write(answer)
    for writer in (to_server, to_process):
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _connect(address: Address) -> tuple[Reader, Writer]:
    if isinstance(address, Path):
        return await asyncio.open_unix_connection(address)
    return await asyncio.open_connection(*address)


class Http:
    """HTTP/1.1 with a Content-Length, one request after the other."""

    async def read_request(self, reader: Reader) -> Request:
        """A method with its path, the query left out."""
        content = await self._read(reader)
        method, target, _ = content.split(b" ", 2)
        path = target.partition(b"?")[0]
        return Request(f"{method.decode()} {path.decode()}", content)

    async def read_answer(self, reader: Reader) -> bytes:
        """Head and body."""
        return await self._read(reader)

    def is_lasting(self, request: Request, answer: bytes) -> bool:
        """All but reads."""
        return not request.content.startswith(b"GET ")

    async def _read(self, reader: Reader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await reader.readexactly(int(length[1])) if length else b"")


class PostgreSQL:
    """The PostgreSQL protocol, version 3, without TLS, as ``libpq`` speaks it outside pipelines."""

    def __init__(self) -> None:
        self._is_connected = False

    async def read_request(self, reader: Reader) -> Request:
        """Messages up to the one that PostgreSQL answers; named by the statement they carry."""
        if not self._is_connected:
            self._is_connected = True
            return Request("connect", await _read_body(reader))
        content, name = b"", ""
        while True:
            kind, message = await _read_message(reader)
            content += message
            if kind in _CARRY_STATEMENT:
                name = _statement(message, follows_name=kind == _PARSE)
            if kind in _END_OF_REQUEST:
                return Request(name or _NAMES[kind], content, is_answered=kind != _TERMINATE)

    async def read_answer(self, reader: Reader) -> bytes:
        """Messages up to the one that says PostgreSQL is ready, or asks for a password."""
        content = b""
        while True:
            kind, message = await _read_message(reader)
            content += message
            if kind == _READY or (kind == _AUTHENTICATION and message[5:9] not in _AUTHENTICATED):
                return content

    def is_lasting(self, request: Request, answer: bytes) -> bool:
        """A transaction's end, or what was sent outside one and is no read."""
        return answer.endswith(_IDLE) and not request.name.startswith(_READS)


_QUERY, _PARSE, _SYNC, _TERMINATE, _PASSWORD = b"Q", b"P", b"S", b"X", b"p"
_CARRY_STATEMENT: Final = (_QUERY, _PARSE)
_NAMES: Final = {_SYNC: "sync", _TERMINATE: "disconnect", _PASSWORD: "log in"}
_END_OF_REQUEST: Final = (_QUERY, *_NAMES)
_READY, _AUTHENTICATION = b"Z", b"R"
_IDLE: Final = b"I"
_READS: Final = ("SELECT", "ROLLBACK", "connect", "log in")
#: It is over, or over but for the server's own proof.
_AUTHENTICATED: Final = (b"\0\0\0\0", b"\0\0\0\x0c")

_LONGEST_NAME: Final = 100
_SHORTENED: Final = (
    (r"E?'(?:[^']|'')*'|\b[0-9][0-9.e-]*", "?"),
    (r"\s+", " "),
    (r"^SELECT .* FROM ", "SELECT … FROM "),
)


async def _read_message(reader: Reader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    return kind, kind + await _read_body(reader)


async def _read_body(reader: Reader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length) - 4)


def _statement(message: bytes, *, follows_name: bool) -> str:
    """The statement of a message, without values: those are others in each run."""
    parts = message[5:].split(b"\0")
    text = parts[1 if follows_name else 0].decode()
    for pattern, shown in _SHORTENED:
        text = re.sub(pattern, shown, text)
    return text.strip()[:_LONGEST_NAME]
