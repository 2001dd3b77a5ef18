"""The demo's comparison: that everything in which WorkOS and the mirror can differ is found."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gram_sync.demo.comparison import EVENTS, differences
from gram_sync.demo.story import MEMBERS, ROWS
from orgs.testing import FakeWorkOS


@pytest.fixture
def story() -> Iterator[Any]:
    """A day after which both agree: an organization with a member, and one that was deleted."""
    with FakeWorkOS() as workos:
        acme = workos.create_organization(name="Acme", external_id="gram-1")
        globex = workos.create_organization(name="Globex", external_id="gram-2")
        workos.delete_organization(globex["id"])
        ada = workos.users.create(email="ada@acme.example")["id"]
        workos.roles.create(slug="admin")
        workos.memberships.create(user_id=ada, organization_id=acme["id"], role="admin")
        events = workos.all_events()
        tables: dict[str, list[dict[str, Any]]] = {
            ROWS: [
                {"id": "gram-1", "name": "Acme", "slug": "acme", "disabled": False},
                {"id": "gram-2", "name": "Globex", "slug": "globex", "disabled": True},
            ],
            MEMBERS: [{"email": "ada@acme.example", "status": "active", "roles": "admin"}],
            EVENTS: [{"id": event["id"], "outcome": "created"} for event in events],
        }
        for row, organization in zip(tables[ROWS], (acme, globex), strict=True):
            row["workos_id"] = organization["id"]
        yield SimpleNamespace(
            workos=workos,
            tables=tables,
            read=lambda query: [SimpleNamespace(**row) for row in tables[query]],
            first_slugs={"gram-1": "acme", "gram-2": "globex"},
            malformed="",
        )


def test_where_both_agree_there_is_no_difference(story: Any) -> None:
    assert list(differences(story)) == []


@pytest.mark.parametrize(
    ("table", "number", "columns", "what"),
    [
        pytest.param(ROWS, 0, {"name": "B"}, "organization", id="a name"),
        pytest.param(ROWS, 0, {"id": "gram-3"}, "organization", id="an id"),
        pytest.param(ROWS, 0, {"workos_id": None}, "organization", id="not linked"),
        pytest.param(ROWS, 0, {"disabled": True}, "deleted organization", id="disabled"),
        pytest.param(ROWS, 1, {"disabled": False}, "deleted organization", id="not disabled"),
        pytest.param(ROWS, 0, {"slug": "x"}, "slug", id="a slug"),
        pytest.param(MEMBERS, 0, {"roles": "member"}, "member", id="a role"),
        pytest.param(EVENTS, 0, {"outcome": "parked"}, "event, parked or not", id="parked"),
    ],
)
def test_each_difference_is_found(
    story: Any, table: str, number: int, columns: dict[str, Any], what: str
) -> None:
    story.tables[table][number] |= columns

    assert any(each.startswith(f"{what}: the mirror should") for each in differences(story))
