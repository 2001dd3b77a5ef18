"""Tells what a run was made of: as a table for people, and as one line of JSON."""

from collections import Counter
from typing import TypeAlias

from tests.system.chaos.director import Played
from tests.system.chaos.kinds import subject_of
from tests.system.chaos.stage import Stage

Figures: TypeAlias = dict[str, int | float | dict[str, int]]


def figures_of(
    stage: Stage, played: Played, verdict: tuple[float, float], *, seed: int, seconds: float
) -> Figures:
    """All that is worth telling."""
    events = stage.workos.all_events()
    fleet = stage.fleet
    return {
        "seed": seed,
        "rounds": played.rounds,
        "organizations": sum(event["event"] == "organization.created" for event in events),
        "events": Counter(subject_of(event)[0] for event in events),
        "webhooks": _webhooks(stage, played),
        "kills": fleet.kills,
        "ended by themselves": fleet.ended_by_themselves,
        "PostgreSQL restarts": played.postgres_restarts,
        "WorkOS faults ordered": played.faults,
        "rival writes": stage.database.rival_writes(),
        "rival attempts": played.rivals,
        "reconciles on the way": fleet.commands,
        "seconds until converged": round(verdict[0], 1),
        "seconds after reconcile": round(verdict[1], 1),
        "seconds in all": round(seconds, 1),
    }


def as_table(figures: Figures) -> str:
    """A line for each figure, with the most frequent kind of it first."""
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in figures.items())


def _webhooks(stage: Stage, played: Played) -> dict[str, int]:
    deliveries = stage.workos.deliveries()
    delivered = Counter(one["event_id"] for one in deliveries if one["status"] == 204)
    dropped = sum(one["error"] == "dropped" for one in deliveries)
    statuses = Counter(status for _, status in played.skewed.values())
    return {
        "delivered": len(delivered),
        "repeated": delivered.total() - len(delivered),
        "dropped": dropped,
        "failed attempts": len(deliveries) - delivered.total() - dropped,
        "skewed, accepted": statuses[204],
        "skewed, refused": statuses[401],
    }


def _shown(value: float | dict[str, int]) -> str:
    if not isinstance(value, dict):
        return f"{value:,}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(value).most_common())
    return f"{sum(value.values()):,} ({kinds})"
