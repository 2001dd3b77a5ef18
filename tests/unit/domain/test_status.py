"""What is wrong with a mirror that looks like this, and what is hidden behind it."""

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import pytest

from orgs.domain.figures import EventCount, Figures, LastDayFigures
from orgs.domain.status import (
    DATABASE_TEXTS,
    RULES,
    SEVERITIES,
    ProblemCode,
    ReadError,
    Severity,
    Status,
    database_problem,
    in_words,
    status_of,
)
from tests.builders import NOON, minutes

Parts: TypeAlias = dict[str, Any]

C = ProblemCode
E, W = Severity.ERROR, Severity.WARNING
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def ago(count: float) -> datetime:
    """So many minutes before the moment of the figures."""
    return NOON - minutes(count)


LONG_AGO, HOUR_AGO = ago(11), ago(60)

HEALTHY = Figures(
    at=NOON,
    hold_back_window=minutes(1),
    event_retention=30 * DAY,
    drained_at=ago(1),
    reconciled_at=NOON - 20 * HOUR,
    worker_started_at=NOON - DAY,
    announced=1,
    announced_since=ago(0.5),
    write_backs=1,
    write_backs_since=ago(10),
    disabled=2,
    refused_webhooks=2,
    last_refused_at=NOON,
    last_day=LastDayFigures(announced=4, recently_announced=2),
    broken_schedules=(),
    sync_due_at=NOON + minutes(1),
    queue_length=0,
    is_read_only=False,
)


def a_mirror(**values: Any) -> Figures:
    """A healthy one, but for these values of its own or of its last day."""
    names = {field.name for field in fields(Figures)}
    last_day = {name: values.pop(name) for name in values.keys() - names}
    return replace(HEALTHY, last_day=replace(HEALTHY.last_day, **last_day), **values)


def failing(error: str, *, minutes_ago: float, **cursor: Any) -> Figures:
    since = {"failing_since": ago(minutes_ago), "drained_at": ago(0.5)}
    return a_mirror(**{"failures": 3, "last_trouble": error, **since, **cursor})


def found(figures: Figures, *database: ProblemCode) -> list[tuple[ProblemCode, Severity]]:
    problems = status_of(figures, [database_problem(code, ()) for code in database]).problems
    return [(problem.code, problem.severity) for problem in problems]


def test_nothing_is_wrong_with_a_healthy_mirror() -> None:
    assert status_of(HEALTHY) == Status((), HEALTHY)
    assert status_of(HEALTHY).is_ready


FAILING: Parts = {"failures": 9, "failing_since": LONG_AGO}
DOWN = FAILING | {"last_trouble": ReadError.UNAVAILABLE}
LOST = FAILING | {"last_trouble": ReadError.CURSOR_LOST}
FULL = FAILING | {"last_trouble": ReadError.DATABASE_FULL}
NEVER: Parts = {"drained_at": None, "worker_started_at": None}
STARTED: Parts = {"worker_started_at": ago(1)}
LATE: Parts = {"drained_at": HOUR_AGO, "sync_due_at": HOUR_AGO}
NO_WEBHOOKS: Parts = {"recently_announced": 0, "recently_lost": 2}
REFUSED: Parts = {"refused_types": ("a", "b")}
ELSEWHERE: Parts = {"snapshot_error_kind": "wrong_environment"}
NOTED: Parts = {"snapshot_trouble": "2026-01-15 11:00:00 UTC: html"}
NO_SNAPSHOT: Parts = {"reconciled_at": NOON - 51 * HOUR}
OLD: Parts = {"drained_at": ago(5.1)}
UNSCHEDULED: Parts = {"broken_schedules": ("workos: sync events",), "sync_due_at": None}
TAKEN: Parts = {"write_back_conflicts": 1}
FAILED: Parts = {"write_backs_failing": 1}
REFUSED_YESTERDAY: Parts = {"refused_webhooks": 9, "last_refused_at": NOON - 25 * HOUR}
OVERDUE = "2 announced events are not in the stream, 1 minute or"


def case(code: ProblemCode, severity: Severity, words: str, since: str = "", **parts: Any) -> Any:
    """``since`` is the figure that says since when: an hour ago, unless it is among the parts."""
    parts = {since: HOUR_AGO, **parts} if since else parts
    return pytest.param(parts, (code, severity), words, since, id=words)


@pytest.mark.parametrize(
    ("parts", "expected", "words", "since"),
    [
        case(C.DATABASE_READ_ONLY, E, "takes no writes", is_read_only=True),
        case(C.SCHEDULES_MISSING, W, "a, b.", broken_schedules=("a", "b")),
        case(C.SCHEDULES_MISSING, E, "workos: sync events", "drained_at", **UNSCHEDULED),
        case(C.QUEUE_UNUSABLE, E, "REDIS_URL", queue_length=None),
        case(C.WORKER_NOT_RUNNING, E, "one is 2 minutes", "sync_due_at", sync_due_at=ago(2.1)),
        case(
            *(C.KEY_MISSING, E, "Set WORKOS_API_KEY", "sync_due_at"),
            has_key=False,
            sync_due_at=ago(2.1),
        ),
        case(C.CURSOR_OLD, E, "5 minutes, and none has failed; 0 tasks", "drained_at", **OLD),
        case(C.CURSOR_OLD, E, "No read reached the end of WorkOS's stream yet", **NEVER),
        case(C.CURSOR_OLD, E, "a worker begins to read within a minute", **NEVER | STARTED),
        case(C.CURSOR_OLD, E, "the worker has just started", "drained_at", **LATE | STARTED),
        case(C.CURSOR_OLD, E, "31 days, and none", "drained_at", drained_at=NOON + 31 * DAY),
        case(C.READS_FAILING, E, "does not answer", "failing_since", **DOWN),
        case(C.CURSOR_LOST, E, "can't read on from the stored", "failing_since", **LOST),
        case(C.WRONG_ENVIRONMENT, E, "lists none of the organizations", **ELSEWHERE),
        case(C.ANNOUNCEMENTS_OVERDUE, W, OVERDUE, "announced_since", overdue=2),
        case(C.EVENTS_PARKED, W, "1 event is parked", "parked_since", parked=1),
        case(C.CONFLICTS, W, "2 conflicts wait", "conflicts_since", conflicts=2),
        case(C.WRITE_BACK_CONFLICTS, W, "for 1 organi", "write_back_conflicts_since", **TAKEN),
        case(C.DISABLED_HERE, W, "61 organizations are", "disabled_here_since", disabled_here=61),
        case(C.WRITE_BACKS_FAILING, W, "of 1 organization for", "write_backs_since", **FAILED),
        case(C.WEBHOOKS_REFUSED, W, "3 webhooks were", "refused_since", refused_webhooks=3),
        case(C.WEBHOOKS_ABSENT, W, "came for 2 events", "unannounced_since", **NO_WEBHOOKS),
        case(C.EVENT_TYPES_REFUSED, W, "of these types: a, b. The others", **REFUSED),
        case(C.RESOURCES_NOT_COVERED, W, "in full yet: c.", "uncovered_since", uncovered=("c",)),
        case(C.SNAPSHOT_INCOMPLETE, W, "did not complete", snapshot_trouble="html"),
        case(C.SNAPSHOT_INCOMPLETE, W, "refused to write 22 rows", last_failed=22),
        case(C.SNAPSHOT_OLD, W, "completed in the last two days", "reconciled_at", **NO_SNAPSHOT),
        case(C.SNAPSHOT_OLD, W, "two days", reconciled_at=None),
        case(C.SNAPSHOT_OLD, W, "two", "reconciled_at", reconciled_at=NOON + 31 * DAY),
    ],
)
def test_what_is_wrong_is_reported_with_a_remedy(
    parts: Parts, expected: tuple[ProblemCode, Severity], words: str, since: str
) -> None:
    status = status_of(a_mirror(**parts))

    (problem,) = status.problems
    assert (problem.code, problem.severity) == expected
    assert words in f"{problem.sentence} {problem.remedy}"
    assert problem.since == parts.get(since)
    assert status.is_ready == (problem.severity is W)


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(a_mirror(drained_at=ago(5)), id="drained in time"),
        pytest.param(failing("rate_limited", minutes_ago=2), id="reads that fail for a moment"),
        pytest.param(a_mirror(sync_due_at=ago(2)), id="just due"),
        pytest.param(a_mirror(has_key=False), id="a key that this process does not need"),
        pytest.param(a_mirror(recently_lost=2), id="some webhooks came"),
        pytest.param(a_mirror(recently_announced=0), id="no events"),
        pytest.param(a_mirror(reconciled_at=NOON - 49 * HOUR), id="a late snapshot"),
        pytest.param(a_mirror(reconciled_at=None, is_reconciling=True), id="the first snapshot"),
        pytest.param(a_mirror(announced=50, write_backs=50), id="much waits"),
        pytest.param(a_mirror(**REFUSED_YESTERDAY), id="webhooks refused yesterday"),
        pytest.param(a_mirror(last_trouble="key_refused"), id="an error that is over"),
    ],
)
def test_what_is_over_or_passes_by_itself_is_no_problem(figures: Figures) -> None:
    assert found(figures) == []


@pytest.mark.parametrize(
    "name",
    ["key_missing", "key_refused", "client_misconfigured", "writes_refused", "database_full"],
)
def test_what_no_later_read_does_better_is_an_error_at_once(name: str) -> None:
    assert ReadError(name).needs_person
    assert found(failing(name, minutes_ago=0)) == [(ProblemCode(name), E)]


@pytest.mark.parametrize(
    "error",
    [
        *("rate_limited", "unavailable", "not_understood", "lock_not_had", "database"),
        *("cursor_lost", "", "of another release"),
    ],
)
def test_other_reads_that_fail_are_an_error_after_ten_minutes(error: str) -> None:
    code = C.CURSOR_LOST if error == "cursor_lost" else C.READS_FAILING
    old = {"drained_at": ago(30)}

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


def a_cause(name: str, *expected: ProblemCode, **parts: Any) -> Any:
    return pytest.param(parts, list(expected), id=name)


def while_all_waits(name: str, *expected: ProblemCode, **parts: Any) -> Any:
    waiting = {"overdue": 2, "write_backs_failing": 3}
    old = {"drained_at": LONG_AGO, "reconciled_at": NOON - 60 * HOUR}
    return a_cause(name, *expected, **waiting, **old, **parts)


KEY: Parts = FAILING | {"last_trouble": "key_refused"}
LOST_AND_WHY: Parts = LOST | {"snapshot_trouble": "503"}
UNSCHEDULED_AND_OLD: Parts = {**UNSCHEDULED, "overdue": 2, "drained_at": LONG_AGO}
PRUNE: Parts = {"broken_schedules": ("workos: prune",), "drained_at": LONG_AGO}
READ_ONLY: Parts = {**DOWN, "is_read_only": True, "parked": 1}
SNAPSHOT_TOO = (C.CURSOR_LOST, C.SNAPSHOT_INCOMPLETE)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        while_all_waits("no queue", C.QUEUE_UNUSABLE, queue_length=None),
        while_all_waits("a dead worker", C.WORKER_NOT_RUNNING, sync_due_at=LONG_AGO),
        while_all_waits("a stuck worker", C.CURSOR_OLD),
        while_all_waits("no key", C.KEY_MISSING, has_key=False, sync_due_at=LONG_AGO),
        while_all_waits("no key here, WorkOS is down", C.READS_FAILING, has_key=False, **DOWN),
        while_all_waits("WorkOS is down", C.READS_FAILING, **DOWN),
        while_all_waits("a bad key", C.KEY_REFUSED, **KEY),
        while_all_waits("a full disk", C.DATABASE_FULL, **FULL),
        while_all_waits("why a cursor stays lost", *SNAPSHOT_TOO, **LOST_AND_WHY),
        while_all_waits("another environment's key", C.WRONG_ENVIRONMENT, **LOST, **ELSEWHERE),
        a_cause("a dead worker, failed reads", C.WORKER_NOT_RUNNING, **DOWN, sync_due_at=LONG_AGO),
        a_cause("a full disk, a dead worker", C.DATABASE_FULL, **FULL, sync_due_at=LONG_AGO),
        a_cause("a warning, nothing", C.CURSOR_OLD, C.SCHEDULES_MISSING, **PRUNE),
        a_cause("no schedule, nothing yet", C.SCHEDULES_MISSING, **UNSCHEDULED),
        a_cause("no schedule, an old cursor", C.SCHEDULES_MISSING, **UNSCHEDULED_AND_OLD),
        a_cause("refused webhooks", C.WEBHOOKS_REFUSED, **NO_WEBHOOKS, refused_webhooks=3),
        a_cause("a read-only database, everything", C.DATABASE_READ_ONLY, **READ_ONLY),
    ],
)
def test_a_reported_cause_hides_its_consequences(parts: Parts, expected: list[ProblemCode]) -> None:
    assert [code for code, _ in found(a_mirror(**parts))] == expected


@pytest.mark.parametrize(
    ("days", "is_near"), [(22, False), (24, True), (31, True), (-24, False)], ids=str
)
def test_near_the_end_of_retention_someone_is_called(days: int, *, is_near: bool) -> None:
    figures = a_mirror(**DOWN | {"drained_at": NOON - days * DAY})

    assert found(figures) == [(C.READS_FAILING, E), *([(C.RETENTION_NEAR, E)] if is_near else [])]


@pytest.mark.parametrize(
    ("code", "missing", "words"),
    [
        (C.DATABASE_UNUSABLE, [], "DATABASE_URL"),
        (C.DATABASE_FULL, [], "no disk space"),
        (C.TABLES_LOCKED, [], "pg_stat_activity"),
        (C.GRANTS_MISSING, [], "grants on the tables: some."),
        (C.GRANTS_MISSING, ["SELECT ON a", "X"], "SELECT ON a, X."),
        (C.MIGRATIONS_UNAPPLIED, ["orgs.0002"], "not applied: orgs.0002."),
    ],
)
def test_what_can_be_wrong_with_the_database(
    code: ProblemCode, missing: list[str], words: str
) -> None:
    problem = database_problem(code, missing, "the words")

    assert status_of(None, [problem]) == Status((problem,), None)
    assert (problem.code, problem.severity, problem.detail) == (code, E, "the words")
    assert words in f"{problem.sentence} {problem.remedy}"


def test_missing_migrations_and_grants_hide_what_comes_of_them() -> None:
    refused = failing(ReadError.DATABASE, minutes_ago=11, drained_at=LONG_AGO)
    down = failing(ReadError.UNAVAILABLE, minutes_ago=11, drained_at=LONG_AGO)

    assert found(refused, C.MIGRATIONS_UNAPPLIED) == [(C.MIGRATIONS_UNAPPLIED, E)]
    assert found(refused, C.GRANTS_MISSING) == [(C.GRANTS_MISSING, E)]
    assert found(down, C.MIGRATIONS_UNAPPLIED)[1:] == [(C.READS_FAILING, E)]


TYPES_REFUSED = {"refused_types": ("a",), "refused_types_since": HOUR_AGO}


@pytest.mark.parametrize("parts", [TYPES_REFUSED, NOTED, ELSEWHERE | NOTED])
def test_a_snapshot_says_when_it_failed_and_a_type_since_when(parts: Parts) -> None:
    (problem,) = status_of(a_mirror(**parts)).problems

    assert problem.since == HOUR_AGO


def test_words_of_workos_and_postgresql_are_kept_apart() -> None:
    error = {"last_error": "org_1 is refused", "snapshot_trouble": "org_1 is odd"}
    figures = (
        failing(ReadError.UNAVAILABLE, minutes_ago=11, **error),
        a_mirror(snapshot_trouble="org_1 is odd"),
        a_mirror(write_backs_failing=1, write_back_error="org_1 is taken"),
    )

    for problem in (problem for each in figures for problem in status_of(each).problems):
        assert "org_1" in problem.detail
        assert "org_1" not in problem.sentence + problem.remedy


def test_every_code_is_in_the_table_and_every_text_is_sentences() -> None:
    assert {code for code, _ in SEVERITIES} == set(ProblemCode)
    texts = [*DATABASE_TEXTS.values(), *((rule.sentence, rule.remedy) for rule in RULES)]
    for sentence, remedy in texts:
        assert sentence.endswith("."), sentence
        assert remedy.endswith("."), remedy


def test_outcomes_are_summed_over_the_hours() -> None:
    counts = [(HOUR_AGO, "created", 2), (NOON, "created", 1), (NOON, "stale", 1)]
    day = LastDayFigures(events=tuple(EventCount(*each) for each in counts))

    assert day.outcomes == {"created": 3, "stale": 1}


def test_a_length_of_time_in_words() -> None:
    words = {
        timedelta(seconds=1): "1 second",
        timedelta(seconds=119): "119 seconds",
        minutes(1): "1 minute",
        minutes(2.5): "2 minutes",
        HOUR: "1 hour",
        47 * HOUR: "47 hours",
        2 * DAY: "2 days",
    }

    assert {span: in_words(span) for span in words} == words
