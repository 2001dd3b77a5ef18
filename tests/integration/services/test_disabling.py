"""Disabling and enabling by a person's decision, and what the sync makes of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from orgs.domain.types import Observation
from orgs.models import Organization
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.disabling import disable, enable
from tests.builders import (
    NOON,
    a_deletion,
    an_absence,
    an_event,
    an_organization,
    an_organization_row,
    blocked_by,
    compare,
    live,
)
from tests.concurrency import another_program, in_thread, wait_until_blocked
from tests.triggers import locked

pytestmark = pytest.mark.usefixtures("database")

Switch = Callable[[Sequence[str]], list[str]]
FREED = [a_deletion(), an_event(2, workos_id="org_2", external_id="gram-1")]
LISTED = [an_absence(), an_organization(external_id="gram-1")]
OFF = {"disabled_at": NOON}


def is_now(moment: datetime | None) -> bool:
    return moment is not None and abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


def disabled_here() -> list[str]:
    return [row.id for row in Organization.objects.disabled_here()]


def test_those_that_are_enabled_are_disabled_now_by_the_databases_clock() -> None:
    an_organization_row("gram-1", updated_at=NOON)
    an_organization_row("gram-2", updated_at=NOON, disabled_at=NOON)
    an_organization_row("gram-3")

    changed = disable(["gram-2", "gram-1", "gram-nowhere"])

    first, second, third = Organization.objects.order_by("id")
    assert changed == ["gram-1"]
    assert is_now(first.disabled_at)
    assert is_now(first.updated_at)
    assert (second.disabled_at, second.updated_at) == (NOON, NOON)
    assert third.disabled_at is None


def test_those_that_are_disabled_are_enabled() -> None:
    an_organization_row("gram-1", updated_at=NOON)
    an_organization_row("gram-2", updated_at=NOON, disabled_at=NOON)

    changed = enable(["gram-1", "gram-2", "gram-nowhere"])

    first, second = Organization.objects.order_by("id")
    assert changed == ["gram-2"]
    assert (second.disabled_at, first.updated_at) == (None, NOON)
    assert is_now(second.updated_at)


def test_a_row_that_is_disabled_here_goes_on_being_updated_and_is_reported() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    disable(["gram-1"])

    live(an_event(name="Renamed"))
    report = compare(an_organization(name="Renamed", external_id="gram-1"))

    row = Organization.objects.get()
    assert (row.name, row.disabled_at is not None) == ("Renamed", True)
    assert [change.change for change in report.changes] == ["disabled_here"]
    assert disabled_here() == ["gram-1"]


@pytest.mark.parametrize(
    ("columns", "said", "is_here"),
    [
        pytest.param(OFF, [], True, id="by another program"),
        pytest.param({}, [], False, id="enabled"),
        pytest.param({**OFF, "workos_id": None}, [], False, id="not linked"),
        pytest.param({}, [a_deletion()], False, id="deleted in WorkOS"),
        pytest.param({}, [an_absence()], False, id="answered by 404"),
        pytest.param(OFF, [a_deletion()], False, id="then deleted in WorkOS"),
        pytest.param(OFF, [an_absence()], False, id="then answered by 404"),
        pytest.param({}, [an_absence(), an_event()], True, id="a 404, proved wrong by an event"),
        pytest.param({}, LISTED, True, id="a 404, proved wrong by a list"),
        pytest.param({}, FREED, True, id="given to another organization since"),
    ],
)
def test_disabled_here_is_what_lives_in_workos(
    columns: dict[str, Any], said: list[Observation], is_here: bool
) -> None:
    an_organization_row("gram-1", **{"workos_id": "org_1", **columns})

    for observation in said:
        mode = Mode.REPLAY if observation.event else Mode.RECONCILE
        apply(Batch(observations=[observation]), mode)

    assert disabled_here() == (["gram-1"] if is_here else [])


def test_what_workos_has_deleted_is_disabled_again_when_that_is_confirmed() -> None:
    an_organization_row("gram-1", workos_id="org_1")
    live(a_deletion())
    enable(["gram-1"])

    report = compare(an_absence())

    assert [change.change for change in report.changes] == ["disabled"]
    assert Organization.objects.disabled().exists()


def test_two_people_at_once_disable_once() -> None:
    an_organization_row("gram-1")

    disabled = "UPDATE organization_metadata SET disabled_at = '2026-01-15 12:00:00+00'"
    assert blocked_by(disabled, lambda: disable(["gram-1"])) == []
    assert Organization.objects.get().disabled_at == NOON


@pytest.mark.parametrize("switch", [disable, enable])
def test_waiting_for_a_locked_row_has_an_end(switch: Switch, sync_setting: Any) -> None:
    an_organization_row("gram-1", disabled_at=NOON if switch is enable else None)
    sync_setting(LOCK_TIMEOUT=0.05)

    with locked(), pytest.raises(OperationalError, match="lock timeout"):
        switch(["gram-1"])


@pytest.mark.parametrize("switch", [disable, enable])
def test_rows_are_locked_in_the_order_of_their_ids(switch: Switch) -> None:
    ids = [f"gram-{number}" for number in range(4)]
    for id_ in ids:
        an_organization_row(id_, disabled_at=NOON if switch is enable else None)
    for id_ in ids[:3]:
        # The table's own order is another then: the last one first.
        Organization.objects.filter(id=id_).update(name="New")

    with another_program() as first, another_program() as second, in_thread() as start:
        first.execute("SELECT FROM organization_metadata WHERE id = 'gram-1' FOR UPDATE")
        waiting = start(lambda: switch(ids))
        wait_until_blocked()
        second.execute("SELECT FROM organization_metadata WHERE id = 'gram-3' FOR UPDATE NOWAIT")
        second.rollback()
        first.rollback()
        changed = waiting.result()

    assert changed == ids
