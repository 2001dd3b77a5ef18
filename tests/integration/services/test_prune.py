"""What the ledger forgets, and what it never does."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_q.models import Task

from orgs.domain.types import (
    EventType,
    Outcome,
)
from orgs.models import WorkOSEvent
from orgs.services import prune as pruning
from orgs.services.prune import prune
from tests.concurrency import another_program

pytestmark = pytest.mark.usefixtures("database")

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def an_entry(
    event_id: str,
    *,
    days_ago: float,
    outcome: Outcome = Outcome.UPDATED,
    type: str = EventType.UPDATED,  # noqa: A002 - WorkOS's word
) -> None:
    WorkOSEvent.objects.create(
        id=event_id, type=type, outcome=outcome, processed_at=NOW - timedelta(days=days_ago)
    )


def left() -> list[str]:
    return sorted(WorkOSEvent.objects.values_list("id", flat=True))


def test_old_entries_go_and_young_ones_stay() -> None:
    an_entry("event_old", days_ago=90.1)
    an_entry("event_young", days_ago=89.9)

    assert prune(NOW) == 1
    assert left() == ["event_young"]


def test_parked_ones_and_deletions_and_unseen_announcements_stay_for_good() -> None:
    an_entry("event_dismissed", days_ago=900, outcome=Outcome.DISMISSED)
    an_entry("event_parked", days_ago=900, outcome=Outcome.PARKED)
    an_entry("event_deletion", days_ago=900, outcome=Outcome.DISABLED, type=EventType.DELETED)
    WorkOSEvent.objects.create(
        id="event_unseen", type=EventType.UPDATED, announced_at=NOW - timedelta(days=900)
    )

    assert prune(NOW) == 1
    assert left() == ["event_deletion", "event_parked", "event_unseen"]


def test_many_are_deleted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BATCH_SIZE", 10)
    for number in range(25):
        an_entry(f"event_{number}", days_ago=100)

    with CaptureQueriesContext(connection) as queries:
        pruned = prune(NOW)

    deletions = [q for q in queries if q["sql"].startswith('DELETE FROM "workos_event"')]
    assert (pruned, len(deletions), left()) == (25, 3, [])


def test_an_entry_that_someone_has_locked_is_left_for_the_next_time() -> None:
    an_entry("event_locked", days_ago=100)
    an_entry("event_free", days_ago=100)

    with another_program() as rival:
        rival.execute("SELECT FROM workos_event WHERE id = 'event_locked' FOR UPDATE")
        pruned = prune(NOW)

    assert pruned == 1
    assert left() == ["event_locked"]


def test_old_records_of_tasks_go_too() -> None:
    for task_id, days_ago in (("old", 91), ("young", 1)):
        stopped = NOW - timedelta(days=days_ago)
        Task.objects.create(id=task_id, name=task_id, func="f", started=stopped, stopped=stopped)

    prune(NOW)

    assert list(Task.objects.values_list("id", flat=True)) == ["young"]
