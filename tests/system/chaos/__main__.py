"""``python -m tests.system.chaos --help``."""

import argparse
import json
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from subprocess import CalledProcessError
from types import FrameType
from typing import Final

from gram_sync.embedded_postgres.server import ServerError
from gram_sync.processes import PROJECT
from tests.system.chaos.director import Director
from tests.system.chaos.figures import figures_of
from tests.system.chaos.plan import make_plan
from tests.system.chaos.stage import Busy, Stage, folder_of_our_own, set_stage
from tests.system.chaos.verdict import Diverged, judge, keep_evidence

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOWN: Final = 30


def main() -> int:
    """Run: 0 if all came out right, 1 if not, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.chaos",
        description="Break everything on purpose for a while, and compare the mirror with a model.",
        epilog="The same seed replays the same plan of actions. How the processes interleave can't "
        "be replayed: a failure may need a few tries to be seen again.",
    )
    parser.add_argument("--rounds", type=int, default=30, help="30 unless given")
    seed = random.SystemRandom().randrange(1_000_000)
    parser.add_argument("--seed", type=int, default=seed, help="of the plan; random unless given")
    folder_help = "where its database and logs go, made anew; .data/chaos unless given"
    parser.add_argument("--folder", type=Path, default=PROJECT / ".data/chaos", help=folder_help)
    options = parser.parse_args()
    _say(f"seed {options.seed}, {options.rounds} rounds; logs in {options.folder / 'logs'}")
    for number in _SIGNALS:
        signal.signal(number, _raise)
    try:
        with folder_of_our_own(options.folder) as folder:
            return _run(folder, options.rounds, options.seed)
    except KeyboardInterrupt:
        _say(f"interrupted; seed {options.seed}")
        return 130
    except (AssertionError, Busy, ServerError, OSError, CalledProcessError) as error:
        _say(f"can't run: {error}")
    return 1


def _run(folder: Path, rounds: int, seed: int) -> int:
    began_at = time.monotonic()
    with set_stage(folder) as stage, Director(stage) as director:
        try:
            director.play(make_plan(seed, rounds))
            verdict = judge(stage, director.played)
        except Diverged as diverged:
            _explain(diverged.when, diverged.lines, stage, seed)
        except Exception:  # noqa: BLE001 - with any failure, the seed and the logs are told
            _explain("the run itself failed", traceback.format_exc().splitlines(), stage, seed)
        else:
            seconds = time.monotonic() - began_at
            figures = figures_of(stage, director.played, verdict, seed=seed, seconds=seconds)
            _say(json.dumps(figures, indent=2))
            return 0
        keep_evidence(stage, director.played)
        return 1


def _explain(when: str, lines: list[str], stage: Stage, seed: int) -> None:
    more = len(lines) - _SHOWN
    _say(f"FAILED, seed {seed}: {when}")
    _say("\n".join([*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]))
    _say("The last actions, with seconds since the beginning:")
    _say("\n".join(stage.chronicle.last()))
    _say(f"Logs, all actions and what was found are in {stage.logs}")


def _raise(number: int, _: FrameType | None) -> None:
    # Later ones must not disturb the cleaning up.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    sys.exit(main())
