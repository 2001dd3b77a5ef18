"""Drains and snapshots, beside reading the same pages from the same fake and doing nothing."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from orgs.testing import FakeWorkOSClient
from tests.system.benchmark import databases
from tests.system.benchmark.figures import (
    Contestant,
    Figure,
    Goal,
    Plan,
    at_most,
    compared,
    of_rounds,
    play,
)
from tests.system.benchmark.processes import Processes, processes

_EVENTS = 10_000
_MANY, _FEW = 100_000, 10_000
_PAGE_SIZE = 100

#: A WorkOS that is not on the same machine.
_FAR_AWAY = 0.02

_COPIED = "(id, name, slug, workos_id, workos_updated_at)"


@dataclass(slots=True)
class _Child:
    """A task of ``tests.system.benchmark.child`` as a contestant; keeps what it measured."""

    running: Processes
    task: str
    workos: FakeWorkOSClient
    template: str
    statements: list[int] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    """In MiB."""

    def contestant(self, name: str) -> Contestant:
        return Contestant(name, partial(databases.use, self.template), self.run)

    def run(self) -> float:
        measured = self.running.run(self.task, self.workos)
        self.statements.append(measured["statements"])
        self.peaks.append(measured["peak_kib"] / 1024)
        return float(measured["seconds"])


# The drain ----------------------------------------------------------------------------------


def measure_drain(plan: Plan) -> Iterator[Figure]:
    with processes() as running:
        workos = running.fake()
        workos.seed(organizations=plan.scaled(_EVENTS), external_id_prefix="gram-")
        tasks, empty = ("drain", "read-events"), databases.EMPTY
        yield _beside_reading(plan, running, workos, tasks, empty, "drain", None)
        # The fake is on the same cores, and answers at once: reading is work of ours and its
        # own, and hardly any waiting with which applying could overlap.
        workos.misbehave("slow", path="/events", times=None, seconds=_FAR_AWAY)
        what = f"drain, WorkOS {_FAR_AWAY * 1000:.0f} ms away"
        yield _beside_reading(plan, running, workos, tasks, empty, what, at_most(1.1))


def _beside_reading(
    plan: Plan,
    running: Processes,
    workos: FakeWorkOSClient,
    tasks: tuple[str, str],
    template: str,
    what: str,
    goal: Goal | None,
) -> Figure:
    """A task of ours beside one that only reads the same pages."""
    ours, theirs = (_Child(running, task, workos, template) for task in tasks)
    turns = play(plan.rounds(3), [ours.contestant("ours"), theirs.contestant("theirs")])
    return compared(
        turns, "ours", "theirs", what=what, beside="reading the pages", unit="s", goal=goal
    )


# The snapshot -------------------------------------------------------------------------------


def measure_reconcile(plan: Plan) -> Iterator[Figure]:
    many, few = plan.scaled(_MANY), plan.scaled(_FEW)
    with processes() as running:
        all_of_them, some = (_seeded(running, count) for count in (many, few))
        _make_in_sync(running, some, "few_in_sync")
        copied = _make_in_sync(running, all_of_them, "in_sync")
        yield _first_reconcile(plan, running, all_of_them, copied)
        yield from _reconciles_in_sync(plan, running, all_of_them, some)
        some.misbehave("slow", path="/organizations", times=None, seconds=_FAR_AWAY)
        what = f"reconcile, {few:,} in sync, WorkOS {_FAR_AWAY * 1000:.0f} ms away"
        tasks = ("reconcile", "read-organizations")
        yield _beside_reading(plan, running, some, tasks, "few_in_sync", what, at_most(1.1))


def _seeded(running: Processes, organizations: int) -> FakeWorkOSClient:
    workos = running.fake()
    # So long ago that no difference is taken for an event on its way.
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    workos.seed(organizations=organizations, external_id_prefix="gram-", at=long_ago, emits=False)
    return workos


def _make_in_sync(running: Processes, workos: FakeWorkOSClient, template: str) -> bytes:
    """Makes a template, and returns its organizations as ``COPY`` writes them."""
    databases.use(databases.EMPTY)
    running.run("reconcile", workos)
    rows = databases.copy_out(f"organization_metadata {_COPIED}")
    databases.keep_as(template)
    return rows


def _first_reconcile(
    plan: Plan, running: Processes, workos: FakeWorkOSClient, rows: bytes
) -> Figure:
    ours = _Child(running, "reconcile", workos, databases.EMPTY)
    copy = Contestant("copy", partial(databases.use, databases.EMPTY), partial(_copy, rows))
    turns = play(plan.rounds(3), [ours.contestant("ours"), copy])
    what = f"first reconcile, {plan.scaled(_MANY):,} organizations"
    return compared(turns, "ours", "copy", what=what, beside="COPY of the same rows", unit="s")


def _copy(rows: bytes) -> float:
    began_at = time.perf_counter()
    databases.copy_in(f"organization_metadata {_COPIED}", rows)
    return time.perf_counter() - began_at


def _reconciles_in_sync(
    plan: Plan, running: Processes, many: FakeWorkOSClient, few: FakeWorkOSClient
) -> Iterator[Figure]:
    ours = _Child(running, "reconcile", many, "in_sync")
    ours_few = _Child(running, "reconcile", few, "few_in_sync")
    theirs = _Child(running, "read-organizations", many, "in_sync")
    turns = play(
        plan.rounds(3),
        [ours.contestant("ours"), ours_few.contestant("few"), theirs.contestant("theirs")],
    )
    what = f"reconcile, {plan.scaled(_MANY):,} in sync"
    compare = partial(compared, what=what)
    yield compare(turns, "ours", "theirs", beside="reading the pages", unit="s")
    pages = plan.scaled(_MANY) / _PAGE_SIZE
    queries = [statements / pages for statements in ours.statements]
    yield of_rounds(queries, what=what, unit="queries a page", goal=at_most(6))
    peaks = {"ours": ours.peaks, "few": ours_few.peaks}
    yield compare(
        peaks,
        "ours",
        "few",
        beside=f"peak memory for {plan.scaled(_FEW):,}",
        unit="MiB",
        goal=at_most(1.1),
    )
