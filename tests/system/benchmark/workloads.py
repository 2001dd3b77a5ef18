"""The events that are applied: creates, updates and a mix, made before the clock starts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import TypeAlias

from orgs.domain import types
from orgs.domain.naming import derived_id
from orgs.domain.types import (
    Event,
    EventType,
    Observation,
    OrganizationFields,
    Position,
    State,
)
from tests.builders import a_page
from tests.system.benchmark.databases import gram_id

PAGE_SIZE = 100

NOW = datetime.now(UTC)


class Kind(StrEnum):
    """What is to become of an event."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    STALE = "stale"


#: So many of each hundred events are of each kind.
WORKLOADS = {
    "creates": {Kind.CREATE: 100},
    "updates": {Kind.UPDATE: 100},
    "mix": {Kind.UPDATE: 75, Kind.CREATE: 15, Kind.DELETE: 5, Kind.STALE: 5},
}


@dataclass(frozen=True, slots=True)
class Planned:
    """An event, what is to become of it, and of which row."""

    kind: Kind
    event: Event
    workos_id: str
    organization_id: str
    observation: Observation


Page: TypeAlias = list[Planned]


def planned_pages(workload: str, *, pages: int, organizations: int) -> list[Page]:
    """Pages for a table that was filled with so many organizations: no row is met twice."""
    chance, numbers = random.Random(f"{workload} {organizations}"), count(1)
    rows = iter(chance.sample(range(1, organizations + 1), pages * PAGE_SIZE))
    kinds = [kind for kind, share in WORKLOADS[workload].items() for _ in range(share)]
    return [
        [_plan(kind, next(rows), next(numbers)) for kind in chance.sample(kinds, len(kinds))]
        for _ in range(pages)
    ]


def _plan(kind: Kind, row: int, number: int) -> Planned:
    """``row`` is the number that the organization got when the table was filled."""
    event_id = f"event_{'00' if kind is Kind.STALE else '02'}{number:024}"
    workos_id, organization_id = f"org_01{row:024}", gram_id(row)
    fields, type_ = None, EventType.DELETED
    if kind is Kind.CREATE:
        workos_id = f"org_02{number:024}"
        organization_id, type_ = derived_id(workos_id), EventType.CREATED
        fields = OrganizationFields(name=f"Company {number}", external_id=None, updated_at=NOW)
    elif kind is not Kind.DELETE:
        name, type_ = f"Renamed {row}", EventType.UPDATED
        fields = OrganizationFields(name=name, external_id=organization_id, updated_at=NOW)
    state = State.PRESENT if fields else State.ABSENT
    event = an_event(event_id, type_)
    observation = Observation(workos_id=workos_id, state=state, fields=fields, event=event)
    return Planned(kind, event, workos_id, organization_id, observation)


def an_event(event_id: str, event_type: str) -> Event:
    position = Position(event_id, NOW)
    return Event(id=event_id, type=event_type, occurred_at=NOW, position=position)


def as_read(pages: Sequence[Sequence[Observation]]) -> list[types.Page[Position]]:
    """Pages of events as ``workos.read_events`` would return them, one after the other."""
    read: list[types.Page[Position]] = []
    position = Position()
    for page in pages:
        read.append(replace(a_page(*page, read_from=position), is_last=page is pages[-1]))
        position = read[-1].position
    return read
