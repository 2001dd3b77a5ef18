"""Waits until the mirror is what the model says, and tells what differs if it never is."""

import json
import time
from typing import Final

import psycopg

from tests.concurrency import wait_until
from tests.processes import manage
from tests.system.chaos.comparison import WorkOS, differences
from tests.system.chaos.director import Played
from tests.system.chaos.model import model_of
from tests.system.chaos.resource_audit import held_by
from tests.system.chaos.stage import APART, WINDOW_SECONDS, Stage

#: How long the mirror may take, once everything runs and nothing is broken any more. Where a
#: snapshot was killed, another one begins after two minutes, by the schedule of each minute.
CONVERGENCE_SECONDS: Final = 210.0

_COMMAND_SECONDS: Final = 300.0


class Diverged(Exception):
    """Something is not as it must be."""

    def __init__(self, when: str, lines: list[str]) -> None:
        super().__init__(when)
        self.when = when
        self.lines = lines


def judge(stage: Stage, played: Played) -> tuple[float, float]:
    """Compare what needs no reconcile first, then reconcile, then compare everything; return how
    many seconds each took to be right. Raises Diverged.
    """
    runs = (stage.fleet.is_whole, stage.is_web_answering)
    wait_until(lambda: all(is_so() for is_so in runs), "all processes are up again")
    by_itself = _converge(stage, played, reconciled=False)
    _raise_if_any("answers to webhooks", _wrong_answers(stage, played))
    # A snapshot leaves what is new, or was written lately, to events still to come.
    time.sleep(WINDOW_SECONDS + 0.5)
    # A long run deletes more without events than the limit allows.
    _reconcile(stage, "--max-disable", "100%")
    after_reconcile = _converge(stage, played, reconciled=True)
    _reconcile(stage, "--check")
    return by_itself, after_reconcile


def _converge(stage: Stage, played: Played, *, reconciled: bool) -> float:
    """The seconds that it took. Waits for the condition, and no longer than it may take."""
    began_at = time.monotonic()
    stage.chronicle.note("waiting", "convergence")
    while True:
        late = time.monotonic() - began_at > CONVERGENCE_SECONDS
        # The cheap question first: the whole comparison takes time from those it waits for.
        if late or stage.database.is_drained():
            lines = _differences(stage, played, reconciled=reconciled)
            if not lines:
                break
            if late:
                when = "after reconcile_workos" if reconciled else "by itself"
                raise Diverged(f"{when}, {CONVERGENCE_SECONDS:g} s after all was quiet", lines)
        time.sleep(0.5)
    stage.chronicle.note("reached", "convergence")
    _raise_if_any("what must never happen", stage.database.broken_promises())
    return time.monotonic() - began_at


def _differences(stage: Stage, played: Played, *, reconciled: bool) -> list[str]:
    # WorkOS last: what the mirror does meanwhile can only look like a difference, not hide one.
    mirror, writes = stage.database.mirror()
    workos = _workos_of(stage, played)
    return differences(model_of(workos.events, writes), mirror, workos, reconciled=reconciled)


def _workos_of(stage: Stage, played: Played) -> WorkOS:
    """WorkOS's side, as it is now."""
    deliveries = stage.workos.deliveries()
    delivered = {one["event_id"] for one in deliveries if one["status"] == 204}
    by_hand = {id_ for id_, (_, status) in played.skewed.items() if status == 204}
    # Whose a role is, is in the id that the run has given it.
    roles = {
        one["id"]: {**one, "organization_id": one["id"].partition(":")[0]}
        for one in stage.workos.roles.all()
    }
    return WorkOS(
        events=stage.workos.all_events(),
        organizations={one["id"]: one for one in stage.workos.all_organizations()},
        announced_only=frozenset(played.announced_only),
        acknowledged=frozenset(delivered | by_hand),
        held=held_by(stage.workos, roles),
        not_followed=frozenset(played.not_followed),
    )


def _wrong_answers(stage: Stage, played: Played) -> list[str]:
    """Taken, or not now. Where the clock is wrong, not signed; and never that we failed."""
    answers = [(one["event_id"], one["status"], 204) for one in stage.workos.deliveries()]
    answers += [
        (str(skewed), status, 204 if skewed.is_within_tolerance else 401)
        for skewed, status in played.skewed.values()
    ]
    return [
        f"{what} was answered {status}, not {right}"
        for what, status, right in answers
        if status not in (right, 503, None)
    ]


def _reconcile(stage: Stage, *options: str) -> None:
    command = ("reconcile_workos", *options)
    ended = manage(stage.environment, *command, timeout=_COMMAND_SECONDS, **APART)
    said, name = ended.stdout + ended.stderr, f"reconcile_workos {options[0]}"
    (stage.logs / f"{name.replace(' ', '')}.log").write_text(said)
    stage.chronicle.note(f"exit code {ended.returncode}", name)
    if ended.returncode != 0:
        raise Diverged(f"{name}, exit code {ended.returncode}", said.splitlines())


def _raise_if_any(when: str, lines: list[str]) -> None:
    if lines:
        raise Diverged(when, lines)


def keep_evidence(stage: Stage, played: Played) -> None:
    """Write down, below the logs, what a person wants to look at afterwards."""
    try:
        mirror, writes = stage.database.mirror()
        (stage.logs / "events.json").write_text(json.dumps(stage.workos.all_events(), indent=1))
        rows = (row for rows in mirror.resources.rows.values() for row in rows.values())
        seen = [*mirror.rows.values(), *mirror.ledger.values(), *writes, *rows]
        (stage.logs / "mirror.txt").write_text("\n".join(map(str, seen)))
        (stage.logs / "audit.jsonl").write_text("\n".join(stage.database.audit()))
    except (OSError, psycopg.Error) as error:
        stage.chronicle.note(str(error), "keeping evidence")
    stage.chronicle.note("kept", played)
