"""Builds the values that tests talk about; every keyword has a default that does not matter."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from orgs.domain.resolution import (
    OrganizationChanged,
    OrganizationDeleted,
    RemoteOrganization,
    Row,
)
from orgs.domain.types import (
    EventType,
    Position,
)
from orgs.models import Organization, WorkOSEvent
from orgs.workos import EventPage, ListedEvent

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def an_event_id(number: int) -> str:
    return f"event_{number:04d}"


def an_organization(
    *,
    workos_id: str = "org_1",
    name: str = "Acme",
    external_id: str | None = None,
    updated_at: datetime = NOON,
) -> RemoteOrganization:
    return RemoteOrganization(
        workos_id=workos_id, name=name, external_id=external_id, updated_at=updated_at
    )


def an_event(
    number: int = 1,
    *,
    workos_id: str = "org_1",
    name: str = "Acme",
    external_id: str | None = None,
    updated_at: datetime = NOON,
    type: EventType = EventType.UPDATED,  # noqa: A002 - WorkOS's word
) -> OrganizationChanged:
    return OrganizationChanged(
        id=an_event_id(number),
        type=type,
        organization=an_organization(
            workos_id=workos_id, name=name, external_id=external_id, updated_at=updated_at
        ),
        occurred_at=NOON,
    )


def a_deletion(number: int = 1, *, workos_id: str = "org_1") -> OrganizationDeleted:
    return OrganizationDeleted(id=an_event_id(number), workos_id=workos_id, occurred_at=NOON)


def a_row(id: str = "gram-1", **values: Any) -> Row:  # noqa: A002 - the column's name
    return Row(**{"id": id, "name": "Acme", **values})


def a_page(
    *events: Any,
    read_from: Position = Position(),
    is_last: bool = True,
    raw: object = None,
) -> EventPage:
    """A page as ``workos.read_events`` would return it."""
    listed = tuple(
        ListedEvent(event, raw or {"id": event.id}, Position(event.id, event.occurred_at))
        for event in events
    )
    position = listed[-1].position if listed else read_from
    return EventPage(read_from, listed, position, is_last, NOON)


def an_organization_row(id: str = "gram-1", **values: Any) -> Organization:  # noqa: A002
    """A row as another program would insert it: with the columns it knows."""
    columns = {"id": id, "name": "Acme", "slug": id, **values}
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO organization_metadata ({names}) VALUES ({marks})",  # noqa: S608
            list(columns.values()),
        )
    return Organization.objects.get(id=id)


def an_announcement(
    event_id: str,
    *,
    ago: timedelta = timedelta(0),
    workos_id: str | None = "org_1",
    type: str = EventType.UPDATED,  # noqa: A002 - WorkOS's word
) -> WorkOSEvent:
    return WorkOSEvent.objects.create(
        id=event_id,
        type=type,
        workos_organization_id=workos_id,
        announced_at=datetime.now(UTC) - ago,
    )
