"""Bad input by the real ways: nothing is answered 500, stops the stream, or takes others along.

What WorkOS lists is served by the fake and drained by the product; webhooks are posted to the real
view. ``tests.bad_input`` has the cases.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orgs.domain.naming import is_storable
from orgs.domain.types import Outcome
from orgs.models import Organization, WorkOSEvent
from orgs.services.refresh import dismiss_parked, resolve_all
from orgs.services.stream import drain_to_end
from orgs.services.webhook import MAX_BODY_BYTES
from orgs.testing import FakeWorkOS
from orgs.workos import tolerant_json
from orgs.workos.parsing import MAX_ID_BYTES
from tests.bad_input import EVENTS
from tests.builders import post_webhook
from tests.json_texts import VALUES, mutated

pytestmark = pytest.mark.usefixtures("database")


#: How a reason begins that says which field of the event, or of the organization, is to blame.
BLAMES_A_FIELD = re.compile(r"(data\.)?(id|name|external_id|updated_at) |event |data ")


#: No two tests and no two examples of one share an id.
_serial = count()


def put_between_good_ones(workos: FakeWorkOS, events: Sequence[tuple[str, str]]) -> set[str]:
    """Lists events, each by the id that a cursor may name it by, and good ones around them.

    Returns the ids that the good ones' rows will have.
    """
    good = [f"good-{next(_serial)}" for _ in range(len(events) + 1)]
    for external_id, (id_, text) in zip(good, events, strict=False):
        workos.create_organization(name="Good", external_id=external_id)
        workos.emit_text(text, id=id_)
    workos.create_organization(name="Good", external_id=good[-1])
    return set(good)


def good_ones() -> set[str]:
    return set(Organization.objects.filter(id__startswith="good-").values_list("id", flat=True))


def test_each_bad_event_leaves_its_neighbours_alone(workos: FakeWorkOS, sync_setting: Any) -> None:
    # Each page ends with a bad event, and the next read goes on from there.
    sync_setting(PAGE_SIZE=2)
    texts = [(case.id or f"cursor_{number}", case.text) for number, case in enumerate(EVENTS)]
    good = put_between_good_ones(workos, texts)

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


ORGANIZATION: dict[str, Any] = {
    "object": "organization",
    "id": "org_SERIAL",
    "name": "Odd",
    "external_id": "gram-SERIAL",
    "updated_at": "2026-01-15T12:00:00.000Z",
    "metadata": {},
}
ENVELOPE: dict[str, Any] = {
    "object": "event",
    "id": "event_SERIAL",
    "event": "organization.updated",
    "created_at": "2026-01-15T12:00:00.000Z",
    "context": {"actor": {"id": "user_1"}},
    "data": mutated(ORGANIZATION),
}
EVENT_TEXTS = st.one_of(
    VALUES,
    mutated(ENVELOPE),
    mutated({**ENVELOPE, "event": "organization.created"}),
    mutated({**ENVELOPE, "event": "organization.deleted"}),
)


def with_serial(text: str) -> str:
    return text.replace("SERIAL", f"{next(_serial):06d}")


@given(st.lists(EVENT_TEXTS, min_size=1, max_size=3))
@hypothesis_settings(max_examples=60)
def test_whatever_is_listed_costs_no_good_one(workos: FakeWorkOS, texts: list[str]) -> None:
    events = [(cursor_of(text), text) for text in map(with_serial, texts)]
    good = put_between_good_ones(workos, events)

    report = drain_to_end()

    assert report.drained
    assert good <= good_ones()
    for parked in WorkOSEvent.objects.parked():
        assert BLAMES_A_FIELD.match(parked.error), parked.error
        assert parked.payload


def cursor_of(text: str) -> str:
    """The id that the product reads on from: the event's own, or else the one that WorkOS names."""
    event = tolerant_json.loads(text.encode("utf-8", "surrogateescape"))
    id_ = event.get("id") if isinstance(event, dict) else None
    if isinstance(id_, str) and is_storable(id_) and len(id_.encode()) <= MAX_ID_BYTES:
        return id_
    return f"cursor_{next(_serial)}"


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
