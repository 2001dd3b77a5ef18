"""The wheel, and for each Python and Django a virtual environment that has it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from orgs.testing import FakeWorkOS
from tests.system.matrix import host
from tests.system.matrix.cells import SUPPORTED, UNSUPPORTED, Cell
from tests.system.matrix.host import Host
from tests.triggers import changed, execute

#: `make matrix` sets it. CI runs a few cells, with the Python and the versions that are locked.
EVERYTHING = bool(os.environ.get("MATRIX"))

_PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_DJANGOS = {"5.2": "3.11", "6.0": "3.12", "6.1": "3.12"}
"""Each with the oldest Python that it runs on."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python, and a Django for it."""

    version: str
    django: str
    python: str | None
    """Where that Python is, if it is here."""

    def __str__(self) -> str:
        return f"Python {self.version}, Django {self.django}"


def _interpreter(version: str) -> str | None:
    installed = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for name in (f"python{version}", *map(str, installed)):
        path = shutil.which(name)
        command = [name, "-c", "import ensurepip, venv"]
        if path and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return path
    return None


def _environments() -> list[Environment]:
    if not EVERYTHING:
        return [Environment("", "locked", sys._base_executable)]  # type: ignore[attr-defined]
    pythons = {version: _interpreter(version) for version in _PYTHONS}
    return [
        Environment(version, django, path)
        for version, path in pythons.items()
        for django, oldest in _DJANGOS.items()
        if version >= oldest
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every cell to the oldest and the newest environment, and the main ones to the rest."""
    if "python" not in metafunc.fixturenames:
        return
    environments = _environments()
    if "cell" not in metafunc.fixturenames:
        metafunc.parametrize("python", environments, indirect=True, ids=str, scope="session")
        return
    here = [environment for environment in environments if environment.python]
    whole = (here[0], here[-1]) if EVERYTHING else ()
    cells = SUPPORTED if metafunc.function.__name__ == "test_all_of_it_works" else UNSUPPORTED
    pairs = [
        pytest.param(environment, cell, id=f"{environment}, {cell.name}")
        for environment in environments
        for cell in cells
        if cell.in_ci or environment in whole
    ]
    metafunc.parametrize(("python", "cell"), pairs, indirect=["python"], scope="session")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    return host.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def python(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A Python of a clean virtual environment with the wheel and what it requires."""
    environment: Environment = request.param
    if environment.python is None:
        pytest.skip(f"there is no Python {environment.version} here")
    # With pytest, which the plugin wants and nothing else of it: the import linter has that.
    folder = tmp_path_factory.mktemp("site")
    if environment.django == "locked":
        return host.link_environment(folder, wheel, "gram-orgs[testing]", "psycopg[binary]")
    wanted = (f"{wheel}[testing]", "psycopg[binary]", f"django=={environment.django}.*")
    return host.make_environment(folder, environment.python, *wanted)


@pytest.fixture
def make_project(
    python: str, database: None, workos: FakeWorkOS, tmp_path: Path
) -> Iterator[Callable[[Cell], Host]]:
    """Makes a project of a cell, with an empty database, which is dropped at the end with its
    tests'."""
    name = f"host_{os.getpid()}"
    with changed(f"CREATE DATABASE {name}", f"DROP DATABASE {name} WITH (FORCE)"):
        yield partial(host.make_host, python, tmp_path / "shop", name, workos)
        execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")
