"""Lays the last day's figures out as plots, for a template to draw. Pure.

A plot is 25 hours wide, one unit each, for the last 24 hours begin and end inside one; and 100
units high. Numbers are text, as SVG reads it: a template would write them in the page's language.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, floor, log10

from orgs.domain.figures import HourLatency, LastDayFigures
from orgs.domain.types import (
    EVENT_OUTCOMES,
)

_HOURS = 25
_HEIGHT = 100.0
_GAP = 0.08

#: The shortest time that is told apart from none.
_LEAST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Bar:
    """The events of one hour with one outcome."""

    outcome: str
    count: int
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """One hour of the plot, as a row of a table: counts by outcome, in the order of the columns."""

    hour: datetime
    counts: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class EventsPlot:
    """Events by hour and outcome: a bar for each hour, stacked by outcome."""

    hours: tuple[datetime, ...]
    ticks: tuple[str, ...]
    """Labels of the vertical axis at equal distances, from the top down."""
    bars: tuple[Bar, ...]
    outcomes: tuple[tuple[str, int], ...]
    """Those that there were, and how many events had them."""
    rows: tuple[EventRow, ...]
    """The hours in which there were events."""
    total: int
    highest: EventRow | None


@dataclass(frozen=True, slots=True)
class LatencyRow:
    hour: datetime
    p50: str
    p99: str


@dataclass(frozen=True, slots=True)
class LatencyPlot:
    """The latency of each hour, on a logarithmic axis. Lines and dots are paths of SVG's."""

    hours: tuple[datetime, ...]
    ticks: tuple[str, ...]
    gridlines: tuple[str, ...]
    p50_line: str
    p50_dots: str
    p99_line: str
    p99_dots: str
    rows: tuple[LatencyRow, ...]
    p50: str
    p99: str


def hours_until(at: datetime) -> tuple[datetime, ...]:
    """The beginnings of the hours that the 24 hours before ``at`` touch."""
    last = at.replace(minute=0, second=0, microsecond=0)
    return tuple(last - timedelta(hours=_HOURS - 1 - number) for number in range(_HOURS))


def events_plot(last_day: LastDayFigures, at: datetime) -> EventsPlot:
    """The events of the 24 hours before ``at``."""
    hours = hours_until(at)
    outcomes = [outcome.value for outcome in EVENT_OUTCOMES if outcome in last_day.outcomes]
    counts = {(event.hour, event.outcome): event.count for event in last_day.events}
    table = [tuple(counts.get((hour, outcome), 0) for outcome in outcomes) for hour in hours]
    rows = [EventRow(hour, row, sum(row)) for hour, row in zip(hours, table, strict=True)]
    top = _top_of_axis(max(row.total for row in rows))
    return EventsPlot(
        hours=hours,
        ticks=(f"{top:,}", f"{top // 2:,}", "0"),
        bars=tuple(
            bar for x, row in enumerate(table) for bar in _stack(x, outcomes, row, _HEIGHT / top)
        ),
        outcomes=tuple((outcome, last_day.outcomes[outcome]) for outcome in outcomes),
        rows=tuple(row for row in rows if row.total),
        total=sum(row.total for row in rows),
        highest=max((row for row in rows if row.total), key=lambda row: row.total, default=None),
    )


def latency_plot(last_day: LastDayFigures, at: datetime) -> LatencyPlot | None:
    """The latency in the 24 hours before ``at``; None if no event had one."""
    if not last_day.latencies or last_day.latency_p50 is None or last_day.latency_p99 is None:
        return None
    hours = hours_until(at)
    decades = _decades(last_day.latencies)
    points = [
        (hours.index(latency.hour), latency)
        for latency in last_day.latencies
        if latency.hour in hours
    ]
    p50 = [(x + 0.5, _log_y(latency.p50, decades)) for x, latency in points]
    p99 = [(x + 0.5, _log_y(latency.p99, decades)) for x, latency in points]
    steps = len(decades) - 1
    return LatencyPlot(
        hours=hours,
        ticks=tuple(seconds_in_words(10.0**decade) for decade in reversed(decades)),
        gridlines=tuple(_text(_HEIGHT * step / steps) for step in range(steps + 1)),
        p50_line=_line(p50),
        p50_dots=_dots(p50),
        p99_line=_line(p99),
        p99_dots=_dots(p99),
        rows=tuple(
            LatencyRow(
                latency.hour,
                seconds_in_words(latency.p50.total_seconds()),
                seconds_in_words(latency.p99.total_seconds()),
            )
            for _, latency in points
        ),
        p50=seconds_in_words(last_day.latency_p50.total_seconds()),
        p99=seconds_in_words(last_day.latency_p99.total_seconds()),
    )


def seconds_in_words(seconds: float) -> str:
    """Two digits or so: "250 ms", "1.5 s", "1,200 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s".replace(".0 ", " ") if seconds < 10 else f"{seconds:,.0f} s"


def _top_of_axis(highest: int) -> int:
    """The least of 2, 4, 6, 8, 10, 20, 40, … that is no less: its half is a whole number."""
    power = 1
    while True:
        for digit in (2, 4, 6, 8, 10):
            if digit * power >= highest:
                return digit * power
        power *= 10


def _stack(
    x: int, outcomes: Sequence[str], counts: Sequence[int], height_of_one: float
) -> Iterator[Bar]:
    y = _HEIGHT
    for outcome, count in zip(outcomes, counts, strict=True):
        if count:
            height = count * height_of_one
            y -= height
            yield Bar(outcome, count, _text(x + _GAP), _text(y), _text(1 - 2 * _GAP), _text(height))


def _decades(latencies: Sequence[HourLatency]) -> range:
    """The powers of ten of seconds between which all lie; two at least."""
    shortest = max(min(latency.p50.total_seconds() for latency in latencies), _LEAST_SECONDS)
    longest = max(latency.p99.total_seconds() for latency in latencies)
    first = floor(log10(shortest))
    last = ceil(log10(max(longest, shortest)))
    return range(first, max(last, first + 1) + 1)


def _log_y(latency: timedelta, decades: range) -> float:
    seconds = max(latency.total_seconds(), _LEAST_SECONDS)
    return _HEIGHT * (decades[-1] - log10(seconds)) / (len(decades) - 1)


def _line(points: Sequence[tuple[float, float]]) -> str:
    """From hour to hour; broken where an hour has none."""
    path = []
    before = None
    for x, y in points:
        path.append(f"{'L' if before == x - 1 else 'M'}{_text(x)} {_text(y)}")
        before = x
    return "".join(path)


def _dots(points: Sequence[tuple[float, float]]) -> str:
    """Lines of no length: their round ends stay round however the plot is stretched."""
    return "".join(f"M{_text(x)} {_text(y)}h0" for x, y in points)


def _text(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
