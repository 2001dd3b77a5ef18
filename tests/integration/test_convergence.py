"""Any order of events, repeats, replays and page cuts ends where a small model says it should.

The model applies one event after the other to a dictionary. It knows nothing of pages, locks,
arrays or statements.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orgs.db.cursor import standing
from orgs.domain.naming import derived_id, slug_base, slug_candidates
from orgs.domain.resolution import (
    Fold,
    OrganizationChanged,
    OrganizationDeleted,
    Row,
)
from orgs.domain.types import (
    EventType,
)
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.apply import apply_page
from tests.builders import NOON, a_deletion, a_page, an_event

WORKOS_IDS = ("org_1", "org_2", "org_3")
EXTERNAL_IDS = (None, "gram-a", "gram-b", derived_id("org_1"))
NAMES = ("Acme", "Bolt", "acme!")

AnyEvent = OrganizationChanged | OrganizationDeleted

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


@dataclass
class Model:
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outbox: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    deletions: dict[str, str] = field(default_factory=dict)

    def apply(self, event: AnyEvent) -> None:
        self.outcomes.setdefault(event.id, self._apply(event))

    def _apply(self, event: AnyEvent) -> str:
        linked = [id_ for id_, row in self.rows.items() if row["workos_id"] == event.workos_id]
        if isinstance(event, OrganizationDeleted):
            self.deletions[event.workos_id] = max(event.id, self.deletions.get(event.workos_id, ""))
            return self._delete(linked[0], event) if linked else "unknown"
        if event.id < self.deletions.get(event.workos_id, ""):
            return "stale"
        wanted = event.organization.external_id or derived_id(event.workos_id)
        id_ = linked[0] if linked else wanted
        if id_ not in self.rows:
            self._create(id_, event)
            outcome = "created"
        elif self._is_stale(id_, event):
            return "stale"
        else:
            before = self.rows[id_]["workos_id"]
            outcome = "updated" if before == event.workos_id else "relinked"
            if before is None:
                outcome = "linked"
        self._overwrite(id_, event)
        return outcome

    def _delete(self, id_: str, event: OrganizationDeleted) -> str:
        if self._is_stale(id_, event):
            return "stale"
        self.rows[id_] |= {"disabled": True, "event": event.id}
        self.outbox.pop(id_, None)
        return "disabled"

    def _is_stale(self, id_: str, event: AnyEvent) -> bool:
        row = self.rows[id_]
        if row["event"] is not None:
            return bool(event.id <= row["event"])
        if isinstance(event, OrganizationDeleted) or row["time"] is None:
            return False
        return bool(event.organization.updated_at < row["time"])

    def _create(self, id_: str, event: OrganizationChanged) -> None:
        taken = {row["slug"] for row in self.rows.values()}
        base = slug_base(event.organization.name, event.workos_id)
        candidates = slug_candidates(base, event.workos_id)
        self.rows[id_] = {
            "slug": next(slug for slug in candidates if slug not in taken),
            "disabled": False,
        }

    def _overwrite(self, id_: str, event: OrganizationChanged) -> None:
        organization = event.organization
        self.rows[id_] |= {
            "name": organization.name,
            "workos_id": event.workos_id,
            "time": organization.updated_at,
            "event": event.id,
        }
        if organization.external_id is None:
            self.outbox[id_] = event.workos_id
        elif organization.external_id == id_:
            self.outbox.pop(id_, None)


def rows_in_database() -> dict[str, dict[str, Any]]:
    return {
        row.id: {
            "slug": row.slug,
            "disabled": row.disabled_at is not None,
            "name": row.name,
            "workos_id": row.workos_id,
            "time": row.workos_updated_at,
            "event": row.workos_last_event_id,
        }
        for row in Organization.objects.all()
    }


def empty_tables() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM workos_event; DELETE FROM workos_sync_cursor;"
            "DELETE FROM organization_metadata"
        )


@pytest.mark.usefixtures("database")
@given(st.lists(pages, min_size=1, max_size=5))
@hypothesis_settings(max_examples=150)
def test_pages_and_replays_end_where_the_model_does(
    history: list[tuple[list[AnyEvent], bool]],
) -> None:
    empty_tables()
    model = Model()
    # An id is one event's for good, however often that is listed.
    first = {event.id: event for page, _ in reversed(history) for event in reversed(page)}

    for listed, is_replay in history:
        page = [first[event.id] for event in listed]
        read_from = standing().position
        applied = apply_page(a_page(*page, read_from=read_from), replay=is_replay)
        assert not applied.dropped
        for event in page:
            model.apply(event)

    assert rows_in_database() == model.rows
    assert dict(ExternalIdWriteBack.objects.values_list("organization_id", "workos_id")) == (
        model.outbox
    )
    assert dict(WorkOSEvent.objects.values_list("id", "outcome")) == model.outcomes


@pytest.mark.usefixtures("database")
@given(st.lists(events, min_size=2, max_size=8, unique_by=lambda event: event.id))
@hypothesis_settings(max_examples=60)
def test_a_page_at_once_and_its_events_one_by_one_end_in_the_same_rows(
    stream: list[AnyEvent],
) -> None:
    at_once = _applied(stream, page_size=len(stream))
    one_by_one = _applied(stream, page_size=1)

    assert at_once == one_by_one


def _applied(stream: list[AnyEvent], *, page_size: int) -> tuple[object, ...]:
    empty_tables()
    for start in range(0, len(stream), page_size):
        page = stream[start : start + page_size]
        assert not apply_page(a_page(*page, read_from=standing().position)).dropped
    return (
        rows_in_database(),
        dict(ExternalIdWriteBack.objects.values_list("organization_id", "workos_id")),
        dict(WorkOSEvent.objects.values_list("id", "outcome")),
        standing().position,
    )


@given(st.lists(events, max_size=12), st.lists(st.integers(0, 12), max_size=4))
@hypothesis_settings(max_examples=400)
def test_where_a_stream_is_cut_into_pages_does_not_matter(
    stream: list[AnyEvent], cuts: list[int]
) -> None:
    bounds = [0, *sorted(cuts), len(stream)]

    at_once = _folded([], stream)
    cut: list[Row] = []
    for start, end in itertools.pairwise(bounds):
        cut = _folded(cut, stream[start:end], before=stream[:start])

    assert cut == at_once


def _folded(rows: list[Row], stream: list[AnyEvent], before: Sequence[AnyEvent] = ()) -> list[Row]:
    deletions = [event for event in before if isinstance(event, OrganizationDeleted)]
    by_id = sorted(deletions, key=lambda event: event.id)
    fold = Fold(rows, deleted={event.workos_id: event.id for event in by_id})
    for event in stream:
        fold.apply(event)
    plan = fold.plan()
    written = [*plan.updated, *plan.disabled, *(creation.row for creation in plan.created)]
    after = {row.id: row for row in rows} | {row.id: row for row in written}
    return [after[id_] for id_ in sorted(after)]
