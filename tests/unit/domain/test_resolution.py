"""The rules of organizations: resolution flow, freshness guard, conflicts, and what is planned."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeAlias

import pytest

from orgs.domain.naming import derived_id
from orgs.domain.resolution import Resolution, changes_of, is_left_to_event
from orgs.domain.types import (
    EMPTY_PLAN,
    Conflict,
    ConflictKind,
    Decision,
    Known,
    Observation,
    Outcome,
    PendingWriteBack,
    Plan,
    Row,
    State,
)
from tests.builders import (
    NOON,
    a_deletion,
    a_row,
    an_absence,
    an_event,
    an_event_id,
    an_organization,
    an_unreadable_event,
    minutes,
)

Stored: TypeAlias = dict[str, Any]

LATER = NOON + minutes(1)
DERIVED = derived_id("org_1")

linked = a_row(workos_id="org_1")
unlinked, other = a_row(), a_row("gram-2")
elsewhere = a_row(workos_id="org_2")
derived = a_row(DERIVED)
derived_elsewhere = a_row(DERIVED, workos_id="org_2")
derived_deleted = derived_elsewhere._replace(disabled=True, deleted=True)
disabled_here = linked._replace(disabled=True)
deleted = linked._replace(disabled=True, deleted=True)
as_old = linked._replace(workos_updated_at=NOON)
newer = linked._replace(workos_updated_at=LATER)
newer_elsewhere = newer._replace(workos_id="org_2")
enabled_here = deleted._replace(disabled=False)

event = an_event()
renaming = an_event(name="New")
with_our_id = an_event(external_id="gram-1")
with_other_id = an_event(external_id="gram-2")
ours_later = an_event(2, external_id="gram-1")
deletion = a_deletion()
ignored = event._replace(state=State.IGNORED)

shown = an_organization()
shown_as_ours = an_organization(external_id="gram-1")
shown_renamed = an_organization(name="New", external_id="gram-1")
shown_as_other = an_organization(name="New", external_id="gram-2")
shown_other_id = an_organization(external_id="gram-2")
unreadable = Observation(workos_id="org_1", state=State.UNREADABLE, error="no name")
absence = an_absence()
shown_later = an_organization(name="New", updated_at=LATER)

taken_over = {"taken_over": {"gram-1"}}
absent = {"absent": {"org_2"}}
has_deletion = {"deletions": {"org_1": an_event_id(1)}, "absent": {"org_2"}}
untried = PendingWriteBack("org_1", waits_for_person=False)
refused = PendingWriteBack("org_1", waits_for_person=True, error="it is taken")
refused_before = PendingWriteBack("org_2", waits_for_person=True)


def decide(
    rows: Iterable[Row], *observations: Observation, **known: Any
) -> tuple[list[Decision], Plan]:
    resolution = Resolution(Known(rows=tuple(rows), **known))
    decisions = [resolution.decide(observation) for observation in observations]
    for observation, decision in zip(observations, decisions, strict=True):
        require_consistent(decision, observation)
    return decisions, resolution.plan()


def require_consistent(decision: Decision, observation: Observation) -> None:
    """What is true of every decision."""
    before, after = decision.before, decision.after
    assert decision.observation is observation
    match decision.outcome:
        case Outcome.STALE | Outcome.CONFLICT | Outcome.PARKED:
            assert before is after
        case Outcome.CREATED:
            assert before is None
            assert after is not None
        case Outcome.UNKNOWN | Outcome.IGNORED:
            assert before is after is None
        case _:
            assert before is not None
            assert after is not None
            assert before.id == after.id


def named(observation: Observation, id_: str) -> Observation:
    assert observation.event is not None
    return observation._replace(event=observation.event._replace(id=id_))


def writes_no_row(plan: Plan) -> bool:
    return not (plan.updated or plan.disabled or plan.created or plan.write_backs)


# Events -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said", "outcome", "row_id"),
    [
        pytest.param([linked], event, "updated", "gram-1", id="1, linked"),
        pytest.param([linked, other], with_other_id, "updated", "gram-1", id="1, its id stays"),
        pytest.param([linked, derived], event, "updated", "gram-1", id="1, before the derived id"),
        pytest.param([unlinked], with_our_id, "linked", "gram-1", id="2, unlinked"),
        pytest.param([elsewhere], with_our_id, "relinked", "gram-1", id="2, linked elsewhere"),
        pytest.param([derived], with_other_id, "created", "gram-2", id="2, no row"),
        pytest.param([derived], event, "linked", DERIVED, id="3, unlinked"),
        pytest.param([derived_elsewhere], event, "parked", DERIVED, id="3, linked elsewhere"),
        pytest.param([derived_deleted], event, "parked", DERIVED, id="3, linked to a deleted one"),
        pytest.param([], event, "created", DERIVED, id="3, no row"),
        pytest.param([linked], deletion, "disabled", "gram-1", id="deleted"),
        pytest.param([disabled_here], deletion, "disabled", "gram-1", id="deleted, disabled here"),
        pytest.param([derived], deletion, "unknown", None, id="deleted, not linked"),
        pytest.param([linked], an_unreadable_event(), "parked", None, id="unreadable"),
        pytest.param([linked], ignored, "ignored", None, id="not followed"),
    ],
)
def test_an_event_becomes(rows: list[Row], said: Observation, outcome: str, row_id: Any) -> None:
    (decision,), plan = decide(rows, said)

    assert (decision.outcome, decision.organization_id) == (outcome, row_id)
    assert writes_no_row(plan) is (outcome in ("parked", "ignored", "unknown"))


def written(event_id: str | None, at: datetime | None = None, row: Row = linked) -> Row:
    return row._replace(workos_last_event_id=event_id, workos_updated_at=at)


@pytest.mark.parametrize(
    ("row", "said", "fresh"),
    [
        pytest.param(written("event_0001", LATER), an_event(2), True, id="greater id, older"),
        pytest.param(written("event_0002", NOON), an_event(2, updated_at=LATER), False, id="same"),
        pytest.param(written("event_Z"), named(event, "event_a"), True, id="bytewise"),
        pytest.param(written(None), event, True, id="neither id nor time"),
        pytest.param(written(None, NOON), event, True, id="no id, same time"),
        pytest.param(written(None, LATER), event, False, id="no id, older"),
        pytest.param(written(None, LATER), deletion, True, id="no id, deletion: never by time"),
        pytest.param(written("event_0002"), deletion, False, id="older deletion"),
        pytest.param(written("event_0005", row=elsewhere), with_our_id, False, id="linked later"),
    ],
)
def test_freshness(row: Row, said: Observation, fresh: bool) -> None:
    (decision,), plan = decide([row], said)

    assert (decision.outcome is not Outcome.STALE) is fresh
    assert (plan == EMPTY_PLAN) is not fresh


@pytest.mark.parametrize("rows", [[], [unlinked], [elsewhere]])
def test_a_change_older_than_the_deletion_is_stale_wherever_it_is_listed(rows: list[Row]) -> None:
    in_one_page, plan = decide(rows, a_deletion(2), with_our_id)
    known = {"org_1": an_event_id(2)}
    later, later_plan = decide(rows, a_deletion(0), with_our_id, deletions=known)

    outcomes = [decision.outcome for decision in (*in_one_page, *later)]
    assert outcomes == [Outcome.UNKNOWN, Outcome.STALE] * 2, "the later of two deletions counts"
    assert plan == later_plan == EMPTY_PLAN


def test_an_update_writes_what_workos_owns_and_a_deletion_keeps_that() -> None:
    _, renamed = decide([disabled_here], an_event(7, name="New"))
    _, removed = decide([as_old], a_deletion(7))
    _, late = decide([as_old], a_deletion(1), an_event(2, name="Ghost"))

    by_seventh = as_old._replace(disabled=True, workos_last_event_id=an_event_id(7))
    assert renamed.updated == (by_seventh._replace(name="New"),)
    gone = by_seventh._replace(deleted=True)
    assert (removed.updated, removed.disabled) == ((), (gone,))
    # No update enables the row again.
    assert late.disabled == (gone._replace(name="Ghost", workos_last_event_id=an_event_id(2)),)


@pytest.mark.parametrize(
    ("said", "known", "is_undeleted"),
    [
        pytest.param(an_event(2), {}, True, id="event after a 404"),
        pytest.param(shown_as_ours, {}, True, id="object after a 404"),
        pytest.param(an_event(2), has_deletion, False, id="event after a deletion event"),
        pytest.param(shown_as_ours, has_deletion, False, id="object after a deletion event"),
    ],
)
def test_a_404_can_be_proved_wrong(said: Observation, known: Stored, is_undeleted: bool) -> None:
    (decision,), plan = decide([deleted], said, **known)

    assert plan.undeleted == (("gram-1",) if is_undeleted else ())
    assert decision.is_disabled_here is is_undeleted, "it is not enabled again"


def test_an_event_that_raises_is_parked_alone_and_changes_nothing() -> None:
    rows = [linked, a_row("gram-2", workos_id="org_2", workos_updated_at=NOON)]
    bad = an_event(2, workos_id="org_2", updated_at=NOON.replace(tzinfo=None))

    decisions, plan = decide(rows, an_event(1), bad, an_event(3))

    assert [d.outcome for d in decisions] == [Outcome.UPDATED, Outcome.PARKED, Outcome.UPDATED]
    assert decisions[1].reason.startswith("TypeError: ")
    assert [row.id for row in plan.updated] == ["gram-1"]
    with pytest.raises(TypeError):
        decide(rows, bad._replace(event=None))


# Objects and absences -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said", "known", "outcome"),
    [
        pytest.param([linked], shown, {}, "unchanged", id="nothing differs"),
        pytest.param([derived], shown, {}, "linked", id="no link"),
        pytest.param([newer], shown_as_other, {}, "stale", id="older than the row"),
        pytest.param([as_old], shown_renamed, {}, "updated", id="as old as the row"),
        pytest.param([elsewhere], shown_as_ours, {}, "conflict", id="row claimed"),
        pytest.param([newer_elsewhere], shown_as_ours, absent, "relinked", id="old owner absent"),
        pytest.param([linked], shown_renamed, has_deletion, "updated", id="there after a deletion"),
        pytest.param([deleted], shown_renamed, has_deletion, "stale", id="deletion known, linked"),
        pytest.param([unlinked], shown_as_ours, has_deletion, "stale", id="deletion, no link"),
        pytest.param([as_old], shown_later, {"recent_after": NOON}, "unchanged", id="in flight"),
        pytest.param([], unreadable, {}, "conflict", id="unreadable"),
        pytest.param([disabled_here], absence, {}, "unchanged", id="absent, disabled here"),
        pytest.param([deleted], absence, {}, "unchanged", id="absent, known to be deleted"),
        pytest.param([enabled_here], absence, {}, "disabled", id="absent, enabled here"),
        pytest.param([elsewhere], absence, {}, "unknown", id="absent, not linked"),
        pytest.param([linked], absence, taken_over, "unchanged", id="absent, taken over"),
    ],
)
def test_an_object_becomes(rows: list[Row], said: Observation, known: Any, outcome: str) -> None:
    (decision,), plan = decide(rows, said, **known)

    assert decision.outcome == outcome
    if outcome in ("conflict", "stale", "unknown") or {"recent_after", "taken_over"} & known.keys():
        assert writes_no_row(plan)


def test_an_object_clears_the_event_id_if_it_changes_something_and_only_then() -> None:
    row = as_old._replace(workos_last_event_id=an_event_id(5))

    _, changing = decide([row], shown_later)
    _, inserting = decide([], shown_later)
    _, same = decide([row], shown_as_ours, pending={})

    for after in (changing.updated[0], inserting.created[0].row):
        assert (after.workos_last_event_id, after.workos_updated_at) == (None, LATER)
    assert same == EMPTY_PLAN


@pytest.mark.parametrize(
    ("row", "age", "in_flight"),
    [
        pytest.param(None, -1, True, id="no row"),
        pytest.param(None, 0, False, id="no row, not recent"),
        pytest.param(None, -60 * 25, False, id="no row, of a wrong clock"),
        pytest.param(unlinked, -1, True, id="a row of another program"),
        pytest.param(as_old, -1, True, id="newer than its row"),
        pytest.param(newer, -1, False, id="as old as its row"),
        pytest.param(as_old, 1, False, id="older, and not recent"),
    ],
)
def test_what_is_recent_is_in_flight(row: Row | None, age: float, in_flight: bool) -> None:
    known = row.workos_updated_at if row else None

    assert is_left_to_event(known, NOON - minutes(age), NOON) is in_flight


@pytest.mark.parametrize("row", [linked, disabled_here, deleted])
def test_an_absence_notes_the_deletion_once_and_withdraws_the_write_back(row: Row) -> None:
    _, plan = decide([row], absence, pending={"gram-1": refused})

    assert plan.disabled == (() if row == deleted else (deleted,))
    assert plan.withdrawn_write_backs == ("gram-1",)


# Write-backs and conflicts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said", "pending", "expected"),
    [
        pytest.param(linked, [event], None, "requested", id="no external_id"),
        pytest.param(linked, [with_our_id], None, "withdrawn", id="our id"),
        pytest.param(linked, [event, ours_later], None, "withdrawn", id="our id later"),
        pytest.param(linked, [with_our_id, an_event(2)], None, "requested", id="cleared later"),
        pytest.param(linked, [event, a_deletion(2)], None, "withdrawn", id="deleted later"),
        pytest.param(linked, [shown], {}, "requested", id="object, no external_id"),
        pytest.param(linked, [shown_as_ours], {}, "", id="object, nothing pending"),
        pytest.param(linked, [shown_as_ours], {"gram-1": untried}, "withdrawn", id="not needed"),
        pytest.param(linked, [shown], {"gram-1": refused}, "", id="waits for a person"),
        pytest.param(linked, [shown], {"gram-1": refused_before}, "requested", id="old link's"),
    ],
)
def test_write_backs(row: Row, said: list[Observation], pending: Any, expected: str) -> None:
    _, plan = decide([row], *said, pending=pending)

    assert plan.write_backs == ({"gram-1": "org_1"} if expected == "requested" else {})
    assert plan.withdrawn_write_backs == (("gram-1",) if expected == "withdrawn" else ())


TWO_CLAIM = f"org_1 resolves to {DERIVED}, which is linked to org_2"
OTHER_ID = "WorkOS has external_id 'gram-2' for org_1, which is linked to gram-1"


def test_every_path_finds_a_conflict_in_the_same_words() -> None:
    """Otherwise what a person has acknowledged would be a new one by the next path."""
    claimed = Conflict("org_1", DERIVED, ConflictKind.ROW_CLAIMED, TWO_CLAIM)
    other_id = Conflict("org_1", "gram-1", ConflictKind.OTHER_EXTERNAL_ID, OTHER_ID)
    taken = Conflict("org_1", "gram-1", ConflictKind.WRITE_BACK_REFUSED, "it is taken")

    for row, said, pending, conflict in (
        (derived_elsewhere, event, None, claimed),
        (derived_elsewhere, shown, {}, claimed),
        (linked, with_other_id, None, other_id),
        (linked, shown_as_other, {"gram-1": refused}, other_id),
        (linked, shown, {"gram-1": refused}, taken),
    ):
        (decision,), plan = decide([row], said, pending=pending)
        assert decision.conflict == conflict
        assert plan.conflicts == (conflict,)


@pytest.mark.parametrize(
    ("said", "reasons", "is_solved"),
    [
        pytest.param([unreadable], ["no name"], False, id="unreadable"),
        pytest.param([event], [], False, id="a write-back is requested: not solved yet"),
        pytest.param([shown_as_ours], [], True, id="object with our id"),
        pytest.param([deletion], [], True, id="deleted"),
        pytest.param([absence], [], True, id="absent"),
        pytest.param([with_other_id, a_deletion(2)], [], True, id="found, deleted"),
        pytest.param([with_our_id, shown_as_other], [OTHER_ID], False, id="solved, found"),
    ],
)
def test_a_conflict_is_stored_while_it_lasts_and_removed_when_it_is_solved(
    said: list[Observation], reasons: list[str], is_solved: bool
) -> None:
    _, plan = decide([linked], *said, conflicts={"org_1", "org_2"})
    _, none_stored = decide([linked], *said)

    assert [conflict.reason for conflict in plan.conflicts] == reasons
    assert plan.solved == (("org_1",) if is_solved else ())
    assert none_stored.solved == ()


# Reports ------------------------------------------------------------------------------------

NAME, LINK = {"name": ("Acme", "New")}, {"workos_id": (None, "org_1")}
HERE = "it is disabled here, and exists in WorkOS"
ASKED = {"external_id": (None, "gram-1")}
INSERTED = {"name": (None, "Acme"), **LINK, "external_id": (None, DERIVED)}
MOVED = {"workos_id": ("org_2", "org_1")}


@pytest.mark.parametrize(
    ("rows", "said", "known", "changes"),
    [
        pytest.param([], shown, {}, [("created", INSERTED)], id="created, and its write-back"),
        pytest.param([unlinked], shown_as_ours, {}, [("linked", LINK)], id="linked"),
        pytest.param([elsewhere], shown_as_ours, absent, [("relinked", MOVED)], id="relinked"),
        pytest.param([linked], shown_renamed, {}, [("updated", NAME)], id="updated"),
        pytest.param([linked], shown, {}, [("write_back", ASKED)], id="the write-back alone"),
        pytest.param([linked], shown_later, {}, [("updated", NAME | ASKED)], id="one change a row"),
        pytest.param([linked], shown_as_other, {}, [("updated", NAME), ("conflict", OTHER_ID)]),
        pytest.param([disabled_here], shown_as_ours, {}, [("disabled_here", HERE)], id="here"),
        pytest.param([disabled_here], shown_other_id, {}, [("conflict", OTHER_ID)], id="conflict"),
        pytest.param([linked], absence, {}, [("disabled", {"disabled_at": (None, "now")})]),
        pytest.param([], an_unreadable_event(error="no"), {}, [("parked", "no")], id="parked"),
        pytest.param([linked], shown_as_ours, {}, [], id="unchanged"),
        pytest.param([deleted], absence, {}, [], id="absent, known to be deleted"),
        pytest.param([newer], shown_renamed, {}, [], id="stale"),
    ],
)
def test_changes(rows: list[Row], said: Observation, known: Stored, changes: Any) -> None:
    (decision,), _ = decide(rows, said, **known)

    assert [(c.change, c.reason or c.fields) for c in changes_of(decision)] == changes
    ids = (decision.organization_id, said.workos_id, said.event and said.event.id)
    assert all((c.organization_id, c.workos_id, c.event_id) == ids for c in changes_of(decision))


@pytest.mark.parametrize(
    ("row", "said", "outcomes"),
    [
        pytest.param(linked, [event], [], id="an echo"),
        pytest.param(linked, [renaming], ["updated"], id="a name"),
        pytest.param(unlinked, [with_our_id], ["updated"], id="first link"),
        pytest.param(elsewhere, [with_our_id, renaming], ["relinked"], id="stale renaming"),
        pytest.param(elsewhere, [with_our_id, an_event(2, name="New")], ["relinked", "updated"]),
        pytest.param(linked, [deletion], ["disabled"], id="a deletion"),
        pytest.param(disabled_here, [deletion], [], id="a deletion, disabled here"),
        pytest.param(derived, [with_our_id, a_deletion(3)], ["created", "disabled"], id="a life"),
    ],
)
def test_signals_report_a_row_once(row: Row, said: list[Observation], outcomes: list[str]) -> None:
    _, plan = decide([row], *said)

    reported = [(outcome, row.id, row.workos_id) for outcome, row in plan.changes]
    assert reported == [(outcome, "gram-1", "org_1") for outcome in outcomes]


# Plans --------------------------------------------------------------------------------------


def test_a_plan_has_one_write_a_row_in_id_order_and_creations_in_theirs() -> None:
    rows = [a_row(f"gram-{n}", workos_id=f"org_{n}") for n in range(5)]
    events = [an_event(n, workos_id=f"org_{n % 7}", name=f"Name {n}") for n in range(1, 42)]

    _, plan = decide(reversed(rows), *events)

    assert [row.id for row in plan.updated] == [f"gram-{n}" for n in range(5)]
    created = [(c.workos_id, c.name, c.row.name) for c in plan.created]
    assert created == [("org_5", "Name 5", "Name 40"), ("org_6", "Name 6", "Name 41")]


def test_links_that_move_within_a_page_are_cleared_first() -> None:
    moves = {"org_3": "gram-1", "org_1": "gram-2", "org_2": "gram-3"}
    events = [an_event(workos_id=org, external_id=id_) for org, id_ in moves.items()]

    _, plan = decide([linked, other._replace(workos_id="org_2")], *events)

    assert plan.unlinked == ("gram-1", "gram-2")
    assert [row.workos_id for row in plan.updated] == ["org_3", "org_1"]
