"""That every resource is declared, and that the comparison of their tables can fail."""

from dataclasses import replace
from typing import Any

import pytest

from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from tests.system.chaos.kinds import KINDS, RESOURCES
from tests.system.chaos.resource_audit import SeenResources, resource_differences


def test_every_resource_and_column_is_declared() -> None:
    """One that is added to the mirror is added here."""
    assert {kind.name: set(kind.columns) for kind in KINDS} == {
        name: {*resource.columns, *(() if name == "user" else ("workos_organization_id",))}
        for name, resource in PLAIN.items()
    }
    for kind in KINDS:
        resource = PLAIN[kind.name]
        model = model_of(resource)
        assert kind.table == model._meta.db_table
        assert kind.deleted_column == resource.deleted_column
        assert kind.key_comes_back == resource.key_comes_back


_SAID = {"connection_type": "OktaSAML", "name": "Okta", "state": "active"}
CONNECTION = {"workos_organization_id": "org_a", **_SAID, "deleted_at": None}
AT = "2026-01-01T00:00:00.000Z"
SHOWN = {"id": "conn_1", "organization_id": "org_a", **_SAID, "updated_at": AT}
TOLD = {"id": "event_3", "event": "connection.activated", "data": SHOWN}
DELETION = {"id": "event_4", "event": "connection.deleted", "data": SHOWN}
NOTHING: dict[str, Any] = {kind.name: {} for kind in KINDS}
RESOURCES_SEEN = SeenResources(
    rows={**NOTHING, "connection": {"conn_1": CONNECTION}},
    covered=frozenset(RESOURCES),
    organizations={"gram-1": {"workos_id": "org_a", "sso_enabled": True, "scim_enabled": False}},
)
HELD: dict[str, Any] = {**NOTHING, "connection": {"conn_1": SHOWN}}


def with_connection(**values: Any) -> SeenResources:
    rows = {**NOTHING, "connection": {"conn_1": {**CONNECTION, **values}}}
    return replace(RESOURCES_SEEN, rows=rows)


NO_SSO = "row gram-1: sso_enabled is True, not False"


@pytest.mark.parametrize("reconciled", [False, True])
@pytest.mark.parametrize(
    ("seen", "lines"),
    [
        (RESOURCES_SEEN, []),
        (with_connection(name="Entra"), ["connection conn_1: name is 'Entra', not 'Okta'"]),
        (
            with_connection(workos_organization_id="org_b"),
            ["connection conn_1: workos_organization_id is 'org_b', not 'org_a'", NO_SSO],
        ),
        (replace(RESOURCES_SEEN, rows=NOTHING), ["connection conn_1 is missing", NO_SSO]),
        (with_connection(deleted_at=AT), ["connection conn_1 is deleted", NO_SSO]),
        (
            replace(RESOURCES_SEEN, covered=frozenset(RESOURCES) - {"user"}),
            ["user is not covered"],
        ),
    ],
)
def test_a_difference_of_another_resource_is_told(
    seen: SeenResources, lines: list[str], reconciled: bool
) -> None:
    assert [*resource_differences(seen, HELD, [TOLD], reconciled=reconciled)] == lines
    deleted = resource_differences(RESOURCES_SEEN, NOTHING, [TOLD, DELETION], reconciled=reconciled)
    assert [*deleted] == ["connection conn_1 is deleted in WorkOS, and not here"]


@pytest.mark.parametrize(
    ("held", "events"),
    [
        pytest.param({**NOTHING, "connection": {"conn_1": SHOWN, "conn_2": SHOWN}}, [], id="new"),
        pytest.param(
            {**NOTHING, "connection": {"conn_1": {**SHOWN, "name": "New", "updated_at": "later"}}},
            [TOLD],
            id="changed",
        ),
        pytest.param(NOTHING, [TOLD], id="deleted"),
    ],
)
def test_what_no_event_told_is_judged_after_reconcile(held: Any, events: Any) -> None:
    assert [*resource_differences(RESOURCES_SEEN, held, events, reconciled=False)] == []
    assert len([*resource_differences(RESOURCES_SEEN, held, events, reconciled=True)]) == 1


def test_what_a_deleted_directory_held_is_told_by_its_deletion() -> None:
    user = {"workos_directory_id": "directory_1", "deleted_at": None}
    seen = replace(
        RESOURCES_SEEN, rows={**NOTHING, "directory_user": {"u": user}}, organizations={}
    )
    deletion = {"id": "event_1", "event": "dsync.deleted", "data": {"id": "directory_1"}}

    (line,) = resource_differences(seen, NOTHING, [deletion], reconciled=False)

    assert line == "directory_user u is deleted in WorkOS, and not here"
    options: dict[str, Any] = {"not_followed": {"event_1"}, "reconciled": False}
    assert not [*resource_differences(seen, NOTHING, [deletion], **options)]
