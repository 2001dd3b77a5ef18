"""Memberships: applying pages of their events, asking for access, and listing them at the pace that
WorkOS allows."""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from statistics import median

from django.conf import settings
from django.test import override_settings

from orgs.api import has_access
from orgs.db.cursor import ensure_cursor
from orgs.domain.types import Observation, PlainFields, State
from orgs.models import Organization, OrganizationMembership
from orgs.services.coverage import adopt_settings
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOSClient
from tests.system.benchmark import databases
from tests.system.benchmark.applying import apply_ours, contestant, seconds_of
from tests.system.benchmark.baselines import DECIDED_CURSOR, apply_decided
from tests.system.benchmark.figures import Figure, Scaled, compared, figure, play
from tests.system.benchmark.processes import Processes
from tests.system.benchmark.workloads import NOW, PAGE_SIZE, an_event

_SMALL, _LARGE = 10_000, 1_000_000
_PAGES = 100
_RESOURCES = ("organization", "user", "membership")
_LOOKS = 2_000

#: Scaled down from 4,800 a minute, so that the pace and not the machine decides.
_PER_MINUTE = 1_800
_BULK_PER_SECOND = 0.75 * _PER_MINUTE / 60
_LISTS = 400
_EVENTS = 10

_FILL = """
INSERT INTO workos_organization_membership (workos_id, workos_organization_id, workos_user_id,
    status, role_slugs, workos_updated_at, workos_last_event_id, data)
SELECT 'om_01' || lpad(n::text, 24, '0'), 'org_01' || lpad((n % 10000)::text, 24, '0'),
    'user_01' || lpad(n::text, 24, '0'), 'active', '{member}', now() - interval '1 day',
    'event_01' || lpad(n::text, 24, '0'), '{}'
FROM generate_series(1, COUNT) AS n
"""
#: What a page writes, a statement a table, as the limit of organizations is.
_LIMIT_ROWS = """
INSERT INTO workos_organization_membership AS t (workos_id, workos_organization_id, workos_user_id,
    status, role_slugs, workos_created_at, workos_updated_at, workos_last_event_id, data)
SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS new (workos_id text, organization_id text,
    user_id text, status text, roles text[], created_at timestamptz, updated_at timestamptz,
    event_id text, data jsonb)
ON CONFLICT (workos_id) DO UPDATE SET status = excluded.status, role_slugs = excluded.role_slugs,
    workos_organization_id = excluded.workos_organization_id,
    workos_user_id = excluded.workos_user_id, workos_created_at = excluded.workos_created_at,
    workos_updated_at = excluded.workos_updated_at,
    workos_last_event_id = excluded.workos_last_event_id, data = excluded.data,
    synced_at = clock_timestamp()
"""
_LIMIT_LEDGER = """
INSERT INTO workos_event (id, type, resource, object_key, workos_organization_id, occurred_at,
    outcome, processed_at)
SELECT id, 'organization_membership.updated', 'membership', key, organization_id, at, 'updated',
    clock_timestamp()
FROM unnest(%(ids)s::text[], %(keys)s::text[], %(organization_ids)s::text[], %(at)s::timestamptz[])
    AS new (id, key, organization_id, at)
"""
_LIMIT = (_LIMIT_ROWS, _LIMIT_LEDGER, DECIDED_CURSOR)


def measure(scaled: Scaled) -> Iterator[Figure]:
    small, large = scaled(_SMALL), scaled(_LARGE)
    for name, count in (("few_members", small), ("many_members", large)):
        databases.make_template(name, _FILL.replace("COUNT", str(count)))
    pages = min(scaled(_PAGES), small // PAGE_SIZE)
    contestants = {
        "ours": contestant("few_members", _pages(pages, small), apply_ours),
        "limit": contestant("few_members", _pages(pages, small), _apply_limit),
        "ours, large": contestant("many_members", _pages(pages, large), apply_ours),
    }
    turns = play(5, contestants)
    per_second = partial(compared, turns, unit="events/s", what="applying membership updates")
    yield per_second("ours", "limit", beside="PostgreSQL's limit", goal="≥ 0.6")
    beside = f"{large:,} rows beside {small:,}"
    yield per_second("ours, large", "ours", beside=beside, goal="≥ 0.8")
    yield _access(large)
    with Processes() as running:
        yield from _paced(scaled(_LISTS), running)


# Pages --------------------------------------------------------------------------------------


def _pages(pages: int, rows: int) -> list[list[Observation]]:
    step = rows // (pages * PAGE_SIZE)
    return [
        [_observation(n, n * step + 1) for n in range(first, first + PAGE_SIZE)]
        for first in range(0, pages * PAGE_SIZE, PAGE_SIZE)
    ]


def _observation(number: int, row: int) -> Observation:
    key, user = f"om_01{row:024}", f"user_01{row:024}"
    return Observation(
        workos_id=key,
        state=State.PRESENT,
        resource="membership",
        plain=PlainFields(
            workos_organization_id=f"org_01{row % 10_000:024}",
            created_at=NOW,
            updated_at=NOW,
            columns={"workos_user_id": user, "status": "active", "role_slugs": ["admin", "member"]},
            data={"id": key, "object": "organization_membership", "status": "active"},
        ),
        event=an_event(f"event_02{number:024}", "organization_membership.updated"),
    )


def _apply_limit(pages: Sequence[list[Observation]]) -> float:
    decided = []
    for page in pages:
        rows = sorted(map(_row, page), key=lambda row: str(row["workos_id"]))
        values = {
            "rows": json.dumps(rows),
            "ids": [row["event_id"] for row in rows],
            "keys": [row["workos_id"] for row in rows],
            "organization_ids": [row["organization_id"] for row in rows],
            "at": [NOW] * len(rows),
            "last_event_id": max(str(row["event_id"]) for row in rows),
            "last_event_at": NOW,
        }
        decided.append((_LIMIT, values))
    return seconds_of(apply_decided, decided)


def _row(one: Observation) -> dict[str, object]:
    assert one.plain is not None
    assert one.event is not None
    return {
        "workos_id": one.workos_id,
        "organization_id": one.plain.workos_organization_id,
        "user_id": one.plain.columns["workos_user_id"],
        "status": one.plain.columns["status"],
        "roles": one.plain.columns["role_slugs"],
        "created_at": NOW.isoformat(),
        "updated_at": NOW.isoformat(),
        "event_id": one.event.id,
        "data": one.plain.data,
    }


# Access -------------------------------------------------------------------------------------


def _access(rows: int) -> Figure:
    databases.use("many_members")
    ensure_cursor()
    with _settings(RESOURCES=_RESOURCES):
        adopt_settings()
    covered = """UPDATE workos_sync_cursor SET covered = covered || '["membership"]'"""
    databases.execute(covered, databases.fill(10_000))
    keys = [n * rows // _LOOKS + 1 for n in range(_LOOKS)]
    organizations = {key: databases.gram_id(key % 10_000) for key in keys if key % 10_000}

    def ask() -> float:
        began_at = time.perf_counter()
        for key, organization in organizations.items():
            if not has_access(f"user_01{key:024}", organization):
                raise RuntimeError(f"the member {key} has access")
        return 1000 * (time.perf_counter() - began_at) / len(organizations)

    def read() -> float:
        members = OrganizationMembership.objects
        began_at = time.perf_counter()
        for key in keys:
            members.get(pk=f"om_01{key:024}")
        return 1000 * (time.perf_counter() - began_at) / len(keys)

    with _settings(RESOURCES=_RESOURCES):
        turns = play(3, {"ours": (lambda: None, ask), "theirs": (lambda: None, read)})
    what, beside = f"has_access, {rows:,} memberships", "a read by primary key"
    return compared(turns, "ours", "theirs", what=what, beside=beside, unit="ms", goal="≤ 3")


# Pacing -------------------------------------------------------------------------------------


def _paced(lists: int, running: Processes) -> Iterator[Figure]:
    """Two processes list every organization's members, while events come."""
    workos = running.fake()
    long_ago = NOW - timedelta(days=2)
    workos.seed(
        organizations=lists, members=1, at=long_ago, external_id_prefix="gram-", emits=False
    )
    # As WorkOS limits a key: more than everything may send, and less than all would without pace.
    workos.limit_requests(_PER_MINUTE * 6000 // 4800, seconds=60.0)
    databases.use(databases.EMPTY)
    with _settings(RESOURCES=_RESOURCES, REQUESTS_PER_MINUTE=_PER_MINUTE, BASE_URL=workos.base_url):
        adopt_settings()
        alone = [_seconds_to_row(workos, f"Alone {n}") for n in range(_EVENTS)]
        time.sleep(6)  # what gathers while nobody asks is full again
        workos.forget_requests()
        began_at = time.monotonic()
        options = {"resources": ",".join(_RESOURCES), "per_minute": str(_PER_MINUTE)}
        runs = [running.task("reconcile", workos, **options)[0] for _ in range(2)]
        beside: list[float] = []
        while any(run.process.poll() is None for run in runs):
            beside.append(_seconds_to_row(workos, f"Beside {len(beside)}"))
            time.sleep(1)
        seconds = time.monotonic() - began_at
    if any(run.process.returncode for run in runs):
        raise RuntimeError("a full run has failed; its log is in .data/benchmark/logs")
    answers = workos.requests()
    of_bulk = sum(one["path"] != "/events" for one in answers)
    what = f"two full runs, {lists:,} lists of members each, of their share of requests"
    yield figure(what, of_bulk / (_BULK_PER_SECOND * seconds), goal="≥ 0.9")
    refused = sum(one["status"] == 429 for one in answers)
    yield figure("429s meanwhile", refused, "", "≤ 0")
    what = "an event to its row meanwhile, p50 beyond without them"
    yield figure(what, median(beside) - median(alone), "s", "≤ 0.5")


def _seconds_to_row(workos: FakeWorkOSClient, name: str) -> float:
    began_at = time.monotonic()
    created = workos.create_organization(name=name)
    while not Organization.objects.filter(workos_id=created["id"]).exists():
        drain_to_end()
    return time.monotonic() - began_at


def _settings(**values: object) -> override_settings:
    return override_settings(WORKOS_SYNC={**settings.WORKOS_SYNC, **values})
