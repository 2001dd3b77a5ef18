"""Puts the mirror's figures into Prometheus's text format.

Everything is read from the tables, so all are gauges: a table's counts fall when it is pruned, and
a process's own counts would be wrong as soon as there are two. A time that never was is 0, so that
alert rules see it as long ago.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import orgs
from orgs.domain.figures import MOST_EVENTS, Figures
from orgs.domain.status import SEVERITIES, ReadError, Status
from orgs.domain.types import EVENT_OUTCOMES, ConflictKind

#: What ``generate_latest`` writes is this too, and every Prometheus reads it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(status: Status) -> bytes:
    """Return all metrics, without names, ids or payloads; without figures, what is wrong alone."""
    # One for each scrape: the process's default registry has the process's own figures.
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    return generate_latest(registry)


class StatusCollector(Collector):
    """Collects the metrics of one status."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
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
            for name, text, value in GAUGES:
                if (number := value(self.status.figures)) is not None:
                    yield GaugeMetricFamily(f"gram_sync_{name}", text, number)
            for name, text, label, values in LABELLED:
                family = GaugeMetricFamily(f"gram_sync_{name}", text, labels=[label])
                for key, count in values(self.status.figures).items():
                    family.add_metric([key], count)
                yield family


def _timestamp(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _age(f: Figures, since: datetime | None) -> float:
    return 0.0 if since is None else max((f.at - since).total_seconds(), 0.0)


# Not formatted: a metric is a line or two.
# fmt: off

GAUGES: Final[tuple[tuple[str, str, Callable[[Figures], float | None]], ...]] = (
    ("last_drain_timestamp_seconds", "When WorkOS's stream was last read to its end; 0: never.",
        lambda f: _timestamp(f.cursor.drained_at)),
    ("last_event_timestamp_seconds", "When the last applied event was created; 0: none was.",
        lambda f: _timestamp(f.cursor.last_event_at)),
    ("last_snapshot_timestamp_seconds", "When the last complete snapshot began; 0: never.",
        lambda f: _timestamp(f.cursor.reconciled_at)),
    ("last_snapshot_drift", "Organizations that it repaired.", lambda f: f.cursor.last_drift),
    ("last_snapshot_failed", "Organizations that PostgreSQL refused to write in it.",
        lambda f: f.cursor.last_failed),
    ("event_retention_seconds", "How long WorkOS keeps events.",
        lambda f: f.event_retention.total_seconds()),
    ("failed_reads", "Failed reads of the stream since the last good one.",
        lambda f: f.cursor.failures),
    ("schedule_delay_seconds", "How late the worker's minute schedule is.",
        lambda f: f.schedule_delay.total_seconds()),
    ("announcements_unseen", "Events that a webhook announced and that are not yet read.",
        lambda f: f.waiting.announced),
    ("announcements_overdue", "Those of them that are past the hold-back window.",
        lambda f: f.waiting.overdue),
    ("oldest_announcement_age_seconds", "How long the oldest of them has waited.",
        lambda f: _age(f, f.waiting.announced_since)),
    ("events_parked", "Events that wait for a person.", lambda f: f.waiting.parked),
    ("oldest_parked_event_age_seconds", "How long the oldest of them has waited.",
        lambda f: _age(f, f.waiting.parked_since)),
    ("write_backs_pending", "Ids that WorkOS does not know yet; without those in conflict.",
        lambda f: f.waiting.write_backs),
    ("write_backs_failing", "Those of them that have waited for more than an hour.",
        lambda f: f.waiting.write_backs_failing),
    ("oldest_write_back_age_seconds", "How long the oldest of them has waited.",
        lambda f: _age(f, f.waiting.write_backs_since)),
    ("write_back_conflicts", "Write-backs that wait for a person.",
        lambda f: f.waiting.write_back_conflicts),
    ("organizations_disabled_here", "Linked rows that are disabled here and live in WorkOS.",
        lambda f: f.organizations.disabled_here),
    ("webhooks_refused", "Webhooks with a wrong signature since the last good one.",
        lambda f: f.requests.refused_webhooks),
    ("webhooks_late_last_day", "Webhooks of 24 hours that came after the stream's event.",
        lambda f: f.last_day.late),
    ("queue_length", "Tasks that wait for a worker.", lambda f: f.queue_length),
    ("webhooks_lost_last_day", "Events of 24 hours that no webhook announced.",
        lambda f: f.last_day.lost),
)

LABELLED: Final[tuple[tuple[str, str, str, Callable[[Figures], Mapping[str, float]]], ...]] = (
    ("read_trouble", "1 for why the last read failed, if it did; 0 for what it was not.", "kind",
        lambda f: {kind: float(f.cursor.failures > 0 and f.cursor.last_trouble == kind)
                   for kind in ReadError}),
    ("conflicts", "Conflicts that wait for a person, by what they are about.", "kind",
        lambda f: {kind: f.waiting.conflicts_by_kind.get(kind, 0) for kind in ConflictKind}),
    ("organizations", "Rows; linked and unlinked ones are enabled.", "state",
        lambda f: {"linked": f.organizations.linked, "unlinked": f.organizations.unlinked,
                   "disabled": f.organizations.disabled}),
    ("events_last_day", f"Events of the last 24 hours, of the latest {MOST_EVENTS:,} at most.",
        "outcome", lambda f: {o: f.last_day.outcomes.get(o, 0) for o in EVENT_OUTCOMES}),
    ("webhook_latency_seconds", "From an event's first webhook to its row, over 24 hours.",
        "percentile", lambda f: {name: value.total_seconds() for name, value in
            (("50", f.last_day.latency_p50), ("99", f.last_day.latency_p99)) if value is not None}),
)
