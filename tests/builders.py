"""Builds the values that tests talk about; every keyword has a default that does not matter."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import django_q.tasks
import pytest
from django.test import Client
from django_q.brokers.redis_broker import Redis as RedisBroker
from django_q.models import OrmQ
from redis import Redis

from orgs.db.cursor import read_cursor
from orgs.db.resources import model_of
from orgs.domain.naming import derived_id
from orgs.domain.report import Report
from orgs.domain.resources import PLAIN, event_types
from orgs.domain.types import (
    ORGANIZATION,
    Event,
    EventType,
    Observation,
    OrganizationFields,
    Outcome,
    Page,
    Position,
    Row,
    State,
)
from orgs.models import (
    ExternalIdWriteBack,
    Organization,
    RequestBudget,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)
from orgs.services import queue
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS, sign
from tests.concurrency import another_program, in_thread, wait_until_blocked
from tests.processes import WEBHOOK_SECRET
from tests.triggers import execute, insert

T = TypeVar("T")

#: The types of events about organizations.
TYPES = event_types([ORGANIZATION])

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def empty_tables() -> None:
    """Between the examples of one test: a DELETE is quicker than a TRUNCATE of small tables."""
    ours = (WorkOSEvent, SyncCursor, WorkOSConflict, ExternalIdWriteBack, RequestBudget, OrmQ)
    for model in (*ours, Organization, *map(model_of, PLAIN.values())):
        execute(f'DELETE FROM "{model._meta.db_table}"')  # noqa: S608


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def an_event_id(number: int) -> str:
    return f"event_{number:04d}"


def an_organization(
    workos_id: str = "org_1",
    *,
    name: str = "Acme",
    external_id: str | None = None,
    updated_at: datetime = NOON,
) -> Observation:
    """An organization as a list or a fetch shows it."""
    fields = OrganizationFields(name=name, external_id=external_id, updated_at=updated_at)
    return Observation(workos_id=workos_id, state=State.PRESENT, fields=fields)


def an_absence(workos_id: str = "org_1") -> Observation:
    """A 404."""
    return Observation(workos_id=workos_id, state=State.ABSENT)


def an_event(
    number: int = 1,
    *,
    workos_id: str = "org_1",
    type: EventType = EventType.UPDATED,  # noqa: A002 - WorkOS's word
    **shown: Any,
) -> Observation:
    return in_stream(an_organization(workos_id, **shown), number, type)


def a_deletion(number: int = 1, *, workos_id: str = "org_1") -> Observation:
    return in_stream(an_absence(workos_id), number, EventType.DELETED)


def an_unreadable_event(
    number: int = 1, *, workos_id: str | None = None, error: str = "data is not an object"
) -> Observation:
    unreadable = Observation(workos_id=workos_id, state=State.UNREADABLE, error=error)
    return in_stream(unreadable, number, EventType.UPDATED)


def in_stream(observation: Observation, number: int, event_type: str) -> Observation:
    """What an event says, as the stream's event of that number."""
    id_ = an_event_id(number)
    event = Event(id=id_, type=event_type, occurred_at=NOON, position=Position(id_, NOON))
    return observation._replace(event=event, raw={"id": id_})


def a_row(id: str = "gram-1", **values: Any) -> Row:  # noqa: A002 - the column's name
    return Row(**{"id": id, "name": "Acme", **values})


def a_page(*observations: Observation, read_from: Position = Position()) -> Page[Position]:
    """The last page as ``workos.read_events`` would return it."""
    last = observations[-1].event if observations else None
    position = last.position if last else read_from
    return Page(
        read_from, lambda: observations, position, is_last=True, read_began=time.monotonic()
    )


def apply_page(
    page: Page[Position], mode: Mode = Mode.LIVE, types: tuple[str, ...] | None = None
) -> Report:
    """Apply a page as the stream does."""
    batch = Batch(
        observations=page.observations,
        read_from=page.read_from,
        types=types,
        position=page.position,
        end_read_began=page.read_began if page.is_last else None,
    )
    return apply(batch, mode)


def live(*observations: Observation) -> Report:
    """Apply the next page of the stream."""
    state = read_cursor()
    return apply_page(a_page(*observations, read_from=state.position), types=state.types)


def compare(*observations: Observation, mode: Mode = Mode.RECONCILE) -> Report:
    """Apply what was listed or fetched."""
    return apply(Batch(observations=observations), mode)


def an_organization_row(id: str = "gram-1", **values: Any) -> Organization:  # noqa: A002
    """A row as another program would insert it: with the columns it knows."""
    insert("organization_metadata", {"id": id, "name": "Acme", "slug": id, **values})
    return Organization.objects.get(id=id)


def an_announcement(
    event_id: str,
    *,
    ago: timedelta = timedelta(0),
    workos_id: str | None = "org_1",
    **values: str,
) -> WorkOSEvent:
    return WorkOSEvent.objects.create(
        **{"type": EventType.UPDATED, **values},
        id=event_id,
        workos_organization_id=workos_id,
        announced_at=datetime.now(UTC) - ago,
    )


# WorkOS and the mirror ----------------------------------------------------------------------

TWO_DAYS_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)


def an_old_organization(workos: FakeWorkOS, name: str = "Acme", **values: Any) -> str:
    """Created two days ago in WorkOS, without an event; return its id."""
    organization = workos.create_organization(name=name, at=TWO_DAYS_AGO, emits=False, **values)
    return str(organization["id"])


def a_mirrored_organization(workos: FakeWorkOS, id_: str = "gram-mirrored") -> str:
    """One that is in sync: where it can be read, a 404 for another one counts."""
    workos_id = an_old_organization(workos, "Mirrored", external_id=id_)
    an_organization_row(id_, name="Mirrored", workos_id=workos_id)
    return workos_id


def a_linked_row(
    workos: FakeWorkOS,
    id_: str = "gram-1",
    *,
    there: str = "Acme",
    external_id: str | None = "",
    **columns: Any,
) -> str:
    """A row and its organization, which shows the row's id unless another is given, by the name of
    ``there``; return WorkOS's id."""
    workos_id = an_old_organization(
        workos, there, external_id=id_ if external_id == "" else external_id
    )
    an_organization_row(id_, workos_id=workos_id, **columns)
    return workos_id


def a_claimed_row(workos: FakeWorkOS) -> tuple[str, str, str]:
    """The id of a row that was its first organization's, by the derived id, and that the second
    took over by ``external_id``; and theirs. The first one is in conflict then."""
    first = workos.create_organization(name="A")["id"]
    drain_to_end()
    ExternalIdWriteBack.objects.all().delete()
    second = workos.create_organization(name="B", external_id=derived_id(first))["id"]
    workos.update_organization(first, name="A2")
    drain_to_end()
    return derived_id(first), first, second


def a_parked_event(
    workos_id: str | None = "org_1", event_id: str = "event_1", **values: Any
) -> WorkOSEvent:
    parked = {"type": EventType.UPDATED, "outcome": Outcome.PARKED, "error": "the first reason"}
    ids = {"id": event_id, "workos_organization_id": workos_id}
    at = datetime.now(UTC)
    return WorkOSEvent.objects.create(
        **{**parked, **ids, "processed_at": at, "payload": "{}", **values}
    )


def a_signature(body: bytes, secret: str = WEBHOOK_SECRET) -> str:
    """The header with which WorkOS signs a webhook now."""
    return sign(secret, body, int(time.time() * 1000))


def post_webhook(client: Client, body: bytes, signature: str | None = None) -> Any:
    """What is answered to a webhook, by default one that WorkOS has signed."""
    headers = {"WorkOS-Signature": a_signature(body) if signature is None else signature}
    return client.post("/webhooks/workos/", body, "application/json", headers=headers)


def no_redis(patch: pytest.MonkeyPatch) -> None:
    """Have the queue be in a Redis that can't be reached."""
    nowhere = RedisBroker.__new__(RedisBroker)
    nowhere.connection = Redis.from_url("unix:///nowhere/redis.socket")
    nowhere.list_key = "django_q:gram_sync:q"
    for module in (queue, django_q.tasks):
        patch.setattr(module, "get_broker", lambda: nowhere)


#: What a route that does not exist answers, as an organization that does not exist does.
NO_ROUTE = {"message": "Not Found", "code": "not_found"}


def blocked_by(statement: str, run: Callable[[], T]) -> T:
    """Run something that waits for the statement of another program, which then commits."""
    with another_program() as program, in_thread() as start:
        program.execute(statement.encode())
        running = start(run)
        wait_until_blocked()
        program.commit()
        return running.result()
