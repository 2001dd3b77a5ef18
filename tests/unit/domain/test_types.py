"""How values show themselves."""

import pytest

from orgs.domain.report import Change, Report
from orgs.domain.types import Outcome
from tests.builders import a_row, an_absence


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(
            Change("gram-1", "org_1", Outcome.UPDATED, {"name": ("Acme", "Bolt")}),
            'updated gram-1 (org_1): name: "Acme" → "Bolt"',
            id="a field",
        ),
        pytest.param(
            Change("gram-1", "org_1", Outcome.CREATED, {"name": (None, "株"), "x": ("a", None)}),
            'created gram-1 (org_1): name: null → "株", x: "a" → null',
            id="fields",
        ),
        pytest.param(
            Change(None, None, Outcome.FAILED, reason="PostgreSQL 23502: no"),
            "failed ? (?): PostgreSQL 23502: no",
            id="a reason, and no ids",
        ),
        pytest.param(
            Change("gram\x1b[1m", "org\n1", Outcome.UPDATED, {"name": ("a\nb", "c\x9b1m")}),
            'updated "gram\\u001b[1m" ("org\\n1"): name: "a\\nb" → "c\\u009b1m"',
            id="control characters in ids and values",
        ),
        pytest.param(
            Change("gram-1", "org_1", Outcome.CONFLICT, reason="a\x1b[2J\nb\x00"),
            r"conflict gram-1 (org_1): a\x1b[2J b\x00",
            id="control characters in a reason",
        ),
        pytest.param(
            Change(None, "conn_1", Outcome.DELETED, resource="connection"),
            "deleted connection conn_1",
            id="another resource",
        ),
        pytest.param(
            Change(None, "conn\n1", Outcome.FAILED, reason="no", resource="connection"),
            'failed connection "conn\\n1": no',
            id="another resource, and a reason",
        ),
    ],
)
def test_a_change_is_one_line_that_shows_everything(change: Change, line: str) -> None:
    assert str(change) == line


def test_only_what_is_present_has_fields() -> None:
    with pytest.raises(TypeError, match="org_1 is absent"):
        _ = an_absence("org_1").organization


def test_reports_add_up() -> None:
    total, other = Report(), Report()
    other.counts[Outcome.FAILED] = 2
    other.changes = [Change(None, "org_1", Outcome.FAILED), Change(None, "org_2", Outcome.CONFLICT)]
    other.errors, other.locked = ["it is down"], ["org_3"]
    other.changed_rows, other.requested_write_backs, other.withdrawn = True, True, 3
    other.taken_over, other.owners = {"gram-1"}, {"org_4"}
    other.needs_writing, other.rows_after = True, {"gram-1": a_row()}

    for one in (other, other, Report()):
        total.add(one)

    assert (total.counts[Outcome.FAILED], total.withdrawn) == (4, 6)
    assert (total.errors, total.locked) == (["it is down"] * 2, ["org_3"] * 2)
    assert (total.taken_over, total.owners) == ({"gram-1"}, {"org_4"})
    assert total.changed_rows
    assert total.requested_write_backs
    assert total.needs_writing
    assert total.rows_after == other.rows_after
    assert [change.workos_id for change in total.of(Outcome.FAILED)] == ["org_1", "org_1"]
    assert [change.change for change in total.drift] == [Outcome.FAILED] * 2


@pytest.mark.parametrize(
    ("report", "found"),
    [
        pytest.param(Report(), False, id="nothing"),
        pytest.param(Report(withdrawn=1), True, id="a request that WorkOS did not need"),
        pytest.param(Report(changes=[Change("1", "2", Outcome.WRITE_BACK)]), True, id="a change"),
        *(
            pytest.param(Report(changes=[Change("1", "2", outcome)]), False, id=outcome)
            for outcome in (Outcome.CONFLICT, Outcome.DISABLED_HERE, Outcome.UNPROVEN)
        ),
    ],
)
def test_drift_is_what_is_repaired(report: Report, found: bool) -> None:
    assert report.found_drift is found
