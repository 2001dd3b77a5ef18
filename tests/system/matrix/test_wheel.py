"""The wheel: what is in it, and a host project that runs its worker and its own tests with it."""

import os
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import orgs
from orgs.testing import FakeWorkOS
from tests.concurrency import another_program, wait_until
from tests.processes import PROJECT
from tests.system.matrix.cells import Cell
from tests.system.matrix.host import Host, install, make_host

pytestmark = pytest.mark.timeout(300)

SHOP_TESTS = Path(__file__).with_name("shop_tests.py").read_text()

#: No key is set, tasks would run at once, and two databases are made for the tests.
UNDER_TEST = """
WORKOS_SYNC = {}
Q_CLUSTER["sync"] = True
DATABASES["other"] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE_DIR / "other.sqlite3",
}
"""


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

    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout

    assert told.split() == [orgs.__version__, orgs.__version__]
    assert f"\n## {orgs.__version__}\n" in (PROJECT / "CHANGELOG.md").read_text()


def test_without_django_q2_it_says_what_to_add(python: str, tmp_path: Path) -> None:
    script = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['orgs']); django.setup()"
    )

    result = subprocess.run(
        [python, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert result.stderr.rstrip().endswith(
        'orgs works with django-q2: add "django_q" before "orgs".'
    )


@pytest.mark.usefixtures("database")
def test_the_worker_runs(
    python: str, new_database: Callable[[], str], workos: FakeWorkOS, tmp_path: Path
) -> None:
    database = new_database()
    project = make_host(python, tmp_path / "shop", Cell("plain"), database, workos)
    assert project.manage("migrate", "--verbosity", "0").returncode == 0
    workos.create_organization(name="Acme", external_id="gram-1")

    with another_program(dbname=database) as reader, _worker(project):
        wait_until(
            lambda: (
                reader.execute("SELECT name FROM organization_metadata").fetchall() == [("Acme",)]
            ),
            "the schedule's task has applied the event",
            patience=90,
        )


@contextmanager
def _worker(project: Host) -> Iterator[None]:
    worker = subprocess.Popen(
        [project.python, "manage.py", "qcluster"],
        cwd=project.folder,
        env=project.environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.terminate()
        with suppress(subprocess.TimeoutExpired):
            worker.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("migrations", ["", 'MIGRATION_MODULES = {"orgs": None}\n'])
def test_the_tests_of_a_project_run(
    python: str,
    new_database: Callable[[], str],
    workos: FakeWorkOS,
    tmp_path: Path,
    migrations: str,
) -> None:
    cell = Cell(
        "tests",
        settings=UNDER_TEST + migrations,
        files={"shop/tests.py": SHOP_TESTS, "shop/__init__.py": ""},
    )
    project = make_host(python, tmp_path / "shop", cell, new_database(), workos)

    result = project.manage("test", "--no-input")

    assert "Ran 2 tests" in result.stderr, result.stdout + result.stderr
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("database")
def test_the_fixtures_are_a_pytest_plugin(
    python: str, new_database: Callable[[], str], workos: FakeWorkOS, tmp_path: Path
) -> None:
    test = (
        "def test_it(workos, workos_url, transactional_db):\n"
        "    from orgs import models, tasks\n"
        '    workos.create_organization(name="Acme")\n'
        "    tasks.sync_events()\n"
        '    assert models.Organization.objects.get().name == "Acme"\n'
    )
    files = {
        "conftest.py": 'pytest_plugins = ["orgs.testing.pytest"]\n',
        "test_shop.py": test,
        "pytest.ini": "[pytest]\n",
    }
    install(python, "pytest", "pytest-django")
    project = make_host(
        python, tmp_path / "shop", Cell("pytest", files=files), new_database(), workos
    )

    result = project.run("-m", "pytest", "-q")

    assert result.returncode == 0, result.stdout
