"""Parked events replayed, and announcements honoured, by what WorkOS says now."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection

from orgs.domain.naming import derived_id
from orgs.domain.resolution import (
    Resolved,
)
from orgs.domain.types import (
    EventType,
    Outcome,
)
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.refresh import (
    AlreadySeen,
    NotParked,
    dismiss_parked,
    honour_announcement,
    replay_parked,
    take_snapshot,
)
from orgs.testing import FakeWorkOS
from orgs.workos import client as edge
from tests.builders import an_announcement, an_organization_row
from tests.concurrency import another_program

pytestmark = pytest.mark.usefixtures("database")


def a_parked_event(workos_id: str | None = "org_1", event_id: str = "event_1") -> WorkOSEvent:
    return WorkOSEvent.objects.create(
        id=event_id,
        type=EventType.UPDATED,
        workos_organization_id=workos_id,
        processed_at=datetime.now(UTC),
        outcome=Outcome.PARKED,
        error="data.name is not text",
        payload="{}",
    )


def a_known_deletion(workos_id: str, outcome: Outcome = Outcome.DISABLED) -> None:
    WorkOSEvent.objects.create(
        id="event_deleted",
        type=EventType.DELETED,
        workos_organization_id=workos_id,
        processed_at=datetime.now(UTC),
        outcome=outcome,
    )


def test_a_parked_event_is_replayed_by_what_workos_says_now(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme now")
    a_parked_event(acme["id"])

    resolved = replay_parked("event_1")

    row = Organization.objects.get()
    assert resolved == Resolved(Outcome.CREATED, row.id)
    assert (row.name, row.workos_id, row.slug) == ("Acme now", acme["id"], "acme-now")
    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.organization_id) == ("created", row.id)
    assert (entry.error, entry.payload) == ("", None)
    assert ExternalIdWriteBack.objects.get().organization_id == row.id


def test_a_parked_event_of_a_deleted_organization_disables_the_row(
    workos: FakeWorkOS,
) -> None:
    an_organization_row("gram-1", workos_id="org_gone")
    a_parked_event("org_gone")

    resolved = replay_parked("event_1")

    assert resolved == Resolved(Outcome.DISABLED, "gram-1")
    assert Organization.objects.get().disabled_at is not None


def test_a_replay_that_finds_the_mirror_right_is_stale(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    before = an_organization_row("gram-1", workos_id=acme["id"], workos_last_event_id="event_0")
    a_parked_event(acme["id"])

    resolved = replay_parked("event_1")

    assert resolved.outcome is Outcome.STALE
    after = Organization.objects.get()
    assert (after.updated_at, after.workos_last_event_id) == (before.updated_at, "event_0")


def test_an_event_that_cant_be_applied_even_now_stays_parked(workos: FakeWorkOS) -> None:
    workos.misbehave("body", path="/organizations", body={"id": "org_1", "name": None})
    a_parked_event("org_1")

    resolved = replay_parked("event_1")

    assert resolved.outcome is Outcome.PARKED
    entry = WorkOSEvent.objects.get()
    assert entry.is_parked
    assert "can't be read: name is not" in entry.error
    assert entry.payload == "{}", "the event's own payload is what a person has to understand"


def test_an_event_that_names_no_organization_can_only_be_dismissed(
    workos: FakeWorkOS,
) -> None:
    a_parked_event(None)

    resolved = replay_parked("event_1")

    assert resolved.outcome is Outcome.PARKED
    assert "only be dismissed" in resolved.error
    assert workos.count_requests() == 0


def test_trouble_with_workos_leaves_the_event_as_it_was(workos: FakeWorkOS) -> None:
    workos.misbehave("status", status=500, path="/organizations")
    before = a_parked_event("org_1")

    with pytest.raises(edge.Unavailable):
        replay_parked("event_1")

    assert WorkOSEvent.objects.get().error == before.error


def test_what_is_not_parked_is_not_replayed(workos: FakeWorkOS) -> None:
    an_announcement("event_1")

    with pytest.raises(NotParked):
        replay_parked("event_1")

    assert workos.count_requests() == 0


@pytest.mark.parametrize("status", [404, 400])
def test_an_organization_that_workos_refuses_to_talk_about(workos: FakeWorkOS, status: int) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    a_parked_event("org_1")
    workos.misbehave("status", status=status, path="/organizations")

    resolved = replay_parked("event_1")

    assert resolved.outcome is (Outcome.DISABLED if status == 404 else Outcome.PARKED)


def test_a_proxys_404_disables_nothing(workos: FakeWorkOS) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    a_parked_event("org_1")
    workos.misbehave("html", status=404, path="/organizations")

    with pytest.raises(edge.BrokenAnswer):
        replay_parked("event_1")

    assert Organization.objects.get().disabled_at is None


def test_what_postgresql_refuses_stays_parked(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Forbidden")
    a_parked_event(acme["id"])
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE organization_metadata ADD CONSTRAINT theirs CHECK (name <> 'Forbidden')"
        )
    try:
        resolved = replay_parked("event_1")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata DROP CONSTRAINT theirs")

    assert resolved.outcome is Outcome.PARKED
    assert "theirs" in WorkOSEvent.objects.get().error


def test_parked_events_are_dismissed_and_others_are_not() -> None:
    a_parked_event(event_id="event_1")
    an_announcement("event_2")

    dismissed = dismiss_parked(["event_1", "event_2"])

    assert dismissed == 1
    entries = {entry.id: entry for entry in WorkOSEvent.objects.all()}
    assert entries["event_1"].outcome == "dismissed"
    assert (entries["event_1"].error, entries["event_1"].payload) == ("", None)
    assert entries["event_2"].outcome is None


def test_a_snapshot_does_not_bring_back_what_the_ledger_knows_as_deleted(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme")
    a_known_deletion(acme["id"])
    a_parked_event(acme["id"])

    resolved = replay_parked("event_1")

    assert resolved.outcome is Outcome.STALE
    assert not Organization.objects.exists()


def test_an_announced_deletion_that_never_came_does_not_keep_an_organization_out(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme")
    a_known_deletion(acme["id"], Outcome.MISSING)
    a_parked_event(acme["id"])

    replay_parked("event_1")

    assert Organization.objects.exists()


def test_a_row_moves_only_if_its_old_organization_is_gone(workos: FakeWorkOS) -> None:
    alive = workos.create_organization(name="Alive")
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    beta = workos.create_organization(name="Beta", external_id="gram-2")
    an_organization_row("gram-1", workos_id=alive["id"])
    an_organization_row("gram-2", workos_id="org_gone")
    a_parked_event(acme["id"], "event_1")
    a_parked_event(beta["id"], "event_2")

    left_alone, moved = replay_parked("event_1"), replay_parked("event_2")

    assert left_alone.outcome is Outcome.PARKED
    assert "still exists in WorkOS" in left_alone.error
    assert moved == Resolved(Outcome.RELINKED, "gram-2")
    assert dict(Organization.objects.values_list("id", "workos_id")) == {
        "gram-1": alive["id"],
        "gram-2": beta["id"],
    }


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_row_that_was_taken_over_is_not_disabled_with_its_old_organization(
    workos: FakeWorkOS, first: str
) -> None:
    """Whichever of the two announcements is settled first, it ends as by the events themselves."""
    new = workos.create_organization(name="New", external_id="gram-1", emits=False)
    an_organization_row("gram-1", name="Old", workos_id="org_gone")
    announcements = {
        "old": an_announcement("event_1", workos_id="org_gone", type=EventType.DELETED),
        "new": an_announcement("event_2", workos_id=new["id"], type=EventType.CREATED),
    }

    honour_announcement(announcements.pop(first).id)
    honour_announcement(announcements.popitem()[1].id)

    row = Organization.objects.get()
    assert (row.workos_id, row.name, row.disabled_at) == (new["id"], "New", None)


@pytest.mark.parametrize("id_", ["..", "gram-1"])
def test_a_row_that_nobody_takes_over_is_disabled(workos: FakeWorkOS, id_: str) -> None:
    an_organization_row(id_, slug="slug", workos_id="org_gone")

    honour_announcement(an_announcement("event_1", workos_id="org_gone").id)

    assert Organization.objects.get().disabled_at is not None


def test_a_rival_that_cant_be_read_still_exists(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    an_organization_row("gram-1", workos_id="org_rival")
    workos.misbehave("body", path="/organizations/org_rival", body={"id": "org_rival"})

    snapshot = take_snapshot(acme["id"])

    assert snapshot.gone == frozenset()


def test_an_announcement_that_names_no_organization_is_parked(workos: FakeWorkOS) -> None:
    resolved = honour_announcement(an_announcement("event_1", workos_id=None).id)

    assert resolved.outcome is Outcome.PARKED
    assert "names no organization" in WorkOSEvent.objects.get().error


def test_an_announcement_whose_organization_cant_be_read_is_parked_with_what_workos_said(
    workos: FakeWorkOS,
) -> None:
    workos.misbehave("body", path="/organizations", body={"id": "org_1", "name": "\0"})

    honour_announcement(an_announcement("event_1").id)

    entry = WorkOSEvent.objects.get()
    assert (entry.outcome, entry.payload) == ("parked", '{"id": "org_1", "name": "\\u0000"}')


def test_an_announcement_read_from_the_stream_meanwhile_keeps_that_outcome(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme")
    event = an_announcement("event_1", workos_id=acme["id"])
    WorkOSEvent.objects.update(outcome=Outcome.CREATED, processed_at=datetime.now(UTC))

    with pytest.raises(AlreadySeen):
        honour_announcement(event.id)

    assert WorkOSEvent.objects.get().outcome == "created"
    assert not Organization.objects.exists()


@pytest.mark.parametrize(
    "settle",
    [
        pytest.param(lambda: dismiss_parked(["event_parked"]), id="dismiss"),
        pytest.param(lambda: replay_parked("event_parked"), id="replay: names no organization"),
        pytest.param(lambda: honour_announcement("event_1"), id="honour: names no organization"),
        pytest.param(lambda: honour_announcement("event_2"), id="honour: refused"),
    ],
)
def test_no_note_waits_for_a_lock_without_end(
    workos: FakeWorkOS, sync_setting: Callable[..., None], settle: Callable[[], object]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    workos.misbehave("status", status=422, path="/organizations")
    a_parked_event(None, "event_parked")
    an_announcement("event_1", workos_id=None)
    an_announcement("event_2")

    with another_program() as rival:
        rival.execute("SELECT FROM workos_event FOR UPDATE")
        with pytest.raises(OperationalError):
            settle()


def test_an_announcement_is_applied_whatever_external_id_workos_has(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="New", external_id="theirs")
    an_organization_row("gram-1", name="Old", workos_id=acme["id"])

    honour_announcement(an_announcement("event_1", workos_id=acme["id"]).id)

    assert Organization.objects.get().name == "New"
    assert WorkOSEvent.objects.get().outcome == "missing"


def test_a_snapshot_creates_with_the_derived_id(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")

    honour_announcement(an_announcement("event_1", workos_id=acme["id"]).id)

    assert Organization.objects.get().id == derived_id(acme["id"])
