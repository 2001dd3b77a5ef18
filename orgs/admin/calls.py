"""Calls the services for the admin's actions, and says in results what they report."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from django.contrib import messages
from django.db import DatabaseError

from orgs.admin.base import Plan, Result
from orgs.db.errors import without_detail
from orgs.domain.report import Change
from orgs.domain.types import Outcome
from orgs.models import ORGANIZATIONS_STREAM, Organization, WorkOSEvent
from orgs.services import conflicts, queue, refresh, refusals
from orgs.services.compare import Run
from orgs.services.conclude import Reconciliation
from orgs.services.reconcile_one import reconcile_organizations
from orgs.workos import SAME_FOR_ALL, ExternalIdConflict, Unavailable, WorkOSError

logger = logging.getLogger(__name__)

#: Proxies hang up on what takes a minute.
MAX_SECONDS = 20.0

_IN_SYNC = "In sync with WorkOS"


def _ask_workos(ids: Sequence[str], *, dry: bool) -> tuple[Reconciliation, dict[str, list[Change]]]:
    """Reconcile these; return also the changes of each, by the id that was chosen."""
    linked = Organization.objects.linked().filter(pk__in=ids)
    chosen = {id_: id_ for id_ in ids} | {row.workos_id or "": row.pk for row in linked}
    deadline = time.monotonic() + MAX_SECONDS
    found = reconcile_organizations(Run(dry=dry), ids, deadline=deadline, patience=0.0)
    changes: dict[str, list[Change]] = {}
    for change in (change for report in found.reports for change in report.changes):
        keys = (change.organization_id, change.workos_id, change.workos_organization_id)
        known = [key for key in keys if key is not None] or ["?"]
        key = next((chosen[key] for key in known if key in chosen), known[0])
        # It may be linked just now; what belongs to it is reported after it.
        chosen[change.workos_id or "?"] = key
        changes.setdefault(key, []).append(change)
    return found, changes


def _unchanged(found: Reconciliation) -> str:
    """Return what is true of each row without a change; which one an error is about is unknown."""
    if found.errors:
        return "Nothing repaired"
    is_stale = any(report.counts[Outcome.STALE] for report in found.reports)
    return "In sync with WorkOS, or newer than its answer" if is_stale else _IN_SYNC


def plan_reconcile(ids: Sequence[str]) -> Plan:
    """Find out by a dry run what reconciling these would change; the ids may be of either kind."""
    found, changes = _ask_workos(ids, dry=True)
    is_idle = found.in_sync and not any(report.needs_writing for report in found.reports)
    same = f"{_unchanged(found)}{': nothing happens' if is_idle else ''}"
    said = {key: "; ".join(map(str, of_row)) for key, of_row in changes.items()}
    return Plan(dict.fromkeys(ids, same) | said, is_idle=is_idle, warnings=found.errors)


def plan_recheck(ids: Sequence[str]) -> Plan:
    """Find out the same of conflicts: that one is solved is to be noted, too."""
    plan = plan_reconcile(ids)
    solved = "Solved: it is removed from this list"
    rows = {key: solved if text.startswith(_IN_SYNC) else text for key, text in plan.rows.items()}
    return replace(plan, rows=rows, is_idle=False)


def reconcile(ids: Sequence[str]) -> Iterator[Result]:
    """Reconcile these."""
    found, changes = _ask_workos(ids, dry=False)
    for key, of_row in changes.items():
        for change in of_row:
            level = messages.WARNING if change.reason else messages.SUCCESS
            yield Result(str(change), [key], level, names_rows=True)
    if same := [id_ for id_ in dict.fromkeys(ids) if id_ not in changes]:
        yield Result(_unchanged(found), same, messages.INFO if found.errors else messages.SUCCESS)
    for error in found.errors:
        yield Result(error, level=messages.ERROR)


def replay(ids: Sequence[str]) -> Iterator[Result]:
    """Replay these events, or all that are parked."""
    deadline = time.monotonic() + MAX_SECONDS
    parked = WorkOSEvent.objects.parked()
    report = refresh.resolve_all(parked.filter(id__in=ids) if ids else parked, deadline=deadline)
    same: dict[tuple[str, int], list[str]] = {}
    for change in report.changes:
        outcome = (f"Applied what WorkOS says now ({change.change})", messages.SUCCESS)
        if change.change is Outcome.PARKED:
            outcome = (f"Still parked ({change.reason})", messages.WARNING)
        same.setdefault(outcome, []).append(change.event_id or "")
    for (text, level), event_ids in same.items():
        yield Result(text, event_ids, level)
    if report.error:
        text = f"Not all could be replayed: {without_detail(report.error)}"
        yield Result(text, level=messages.ERROR)
    if report.left:
        text = f"Left as they were: {report.left}. Replay them again later"
        # Without those that were resolved meanwhile: for these there was nothing to do.
        left = parked.filter(id__in=ids).values_list("id", flat=True)
        yield Result(text, list(left), messages.ERROR, names_rows=True)


def plan_replay_of_all(_: Sequence[str]) -> Plan:
    """Count the events that are parked."""
    parked = WorkOSEvent.objects.parked().count()
    return Plan({}, is_idle=not parked, warnings=[f"Parked events: {parked}"])


def decide(decision: Callable[[str], Change], ids: Sequence[str]) -> Iterator[Result]:
    """Decide these conflicts so."""
    deadline = time.monotonic() + MAX_SECONDS
    for id_ in ids:
        if time.monotonic() > deadline:
            yield _not_done(id_, "the time is up; try it again")
            continue
        try:
            yield Result(str(decision(id_)), [id_], names_rows=True)
        except (conflicts.NotDecidable, ExternalIdConflict) as error:
            yield Result(f"Not done: {error}", [id_], messages.ERROR, names_rows=True)
        except (WorkOSError, DatabaseError) as error:
            is_of_all = isinstance(error, (*SAME_FOR_ALL, Unavailable))
            if is_of_all or (isinstance(error, DatabaseError) and refusals.fails_every_row(error)):
                raise
            yield _not_done(id_, refusals.text_of(error))


def write(
    service: Callable[[Sequence[str]], list[str]], done: str, ids: Sequence[str]
) -> Iterator[Result]:
    """Have a service write rows: those that PostgreSQL does not refuse."""
    deadline = time.monotonic() + MAX_SECONDS
    written, refused = refusals.together_or_alone(ids, service, deadline=deadline)
    yield Result(done, written)
    yield from map(_not_done, refused, refused.values())


def _not_done(id_: str, reason: str) -> Result:
    logger.warning("not done: %r: %s", id_, reason)
    return Result(f"Not done: {id_}: {reason}", [id_], messages.ERROR, names_rows=True)


def enqueue(task: str, label: str, _: Sequence[str]) -> Iterator[Result]:
    """Have the worker do this now."""
    if queue.enqueue(task):
        yield Result(f"Enqueued: {label}", [ORGANIZATIONS_STREAM], names_rows=True)
    else:
        text = "The task could not be enqueued; the web process's log says why"
        yield Result(text, level=messages.ERROR)
