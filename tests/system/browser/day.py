"""A day at the mirror, for pages to have something to show: the same each time, at another time."""

from datetime import UTC, datetime, timedelta

from django_q.models import Schedule

from orgs.domain.types import Outcome
from orgs.models import (
    Connection,
    Organization,
    OrganizationDomain,
    OrganizationMembership,
    Role,
    SyncCursor,
    WorkOSEvent,
    WorkOSUser,
)
from orgs.services.maintenance import ensure_schedules
from tests.admin_pages import a_conflict, a_parked_event, a_write_back
from tests.builders import an_organization_row, minutes

NAMES = ("Globex", "Hooli", "Initech", "Tyrell", "Umbrella", "Wonka Industries")
GLOBEX, HOOLI, INITECH, _, UMBRELLA, _ = IDS = [
    f"org_01K2QWZ9H8E4T6M2N5R7B3D{number:03}" for number in range(len(NAMES))
]
_OUTCOMES = (Outcome.UPDATED, Outcome.UPDATED, Outcome.CREATED, Outcome.STALE, Outcome.RELINKED)


def a_day() -> None:
    """An event that is parked, a write-back that waits and one in conflict, a conflict."""
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
    rows = {}
    for name, id_ in zip(NAMES, IDS, strict=True):
        slug = name.lower().replace(" ", "-")
        rows[id_] = an_organization_row(f"gram-{slug}", name=name, slug=slug, workos_id=id_)
    Organization.objects.filter(id="gram-tyrell").update(disabled_at=now - minutes(90))
    WorkOSEvent.objects.bulk_create(_event(number, now) for number in range(1, 100))
    payload = '{"object": "event", "data": {"object": "organization", "name": null}}'
    error = "data.name: expected text, found null"
    a_parked_event(
        _event_id(0), workos_organization_id=INITECH, processed_at=now, error=error, payload=payload
    )
    a_write_back(rows[GLOBEX])
    reason = "WorkOS has external_id 'gram-nucleus', the row's id is 'gram-hooli'"
    a_write_back(rows[HOOLI], next_attempt_at=None, last_error=reason)
    a_conflict(HOOLI, organization_id="gram-hooli", reason=reason)
    _belongings()


def _belongings() -> None:
    """What belongs to Umbrella: a domain, a connection, members, a role."""
    umbrella = {"workos_organization_id": UMBRELLA}
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
    permissions = ["rooms:read", "rooms:write"]
    Role.objects.create(
        workos_id=f"{UMBRELLA}:lead", slug="lead", name="Lead", permissions=permissions, **umbrella
    )
    user_id = "user_01K2QWZ9H8E4T6M2N5R7B3D0AC"
    WorkOSUser.objects.create(workos_id=user_id, email="ada@umbrella.example")
    OrganizationMembership.objects.create(
        workos_id="om_01K2QWZ9H8E4T6M2N5R7B3D0AD",
        workos_user_id=user_id,
        status="active",
        role_slugs=["lead", "member"],
        **umbrella,
    )


def _event(number: int, now: datetime) -> WorkOSEvent:
    processed_at = now - minutes(14 * number)
    announced_at = processed_at - timedelta(seconds=number % 7)
    return WorkOSEvent(
        id=_event_id(number),
        type="organization.updated",
        workos_organization_id=IDS[number % len(IDS)],
        occurred_at=announced_at - timedelta(seconds=1),
        announced_at=announced_at,
        processed_at=processed_at,
        outcome=_OUTCOMES[number % len(_OUTCOMES)],
    )


def _event_id(number: int) -> str:
    return f"event_01K2QX4T4PEZ5Y4V3J6WJ5S{number:03}"
