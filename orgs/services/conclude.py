"""Ends a run: pushes the write-backs that it requested, and says what everything came to."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orgs.db.cursor import read_cursor
from orgs.domain.report import Change, Report
from orgs.models import ExternalIdWriteBack
from orgs.services import outbox
from orgs.services.compare import Comparison, why_incomplete
from orgs.services.outbox import WriteBackReport
from orgs.services.pages import CursorLost
from orgs.services.reconcile_resources import ResourceComparison
from orgs.services.refusals import reporting
from orgs.services.stream import DrainReport

_PUSH_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run found and, unless it was a dry one, did."""

    events: DrainReport
    organizations: Report
    write_backs: WriteBackReport
    organizations_listed: int
    """How many organizations WorkOS listed, or was asked for."""
    cursor: str | None
    """The last event applied, when the run ended."""
    resources: Sequence[ResourceComparison] = ()
    """The other resources that were compared."""
    due_write_backs: int = 0
    """Of a dry run: write-backs that a repair would attempt."""
    lost: CursorLost | None = None
    """The cursor was lost; a run that repairs has moved it, if the list was complete."""

    @property
    def in_sync(self) -> bool:
        """Whether there was nothing to repair: neither here nor at WorkOS."""
        return not (
            self.events.changed_rows
            or self.events.waiting
            or any(report.drift for report in self.reports)
            or self.lost
            or self.due_write_backs
            or self.write_backs.pushed
            or self.errors
        )

    @property
    def reports(self) -> list[Report]:
        """What became of each resource, organizations first."""
        return [self.organizations, *(one.report for one in self.resources)]

    @property
    def changes(self) -> list[Change]:
        """What happened to each object, in an order in which two runs report alike."""
        found = (change for report in self.reports for change in report.changes)
        return sorted(found, key=lambda change: change.order)

    @property
    def errors(self) -> list[str]:
        """Why not everything is repaired; empty if it is."""
        found = [text for report in self.reports for text in why_incomplete(report)]
        return found + self.not_covered + self.events.errors + self.write_backs.errors

    @property
    def not_covered(self) -> list[str]:
        """Which resources are not covered because a list could not be read, and why."""
        missing = (one for one in self.resources if one.not_listed)
        return [f"{one.name} is not covered: {one.not_listed}" for one in missing]


def conclude(
    organizations: Comparison,
    resources: Sequence[ResourceComparison],
    events: DrainReport,
    *,
    only: Collection[str] | None = None,
    lost: CursorLost | None = None,
) -> Reconciliation:
    """Push what is due, or ``only`` for these Gram ids, and say what everything came to."""
    report, due, pushed = organizations.report, 0, WriteBackReport()
    if not organizations.run.dry:
        patience = min(organizations.lookups.patience, _PUSH_SECONDS)
        deadline = time.monotonic() + _PUSH_SECONDS
        # What the run did is to be reported, even if the outbox is locked.
        with reporting(report.errors.append, "write-backs are left for the worker: {}"):
            pushed = outbox.push_due(deadline=deadline, only=only, patience=patience)
    with organizations.lookups.reading():
        cursor = read_cursor().position.last_event_id
        if organizations.run.dry and only is None:
            due = ExternalIdWriteBack.objects.due().count()
        return Reconciliation(
            events, report, pushed, organizations.listed, cursor, resources, due, lost
        )
