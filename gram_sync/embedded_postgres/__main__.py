"""Stop the embedded PostgreSQL of the project: ``make stop``. It runs on otherwise."""

import sys

from gram_sync.embedded_postgres import server
from gram_sync.processes import PROJECT


def main() -> str | None:
    """Return what went wrong, for ``sys.exit``."""
    if sys.argv[1:] != ["stop"]:
        return "usage: python -m gram_sync.embedded_postgres stop"
    # And those of demos that were killed.
    folders = PROJECT / ".data" / "postgres", *PROJECT.glob(".data/demo-*/postgres")
    try:
        for data_dir in folders:
            server.stop(data_dir)
    except server.ServerError as error:
        return str(error)
    print("The embedded PostgreSQL does not run.")
    return None


if __name__ == "__main__":
    sys.exit(main())
