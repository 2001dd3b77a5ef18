"""What a list did not show, or is asked for alone: only a 404 of the right place disables a row."""

import time
from datetime import UTC, datetime
from fractions import Fraction
from math import inf
from threading import Barrier
from typing import Any

import pytest

from orgs.db.cursor import ensure_cursor
from orgs.domain.resources import ORGANIZATIONS
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services import compare
from orgs.services.compare import DisableLimit, Run
from orgs.services.lookups import Lookups, WrongEnvironment
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.testing import FakeWorkOS
from orgs.workos import BrokenAnswer, Refused, Unavailable, lookup, pacing
from tests.builders import (
    NO_ROUTE,
    NOON,
    a_linked_row,
    a_mirrored_organization,
    an_old_organization,
    an_organization_row,
)
from tests.integration.services.stored import (
    LogCapture,
    MonkeyPatch,
    Setting,
    changes,
    compared,
    cursor,
    disabled,
    kinds,
    missing_rows,
    only,
    row,
)

FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)


def a_list(*listed: Any, after: str | None = None) -> dict[str, Any]:
    """An answer that lists these organizations, as if there were no others."""
    body = {"data": listed, "list_metadata": {"before": None, "after": after}}
    return {"kind": "body", "body": body}


def test_more_missing_than_the_limit_disables_none(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_CHUNK", 3)
    a_mirrored_organization(workos)
    missing_rows(30)

    found = compared(limit=DisableLimit(rows=4, percent=0))

    assert disabled() == []
    assert "more than 4 of 31 linked organizations are missing" in found.errors[0]
    assert (found.in_sync, cursor().reconciled_at) == (False, None)
    assert workos.count_requests(path="/organizations/") <= 8

    found = compared(limit=DisableLimit(rows=30, percent=0))

    assert len(disabled()) == found.organizations.counts["disabled"] == 30
    assert found.errors == []


@pytest.mark.parametrize(
    ("limit", "linked", "allowed"),
    [
        (DisableLimit(), 100, 10),
        (DisableLimit(), 5_000, 50),
        (DisableLimit(rows=3, percent=0), 5_000, 3),
        (DisableLimit(rows=0, percent=Fraction("2.3")), 3_000, 69),
        (DisableLimit(rows=0, percent=0), 1_000, 0),
    ],
)
def test_the_limit_is_the_larger_of_the_two(limit: DisableLimit, linked: int, allowed: int) -> None:
    assert limit.allows(linked) == allowed


def test_rows_that_another_organization_takes_over_count_for_no_limit(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    for number in range(12):
        an_old_organization(workos, f"New {number}", external_id=f"gram-{number}")
        an_organization_row(f"gram-{number}", workos_id=f"org_missing_{number}")
    limit = DisableLimit(rows=0, percent=0)

    dry, real = compared(dry=True, limit=limit), compared(limit=limit)

    assert {kind for _, kind in changes(dry)} == {"relinked"}
    assert changes(dry) == changes(real)
    assert (dry.errors, real.errors, disabled()) == ([], [], [])


def test_more_missing_than_workos_allows_requests_are_waited_for(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    missing_rows(9)
    # Fewer than are asked for at once.
    workos.limit_requests(4, seconds=0.5)

    found = compared(limit=DisableLimit(rows=100))

    assert (found.errors, len(disabled())) == ([], 9)
    assert workos.count_requests(status=429) >= 1


@pytest.mark.parametrize("link", ["..", "x" * 70_000], ids=["no id", "of any length"])
def test_a_link_that_cant_be_asked_for_is_one_short_line_and_stops_nothing(
    workos: FakeWorkOS, caplog: LogCapture, link: str
) -> None:
    a_mirrored_organization(workos)
    missing_rows(1)
    an_organization_row("gram-odd", workos_id=link)

    found = compared()

    assert (kinds(found), disabled()) == (["disabled", "unproven"], ["missing-000"])
    assert "refuses to say whether it exists" in found.errors[0]
    assert all(
        len(line) < 1_500 for line in [*caplog.messages, *map(str, found.organizations.changes)]
    )


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        pytest.param({"status": 500, "path": "/organizations/org_missing_0"}, "HTTP 500", id="500"),
        pytest.param({"kind": "html", "status": 404}, "a 404 that is not WorkOS's own", id="HTML"),
        pytest.param({"status": 404, "body": NO_ROUTE, "times": None}, "2 missing", id="no route"),
    ],
)
def test_what_is_no_404_of_this_route_disables_none(
    workos: FakeWorkOS, misbehaviour: dict[str, Any], error: str
) -> None:
    a_mirrored_organization(workos)
    missing_rows(2)
    workos.misbehave(**{"kind": "status", "path": "/organizations/", **misbehaviour})

    found = compared()
    noted = cursor().reconciled_at
    workos.behave()

    assert (disabled(), found.in_sync, noted) == ([], False, None)
    assert error in found.errors[0]
    assert compared().organizations.counts["disabled"] == 2


def test_an_error_of_one_does_not_wait_for_the_pauses_of_others(workos: FakeWorkOS) -> None:
    are_asked = Barrier(2, timeout=30)

    def ask(key: str) -> str:
        are_asked.wait()
        if key == "fails":
            raise BrokenAnswer("no answer")
        return str(lookup(ORGANIZATIONS, key, patience=inf))

    pacing.pacer.pause(600)
    try:
        with pytest.raises(BrokenAnswer, match="no answer"):
            list(compare.in_threads(ask, ["waits", "fails"], Refused))
    finally:
        pacing.pacer.forget()

    assert workos.count_requests(path=None) == 0


@pytest.mark.parametrize(
    ("at", "errors"),
    [
        pytest.param(None, [], id="just now, while the list was read"),
        pytest.param(NOON, ["the list is not complete"], id="before"),
        pytest.param(FAR_AHEAD, ["the list is not complete"], id="in the future"),
    ],
)
def test_one_that_exists_and_is_not_listed(
    workos: FakeWorkOS, at: datetime | None, errors: list[str]
) -> None:
    listed = workos.organization(a_mirrored_organization(workos))
    created = workos.create_organization(name="New", external_id="gram-1", at=at, emits=False)
    an_organization_row("gram-1", name="New", workos_id=created["id"])
    workos.misbehave(path="/organizations", exact=True, times=None, **a_list(listed))

    found = compared()

    assert [error.partition(":")[0] for error in found.errors] == errors
    assert disabled() == []


@pytest.mark.usefixtures("wrong_place")
@pytest.mark.parametrize(
    ("drains", "dry"), [(False, False), (True, False), (True, True)], ids=["", "drains", "dry"]
)
def test_a_run_in_a_wrong_place_writes_nothing(workos: FakeWorkOS, drains: bool, dry: bool) -> None:
    a_mirrored_organization(workos)
    ensure_cursor()
    try:
        error = reconcile(Run(dry=dry), drain_events=drains).errors[0]
    except WrongEnvironment as wrong:
        error = str(wrong)

    assert "lists none of the organizations that rows are linked to" in error or "404" in error
    assert (Organization.objects.count(), disabled()) == (1, [])
    assert not WorkOSEvent.objects.exists()
    assert (cursor().reconciled_at, cursor().last_event_id) == (None, None)
    assert (error[:50] in cursor().snapshot_trouble) is not dry


@pytest.mark.parametrize("names_another", [False, True])
def test_a_page_that_comes_again_and_again_ends_a_run_in_a_wrong_place(
    workos: FakeWorkOS, names_another: bool
) -> None:
    workos.seed(organizations=100, at=NOON, emits=False)
    an_organization_row("gram-1", workos_id="org_elsewhere")
    listed = workos.all_organizations()
    page = a_list(*listed, after=listed[-1]["id"] if names_another else None)
    workos.misbehave(path="/organizations", exact=True, times=None, **page)

    assert "lists the same page again" in compared().errors[0]


_GONE: dict[str, Any] = {"workos_id": "org_gone", "disabled_at": NOON, "workos_deleted_at": NOON}


@pytest.mark.parametrize("named", [(), ("gram-gone",)])
def test_a_row_whose_deletion_is_known_is_taken_over_without_proof(
    workos: FakeWorkOS, named: tuple[str, ...]
) -> None:
    an_organization_row("gram-gone", **_GONE)
    new = an_old_organization(workos, "New", external_id="gram-gone")

    found = only(*named) if named else compared()

    assert (changes(found), found.errors) == ([("gram-gone", "relinked")], [])
    assert row("gram-gone").workos_id == new


@pytest.mark.parametrize("missing", [[], ["gram-missing"]])
def test_one_whose_deletion_is_known_needs_no_proof(workos: FakeWorkOS, missing: list[str]) -> None:
    an_organization_row("gram-gone", **_GONE)
    for id_ in missing:
        an_organization_row(id_, workos_id="org_missing")

    found = only("gram-gone", *missing)

    assert (kinds(found), disabled()) == (["unproven"] * len(missing), ["gram-gone"])
    assert (found.organizations.counts["unchanged"], found.in_sync) == (1, not missing)


@pytest.mark.usefixtures("wrong_place")
@pytest.mark.parametrize("id_", ["gram-1", "gram-unlinked"])
def test_a_single_organization_in_the_wrong_place_is_unproven(workos: FakeWorkOS, id_: str) -> None:
    a_mirrored_organization(workos)
    a_linked_row(workos)
    an_organization_row("gram-unlinked")

    found = only(id_)

    assert (changes(found), disabled()) == ([(None, "unproven")], [])
    assert "proves nothing: see WORKOS_BASE_URL and WORKOS_API_KEY" in found.errors[0]
    assert not found.in_sync


@pytest.mark.parametrize(
    ("misbehaviour", "error"),
    [
        pytest.param({"kind": "truncated"}, "not a page of a list", id="truncated"),
        pytest.param({"kind": "repeated_page", "times": None}, "same page", id="repeats"),
        pytest.param(a_list(), "list is not complete", id="an empty list"),
        pytest.param(a_list(after="org_1"), "and said that there is more", id="empty, with more"),
        pytest.param(a_list({}), "has no usable id", id="without an id"),
        pytest.param({"kind": "status", "status": 500}, "does not answer", id="500"),
    ],
)
@pytest.mark.parametrize("pages_before", [0, 1])
def test_a_broken_list_disables_nothing(
    workos: FakeWorkOS,
    monkeypatch: MonkeyPatch,
    misbehaviour: dict[str, Any],
    error: str,
    pages_before: int,
) -> None:
    # It reads the first page too.
    monkeypatch.setattr(Lookups, "verify_environment", lambda _: None)
    workos.seed(organizations=250, at=NOON, external_id_prefix="gram-", emits=False)
    compared()
    an_organization_row("gone", workos_id="org_deleted")
    if pages_before:
        workos.misbehave("slow", seconds=0, path="/organizations", exact=True)
    workos.misbehave(path="/organizations", exact=True, **misbehaviour)

    found = compared()
    workos.behave()

    assert (disabled(), found.in_sync) == ([], False)
    assert error in found.errors[0]
    assert error in cursor().snapshot_trouble
    assert changes(compared()) == [("gone", "disabled")]


@pytest.mark.parametrize("count", [200, 250])
def test_a_list_is_read_on_after_a_full_page_that_names_no_other(
    workos: FakeWorkOS, count: int
) -> None:
    workos.seed(organizations=count, at=NOON, external_id_prefix="gram-", emits=False)
    workos.misbehave("ends_early", path="/organizations", exact=True, times=None)

    found = compared()

    assert (found.organizations_listed, found.errors) == (count, [])
    assert workos.requests()[-1]["query"]["after"] == workos.all_organizations()[199]["id"]


def test_one_organization_is_compared_once_by_either_id(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, "Acme", external_id="gram-1")
    bolt = an_old_organization(workos, "Bolt", external_id="gram-2")
    an_old_organization(workos, "Untouched", external_id="gram-3")

    by_workos_id, by_gram_id = only(acme, acme, "gram-1"), only("gram-2")

    assert changes(by_workos_id) == [("gram-1", "created")]
    assert changes(by_gram_id) == [("gram-2", "created")]
    assert by_workos_id.organizations_listed == by_gram_id.organizations_listed == 1
    assert row("gram-2").workos_id == bolt
    assert Organization.objects.count() == 2
    assert workos.count_requests(path="/organizations", exact=True) == 0


def test_a_recent_difference_is_applied_and_its_write_back_alone_pushed(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Just now", emits=False)
    other = a_linked_row(workos, "gram-other", external_id=None)
    ExternalIdWriteBack.objects.create(organization_id="gram-other", workos_id=other)

    found = only(acme["id"])

    assert (kinds(found), found.write_backs.pushed) == (["created"], 1)
    assert ExternalIdWriteBack.objects.get().organization_id == "gram-other"


@pytest.mark.parametrize("id_", ["gram-0", "org_missing_0"])
@pytest.mark.parametrize("has_new_owner", [False, True])
def test_one_that_is_missing(workos: FakeWorkOS, id_: str, has_new_owner: bool) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-0", workos_id="org_missing_0")
    if has_new_owner:
        an_old_organization(workos, "New", external_id="gram-0")

    assert changes(only(id_)) == [("gram-0", "relinked" if has_new_owner else "disabled")]
    assert disabled() == ([] if has_new_owner else ["gram-0"])


@pytest.mark.parametrize("no_link", [None, ""])
@pytest.mark.parametrize("has_others", [False, True])
def test_one_that_only_the_mirror_has_is_left_alone(
    workos: FakeWorkOS, has_others: bool, no_link: str | None
) -> None:
    if has_others:
        a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id=no_link)

    found = only("gram-1", "gram-1")

    assert found.in_sync
    assert found.organizations_listed == found.organizations.counts["unchanged"] == 1


@pytest.mark.parametrize("unknown", ["gram-nowhere", " ", "a\0", "..", "\ud800"])
def test_an_id_that_is_none_does_not_stop_the_rest(workos: FakeWorkOS, unknown: str) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    with pytest.raises(UnknownOrganization):
        only(unknown)
    found = only(unknown, acme)

    assert changes(found) == [("gram-1", "created")]
    assert (len(found.errors), found.in_sync) == (1, False)


def test_what_cant_all_be_asked_for_in_time_is_left_alone(workos: FakeWorkOS) -> None:
    acme = an_old_organization(workos, external_id="gram-1")

    with pytest.raises(Unavailable, match="choose fewer"):
        reconcile_organizations(Run(), [acme], deadline=time.monotonic() - 1)

    assert not Organization.objects.exists()
    assert workos.count_requests() == 0


@pytest.mark.parametrize("external_id", [None, "gram-1", "gram-unlinked"])
def test_an_organization_of_another_environment_gets_no_row_and_proves_nothing(
    workos: FakeWorkOS, elsewhere: FakeWorkOS, sync_setting: Setting, external_id: str | None
) -> None:
    """Its row would prove that environment right in the next run."""
    live = a_linked_row(workos)
    an_organization_row("gram-unlinked")
    new = elsewhere.create_organization(name="New", at=NOON, external_id=external_id)
    sync_setting(BASE_URL=elsewhere.base_url)

    alone, beside_a_linked_one = only(new["id"]), only(new["id"], "gram-1")
    with pytest.raises(WrongEnvironment):
        reconcile(Run())

    assert (kinds(alone), alone.in_sync) == (["unproven"], False)
    assert kinds(beside_a_linked_one) == ["unproven", "unproven"]
    links = Organization.objects.order_by("id").values_list("id", "workos_id", "disabled_at")
    assert [*links] == [("gram-1", live, None), ("gram-unlinked", None, None)]


def test_a_linked_organization_proves_the_place_for_a_new_one(workos: FakeWorkOS) -> None:
    mirrored = a_mirrored_organization(workos)
    new = an_old_organization(workos, "New", external_id="gram-new")

    found = only(mirrored, new)

    assert ("gram-new", "created") in changes(found)
    assert found.errors == []
