"""A database that can't hold every name: a check says so, and one name does not stop the rest."""

from collections.abc import Iterator

import pytest
from django.db import connection

from orgs.testing import FakeWorkOS
from tests.concurrency import another_program
from tests.processes import database_url, environment_for, manage
from tests.triggers import execute

pytestmark = pytest.mark.usefixtures("database")

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def latin1(workos: FakeWorkOS) -> Iterator[str]:
    """The name of another database, whose encoding is LATIN1."""
    name = f"{connection.settings_dict['NAME']}_latin1"
    execute(
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' "
        "TEMPLATE template0"
    )
    yield name
    execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_name_that_the_encoding_cant_hold_fails_alone_and_a_check_says_why(
    workos: FakeWorkOS, latin1: str
) -> None:
    environment = environment_for(workos, DATABASE_URL=database_url(dbname=latin1))
    migrated = manage(environment, "migrate", "--skip-checks", "--verbosity=0")
    for workos_name in ("Acme", "株式会社", "Bolt"):
        workos.create_organization(name=workos_name, at=LONG_AGO, emits=False)

    reconciled = manage(environment, "reconcile_workos")
    checked = manage(environment, "check", "--database", "default")

    with another_program(dbname=latin1) as reader:
        names = reader.execute("SELECT name FROM organization_metadata ORDER BY name").fetchall()
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert names == [("Acme",), ("Bolt",)]
    assert reconciled.returncode == 1
    assert "failed" in reconciled.stdout
    assert "orgs.E019" in checked.stderr
