"""Webhook deliveries: signed, posted in the background, and retried; on request, badly."""

import hashlib
import heapq
import hmac
import http.client
import itertools
import random
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Condition, Thread
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from .messages import Json, JsonObject, encode

ReleaseOrder: TypeAlias = Literal["as sent", "reversed", "shuffled"]

SIX_DELIVERIES: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses in seconds between up to six deliveries, which WorkOS spreads over three days."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered webhook endpoint, and the event types it asked for; None is all."""

    url: str
    secret: str
    events: frozenset[str] | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"a webhook endpoint needs an http or https URL, not {self.url!r}")
        if not self.secret:
            raise ValueError("a webhook endpoint needs a secret")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one event to one endpoint; `attempt` counts from 1."""

    endpoint: Endpoint
    event_id: str
    event_type: str | None
    body: bytes
    attempt: int = 1

    def record(self, status: int | None, error: str | None = None) -> JsonObject:
        return {
            "event_id": self.event_id,
            "event": self.event_type,
            "url": self.endpoint.url,
            "attempt": self.attempt,
            "status": status,
            "error": error,
        }


def sign(secret: str, body: bytes, milliseconds: int) -> str:
    """Return the `WorkOS-Signature` of a body sent at a time: HMAC-SHA256 over both."""
    signed = f"{milliseconds}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={milliseconds}, v1={digest}"


class WebhookSender:
    """Delivers events to endpoints. Thread-safe; what is queued survives a stop and a start.

    One thread delivers in order; more of them don't, like WorkOS. Failed deliveries, those that
    get no connection or no 2xx in time, are repeated after each of the pauses.
    """

    def __init__(self, *, pauses: Sequence[float], timeout: float, threads: int) -> None:
        self._pauses = tuple(pauses)
        self._timeout = timeout
        self._thread_count = threads
        self._threads: list[Thread] = []
        self._running = False
        self._changed = Condition()
        self._endpoints: list[Endpoint] = []
        # A heap of (due by the monotonic clock, order of queueing, delivery).
        self._queue: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._under_way = 0
        self._connections: set[http.client.HTTPConnection] = set()
        self._held: list[Delivery] | None = None
        self._records: list[JsonObject] = []
        self._to_drop = 0
        self._dropped_events: set[str] = set()
        self._copies = 1
        self._delay = 0.0

    def start(self) -> None:
        self._running = True
        self._threads = [
            Thread(target=self._work, name=f"fake-workos-webhooks-{number}", daemon=True)
            for number in range(self._thread_count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop delivering, and give up what is on its way; it is tried again after a start."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        for connection in list(self._connections):
            with suppress(OSError, AttributeError):  # no socket yet, or none any more
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def publish(self, event_id: str, event: Json) -> None:
        """Queue an event, without `object`, for every endpoint that asked for its type."""
        event_type = event.get("event") if isinstance(event, dict) else None
        if isinstance(event, dict):
            event = {name: value for name, value in event.items() if name != "object"}
        with self._changed:
            wanted = [it for it in self._endpoints if it.events is None or event_type in it.events]
            body = encode(event) if wanted else b""
            for endpoint in wanted:
                self._accept(Delivery(endpoint, event_id, event_type, body))

    # Controls.

    def add_webhook_endpoint(
        self, *, url: str, secret: str, events: Sequence[str] | None = None
    ) -> None:
        """Deliver the events to come to an endpoint, all or those of some types."""
        endpoint = Endpoint(url, secret, None if events is None else frozenset(events))
        with self._changed:
            self._endpoints.append(endpoint)

    def drop_deliveries(self, count: int = 1, *, event_id: str | None = None) -> None:
        """Lose the next deliveries for good, or those of one event that are still to be sent."""
        with self._changed:
            if event_id is None:
                self._to_drop = count
            else:
                self._dropped_events.add(event_id)

    def repeat_deliveries(self, copies: int) -> None:
        """Deliver every event to come so many times; 1 is normal."""
        with self._changed:
            self._copies = copies

    def delay_deliveries(self, seconds: float) -> None:
        """Deliver every event to come so much later; 0 is normal."""
        with self._changed:
            self._delay = seconds

    def hold_deliveries(self) -> None:
        """Deliver nothing that comes until it is released."""
        with self._changed:
            if self._held is None:
                self._held = []

    def release_deliveries(
        self, *, order: ReleaseOrder = "as sent", seed: int | None = None
    ) -> int:
        """Deliver what was held in an order, and hold no more; return how many those were."""
        if order not in ("as sent", "reversed", "shuffled"):
            raise ValueError(f"released as sent, reversed or shuffled: not {order!r}")
        with self._changed:
            held, self._held = self._held or [], None
            if order == "reversed":
                held.reverse()
            elif order == "shuffled":
                random.Random(seed).shuffle(held)
            for delivery in held:
                self._enqueue(delivery, self._delay)
            return len(held)

    def wait_for_deliveries(self, *, timeout: float = 10.0) -> bool:
        """Wait until all is delivered or given up, but for what is held; False if time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle() or not self._running, timeout)
            return self._is_idle()

    def deliveries(self) -> list[JsonObject]:
        """Return what became of each delivery, in the order they ended.

        Each has `event_id`, `event`, `url`, `attempt`, `status` (None if there was no answer)
        and `error` ("dropped" for those lost on request).
        """
        with self._changed:
            return [dict(record) for record in self._records]

    def forget_deliveries(self) -> None:
        """Begin the record of deliveries anew."""
        with self._changed:
            self._records.clear()

    # Below, the caller holds the lock.

    def _accept(self, delivery: Delivery) -> None:
        if self._to_drop > 0:
            self._to_drop -= 1
            self._records.append(delivery.record(None, "dropped"))
            return
        for _ in range(self._copies):
            if self._held is None:
                self._enqueue(delivery, self._delay)
            else:
                self._held.append(delivery)

    def _enqueue(self, delivery: Delivery, pause: float) -> None:
        heapq.heappush(self._queue, (time.monotonic() + pause, next(self._order), delivery))
        self._changed.notify_all()

    def _is_idle(self) -> bool:
        return not self._queue and not self._under_way

    def _next_due(self) -> Delivery | None:
        """Wait for the next delivery; None if the sender stops first."""
        while self._running:
            pause = self._queue[0][0] - time.monotonic() if self._queue else None
            if pause is None or pause > 0:
                self._changed.wait(pause)
                continue
            _, _, delivery = heapq.heappop(self._queue)
            if delivery.event_id not in self._dropped_events:
                return delivery
            self._records.append(delivery.record(None, "dropped"))
            self._changed.notify_all()
        return None

    # Below, it doesn't.

    def _work(self) -> None:
        while True:
            with self._changed:
                delivery = self._next_due()
                if delivery is None:
                    return
                self._under_way += 1
            status, error = self._post(delivery)
            with self._changed:
                self._under_way -= 1
                self._records.append(delivery.record(status, error))
                failed = status is None or not 200 <= status < 300
                if failed and delivery.attempt <= len(self._pauses):
                    pause = self._pauses[delivery.attempt - 1]
                    self._enqueue(replace(delivery, attempt=delivery.attempt + 1), pause)
                self._changed.notify_all()

    def _post(self, delivery: Delivery) -> tuple[int | None, str | None]:
        """Return the status of the answer, or None and what went wrong."""
        url = urlsplit(delivery.endpoint.url)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        is_plain = url.scheme == "http"
        kind = http.client.HTTPConnection if is_plain else http.client.HTTPSConnection
        connection = kind(url.hostname or "", url.port, timeout=self._timeout)
        # Signed anew each time, by the real clock: the receiver compares it with its own.
        signature = sign(delivery.endpoint.secret, delivery.body, int(time.time() * 1000))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "FakeWorkOS",
            "WorkOS-Signature": signature,
        }
        self._connections.add(connection)
        try:
            connection.request("POST", target, delivery.body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            return None, f"{type(error).__name__}: {error}"
        else:
            return response.status, None
        finally:
            self._connections.discard(connection)
            connection.close()
