"""What a work has left behind, here and at WorkOS, in words that are the same in every run.

Clocks are left out, and so is what counts attempts. Events are called by what they are about.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TypeAlias

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.system.kill.scenarios import LONG_AGO

Ending: TypeAlias = Mapping[str, object]
"""What there is, by what it is called."""


def ending(workos: FakeWorkOS) -> Ending:
    """Every row of ours, and every organization and event of WorkOS's."""
    names = _names_of_events(workos)
    return {
        **{f"WorkOS has {name}": True for name in names.values()},
        **{
            f"WorkOS's {organization['id']}": (organization["name"], organization["external_id"])
            for organization in workos.all_organizations()
        },
        **{f"row {row.id}": _row(row, names) for row in Organization.objects.all()},
        **{f"ledger: {_named(e.id, names)}": _entry(e) for e in WorkOSEvent.objects.all()},
        **{f"conflict of {c.pk}": _conflict(c) for c in WorkOSConflict.objects.all()},
        **{
            f"outbox: {request.organization_id}": _request(request)
            for request in ExternalIdWriteBack.objects.all()
        },
        **{
            f"cursor {cursor.stream}": _cursor(cursor, names) for cursor in SyncCursor.objects.all()
        },
    }


def differences(expected: Ending, seen: Ending) -> Iterator[str]:
    """A line for each thing that is not as it is expected."""
    for name in sorted(expected.keys() | seen.keys()):
        if expected.get(name) != seen.get(name):
            yield f"{name} is {seen.get(name)}, not {expected.get(name)}"


def _names_of_events(workos: FakeWorkOS) -> dict[str, str]:
    """Those of different organizations may be in another order: the write-backs' threads race."""
    counts: Counter[str] = Counter()
    names = {}
    for event in workos.all_events():
        about = f"{event['event']} of {event['data']['id']}"
        counts[about] += 1
        names[event["id"]] = f"{about}, number {counts[about]}"
    return names


def _named(event_id: str | None, names: dict[str, str]) -> str | None:
    return None if event_id is None else names.get(event_id, event_id)


def _row(row: Organization, names: dict[str, str]) -> dict[str, object]:
    return {
        "name": row.name,
        "slug": row.slug,
        "workos_id": row.workos_id,
        "workos_updated_at": _when(row.workos_updated_at),
        "workos_last_event_id": _named(row.workos_last_event_id, names),
        "gram_account_type": row.gram_account_type,
        "whitelisted": row.whitelisted,
        "disabled": row.disabled_at is not None,
        "deleted": row.workos_deleted_at is not None,
    }


def _entry(event: WorkOSEvent) -> dict[str, object]:
    return {
        "type": event.type,
        "workos_organization_id": event.workos_organization_id,
        "organization_id": event.organization_id,
        "occurred_at": _when(event.occurred_at),
        "announced": event.announced_at is not None,
        "outcome": event.outcome,
        "error": event.error.partition("\n")[0],
        "payload": event.payload is not None,
    }


def _request(request: ExternalIdWriteBack) -> dict[str, object]:
    return {
        "workos_id": request.workos_id,
        "waits for a person": request.next_attempt_at is None,
        "last_error": request.last_error,
    }


def _conflict(conflict: WorkOSConflict) -> tuple[object, ...]:
    return (conflict.organization_id, conflict.kind, conflict.reason)


def _cursor(cursor: SyncCursor, names: dict[str, str]) -> dict[str, object]:
    # Which event is the last depends on which write-back was the first.
    is_last = cursor.last_event_id == next(reversed(names), None)
    return {
        "position": "the end" if is_last else _named(cursor.last_event_id, names),
        "last_event_at": _when(cursor.last_event_at),
        "drained": cursor.drained_at is not None,
        "reconciled": cursor.reconciled_at is not None,
        "failures": cursor.failures,
        "last_trouble": cursor.last_trouble,
        "last_error": cursor.last_error,
    }


def _when(moment: datetime | None) -> str | None:
    """What happened while the work ran has another time in each run."""
    if moment is None:
        return None
    return "lately" if (moment - LONG_AGO).days >= 1 else moment.isoformat()
