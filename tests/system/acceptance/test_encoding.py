"""A database that can't hold every name: a check says so, and one name does not stop the rest."""

import subprocess
from collections.abc import Iterator

import pytest
from django.db import connection

from orgs.testing import FakeWorkOS
from tests.concurrency import another_program
from tests.processes import MANAGE, PROJECT, database_url, environment_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(120)]

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def latin1(workos: FakeWorkOS) -> Iterator[str]:
    """The name of another database, whose encoding is LATIN1."""
    name = f"{connection.settings_dict['NAME']}_latin1"
    _execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' "
        "TEMPLATE template0"
    )
    yield name
    _execute(f"DROP DATABASE {name} WITH (FORCE)")


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def manage(workos: FakeWorkOS, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MANAGE, *arguments],
        cwd=PROJECT,
        env=environment_for(workos, DATABASE_URL=database_url(dbname=name)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_name_that_the_encoding_cant_hold_fails_alone_and_a_check_says_why(
    workos: FakeWorkOS, latin1: str
) -> None:
    migrated = manage(workos, latin1, "migrate", "--skip-checks", "--verbosity=0")
    for workos_name in ("Acme", "株式会社", "Bolt"):
        workos.create_organization(name=workos_name, at=LONG_AGO, emits=False)

    reconciled = manage(workos, latin1, "reconcile_workos")
    checked = manage(workos, latin1, "check", "--database", "default")

    with another_program(dbname=latin1) as reader:
        names = reader.execute("SELECT name FROM organization_metadata ORDER BY name").fetchall()
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert names == [("Acme",), ("Bolt",)]
    assert reconciled.returncode == 1
    assert "failed" in reconciled.stdout
    assert "orgs.E019" in checked.stderr
