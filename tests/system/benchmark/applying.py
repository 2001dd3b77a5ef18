"""Applying pages of events: beside what is replaced, beside PostgreSQL's limit, and as it grows."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from orgs.db.cursor import ensure_cursor
from orgs.domain.types import Observation
from tests.builders import apply_page
from tests.system.benchmark import databases
from tests.system.benchmark.baselines import apply_decided, apply_one_by_one, decide
from tests.system.benchmark.figures import Contestant, Figure, Scaled, compared, play
from tests.system.benchmark.workloads import PAGE_SIZE, WORKLOADS, Page, as_read, planned_pages

T = TypeVar("T")

_SMALL, _LARGE = 10_000, 1_000_000
_PAGES, _PAGES_ONE_BY_ONE = 100, 10

_OF_THE_LIMIT = {"creates": "≥ 0.7", "updates": "≥ 0.65", "mix": "≥ 0.6"}


def measure(scaled: Scaled) -> Iterator[Figure]:
    small, large = scaled(_SMALL), scaled(_LARGE)
    for name, organizations in (("small", small), ("large", large)):
        databases.make_template(name, databases.fill(organizations))
    count = min(scaled(_PAGES), small // PAGE_SIZE)
    for workload in WORKLOADS:
        pages = planned_pages(workload, pages=count, organizations=small)
        many = planned_pages(workload, pages=count, organizations=large)
        few = pages[: scaled(_PAGES_ONE_BY_ONE)]
        contestants = {
            "ours": contestant("small", _observations(pages), apply_ours),
            "per event": contestant("small", few, partial(seconds_of, apply_one_by_one)),
            "limit": contestant("small", pages, _apply_limit),
            "ours, large": contestant("large", _observations(many), apply_ours),
        }
        turns = play(5, contestants)
        per_second = partial(compared, turns, unit="events/s", what=f"applying {workload}")
        yield per_second("ours", "per event", beside="per event, as before")
        goal = _OF_THE_LIMIT[workload]
        yield per_second("ours", "limit", beside="PostgreSQL's limit", goal=goal)
        beside = f"{large:,} rows beside {small:,}"
        yield per_second("ours, large", "ours", beside=beside, goal="≥ 0.8")


def contestant(template: str, pages: list[T], apply: Callable[[list[T]], float]) -> Contestant:
    """Events a second: ``apply`` returns the seconds for all pages."""

    def prepare() -> None:
        databases.use(template)
        ensure_cursor()

    return prepare, lambda: len(pages) * PAGE_SIZE / apply(pages)


def apply_ours(pages: Sequence[Sequence[Observation]]) -> float:
    """Apply pages of events as the stream does; return the seconds."""
    read = as_read(pages)
    began_at = time.perf_counter()
    for page in read:
        if apply_page(page).dropped:
            raise RuntimeError("a page was dropped: nobody else should have moved the cursor")
    return time.perf_counter() - began_at


def _observations(pages: list[Page]) -> list[list[Observation]]:
    return [[planned.observation for planned in page] for page in pages]


def _apply_limit(pages: list[Page]) -> float:
    return seconds_of(apply_decided, [decide(page) for page in pages])


def seconds_of(apply: Callable[[databases.Connection, list[T]], None], pages: list[T]) -> float:
    """Apply pages over a connection of another program's; return the seconds."""
    with databases.connect(autocommit=False) as raw:
        began_at = time.perf_counter()
        apply(raw, pages)
        return time.perf_counter() - began_at
