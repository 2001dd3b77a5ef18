"""Calls the services for the admin's actions, and says in results what they report."""

import time
from collections.abc import Callable, Iterator, Sequence

from django.contrib import messages

from orgs.admin.base import NotDone, Plan, Result
from orgs.db.errors import without_detail
from orgs.domain.types import Change, Outcome
from orgs.models import ORGANIZATIONS_STREAM, WorkOSEvent
from orgs.services import conflicts, queue, refresh
from orgs.services.compare import Run
from orgs.services.reconcile import Reconciliation
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.workos import ExternalIdConflict

#: Proxies hang up on what takes a minute.
MAX_SECONDS = 20.0


def _ask_workos(ids: Sequence[str], *, dry: bool) -> Reconciliation:
    try:
        deadline = time.monotonic() + MAX_SECONDS
        return reconcile_organizations(Run(dry=dry), ids, deadline=deadline, patience=0.0)
    except UnknownOrganization as error:
        raise NotDone(str(error)) from error


def _shown_under(ids: Sequence[str], change: Change) -> str:
    """Return the id that was chosen, if it is one of the change's."""
    keys = [key for key in (change.organization_id, change.workos_id, "?") if key is not None]
    return next((key for key in keys if key in ids), keys[0])


def plan_reconcile(ids: Sequence[str]) -> Plan:
    """Find out by a dry run what reconciling these would change; the ids may be of either kind."""
    found = _ask_workos(ids, dry=True)
    rows = dict.fromkeys(ids, "")
    for change in found.snapshot.changes:
        key = _shown_under(ids, change)
        rows[key] = f"{rows[key]}; {change}" if rows.get(key) else str(change)
    texts = {key: text or "In sync with WorkOS: nothing happens" for key, text in rows.items()}
    return Plan(texts, is_idle=not found.snapshot.found_drift, warnings=found.errors)


def reconcile(ids: Sequence[str]) -> Iterator[Result]:
    """Reconcile these."""
    found = _ask_workos(ids, dry=False)
    same = dict.fromkeys(ids)
    for change in found.snapshot.changes:
        key = _shown_under(ids, change)
        same.pop(key, None)
        level = messages.WARNING if change.reason else messages.SUCCESS
        yield Result(str(change), [key], level, names_rows=True)
    if same:
        yield Result("In sync with WorkOS", list(same))
    for error in found.errors:
        yield Result(error, level=messages.ERROR)


def replay(ids: Sequence[str]) -> Iterator[Result]:
    """Replay these events, or all that are parked."""
    deadline = time.monotonic() + MAX_SECONDS
    report = refresh.replay_all_parked(deadline=deadline, only=ids or None)
    same: dict[tuple[str, int], list[str]] = {}
    for event_id, change in report.results.items():
        outcome = (f"Applied what WorkOS says now ({change.change})", messages.SUCCESS)
        if change.change is Outcome.PARKED:
            outcome = (f"Still parked ({change.reason})", messages.WARNING)
        same.setdefault(outcome, []).append(event_id)
    for (text, level), event_ids in same.items():
        yield Result(text, event_ids, level)
    if report.error:
        text = f"Not all could be replayed: {without_detail(report.error)}"
        yield Result(text, level=messages.ERROR)
    if report.left:
        text = f"Left as they were: {report.left}. Replay them again later"
        left = [event_id for event_id in ids if event_id not in report.results]
        yield Result(text, left, messages.ERROR, names_rows=True)


def plan_replay_of_all(_: Sequence[str]) -> Plan:
    """Count the events that are parked."""
    parked = WorkOSEvent.objects.parked().count()
    return Plan({}, is_idle=not parked, warnings=[f"Parked events: {parked}"])


def dismiss(ids: Sequence[str]) -> Iterator[Result]:
    """Dismiss these events."""
    yield Result("Dismissed", [id_ for id_ in ids if refresh.dismiss_parked([id_])])


def decide(decision: Callable[[str], Change]) -> Callable[[Sequence[str]], Iterator[Result]]:
    """Return what decides conflicts so."""

    def act(ids: Sequence[str]) -> Iterator[Result]:
        for id_ in ids:
            try:
                yield Result(str(decision(id_)), [id_], names_rows=True)
            except (conflicts.NotDecidable, ExternalIdConflict) as error:
                yield Result(f"Not done: {error}", [id_], messages.ERROR, names_rows=True)

    return act


def keep(ids: Sequence[str]) -> Iterator[Result]:
    """Keep what is in conflict as it is."""
    yield Result("Kept as it is", [id_ for id_ in ids if conflicts.keep([id_])])


def enqueue(task: str, label: str) -> Callable[[Sequence[str]], Iterator[Result]]:
    """Return what has the worker do this now."""

    def act(_: Sequence[str]) -> Iterator[Result]:
        if queue.enqueue(task):
            yield Result(f"Enqueued: {label}", [ORGANIZATIONS_STREAM], names_rows=True)
        else:
            text = "The task could not be enqueued; the web process's log says why"
            yield Result(text, level=messages.ERROR)

    return act
