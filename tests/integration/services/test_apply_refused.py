"""Which item failed: what PostgreSQL refuses for one item never stops the rest, and what it refuses
for all is no item's fault."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, product
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError
from django.db.models import Manager

from orgs.db.cursor import ensure_cursor
from orgs.db.errors import CursorSkipped
from orgs.domain.naming import slug_candidates
from orgs.domain.types import Observation, Outcome, Position
from orgs.models import Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.services import apply as applying
from orgs.services.apply import Mode, WritesRefused, apply
from orgs.services.decide import Batch
from orgs.services.stream import DrainReport, log_parked
from tests.builders import (
    NOON,
    a_deletion,
    a_page,
    an_absence,
    an_event,
    an_event_id,
    an_organization,
    an_organization_row,
    an_unreadable_event,
    apply_page,
    compare,
    live,
)
from tests.integration.services.stored import Around, LogCapture, ledger, parked, position
from tests.triggers import (
    LEAVES_OUT,
    RAISES,
    REASONS,
    a_constraint,
    a_trigger,
    as_a_limited_user,
    attempts,
    changed,
    renamed,
)

OUTBOX = "workos_external_id_write_back"
REFUSED = REASONS[RAISES]
IS_SECOND = "NEW.workos_organization_id = 'org_2'"
whenever = pytest.mark.parametrize("at_commit", [False, True], ids=["at once", "at commit"])
each_way = pytest.mark.parametrize(
    ("how", "at_commit"),
    [(RAISES, False), (RAISES, True), (LEAVES_OUT, False)],
    ids=["raises", "raises at commit", "left out"],
)


def events(count: int, *, first: int = 1, name: str = "Acme") -> list[Observation]:
    return [an_event(n, workos_id=f"org_{n}", name=name) for n in range(first, first + count)]


def a_required_column(table: str = "organization_metadata") -> AbstractContextManager[None]:
    """A column that another program has added, and that the sync knows nothing of."""
    return changed(
        f"ALTER TABLE {table} ADD billing_email text NOT NULL DEFAULT 'x';"
        f"ALTER TABLE {table} ALTER billing_email DROP DEFAULT",
        f"ALTER TABLE {table} DROP billing_email",
    )


# One item -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "at_commit"),
    [("P0001", False), ("42501", False), ("57014", False), ("P0001", True), ("23505", True)],
)
def test_an_event_that_is_refused_is_parked_and_others_applied(code: str, at_commit: bool) -> None:
    page = [*events(1), *events(1, first=2, name="Bad"), *events(1, first=3)]
    body = f"RAISE SQLSTATE '{code}' USING MESSAGE = 'not this one';"

    with a_trigger(body, when="NEW.name = 'Bad'", at_commit=at_commit):
        report = live(*page)
        again = apply_page(a_page(*page), Mode.REPLAY)

    assert +again.counts == {Outcome.STALE: 2, Outcome.PARKED: 1}
    assert +report.counts == {Outcome.CREATED: 2, Outcome.PARKED: 1}
    assert (report.requested_write_backs, report.changed_rows) == (True, True)
    assert report.interrupted_by is None
    assert parked() == {an_event_id(2): f"PostgreSQL {code}: not this one"}
    assert WorkOSEvent.objects.parked().get().payload == '{"id": "event_0002"}'
    assert position() == Position(an_event_id(3), NOON)


BAD = an_event(2, workos_id="org_2", name="Bad", external_id="gram-2")
#: The row before, and what WorkOS says.
WRITES: dict[str, tuple[dict[str, str | None] | None, Observation]] = {
    "insert": (None, BAD),
    "update": ({"name": "Old"}, BAD),
    "link": ({"name": "Old", "workos_id": None}, BAD),
    "relink": ({"name": "Bad", "workos_id": "org_0"}, BAD),
    "disable": ({"name": "Bad"}, a_deletion(2, workos_id="org_2")),
}
NOT_WRITTEN = "PostgreSQL: 1 of 1 rows of one table were not written as they should be: a trigger"
#: What a trigger does, if at commit, and what is reported of it.
TRIGGERS = {
    "refused": (RAISES, False, REFUSED),
    "refused at commit": (RAISES, True, REFUSED),
    "left out": (LEAVES_OUT, False, NOT_WRITTEN),
    "renamed": ("NEW.name = upper(NEW.name);", False, NOT_WRITTEN),
    "not renamed": ("NEW.name = OLD.name;", False, NOT_WRITTEN),
    "not linked": ("NEW.workos_id = NULL;", False, NOT_WRITTEN),
    "disabled": ("NEW.disabled_at = now();", False, NOT_WRITTEN),
    "not disabled": ("NEW.disabled_at = NULL;", False, NOT_WRITTEN),
    "not deleted": ("NEW.workos_deleted_at = NULL;", False, NOT_WRITTEN),
}


@pytest.mark.parametrize(
    ("write", "how"),
    [
        *product(WRITES, ("refused", "refused at commit", "left out")),
        *product(["insert"], ("renamed", "not linked", "disabled")),
        *[("update", "not renamed"), ("link", "not linked")],
        *product(["disable"], ("not disabled", "not deleted")),
    ],
)
def test_every_write_of_a_row_can_be_refused_or_changed(write: str, how: str) -> None:
    (before, said), (body, at_commit, reason) = WRITES[write], TRIGGERS[how]
    if before is not None:
        an_organization_row("gram-2", **{"workos_id": "org_2", **before})
    rows = list(Organization.objects.values())
    fetched = an_absence("org_2") if said.fields is None else said._replace(event=None)
    absent = frozenset({"org_0"})

    with a_trigger(body, when="NEW.name = 'Bad'", at_commit=at_commit):
        live(an_event(1), said, an_event(3, workos_id="org_3"))
        report = apply(Batch(observations=[fetched], absent=absent), Mode.RECONCILE)

    ((event_id, error),) = parked().items()
    assert (event_id, error.startswith(reason)) == (an_event_id(2), True)
    assert list(Organization.objects.filter(id="gram-2").values()) == rows
    assert +report.counts == {Outcome.FAILED: 1}
    assert report.of(Outcome.FAILED)[0].reason == error
    assert Organization.objects.filter(workos_id__in=["org_1", "org_3"]).count() == 2


@each_way
@pytest.mark.parametrize(
    ("table", "external_id"),
    [(OUTBOX, None), ("workos_conflict", "other")],
    ids=["a new request", "a conflict"],
)
def test_what_goes_with_a_row_can_be_refused(
    how: str, at_commit: bool, table: str, external_id: str | None
) -> None:
    an_organization_row("gram-2", workos_id="org_2", name="Old")
    said = an_event(2, workos_id="org_2", external_id=external_id)

    with a_trigger(how, table=table, when="NEW.organization_id = 'gram-2'", at_commit=at_commit):
        live(an_event(1), said, an_event(3, workos_id="org_3"))
        report = compare(said._replace(event=None))

    assert [*parked()] == [an_event_id(2)]
    assert how == LEAVES_OUT or parked() == {an_event_id(2): REFUSED}
    assert +report.counts == {Outcome.FAILED: 1}
    assert Organization.objects.get(id="gram-2").name == "Old"
    assert Organization.objects.filter(workos_id__in=["org_1", "org_3"]).count() == 2


def test_a_repeated_request_that_a_trigger_leaves_out_does_not_go_unseen() -> None:
    live(an_event(1))

    with a_trigger(LEAVES_OUT, table=OUTBOX, on="UPDATE"):
        live(an_event(2))

    assert [*parked()] == [an_event_id(2)]


@pytest.mark.parametrize("is_here", [False, True])
def test_a_cursor_that_is_left_as_it_is_ends_the_drain(is_here: bool) -> None:
    """Nothing is applied: the same page would be read again and again."""
    if is_here:
        ensure_cursor()
    with (
        a_trigger(LEAVES_OUT, table="workos_sync_cursor"),
        pytest.raises(CursorSkipped, match="was not moved" if is_here else "has no row"),
    ):
        live(*events(2))

    assert not Organization.objects.exists()


def test_a_policy_that_hides_or_forbids_a_row_is_not_a_missing_grant() -> None:
    an_organization_row("gram-4", workos_id="org_4", name="Hidden")

    with as_a_limited_user("USING (name <> 'Hidden') WITH CHECK (name <> 'Bad')"):
        live(*events(1), *events(1, first=2, name="Bad"), *events(2, first=3))
        report = compare(an_organization("org_9", name="Bad"))

    assert {*parked()} == {an_event_id(2), an_event_id(4)}
    assert parked()[an_event_id(2)].startswith("PostgreSQL 42501: new row violates row-level")
    assert Organization.objects.filter(workos_id__in=["org_1", "org_3"]).count() == 2
    assert +report.counts == {Outcome.FAILED: 1}


def test_a_name_whose_slugs_are_all_taken_is_parked() -> None:
    for number, slug in enumerate(slug_candidates("acme", "org_1")):
        an_organization_row(f"gram-{number}", slug=slug)

    live(*events(2))

    assert list(parked()) == [an_event_id(1)]


@each_way
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(an_event(2, workos_id="org_2"), id="good"),
        pytest.param(an_event(2, workos_id="org_2", name="a\0"), id="refused"),
        pytest.param(an_unreadable_event(2, workos_id="org_2"), id="unreadable"),
    ],
)
def test_an_event_that_the_ledger_refuses_is_passed_over_as_a_conflict(
    how: str, at_commit: bool, said: Observation, caplog: LogCapture
) -> None:
    with a_trigger(how, table="workos_event", when=IS_SECOND, at_commit=at_commit):
        report = live(an_event(1), said, an_event(3, workos_id="org_3"))

    conflict = WorkOSConflict.objects.get()
    assert ledger() == {an_event_id(1): "created", an_event_id(3): "created"}
    assert +report.counts == {Outcome.CREATED: 2, Outcome.PARKED: 1}
    assert (conflict.workos_organization_id, conflict.kind) == ("org_2", "ledger_refused")
    assert "event_0002 is not applied: " in conflict.reason
    assert how == LEAVES_OUT or REFUSED in conflict.reason
    assert conflict.reason in caplog.text
    assert position() == Position(an_event_id(3), NOON)


@whenever
def test_an_event_that_can_be_noted_nowhere_is_logged(at_commit: bool, caplog: LogCapture) -> None:
    secret = RAISES.replace(";", " USING DETAIL = 'Secret';")

    with (
        a_trigger(secret, table="workos_event", when=IS_SECOND, at_commit=at_commit),
        a_constraint("workos_organization_id <> 'org_2'", table="workos_conflict"),
    ):
        report = live(*events(3))

    log_parked(DrainReport(changes=report.changes))
    assert ledger() == {an_event_id(1): "created", an_event_id(3): "created"}
    assert +report.counts == {Outcome.CREATED: 2, Outcome.PARKED: 1}
    assert position() == Position(an_event_id(3), NOON)
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.getMessage() == (
        f"parked event_0002: event_0002 is not applied: {REFUSED}; the ledger refuses it: {REFUSED}"
        "; no conflict can be stored: PostgreSQL 23514: "
        'new row for relation "workos_conflict" violates check constraint "theirs"'
    )


@whenever
def test_no_event_is_passed_over_while_nothing_can_be_noted(at_commit: bool) -> None:
    with (
        a_trigger(RAISES, table="workos_event", at_commit=at_commit),
        a_constraint("false", table="workos_conflict"),
        pytest.raises(WritesRefused, match="theirs"),
    ):
        live(*events(1))

    assert position() == Position()


# Item by item -------------------------------------------------------------------------------


def test_a_unique_violation_that_lasts_is_parked_after_a_bounded_number_of_attempts() -> None:
    body = "PERFORM nextval('attempts'); RAISE unique_violation;"

    with a_trigger(body, when="NEW.workos_id = 'org_1'"):
        live(*events(2))

        assert attempts() == 10, "five times in its page, five times alone"
    assert list(parked()) == [an_event_id(1)]


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
def test_what_passes_is_never_parked_and_lets_through_what_stands_before_it(code: str) -> None:
    is_second = "NEW.workos_id = 'org_2'"

    with a_trigger(f"RAISE SQLSTATE '{code}';", when=is_second):
        report = live(*events(3))
        with pytest.raises(OperationalError):
            live(*events(2, first=2))
        compared = compare(an_organization("org_2"), an_organization("org_3"))

    assert isinstance(report.interrupted_by, OperationalError)
    assert report.requested_write_backs
    assert ledger() == {an_event_id(1): "created"}
    assert position() == Position(an_event_id(1), NOON)
    assert SyncCursor.objects.get().drained_at is None, "the page was not applied to its end"
    assert (compared.locked, compared.counts[Outcome.CREATED]) == (["org_2"], 1)


def test_an_item_is_not_parked_in_a_page_that_another_process_has_applied(before: Around) -> None:
    ensure_cursor()
    moved = {"last_event_id": an_event_id(9)}
    before(applying, "describe", lambda _: SyncCursor.objects.update(**moved))

    with a_trigger(RAISES):
        report = live(*events(1))

    assert (report.dropped, parked()) == (True, {})
    assert position().last_event_id == an_event_id(9)


def test_item_by_item_ends_where_the_page_does() -> None:
    """Also if its last event has no id, and so no place of its own."""
    page = a_page(*events(1, name="Bad"), an_unreadable_event(2))
    beyond = Position("event_0007", NOON)

    with a_trigger(RAISES, when="NEW.name = 'Bad'"):
        apply_page(replace(page, position=beyond))

    assert position() == beyond
    assert SyncCursor.objects.get().drained_at is not None


@pytest.mark.parametrize("code", ["08006", "53100", "58030", "25006", "57P01", "57P03"])
def test_what_is_the_environments_parks_nothing_and_moves_nothing(code: str) -> None:
    ensure_cursor()

    with a_trigger(f"PERFORM nextval('attempts'); RAISE SQLSTATE '{code}';"):
        with pytest.raises(DatabaseError):
            live(*events(2))
        with pytest.raises(DatabaseError):
            compare(an_organization(), an_organization("org_2"))

        assert attempts() == 2, "it is not looked for in each item"
    assert ledger() == {}
    assert position() == Position()


COLUMNS = [
    *(("organization_metadata", "workos_updated_at"), ("workos_event", "payload")),
    ("workos_sync_cursor", "failures"),
]
GRANTS = ("INSERT ON organization_metadata", "ALL ON workos_event")


@pytest.mark.parametrize(
    ("missing", "mode", "said"),
    [
        *((partial(renamed, *column), Mode.LIVE, column[1]) for column in COLUMNS),
        *(
            (partial(as_a_limited_user, "USING (true)", grant), mode, "permission denied")
            for grant, mode in product(GRANTS, [Mode.LIVE, Mode.RECONCILE])
        ),
    ],
)
def test_a_missing_column_or_grant_of_ours_parks_nothing_and_moves_nothing(
    missing: Callable[[], AbstractContextManager[None]], mode: Mode, said: str
) -> None:
    ensure_cursor()
    batch = Batch(observations=[an_organization()] if mode is Mode.RECONCILE else events(2))

    with missing(), pytest.raises(DatabaseError, match=said):
        apply(batch, mode)

    assert (ledger(), position()) == ({}, Position())
    assert not Organization.objects.exists()


# Everything is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "noted"),
    [("organization_metadata", WorkOSEvent.objects), ("workos_event", WorkOSConflict.objects)],
)
def test_ten_refusals_in_a_row_are_the_environments(table: str, noted: Manager[Any]) -> None:
    # A time in the future accepts no item.
    ahead = datetime.now(UTC) + timedelta(days=30)
    WorkOSEvent.objects.create(id="ahead", outcome=Outcome.CREATED, processed_at=ahead)

    with a_required_column(table):
        report = live(*events(22))
        with pytest.raises(WritesRefused, match=r'PostgreSQL 23502: .* column "billing_email"'):
            live(*events(13, first=10))

    assert isinstance(report.interrupted_by, WritesRefused)
    assert noted.exclude(pk="ahead").count() == 9
    assert position() == Position(an_event_id(9), NOON)

    live(*events(13, first=10))

    assert Organization.objects.count() == 13
    with a_trigger(RAISES, when="NEW.name = 'Bad'"):
        live(*events(1, first=30, name="Bad"))
    assert an_event_id(30) in parked(), "an accepted item says who is at fault"


BY_NAME = "CASE NEW.name WHEN 'Bad' THEN 'P0001' ELSE '22000' END"


@pytest.mark.parametrize("between", [[*events(1, first=10)], []], ids=["accepted", "another code"])
def test_other_items_and_other_codes_show_who_is_at_fault(between: list[Observation]) -> None:
    second = "Bad" if between else "Odd"
    page = [*events(9, name="Bad"), *between, *events(9, first=11, name=second)]

    with a_trigger(f"RAISE EXCEPTION 'no' USING ERRCODE = {BY_NAME};", when="NEW.name <> 'Acme'"):
        report = live(*page)

    assert report.interrupted_by is None
    assert len(parked()) == 18


def test_items_of_one_object_are_no_ten_objects_and_hide_none() -> None:
    with a_trigger(RAISES):
        live(*(an_event(n, workos_id="org_1") for n in range(12)))
        assert len(parked()) == 12

        pairs = [an_event(n, workos_id=f"org_{n // 2}") for n in range(24, 60)]
        report = live(*pairs)

    assert isinstance(report.interrupted_by, WritesRefused)
    assert len({event.workos_organization_id for event in WorkOSEvent.objects.all()}) == 9


def test_events_that_write_no_row_do_not_count() -> None:
    """They are recorded, whatever happens to the rows."""
    numbers = range(1, 12)
    pairs = [(*events(1, first=n), a_deletion(n + 50, workos_id="x")) for n in numbers]

    with a_trigger(RAISES):
        report = live(*chain(*pairs))

    assert isinstance(report.interrupted_by, WritesRefused)
    assert len(parked()) == 9


def test_a_ledger_that_takes_another_event_says_that_the_others_are_at_fault() -> None:
    refused = "NEW.workos_organization_id <> 'org_10'"

    with a_trigger(RAISES, table="workos_event", when=refused):
        report = live(*events(19))

    assert report.interrupted_by is None
    assert WorkOSConflict.objects.count() == 18
