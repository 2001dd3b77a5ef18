"""What the chaos run (`make chaos`) is planned from, and that its comparison can fail at all."""

from dataclasses import replace
from typing import Any

import pytest

from orgs.db.resources import model_of as table_of
from orgs.domain.resources import PLAIN
from tests.system.chaos.actions import Call, Kill, Write
from tests.system.chaos.comparison import Mirror, WorkOS, differences
from tests.system.chaos.kinds import KINDS, RESOURCES
from tests.system.chaos.model import JsonObject, model_of
from tests.system.chaos.plan import make_plan
from tests.system.chaos.resource_audit import resource_differences


def test_every_resource_and_column_is_declared() -> None:
    """One that is added to the mirror is added here."""
    assert {kind.name: set(kind.columns) for kind in KINDS} == {
        name: {*resource.columns, *(() if name == "user" else ("workos_organization_id",))}
        for name, resource in PLAIN.items()
    }
    for kind in KINDS:
        resource = PLAIN[kind.name]
        assert kind.table == table_of(resource)._meta.db_table
        assert kind.deleted_column == resource.deleted_column
        assert kind.key_comes_back == resource.key_comes_back


# The plan -----------------------------------------------------------------------------------


def test_a_seed_replays_the_plan() -> None:
    assert make_plan(7, 50)[:20] == make_plan(7, 20)
    assert make_plan(7, 50) != make_plan(8, 50)


def test_the_plan_that_ci_plays_has_every_kind_of_breakdown_and_touches_every_resource() -> None:
    actions = [step.action for steps in make_plan(1, 8) for step in steps]

    kills = {(kill.member[:3], kill.whole) for kill in actions if isinstance(kill, Kill)}
    assert kills >= {("clu", True), ("clu", False), ("web", True)}
    assert {type(action).__name__ for action in actions} >= {"RestartPostgres", "Switch", "Write"}
    called = {action.control for action in actions if isinstance(action, Call)}
    assert called >= {f"{kind.controls}.{kind.create}" for kind in KINDS} | {"misbehave"}


# The comparison -----------------------------------------------------------------------------

AT = "2026-01-01T00:00:00.000Z"


def an_event(number: int, verb: str, name: str) -> JsonObject:
    organization = {"id": "org_a", "name": name, "external_id": "gram-1"}
    return {"id": f"event_{number}", "event": f"organization.{verb}", "data": organization}


_SAID = {"connection_type": "OktaSAML", "name": "Okta", "state": "active"}
CONNECTION = {"workos_organization_id": "org_a", **_SAID, "deleted_at": None}
SHOWN = {"id": "conn_1", "organization_id": "org_a", **_SAID, "updated_at": AT}
ACTIVATION = {"id": "event_3", "event": "connection.activated", "data": SHOWN}
DELETION = {"id": "event_4", "event": "connection.deleted", "data": SHOWN}

EVENTS = [an_event(1, "created", "Acme"), an_event(2, "updated", "Globex"), ACTIVATION]
WRITES = [
    Write("set", "gram-1", {"gram_account_type": "pro"}),
    Write("insert", "local-1", {"name": "Local", "slug": "local"}),
]
LOCAL: dict[str, Any] = {
    "name": "Local",
    "slug": "local",
    "workos_id": None,
    "disabled_at": None,
    "gram_account_type": "free",
    "whitelisted": True,
    "sso_enabled": False,
    "scim_enabled": False,
}
OURS = {"name": "Globex", "slug": "acme", "workos_id": "org_a", "gram_account_type": "pro"}
ROW = LOCAL | OURS | {"sso_enabled": True}
NOTHING: dict[str, Any] = {kind.name: {} for kind in KINDS}
SEEN = {"outcome": "created", "announced_at": AT, "error": ""}
MIRROR = Mirror(
    rows={"gram-1": ROW, "local-1": LOCAL},
    ledger={event["id"]: SEEN for event in EVENTS},
    outbox={},
    created_slugs={"gram-1": "acme"},
    resources={**NOTHING, "connection": {"conn_1": CONNECTION}},
    covered=frozenset(RESOURCES),
)
WORKOS = WorkOS(
    events=EVENTS,
    organizations={"org_a": {"id": "org_a", "external_id": "gram-1"}},
    held={**NOTHING, "connection": {"conn_1": SHOWN}},
    announced_only=frozenset(),
    acknowledged=frozenset({"event_1"}),
    not_followed=frozenset(),
)


def compared(mirror: Mirror, *, reconciled: bool = True, writes: Any = WRITES) -> list[str]:
    return differences(model_of(EVENTS, writes), mirror, WORKOS, reconciled=reconciled)


def test_nothing_differs_if_all_is_as_the_model_says() -> None:
    assert compared(MIRROR) == compared(MIRROR, reconciled=False) == []


def with_row(id_: str = "gram-1", **values: Any) -> Mirror:
    return replace(MIRROR, rows={**MIRROR.rows, id_: {**MIRROR.rows.get(id_, LOCAL), **values}})


def with_event(id_: str, **values: Any) -> Mirror:
    return replace(MIRROR, ledger={**MIRROR.ledger, id_: SEEN | values})


def with_connection(**values: Any) -> Mirror:
    return replace(MIRROR, resources={**NOTHING, "connection": {"conn_1": CONNECTION | values}})


@pytest.mark.parametrize("reconciled", [False, True])
@pytest.mark.parametrize(
    ("mirror", "line"),
    [
        (with_row(name="Acme"), "row gram-1: name is 'Acme', not 'Globex'"),
        (with_row(slug="globex"), "row gram-1: slug is 'globex', not 'acme'"),
        (with_row(gram_account_type="free"), "row gram-1: gram_account_type is 'free', not 'pro'"),
        (with_row(whitelisted=False), "row gram-1: whitelisted is False, not True"),
        (with_row(disabled_at=AT), "row gram-1: disabled is True, not False"),
        (with_row(workos_id=None), "row gram-1: workos_id is None, not 'org_a'"),
        (with_row(sso_enabled=False), "row gram-1: sso_enabled is False, not True"),
        (with_row(scim_enabled=True), "row gram-1: scim_enabled is True, not False"),
        (with_row("local-2"), "row local-2 should not be there"),
        (with_row("x", workos_id="org_a"), "WorkOS: org_a has the external_id 'gram-1', not 'x'"),
        (replace(MIRROR, rows={"local-1": LOCAL}), "row gram-1 is missing"),
        (replace(MIRROR, rows={"gram-1": ROW}), "row local-1 is missing"),
        (replace(MIRROR, created_slugs={"gram-1": "x"}), "row gram-1: was created with the slug"),
        (replace(MIRROR, outbox={"gram-1": "HTTP 500"}), "outbox: gram-1 still waits"),
        (replace(MIRROR, ledger={}), "ledger: event_2 is unknown"),
        (with_event("event_2", outcome="parked"), "ledger: event_2 is parked"),
        (with_event("event_2", outcome=None), "ledger: event_2 is unseen"),
        (with_event("event_1", announced_at=None), "ledger: a webhook of event_1 was answered"),
        (with_event("event_9"), "ledger: event_9 is no event of WorkOS's"),
        (replace(MIRROR, covered=frozenset()), "user is not covered"),
        (with_connection(name="Entra"), "connection conn_1: name is 'Entra', not 'Okta'"),
        (with_connection(deleted_at=AT), "connection conn_1 is deleted"),
        (replace(MIRROR, resources=NOTHING), "connection conn_1 is missing"),
    ],
)
def test_a_difference_is_found(mirror: Mirror, line: str, reconciled: bool) -> None:
    assert [found for found in compared(mirror, reconciled=reconciled) if found.startswith(line)]


def test_a_row_that_was_handed_over_disabled_may_be_enabled_and_no_other() -> None:
    model = model_of(EVENTS, WRITES)
    row = model.linked["gram-1"]
    row.is_disabled = row.is_inherited = True

    assert differences(model, MIRROR, WORKOS, reconciled=True) == []
    row.is_inherited = False
    assert differences(model, MIRROR, WORKOS, reconciled=True) == [
        "row gram-1: disabled is False, not True"
    ]


def test_a_name_that_another_program_wrote_is_wrong_only_after_reconcile() -> None:
    writes = [*WRITES, Write("set", "gram-1", {"name": "Drifted"})]
    mirror = with_row(name="Drifted")

    assert compared(mirror, writes=writes, reconciled=False) == []
    assert compared(mirror, writes=writes) == ["row gram-1: name is 'Drifted', not 'Globex'"]


@pytest.mark.parametrize(
    "held",
    [
        pytest.param({"conn_1": SHOWN, "conn_2": SHOWN}, id="new"),
        pytest.param({"conn_1": SHOWN | {"name": "New", "updated_at": ""}}, id="changed"),
        pytest.param({}, id="deleted"),
    ],
)
def test_what_no_event_said_is_judged_after_reconcile(held: Any) -> None:
    both = MIRROR.resources, {**NOTHING, "connection": held}

    assert [*resource_differences(*both, [ACTIVATION], reconciled=False)] == []
    assert len([*resource_differences(*both, [ACTIVATION], reconciled=True)]) == 1


def test_what_an_event_deletes_is_judged_before_unless_it_was_not_followed() -> None:
    user = {"workos_directory_id": "directory_1", "deleted_at": None}
    rows = {**MIRROR.resources, "directory_user": {"u": user}}
    deletion = {"id": "event_5", "event": "dsync.deleted", "data": {"id": "directory_1"}}
    all_of_it = rows, NOTHING, [ACTIVATION, DELETION, deletion]

    assert [*resource_differences(*all_of_it, reconciled=False)] == [
        "connection conn_1 is deleted in WorkOS, and not here",
        "directory_user u is deleted in WorkOS, and not here",
    ]
    not_followed = ["event_4", "event_5"]
    assert not [*resource_differences(*all_of_it, not_followed=not_followed, reconciled=False)]
