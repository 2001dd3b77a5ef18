"""``orgs``, installed from its wheel into a project of someone else's."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from orgs.testing import FakeWorkOS, sign
from tests.processes import PROJECT, WEBHOOK_SECRET, environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(180)]

SETTINGS = """
import os

import environ

INSTALLED_APPS += ["django_q", "orgs"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
WORKOS_SYNC = {
    "API_KEY": os.environ["WORKOS_API_KEY"],
    "BASE_URL": os.environ["WORKOS_BASE_URL"],
    "WEBHOOK_SECRETS": [os.environ["WORKOS_WEBHOOK_SECRET"]],
}
Q_CLUSTER = {
    "orm": "default", "timeout": 150, "retry": 360, "ack_failures": True, "max_attempts": 1,
}
"""

URLS = """
from django.urls import include

urlpatterns += [path("mirror/", include("orgs.urls"))]
"""

#: What their code does with it; its results are the last line that it prints.
USE = """
import json, sys
from django.contrib.auth.models import User
from django.test import Client
from django.core.management import call_command
from orgs import models, signals, tasks

body, signature = sys.stdin.read().split("\\n")
told = []

def hear(*, organization_id, **kwargs):
    told.append(organization_id)

signals.organization_created.connect(hear)
call_command("check", databases=["default"], fail_level="WARNING", stdout=sys.stderr)
client = Client(headers={"host": "localhost"}, enforce_csrf_checks=True)
staff = Client(headers={"host": "localhost"})
staff.force_login(User.objects.create_superuser("admin"))
ADMIN = ["/admin/orgs/", "/admin/orgs/synccursor/", "/admin/orgs/organization/gram-1/change/"]
posted = client.post(
    "/mirror/webhooks/workos/", body, content_type="application/json",
    headers={"WorkOS-Signature": signature},
)
drained = tasks.sync_events()
tasks.reconcile()
print(json.dumps({
    "from": models.__file__,
    "posted": posted.status_code,
    "drained": drained,
    "told": told,
    "rows": list(models.Organization.objects.values_list("id", "name")),
    "ready": client.get("/mirror/readyz").json(),
    "metrics": client.get("/mirror/metrics").status_code,
    "admin": [staff.get(page).status_code for page in ADMIN],
    "heads": "/admin/orgs/synccursor/" in staff.get("/admin/").content.decode(),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, built from a copy: a build leaves files where it is made."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "orgs", source / "orgs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)])
    return site


@pytest.fixture
def their_database(database: None) -> Iterator[str]:
    name = f"{connection.settings_dict['NAME']}_of_someone_else"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(command: list[str], *, text: str = "", **options: object) -> str:
    result = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


def test_it_works_with_an_app_an_include_and_its_settings(
    site: Path, their_database: str, workos: FakeWorkOS, tmp_path: Path
) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")
    body = json.dumps(workos.all_events()[0])
    environment = {**environment_for(workos), "PYTHONPATH": str(site)}
    del environment["DJANGO_SETTINGS_MODULE"]
    ours = connection.settings_dict["NAME"]
    environment["DATABASE_URL"] = environment["DATABASE_URL"].replace(
        f"/{ours}?", f"/{their_database}?"
    )
    call_command("startproject", "shop", str(tmp_path))
    for file, more in (("settings.py", SETTINGS), ("urls.py", URLS)):
        with (tmp_path / "shop" / file).open("a") as written:
            written.write(more)

    def manage(*arguments: str, text: str = "") -> str:
        command = [sys.executable, "manage.py", *arguments]
        return run(command, text=text, cwd=tmp_path, env=environment)

    manage("migrate", "--verbosity", "0")
    signature = sign(WEBHOOK_SECRET, body.encode(), int(time.time() * 1000))
    told = json.loads(manage("shell", "-v", "0", "-c", USE, text=f"{body}\n{signature}"))

    assert Path(told.pop("from")).is_relative_to(site)
    assert told == {
        "posted": 204,
        "drained": "created 1",
        "told": ["gram-1"],
        "rows": [["gram-1", "Acme"]],
        "ready": {"ready": True, "problems": []},
        "metrics": 200,
        "admin": [200, 200, 200],
        "heads": True,
    }


def test_the_wheel_has_what_is_not_python(site: Path) -> None:
    for file in (
        "py.typed",
        "README.md",
        "monitoring/alerts.yml",
        "static/orgs/admin.css",
        "templates/admin/orgs/actions.html",
    ):
        assert (site / "orgs" / file).is_file(), file
    assert not (site / "gram_sync").exists()
    assert not (site / "tests").exists()


def test_without_django_q2_it_says_what_to_install() -> None:
    script = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['orgs']); django.setup()"
    )

    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.stderr.rstrip().endswith(
        'orgs works with django-q2: add "django_q" before "orgs".'
    )
