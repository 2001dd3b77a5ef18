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
)
from tests.concurrency import stopped_at
from tests.integration.services.stored import impatient
from tests.triggers import execute, locked

Switch = Callable[[Sequence[str]], list[str]]
FREED = [a_deletion(), an_event(2, workos_id="org_2", external_id="gram-1")]
LISTED = [an_absence(), an_organization(external_id="gram-1")]
OFF = {"disabled_at": NOON}


def is_now(moment: datetime | None) -> bool:
    return moment is not None and abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


def disabled_here() -> list[str]:
    return [row.id for row in Organization.objects.disabled_here()]


both = pytest.mark.parametrize("switch", [disable, enable])


def rows(switch: Switch, *ids: str) -> None:
    """Rows that it changes."""
    for id_ in ids:
        an_organization_row(id_, updated_at=NOON, disabled_at=None if switch is disable else NOON)


@both
def test_those_that_are_named_and_not_so_yet_are_disabled_or_enabled_now(switch: Switch) -> None:
    rows(switch, "gram-1", "gram-3")
    rows(enable if switch is disable else disable, "gram-2")

    changed = switch(["gram-2", "gram-1", "gram-nowhere"])

    first, second, third = Organization.objects.order_by("id")
    assert changed == ["gram-1"]
    assert is_now(first.updated_at), "by the database's clock"
    assert is_now(first.disabled_at) if switch is disable else first.disabled_at is None
    assert second.updated_at == third.updated_at == NOON
    assert NOON in (second.disabled_at, third.disabled_at)


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


def test_two_people_at_once_disable_once() -> None:
    an_organization_row("gram-1")

    disabled = "UPDATE organization_metadata SET disabled_at = '2026-01-15 12:00:00+00'"
    assert blocked_by(disabled, lambda: disable(["gram-1"])) == []
    assert Organization.objects.get().disabled_at == NOON


@impatient
@both
def test_waiting_for_a_locked_row_has_an_end(switch: Switch) -> None:
    rows(switch, "gram-1")

    with locked(), pytest.raises(OperationalError, match="lock timeout"):
        switch(["gram-1"])


@both
def test_rows_are_locked_in_the_order_of_their_ids(switch: Switch) -> None:
    ids = [f"gram-{number}" for number in range(4)]
    rows(switch, *ids)
    for id_ in ids[:3]:
        # The table's own order is another then: the last one first.
        Organization.objects.filter(id=id_).update(name="New")

    lock = "SELECT FROM organization_metadata WHERE id = '{}' FOR UPDATE NOWAIT"
    with stopped_at(lock.format("gram-1"), lambda: switch(ids)) as switching:
        execute(lock.format("gram-3"))

    assert switching.result() == ids
