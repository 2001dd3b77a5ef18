"""The webhook, with real signatures, through Django with its middleware and CSRF checks on."""

import asyncio
import json
import time
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import Client
from django_q.models import OrmQ

from orgs.db.cursor import read_cursor
from orgs.domain.status import ProblemCode
from orgs.models import Organization, WorkOSEvent
from orgs.services import maintenance
from orgs.services import webhook as webhook_service
from orgs.services.queue import SYNC_EVENTS
from orgs.services.status import current_status
from orgs.services.stream import drain_to_end
from orgs.services.webhook import MAX_BODY_BYTES
from orgs.testing import FakeWorkOS, sign
from tests.builders import a_signature, post_webhook
from tests.concurrency import another_program, in_thread, wait_until
from tests.processes import WEBHOOK_SECRET
from tests.triggers import a_trigger

pytestmark = pytest.mark.usefixtures("database")

URL = "/webhooks/workos/"
MEBIBYTE = MAX_BODY_BYTES
ORGANIZATION = {"id": "org_1", "name": "Acme", "updated_at": "2026-01-15T12:00:00Z"}
EVENT = {"id": "event_1", "event": "organization.updated", "data": ORGANIZATION}
BODY = json.dumps(EVENT).encode()


@pytest.fixture
def client() -> Client:
    return Client(enforce_csrf_checks=True, raise_request_exception=True)


def post(client: Client, body: Any = EVENT, *, signature: str | None = None) -> Any:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return post_webhook(client, body, signature)


@pytest.fixture(autouse=True)
def no_webhooks_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = maintenance.RefusedWebhooks()
    monkeypatch.setattr(webhook_service, "refused_webhooks", fresh)


# Accepted -----------------------------------------------------------------------------------


def test_a_new_event_is_announced_and_a_drain_enqueued(client: Client) -> None:
    headers = {"WorkOS-Signature": a_signature(BODY)}
    response = client.post("/webhooks/workos", BODY, "application/json", headers=headers)

    assert (response.status_code, response.content) == (204, b"")
    assert response.wsgi_request.body, "a middleware may read it after the view too"
    entry = WorkOSEvent.objects.get()
    told = (entry.id, entry.type, entry.workos_organization_id)
    assert told == ("event_1", "organization.updated", "org_1")
    assert entry.announced_at is not None
    assert (entry.outcome, entry.processed_at, entry.payload) == (None, None, None)
    assert [queued.func() for queued in OrmQ.objects.all()] == [SYNC_EVENTS]
    # Its content is never applied.
    assert not Organization.objects.exists()
    assert read_cursor().position.last_event_id is None


def test_of_a_burst_one_enqueues(client: Client) -> None:
    """When the next one does is in ``db/test_leases``."""
    for number in range(3):
        assert post(client, EVENT | {"id": f"event_{number}"}).status_code == 204

    assert OrmQ.objects.count() == 1
    assert WorkOSEvent.objects.count() == 3


def test_a_repeated_event_is_noted_once_by_either_secret(client: Client, sync_setting: Any) -> None:
    sync_setting(WEBHOOK_SECRETS=(WEBHOOK_SECRET, "whsec_new_secret"))
    post(client)
    first = WorkOSEvent.objects.get().announced_at

    again = post(client, signature=a_signature(BODY, "whsec_new_secret"))

    assert again.status_code == 204
    assert WorkOSEvent.objects.get().announced_at == first
    assert OrmQ.objects.count() == 1


def test_no_task_for_what_is_known_or_not_followed(client: Client, workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()

    unknown = post(client, {**EVENT, "event": "vault.data.created"})
    known = post(client, workos.all_events()[0])

    assert (unknown.status_code, known.status_code) == (204, 204)
    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.announced_at is None) == ("created", False)
    assert OrmQ.objects.count() == 0


def test_the_task_comes_after_the_commit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by_others: list[object] = []

    def look(_: str) -> None:
        with another_program() as other:
            seen_by_others.append(other.execute("SELECT id FROM workos_event").fetchone())

    monkeypatch.setattr(webhook_service, "enqueue", look)

    post(client)

    assert seen_by_others == [("event_1",)]


@pytest.mark.parametrize(
    ("table", "status", "line"),
    [
        pytest.param("workos_event", 503, "a webhook could not be stored", id="ledger"),
        pytest.param("workos_sync_cursor", 204, "a webhook enqueued no drain", id="cursor"),
        pytest.param("django_q_ormq", 204, "could not enqueue orgs.tasks.sync_events", id="queue"),
    ],
)
def test_a_refusal_is_one_line_without_the_values_of_the_row(
    client: Client, caplog: pytest.LogCaptureFixture, table: str, status: int, line: str
) -> None:
    with a_trigger("RAISE 'it says no' USING DETAIL = 'Confidential';", table=table):
        response = post(client)

    assert response.status_code == status
    assert line in caplog.text
    assert "PostgreSQL P0001: it says no" in caplog.text
    assert "Traceback" not in caplog.text
    assert "Confidential" not in caplog.text


# Refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, b"\xff\xfe", b"[" * 9_000], ids=["event", "bytes", "deep"])
def test_what_is_not_signed_is_401_whatever_it_is(client: Client, body: bytes) -> None:
    signatures = (
        *("", "t=1", "\x00", a_signature(body)[:20] + "\xfc\xe9", a_signature(body, "other")),
        *(a_signature(b"other"), sign(WEBHOOK_SECRET, body, int((time.time() - 181) * 1000))),
    )

    answers = {post(client, body, signature=signature).status_code for signature in signatures}

    assert answers == {401}


@pytest.mark.parametrize(
    ("headers", "is_logged"), [({"WorkOS-Signature": "t=1, v1=0"}, True), ({}, False)]
)
def test_a_signature_that_does_not_match_is_logged_with_what_it_may_be(
    client: Client, caplog: pytest.LogCaptureFixture, headers: Any, *, is_logged: bool
) -> None:
    response = client.post(URL, BODY, content_type="application/json", headers=headers)

    assert response.status_code == 401
    assert ("WORKOS_WEBHOOK_SECRET is not its endpoint's" in caplog.text) == is_logged


def test_refused_webhooks_are_a_warning_until_one_is_accepted(client: Client) -> None:
    def is_warned() -> bool:
        codes = {problem.code for problem in current_status().problems}
        return ProblemCode.WEBHOOKS_REFUSED in codes

    for _ in range(9):
        post(client, BODY, signature="t=1, v1=0")
        client.post(URL, BODY, content_type="application/json")
    malformed = is_warned()
    for _ in range(3):
        post(client, BODY, signature=a_signature(BODY, "another secret"))
    refused = is_warned()
    post(client)

    assert (malformed, refused, is_warned()) == (False, True, False)


def test_what_is_no_event_is_400(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for body in (b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b'{"id": 5}'):
        assert post(client, body).status_code == 400

    assert "a signed webhook is not an event" in caplog.text


class Unreadable(BytesIO):
    """Raises an error instead of being read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, *_: Any) -> bytes:
        raise self.error


class Endless(BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "it would never end"
        return b"x" * size


CHUNKED = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}


LENGTHS = {"": 401, "0": 401, "-5": 401, "\u0663": 401, "1e9": 400, str(MEBIBYTE): 204}


@pytest.mark.parametrize(
    ("stream", "environ", "status"),
    [
        pytest.param(BytesIO(BODY), CHUNKED, 204, id="chunks"),
        pytest.param(BytesIO(b"{" + b" " * MEBIBYTE), CHUNKED, 413, id="chunks, too long"),
        pytest.param(Endless(), CHUNKED, 413, id="chunks without end"),
        pytest.param(Unreadable(ValueError("no chunk")), CHUNKED, 400, id="chunks that are none"),
        pytest.param(Unreadable(OSError("reset")), {"CONTENT_LENGTH": "9"}, 400, id="breaks off"),
        pytest.param(
            Unreadable(AssertionError("it was read")),
            {"CONTENT_LENGTH": str(MEBIBYTE + 1)},
            413,
            id="too long, and stays unread",
        ),
        *(
            pytest.param(
                BytesIO(BODY.ljust(MEBIBYTE)), {"CONTENT_LENGTH": length}, status, id=f"{length!a}"
            )
            for length, status in LENGTHS.items()
        ),
    ],
)
def test_a_body_is_read_up_to_a_mebibyte_and_is_never_a_500(
    client: Client, stream: BytesIO, environ: dict[str, Any], status: int
) -> None:
    signed = {**environ, "wsgi.input": stream}
    signed["HTTP_WORKOS_SIGNATURE"] = a_signature(stream.getvalue())

    assert client.generic("POST", URL, b"", **signed).status_code == status


def test_chunks_that_asgi_has_read_are_too_long_too() -> None:
    sent: list[Any] = []
    chunks = [{"type": "http.request", "body": b" " * MEBIBYTE, "more_body": n} for n in (2, 1, 0)]

    async def receive() -> Any:
        return chunks.pop(0) if chunks else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": URL, "headers": [(b"host", b"localhost")]}
    asyncio.run(ASGIHandler()(scope, receive, send))

    assert sent[0]["status"] == 413


def test_another_method_is_405(client: Client) -> None:
    for method in ("get", "head", "put", "patch", "delete", "options"):
        response = getattr(client, method)(URL)

        assert (response.status_code, response.headers["Allow"]) == (405, "POST")


# Sent again ---------------------------------------------------------------------------------


def test_without_a_secret_it_is_503_and_said(
    client: Client, sync_setting: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sync_setting(WEBHOOK_SECRETS=())

    response = post(client)

    assert response.status_code == 503
    assert "WORKOS_WEBHOOK_SECRET is not set" in caplog.text


@pytest.mark.parametrize(
    ("table", "status"),
    [("workos_event", 503), ("django_q_ormq", 204), ("workos_sync_cursor", 204)],
)
def test_a_webhook_waits_for_no_lock_as_long_as_a_drain_may(
    client: Client, sync_setting: Any, monkeypatch: pytest.MonkeyPatch, table: str, status: int
) -> None:
    assert webhook_service._LONGEST_WAIT < 5 / 2, "WorkOS waits: for the ledger and for the task"
    sync_setting(LOCK_TIMEOUT=600.0)
    monkeypatch.setattr(webhook_service, "_LONGEST_WAIT", 0.05)

    with in_thread() as start, another_program() as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        posting = start(lambda: post(client))
        wait_until(posting.done, "WorkOS has its answer")

    assert posting.result().status_code == status
