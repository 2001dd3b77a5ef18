"""What a person decides about conflicts; and the conflicts of events that the ledger refused."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import messages

from orgs.admin import calls
from orgs.domain.naming import derived_id
from orgs.models import Connection, Organization, WorkOSConflict, WorkOSEvent
from orgs.services.compare import Run
from orgs.services.conflicts import NotDecidable, give_row
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import a_claimed_row, a_mirrored_organization
from tests.integration.services.stored import LogCapture, Setting, conflicts, impatient, links
from tests.triggers import LEAVES_OUT, RAISES, a_constraint, a_trigger, locked


def test_a_row_is_not_given_away_that_the_next_event_would_take_back(workos: FakeWorkOS) -> None:
    row, first, second = a_claimed_row(workos)
    reason = f"{first} resolves to {row}, which is linked to {second}"
    assert WorkOSEvent.objects.parked().get().error == reason

    (result,) = calls.decide(give_row, [first])

    assert result.text.startswith(f"Not done: WorkOS has external_id {row!r} for {second}")
    assert result.level == messages.ERROR
    assert links()[row] == second
    assert conflicts() == {first: (row, "row_claimed")}


def test_a_row_that_is_given_away_stays_so_and_its_conflict_is_removed(workos: FakeWorkOS) -> None:
    row, first, second = a_claimed_row(workos)
    workos.update_organization(second, external_id=None)
    drain_to_end()

    change = give_row(first)

    assert (change.change, links()[row], conflicts()) == ("relinked", first, {})
    for id_ in (second, first):
        workos.update_organization(id_, name="Later")
        drain_to_end()
    assert links()[row] == first
    assert links()[derived_id(second)] == second
    assert conflicts() == {}


@pytest.mark.parametrize("why", ["does not claim", "is deleted in WorkOS"])
def test_a_row_is_not_given_to_one_that_lost_its_claim(workos: FakeWorkOS, why: str) -> None:
    row, first, second = a_claimed_row(workos)
    workos.update_organization(second, external_id=None, emits=False)
    if why == "does not claim":
        workos.update_organization(first, external_id="theirs", emits=False)
    else:
        workos.emit({"event": "organization.deleted", "data": workos.organization(first)})
        drain_to_end()
        WorkOSConflict.objects.create(pk=first, organization_id=row, kind="row_claimed", reason="")

    with pytest.raises(NotDecidable, match=why):
        give_row(first)

    assert links()[row] == second
    assert Organization.objects.count() == 1


def test_a_row_that_postgresql_does_not_give_away_is_said_not_to_be(workos: FakeWorkOS) -> None:
    row, first, second = a_claimed_row(workos)
    workos.update_organization(second, external_id=None, emits=False)

    with a_constraint("name <> 'A2'"):
        (result,) = calls.decide(give_row, [first])

    assert result.text.startswith("Not done: PostgreSQL 23514: new row for relation")
    assert result.level == messages.ERROR
    assert (links()[row], conflicts()) == (second, {first: (row, "row_claimed")})


@pytest.fixture
def a_refused_event(workos: FakeWorkOS, sync_setting: Setting) -> str:
    """A connection whose events are not in the ledger; its id."""
    sync_setting(RESOURCES=("organization", "connection", "directory", "role"))
    workos_id = a_mirrored_organization(workos)
    reconcile(Run())
    with a_trigger("RAISE 'no';", table="workos_event", when="NEW.resource = 'connection'"):
        created = workos.connections.create(organization_id=workos_id, name="SSO")
        workos.connections.activate(created["id"])
        drain_to_end()
    assert conflicts() == {created["id"]: (None, "ledger_refused")}
    return str(created["id"])


def an_hour_passes() -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert WorkOSConflict.objects.update(last_seen_at=hour_ago) == 1


def test_looking_again_proves_nothing_of_it(workos: FakeWorkOS, a_refused_event: str) -> None:
    for ask in (calls.plan_recheck, lambda ids: list(calls.reconcile(ids))):
        with pytest.raises(UnknownOrganization, match="the next snapshot that compares everything"):
            ask([a_refused_event])

    assert conflicts() == {a_refused_event: (None, "ledger_refused")}


@pytest.mark.usefixtures("a_refused_event")
@pytest.mark.parametrize(
    ("run", "path"),
    [
        pytest.param(Run(dry=True), None, id="dry"),
        pytest.param(Run(resources=("connection",)), None, id="of one resource"),
        pytest.param(Run(scope_seconds=-1.0), None, id="whose time was up"),
        pytest.param(Run(), "/connections", id="with an error of a resource"),
        pytest.param(Run(), "/organizations", id="with an error"),
    ],
)
def test_a_run_that_has_not_compared_everything_leaves_what_the_ledger_refused(
    workos: FakeWorkOS, run: Run, path: str | None
) -> None:
    an_hour_passes()
    for number in range(20):
        a_mirrored_organization(workos, f"gram-{number}")
    if path:
        workos.misbehave("status", status=503, path=path, times=None)

    found = reconcile(run)

    assert bool(found.errors) is bool(path)
    assert conflicts()


def test_a_run_that_has_compared_everything_removes_what_the_ledger_refused(
    a_refused_event: str, sync_setting: Setting
) -> None:
    reconcile(Run())
    assert conflicts(), "its object may have been left to its event"

    an_hour_passes()
    sync_setting(HOLD_BACK_WINDOW=0)
    reconcile(Run())

    assert conflicts() == {}
    assert Connection.objects.get().pk == a_refused_event


@impatient
@pytest.mark.parametrize("body", [RAISES, LEAVES_OUT, ""])
def test_a_conflict_that_cant_be_deleted_does_not_end_the_run(
    a_refused_event: str, body: str, caplog: LogCapture
) -> None:
    an_hour_passes()
    refuses = a_trigger(body, table="workos_conflict", on="DELETE")

    with refuses if body else locked("workos_conflict"):
        assert not reconcile(Run()).errors

    assert "workos_conflict that can't be changed" in caplog.text
    assert conflicts() == {a_refused_event: (None, "ledger_refused")}
