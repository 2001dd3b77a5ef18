"""Compares what WorkOS has with what the mirror has.

It shares no code with the service: it asks the fake WorkOS, and reads tables by plain SQL.
"""

from collections.abc import Iterator
from typing import Final

from gram_sync.demo.story import MEMBERS, ROWS, Story

#: Every event of the ledger, oldest first.
EVENTS: Final = "SELECT id, type, outcome, error FROM workos_event ORDER BY occurred_at, id"


def differences(story: Story) -> Iterator[str]:
    """Yield what one of the two has and the other has not. Everything is read anew."""
    rows, ledger = story.read(ROWS), story.read(EVENTS)
    organizations, events = story.workos.all_organizations(), story.workos.all_events()
    members = story.workos.memberships.all()
    both = {
        "organization": (
            {(each["id"], each["name"], each["external_id"]) for each in organizations},
            {(row.workos_id, row.name, row.id) for row in rows if not row.disabled},
        ),
        "deleted organization": (
            {e["data"]["id"] for e in events if e["event"] == "organization.deleted"},
            {row.workos_id for row in rows if row.disabled},
        ),
        "slug": (set(story.first_slugs.items()), {(row.id, row.slug) for row in rows}),
        "member": (
            {(one["user"]["email"], one["status"], one["role"]["slug"]) for one in members},
            {(one.email, one.status, one.roles) for one in story.read(MEMBERS)},
        ),
        "event, parked or not": (
            {(event["id"], event["id"] == story.malformed) for event in events},
            {(event.id, event.outcome == "parked") for event in ledger},
        ),
    }
    for what, (expected, found) in both.items():
        for each in expected - found:
            yield f"{what}: the mirror should have {each}"
        for each in found - expected:
            yield f"{what}: the mirror should not have {each}"
