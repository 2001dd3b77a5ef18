"""What one webhook costs, how soon its row follows, bursts of them, and write-backs.

Real processes: gunicorn and django-q2's cluster as the project starts them.
"""

import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

from django_q.models import OrmQ

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.testing import FakeWorkOSClient, UlidFactory, sign
from tests.concurrency import wait_until
from tests.processes import status_of
from tests.system.benchmark import databases
from tests.system.benchmark.figures import Figure, Scaled, compared, figure, percentile, play
from tests.system.benchmark.processes import WEBHOOK_SECRET, Processes
from tests.system.benchmark.web import BASELINE, OURS

_RATE = 100
_SECONDS = 10
_BACKLOG = 200_000
_THREADS = 16

_BURST_ORGANIZATIONS = 500
_BURST_HOLD_BACK = 2.0

_DUE = 1_000
_ANSWERS_IN = 0.1

_SAMPLES = 50
_HOLD_BACK = 0.5

_EMPTY = """
TRUNCATE workos_external_id_write_back, workos_event, workos_sync_cursor, organization_metadata,
    django_q_ormq, benchmark_webhook
"""

#: A pause is part of what is measured.
_wait_until = partial(wait_until, longest_pause=0.005)


def _post_all(url: str, bodies: Sequence[bytes], *, rate: float | None = None) -> list[float]:
    """Posts each body, signed now, so many a second; without a rate, as fast as it goes.

    In an open loop: each at its time, whether or not earlier ones are answered. A closed loop would
    send less while the server is slow, and so hide what its clients would see. Returns how many
    seconds after its time each was answered.
    """
    address, milliseconds = urlsplit(url), int(time.time() * 1000)
    signatures = [sign(WEBHOOK_SECRET, body, milliseconds) for body in bodies]
    began_at = time.perf_counter()

    def post(body: bytes, signature: str, number: int) -> float:
        due_at = began_at + number / rate if rate else time.perf_counter()
        time.sleep(max(due_at - time.perf_counter(), 0.0))
        headers = {"Content-Type": "application/json", "WorkOS-Signature": signature}
        # A connection each, as from many clients: one that is kept may be closed under a request.
        status = status_of(address.port or 80, "POST", address.path, body, headers)
        if status != 204:
            raise RuntimeError(f"a webhook was answered {status}")
        return time.perf_counter() - due_at

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(post, bodies, signatures, itertools.count()))


# What one costs -----------------------------------------------------------------------------


def measure_webhook(scaled: Scaled) -> Iterator[Figure]:
    """Ours beside the least that a view can do: both in one gunicorn, both while a drain runs."""
    with Processes() as running:
        workos = running.fake()
        workos.seed(organizations=_BACKLOG, external_id_prefix="gram-")
        databases.use(databases.EMPTY)
        url = running.web(workos)

        def run(path: str) -> float:
            with Processes() as beside:
                beside.task("drain-and-wait", workos)
                _wait_until(_is_draining, "the drain has begun")
                bodies = _bodies(scaled(_RATE * _SECONDS))
                seconds = _post_all(f"{url}/{path}", bodies, rate=_RATE)
                if not _is_draining():
                    raise RuntimeError("the backlog was too small: the drain ended before the load")
            return percentile(seconds, 0.99) * 1000

        for path in (OURS, BASELINE):
            # The first requests of each thread connect to the database.
            _post_all(f"{url}/{path}", _bodies(_RATE))
        # Under the connections of others.
        empty = partial(databases.execute, _EMPTY, "VACUUM (ANALYZE)", "CHECKPOINT")
        turns = play(3, {path: (empty, partial(run, path)) for path in (OURS, BASELINE)})
    what, beside = f"webhook, {_RATE} a second, p99", "a view that inserts one row"
    yield compared(turns, OURS, BASELINE, what=what, beside=beside, unit="ms", goal="≤ 1.5")


def _bodies(count: int) -> list[bytes]:
    ulids, now = UlidFactory(), datetime.now(UTC)
    milliseconds = int(now.timestamp() * 1000)
    return [_body(ulids.make(milliseconds), now.isoformat()) for _ in range(count)]


def _body(ulid: str, at: str) -> bytes:
    event = {"id": f"event_{ulid}", "event": "organization.created"}
    organization = {"object": "organization", "id": f"org_{ulid}", "name": "Announced"}
    times = {"created_at": at, "updated_at": at}
    nothing: dict[str, object] = {"external_id": None, "metadata": {}, "domains": []}
    data = {**organization, **times, **nothing}
    return json.dumps({**event, "created_at": at, "data": data}).encode()


def _is_draining() -> bool:
    cursor = SyncCursor.objects.first()
    return bool(cursor and cursor.last_event_id and not cursor.drained_at)


# Write-backs --------------------------------------------------------------------------------


def measure_write_back(scaled: Scaled) -> Iterator[Figure]:
    """How many a second one worker process sends to a WorkOS that takes its time."""
    due = scaled(_DUE)
    databases.use(databases.EMPTY)
    with Processes() as running:
        workos = running.fake()
        workos.seed(organizations=due)
        running.measured("drain", workos)
        if ExternalIdWriteBack.objects.count() != due:
            raise RuntimeError("the drain should have left a write-back for each organization")
        where = "/organizations"
        workos.misbehave("slow", method=None, path=where, times=None, seconds=_ANSWERS_IN)
        seconds = float(running.measured("push", workos)["seconds"])
    done = due - ExternalIdWriteBack.objects.count()
    what = f"write-backs, {due:,} due, WorkOS answering in {_ANSWERS_IN * 1000:.0f} ms"
    yield figure(what, done / seconds, "a second", "≥ 20")


# Bursts, and how soon a row follows ---------------------------------------------------------


def measure_worker(scaled: Scaled) -> Iterator[Figure]:
    with Processes() as running:
        workos = running.fake(hold_back=_BURST_HOLD_BACK)
        databases.use(databases.EMPTY)
        url = f"{running.web(workos)}/{OURS}"
        running.worker(workos)
        count = scaled(_BURST_ORGANIZATIONS)
        reads, seconds = zip(*(_burst(workos, url, n, count) for n in range(3)), strict=True)
        what = f"burst of {2 * count:,} webhooks over {count} organizations"
        yield figure(what, percentile(reads, 0.5), "reads of /events", "≤ 30")
        yield figure(f"{what}, all rows right", percentile(seconds, 0.5), "s", "≤ 10")
        workos.set_hold_back(_HOLD_BACK)
        workos.add_webhook_endpoint(url=url, secret=WEBHOOK_SECRET)
        chance = random.Random("latency")
        latencies = [_latency(workos, n, chance.random()) for n in range(scaled(_SAMPLES))]
        for part, goal in ((0.5, "≤ 0.4"), (0.99, "≤ 1.5")):
            what = f"webhook to row, beyond the hold-back, p{part * 100:.0f}"
            yield figure(what, percentile(latencies, part), "s", goal)


def _burst(
    workos: FakeWorkOSClient, url: str, number: int, organizations: int
) -> tuple[float, float]:
    """How often ``/events`` was read until all was quiet, and when all rows were right."""
    _wait_until(_is_idle, "the worker is idle")
    listed = len(workos.all_events())
    workos.seed(
        organizations=organizations, prefix=f"Burst {number}", external_id_prefix=f"burst-{number}-"
    )
    for event in workos.all_events()[listed:]:
        workos.update_organization(event["data"]["id"], name=f"Right {number}")
    bodies = [json.dumps(event).encode() for event in workos.all_events()[listed:]]
    random.Random(number).shuffle(bodies)
    workos.forget_requests()
    began_at = time.perf_counter()
    _post_all(url, bodies)
    right = Organization.objects.filter(name=f"Right {number}")
    _wait_until(lambda: right.count() == organizations, "all rows are right")
    seconds = time.perf_counter() - began_at
    _wait_until(_is_idle, "the worker is idle")
    return float(workos.count_requests(path="/events")), seconds


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
    is_waiting = SyncCursor.objects.filter(draining_until__isnull=False).exists()
    is_unseen = WorkOSEvent.objects.announced_and_unseen().exists()
    return not (OrmQ.objects.exists() or is_waiting or is_unseen)
