"""A lost cursor is recovered by a complete list, and the stream goes on from before it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orgs.db.cursor import read_cursor
from orgs.domain.types import Outcome, Position
from orgs.models import Organization, SyncCursor
from orgs.services import reconcile as reconciling
from orgs.services.compare import DisableLimit, Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import (
    NO_ROUTE,
    NOON,
    a_mirrored_organization,
    an_old_organization,
    an_organization_row,
)
from tests.integration.services.stored import (
    BUSY,
    Around,
    Setting,
    cursor,
    disabled,
    impatient,
    row,
)
from tests.mirrored import held, mirrored, some_of_each
from tests.triggers import locked


@pytest.fixture
def lost(workos: FakeWorkOS) -> Position:
    """The mirror is behind by a deletion and a creation whose events nobody can list any more."""
    a_mirrored_organization(workos)
    deleted = workos.create_organization(name="Deleted", external_id="gram-deleted")
    drain_to_end()
    position = read_cursor().position
    workos.delete_organization(str(deleted["id"]), at=NOON)
    an_old_organization(workos, "Created meanwhile", external_id="gram-created")
    workos.expire_events()
    return position


def test_it_is_recovered_and_the_stream_goes_on(workos: FakeWorkOS, lost: Position) -> None:
    found = reconcile(Run())
    workos.create_organization(name="Later", external_id="gram-later")
    drain_to_end()

    assert (found.lost is None, found.in_sync) == (False, False)
    assert disabled() == ["gram-deleted"]
    assert row("gram-created").name == "Created meanwhile"
    assert row("gram-later").name == "Later"
    assert read_cursor().position != lost


@pytest.mark.usefixtures("lost")
def test_the_stream_goes_on_from_before_the_run_by_workos_clock(workos: FakeWorkOS) -> None:
    workos.set_clock_offset(-3_600)
    began = datetime.now(UTC)

    reconcile(Run())

    position = read_cursor().position
    earlier = began - timedelta(hours=1, minutes=6)
    assert position.last_event_id is None
    assert position.last_event_at is not None
    # The Date header has whole seconds.
    assert timedelta(seconds=-1) <= position.last_event_at - earlier < timedelta(minutes=1)


@pytest.mark.usefixtures("lost")
def test_what_happens_meanwhile_is_not_lost(workos: FakeWorkOS, after: Around) -> None:
    """Renamed after its page was read, and before the stream goes on."""

    def rename(*_: object) -> None:
        created = next(o for o in workos.all_organizations() if o["external_id"] == "gram-created")
        workos.update_organization(str(created["id"]), name="Renamed meanwhile")

    after(reconciling, "read_organizations", rename)

    found = reconcile(Run())

    assert found.events.counts[Outcome.UPDATED] >= 1
    assert row("gram-created").name == "Renamed meanwhile"


@impatient
def test_a_row_that_stays_locked_does_not_keep_the_stream_from_going_on(lost: Position) -> None:
    an_organization_row("gram-created", name="Old", slug="old")

    with locked(where="id = 'gram-created'"):
        blocked = reconcile(Run())
        while_locked, noted = read_cursor().position, cursor().snapshot_trouble
    freed = reconcile(Run())

    assert BUSY in blocked.errors[0]
    assert BUSY in noted, "its change waits for the next full run, and is not forgotten"
    assert while_locked != lost
    assert (freed.errors, cursor().snapshot_trouble) == ([], "")
    assert row("gram-created").name == "Created meanwhile"


def test_a_stream_that_stops_after_it_was_recovered_ends_no_run(
    workos: FakeWorkOS, lost: Position, before: Around
) -> None:
    def stop(*_: object) -> None:
        workos.misbehave("status", path="/events", status=500, times=None)

    before(reconciling._FullRun, "_replace_cursor", stop)

    found = reconcile(Run())

    assert [error.partition(":")[0] for error in found.errors] == [
        "the stream is not read to its end"
    ]
    assert (disabled(), row("gram-created").name) == (["gram-deleted"], "Created meanwhile")
    assert (read_cursor().position == lost, cursor().snapshot_trouble) == (False, "")


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        (0, {"status": 404, "times": 0}),
        (10, {"status": 404, "body": NO_ROUTE}),
        (10, {"status": 422}),
        (10, {"status": 500}),
    ],
    ids=["more than the limit", "a route's 404", "refused", "500"],
)
def test_the_stream_goes_on_whatever_the_disables_wait_for(
    workos: FakeWorkOS, lost: Position, rows: int, answer: dict[str, Any]
) -> None:
    workos.misbehave("status", path="/organizations/", **{"times": None, **answer})

    assert reconcile(Run(limit=DisableLimit(rows=rows, percent=0))).errors
    assert read_cursor().position != lost
    assert disabled() == []


@pytest.mark.parametrize("why", ["expired", "not drained for too long"])
def test_a_dry_run_reports_and_leaves_it(workos: FakeWorkOS, lost: Position, why: str) -> None:
    if why != "expired":
        workos.misbehave("slow", seconds=0, times=None)
        SyncCursor.objects.update(drained_at=datetime.now(UTC) - timedelta(days=40))

    found = reconcile(Run(dry=True))

    assert (found.lost is None, found.in_sync) == (False, False)
    assert read_cursor().position == lost


def test_what_is_recent_is_not_left_to_an_event_that_may_be_lost_too(
    workos: FakeWorkOS,
) -> None:
    workos.create_organization(name="Old", external_id="gram-old")
    drain_to_end()
    workos.create_organization(name="New", external_id="gram-new")
    workos.expire_events()

    assert reconcile(Run()).organizations.counts[Outcome.CREATED] == 1


def test_a_signup_during_the_recovery_is_no_incomplete_list(
    workos: FakeWorkOS, lost: Position, after: Around
) -> None:
    """Its organization has a row, and was created after the list was read."""

    def sign_up(*_: Any) -> None:
        if not Organization.objects.filter(id="gram-new").exists():
            created = workos.create_organization(name="New", external_id="gram-new")
            an_organization_row("gram-new", workos_id=created["id"])

    after(reconciling._FullRun, "_compare_listed", sign_up)

    assert reconcile(Run()).errors == []
    assert read_cursor().position != lost


@pytest.mark.parametrize("resource", ["connection", "organization_domain"])
def test_what_is_recent_of_other_resources_is_not_left_to_an_event_either(
    workos: FakeWorkOS, follow: Setting, resource: str
) -> None:
    acme = an_old_organization(workos, external_id="gram-1")
    workos.create_organization(name="First")
    follow(resource)
    drain_to_end()
    some_of_each(workos, acme)
    workos.expire_events()

    assert reconcile(Run()).lost
    assert mirrored()[resource] == held(workos)[resource]
