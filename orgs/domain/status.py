"""Defines what can be wrong with the mirror: code, severity, condition, sentence, remedy. Pure.

``/readyz``, ``/metrics`` and the status page show these problems; none has thresholds of its own.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from string import Formatter
from typing import Any, Final

from orgs.domain.figures import Figures
from orgs.domain.naming import counted

LONGEST_SINCE_DRAIN = timedelta(minutes=5)  # a drain reaches the end of the stream every minute
LONGEST_HICCUP = timedelta(minutes=2)  # schedules are due every minute, and looked for twice
LONGEST_FAILING = timedelta(minutes=10)  # then someone is called
RETENTION_MARGIN = timedelta(days=7)  # enough to act by daylight
LONGEST_WRITE_BACK = timedelta(hours=1)  # about ten attempts, 1 second to 15 minutes apart
LONGEST_SINCE_SNAPSHOT = timedelta(hours=50)  # one a day: one that fails is no problem yet
LEAST_REFUSED_WEBHOOKS = 3  # one may be forged, or come while the secret is replaced
LONGEST_SINCE_REFUSAL = timedelta(days=1)  # refusals of longer ago say nothing about today


class Severity(StrEnum):
    """An error calls someone, and makes ``/readyz`` answer 503; a warning is a ticket."""

    ERROR = "error"
    WARNING = "warning"


class ProblemCode(StrEnum):
    """The stable names of problems. Each has a section in the runbook, and an alert."""

    DATABASE_UNUSABLE = "database_unusable"
    DATABASE_FULL = "database_full"
    TABLES_LOCKED = "tables_locked"
    GRANTS_MISSING = "grants_missing"
    MIGRATIONS_UNAPPLIED = "migrations_unapplied"
    DATABASE_READ_ONLY = "database_read_only"
    SCHEDULES_MISSING = "schedules_missing"
    QUEUE_UNUSABLE = "queue_unusable"
    WORKER_NOT_RUNNING = "worker_not_running"
    KEY_MISSING = "key_missing"
    KEY_REFUSED = "key_refused"
    CLIENT_MISCONFIGURED = "client_misconfigured"
    WRONG_ENVIRONMENT = "wrong_environment"
    WRITES_REFUSED = "writes_refused"
    CURSOR_LOST = "cursor_lost"
    READS_FAILING = "reads_failing"
    CURSOR_OLD = "cursor_old"
    RETENTION_NEAR = "retention_near"
    ANNOUNCEMENTS_OVERDUE = "announcements_overdue"
    EVENTS_PARKED = "events_parked"
    CONFLICTS = "conflicts"
    WRITE_BACK_CONFLICTS = "write_back_conflicts"
    DISABLED_HERE = "disabled_here"
    WRITE_BACKS_FAILING = "write_backs_failing"
    WEBHOOKS_REFUSED = "webhooks_refused"
    WEBHOOKS_ABSENT = "webhooks_absent"
    EVENT_TYPES_REFUSED = "event_types_refused"
    RESOURCES_NOT_COVERED = "resources_not_covered"
    SNAPSHOT_INCOMPLETE = "snapshot_incomplete"
    SNAPSHOT_OLD = "snapshot_old"


class ReadError(StrEnum):
    """The stable names of why a read of the stream failed, which can be shown to anyone."""

    KEY_MISSING = "key_missing"
    KEY_REFUSED = "key_refused"
    CLIENT_MISCONFIGURED = "client_misconfigured"  # it can't be built: a bad proxy or certificate
    WRONG_ENVIRONMENT = "wrong_environment"  # none of the linked organizations is listed
    WRITES_REFUSED = "writes_refused"  # PostgreSQL refuses every item in a row
    DATABASE_FULL = "database_full"  # SQLSTATE class 53
    CURSOR_LOST = "cursor_lost"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    NOT_UNDERSTOOD = "not_understood"
    LOCK_NOT_AVAILABLE = "lock_not_had"
    DATABASE = "database"

    @property
    def needs_person(self) -> bool:
        """Return True if no later read will do better by itself."""
        return self in tuple(ReadError)[:6]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong. All but ``detail`` can be shown to anyone."""

    code: ProblemCode
    severity: Severity
    sentence: str
    remedy: str
    since: datetime | None = None
    detail: str = ""  # WorkOS's or PostgreSQL's own words, which may hold ids


@dataclass(frozen=True, slots=True)
class Status:
    """What is wrong, causes before consequences; and the figures, if they could be read."""

    problems: tuple[Problem, ...]
    figures: Figures | None = None

    @property
    def is_ready(self) -> bool:
        """Return True if nothing is wrong that someone has to act on at once."""
        return all(problem.severity is not Severity.ERROR for problem in self.problems)


def database_problem(code: ProblemCode, missing: Collection[str], detail: str = "") -> Problem:
    """Return a problem of the database itself; ``missing`` are the grants or the migrations. No
    table says since when it lasts."""
    sentence, remedy = DATABASE_TEXTS[code]
    said = sentence.format(", ".join(missing) or "some")
    return Problem(code, Severity.ERROR, said, remedy, detail=detail)


def status_of(figures: Figures | None, database: Iterable[Problem] = ()) -> Status:
    """Return what is wrong, beside these problems of the database itself, and without the
    consequences of what is reported already."""
    found = {problem.code: problem for problem in database}
    if figures is not None:
        for rule in RULES:
            rule.apply(figures, found)
    return Status(tuple(found.values()), figures)


def in_words(span: timedelta) -> str:
    """Return a length of time in its largest unit, as people say it."""
    seconds = int(span.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length or seconds == length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")


class _Words(Formatter):
    """Fills sentences: ``{f.parked:event is/events are}``, ``{f.since_drain:for}``, names."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, timedelta) and value < timedelta.max:
            return f"{format_spec} {in_words(value)}".strip()
        if isinstance(value, int):
            return counted(value, *format_spec.split("/"))
        return ", ".join(value) if isinstance(value, tuple) else "yet"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table. Of several with one code, the first that is true is reported."""

    code: ProblemCode
    severity: Severity
    condition: Callable[[Figures], object]
    sentence: str
    remedy: str
    since: Callable[[Figures], datetime | None] = lambda _: None
    detail: Callable[[Figures], str] = lambda _: ""
    causes: Collection[ProblemCode] = ()
    """If one of these is reported, this is its consequence."""

    def apply(self, figures: Figures, found: dict[ProblemCode, Problem]) -> None:
        """Add the problem to ``found`` if there is one, and no cause of it is found."""
        # While the database takes no writes, nothing else can be repaired.
        hidden_by = {self.code, ProblemCode.DATABASE_READ_ONLY, *self.causes}
        if hidden_by.isdisjoint(found) and self.condition(figures):
            sentence = _Words().format(self.sentence, f=figures)
            since, detail = self.since(figures), self.detail(figures)
            problem = Problem(self.code, self.severity, sentence, self.remedy, since, detail)
            found[self.code] = problem


# The table is not formatted: so a rule is a few lines of text, and not a page.
# fmt: off

C, E, W = ProblemCode, Severity.ERROR, Severity.WARNING

LOCKS = ("`SELECT * FROM pg_stat_activity WHERE xact_start < now() - interval '1 minute'` lists "
    "transactions that may hold it; `SELECT pg_terminate_backend(PID)` ends one.")
RESTART = "`systemctl restart gram-sync-worker`, or end `manage.py sync_worker` and start it again"
READ_NOW = "`manage.py reconcile_workos --events-only` reads the stream, or says what is in the way"
SNAPSHOT = ("Choose *Take a snapshot now* in the admin, under Sync status, or run `manage.py "
    "reconcile_workos`, which says what is in the way.")
FULL = "PostgreSQL has no disk space or no memory left."
MAKE_ROOM = "Free or add what PostgreSQL's log says is used up. The worker goes on by itself."
WORDS = "The admin shows the error itself, under Sync status."
AGAIN = "Reads are tried again every minute."

#: What is wrong with the database itself: sentence and remedy.
DATABASE_TEXTS: Final[Mapping[ProblemCode, tuple[str, str]]] = {
    C.DATABASE_UNUSABLE: ("The database can't be reached, or its tables can't be read.",
        ("Check that PostgreSQL runs, has free connections, and is where DATABASE_URL says. "
        "Nothing is lost: WorkOS sends webhooks again, and the stream is read later.")),
    C.DATABASE_FULL: (FULL, MAKE_ROOM),
    C.TABLES_LOCKED: (
        "PostgreSQL answers too late: a table is locked, or the server is overloaded.", LOCKS),
    C.GRANTS_MISSING: ("The database's user lacks grants on the tables: {}.",
        "Run `manage.py check --database default`: it lists each GRANT that is missing."),
    C.MIGRATIONS_UNAPPLIED: ("Migrations are not applied: {}.", "Run `manage.py migrate`."),
}

#: Then nobody reads, or whoever reads can't write.
STOPPED: Final = {C.DATABASE_FULL, C.QUEUE_UNUSABLE, C.WORKER_NOT_RUNNING}
REFUSED: Final = {C.GRANTS_MISSING, C.MIGRATIONS_UNAPPLIED}
#: Then events don't arrive: what follows from that is not reported beside it.
UNREAD: Final = STOPPED | REFUSED | {C.SCHEDULES_MISSING, C.KEY_MISSING, C.KEY_REFUSED,
    C.CLIENT_MISCONFIGURED, C.WRONG_ENVIRONMENT, C.WRITES_REFUSED, C.CURSOR_LOST, C.READS_FAILING,
    C.CURSOR_OLD}

def read_rules(error: ReadError | None, sentence: str, remedy: str,
               causes: Collection[ProblemCode] = STOPPED) -> Iterator[Rule]:
    """Yield the rules about reads that fail with ``error``; None is one that is not known."""
    code = next((code for code in ProblemCode if code.value == error), C.READS_FAILING)
    needs_person = error is not None and error.needs_person
    def fails(f: Figures) -> bool:
        known = next((kind for kind in ReadError if kind == f.last_trouble), None)
        return f.failures > 0 and error == known
    def fails_for(f: Figures) -> timedelta:
        return f.elapsed(f.failing_since or f.drained_at)
    def lasts(f: Figures) -> bool:
        return fails(f) and (needs_person or fails_for(f) > LONGEST_FAILING)
    def begins(f: Figures) -> bool:
        is_hiccup = fails_for(f) <= LONGEST_HICCUP and f.since_drain <= LONGEST_SINCE_DRAIN
        return fails(f) and (f.overdue > 0 or not is_hiccup)
    for severity, condition in ((E, lasts), (W, begins))[: 1 if needs_person else 2]:
        yield Rule(code, severity, condition, sentence, remedy, lambda f: f.failing_since,
            lambda f: f.last_error, () if needs_person else causes)

def noted_at(f: Figures) -> datetime | None:
    """Return when the error of the last snapshot was noted: its text begins with that."""
    with suppress(ValueError):
        return datetime.fromisoformat(f.snapshot_trouble[:19]).replace(tzinfo=UTC)
    return None

SCHEDULES = (
    "The worker's schedules are missing, or will not run as they should: {f.broken_schedules}.")
MIGRATE = ("Run `manage.py migrate`, which creates and repairs them. So does every start of "
    "`manage.py sync_worker`.")
NO_KEY = (
    "No API key for WorkOS is set.", "Set WORKOS_API_KEY, and restart web and worker.")
FAILING = "WorkOS's stream can't be read ({f.failures:failed attempt}): "

RULES: Final[tuple[Rule, ...]] = (
    Rule(C.DATABASE_READ_ONLY, E, lambda f: f.is_read_only,
        "The database takes no writes: it is a standby, or default_transaction_read_only is on.",
        "Point DATABASE_URL at the primary, or undo what made it read-only (a failover, ALTER "
        "SYSTEM, ALTER DATABASE). Then restart web and worker. Nothing is lost."),
    *read_rules(ReadError.DATABASE_FULL, FULL, MAKE_ROOM),
    # Then nothing reads the stream but for a webhook.
    Rule(C.SCHEDULES_MISSING, E, lambda f: f.broken_schedules and f.sync_due_at is None
        and f.since_drain > LONGEST_SINCE_DRAIN, SCHEDULES, MIGRATE, lambda f: f.drained_at),
    Rule(C.QUEUE_UNUSABLE, E, lambda f: f.queue_length is None,
        "The queue can't be reached, so no task reaches a worker.",
        f"Check that Redis runs and is where REDIS_URL says. Until then, {READ_NOW}.",
        causes=STOPPED),
    # Then a worker does not even start. Another process than the worker may need no key.
    Rule(C.KEY_MISSING, E, lambda f: not f.has_key and f.schedule_delay > LONGEST_HICCUP
            and f.elapsed(f.worker_started_at) > LONGEST_HICCUP, *NO_KEY,
        since=lambda f: f.sync_due_at, causes=STOPPED),
    Rule(C.WORKER_NOT_RUNNING, E, lambda f: f.schedule_delay > LONGEST_HICCUP
            and f.elapsed(f.worker_started_at) > LONGEST_HICCUP,
        "No worker runs, or it does not run its schedules: one is {f.schedule_delay} late.",
        f"Start it: {RESTART}. Its log says why it ended. If it says *Could not create task from "
        "schedule*, repair the schedule of another app that is due, in the admin, under Scheduled "
        "tasks.", since=lambda f: f.sync_due_at, causes=STOPPED | {C.KEY_MISSING}),
    *read_rules(ReadError.KEY_MISSING, *NO_KEY),
    *read_rules(ReadError.KEY_REFUSED, "WorkOS refuses the API key.",
        "In WorkOS's dashboard, under API Keys, see whether it was revoked or may not read events. "
        "Create one that may, set WORKOS_API_KEY, and restart web and worker."),
    *read_rules(ReadError.CLIENT_MISCONFIGURED,
        "WorkOS can't be asked: WORKOS_BASE_URL, a proxy setting or a certificate file is wrong.",
        "Correct WORKOS_BASE_URL, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE, and restart web and "
        f"worker. {WORDS}"),
    Rule(C.WRONG_ENVIRONMENT, E,
        lambda f: C.WRONG_ENVIRONMENT in (f.snapshot_error_kind, f.last_trouble),
        "WorkOS lists none of the organizations that are linked here. Nothing was written.",
        "Set WORKOS_API_KEY and WORKOS_BASE_URL to the environment that this database mirrors, "
        "restart web and worker, and run `manage.py reconcile_workos`.",
        lambda f: f.failing_since or noted_at(f), lambda f: f.snapshot_trouble),
    *read_rules(ReadError.WRITES_REFUSED,
        "PostgreSQL refuses every event for the same reason. Nothing more is parked.",
        f"{WORDS} Undo the change of the tables that led to it. {AGAIN}"),
    *read_rules(ReadError.CURSOR_LOST,
        "WorkOS can't read on from the stored position of the stream.",
        f"The worker takes a snapshot by itself, which repairs that. If it does not: {SNAPSHOT}",
        STOPPED | {C.WRONG_ENVIRONMENT}),
    *read_rules(ReadError.RATE_LIMITED, f"{FAILING}WorkOS limits how often it may be asked (429).",
        "Reads go on after the pause that WorkOS asked for. If this lasts, find out what else uses "
        "the API key: the limit is for all of its users together."),
    *read_rules(ReadError.UNAVAILABLE,
        f"{FAILING}WorkOS does not answer, or answers with an error of its own.",
        "See https://status.workos.com, and whether the worker's machine reaches WorkOS (DNS, "
        f"proxy, firewall, WORKOS_BASE_URL). {AGAIN} {WORDS}"),
    *read_rules(ReadError.NOT_UNDERSTOOD, f"{FAILING}the answer is not a page of events.",
        f"See whether WORKOS_BASE_URL is right, or a proxy answers instead. {AGAIN} {WORDS}"),
    *read_rules(ReadError.LOCK_NOT_AVAILABLE,
        f"{FAILING}another program holds a lock on what is to be written.", f"{LOCKS} {AGAIN}"),
    *read_rules(ReadError.DATABASE, f"{FAILING}PostgreSQL refuses a statement.",
        f"{WORDS} {AGAIN}", STOPPED | REFUSED),
    *read_rules(None, f"{FAILING}this release does not know why.",
        f"{WORDS} {AGAIN}"),
    Rule(C.CURSOR_OLD, E, lambda f: f.since_drain > LONGEST_SINCE_DRAIN
            and f.elapsed(f.worker_started_at) <= LONGEST_HICCUP,
        "WorkOS's stream is not read to its end yet: the worker has just started.",
        "Wait: a worker begins to read within a minute. If this stays, its log says why.",
        lambda f: f.drained_at, causes=UNREAD),
    Rule(C.CURSOR_OLD, E, lambda f: f.since_drain > LONGEST_SINCE_DRAIN,
        "No read reached the end of WorkOS's stream {f.since_drain:for}, and none has failed; "
        "{f.queue_length:task is/tasks are} queued.",
        f"Start a worker if none runs, else restart it: {RESTART}. Until then, {READ_NOW}. The "
        "admin shows what is queued, under Queued tasks.",
        since=lambda f: f.drained_at, causes=UNREAD),
    Rule(C.RETENTION_NEAR, E,
        lambda f: f.at - (f.drained_at or f.at) > f.event_retention - RETENTION_MARGIN,
        "WorkOS keeps events for {f.event_retention}; no read reached the end {f.since_drain:for}.",
        "Repair what keeps the stream from being read. Then run `manage.py reconcile_workos`, "
        "which repairs what the lost events would have changed.", lambda f: f.drained_at),
    Rule(C.ANNOUNCEMENTS_OVERDUE, W, lambda f: f.overdue,
        "{f.overdue:announced event is/announced events are} not in the stream, "
        "{f.hold_back_window} or longer after the webhook.",
        f"A running worker resolves each within two minutes. If this stays, {READ_NOW}.",
        lambda f: f.announced_since, causes=UNREAD),
    Rule(C.EVENTS_PARKED, W, lambda f: f.parked,
        "{f.parked:event is/events are} parked: the content could not be applied.",
        "Read the error in the admin, under WorkOS events, outcome parked. Then choose *Apply what "
        "WorkOS says now* or *Dismiss*. `manage.py reconcile_workos --replay-parked` applies all.",
        lambda f: f.parked_since),
    Rule(C.CONFLICTS, W, lambda f: f.conflicts,
        "{f.conflicts:conflict waits/conflicts wait} for a person: WorkOS and the table disagree, "
        "or what WorkOS says can't be applied or recorded.",
        "The admin says under Conflicts, for the kind of each, what to do. Or choose *Keep as it "
        "is* there.", lambda f: f.conflicts_since),
    Rule(C.WRITE_BACK_CONFLICTS, W, lambda f: f.write_back_conflicts,
        "WorkOS has another external_id, or refuses ours, for "
        "{f.write_back_conflicts:organization}.",
        "Read the reason in the admin, under Conflicts. Choose *Overwrite in WorkOS* or *Keep as "
        "it is*; or correct WorkOS, and choose *Try again now* under Write-backs of external_id.",
        lambda f: f.write_back_conflicts_since),
    Rule(C.DISABLED_HERE, W, lambda f: f.disabled_here,
        "{f.disabled_here:organization is/organizations are} disabled here, by a "
        "person or another program; in WorkOS nothing was deleted.",
        "In the admin, filter organizations by *Disabled here, lives in WorkOS*. Choose *Enable "
        "here* for those that should be enabled.", lambda f: f.disabled_here_since),
    Rule(C.WRITE_BACKS_FAILING, W, lambda f: f.write_backs_failing,
        "WorkOS did not take the ids of {f.write_backs_failing:organization} for an hour.",
        "Read the error in the admin, under Write-backs of external_id. If WorkOS refuses the API "
        "key, it may read and not write: create one that may. Then choose *Try again now*.",
        lambda f: f.write_backs_since, lambda f: f.write_back_error, UNREAD),
    Rule(C.WEBHOOKS_REFUSED, W, lambda f: f.refused_webhooks >= LEAST_REFUSED_WEBHOOKS
            and f.elapsed(f.last_refused_at) < LONGEST_SINCE_REFUSAL,
        "{f.refused_webhooks:webhook was/webhooks were} refused, and none accepted since: "
        "the signature does not match.",
        "Set WORKOS_WEBHOOK_SECRET to the endpoint's signing secret (WorkOS's dashboard, under "
        "Webhooks), and restart web. Or the clock of web's machine is wrong: see `timedatectl`.",
        lambda f: f.refused_since),
    Rule(C.WEBHOOKS_ABSENT, W,
        lambda f: f.last_day.recently_lost and not f.last_day.recently_announced,
        "No webhook came for {f.last_day.recently_lost:event} of the last hour. The schedule read "
        "them, up to a minute late.",
        "See the deliveries in WorkOS's dashboard, under Webhooks. 401: WORKOS_WEBHOOK_SECRET is "
        "wrong. None: the endpoint is disabled, its address is wrong, or it lacks these events.",
        lambda f: f.last_day.unannounced_since, causes={C.WEBHOOKS_REFUSED}),
    Rule(C.EVENT_TYPES_REFUSED, W, lambda f: f.refused_types,
        "WorkOS refuses to list events of these types: {f.refused_types}. The others go "
        "on, and these are tried again daily.",
        "If the environment does not have that feature, take the resource out of WORKOS_RESOURCES "
        f"and restart web and worker: {RESTART}.",
        lambda f: f.refused_types_since, causes=UNREAD),
    Rule(C.RESOURCES_NOT_COVERED, W, lambda f: f.uncovered,
        "These resources are followed, and not listed in full yet: {f.uncovered}.",
        "The worker lists them by itself. If this stays, `manage.py reconcile_workos` lists them "
        "now, or says what is in the way.", lambda f: f.uncovered_since, causes=UNREAD),
    Rule(C.SNAPSHOT_INCOMPLETE, W, lambda f: f.last_failed,
        "PostgreSQL refused to write {f.last_failed:row} in the last snapshot.",
        f"{WORDS} Find what refuses it (a column, a constraint, a trigger of another program), "
        "repair it, and choose *Take a snapshot now* there.", noted_at,
        lambda f: f.snapshot_trouble),
    Rule(C.SNAPSHOT_INCOMPLETE, W, lambda f: f.snapshot_trouble,
        "The last snapshot of all organizations did not complete.",
        f"{WORDS} Repair it, and choose *Take a snapshot now* there. If too many are deleted, "
        "`manage.py reconcile_workos --dry-run --max-disable 100%` lists them, and the same "
        "without `--dry-run` disables them.", noted_at,
        lambda f: f.snapshot_trouble, UNREAD - {C.CURSOR_LOST}),
    Rule(C.SNAPSHOT_OLD, W,
        lambda f: f.elapsed(f.reconciled_at) > LONGEST_SINCE_SNAPSHOT
            and not f.is_reconciling,
        "No snapshot of all organizations was completed in the last two days.",
        SNAPSHOT, lambda f: f.reconciled_at, causes=UNREAD | {C.SNAPSHOT_INCOMPLETE}),
    # At the end: a warning is the cause of nothing that is reported. No table says since when.
    Rule(C.SCHEDULES_MISSING, W, lambda f: f.broken_schedules, SCHEDULES, MIGRATE),
)

#: Every code with each severity that it may have.
SEVERITIES = {(code, E) for code in DATABASE_TEXTS} | {(r.code, r.severity) for r in RULES}
