"""The resolution flow and the freshness guard, as tables."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orgs.domain.naming import derived_id
from orgs.domain.resolution import (
    Event,
    Fold,
    IgnoredEvent,
    OrganizationChanged,
    OrganizationDeleted,
    RemoteOrganization,
    Resolved,
    Row,
    UnreadableEvent,
    is_traffic,
    should_process_event,
    touched_ids,
)
from orgs.domain.types import (
    EventType,
    Outcome,
)
from tests.builders import NOON, a_deletion, a_row, an_event, an_event_id, an_organization, minutes

DERIVED = derived_id("org_1")


def applied(rows: Sequence[Row], *events: Event) -> tuple[list[Resolved], Fold]:
    fold = Fold(rows)
    return [fold.apply(event) for event in events], fold


def rows_after(fold: Fold) -> dict[str, Row]:
    """The rows that a plan leaves behind, as the shell would write them."""
    plan = fold.plan()
    written = [*plan.updated, *plan.disabled, *(creation.row for creation in plan.created)]
    return {row.id: row for row in fold.rows} | {row.id: row for row in written}


@pytest.mark.parametrize(
    ("rows", "event", "outcome", "organization_id"),
    [
        pytest.param(
            [a_row(workos_id="org_1")], an_event(), Outcome.UPDATED, "gram-1", id="linked: updated"
        ),
        pytest.param(
            [a_row(workos_id="org_1"), a_row("gram-2")],
            an_event(external_id="gram-2"),
            Outcome.UPDATED,
            "gram-1",
            id="linked: its id stays, whatever external_id says",
        ),
        pytest.param(
            [a_row(workos_id="org_1"), a_row(DERIVED)],
            an_event(),
            Outcome.UPDATED,
            "gram-1",
            id="linked: before the derived id",
        ),
        pytest.param(
            [a_row("gram-2")],
            an_event(external_id="gram-2"),
            Outcome.LINKED,
            "gram-2",
            id="external_id names an unlinked row: linked",
        ),
        pytest.param(
            [a_row("gram-2", workos_id="org_2")],
            an_event(external_id="gram-2"),
            Outcome.RELINKED,
            "gram-2",
            id="external_id names a row linked elsewhere: relinked",
        ),
        pytest.param(
            [a_row(DERIVED)],
            an_event(external_id="gram-2"),
            Outcome.CREATED,
            "gram-2",
            id="external_id names no row: created with it, not with the derived id",
        ),
        pytest.param(
            [a_row(DERIVED)],
            an_event(),
            Outcome.LINKED,
            DERIVED,
            id="no external_id, derived id unlinked: linked",
        ),
        pytest.param(
            [a_row(DERIVED, workos_id="org_2")],
            an_event(),
            Outcome.RELINKED,
            DERIVED,
            id="no external_id, derived id linked elsewhere: relinked",
        ),
        pytest.param(
            [], an_event(), Outcome.CREATED, DERIVED, id="nothing known: created, derived id"
        ),
        pytest.param(
            [],
            an_event(type=EventType.CREATED, external_id="gram-9"),
            Outcome.CREATED,
            "gram-9",
            id="created and updated are one",
        ),
        pytest.param(
            [a_row(workos_id="org_1")], a_deletion(), Outcome.DISABLED, "gram-1", id="deleted"
        ),
        pytest.param(
            [a_row(workos_id="org_1", disabled=True)],
            a_deletion(),
            Outcome.DISABLED,
            "gram-1",
            id="deleted, and disabled before",
        ),
        pytest.param(
            [a_row(DERIVED)],
            a_deletion(),
            Outcome.UNKNOWN,
            None,
            id="deleted, no row linked: nothing, whatever has the derived id",
        ),
    ],
)
def test_an_event_resolves_to(
    rows: list[Row], event: Event, outcome: Outcome, organization_id: str | None
) -> None:
    (resolved,), _ = applied(rows, event)

    assert resolved == Resolved(outcome, organization_id)


@pytest.mark.parametrize(
    ("row", "event", "fresh"),
    [
        pytest.param(
            a_row(workos_last_event_id=an_event_id(1)), an_event(2), True, id="greater id"
        ),
        pytest.param(a_row(workos_last_event_id=an_event_id(2)), an_event(2), False, id="same id"),
        pytest.param(
            a_row(workos_last_event_id=an_event_id(3)), an_event(2), False, id="smaller id"
        ),
        pytest.param(
            a_row(workos_last_event_id=an_event_id(1), workos_updated_at=NOON + minutes(1)),
            an_event(2, updated_at=NOON),
            True,
            id="greater id, older time: the id counts",
        ),
        pytest.param(
            a_row(workos_last_event_id="event_Z"),
            replace(an_event(), id="event_a"),
            True,
            id="bytewise: Z before a, whatever a locale says",
        ),
        pytest.param(
            a_row(workos_last_event_id="event_\uffff"),
            replace(an_event(), id="event_\U00010000"),
            True,
            id="bytewise: beyond the basic plane",
        ),
        pytest.param(a_row(), an_event(), True, id="neither id nor time"),
        pytest.param(
            a_row(workos_updated_at=NOON), an_event(updated_at=NOON), True, id="no id, same time"
        ),
        pytest.param(
            a_row(workos_updated_at=NOON),
            an_event(updated_at=NOON - minutes(1)),
            False,
            id="no id, older",
        ),
        pytest.param(
            a_row(workos_updated_at=NOON + minutes(9)),
            a_deletion(),
            True,
            id="no id, deletion: never by time",
        ),
        pytest.param(
            a_row(workos_last_event_id=an_event_id(2)),
            a_deletion(1),
            False,
            id="deletion, smaller id",
        ),
    ],
)
def test_freshness(row: Row, event: OrganizationChanged | OrganizationDeleted, fresh: bool) -> None:
    assert should_process_event(row, event) is fresh


def test_an_update_writes_what_workos_owns_and_nothing_else() -> None:
    row = a_row(workos_id="org_1", name="Old", disabled=True)

    _, fold = applied([row], an_event(7, name="New", updated_at=NOON))

    assert fold.plan().updated == (
        Row(
            id="gram-1",
            name="New",
            workos_id="org_1",
            workos_updated_at=NOON,
            workos_last_event_id=an_event_id(7),
            disabled=True,
        ),
    )


def test_a_deletion_keeps_the_link_and_the_name() -> None:
    row = a_row(workos_id="org_1", name="Here", workos_updated_at=NOON)

    _, fold = applied([row], a_deletion(7))

    plan = fold.plan()
    assert plan.updated == ()
    assert plan.disabled == (replace(row, disabled=True, workos_last_event_id=an_event_id(7)),)


def test_an_update_after_a_deletion_does_not_enable_the_row() -> None:
    row = a_row(workos_id="org_1")

    resolved, fold = applied([row], a_deletion(1), an_event(2, name="Ghost"))

    assert [r.outcome for r in resolved] == [Outcome.DISABLED, Outcome.UPDATED]
    assert rows_after(fold)["gram-1"].disabled
    assert rows_after(fold)["gram-1"].name == "Ghost"


def test_a_stale_event_changes_nothing_and_asks_for_no_write_back() -> None:
    row = a_row(workos_id="org_1", workos_last_event_id=an_event_id(5))

    resolved, fold = applied([row], an_event(4, name="Old"), a_deletion(3))

    assert [r.outcome for r in resolved] == [Outcome.STALE, Outcome.STALE]
    assert fold.plan().is_empty


def test_an_old_event_cant_steal_a_moved_row_back() -> None:
    row = a_row("gram-1", workos_id="org_2", workos_last_event_id=an_event_id(9))

    resolved, fold = applied([row], an_event(8, workos_id="org_1", external_id="gram-1"))

    assert resolved == [Resolved(Outcome.STALE, "gram-1")]
    assert fold.plan().is_empty


@pytest.mark.parametrize(
    ("rows", "events", "write_backs", "known"),
    [
        pytest.param([], [an_event()], {DERIVED: "org_1"}, (), id="unknown to WorkOS: requested"),
        pytest.param(
            [], [an_event(external_id="gram-9")], {}, ("gram-9",), id="shown by WorkOS: not needed"
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            [an_event(1), an_event(2, external_id="gram-1")],
            {},
            ("gram-1",),
            id="shown later in the page: not needed",
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            [an_event(1, external_id="gram-1"), an_event(2)],
            {"gram-1": "org_1"},
            (),
            id="cleared later in the page: requested",
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            [an_event(external_id="other")],
            {},
            (),
            id="another value: neither",
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            [an_event(1), a_deletion(2)],
            {},
            ("gram-1",),
            id="deleted: not needed",
        ),
        pytest.param(
            [a_row(DERIVED, workos_id="org_2")],
            [an_event()],
            {DERIVED: "org_1"},
            (),
            id="relinked: for the new one",
        ),
    ],
)
def test_write_backs(
    rows: list[Row], events: list[Event], write_backs: dict[str, str], known: tuple[str, ...]
) -> None:
    _, fold = applied(rows, *events)

    plan = fold.plan()
    assert (plan.write_backs, plan.known_to_workos) == (write_backs, known)


def test_a_page_makes_one_write_of_many_events_of_a_row() -> None:
    row = a_row(workos_id="org_1")

    _, fold = applied([row], *(an_event(n, name=f"Name {n}") for n in range(1, 50)))

    assert [r.name for r in fold.plan().updated] == ["Name 49"]


def test_a_row_created_and_renamed_in_a_page_is_named_by_its_creation() -> None:
    _, fold = applied([], an_event(1, name="First"), an_event(2, name="Second"))

    (creation,) = fold.plan().created
    assert (creation.named, creation.created_for) == ("First", "org_1")
    assert creation.row.name == "Second"


def test_two_rows_may_swap_their_links_in_a_page() -> None:
    rows = [a_row("gram-1", workos_id="org_1"), a_row("gram-2", workos_id="org_2")]

    resolved, fold = applied(
        rows,
        an_event(1, workos_id="org_3", external_id="gram-1"),
        an_event(2, workos_id="org_1", external_id="gram-2"),
        an_event(3, workos_id="org_2", external_id="gram-3"),
    )

    assert [r.outcome for r in resolved] == [Outcome.RELINKED, Outcome.RELINKED, Outcome.CREATED]
    assert {row.id: row.workos_id for row in rows_after(fold).values()} == {
        "gram-1": "org_3",
        "gram-2": "org_1",
        "gram-3": "org_2",
    }
    assert fold.plan().unlinked == ("gram-1", "gram-2")


def test_a_row_that_ends_where_it_began_is_not_unlinked() -> None:
    row = a_row("gram-1", workos_id="org_1")

    _, fold = applied(
        [row],
        an_event(1, workos_id="org_2", external_id="gram-1"),
        an_event(2, workos_id="org_1", external_id="gram-1"),
    )

    assert fold.plan().unlinked == ()
    assert rows_after(fold)["gram-1"].workos_id == "org_1"


def test_what_is_no_event_of_ours_is_ignored_or_parked() -> None:
    ignored = IgnoredEvent(id="event_1", type="dsync.x", workos_id=None, occurred_at=None)
    unreadable = UnreadableEvent(
        id="event_2", type="", workos_id=None, occurred_at=None, error="data is not an object"
    )

    resolved, fold = applied([], ignored, unreadable)

    assert resolved == [
        Resolved(Outcome.IGNORED),
        Resolved(Outcome.PARKED, error="data is not an object"),
    ]
    assert fold.plan().is_empty


def test_an_event_that_folding_chokes_on_is_parked_alone() -> None:
    bad = an_event(2, workos_id="org_2", updated_at=NOON.replace(tzinfo=None))
    rows = [a_row(workos_id="org_1"), a_row("gram-2", workos_id="org_2", workos_updated_at=NOON)]

    resolved, fold = applied(rows, an_event(1, name="One"), bad, an_event(3, name="Three"))

    assert [r.outcome for r in resolved] == [Outcome.UPDATED, Outcome.PARKED, Outcome.UPDATED]
    assert resolved[1].error.startswith("TypeError: ")
    assert [row.id for row in fold.plan().updated] == ["gram-1"]


def test_touched_ids_are_the_named_or_else_the_derived() -> None:
    organizations = [an_organization(external_id="gram-1"), an_organization(workos_id="org_2")]

    ids = touched_ids(organizations)

    assert ids == {"gram-1", derived_id("org_2")}


@pytest.mark.parametrize(
    ("rows", "organization", "outcome"),
    [
        pytest.param([], an_organization(), Outcome.CREATED, id="no row: created"),
        pytest.param(
            [a_row(workos_id="org_1")], an_organization(), Outcome.UNCHANGED, id="nothing differs"
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            an_organization(name="New"),
            Outcome.UPDATED,
            id="name differs",
        ),
        pytest.param([a_row(DERIVED)], an_organization(), Outcome.LINKED, id="link missing"),
        pytest.param(
            [a_row(workos_id="org_1", workos_updated_at=NOON + minutes(1))],
            an_organization(name="New", updated_at=NOON),
            Outcome.STALE,
            id="older than the row",
        ),
        pytest.param(
            [a_row(workos_id="org_1", workos_updated_at=NOON)],
            an_organization(name="New", updated_at=NOON),
            Outcome.UPDATED,
            id="as old as the row: applied",
        ),
        pytest.param(
            [a_row(workos_id="org_2")],
            an_organization(external_id="gram-1"),
            Outcome.CONFLICT,
            id="row linked to one that may still exist: left alone",
        ),
        pytest.param(
            [a_row(workos_id="org_1")],
            an_organization(name="New", external_id="gram-2"),
            Outcome.UPDATED,
            id="linked: its id stays, whatever external_id says",
        ),
    ],
)
def test_a_snapshot_resolves_to(
    rows: list[Row], organization: RemoteOrganization, outcome: Outcome
) -> None:
    fold = Fold(rows)

    resolved = fold.apply_snapshot(organization)

    assert resolved.outcome is outcome
    if outcome in (Outcome.CONFLICT, Outcome.STALE):
        assert fold.plan().is_empty


def test_a_snapshot_forgets_the_event_it_overtakes() -> None:
    row = a_row(workos_id="org_1", workos_last_event_id=an_event_id(5))
    fold = Fold([row])

    fold.apply_snapshot(an_organization(name="New", updated_at=NOON))

    assert rows_after(fold)["gram-1"].workos_last_event_id is None
    assert rows_after(fold)["gram-1"].workos_updated_at == NOON


def test_a_snapshot_moves_a_row_only_if_the_old_organization_is_gone() -> None:
    fold = Fold([a_row(workos_id="org_2")], gone={"org_2"})

    resolved = fold.apply_snapshot(an_organization(external_id="gram-1"))

    assert resolved == Resolved(Outcome.RELINKED, "gram-1")


def test_a_snapshot_does_not_bring_a_deleted_organization_back() -> None:
    fold = Fold([], deleted={"org_1": an_event_id(1)})

    resolved = fold.apply_snapshot(an_organization())

    assert resolved == Resolved(Outcome.STALE)
    assert fold.plan().is_empty


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(a_row(), id="a row that it would link"),
        pytest.param(a_row(workos_id="org_gone"), id="a row that it would take over"),
    ],
)
def test_a_snapshot_of_a_deleted_organization_is_stale_whatever_row_it_would_touch(
    row: Row,
) -> None:
    fold = Fold([row], deleted={"org_1": an_event_id(1)}, gone={"org_gone"})

    assert fold.apply_snapshot(an_organization(external_id="gram-1")).outcome is Outcome.STALE
    assert fold.plan().is_empty


def test_a_snapshot_asks_for_a_write_back_even_if_nothing_else_differs() -> None:
    fold = Fold([a_row(workos_id="org_1")])

    fold.apply_snapshot(an_organization(external_id=None))

    assert fold.plan().write_backs == {"gram-1": "org_1"}


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        pytest.param(a_row(workos_id="org_1"), Outcome.DISABLED, id="linked"),
        pytest.param(a_row(workos_id="org_1", disabled=True), Outcome.UNCHANGED, id="disabled"),
        pytest.param(a_row(workos_id="org_2"), Outcome.UNKNOWN, id="not linked"),
    ],
)
def test_an_absence_resolves_to(row: Row, outcome: Outcome) -> None:
    fold = Fold([row])

    resolved = fold.apply_absence("org_1")

    assert resolved.outcome is outcome
    assert [r.id for r in fold.plan().disabled] == (
        ["gram-1"] if outcome is Outcome.DISABLED else []
    )


@pytest.mark.parametrize(
    ("rows", "row_id"),
    [
        pytest.param([], None, id="no row"),
        pytest.param([a_row()], "gram-1", id="a row that the change would link"),
        pytest.param([a_row(workos_id="org_2")], "gram-1", id="a row that it would take over"),
    ],
)
def test_a_change_from_before_the_deletion_is_stale_wherever_it_is_listed(
    rows: list[Row], row_id: str | None
) -> None:
    change, deletion = an_event(1, external_id="gram-1"), a_deletion(2)

    in_one_page, fold = applied(rows, deletion, change)
    later = Fold(rows, deleted={"org_1": deletion.id})

    assert in_one_page == [Resolved(Outcome.UNKNOWN), Resolved(Outcome.STALE, row_id)]
    assert later.apply(change) == Resolved(Outcome.STALE, row_id)
    assert fold.plan().is_empty
    assert later.plan().is_empty


def test_of_two_deletions_the_later_one_counts() -> None:
    fold = Fold([], deleted={"org_1": an_event_id(9)})

    fold.apply(a_deletion(2))

    assert fold.apply(an_event(5)).outcome is Outcome.STALE


def test_a_change_from_after_the_deletion_is_applied() -> None:
    fold = Fold([], deleted={"org_1": an_event_id(1)})

    assert fold.apply(an_event(2)).outcome is Outcome.CREATED


def test_a_row_that_a_snapshot_inserts_is_measured_by_time() -> None:
    fold = Fold([])

    fold.apply_snapshot(an_organization())

    (creation,) = fold.plan().created
    assert (creation.row.workos_last_event_id, creation.row.workos_updated_at) == (None, NOON)


@pytest.mark.parametrize(
    ("row", "event", "moves"),
    [
        pytest.param(a_row(workos_id="org_1"), an_event(), False, id="an echo"),
        pytest.param(a_row(workos_id="org_1"), an_event(name="New"), True, id="a name"),
        pytest.param(a_row(), an_event(external_id="gram-1"), True, id="a link"),
        pytest.param(
            a_row(workos_id="org_9"), an_event(external_id="gram-1"), True, id="another link"
        ),
        pytest.param(a_row(workos_id="org_1"), a_deletion(), True, id="a deletion"),
        pytest.param(
            a_row(workos_id="org_1", disabled=True), a_deletion(), False, id="one more deletion"
        ),
        pytest.param(a_row("gram-9"), an_event(), True, id="a new row"),
    ],
)
def test_a_row_moves_if_more_than_its_bookkeeping_changes(
    row: Row, event: Event, moves: bool
) -> None:
    _, fold = applied([row], event)

    assert fold.plan().moves_rows is moves


@pytest.mark.parametrize(
    ("row", "age", "on_its_way"),
    [
        pytest.param(None, -1, True, id="no row"),
        pytest.param(None, 0, False, id="no row, and old"),
        pytest.param(a_row(), -1, True, id="a row of another program's"),
        pytest.param(a_row(workos_updated_at=NOON), -1, True, id="newer than its row"),
        pytest.param(a_row(workos_updated_at=NOON), 0, False, id="as old as its row, and old"),
        pytest.param(a_row(workos_updated_at=NOON + minutes(1)), -1, False, id="as old as its row"),
        pytest.param(
            a_row(workos_updated_at=NOON + minutes(2)), -1, False, id="older than its row"
        ),
        pytest.param(a_row(workos_updated_at=NOON - minutes(9)), 1, False, id="newer, and old"),
    ],
)
def test_what_is_newer_than_its_row_and_young_is_traffic(
    row: Row | None, age: float, on_its_way: bool
) -> None:
    organization = an_organization(updated_at=NOON - minutes(age))

    assert is_traffic(row, organization, young_after=NOON) is on_its_way


def test_the_times_of_two_organizations_tell_nothing_of_each_other() -> None:
    row = a_row(workos_id="org_gone", workos_updated_at=NOON + minutes(9))
    fold = Fold([row], gone={"org_gone"})

    resolved = fold.apply_snapshot(an_organization(external_id="gram-1"))

    assert resolved.outcome is Outcome.RELINKED
