"""Write-backs: how many a second one worker process tells a WorkOS that takes its time."""

from collections.abc import Iterator

from orgs.models import ExternalIdWriteBack
from tests.system.benchmark import databases
from tests.system.benchmark.figures import Figure, Scaled, figure
from tests.system.benchmark.processes import Processes

_DUE = 1_000
_ANSWERS_IN = 0.1


def measure(scaled: Scaled) -> Iterator[Figure]:
    due = scaled(_DUE)
    databases.use(databases.EMPTY)
    with Processes() as running:
        workos = running.fake()
        workos.seed(organizations=due)
        running.measured("drain", workos)
        if ExternalIdWriteBack.objects.count() != due:
            raise RuntimeError("the drain should have left a write-back for each organization")
        where = "/organizations"
        workos.misbehave("slow", method=None, path=where, times=None, seconds=_ANSWERS_IN)
        seconds = float(running.measured("push", workos)["seconds"])
    done = due - ExternalIdWriteBack.objects.count()
    what = f"write-backs, {due:,} due, WorkOS answering in {_ANSWERS_IN * 1000:.0f} ms"
    yield figure(what, done / seconds, "a second", "≥ 20")
