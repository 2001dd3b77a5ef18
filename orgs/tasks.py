"""Defines what the worker runs. A task may run twice, at once, late or never.

django-q2 calls these by their dotted paths; each returns text for its record.
"""

import json
import logging
import time
from collections.abc import Callable
from functools import wraps

from orgs.conf import sync_settings
from orgs.db.cursor import read_cursor
from orgs.db.errors import without_detail
from orgs.domain.figures import kept
from orgs.domain.naming import counted, one_line
from orgs.domain.report import Report
from orgs.domain.types import Outcome
from orgs.services import coverage, erasure, maintenance, outbox, stream
from orgs.services.compare import Run
from orgs.services.queue import COVER, RECONCILE, enqueue
from orgs.services.reconcile import reconcile as reconcile_in_full
from orgs.services.reconcile import reconcile_unless_busy
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

#: The first full reconcile may repair a hundred thousand.
_CHANGES_LOGGED = 20

#: How long the daily run reads lists for single organizations and directories, for each resource:
#: it goes on the next day where it stopped.
_SCOPE_SECONDS = 600.0

_LEFT = "left to the one that is running, or not needed"


def _task(run: Callable[[], str]) -> Callable[[], str]:
    """Have a task that fails say why without the values of a row: django-q2 stores its traceback
    and logs it."""

    @wraps(run)
    def described() -> str:
        try:
            return run()
        except Exception as error:
            if (shown := without_detail(error)) is error:
                raise
            raise shown from None

    return described


@_task
def sync_events() -> str:
    """Apply what WorkOS's stream has, and wait a while for what is announced."""
    report = stream.drain_and_wait()
    if coverage.is_cover_due(read_cursor()):
        enqueue(COVER)
    counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(report.counts.items()))
    return counts or "nothing new"


@_task
def push_external_ids() -> str:
    """Write new ids back to WorkOS."""
    report = outbox.push_due(deadline=time.monotonic() + sync_settings().drain_deadline)
    return f"pushed {report.pushed}, failed {report.failed}, conflicts {report.conflicts}"


@_task
def reconcile() -> str:
    """Compare every organization, and repair; leave it to another process that does so."""
    return _reconcile(Run(scope_seconds=_SCOPE_SECONDS))


@_task
def cover() -> str:
    """List the resources that are followed since a short time, so that they are covered."""
    if not coverage.is_derived(state := read_cursor()):
        coverage.derive_again()
    if not (names := coverage.uncovered(state)):
        return "all are covered"
    if not coverage.is_list_due(state):
        return "not due"
    said = _reconcile(Run(resources=tuple(names)))
    if said != _LEFT and coverage.note_cover_ended(state):
        enqueue(RECONCILE)
    return said


@_task
def recover() -> str:
    """Reconcile if the cursor is still lost: each drain that finds it lost enqueues this."""
    return _reconcile(Run(scope_seconds=_SCOPE_SECONDS), only_if_lost=True)


def _reconcile(run: Run, *, only_if_lost: bool = False) -> str:
    try:
        reconciliation = reconcile_unless_busy(run, only_if_lost=only_if_lost)
    except (WorkOSError, coverage.SettingsDiffer) as failure:
        # It is noted. A line says it, and not a traceback a minute for as long as it lasts.
        logger.error("the full reconcile is not complete: %s", one_line(failure))  # noqa: TRY400
        return "not complete"
    if reconciliation is None:
        return _LEFT
    stream.log_parked(reconciliation.events)
    _log_repairs(reconciliation.organizations)
    for one in reconciliation.resources:
        if one.is_covered:
            _log_repairs(one.report)
        elif not one.not_listed:
            # That the stream should have brought none of it is what makes it uncovered.
            rows = counted(_done(one.report), "row")
            logger.info("%s: its list changed %s", one.name, rows)
    for error in reconciliation.errors:
        if error in reconciliation.not_covered:
            # As in ``/readyz``: a warning, and no second problem.
            logger.warning("%s", one_line(error))
        else:
            logger.error("the full reconcile is not complete: %s", one_line(error))
    if reconciliation.in_sync:
        return "in sync"
    return f"repaired {sum(map(_done, reconciliation.reports))}"


def _done(report: Report) -> int:
    """Return how many changes were made, without those that PostgreSQL refused."""
    return len(report.drift) - report.counts[Outcome.FAILED]


def dry_run() -> str:
    """Compare everything and write nothing; return what would be repaired, as JSON."""
    try:
        found = reconcile_in_full(Run(dry=True))
    except (WorkOSError, coverage.SettingsDiffer) as failure:
        return json.dumps({"errors": [one_line(failure)]})
    drift = [change for report in found.reports for change in report.drift]
    errors = [one_line(error) for error in found.errors]
    return json.dumps({"errors": errors, "count": len(drift), "changes": kept(drift)})


def _log_repairs(report: Report) -> None:
    """Log what the stream should have brought: someone may want to know why it did not.

    Without names, which are customers'.
    """
    for change in report.drift[:_CHANGES_LOGGED]:
        # Of another resource: its name, and no row of an organization.
        id_ = one_line(change.organization_id or change.resource)
        about = {"organization": change.workos_id, "outcome": change.change}
        shown = (id_, one_line(change.workos_id), change.change)
        logger.warning("reconcile found %s (%s): %s", *shown, extra=about)
    if (more := len(report.drift) - _CHANGES_LOGGED) > 0:
        logger.warning("reconcile found %d more", more)


@_task
def prune() -> str:
    """Delete old events, and erase personal data that is not needed any more."""
    return f"pruned {maintenance.prune()}, erased {erasure.erase_due()}"
