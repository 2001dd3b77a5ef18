"""``python -m tests.system.benchmark.child TASK``: does one thing, and prints its measurements.

In a process of its own, so that its peak of memory is its own.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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
    connection.ensure_connection()
    began_at = time.perf_counter()
    _TASKS[sys.argv[1]]()
    measured = {"seconds": time.perf_counter() - began_at, "peak_kib": _peak_kib()}
    print(json.dumps(measured))  # noqa: T201 - how the parent learns of it


def _reconcile() -> None:
    if errors := reconcile(Run()).errors:
        raise RuntimeError(f"the reconcile is not complete: {errors}")


def _read(path: str, **params: Any) -> None:
    """Reads all pages with the SDK's raw call, as it comes, and does nothing with them."""
    current = sync_settings()
    client = WorkOSClient(api_key=str(current.api_key), base_url=current.base_url, max_retries=0)
    params |= {"limit": 100, "order": "asc"}
    while params.get("after", "") is not None:
        page = client.request_raw("GET", (path,), params=params)
        params["after"] = page["list_metadata"]["after"]


_TASKS: dict[str, Callable[[], object]] = {
    "drain": drain_to_end,
    "drain-and-wait": tasks.sync_events,
    "reconcile": _reconcile,
    "push": tasks.push_external_ids,
    "read-events": partial(_read, "events", events=",".join(TYPES)),
    "read-organizations": partial(_read, "organizations"),
}


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
