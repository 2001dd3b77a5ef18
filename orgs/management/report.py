"""Formats what a run found: as JSON for programs, and as text for people that is made of it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from orgs.domain.report import Change
from orgs.domain.types import EVENT_OUTCOMES, ORGANIZATION, Outcome
from orgs.services.conclude import Reconciliation
from orgs.services.outbox import WriteBackReport
from orgs.services.refresh import ResolveReport
from orgs.services.stream import DrainReport

#: What can become of an event that is read from the stream, in the order it is reported.
_EVENT_OUTCOMES = [
    outcome for outcome in EVENT_OUTCOMES if outcome not in (Outcome.MISSING, Outcome.DISMISSED)
]

#: What is counted of organizations, and of each other resource, in the order it is reported.
_SNAPSHOT_COUNTS = (
    *("created", "linked", "relinked", "updated", "disabled", "unchanged", "stale", "conflicts"),
    *("failed", "unproven", "write_backs", "disabled_here"),
)
_RESOURCE_COUNTS = ("created", "updated", "deleted", "unchanged", "stale", "failed", "unproven")

_CHANGES_SHOWN = 50


def events_summary(
    events: DrainReport, write_backs: WriteBackReport, cursor: str | None
) -> dict[str, Any]:
    """Return the JSON object of a run of events alone."""
    outcomes = {outcome.value: events.counts[outcome] for outcome in _EVENT_OUTCOMES}
    return {
        "events": {"read": sum(outcomes.values()) + events.waiting, **outcomes},
        "write_backs": _write_backs(write_backs),
        "cursor": cursor,
        "drained": events.drained,
    }


def full_summary(found: Reconciliation) -> dict[str, Any]:
    """Return the JSON object of a run that compares. The same state gives the same bytes."""
    by_outcome = found.organizations.counts
    snapshot = {**by_outcome, "conflicts": by_outcome[Outcome.CONFLICT]}
    counted = {name: snapshot.get(name, 0) for name in _SNAPSHOT_COUNTS}
    resources = {
        one.name: {"listed": one.listed, **{n: one.report.counts[n] for n in _RESOURCE_COUNTS}}
        for one in found.resources
    }
    return {
        **events_summary(found.events, found.write_backs, found.cursor),
        "snapshot": {"organizations": found.organizations_listed, **counted},
        "resources": resources,
        "changes": [_as_json(change) for change in found.changes],
        "in_sync": found.in_sync,
    }


def replay_summary(replayed: ResolveReport, write_backs: WriteBackReport) -> dict[str, Any]:
    """Return the JSON object of a run that replays parked events."""
    parked = replayed.counts[Outcome.PARKED]
    applied = replayed.counts.total() - parked
    return {
        "replayed": {"applied": applied, "still_parked": parked, "left": replayed.left},
        "write_backs": _write_backs(write_backs),
    }


def counts(summary: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each count of a summary. ``ledger``: of everything in the ledger."""
    sections = ("replayed", "events", "snapshot", "write_backs", "ledger")
    named = {name: summary[name] for name in sections if name in summary}
    for section, kinds in {**named, **summary.get("resources", {})}.items():
        for kind, count in kinds.items():
            yield f"{section.replace('_', '-') + ' ' + kind.replace('_', ' '):<32}{count:>7}"


def changes_and_verdict(found: Reconciliation, *, dry: bool) -> Iterator[str]:
    """Yield a line for each change of a run that compares, and what to make of them."""
    yield from map(str, found.changes[:_CHANGES_SHOWN])
    if (more := len(found.changes) - _CHANGES_SHOWN) > 0:
        yield f"… and {more} more; --format json has them all"
    if found.in_sync:
        yield "in sync: nothing to do"
    elif found.errors:
        yield "not everything is repaired"
    else:
        yield "not in sync; run it without --dry-run and --check to repair" if dry else "repaired"


def write(stdout: OutputWrapper, text: str) -> None:
    """Print it. Raises ``CommandError`` if nobody reads it, the disk is full, or it is closed."""
    # A terminal that can't show a letter gets its number, and not half a report.
    encoding = getattr(stdout, "encoding", None) or "utf-8"
    try:
        stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stdout.flush()
    except (OSError, ValueError, AttributeError) as error:
        if getattr(stdout, "_out", None) is sys.stdout:
            # What is left of it would fail once more when Python ends.
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        reason = getattr(error, "strerror", None) or "stdout is closed"
        said = f"the report can't be written: {reason}; what is done stays done"
        raise CommandError(said) from None


def _write_backs(report: WriteBackReport) -> dict[str, int]:
    return {"pushed": report.pushed, "failed": report.failed, "conflicts": report.conflicts}


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "organization_id": change.organization_id,
        "workos_id": change.workos_id,
        "change": change.change,
        "fields": {name: list(values) for name, values in change.fields.items()},
        **({"resource": change.resource} if change.resource != ORGANIZATION else {}),
        **({"reason": change.reason} if change.reason else {}),
    }
