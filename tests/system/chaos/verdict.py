"""Waits until the mirror is what the model says, and says what differs if it never is."""

import json
import time
from pprint import pformat
from typing import Final

from tests.concurrency import wait_until
from tests.processes import manage
from tests.system.chaos.comparison import WorkOS, differences
from tests.system.chaos.director import Director
from tests.system.chaos.model import model_of
from tests.system.chaos.resource_audit import held_by
from tests.system.chaos.stage import APART, WINDOW_SECONDS, Stage

#: How long the mirror may take, once everything runs and nothing is broken any more. Where a
#: snapshot was killed, another one begins after a minute, by the schedule of each minute.
CONVERGENCE_SECONDS: Final = 210.0


class Diverged(Exception):
    """Something is not as it must be: when, and a line for each thing."""

    def __init__(self, when: str, lines: list[str]) -> None:
        super().__init__(f"{when}:\n" + "\n".join(lines[:30]) + f"\n{len(lines)} in all")


def judge(stage: Stage, director: Director) -> tuple[float, float]:
    """Compare what needs no reconcile first, then reconcile, then compare everything; return how
    many seconds each took to be right. Raises Diverged.
    """
    wait_until(stage.fleet.is_whole, "all processes are up again")
    wait_until(stage.is_web_answering, "the web processes answer")
    by_itself = _converge(stage, director, reconciled=False)
    # Taken, or not now; and never that we failed.
    answers = [one for one in stage.workos.deliveries() if one["status"] not in (204, 503, None)]
    if answers:
        raise Diverged("answers to webhooks", list(map(str, answers)))
    # A snapshot leaves what is new, or was written lately, to events still to come.
    time.sleep(WINDOW_SECONDS + 0.5)
    # A long run deletes more without events than the limit allows.
    _reconcile(stage, "--max-disable", "100%")
    after_reconcile = _converge(stage, director, reconciled=True)
    _reconcile(stage, "--check")
    return by_itself, after_reconcile


def _converge(stage: Stage, director: Director, *, reconciled: bool) -> float:
    """The seconds that it took. Waits for the condition, and no longer than it may take."""
    began_at = time.monotonic()
    while True:
        late = time.monotonic() - began_at > CONVERGENCE_SECONDS
        # The cheap question first: the whole comparison takes time from those it waits for.
        if late or stage.database.is_drained():
            lines = _differences(stage, director, reconciled=reconciled)
            if not lines:
                break
            if late:
                when = "after reconcile_workos" if reconciled else "by itself"
                raise Diverged(f"{when}, {CONVERGENCE_SECONDS:g} s after all was quiet", lines)
        time.sleep(0.5)
    if broken := stage.database.broken_promises():
        raise Diverged("what must never happen", broken)
    return time.monotonic() - began_at


def _differences(stage: Stage, director: Director, *, reconciled: bool) -> list[str]:
    # WorkOS last: what the mirror does meanwhile can only look like a difference, not hide one.
    mirror, writes = stage.database.mirror()
    delivered = [one for one in stage.workos.deliveries() if one["status"] == 204]
    workos = WorkOS(
        events=stage.workos.all_events(),
        organizations={one["id"]: one for one in stage.workos.all_organizations()},
        held=held_by(stage.workos),
        announced_only=frozenset(director.announced_only),
        acknowledged=frozenset(one["event_id"] for one in delivered),
        not_followed=frozenset(director.not_followed),
    )
    return differences(model_of(workos.events, writes), mirror, workos, reconciled=reconciled)


def _reconcile(stage: Stage, *options: str) -> None:
    ended = manage(stage.environment, "reconcile_workos", *options, timeout=300.0, **APART)
    if ended.returncode != 0:
        lines = (ended.stdout + ended.stderr).splitlines()
        raise Diverged(f"reconcile_workos {options[0]}, exit code {ended.returncode}", lines)


def keep_evidence(stage: Stage) -> None:
    """Write down, beside the logs, what a person wants to look at afterwards."""
    logs = stage.folder / "logs"
    (logs / "events.json").write_text(json.dumps(stage.workos.all_events(), indent=1))
    (logs / "mirror.txt").write_text(pformat(stage.database.mirror(), width=200))
    (logs / "audit.jsonl").write_text("\n".join(stage.database.changes()))
