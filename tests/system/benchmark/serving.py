"""Webhooks: what they cost the web process, how soon rows follow, and bursts of them.

Real processes: gunicorn and django-q2's cluster as the project starts them.
"""

import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import connection

from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.testing import FakeWorkOSClient, UlidFactory
from tests.concurrency import wait_until
from tests.system.benchmark import databases
from tests.system.benchmark.figures import (
    Contestant,
    Figure,
    Plan,
    at_most,
    compared,
    of_rounds,
    percentile,
    play,
)
from tests.system.benchmark.load import post_all
from tests.system.benchmark.processes import WEBHOOK_SECRET, Processes, processes
from tests.system.benchmark.web import BASELINE, OURS

_RATE = 100
_SECONDS = 10
_BACKLOG = 200_000

_BURST_ORGANIZATIONS = 500
_BURST_HOLD_BACK = 2.0

_SAMPLES = 50
_HOLD_BACK = 0.5

#: A pause is part of what is measured.
_wait_until = partial(wait_until, longest_pause=0.005)


# What one costs -----------------------------------------------------------------------------


def measure_webhook(plan: Plan) -> Iterator[Figure]:
    """Ours beside the least that a view can do: both in one gunicorn, both while a drain runs."""
    with processes() as running:
        workos = running.fake()
        workos.seed(organizations=_BACKLOG, external_id_prefix="gram-")
        databases.use(databases.EMPTY)
        url = running.web(workos)
        for path in (OURS, BASELINE):
            # The first requests of each thread connect to the database.
            post_all(f"{url}/{path}", _bodies(_RATE), secret=WEBHOOK_SECRET)
        turns = play(
            plan.rounds(3),
            [
                _loaded("ours", plan, running, workos, f"{url}/{OURS}"),
                _loaded("baseline", plan, running, workos, f"{url}/{BASELINE}"),
            ],
        )
    yield compared(
        turns,
        "ours",
        "baseline",
        what=f"webhook, {_RATE} a second, p99",
        beside="a view that inserts one row",
        unit="ms",
        goal=at_most(1.5),
    )


def _loaded(
    name: str, plan: Plan, running: Processes, workos: FakeWorkOSClient, url: str
) -> Contestant:
    def run() -> float:
        bodies = _bodies(plan.scaled(_RATE * _SECONDS))
        with running.while_running("drain-and-wait", workos):
            _wait_until(_is_draining, "the drain has begun")
            answers = post_all(url, bodies, secret=WEBHOOK_SECRET, rate=_RATE)
            if not _is_draining():
                raise RuntimeError("the backlog was too small: the drain ended before the load")
        if any(answer.status != 204 for answer in answers):
            raise RuntimeError(f"not all webhooks were taken: {answers}")
        return percentile([answer.seconds for answer in answers], 0.99) * 1000

    return Contestant(name, databases.empty, run)


def _bodies(count: int) -> list[bytes]:
    ulids, now = UlidFactory(), datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    return [
        _body(f"event_{ulids.make(milliseconds)}", f"org_{ulids.make(milliseconds)}", now)
        for _ in range(count)
    ]


def _body(event_id: str, workos_id: str, now: datetime) -> bytes:
    times = {"created_at": now.isoformat(), "updated_at": now.isoformat()}
    organization = {"object": "organization", "id": workos_id, "name": "Announced", **times}
    data: dict[str, Any] = {**organization, "external_id": None, "metadata": {}, "domains": []}
    event = {"id": event_id, "event": "organization.created", "data": data}
    return json.dumps({**event, "created_at": now.isoformat()}).encode()


def _is_draining() -> bool:
    cursor = SyncCursor.objects.first()
    return bool(cursor and cursor.last_event_id and not cursor.drained_at)


# Bursts, and how soon a row follows ---------------------------------------------------------


def measure_worker(plan: Plan) -> Iterator[Figure]:
    with processes() as running:
        workos = running.fake(hold_back=_BURST_HOLD_BACK)
        databases.use(databases.EMPTY)
        url = f"{running.web(workos)}/{OURS}"
        running.worker(workos)
        yield from _bursts(plan, workos, url)
        workos.set_hold_back(_HOLD_BACK)
        workos.add_webhook_endpoint(url=url, secret=WEBHOOK_SECRET)
        yield from _latencies(plan, workos)


def _bursts(plan: Plan, workos: FakeWorkOSClient, url: str) -> Iterator[Figure]:
    organizations = plan.scaled(_BURST_ORGANIZATIONS)
    bursts = [_burst(workos, url, number, organizations) for number in range(plan.rounds(3))]
    what = f"burst of {2 * organizations:,} webhooks over {organizations} organizations"
    reads, seconds = zip(*bursts, strict=True)
    yield of_rounds(reads, what=what, unit="reads of /events", goal=at_most(30))
    yield of_rounds(seconds, what=f"{what}, all rows right", unit="s", goal=at_most(10))


def _burst(
    workos: FakeWorkOSClient, url: str, number: int, organizations: int
) -> tuple[float, float]:
    """How often ``/events`` was read until all was quiet, and when all rows were right."""
    _wait_until(_is_idle, "the worker is idle")
    listed = len(workos.all_events())
    workos.seed(
        organizations=organizations, prefix=f"Burst {number}", external_id_prefix=f"burst-{number}-"
    )
    events = workos.all_events()[listed:]
    for event in events:
        workos.update_organization(event["data"]["id"], name=f"Right {number}")
    bodies = [json.dumps(event).encode() for event in workos.all_events()[listed:]]
    random.Random(number).shuffle(bodies)
    workos.forget_requests()
    began_at = time.perf_counter()
    post_all(url, bodies, secret=WEBHOOK_SECRET)
    right = Organization.objects.filter(name=f"Right {number}")
    _wait_until(lambda: right.count() == organizations, "all rows are right")
    seconds = time.perf_counter() - began_at
    _wait_until(_is_idle, "the worker is idle")
    return float(workos.count_requests(path="/events")), seconds


def _latencies(plan: Plan, workos: FakeWorkOSClient) -> Iterator[Figure]:
    chance = random.Random("latency")
    latencies = [
        _latency(workos, number, chance.random()) for number in range(plan.scaled(_SAMPLES))
    ]
    what, unit = "webhook to row, beyond the hold-back", "s"
    for part, goal in ((0.5, 0.4), (0.99, 1.5)):
        yield Figure(
            what=f"{what}, p{part * 100:.0f}",
            value=percentile(latencies, part),
            unit=unit,
            goal=at_most(goal),
            rounds=tuple(latencies),
        )


def _latency(workos: FakeWorkOSClient, number: int, pause: float) -> float:
    _wait_until(_is_idle, "the worker is idle")
    # Or each would come at the same place of the worker's own rhythm.
    time.sleep(pause * 0.5)
    began_at = time.perf_counter()
    organization = workos.create_organization(name="Acme", external_id=f"latency-{number}")
    row = Organization.objects.filter(workos_id=organization["id"])
    _wait_until(row.exists, "the row is visible")
    return time.perf_counter() - began_at - _HOLD_BACK


def _is_idle() -> bool:
    """Whether nothing is announced, queued, or waited for."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM django_q_ormq)")
        (is_queued,) = cursor.fetchone()
    is_waiting = SyncCursor.objects.filter(draining_until__isnull=False).exists()
    return not (is_queued or is_waiting or WorkOSEvent.objects.announced_and_unseen().exists())
