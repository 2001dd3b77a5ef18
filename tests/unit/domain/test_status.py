"""What is wrong with a mirror that looks like this, and what is hidden behind it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orgs.domain.figures import (
    CoverageFigures,
    CursorFigures,
    EventCount,
    Figures,
    LastDayFigures,
    OrganizationFigures,
    RequestFigures,
    ScheduleFigures,
    WaitingFigures,
)
from orgs.domain.status import (
    DATABASE_RULES,
    RULES,
    SEVERITIES,
    DatabaseState,
    ProblemCode,
    ReadError,
    Severity,
    Status,
    in_words,
    status_of,
)
from tests.builders import NOON, minutes

C = ProblemCode
E, W = Severity.ERROR, Severity.WARNING
DAY, HOUR = timedelta(days=1), timedelta(hours=1)

HEALTHY = Figures(
    at=NOON,
    hold_back_window=minutes(1),
    event_retention=30 * DAY,
    cursor=CursorFigures(
        drained_at=NOON - minutes(1),
        last_event_at=NOON - minutes(90),
        reconciled_at=NOON - 20 * HOUR,
        worker_started_at=NOON - DAY,
    ),
    waiting=WaitingFigures(
        announced=1,
        announced_since=NOON - minutes(0.5),
        write_backs=1,
        write_backs_since=NOON - minutes(10),
    ),
    organizations=OrganizationFigures(linked=3, unlinked=1, disabled=2),
    requests=RequestFigures(refused_webhooks=2, last_refused_at=NOON),
    last_day=LastDayFigures(
        events=(
            EventCount(NOON - minutes(60), "created", 2),
            EventCount(NOON, "created", 1),
            EventCount(NOON, "stale", 1),
        ),
        latency_p50=timedelta(seconds=1),
        latency_p99=timedelta(seconds=3),
        announced=4,
        recently_announced=2,
    ),
    schedules=ScheduleFigures(broken=(), sync_due_at=NOON + minutes(1)),
    queue_length=0,
    is_read_only=False,
)


def a_mirror(**parts: Any) -> Figures:
    """A healthy one, but for these: ``a_mirror(cursor={"failures": 1})``."""
    changes = {
        name: replace(getattr(HEALTHY, name), **part) if isinstance(part, dict) else part
        for name, part in parts.items()
    }
    return replace(HEALTHY, **changes)


def failing(error: str, *, minutes_ago: float, **cursor: Any) -> Figures:
    since = {"failing_since": NOON - minutes(minutes_ago), "drained_at": NOON - minutes(0.5)}
    return a_mirror(cursor={"failures": 3, "last_trouble": error, **since, **cursor})


def found(figures: Figures, **database: Any) -> list[tuple[ProblemCode, Severity]]:
    problems = status_of(figures, DatabaseState(**database)).problems
    return [(problem.code, problem.severity) for problem in problems]


def test_nothing_is_wrong_with_a_healthy_mirror() -> None:
    assert status_of(HEALTHY) == Status((), HEALTHY)
    assert status_of(HEALTHY).is_ready


LONG_AGO = NOON - minutes(11)
DOWN = {"failures": 9, "last_trouble": ReadError.UNAVAILABLE, "failing_since": LONG_AGO}


def case(name: str, code: ProblemCode, severity: Severity, words: str, **parts: Any) -> Any:
    return pytest.param(parts, (code, severity), words, id=name)


@pytest.mark.parametrize(
    ("parts", "expected", "words"),
    [
        case("read-only", C.DATABASE_READ_ONLY, E, "takes no writes", is_read_only=True),
        case("schedules", C.SCHEDULES_MISSING, W, "a, b.", schedules={"broken": ("a", "b")}),
        case("no queue", C.QUEUE_UNUSABLE, E, "REDIS_URL", queue_length=None),
        case(
            *("a late schedule", C.WORKER_NOT_RUNNING, E, "one is 2 minutes late"),
            schedules={"sync_due_at": NOON - minutes(2.1)},
        ),
        case(
            *("not drained", C.CURSOR_OLD, E, "stream for 5 minutes, and none has failed; 0 tasks"),
            cursor={"drained_at": NOON - minutes(5.1)},
        ),
        case(
            *("never drained", C.CURSOR_OLD, E, "No read reached the end of WorkOS's stream yet"),
            cursor={"drained_at": None, "worker_started_at": None},
        ),
        case(
            *("first start", C.CURSOR_OLD, E, "Wait: a worker begins to read within a minute"),
            cursor={"drained_at": None, "worker_started_at": NOON - minutes(1)},
        ),
        case(
            *("started again", C.CURSOR_OLD, E, "the worker has just started"),
            cursor={"drained_at": NOON - HOUR, "worker_started_at": NOON - minutes(1)},
            schedules={"sync_due_at": NOON - HOUR},
        ),
        case(
            *("drained in the future", C.CURSOR_OLD, E, "31 days in the future"),
            cursor={"drained_at": NOON + 31 * DAY},
        ),
        case(
            *("another environment", C.WRONG_ENVIRONMENT, E, "lists none of the organizations"),
            cursor={"snapshot_error_kind": "wrong_environment", "snapshot_trouble": "none of 9"},
        ),
        case(
            *(
                "overdue",
                C.ANNOUNCEMENTS_OVERDUE,
                W,
                "2 announced events are not in the stream, 1 min",
            ),
            waiting={"overdue": 2},
        ),
        case("parked", C.EVENTS_PARKED, W, "1 event is parked", waiting={"parked": 1}),
        case("conflicts", C.CONFLICTS, W, "2 conflicts wait", waiting={"conflicts": 2}),
        case(
            *("a write-back in conflict", C.WRITE_BACK_CONFLICTS, W, "for 1 organization."),
            waiting={"write_back_conflicts": 1},
        ),
        case(
            *("disabled here", C.DISABLED_HERE, W, "61 organizations are disabled here"),
            organizations={"disabled_here": 61},
        ),
        case(
            *("write-backs", C.WRITE_BACKS_FAILING, W, "the ids of 1 organization for an hour"),
            waiting={"write_backs_failing": 1},
        ),
        case(
            *("refused webhooks", C.WEBHOOKS_REFUSED, W, "3 webhooks were refused"),
            requests={"refused_webhooks": 3},
        ),
        case(
            *("no webhooks", C.WEBHOOKS_ABSENT, W, "No webhook came for 2 events"),
            last_day={"recently_announced": 0, "recently_lost": 2},
        ),
        case(
            *("refused types", C.EVENT_TYPES_REFUSED, W, "events of these types: a, b. The others"),
            coverage=CoverageFigures(refused_types=("a", "b"), uncovered=("c",)),
        ),
        case(
            *("uncovered", C.RESOURCES_NOT_COVERED, W, "not listed in full yet: c."),
            coverage=CoverageFigures(uncovered=("c",)),
        ),
        case(
            *("a failed snapshot", C.SNAPSHOT_INCOMPLETE, W, "did not complete"),
            cursor={"snapshot_trouble": "html"},
        ),
        case(
            *("refused rows", C.SNAPSHOT_INCOMPLETE, W, "refused to write 22 rows"),
            cursor={"last_failed": 22},
        ),
        *(
            case(name, C.SNAPSHOT_OLD, W, "two days", cursor={"reconciled_at": at})
            for name, at in (
                ("no snapshot", None),
                ("an old snapshot", NOON - 51 * HOUR),
                ("a snapshot in the future", NOON + 31 * DAY),
            )
        ),
    ],
)
def test_what_is_wrong_is_reported_with_a_remedy(
    parts: dict[str, Any], expected: tuple[ProblemCode, Severity], words: str
) -> None:
    status = status_of(a_mirror(**parts))

    (problem,) = status.problems
    assert (problem.code, problem.severity) == expected
    assert words in f"{problem.sentence} {problem.remedy}"
    assert status.is_ready == (problem.severity is W)


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(a_mirror(cursor={"drained_at": NOON - minutes(5)}), id="drained in time"),
        pytest.param(failing("rate_limited", minutes_ago=2), id="reads that fail for a moment"),
        pytest.param(a_mirror(schedules={"sync_due_at": NOON - minutes(2)}), id="just due"),
        pytest.param(a_mirror(last_day={"recently_lost": 2}), id="some webhooks came"),
        pytest.param(a_mirror(last_day={"recently_announced": 0}), id="no events"),
        pytest.param(a_mirror(cursor={"reconciled_at": NOON - 49 * HOUR}), id="a late snapshot"),
        pytest.param(
            a_mirror(cursor={"reconciled_at": None, "is_reconciling": True}),
            id="the first snapshot",
        ),
        pytest.param(a_mirror(waiting={"announced": 50, "write_backs": 50}), id="much waits"),
        pytest.param(
            a_mirror(requests={"refused_webhooks": 9, "last_refused_at": NOON - 25 * HOUR}),
            id="webhooks refused yesterday",
        ),
        pytest.param(a_mirror(cursor={"last_trouble": "key_refused"}), id="an error that is over"),
    ],
)
def test_what_is_over_or_passes_by_itself_is_no_problem(figures: Figures) -> None:
    assert found(figures) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ReadError.KEY_MISSING, C.KEY_MISSING),
        (ReadError.KEY_REFUSED, C.KEY_REFUSED),
        (ReadError.CLIENT_MISCONFIGURED, C.CLIENT_MISCONFIGURED),
        (ReadError.WRITES_REFUSED, C.WRITES_REFUSED),
        (ReadError.DATABASE_FULL, C.DATABASE_FULL),
    ],
)
def test_what_no_later_read_does_better_is_an_error_at_once(
    error: ReadError, code: ProblemCode
) -> None:
    assert error.needs_person
    assert found(failing(error, minutes_ago=0)) == [(code, E)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ReadError.RATE_LIMITED, C.READS_FAILING),
        (ReadError.UNAVAILABLE, C.READS_FAILING),
        (ReadError.NOT_UNDERSTOOD, C.READS_FAILING),
        (ReadError.LOCK_NOT_HAD, C.READS_FAILING),
        (ReadError.DATABASE, C.READS_FAILING),
        (ReadError.CURSOR_LOST, C.CURSOR_LOST),
        ("", C.READS_FAILING),
        ("of another release", C.READS_FAILING),
    ],
)
def test_other_reads_that_fail_are_an_error_after_ten_minutes(
    error: str, code: ProblemCode
) -> None:
    old = {"drained_at": NOON - minutes(30)}

    assert found(failing(error, minutes_ago=3)) == [(code, W)]
    assert found(failing(error, minutes_ago=9, **old)) == [(code, W)]
    assert found(failing(error, minutes_ago=11, **old)) == [(code, E)]
    # An older release did not note since when.
    assert found(failing(error, minutes_ago=0, failing_since=None, **old)) == [(code, E)]


def test_reads_that_fail_before_the_first_drain_are_reported_at_once() -> None:
    first = failing(ReadError.UNAVAILABLE, minutes_ago=0.5, drained_at=None)

    assert found(first) == [(C.READS_FAILING, W)]


def test_every_error_of_reads_has_a_text_of_its_own() -> None:
    texts = {
        problem.sentence
        for error in (*ReadError, "")
        for problem in status_of(failing(error, minutes_ago=11)).problems
    }

    assert len(texts) == len(ReadError) + 1


def a_cause(name: str, *expected: ProblemCode, cursor: Any = None, **parts: Any) -> Any:
    return pytest.param(cursor or {}, parts, list(expected), id=name)


@pytest.mark.parametrize(
    ("cursor", "parts", "expected"),
    [
        a_cause("no queue", C.QUEUE_UNUSABLE, queue_length=None),
        a_cause("a dead worker", C.WORKER_NOT_RUNNING, schedules={"sync_due_at": LONG_AGO}),
        a_cause("a stuck worker", C.CURSOR_OLD),
        a_cause("WorkOS is down", C.READS_FAILING, cursor=DOWN),
        a_cause("a bad key", C.KEY_REFUSED, cursor={**DOWN, "last_trouble": "key_refused"}),
        a_cause("a full disk", C.DATABASE_FULL, cursor={**DOWN, "last_trouble": "database_full"}),
        a_cause(
            *("a lost cursor, and why it stays lost", C.CURSOR_LOST, C.SNAPSHOT_INCOMPLETE),
            cursor={**DOWN, "last_trouble": "cursor_lost", "snapshot_trouble": "503"},
        ),
        a_cause(
            *("another environment's key", C.WRONG_ENVIRONMENT),
            cursor={
                **DOWN,
                "last_trouble": "cursor_lost",
                "snapshot_error_kind": "wrong_environment",
            },
        ),
    ],
)
def test_a_reported_cause_hides_its_consequences(
    cursor: dict[str, Any], parts: dict[str, Any], expected: list[ProblemCode]
) -> None:
    parts["waiting"] = {"overdue": 2, "write_backs_failing": 3}
    parts["cursor"] = {"drained_at": LONG_AGO, "reconciled_at": NOON - 60 * HOUR, **cursor}

    assert [code for code, _ in found(a_mirror(**parts))] == expected


def test_a_dead_worker_and_a_full_disk_hide_what_the_last_read_said() -> None:
    dead = a_mirror(schedules={"sync_due_at": LONG_AGO}, cursor=DOWN)
    full = a_mirror(
        schedules={"sync_due_at": LONG_AGO}, cursor={**DOWN, "last_trouble": "database_full"}
    )

    assert found(dead) == [(C.WORKER_NOT_RUNNING, E)]
    assert found(full) == [(C.DATABASE_FULL, E)]


def test_a_warning_hides_no_error_of_another_cause() -> None:
    figures = a_mirror(schedules={"broken": ("workos: prune",)}, cursor={"drained_at": LONG_AGO})

    assert found(figures) == [(C.CURSOR_OLD, E), (C.SCHEDULES_MISSING, W)]


def test_a_stream_that_is_not_scheduled_is_the_cause_of_an_old_cursor() -> None:
    missing = {"broken": ("workos: sync events",), "sync_due_at": None}
    waiting = {"overdue": 2}

    assert found(a_mirror(schedules=missing)) == [(C.SCHEDULES_MISSING, W)]
    assert found(a_mirror(schedules=missing, waiting=waiting, cursor={"drained_at": LONG_AGO})) == [
        (C.SCHEDULES_MISSING, E)
    ]


def test_refused_webhooks_are_the_cause_of_absent_ones() -> None:
    figures = a_mirror(
        requests={"refused_webhooks": 3}, last_day={"recently_announced": 0, "recently_lost": 2}
    )

    assert found(figures) == [(C.WEBHOOKS_REFUSED, W)]


@pytest.mark.parametrize(
    ("days", "is_near"), [(22, False), (24, True), (31, True), (-24, False)], ids=str
)
def test_near_the_end_of_retention_someone_is_called_beside_the_cause(
    days: int, *, is_near: bool
) -> None:
    cursor = {**DOWN, "drained_at": NOON - days * DAY}

    expected = [(C.READS_FAILING, E), *([(C.RETENTION_NEAR, E)] if is_near else [])]
    assert found(a_mirror(cursor=cursor)) == expected


def test_while_the_database_takes_no_writes_nothing_else_is_reported() -> None:
    assert found(a_mirror(is_read_only=True, cursor=DOWN, waiting={"parked": 1})) == [
        (C.DATABASE_READ_ONLY, E)
    ]


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (DatabaseState(C.DATABASE_UNUSABLE), C.DATABASE_UNUSABLE, "DATABASE_URL"),
        (DatabaseState(C.DATABASE_FULL), C.DATABASE_FULL, "no disk space"),
        (DatabaseState(C.TABLES_LOCKED), C.TABLES_LOCKED, "pg_stat_activity"),
        (DatabaseState(C.GRANTS_MISSING), C.GRANTS_MISSING, "grants on the tables: some."),
        (
            DatabaseState(missing_grants=("UPDATE ON a", "INSERT ON b")),
            C.GRANTS_MISSING,
            "UPDATE ON a, INSERT ON b.",
        ),
        (
            DatabaseState(unapplied=("orgs.0002",)),
            C.MIGRATIONS_UNAPPLIED,
            "not applied: orgs.0002.",
        ),
    ],
)
def test_what_can_be_wrong_with_the_database(
    state: DatabaseState, code: ProblemCode, words: str
) -> None:
    (problem,) = status_of(None, replace(state, error="the words", since=NOON)).problems

    assert (problem.code, problem.severity, problem.detail) == (code, E, "the words")
    assert problem.since == NOON
    assert words in f"{problem.sentence} {problem.remedy}"


def test_missing_migrations_and_grants_hide_what_comes_of_them() -> None:
    refused = failing(ReadError.DATABASE, minutes_ago=11, drained_at=LONG_AGO)
    down = failing(ReadError.UNAVAILABLE, minutes_ago=11, drained_at=LONG_AGO)

    assert found(refused, unapplied=("orgs.0002",)) == [(C.MIGRATIONS_UNAPPLIED, E)]
    assert found(refused, missing_grants=("UPDATE ON a",)) == [(C.GRANTS_MISSING, E)]
    assert found(down, unapplied=("orgs.0002",))[1:] == [(C.READS_FAILING, E)]


def test_without_grants_it_is_not_known_which_migrations_are_applied() -> None:
    state = DatabaseState(missing_grants=("USAGE ON SCHEMA public",), unapplied=("orgs.0001",))

    assert [problem.code for problem in status_of(None, state).problems] == [C.GRANTS_MISSING]


def test_a_client_that_is_misconfigured_names_each_setting_that_may_be_wrong() -> None:
    (problem,) = status_of(failing(ReadError.CLIENT_MISCONFIGURED, minutes_ago=0)).problems

    for name in ("WORKOS_BASE_URL", "HTTPS_PROXY", "SSL_CERT_FILE"):
        assert name in problem.remedy


@pytest.mark.parametrize(
    ("code", "figures"),
    [
        (C.SNAPSHOT_INCOMPLETE, {"cursor": {"snapshot_trouble": "2026-01-15 11:00:00 UTC: html"}}),
        (
            C.WRONG_ENVIRONMENT,
            {
                "cursor": {
                    "snapshot_error_kind": "wrong_environment",
                    "snapshot_trouble": "2026-01-15 11:00:00 UTC: none of 9",
                }
            },
        ),
        (
            C.EVENT_TYPES_REFUSED,
            {"coverage": CoverageFigures(refused_types=("a",), refused_since=NOON - HOUR)},
        ),
        (
            C.RESOURCES_NOT_COVERED,
            {"coverage": CoverageFigures(uncovered=("a",), uncovered_since=NOON - HOUR)},
        ),
        (
            C.WEBHOOKS_ABSENT,
            {
                "last_day": {
                    "recently_announced": 0,
                    "recently_lost": 2,
                    "unannounced_since": NOON - HOUR,
                }
            },
        ),
        (C.DATABASE_READ_ONLY, {"is_read_only": True, "cursor": {"drained_at": NOON - HOUR}}),
        (
            C.SCHEDULES_MISSING,
            {
                "cursor": {"drained_at": NOON - HOUR},
                "schedules": {"broken": ("workos: sync events",), "sync_due_at": None},
            },
        ),
    ],
)
def test_what_was_noted_in_a_text_or_a_mapping_has_its_time(
    code: ProblemCode, figures: dict[str, Any]
) -> None:
    since = {problem.code: problem.since for problem in status_of(a_mirror(**figures)).problems}

    assert since[code] == NOON - HOUR


def test_each_problem_says_since_when() -> None:
    at = NOON - HOUR
    waiting = {"parked": 1, "conflicts": 1, "write_back_conflicts": 1}
    times = {f"{name}_since": at for name in (*waiting, "write_backs", "announced")}
    mirrors = (
        a_mirror(
            waiting={**waiting, "write_backs_failing": 1, "overdue": 1, **times},
            organizations={"disabled_here": 1, "disabled_here_since": at},
            requests={"refused_webhooks": 3, "refused_since": at},
        ),
        failing(ReadError.UNAVAILABLE, minutes_ago=60),
        a_mirror(cursor={"drained_at": at}),
        a_mirror(schedules={"sync_due_at": at}),
        a_mirror(cursor={"reconciled_at": NOON - 60 * HOUR}),
    )

    since = {p.code: p.since for mirror in mirrors for p in status_of(mirror).problems}

    assert since.pop(C.SNAPSHOT_OLD) == NOON - 60 * HOUR
    assert list(since.values()) == [at] * 10


def test_words_of_workos_and_postgresql_are_kept_apart() -> None:
    error = {"last_error": "org_1 is refused", "snapshot_trouble": "org_1 is odd"}
    figures = (
        failing(ReadError.UNAVAILABLE, minutes_ago=11, **error),
        a_mirror(cursor={"snapshot_trouble": "org_1 is odd"}),
        a_mirror(waiting={"write_backs_failing": 1, "write_back_error": "org_1 is taken"}),
    )

    for problem in (problem for each in figures for problem in status_of(each).problems):
        assert "org_1" in problem.detail
        assert "org_1" not in problem.sentence + problem.remedy


def test_every_code_is_in_the_table_and_every_text_is_sentences() -> None:
    assert {code for code, _ in SEVERITIES} == set(ProblemCode)
    texts = [(rule.sentence, rule.remedy) for rule in DATABASE_RULES]
    texts += [(rule.sentence, rule.remedy) for rule in RULES]
    for sentence, remedy in texts:
        assert sentence.endswith("."), sentence
        assert remedy.endswith("."), remedy


def test_outcomes_are_summed_over_the_hours() -> None:
    assert HEALTHY.last_day.outcomes == {"created": 3, "stale": 1}


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=119), "119 seconds"),
        (minutes(1), "1 minute"),
        (minutes(2.5), "2 minutes"),
        (HOUR, "1 hour"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
    ],
)
def test_a_length_of_time_in_words(span: timedelta, words: str) -> None:
    assert in_words(span) == words
