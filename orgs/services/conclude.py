"""Ends a run: pushes the write-backs that it requested, and says what everything came to."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from django.db import DatabaseError

from orgs.db.cursor import read_cursor
from orgs.db.errors import describe, is_passing
from orgs.domain.report import Report
from orgs.models import ExternalIdWriteBack
from orgs.services import outbox
from orgs.services.compare import Comparing, failures
from orgs.services.outbox import WriteBackReport
from orgs.services.pages import CursorLost
from orgs.services.reconcile_resources import ResourceRun
from orgs.services.stream import DrainReport

_PUSH_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run found and, unless it was a dry one, did."""

    events: DrainReport
    snapshot: Report
    write_backs: WriteBackReport
    organizations: int
    """How many organizations WorkOS listed, or was asked for."""
    cursor: str | None
    """The last event applied, when the run ended."""
    resources: tuple[ResourceRun, ...] = ()
    """The other resources that were compared."""
    due_write_backs: int = 0
    """Of a dry run: write-backs that a repair would attempt."""
    lost: CursorLost | None = None
    """The cursor was lost; a run that repairs has moved it, if the list was complete."""

    @property
    def in_sync(self) -> bool:
        """Whether there was nothing to repair: neither here nor at WorkOS."""
        return not (
            self.events.moved_rows
            or self.events.waiting
            or any(report.found_drift for report in self.reports)
            or self.lost
            or self.due_write_backs
            or self.write_backs.pushed
            or self.errors
        )

    @property
    def reports(self) -> list[Report]:
        """What became of each resource, organizations first."""
        return [self.snapshot, *(one.report for one in self.resources)]

    @property
    def errors(self) -> list[str]:
        """Why not everything is repaired; empty if it is."""
        errors = [text for one in self.reports for text in (*one.errors, *failures(one))]
        return errors + self.events.errors + self.write_backs.errors


def conclude(
    comparing: Comparing,
    events: DrainReport,
    organizations: int,
    *,
    only: Collection[str] | None = None,
    lost: CursorLost | None = None,
    others: tuple[ResourceRun, ...] = (),
) -> Reconciliation:
    """Push what is due, and say what everything came to."""
    due, pushed = 0, WriteBackReport()
    if not comparing.run.dry:
        pushed = _push(comparing, only)
    with comparing.lookups.reading():
        cursor = read_cursor().position.last_event_id
        if comparing.run.dry and only is None:
            due = ExternalIdWriteBack.objects.due().count()
        return Reconciliation(
            events, comparing.report, pushed, organizations, cursor, others, due, lost
        )


def _push(comparing: Comparing, only: Collection[str] | None) -> WriteBackReport:
    """What the run did is to be reported, even if the outbox is locked."""
    patience = min(comparing.lookups.patience, _PUSH_SECONDS)
    deadline = time.monotonic() + _PUSH_SECONDS
    try:
        return outbox.push_due(deadline=deadline, only=only, patience=patience)
    except DatabaseError as error:
        if not is_passing(error):
            raise
        comparing.report.errors.append(f"write-backs are left for the worker: {describe(error)}")
        return WriteBackReport()
