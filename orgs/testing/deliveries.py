"""Webhook deliveries: signed, posted in the background, and retried; on request, badly."""

import hashlib
import heapq
import hmac
import http.client
import itertools
import random
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Condition, Thread
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from .messages import Json, JsonObject, encode

ReleaseOrder: TypeAlias = Literal["as sent", "reversed", "shuffled"]

SIX_DELIVERIES: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses in seconds between up to six deliveries, which WorkOS spreads over three days."""

_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered webhook endpoint, and the event types it asked for; None is all."""

    url: str
    secret: str
    events: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what nothing could be posted to; ValueError says why."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            message = f"a webhook endpoint needs an http or https URL, not {self.url!r}"
            raise ValueError(message)
        if not self.secret:
            message = "a webhook endpoint needs a secret"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one event to one endpoint; `attempt` counts from 1."""

    endpoint: Endpoint
    event_id: str
    event_type: str | None
    body: bytes
    attempt: int = 1

    def record(self, status: int | None, error: str | None = None) -> JsonObject:
        """Say what became of it."""
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
        self._poster = _Poster(timeout)
        self._thread_count = threads
        self._threads: list[Thread] = []
        self._running = False
        self._changed = Condition()
        self._endpoints: list[Endpoint] = []
        # A heap of (due by the monotonic clock, order of queueing, delivery).
        self._queue: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._under_way = 0
        self._held: list[Delivery] | None = None
        self._records: list[JsonObject] = []
        self._to_drop = 0
        self._dropped_events: set[str] = set()
        self._copies = 1
        self._delay = 0.0

    def start(self) -> None:
        """Begin to deliver."""
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
        self._poster.hang_up()
        for thread in self._threads:
            thread.join()

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Deliver the events to come to this endpoint as well."""
        with self._changed:
            self._endpoints.append(endpoint)

    def publish(self, *, event_id: str, event: Json) -> None:
        """Queue an event for every endpoint that asked for its type."""
        event_type = event.get("event") if isinstance(event, dict) else None
        with self._changed:
            endpoints = [
                endpoint
                for endpoint in self._endpoints
                if endpoint.events is None or event_type in endpoint.events
            ]
            body = encode(_webhook_body(event)) if endpoints else b""
            for endpoint in endpoints:
                self._accept(Delivery(endpoint, event_id, event_type, body))

    def drop(self, count: int) -> None:
        """Lose the next deliveries, retries included."""
        with self._changed:
            self._to_drop = count

    def drop_event(self, event_id: str) -> None:
        """Lose the deliveries of one event that are not on their way yet."""
        with self._changed:
            self._dropped_events.add(event_id)

    def repeat(self, copies: int) -> None:
        """Deliver everything to come so many times."""
        with self._changed:
            self._copies = copies

    def delay(self, seconds: float) -> None:
        """Deliver everything to come so much later."""
        with self._changed:
            self._delay = seconds

    def hold(self) -> None:
        """Keep everything to come until it is released."""
        with self._changed:
            if self._held is None:
                self._held = []

    def release(self, order: ReleaseOrder, seed: int | None) -> int:
        """Queue what was held in an order, hold no more, and return how many those were."""
        with self._changed:
            held = self._held or []
            _reorder(held, order, seed)
            self._held = None
            for delivery in held:
                self._enqueue(delivery, self._delay)
            return len(held)

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is queued or under way, retries included; False if time is up.

        What is held doesn't count.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_idle() or not self._running, timeout)
            return self._is_idle()

    def records(self) -> list[JsonObject]:
        """Return what became of every delivery so far, in the order they ended."""
        with self._changed:
            return [dict(record) for record in self._records]

    def forget_records(self) -> None:
        """Begin the records anew."""
        with self._changed:
            self._records.clear()

    # Below, the caller holds the lock.

    def _accept(self, delivery: Delivery) -> None:
        if self._to_drop > 0:
            self._to_drop -= 1
            self._drop(delivery)
            return
        for _ in range(self._copies):
            if self._held is None:
                self._enqueue(delivery, self._delay)
            else:
                self._held.append(delivery)

    def _enqueue(self, delivery: Delivery, pause: float) -> None:
        heapq.heappush(self._queue, (time.monotonic() + pause, next(self._order), delivery))
        self._changed.notify_all()

    def _drop(self, delivery: Delivery) -> None:
        self._records.append(delivery.record(None, "dropped"))

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
            self._drop(delivery)
            self._changed.notify_all()
        return None

    def _retry(self, delivery: Delivery) -> None:
        if delivery.attempt <= len(self._pauses):
            pause = self._pauses[delivery.attempt - 1]
            self._enqueue(replace(delivery, attempt=delivery.attempt + 1), pause)

    # Below, it doesn't.

    def _work(self) -> None:
        while (delivery := self._begin()) is not None:
            status, error = self._poster.post(delivery)
            self._end(delivery, status, error)

    def _begin(self) -> Delivery | None:
        with self._changed:
            delivery = self._next_due()
            if delivery is not None:
                self._under_way += 1
            return delivery

    def _end(self, delivery: Delivery, status: int | None, error: str | None) -> None:
        with self._changed:
            self._under_way -= 1
            self._records.append(delivery.record(status, error))
            if status not in _SUCCESS:
                self._retry(delivery)
            self._changed.notify_all()


class _Poster:
    """Posts deliveries, each over a connection of its own; can be told to hang up. Thread-safe."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: set[http.client.HTTPConnection] = set()

    def post(self, delivery: Delivery) -> tuple[int | None, str | None]:
        """Return the status of the answer, or None and what went wrong."""
        url = urlsplit(delivery.endpoint.url)
        connection = self._connect(url)
        self._open.add(connection)
        try:
            connection.request("POST", _target(url), delivery.body, _headers(delivery))
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            return None, f"{type(error).__name__}: {error}"
        else:
            return response.status, None
        finally:
            self._open.discard(connection)
            connection.close()

    def hang_up(self) -> None:
        """End the connections that are open."""
        for connection in list(self._open):
            with suppress(OSError, AttributeError):  # no socket yet, or none any more
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _connect(self, url: SplitResult) -> http.client.HTTPConnection:
        connections: dict[str, Callable[..., http.client.HTTPConnection]] = {
            "http": http.client.HTTPConnection,
            "https": http.client.HTTPSConnection,
        }
        return connections[url.scheme](url.hostname, url.port, timeout=self._timeout)


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _headers(delivery: Delivery) -> dict[str, str]:
    # Signed anew each time, by the real clock: the receiver compares it with its own.
    signature = sign(delivery.endpoint.secret, delivery.body, int(time.time() * 1000))
    return {
        "Content-Type": "application/json",
        "User-Agent": "FakeWorkOS",
        "WorkOS-Signature": signature,
    }


def _webhook_body(event: Json) -> Json:
    """Return an event as webhooks carry it: without `object`."""
    if not isinstance(event, dict):
        return event
    return {name: value for name, value in event.items() if name != "object"}


def _reorder(deliveries: list[Delivery], order: str, seed: int | None) -> None:
    match order:
        case "as sent":
            pass
        case "reversed":
            deliveries.reverse()
        case "shuffled":
            random.Random(seed).shuffle(deliveries)
        case _:
            message = f"released as sent, reversed or shuffled: not {order!r}"
            raise ValueError(message)
