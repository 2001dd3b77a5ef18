"""``python -m tests.mutants --help``."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from gram_sync.embedded_postgres.server import ServerError
from gram_sync.processes import PROJECT
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, OutOfDate
from tests.mutants.runner import CannotRun, run_all

_ALL_KILLED: Final = 0
_SURVIVORS: Final = 1
_SAYS_NOTHING: Final = 2
_INTERRUPTED: Final = 130


def main(
    arguments: Sequence[str] | None = None,
    *,
    project: Path = PROJECT,
    mutants: Sequence[Mutant] = MUTANTS,
) -> int:
    """Run: 0 if all were killed, 1 if one survived, 2 if that could not be found out."""
    options = _parser().parse_args(arguments)
    only = options.only.casefold()
    chosen = [mutant for mutant in mutants if only in str(mutant).casefold()]
    if not chosen:
        _say(f"no mutant has {options.only!r} in its name or its file's")
        return _SAYS_NOTHING
    try:
        return _run(project, chosen, options.jobs)
    except (OutOfDate, CannotRun, ServerError) as error:
        _say(str(error))
        return _SAYS_NOTHING
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Remove the safety lines one at a time; the tests must turn red for each.",
        epilog="Exit 0: all were killed; 1: one survived; 2: a mutant is out of date, or the tests "
        "did not run.",
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="only mutants with this in their name or their file's",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="how many to run at a time; as many as there are processors unless given",
    )
    return parser


def _run(project: Path, mutants: Sequence[Mutant], jobs: int) -> int:
    for mutant in mutants:
        mutant.check(project)
    _say(f"{len(mutants)} mutants; first their tests without any …")
    survivors = []
    with closing(run_all(project, mutants, jobs=max(jobs, 1))) as results:
        for result in results:
            _say(str(result))
            if result.killer is None:
                survivors.append(result.mutant)
    _say(f"{len(mutants) - len(survivors)} killed, {len(survivors)} survived")
    for mutant in survivors:
        _say(f"  {mutant}")
    return _SURVIVORS if survivors else _ALL_KILLED


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
