"""Runs of reconcile, and what is stored, enqueued and logged after whatever was run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest
from django_q.models import OrmQ

from orgs.db.cursor import read_cursor
from orgs.domain.figures import Figures
from orgs.domain.types import Position
from orgs.models import Organization, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.services.compare import DisableLimit, Run
from orgs.services.conclude import Reconciliation
from orgs.services.coverage import prepare_to_read
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import reconcile_organizations
from orgs.services.status import current_status
from orgs.services.stream import DrainReport
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, an_organization_row

LogCapture: TypeAlias = pytest.LogCaptureFixture
MonkeyPatch: TypeAlias = pytest.MonkeyPatch
Setting: TypeAlias = Callable[..., None]
#: An object, the name of a function of it, and what happens: with what the function is given.
Around: TypeAlias = Callable[[Any, str, Callable[..., object]], None]

#: Locks of other programs are not waited for long.
impatient = pytest.mark.usefixtures("impatient")

EVERYTHING = DisableLimit(rows=0, percent=100)
BUSY = "locked, or writes it at the same time; run it again"


def from_now(**values: float) -> datetime:
    return datetime.now(UTC) + timedelta(**values)


def a_member(
    workos: FakeWorkOS, of: str, *, at: datetime | None = TWO_DAYS_AGO, **options: Any
) -> Any:
    """A new user's membership of an organization, as WorkOS shows it."""
    user = workos.users.create(email=f"{len(workos.users.all())}@acme.com", at=at, **options)
    return workos.memberships.create(user_id=user["id"], organization_id=of, at=at, **options)


# The cursor ---------------------------------------------------------------------------------


def cursor() -> SyncCursor:
    return SyncCursor.objects.get()


def set_cursor(**values: Any) -> None:
    prepare_to_read()
    SyncCursor.objects.update(**values)


def position() -> Position:
    return read_cursor().position


def is_waiting() -> bool:
    return SyncCursor.objects.filter(draining_until__isnull=False).exists()


def figures() -> Figures:
    found = current_status().figures
    assert found is not None
    return found


# The other tables, and the log --------------------------------------------------------------


def row(organization_id: str) -> Organization:
    return Organization.objects.get(id=organization_id)


def names() -> list[str]:
    return sorted(Organization.objects.values_list("name", flat=True))


def links() -> dict[str, str | None]:
    return dict(Organization.objects.values_list("id", "workos_id"))


def sso_enabled() -> dict[str, bool | None]:
    return dict(Organization.objects.values_list("id", "sso_enabled"))


def disabled() -> list[str]:
    return sorted(Organization.objects.disabled().values_list("id", flat=True))


def missing_rows(count: int) -> None:
    for number in range(count):
        an_organization_row(f"missing-{number:03}", workos_id=f"org_missing_{number}")


def ledger() -> dict[str, str | None]:
    return dict(WorkOSEvent.objects.values_list("id", "outcome"))


def parked() -> dict[str, str]:
    return dict(WorkOSEvent.objects.parked().values_list("id", "error"))


def conflicts() -> dict[str, tuple[str | None, str]]:
    stored = WorkOSConflict.objects.all()
    return {c.workos_organization_id: (c.organization_id, c.kind) for c in stored}


def enqueued() -> list[str]:
    return [queued.func() for queued in OrmQ.objects.order_by("id")]


def problems(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.levelname != "INFO"]


# Runs, and what they report -----------------------------------------------------------------


def compared(**values: Any) -> Reconciliation:
    """A run that compares, without the events."""
    return reconcile(Run(**values), drain_events=False)


def only(*ids: str, **values: Any) -> Reconciliation:
    return reconcile_organizations(Run(**values), ids)


def changes(found: Reconciliation) -> list[tuple[str | None, str]]:
    listed = sorted(found.organizations.changes, key=lambda change: change.order)
    return [(change.organization_id, change.change) for change in listed]


def kinds(found: Reconciliation) -> list[str]:
    return sorted(change.change for change in found.organizations.changes)


def read(report: DrainReport) -> int:
    return report.counts.total()
