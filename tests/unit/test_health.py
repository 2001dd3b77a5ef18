"""What is wrong with a mirror that looks like this, and what is said about it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from orgs.domain.status import (
    CursorFigures,
    EventCount,
    Figures,
    LastDayFigures,
    OrganizationFigures,
    Problem,
    ProblemCode,
    ReadError,
    ScheduleFigures,
    Severity,
    Status,
    WaitingFigures,
    database_unusable,
    migrations_unapplied,
    status_of,
)
from tests.builders import NOON, minutes

HEALTHY = Figures(
    at=NOON,
    hold_back_window=minutes(1),
    event_retention=timedelta(days=30),
    cursor=CursorFigures(
        drained_at=NOON - minutes(1),
        last_event_at=NOON - minutes(90),
        reconciled_at=NOON - timedelta(hours=20),
        last_drift=0,
        snapshot_trouble="",
        failures=0,
        last_trouble="",
        last_error="",
        is_draining=False,
        is_reconciling=False,
    ),
    waiting=WaitingFigures(
        announced=1,
        announced_since=NOON - minutes(0.5),
        overdue=0,
        parked=0,
        write_backs=1,
        write_backs_since=NOON - minutes(10),
        write_backs_failing=0,
        write_back_error="",
        conflicts=0,
    ),
    organizations=OrganizationFigures(linked=3, unlinked=1, disabled=2),
    last_day=LastDayFigures(
        events=(
            EventCount(NOON - minutes(60), "created", 2),
            EventCount(NOON, "created", 1),
            EventCount(NOON, "stale", 1),
        ),
        latency_p50=timedelta(seconds=1),
        latency_p99=timedelta(seconds=3),
        announced=4,
        late=0,
        lost=0,
        recently_announced=2,
        recently_lost=0,
    ),
    schedules=ScheduleFigures(broken=(), sync_due_at=NOON + minutes(1)),
    queue_length=0,
    is_read_only=False,
)


def with_cursor(**values: Any) -> Figures:
    return replace(HEALTHY, cursor=replace(HEALTHY.cursor, **values))


def with_waiting(**values: Any) -> Figures:
    return replace(HEALTHY, waiting=replace(HEALTHY.waiting, **values))


def with_last_day(**values: Any) -> Figures:
    return replace(HEALTHY, last_day=replace(HEALTHY.last_day, **values))


def with_schedules(**values: Any) -> Figures:
    return replace(HEALTHY, schedules=replace(HEALTHY.schedules, **values))


def codes(figures: Figures) -> list[ProblemCode]:
    return [problem.code for problem in status_of(figures).problems]


def the_problem(figures: Figures, code: ProblemCode) -> Problem:
    (problem,) = [found for found in status_of(figures).problems if found.code is code]
    return problem


def test_nothing_is_wrong_with_a_healthy_mirror() -> None:
    assert status_of(HEALTHY) == Status((), HEALTHY)
    assert status_of(HEALTHY).is_ready


@pytest.mark.parametrize(
    ("figures", "code", "sentence"),
    [
        pytest.param(
            with_cursor(drained_at=None),
            ProblemCode.CURSOR_OLD,
            "WorkOS's stream was never read to its end, and no read has failed; 0 tasks queued.",
            id="never drained",
        ),
        pytest.param(
            with_cursor(drained_at=NOON - minutes(5.1)),
            ProblemCode.CURSOR_OLD,
            "WorkOS's stream was last read to its end 5 minutes ago, and no read has failed; "
            "0 tasks queued.",
            id="drained too long ago",
        ),
        pytest.param(
            with_cursor(drained_at=NOON - minutes(150), failures=3, last_trouble="unavailable"),
            ProblemCode.CURSOR_OLD,
            "WorkOS's stream was last read to its end 2 hours ago; the last 3 reads failed: "
            "WorkOS does not answer, or answers with an error of its own.",
            id="reads fail",
        ),
        pytest.param(
            with_cursor(drained_at=NOON - minutes(3), failures=1, last_trouble="cursor_lost"),
            ProblemCode.READS_FAILING,
            "The last read of WorkOS's stream failed: WorkOS can't read on from the cursor. "
            "Nothing comes from there until one succeeds.",
            id="reads begin to fail",
        ),
        pytest.param(
            with_cursor(drained_at=NOON - timedelta(days=26)),
            ProblemCode.RETENTION_NEAR,
            "WorkOS keeps events for 30 days: it forgets what was not read in 4 days, 26 days "
            "after the last complete read.",
            id="near the end of retention",
        ),
        pytest.param(
            with_cursor(drained_at=NOON - timedelta(days=31)),
            ProblemCode.RETENTION_NEAR,
            "WorkOS keeps events for 30 days: it has forgotten, 31 days after the last complete "
            "read.",
            id="past the end of retention",
        ),
        pytest.param(
            with_waiting(overdue=2),
            ProblemCode.ANNOUNCEMENTS_OVERDUE,
            "2 announced events unseen in the stream, 1 minute and more after the webhook.",
            id="announcements overdue",
        ),
        pytest.param(
            with_waiting(parked=1),
            ProblemCode.EVENTS_PARKED,
            "1 event parked: the content could not be applied.",
            id="an event is parked",
        ),
        pytest.param(
            with_waiting(write_backs_failing=1),
            ProblemCode.WRITE_BACKS_FAILING,
            "WorkOS has not learned the ids of 1 organization for 1 hour or more.",
            id="a write-back fails for an hour",
        ),
        pytest.param(
            with_waiting(conflicts=2),
            ProblemCode.WRITE_BACK_CONFLICTS,
            "2 write-backs in conflict: WorkOS has another id there.",
            id="conflicts",
        ),
        pytest.param(
            with_schedules(broken=("workos: prune",)),
            ProblemCode.SCHEDULES_MISSING,
            "These schedules are missing, or changed so that they do not do what they are for: "
            "workos: prune.",
            id="a schedule is missing",
        ),
        pytest.param(
            with_schedules(sync_due_at=NOON - minutes(4)),
            ProblemCode.WORKER_NOT_RUNNING,
            "No worker runs, or its scheduler fails: the minute schedule should have rung 4 "
            "minutes ago.",
            id="nobody rings",
        ),
        pytest.param(
            with_last_day(recently_announced=0, recently_lost=2),
            ProblemCode.WEBHOOKS_ABSENT,
            "No webhook came for the last hour's 2 events; the schedule brought them, up to a "
            "minute late.",
            id="no webhook",
        ),
        pytest.param(
            with_cursor(reconciled_at=None),
            ProblemCode.SNAPSHOT_OLD,
            "No snapshot of all organizations was ever completed.",
            id="never reconciled",
        ),
        pytest.param(
            with_cursor(reconciled_at=NOON - timedelta(days=3)),
            ProblemCode.SNAPSHOT_OLD,
            "The last complete snapshot of all organizations is 3 days old.",
            id="reconciled too long ago",
        ),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(
    figures: Figures, code: ProblemCode, sentence: str
) -> None:
    problem = the_problem(figures, code)

    assert problem.sentence == sentence
    assert problem.remedy.endswith(".")


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(with_cursor(drained_at=NOON - minutes(5)), id="drained in time"),
        pytest.param(
            with_cursor(drained_at=NOON - minutes(2), failures=3, last_trouble="rate_limited"),
            id="reads that fail for a moment",
        ),
        pytest.param(with_schedules(sync_due_at=NOON - minutes(3)), id="a schedule just due"),
        pytest.param(with_last_day(recently_lost=2), id="some webhooks came"),
        pytest.param(with_last_day(recently_announced=0), id="no events"),
        pytest.param(with_cursor(reconciled_at=NOON - timedelta(hours=49)), id="a late snapshot"),
        pytest.param(with_waiting(announced=50, write_backs=50), id="much waits"),
    ],
)
def test_what_passes_by_itself_is_no_problem(figures: Figures) -> None:
    assert codes(figures) == []


def test_a_dead_worker_is_named_before_what_comes_of_it() -> None:
    figures = replace(
        with_schedules(sync_due_at=NOON - timedelta(days=25)),
        cursor=replace(HEALTHY.cursor, drained_at=NOON - timedelta(days=25)),
    )

    assert codes(figures) == [
        ProblemCode.WORKER_NOT_RUNNING,
        ProblemCode.CURSOR_OLD,
        ProblemCode.RETENTION_NEAR,
    ]


def test_failing_reads_and_a_stuck_worker_have_different_remedies() -> None:
    old = NOON - minutes(10)

    refused = with_cursor(drained_at=old, failures=1, last_trouble="key_refused")
    failing = the_problem(refused, ProblemCode.CURSOR_OLD)
    stuck = the_problem(with_cursor(drained_at=old), ProblemCode.CURSOR_OLD)

    assert "WORKOS_API_KEY" in failing.remedy
    assert "restart gram-sync-worker" in stuck.remedy


@pytest.mark.parametrize(
    ("drained_at", "code"),
    [(None, ProblemCode.CURSOR_OLD), (NOON - minutes(3), ProblemCode.READS_FAILING)],
)
def test_words_of_workos_are_kept_apart(drained_at: datetime | None, code: ProblemCode) -> None:
    figures = with_cursor(drained_at=drained_at, failures=1, last_error="org_1 is refused")

    problem = the_problem(figures, code)

    assert problem.detail == "org_1 is refused"
    assert "org_1" not in problem.sentence + problem.remedy


def test_reads_that_begin_to_fail_are_told_and_wake_nobody() -> None:
    cursor = {"failures": 2, "last_trouble": ReadError.UNAVAILABLE}
    failing = status_of(with_cursor(drained_at=NOON - minutes(3), **cursor))

    assert [problem.code for problem in failing.problems] == [ProblemCode.READS_FAILING]
    assert "2 reads" in failing.problems[0].sentence
    assert "status.workos.com" in failing.problems[0].remedy
    assert failing.is_ready


@pytest.mark.parametrize("kind", [ReadError.KEY_REFUSED, ReadError.KEY_MISSING])
def test_what_no_later_read_does_better_is_told_at_once(kind: ReadError) -> None:
    failing = status_of(with_cursor(drained_at=NOON - minutes(1), failures=1, last_trouble=kind))

    assert [problem.code for problem in failing.problems] == [ProblemCode.READS_FAILING]
    assert "WORKOS_API_KEY" in failing.problems[0].remedy
    assert failing.is_ready


def test_each_kind_of_trouble_has_a_reason_and_a_remedy_of_its_own() -> None:
    failing = [
        the_problem(
            with_cursor(drained_at=None, failures=1, last_trouble=kind), ProblemCode.CURSOR_OLD
        )
        for kind in ReadError
    ]

    assert len({problem.sentence for problem in failing}) == len(ReadError)
    assert len({problem.remedy for problem in failing}) == len(ReadError)
    assert all(problem.remedy.endswith(".") for problem in failing)


@pytest.mark.parametrize("kind", ["", "of_another_release"])
def test_a_kind_of_trouble_of_another_release_is_trouble_all_the_same(kind: str) -> None:
    figures = with_cursor(drained_at=None, failures=1, last_trouble=kind, last_error="org_1")

    problem = the_problem(figures, ProblemCode.CURSOR_OLD)

    assert "this release does not know why" in problem.sentence
    assert "in the admin" in problem.remedy


def test_an_overdue_announcement_is_told_with_the_reads_that_fail() -> None:
    overdue = replace(HEALTHY.waiting, overdue=1)
    cursor = replace(HEALTHY.cursor, drained_at=NOON - minutes(1), failures=6)

    assert codes(replace(HEALTHY, waiting=overdue, cursor=cursor)) == [
        ProblemCode.READS_FAILING,
        ProblemCode.ANNOUNCEMENTS_OVERDUE,
    ]


def test_a_warning_leaves_it_ready_and_an_error_does_not() -> None:
    warned = status_of(with_waiting(conflicts=1))
    wrong = status_of(with_waiting(parked=1))

    assert (warned.problems[0].severity, warned.is_ready) == (Severity.WARNING, True)
    assert (wrong.problems[0].severity, wrong.is_ready) == (Severity.ERROR, False)


def test_what_can_be_wrong_without_figures() -> None:
    assert database_unusable("refused").detail == "refused"
    assert migrations_unapplied(["orgs.0002_mirror"]).sentence == (
        "1 migration not applied: orgs.0002_mirror."
    )


def test_outcomes_are_summed_over_the_hours() -> None:
    assert HEALTHY.last_day.outcomes == {"created": 3, "stale": 1}
