"""Puts the mirror's figures into Prometheus's text format.

Everything is read from the tables, so all are gauges: a table's counts fall when it is pruned, and
a process's own counts would be wrong as soon as there are two. A time that never was is 0, so that
alert rules see it as long ago.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import orgs
from orgs.domain.figures import MOST_EVENTS, Figures
from orgs.domain.status import SEVERITIES, ReadError, Status
from orgs.domain.types import EVENT_OUTCOMES, ConflictKind


@dataclass(frozen=True, slots=True)
class StatusCollector(Collector):
    """Collects the metrics of one status, without names, ids or payloads."""

    status: Status

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; without figures, what is wrong alone."""
        problems = GaugeMetricFamily(
            "gram_sync_problem",
            "1 for what is wrong now, as in /readyz; 0 for what is not.",
            labels=["code", "severity"],
        )
        found = {(problem.code, problem.severity) for problem in self.status.problems}
        for code, severity in sorted(SEVERITIES):
            problems.add_metric([code, severity], float((code, severity) in found))
        yield problems
        build = GaugeMetricFamily("gram_sync_build_info", "The release.", labels=["version"])
        build.add_metric([orgs.__version__], 1)
        yield build
        if self.status.figures is not None:
            for name, path, text in GAUGES:
                if (number := _number(self.status.figures, name, path)) is not None:
                    yield GaugeMetricFamily(f"gram_sync_{name}", text, number)
            for name, text, label, values in LABELLED:
                family = GaugeMetricFamily(f"gram_sync_{name}", text, labels=[label])
                for key, count in values(self.status.figures).items():
                    family.add_metric([key], count)
                yield family


def _number(figures: Figures, name: str, path: str) -> float | None:
    """Return the figure at this path, as a metric of this name says it."""
    value = attrgetter(path)(figures)
    if isinstance(value, datetime):
        is_time = name.endswith("_timestamp_seconds")
        return value.timestamp() if is_time else max((figures.at - value).total_seconds(), 0.0)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return 0.0 if value is None and name.endswith("_seconds") else value


# Not formatted: a metric is a line.
# fmt: off

GAUGES: Final = (
    ("last_drain_timestamp_seconds", "drained_at", "When the stream was last read whole."),
    ("last_event_timestamp_seconds", "last_event_at", "When the last event was created."),
    ("last_snapshot_timestamp_seconds", "reconciled_at", "When the last snapshot began."),
    ("last_snapshot_drift", "last_drift", "Organizations that it repaired."),
    ("last_snapshot_failed", "last_failed", "Organizations that PostgreSQL refused in it."),
    ("event_retention_seconds", "event_retention", "How long WorkOS keeps events."),
    ("failed_reads", "failures", "Failed reads of the stream since the last good one."),
    ("queue_length", "queue_length", "Tasks that wait for a worker."),
    ("schedule_delay_seconds", "schedule_delay", "How late the worker's minute schedule is."),
    ("announcements_unseen", "announced", "Events announced by a webhook and not read."),
    ("announcements_overdue", "overdue", "Those of them past the hold-back window."),
    ("oldest_announcement_age_seconds", "announced_since", "How long the oldest waits."),
    ("events_parked", "parked", "Events that wait for a person."),
    ("oldest_parked_event_age_seconds", "parked_since", "How long the oldest waits."),
    ("write_backs_pending", "write_backs", "Ids that WorkOS does not know yet."),
    ("write_backs_failing", "write_backs_failing", "Those of them that waited an hour."),
    ("oldest_write_back_age_seconds", "write_backs_since", "How long the oldest waits."),
    ("write_back_conflicts", "write_back_conflicts", "Write-backs for a person."),
    ("organizations_disabled_here", "disabled_here", "Disabled, alive in WorkOS."),
    ("webhooks_refused", "refused_webhooks", "Wrongly signed since the last good one."),
    ("webhooks_late_last_day", "last_day.late", "Webhooks that came after the stream's event."),
    ("webhooks_lost_last_day", "last_day.lost", "Events that no webhook announced."),
)

LABELLED: Final[tuple[tuple[str, str, str, Callable[[Figures], Mapping[str, float]]], ...]] = (
    ("read_trouble", "1 for why the last read failed, if it did; 0 for what it was not.", "kind",
        lambda f: {kind: float(f.failures > 0 and f.last_trouble == kind)
                   for kind in ReadError}),
    ("conflicts", "Conflicts that wait for a person, by what they are about.", "kind",
        lambda f: {kind: f.conflicts_by_kind.get(kind, 0) for kind in ConflictKind}),
    ("organizations", "Rows; linked and unlinked ones are enabled.", "state",
        lambda f: {"linked": f.linked, "unlinked": f.unlinked, "disabled": f.disabled}),
    ("events_last_day", f"Events of the last 24 hours, of the latest {MOST_EVENTS:,} at most.",
        "outcome", lambda f: {o: f.last_day.outcomes.get(o, 0) for o in EVENT_OUTCOMES}),
    ("webhook_latency_seconds", "From an event's first webhook to its row, over 24 hours.",
        "percentile", lambda f: {name: value.total_seconds() for name, value in
            (("50", f.last_day.latency_p50), ("99", f.last_day.latency_p99)) if value is not None}),
)
