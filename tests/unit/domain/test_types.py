"""How values show themselves."""

from collections import Counter
from dataclasses import replace

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
    failed, conflict = Change(None, "org_1", Outcome.FAILED), Change(None, "2", Outcome.CONFLICT)
    total, added = Report(), Report(Counter({Outcome.FAILED: 2}), [failed, conflict])
    added.errors, added.locked, added.withdrawn = ["it is down"], ["org_3"], 3
    added.changed_rows = added.requested_write_backs = added.needs_writing = True
    added.taken_over, added.owners, added.rows_after = {"gram-1"}, {"org_4"}, {"gram-1": a_row()}

    for one in (added, added, Report()):
        total.add(one)

    assert total == replace(
        added,
        **{name: getattr(added, name) * 2 for name in ("changes", "errors", "locked", "withdrawn")},
        counts=Counter({Outcome.FAILED: 4}),
    )
    assert total.of(Outcome.FAILED) == total.drift == [failed, failed]


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
