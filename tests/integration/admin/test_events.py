"""What becomes of parked events, and what is said of it: of ticked ones, and of all."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from orgs.domain.types import Outcome
from orgs.models import Organization, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.admin_pages import (
    EVENTS,
    Response,
    a_client,
    a_ledger_row,
    a_parked_event,
    carry_out,
    choose,
    durable,
    said,
)
from tests.builders import an_organization_row
from tests.concurrency import another_program

REPLAY_ALL = f"{EVENTS}replay-all/"

pytestmark = durable


def parked() -> list[str]:
    return sorted(WorkOSEvent.objects.parked().values_list("pk", flat=True))


def replay(*ids: str) -> Response:
    """Replay these, or all."""
    client = a_client("replay_workosevent")
    if ids:
        return carry_out(client, EVENTS, "replay", *ids)
    return client.post(REPLAY_ALL, {"confirmed": "yes"}, follow=True)


ALL_OR_SOME = pytest.mark.parametrize(
    "ids", [(), ("event_1", "event_2", "event_3")], ids=["all", "ticked"]
)


@pytest.fixture
def three(workos: FakeWorkOS) -> FakeWorkOS:
    """Three parked events, of organizations of which WorkOS knows the first two."""
    for number in (1, 2, 3):
        a_parked_event(f"event_{number}", workos_organization_id=f"org_{number}")
    for number in (1, 2):
        workos.create_organization(id=f"org_{number}", name="Now", external_id=f"gram-{number}")
    return workos


@ALL_OR_SOME
def test_replaying_applies_what_workos_says_now(ids: tuple[str, ...], three: FakeWorkOS) -> None:
    WorkOSEvent.objects.filter(pk="event_3").update(workos_organization_id=None)

    answer = replay(*ids)

    (applied, (level, text)) = said(answer)
    assert applied[0] == "success"
    assert applied[1].startswith("Applied what WorkOS says now (created): event_")
    assert level == "warning"
    assert text.startswith("Still parked (")
    assert text.endswith("dismissed.): event_3")
    assert parked() == ["event_3"]
    assert Organization.objects.filter(name="Now").count() == 2
    entries = LogEntry.objects.order_by("object_id").values_list("object_id", flat=True)
    assert list(entries) == ["event_1", "event_2", "event_3"]


@ALL_OR_SOME
def test_an_error_of_workos_over_one_event_does_not_stop_the_rest(
    ids: tuple[str, ...], three: FakeWorkOS
) -> None:
    three.misbehave("status", path="/organizations/org_2", status=503, times=None)

    messages = said(replay(*ids))

    assert "event_1" not in parked()
    assert "event_2" in parked()
    assert [level for level, _ in messages].count("error") == 2
    assert messages[-1][1] == "Left as they were: 1. Replay them again later"
    assert "Not all could be replayed: " in messages[-2][1]


@ALL_OR_SOME
@pytest.mark.parametrize("status", [401, 429])
def test_an_error_that_is_the_same_for_all_stops_the_replay(
    status: int, ids: tuple[str, ...], three: FakeWorkOS
) -> None:
    three.misbehave("status", path="/organizations", times=None, status=status)

    assert said(replay(*ids))[-1] == ("error", "Left as they were: 3. Replay them again later")
    assert three.count_requests(path="/organizations") == 1


@ALL_OR_SOME
def test_a_lock_over_one_event_does_not_stop_the_rest(
    ids: tuple[str, ...], three: FakeWorkOS, sync_setting: Any
) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    sync_setting(LOCK_TIMEOUT=0.05)

    with another_program() as elsewhere:
        elsewhere.execute("SELECT FROM organization_metadata FOR UPDATE")
        answer = replay(*ids)

    assert {level for level, _ in said(answer)} == {"error", "success"}
    assert "event_1" in parked()
    assert "event_2" not in parked()


def test_another_error_of_the_database_is_said(three: FakeWorkOS) -> None:
    client = a_client("replay_workosevent")
    with another_program() as elsewhere:
        elsewhere.execute("ALTER TABLE organization_metadata RENAME workos_updated_at TO gone")
        elsewhere.commit()
        answer = client.post(REPLAY_ALL, {"confirmed": "yes"})
        elsewhere.execute("ALTER TABLE organization_metadata RENAME gone TO workos_updated_at")

    assert answer.status_code == 302
    assert said(client.get("/admin/"))[0][0] == "error"
    assert len(parked()) == 3


def test_replaying_ends_when_the_time_is_up(
    three: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgs.admin.calls.MAX_SECONDS", -1.0)

    assert said(replay()) == [("error", "Left as they were: 3. Replay them again later")]
    assert three.count_requests(path="/organizations") == 0


def test_the_page_that_asks_says_how_many_are_parked_and_why(three: FakeWorkOS) -> None:
    client = a_client("replay_workosevent")

    every = client.get(REPLAY_ALL).content.decode()
    some = choose(client, EVENTS, "replay", "event_1").content.decode()
    WorkOSEvent.objects.all().delete()
    none = client.get(REPLAY_ALL).content.decode()

    assert "Parked events: 3" in every
    assert "There is nothing to do" in none
    assert "<h1>Apply what WorkOS says now: 1 WorkOS event</h1>" in some
    assert "<td>About org_1; parked: data.name is wrong</td>" in some
    assert three.count_requests(method=None, path=None) == 0


@pytest.mark.parametrize("action", ["replay", "dismiss"])
def test_an_event_that_is_not_parked_any_more_is_accounted_for(
    action: str, workos: FakeWorkOS
) -> None:
    a_ledger_row()
    client = a_client(f"{action}_workosevent")
    posted = {"action": f"{action}_selected", "_selected_action": ["event_1", "event_2"]}

    question = client.post(f"{EVENTS}?outcome=parked", posted).content.decode()
    answer = client.post(f"{EVENTS}?outcome=parked", posted | {"confirmed": "yes"}, follow=True)

    assert "<td>Not parked any more: nothing happens</td>" in question
    assert "<td>Not there: nothing happens</td>" in question
    assert said(answer) == [("info", "Nothing to do: event_1, event_2")]
    assert WorkOSEvent.objects.get().outcome == Outcome.UPDATED
    assert workos.count_requests(method=None, path=None) == 0


@pytest.mark.parametrize(
    ("action", "text", "outcome"),
    [
        ("replay", "Applied what WorkOS says now (created)", Outcome.CREATED),
        ("dismiss", "Dismissed", Outcome.DISMISSED),
    ],
)
def test_the_chosen_event_alone_is_acted_on(
    action: str, text: str, outcome: Outcome, three: FakeWorkOS
) -> None:
    answer = carry_out(a_client(f"{action}_workosevent"), EVENTS, action, "event_1")

    assert said(answer) == [("success", f"{text}: event_1")]
    assert parked() == ["event_2", "event_3"]
    assert WorkOSEvent.objects.get(pk="event_1").outcome == outcome
