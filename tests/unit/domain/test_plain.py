"""The rules of the resources beside organizations: freshness, tombstones, orphans, lists."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgs.domain.plain import PlainResolution, parent_keys
from orgs.domain.resolution import changes_of
from orgs.domain.resources import (
    DIRECTORY,
    DIRECTORY_GROUP_MEMBER,
    DIRECTORY_USER,
    INVITATION,
    MEMBERSHIP,
    ROLE,
    USER,
    Resource,
)
from orgs.domain.types import Decision, Observation, Outcome, PlainFields, PlainRow, State
from tests.builders import NOON, an_event_id, in_stream, minutes

KEY = "key_1"
EARLIER, LATER, NOW = NOON - minutes(1), NOON + minutes(1), NOON + minutes(60)
ROW = PlainRow(key=KEY, updated_at=NOON, synced_at=NOON, columns={"name": "Old"})
BY_EVENT = ROW._replace(last_event_id=an_event_id(5))
DELETED = BY_EVENT._replace(deleted_at=NOON)
ABSENT = ROW._replace(deleted_at=NOON)
#: Only the first is judged by its ``updated_at``, and its keys never come back.
PLAIN, UNORDERED = DIRECTORY, ROLE


def shown(
    resource: Resource = PLAIN, *, at: datetime | None = NOON, key: str = KEY, **columns: Any
) -> Observation:
    """An object as a list or a fetch shows it."""
    owner = columns.pop("organization_id", None)
    fields = PlainFields(owner, None, at, columns, dict(columns))
    return Observation(workos_id=key, state=State.PRESENT, resource=resource.name, plain=fields)


def changed(number: int, resource: Resource = PLAIN, **values: Any) -> Observation:
    return in_stream(shown(resource, **values), number, "changed")


def deleted(number: int, resource: Resource = PLAIN, **values: Any) -> Observation:
    observation = in_stream(shown(resource, **values), number, "deleted")
    return observation._replace(state=State.ABSENT)


def missing(resource: Resource = PLAIN, key: str = KEY) -> Observation:
    return Observation(workos_id=key, state=State.ABSENT, resource=resource.name)


def resolution(
    *rows: PlainRow,
    resource: Resource = PLAIN,
    parents: Sequence[tuple[str, str]] = (),
    is_final: bool = True,
    **known: Any,
) -> PlainResolution:
    deleted_parents = dict.fromkeys(parents, is_final)
    return PlainResolution(
        resource=resource, loaded=rows, deleted_parents=deleted_parents, now=NOW, **known
    )


def decide(row: PlainRow | None, observation: Observation, **known: Any) -> Decision:
    resolved = resolution(*([row] if row else []), **known)
    decision = resolved.decide(observation)
    assert decision.observation is observation
    if decision.outcome not in (Outcome.PARKED, Outcome.FAILED):
        assert decision.plain == resolved.rows.get(KEY)
    return decision


# Freshness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "observation", "outcome"),
    [
        pytest.param(None, changed(1), "created", id="unknown"),
        pytest.param(BY_EVENT, changed(6), "updated", id="greater event id"),
        pytest.param(BY_EVENT, changed(6, at=EARLIER), "updated", id="time is not asked"),
        pytest.param(BY_EVENT, changed(5), "stale", id="the same event"),
        pytest.param(BY_EVENT, changed(4), "stale", id="smaller event id"),
        pytest.param(
            BY_EVENT._replace(last_event_id="event_Z"),
            in_stream(shown(), 1, "changed", id_="event_a"),
            "updated",
            id="bytewise",
        ),
        pytest.param(ROW, changed(1), "updated", id="listed, same time"),
        pytest.param(ROW, changed(9, at=EARLIER), "stale", id="listed, older"),
        pytest.param(ROW, changed(1, at=None), "updated", id="event without a time"),
        pytest.param(ROW._replace(updated_at=None), changed(1), "updated", id="row without a time"),
        pytest.param(ROW, deleted(1, at=EARLIER), "deleted", id="deletion, older"),
        pytest.param(BY_EVENT, deleted(6), "deleted", id="deletion by a greater id"),
        pytest.param(BY_EVENT, deleted(4), "deleted", id="deletion by a smaller id"),
        pytest.param(None, deleted(1), "deleted", id="deletion of an unknown id"),
    ],
)
def test_an_event_is_applied_if_it_is_fresh(
    row: PlainRow | None, observation: Observation, outcome: str
) -> None:
    assert decide(row, observation).outcome == outcome


ABSENT_BEFORE = ABSENT._replace(deleted_at=EARLIER)


@pytest.mark.parametrize(
    ("resource", "row", "observation", "outcome"),
    [
        pytest.param(PLAIN, DELETED, changed(9), "stale", id="an event's is final"),
        pytest.param(PLAIN, DELETED, shown(at=NOW), "stale", id="for lists too"),
        pytest.param(PLAIN, DELETED, deleted(9), "deleted", id="deleted again"),
        pytest.param(PLAIN, ABSENT, changed(1, at=LATER), "updated", id="an absence is lifted"),
        pytest.param(PLAIN, ABSENT, changed(1), "stale", id="not by what was here before"),
        pytest.param(PLAIN, ABSENT, changed(1, at=EARLIER), "stale", id="not by an old one"),
        pytest.param(ROLE, ABSENT, changed(1, ROLE), "stale", id="without order, by its time"),
        pytest.param(ROLE, ABSENT_BEFORE, changed(1, ROLE), "updated", id="by its later time"),
        pytest.param(ROLE, DELETED, changed(9, ROLE), "updated", id="a key comes back"),
        pytest.param(ROLE, DELETED, changed(4, ROLE), "stale", id="not by an old event"),
        pytest.param(ROLE, DELETED, shown(ROLE), "updated", id="a key is listed again"),
        pytest.param(ROLE, BY_EVENT, deleted(4, ROLE), "stale", id="an old deletion"),
        pytest.param(PLAIN, DELETED, missing(), "unchanged", id="missing as well"),
        pytest.param(PLAIN, None, missing(), "unknown", id="missing and unknown"),
    ],
)
def test_a_tombstone(
    resource: Resource, row: PlainRow | None, observation: Observation, outcome: str
) -> None:
    decision = decide(row, observation, resource=resource, read_began_at=NOW, hold_back_until=NOW)

    assert decision.outcome == outcome
    after = decision.plain
    if row is not None and after is not None:
        is_alive = outcome == "updated" or row.deleted_at is None
        assert (after.deleted_at is None) == is_alive


def test_the_first_deletion_dates_the_tombstone() -> None:
    first = decide(ROW, deleted(1)).plain
    assert first is not None
    assert first.deleted_at == NOW

    again = decide(first._replace(deleted_at=NOON), deleted(2)).plain
    assert again is not None
    assert (again.deleted_at, again.last_event_id) == (NOON, an_event_id(2))


@pytest.mark.parametrize(
    ("began_at", "outcome"),
    [
        pytest.param(LATER, "updated", id="read afterwards"),
        pytest.param(NOON, "stale", id="read at that time"),
        pytest.param(EARLIER, "stale", id="read before"),
        pytest.param(None, "stale", id="nobody knows when"),
    ],
)
@pytest.mark.parametrize("resource", [PLAIN, UNORDERED], ids=lambda one: one.name)
def test_a_list_lifts_an_absence_if_it_was_read_afterwards(
    resource: Resource, began_at: datetime | None, outcome: str
) -> None:
    decision = decide(ABSENT, shown(resource), resource=resource, read_began_at=began_at)

    assert decision.outcome == outcome


# Lists --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "observation", "outcome", "event_id"),
    [
        pytest.param(None, shown(name="New"), "created", None, id="unknown"),
        pytest.param(BY_EVENT, shown(name="New"), "updated", None, id="differs"),
        pytest.param(BY_EVENT, shown(at=NOW), "unchanged", an_event_id(5), id="only the time"),
        pytest.param(BY_EVENT, shown(name="New", at=EARLIER), "stale", an_event_id(5), id="older"),
        pytest.param(BY_EVENT, shown(name="New", at=None), "updated", None, id="without a time"),
        pytest.param(ROW, shown(), "unchanged", None, id="absent fields differ in nothing"),
        pytest.param(ROW, shown(name=None), "updated", None, id="null differs"),
        pytest.param(ROW, shown(organization_id="org_1"), "updated", None, id="an organization"),
        pytest.param(ROW, missing(), "deleted", None, id="missing"),
        pytest.param(BY_EVENT, missing(), "deleted", None, id="missing after an event"),
    ],
)
def test_a_list_is_judged_by_time(
    row: PlainRow | None, observation: Observation, outcome: str, event_id: str | None
) -> None:
    decision = decide(row, observation, read_began_at=NOW)

    assert decision.outcome == outcome
    assert decision.plain is not None
    assert decision.plain.last_event_id == event_id


@pytest.mark.parametrize(
    "observation",
    [
        pytest.param(shown(UNORDERED, name="New", at=NOW), id="listed"),
        pytest.param(missing(UNORDERED), id="missing"),
    ],
)
@pytest.mark.parametrize(
    ("synced_at", "applies"),
    [(EARLIER, True), (NOON, False), (LATER, False)],
    ids=["before the window", "at its beginning", "in it"],
)
def test_a_list_without_order_leaves_what_was_just_written(
    observation: Observation, synced_at: datetime, applies: bool
) -> None:
    row = BY_EVENT._replace(synced_at=synced_at)

    decision = decide(row, observation, resource=UNORDERED, hold_back_until=NOON)

    assert (decision.outcome is not Outcome.STALE) == applies
    assert decision.plain is not None
    assert decision.plain.last_event_id == an_event_id(5)  # it is never cleared


@pytest.mark.parametrize(
    ("row", "updated_at", "is_left"),
    [
        pytest.param(None, LATER, True, id="new"),
        pytest.param(None, NOON, False, id="old"),
        pytest.param(ROW, LATER, True, id="changed"),
        pytest.param(ROW._replace(updated_at=NOW), NOW, False, id="its event was here"),
        pytest.param(None, None, False, id="nobody knows"),
    ],
)
def test_what_is_in_flight_is_left_to_its_event(
    row: PlainRow | None, updated_at: datetime | None, is_left: bool
) -> None:
    decision = decide(row, shown(name="New", at=updated_at), recent_after=NOON)

    assert (decision.outcome is Outcome.UNCHANGED) == is_left


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("active", "linked", False),
        ("linked", "active", False),
        ("inactive", "unlinked", False),
        ("active", "unlinked", True),
        ("deleting", "linked", True),
        ("made-up", "made-up", False),
        (None, "active", True),
    ],
)
def test_states_of_a_directory_have_two_spellings(old: str, new: str, differs: bool) -> None:
    assert DIRECTORY.differs("state", old, new) == differs
    # Only states have: a name may be one of these words.
    assert DIRECTORY.differs("name", old, new) == (old != new)


# What is written ----------------------------------------------------------------------------


def test_absent_fields_and_absences_keep_what_is_known_and_null_and_what_is_shown_do_not() -> None:
    row = ROW._replace(
        workos_organization_id="org_1", created_at=NOON, columns={"name": "Old", "state": "active"}
    )

    after = decide(row, changed(1, at=None, state=None)).plain
    absent, deleted_one = decide(BY_EVENT, missing()).plain, decide(ROW, deleted(1, name="Last"))

    assert after is not None
    assert after.columns == {"name": "Old", "state": None}
    assert (after.workos_organization_id, after.created_at, after.updated_at) == (
        "org_1",
        NOON,
        NOON,
    )
    assert absent == BY_EVENT._replace(deleted_at=NOW, last_event_id=None)
    assert absent.data is None
    assert deleted_one.plain is not None
    assert deleted_one.plain.columns == deleted_one.plain.data == {"name": "Last"}


@pytest.mark.parametrize("observation", [changed(9, ROLE, slug="boss"), shown(ROLE, slug="boss")])
def test_what_comes_back_under_a_key_has_nothing_of_what_was_deleted(
    observation: Observation,
) -> None:
    row = DELETED._replace(columns={"slug": "boss", "description": "Old", "permissions": ["all"]})

    decision = decide(row, observation, resource=ROLE)

    assert decision.plain is not None
    assert decision.plain.columns == {"slug": "boss"}


@pytest.mark.parametrize(
    "resource", [USER, MEMBERSHIP, INVITATION, DIRECTORY_USER], ids=lambda r: r.name
)
def test_an_erased_row_takes_no_personal_data(resource: Resource) -> None:
    personal = dict.fromkeys(resource.personal, "secret")
    row = PlainRow(key=KEY, is_erased=True, columns=dict.fromkeys(resource.columns))
    observation = changed(1, resource, state="active", status="active", **personal)

    after = decide(row, observation, resource=resource).plain

    assert after is not None
    assert after.data == {}
    assert "secret" not in after.columns.values()
    assert "active" in after.columns.values()
    listed = shown(resource, at=NOW, **personal)
    assert decide(row, listed, resource=resource).outcome is Outcome.UNCHANGED


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


@pytest.mark.parametrize(
    ("event", "outcome"), [(True, "parked"), (False, "failed")], ids=["event", "list"]
)
def test_what_cannot_be_read_is_for_a_person(event: bool, outcome: str) -> None:
    unread = Observation(workos_id=KEY, state=State.UNREADABLE, resource=PLAIN.name, error="why")

    decision = decide(ROW, in_stream(unread, 1, "changed") if event else unread)

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


# Orphans ------------------------------------------------------------------------------------

DIRECTORY_GONE = ("directory", "directory_1")
#: What a member of a group names, by the columns that do.
PARENTS = {
    "workos_directory_id": DIRECTORY_GONE,
    "workos_group_id": ("directory_group", "group_1"),
    "workos_directory_user_id": ("directory_user", "user_1"),
}


@pytest.mark.parametrize("parent", PARENTS.values(), ids=lambda one: one[0])
@pytest.mark.parametrize(
    ("row", "observation", "outcome"),
    [
        (None, changed, "deleted"),
        (ROW, changed, "deleted"),
        (DELETED, changed, "stale"),
        (None, lambda _, *args, **values: shown(*args, **values), "stale"),
    ],
    ids=["late event", "late event of a row", "late event of a deleted row", "list"],
)
def test_what_belongs_to_something_deleted_is_deleted(
    parent: tuple[str, str], row: PlainRow | None, observation: Any, outcome: str
) -> None:
    columns = {column: key for column, (_, key) in PARENTS.items()}
    seen: Observation = observation(9, DIRECTORY_GROUP_MEMBER, **columns)

    decision = decide(row, seen, resource=DIRECTORY_GROUP_MEMBER, parents=[parent])

    assert decision.outcome == outcome
    assert decision.plain is None or decision.plain.deleted_at is not None


def test_a_deletion_earlier_in_the_batch_counts_until_the_parent_is_back() -> None:
    parents: dict[tuple[str, str], bool] = {}
    directories = PlainResolution(resource=DIRECTORY, deleted_parents=parents, now=NOW)
    users = PlainResolution(resource=DIRECTORY_USER, deleted_parents=parents, now=NOW)

    directories.decide(deleted(1, key="directory_1"))
    late = users.decide(changed(2, DIRECTORY_USER, workos_directory_id="directory_1"))

    assert late.outcome is Outcome.DELETED
    assert parents[DIRECTORY_GONE]
    absent = PlainResolution(
        resource=DIRECTORY,
        loaded=[ABSENT._replace(key="directory_1")],
        deleted_parents=parents,
        now=NOW,
        read_began_at=NOW,
    )
    absent.decide(shown(key="directory_1"))
    assert DIRECTORY_GONE not in parents


def test_parents_are_named_by_the_observations() -> None:
    columns: Mapping[str, Any] = {"workos_directory_id": "directory_1", "workos_group_id": None}
    observations = [changed(1, DIRECTORY_GROUP_MEMBER, **columns), missing(DIRECTORY_GROUP_MEMBER)]

    named = [*parent_keys(DIRECTORY_GROUP_MEMBER, observations)]
    assert named == [("directory", "directory_1")]


# Any order ----------------------------------------------------------------------------------

KEYS = ("a", "b")
histories = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["change", "change", "delete"])), max_size=8
)


def stream_of(history: list[tuple[str, str]], resource: Resource) -> list[Observation]:
    """A history as events: each later than the one before, with all fields."""
    return [
        (changed if kind == "change" else deleted)(
            number, resource, key=key, at=NOON + minutes(number), name=f"by {number}"
        )
        for number, (key, kind) in enumerate(history, 1)
    ]


@pytest.mark.parametrize("resource", [PLAIN, UNORDERED], ids=lambda one: one.name)
@given(data=st.data())
def test_any_order_and_repetition_of_events_ends_alike(
    resource: Resource, data: st.DataObject
) -> None:
    events = stream_of(data.draw(histories), resource)
    again = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    shuffled = data.draw(st.permutations([*events, *again]))

    def ends(listed: Sequence[Observation]) -> dict[str, object]:
        decides = resolution(resource=resource)
        for observation in listed:
            decides.decide(observation)
        rows = decides.rows.items()
        return {key: "deleted" if row.deleted_at else row.columns["name"] for key, row in rows}

    assert ends(shuffled) == ends(events)


# Children of what is absent, and of what an event deleted -------------------------------------

CHILD: dict[str, Any] = {"workos_directory_id": "directory_1"}


@pytest.mark.parametrize("row", [None, ROW, BY_EVENT], ids=["new", "listed", "by an event"])
@pytest.mark.parametrize("is_final", [True, False], ids=["deleted by an event", "absent"])
def test_a_child_is_deleted_as_finally_as_its_parent(row: PlainRow | None, is_final: bool) -> None:
    late = changed(9, DIRECTORY_USER, **CHILD)

    decision = decide(
        row, late, resource=DIRECTORY_USER, parents=[DIRECTORY_GONE], is_final=is_final
    )

    assert decision.outcome is Outcome.DELETED
    assert decision.plain is not None
    assert decision.plain.is_deleted_for_good == is_final


def test_an_absence_earlier_in_the_batch_is_not_final() -> None:
    parents: dict[tuple[str, str], bool] = {}
    rows = [BY_EVENT._replace(key="directory_1")]
    resolved = PlainResolution(resource=DIRECTORY, loaded=rows, deleted_parents=parents, now=NOW)
    resolved.decide(missing(key="directory_1"))

    assert parents == {DIRECTORY_GONE: False}


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
    late = changed(9, DIRECTORY_USER, **CHILD)
    is_absent: dict[str, Any] = {"parents": [DIRECTORY_GONE], "is_final": False}
    row = decide(None, late, resource=DIRECTORY_USER, **is_absent).plain
    began_at = NOW + minutes(1)

    decision = decide(row, observation, resource=DIRECTORY_USER, read_began_at=began_at)

    assert decision.outcome == outcome


# Reports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "observation", "change"),
    [
        pytest.param(None, shown(organization_id="org_1"), "created", id="created"),
        pytest.param(
            ROW._replace(workos_organization_id="org_1"), missing(), "deleted", id="deleted"
        ),
    ],
)
def test_a_change_names_resource_key_and_organization(
    row: PlainRow | None, observation: Observation, change: str
) -> None:
    (found,) = changes_of(decide(row, observation))

    about = (found.resource, found.workos_id, found.workos_organization_id, found.organization_id)
    assert (found.change, about) == (change, (PLAIN.name, KEY, "org_1", None))


def test_an_event_keeps_what_it_does_not_say() -> None:
    erased = ROW._replace(is_erased=True)

    changed_row, deleted_row = decide(ROW, changed(1)).plain, decide(ROW, deleted(1)).plain
    assert changed_row == ROW._replace(last_event_id=an_event_id(1), data={})
    assert deleted_row is not None
    assert deleted_row._replace(data=None) == ROW._replace(
        last_event_id=an_event_id(1), deleted_at=NOW
    )
    kept = decide(erased, changed(1)).plain
    assert kept is not None
    assert kept.is_erased


def test_a_parent_that_is_not_named_again_counts() -> None:
    row = ROW._replace(columns={"workos_directory_id": "directory_1"})

    late = decide(
        row, changed(9, DIRECTORY_USER), resource=DIRECTORY_USER, parents=[DIRECTORY_GONE]
    )

    assert late.outcome is Outcome.DELETED
