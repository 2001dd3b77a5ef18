"""A dry run reports what the run that follows it does, also of what is not here yet."""

from typing import Any

import pytest

from orgs.services.compare import Run
from orgs.services.coverage import adopt_settings
from orgs.services.reconcile import reconcile
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


def lines(run: Run) -> list[str]:
    found = reconcile(run)
    assert found.errors == []
    return sorted(str(change) for change in found.changes)


@pytest.mark.usefixtures("organizations")
def test_what_belongs_to_organizations_that_are_not_here_yet(workos: FakeWorkOS) -> None:
    an_organization_row("acme")  # which is linked
    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert len(dry) == 22
    assert mirrored() == held(workos)


def test_what_belongs_to_an_organization_that_is_deleted(
    workos: FakeWorkOS, organizations: list[str]
) -> None:
    reconcile(Run())
    workos.delete_organization(organizations[1], emits=False)

    dry = lines(Run(dry=True))

    assert lines(Run()) == dry
    assert mirrored() == held(workos)
