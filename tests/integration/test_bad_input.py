"""Bad input by the real ways: nothing is answered 500, stops the stream, or takes others along.

What WorkOS lists is served by the fake and drained by the product; webhooks are posted to the real
view. ``tests.bad_input`` has the cases.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from orgs.domain.types import Outcome
from orgs.models import Organization, WorkOSEvent
from orgs.services.refresh import dismiss_parked, resolve_all
from orgs.services.stream import drain_to_end
from orgs.services.webhook import MAX_BODY_BYTES
from orgs.testing import FakeWorkOS
from tests.bad_input import EVENTS
from tests.builders import post_webhook

pytestmark = pytest.mark.usefixtures("database")


def good_ones() -> set[str]:
    return set(Organization.objects.filter(id__startswith="good-").values_list("id", flat=True))


def test_each_bad_event_leaves_its_neighbours_alone(workos: FakeWorkOS, sync_setting: Any) -> None:
    # Each page ends with a bad event, and the next read goes on from there.
    sync_setting(PAGE_SIZE=2)
    for number, case in enumerate(EVENTS):
        workos.create_organization(name="Good", external_id=f"good-{number}")
        # By the id that a cursor may name it by.
        workos.emit_text(case.text, id=case.id or f"cursor_{number}")
    workos.create_organization(name="Good", external_id=f"good-{len(EVENTS)}")
    good = {f"good-{number}" for number in range(len(EVENTS) + 1)}

    report = drain_to_end()

    rows = WorkOSEvent.objects.order_by("processed_at")
    bad = [row for row in rows if not (row.organization_id or "").startswith("good-")]
    became = {
        case.name: (Outcome(row.outcome or ""), row.error.split(" ")[0])
        for case, row in zip(EVENTS, bad, strict=True)
    }
    assert became == {case.name: (case.becomes, case.problem) for case in EVENTS}
    assert good_ones() == good
    assert report.drained
    assert not drain_to_end().counts
    assert not WorkOSEvent.objects.parked().filter(payload=None).exists()

    # WorkOS does not know their organizations: what names one is found deleted, the rest stays.
    replayed = resolve_all(WorkOSEvent.objects.parked())
    assert replayed.counts.keys() == {Outcome.UNKNOWN, Outcome.PARKED}
    left = list(WorkOSEvent.objects.parked().values_list("id", flat=True))
    assert sorted(str(change.event_id) for change in replayed.of(Outcome.PARKED)) == sorted(left)
    assert sorted(dismiss_parked(left)) == sorted(left)
    assert good_ones() == good


def test_each_bad_webhook_is_answered_and_resolved(workos: FakeWorkOS, client: Client) -> None:
    bodies = {case.name: case.text.encode("utf-8", "surrogateescape") for case in EVENTS}

    statuses = {name: post_webhook(client, body).status_code for name, body in bodies.items()}
    # After the window, what was announced and is not listed is asked for.
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    WorkOSEvent.objects.announced_and_unseen().update(announced_at=an_hour_ago)
    report = drain_to_end()

    too_long = {name for name, body in bodies.items() if len(body) > MAX_BODY_BYTES}
    assert {name for name, status in statuses.items() if status == 413} == too_long
    assert set(statuses.values()) == {204, 400, 413}
    assert report.unresolved is None
    assert not WorkOSEvent.objects.announced_and_unseen().exists()
