"""What the worker runs. A task is a doorbell: it may run twice, at once, late or never.

django-q2 calls these by their dotted paths; each returns text for its record.
"""

import logging
import time

from django.utils import timezone

from orgs.conf import sync_settings
from orgs.domain.naming import one_line
from orgs.services import outbox as write_back
from orgs.services import prune as pruning
from orgs.services import reconcile as reconciling
from orgs.services import stream as drain
from orgs.services.repair import Run, SnapshotReport

logger = logging.getLogger(__name__)

#: The first snapshot may repair a hundred thousand.
_DRIFT_LOGGED = 20


def sync_events() -> str:
    """Applies what WorkOS's stream has, and waits a while for what is announced."""
    report = drain.drain_and_wait()
    counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.outcomes.items()))
    return counts or "nothing new"


def push_external_ids() -> str:
    """Writes new ids back to WorkOS."""
    deadline = time.monotonic() + sync_settings().drain_deadline
    report = write_back.push_due(deadline=deadline)
    return f"pushed {report.pushed}, failed {report.failed}, conflicts {report.conflicts}"


def reconcile() -> str:
    """Compares every organization, and repairs; leaves it to another that is doing so."""
    return _reconcile(only_if_lost=False)


def recover() -> str:
    """The same, if the cursor is lost still: each drain that finds it so rings for this."""
    return _reconcile(only_if_lost=True)


def _reconcile(*, only_if_lost: bool) -> str:
    report = reconciling.reconcile_unless_busy(Run(now=timezone.now()), only_if_lost=only_if_lost)
    if report is None:
        return "left to the one that is running, or not needed"
    drain.log_trouble(report.events)
    _log_drift(report.snapshot)
    for trouble in report.trouble:
        logger.error("the snapshot is not complete: %s", trouble)
    return "in sync" if report.in_sync else f"repaired {len(report.snapshot.changes)}"


def _log_drift(report: SnapshotReport) -> None:
    """The stream should have brought what a snapshot has to repair: someone may want to know why.

    Without names, which are customers'.
    """
    for change in report.drift[:_DRIFT_LOGGED]:
        told = f"{one_line(change.organization_id or 'unknown')} ({one_line(change.workos_id)})"
        extra = {"organization": change.workos_id, "outcome": change.change}
        logger.warning("the snapshot repaired %s: %s", told, change.change, extra=extra)
    if (more := len(report.drift) - _DRIFT_LOGGED) > 0:
        logger.warning("the snapshot repaired %d more", more)


def prune() -> str:
    """Forgets old events."""
    return f"pruned {pruning.prune(timezone.now())}"
