"""A process whose clock is wrong, as after a virtual machine was resumed."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import a_mirrored_organization
from tests.processes import environment_for, manage, run

pytestmark = [
    pytest.mark.usefixtures("database"),
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("cc"), reason="needs a compiler"
    ),
]

_AHEAD = timedelta(days=31)

#: Programs ask the C library for the time.
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
    run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    environment = environment_for(workos, LD_PRELOAD=str(library))
    now = int(run(["date", "+%s"], environment, check=True).stdout)
    assert datetime.fromtimestamp(now, UTC) - datetime.now(UTC) > _AHEAD / 2
    return environment


def test_a_process_that_is_a_month_ahead_leaves_nothing_in_the_future(
    workos: FakeWorkOS, ahead: dict[str, str]
) -> None:
    a_mirrored_organization(workos)
    workos.create_organization(name="First", external_id="gram-1")
    drain_to_end()
    # Where the stream goes on is chosen by that process.
    workos.expire_events()
    workos.create_organization(name="Before", external_id="gram-2")

    assert manage(ahead, "reconcile_workos").returncode == 0
    workos.create_organization(name="After", external_id="gram-3")
    assert drain_to_end().drained

    names = {*Organization.objects.values_list("name", flat=True)}
    assert names == {"Mirrored", "First", "Before", "After"}
    soon = datetime.now(UTC) + timedelta(minutes=1)
    in_time = {f"{name}__lt": soon for name in ("last_event_at", "drained_at", "reconciled_at")}
    assert SyncCursor.objects.filter(**in_time).exists()
    assert not WorkOSEvent.objects.filter(processed_at__gt=soon).exists()
    assert not Organization.objects.filter(updated_at__gt=soon).exists()
