"""Any order of events, repeats, replays and page cuts ends where a small model says it should.

The model applies one event after the other to a dictionary. It knows nothing of pages, locks,
arrays or statements.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orgs.db.cursor import read_cursor
from orgs.domain.naming import derived_id, slug_base, slug_candidates
from orgs.domain.types import Event, EventType, Observation, OrganizationFields
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict, WorkOSEvent
from orgs.services.apply import Mode
from tests.builders import NOON, a_deletion, a_page, an_event, apply_page, empty_tables

WORKOS_IDS = ("org_1", "org_2", "org_3")
EXTERNAL_IDS = (None, "gram-a", "gram-b", derived_id("org_1"))
NAMES = ("Acme", "Bolt", "acme!")

changes = st.builds(
    an_event,
    st.integers(1, 12),
    workos_id=st.sampled_from(WORKOS_IDS),
    name=st.sampled_from(NAMES),
    external_id=st.sampled_from(EXTERNAL_IDS),
    updated_at=st.integers(0, 3).map(lambda minute: NOON + timedelta(minutes=minute)),
    type=st.sampled_from([EventType.CREATED, EventType.UPDATED]),
)
deletions = st.builds(a_deletion, st.integers(1, 12), workos_id=st.sampled_from(WORKOS_IDS))
events = st.one_of(changes, changes, changes, deletions)
pages = st.tuples(st.lists(events, min_size=1, max_size=6), st.booleans())


#: Created, deleted and taken over, so close together that one page has it all.
TAKEN_OVER = [
    an_event(1, external_id="gram-a"),
    a_deletion(2),
    an_event(3, workos_id="org_2", external_id="gram-a"),
]
#: In conflict, and solved.
SOLVED = [an_event(1), an_event(2, external_id="gram-a"), an_event(3, external_id=EXTERNAL_IDS[3])]


def event_of(observation: Observation) -> Event:
    assert observation.event is not None
    return observation.event


@dataclass
class Model:
    """What the tables hold, and the deletions of the ledger."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outbox: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    deletions: dict[str, str] = field(default_factory=dict)

    def apply(self, event: Observation) -> None:
        outcome, id_ = self._apply(event, event.workos_id or ""), event_of(event).id
        if self.outcomes.get(id_, "parked") == "parked":
            self.outcomes[id_] = outcome

    def _apply(self, event: Observation, workos_id: str) -> str:
        linked = [id_ for id_, row in self.rows.items() if row["workos_id"] == workos_id]
        event_id = event_of(event).id
        if event.fields is None:
            self.deletions[workos_id] = max(event_id, self.deletions.get(workos_id, ""))
            if linked and event_id <= self.rows[linked[0]]["event"]:
                return "stale"
            self.conflicts.pop(workos_id, None)
            return self._delete(linked[0], event_id) if linked else "unknown"
        if event_id < self.deletions.get(workos_id, ""):
            return "stale"
        id_ = linked[0] if linked else event.fields.external_id or derived_id(workos_id)
        if id_ not in self.rows:
            self._create(id_, event.fields.name, workos_id)
            outcome = "created"
        elif event_id <= self.rows[id_]["event"]:
            return "stale"
        else:
            before = self.rows[id_]["workos_id"]
            outcome = "updated" if before == workos_id else "relinked"
            if outcome == "relinked" and event.fields.external_id is None:
                self.conflicts[workos_id] = (id_, "row_claimed")
                return "parked"
        self._overwrite(id_, event_id, workos_id, event.fields)
        return outcome

    def _delete(self, id_: str, event_id: str) -> str:
        self.rows[id_] |= {"disabled": True, "deleted": True, "event": event_id}
        self.outbox.pop(id_, None)
        return "disabled"

    def _create(self, id_: str, name: str, workos_id: str) -> None:
        taken = {row["slug"] for row in self.rows.values()}
        candidates = slug_candidates(slug_base(name, workos_id), workos_id)
        self.rows[id_] = {
            "slug": next(slug for slug in candidates if slug not in taken),
            "workos_id": workos_id,
            "disabled": False,
            "deleted": False,
        }
        self.conflicts.pop(workos_id, None)

    def _overwrite(
        self, id_: str, event_id: str, workos_id: str, fields: OrganizationFields
    ) -> None:
        row = self.rows[id_]
        self.rows[id_] = row | {
            "name": fields.name,
            "workos_id": workos_id,
            "time": fields.updated_at,
            "event": event_id,
            "deleted": row["deleted"] and row["workos_id"] == workos_id,
        }
        if fields.external_id is None:
            self.outbox[id_] = workos_id
        elif fields.external_id == id_:
            self.outbox.pop(id_, None)
            self.conflicts.pop(workos_id, None)
        else:
            self.conflicts[workos_id] = (id_, "other_external_id")


@pytest.mark.usefixtures("database")
@example([(TAKEN_OVER, False)])
@example([(TAKEN_OVER[:1], False), (TAKEN_OVER[1:], False)])
@example([(SOLVED, False)])
@given(st.lists(pages, min_size=1, max_size=5))
@hypothesis_settings(max_examples=200)
def test_pages_and_replays_end_where_the_model_does(
    history: list[tuple[list[Observation], bool]],
) -> None:
    empty_tables()
    model = Model()
    # An id is one event's for good, however often that is listed.
    first = {event_of(o).id: o for page, _ in reversed(history) for o in reversed(page)}

    for listed, is_replay in history:
        page = [first[event_of(observation).id] for observation in listed]
        read_from = read_cursor().position
        mode = Mode.REPLAY if is_replay else Mode.LIVE
        assert not apply_page(a_page(*page, read_from=read_from), mode).dropped
        for event in page:
            model.apply(event)

    assert model.rows == {
        row.id: {
            "slug": row.slug,
            "disabled": row.disabled_at is not None,
            "deleted": row.workos_deleted_at is not None,
            "name": row.name,
            "workos_id": row.workos_id,
            "time": row.workos_updated_at,
            "event": row.workos_last_event_id,
        }
        for row in Organization.objects.all()
    }
    write_backs, conflicts = ExternalIdWriteBack.objects, WorkOSConflict.objects
    assert model.outbox == dict(write_backs.values_list("organization_id", "workos_id"))
    assert model.outcomes == dict(WorkOSEvent.objects.values_list("id", "outcome"))
    assert model.conflicts == {
        one.workos_organization_id: (one.organization_id, one.kind) for one in conflicts.all()
    }
