"""A day at the mirror, for pages to have something to show: the same each time, at another time."""

from datetime import UTC, datetime, timedelta

from django_q.models import Schedule

from orgs.domain.types import ConflictKind, Outcome
from orgs.models import (
    Connection,
    ExternalIdWriteBack,
    Organization,
    OrganizationDomain,
    OrganizationMembership,
    Role,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.maintenance import ensure_schedules
from tests.builders import an_organization_row, minutes

NAMES = (
    *("Acme", "Aperture Science", "Cyberdyne Systems", "Globex", "Hooli", "Initech"),
    *("Massive Dynamic", "Pied Piper", "Soylent", "Stark Industries", "Tyrell", "Umbrella"),
    *("Vandelay Industries", "Wayne Enterprises", "Wonka Industries"),
)
#: Of one event after the other.
_OUTCOMES = (
    *[Outcome.UPDATED] * 9,
    *[Outcome.CREATED] * 5,
    *(Outcome.STALE, Outcome.LINKED, Outcome.DISABLED, Outcome.UNKNOWN, Outcome.RELINKED),
)


def a_day() -> None:
    """A nap, an event that is parked, a write-back that waits and one in conflict."""
    now = datetime.now(UTC)
    ensure_schedules()
    Schedule.objects.update(next_run=now + minutes(0.5))
    SyncCursor.objects.create(
        stream="organizations",
        last_event_id=_event_id(0),
        last_event_at=now - minutes(2),
        drained_at=now - minutes(0.2),
        reconciled_at=now - timedelta(hours=9),
        last_drift=1,
        last_changes=[["gram-wonka", 'updated gram-wonka: name: "Wonka" → "Wonka Industries"']],
    )
    for number, name in enumerate(NAMES):
        slug = name.lower().replace(" ", "-")
        an_organization_row(f"gram-{slug}", name=name, slug=slug, workos_id=_workos_id(number))
    WorkOSEvent.objects.bulk_create(_events(now))
    ExternalIdWriteBack.objects.create(organization_id="gram-globex", workos_id=_workos_id(3))
    Organization.objects.filter(id="gram-soylent").update(disabled_at=now - minutes(90))
    WorkOSConflict.objects.create(
        workos_organization_id=_workos_id(4),
        organization_id="gram-hooli",
        kind=ConflictKind.OTHER_EXTERNAL_ID,
        reason="WorkOS has external_id 'gram-nucleus', the row's id is 'gram-hooli'",
    )
    WorkOSConflict.objects.create(
        workos_organization_id="org_01K2QWZ9H8E4T6M2N5R7B3D099",
        organization_id="gram-tyrell",
        kind=ConflictKind.ROW_CLAIMED,
        reason="The row gram-tyrell is linked to org_01K2QWZ9H8E4T6M2N5R7B3D010",
    )
    ExternalIdWriteBack.objects.create(
        organization_id="gram-hooli",
        workos_id=_workos_id(4),
        attempts=1,
        next_attempt_at=None,
        last_error="WorkOS has external_id 'gram-nucleus' there",
    )
    _belongings()


def _belongings() -> None:
    """What belongs to Umbrella: a domain, a connection, members, a role."""
    umbrella = {"workos_organization_id": _workos_id(11)}
    OrganizationDomain.objects.create(
        workos_id="org_domain_01K2QWZ9H8E4T6M2N5R7B3D0AA",
        domain="umbrella.example",
        state="verified",
        data={"object": "organization_domain", "domain": "umbrella.example"},
        **umbrella,
    )
    Connection.objects.create(
        workos_id="conn_01K2QWZ9H8E4T6M2N5R7B3D0AB",
        connection_type="OktaSAML",
        name="Umbrella's Okta",
        state="active",
        **umbrella,
    )
    Role.objects.create(
        workos_id=f"{_workos_id(11)}:lead",
        slug="lead",
        name="Lead",
        permissions=["rooms:read", "rooms:write"],
        **umbrella,
    )
    for number, name in enumerate(("ada", "bob", "cleo")):
        user_id = f"user_01K2QWZ9H8E4T6M2N5R7B3D{number:03}"
        WorkOSUser.objects.create(workos_id=user_id, email=f"{name}@umbrella.example")
        OrganizationMembership.objects.create(
            workos_id=f"om_01K2QWZ9H8E4T6M2N5R7B3D{number:03}",
            workos_user_id=user_id,
            status="active",
            role_slugs=["lead", "member"][number % 2 :],
            **umbrella,
        )


def _events(now: datetime) -> list[WorkOSEvent]:
    parked = WorkOSEvent(
        id=_event_id(0),
        type="organization.updated",
        workos_organization_id=_workos_id(5),
        occurred_at=now - minutes(41),
        announced_at=now - minutes(41),
        processed_at=now - minutes(40),
        outcome=Outcome.PARKED,
        error="data.name: expected text, found null",
        payload='{"object": "event", "data": {"object": "organization", "name": null}}',
    )
    awake = (number for number in range(1, 320) if not 170 < number < 200)
    return [parked, *(_event(number, now - minutes(4.5 * number)) for number in awake)]


def _event(number: int, processed_at: datetime) -> WorkOSEvent:
    announced_at = processed_at - timedelta(seconds=number % 7)
    outcome = _OUTCOMES[number % len(_OUTCOMES)]
    # An organization is created once: these are others, which have no row of their own here.
    is_known = outcome in (Outcome.UPDATED, Outcome.STALE)
    name = NAMES[number % len(NAMES)].lower().replace(" ", "-")
    return WorkOSEvent(
        id=_event_id(number),
        type="organization.updated",
        workos_organization_id=_workos_id(number % len(NAMES) if is_known else number),
        organization_id=f"gram-{name}" if is_known else f"gram-{number}",
        occurred_at=announced_at - timedelta(seconds=1),
        announced_at=announced_at,
        processed_at=processed_at,
        outcome=outcome,
    )


def _event_id(number: int) -> str:
    return f"event_01K2QX4T4PEZ5Y4V3J6WJ5S{number:03}"


def _workos_id(number: int) -> str:
    return f"org_01K2QWZ9H8E4T6M2N5R7B3D{number:03}"
