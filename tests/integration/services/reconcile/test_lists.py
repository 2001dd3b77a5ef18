"""Lists of the resources beside organizations: what they cover, and what an error stops."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from django.db.models.functions import Now

from orgs import tasks
from orgs.api import ResourceNotCovered, has_access
from orgs.db.cursor import follow as set_followed
from orgs.db.cursor import read_cursor
from orgs.domain.naming import derived_id
from orgs.domain.status import ProblemCode
from orgs.domain.types import Outcome
from orgs.models import (
    Connection,
    Directory,
    DirectoryGroup,
    DirectoryGroupMember,
    DirectoryUser,
    Organization,
    OrganizationDomain,
    OrganizationMembership,
    Role,
)
from orgs.services import compare, reconcile_resources
from orgs.services import reconcile as reconcile_of_all
from orgs.services.compare import Run
from orgs.services.coverage import adopt_settings
from orgs.services.reconcile import reconcile
from orgs.services.status import current_status
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from orgs.workos import Unavailable, read_organizations
from tests.builders import (
    TWO_DAYS_AGO,
    a_mirrored_organization,
    an_old_organization,
    an_organization_row,
)
from tests.integration.services.stored import (
    BUSY,
    EVERYTHING,
    MonkeyPatch,
    Setting,
    a_member,
    disabled,
    impatient,
    sso_enabled,
)
from tests.mirrored import held, mirrored
from tests.triggers import RAISES, a_constraint, a_trigger, locked

pytestmark = pytest.mark.usefixtures("no_hold_back")

MEMBERSHIPS = "/user_management/organization_memberships"


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
    tasks.sync_events()
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
    acme = str(workos.create_organization(name="Acme", external_id="gram-acme")["id"])
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


def test_a_member_of_a_group_is_removed_though_the_user_cant_be_deleted(
    workos: FakeWorkOS, follow: Setting, group: str
) -> None:
    follow(*DIRECTORIES)
    reconcile(Run())
    user = DirectoryUser.objects.get()
    directory = str(user.workos_directory_id)
    workos.directory_users.create(directory_id=directory, email="b@acme.com", emits=False)
    reconcile(Run())
    workos.directory_users.delete(user.pk, emits=False)

    with a_trigger(RAISES, table="workos_directory_user"):
        reconcile(Run(limit=EVERYTHING))

    assert not DirectoryGroupMember.objects.filter(removed_at=None).exists()


def test_what_another_program_made_live_again_is_counted_once(
    workos: FakeWorkOS, follow: Setting, group: str
) -> None:
    follow(*DIRECTORIES)
    directory = str(workos.directories.all()[0]["id"])
    users = [str(workos.directory_users.all()[0]["id"])]
    for name in map(str, range(12)):
        made = workos.directory_users.create(directory_id=directory, email=f"{name}@acme.com")
        workos.directory_groups.add_user(group, made["id"])
        users.append(str(made["id"]))
    workos.directory_users.create(directory_id=directory, email="last@acme.com")
    reconcile(Run())
    for user in users:
        workos.directory_users.delete(user)
    drain_to_end()
    DirectoryGroupMember.objects.update(removed_at=None)

    dry, run = reconcile(Run(dry=True)), reconcile(Run())

    assert (dry.errors, run.errors) == ([], [])
    assert len(dry.changes) == len(run.changes) == len(users)


@pytest.mark.parametrize(
    ("type_", "name"), [("dsync.deleted", "directory"), ("dsync.group.deleted", "directory_group")]
)
def test_what_a_deletion_takes_along_is_deleted_although_its_type_is_refused(
    workos: FakeWorkOS, follow: Setting, group: str, type_: str, name: str
) -> None:
    follow(*DIRECTORIES, HOLD_BACK_WINDOW=0.0)
    (acme,) = workos.all_organizations()
    other = workos.directories.create(name="AD", organization_id=acme["id"])["id"]
    workos.directory_groups.create(directory_id=other, name="All")
    reconcile(Run())
    workos.refuse_event_types([type_])
    drain_to_end()
    if name == "directory":
        workos.directories.delete(str(DirectoryGroup.objects.get(pk=group).workos_directory_id))
    else:
        workos.directory_groups.delete(group)
    drain_to_end()

    assert not reconcile(Run(dry=True)).in_sync
    reconcile(Run(resources=("directory_group_member",)))

    assert mirrored() == held(workos)
    assert {"directory_group_member"} <= {*DIRECTORIES} & read_cursor().covered < {*DIRECTORIES}
    found = reconcile(Run())
    assert (found.in_sync, found.changes) == (True, [])


def test_what_is_listed_for_the_sake_of_others_has_a_limit(
    workos: FakeWorkOS, follow: Setting, group: str
) -> None:
    follow(*DIRECTORIES)
    (acme,) = workos.all_organizations()
    for name in map(str, range(15)):
        workos.directories.create(name=name, organization_id=acme["id"], at=TWO_DAYS_AGO)
    reconcile(Run())
    workos.refuse_event_types(["dsync.deleted"])
    drain_to_end()
    *gone, _ = (str(one["id"]) for one in workos.directories.all())
    for directory in gone:
        workos.directories.delete(directory, emits=False)

    error, *_ = reconcile(Run()).errors

    assert error.startswith("more than 10 rows of directory are missing from WorkOS")
    assert Directory.objects.filter(deleted_at=None).count() == 16
    assert not DirectoryGroup.objects.get(pk=group).deleted_at


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


# Lists that fail ----------------------------------------------------------------------------


OF_ROLES = "/authorization/organizations/{}/roles"

ROLE_WITHOUT_SLUG = {"data": [{"type": "OrganizationRole", "slug": None}]}


def test_a_domains_error_is_none_of_the_organizations(workos: FakeWorkOS, follow: Setting) -> None:
    follow("organization_domain")
    acme = a_mirrored_organization(workos)
    bolt: Any = workos.create_organization(name="Bolt", external_id="gram-bolt", at=TWO_DAYS_AGO)
    domains = [
        workos.domains.create(organization_id=acme, domain=f"{n}.com", at=TWO_DAYS_AGO)["id"]
        for n in range(12)
    ]
    assert reconcile(Run()).errors == []
    workos.delete_organization(bolt["id"], emits=False)
    for domain in domains[:11]:
        workos.domains.delete(domain, emits=False)
    workos.misbehave("status", status=500, path=f"/organization_domains/{domains[10]}", times=None)

    found = reconcile(Run(limit=EVERYTHING))

    assert found.organizations.errors == []
    assert [error.partition(":")[0] for error in found.errors] == ["organization_domain"]
    assert disabled() == ["gram-bolt"]
    # Not all were asked for, so none is deleted.
    assert not OrganizationDomain.objects.exclude(deleted_at=None).exists()

    workos.behave()
    assert reconcile(Run(limit=EVERYTHING)).errors == []
    assert mirrored() == held(workos)


@pytest.fixture
def gone(workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch) -> tuple[str, str]:
    """An organization whose member is gone in WorkOS, and that member. The first list is read; the
    second answers 500, as each test says for how long."""
    monkeypatch.setattr(compare, "_THREADS", 1)
    monkeypatch.setattr(reconcile_resources, "_FAILURES_TO_STOP", 1)
    follow("membership")
    ids = sorted(an_old_organization(workos, name, external_id=name) for name in ("a", "b"))
    members = [a_member(workos, of)["id"] for of in ids]
    assert reconcile(Run()).errors == []
    workos.memberships.delete(members[0], emits=False)
    workos.misbehave("slow", seconds=0, path=MEMBERSHIPS, exact=True)
    return ids[0], members[0]


def test_what_the_lists_before_an_error_did_not_show_is_deleted(
    workos: FakeWorkOS, gone: tuple[str, str]
) -> None:
    """The next daily run goes on behind them."""
    workos.misbehave("status", status=500, path=MEMBERSHIPS, exact=True)

    (error,) = reconcile(Run(scope_seconds=60.0)).errors

    assert error.startswith("membership: WorkOS does not answer")
    assert read_cursor().progress == {"membership": gone[0]}
    assert OrganizationMembership.objects.exclude(deleted_at=None).get().pk == gone[1]


@pytest.mark.usefixtures("gone")
@pytest.mark.parametrize("is_daily", [True, False], ids=["the daily run", "the command"])
def test_after_an_outage_nothing_is_deleted_without_proof_and_nothing_is_passed_over(
    workos: FakeWorkOS, *, is_daily: bool
) -> None:
    workos.misbehave("status", status=500, path=MEMBERSHIPS, exact=True, times=None)
    if is_daily:
        workos.misbehave("slow", seconds=0, path=f"{MEMBERSHIPS}/")
        workos.misbehave("status", status=500, path=f"{MEMBERSHIPS}/", times=None)

    (error,) = reconcile(Run(scope_seconds=60.0 if is_daily else None)).errors

    assert error.startswith("membership: WorkOS does not answer")
    assert read_cursor().progress == {}
    assert not OrganizationMembership.objects.exclude(deleted_at=None).exists()


def test_a_run_that_fails_keeps_where_to_go_on(workos: FakeWorkOS, follow: Setting) -> None:
    follow("role")
    workos.seed(organizations=20, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    # Its lists are read in threads, a group of scopes at a time.
    assert reconcile(Run(scope_seconds=0.0)).errors == []
    stopped_after = read_cursor().progress["role"]
    assert sum(one["id"] > stopped_after for one in workos.all_organizations()) > 8
    failing = ("/authorization/organizations", "/authorization/roles")

    for path in failing:
        workos.misbehave("status", status=500, path=path, times=None)
        (error,) = reconcile(Run(scope_seconds=0.0)).errors
        assert error.startswith("role: ")
        assert read_cursor().progress == {"role": stopped_after}
        workos.behave()

    assert reconcile(Run(scope_seconds=0.0)).errors == []
    assert read_cursor().progress["role"] > stopped_after
    assert reconcile(Run(scope_seconds=60.0)).errors == []
    assert read_cursor().progress == {}


@pytest.mark.parametrize("how", ["taken over", "taken over by an event", "its row was deleted"])
def test_members_of_a_deleted_organization_that_lost_its_row_are_deleted(
    workos: FakeWorkOS, follow: Setting, how: str
) -> None:
    follow("membership")
    a_mirrored_organization(workos)
    acme, bolt = (
        an_old_organization(workos, name, external_id=f"gram-{name}") for name in ("acme", "bolt")
    )
    members = [a_member(workos, acme) for _ in range(12)]
    members += [a_member(workos, bolt), a_member(workos, bolt)]
    reconcile(Run())
    workos.memberships.delete(members[-1]["id"], emits=False)
    workos.delete_organization(acme, emits=False)
    if how == "its row was deleted":
        Organization.objects.filter(pk="gram-acme").delete()
    else:
        workos.create_organization(
            name="acme",
            external_id="gram-acme",
            at=TWO_DAYS_AGO,
            emits=how == "taken over by an event",
        )
        drain_to_end()

    dry, run = reconcile(Run(dry=True)), reconcile(Run())

    assert (dry.errors, run.errors) == ([], [])
    assert sorted(map(str, dry.changes)) == sorted(map(str, run.changes))
    assert mirrored()["membership"] == held(workos)["membership"]
    assert reconcile(Run()).in_sync


def members_of_one(workos: FakeWorkOS) -> list[str]:
    """More members of one organization than a run deletes by itself, and one of another."""
    a_mirrored_organization(workos)
    acme = an_old_organization(workos, "acme", external_id="gram-acme")
    members = [str(a_member(workos, acme)["id"]) for _ in range(15)]
    a_member(workos, an_old_organization(workos, "bolt", external_id="gram-bolt"))
    reconcile(Run())
    return members


def live_members() -> int:
    return OrganizationMembership.objects.filter(deleted_at=None).count()


def test_another_place_proves_nothing_of_organizations_that_have_no_row(
    workos: FakeWorkOS, elsewhere: FakeWorkOS, follow: Setting, sync_setting: Setting
) -> None:
    follow("membership")
    members_of_one(workos)
    Organization.objects.all().delete()
    sync_setting(BASE_URL=elsewhere.base_url)

    assert reconcile(Run(), drain_events=False).errors
    assert live_members() == 16


def test_what_workos_has_is_not_deleted_with_an_organization_that_it_does_not_have(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("membership")
    members = members_of_one(workos)
    # Their own list does not bring them back: they seem to be newer.
    wrong = {"workos_organization": "org_wrong", "workos_updated_at": Now()}
    OrganizationMembership.objects.filter(pk__in=members).update(**wrong)

    reconcile(Run())

    assert live_members() == 16


def test_an_organization_without_a_row_that_cant_be_asked_for_keeps_no_other_deletion(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("membership")
    one, *_ = members_of_one(workos)
    bolt = str(Organization.objects.get(pk="gram-bolt").workos_id)
    workos.delete_organization(bolt, emits=False)
    Organization.objects.filter(pk="gram-bolt").delete()
    workos.memberships.delete(one, emits=False)
    workos.misbehave("status", status=500, path=f"/organizations/{bolt}", times=None)

    assert reconcile(Run()).errors == []
    assert live_members() == 14


def test_the_last_connection_of_a_deleted_organization_needs_no_other_one(
    workos: FakeWorkOS, follow: Setting
) -> None:
    """Without a row, too: the organization's own events may be older than WorkOS keeps them."""
    follow("connection")
    a_mirrored_organization(workos)
    acme = an_old_organization(workos, "acme", external_id="gram-acme")
    workos.connections.create(name="SSO", organization_id=acme, at=TWO_DAYS_AGO)
    reconcile(Run())
    workos.delete_organization(acme, emits=False)
    Organization.objects.filter(pk="gram-acme").delete()

    assert reconcile(Run()).errors == []
    assert Connection.objects.filter(deleted_at=None).count() == 0


def test_whoever_a_directory_still_lists_is_not_deleted_with_its_organization(
    workos: FakeWorkOS, follow: Setting
) -> None:
    """Another program wrote that it is of a deleted one, and a time that no list is newer than."""
    follow("directory", "directory_user", "directory_group", "directory_group_member")
    acme = an_old_organization(workos, "acme", external_id="gram-acme")
    gone = an_old_organization(workos, "gone", external_id="gram-gone")
    okta = workos.directories.create(name="Okta", organization_id=acme, at=TWO_DAYS_AGO)["id"]
    group = workos.directory_groups.create(directory_id=okta, name="Staff", at=TWO_DAYS_AGO)["id"]
    user = workos.directory_users.create(directory_id=okta, at=TWO_DAYS_AGO)["id"]
    workos.directory_groups.add_user(group, user, at=TWO_DAYS_AGO)
    reconcile(Run())
    workos.delete_organization(gone)
    drain_to_end()
    for model in (DirectoryUser, DirectoryGroup, DirectoryGroupMember):
        model.objects.update(workos_organization=gone, workos_updated_at=Now())

    found = reconcile(Run())

    assert found.errors == []
    assert [one.report.counts[Outcome.DELETED] for one in found.resources] == [0] * 4
    assert DirectoryUser.objects.get().deleted_at is None


@pytest.mark.parametrize("has_row", [True, False])
def test_who_was_in_a_deleted_organizations_directory_that_has_no_row_is_deleted(
    workos: FakeWorkOS, follow: Setting, *, has_row: bool
) -> None:
    """Nothing else of its kind is left, and there are more than a run deletes by itself."""
    follow("directory", "directory_user", "directory_group", "directory_group_member")
    a_mirrored_organization(workos)
    acme = an_old_organization(workos, "acme", external_id="gram-acme")
    okta = workos.directories.create(name="Okta", organization_id=acme, at=TWO_DAYS_AGO)["id"]
    group = workos.directory_groups.create(directory_id=okta, name="Staff", at=TWO_DAYS_AGO)["id"]
    for _ in range(12):
        user = workos.directory_users.create(directory_id=okta, at=TWO_DAYS_AGO)["id"]
        workos.directory_groups.add_user(group, user, at=TWO_DAYS_AGO)
    reconcile(Run())
    workos.delete_organization(acme, emits=False)
    Directory.objects.all().delete()
    if not has_row:
        Organization.objects.filter(pk="gram-acme").delete()

    assert reconcile(Run()).errors == []
    for model in (DirectoryUser, DirectoryGroup):
        assert model.objects.filter(deleted_at=None).count() == 0
    assert DirectoryGroupMember.objects.filter(removed_at=None).count() == 0


@pytest.mark.parametrize("is_listed", [False, True], ids=["no list of them", "half a list"])
def test_organizations_that_have_no_row_yet_are_not_asked_for(
    workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch, *, is_listed: bool
) -> None:
    follow("connection")
    a_mirrored_organization(workos)
    new = an_old_organization(workos, "New")
    workos.connections.create(name="SSO", organization_id=new, at=TWO_DAYS_AGO)
    resources = () if is_listed else ("connection",)
    monkeypatch.setattr(reconcile_of_all, "read_organizations", half_a_list(read_organizations))

    assert bool(reconcile(Run(resources=resources)).errors) == is_listed
    assert workos.count_requests(path=f"/organizations/{new}") == 0


def half_a_list(read: Any) -> Any:
    """Reads a page, and then fails: before the new organization is listed."""

    def read_first(position: str | None, **options: Any) -> Any:
        if position is not None:
            raise Unavailable("WorkOS is down")
        page = read(position, **options)
        first = page.observations[:1]
        return replace(page, parse=lambda: first, position=first[0].workos_id, is_last=False)

    return read_first


@pytest.fixture
def roles_of_deleted(workos: FakeWorkOS, follow: Setting) -> list[str]:
    """Organizations without a row, which WorkOS has deleted, and of which roles have rows."""
    follow("role")
    a_mirrored_organization(workos)
    ids = []
    for name in "ABC":
        ids.append(str(workos.create_organization(name=name, emits=False)["id"]))
        workos.roles.create(slug=name.lower(), organization_id=ids[-1], at=TWO_DAYS_AGO)
    drain_to_end()
    for id_ in ids:
        workos.delete_organization(id_, emits=False)
    assert Role.objects.filter(deleted_at=None).count() == len(ids)
    return ids


def test_a_refused_scope_keeps_its_rows(workos: FakeWorkOS, roles_of_deleted: list[str]) -> None:
    refused = roles_of_deleted[1]
    workos.misbehave("status", status=422, path=f"/organizations/{refused}", times=None)

    assert reconcile(Run(limit=EVERYTHING)).errors == []

    left = Role.objects.filter(deleted_at=None).values_list("workos_organization_id", flat=True)
    assert [*left] == [refused]


@pytest.mark.parametrize("status", [500, 403])
def test_roles_of_an_organization_that_cant_be_asked_for_are_an_error(
    workos: FakeWorkOS, roles_of_deleted: list[str], status: int
) -> None:
    silent, *_ = roles_of_deleted
    workos.misbehave("status", status=status, path=f"/organizations/{silent}", times=None)

    (error,) = reconcile(Run(limit=EVERYTHING)).errors

    assert f": 1 organization can't be asked for; the first, {silent}: " in error
    assert Role.objects.filter(deleted_at=None).count() == 1


def test_scopes_are_only_asked_for_if_a_404_counts(
    workos: FakeWorkOS, roles_of_deleted: list[str]
) -> None:
    mirrored_one = Organization.objects.linked().get().workos_id
    body = {"message": "Not found.", "code": "entity_not_found"}
    path = f"/organizations/{mirrored_one}"
    workos.misbehave("status", status=404, body=body, path=path, exact=True, times=None)

    reconcile(Run(limit=EVERYTHING))

    assert [workos.count_requests(path=f"/organizations/{id_}") for id_ in roles_of_deleted] == [
        0
    ] * 3
    assert Role.objects.filter(deleted_at=None).count() == 3


def test_an_object_that_workos_refuses_to_show_is_kept(workos: FakeWorkOS, follow: Setting) -> None:
    follow("connection")
    acme = a_mirrored_organization(workos)
    made = [
        str(workos.connections.create(name=name, organization_id=acme, at=TWO_DAYS_AGO)["id"])
        for name in "ABC"
    ]
    assert reconcile(Run()).errors == []
    for key in made[1:]:
        workos.connections.delete(key, emits=False)
    workos.misbehave("status", status=422, path=f"/connections/{made[1]}", times=None)

    (error,) = reconcile(Run(limit=EVERYTHING)).errors

    assert f"1 missing row of connection not deleted; the first, {made[1]}: " in error
    left = Connection.objects.filter(deleted_at=None).values_list("pk", flat=True)
    assert {*left} == {*made[:2]}


@pytest.mark.parametrize(
    ("paths", "kind", "parameters"),
    [
        pytest.param([OF_ROLES], "status", {"status": 422}, id="it is refused"),
        pytest.param([OF_ROLES, "/organizations/{}"], "status", {"status": 422}, id="and so is it"),
        pytest.param([OF_ROLES], "status", {"status": 403}, id="it is forbidden"),
        pytest.param([OF_ROLES], "status", {"status": 500}, id="there is no answer"),
        pytest.param([OF_ROLES], "html", {}, id="it is no list"),
        pytest.param([OF_ROLES], "body", {"body": ROLE_WITHOUT_SLUG}, id="one has no key"),
    ],
)
def test_a_list_that_cant_be_read_does_not_keep_what_other_lists_did_not_show(
    workos: FakeWorkOS, follow: Setting, paths: list[str], kind: str, parameters: dict[str, Any]
) -> None:
    """One role is absent in its organization, one is absent with it, and one may be or not."""
    follow("role")
    ids, roles = {}, {}
    for name in "ABC":
        created: Any = workos.create_organization(name=name, external_id=name, at=TWO_DAYS_AGO)
        ids[name] = created["id"]
        role = workos.roles.create(slug=name.lower(), organization_id=ids[name], at=TWO_DAYS_AGO)
        roles[name] = str(role["id"])
    assert reconcile(Run()).errors == []
    workos.roles.delete(roles["A"], emits=False)
    workos.roles.delete(roles["C"], emits=False)
    workos.delete_organization(ids["B"], emits=False)
    for path in paths:
        workos.misbehave(kind, path=path.format(ids["C"]), times=None, **parameters)

    found = reconcile(Run(limit=EVERYTHING))

    (error,) = found.errors
    assert error.startswith(f"role: 1 list can't be read; the first, for {ids['C']}: ")
    assert Role.objects.get(deleted_at=None).slug == "c"
    workos.behave()
    assert reconcile(Run(limit=EVERYTHING)).errors == []
    assert not Role.objects.filter(deleted_at=None).exists()


def test_an_object_that_cant_be_asked_for_does_not_keep_other_lists_from_being_compared(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("membership")
    ids = sorted(an_old_organization(workos, name, external_id=name) for name in "ABC")
    members = [a_member(workos, of)["id"] for of in ids]
    assert reconcile(Run()).errors == []
    OrganizationMembership.objects.update(status="odd")
    workos.memberships.delete(members[0], emits=False)
    workos.misbehave("status", status=500, path=f"{MEMBERSHIPS}/{members[0]}", times=None)

    (error,) = reconcile(Run()).errors

    assert error.startswith(f"membership: 1 list can't be read; the first, for {ids[0]}: ")
    assert [m.pk for m in OrganizationMembership.objects.filter(status="odd")] == [members[0]]


def test_lists_are_read_after_many_that_are_refused(workos: FakeWorkOS, follow: Setting) -> None:
    follow("role")
    workos.seed(organizations=20, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    *odd, last = sorted(str(one["id"]) for one in workos.all_organizations())
    workos.roles.create(slug="late", organization_id=last, emits=False, at=TWO_DAYS_AGO)
    for id_ in odd:
        workos.misbehave("status", status=422, path=OF_ROLES.format(id_), times=None)

    (error,) = reconcile(Run()).errors

    assert error.startswith(f"role: 19 lists can't be read; the first, for {odd[0]}: ")
    assert Role.objects.get(deleted_at=None).slug == "late"


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_one_list_that_fails_leaves_the_others_a_first_list(
    workos: FakeWorkOS, follow: Setting, times: int | None
) -> None:
    """If it fails once, it is read at the end, and the resource is covered."""
    follow("role")
    workos.seed(organizations=20, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    ids = sorted(str(one["id"]) for one in workos.all_organizations())
    for id_ in ids:
        workos.roles.create(slug="r", organization_id=id_, emits=False, at=TWO_DAYS_AGO)
    workos.misbehave("status", status=503, path=OF_ROLES.format(ids[3]), times=times)

    is_covered = tasks.cover() and "role" in read_cursor().covered

    assert (is_covered, Role.objects.count()) == (True, 20) if times else (False, 19)
    assert read_cursor().progress == {}


@pytest.mark.parametrize(
    ("status", "is_any_read"), [(422, False), (500, False), (500, True), (401, True)]
)
def test_a_resource_of_which_no_list_can_be_read_is_not_asked_for_in_each_organization(
    workos: FakeWorkOS,
    follow: Setting,
    monkeypatch: MonkeyPatch,
    status: int,
    is_any_read: bool,
) -> None:
    monkeypatch.setattr(reconcile_resources, "_REFUSALS_TO_STOP", 5)
    monkeypatch.setattr(reconcile_resources, "_FAILURES_TO_STOP", 5)
    follow("role")
    workos.seed(organizations=30, external_id_prefix="gram-", at=TWO_DAYS_AGO)
    assert reconcile(Run()).errors == []
    ids = sorted(str(one["id"]) for one in workos.all_organizations())
    before = workos.count_requests(path="/authorization/organizations")
    if is_any_read:
        for id_ in ids[:8]:
            workos.misbehave("slow", seconds=0, path=OF_ROLES.format(id_))
    workos.misbehave("status", status=status, path="/authorization/organizations", times=None)

    (error,) = reconcile(Run(scope_seconds=60.0)).errors

    assert error.startswith("role: ")
    assert read_cursor().progress == (
        {} if (status, is_any_read) == (500, False) else {"role": ids[7]}
    )
    assert workos.count_requests(path="/authorization/organizations") - before < 30
