"""A dry run reports what the run that follows it does, also of what is not here yet."""

from typing import Any

import pytest
from django.db.models.functions import Now

from orgs.domain.types import Outcome
from orgs.models import Organization
from orgs.services.compare import Run
from orgs.services.coverage import adopt_settings
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_organization_row
from tests.mirrored import held, mirrored, some_of_each

pytestmark = pytest.mark.usefixtures("database")

QUIETLY: dict[str, Any] = {"at": TWO_DAYS_AGO, "emits": False}


@pytest.fixture
def organizations(database: None, all_resources: None, workos: FakeWorkOS) -> list[str]:
    """Two organizations that have everything, and of which no event is read."""
    adopt_settings()
    ids = []
    for name in ("Acme", "Bolt"):
        created: Any = workos.create_organization(name=name, external_id=name.lower(), **QUIETLY)
        some_of_each(workos, created["id"], emits=False)
        ids.append(created["id"])
    return ids


def lines(run: Run, *ids: str) -> list[str]:
    found = reconcile_organizations(run, ids) if ids else reconcile(run)
    assert found.errors == []
    return sorted(str(change) for change in found.changes)


@pytest.mark.usefixtures("organizations")
def test_what_belongs_to_organizations_that_are_not_here_yet(workos: FakeWorkOS) -> None:
    an_organization_row("acme")  # which is linked
    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert len(dry) == 22
    assert mirrored() == held(workos)


@pytest.mark.parametrize("how", ["live", "disabled here", "in conflict"])
def test_what_belongs_to_an_organization_that_is_deleted(
    workos: FakeWorkOS, organizations: list[str], how: str
) -> None:
    reconcile(Run())
    row = Organization.objects.filter(workos_id=organizations[1])
    if how == "disabled here":
        row.update(disabled_at=Now())
    elif how == "in conflict":
        row.update(workos_id=workos.create_organization(name="Bolt", **QUIETLY)["id"])
        assert reconcile(Run()).snapshot.counts[Outcome.CONFLICT]
    workos.delete_organization(organizations[1], emits=False)

    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert mirrored() == held(workos)


@pytest.mark.usefixtures("organizations")
def test_what_the_deletion_of_a_user_takes_along(workos: FakeWorkOS) -> None:
    reconcile(Run())
    workos.directory_users.delete(workos.directory_users.all()[0]["id"], emits=False)

    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert mirrored() == held(workos)


def test_what_belongs_to_an_organization_whose_row_another_one_takes_over(
    workos: FakeWorkOS, organizations: list[str]
) -> None:
    reconcile(Run())
    workos.delete_organization(organizations[1], emits=False)
    workos.create_organization(name="Bolt", external_id="bolt", **QUIETLY)

    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert mirrored() == held(workos)


def test_one_organization_alone(workos: FakeWorkOS, organizations: list[str]) -> None:
    dry = lines(Run(dry=True), organizations[0])

    assert lines(Run(), organizations[0]) == dry
    assert any("directory_group_member" in line for line in dry)
    reconcile(Run())
    okta = workos.directories.where("organization_id", organizations[0])[0]["id"]
    workos.directories.delete(okta, emits=False)

    assert lines(Run(dry=True), organizations[0]) == lines(Run(), organizations[0])
