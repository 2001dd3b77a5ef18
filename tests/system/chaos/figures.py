"""Tells what a run was made of: as a table for people, and as one line of JSON."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from tests.system.chaos.director import Played
from tests.system.chaos.kinds import subject_of
from tests.system.chaos.model import JsonObject
from tests.system.chaos.stage import Stage
from tests.system.chaos.verdict import Verdict

Figures: TypeAlias = dict[str, int | float | dict[str, int]]


def figures_of(
    stage: Stage, played: Played, verdict: Verdict, *, seed: int, seconds: float
) -> Figures:
    """All that is worth telling."""
    events = stage.workos.all_events()
    fleet = stage.fleet
    return {
        "seed": seed,
        "rounds": played.rounds,
        "organizations": sum(event["event"] == "organization.created" for event in events),
        "events": dict(Counter(subject_of(event)[0] for event in events)),
        "webhooks": _webhooks(stage.workos.deliveries(), played),
        "kills": dict(fleet.kills),
        "ended by themselves": dict(fleet.ended_by_themselves),
        "PostgreSQL restarts": dict(played.postgres_restarts),
        "WorkOS faults ordered": dict(played.faults),
        "rival writes": stage.database.rival_writes(),
        "rival attempts": dict(played.rivals),
        "reconciles on the way": dict(fleet.commands),
        "seconds until converged": round(verdict.seconds_by_itself, 1),
        "seconds after reconcile": round(verdict.seconds_after_reconcile, 1),
        "seconds in all": round(seconds, 1),
    }


def as_table(figures: Figures) -> str:
    """A line for each figure, and the kinds of it in order."""
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in figures.items())


def as_json(figures: Figures) -> str:
    return json.dumps(figures, separators=(",", ":"))


def _webhooks(deliveries: list[JsonObject], played: Played) -> dict[str, int]:
    delivered = Counter(one["event_id"] for one in deliveries if one["status"] == 204)
    statuses = Counter(status for _, status in played.skewed.values())
    return {
        "delivered": len(delivered),
        "repeated": delivered.total() - len(delivered),
        "dropped": sum(one["error"] == "dropped" for one in deliveries),
        "failed attempts": sum(_failed(one) for one in deliveries),
        "skewed, accepted": statuses[204],
        "skewed, refused": statuses[401],
    }


def _failed(delivery: JsonObject) -> bool:
    return bool(delivery["status"] != 204 and delivery["error"] != "dropped")


def _shown(value: float | Mapping[str, int]) -> str:
    if not isinstance(value, Mapping):
        return f"{value:,}" if isinstance(value, int) else str(value)
    kinds = sorted(value.items(), key=lambda item: (-item[1], item[0]))
    of = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
    return f"{sum(value.values()):,} ({of})" if of else "0"
