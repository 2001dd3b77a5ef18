"""Defines the figures that the mirror's status is made of. Pure.

``…_since`` is when the oldest of what is counted began to wait. A time that never was is None.
``…_error`` and ``snapshot_trouble`` are WorkOS's or PostgreSQL's own words: they may hold ids, and
are for people who are logged in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from orgs.domain.naming import storable
from orgs.domain.report import Change

#: So many events of the last 24 hours are looked at, the latest: a first drain may bring millions.
MOST_EVENTS = 50_000

#: So many changes of a run are kept.
MOST_KEPT = 200


@dataclass(frozen=True, slots=True)
class ResourceFigures:
    """How many rows a resource has, and when it was last listed in full."""

    name: str
    present: int
    deleted: int
    listed_at: datetime | None
    is_covered: bool


def kept(changes: Iterable[Change]) -> list[list[str | None]]:
    """Return the first changes of a run as JSON can hold them: the row's id, and what happened."""
    first = islice(changes, MOST_KEPT)
    return [[change.organization_id, storable(str(change))[:1_000]] for change in first]


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events were processed, with this outcome, in the hour that began then."""

    hour: datetime
    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class HourLatency:
    """``LastDayFigures.latency_p50`` and ``latency_p99``, of the hour that began then."""

    hour: datetime
    p50: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class LastDayFigures:
    """What became of the events of the last 24 hours, of the latest ``MOST_EVENTS`` at most."""

    events: tuple[EventCount, ...] = ()  # by hour and outcome; only those that occurred
    latency_p50: timedelta | None = None  # from the first webhook to the row, of announced events
    latency_p99: timedelta | None = None
    latencies: tuple[HourLatency, ...] = ()  # only hours in which there was one
    announced: int = 0  # processed events that a webhook announced, before or after
    late: int = 0  # those of them whose webhook came after the stream had brought the event
    lost: int = 0  # events that no webhook announced within five minutes
    recently_announced: int = 0  # as announced, of events that WorkOS created in the last hour
    recently_lost: int = 0  # as lost, of events that WorkOS created in the last hour
    unannounced_since: datetime | None = None  # the day's last webhook, else first lost event

    @property
    def outcomes(self) -> dict[str, int]:
        """Return the counts by outcome."""
        counts = Counter[str]()
        for event in self.events:
            counts[event.outcome] += event.count
        return dict(counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The mirror at one moment of the database's clock. What has no row yet has its default."""

    at: datetime
    hold_back_window: timedelta
    event_retention: timedelta  # how long WorkOS keeps events
    is_read_only: bool
    last_day: LastDayFigures
    broken_schedules: tuple[str, ...]  # those that are missing, or will not do what they are for
    sync_due_at: datetime | None  # when the minute schedule is due; in the past: it is late
    queue_length: int | None  # tasks that wait for a worker; None if the queue can't be asked
    has_key: bool = True  # the process that looks has an API key for WorkOS

    # How far the stream is read, and how reads and snapshots go.
    drained_at: datetime | None = None  # when a read last reached the end of the stream
    last_event_at: datetime | None = None  # when the last event that was applied was created
    reconciled_at: datetime | None = None  # when the last complete snapshot began
    last_drift: int = 0  # organizations that it repaired
    last_failed: int = 0  # organizations that PostgreSQL refused to write in it
    snapshot_trouble: str = ""  # why the last snapshot did not complete; empty if it did
    snapshot_error_kind: str = ""  # the ReadError of that, if it is one
    failures: int = 0  # failed reads since the last good one
    failing_since: datetime | None = None
    last_trouble: str = ""  # the ReadError of the last failed read; empty if it is not known
    last_error: str = ""
    is_draining: bool = False  # a drain waits for events that are held back
    is_reconciling: bool = False
    #: When manage.py sync_worker started a cluster: the first time since a read to the end.
    worker_started_at: datetime | None = None

    # What is not done yet.
    announced: int = 0  # by a webhook, and not yet read from the stream
    announced_since: datetime | None = None
    overdue: int = 0  # those of them past the hold-back window, of what is listed in full
    parked: int = 0
    parked_since: datetime | None = None
    write_backs: int = 0  # ids that WorkOS does not know yet; those in conflict are not among them
    write_backs_since: datetime | None = None
    write_backs_failing: int = 0  # those of them that have waited for LONGEST_WRITE_BACK
    write_back_error: str = ""  # why the oldest of them failed
    write_back_conflicts: int = 0  # write-backs that wait for a person's decision
    write_back_conflicts_since: datetime | None = None
    conflicts: int = 0  # other conflicts that wait for a person's decision
    conflicts_since: datetime | None = None
    #: All undecided ones in workos_conflict.
    conflicts_by_kind: Mapping[str, int] = field(default_factory=dict)

    # How many organizations there are; each is linked, unlinked or disabled.
    linked: int = 0
    unlinked: int = 0
    disabled: int = 0
    disabled_here: int = 0  # those of the disabled ones that live in WorkOS
    disabled_here_since: datetime | None = None

    # What the row of the request budget says.
    refused_webhooks: int = 0  # signed with another secret, since the last good one
    refused_since: datetime | None = None  # the first of these webhooks
    last_refused_at: datetime | None = None

    # Which of the resources that the settings name are not mirrored as they should be.
    uncovered: tuple[str, ...] = ()  # all types are followed, and not listed in full since
    uncovered_since: datetime | None = None  # the first of them
    refused_types: tuple[str, ...] = ()  # types of events that WorkOS refuses
    refused_types_since: datetime | None = None  # the first of them

    def elapsed(self, moment: datetime | None) -> timedelta:
        """Return how far away a moment is; endless if it never was.

        Stored times are the database's: one in the future is wrong, and must not look recent.
        """
        return timedelta.max if moment is None else abs(self.at - moment)

    @property
    def since_drain(self) -> timedelta:
        """Return how long ago a read reached the end of the stream."""
        return self.elapsed(self.drained_at)

    @property
    def schedule_delay(self) -> timedelta:
        """Return how late the minute schedule is; zero if it is not due yet."""
        return max(self.at - (self.sync_due_at or self.at), timedelta(0))
