"""The systemd units: valid, and such that the processes end and come back as they must."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from orgs.conf import SyncSettings, least_task_timeout

PROJECT = Path(settings.BASE_DIR)
UNITS = sorted((PROJECT / "gram_sync" / "deployment").glob("*.service"))


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys keep their case
    parser.read(PROJECT / "gram_sync" / "deployment" / f"gram-sync-{name}.service")
    return parser


def test_there_is_a_unit_for_each_process() -> None:
    assert [path.stem for path in UNITS] == [
        "gram-sync-migrate",
        "gram-sync-web",
        "gram-sync-worker",
    ]


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    for path in UNITS:
        # It looks whether there is such a program.
        text = path.read_text().replace("/srv/gram-sync/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text)

    verified = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # What it says of the machine's own units is not about ours.
    told = [line for line in verified.stderr.splitlines() if "gram-sync" in line]
    if verified.returncode and not told:
        pytest.skip(f"systemd-analyze can't work here: {verified.stderr}")
    assert told == []


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_process_that_ends_is_started_again_for_ever(name: str) -> None:
    assert unit(name)["Service"]["Restart"] == "always"
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_worker_is_told_alone_and_given_the_time_that_its_tasks_may_take() -> None:
    service = unit("worker")["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > 2 * least_task_timeout(SyncSettings())
