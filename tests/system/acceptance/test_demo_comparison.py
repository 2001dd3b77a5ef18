"""The demo's comparison: that everything in which WorkOS and the mirror can differ is found."""

from dataclasses import replace
from typing import Any

import pytest

from gram_sync.demo.comparison import (
    Deliveries,
    LedgerEntry,
    Remote,
    Row,
    count_deliveries,
    ledger_differences,
    pair_up,
    remotes,
)

ACME = Remote(workos_id="org_1", name="Acme", external_id="gram-1", created_with="gram-1")
ACME_ROW = Row(id="gram-1", name="Acme", slug="acme", workos_id="org_1")
FIRST_SLUGS = {"gram-1": "acme"}


def differences(remote: Remote | None, row: Row | None) -> tuple[str, ...]:
    (pair,) = pair_up(
        [remote] if remote is not None else [], [row] if row is not None else [], FIRST_SLUGS
    )
    return pair.differences


@pytest.mark.parametrize(
    ("remote", "row"),
    [
        pytest.param(ACME, ACME_ROW, id="there and here"),
        pytest.param(
            replace(ACME, exists=False), replace(ACME_ROW, disabled=True), id="deleted and disabled"
        ),
        pytest.param(
            replace(ACME, created_with=None, external_id="eba45f89-5b1f-5930-97df-c1949d69a89d"),
            replace(ACME_ROW, id="eba45f89-5b1f-5930-97df-c1949d69a89d"),
            id="a derived id",
        ),
        pytest.param(None, replace(ACME_ROW, workos_id=None), id="a row of Gram's alone"),
    ],
)
def test_those_that_agree(remote: Remote | None, row: Row) -> None:
    assert differences(remote, row) == ()


@pytest.mark.parametrize(
    ("remote", "row", "difference"),
    [
        pytest.param(ACME, None, "the mirror has no row that is linked to it", id="no row"),
        pytest.param(
            ACME,
            replace(ACME_ROW, name="Acme Inc."),
            "WorkOS calls it 'Acme', the mirror 'Acme Inc.'",
            id="another name",
        ),
        pytest.param(
            ACME,
            replace(ACME_ROW, slug="acme-2"),
            "its slug was 'acme' at first, and is 'acme-2' now",
            id="another slug",
        ),
        pytest.param(
            replace(ACME, external_id=None),
            ACME_ROW,
            "its external_id in WorkOS is None, and its row's id gram-1",
            id="not written back",
        ),
        pytest.param(
            replace(ACME, created_with="gram-2"),
            ACME_ROW,
            "the row's id is gram-1, and should be gram-2",
            id="another id than it was given",
        ),
        pytest.param(
            ACME,
            replace(ACME_ROW, disabled=True),
            "it exists in WorkOS, and is disabled in the mirror",
            id="disabled for nothing",
        ),
        pytest.param(
            replace(ACME, exists=False),
            ACME_ROW,
            "it was deleted in WorkOS, and is not disabled in the mirror",
            id="a deletion missed",
        ),
        pytest.param(
            None, ACME_ROW, "it is linked to org_1, which WorkOS never had", id="linked to nothing"
        ),
    ],
)
def test_each_difference_is_said(remote: Remote | None, row: Row | None, difference: str) -> None:
    assert differences(remote, row) == (difference,)


@pytest.mark.parametrize(
    ("entries", "malformed", "said"),
    [
        pytest.param([("event_1", "updated")], [], [], id="applied"),
        pytest.param([("event_1", "parked")], ["event_1"], [], id="bad and parked"),
        pytest.param([], [], ["event_1 is listed by WorkOS and not in the ledger"], id="missed"),
        pytest.param(
            [("event_1", None)], [], ["event_1 was announced and never applied"], id="announced"
        ),
        pytest.param(
            [("event_1", "parked")],
            [],
            ["event_1 is parked, and was well-formed"],
            id="parked without need",
        ),
        pytest.param(
            [("event_1", "updated")],
            ["event_1"],
            ["event_1 is malformed, and not parked"],
            id="bad and applied",
        ),
        pytest.param(
            [("event_1", "updated"), ("event_2", "updated")],
            [],
            ["event_2 is in the ledger and not WorkOS's"],
            id="made up",
        ),
    ],
)
def test_the_ledger_has_what_workos_listed(
    entries: list[tuple[str, str | None]], malformed: list[str], said: list[str]
) -> None:
    ledger = [
        LedgerEntry(event_id=event_id, type="organization.updated", outcome=outcome)
        for event_id, outcome in entries
    ]

    assert ledger_differences([{"id": "event_1"}], ledger, malformed) == said


def test_organizations_are_those_there_are_and_those_there_were() -> None:
    def body(number: int, name: str, external_id: str | None) -> dict[str, Any]:
        return {"id": f"org_{number}", "name": name, "external_id": external_id}

    events = [
        {"event": "organization.created", "data": body(1, "Acme", None)},
        {"event": "organization.created", "data": body(2, "Globex", "gram-2")},
        {"event": "organization.updated", "data": {"id": "org_1", "name": None}},
        {"event": "organization.deleted", "data": body(2, "Globex Corp", "gram-2")},
    ]

    assert remotes([body(1, "Acme Inc.", "gram-1")], events) == [
        Remote(workos_id="org_1", name="Acme Inc.", external_id="gram-1", created_with=None),
        Remote(
            workos_id="org_2",
            name="Globex Corp",
            external_id="gram-2",
            created_with="gram-2",
            exists=False,
        ),
    ]


def test_deliveries_are_counted_by_what_became_of_them() -> None:
    outcomes = [
        ("event_1", 204, None),
        ("event_1", 204, None),
        ("event_2", None, "dropped"),
        ("event_3", 503, None),
        ("event_3", None, "TimeoutError"),
        ("event_3", 204, None),
    ]

    counted = count_deliveries(
        {"event_id": event_id, "status": status, "error": error}
        for event_id, status, error in outcomes
    )

    assert counted == Deliveries(delivered=3, repeated=1, lost=1, refused=2)
