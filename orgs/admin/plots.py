"""Lays the last day's figures out as plots, for a template to draw. Pure.

A plot is 25 hours wide, one unit each, for the last 24 hours begin and end inside one. All numbers
are whole, so that a template writes them alike in any language.
"""

from datetime import datetime, timedelta
from itertools import count
from math import ceil, floor, log10
from typing import NamedTuple

from orgs.domain.status import LastDayFigures
from orgs.domain.types import EVENT_OUTCOMES

_HOURS = 25

#: A logarithm needs a shortest time.
_LEAST_SECONDS = 0.001

#: Height of a power of ten.
_DECADE = 1_000


class Hour(NamedTuple):
    """Events of one hour; counts are in the order of the plot's outcomes."""

    begins_at: datetime
    counts: tuple[int, ...]
    total: int


class Bar(NamedTuple):
    """Events of one hour with one outcome; ``y`` counts from the top down, in events."""

    x: int
    y: int
    outcome: str
    number: int


class EventsPlot(NamedTuple):
    """Events by hour and outcome: a bar for each hour, stacked by outcome."""

    top: int
    """The highest number on the axis; its half is a whole one, too."""
    bars: list[Bar]
    outcomes: list[tuple[str, int]]
    """Those that there were, and how many events had them."""
    hours: list[Hour]
    total: int
    highest: Hour


class Series(NamedTuple):
    """Latencies by hour, as paths of SVG's, and that of the whole day."""

    line: str
    dots: str
    whole_day: str


class LatencyPlot(NamedTuple):
    """The latency of each hour, on a logarithmic axis."""

    ticks: list[str]
    """Labels of the axis from the top down, a power of ten each."""
    height: int
    p50: Series
    p99: Series
    rows: list[tuple[datetime, str, str]]


def hours_until(at: datetime) -> list[datetime]:
    """Return the beginnings of the hours that the 24 hours before ``at`` touch."""
    last = at.replace(minute=0, second=0, microsecond=0)
    return [last - timedelta(hours=_HOURS - 1 - number) for number in range(_HOURS)]


def events_plot(last_day: LastDayFigures, at: datetime) -> EventsPlot:
    """Return the events of the 24 hours before ``at``."""
    outcomes = [outcome.value for outcome in EVENT_OUTCOMES if outcome in last_day.outcomes]
    found = {(event.hour, event.outcome): event.count for event in last_day.events}
    hours = []
    for hour in hours_until(at):
        counts = tuple(found.get((hour, outcome), 0) for outcome in outcomes)
        hours.append(Hour(hour, counts, sum(counts)))
    highest = max(hours, key=lambda hour: hour.total)
    tops = (digit * 10**power for power in count() for digit in (2, 4, 6, 8, 10))
    top = next(top for top in tops if top >= highest.total)
    bars = [
        Bar(x, top - sum(hour.counts[: place + 1]), outcome, hour.counts[place])
        for x, hour in enumerate(hours)
        for place, outcome in enumerate(outcomes)
        if hour.counts[place]
    ]
    totals = [(outcome, last_day.outcomes[outcome]) for outcome in outcomes]
    return EventsPlot(top, bars, totals, hours, sum(hour.total for hour in hours), highest)


def latency_plot(last_day: LastDayFigures, at: datetime) -> LatencyPlot | None:
    """Return the latency in the 24 hours before ``at``; None if no event had one."""
    hours = hours_until(at)
    found = [each for each in last_day.latencies if each.hour in hours]
    if not found or last_day.latency_p50 is None or last_day.latency_p99 is None:
        return None
    first = floor(_log(min(each.p50 for each in found)))
    last = max(ceil(_log(max(each.p99 for each in found))), first + 1)

    def series(latencies: list[timedelta], whole_day: timedelta) -> Series:
        line, dots, before = "", "", None
        for each, latency in zip(found, latencies, strict=True):
            x, y = hours.index(each.hour), round(_DECADE * (last - _log(latency)))
            # Broken where an hour has none.
            line += f"{'L' if before == x - 1 else 'M'}{x} {y}"
            # A line of no length: its round ends stay round however the plot is stretched.
            dots += f"M{x} {y}h0"
            before = x
        return Series(line, dots, in_seconds(whole_day))

    return LatencyPlot(
        ticks=[in_seconds(timedelta(seconds=10.0**power)) for power in range(last, first - 1, -1)],
        height=_DECADE * (last - first),
        p50=series([each.p50 for each in found], last_day.latency_p50),
        p99=series([each.p99 for each in found], last_day.latency_p99),
        rows=[(each.hour, in_seconds(each.p50), in_seconds(each.p99)) for each in found],
    )


def in_seconds(span: timedelta) -> str:
    """Return a length of time in two digits or so: "250 ms", "1.5 s", "1,200 s"."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s".replace(".0 ", " ") if seconds < 10 else f"{seconds:,.0f} s"


def _log(span: timedelta) -> float:
    return log10(max(span.total_seconds(), _LEAST_SECONDS))
