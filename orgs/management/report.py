"""Formats what a run found: as text for people, as JSON for programs."""

from collections.abc import Mapping
from typing import Any

from orgs.domain.report import Change
from orgs.domain.types import ORGANIZATION, Outcome
from orgs.services.conclude import Reconciliation
from orgs.services.outbox import WriteBackReport
from orgs.services.reconcile_resources import ResourceRun
from orgs.services.refresh import ReplayReport
from orgs.services.stream import DrainReport

#: What can become of an event that is read from the stream, in the order it is reported.
_EVENT_OUTCOMES = tuple(Outcome)[:10]

#: The report's names for the kinds of change, in its order.
_SNAPSHOT_COUNTS = {
    "created": Outcome.CREATED,
    "linked": Outcome.LINKED,
    "relinked": Outcome.RELINKED,
    "updated": Outcome.UPDATED,
    "disabled": Outcome.DISABLED,
    "unchanged": Outcome.UNCHANGED,
    "stale": Outcome.STALE,
    "conflicts": Outcome.CONFLICT,
    "failed": Outcome.FAILED,
    "unproven": Outcome.UNPROVEN,
    "write_backs": "write_backs",
    "disabled_here": Outcome.DISABLED_HERE,
}

_RESOURCE_OUTCOMES = (
    Outcome.CREATED,
    Outcome.UPDATED,
    Outcome.DELETED,
    Outcome.UNCHANGED,
    Outcome.STALE,
    Outcome.FAILED,
    Outcome.UNPROVEN,
)

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
    counts = found.snapshot.counts
    changes = _all_changes(found)
    return {
        **events_summary(found.events, found.write_backs, found.cursor),
        "snapshot": {
            "organizations": found.organizations,
            **{name: counts[kind] for name, kind in _SNAPSHOT_COUNTS.items()},
        },
        "resources": {one.resource.name: _resource(one) for one in found.resources},
        "changes": [_as_json(change) for change in changes],
        "in_sync": found.in_sync,
    }


def replay_summary(replayed: ReplayReport, write_backs: WriteBackReport) -> dict[str, Any]:
    """Return the JSON object of a run that replays parked events."""
    parked = replayed.outcomes[Outcome.PARKED]
    return {
        "replayed": {
            "applied": replayed.outcomes.total() - parked,
            "still_parked": parked,
            "left": replayed.left,
        },
        "write_backs": _write_backs(write_backs),
    }


def replay_text(summary: dict[str, Any]) -> str:
    """Return the same as lines for people."""
    return "\n".join(_counts(summary))


def events_text(summary: dict[str, Any], ledger: Mapping[str, int]) -> str:
    """Return the same as lines for people. ``ledger``: counts of everything in the ledger."""
    end = "the end of the stream" if summary["drained"] else "not the end of the stream"
    counts = _counts({**summary, "ledger": ledger})
    return "\n".join([*counts, f"reached {end}; cursor {summary['cursor'] or 'not set'}"])


def full_text(found: Reconciliation, ledger: Mapping[str, int], *, dry: bool) -> str:
    """Return counts, then the changes, then what to make of them."""
    counts = _counts({**full_summary(found), "ledger": ledger})
    return "\n".join([*counts, *_changes(found), _verdict(found, dry=dry)])


def _all_changes(found: Reconciliation) -> list[Change]:
    return sorted(
        (change for report in found.reports for change in report.changes),
        key=lambda change: change.order,
    )


def _resource(one: ResourceRun) -> dict[str, int]:
    counts = one.report.counts
    return {"listed": one.listed, **{o.value: counts[o] for o in _RESOURCE_OUTCOMES}}


def _write_backs(report: WriteBackReport) -> dict[str, int]:
    return {"pushed": report.pushed, "failed": report.failed, "conflicts": report.conflicts}


def _counts(summary: dict[str, Any]) -> list[str]:
    return [
        f"{section.replace('_', '-') + ' ' + kind.replace('_', ' '):<32}{count:>7}"
        for section in ("replayed", "events", "snapshot", "write_backs", "ledger")
        for kind, count in summary.get(section, {}).items()
    ] + [
        f"{name.replace('_', '-') + ' ' + kind:<32}{count:>7}"
        for name, counts in summary.get("resources", {}).items()
        for kind, count in counts.items()
    ]


def _changes(found: Reconciliation) -> list[str]:
    changes = _all_changes(found)
    lines = [str(change) for change in changes[:_CHANGES_SHOWN]]
    if len(changes) > _CHANGES_SHOWN:
        lines.append(f"… and {len(changes) - _CHANGES_SHOWN} more; --format json has them all")
    return lines


def _verdict(found: Reconciliation, *, dry: bool) -> str:
    if found.in_sync:
        return "in sync: nothing to do"
    if found.errors:
        return "not everything is repaired"
    return "not in sync; run it without --dry-run and --check to repair" if dry else "repaired"


def _as_json(change: Change) -> dict[str, Any]:
    values: dict[str, Any] = {
        "organization_id": change.organization_id,
        "workos_id": change.workos_id,
        "change": change.change,
        "fields": {name: list(values) for name, values in change.fields.items()},
    }
    if change.resource != ORGANIZATION:
        values["resource"] = change.resource
    return {**values, "reason": change.reason} if change.reason else values
