"""Bad input by the real ways: nothing is answered 500, stops the stream, or takes others along.

What WorkOS lists is served by the fake, and drained or reconciled by the product; webhooks are
posted to the real view. ``tests.bad_input`` has the cases.
"""

import json
import re
import time
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
from orgs.domain.report import Change
from orgs.domain.types import Outcome
from orgs.models import Organization, WorkOSEvent
from orgs.services.compare import Run
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.refresh import dismiss_parked, replay_all_parked
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS, sign
from orgs.views import MAX_BODY_BYTES
from orgs.workos import MAX_ID_BYTES, WorkOSError, tolerant_json
from tests.bad_input import EVENTS, ORGANIZATIONS, BadEvent, BadOrganization
from tests.builders import a_mirrored_organization
from tests.json_texts import VALUES, mutated
from tests.processes import WEBHOOK_SECRET

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


def is_short(case: BadEvent | BadOrganization) -> bool:
    return len(case.text) < MAX_BODY_BYTES


def by_cursor(cases: Sequence[BadEvent]) -> list[tuple[str, str]]:
    return [(case.id or f"cursor_{number}", case.text) for number, case in enumerate(cases)]


def good_ones() -> set[str]:
    return set(Organization.objects.filter(id__startswith="good-").values_list("id", flat=True))


def bad_ones() -> list[WorkOSEvent]:
    """The ledger's rows of events that are not a good one's, in the order they were processed."""
    rows = WorkOSEvent.objects.order_by("processed_at")
    return [row for row in rows if not (row.organization_id or "").startswith("good-")]


# Events -------------------------------------------------------------------------------------


def test_each_bad_event_is_applied_or_parked_and_its_neighbours_are_applied(
    workos: FakeWorkOS, sync_setting: Any
) -> None:
    # Each page ends with a bad event, and the next read goes on from there.
    sync_setting(PAGE_SIZE=2)
    good = put_between_good_ones(workos, by_cursor(EVENTS))

    report = drain_to_end()

    became = {
        case.name: (Outcome(row.outcome or ""), row.error.split(" ")[0])
        for case, row in zip(EVENTS, bad_ones(), strict=True)
    }
    assert became == {case.name: (case.becomes, case.problem) for case in EVENTS}
    assert good_ones() == good
    assert report.drained
    assert not drain_to_end().counts


def test_whatever_is_parked_is_replayed_and_dismissed(workos: FakeWorkOS) -> None:
    cases = [case for case in EVENTS if is_short(case) or case.name == "data.name 10 MB"]
    good = put_between_good_ones(workos, by_cursor(cases))
    drain_to_end()
    parked = [case for case in cases if case.becomes is Outcome.PARKED]
    assert WorkOSEvent.objects.parked().exclude(payload=None).count() == len(parked)

    # WorkOS does not know their organizations: what names one is found gone, the rest stays.
    replayed = replay_all_parked(deadline=time.monotonic() + 600)
    assert replayed.outcomes.keys() == {Outcome.UNKNOWN, Outcome.PARKED}
    left = list(WorkOSEvent.objects.parked().values_list("id", flat=True))
    assert sorted(replayed.still_parked) == sorted(left)
    assert dismiss_parked(left) == len(left)
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
def test_whatever_is_listed_as_an_event_neither_stops_the_stream_nor_costs_a_good_one(
    workos: FakeWorkOS, texts: list[str]
) -> None:
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


# Organizations ------------------------------------------------------------------------------


def a_good_organization(number: int) -> str:
    changes = {"id": f"org_good_{number}", "external_id": f"good-{number}"}
    return json.dumps({**ORGANIZATION, **changes})


def list_between_good_ones(workos: FakeWorkOS, texts: Sequence[str]) -> None:
    """Have every list of organizations be these, with a good one before and after each."""
    between = [
        text for number, odd in enumerate(texts) for text in (a_good_organization(number), odd)
    ]
    listed = ", ".join([*between, a_good_organization(len(texts))])
    listing = f'{{"data": [{listed}], "list_metadata": {{"after": null}}}}'
    workos.misbehave("text", path="/organizations", exact=True, text=listing, times=None)


def results_of(changes: list[Change]) -> dict[str, tuple[str, str]]:
    """Return what became of each by its id, and the field that the reason begins with."""
    return {c.workos_id or "": (c.change, c.reason.split(" ")[0]) for c in changes}


def expected_of(case: BadOrganization) -> tuple[str, str]:
    return ("conflict", case.problem) if case.problem else ("created", "")


def test_each_bad_organization_that_is_listed_is_applied_or_a_conflict(workos: FakeWorkOS) -> None:
    cases = [case for case in ORGANIZATIONS if case.id and (is_short(case) or "10 MB" in case.name)]
    list_between_good_ones(workos, [case.text for case in cases])

    found = reconcile(Run(), drain_events=False)

    became = results_of(found.snapshot.changes)
    expected = {case.name: expected_of(case) for case in cases}
    assert {case.name: became[case.id] for case in cases if case.id in became} == expected
    assert found.snapshot.errors == []
    assert good_ones() == {f"good-{number}" for number in range(len(cases) + 1)}


def test_each_bad_organization_that_is_asked_for_is_applied_or_a_conflict(
    workos: FakeWorkOS,
) -> None:
    became = {}
    mirrored = a_mirrored_organization(workos)
    for case in ORGANIZATIONS:
        # What a case linked is not in WorkOS, and so proves nothing for the next one.
        Organization.objects.exclude(workos_id=mirrored).delete()
        workos.misbehave("text", path="/organizations/", text=case.text)
        asked_for = case.id or "org_asked_for"
        try:
            found = reconcile_organizations(Run(), [asked_for])
        except (WorkOSError, UnknownOrganization) as error:
            became[case.name] = (type(error).__name__, "")
        else:
            became[case.name] = results_of(found.snapshot.changes)[asked_for]
        workos.behave()

    another_object = ("BrokenAnswer", "")
    expected = {
        case.name: expected_of(case) if case.id else another_object for case in ORGANIZATIONS
    }
    assert became == expected | {"id two dots": ("UnknownOrganization", "")}


# Webhooks -----------------------------------------------------------------------------------


def post_signed(client: Client, body: bytes) -> int:
    headers = {"WorkOS-Signature": sign(WEBHOOK_SECRET, body, int(time.time() * 1000))}
    answer = client.post(
        "/webhooks/workos/", body, content_type="application/json", headers=headers
    )
    return int(answer.status_code)


def test_each_bad_event_that_is_announced_is_answered_and_resolved(
    workos: FakeWorkOS, client: Client
) -> None:
    bodies = {case.name: case.text.encode("utf-8", "surrogateescape") for case in EVENTS}

    statuses = {name: post_signed(client, body) for name, body in bodies.items()}
    # After the window, what was announced and is not listed is asked for.
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    WorkOSEvent.objects.announced_and_unseen().update(announced_at=an_hour_ago)
    report = drain_to_end()

    too_long = {name for name, body in bodies.items() if len(body) > MAX_BODY_BYTES}
    assert {name for name, status in statuses.items() if status == 413} == too_long
    assert set(statuses.values()) == {204, 400, 413}
    assert report.unresolved is None
    assert not WorkOSEvent.objects.announced_and_unseen().exists()
