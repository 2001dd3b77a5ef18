"""Runs of reconcile, what they found, and what is stored then."""

from collections.abc import Callable
from typing import Any, TypeAlias

from orgs.models import Organization, SyncCursor, WorkOSConflict
from orgs.services.compare import Run
from orgs.services.conclude import Reconciliation
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from tests.builders import an_organization_row

Setting: TypeAlias = Callable[..., None]

BUSY = "locked, or writes it at the same time; run it again"


def compared(**values: Any) -> Reconciliation:
    """A run that compares, without the events."""
    return reconcile(Run(**values), drain_events=False)


def only(*ids: str, **values: Any) -> Reconciliation:
    return reconcile_organizations(Run(**values), ids)


def changes(found: Reconciliation) -> list[tuple[str | None, str]]:
    listed = sorted(found.snapshot.changes, key=lambda change: change.order)
    return [(change.organization_id, change.change) for change in listed]


def kinds(found: Reconciliation) -> list[str]:
    return sorted(change.change for change in found.snapshot.changes)


def row(organization_id: str) -> Organization:
    return Organization.objects.get(id=organization_id)


def disabled() -> list[str]:
    return sorted(Organization.objects.disabled().values_list("id", flat=True))


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def conflicts() -> dict[str, tuple[str | None, str]]:
    stored = WorkOSConflict.objects.all()
    return {c.workos_organization_id: (c.organization_id, c.kind) for c in stored}


def missing_rows(count: int) -> None:
    for number in range(count):
        an_organization_row(f"missing-{number:03}", workos_id=f"org_missing_{number}")
