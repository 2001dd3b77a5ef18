"""Lays the last day's figures out as plots, for a template to draw. Pure.

A plot is 25 hours wide, one unit each, for the last 24 hours begin and end inside one. All numbers
are whole, so that a template writes them alike in any language.
"""

from datetime import datetime, timedelta
from itertools import count
from math import ceil, floor, log10
from typing import Any

from orgs.domain.figures import LastDayFigures
from orgs.domain.types import EVENT_OUTCOMES

_HOURS = 25

#: A logarithm needs a shortest time.
_LEAST_SECONDS = 0.001

#: Height of a power of ten.
_DECADE = 1_000


def hours_until(at: datetime) -> list[datetime]:
    """Return the beginnings of the hours that the 24 hours before ``at`` touch."""
    last = at.replace(minute=0, second=0, microsecond=0)
    return [last - timedelta(hours=_HOURS - 1 - number) for number in range(_HOURS)]


def events_plot(last_day: LastDayFigures, at: datetime) -> dict[str, Any]:
    """Return bars for the events of the 24 hours before ``at``, stacked by outcome.

    ``bars`` are (hour's number, events from the top down, outcome, events); ``hours`` are (begin,
    events by outcome, all events); ``top`` is the highest number on the axis, an even one.
    """
    outcomes = [outcome.value for outcome in EVENT_OUTCOMES if outcome in last_day.outcomes]
    found = {(event.hour, event.outcome): event.count for event in last_day.events}
    hours = []
    for hour in hours_until(at):
        counts = [found.get((hour, outcome), 0) for outcome in outcomes]
        hours.append((hour, counts, sum(counts)))
    busiest, _, highest = max(hours, key=lambda hour: hour[2])
    tops = (digit * 10**power for power in count() for digit in (2, 4, 6, 8, 10))
    top = next(top for top in tops if top >= highest)
    bars = [
        (x, top - sum(counts[: place + 1]), outcome, counts[place])
        for x, (_, counts, _) in enumerate(hours)
        for place, outcome in enumerate(outcomes)
        if counts[place]
    ]
    return {
        "top": top,
        "bars": bars,
        "hours": hours,
        "outcomes": [(outcome, last_day.outcomes[outcome]) for outcome in outcomes],
        "total": sum(hour[2] for hour in hours),
        "busiest": busiest,
        "highest": highest,
    }


def latency_plot(last_day: LastDayFigures, at: datetime) -> dict[str, Any] | None:
    """Return lines for the latency in the 24 hours before ``at``, on a logarithmic axis.

    ``p50`` and ``p99`` are paths of a line and its dots, and the latency of the whole day;
    ``ticks`` are labels from the top down; ``hours`` are (begin, p50, p99). Return None if no event
    had one.
    """
    hours = hours_until(at)
    found = [each for each in last_day.latencies if each.hour in hours]
    if not found or last_day.latency_p50 is None or last_day.latency_p99 is None:
        return None
    first = floor(_log(min(each.p50 for each in found)))
    last = max(ceil(_log(max(each.p99 for each in found))), first + 1)

    def series(latencies: list[timedelta], whole_day: timedelta) -> tuple[str, str, str]:
        line, dots, before = "", "", None
        for each, latency in zip(found, latencies, strict=True):
            x, y = hours.index(each.hour), round(_DECADE * (last - _log(latency)))
            # Broken where an hour has none.
            line += f"{'L' if before == x - 1 else 'M'}{x} {y}"
            # A line of no length: its round ends stay round however the plot is stretched.
            dots += f"M{x} {y}h0"
            before = x
        return line, dots, in_seconds(whole_day)

    return {
        "ticks": [in_seconds(timedelta(seconds=10.0**n)) for n in range(last, first - 1, -1)],
        "height": _DECADE * (last - first),
        "p50": series([each.p50 for each in found], last_day.latency_p50),
        "p99": series([each.p99 for each in found], last_day.latency_p99),
        "hours": [(each.hour, in_seconds(each.p50), in_seconds(each.p99)) for each in found],
    }


def in_seconds(span: timedelta) -> str:
    """Return a length of time in two digits or so: "250 ms", "1.5 s", "1,200 s"."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s".replace(".0 ", " ") if seconds < 10 else f"{seconds:,.0f} s"


def _log(span: timedelta) -> float:
    return log10(max(span.total_seconds(), _LEAST_SECONDS))
