"""Trouble that is no event's fault: nothing is parked for it, nothing lost, and no worker held."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import LiteralString

import pytest
from django.db import OperationalError, ProgrammingError

from orgs.db.cursor import ensure_cursor, is_drain_waiting
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.outbox import push_due
from orgs.services.stream import drain_and_wait, drain_to_end
from orgs.testing import WorkOSStandIn
from tests.builders import an_announcement, an_organization_row
from tests.concurrency import another_program, in_thread, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")

SyncSetting = Callable[..., None]


def names() -> list[str]:
    return list(Organization.objects.order_by("name").values_list("name", flat=True))


def nothing_is_parked() -> bool:
    return not WorkOSEvent.objects.parked().exists()


# A deployment that is half done --------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("organization_metadata", "name"),
        ("organization_metadata", "workos_last_event_id"),
        ("workos_sync_cursor", "last_event_at"),
        ("workos_event", "outcome"),
        ("workos_external_id_write_back", "requested_at"),
    ],
)
def test_a_column_that_goes_missing_during_a_drain_parks_and_loses_nothing(
    workos: WorkOSStandIn, sync_setting: SyncSetting, table: LiteralString, column: LiteralString
) -> None:
    sync_setting(PAGE_SIZE=2)
    workos.create_organization(name="Before it")
    drain_to_end()
    workos.seed(organizations=5)

    with another_program() as migration, in_thread() as start:
        migration.execute(f"ALTER TABLE {table} RENAME {column} TO gone")
        draining = start(drain_to_end)
        wait_until_blocked()
        migration.commit()
        try:
            with pytest.raises(ProgrammingError, match="column"):
                draining.result()
        finally:
            migration.execute(f"ALTER TABLE {table} RENAME gone TO {column}")
            migration.commit()
    then = names(), nothing_is_parked()
    report = drain_to_end()

    assert then == (["Before it"], True)
    assert report.read == 5
    assert names() == ["Before it", *(f"Organization {number}" for number in range(5))]
    assert nothing_is_parked()


# Another program's locks ---------------------------------------------------------------------


NOTHING = ["2 before"]


@pytest.mark.parametrize(
    ("lock", "applied_meanwhile"),
    [
        pytest.param(
            "SELECT FROM organization_metadata WHERE id = 'gram-2' FOR UPDATE",
            ["2 before", "After 1"],
            id="a row",
        ),
        pytest.param(
            "LOCK TABLE organization_metadata IN ACCESS EXCLUSIVE MODE", NOTHING, id="table"
        ),
        pytest.param("SELECT FROM workos_sync_cursor FOR UPDATE", NOTHING, id="the cursor"),
        pytest.param("LOCK TABLE workos_event IN ACCESS EXCLUSIVE MODE", NOTHING, id="the ledger"),
        pytest.param("LOCK TABLE workos_external_id_write_back", NOTHING, id="the outbox"),
    ],
)
def test_a_lock_that_is_held_for_long_parks_and_loses_nothing(
    workos: WorkOSStandIn,
    sync_setting: SyncSetting,
    lock: LiteralString,
    applied_meanwhile: list[str],
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    an_organization_row("gram-2", name="2 before")
    workos.create_organization(name="After 1")
    workos.create_organization(name="After 2", external_id="gram-2")
    workos.create_organization(name="After 3")
    ensure_cursor()

    with another_program() as rival:
        rival.execute(lock)
        with suppress(OperationalError):
            drain_to_end()
        drain_and_wait()
        rival.rollback()
    then = names(), nothing_is_parked()
    drain_to_end()

    assert then == (applied_meanwhile, True)
    assert names() == ["After 1", "After 2", "After 3"]
    assert nothing_is_parked()


# WorkOS does not answer ----------------------------------------------------------------------


def test_a_drain_whose_reads_time_out_ends_by_its_deadline(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    sync_setting(REQUEST_TIMEOUT=0.2, DRAIN_DEADLINE=0.5)
    an_announcement("event_1")
    workos.misbehave("time_out", times=None)

    drain_and_wait()

    assert not is_drain_waiting()
    assert workos.count_requests(path="/events") >= 1
    assert nothing_is_parked()


def test_a_push_whose_calls_time_out_leaves_the_rest_for_later(
    workos: WorkOSStandIn, sync_setting: SyncSetting
) -> None:
    workos.seed(organizations=60)
    drain_to_end()
    workos.forget_requests()
    sync_setting(REQUEST_TIMEOUT=1.0)
    workos.misbehave("time_out", path="/organizations", times=None)

    report = push_due(deadline=time.monotonic() + 0.5)

    # Those that are under way at the deadline are the last; eight calls are made at once.
    assert workos.count_requests(path="/organizations") == report.failed <= 8
    assert ExternalIdWriteBack.objects.count() == 60
