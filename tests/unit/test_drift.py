"""What a snapshot changes and how it is told, as a table."""

import pytest
from orgs.domain.drift import (
    Change,
    Comparison,
    PendingWriteBack,
    Unreadable,
    compare,
    compare_absent,
)

from orgs.domain.naming import derived_id
from orgs.domain.resolution import RemoteOrganization, Row
from tests.builders import NOON, a_row, an_event_id, an_organization, minutes

DERIVED = derived_id("org_1")


def compared(
    rows: list[Row], *organizations: RemoteOrganization | Unreadable, **known: object
) -> Comparison:
    return compare(rows, organizations, **{"pending": {}, **known})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "organization", "change"),
    [
        pytest.param(
            [],
            an_organization(external_id="gram-1", name="Acme"),
            Change(
                "gram-1", "org_1", "created", {"name": (None, "Acme"), "workos_id": (None, "org_1")}
            ),
            id="created",
        ),
        pytest.param(
            [],
            an_organization(name="Acme"),
            Change(
                DERIVED,
                "org_1",
                "created",
                {
                    "name": (None, "Acme"),
                    "workos_id": (None, "org_1"),
                    "external_id": (None, DERIVED),
                },
            ),
            id="created, and its write-back is a field",
        ),
        pytest.param(
            [a_row("gram-1")],
            an_organization(external_id="gram-1"),
            Change("gram-1", "org_1", "linked", {"workos_id": (None, "org_1")}),
            id="linked",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", name="Old")],
            an_organization(external_id="gram-1", name="New"),
            Change("gram-1", "org_1", "updated", {"name": ("Old", "New")}),
            id="renamed here is drift: WorkOS owns the name",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1")],
            an_organization(external_id=None),
            Change("gram-1", "org_1", "write_back", {"external_id": (None, "gram-1")}),
            id="nothing but the write-back",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", name="Old")],
            an_organization(external_id=None, name="New"),
            Change(
                "gram-1",
                "org_1",
                "updated",
                {"name": ("Old", "New"), "external_id": (None, "gram-1")},
            ),
            id="one change an organization",
        ),
    ],
)
def test_a_difference_is_one_change(
    rows: list[Row], organization: RemoteOrganization, change: Change
) -> None:
    comparison = compared(rows, organization)

    assert comparison.changes == (change,)
    assert not comparison.plan.is_empty
    assert comparison.counts[change.change] == 1
    assert comparison.counts["write_backs"] == ("external_id" in change.fields)


@pytest.mark.parametrize(
    ("rows", "organization", "known", "count"),
    [
        pytest.param(
            [a_row("gram-1", workos_id="org_1")],
            an_organization(external_id="gram-1"),
            {},
            "unchanged",
            id="the same",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", workos_updated_at=NOON + minutes(1))],
            an_organization(external_id="gram-1", name="Old", updated_at=NOON),
            {},
            "stale",
            id="older than the row",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", workos_updated_at=NOON)],
            an_organization(name="New", updated_at=NOON + minutes(2)),
            {"young_after": NOON + minutes(1)},
            "unchanged",
            id="traffic: newer than the row, and young",
        ),
        pytest.param(
            [],
            an_organization(updated_at=NOON + minutes(2)),
            {"young_after": NOON + minutes(1)},
            "unchanged",
            id="traffic: no row yet, and young",
        ),
        pytest.param(
            [],
            an_organization(),
            {"deleted": {"org_1": "event_1"}},
            "stale",
            id="the ledger knows it deleted",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", disabled=True)],
            an_organization(external_id="gram-1"),
            {"deleted": {"org_1": "event_1"}},
            "stale",
            id="disabled by a deletion that the listing does not show yet",
        ),
    ],
)
def test_what_is_no_drift_is_counted_and_not_told(
    rows: list[Row], organization: RemoteOrganization, known: dict[str, object], count: str
) -> None:
    comparison = compared(rows, organization, **known)

    assert comparison.changes == ()
    assert comparison.plan.is_empty
    assert +comparison.counts == {count: 1}


@pytest.mark.parametrize(
    ("row", "updated_at"),
    [
        pytest.param(
            a_row("gram-1", workos_id="org_1", workos_updated_at=NOON),
            NOON + minutes(1),
            id="newer, but not young: its event should have come",
        ),
        pytest.param(
            a_row("gram-1", workos_id="org_1", workos_updated_at=NOON + minutes(2)),
            NOON + minutes(2),
            id="young, but not newer: renamed here",
        ),
    ],
)
def test_what_no_event_will_mend_is_drift(row: Row, updated_at: object) -> None:
    organization = an_organization(
        external_id="gram-1",
        name="New",
        updated_at=updated_at,  # type: ignore[arg-type]
    )

    comparison = compared([row], organization, young_after=NOON + minutes(1))

    assert [change.change for change in comparison.changes] == ["updated"]


@pytest.mark.parametrize(
    ("rows", "organizations", "kind", "reason"),
    [
        pytest.param(
            [a_row("gram-1", workos_id="org_2")],
            [an_organization(external_id="gram-1")],
            "conflict",
            "still exists in WorkOS",
            id="two WorkOS organizations name one row",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1")],
            [an_organization(external_id="gram-2")],
            "conflict",
            "WorkOS has external_id 'gram-2'",
            id="WorkOS names another row than the one linked",
        ),
        pytest.param(
            [],
            [Unreadable("org_1", "name is not text")],
            "conflict",
            "name is not",
            id="unreadable",
        ),
        pytest.param(
            [a_row("gram-1", workos_id="org_1", disabled=True)],
            [an_organization(external_id="gram-1")],
            "disabled_here",
            "exists in WorkOS",
            id="disabled here",
        ),
    ],
)
def test_what_only_a_person_can_decide_is_told_and_left_alone(
    rows: list[Row], organizations: list[RemoteOrganization], kind: str, reason: str
) -> None:
    comparison = compared(rows, *organizations)

    (change,) = comparison.changes
    assert change.change == kind
    assert reason in change.reason
    assert change.fields == {}
    assert comparison.plan.is_empty


def test_two_listed_organizations_that_name_one_row_are_a_conflict_of_the_second() -> None:
    first = an_organization(workos_id="org_2", external_id=DERIVED)

    comparison = compared([], first, an_organization(workos_id="org_1"))

    assert [(change.workos_id, change.change) for change in comparison.changes] == [
        ("org_2", "created"),
        ("org_1", "conflict"),
    ]


def test_a_row_moves_if_its_old_organization_is_gone() -> None:
    comparison = compared(
        [a_row("gram-1", workos_id="org_2")], an_organization(external_id="gram-1"), gone={"org_2"}
    )

    assert comparison.changes == (
        Change("gram-1", "org_1", "relinked", {"workos_id": ("org_2", "org_1")}),
    )


def test_a_write_back_that_waits_for_a_person_is_a_conflict_and_not_asked_for_again() -> None:
    comparison = compared(
        [a_row("gram-1", workos_id="org_1")],
        an_organization(external_id=None),
        pending={"gram-1": PendingWriteBack("org_1", waits_for_person=True)},
    )

    assert [change.change for change in comparison.changes] == ["conflict"]
    assert comparison.plan.is_empty


@pytest.mark.parametrize(
    "pending",
    [
        pytest.param(PendingWriteBack("org_1", waits_for_person=False), id="not tried yet"),
        pytest.param(PendingWriteBack("org_2", waits_for_person=True), id="of an older link"),
    ],
)
def test_a_write_back_that_is_pending_is_still_drift(pending: PendingWriteBack) -> None:
    comparison = compared(
        [a_row("gram-1", workos_id="org_1")],
        an_organization(external_id=None),
        pending={"gram-1": pending},
    )

    assert [change.change for change in comparison.changes] == ["write_back"]
    assert comparison.plan.write_backs == {"gram-1": "org_1"}


def test_a_request_that_workos_has_answered_meanwhile_is_withdrawn() -> None:
    comparison = compared(
        [a_row("gram-1", workos_id="org_1")],
        an_organization(external_id="gram-1"),
        pending={"gram-1": PendingWriteBack("org_1", waits_for_person=False)},
    )

    assert comparison.changes == ()
    assert comparison.plan.known_to_workos == ("gram-1",)


def test_absent_organizations_disable_their_rows() -> None:
    rows = [
        a_row("gram-1", workos_id="org_1"),
        a_row("gram-2", workos_id="org_2", disabled=True),
    ]

    comparison = compare_absent(rows, ["org_1", "org_2", "org_3"])

    assert comparison.changes == (
        Change("gram-1", "org_1", "disabled", {"disabled_at": (None, "now")}),
    )
    assert [row.id for row in comparison.plan.disabled] == ["gram-1"]


def test_a_row_that_moves_is_claimed_by_its_new_organization() -> None:
    row = a_row("gram-1", workos_id="org_2", workos_updated_at=NOON + minutes(9))

    comparison = compared([row], an_organization(external_id="gram-1"), gone={"org_2"})

    assert [change.change for change in comparison.changes] == ["relinked"], (
        "whatever the times of the two organizations"
    )
    assert comparison.claimed == {"gram-1"}


def test_a_row_whose_move_is_on_its_way_is_claimed_already() -> None:
    young = an_organization(external_id="gram-1", updated_at=NOON + minutes(2))

    comparison = compared(
        [a_row("gram-1", workos_id="org_2")], young, young_after=NOON + minutes(1)
    )

    assert comparison.changes == ()
    assert comparison.claimed == {"gram-1"}


def test_a_row_disabled_here_is_counted_even_if_it_is_told_for_something_else() -> None:
    row = a_row("gram-1", workos_id="org_1", name="Old", disabled=True)

    comparison = compared([row], an_organization(external_id="gram-1", name="New"))

    assert [change.change for change in comparison.changes] == ["updated"]
    assert comparison.counts["disabled_here"] == 1


def test_a_change_is_told_in_one_line_whatever_the_ids_hold() -> None:
    change = Change("gram\x1b[1m", "org\n1", "updated", {"name": ("a\nb", "c")})

    assert str(change) == ('updated "gram\\u001b[1m" ("org\\n1"): name: "a\\nb" → "c"')


def test_an_older_answer_that_names_another_row_is_stale_and_no_conflict() -> None:
    row = a_row("gram-1", workos_id="org_1", workos_updated_at=NOON)
    older = an_organization(external_id="gram-9", updated_at=NOON - minutes(1))

    found = compared([row], older)

    assert (found.changes, found.stale) == ((), 1)


def test_a_row_that_the_stream_has_deleted_is_stale_and_not_disabled_here() -> None:
    row = a_row("gram-1", workos_id="org_1", disabled=True)

    found = compared(
        [row], an_organization(external_id="gram-1"), deleted={"org_1": an_event_id(1)}
    )

    assert (found.changes, found.stale, found.disabled_here) == ((), 1, 0)
