"""How the last day is laid out: where bars, lines and labels are."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from orgs.admin.plots import events_plot, hours_until, in_seconds, latency_plot
from orgs.domain.figures import EventCount, HourLatency, LastDayFigures
from tests.builders import NOON, minutes

AT = NOON + minutes(40)


def hours_before(count: int) -> datetime:
    return NOON - timedelta(hours=count)


def a_day(events: Any = (), latencies: tuple[HourLatency, ...] = ()) -> LastDayFigures:
    return LastDayFigures(
        events=events,
        latency_p50=latencies[0].p50 if latencies else None,
        latency_p99=latencies[0].p99 if latencies else None,
        latencies=latencies,
    )


def plot_of(*events: tuple[int, str, int]) -> dict[str, Any]:
    counts = [EventCount(hours_before(ago), outcome, count) for ago, outcome, count in events]
    return events_plot(a_day(tuple(counts)), AT)


def latencies_of(*seconds: tuple[int, float, float]) -> dict[str, Any]:
    latencies = [
        HourLatency(hours_before(ago), timedelta(seconds=p50), timedelta(seconds=p99))
        for ago, p50, p99 in seconds
    ]
    plot = latency_plot(a_day(latencies=tuple(latencies)), AT)
    assert plot is not None
    return plot


def test_the_plot_begins_in_the_hour_in_which_the_24_hours_do_and_ends_in_this() -> None:
    hours = hours_until(AT)

    assert (len(hours), hours[0], hours[-1]) == (25, hours_before(24), NOON)


def test_a_days_bars_are_stacked_in_the_order_of_the_outcomes() -> None:
    plot = plot_of((24, "parked", 1), (24, "created", 2), (0, "created", 4))

    assert plot["bars"] == [(0, 2, "created", 2), (0, 1, "parked", 1), (24, 0, "created", 4)]
    assert plot["outcomes"] == [("created", 6), ("parked", 1)]
    assert [hour for hour in plot["hours"] if hour[2]] == [
        (hours_before(24), [2, 1], 3),
        (NOON, [4, 0], 4),
    ]
    assert (plot["total"], plot["busiest"], plot["highest"]) == (7, NOON, 4)


def test_a_day_without_events_has_an_empty_plot_and_none_of_latency() -> None:
    plot = plot_of()

    assert (plot["bars"], plot["outcomes"], plot["total"]) == ([], [], 0)
    assert latency_plot(a_day(), AT) is None


@pytest.mark.parametrize(
    ("count", "top"), [(1, 2), (2, 2), (3, 4), (5, 6), (9, 10), (11, 20), (41, 60), (1001, 2000)]
)
def test_the_axis_ends_at_a_round_number_with_a_whole_half(count: int, top: int) -> None:
    assert plot_of((0, "created", count))["top"] == top


def test_latency_is_drawn_on_a_logarithmic_axis_with_gaps_where_there_was_none() -> None:
    plot = latencies_of((24, 1, 10), (23, 0.1, 100), (3, 1, 1))

    assert plot["ticks"] == ["100 s", "10 s", "1 s", "100 ms"]
    assert plot["height"] == 3000
    assert plot["p50"] == ("M0 2000L1 3000M21 2000", "M0 2000h0M1 3000h0M21 2000h0", "1 s")
    assert plot["p99"][0] == "M0 1000L1 0M21 2000"


@pytest.mark.parametrize(
    ("p50", "p99", "ticks"),
    [
        pytest.param(1, 1, "10 s/1 s", id="all the same, a power of ten"),
        pytest.param(0, 0, "10 ms/1 ms", id="none at all"),
        pytest.param(2, 3, "10 s/1 s", id="within a decade"),
        pytest.param(2, 9e4, "100,000 s/10,000 s/1,000 s/100 s/10 s/1 s", id="a day"),
    ],
)
def test_the_axis_of_the_latency_has_a_decade_at_least(p50: float, p99: float, ticks: str) -> None:
    assert latencies_of((0, p50, p99))["ticks"] == ticks.split("/")


def test_a_latency_has_about_two_digits() -> None:
    words = {4e-4: "0 ms", 0.25: "250 ms", 1: "1 s", 1.44: "1.4 s", 12.6: "13 s", 1e4: "10,000 s"}

    assert {seconds: in_seconds(timedelta(seconds=seconds)) for seconds in words} == words
