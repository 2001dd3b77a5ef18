"""Makes host projects: the wheel, a clean virtual environment, and a project with some settings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from django.db import connection
from packaging.requirements import Requirement

from orgs.testing import FakeWorkOS
from tests.processes import PROJECT, WEBHOOK_SECRET, run
from tests.system.matrix.cells import Cell

PROBE = Path(__file__).with_name("probe.py")

#: As docs/installing.md has them.
SETTINGS = """
import json
import os

DEBUG = False
ALLOWED_HOSTS = ["localhost"]
STATIC_ROOT = BASE_DIR / "static"
INSTALLED_APPS += ["django.contrib.postgres", "django_q", "orgs"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "CONN_MAX_AGE": 600,
        **json.loads(os.environ["DATABASE"]),
    }
}
WORKOS_SYNC = {
    "API_KEY": os.environ["WORKOS_API_KEY"],
    "BASE_URL": os.environ["WORKOS_BASE_URL"],
    "WEBHOOK_SECRETS": [os.environ["WORKOS_WEBHOOK_SECRET"]],
    "HOLD_BACK_WINDOW": 0,
}
Q_CLUSTER = {
    "orm": "default",
    "workers": 1,
    "timeout": 150,
    "retry": 360,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    "catch_up": False,
}
"""


def build_wheel(folder: Path) -> Path:
    """Return the wheel, built from a copy: a build leaves files where it is made."""
    source = folder / "source"
    shutil.copytree(PROJECT / "orgs", source / "orgs")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    must(sys.executable, "-m", "pip", "--quiet", "wheel", *options, str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, python: str, *packages: str) -> str:
    """Return the Python of a new virtual environment, in which pip has installed these packages."""
    must(python, "-m", "venv", "--without-pip", str(folder))
    inside = str(folder / "bin" / "python")
    pip(inside, "install", *packages)
    pip(inside, "check")
    return inside


def link_environment(folder: Path, wheel: Path, *packages: str) -> str:
    """Return the Python of a new virtual environment that has the wheel, and of what is installed
    here these packages and what they require. Quicker than pip, and needs no network."""
    python = sys._base_executable  # type: ignore[attr-defined]
    must(python, "-m", "venv", "--without-pip", str(folder))
    (site,) = folder.glob("lib/python*/site-packages")
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    for package in packages:
        _link(site, Requirement(package))
    inside = str(folder / "bin" / "python")
    pip(inside, "check")
    return inside


def _link(site: Path, wanted: Requirement) -> None:
    found = metadata.distributions(name=wanted.name, path=[str(site), *sys.path])
    distribution = next(iter(found))
    for name in {file.parts[0] for file in distribution.files or ()} - {".."}:
        if not (site / name).exists():
            (site / name).symlink_to(str(distribution.locate_file(name)))
    for required in map(Requirement, distribution.requires or ()):
        extras = wanted.extras or {""}
        if not required.marker or any(required.marker.evaluate({"extra": it}) for it in extras):
            _link(site, required)


def pip(python: str, *arguments: str) -> None:
    """Run our own pip for another Python: to install one there would take longer than all else."""
    must(sys.executable, "-m", "pip", "--quiet", "--no-input", "--python", python, *arguments)


@dataclass(frozen=True, slots=True)
class Host:
    """A project in a folder, run by a Python of its own against a database of its own."""

    python: str
    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Return how ``python …`` ended in the project's folder."""
        command = [self.python, *arguments]
        return run(command, self.environment, cwd=self.folder, input=text, timeout=240)

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Return how ``manage.py …`` ended."""
        return self.run("manage.py", *arguments)


def make_host(python: str, folder: Path, database: str, workos: FakeWorkOS, cell: Cell) -> Host:
    """Return a new project with the cell's settings, as ``startproject`` of its Django makes it."""
    params = connection.get_connection_params()
    where = {key.upper(): str(params[key]) for key in ("user", "host", "port") if params.get(key)}
    where |= {"NAME": database, "PASSWORD": params.get("password") or ""}
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "DATABASE": json.dumps(where),
        "WORKOS_API_KEY": workos.api_key,
        "WORKOS_BASE_URL": workos.base_url,
        "WORKOS_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    folder.mkdir(parents=True, exist_ok=True)
    must(python, "-m", "django", "startproject", "shop", str(folder))
    with (folder / "shop" / "settings.py").open("a") as settings:
        settings.write(SETTINGS + cell.settings)
    (folder / "shop" / "urls.py").write_text(cell.urls)
    for path, text in cell.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    shutil.copy(PROBE, folder)
    return Host(python, folder, environment)


def must(*command: str) -> None:
    """Run a command; fail with all that it prints if it fails."""
    result = run(command, timeout=300)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
