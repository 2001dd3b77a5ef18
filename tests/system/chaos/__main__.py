"""``python -m tests.system.chaos --help``."""

import argparse
import json
import random
import signal
import sys
import time
import traceback
from collections import Counter
from typing import Final

from gram_sync.processes import PROJECT
from tests.system.chaos.director import Director
from tests.system.chaos.kinds import subject_of
from tests.system.chaos.plan import make_plan
from tests.system.chaos.stage import Stage, set_stage
from tests.system.chaos.verdict import judge, keep_evidence

_FOLDER: Final = PROJECT / ".data" / "chaos"


def main() -> int:
    """Run: 0 if all came out right, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos",
        description="Break everything on purpose for a while, and compare the mirror with a model.",
        epilog="The same seed replays the same plan of actions. How the processes interleave can't "
        "be replayed: a failure may need a few tries to be seen again.",
    )
    parser.add_argument("--rounds", type=int, default=30, help="30 unless given")
    seed = random.SystemRandom().randrange(1_000_000)
    parser.add_argument("--seed", type=int, default=seed, help="of the plan; random unless given")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    _say(f"seed {options.seed}, {options.rounds} rounds; logs in {_FOLDER / 'logs'}")
    with set_stage(_FOLDER) as stage:
        return _run(stage, options.rounds, options.seed)


def _run(stage: Stage, rounds: int, seed: int) -> int:
    began_at, director = time.monotonic(), Director(stage)
    try:
        director.play(make_plan(seed, rounds))
        by_itself, after_reconcile = judge(stage, director)
    except Exception:  # noqa: BLE001 - with any failure, the seed and the logs are named
        _say(traceback.format_exc())
        actions = (_FOLDER / "logs" / "actions.log").read_text().splitlines()
        _say("\n".join(["The last actions, with milliseconds:", *actions[-25:]]))
        _say(f"FAILED, seed {seed}. Logs, all actions and what was found are in {_FOLDER / 'logs'}")
        keep_evidence(stage)
        return 1
    figures = {
        "events": Counter(subject_of(event)[0] for event in stage.workos.all_events()),
        "actions, and faults of WorkOS": director.done,
        "seconds until converged": round(by_itself, 1),
        "seconds after reconcile": round(after_reconcile, 1),
        "seconds in all": round(time.monotonic() - began_at, 1),
    }
    _say(json.dumps(figures, indent=2))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    sys.exit(main())
