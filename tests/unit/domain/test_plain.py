"""The rules of the resources beside organizations: freshness, tombstones, orphans, lists."""

from datetime import datetime
from typing import Any, TypeAlias

import pytest

from orgs.domain.plain import PlainResolution
from orgs.domain.resolution import changes_of
from orgs.domain.resources import (
    DIRECTORY,
    DIRECTORY_GROUP_MEMBER,
    DIRECTORY_USER,
    INVITATION,
    MEMBERSHIP,
    PLAIN,
    ROLE,
    USER,
    Resource,
)
from orgs.domain.types import Decision, Observation, Outcome, PlainFields, PlainRow, State
from tests.builders import NOON, an_event_id, in_stream, minutes

Row: TypeAlias = PlainRow | None

KEY = "key_1"
EARLIER, LATER, NOW = NOON - minutes(1), NOON + minutes(1), NOON + minutes(60)
FUTURE = NOW + minutes(1)
ROW = PlainRow(key=KEY, updated_at=NOON, synced_at=NOON, columns={"name": "Old"})
BY_EVENT = ROW._replace(last_event_id=an_event_id(5))
DELETED = BY_EVENT._replace(deleted_at=NOON)
ABSENT = ROW._replace(deleted_at=NOON)
#: Only the first is judged by its ``updated_at``, and its keys never come back.
ORDERED, UNORDERED = DIRECTORY, ROLE


def shown(
    resource: Resource = ORDERED, *, at: datetime | None = NOON, key: str = KEY, **columns: Any
) -> Observation:
    """An object as a list or a fetch shows it."""
    owner = columns.pop("organization_id", None)
    fields = PlainFields(owner, None, at, columns, dict(columns))
    return Observation(workos_id=key, state=State.PRESENT, resource=resource.name, plain=fields)


def changed(number: int, resource: Resource = ORDERED, **values: Any) -> Observation:
    return in_stream(shown(resource, **values), number, "changed")


def deleted(number: int, resource: Resource = ORDERED, **values: Any) -> Observation:
    observation = in_stream(shown(resource, **values), number, "deleted")
    return observation._replace(state=State.ABSENT)


def missing(resource: Resource = ORDERED, key: str = KEY) -> Observation:
    return Observation(workos_id=key, state=State.ABSENT, resource=resource.name)


def resolution(
    *rows: PlainRow,
    resource: Resource = ORDERED,
    parents: dict[tuple[str, str], bool] | None = None,
    **known: Any,
) -> PlainResolution:
    known = {"now": NOW, "read_began_at": NOW, "overwrite_before": NOW, **known}
    deleted_parents = {} if parents is None else parents
    return PlainResolution(resource=resource, loaded=rows, deleted_parents=deleted_parents, **known)


def decide(row: Row, observation: Observation, **known: Any) -> Decision:
    resource = PLAIN[observation.resource]
    resolved = resolution(*([row] if row else []), resource=resource, **known)
    decision = resolved.decide(observation)
    assert decision.observation is observation
    if decision.outcome not in (Outcome.PARKED, Outcome.FAILED):
        assert decision.plain == resolved.rows.get(KEY)
        require_consistent(row, decision, resource)
    return decision


def require_consistent(row: Row, decision: Decision, resource: Resource) -> None:
    """What is true of every decision."""
    now = decision.plain
    if decision.outcome in (Outcome.STALE, Outcome.UNCHANGED, Outcome.UNKNOWN):
        assert now == row
        return
    assert now is not None
    assert (now.deleted_at is not None) == (decision.outcome is Outcome.DELETED)
    if decision.observation.event is None:
        # A list takes the event's id away, if times can tell which events it overtook.
        assert now.last_event_id == (row.last_event_id if row and not resource.has_order else None)


def after(row: Row, observation: Observation, **known: Any) -> PlainRow:
    now = decide(row, observation, **known).plain
    assert now is not None
    return now


# Freshness, tombstones, lists ---------------------------------------------------------------

ABSENT_BEFORE = ABSENT._replace(deleted_at=EARLIER)
MARKED = DELETED._replace(deleted_at=EARLIER, is_marked=True)
JUST_WRITTEN = BY_EVENT._replace(synced_at=NOW)


@pytest.mark.parametrize(
    ("row", "observation", "outcome"),
    [
        # Events
        pytest.param(None, changed(1), "created", id="unknown"),
        pytest.param(BY_EVENT, changed(6, at=EARLIER), "updated", id="time is not asked"),
        pytest.param(BY_EVENT, changed(5), "stale", id="the same event"),
        pytest.param(ROW, changed(1), "updated", id="listed, same time"),
        pytest.param(ROW, changed(9, at=EARLIER), "stale", id="listed, older"),
        pytest.param(ROW, changed(1, at=None), "updated", id="event without a time"),
        pytest.param(ROW._replace(updated_at=None), changed(1), "updated", id="row without a time"),
        pytest.param(ROW, deleted(1, at=EARLIER), "deleted", id="deletion, older"),
        pytest.param(BY_EVENT, deleted(6), "deleted", id="deletion by a greater id"),
        pytest.param(BY_EVENT, deleted(4), "deleted", id="deletion by a smaller id"),
        pytest.param(BY_EVENT, deleted(4, ROLE), "stale", id="an old deletion of a role"),
        pytest.param(None, deleted(1), "deleted", id="deletion of an unknown id"),
        # Tombstones
        pytest.param(DELETED, changed(9), "stale", id="an event's tombstone is final"),
        pytest.param(DELETED, shown(at=NOW), "stale", id="an event's is final for lists too"),
        pytest.param(DELETED, deleted(9), "deleted", id="deleted again"),
        pytest.param(MARKED, changed(6), "stale", id="not an event's, by an event"),
        pytest.param(MARKED, shown(at=NOW), "updated", id="not an event's, by a list"),
        pytest.param(ABSENT, changed(1, at=LATER), "updated", id="an absence is lifted"),
        pytest.param(ABSENT, changed(1), "stale", id="an absence, by what was here before"),
        pytest.param(ABSENT, changed(1, ROLE), "stale", id="without order, by its time"),
        pytest.param(ABSENT_BEFORE, changed(1, ROLE), "updated", id="by its later time"),
        pytest.param(DELETED, changed(9, ROLE), "updated", id="a key comes back"),
        pytest.param(DELETED, changed(4, ROLE), "stale", id="a key, not by an old event"),
        pytest.param(DELETED, shown(ROLE), "updated", id="a key is listed again"),
        pytest.param(DELETED, missing(), "unchanged", id="missing as well"),
        pytest.param(None, missing(), "unknown", id="missing and unknown"),
        # Lists
        pytest.param(None, shown(name="New"), "created", id="listed, unknown"),
        pytest.param(BY_EVENT, shown(name="New"), "updated", id="differs"),
        pytest.param(BY_EVENT, shown(at=NOW), "unchanged", id="differs only in time"),
        pytest.param(BY_EVENT, shown(name="New", at=EARLIER), "stale", id="an older list"),
        pytest.param(BY_EVENT, shown(name="New", at=None), "updated", id="list without a time"),
        pytest.param(ROW, shown(), "unchanged", id="absent fields differ in nothing"),
        pytest.param(ROW, shown(name=None), "updated", id="null differs"),
        pytest.param(ROW, shown(organization_id="org_1"), "updated", id="its organization differs"),
        pytest.param(BY_EVENT, missing(), "deleted", id="missing"),
        # Lists without order leave what was just written
        pytest.param(BY_EVENT, shown(ROLE, name="New"), "updated", id="written before the window"),
        pytest.param(JUST_WRITTEN, shown(ROLE, name="New"), "stale", id="at its beginning"),
        pytest.param(BY_EVENT, missing(ROLE), "deleted", id="missing, written before the window"),
        pytest.param(JUST_WRITTEN, missing(ROLE), "stale", id="missing, at its beginning"),
    ],
)
def test_what_is_fresh_is_applied(row: Row, observation: Observation, outcome: str) -> None:
    assert decide(row, observation).outcome == outcome


def test_the_first_deletion_dates_the_tombstone() -> None:
    first = after(ROW, deleted(1))
    again = after(first._replace(deleted_at=NOON), deleted(2))

    assert first.deleted_at == NOW
    assert (again.deleted_at, again.last_event_id) == (NOON, an_event_id(2))


@pytest.mark.parametrize("resource", [ORDERED, UNORDERED], ids=lambda one: one.name)
def test_a_list_lifts_an_absence_if_it_was_read_afterwards(resource: Resource) -> None:
    outcomes = [
        decide(ABSENT, shown(resource), read_began_at=began_at).outcome
        for began_at in (LATER, NOON, EARLIER, None)
    ]

    assert outcomes == ["updated", "stale", "stale", "stale"]


def test_what_comes_back_while_its_list_is_read_is_not_lost() -> None:
    absent = after(ROW, missing(ROLE), read_began_at=EARLIER)

    assert decide(absent, changed(1, ROLE)).outcome == "updated"


def test_what_is_in_flight_is_left_to_its_event() -> None:
    new, old, undated = (shown(name="New", at=at) for at in (LATER, NOON, None))
    rows = (
        (None, new),
        (ROW, new),
        (ROW._replace(updated_at=LATER), new),
        (None, old),
        (None, undated),
    )

    outcomes = [decide(row, seen, recent_after=NOON).outcome for row, seen in rows]

    assert outcomes == ["unchanged", "unchanged", "updated", "created", "created"]


def test_states_of_a_directory_have_two_spellings() -> None:
    same = [("active", "linked"), ("linked", "active"), ("inactive", "unlinked"), ("new", "new")]
    different = [("active", "unlinked"), ("deleting", "linked"), (None, "active")]

    assert not any(DIRECTORY.differs("state", *pair) for pair in same)
    assert all(DIRECTORY.differs("state", *pair) for pair in different)
    assert DIRECTORY.differs("name", "active", "linked"), "a name may be one of these words"


# What is written ----------------------------------------------------------------------------


def test_a_row_keeps_what_workos_does_not_say() -> None:
    columns = {"name": "Old", "state": "active"}
    row = ROW._replace(workos_organization_id="org_1", created_at=NOON, columns=columns)
    by_first = row._replace(last_event_id=an_event_id(1))

    # A field that is null says something, one that is absent does not.
    updated = by_first._replace(columns={"name": "Old", "state": None}, data={"state": None})
    assert after(row, changed(1, at=None, state=None)) == updated
    tombstone = by_first._replace(columns=columns | {"name": "Last"}, data={"name": "Last"})
    assert after(row, deleted(1, name="Last")) == tombstone._replace(deleted_at=NOW)
    assert after(by_first, missing()) == row._replace(deleted_at=NOW)


@pytest.mark.parametrize("observation", [changed(9, ROLE, slug="boss"), shown(ROLE, slug="boss")])
def test_what_comes_back_has_nothing_of_what_was_deleted(observation: Observation) -> None:
    row = DELETED._replace(columns={"slug": "boss", "description": "Old", "permissions": ["all"]})

    assert after(row, observation).columns == {"slug": "boss"}


@pytest.mark.parametrize(
    "resource", [USER, MEMBERSHIP, INVITATION, DIRECTORY_USER], ids=lambda r: r.name
)
def test_an_erased_row_takes_no_personal_data(resource: Resource) -> None:
    personal = dict.fromkeys(resource.personal, "secret")
    row = PlainRow(key=KEY, is_erased=True, columns=dict.fromkeys(resource.columns))

    now = after(row, changed(1, resource, state="active", status="active", **personal))

    assert (now.data, now.is_erased) == ({}, True)
    assert "secret" not in now.columns.values()
    assert "active" in now.columns.values()
    assert decide(row, shown(resource, at=NOW, **personal)).outcome is Outcome.UNCHANGED


def test_one_after_the_other_on_rows_in_memory() -> None:
    decides = resolution()

    outcomes = [decides.decide(o).outcome for o in (changed(1), changed(3), changed(2), deleted(4))]

    assert outcomes == [Outcome.CREATED, Outcome.UPDATED, Outcome.STALE, Outcome.DELETED]
    assert decides.changed.keys() == {KEY}
    assert decides.changed[KEY].last_event_id == an_event_id(4)


def test_both_organizations_are_touched_by_a_move() -> None:
    decides = resolution(ROW._replace(workos_organization_id="org_1"))

    decides.decide(changed(1, organization_id="org_2"))

    assert decides.touched_organizations == {"org_1", "org_2"}


def test_what_cannot_be_read_is_for_a_person() -> None:
    listed = shown()._replace(state=State.UNREADABLE, plain=None, error="why")

    for observation, outcome in ((listed, "failed"), (in_stream(listed, 1, "changed"), "parked")):
        decision = decide(ROW, observation)
        assert (decision.outcome, decision.reason) == (outcome, "why")


def test_an_event_that_raises_is_parked_and_changes_nothing() -> None:
    decides = resolution(ROW)
    bad = changed(1, at=NOON.replace(tzinfo=None))

    decision = decides.decide(bad)

    assert decision.outcome is Outcome.PARKED
    assert decision.reason.startswith("TypeError: ")
    assert not decides.changed
    with pytest.raises(TypeError):
        decides.decide(bad._replace(event=None))


@pytest.mark.parametrize(
    ("observation", "change"), [(shown(organization_id="org_1"), "created"), (missing(), "deleted")]
)
def test_a_change_says_what_it_is_about(observation: Observation, change: str) -> None:
    row = ROW._replace(workos_organization_id="org_1") if change == "deleted" else None

    (found,) = changes_of(decide(row, observation))

    about = (found.resource, found.workos_id, found.workos_organization_id, found.organization_id)
    assert (found.change, about) == (change, (ORDERED.name, KEY, "org_1", None))


# Children of what is deleted, or absent -----------------------------------------------------

DIRECTORY_1 = ("directory", "directory_1")
CHILD: dict[str, Any] = {"workos_directory_id": "directory_1"}
#: What a member of a group names, by the columns that do.
PARENTS = {
    "workos_directory_id": DIRECTORY_1,
    "workos_group_id": ("directory_group", "group_1"),
    "workos_directory_user_id": ("directory_user", "user_1"),
}


@pytest.mark.parametrize("parent", PARENTS.values(), ids=lambda one: one[0])
def test_what_belongs_to_something_deleted_is_deleted(parent: tuple[str, str]) -> None:
    columns: dict[str, Any] = {column: key for column, (_, key) in PARENTS.items()}
    late = changed(9, DIRECTORY_GROUP_MEMBER, **columns)
    listed = shown(DIRECTORY_GROUP_MEMBER, **columns)

    cases = ((None, late), (ROW, late), (DELETED, late), (None, listed))
    outcomes = [decide(row, seen, parents={parent: True}).outcome for row, seen in cases]

    assert outcomes == ["deleted", "deleted", "stale", "stale"]


@pytest.mark.parametrize("is_final", [True, False], ids=["deleted by an event", "absent"])
@pytest.mark.parametrize(
    ("row", "named"),
    [
        pytest.param(None, CHILD, id="new"),
        pytest.param(ROW, CHILD, id="listed"),
        pytest.param(BY_EVENT, CHILD, id="by an event"),
        pytest.param(ROW._replace(columns=CHILD), {}, id="its parent is not named again"),
    ],
)
def test_a_child_is_deleted_as_finally_as_its_parent(row: Row, named: Any, is_final: bool) -> None:
    decision = decide(row, changed(9, DIRECTORY_USER, **named), parents={DIRECTORY_1: is_final})

    assert decision.outcome is Outcome.DELETED
    assert decision.plain is not None
    assert decision.plain.is_deleted_by_event == is_final


def test_a_deletion_earlier_in_the_batch_counts_until_the_parent_is_back() -> None:
    parents: dict[tuple[str, str], bool] = {}

    def apply(resource: Resource, observation: Observation, *rows: PlainRow) -> Outcome:
        return resolution(*rows, resource=resource, parents=parents).decide(observation).outcome

    apply(DIRECTORY, deleted(1, key="directory_1"))
    assert parents == {DIRECTORY_1: True}
    late = changed(2, DIRECTORY_USER, **CHILD)
    assert apply(DIRECTORY_USER, late) is Outcome.DELETED
    apply(DIRECTORY, shown(key="directory_1"), ABSENT._replace(key="directory_1"))
    assert DIRECTORY_1 not in parents
    apply(DIRECTORY, missing(key="directory_1"), BY_EVENT._replace(key="directory_1"))
    assert parents[DIRECTORY_1] is False, "an absence is not final"


@pytest.mark.parametrize(
    ("observation", "outcome"),
    [
        pytest.param(shown(DIRECTORY_USER, **CHILD), "updated", id="a list that began later"),
        pytest.param(changed(10, DIRECTORY_USER, at=LATER, **CHILD), "updated", id="a later event"),
        pytest.param(changed(9, DIRECTORY_USER, **CHILD), "stale", id="the same event"),
        pytest.param(changed(8, DIRECTORY_USER, at=EARLIER, **CHILD), "stale", id="an older event"),
    ],
)
def test_what_lifts_it_once_the_parent_is_back(observation: Observation, outcome: str) -> None:
    row = after(None, changed(9, DIRECTORY_USER, **CHILD), parents={DIRECTORY_1: False})

    assert decide(row, observation, read_began_at=FUTURE).outcome == outcome
