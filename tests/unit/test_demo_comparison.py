"""The demo's comparison: that everything in which WorkOS and the mirror can differ is found."""

import pytest

from gram_sync.demo.comparison import Remote, Row, compare, remotes

ACME = Remote("org_1", "Acme", "gram-1", "gram-1")
ROW = Row("gram-1", "Acme", "acme", "org_1")
DERIVED = "eba45f89-5b1f-5930-97df-c1949d69a89d"

DELETED, DISABLED = ACME._replace(deleted=True), ROW._replace(disabled=True)
WITHOUT_ID = ACME._replace(given_id=None, external_id=DERIVED)
NOT_WRITTEN_BACK = ACME._replace(external_id=None)
ANOTHER_ID = ACME._replace(given_id="gram-2", external_id="gram-2")


@pytest.mark.parametrize(
    ("remote", "row", "difference"),
    [
        pytest.param(ACME, ROW, "", id="there and here"),
        pytest.param(DELETED, DISABLED, "", id="deleted and disabled"),
        pytest.param(WITHOUT_ID, ROW._replace(id=DERIVED), "", id="a derived id"),
        pytest.param(None, ROW._replace(workos_id=None), "", id="a row of Gram's alone"),
        pytest.param(ACME, None, "it has no row", id="no row"),
        pytest.param(ACME._replace(name="B"), ROW, "its row's name is 'Acme', not 'B'", id="name"),
        pytest.param(ACME, ROW._replace(slug="x"), "its row's slug is 'x', not 'acme'", id="slug"),
        pytest.param(NOT_WRITTEN_BACK, ROW, "its external_id is None, not 'gram-1'", id="no id"),
        pytest.param(ANOTHER_ID, ROW, "its row's id is 'gram-1', not 'gram-2'", id="another id"),
        pytest.param(ACME, DISABLED, "its row's disabled is True, not False", id="disabled"),
        pytest.param(DELETED, ROW, "its row's disabled is False, not True", id="deletion missed"),
        pytest.param(None, ROW, "its row's workos_id is 'org_1', not None", id="no organization"),
    ],
)
def test_each_difference_is_found(remote: Remote | None, row: Row | None, difference: str) -> None:
    found = compare([remote] if remote else [], [row] if row else [], {"gram-1": "acme"})

    name = remote.name if remote else "Acme"
    assert list(found) == [(remote, row, [f"{name}: {difference}"] if difference else [])]


def test_organizations_are_those_that_exist_and_those_that_were_deleted() -> None:
    def body(number: int, name: str, external_id: str | None) -> dict[str, str | None]:
        return {"id": f"org_{number}", "name": name, "external_id": external_id}

    events = [
        {"event": "organization.created", "data": body(1, "Acme", None)},
        {"event": "organization.created", "data": body(2, "Globex", "gram-2")},
        {"event": "organization.updated", "data": {"id": "org_1", "name": None}},
        {"event": "organization.deleted", "data": body(2, "Globex Corp", "gram-2")},
    ]

    assert list(remotes([body(1, "Acme Inc.", "gram-1")], events)) == [
        Remote("org_1", "Acme Inc.", "gram-1", None),
        Remote("org_2", "Globex Corp", "gram-2", "gram-2", deleted=True),
    ]
