"""Parked events replayed, and missed webhooks resolved, by what WorkOS says now."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError

import orgs.workos
from orgs.domain.naming import derived_id
from orgs.domain.report import Change
from orgs.domain.resources import PLAIN
from orgs.domain.types import EventType, Outcome
from orgs.models import Connection, ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.lookups import Lookups
from orgs.services.refresh import AlreadyResolved, dismiss_parked, fetch, resolve, resolve_all
from orgs.services.refusals import text_of
from orgs.testing import FakeWorkOS
from orgs.workos import BrokenAnswer, Unavailable
from tests.builders import (
    NOON,
    a_linked_row,
    a_mirrored_organization,
    a_parked_event,
    an_announcement,
    an_event_id,
    an_organization_row,
)
from tests.integration.services.stored import Around, Setting, conflicts, disabled, impatient, links
from tests.triggers import LEAVES_OUT, RAISES, REASONS, a_constraint, a_trigger, locked


def the_event() -> WorkOSEvent:
    return WorkOSEvent.objects.get()


Unresolved = Callable[..., WorkOSEvent]

both = pytest.mark.parametrize("unresolved", [a_parked_event, an_announcement])


def test_a_parked_event_is_replayed_by_what_workos_says_now(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme now")
    a_parked_event(acme["id"])

    change = resolve("event_1")

    row = Organization.objects.get()
    assert (change.change, change.organization_id) == (Outcome.CREATED, row.id)
    assert (row.id, row.name, row.slug) == (derived_id(acme["id"]), "Acme now", "acme-now")
    event = the_event()
    assert (event.outcome, event.organization_id) == ("created", row.id)
    assert (event.error, event.payload) == ("", None)
    assert ExternalIdWriteBack.objects.get().organization_id == row.id


@both
@pytest.mark.parametrize("id_", ["..", "gram-1"])
def test_a_deleted_organization_is_disabled(
    workos: FakeWorkOS, unresolved: Unresolved, id_: str
) -> None:
    a_mirrored_organization(workos)
    an_organization_row(id_, slug="slug", workos_id="org_deleted")
    unresolved(workos_id="org_deleted", event_id="event_1")

    change = Change(id_, "org_deleted", Outcome.DISABLED, event_id="event_1")
    assert resolve("event_1") == change
    assert disabled() == [id_]


def test_a_replay_that_finds_the_mirror_right_is_stale(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    before = an_organization_row("gram-1", workos_id=acme["id"], workos_last_event_id="event_0")
    an_organization_row("gram-2", workos_id="org_of_nobodys_business")
    a_parked_event(acme["id"])

    assert resolve("event_1").change is Outcome.STALE
    after = Organization.objects.get(id="gram-1")
    assert (after.updated_at, after.workos_last_event_id) == (before.updated_at, "event_0")
    assert workos.count_requests() == 1


@both
@pytest.mark.parametrize(
    ("workos_id", "answer", "reason"),
    [
        pytest.param("org_1", {"name": "\0"}, "can't be read: name", id="unreadable"),
        pytest.param(None, None, "it can only be dismissed", id="names no organization"),
        pytest.param("org_1", 400, "WorkOS refuses to show the organization", id="refused"),
        pytest.param("org_1", None, "PostgreSQL 23514: ", id="refused by PostgreSQL"),
    ],
)
def test_an_event_that_cant_be_applied_even_now_is_parked(
    workos: FakeWorkOS, unresolved: Unresolved, workos_id: str | None, answer: Any, reason: str
) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    workos.create_organization(id="org_1", name="Forbidden")
    if isinstance(answer, int):
        workos.misbehave("status", status=answer, path="/organizations")
    elif answer is not None:
        workos.misbehave("body", path="/organizations", body={"id": "org_1", **answer})
    unresolved(workos_id=workos_id, event_id="event_1")

    with a_constraint():
        change = resolve("event_1")

    assert (change.change, the_event().is_parked) == (Outcome.PARKED, True)
    assert reason in change.reason
    assert reason in the_event().error
    shown = '{"id": "org_1", "name": "\\u0000"}' if isinstance(answer, dict) else None
    # A parked event's own payload is what a person has to understand.
    assert the_event().payload == ("{}" if unresolved is a_parked_event else shown)
    assert workos.count_requests() == (workos_id is not None)


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        pytest.param({"kind": "status", "status": 500}, Unavailable, id="500"),
        pytest.param({"kind": "html", "status": 404}, BrokenAnswer, id="a proxy's 404"),
    ],
)
def test_an_error_of_workos_leaves_the_event_and_the_row_as_they_were(
    workos: FakeWorkOS, misbehaviour: dict[str, Any], error: type[Exception]
) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    before = a_parked_event("org_1")
    workos.misbehave(path="/organizations", **misbehaviour)

    with pytest.raises(error):
        resolve("event_1")

    assert (the_event().error, disabled()) == (before.error, [])


@pytest.mark.parametrize("how", [RAISES, LEAVES_OUT], ids=["raises", "leaves it out"])
@pytest.mark.parametrize("workos_id", ["org_1", None], ids=["applied", "names no organization"])
def test_an_event_that_the_ledger_keeps_as_it_is_is_reported_as_left(
    workos: FakeWorkOS, how: str, workos_id: str | None
) -> None:
    workos.create_organization(id="org_1", name="Acme")
    before = a_parked_event(workos_id)

    with a_trigger(how, table="workos_event", on="UPDATE"):
        report = resolve_all(WorkOSEvent.objects.parked())
        with pytest.raises(DatabaseError):
            dismiss_parked([before.id])

    assert (report.left, report.changes) == (1, [])
    assert report.error
    assert text_of(report.error) == REASONS[how]
    assert the_event().error == before.error


def test_an_event_in_another_state_is_left_alone(workos: FakeWorkOS) -> None:
    a_parked_event(outcome=Outcome.STALE, payload=None)

    with pytest.raises(AlreadyResolved):
        resolve("event_1")

    assert workos.count_requests() == 0


@both
def test_of_a_resource_that_is_switched_off_nothing_is_fetched(
    workos: FakeWorkOS, unresolved: Unresolved
) -> None:
    user = workos.users.create(email="alex@example.com")["id"]
    unresolved(workos_id=None, event_id="event_1")
    WorkOSEvent.objects.update(resource="user", object_key=user)

    change = resolve("event_1")

    is_parked = unresolved is a_parked_event
    assert change.change is (Outcome.PARKED if is_parked else Outcome.IGNORED)
    assert ("WORKOS_RESOURCES does not name user" in change.reason) == is_parked
    error = "the first reason" if is_parked else ""
    assert (the_event().outcome, the_event().error) == (change.change, error)
    assert workos.count_requests() == 0


def test_parked_events_are_dismissed_and_others_are_not() -> None:
    a_parked_event(event_id="event_1")
    an_announcement("event_2")

    assert dismiss_parked(["event_1", "event_2"]) == ["event_1"]
    events = WorkOSEvent.objects.order_by("id").values_list("outcome", "error", "payload")
    hashed = f"sha256:{sha256(b'{}').hexdigest()}"
    assert list(events) == [("dismissed", "the first reason", hashed), (None, "", None)]


def test_a_replay_of_all_leaves_what_is_dismissed(workos: FakeWorkOS, before: Around) -> None:
    # So many that, in whatever order, one that is dismissed stands before one that is not.
    for number in range(20):
        a_parked_event(f"org_{number}", an_event_id(number))
    ids = [an_event_id(number) for number in range(0, 20, 2)]

    def dismiss_others(_: object, workos_id: str) -> None:
        others = WorkOSEvent.objects.exclude(workos_organization_id=workos_id).filter(id__in=ids)
        dismiss_parked(list(others.values_list("id", flat=True)))

    before(orgs.workos, "lookup", dismiss_others)

    report = resolve_all(WorkOSEvent.objects.parked())

    assert not WorkOSEvent.objects.parked().exists()
    assert (report.left, report.error) == (0, None)
    assert report.counts[Outcome.UNKNOWN] >= 10


@both
@pytest.mark.usefixtures("wrong_place")
@pytest.mark.parametrize(
    ("linked", "about", "outcome"),
    [
        pytest.param(1, "gram-0", Outcome.PARKED, id="the only linked row"),
        pytest.param(2, "gram-0", Outcome.PARKED, id="one of two linked rows"),
        pytest.param(1, None, Outcome.PARKED, id="no row, beside a linked one"),
        # There is nothing to prove it by, and nothing to lose.
        pytest.param(0, None, Outcome.UNKNOWN, id="no row at all"),
    ],
)
def test_a_404_that_any_organization_would_get_changes_nothing(
    workos: FakeWorkOS, unresolved: Unresolved, linked: int, about: str | None, outcome: Outcome
) -> None:
    there = {f"gram-{number}": a_linked_row(workos, f"gram-{number}") for number in range(linked)}
    unresolved(workos_id=there[about] if about else "org_unknown", event_id="event_1")

    change = resolve("event_1")

    assert (disabled(), change.change) == ([], outcome)
    assert ("proves nothing" in the_event().error) == (outcome is Outcome.PARKED)


@both
@pytest.mark.parametrize("disabled_at", [None, NOON], ids=["enabled", "disabled here"])
@pytest.mark.parametrize("claims", [None, "gram-1", "gram-unlinked"])
def test_an_organization_of_another_environment_gets_no_row(
    workos: FakeWorkOS,
    elsewhere: FakeWorkOS,
    sync_setting: Setting,
    unresolved: Unresolved,
    disabled_at: datetime | None,
    claims: str | None,
) -> None:
    """Its row would prove that environment right, and a later 404 there disable the others."""
    live = a_linked_row(workos, disabled_at=disabled_at)
    an_organization_row("gram-unlinked", workos_id=None)
    unresolved(
        workos_id=elsewhere.create_organization(name="New", external_id=claims)["id"],
        event_id="event_1",
    )
    sync_setting(BASE_URL=elsewhere.base_url)

    change = resolve("event_1")

    assert change.change is Outcome.PARKED
    assert "proves nothing" in the_event().error
    assert links() == {"gram-1": live, "gram-unlinked": None}


@both
@pytest.mark.parametrize("name", ["Acme", None], ids=["applied", "unreadable"])
def test_an_event_that_is_dismissed_or_read_meanwhile_keeps_that_outcome(
    workos: FakeWorkOS, before: Around, unresolved: Unresolved, name: str | None
) -> None:
    acme = workos.create_organization(name="Acme")
    workos.misbehave("body", path="/organizations", body={**acme, "name": name})
    unresolved(workos_id=acme["id"], event_id="event_1")
    outcome = Outcome.DISMISSED if unresolved is a_parked_event else Outcome.CREATED
    error, seen = the_event().error, {"outcome": outcome, "processed_at": datetime.now(UTC)}
    before(orgs.workos, "lookup", lambda *_: WorkOSEvent.objects.update(**seen))

    resolve("event_1")

    assert (the_event().outcome, the_event().error) == (outcome, error)


@pytest.mark.parametrize(
    ("event_type", "outcome", "created"),
    [
        pytest.param(EventType.DELETED, Outcome.DISABLED, 0, id="deleted"),
        pytest.param(EventType.DELETED, Outcome.UNKNOWN, 0, id="deleted, and had no row"),
        pytest.param(EventType.DELETED, Outcome.STALE, 0, id="deleted, and stale"),
        pytest.param(EventType.DELETED, Outcome.MISSING, 1, id="announced, and never listed"),
        pytest.param(EventType.UPDATED, Outcome.STALE, 1, id="updated"),
    ],
)
def test_only_a_deletion_in_the_ledger_keeps_an_organization_out(
    workos: FakeWorkOS, event_type: EventType, outcome: Outcome, created: int
) -> None:
    acme = workos.create_organization(name="Acme")["id"]
    a_parked_event(acme, "event_0", type=event_type, outcome=outcome, payload=None)
    a_parked_event(acme)

    change = resolve("event_1")

    assert Organization.objects.count() == created
    assert change.change is (Outcome.CREATED if created else Outcome.STALE)


@impatient
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda: dismiss_parked(["event_parked"]), id="dismiss"),
        pytest.param(lambda: resolve("event_parked"), id="replay: names no organization"),
        pytest.param(lambda: resolve("event_acme"), id="replay: applied"),
        pytest.param(lambda: resolve("event_1"), id="resolve: names no organization"),
        pytest.param(lambda: resolve("event_2"), id="resolve: refused"),
    ],
)
def test_nothing_waits_for_a_lock_without_end_or_is_done_by_half(
    workos: FakeWorkOS, act: Callable[[], object]
) -> None:
    workos.misbehave("status", status=422, path="/organizations/org_1")
    a_parked_event(workos.create_organization(name="Acme")["id"], "event_acme")
    a_parked_event(None, "event_parked")
    an_announcement("event_1", workos_id=None)
    an_announcement("event_2")

    with locked("workos_event"), pytest.raises(OperationalError):
        act()

    assert not Organization.objects.exists()


def test_a_row_moves_only_if_its_old_organization_is_deleted(workos: FakeWorkOS) -> None:
    alive, acme, beta = (
        str(workos.create_organization(name="Acme", external_id=external_id)["id"])
        for external_id in (None, "gram-1", "gram-2")
    )
    an_organization_row("gram-1", workos_id=alive)
    an_organization_row("gram-2", workos_id="org_deleted")
    a_parked_event(acme, "event_1")
    a_parked_event(beta, "event_2")

    left_alone, moved = resolve("event_1"), resolve("event_2")

    assert left_alone.change is Outcome.PARKED
    assert f"which is linked to {alive}" in left_alone.reason
    assert (moved.change, moved.organization_id) == (Outcome.RELINKED, "gram-2")
    assert links() == {"gram-1": alive, "gram-2": beta}
    assert conflicts() == {acme: ("gram-1", "row_claimed")}


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_row_that_was_taken_over_is_not_disabled(workos: FakeWorkOS, first: str) -> None:
    """Whichever of the two webhooks is resolved first, it ends as by the events themselves."""
    a_mirrored_organization(workos)
    new = workos.create_organization(name="New", external_id="gram-1", emits=False)
    an_organization_row("gram-1", name="Old", workos_id="org_deleted")
    events = {
        "old": an_announcement("event_1", workos_id="org_deleted", type=EventType.DELETED),
        "new": an_announcement("event_2", workos_id=new["id"], type=EventType.CREATED),
    }

    resolve(events.pop(first).id)
    resolve(events.popitem()[1].id)

    row = Organization.objects.get(id="gram-1")
    assert (row.workos_id, row.name, row.disabled_at) == (new["id"], "New", None)


@pytest.mark.parametrize(
    "answer", [{"kind": "body", "body": {"id": "org_owner"}}, {"kind": "status", "status": 422}]
)
def test_an_owner_that_cant_be_read_still_exists(workos: FakeWorkOS, answer: Any) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    an_organization_row("gram-1", workos_id="org_owner")
    a_linked_row(workos, "gram-2")
    workos.misbehave(path="/organizations/org_owner", times=None, **answer)

    assert fetch(acme["id"], Lookups()).absent == frozenset()


@pytest.mark.parametrize("status", [422, 500])
def test_one_that_cant_be_looked_up_proves_nothing_and_keeps_no_other_from_it(
    workos: FakeWorkOS, status: int
) -> None:
    odd = a_mirrored_organization(workos)
    workos.misbehave("status", status=status, path=f"/organizations/{odd}", times=None)
    with nullcontext() if status == 422 else pytest.raises(Unavailable):
        assert not Lookups(candidates=[odd]).proves_absence({"org_missing"})
    a_linked_row(workos, "gram-2")

    assert Lookups(candidates=[odd]).proves_absence({"org_missing"})


@pytest.mark.parametrize(
    ("missing", "living", "requests"),
    [
        pytest.param([1, 2, 3, 4], 0, 1, id="what is missing itself is not asked for"),
        pytest.param([2], 0, 4, id="deletions of its neighbours were missed"),
        pytest.param([2], 4, 1, id="and of those before it"),
    ],
)
def test_rows_that_do_not_hide_the_proof(
    workos: FakeWorkOS, missing: list[int], living: int, requests: int
) -> None:
    acme = a_mirrored_organization(workos)
    for number in range(5):
        key = f"conn_{number}"
        Connection.objects.create(workos_id=key, workos_organization_id=acme, state="active")
    workos.connections.create(id=f"conn_{living}", name="A", organization_id=acme)

    assert Lookups().proves_absence({f"conn_{n}" for n in missing}, PLAIN["connection"])
    assert workos.count_requests(path="/connections") == requests


def test_of_several_that_are_missing_none_is_asked_as_a_proof_of_another(
    workos: FakeWorkOS,
) -> None:
    """By their ids, all others are asked before the one that is there."""
    missing = {f"org_{number}" for number in range(7)}
    ids = ("0!a", "0!b", "0!c", "zz1", "zz2", "zz3", "zz4")
    for id_, workos_id in zip(ids, sorted(missing), strict=True):
        an_organization_row(id_, workos_id=workos_id)
    a_linked_row(workos, "0!d")

    assert Lookups().confirmed_absent(missing) == missing


def test_an_owner_with_a_row_of_its_own_takes_over_none(workos: FakeWorkOS) -> None:
    """Its ``external_id`` names the row of an organization that is deleted."""
    a_mirrored_organization(workos)
    old = workos.create_organization(name="Old", external_id="gram-1", emits=False)["id"]
    new = workos.create_organization(name="New", external_id="gram-2", emits=False)["id"]
    for id_, workos_id in (("gram-1", old), ("gram-2", new)):
        an_organization_row(id_, workos_id=workos_id)
    workos.delete_organization(old, emits=False)
    workos.update_organization(new, external_id="gram-1", emits=False)
    an_announcement("event_1", workos_id=old, type=EventType.DELETED)

    resolve("event_1")

    assert Organization.objects.get(id="gram-1").disabled_at is not None
