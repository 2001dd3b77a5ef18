"""The webhook, with real signatures, through Django with its middleware and CSRF checks on."""

import json
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from django.test import Client
from django_q.models import OrmQ
from hypothesis import given
from hypothesis import strategies as st

from orgs.db.cursor import ensure_cursor, read_cursor
from orgs.db.leases import Lease, clear_enqueued
from orgs.domain.status import ProblemCode
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services import maintenance
from orgs.services import webhook as webhook_service
from orgs.services.queue import SYNC_EVENTS
from orgs.services.status import current_status
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS, sign
from tests.builders import a_signature, no_redis, post_webhook
from tests.concurrency import another_program, in_thread, wait_until
from tests.processes import WEBHOOK_SECRET
from tests.triggers import a_trigger

pytestmark = pytest.mark.usefixtures("database")

URL = "/webhooks/workos/"
MEBIBYTE = 1024 * 1024
ORGANIZATION = {"id": "org_1", "name": "Acme", "updated_at": "2026-01-15T12:00:00Z"}
EVENT = {"id": "event_1", "event": "organization.updated", "data": ORGANIZATION}
BODY = json.dumps(EVENT).encode()


@pytest.fixture
def client() -> Client:
    return Client(enforce_csrf_checks=True, raise_request_exception=True)


def post(client: Client, body: Any = EVENT, *, signature: str | None = None) -> Any:
    return post_webhook(
        client, body if isinstance(body, bytes) else json.dumps(body).encode(), signature
    )


def generic(client: Client, stream: BytesIO, **environ: Any) -> int:
    """The status of a POST whose body is what the server reads from this stream."""
    environ = {"wsgi.input": stream, **environ}
    return int(client.generic("POST", URL, b"", **environ).status_code)


def enqueued() -> int:
    return len(OrmQ.objects.all())


@pytest.fixture(autouse=True)
def no_webhooks_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = maintenance.RefusedWebhooks()
    monkeypatch.setattr(webhook_service, "refused_webhooks", fresh)


# Accepted -----------------------------------------------------------------------------------


def test_a_new_event_is_announced_and_a_drain_enqueued(client: Client) -> None:
    headers = {"WorkOS-Signature": a_signature(BODY)}
    response = client.post("/webhooks/workos", BODY, "application/json", headers=headers)

    assert (response.status_code, response.content) == (204, b"")
    entry = WorkOSEvent.objects.get()
    told = (entry.id, entry.type, entry.workos_organization_id)
    assert told == ("event_1", "organization.updated", "org_1")
    assert entry.announced_at is not None
    assert (entry.outcome, entry.processed_at, entry.payload) == (None, None, None)
    assert [queued.func() for queued in OrmQ.objects.all()] == [SYNC_EVENTS]
    # Its content is never applied.
    assert not Organization.objects.exists()
    assert read_cursor().position.last_event_id is None


def test_of_a_burst_one_enqueues_until_a_drain_begins_or_no_worker_does(client: Client) -> None:
    for number in range(3):
        post(client, EVENT | {"id": f"event_{number}"})
    of_the_burst = enqueued()
    clear_enqueued()
    post(client, EVENT | {"id": "event_3"})
    after_a_drain = enqueued()
    SyncCursor.objects.update(rung_until=datetime.now(UTC) - timedelta(seconds=1))

    post(client, EVENT | {"id": "event_4"})

    assert (of_the_burst, after_a_drain, enqueued()) == (1, 2, 3)


def test_a_repeated_event_is_accepted_by_either_secret_without_a_second_row_or_task(
    client: Client, sync_setting: Any
) -> None:
    sync_setting(WEBHOOK_SECRETS=(WEBHOOK_SECRET, "whsec_new_secret"))
    post(client)
    first = WorkOSEvent.objects.get().announced_at

    again = post(client, signature=a_signature(BODY, "whsec_new_secret"))

    assert again.status_code == 204
    assert WorkOSEvent.objects.get().announced_at == first
    assert enqueued() == 1


def test_an_event_of_a_type_that_is_not_followed_leaves_no_trace(client: Client) -> None:
    response = post(client, {**EVENT, "event": "vault.data.created"})

    assert response.status_code == 204
    assert (WorkOSEvent.objects.count(), enqueued()) == (0, 0)


def test_an_event_that_the_stream_has_brought_already_enqueues_nothing(
    client: Client, workos: FakeWorkOS
) -> None:
    workos.create_organization(name="Acme")
    drain_to_end()

    response = post(client, workos.all_events()[0])

    assert response.status_code == 204
    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.announced_at is None) == ("created", False)
    assert enqueued() == 0


def test_a_waiting_drain_needs_no_task(client: Client) -> None:
    ensure_cursor()
    Lease.DRAIN.acquire(60)

    response = post(client)

    assert response.status_code == 204
    assert (WorkOSEvent.objects.count(), enqueued()) == (1, 0)


def test_the_task_is_enqueued_after_the_commit(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_queue_that_cant_be_reached_loses_no_webhook(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    no_redis(monkeypatch)

    assert post(client).status_code == 204
    assert "could not enqueue orgs.tasks.sync_events; the minute schedule will" in caplog.text


def test_a_delivery_of_the_fake_is_accepted(
    live_server: Any, workos: FakeWorkOS, settings: Any
) -> None:
    workos.add_webhook_endpoint(url=f"{live_server.url}{URL}", secret=WEBHOOK_SECRET)

    workos.create_organization(name="Acme")

    assert workos.wait_for_deliveries()
    assert [delivery["status"] for delivery in workos.deliveries()] == [204]
    assert WorkOSEvent.objects.get().type == "organization.created"


# Refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [BODY, b"\xff\xfe", b"[" * 100_000], ids=["event", "bytes", "deep"]
)
def test_what_is_not_signed_is_401_whatever_it_is(client: Client, body: bytes) -> None:
    signatures = (
        *("", "t=1", "nonsense", "t=, v1=", "\x00", a_signature(body)[:20] + "\xfc\xe9"),
        a_signature(body, "another secret"),
        a_signature(b"another body"),
        sign(WEBHOOK_SECRET, body, int((time.time() - 181) * 1000)),
    )

    answers = [post(client, body, signature=signature).status_code for signature in signatures]

    assert answers == [401] * len(signatures)


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


def test_what_is_signed_and_not_an_event_is_400(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_a_body_of_a_mebibyte_is_read_and_a_longer_one_is_413_and_stays_unread(
    client: Client,
) -> None:
    unread = Unreadable(AssertionError("the body was read"))
    body = BODY[:-1] + b" " * (MEBIBYTE - len(BODY)) + b"}"

    assert generic(client, unread, CONTENT_LENGTH=str(MEBIBYTE + 1)) == 413
    assert post(client, body).status_code == 204


@pytest.mark.parametrize(
    ("body", "status"), [(BODY, 204), (b"{" + b" " * MEBIBYTE, 413)], ids=["an event", "too long"]
)
def test_a_body_in_chunks_is_read_up_to_a_mebibyte(
    client: Client, body: bytes, status: int
) -> None:
    signed = {**CHUNKED, "HTTP_WORKOS_SIGNATURE": a_signature(body)}

    assert generic(client, BytesIO(body), **signed) == status


@pytest.mark.parametrize(
    ("stream", "environ", "status"),
    [
        pytest.param(Unreadable(OSError("reset")), {"CONTENT_LENGTH": "9"}, 400, id="breaks off"),
        pytest.param(Unreadable(ValueError("no chunk")), CHUNKED, 400, id="chunks that are none"),
        pytest.param(Endless(), CHUNKED, 413, id="chunks without end"),
        *(
            pytest.param(BytesIO(BODY), {"CONTENT_LENGTH": length}, status, id=f"length {length!a}")
            for length, status in (
                ("", 401),
                ("0", 401),
                ("-5", 401),
                ("\u0663", 401),
                ("1e9", 400),
            )
        ),
    ],
)
def test_a_body_that_cant_be_read_is_no_500(
    client: Client, stream: BytesIO, environ: dict[str, Any], status: int
) -> None:
    assert generic(client, stream, **environ) == status


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
    sync_setting(LOCK_TIMEOUT=600.0)
    monkeypatch.setattr(webhook_service, "_LONGEST_WAIT", 0.05)

    with in_thread() as start, another_program() as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        posting = start(lambda: post(client))
        wait_until(posting.done, "WorkOS has its answer")

    assert posting.result().status_code == status


def test_the_longest_wait_of_a_webhook_is_shorter_than_workoss_patience() -> None:
    assert webhook_service._LONGEST_WAIT < 5 / 2, "one for the ledger, one for the task"


@pytest.mark.usefixtures("no_database")
def test_without_a_database_it_is_503_and_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = post(client)

    assert response.status_code == 503
    assert "WorkOS will send it again" in caplog.text
    assert "Traceback" not in caplog.text


# Against the SDK ----------------------------------------------------------------------------


@given(
    header=st.one_of(
        st.text(max_size=80),
        st.from_regex(r"t=[0-9]{0,20}, v1=[0-9a-f]{0,64}", fullmatch=True),
        st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")),
    ),
    body=st.binary(max_size=200),
)
def test_nothing_that_a_client_can_send_is_a_500(header: str, body: bytes) -> None:
    client = Client(raise_request_exception=True)

    response = client.generic("POST", URL, body, HTTP_WORKOS_SIGNATURE=header)

    assert response.status_code == 401
