"""The wheel, and host projects that have it: all of it works, and a check names what can't."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import orgs
from orgs.testing import FakeWorkOS
from tests.builders import a_signature
from tests.concurrency import another_program, wait_until
from tests.processes import PROJECT, run
from tests.system.matrix.cells import OTHER_SQLITE, Cell
from tests.system.matrix.host import Host, pip

pytestmark = pytest.mark.usefixtures("database")

NAMELESS = '{"id": "event_9", "event": "organization.updated", "data": {"id": "org_9", "name": 5}}'

SHOP_TESTS = Path(__file__).with_name("shop_tests.py").read_text()

#: No key is set, tasks would run at once, and two databases are made for the tests.
UNDER_TEST = f'{OTHER_SQLITE}WORKOS_SYNC = {{}}\nQ_CLUSTER["sync"] = True\n'


def test_it_has_the_whole_app_and_nothing_else(wheel: Path) -> None:
    files = {file for file in (PROJECT / "orgs").rglob("*") if file.is_file()}
    app = {
        str(file.relative_to(PROJECT)) for file in files if file.suffix not in (".pyc", ".DS_Store")
    }

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert packed == app


def test_it_has_one_version(python: str) -> None:
    script = "import importlib.metadata as m, orgs; print(m.version('gram-orgs'), orgs.__version__)"

    versions = run([python, "-c", script], {}, check=True).stdout

    assert versions.split() == [orgs.__version__, orgs.__version__]
    assert f"\n## {orgs.__version__}\n" in (PROJECT / "CHANGELOG.md").read_text()


def test_without_django_q2_it_says_what_to_add(python: str, tmp_path: Path) -> None:
    script = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['orgs']); django.setup()"
    )

    result = run([python, "-c", script], {}, cwd=tmp_path)

    assert result.stderr.rstrip().endswith(
        'orgs works with django-q2: add "django_q" before "orgs".'
    )


def test_its_tests_run_by_django_and_by_pytest(make_project: Callable[[Cell], Host]) -> None:
    test = (
        "def test_it(workos, workos_url, transactional_db):\n"
        "    from orgs import models, tasks\n"
        '    workos.create_organization(name="Acme")\n'
        "    tasks.sync_events()\n"
        '    assert models.Organization.objects.get().name == "Acme"\n'
    )
    files = {
        "shop/tests.py": SHOP_TESTS,
        "shop/__init__.py": "",
        "conftest.py": 'pytest_plugins = ["orgs.testing.pytest"]\n',
        "test_shop.py": test,
        "pytest.ini": "[pytest]\npython_files = test_shop.py\n",
    }
    project = make_project(Cell("tests", settings=UNDER_TEST, files=files))

    # To make the database takes most of the time.
    by_django = project.manage("test", "--no-input", "--keepdb", "shop")
    by_pytest = project.run("-m", "pytest", "-q", "--reuse-db")

    assert "Ran 2 tests" in by_django.stderr, by_django.stdout + by_django.stderr
    assert by_django.returncode == 0, by_django.stderr
    assert by_pytest.returncode == 0, by_pytest.stdout


# Host projects ------------------------------------------------------------------------------


def test_all_of_it_works(
    python: str, cell: Cell, make_project: Callable[[Cell], Host], workos: FakeWorkOS
) -> None:
    project = make_project(cell)
    workos.create_organization(name="Acme", external_id="gram-1")
    bolt = workos.create_organization(name="Bolt")
    workos.emit_text(NAMELESS, id="event_9")
    body = json.dumps(workos.all_events()[0])
    if cell.prepare:
        assert project.manage(*cell.prepare.split()).returncode == 0

    result = project.run("probe.py", cell.prefix, text=f"{body}\n{a_signature(body.encode())}")

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
    if cell.name == "plain":
        the_worker_runs(project, workos)


def the_worker_runs(project: Host, workos: FakeWorkOS) -> None:
    """What the probe's webhooks have enqueued, it works off."""
    workos.create_organization(name="Cargo", external_id="gram-cargo")
    database = json.loads(project.environment["DATABASE"])["NAME"]
    query = "SELECT FROM organization_metadata WHERE name = 'Cargo'"
    command = [project.python, "manage.py", "sync_worker"]
    with (
        another_program(dbname=database) as reader,
        subprocess.Popen(command, cwd=project.folder, env=project.environment) as worker,
    ):
        wait_until(lambda: reader.execute(query).fetchall(), "it is applied")
        worker.terminate()

    assert worker.returncode == 0


def test_what_cant_be_supported_is_named(
    python: str, cell: Cell, make_project: Callable[[Cell], Host]
) -> None:
    if cell.packages:
        pip(python, "install", *cell.packages)
    project = make_project(cell)

    for command in ("check --database default", "migrate"):
        result = project.manage(*command.split())

        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert all(check in result.stderr for check in cell.finds), result.stderr
