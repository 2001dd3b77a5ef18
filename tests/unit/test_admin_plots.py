"""How the last day is laid out: where bars, lines and labels stand."""

from datetime import datetime, timedelta

import pytest

from orgs.admin.plots import EventsPlot, LatencyPlot, events_plot, latency_plot, seconds_in_words
from orgs.domain.status import EventCount, HourLatency, LastDayFigures
from tests.builders import NOON, minutes

AT = NOON + minutes(40)


def hours_before(count: int) -> datetime:
    return NOON - timedelta(hours=count)


def plot_of(*events: EventCount) -> EventsPlot:
    return events_plot(a_day(events=events), AT)


def a_day(
    events: tuple[EventCount, ...] = (), latencies: tuple[HourLatency, ...] = ()
) -> LastDayFigures:
    return LastDayFigures(
        events=events,
        latency_p50=latencies[0].p50 if latencies else None,
        latency_p99=latencies[0].p99 if latencies else None,
        latencies=latencies,
        announced=0,
        late=0,
        lost=0,
        recently_announced=0,
        recently_lost=0,
    )


def latencies_of(*seconds: tuple[int, float, float]) -> LatencyPlot:
    plot = latency_plot(
        a_day(
            latencies=tuple(
                HourLatency(hours_before(ago), timedelta(seconds=p50), timedelta(seconds=p99))
                for ago, p50, p99 in seconds
            )
        ),
        AT,
    )
    assert plot is not None
    return plot


def test_the_plot_begins_in_the_hour_in_which_the_24_hours_do_and_ends_in_this() -> None:
    plot = plot_of()

    assert (len(plot.hours), plot.hours[0], plot.hours[-1]) == (25, hours_before(24), NOON)


def test_a_days_bars_are_stacked_in_the_order_of_the_outcomes() -> None:
    plot = plot_of(
        EventCount(hours_before(24), "parked", 1),
        EventCount(hours_before(24), "created", 2),
        EventCount(NOON, "created", 4),
    )

    assert [(bar.outcome, bar.x, bar.y, bar.height) for bar in plot.bars] == [
        ("created", "0.08", "50", "50"),
        ("parked", "0.08", "25", "25"),
        ("created", "24.08", "0", "100"),
    ]
    assert plot.ticks == ("4", "2", "0")
    assert plot.outcomes == (("created", 6), ("parked", 1))


def test_the_table_holds_the_hours_in_which_there_was_something() -> None:
    plot = plot_of(EventCount(hours_before(3), "stale", 2), EventCount(NOON, "created", 1))

    assert [(row.hour, row.counts, row.total) for row in plot.rows] == [
        (hours_before(3), (0, 2), 2),
        (NOON, (1, 0), 1),
    ]
    assert plot.total == 3
    assert plot.highest == plot.rows[0]


def test_a_day_without_events_has_an_empty_plot() -> None:
    plot = plot_of()

    assert (plot.bars, plot.rows, plot.total, plot.highest) == ((), (), 0, None)


@pytest.mark.parametrize(
    ("count", "tick"),
    [(1, "2"), (2, "2"), (3, "4"), (5, "6"), (9, "10"), (11, "20"), (41, "60"), (1001, "2,000")],
)
def test_the_axis_ends_at_a_round_number_with_a_whole_half(count: int, tick: str) -> None:
    assert plot_of(EventCount(NOON, "created", count)).ticks[0] == tick


def test_latency_is_drawn_on_a_logarithmic_axis() -> None:
    plot = latencies_of((24, 1, 10), (23, 0.1, 100))

    assert plot.ticks == ("100 s", "10 s", "1 s", "100 ms")
    assert plot.gridlines == ("0", "33.33", "66.67", "100")
    assert plot.p50_line == "M0.5 66.67L1.5 100"
    assert plot.p99_line == "M0.5 33.33L1.5 0"
    assert plot.p50_dots == "M0.5 66.67h0M1.5 100h0"


def test_a_line_is_broken_where_an_hour_had_no_latency() -> None:
    plot = latencies_of((5, 1, 1), (3, 1, 1))

    assert plot.p50_line.count("M") == 2
    assert plot.p50_dots.count("M") == 2


@pytest.mark.parametrize(
    ("p50", "p99", "ticks"),
    [
        pytest.param(1, 1, ("10 s", "1 s"), id="all the same, a power of ten"),
        pytest.param(0, 0, ("10 ms", "1 ms"), id="none at all"),
        pytest.param(2, 3, ("10 s", "1 s"), id="within a decade"),
        pytest.param(
            2, 90_000, ("100,000 s", "10,000 s", "1,000 s", "100 s", "10 s", "1 s"), id="a day"
        ),
    ],
)
def test_the_axis_of_the_latency_has_a_decade_at_least(
    p50: float, p99: float, ticks: tuple[str, ...]
) -> None:
    assert latencies_of((0, p50, p99)).ticks == ticks


def test_without_latency_there_is_no_plot_of_it() -> None:
    assert latency_plot(a_day(), AT) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (1.44, "1.4 s"),
        (12.6, "13 s"),
        (1e4, "10,000 s"),
    ],
)
def test_a_latency_is_told_in_about_two_digits(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words
