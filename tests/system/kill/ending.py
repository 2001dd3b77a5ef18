"""What a work has left behind, here and at WorkOS, in words that are the same in every run.

Clocks are left out, and so is what counts attempts. Events are called by what they are about.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO

Ending: TypeAlias = Mapping[str, object]
"""What there is, by what it is called."""

_COLUMNS: Final = {
    Organization: "name slug workos_id workos_updated_at workos_last_event_id gram_account_type "
    "whitelisted disabled_at workos_deleted_at",
    WorkOSEvent: "type workos_organization_id organization_id occurred_at announced_at outcome "
    "error payload",
    WorkOSConflict: "organization_id kind reason",
    ExternalIdWriteBack: "workos_id next_attempt_at last_error",
    SyncCursor: "last_event_id last_event_at drained_at reconciled_at failures last_trouble "
    "last_error",
}


def ending(workos: FakeWorkOS) -> Ending:
    """Every row of ours, and every organization and event of WorkOS's."""
    names = _names_of_events(workos)
    return {
        **{f"WorkOS has {name}": True for name in names.values()},
        **{
            f"WorkOS's {organization['id']}": (organization["name"], organization["external_id"])
            for organization in workos.all_organizations()
        },
        **{
            f"{model._meta.db_table} {names.get(key, key)}": {
                column: _shown(column, value, names)
                for column, value in zip(columns.split(), values, strict=True)
            }
            for model, columns in _COLUMNS.items()
            for key, *values in model._default_manager.values_list("pk", *columns.split())
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


def _shown(column: str, value: Any, names: dict[str, str]) -> object:
    # Which event is the last depends on which write-back was the first.
    if column == "last_event_id" and value == next(reversed(names), None):
        return "the end"
    if column == "error":
        return value.partition("\n")[0]
    if column == "payload":
        return value is not None
    if isinstance(value, datetime):
        # What happened while the work ran has another time in each run.
        return "lately" if (value - TWO_DAYS_AGO).days >= 1 else value.isoformat()
    return names.get(value, value) if isinstance(value, str) else value
