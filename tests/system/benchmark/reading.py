"""Drains and snapshots, beside reading the same pages from the same fake and doing nothing."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from orgs.testing import FakeWorkOSClient
from tests.system.benchmark import databases
from tests.system.benchmark.databases import EMPTY
from tests.system.benchmark.figures import Contestant, Figure, Scaled, compared, play
from tests.system.benchmark.processes import Processes

_EVENTS = 10_000
_MANY, _FEW = 100_000, 10_000

#: A WorkOS that is not on the same machine.
_FAR_AWAY = 0.02

_COPIED = "organization_metadata (id, name, slug, workos_id, workos_updated_at)"


def _child(
    running: Processes, task: str, workos: FakeWorkOSClient, template: str, peaks: list[float]
) -> Contestant:
    """A task of ``tests.system.benchmark.child``, whose peaks of memory are noted, in MiB."""

    def run() -> float:
        measured = running.measured(task, workos)
        peaks.append(measured["peak_kib"] / 1024)
        return float(measured["seconds"])

    return partial(databases.use, template), run


def _beside_reading(
    running: Processes,
    workos: FakeWorkOSClient,
    tasks: tuple[str, str],
    template: str,
    what: str,
    goal: str = "",
) -> Figure:
    """A task of ours beside one that only reads the same pages."""
    ours, theirs = (_child(running, task, workos, template, []) for task in tasks)
    turns = play(3, {"ours": ours, "theirs": theirs})
    beside = "reading the pages"
    return compared(turns, "ours", "theirs", what=what, beside=beside, unit="s", goal=goal)


def measure_drain(scaled: Scaled) -> Iterator[Figure]:
    with Processes() as running:
        workos, tasks = running.fake(), ("drain", "read-events")
        workos.seed(organizations=scaled(_EVENTS), external_id_prefix="gram-")
        yield _beside_reading(running, workos, tasks, EMPTY, "drain")
        # The fake is on the same cores, and answers at once: reading is work of ours and its
        # own, and hardly any waiting with which applying could overlap.
        workos.misbehave("slow", path="/events", times=None, seconds=_FAR_AWAY)
        what = f"drain, WorkOS {_FAR_AWAY * 1000:.0f} ms away"
        yield _beside_reading(running, workos, tasks, EMPTY, what, "≤ 1.1")


def measure_reconcile(scaled: Scaled) -> Iterator[Figure]:
    counts = {"in_sync": scaled(_MANY), "few_in_sync": scaled(_FEW)}
    fakes: dict[str, FakeWorkOSClient] = {}
    with Processes() as running:
        for template, count in counts.items():
            workos = fakes[template] = running.fake()
            # So long ago that no difference is taken for an event on its way.
            long_ago = datetime.now(UTC) - timedelta(hours=1)
            workos.seed(organizations=count, external_id_prefix="gram-", at=long_ago, emits=False)
            databases.use(EMPTY)
            running.measured("reconcile", workos)
            databases.keep_as(template)
        yield _first_reconcile(running, fakes["in_sync"], counts["in_sync"])
        yield from _reconciles_in_sync(running, fakes, counts)
        some, tasks = fakes["few_in_sync"], ("reconcile", "read-organizations")
        some.misbehave("slow", path="/organizations", times=None, seconds=_FAR_AWAY)
        what = (
            f"reconcile, {counts['few_in_sync']:,} in sync, WorkOS {_FAR_AWAY * 1000:.0f} ms away"
        )
        yield _beside_reading(running, some, tasks, "few_in_sync", what, "≤ 1.1")


def _first_reconcile(running: Processes, workos: FakeWorkOSClient, count: int) -> Figure:
    databases.use("in_sync")
    statement = f"COPY {_COPIED} TO STDOUT".encode()
    with databases.connect() as raw, raw.cursor().copy(statement) as copy:
        rows = b"".join(bytes(part) for part in copy)

    def copy_in() -> float:
        began_at = time.perf_counter()
        statement = f"COPY {_COPIED} FROM STDIN".encode()
        with databases.connect() as raw, raw.cursor().copy(statement) as copy:
            copy.write(rows)
        return time.perf_counter() - began_at

    ours = _child(running, "reconcile", workos, EMPTY, [])
    turns = play(3, {"ours": ours, "copy": (partial(databases.use, EMPTY), copy_in)})
    what = f"first reconcile, {count:,} organizations"
    return compared(turns, "ours", "copy", what=what, beside="COPY of the same rows", unit="s")


def _reconciles_in_sync(
    running: Processes, fakes: dict[str, FakeWorkOSClient], counts: dict[str, int]
) -> Iterator[Figure]:
    peaks: dict[str, list[float]] = {name: [] for name in ("ours", "few", "theirs")}
    tasks = {
        "ours": ("reconcile", "in_sync"),
        "few": ("reconcile", "few_in_sync"),
        "theirs": ("read-organizations", "in_sync"),
    }
    contestants = {
        name: _child(running, task, fakes[template], template, peaks[name])
        for name, (task, template) in tasks.items()
    }
    what = f"reconcile, {counts['in_sync']:,} in sync"
    turns = play(3, contestants)
    yield compared(turns, "ours", "theirs", what=what, beside="reading the pages", unit="s")
    beside = f"peak memory for {counts['few_in_sync']:,}"
    yield compared(peaks, "ours", "few", what=what, beside=beside, unit="MiB", goal="≤ 1.1")
