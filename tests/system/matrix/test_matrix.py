"""Host projects: all of the app works in each supported one, and a check names what is not."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orgs.testing import FakeWorkOS, sign
from tests.processes import WEBHOOK_SECRET
from tests.system.matrix.cells import Cell
from tests.system.matrix.host import install, make_host

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(300)]

NAMELESS = '{"id": "event_9", "event": "organization.updated", "data": {"id": "org_9", "name": 5}}'


def test_all_of_it_works(
    python: str,
    cell: Cell,
    new_database: Callable[[], str],
    workos: FakeWorkOS,
    tmp_path: Path,
) -> None:
    project = make_host(python, tmp_path / "shop", cell, new_database(), workos)
    workos.create_organization(name="Acme", external_id="gram-1")
    bolt = workos.create_organization(name="Bolt")
    workos.emit_text(NAMELESS, id="event_9")
    body = json.dumps(workos.all_events()[0])
    signature = sign(WEBHOOK_SECRET, body.encode(), int(time.time() * 1000))
    if "ManifestStaticFilesStorage" in cell.settings:
        assert project.manage("collectstatic", "--no-input").returncode == 0

    result = project.run("probe.py", cell.prefix, text=f"{body}\n{signature}")

    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    if found["failures"]:
        pytest.fail("\n".join(found["failures"]), pytrace=False)
    assert [name for _, name in found["rows"]] == ["Acme", "Bolt"]
    assert found["errors"] == []
    assert Path(found["from"]).is_relative_to(Path(python).parent.parent)
    assert (found["pages"] > 20) is cell.has_admin
    there = workos.organization(bolt["id"])
    assert there is not None
    assert there["external_id"] == found["rows"][1][0]


def test_what_cant_be_supported_is_named(
    python: str,
    cell: Cell,
    new_database: Callable[[], str],
    workos: FakeWorkOS,
    tmp_path: Path,
) -> None:
    if cell.packages:
        install(python, *cell.packages)
    project = make_host(python, tmp_path / "shop", cell, new_database(), workos)

    for command in cell.commands:
        result = project.manage(*command.split())

        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert all(check in result.stderr for check in cell.finds), result.stderr
