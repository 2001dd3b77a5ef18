"""The resources beside organizations: from the stream, from lists and single fetches, to tables."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from orgs import tasks
from orgs.db.cursor import read_cursor
from orgs.db.resources import model_of
from orgs.domain.resources import NAMES, PLAIN, event_types, scopes_of
from orgs.domain.types import Outcome, Position
from orgs.models import (
    Connection,
    Directory,
    DirectoryGroupMember,
    DirectoryUser,
    Organization,
    OrganizationMembership,
    SyncCursor,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.compare import DisableLimit, Run
from orgs.services.conclude import Reconciliation
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.refresh import resolve
from orgs.services.stream import drain_to_end, replay
from orgs.testing import FakeWorkOS
from orgs.workos import WorkOSError
from tests.builders import (
    TWO_DAYS_AGO,
    a_parked_event,
    an_announcement,
    an_old_organization,
    an_organization_row,
    blocked_by,
)
from tests.integration.services.stored import EVERYTHING, LogCapture, sso_enabled
from tests.mirrored import change_all, delete_all, held, mirrored, some_of_each
from tests.triggers import a_trigger

pytestmark = pytest.mark.usefixtures("all_resources")


@pytest.fixture
def acme(workos: FakeWorkOS) -> str:
    created = workos.create_organization(name="Acme", external_id="gram-1", at=TWO_DAYS_AGO)
    return str(created["id"])


def cover() -> None:
    """List every resource once. ``repaired`` also shows that no difference is left."""
    assert reconcile(Run(limit=EVERYTHING)).errors == []


def repaired(**options: Any) -> Reconciliation:
    """A run that repairs everything; a second one finds nothing."""
    found = reconcile(Run(limit=EVERYTHING, **options))
    assert found.errors == []
    again = reconcile(Run(limit=EVERYTHING, **options))
    assert (again.errors, [str(c) for r in again.resources for c in r.report.drift]) == ([], [])
    assert again.in_sync
    return found


def with_scopes(name: str) -> set[str]:
    """A resource, and those for each of which it is listed. To list all takes a second."""
    return {name, "organization"}.union(*map(with_scopes, scopes_of(name)))


# The stream, and the lists ------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 100])
def test_every_type_of_event_is_applied_and_a_replay_changes_nothing(
    workos: FakeWorkOS, acme: str, sync_setting: Any, page_size: int
) -> None:
    sync_setting(PAGE_SIZE=page_size)
    bolt = str(workos.create_organization(name="Bolt", at=TWO_DAYS_AGO)["id"])
    made, of_bolt = some_of_each(workos, acme), some_of_each(workos, bolt)
    drain_to_end()
    assert mirrored() == held(workos)

    change_all(workos, acme, made)
    drain_to_end()
    assert mirrored() == held(workos)

    delete_all(workos, made)
    # What belongs to them goes along: WorkOS has no events of that.
    workos.directory_groups.delete(of_bolt["directory_group"]["id"])
    drain_to_end()
    assert mirrored() == held(workos)
    workos.directories.delete(of_bolt["directory"]["id"])
    for role in workos.roles.all():
        workos.roles.delete(role["id"])
    drain_to_end()
    assert mirrored() == held(workos)

    kinds = {event["event"] for event in workos.all_events()}
    followed = {*event_types(NAMES)} - {"organization.updated", "organization.deleted"}
    assert followed <= kinds
    recorded = WorkOSEvent.objects.exclude(resource="organization")
    assert {*recorded.values_list("type", flat=True)} == followed - {"organization.created"}
    assert {*recorded.values_list("outcome", flat=True)} == {"created", "updated", "deleted"}

    replay(Position())
    assert mirrored() == held(workos)
    repaired()


@pytest.mark.parametrize("followed", [True, False], ids=["covered before", "covered by this"])
def test_lists_bring_what_events_did_not(workos: FakeWorkOS, acme: str, followed: bool) -> None:
    if followed:
        cover()
    made = some_of_each(workos, acme, emits=False)
    repaired()
    assert mirrored() == held(workos)

    change_all(workos, acme, made, emits=False, at=TWO_DAYS_AGO + timedelta(days=1))
    repaired()
    assert mirrored() == held(workos)

    assert read_cursor().covered == {*NAMES}


def test_what_is_in_no_list_is_deleted(workos: FakeWorkOS, acme: str) -> None:
    made = some_of_each(workos, acme)
    # Another one of each: where it can be read, a 404 counts.
    some_of_each(workos, str(workos.create_organization(name="Bolt", at=TWO_DAYS_AGO)["id"]))
    drain_to_end()
    cover()
    assert mirrored() == held(workos)

    delete_all(workos, made, emits=False)
    found = reconcile(Run(limit=EVERYTHING))

    assert found.errors == []
    assert mirrored() == held(workos)
    deleted = {one.resource.name for one in found.resources if one.report.of(Outcome.DELETED)}
    along = {"directory_user", "directory_group", "directory_group_member"}
    assert deleted == {*PLAIN} - {"invitation"} - along
    kept = WorkOSUser.objects.get(pk=made["user"]["id"])
    assert (kept.data["first_name"], kept.first_name) == ("Ada", "Ada")
    assert reconcile(Run()).in_sync


def emit(workos: FakeWorkOS, type_: str, **data: Any) -> Any:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-15T12:00:00Z"}
    return workos.emit({"event": type_, "data": {**times, **data}})


def test_what_belongs_to_something_unknown_is_asked_for(workos: FakeWorkOS, acme: str) -> None:
    some_of_each(workos, acme)
    unknown = workos.directories.create(name="Gone", organization_id=acme, emits=False)["id"]
    workos.directory_groups.create(name="Staff", directory_id=unknown, at=TWO_DAYS_AGO)
    # A group and an organization, too, of which there are neither events nor lists.
    directory = workos.directories.all()[0]["id"]
    group = workos.directory_groups.create(name="Staff", directory_id=directory, emits=False)["id"]
    person = workos.directory_users.create(directory_id=directory, at=TWO_DAYS_AGO)["id"]
    workos.directory_groups.add_user(group, person, at=TWO_DAYS_AGO)
    bolt = str(workos.create_organization(name="Bolt", emits=False)["id"])
    workos.roles.create(slug="admin", organization_id=bolt, at=TWO_DAYS_AGO)
    drain_to_end()
    workos.directories.delete(unknown, emits=False)
    workos.directory_groups.delete(group, emits=False)
    workos.delete_organization(bolt, emits=False)

    repaired()

    assert mirrored() == held(workos)


def derived() -> tuple[bool | None, bool | None]:
    row = Organization.objects.get(pk="gram-1")
    return row.sso_enabled, row.scim_enabled


def test_derived_columns_after_every_page(workos: FakeWorkOS, acme: str) -> None:
    drain_to_end()
    assert derived() == (None, None)  # nobody knows yet
    cover()
    assert derived() == (False, False)

    first, second = (
        workos.connections.create(name=name, organization_id=acme, state="active")
        for name in ("A", "B")
    )
    directory = workos.directories.create(name="Okta", organization_id=acme)["id"]
    drain_to_end()
    assert derived() == (True, True)

    workos.connections.deactivate(first["id"])
    workos.directories.delete(directory)
    drain_to_end()
    assert derived() == (True, False)

    # It moves to another organization.
    bolt = str(workos.create_organization(name="Bolt", external_id="gram-2")["id"])
    emit(workos, "connection.activated", **{**second, "organization_id": bolt})
    drain_to_end()
    assert derived() == (False, False)
    assert Organization.objects.get(pk="gram-2").sso_enabled

    # As an older event has it.
    del first["state"]
    emit(workos, "connection.activated", **{**first, "status": "linked"})
    drain_to_end()
    assert derived() == (True, False)


# What can't be written, or proves nothing ---------------------------------------------------


@pytest.mark.parametrize(
    ("table", "meddling"),
    [
        ("organization_metadata", "RETURN NULL;"),
        ("organization_metadata", "NEW.scim_enabled = true;"),
        ("workos_directory_user", "RETURN NULL;"),
        ("workos_directory_user", "NEW.deleted_at = NULL;"),
        ("workos_directory_group_member", "RETURN NULL;"),
    ],
)
def test_an_event_is_parked_if_a_trigger_keeps_what_depends_on_it(
    workos: FakeWorkOS, acme: str, table: str, meddling: str
) -> None:
    okta = some_of_each(workos, acme)["directory"]["id"]
    drain_to_end()
    cover()
    before = mirrored(), derived()
    workos.directories.delete(okta)

    with a_trigger(meddling, table=table, on="UPDATE"):
        parked = [change.workos_id for change in drain_to_end().parked]
        found = reconcile(Run())

    assert (parked, mirrored(), derived()) == ([okta], *before)
    assert found.errors != []
    resolve(WorkOSEvent.objects.parked().get().id)
    assert (mirrored(), derived()) == (held(workos), (True, False))


def test_what_another_program_leaves_of_a_deleted_directory_needs_no_proof(
    workos: FakeWorkOS, acme: str
) -> None:
    okta = some_of_each(workos, acme)["directory"]["id"]
    drain_to_end()
    cover()
    workos.directories.delete(okta)
    drain_to_end()
    for name in ("directory_user", "directory_group", "directory_group_member"):
        resource = PLAIN[name]
        model_of(resource)._default_manager.update(**{resource.deleted_column: None})

    dry = reconcile(Run(limit=EVERYTHING, dry=True))
    found = repaired()

    assert mirrored() == held(workos)
    assert {change.change for r in found.resources for change in r.report.drift} == {"deleted"}
    # What goes along with another one is not listed by itself.
    assert [*map(str, dry.changes)] == [*map(str, found.changes)]


@pytest.mark.parametrize("with_", ["directory", "organization", "organization, listed in one"])
def test_what_is_not_deleted_with_its_directory_or_organization_is_reported_once(
    workos: FakeWorkOS, acme: str, with_: str
) -> None:
    an_old_organization(workos, "Other")
    okta = some_of_each(workos, acme)["directory"]["id"]
    drain_to_end()
    cover()
    if with_ == "directory":
        workos.directories.delete(okta)
        drain_to_end()
        DirectoryGroupMember.objects.update(removed_at=None)
        table = "directory_group_member"
    else:
        workos.delete_organization(acme, emits=False)
        # One is listed for each organization, the other in one list.
        table = "organization_membership" if with_ == "organization" else "connection"

    with a_trigger("RAISE 'no';", table=f"workos_{table}"):
        found = reconcile(Run(limit=EVERYTHING))

    assert ["refused to write 1 row of" in error for error in found.errors] == [True]
    assert SyncCursor.objects.get().last_failed == 1


def test_what_moves_to_another_directory_while_its_own_is_deleted_is_left_alone(
    workos: FakeWorkOS, acme: str
) -> None:
    okta = some_of_each(workos, acme)["directory"]["id"]
    drain_to_end()
    workos.directories.delete(okta)

    moves = "UPDATE workos_directory_user SET workos_directory_id = 'directory_other'"
    assert blocked_by(moves, drain_to_end).parked == []

    assert DirectoryUser.objects.get().deleted_at is None
    assert Directory.objects.get().deleted_at is not None


@pytest.mark.parametrize(
    "meddling",
    [
        *("NEW.status = 'pending';", "NEW.role_slugs = '{admin}';", "NEW.deleted_at = NULL;"),
        *("NEW.workos_organization_id = 'org_other';", "RETURN NULL;", "RAISE EXCEPTION 'no';"),
    ],
)
def test_what_a_trigger_changes_is_parked(workos: FakeWorkOS, acme: str, meddling: str) -> None:
    user = workos.users.create(email="ada@acme.com")["id"]
    member = workos.memberships.create(user_id=user, organization_id=acme)["id"]
    drain_to_end()
    workos.memberships.deactivate(member)
    workos.memberships.delete(member)

    with a_trigger(meddling, table="workos_organization_membership"):
        report = drain_to_end()
        found = reconcile(Run(resources=("membership",)))

    assert {change.workos_id for change in report.parked} == {member}
    assert not found.in_sync
    assert OrganizationMembership.objects.get().deleted_at is None


@pytest.mark.parametrize("resource", ["role", "connection", "directory_group_member"])
@pytest.mark.parametrize("what", ["is absent there", "is there alone"])
def test_another_environment_proves_nothing_of_a_parked_event(
    workos: FakeWorkOS, acme: str, sync_setting: Any, resource: str, what: str
) -> None:
    some_of_each(workos, acme)
    workos.roles.create(slug="auditor", permissions=[])
    drain_to_end()
    rows = mirrored()
    with FakeWorkOS() as elsewhere:
        other = elsewhere.create_organization(name="Other", external_id=acme)["id"]
        # Of roles the first is the environment's, whose list is in each environment.
        key = min(held(workos)[resource])
        if what == "is there alone":
            some_of_each(elsewhere, other)
            key = next(iter(held(elsewhere)[resource]))
        a_parked_event(None, resource=resource, object_key=key)
        sync_setting(BASE_URL=elsewhere.base_url)
        try:
            assert resolve("event_1").change is Outcome.PARKED
        except WorkOSError:
            assert what == "is absent there"  # not even the list is there

    assert mirrored() == rows


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("connection", {"name": "Old"}),
        ("role", {"name": "Old"}),
        ("directory_group_member", {"removed_at": Now()}),
        ("user", {"first_name": "Old"}),
    ],
)
@pytest.mark.parametrize("row_is", ["missing", "older, and just written", "of nothing"])
def test_an_announced_event_that_is_never_listed_is_resolved_by_its_object(
    workos: FakeWorkOS, acme: str, sync_setting: Any, name: str, old: dict[str, Any], row_is: str
) -> None:
    sync_setting(RESOURCES=with_scopes(name))
    some_of_each(workos, acme)
    cover()
    key = min(held(workos)[name])
    row = model_of(PLAIN[name])._default_manager.filter(pk=key)
    if row_is == "missing":
        row.delete()
    elif row_is == "of nothing":
        key = "gone:gone" if ":" in key else "gone"
    else:
        row.update(**old)
        sync_setting(HOLD_BACK_WINDOW=60.0)
    lost = an_announcement("event_lost", ago=timedelta(days=2), workos_id=None)
    WorkOSEvent.objects.filter(id=lost.id).update(resource=name, object_key=key)

    drain_to_end()

    # Also if the list that would hold it is not there: its organization, or its group.
    lost.refresh_from_db()
    assert lost.outcome == Outcome.MISSING
    assert mirrored()[name] == held(workos)[name]


PERSONAL = ("ada@", "a@acme", "bob@", "eve@", "Ada")


def test_personal_data_is_in_no_log_no_probe_and_no_metric(
    workos: FakeWorkOS, acme: str, client: Client, caplog: LogCapture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = some_of_each(workos, acme)
    with a_trigger("RAISE 'no' USING DETAIL = NEW.email;", table="workos_user"):
        drain_to_end()
        tasks.reconcile()
    resolve(WorkOSEvent.objects.parked().values_list("id", flat=True)[0])
    change_all(workos, acme, made)
    drain_to_end()
    tasks.reconcile()
    tasks.prune()

    pages = [client.get(path).content.decode() for path in ("/readyz", "/metrics", "/healthz")]
    said = "\n".join([caplog.text, *pages])
    assert "parked" in said
    assert [word for word in PERSONAL if word in said] == []


AHEAD = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["connection", "role", "directory_group_member"])
def test_times_in_the_future_keep_no_row_wrong(
    workos: FakeWorkOS, acme: str, sync_setting: Any, name: str
) -> None:
    sync_setting(RESOURCES=with_scopes(name))
    made = some_of_each(workos, acme)
    drain_to_end()
    cover()
    change_all(workos, acme, made, emits=False, at=TWO_DAYS_AGO + timedelta(days=1))
    resource = PLAIN[name]
    rows = model_of(resource)._default_manager
    times = {"workos_updated_at": AHEAD, "synced_at": AHEAD, "workos_last_event_id": None}
    rows.update(**times)

    repaired()
    assert mirrored()[name] == held(workos)[name]

    # By an absence, which a later list proves wrong.
    rows.update(**{resource.deleted_column: AHEAD}, **times)
    repaired()
    assert mirrored()[name] == held(workos)[name]


# Reconcile ----------------------------------------------------------------------------------


def test_no_more_is_deleted_than_the_limit_allows(workos: FakeWorkOS, acme: str) -> None:
    bolt = str(workos.create_organization(name="Bolt", at=TWO_DAYS_AGO)["id"])
    users = [workos.users.create(email=f"{n}@a.com", at=TWO_DAYS_AGO)["id"] for n in range(3)]
    made = [
        workos.memberships.create(user_id=user, organization_id=organization, at=TWO_DAYS_AGO)
        for user in users
        for organization in (acme, bolt)
    ]
    found = reconcile(Run(resources=("membership",)))
    assert [one.resource.name for one in found.resources] == ["membership"], "and no other"
    for membership in made[:4]:
        workos.memberships.delete(membership["id"], emits=False)

    # Two are missing in each organization: the limit counts all of a resource.
    found = reconcile(Run(limit=DisableLimit(rows=3, percent=0), resources=("membership",)))
    assert ["membership are missing" in error for error in found.errors] == [True]
    assert len(mirrored()["membership"]) == 6

    found = reconcile(Run(limit=DisableLimit(rows=4, percent=0), resources=("membership",)))
    assert found.errors == []
    assert mirrored() == held(workos)


def test_one_organization_with_its_resources(workos: FakeWorkOS, acme: str) -> None:
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    cover()
    # Just now: it does not wait for the events.
    made, _ = (some_of_each(workos, one, at=None, emits=False) for one in (acme, bolt))

    for _ in range(2):
        # Users and groups of a directory are read once it is here.
        assert reconcile_organizations(Run(limit=EVERYTHING), [acme]).errors == []

    def of_acme(tables: Any) -> Any:
        for name in ("user", "directory_group_member"):
            del tables[name]
        of = "workos_organization_id"
        return {n: {k: r for k, r in rows.items() if r[of] == acme} for n, rows in tables.items()}

    assert of_acme(mirrored()) == of_acme(held(workos))
    assert [row.email for row in WorkOSUser.objects.all()] == [f"ada@{acme}.com"]
    assert DirectoryGroupMember.objects.count() == 1
    assert derived() == (True, True)
    assert {row.workos_organization_id for row in Connection.objects.all()} == {acme}

    # What it has no more is deleted, where others prove a 404.
    cover()
    there = held(workos)
    delete_all(workos, made, emits=False)
    assert reconcile_organizations(Run(limit=EVERYTHING), [acme]).errors == []

    # WorkOS lists users for their organization alone.
    assert mirrored() == {**held(workos), "user": there["user"]}


def test_what_one_organization_has_given_to_another(workos: FakeWorkOS, acme: str) -> None:
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    values: Any = {"name": "Okta", "state": "active", "at": TWO_DAYS_AGO}
    okta = workos.connections.create(organization_id=acme, **values)["id"]
    cover()
    workos.connections.update(okta, organization_id=bolt, emits=False)

    reconcile_organizations(Run(), [acme])

    assert Connection.objects.get().workos_organization_id == bolt
    assert sso_enabled() == {"gram-1": False, "gram-2": True}


@pytest.mark.parametrize("is_own", [True, False], ids=["organization's", "environment's"])
def test_a_role_with_colons_is_in_its_list(workos: FakeWorkOS, acme: str, is_own: bool) -> None:
    owner: dict[str, Any] = {"organization_id": acme} if is_own else {}
    workos.roles.create(slug="docs:pages:edit", name="Editor", **owner)
    repaired()
    ((key, row),) = mirrored()["role"].items()
    a_parked_event(None, resource="role", object_key=key)

    assert resolve("event_1").change is Outcome.STALE
    assert mirrored()["role"] == {key: row}


def test_what_an_organization_had_is_deleted_with_it_though_nothing_else_proves_it(
    workos: FakeWorkOS, acme: str
) -> None:
    """WorkOS need not send an event for any of it, and no other organization has anything."""
    an_old_organization(workos, "Other")
    bolt = workos.create_organization(name="Bolt", external_id="gram-2", at=TWO_DAYS_AGO)["id"]
    some_of_each(workos, bolt)
    for number in range(11):
        workos.invitations.create(email=f"{number}@bolt.com", organization_id=bolt)
    cover()
    workos.delete_organization(bolt)

    dry = reconcile(Run(dry=True))
    found = reconcile(Run())

    assert (found.errors, dry.errors) == ([], [])
    assert mirrored() == held(workos)
    assert derived() == (False, False)


def test_an_organizations_role_without_an_organization_is_no_role_of_the_environment(
    workos: FakeWorkOS, acme: str
) -> None:
    workos.roles.create(slug="admin", permissions=["read"])
    emit(workos, "organization_role.updated", slug="admin", permissions=["everything"])
    emit(workos, "organization_role.deleted", slug="admin", organization_id=None)

    assert len(drain_to_end().parked) == 2
    assert mirrored() == held(workos)


@pytest.mark.parametrize("name", PLAIN)
def test_what_another_program_marks_as_deleted_comes_back(
    workos: FakeWorkOS, acme: str, sync_setting: Any, name: str
) -> None:
    sync_setting(RESOURCES=with_scopes(name))
    some_of_each(workos, acme)
    drain_to_end()
    resource = PLAIN[name]
    rows = model_of(resource).objects  # type: ignore[attr-defined] # every model's
    rows.update(**{resource.deleted_column: Now(), "synced_at": TWO_DAYS_AGO})

    dry, run = reconcile(Run(dry=True)), reconcile(Run())

    restored = [c for c in run.changes if c.resource == name]
    assert [c.change for c in restored] == [Outcome.UPDATED] * len(restored) != []
    assert Outcome.DELETED not in [c.change for c in (*dry.changes, *run.changes)]
    assert mirrored()[name] == held(workos)[name]
    assert reconcile(Run()).in_sync


def test_derived_columns_of_a_row_that_another_program_has_linked(
    workos: FakeWorkOS, acme: str
) -> None:
    cover()
    bolt = workos.create_organization(name="Bolt", external_id="gram-2", emits=False)["id"]
    workos.connections.create(name="SSO", organization_id=bolt, state="active")
    drain_to_end()
    an_organization_row("gram-2", workos_id=bolt)

    workos.update_organization(bolt, name="Bolt 2")
    drain_to_end()

    assert sso_enabled() == {"gram-1": False, "gram-2": True}


def test_a_member_whose_directory_only_its_group_names(workos: FakeWorkOS, acme: str) -> None:
    okta = workos.directories.create(name="Okta", organization_id=acme)["id"]
    user = workos.directory_users.create(directory_id=okta, email="ada@acme.com")
    group = workos.directory_groups.create(directory_id=okta, name="Staff")
    emit(workos, "dsync.group.user_added", group=group, user=user)
    drain_to_end()

    workos.directories.delete(okta)
    drain_to_end()

    assert DirectoryGroupMember.objects.get().removed_at is not None


@pytest.mark.parametrize("is_parked", [True, False], ids=["parked", "announced and never listed"])
def test_a_deletion_that_an_event_says_needs_no_other_proof(
    workos: FakeWorkOS, acme: str, *, is_parked: bool
) -> None:
    sso = workos.connections.create(name="SSO", organization_id=acme, state="active")["id"]
    drain_to_end()
    workos.connections.delete(sso, emits=False)
    about: Any = {"resource": "connection", "object_key": sso, "type": "connection.deleted"}
    if is_parked:
        a_parked_event(acme, **about)
    else:
        an_announcement("event_1", workos_id=acme, **about)

    assert resolve("event_1").change in (Outcome.DELETED, Outcome.MISSING)
    assert Connection.objects.get().deleted_at is not None


def test_domains_of_one_organization_count_as_listed(workos: FakeWorkOS, acme: str) -> None:
    workos.domains.create(organization_id=acme, domain="acme.com")
    drain_to_end()

    runs = {one.name: one for one in reconcile_organizations(Run(), [acme]).resources}

    assert runs["organization_domain"].listed == 1


@pytest.mark.parametrize("named", [("connection",), ()], ids=["alone", "with organizations"])
def test_what_is_listed_is_not_deleted_with_an_organization_that_seems_to_be(
    workos: FakeWorkOS, acme: str, named: tuple[str, ...]
) -> None:
    workos.connections.create(name="SSO", organization_id=acme, state="active")
    cover()
    Organization.objects.update(disabled_at=Now(), workos_deleted_at=Now())
    if not named:
        workos.misbehave("status", status=500, path="/organizations", exact=True, times=None)

    reconcile(Run(resources=named))

    assert Connection.objects.get().deleted_at is None
