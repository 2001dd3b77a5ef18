"""Which resources are followed, listed and covered, when settings change and types are refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django_q.models import OrmQ

from orgs import tasks
from orgs.db.cursor import COVER_ENDED, DERIVED, CursorLocked, read_cursor
from orgs.db.cursor import follow as follow_in_table
from orgs.db.errors import CursorSkipped
from orgs.db.leases import note_enqueued
from orgs.domain.resources import PLAIN, event_types
from orgs.domain.status import status_of
from orgs.domain.types import Outcome, Position
from orgs.models import Organization, OrganizationMembership, SyncCursor, WorkOSEvent
from orgs.services import compare, coverage, reconcile_resources, stream
from orgs.services.compare import Run
from orgs.services.coverage import (
    SettingsDiffer,
    adopt_settings,
    is_cover_due,
    retry_refused,
    uncovered,
)
from orgs.services.queue import COVER, RECONCILE
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.stream import drain_and_wait, drain_to_end, replay
from orgs.services.worker import Watch
from orgs.testing import FakeWorkOS
from orgs.workos import Refused
from tests.builders import (
    NO_ROUTE,
    TWO_DAYS_AGO,
    an_announcement,
    an_old_organization,
    an_organization_row,
)
from tests.concurrency import another_program
from tests.integration.services.stored import (
    EVERYTHING,
    Around,
    LogCapture,
    MonkeyPatch,
    Setting,
    a_member,
    cursor,
    enqueued,
    figures,
    impatient,
    names,
    problems,
    sso_enabled,
)
from tests.mirrored import held, mirrored
from tests.triggers import LEAVES_OUT, RAISES, REASONS, a_trigger, as_a_limited_user, locked

pytestmark = pytest.mark.usefixtures("acme")

ACME = "org_acme"
PEOPLE = ("user", "membership")
COVERED = {"organization", *PEOPLE}
MEMBERSHIP_TABLE = "workos_organization_membership"
MEMBERSHIPS = "/user_management/organization_memberships"


class Killed(BaseException):
    """Ends a process."""


@pytest.fixture
def acme(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(DRAIN_DEADLINE=1.0)
    workos.create_organization(name="Acme", id=ACME, external_id="gram-1", at=TWO_DAYS_AGO)
    drain_to_end()


def people(tables: Any) -> Any:
    return {name: tables[name] for name in PEOPLE}


def enqueued_by_a_drain() -> list[str]:
    OrmQ.objects.all().delete()
    tasks.sync_events()
    return enqueued()


def test_people_are_switched_on_off_and_on_again(workos: FakeWorkOS, follow: Setting) -> None:
    assert read_cursor().types == event_types(["organization"]), "at first, as the settings say"
    members = [a_member(workos, ACME) for _ in range(13)]
    members.append(a_member(workos, ACME, at=None))
    # The position moves past their events.
    workos.create_organization(name="Bolt", external_id="gram-2")
    drain_to_end()

    follow(*PEOPLE)
    during = a_member(workos, ACME, at=None)
    drain_to_end()
    assert uncovered(read_cursor()) == [*PEOPLE]
    assert tasks.cover() == "repaired 28"
    assert read_cursor().covered == COVERED
    assert people(mirrored()) == people(held(workos))

    follow()
    assert read_cursor().covered == {"organization"}
    # So many that no later run would delete them.
    for membership in members:
        workos.memberships.delete(membership["id"])
    workos.memberships.deactivate(during["id"])
    a_member(workos, ACME, at=None)
    workos.create_organization(name="Cord")
    drain_to_end()

    follow(*PEOPLE)
    drain_to_end()
    a_member(workos, ACME, at=None)
    tasks.cover()
    drain_to_end()

    assert read_cursor().covered == COVERED
    assert people(mirrored()) == people(held(workos))


def test_a_missed_webhook_waits_until_it_is_covered(workos: FakeWorkOS, follow: Setting) -> None:
    """No row would prove the 404 of its object. Until then it is not overdue."""
    a_member(workos, ACME)
    drain_to_end()
    follow(*PEOPLE)
    lost = an_announcement("event_lost", ago=timedelta(days=2), workos_id=None)
    WorkOSEvent.objects.filter(id=lost.id).update(resource="user", object_key="user_deleted")

    drain_to_end()
    assert WorkOSEvent.objects.announced_and_unseen().get() == lost
    assert figures().overdue == 0
    another = an_announcement("event_of_organization", ago=timedelta(days=2))
    assert figures().overdue == 1
    another.delete()

    tasks.cover()
    assert figures().overdue == 1
    drain_to_end()
    lost.refresh_from_db()
    assert (lost.outcome, figures().overdue) == (Outcome.MISSING, 0)


def test_a_first_list_is_no_repair_and_a_later_one_names_what_it_repaired(
    workos: FakeWorkOS, follow: Setting, caplog: LogCapture
) -> None:
    follow(*PEOPLE)
    member = a_member(workos, ACME, emits=False)["id"]
    caplog.clear()
    tasks.cover()
    assert "membership: its list changed 1 row" in caplog.messages
    assert "reconcile found" not in caplog.text

    OrganizationMembership.objects.update(status="odd")
    tasks.reconcile()
    assert f"reconcile found membership ({member}): updated" in caplog.messages


def test_since_when_a_resource_is_uncovered(workos: FakeWorkOS, sync_setting: Setting) -> None:
    def since(*resources: str) -> list[datetime | None]:
        sync_setting(RESOURCES=resources)
        adopt_settings()
        problems = status_of(figures()).problems
        return [problem.since for problem in problems if problem.code == "resources_not_covered"]

    assert since("organization") == []
    began = read_cursor().now
    (first,) = since(*PEOPLE)
    ended = read_cursor().now

    assert began <= (first or began) <= ended
    # Another restart of the worker, and another resource beside them.
    assert since(*PEOPLE) == since(*PEOPLE, "role") == [first]
    tasks.cover()
    assert since(*PEOPLE, "role") == []
    (later,) = since(*PEOPLE, "role", "invitation")
    assert (later or began) > ended
    # Followed by an older release, which did not note it.
    SyncCursor.objects.update(listed_at={})
    assert since(*PEOPLE, "role", "invitation") == [None]
    (noted,) = since(*PEOPLE, "role", "invitation", "connection")
    assert (noted or began) > (later or began)


def test_the_worker_adopts_its_settings_once(sync_setting: Setting) -> None:
    older, followed = Watch(), ("organization", *PEOPLE)
    older.look()
    sync_setting(RESOURCES=followed)
    Watch().look()
    assert read_cursor().types == event_types(followed)

    sync_setting(RESOURCES=("organization",))
    older.begin()  # its cluster is started anew
    older.look()

    assert read_cursor().types == event_types(followed)


def test_a_process_with_other_settings_does_not_drain(
    workos: FakeWorkOS, follow: Setting, sync_setting: Setting, caplog: LogCapture
) -> None:
    follow(*PEOPLE)
    sync_setting(RESOURCES=("organization",))
    workos.create_organization(name="Bolt")
    note_enqueued(60)

    with pytest.raises(SettingsDiffer):
        drain_to_end()
    drain_and_wait()

    assert note_enqueued(60), "the next webhook enqueues another"
    assert "WORKOS_RESOURCES of this process differs" in caplog.text
    assert Organization.objects.count() == 1
    sync_setting(RESOURCES=("organization", *PEOPLE))
    drain_to_end()
    assert Organization.objects.count() == 2


def test_a_page_of_other_types_is_dropped(
    workos: FakeWorkOS, follow: Setting, before: Around
) -> None:
    """The settings change between the read and the transaction."""
    a_member(workos, ACME, at=None)
    workos.create_organization(name="Bolt")
    before(stream, "apply", lambda *_: follow(*PEOPLE))

    drain_to_end()

    # Read again, with the new types, from where the stream stood then.
    assert {*WorkOSEvent.objects.values_list("resource", flat=True)} == COVERED


# Derived columns that PostgreSQL refuses for one row -----------------------------------------

refuses = pytest.mark.parametrize("how", [RAISES, LEAVES_OUT], ids=["raises", "leaves it out"])
CHANGES_ONE = "NEW.id = 'gram-1' AND NEW.sso_enabled IS DISTINCT FROM OLD.sso_enabled"


def refused_for_one(how: str) -> Any:
    return a_trigger(how, when=CHANGES_ONE, on="UPDATE")


@pytest.fixture
def three(acme: None, workos: FakeWorkOS, follow: Setting) -> list[str]:
    """Organizations with an active connection each; connections are followed, and not covered."""
    ids = [ACME]
    for id_ in ("gram-2", "gram-3"):
        created = workos.create_organization(name="Acme", external_id=id_, at=TWO_DAYS_AGO)
        ids.append(str(created["id"]))
    for id_ in ids:
        workos.connections.create(name="A", organization_id=id_, state="active", at=TWO_DAYS_AGO)
    follow("connection")
    drain_to_end()
    return ids


@pytest.fixture
def drifted(three: list[str]) -> list[str]:
    """Connections are covered, and a column that derives from them is wrong in each row."""
    tasks.cover()
    Organization.objects.update(sso_enabled=False)
    return three


@refuses
def test_a_refused_row_is_reported_and_the_others_are_written(drifted: list[str], how: str) -> None:
    assert not reconcile(Run(dry=True)).in_sync
    assert set(sso_enabled().values()) == {False}, "a dry run writes none"

    with refused_for_one(how):
        two = reconcile_organizations(Run(), drifted[:2])
        assert sso_enabled() == {"gram-1": False, "gram-2": True, "gram-3": False}
        found = reconcile(Run())

    assert [change.organization_id for change in two.organizations.of(Outcome.FAILED)] == ["gram-1"]
    (failed,) = found.organizations.of(Outcome.FAILED)
    assert (failed.organization_id, failed.workos_id) == ("gram-1", drifted[0])
    assert failed.reason == f"sso_enabled: {REASONS[how]}"
    assert (found.in_sync, len(found.errors)) == (False, 1)
    assert failed.reason in found.errors[0]
    (updated,) = found.organizations.of(Outcome.UPDATED)
    assert updated.fields == {"sso_enabled": ("false", "true")}
    assert [*found.organizations.drift] == found.organizations.changes
    assert (found.organizations.counts["failed"], found.organizations.counts["updated"]) == (1, 1)
    assert sso_enabled() == {"gram-1": False, "gram-2": True, "gram-3": True}
    noted = cursor()
    assert failed.reason in noted.snapshot_trouble
    assert (noted.last_failed, noted.snapshot_error_kind) == (1, "writes_refused")
    assert reconcile(Run()).errors == []
    assert sso_enabled()["gram-1"] is True
    assert cursor().snapshot_trouble == ""


def test_more_rows_than_a_batch_are_compared(drifted: list[str], monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "_CHUNK", 2)

    found = [change.workos_id for change in coverage.repair_derived()]

    assert sorted(found, key=str) == sorted(drifted)
    assert set(sso_enabled().values()) == {True}


@refuses
@pytest.mark.usefixtures("three")
def test_coverage_ignores_a_refused_row(follow: Setting, caplog: LogCapture, how: str) -> None:
    with refused_for_one(how):
        tasks.cover()
        assert read_cursor().covered == {"organization", "connection"}
        assert sso_enabled() == {"gram-1": None, "gram-2": True, "gram-3": True}
        assert f"sso_enabled: {REASONS[how]}" in caplog.text
    reconcile(Run())

    with refused_for_one(how):
        follow()
    assert sso_enabled() == {"gram-1": True, "gram-2": None, "gram-3": None}
    assert read_cursor().covered == {"organization"}
    assert [c.organization_id for c in reconcile(Run()).organizations.changes] == ["gram-1"]
    assert sso_enabled()["gram-1"] is None


@pytest.mark.usefixtures("drifted")
def test_rows_that_a_policy_hides_from_writes_are_refused_and_not_locked() -> None:
    with as_a_limited_user("FOR SELECT USING (true)"):
        found = reconcile(Run())

    assert found.organizations.counts[Outcome.FAILED] == 3
    assert set(sso_enabled().values()) == {False}


@impatient
@pytest.mark.usefixtures("drifted")
def test_another_transaction_that_writes_what_they_rest_on_is_waited_for() -> None:
    with another_program() as program:
        program.execute("SELECT FROM workos_sync_cursor FOR SHARE")
        with pytest.raises(CursorLocked):
            list(coverage.repair_derived())


@impatient
@pytest.mark.usefixtures("drifted")
def test_a_locked_row_does_not_end_a_full_run() -> None:
    with locked(where="id = 'gram-1'"):
        (error,) = reconcile(Run()).errors

    assert error.startswith("sso_enabled and scim_enabled are not compared: PostgreSQL 55P03")
    assert sso_enabled() == {"gram-1": False, "gram-2": True, "gram-3": True}


@impatient
@pytest.mark.usefixtures("drifted")
def test_a_locked_row_keeps_no_other_from_being_derived_anew(follow: Setting) -> None:
    with locked(where="id = 'gram-1'"):
        follow()
        assert sso_enabled() == {"gram-1": False, "gram-2": None, "gram-3": None}

    assert enqueued_by_a_drain() == [COVER]
    tasks.cover()

    assert set(sso_enabled().values()) == {None}


# When it is listed again --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "tried", "is_due"),
    [
        pytest.param(None, None, True, id="not tried yet"),
        pytest.param(5, 9, True, id="followed since"),
        pytest.param(10, 6, True, id="as long ago as it took"),
        pytest.param(10, 4, False, id="tried a short time ago"),
        pytest.param(600, 61, True, id="an hour"),
        pytest.param(None, 59, False, id="less than an hour"),
        pytest.param(600, -61, True, id="in the future"),
    ],
)
def test_when_what_could_not_be_covered_is_tried_again(
    sync_setting: Setting, since: int | None, tried: int | None, *, is_due: bool
) -> None:
    """Its list may cost a request for each organization, and a drain comes with each webhook."""
    sync_setting(RESOURCES=("organization", "role"))
    state = read_cursor()

    def ago(key: str, minutes: int | None) -> dict[str, str]:
        at = state.now - timedelta(minutes=minutes or 0)
        return {} if minutes is None else {key: at.isoformat()}

    followed = replace(
        state,
        types=event_types(["organization", "role"]),
        listed={DERIVED: "", **ago(COVER_ENDED, tried)},
        uncovered=ago("role", since),
    )
    assert is_cover_due(followed) == is_due
    assert not is_cover_due(replace(followed, covered=frozenset({"organization", "role"})))


def test_a_list_that_fails_is_not_read_again_with_each_drain(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("role")
    workos.misbehave("status", status=403, path="/authorization", times=None)
    assert enqueued_by_a_drain() == [COVER]
    tasks.cover()
    SyncCursor.objects.update(listed_at={**read_cursor().listed, "uncovered": {}})
    assert enqueued_by_a_drain() == []
    # What is to be derived does not list anything.
    forget(DERIVED)
    assert enqueued_by_a_drain() == [COVER]
    assert tasks.cover() == "not due"

    follow("role", "user")
    assert enqueued_by_a_drain() == [COVER]


@pytest.mark.parametrize(("covers", "function"), [("connection", "_derive"), ("role", "follow")])
def test_what_another_process_changes_meanwhile_is_not_taken_for_derived(
    workos: FakeWorkOS, follow: Setting, after: Around, covers: str, function: str
) -> None:
    """It is killed before it derives what it has changed."""
    workos.connections.create(name="SSO", organization_id=ACME, state="active", at=TWO_DAYS_AGO)
    if covers != "connection":
        follow("connection")
        tasks.cover()
    follow("connection", covers)

    def switch_off(*_: object) -> None:
        if "connection" in (state := read_cursor()).covered:
            follow_in_table(state, event_types(["organization"]), ["organization"], {})

    after(coverage, function, switch_off)
    tasks.cover()

    assert is_cover_due(read_cursor())


def forget(key: str) -> None:
    row = cursor()
    del row.listed_at[key]
    row.save()


def test_what_is_followed_while_a_list_fails_is_listed_at_once(
    workos: FakeWorkOS, follow: Setting, before: Around
) -> None:
    follow("role")
    workos.misbehave("status", status=403, path="/authorization", times=None)
    before(tasks, "reconcile_unless_busy", lambda *_: follow("role", "user"))

    tasks.cover()

    assert is_cover_due(read_cursor())


def test_the_daily_run_that_a_cover_kept_away_follows_it(follow: Setting, before: Around) -> None:
    follow("role")
    tasks.reconcile()
    assert enqueued() == [], "it was not kept away"
    follow("role", "user")
    before(reconcile_resources, "read_objects", lambda *_: said.append(tasks.reconcile()))
    said = list[str]()
    tasks.cover()

    assert said == ["left to the one that is running, or not needed"]
    assert enqueued() == [RECONCILE]


def test_what_a_cover_reported_is_over_with_the_full_run_that_follows_the_next_one(
    workos: FakeWorkOS, follow: Setting
) -> None:
    workos.connections.create(name="SSO", organization_id=ACME, state="active", at=TWO_DAYS_AGO)
    follow("connection")
    with a_trigger(RAISES, table="workos_connection"):
        tasks.cover()
        assert (cursor().last_failed, enqueued()) == (1, [])

    assert tasks.cover() == "not due"
    forget(COVER_ENDED)
    tasks.cover()
    assert enqueued() == [RECONCILE]
    tasks.reconcile()
    assert (cursor().last_failed, cursor().snapshot_trouble) == (0, "")
    follow("connection", "role")
    tasks.cover()
    assert enqueued() == [RECONCILE], "nothing was wrong"


def test_what_is_derived_while_another_resource_is_covered_is_reported(
    workos: FakeWorkOS, follow: Setting
) -> None:
    workos.connections.create(name="SSO", organization_id=ACME, state="active", at=TWO_DAYS_AGO)
    follow("connection")
    tasks.cover()
    follow("connection", "user")
    Organization.objects.update(sso_enabled=False)

    dry, found = reconcile(Run(dry=True)), reconcile(Run())

    assert [*map(str, found.changes)] == [*map(str, dry.changes)]
    assert (len(found.changes), sso_enabled()) == (1, {"gram-1": True})
    assert enqueued_by_a_drain() == []


def test_a_cover_leaves_what_a_full_run_reported(workos: FakeWorkOS, follow: Setting) -> None:
    follow("connection")
    tasks.cover()
    workos.connections.create(name="SSO", organization_id=ACME, at=TWO_DAYS_AGO, emits=False)
    with a_trigger(RAISES, table="workos_connection"):
        tasks.reconcile()
        follow("connection", "membership")
        tasks.cover()

        assert (cursor().last_failed, enqueued()) == (1, [RECONCILE])


def test_a_cover_by_a_process_with_older_settings_is_none(
    follow: Setting, sync_setting: Setting
) -> None:
    follow("connection", "role")
    sync_setting(RESOURCES=("organization", "connection"))

    assert tasks.cover() == "not due"

    assert COVER_ENDED not in read_cursor().listed
    assert enqueued_by_a_drain() == []


@pytest.mark.parametrize("of_one", [True, False], ids=["--org", "a dry run before the first"])
def test_what_is_not_covered_has_no_limit(
    workos: FakeWorkOS, follow: Setting, *, of_one: bool
) -> None:
    follow("membership")
    *members, _ = (a_member(workos, ACME) for _ in range(13))
    tasks.cover()
    for member in members:
        workos.memberships.delete(member["id"], emits=False)
    follow()
    follow("membership")
    if not of_one:
        SyncCursor.objects.all().delete()

    found = reconcile_organizations(Run(), [ACME]) if of_one else reconcile(Run(dry=True))

    (resource,) = (one for one in found.resources if one.name == "membership")
    assert (resource.report.counts[Outcome.DELETED], found.errors) == (len(members), [])


def test_an_error_of_a_run_of_some_resources_is_not_noted_for_all(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("connection")
    tasks.cover()
    workos.misbehave("status", status=500, path="/connections", times=1)

    assert reconcile(Run(resources=("connection",))).errors
    assert cursor().snapshot_trouble == ""


@impatient
def test_members_of_an_organization_whose_row_is_locked_are_listed(
    workos: FakeWorkOS, follow: Setting
) -> None:
    reconcile(Run())
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    an_organization_row("gram-2", name="Old", slug="old")
    follow("membership", HOLD_BACK_WINDOW=0.0)
    a_member(workos, bolt, emits=False)
    with locked(where="id = 'gram-2'"):
        tasks.cover()

    assert read_cursor().covered == {"organization", "membership"}
    assert mirrored()["membership"] == held(workos)["membership"]


# Refused types ------------------------------------------------------------------------------


def test_a_refused_type_is_left_out_and_tried_again(
    workos: FakeWorkOS, follow: Setting, caplog: LogCapture
) -> None:
    follow("role", "connection", HOLD_BACK_WINDOW=0.0)
    reconcile(Run())
    assert read_cursor().covered == {"organization", "role", "connection"}
    workos.refuse_event_types(["role.created"])
    workos.create_organization(name="Bolt")
    workos.roles.create(slug="admin")

    drain_to_end()

    state = read_cursor()
    assert Organization.objects.count() == 2
    assert [*state.refused] == ["role.created"]
    assert "role.created" not in (state.types or ())
    assert state.covered == {"organization", "connection"}
    assert "WorkOS refuses events of the type role.created" in caplog.text
    assert mirrored()["role"] == {}

    retry_refused()
    assert [*read_cursor().refused] == ["role.created"]

    workos.refuse_event_types([])
    tasks.reconcile()  # the daily task
    state = read_cursor()
    assert (state.refused, state.types) == ({}, event_types(["organization", "connection", "role"]))
    assert state.covered == {"organization", "role", "connection"}
    assert mirrored() == held(workos)


def test_a_recent_organization_is_not_left_to_an_event_of_a_type_that_is_refused(
    workos: FakeWorkOS,
) -> None:
    reconcile(Run())
    workos.refuse_event_types(["organization.created"])
    workos.create_organization(name="Bolt")
    workos.update_organization(ACME, name="Later")
    drain_to_end()
    dry = reconcile(Run(dry=True))
    workos.refuse_event_types([])
    retry_refused()

    tasks.cover()

    assert [change.change for change in dry.changes] == [Outcome.CREATED]
    assert read_cursor().covered >= {"organization"}
    assert names() == ["Bolt", "Later"]


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("misbehaviour", "left"),
    [
        pytest.param({"kind": "rate_limited", "retry_after": 1}, [], id="429"),
        pytest.param({"kind": "status", "status": 500}, ["connection.deleted"], id="500"),
    ],
)
def test_an_error_while_a_refused_type_is_read_again_stops_neither_others_nor_the_daily_task(
    workos: FakeWorkOS, misbehaviour: dict[str, Any], left: list[str]
) -> None:
    types = ("connection.deleted", "connection.activated")
    SyncCursor.objects.update(refused_types=dict.fromkeys(types, "2026-01-01T00:00:00Z"))
    workos.misbehave(path="/events", **misbehaviour)

    assert tasks.reconcile() == "in sync"
    assert [*read_cursor().refused] == left


def test_a_process_that_is_killed_as_it_reads_a_refused_type_again_stops_no_later_read(
    workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch
) -> None:
    follow("connection", HOLD_BACK_WINDOW=0.0)
    tasks.cover()
    workos.refuse_event_types(["connection.deleted"])
    drain_to_end()
    workos.refuse_event_types([])

    def is_killed(*values: Any) -> None:
        assert follow_in_table(*values)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(coverage, "follow", is_killed)
        with pytest.raises(Killed):
            retry_refused()

    workos.connections.create(name="SSO", organization_id=ACME, state="active")
    drain_to_end()
    tasks.cover()
    assert (read_cursor().refused, sso_enabled()) == ({}, {"gram-1": True})


def test_a_type_that_is_refused_ends_neither_a_dry_run_nor_a_replay(
    workos: FakeWorkOS, follow: Setting
) -> None:
    follow("role")
    tasks.cover()
    workos.refuse_event_types(["role.created"])
    workos.roles.create(slug="auditor")
    workos.create_organization(name="Bolt")

    dry = reconcile(Run(dry=True))
    assert (dry.errors, dry.events.waiting, dry.resources) == ([], 1, [])
    assert read_cursor().refused == {}, "a dry run writes nothing"

    assert replay(Position(None, TWO_DAYS_AGO)).drained
    assert [*read_cursor().refused] == ["role.created"]
    SyncCursor.objects.all().delete()
    assert reconcile(Run(dry=True)).errors == []


@pytest.mark.parametrize("status", [400, 422])
def test_refused_types_are_both_left_out(workos: FakeWorkOS, follow: Setting, status: int) -> None:
    follow(*PLAIN)
    workos.create_organization(name="Bolt")
    workos.misbehave("status", status=status, path="/events", times=3)
    with pytest.raises(Refused):
        drain_to_end()
    assert read_cursor().refused == {}

    workos.behave()
    workos.refuse_event_types(["role.created", "user.deleted"], status=status)
    drain_to_end()

    assert {*read_cursor().refused} == {"role.created", "user.deleted"}
    assert Organization.objects.count() == 2


# Lists that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [("connection", "/connections"), ("membership", MEMBERSHIPS), ("role", "/authorization/roles")],
)
def test_a_list_that_is_not_there_leaves_the_resource_uncovered(
    workos: FakeWorkOS, follow: Setting, name: str, path: str, caplog: LogCapture
) -> None:
    follow("user", name)
    workos.misbehave("status", status=404, path=path, times=None)

    found = reconcile(Run())

    assert [error.partition(":")[0] for error in found.errors] == [f"{name} is not covered"]
    assert not found.in_sync
    assert read_cursor().covered == {"organization", "user"}
    caplog.clear()
    tasks.reconcile()
    said = [(level, text.partition(":")[0]) for level, text in problems(caplog)]
    assert said == [("WARNING", f"{name} is not covered")]
    assert cursor().snapshot_trouble == ""

    workos.behave()
    tasks.cover()
    assert name in read_cursor().covered


def test_a_cursor_that_is_left_as_it_is_is_no_endless_loop(sync_setting: Setting) -> None:
    adopt_settings()
    sync_setting(RESOURCES=("organization", "connection"))

    with (
        a_trigger("RETURN NULL;", table="workos_sync_cursor"),
        pytest.raises(CursorSkipped, match="leaves the cursor's row as it is"),
    ):
        adopt_settings()


def test_a_404_that_proves_nothing_covers_nothing(workos: FakeWorkOS, follow: Setting) -> None:
    """Neither for the list of an organization's members, nor for the organization itself."""
    follow("membership")
    a_member(workos, ACME)
    for path in ("/organizations/", MEMBERSHIPS):
        workos.misbehave("status", status=404, body=NO_ROUTE, path=path, times=None)

    found = reconcile(Run())

    assert read_cursor().covered == {"organization"}
    assert [one.resource.name for one in found.resources if one.not_listed] == ["membership"]


@pytest.mark.parametrize("body", ["RAISE 'no';", "RETURN NULL;", "NEW.status = 'inactive';"])
def test_a_row_that_is_refused_keeps_its_resource_uncovered_and_is_seen(
    workos: FakeWorkOS, follow: Setting, body: str, caplog: LogCapture
) -> None:
    follow("membership")
    a_member(workos, ACME)

    with a_trigger(body, table=MEMBERSHIP_TABLE):
        assert tasks.cover() == "repaired 0"

    assert "membership: its list changed 0 rows" in caplog.messages
    assert "PostgreSQL refused to write 1 row of membership" in caplog.text
    noted = cursor()
    assert (noted.last_failed, noted.reconciled_at) == (1, None)
    assert "1 row of membership" in noted.snapshot_trouble
    assert read_cursor().covered == {"organization"}


def test_a_covered_resource_without_a_list_is_an_error(workos: FakeWorkOS, follow: Setting) -> None:
    follow("membership")
    a_member(workos, ACME)
    reconcile(Run())
    workos.misbehave("status", status=404, path=MEMBERSHIPS, times=None)

    found = reconcile(Run(limit=EVERYTHING))

    assert [error.partition(":")[0] for error in found.errors] == ["membership"]
    assert "membership: " in cursor().snapshot_trouble
    assert mirrored()["membership"] == held(workos)["membership"]


def test_an_organization_deleted_meanwhile_is_no_error(workos: FakeWorkOS, follow: Setting) -> None:
    follow("membership")
    bolt = workos.create_organization(name="Bolt", external_id="gram-2", at=TWO_DAYS_AGO)["id"]
    a_member(workos, ACME)
    reconcile(Run(resources=("organization",)))
    workos.delete_organization(bolt, emits=False)

    found = reconcile(Run(resources=("membership",)))

    assert (found.errors, found.resources[0].not_listed) == ([], "")
    assert "membership" in read_cursor().covered


def test_the_daily_run_goes_on_where_it_stopped_unless_it_was_switched_off_since(
    workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_THREADS", 1)
    follow("membership", HOLD_BACK_WINDOW=0.0)
    for name in ("B", "C"):
        workos.create_organization(name=name, at=TWO_DAYS_AGO)
    reconcile(Run())
    several = sorted(organization["id"] for organization in workos.all_organizations())
    for organization in several:
        a_member(workos, organization, emits=False)

    counts = []
    for _ in several:
        reconcile(Run(scope_seconds=0.0))
        counts.append(len(mirrored()["membership"]))

    assert counts == [1, 2, 3]
    assert mirrored()["membership"] == held(workos)["membership"]

    assert read_cursor().progress == {}, "no day more after the last list"
    reconcile(Run(scope_seconds=0.0))
    assert read_cursor().progress == {"membership": several[0]}
    follow()
    follow("membership")
    # What was listed before may have changed since.
    a_member(workos, several[0], emits=False)
    reconcile(Run(scope_seconds=60.0))

    assert "membership" in read_cursor().covered
    assert mirrored()["membership"] == held(workos)["membership"]


@pytest.mark.parametrize("lost", [False, True], ids=["switched off", "with a lost cursor"])
def test_what_was_written_before_a_break_is_older_than_the_first_list(
    workos: FakeWorkOS, follow: Setting, *, lost: bool
) -> None:
    """A role has no time of its own: within the hold-back window, its row would be the newer."""
    follow("role")
    tasks.cover()
    role = workos.roles.create(slug="auditor", organization_id=ACME)["id"]
    drain_to_end()

    if not lost:
        follow()
    workos.roles.delete(role)
    if lost:
        workos.expire_events()
        assert reconcile(Run()).lost
    else:
        # The position moves past its event.
        workos.create_organization(name="Bolt", external_id="gram-2")
        drain_to_end()
        follow("role")
    tasks.cover()

    assert "role" in read_cursor().covered
    assert mirrored()["role"] == held(workos)["role"] == {}


def test_an_older_process_reads_no_refused_type_again(
    workos: FakeWorkOS, follow: Setting, sync_setting: Setting
) -> None:
    follow("connection", "user")
    workos.refuse_event_types(["connection.deleted"])
    drain_to_end()
    state = read_cursor()
    workos.refuse_event_types([])

    sync_setting(RESOURCES=("organization", "connection"))
    retry_refused()

    assert (read_cursor().types, read_cursor().refused) == (state.types, state.refused)


@pytest.mark.parametrize(
    ("type_", "scope", "name"),
    [
        ("organization.deleted", "organization", "membership"),
        ("dsync.activated", "directory", "directory_user"),
    ],
)
def test_what_is_listed_for_each_is_covered_although_a_type_of_these_is_refused(
    workos: FakeWorkOS, follow: Setting, type_: str, scope: str, name: str
) -> None:
    follow("directory")
    tasks.cover()
    workos.refuse_event_types([type_])
    drain_to_end()
    directory = workos.directories.create(name="O", organization_id=ACME, at=TWO_DAYS_AGO)["id"]
    workos.directory_users.create(directory_id=directory, email="a@acme.com", at=TWO_DAYS_AGO)
    a_member(workos, ACME)
    drain_to_end()

    follow("directory", name)
    tasks.cover()

    assert {name, scope} & read_cursor().covered == {name}
    assert mirrored()[name] == held(workos)[name]


@pytest.mark.parametrize("how", ["covered", "refused", "switched off"])
def test_what_was_not_derived_as_a_process_was_killed_is_derived_after_the_next_drain(
    workos: FakeWorkOS, follow: Setting, monkeypatch: MonkeyPatch, how: str
) -> None:
    def is_killed(*_: object) -> None:
        raise Killed

    workos.connections.create(name="SSO", organization_id=ACME, state="active", at=TWO_DAYS_AGO)
    follow("connection")
    act: Callable[[], object] = tasks.cover
    if how != "covered":
        tasks.cover()
        act = follow if how == "switched off" else drain_to_end
        workos.refuse_event_types(["connection.deleted"])
    before = sso_enabled()
    with monkeypatch.context() as patch:
        patch.setattr(coverage, "derive_again", is_killed)
        with pytest.raises(Killed):
            act()
    assert sso_enabled() == before

    assert enqueued_by_a_drain() == [COVER]
    assert tasks.cover() == "all are covered"
    assert sso_enabled() == {"gram-1": None if before["gram-1"] else True}
    assert enqueued_by_a_drain() == []
