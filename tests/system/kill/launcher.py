"""Runs the product's works, each in a process of its own that is forked and so starts at once.

Reads a line of JSON for each: the name of the work, and WorkOS's address. Writes the new process's
id, and then how it ended.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Final

import django

django.setup()

from django.conf import settings  # noqa: E402 - read what setup has made
from django.core.management import call_command  # noqa: E402

from orgs import tasks  # noqa: E402
from orgs.management.commands.reconcile_workos import Command  # noqa: E402

WORKS: Final[dict[str, Callable[[], object]]] = {
    "drain": tasks.sync_events,
    "write back": tasks.push_external_ids,
    "reconcile": partial(call_command, Command(), stdout=StringIO()),
}


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(**json.loads(line))
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _run(*, work: str, base_url: str) -> None:
    """Runs a work, and ends the process."""
    # It is killed hundreds of times over what it would warn of.
    logging.disable()
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "BASE_URL": base_url}
    try:
        WORKS[work]()
    except BaseException:  # noqa: BLE001 - what is the matter is for the test to say
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
