"""What each work finds, small and always the same: the tables, and WorkOS."""

from collections.abc import Callable
from typing import Final, TypeAlias

from orgs.models import ORGANIZATIONS_STREAM, ExternalIdWriteBack, SyncCursor
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_announcement, an_organization_row, minutes
from tests.triggers import execute

#: A name that ``a_constraint`` forbids.
FORBIDDEN: Final = "Forbidden"

Arrange: TypeAlias = Callable[[FakeWorkOS], None]
"""Fills the empty tables, and WorkOS."""


def let_an_hour_pass() -> None:
    """As for all that goes by the database's clock: leases, claims, pauses and announcements."""
    execute(
        """
        UPDATE workos_sync_cursor SET draining_until = draining_until - interval '1 hour',
            reconciling_until = reconciling_until - interval '1 hour';
        UPDATE workos_external_id_write_back
            SET next_attempt_at = next_attempt_at - interval '1 hour';
        UPDATE workos_event SET announced_at = announced_at - interval '1 hour'
        """
    )


def a_stream(workos: FakeWorkOS) -> None:
    """Three pages of every kind of event: one that nobody can read, one that PostgreSQL refuses, so
    that its page is applied one by one, and an announcement of an event that is never listed."""
    at = TWO_DAYS_AGO.isoformat()
    an_organization_row("gram-2", name="Bolt", slug="bolt")
    an_organization_row("gram-9", name="Acme", slug="acme")
    workos.create_organization(id="org_1", name="Acme", at=at)
    workos.create_organization(id="org_2", name="Bolt", external_id="gram-2", at=at)
    workos.update_organization("org_1", name="Acme & Sons", at=at)
    workos.delete_organization("org_2", at=at)
    workos.create_organization(id="org_3", name="Bolt", external_id="gram-2", at=at)
    workos.emit({"event": "organization.updated", "data": {"id": "org_3"}}, at=at)
    workos.create_organization(id="org_4", name=FORBIDDEN, at=at)
    workos.delete_organization("org_1", at=at)
    workos.create_organization(id="org_5", name="Late", at=at, emits=False)
    an_announcement("event_never_listed", ago=minutes(5), workos_id="org_5")


def an_outbox(workos: FakeWorkOS) -> None:
    """A request of each kind: two to be written, one that is there already, one where WorkOS has
    another id, one of a deleted organization, one whose link was taken away."""
    for number, shown in enumerate((None, None, "gram-3", "other", None, None), start=1):
        id_, workos_id = f"gram-{number}", f"org_{number}"
        an_organization_row(id_, name=f"Acme {number}", workos_id=workos_id)
        ExternalIdWriteBack.objects.create(organization_id=id_, workos_id=workos_id)
        workos.create_organization(
            id=workos_id, name=f"Acme {number}", external_id=shown, at=TWO_DAYS_AGO, emits=False
        )
    workos.delete_organization("org_5", emits=False)
    execute(
        "UPDATE organization_metadata SET disabled_at = now(), workos_deleted_at = now() "
        "WHERE id = 'gram-5'"
    )
    execute("UPDATE organization_metadata SET workos_id = NULL WHERE id = 'gram-6'")


def drift_behind_a_lost_cursor(workos: FakeWorkOS) -> None:
    """Drift of every kind, and WorkOS does not know the event after which the stream goes on."""
    an_organization_row("gram-2", name="Bolt")
    an_organization_row("gram-3", name="Old", workos_id="org_3")
    an_organization_row("gram-4", name="Taken over", workos_id="org_deleted")
    an_organization_row("gram-5", name="Missing", workos_id="org_missing")
    an_organization_row("gram-6", name="Unknown there", workos_id="org_6")
    an_organization_row("gram-7", name="Known there", workos_id="org_7")
    ExternalIdWriteBack.objects.create(organization_id="gram-7", workos_id="org_7")
    an_organization_row("gram-8", name="Same", workos_id="org_8")
    names = ("New", "Bolt", "New", "Taken over", None, "Unknown there", "Known there", "Same")
    for number, name in enumerate(names, start=1):
        if name is not None:
            external_id = None if name == "Unknown there" else f"gram-{number}"
            workos.create_organization(
                id=f"org_{number}", name=name, external_id=external_id, at=TWO_DAYS_AGO, emits=False
            )
    workos.create_organization(id="org_9", name="Streamed", at=TWO_DAYS_AGO)
    workos.expire_events()
    workos.update_organization("org_9", name="Streamed again")
    SyncCursor.objects.create(
        stream=ORGANIZATIONS_STREAM, last_event_id="event_expired", last_event_at=TWO_DAYS_AGO
    )
