"""A resource is covered only if it was listed in full, and nothing was missed since."""

from contextlib import nullcontext
from typing import Any

import pytest

from orgs import tasks
from orgs.api import ResourceNotCovered, has_access
from orgs.db.cursor import follow as set_followed
from orgs.db.cursor import read_cursor
from orgs.domain.naming import derived_id
from orgs.domain.status import ProblemCode
from orgs.domain.types import Outcome
from orgs.models import Organization, OrganizationMembership
from orgs.services import compare
from orgs.services.compare import Run
from orgs.services.coverage import adopt_settings
from orgs.services.reconcile import reconcile
from orgs.services.status import current_status
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_old_organization, an_organization_row
from tests.integration.services.stored import (
    BUSY,
    MonkeyPatch,
    Setting,
    a_member,
    impatient,
    sso_enabled,
)
from tests.triggers import a_constraint, locked

pytestmark = pytest.mark.usefixtures("no_hold_back")

MEMBERSHIPS = "/user_management/organization_memberships"


# After a lost cursor ------------------------------------------------------------------------


@pytest.fixture
def lost(workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch) -> dict[str, str]:
    """Memberships and connections were covered, and then their last events were missed.

    The last daily run stopped after the first organization. Returns users, by organization.
    """
    monkeypatch.setattr(compare, "_THREADS", 1)
    follow("connection", "membership")
    names = ("gram-acme", "gram-bolt")
    ids = [an_old_organization(workos, name, external_id=name) for name in names]
    users = {
        name: str(a_member(workos, of)["user_id"]) for name, of in zip(names, ids, strict=True)
    }
    workos.connections.create(name="Okta", organization_id=ids[0], state="active", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    assert reconcile(Run(scope_seconds=0.0)).errors == []
    assert read_cursor().progress == {"membership": min(ids)}
    for membership in workos.memberships.all():
        workos.memberships.deactivate(membership["id"])
    for connection in workos.connections.all():
        workos.connections.deactivate(connection["id"])
    workos.expire_events()
    return users


@pytest.mark.parametrize("how", ["the time is up", "a list fails"])
def test_what_is_not_listed_after_a_lost_cursor_is_not_covered(
    workos: FakeWorkOS, lost: dict[str, str], monkeypatch: MonkeyPatch, how: str
) -> None:
    if how == "the time is up":
        monkeypatch.setattr(tasks, "_SCOPE_SECONDS", 0.0)
    else:
        workos.misbehave("status", status=500, path=MEMBERSHIPS, times=None)

    tasks.recover()

    assert read_cursor().covered == {"organization", "connection"}
    assert ProblemCode.RESOURCES_NOT_COVERED in {p.code for p in current_status().problems}
    for organization, user in lost.items():
        with pytest.raises(ResourceNotCovered):
            has_access(user, organization)

    workos.behave()
    tasks.cover()
    assert not any(has_access(user, organization) for organization, user in lost.items())


def test_after_a_lost_cursor_lists_are_read_from_the_beginning(lost: dict[str, str]) -> None:
    """The first one was read by the run before: that was before the events were missed."""
    tasks.recover()

    assert "membership" in read_cursor().covered
    assert not any(has_access(user, organization) for organization, user in lost.items())
    assert sso_enabled()["gram-acme"] is False


@pytest.mark.usefixtures("lost")
def test_what_derives_from_a_resource_is_not_known_after_a_lost_cursor() -> None:
    assert sso_enabled()["gram-acme"] is True

    reconcile(Run(resources=("membership",)))

    assert sso_enabled()["gram-acme"] is None
    tasks.cover()
    assert sso_enabled()["gram-acme"] is False


@pytest.mark.parametrize("how", ["it is switched off and on", "the cursor is lost and replaced"])
def test_a_list_covers_nothing_if_events_were_missed_since_it_began(
    workos: FakeWorkOS, follow: Setting, how: str
) -> None:
    follow()
    acme = an_old_organization(workos, external_id="gram-acme")
    assert reconcile(Run()).errors == []
    user = a_member(workos, acme, emits=False)["user_id"]
    missed: list[str] = []
    follow("membership")

    def meanwhile(name: str, _: int) -> None:
        if name != "membership" or missed:
            return
        missed.append(name)
        if how == "the cursor is lost and replaced":
            workos.memberships.deactivate(workos.memberships.all()[0]["id"])
            workos.expire_events()
            assert reconcile(Run(resources=("organization",))).lost
            return
        follow()  # a worker starts that has the old settings still
        workos.memberships.deactivate(workos.memberships.all()[0]["id"])
        workos.update_organization(acme, name="Renamed")
        drain_to_end()
        follow("membership")

    assert reconcile(Run(progress=meanwhile)).errors == []
    drain_to_end()

    assert missed
    with pytest.raises(ResourceNotCovered):
        has_access(user, "gram-acme")
    tasks.cover()
    assert has_access(user, "gram-acme") is False


def test_a_break_that_is_noted_meanwhile_is_not_overwritten(follow: Setting) -> None:
    follow("role")
    before = read_cursor()
    follow()
    follow("role")

    assert (before.types, before.covered) == (read_cursor().types, read_cursor().covered)
    assert not set_followed(before, before.types or (), {"organization", "role"}, {})


# What is listed for each organization, directory or group -----------------------------------

DIRECTORIES = ("directory", "directory_user", "directory_group", "directory_group_member")


@pytest.fixture
def group(workos: FakeWorkOS) -> str:
    """A directory, a group and a user in it, of which no event is read."""
    acme = an_old_organization(workos, external_id="gram-acme")
    okta = workos.directories.create(name="Okta", organization_id=acme, emits=False)["id"]
    user = workos.directory_users.create(directory_id=okta, email="a@acme.com", emits=False)["id"]
    group = workos.directory_groups.create(directory_id=okta, name="Staff", emits=False)["id"]
    workos.directory_groups.add_user(group, user, emits=False)
    return str(group)


def not_listed() -> dict[str, str]:
    return {one.name: one.not_listed for one in reconcile(Run()).resources if one.not_listed}


def test_members_are_covered_once_organizations_are(workos: FakeWorkOS, follow: Setting) -> None:
    follow("membership")
    an_old_organization(workos)
    bolt = an_old_organization(workos, "Bolt", external_id="gram-bolt")
    user = a_member(workos, bolt, emits=False)["user_id"]
    first, second = workos.all_organizations()
    page = {"data": [first], "list_metadata": {"before": None, "after": first["id"]}}
    workos.misbehave("body", path="/organizations", exact=True, body=page, times=1)
    workos.misbehave("status", path="/organizations", exact=True, status=500, times=None)

    missing = "it is listed for each organization, and not every organization was listed"
    assert not_listed() == {"membership": missing}
    assert Organization.objects.count() == 1

    workos.behave()
    workos.update_organization(second["id"], name="Renamed")
    drain_to_end()
    with pytest.raises(ResourceNotCovered):
        has_access(user, "gram-bolt")
    tasks.cover()
    assert has_access(user, "gram-bolt")


WITHOUT_ROW = ("left to its event", "in conflict", "refused")


@pytest.mark.parametrize("why", WITHOUT_ROW)
@pytest.mark.parametrize("dry", [True, False])
def test_members_of_an_organization_that_gets_no_row_are_listed_too(
    workos: FakeWorkOS, sync_setting: Setting, why: str, dry: bool
) -> None:
    sync_setting(RESOURCES=("organization", "membership"), HOLD_BACK_WINDOW=10.0)
    adopt_settings()
    an_old_organization(workos, external_id="gram-acme")
    # Its members are older than what the stream will bring of it.
    at = None if why == "left to its event" else TWO_DAYS_AGO
    id_ = None if why == "in conflict" else "gram-bolt"
    bolt: Any = workos.create_organization(name="Bolt", external_id=id_, at=at, emits=False)["id"]
    a_member(workos, bolt, emits=False)
    if why == "in conflict":
        an_organization_row(derived_id(bolt), workos_id=workos.all_organizations()[0]["id"])
    with a_constraint("name <> 'Bolt'") if why == "refused" else nullcontext():
        found = reconcile(Run(dry=dry), drain_events=False)

    (members,) = found.resources
    assert [members.report.counts[Outcome.CREATED], members.is_incomplete()] == [1, False]
    if not dry:
        assert not Organization.objects.filter(workos_id=bolt).exists()
        assert OrganizationMembership.objects.get().workos_organization_id == bolt
        assert "membership" in read_cursor().covered
        again = reconcile(Run(resources=("membership",)), drain_events=False)
        assert again.resources[0].report.drift == []


@impatient
def test_a_locked_organization_keeps_members_uncovered(workos: FakeWorkOS, follow: Setting) -> None:
    follow("membership")
    a_member(workos, an_old_organization(workos, external_id="gram-acme"), emits=False)
    an_organization_row("gram-acme")

    with locked(where="id = 'gram-acme'"):
        found = reconcile(Run())

    assert BUSY in found.errors[0]
    assert read_cursor().covered == {"organization"}
    assert reconcile(Run()).errors == []
    assert read_cursor().covered == {"organization", "membership"}


@pytest.mark.usefixtures("group")
def test_directories_are_listed_after_a_lost_cursor(workos: FakeWorkOS, follow: Setting) -> None:
    follow(*DIRECTORIES)
    workos.update_organization(workos.all_organizations()[0]["id"], name="Renamed")
    drain_to_end()
    assert not_listed() == {}
    workos.expire_events()
    workos.misbehave("status", status=500, path="/directories", times=None)

    assert {*not_listed()} == {*DIRECTORIES}
    assert read_cursor().covered == {"organization"}


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("path", "uncovered"),
    [
        pytest.param("/directories", {*DIRECTORIES}, id="directories"),
        pytest.param("/directory_groups", {*DIRECTORIES[2:]}, id="groups"),
    ],
)
def test_what_is_listed_for_them_is_not_covered_unless_all_were_listed(
    workos: FakeWorkOS, follow: Setting, path: str, uncovered: set[str]
) -> None:
    follow(*DIRECTORIES)
    workos.misbehave("status", status=500, path=path, times=None)

    assert {*not_listed()} == uncovered
    assert read_cursor().covered == {"organization", *DIRECTORIES} - uncovered

    workos.behave()
    tasks.cover()
    assert read_cursor().covered == {"organization", *DIRECTORIES}


@pytest.mark.usefixtures("group")
def test_a_list_of_covered_directories_may_fail(workos: FakeWorkOS, follow: Setting) -> None:
    follow("directory")
    assert reconcile(Run()).errors == []
    follow("directory", "directory_user")
    workos.misbehave("status", status=500, path="/directories", times=None)

    assert not_listed() == {}
    assert read_cursor().covered == {"organization", "directory", "directory_user"}


@pytest.mark.usefixtures("group")
def test_users_of_directories_that_are_not_followed_are_never_covered(follow: Setting) -> None:
    follow("directory_user")

    missing = "it is listed for each directory, and not every directory was listed"
    assert not_listed() == {"directory_user": missing}
    assert read_cursor().covered == {"organization"}
