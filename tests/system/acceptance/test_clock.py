"""A process whose clock is wrong, as after a virtual machine was resumed."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import a_mirrored_organization
from tests.processes import environment_for, manage

pytestmark = [
    pytest.mark.usefixtures("database"),
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("cc"), reason="needs a compiler"
    ),
]

_AHEAD = timedelta(days=31)

#: Python asks the C library for the time.
_LIBRARY = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += {int(_AHEAD.total_seconds())};
    return result;
}}
"""


@pytest.fixture
def ahead(workos: FakeWorkOS, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that is a month ahead."""
    source, library = tmp_path / "ahead.c", tmp_path / "ahead.so"
    source.write_text(_LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    environment = environment_for(workos, LD_PRELOAD=str(library))
    show = "import time; print(int(time.time()))"
    shown = subprocess.run(
        [sys.executable, "-c", show], env=environment, check=True, capture_output=True, text=True
    )
    assert datetime.fromtimestamp(int(shown.stdout), UTC) - datetime.now(UTC) > _AHEAD / 2
    return environment


@pytest.mark.parametrize("is_lost", [False, True], ids=["as usual", "after a lost cursor"])
def test_a_process_that_is_a_month_ahead_leaves_nothing_in_the_future(
    workos: FakeWorkOS, ahead: dict[str, str], is_lost: bool
) -> None:
    a_mirrored_organization(workos)
    workos.create_organization(name="Before", external_id="gram-1")
    if is_lost:
        drain_to_end()
        workos.expire_events()

    code = manage(ahead, "reconcile_workos").returncode
    workos.create_organization(name="After", external_id="gram-2")
    report = drain_to_end()

    assert (code, report.drained) == (0, True)
    names = set(Organization.objects.values_list("name", flat=True))
    assert names == {"Mirrored", "Before", "After"}
    soon = datetime.now(UTC) + timedelta(minutes=1)
    in_time = {f"{name}__lt": soon for name in ("last_event_at", "drained_at", "reconciled_at")}
    assert SyncCursor.objects.filter(**in_time).exists()
    assert not WorkOSEvent.objects.filter(processed_at__gt=soon).exists()
    assert not Organization.objects.filter(updated_at__gt=soon).exists()
