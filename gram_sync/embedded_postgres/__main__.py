"""The embedded PostgreSQL by hand: ``python -m gram_sync.embedded_postgres --help``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gram_sync.embedded_postgres import server

DEFAULT_DATA_DIR = Path(__file__).resolve().parents[2] / ".data" / "postgres"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; 0 if it worked (``status``: if it runs), 1 if not."""
    options = _parser().parse_args(arguments)
    try:
        return _do(options.action, options.data_dir)
    except server.ServerError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gram_sync.embedded_postgres",
        description="Start, stop or look at the embedded PostgreSQL. It runs until it is stopped.",
    )
    parser.add_argument("action", choices=["start", "stop", "status"])
    parser.add_argument("data_dir", metavar="DIR", nargs="?", type=Path, default=DEFAULT_DATA_DIR)
    return parser


def _do(action: str, data_dir: Path) -> int:
    if action == "start":
        print(server.start(data_dir))
        return 0
    if action == "stop":
        server.stop(data_dir)
    running = server.is_running(data_dir)
    print("running" if running else "not running")
    return 0 if running or action == "stop" else 1


if __name__ == "__main__":
    sys.exit(main())
