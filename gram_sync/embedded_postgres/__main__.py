"""Start, stop or look at the embedded PostgreSQL. It runs until it is stopped."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; 0 if it worked (``status``: if it runs), 1 if not."""
    parser = argparse.ArgumentParser("python -m gram_sync.embedded_postgres", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status"])
    default = PROJECT / ".data" / "postgres"
    parser.add_argument("data_dir", metavar="DIR", nargs="?", type=Path, default=default)
    options = parser.parse_args(arguments)
    try:
        if options.action == "start":
            print(server.start(options.data_dir))
            return 0
        if options.action == "stop":
            server.stop(options.data_dir)
        running = server.is_running(options.data_dir)
    except server.ServerError as error:
        print(error, file=sys.stderr)
        return 1
    print("running" if running else "not running")
    return 0 if running or options.action == "stop" else 1


if __name__ == "__main__":
    sys.exit(main())
