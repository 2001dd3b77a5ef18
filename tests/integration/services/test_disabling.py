"""Disabling and enabling by a person's decision, and what the sync makes of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from orgs.services.repair import Run

from orgs.models import Organization
from orgs.services.disabling import disable, enable
from orgs.services.reconcile_one import (
    reconcile_organizations,
)
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import NOON, an_organization_row
from tests.concurrency import another_program, in_thread, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")


def disabled() -> list[str]:
    return sorted(row.id for row in Organization.objects.disabled())


def test_those_that_are_not_disabled_yet_are_disabled_by_the_databases_clock() -> None:
    an_organization_row("gram-1", updated_at=NOON)
    an_organization_row("gram-2", updated_at=NOON, disabled_at=NOON)
    an_organization_row("gram-3")

    changed = disable(["gram-2", "gram-1", "gram-nowhere"])

    assert changed == ["gram-1"]
    first, second, third = Organization.objects.order_by("id")
    assert first.disabled_at is not None
    assert abs(first.disabled_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert abs(first.updated_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (second.disabled_at, second.updated_at) == (NOON, NOON)
    assert third.disabled_at is None


def test_those_that_are_disabled_are_enabled() -> None:
    an_organization_row("gram-1", updated_at=NOON)
    an_organization_row("gram-2", updated_at=NOON, disabled_at=NOON)

    changed = enable(["gram-1", "gram-2", "gram-nowhere"])

    assert changed == ["gram-2"]
    first, second = Organization.objects.order_by("id")
    assert (second.disabled_at, first.updated_at) == (None, NOON)
    assert abs(second.updated_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_sync_goes_on_with_one_that_is_disabled_here_and_never_enables_it(
    workos: FakeWorkOS,
) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    disable(["gram-1"])

    workos.update_organization(acme["id"], name="Renamed")
    drain_to_end()
    found = reconcile_organizations(Run(now=timezone.now()), ["gram-1"])

    row = Organization.objects.get()
    assert (row.name, row.disabled_at is not None) == ("Renamed", True)
    assert [change.change for change in found.snapshot.changes] == ["disabled_here"]


def test_what_workos_has_deleted_is_disabled_again_by_a_snapshot(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    workos.delete_organization(acme["id"])
    drain_to_end()

    enable(["gram-1"])
    found = reconcile_organizations(Run(now=timezone.now()), ["gram-1"])

    assert [change.change for change in found.snapshot.changes] == ["disabled"]
    assert disabled() == ["gram-1"]


def test_two_people_at_once_disable_once() -> None:
    an_organization_row("gram-1")

    with another_program() as rival, in_thread() as start:
        rival.execute("UPDATE organization_metadata SET disabled_at = '2026-01-15 12:00:00+00'")
        second = start(lambda: disable(["gram-1"]))
        wait_until_blocked()
        rival.commit()
        changed = second.result()

    assert changed == []
    assert Organization.objects.get().disabled_at == NOON


@pytest.mark.parametrize("switch", [disable, enable])
def test_waiting_for_a_locked_row_has_an_end(
    switch: Callable[[Sequence[str]], list[str]], sync_setting: Any
) -> None:
    an_organization_row("gram-1", disabled_at=NOON if switch is enable else None)
    sync_setting(LOCK_TIMEOUT=0.05)

    with another_program() as rival:
        rival.execute("SELECT FROM organization_metadata FOR UPDATE")
        with pytest.raises(OperationalError, match="lock timeout"):
            switch(["gram-1"])


def test_rows_are_locked_in_the_order_of_their_ids() -> None:
    for number in range(4):
        an_organization_row(f"gram-{number}")
    with connection.cursor() as cursor:
        # The order of the table is the other way round.
        cursor.execute("UPDATE organization_metadata SET name = 'New' WHERE id = 'gram-0'")

    with another_program() as first, another_program() as second, in_thread() as start:
        first.execute("SELECT FROM organization_metadata WHERE id = 'gram-1' FOR UPDATE")
        waiting = start(lambda: disable([f"gram-{number}" for number in range(4)]))
        wait_until_blocked()
        second.execute("SELECT FROM organization_metadata WHERE id = 'gram-3' FOR UPDATE NOWAIT")
        second.rollback()
        first.rollback()
        changed = waiting.result()

    assert len(changed) == 4
