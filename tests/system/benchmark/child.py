"""``python -m tests.system.benchmark.child TASK``: does one thing, and prints its measurements.

In a process of its own, so that its peak of memory is its own.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import connection  # noqa: E402 - what follows needs Django's settings
from workos import WorkOSClient  # noqa: E402

from orgs import tasks  # noqa: E402
from orgs.conf import sync_settings  # noqa: E402
from orgs.services.compare import Run  # noqa: E402
from orgs.services.reconcile import reconcile  # noqa: E402
from orgs.services.stream import drain_to_end  # noqa: E402
from tests.builders import TYPES  # noqa: E402


def main() -> None:
    task = _TASKS[sys.argv[1]]
    connection.ensure_connection()
    statements = _Statements()
    began_at = time.perf_counter()
    with connection.execute_wrapper(statements):
        done = task()
    measured = {
        "seconds": time.perf_counter() - began_at,
        "done": done,
        "statements": statements.count,
        "peak_kib": _peak_kib(),
    }
    print(json.dumps(measured))  # noqa: T201 - how the parent learns of it


def _drain() -> int:
    report = drain_to_end()
    return report.counts.total()


def _drain_and_wait() -> int:
    return len(tasks.sync_events())


def _reconcile() -> int:
    report = reconcile(Run())
    if report.errors:
        raise RuntimeError(f"the reconcile is not complete: {report.errors}")
    return report.organizations


def _push() -> int:
    tasks.push_external_ids()
    return 0


def _read_events() -> int:
    return _read("events", events=",".join(TYPES))


def _read_organizations() -> int:
    return _read("organizations")


_TASKS: dict[str, Callable[[], int]] = {
    "drain": _drain,
    "drain-and-wait": _drain_and_wait,
    "reconcile": _reconcile,
    "push": _push,
    "read-events": _read_events,
    "read-organizations": _read_organizations,
}


def _read(path: str, **params: Any) -> int:
    """Reads all pages with the SDK's raw call, as it comes, and does nothing with them."""
    current = sync_settings()
    client = WorkOSClient(api_key=str(current.api_key), base_url=current.base_url, max_retries=0)
    return sum(len(page["data"]) for page in _pages(client, path, params))


def _pages(client: WorkOSClient, path: str, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    params |= {"limit": 100, "order": "asc"}
    while True:
        page = client.request_raw("GET", (path,), params=params)
        yield page
        after = page["list_metadata"]["after"]
        if after is None:
            return
        params["after"] = after


class _Statements:
    """Counts what this thread asks of PostgreSQL; BEGIN and COMMIT are not statements."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        self.count += 1
        return execute(sql, params, many, context)


def _peak_kib() -> int:
    # Not ru_maxrss where there is another: on Linux it also knows the peak of the process that
    # this one was forked from.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


if __name__ == "__main__":
    main()
