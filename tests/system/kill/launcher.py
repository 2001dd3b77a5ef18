"""Runs the product's works, each in a process of its own that is forked and so starts at once.

Reads a line of JSON for each: the name of the work, WorkOS's address, and the step at which it is
killed. Writes how the process ended, and its steps unless it was killed.
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
import httpcore2  # noqa: F401 - once here, and not in each process

django.setup()

from django.conf import settings  # noqa: E402 - read what setup has made
from django.core.management import call_command  # noqa: E402

import orgs.workos.sdk  # noqa: E402, F401 - same as httpcore2
from orgs import tasks  # noqa: E402
from orgs.management.commands.reconcile_workos import Command  # noqa: E402
from tests.system.kill.steps import Step, Watch  # noqa: E402

WORKS: Final[dict[str, Callable[[], object]]] = {
    "drain": tasks.sync_events,
    "write back": tasks.push_external_ids,
    "reconcile": partial(call_command, Command(), stdout=StringIO()),
}


def main() -> None:
    for line in sys.stdin:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run(writer, **json.loads(line))
        os.close(writer)
        with os.fdopen(reader) as pipe:
            steps = json.loads(pipe.read() or "[]")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, steps]), flush=True)  # noqa: T201 - how the test learns of it


def _run(writer: int, *, work: str, base_url: str, kill_at: list[object] | None) -> None:
    """Runs a work, and ends the process."""
    code = 1
    try:
        # It is killed many times over what it would warn of.
        logging.disable()
        settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "BASE_URL": base_url}
        watch = Watch(Step(*kill_at) if kill_at else None)  # type: ignore[arg-type]
        watch.begin()
        WORKS[work]()
        with os.fdopen(writer, "w") as pipe:
            json.dump(watch.steps, pipe)
        code = 0
    except BaseException:  # noqa: BLE001 - what is the matter is for the test to say
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
