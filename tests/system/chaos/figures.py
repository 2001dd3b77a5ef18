"""Says what a run was made of."""

from collections import Counter

from tests.system.chaos.director import Played
from tests.system.chaos.kinds import subject_of
from tests.system.chaos.stage import Stage


def figures_of(
    stage: Stage, played: Played, verdict: tuple[float, float], *, seed: int, seconds: float
) -> dict[str, object]:
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
        "reconciles on the way": played.reconciles,
        "seconds until converged": round(verdict[0], 1),
        "seconds after reconcile": round(verdict[1], 1),
        "seconds in all": round(seconds, 1),
    }


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
