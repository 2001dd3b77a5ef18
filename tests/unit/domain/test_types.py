"""How values show themselves."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from orgs.domain.report import Change, Report
from orgs.domain.types import Outcome
from tests.builders import an_absence

ours = partial(Change, "gram-1", "org_1")
theirs = partial(Change, None, resource="connection")
odd = Change("gram\x1b[1m", "org\n1", Outcome.UPDATED, {"name": ("a\nb", "c\x9b1m")})
conflict = ours(Outcome.CONFLICT, reason="a\x1b[2J\nb\x00")
created = ours(Outcome.CREATED, {"name": (None, "株"), "x": ("a", None)})
no_ids = Change(None, None, Outcome.FAILED, reason="PostgreSQL 23502: no")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (ours(Outcome.UPDATED, {"name": ("A", "B")}), 'updated gram-1 (org_1): name: "A" → "B"'),
        (created, 'created gram-1 (org_1): name: null → "株", x: "a" → null'),
        (no_ids, "failed ? (?): PostgreSQL 23502: no"),
        (odd, r'updated "gram\u001b[1m" ("org\n1"): name: "a\nb" → "c\u009b1m"'),
        (conflict, r"conflict gram-1 (org_1): a\x1b[2J b\x00"),
        (theirs("conn_1", Outcome.DELETED), "deleted connection conn_1"),
        (theirs("conn\n1", Outcome.FAILED, reason="no"), r'failed connection "conn\n1": no'),
    ],
    ids=["a field", "fields", "a reason", "control characters", "of a reason", "another", "failed"],
)
def test_a_change_is_one_line_that_shows_everything(change: Change, line: str) -> None:
    assert str(change) == line


def test_only_what_is_present_has_fields() -> None:
    with pytest.raises(TypeError, match="org_1 is absent"):
        _ = an_absence("org_1").organization


def test_reports_add_up() -> None:
    failed, conflict = Change(None, "org_1", Outcome.FAILED), Change(None, "2", Outcome.CONFLICT)
    total, added = Report(), Report(Counter({Outcome.FAILED: 2}), [failed, conflict])
    added.errors = ["it is down"]
    added.changed_rows = added.requested_write_backs = added.needs_writing = True
    added.taken_over, added.owners = {"gram-1"}, {"org_4"}

    for one in (added, added, Report()):
        total.add(one)

    assert total == replace(
        added,
        **{name: getattr(added, name) * 2 for name in ("changes", "errors")},
        counts=Counter({Outcome.FAILED: 4}),
    )
    assert total.of(Outcome.FAILED) == total.drift == [failed, failed]


@pytest.mark.parametrize(
    ("report", "found"),
    [
        pytest.param(Report(), False, id="nothing"),
        pytest.param(Report(changes=[Change("1", "2", Outcome.WRITE_BACK)]), True, id="a change"),
        *(
            pytest.param(Report(changes=[Change("1", "2", outcome)]), False, id=outcome)
            for outcome in (Outcome.CONFLICT, Outcome.DISABLED_HERE, Outcome.UNPROVEN)
        ),
    ],
)
def test_drift_is_what_is_repaired(report: Report, found: bool) -> None:
    assert bool(report.drift) is found
