"""What is measured, how rounds are played, what becomes of the numbers. Knows no Django."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

Turns: TypeAlias = Mapping[str, Sequence[float]]
"""What each contestant came to, a number for each round."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How large and how long a run is to be. ``scale`` makes everything smaller, for a quick look:
    then the goals say little."""

    scale: float = 1.0
    wanted_rounds: int | None = None

    def scaled(self, count: int) -> int:
        return max(int(count * self.scale), 1)

    def rounds(self, usual: int) -> int:
        return self.wanted_rounds or usual


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a figure must keep."""

    bound: float
    is_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.is_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.bound:g}"


def at_least(bound: float) -> Goal:
    return Goal(bound, is_least=True)


def at_most(bound: float) -> Goal:
    return Goal(bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. ``value`` is what the goal is about: a ratio, unless ``unit`` says
    otherwise. ``ours`` and ``theirs`` are absolute, and context."""

    what: str
    beside: str = ""
    value: float
    unit: str = "x"
    goal: Goal | None = None
    ours: str = ""
    theirs: str = ""
    rounds: tuple[float, ...] = ()
    """What ``value`` is the median of."""

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "stated"
        return "met" if self.goal.is_met(self.value) else "MISSED"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One side of a comparison. ``prepare`` is not measured; ``run`` returns what is compared."""

    name: str
    prepare: Callable[[], None]
    run: Callable[[], float]


def play(rounds: int, contestants: Sequence[Contestant]) -> Turns:
    """Lets the contestants take turns, so that what else the machine does meets them all alike.

    Each round begins with another of them. Garbage of the one is not collected in the other's time.
    """
    turns: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            contestant.prepare()
            gc.collect()
            turns[contestant.name].append(contestant.run())
    return turns


def compared(
    turns: Turns,
    ours: str,
    theirs: str,
    *,
    what: str,
    beside: str,
    unit: str,
    goal: Goal | None = None,
) -> Figure:
    """The median of the rounds' ratios: the two of a round have met the same machine."""
    ratios = tuple(one / other for one, other in zip(turns[ours], turns[theirs], strict=True))
    return Figure(
        what=what,
        beside=beside,
        value=median(ratios),
        goal=goal,
        ours=f"{shown(median(turns[ours]))} {unit}",
        theirs=f"{shown(median(turns[theirs]))} {unit}",
        rounds=ratios,
    )


def of_rounds(values: Sequence[float], *, what: str, unit: str, goal: Goal | None) -> Figure:
    """A figure that stands beside nothing: the median of its rounds."""
    return Figure(what=what, value=median(values), unit=unit, goal=goal, rounds=tuple(values))


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest of ``values`` that at least so large a part of them does not exceed."""
    in_order = sorted(values)
    return in_order[min(int(part * len(in_order)), len(in_order) - 1)]


def shown(value: float) -> str:
    """Three significant digits, and no more than people read."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_table(figures: Sequence[Figure]) -> str:
    """Markdown that also reads well as it is."""
    rows = [("what", "beside", "ours", "theirs", "result", "goal", ""), *map(_cells, figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def _cells(figure: Figure) -> tuple[str, ...]:
    result = f"{shown(figure.value)}{'x' if figure.unit == 'x' else f' {figure.unit}'}"
    goal = str(figure.goal or "")
    return (
        *(figure.what, figure.beside, figure.ours, figure.theirs),
        *(result, goal, figure.verdict),
    )
