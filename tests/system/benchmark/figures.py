"""How rounds are played, and what becomes of the numbers. Knows no Django."""

import gc
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeAlias

Scaled: TypeAlias = Callable[[int], int]
"""Makes a count smaller, for a quick look: then the goals say little."""

Turns: TypeAlias = Mapping[str, Sequence[float]]
"""What each contestant came to, a number for each round."""

Contestant: TypeAlias = tuple[Callable[[], object], Callable[[], float]]
"""One side of a comparison: prepares, which is not measured, and returns what is compared."""


class Figure(NamedTuple):
    """One line of the table. ``ours`` and ``theirs`` are absolute, and context."""

    what: str
    beside: str
    ours: str
    theirs: str
    result: str
    goal: str
    verdict: str


def figure(
    what: str,
    value: float,
    unit: str = "x",
    goal: str = "",
    *,
    beside: str = "",
    ours: str = "",
    theirs: str = "",
) -> Figure:
    """A goal is a bound that the value must keep, such as ``≥ 0.7``."""
    sign, _, bound = goal.partition(" ")
    verdict = "stated"
    if goal:
        is_met = value >= float(bound) if sign == "≥" else value <= float(bound)
        verdict = "met" if is_met else "MISSED"
    return Figure(what, beside, ours, theirs, f"{shown(value)} {unit}".rstrip(), goal, verdict)


def compared(
    turns: Turns, ours: str, theirs: str, *, what: str, beside: str, unit: str, goal: str = ""
) -> Figure:
    """The median of the rounds' ratios: the two of a round have met the same machine."""
    ratios = [one / other for one, other in zip(turns[ours], turns[theirs], strict=True)]
    absolute = [f"{shown(median(turns[name]))} {unit}" for name in (ours, theirs)]
    return figure(
        what, median(ratios), goal=goal, beside=beside, ours=absolute[0], theirs=absolute[1]
    )


def play(rounds: int, contestants: Mapping[str, Contestant]) -> Turns:
    """Lets the contestants take turns, so that what else the machine does meets them all alike.

    Each round begins with another of them. Garbage of the one is not collected in the other's time.
    """
    turns: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for _ in range(rounds):
        for name in names:
            prepare, run = contestants[name]
            prepare()
            gc.collect()
            turns[name].append(run())
        names = [*names[1:], names[0]]
    return turns


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of ``values`` that at least so large a part of them does not exceed."""
    in_order = sorted(values)
    return in_order[min(int(part * len(in_order)), len(in_order) - 1)]


def shown(value: float) -> str:
    """Three significant digits, and no more than people read."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
