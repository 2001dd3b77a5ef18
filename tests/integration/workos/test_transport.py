"""The way to WorkOS: the real SDK over real HTTP, against a WorkOS that misbehaves."""

import os
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from orgs import workos as edge
from orgs.domain.budget import Share
from orgs.domain.resources import ORGANIZATIONS
from orgs.domain.status import ReadError
from orgs.domain.types import Position
from orgs.testing import FakeWorkOS
from orgs.workos import pacing, sdk, transport
from tests.builders import TYPES
from tests.concurrency import in_thread, wait_until


def a_status(status: int, body: object) -> dict[str, object]:
    return {"kind": "status", "status": status, "body": body}


def read() -> object:
    return edge.read_events(Position(), types=TYPES, limit=100)


def read_error() -> edge.WorkOSError:
    with pytest.raises(edge.WorkOSError) as raised:
        read()
    return raised.value


# Answers ------------------------------------------------------------------------------------


STATUSES = {
    edge.Refused: [400, 422],
    edge.NotFound: [404],
    edge.Unauthorized: [401, 403],
    edge.Unavailable: [408, 409, 500],
}


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        *(
            pytest.param({"kind": "status", "status": status}, error, id=str(status))
            for error, statuses in STATUSES.items()
            for status in statuses
        ),
        pytest.param({"kind": "html"}, edge.BrokenAnswer, id="a 200 of HTML"),
        pytest.param({"kind": "truncated"}, edge.BrokenAnswer, id="truncated JSON"),
        pytest.param({"kind": "empty"}, edge.BrokenAnswer, id="an empty body"),
        pytest.param({"kind": "body", "body": []}, edge.BrokenAnswer, id="a bare list"),
        pytest.param({"kind": "html", "status": 404}, edge.BrokenAnswer, id="404 of a proxy"),
        pytest.param(a_status(404, []), edge.BrokenAnswer, id="404 of a list"),
        pytest.param(a_status(500, "?"), edge.Unavailable, id="500 of a text"),
        pytest.param({"kind": "html", "status": 502}, edge.Unavailable, id="502"),
        pytest.param({"kind": "reset"}, edge.Unavailable, id="connection reset"),
        pytest.param({"kind": "rate_limited"}, edge.RateLimited, id="429"),
        pytest.param({"kind": "rate_limited", "bare": True}, edge.RateLimited, id="429, no JSON"),
        pytest.param(a_status(429, "Ratelimited"), edge.RateLimited, id="429 of a JSON text"),
    ],
)
def test_an_answer_that_is_not_a_page_is_an_error_and_never_an_empty_page(
    workos: FakeWorkOS, misbehaviour: Any, error: type[Exception]
) -> None:
    workos.create_organization(name="Acme")
    workos.misbehave(**misbehaviour)

    assert type(read_error()) is error
    assert workos.count_requests() == 1, "our own schedules retry, not the SDK"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_two_errors_of_one_cause_have_one_text(workos: FakeWorkOS, status: int) -> None:
    # Each answer of the fake has an X-Request-ID of its own, as WorkOS's have.
    workos.misbehave("status", status=status, times=2)

    assert str(read_error()) == str(read_error())


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"message": "No.", "code": "none"}, "No. (code none)", id="message"),
        pytest.param({"error_description": "No."}, "No.", id="as OAuth says it"),
        pytest.param({"error": "no"}, "no", id="error"),
        pytest.param({"error": "bad key sk_test_fake"}, "bad key ********", id="the key"),
        pytest.param({"message": ["no"]}, "['no']", id="a message that is no text"),
        pytest.param([], "Internal Server Error", id="nothing"),
        pytest.param(
            {"message": "a\n" + "b" * 900}, "a " + "b" * 288 + "…", id="an endless message"
        ),
    ],
)
def test_an_error_says_what_workos_said(workos: FakeWorkOS, body: Any, text: str) -> None:
    workos.misbehave("status", status=500, body=body)

    assert str(read_error()) == f"WorkOS does not answer: HTTP 500: {text}"


# Bounds -------------------------------------------------------------------------------------


def test_a_call_that_gets_no_answer_is_given_up(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(REQUEST_TIMEOUT=0.3)
    workos.misbehave("time_out")

    with in_thread() as start:
        reading = start(read)
        try:
            wait_until(reading.done, "it is given up")
        finally:
            workos.stop()

    assert isinstance(reading.exception(), edge.Unavailable)


def drip(server: socket.socket) -> None:
    """Send a body byte by byte, never long enough apart for a time-out of the client's."""
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)


def test_a_body_that_drips_in_is_given_up(sync_setting: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, in_thread() as start:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        sync_setting(BASE_URL=address, REQUEST_TIMEOUT=0.3)
        start(lambda: drip(server))
        error = read_error()

    assert type(error) is edge.Unavailable
    assert "takes too long" in str(error)


def test_a_long_answer_is_given_up(workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "MAX_ANSWER_BYTES", 10_000)
    acme = workos.create_organization(name="a" * 9_000)
    edge.lookup(ORGANIZATIONS, acme["id"])
    workos.update_organization(acme["id"], name="a" * 11_000)

    with pytest.raises(edge.Unavailable, match="too long"):
        edge.lookup(ORGANIZATIONS, acme["id"])


# Settings and environment -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        *((key, "set WORKOS_API_KEY") for key in ("", None)),
        *((key, "copy it again") for key in ("sk_live\nx", "sk_l\u00efve")),
    ],
)
def test_without_a_key_or_with_one_that_is_none_nothing_is_asked(
    workos: FakeWorkOS, sync_setting: Any, key: str | None, remedy: str
) -> None:
    sync_setting(API_KEY=key)

    with pytest.raises(edge.NotConfigured, match=remedy) as raised:
        read()

    assert "sk_l" not in str(raised.value)
    assert workos.count_requests() == 0


@pytest.mark.parametrize(
    "base_url", ["nonsense", " ", "https://", "ftp://h", "http://\u2603.invalid", "http://a\nb"]
)
def test_an_address_that_is_none_is_a_configuration_error(sync_setting: Any, base_url: str) -> None:
    sync_setting(BASE_URL=base_url)

    error = read_error()

    assert error.kind is ReadError.CLIENT_MISCONFIGURED
    assert str(error) == "WORKOS_BASE_URL is not an address: correct it"


SECRET = "user:hunter2"


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("ALL_PROXY", f"socks5://{SECRET}@h:1", "ALL_PROXY: install the package socksio, or unset"),
        ("HTTPS_PROXY", f"gopher://{SECRET}@h", "HTTPS_PROXY: correct it"),
        ("https_proxy", f"http://{SECRET}/@h", "https_proxy: correct it"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE: correct it"),
        ("SSL_CERT_FILE", "/etc/hostname", "SSL_CERT_FILE: correct it"),
        ("SSLKEYLOGFILE", "/nowhere/k", "with SSLKEYLOGFILE: correct it"),
    ],
    ids=["SOCKS without its package", "odd", "no port", "missing", "no PEM", "a log"],
)
def test_a_client_that_cant_be_built_is_a_configuration_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    for other in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(other, raising=False)
    if name == "SSLKEYLOGFILE":  # which the error names
        monkeypatch.setenv("SSL_CERT_DIR", "/etc")
    monkeypatch.setenv(name, value)

    error = read_error()

    assert error.kind is ReadError.CLIENT_MISCONFIGURED
    assert remedy in str(error)
    assert "hunter2" not in str(error)
    assert str(error) == str(read_error())


def test_certificates_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # With its own certificates, a process has no context of the suite's.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    http: Any = sdk._Backend()._http

    context = http._transport._pool._ssl_context

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    http.close()


@pytest.mark.parametrize("variable", ["WORKOS_REQUEST_TIMEOUT", "WORKOS_ISSUER"])
def test_the_sdks_own_variables_change_nothing(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nonsense")

    read()


def test_a_forked_process_has_connections_and_turns_of_its_own(workos: FakeWorkOS) -> None:
    read()
    parents = transport._client()
    pacing.pacer.pause(600)
    answer, question = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            is_paused = pacing.pacer.take(Share.BULK).is_paused
            shares = "shared" if transport._client() is parents or is_paused else "its own"
            os.write(question, shares.encode())
        finally:
            os._exit(0)
    os.close(question)
    os.waitpid(child, 0)

    assert os.read(answer, 100) == b"its own"
    assert transport._client() is parents
    os.close(answer)


# 429 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        pytest.param("30", 30, id="seconds"),
        pytest.param("Wed, 21 Oct 2015 07:28:20 GMT", 20, id="a date, by WorkOS's clock"),
        pytest.param("Wed, 21 Oct 2015 07:27:00 GMT", None, id="in the past"),
        pytest.param("9" * 500, 900, id="years"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_a_429_pauses_every_call_for_as_long_as_it_asks(
    workos: FakeWorkOS, retry_after: str | None, seconds: float | None
) -> None:
    workos.set_clock_offset(datetime(2015, 10, 21, 7, 28, tzinfo=UTC).timestamp() - time.time())
    workos.misbehave("rate_limited", path=None, times=2, retry_after=retry_after)

    error = read_error()

    assert isinstance(error, edge.RateLimited)
    assert (error.retry_after or None) == (seconds and pytest.approx(seconds, abs=15))
    with pytest.raises(edge.RateLimited, match="asked for a pause" if seconds else "HTTP 429"):
        edge.lookup(ORGANIZATIONS, "org_1")


def test_a_patient_call_waits_for_the_pause_to_end_and_goes_on(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    waits: list[float] = []

    class Interrupt(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            pacing.pacer.forget()
            return False

    pacing.interrupt_by(Interrupt())
    workos.misbehave("rate_limited", path="/organizations", retry_after=30)
    workos.misbehave("rate_limited", path="/organizations", bare=True, times=2)
    try:
        found = edge.lookup(ORGANIZATIONS, acme["id"], patience=60)
    finally:
        pacing.interrupt_by(Event())

    assert found.workos_id == acme["id"]
    assert waits == pytest.approx([30, 2, 4], abs=1), "as asked, then longer each time"
    workos.forget_requests()
    workos.misbehave("rate_limited", path="/organizations", retry_after=30)
    with pytest.raises(edge.RateLimited, match="HTTP 429"):
        edge.lookup(ORGANIZATIONS, acme["id"], patience=20)
    assert workos.count_requests(path="/organizations") == 1, "it is not patient enough"
