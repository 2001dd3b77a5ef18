"""Write-backs: how many a second one worker process tells a WorkOS that takes its time."""

from collections.abc import Iterator

from orgs.models import ExternalIdWriteBack
from orgs.testing import FakeWorkOSClient
from tests.system.benchmark import databases
from tests.system.benchmark.figures import Figure, Plan, at_least, at_most, of_rounds
from tests.system.benchmark.processes import Processes, processes

_DUE = 1_000
_ANSWERS_IN = 0.1

#: WorkOS's limit for everything together.
_REQUESTS_A_MINUTE = 6_000


def measure(plan: Plan) -> Iterator[Figure]:
    due = plan.scaled(_DUE)
    with processes() as running:
        pushed = [_push(running, due) for _ in range(plan.rounds(2))]
    what = f"write-backs, {due:,} due, WorkOS answering in {_ANSWERS_IN * 1000:.0f} ms"
    a_second, requests = zip(*pushed, strict=True)
    yield of_rounds(a_second, what=what, unit="a second", goal=at_least(20))
    goal = at_most(_REQUESTS_A_MINUTE)
    yield of_rounds(requests, what=what, unit="requests a minute", goal=goal)


def _push(running: Processes, due: int) -> tuple[float, float]:
    """Write-backs a second, and requests a minute."""
    workos = _with_requests(running, due)
    workos.forget_requests()
    workos.misbehave("slow", method=None, path="/organizations", times=None, seconds=_ANSWERS_IN)
    seconds = float(running.run("push", workos)["seconds"])
    left = ExternalIdWriteBack.objects.count()
    return (due - left) / seconds, workos.count_requests() / seconds * 60


def _with_requests(running: Processes, due: int) -> FakeWorkOSClient:
    databases.use(databases.EMPTY)
    workos = running.fake()
    workos.seed(organizations=due)
    running.run("drain", workos)
    if ExternalIdWriteBack.objects.count() != due:
        raise RuntimeError("the drain should have left a write-back for each organization")
    return workos
