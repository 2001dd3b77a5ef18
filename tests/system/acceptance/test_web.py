"""The web process: a real gunicorn, spoken to over sockets, and left without a database."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connection

from orgs.models import Organization, WorkOSEvent
from orgs.services.stream import drain_to_end
from orgs.services.webhook import MAX_BODY_BYTES
from orgs.testing import FakeWorkOS
from tests.builders import a_signature
from tests.concurrency import another_program, wait_until
from tests.processes import a_web_process, database_url, environment_for, manage
from tests.triggers import changed, execute

pytestmark = pytest.mark.usefixtures("database")

BODY = json.dumps({"id": "event_1", "event": "organization.updated", "data": {"id": "org_1"}})


def ask(port: int, request: bytes) -> int | None:
    """The status of the answer to these very bytes, after which nothing more is sent; None if the
    connection ends without one."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        # A server that has read enough answers and hangs up, whatever is still on its way.
        with suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while piece := connection.recv(65_536):
                answer += piece
    return int(answer.split(b" ", 2)[1]) if answer else None


def a_request(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /webhooks/workos/ HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", body])


def signed(body: bytes = BODY.encode()) -> bytes:
    return f"WorkOS-Signature: {a_signature(body)}".encode()


def length(count: object) -> bytes:
    return f"Content-Length: {count}".encode()


CHUNKED = b"Transfer-Encoding: chunked"


def in_chunks(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def odd_requests() -> dict[str, tuple[bytes, set[int | None]]]:
    """Requests by what is odd about them, and what they may be answered."""
    body, size = BODY.encode(), len(BODY)
    long_body = b"{" + b" " * MAX_BODY_BYTES
    return {
        "too short a body": (a_request(body, signed(), length(size + 1)), {204}),
        "a longer body": (a_request(body + b"more", signed(), length(size)), {204}),
        "no length": (a_request(body, signed()), {401}),
        "a length of nothing": (a_request(body, signed(), length(0)), {401}),
        "a negative length": (a_request(body, signed(), length(-1)), {400}),
        "a length that is no number": (a_request(body, signed(), length("ten")), {400}),
        "a length in another script": (a_request(body, signed(), length("٣")), {400}),
        "an endless length": (a_request(body, signed(), length("9" * 5_000)), {400, 413}),
        "two lengths": (a_request(body, signed(), length(size), length(1)), {400}),
        "length and chunks": (a_request(in_chunks(body), signed(), length(1), CHUNKED), {204, 400}),
        "over a mebibyte": (a_request(long_body, signed(), length(len(long_body))), {413, None}),
        "in chunks": (a_request(in_chunks(body), signed(), CHUNKED), {204}),
        "in chunks over a mebibyte": (
            a_request(in_chunks(long_body), signed(), CHUNKED),
            {413, None},
        ),
        "a chunk that breaks off": (a_request(in_chunks(body)[:-9], signed(), CHUNKED), {400}),
        "chunks that are none": (a_request(b"zz\r\n" + body, signed(), CHUNKED), {400}),
        "a negative chunk": (a_request(b"-1\r\n" + body, signed(), CHUNKED), {400}),
        "an unknown coding": (a_request(body, signed(), b"Transfer-Encoding: odd"), {400, 501}),
        "two signatures": (a_request(body, signed(), signed(), length(size)), {401}),
        "an endless signature": (
            a_request(body, b"WorkOS-Signature: " + b"x" * 100_000, length(size)),
            {400, 431, None},
        ),
        "a header without a name": (a_request(body, b": x", length(size)), {400}),
        "10,000 headers": (a_request(body, *[b"X: y"] * 10_000), {400, 431, None}),
        "an unknown host": (
            a_request(body, signed(), length(size)).replace(b"localhost", b"evil.example"),
            {400},
        ),
        "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, {400, None}),
        "nothing": (b"", {None}),
    }


def odd_headers() -> dict[str, tuple[bytes, set[int | None]]]:
    """Requests with each byte there is in a header's value, and in a header's name."""
    value, name = b"WorkOS-Signature: t=1%c, v1=2", b"X%c: 1"
    return {
        f"{byte:#04x} in {header!r}": (a_request(b"", header % byte, length(0)), {400, 401})
        for header in (value, name)
        for byte in range(256)
    }


def test_whatever_the_bytes_of_a_request_it_is_answered_and_never_500(
    workos: FakeWorkOS, tmp_path: Path
) -> None:
    requests = odd_requests() | odd_headers()

    with a_web_process(environment_for(workos), tmp_path / "web.log") as port:
        answers = {kind: ask(port, request) for kind, (request, _) in requests.items()}
        good = ask(port, a_request(BODY.encode(), signed(), length(len(BODY))))

    assert {
        kind: status for kind, status in answers.items() if status not in requests[kind][1]
    } == {}
    assert good == 204
    assert list(WorkOSEvent.objects.values_list("id", flat=True)) == ["event_1"]


# Without a database to speak to --------------------------------------------------------------


@pytest.fixture
def of_one_connection() -> Iterator[str]:
    """A role that may have a single connection, as when all that there are have been taken."""
    name = "of_one_connection"
    password = connection.get_connection_params().get("password") or "none needed"
    with changed(
        f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 1 PASSWORD '{password}';"
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name};"
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}",
        f"DROP OWNED BY {name}; DROP ROLE {name}",
    ):
        yield name


def test_a_database_out_of_connections_parks_and_loses_nothing(
    workos: FakeWorkOS, of_one_connection: str, tmp_path: Path
) -> None:
    workos.create_organization(name="Acme")
    environment = environment_for(workos, DATABASE_URL=database_url(user=of_one_connection))

    with a_web_process(environment, tmp_path / "web.log") as port:
        webhook = a_request(BODY.encode(), signed(), length(len(BODY)))
        with another_program(user=of_one_connection):
            refused = ask(port, webhook)
            failed = manage(environment, "reconcile_workos", "--events-only")
            parked = WorkOSEvent.objects.exists()
        of_role = "SELECT FROM pg_stat_activity WHERE usename = %s"
        wait_until(lambda: not execute(of_role, of_one_connection), "the connection is free")
        taken = ask(port, webhook)
    drained = drain_to_end().drained

    assert (refused, taken) == (503, 204)
    assert not parked
    assert (failed.returncode, drained) == (1, True)
    assert "too many connections for role" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert Organization.objects.get().name == "Acme"
    assert not WorkOSEvent.objects.parked().exists()
