"""Puts the mirror's figures into Prometheus's text format.

Everything is read from the tables, so all are gauges: a table's counts fall when it is pruned, and
a process's own counts would be wrong as soon as there are two. A time that never was is 0, so that
alert rules see it as long ago.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orgs.domain.status import Figures, Problem, ProblemCode, ReadError
from orgs.domain.types import (
    EVENT_OUTCOMES,
)

#: What ``generate_latest`` writes is this too, and every Prometheus reads it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(problems: Sequence[Problem], figures: Figures | None) -> bytes:
    """All metrics, without names, ids or payloads; without figures, what is wrong alone."""
    # One for each scrape: the process's default registry tells of the process.
    registry = CollectorRegistry()
    registry.register(_StatusCollector(problems, figures))
    return generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, problems: Sequence[Problem], figures: Figures | None) -> None:
        self._problems = problems
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield _problems(self._problems)
        if self._figures is None:
            return
        yield from _cursor(self._figures)
        yield from _waiting(self._figures)
        yield from _last_day(self._figures)
        yield _organizations(self._figures)


def _problems(problems: Sequence[Problem]) -> Metric:
    found = {problem.code for problem in problems}
    family = GaugeMetricFamily(
        "gram_sync_problem",
        "1 for what is wrong now, as in /readyz; 0 for what is not.",
        labels=["code", "severity"],
    )
    for code in ProblemCode:
        family.add_metric([code.value, code.severity.value], float(code in found))
    return family


def _cursor(figures: Figures) -> Iterator[Metric]:
    cursor = figures.cursor
    yield GaugeMetricFamily(
        "gram_sync_last_drain_timestamp_seconds",
        "When WorkOS's stream was last read to its end; 0: never.",
        _timestamp(cursor.drained_at),
    )
    yield GaugeMetricFamily(
        "gram_sync_last_event_timestamp_seconds",
        "When the last applied event was created in WorkOS; 0: none was.",
        _timestamp(cursor.last_event_at),
    )
    yield GaugeMetricFamily(
        "gram_sync_last_snapshot_timestamp_seconds",
        "When the last complete snapshot of all organizations began; 0: none was completed.",
        _timestamp(cursor.reconciled_at),
    )
    yield GaugeMetricFamily(
        "gram_sync_last_snapshot_drift",
        "How many organizations it found to differ, and repaired.",
        cursor.last_drift,
    )
    yield GaugeMetricFamily(
        "gram_sync_event_retention_seconds",
        "How long WorkOS keeps events.",
        figures.event_retention.total_seconds(),
    )
    yield GaugeMetricFamily(
        "gram_sync_failed_reads",
        "Failed reads of the stream since the last good one.",
        cursor.failures,
    )
    trouble = GaugeMetricFamily(
        "gram_sync_read_trouble",
        "1 for why the last read failed, if it did; 0 for what it was not.",
        labels=["kind"],
    )
    for kind in ReadError:
        is_it = cursor.failures > 0 and cursor.last_trouble == kind
        trouble.add_metric([kind.value], float(is_it))
    yield trouble
    if figures.queue_length is not None:
        yield GaugeMetricFamily(
            "gram_sync_queue_length", "Tasks that wait for a worker.", figures.queue_length
        )
    yield GaugeMetricFamily(
        "gram_sync_schedule_delay_seconds",
        "How long ago the worker's minute schedule should have rung.",
        figures.schedule_delay.total_seconds(),
    )


def _waiting(figures: Figures) -> Iterator[Metric]:
    waiting = figures.waiting
    yield GaugeMetricFamily(
        "gram_sync_announcements_unseen",
        "Events that a webhook announced and that are not yet read from the stream.",
        waiting.announced,
    )
    yield GaugeMetricFamily(
        "gram_sync_announcements_overdue",
        "Those of them that are past the hold-back window.",
        waiting.overdue,
    )
    yield GaugeMetricFamily(
        "gram_sync_oldest_announcement_age_seconds",
        "Since when the oldest of them waits.",
        _age(figures, waiting.announced_since),
    )
    yield GaugeMetricFamily(
        "gram_sync_events_parked", "Events that wait for a person.", waiting.parked
    )
    yield GaugeMetricFamily(
        "gram_sync_write_backs_pending",
        "Organizations whose id WorkOS is still to be told; conflicts are not among them.",
        waiting.write_backs,
    )
    yield GaugeMetricFamily(
        "gram_sync_write_backs_failing",
        "Those of them that have waited for more than an hour.",
        waiting.write_backs_failing,
    )
    yield GaugeMetricFamily(
        "gram_sync_oldest_write_back_age_seconds",
        "Since when the oldest of them waits.",
        _age(figures, waiting.write_backs_since),
    )
    yield GaugeMetricFamily(
        "gram_sync_write_back_conflicts",
        "Write-backs that wait for a person: WorkOS has another id there.",
        waiting.conflicts,
    )


def _last_day(figures: Figures) -> Iterator[Metric]:
    last_day = figures.last_day
    events = GaugeMetricFamily(
        "gram_sync_events_last_day",
        "Events processed in the last 24 hours.",
        labels=["outcome"],
    )
    outcomes = last_day.outcomes
    for outcome in EVENT_OUTCOMES:
        events.add_metric([outcome.value], outcomes.get(outcome.value, 0))
    yield events
    latency = GaugeMetricFamily(
        "gram_sync_webhook_latency_seconds",
        "From an event's first webhook to its row, of the last 24 hours.",
        labels=["percentile"],
    )
    for percentile, value in (("50", last_day.latency_p50), ("99", last_day.latency_p99)):
        if value is not None:
            latency.add_metric([percentile], value.total_seconds())
    yield latency
    yield GaugeMetricFamily(
        "gram_sync_webhooks_late_last_day",
        "Webhooks of the last 24 hours that came after the stream had brought the event.",
        last_day.late,
    )
    yield GaugeMetricFamily(
        "gram_sync_webhooks_lost_last_day",
        "Events of the last 24 hours that no webhook announced.",
        last_day.lost,
    )


def _organizations(figures: Figures) -> Metric:
    counts = figures.organizations
    family = GaugeMetricFamily(
        "gram_sync_organizations",
        "Rows of organization_metadata; linked and unlinked ones are enabled.",
        labels=["state"],
    )
    family.add_metric(["linked"], counts.linked)
    family.add_metric(["unlinked"], counts.unlinked)
    family.add_metric(["disabled"], counts.disabled)
    return family


def _timestamp(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _age(figures: Figures, since: datetime | None) -> float:
    return 0.0 if since is None else max((figures.at - since).total_seconds(), 0.0)
