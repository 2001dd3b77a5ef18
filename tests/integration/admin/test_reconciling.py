"""*Reconcile* and *Look again*: what they say of each row, and of what belongs to it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from orgs.admin.calls import plan_recheck, plan_reconcile, reconcile
from orgs.domain.naming import derived_id
from orgs.models import Connection, Organization, WorkOSConflict
from orgs.services.compare import Run
from orgs.services.reconcile import reconcile as reconcile_everything
from orgs.testing import FakeWorkOS
from tests.admin_pages import CONFLICTS, ORGANIZATIONS, a_client, choose, confirm, said, text_of
from tests.builders import (
    NO_ROUTE,
    a_claimed_row,
    a_linked_row,
    a_mirrored_organization,
    an_old_organization,
    an_organization_row,
)
from tests.triggers import a_constraint, locked

pytestmark = pytest.mark.usefixtures("database")


def texts(*ids: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(result.text, tuple(result.ids)) for result in reconcile(ids)]


def test_a_row_that_is_in_sync_is_said_to_be_and_there_is_nothing_to_do(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)

    plan = plan_reconcile(["gram-mirrored"])

    assert plan.rows == {"gram-mirrored": "In sync with WorkOS: nothing happens"}
    assert plan.is_idle
    assert texts("gram-mirrored") == [("In sync with WorkOS", ("gram-mirrored",))]


def test_a_row_that_postgresql_refuses_is_not_said_to_be_in_sync(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    workos_id = a_linked_row(workos, "gram-x", there="Bad")

    with a_constraint("name <> 'Bad'"):
        (refusal, row), others, (error, _) = texts("gram-x", "gram-mirrored")

    assert (refusal.partition(": ")[0], row) == (f"failed ? ({workos_id})", ("gram-x",))
    assert others == ("Nothing repaired", ("gram-mirrored",))
    assert error.startswith("PostgreSQL refused to write 1 organization")


def test_a_row_that_is_unproven_is_not_said_to_be_in_sync(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-x", name="Old", workos_id="org_gone")
    workos.misbehave("status", status=404, body=NO_ROUTE, path="/organizations/", times=None)

    plan = plan_reconcile(["gram-x"])
    (unproven, row), (error, _) = texts("gram-x")

    assert plan.rows == {"gram-x": unproven}
    assert (plan.is_idle, plan.warnings) == (False, [error])
    assert (unproven.partition(": ")[0], row) == ("unproven ? (org_gone)", ("gram-x",))


def test_a_locked_or_newer_row_is_not_in_sync(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    updated_at = datetime.now(UTC)
    workos_id = a_linked_row(workos, "gram-x", there="New", workos_updated_at=updated_at)

    newer = texts("gram-x")
    Organization.objects.update(workos_updated_at=None)
    with locked(where="id = 'gram-x'"):
        nothing, (error, _), *_ = texts("gram-x")

    assert newer == [("In sync with WorkOS, or newer than its answer", ("gram-x",))]
    assert nothing[0] == "Nothing repaired"
    assert f"another program has {workos_id} locked" in error


def test_what_belongs_to_a_row_is_said_of_it(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(RESOURCES=("organization", "connection", "directory"))
    first, _ = a_mirrored_organization(workos), a_mirrored_organization(workos, "gram-2")
    reconcile_everything(Run())
    sso = workos.connections.create(organization_id=first, name="SSO", emits=False)["id"]
    client = a_client("reconcile_organization")
    change = f"created connection {sso}"

    question = choose(client, ORGANIZATIONS, "reconcile", "gram-mirrored", "gram-2")
    plan = plan_reconcile(["gram-mirrored", "gram-2"])
    answer = confirm(client, question)

    assert f"Mirrored {change}" in text_of(question.content.decode())
    assert plan.rows == {"gram-mirrored": change, "gram-2": "In sync with WorkOS"}
    assert not plan.is_idle
    assert said(answer) == [("success", change), ("success", "In sync with WorkOS: gram-2")]
    assert Connection.objects.get().pk == sso
    assert plan_reconcile(["gram-mirrored"]).is_idle


def test_a_row_linked_just_now_has_its_resources(workos: FakeWorkOS, sync_setting: Any) -> None:
    sync_setting(RESOURCES=("organization", "connection", "directory"))
    a_mirrored_organization(workos)
    reconcile_everything(Run())
    workos_id = an_old_organization(workos, "New", external_id="gram-new")
    workos.connections.create(organization_id=workos_id, name="SSO", emits=False)
    an_organization_row("gram-new", name="New")

    assert {ids for _, ids in texts("gram-new")} == {("gram-new",)}


def a_solved_conflict(workos: FakeWorkOS) -> str:
    workos_id = a_linked_row(workos, "gram-x", external_id="theirs")
    reconcile_everything(Run())
    workos.update_organization(workos_id, external_id="gram-x", emits=False)
    return workos_id


def a_conflict_of_a_deleted_organization(workos: FakeWorkOS) -> str:
    a_mirrored_organization(workos)
    _, first, _ = a_claimed_row(workos)
    workos.delete_organization(first, emits=False)
    return first


@pytest.mark.parametrize("arrange", [a_solved_conflict, a_conflict_of_a_deleted_organization])
def test_looking_again_removes_a_conflict_that_is_solved(
    workos: FakeWorkOS, arrange: Callable[[FakeWorkOS], str]
) -> None:
    id_ = arrange(workos)
    assert WorkOSConflict.objects.filter(pk=id_).exists()
    client = a_client("recheck_workosconflict")

    question = choose(client, CONFLICTS, "recheck", id_)
    answer = confirm(client, question)

    assert f"{id_} Solved: it is removed from this list" in text_of(question.content.decode())
    assert said(answer) == [("success", f"In sync with WorkOS: {id_}")]
    assert not WorkOSConflict.objects.filter(pk=id_).exists()


def test_two_conflicts_over_one_row_are_each_said_to_be_there(workos: FakeWorkOS) -> None:
    owner = an_old_organization(workos, "X", external_id="theirs")
    claimant = an_old_organization(workos, "Y")
    an_organization_row(derived_id(claimant), name="X", workos_id=owner)
    reconcile_everything(Run())

    plan = plan_recheck([owner, claimant])

    assert [text.partition(" ")[0] for text in plan.rows.values()] == ["conflict", "conflict"]
    assert set(plan.rows) == {owner, claimant}
