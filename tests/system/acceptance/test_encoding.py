"""A database that can't hold every name: a check says so, and one name does not stop the rest."""

from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from orgs.testing import FakeWorkOS
from tests.builders import an_old_organization
from tests.triggers import changed, execute

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def latin1(database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another database, whose encoding is LATIN1."""
    name = f"{connection.settings_dict['NAME']}_latin1"
    as_latin1 = "ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    there = {**connection.get_connection_params(), "dbname": name}
    with (
        changed(f"CREATE DATABASE {name} {as_latin1}", f"DROP DATABASE {name} WITH (FORCE)"),
        monkeypatch.context() as patch,
    ):
        patch.setattr(connection, "get_connection_params", lambda: there)
        connection.close()
        yield
        connection.close()


def test_a_name_that_the_encoding_cant_hold_fails_alone_and_a_check_says_why(
    workos: FakeWorkOS, latin1: None
) -> None:
    call_command("migrate", skip_checks=True, verbosity=0)
    for name in ("Acme", "株式会社", "Bolt"):
        an_old_organization(workos, name)

    with pytest.raises(CommandError):
        call_command("reconcile_workos", stdout=(report := StringIO()))
    with pytest.raises(CommandError, match=r"orgs\.E019"):
        call_command("check", databases=["default"], stderr=StringIO())

    assert "failed" in report.getvalue()
    assert execute("SELECT name FROM organization_metadata ORDER BY name") == [("Acme",), ("Bolt",)]
