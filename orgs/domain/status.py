"""Decides what is wrong with the mirror, and says what to do about it. Pure.

The one source for the status page, ``/readyz`` and ``/metrics``: each shows these figures and these
problems, and none has thresholds of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

#: A drain reaches the end every minute, even if nothing happens.
LONGEST_SINCE_DRAIN = timedelta(minutes=5)

#: The schedule has tried again by then: it is no hiccup.
LONGEST_FAILING = timedelta(minutes=2)

#: So long before WorkOS forgets what was not read, there is time to mend it by daylight.
RETENTION_MARGIN = timedelta(days=7)

#: A write-back's pauses grow to 15 minutes: by then it has failed about ten times.
LONGEST_WRITE_BACK = timedelta(hours=1)

#: The schedule rings every minute, and the worker looks for what is due twice a minute.
LONGEST_SCHEDULE_DELAY = timedelta(minutes=3)

#: One snapshot a day; one that failed is not yet a reason to be woken.
LONGEST_SINCE_SNAPSHOT = timedelta(hours=50)


class Severity(StrEnum):
    """Whether someone has to act at once: an error makes ``/readyz`` answer 503."""

    ERROR = "error"
    WARNING = "warning"


class ProblemCode(StrEnum):
    """The stable names of what can be wrong, for alert rules and runbooks."""

    DATABASE_UNUSABLE = "database_unusable"
    DATABASE_READ_ONLY = "database_read_only"
    TABLES_LOCKED = "tables_locked"
    GRANTS_MISSING = "grants_missing"
    MIGRATIONS_UNAPPLIED = "migrations_unapplied"
    SCHEDULES_MISSING = "schedules_missing"
    QUEUE_UNUSABLE = "queue_unusable"
    WORKER_NOT_RUNNING = "worker_not_running"
    CURSOR_OLD = "cursor_old"
    READS_FAILING = "reads_failing"
    RETENTION_NEAR = "retention_near"
    ANNOUNCEMENTS_OVERDUE = "announcements_overdue"
    EVENTS_PARKED = "events_parked"
    WRITE_BACKS_FAILING = "write_backs_failing"
    WRITE_BACK_CONFLICTS = "write_back_conflicts"
    WEBHOOKS_ABSENT = "webhooks_absent"
    SNAPSHOT_INCOMPLETE = "snapshot_incomplete"
    SNAPSHOT_OLD = "snapshot_old"

    @property
    def severity(self) -> Severity:
        """Whether this problem has to be acted on at once."""
        return Severity.WARNING if self in _WARNINGS else Severity.ERROR


_WARNINGS = frozenset(
    {
        ProblemCode.READS_FAILING,
        ProblemCode.WRITE_BACK_CONFLICTS,
        ProblemCode.WEBHOOKS_ABSENT,
        ProblemCode.SNAPSHOT_INCOMPLETE,
        ProblemCode.SNAPSHOT_OLD,
    }
)


class ReadError(StrEnum):
    """The stable names of why a read of the stream failed: they can be shown to anyone, where
    WorkOS's and PostgreSQL's own words can't."""

    KEY_MISSING = "key_missing"
    KEY_REFUSED = "key_refused"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    NOT_UNDERSTOOD = "not_understood"
    CURSOR_LOST = "cursor_lost"
    LOCK_NOT_HAD = "lock_not_had"
    DATABASE = "database"
    CLIENT_MISCONFIGURED = "client_misconfigured"
    """The client can't be built: a proxy setting or a certificate file is wrong."""
    WRONG_ENVIRONMENT = "wrong_environment"
    """WorkOS lists none of the organizations that are linked here."""
    WRITES_REFUSED = "writes_refused"
    """PostgreSQL refuses every item in a row with the same code."""

    @property
    def needs_person(self) -> bool:
        """Return True if no later read will do better by itself."""
        return self in (
            self.KEY_MISSING,
            self.KEY_REFUSED,
            self.CLIENT_MISCONFIGURED,
            self.WRONG_ENVIRONMENT,
            self.WRITES_REFUSED,
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, fit to be shown to anyone: ``sentence`` and ``remedy`` hold figures
    and commands, and no name, id or payload."""

    code: ProblemCode
    sentence: str
    remedy: str
    detail: str = ""
    """WorkOS's or PostgreSQL's own words, which may hold ids: for people who are logged in."""

    @property
    def severity(self) -> Severity:
        """That of its code."""
        return self.code.severity


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorFigures:
    """Where the stream stands, and how reading it goes."""

    drained_at: datetime | None
    """When a read last reached the end of the stream; None: never."""
    last_event_at: datetime | None
    """When the last event that was applied was created."""
    reconciled_at: datetime | None
    """When the last complete snapshot began; None: never."""
    last_drift: int
    """How many organizations it found to differ, and repaired."""
    snapshot_trouble: str
    """Why the last snapshot did not complete; may hold ids. Empty if it did."""
    failures: int
    """Failed reads since the last good one."""
    last_trouble: str
    """Of which ``ReadError`` the last of them was; empty if none was, or it is not known."""
    last_error: str
    """WorkOS's words; may hold ids."""
    is_draining: bool
    """Whether a drain waits for events that are held back."""
    is_reconciling: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFigures:
    """What is not done yet."""

    announced: int
    """Announced by a webhook, and not yet read."""
    announced_since: datetime | None
    """When the oldest of them was announced."""
    overdue: int
    """Those of them that are past the hold-back window."""
    parked: int
    write_backs: int
    """Organizations whose id WorkOS is still to be told; conflicts are not among them."""
    write_backs_since: datetime | None
    """When the oldest of them was asked for."""
    write_backs_failing: int
    """Those of them that have waited for longer than ``LONGEST_WRITE_BACK``."""
    write_back_error: str
    """Why the oldest of them failed; may hold ids."""
    conflicts: int
    """Write-backs that wait for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationFigures:
    """How many rows there are; each is counted once."""

    linked: int
    """Linked and enabled."""
    unlinked: int
    """Enabled, and no organization of WorkOS's is known for them."""
    disabled: int


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
    """What happened in the last 24 hours."""

    events: tuple[EventCount, ...]
    """By hour and outcome; only those that occurred. The first hour is not a whole one."""
    latency_p50: timedelta | None
    """From an event's first webhook to its row, of events that were announced and then applied."""
    latency_p99: timedelta | None
    latencies: tuple[HourLatency, ...] = ()
    """By hour; only those in which there was one. The first hour is not a whole one."""
    announced: int
    """Processed events that a webhook announced, before or after."""
    late: int
    """Those of them whose webhook came after the stream had brought the event."""
    lost: int
    """Processed events of the last day that no webhook announced, in five minutes or more."""
    recently_announced: int
    """As ``announced``, of events that WorkOS created in the last hour."""
    recently_lost: int
    """As ``lost``, of events that WorkOS created in the last hour."""

    @property
    def outcomes(self) -> dict[str, int]:
        """Counts by outcome."""
        counts: dict[str, int] = {}
        for event in self.events:
            counts[event.outcome] = counts.get(event.outcome, 0) + event.count
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFigures:
    """django-q2's schedules."""

    broken: tuple[str, ...]
    """Names of those that are missing, or will not do what they are for."""
    sync_due_at: datetime | None
    """When the minute schedule rings next; in the past: when it should have rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the mirror is, by the database's clock ``at`` one moment."""

    at: datetime
    hold_back_window: timedelta
    event_retention: timedelta
    """How long WorkOS keeps events that were not read."""
    cursor: CursorFigures
    waiting: WaitingFigures
    organizations: OrganizationFigures
    last_day: LastDayFigures
    schedules: ScheduleFigures
    queue_length: int | None
    """How many tasks wait for a worker; None if the queue can't be asked."""
    is_read_only: bool
    """Whether the database takes no writes."""

    @property
    def since_drain(self) -> timedelta | None:
        """How long ago a read last reached the end of the stream; None: it never did."""
        drained_at = self.cursor.drained_at
        return None if drained_at is None else self.at - drained_at

    @property
    def schedule_delay(self) -> timedelta:
        """How long ago the minute schedule should have rung; zero if it is not due yet."""
        due_at = self.schedules.sync_due_at
        return timedelta(0) if due_at is None else max(self.at - due_at, timedelta(0))


@dataclass(frozen=True, slots=True)
class Status:
    """What is wrong, causes before consequences; and the figures, if they could be had."""

    problems: tuple[Problem, ...]
    figures: Figures | None = None

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong that someone has to act on at once."""
        return all(problem.severity is not Severity.ERROR for problem in self.problems)


def status_of(figures: Figures) -> Status:
    """The status of a mirror whose database is there, and migrated."""
    return Status(tuple(_problems(figures)), figures)


def database_unusable(error: str) -> Problem:
    """The problem that PostgreSQL can't be asked; ``error`` is what psycopg says."""
    return Problem(
        ProblemCode.DATABASE_UNUSABLE,
        "The database can't be reached, or does not answer in time.",
        "See whether PostgreSQL runs, has free connections, and is where DATABASE_URL says. "
        "Nothing is lost: WorkOS sends webhooks again, and the stream is read from where it stood.",
        error,
    )


def tables_locked(error: str) -> Problem:
    """The problem that PostgreSQL is there, and gave no answer in time."""
    return Problem(
        ProblemCode.TABLES_LOCKED,
        "PostgreSQL is there, and does not answer in time: another program holds a lock on a table "
        "of the mirror's, or the server is overloaded.",
        f"{_OLD_TRANSACTIONS} shows who may hold one. End it there, or with `SELECT "
        "pg_terminate_backend(pid)`. Nothing is lost meanwhile.",
        error,
    )


def grants_missing(grants: Sequence[str], error: str = "") -> Problem:
    """The problem that PostgreSQL's user may not do these, as in ``UPDATE ON workos_event``; none
    are given if only ``error`` is known."""
    lacking = ", ".join(grants) or "some"
    return Problem(
        ProblemCode.GRANTS_MISSING,
        f"The user that DATABASE_URL names lacks grants on the mirror's tables: {lacking}.",
        "As the tables' owner, GRANT them to it; `manage.py check --database default` names each.",
        error,
    )


def migrations_unapplied(names: Sequence[str]) -> Problem:
    """The problem that these migrations, ``app.name`` each, are not applied."""
    return Problem(
        ProblemCode.MIGRATIONS_UNAPPLIED,
        f"{_count(len(names), 'migration')} not applied: {', '.join(names)}.",
        "Run `manage.py migrate`.",
    )


#: Who keeps others waiting, in SQL.
_OLD_TRANSACTIONS = (
    "`SELECT pid, application_name, xact_start, query FROM pg_stat_activity "
    "WHERE xact_start < now() - interval '1 minute'`"
)


def _problems(figures: Figures) -> Iterator[Problem]:
    if figures.is_read_only:
        yield Problem(
            ProblemCode.DATABASE_READ_ONLY,
            "The database takes no writes: it is a standby, or default_transaction_read_only is "
            "on. Webhooks are answered 503, and nothing is applied.",
            "Point DATABASE_URL at the primary, or find who made it read-only (a failover, a full "
            "disk, ALTER SYSTEM or ALTER DATABASE); then restart web and worker, whose connections "
            "keep that setting. Nothing is lost.",
        )
        # Nothing else can be mended before that.
        return
    yield from _worker_problems(figures)
    yield from _cursor_problems(figures)
    yield from _waiting_problems(figures)
    yield from _webhook_problems(figures)
    yield from _snapshot_problems(figures)


def _worker_problems(figures: Figures) -> Iterator[Problem]:
    if figures.schedules.broken:
        yield Problem(
            ProblemCode.SCHEDULES_MISSING,
            f"These schedules are missing, or changed so that they do not do what they are for: "
            f"{', '.join(figures.schedules.broken)}.",
            "Run `manage.py migrate`, which makes them and mends them.",
        )
    if figures.queue_length is None:
        yield Problem(
            ProblemCode.QUEUE_UNUSABLE,
            "The queue can't be reached: nothing that is rung for reaches a worker.",
            "See whether Redis runs and is where REDIS_URL says. Nothing is lost: webhooks are "
            "taken, and the schedule rings once it is back. Until then `manage.py reconcile_workos "
            "--events-only` reads the stream.",
        )
    delay = figures.schedule_delay
    if delay > LONGEST_SCHEDULE_DELAY:
        yield Problem(
            ProblemCode.WORKER_NOT_RUNNING,
            f"No worker runs, or its scheduler fails: the minute schedule should have rung "
            f"{in_words(delay)} ago.",
            "Start one: `systemctl restart gram-sync-worker`, or `manage.py qcluster`. "
            "`systemctl status gram-sync-worker` and its log say why it ended. If its log says "
            "*Could not create task from schedule*, mend or delete the schedule of another app "
            "that is due, in the admin, under Scheduled tasks.",
        )


def _cursor_problems(figures: Figures) -> Iterator[Problem]:
    age, cursor = figures.since_drain, figures.cursor
    if age is not None and age <= LONGEST_SINCE_DRAIN:
        if _is_worth_telling(figures, age):
            yield _failing_reads(cursor)
        return
    since = (
        "was never read to its end" if age is None else f"was last read to its end {in_words(age)}"
    )
    ago = "" if age is None else " ago"
    if cursor.failures:
        reason, remedy = _why_reads_fail(cursor)
        reason = f"; the last {_reads(cursor.failures)} failed: {reason}"
    else:
        reason = f", and no read has failed; {_count(figures.queue_length or 0, 'task')} queued"
        remedy = (
            "The worker does not work its queue off: `systemctl restart gram-sync-worker`. Until "
            "it does, `manage.py reconcile_workos --events-only` reads the stream. If very many "
            "are queued that are not ours, raise WORKERS, or see in the admin, under Queued tasks, "
            "whose they are."
        )
    yield Problem(
        ProblemCode.CURSOR_OLD,
        f"WorkOS's stream {since}{ago}{reason}.",
        remedy,
        cursor.last_error,
    )
    if age is not None and age > figures.event_retention - RETENTION_MARGIN:
        yield _retention_problem(age, figures.event_retention)


def _is_worth_telling(figures: Figures, age: timedelta) -> bool:
    """Whether failing reads are told before the cursor is old: who looks meanwhile must not find
    all well, nor an overdue announcement without its cause."""
    cursor = figures.cursor
    is_no_hiccup = age > LONGEST_FAILING or bool(figures.waiting.overdue)
    return cursor.failures > 0 and (is_no_hiccup or _needs_person(cursor.last_trouble))


def _failing_reads(cursor: CursorFigures) -> Problem:
    reason, remedy = _why_reads_fail(cursor)
    return Problem(
        ProblemCode.READS_FAILING,
        f"The last {_reads(cursor.failures)} of WorkOS's stream failed: {reason}. Nothing comes "
        "from there until one succeeds.",
        remedy,
        cursor.last_error,
    )


_ITS_WORDS = "Its words are in the admin, under Sync status, and in the worker's log."
_TRIED_AGAIN = "It is tried again by itself, every minute at least."


class _Told(NamedTuple):
    reason: str
    """For the end of a sentence."""
    remedy: str


_READ_TROUBLE = {
    ReadError.KEY_MISSING: _Told(
        "there is no API key that WorkOS could be asked with",
        "Set WORKOS_API_KEY for web and worker, and restart both.",
    ),
    ReadError.KEY_REFUSED: _Told(
        "WorkOS refuses the API key",
        "See in WorkOS's dashboard, under API keys, whether it was revoked or may not read events. "
        "If so, make one there, set WORKOS_API_KEY, and restart web and worker.",
    ),
    ReadError.RATE_LIMITED: _Told(
        "WorkOS limits how often it may be asked (429)",
        f"{_TRIED_AGAIN} If it lasts, find what else asks with this API key: the limit is the "
        "key's.",
    ),
    ReadError.UNAVAILABLE: _Told(
        "WorkOS does not answer, or answers with an error of its own",
        "See https://status.workos.com, and whether the worker's machine reaches WorkOS (DNS, "
        f"proxy, firewall, WORKOS_BASE_URL). {_TRIED_AGAIN} {_ITS_WORDS}",
    ),
    ReadError.NOT_UNDERSTOOD: _Told(
        "WorkOS answers with what is no page of events",
        "A proxy may answer in its place, or WORKOS_BASE_URL be wrong. "
        f"{_TRIED_AGAIN} {_ITS_WORDS}",
    ),
    ReadError.CURSOR_LOST: _Told(
        "WorkOS can't read on from the cursor",
        "The worker takes a snapshot by itself, which repairs that; if it does not, `manage.py "
        "reconcile_workos` does, or says what is in the way.",
    ),
    ReadError.LOCK_NOT_HAD: _Told(
        "another program holds a lock on what is to be written",
        f"{_OLD_TRANSACTIONS} shows who may. End it there, or with `SELECT "
        f"pg_terminate_backend(pid)`. {_TRIED_AGAIN}",
    ),
    ReadError.DATABASE: _Told(
        "PostgreSQL refused what the worker asked",
        "Why is in the admin, under Sync status, and in the worker's log. After a release, run "
        "`manage.py migrate`, then `manage.py check --database default`: it says what is missing.",
    ),
}

#: Written by another release, of before or after this one.
_UNKNOWN_READ_TROUBLE = _Told("this release does not know why", _ITS_WORDS)


def _why_reads_fail(cursor: CursorFigures) -> _Told:
    return next(
        (told for trouble, told in _READ_TROUBLE.items() if trouble == cursor.last_trouble),
        _UNKNOWN_READ_TROUBLE,
    )


def _needs_person(trouble: str) -> bool:
    return any(known.needs_person and known == trouble for known in ReadError)


def _retention_problem(age: timedelta, retention: timedelta) -> Problem:
    left = retention - age
    until = (
        f"forgets what was not read in {in_words(left)}" if left > timedelta(0) else "has forgotten"
    )
    return Problem(
        ProblemCode.RETENTION_NEAR,
        f"WorkOS keeps events for {retention.days} days: it {until}, "
        f"{in_words(age)} after the last complete read.",
        "Mend what keeps the stream from being read; then run `manage.py reconcile_workos`, "
        "which repairs what the events would have told.",
    )


def _waiting_problems(figures: Figures) -> Iterator[Problem]:
    waiting = figures.waiting
    if waiting.overdue:
        yield Problem(
            ProblemCode.ANNOUNCEMENTS_OVERDUE,
            f"{_count(waiting.overdue, 'announced event')} unseen in the stream, "
            f"{in_words(figures.hold_back_window)} and more after the webhook.",
            "If the stream is read (no other problem here), it settles by itself within a minute; "
            "`manage.py reconcile_workos --events-only` does it now, or says what is in the way.",
        )
    if waiting.parked:
        yield Problem(
            ProblemCode.EVENTS_PARKED,
            f"{_count(waiting.parked, 'event')} parked: the content could not be applied.",
            "In the admin, under WorkOS events, outcome parked: read the error, then choose "
            "*Apply what WorkOS says now* or *Dismiss*. *Replay all parked events* there, or "
            "`manage.py reconcile_workos --replay-parked`, does it for all of them.",
        )
    if waiting.write_backs_failing:
        yield Problem(
            ProblemCode.WRITE_BACKS_FAILING,
            f"WorkOS has not learned the ids of "
            f"{_count(waiting.write_backs_failing, 'organization')} for "
            f"{in_words(LONGEST_WRITE_BACK)} or more.",
            "Why is in the admin, under external_id write-backs, and in the worker's log. If "
            "WorkOS refuses the API key, it may read and not write: make one that may. They are "
            "tried again by themselves; *Try again now* there does not wait for the next time.",
            waiting.write_back_error,
        )
    if waiting.conflicts:
        yield Problem(
            ProblemCode.WRITE_BACK_CONFLICTS,
            f"{_count(waiting.conflicts, 'write-back')} in conflict: WorkOS has another id there.",
            "In the admin, under external_id write-backs, conflict: decide which id is right, "
            "correct external_id in WorkOS, and choose *Try again now*.",
        )


def _webhook_problems(figures: Figures) -> Iterator[Problem]:
    last_day = figures.last_day
    if last_day.recently_lost and not last_day.recently_announced:
        yield Problem(
            ProblemCode.WEBHOOKS_ABSENT,
            f"No webhook came for the last hour's {_count(last_day.recently_lost, 'event')}; the "
            "schedule brought them, up to a minute late.",
            "See the deliveries in WorkOS's dashboard, under Webhooks. Answered with 401: "
            "WORKOS_WEBHOOK_SECRET is not the endpoint's signing secret (set it, restart web), or "
            "the web machine's clock is wrong. "
            "None at all: the endpoint is disabled, or its address is wrong.",
        )


def _snapshot_problems(figures: Figures) -> Iterator[Problem]:
    if figures.cursor.snapshot_trouble:
        yield Problem(
            ProblemCode.SNAPSHOT_INCOMPLETE,
            "The last snapshot of all organizations did not complete: what differs may stay so.",
            "Why is in the admin, under Sync status, and in the worker's log. Once that is mended, "
            "choose *Take a snapshot now* there. If it says that too many are gone: `manage.py "
            "reconcile_workos --dry-run --max-disable 100%` lists them, and the same without "
            "`--dry-run` disables them.",
            figures.cursor.snapshot_trouble,
        )
    reconciled_at = figures.cursor.reconciled_at
    if reconciled_at is None:
        told = "No snapshot of all organizations was ever completed."
    elif figures.at - reconciled_at > LONGEST_SINCE_SNAPSHOT:
        ago = in_words(figures.at - reconciled_at)
        told = f"The last complete snapshot of all organizations is {ago} old."
    else:
        return
    yield Problem(
        ProblemCode.SNAPSHOT_OLD,
        told,
        "*Take a snapshot now* in the admin, under Sync status, has the worker take one; "
        "`manage.py reconcile_workos` takes it at once, or says what is in the way.",
    )


def _reads(number: int) -> str:
    return "read" if number == 1 else f"{number} reads"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_words(span: timedelta) -> str:
    """A length of time in its largest unit, as people say it."""
    seconds = int(span.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length or seconds == length:
            return _count(seconds // length, unit)
    return _count(seconds, "second")
