"""The events that are applied: creates, updates and a mix, made before the clock starts."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
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
    observation: Observation
    organization_id: str

    @property
    def event(self) -> Event:
        return event_of(self.observation)


Page: TypeAlias = list[Planned]


def planned_pages(workload: str, *, pages: int, organizations: int) -> list[Page]:
    """Pages for a table that was filled with so many organizations: no row is met twice."""
    chance = random.Random(f"{workload} {organizations}")
    present = iter(chance.sample(range(1, organizations + 1), pages * PAGE_SIZE))
    numbers = count(1)
    return [_page(WORKLOADS[workload], chance, present, numbers) for _ in range(pages)]


def as_read(pages: Sequence[Sequence[Observation]]) -> list[types.Page[Position]]:
    """Pages of events as ``workos.read_events`` would return them, one after the other."""
    read: list[types.Page[Position]] = []
    position = Position()
    for page in pages:
        reached, parse = event_of(page[-1]).position, partial(tuple, page)
        read.append(types.Page(position, parse, reached, page is pages[-1], time.monotonic()))
        position = reached
    return read


def event_of(observation: Observation) -> Event:
    if observation.event is None:
        raise TypeError("every observation of a page is an event")
    return observation.event


def _page(
    shares: dict[Kind, int], chance: random.Random, present: Iterator[int], numbers: Iterator[int]
) -> Page:
    kinds = [kind for kind, share in shares.items() for _ in range(share)]
    chance.shuffle(kinds)
    return [_plan(kind, next(present), next(numbers)) for kind in kinds]


def _plan(kind: Kind, row: int, number: int) -> Planned:
    """``row`` is the number that the organization got when the table was filled."""
    event_id = f"event_02{number:024}"
    workos_id, organization_id = f"org_01{row:024}", gram_id(row)
    if kind is Kind.DELETE:
        event = an_event(event_id, EventType.DELETED)
        deletion = Observation(workos_id=workos_id, state=State.ABSENT, event=event)
        return Planned(kind, deletion, organization_id)
    if kind is Kind.CREATE:
        workos_id = f"org_02{number:024}"
        created = _change(event_id, EventType.CREATED, workos_id, f"Company {number}", None)
        return Planned(kind, created, derived_id(workos_id))
    if kind is Kind.STALE:
        event_id = f"event_00{number:024}"
    updated = _change(event_id, EventType.UPDATED, workos_id, f"Renamed {row}", organization_id)
    return Planned(kind, updated, organization_id)


def _change(
    event_id: str, event_type: EventType, workos_id: str, name: str, external_id: str | None
) -> Observation:
    fields = OrganizationFields(name=name, external_id=external_id, updated_at=NOW)
    event = an_event(event_id, event_type)
    return Observation(workos_id=workos_id, state=State.PRESENT, fields=fields, event=event)


def an_event(event_id: str, event_type: str) -> Event:
    position = Position(event_id, NOW)
    return Event(id=event_id, type=event_type, occurred_at=NOW, position=position)
