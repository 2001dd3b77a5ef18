"""The chaos run itself: a short one, what it is planned from, and that it can fail at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from gram_sync.processes import PROJECT
from tests.concurrency import wait_until
from tests.processes import inherited_environment
from tests.system.chaos import warden
from tests.system.chaos.actions import Call, Kill, RestartPostgres, Write
from tests.system.chaos.comparison import Mirror, SeenEvent, SeenRow, WorkOS, differences
from tests.system.chaos.kinds import KINDS
from tests.system.chaos.model import Committed, JsonObject, Model, model_of
from tests.system.chaos.names import derived_id, may_be_slug_of
from tests.system.chaos.plan import make_plan
from tests.system.chaos.test_resource_audit import DELETION, NOTHING, RESOURCES_SEEN, TOLD

#: Enough for each kind of blow, and little enough for CI.
ROUNDS = 6
SEED = 1


#: It keeps two cores busy for a minute: too much beside the rest of the suite on a small machine.
takes_the_machine = pytest.mark.skipif(
    not os.environ.get("CHAOS"), reason="a run with real processes; set CHAOS=1, or `make chaos`"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's: it is closed to the user that root's PostgreSQL runs as.
    folder = PROJECT / ".data" / "chaos" / "test"
    yield folder
    warden.end_everything(folder)


@takes_the_machine
@pytest.mark.timeout(400)
def test_a_short_run_converges(folder: Path) -> None:
    run = subprocess.run(
        _command(folder),
        cwd=PROJECT,
        env=inherited_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith(f"seed {SEED}, {ROUNDS} rounds")
    figures = json.loads(run.stdout.partition("\n")[2])
    assert (figures["seed"], figures["rounds"]) == (SEED, ROUNDS)
    assert not _left_running(folder)


@takes_the_machine
@pytest.mark.timeout(200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing_running(number: int, folder: Path) -> None:
    actions = folder / "logs" / "actions.log"
    actions.unlink(missing_ok=True)

    with subprocess.Popen(_command(folder), cwd=PROJECT, env=inherited_environment()) as run:
        wait_until(lambda: actions.exists() and actions.stat().st_size > 0, "it plays")
        run.send_signal(number)

    wait_until(lambda: not _left_running(folder), "nothing runs")


def _command(folder: Path) -> list[str]:
    options = ["--rounds", str(ROUNDS), "--seed", str(SEED), "--folder", str(folder)]
    return [sys.executable, "-m", "tests.system.chaos", *options]


def _left_running(folder: Path) -> list[str]:
    postgres = str(folder / warden.POSTGRES)
    found = [str(process) for process in warden.marked(folder)]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == postgres:
                found.append(str(process))
    return found


# The plan -----------------------------------------------------------------------------------


def test_a_seed_replays_the_plan() -> None:
    assert make_plan(7, 50) == make_plan(7, 50)
    assert make_plan(7, 50)[:20] == make_plan(7, 20)
    assert make_plan(7, 50) != make_plan(8, 50)


@pytest.mark.parametrize("seed", range(5))
def test_even_a_short_plan_has_every_kind_of_blow_and_touches_every_resource(seed: int) -> None:
    actions = [step.action for steps in make_plan(seed, ROUNDS) for step in steps]

    kills = {
        (action.member.split("-")[0], action.whole)
        for action in actions
        if isinstance(action, Kill)
    }
    modes = {action.mode for action in actions if isinstance(action, RestartPostgres)}
    assert kills >= {("cluster", True), ("cluster", False), ("web", True)}
    assert modes == {"fast", "immediate"}
    created = {action.control for action in actions if isinstance(action, Call)}
    assert created >= {f"{kind.controls}.{kind.create}" for kind in KINDS} or seed != SEED


def test_a_long_plan_has_every_kind_of_action() -> None:
    actions = [step.action for steps in make_plan(1, 300) for step in steps]

    assert {type(action).__name__ for action in actions} == {
        *("Call", "Repeat", "Skewed", "Kill", "RestartPostgres", "Reconcile", "Switch"),
        *("Write", "Lock"),
    }
    writes = {action.kind for action in actions if isinstance(action, Write)}
    assert writes == {"insert", "set", "delete"}
    assert {action.control for action in actions if isinstance(action, Call)} == {
        *(f"{verb}_organization" for verb in ("create", "update", "delete")),
        *(f"{verb}_deliveries" for verb in ("drop", "repeat", "delay", "hold", "release")),
        *("set_hold_back", "misbehave", "behave"),
        *(
            f"{kind.controls}.{verb}"
            for kind in KINDS
            for verb in filter(None, (kind.create, kind.delete, *kind.verbs))
        ),
    }


# The model ----------------------------------------------------------------------------------


def an_event(
    number: int,
    verb: str = "updated",
    *,
    workos_id: str = "org_a",
    name: str = "Acme",
    external_id: str | None = "gram-1",
) -> JsonObject:
    organization = {"id": workos_id, "name": name, "external_id": external_id}
    return {"id": f"event_{number}", "event": f"organization.{verb}", "data": organization}


def linked(model: Model) -> dict[str, tuple[str, str, bool]]:
    return {id_: (row.workos_id, row.name, row.is_disabled) for id_, row in model.linked.items()}


CREATED, LET_GO = an_event(1, "created"), an_event(2, external_id=None)
TAKEN_OVER = an_event(3, "created", workos_id="org_b", name="B")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [CREATED, an_event(2, name="Globex")],
            {"gram-1": ("org_a", "Globex", False)},
            id="the last name counts",
        ),
        pytest.param(
            [an_event(1, "created", external_id=None), an_event(2, external_id="gram-9")],
            {derived_id("org_a"): ("org_a", "Acme", False)},
            id="a row keeps its id",
        ),
        pytest.param(
            [CREATED, LET_GO, TAKEN_OVER, an_event(4, "deleted", external_id=None)],
            {"gram-1": ("org_b", "B", False)},
            id="a row that moved is not disabled with its old organization",
        ),
        pytest.param(
            [CREATED, an_event(2, "deleted"), TAKEN_OVER],
            {"gram-1": ("org_b", "B", True)},
            id="a disabled row that is taken over stays disabled",
        ),
        pytest.param(
            [CREATED, LET_GO, TAKEN_OVER, an_event(4, external_id=None)],
            {"gram-1": ("org_b", "B", False), derived_id("org_a"): ("org_a", "Acme", False)},
            id="who lost a row gets another when mentioned again",
        ),
        pytest.param([an_event(1, "deleted")], {}, id="a deletion makes no row"),
    ],
)
def test_the_model_follows_the_events(
    events: list[JsonObject], expected: dict[str, tuple[str, str, bool]]
) -> None:
    assert linked(model_of(events, [])) == expected


def test_the_model_knows_whose_deletion_a_row_is_disabled_by_and_who_lost_a_row() -> None:
    inherited = [CREATED, an_event(2, "deleted"), TAKEN_OVER]
    deleted = an_event(4, "deleted", workos_id="org_b")

    rows = [model_of(events, []).linked["gram-1"] for events in (inherited, [*inherited, deleted])]

    assert [(row.is_disabled, row.is_inherited) for row in rows] == [(True, True), (True, False)]
    lost = model_of([CREATED, LET_GO, TAKEN_OVER], []).unlinked_organizations
    assert list(lost) == [derived_id("org_a")]


@pytest.mark.parametrize(
    ("slug", "name", "allowed"),
    [
        ("acme-inc", "Acme  -Inc-", True),
        ("acme-inc-0af3", "Acme Inc", True),
        ("acme-inc-0af", "Acme Inc", False),
        ("acme", "Acme Inc", False),
        ("acme-inc-zzzz", "Acme Inc", False),
    ],
)
def test_slugs_that_the_sync_may_choose(slug: str, name: str, allowed: bool) -> None:
    assert may_be_slug_of(slug, name) is allowed


# The comparison: that it can fail -----------------------------------------------------------

EVENTS = [an_event(1, "created"), an_event(2, name="Globex")]
WRITES = [
    Committed("set", "gram-1", {"gram_account_type": "pro"}),
    Committed("insert", "local-1", {"name": "Local", "slug": "local"}),
]
ROW = SeenRow("gram-1", "Globex", "acme", "org_a", "pro", True, False)
LOCAL = SeenRow("local-1", "Local", "local", None, "free", True, False)
MIRROR = Mirror(
    rows={"gram-1": ROW, "local-1": LOCAL},
    ledger={
        "event_1": SeenEvent("event_1", "created", True),
        "event_2": SeenEvent("event_2", "updated", False),
    },
    outbox={},
    created_slugs={"gram-1": "acme"},
    resources=replace(RESOURCES_SEEN, rows=NOTHING, organizations={}),
)
WORKOS = WorkOS(
    events=EVENTS,
    organizations={"org_a": {"id": "org_a", "external_id": "gram-1"}},
    announced_only=frozenset(),
    acknowledged=frozenset({"event_1"}),
    held=NOTHING,
    not_followed=frozenset(),
)


def compared(mirror: Mirror = MIRROR, *, reconciled: bool = True, **workos: Any) -> list[str]:
    model = model_of(EVENTS, WRITES)
    return differences(model, mirror, replace(WORKOS, **workos), reconciled=reconciled)


def with_row(**values: Any) -> Mirror:
    return replace(MIRROR, rows={**MIRROR.rows, "gram-1": replace(ROW, **values)})


def test_nothing_differs_if_all_is_as_the_model_says() -> None:
    assert compared() == []


@pytest.mark.parametrize("is_seen_disabled", [False, True])
def test_a_row_that_was_handed_over_disabled_may_be_enabled(is_seen_disabled: bool) -> None:
    model = model_of(EVENTS, WRITES)
    row = model.linked["gram-1"]
    row.is_disabled = row.is_inherited = True

    mirror = with_row(is_disabled=is_seen_disabled)

    assert differences(model, mirror, WORKOS, reconciled=True) == []
    row.is_inherited = False
    told = differences(model, mirror, WORKOS, reconciled=True)
    assert told == ([] if is_seen_disabled else ["row gram-1: disabled is False, not True"])


def with_event(id_: str, outcome: str, *, is_announced: bool) -> Mirror:
    return replace(MIRROR, ledger={**MIRROR.ledger, id_: SeenEvent(id_, outcome, is_announced)})


def without(id_: str) -> Mirror:
    return replace(MIRROR, rows={key: row for key, row in MIRROR.rows.items() if key != id_})


STRANGER = replace(LOCAL, id="local-2", slug="local-2")


@pytest.mark.parametrize(
    ("mirror", "line"),
    [
        (with_row(name="Acme"), "row gram-1: name is 'Acme', not 'Globex'"),
        (with_row(slug="globex"), "row gram-1: slug is 'globex', not 'acme'"),
        (with_row(gram_account_type="free"), "row gram-1: gram_account_type is 'free', not 'pro'"),
        (with_row(is_disabled=True), "row gram-1: disabled is True, not False"),
        (with_row(workos_id=None), "row gram-1: workos_id is None, not 'org_a'"),
        (replace(MIRROR, outbox={"gram-1": "HTTP 500"}), "outbox: gram-1 is still to be told"),
        (replace(MIRROR, ledger={}), "ledger: event_2 is unknown"),
        (with_event("event_2", "parked", is_announced=True), "ledger: event_2 is parked"),
        (
            with_event("event_1", "created", is_announced=False),
            "ledger: a webhook of event_1 was answered with success, and is not noted",
        ),
        (with_event("event_9", "created", is_announced=True), "ledger: event_9 is no event of"),
        (replace(MIRROR, created_slugs={"gram-1": "acme-x"}), "row gram-1: slug is 'acme', not"),
        (without("gram-1"), "row gram-1 is missing"),
        (without("local-1"), "row local-1 is missing"),
        (
            replace(MIRROR, rows={**MIRROR.rows, "local-2": STRANGER}),
            "row local-2 should not be there",
        ),
    ],
)
def test_a_difference_is_told(mirror: Mirror, line: str) -> None:
    assert [told for told in compared(mirror) if told.startswith(line)]


def test_an_event_may_be_unknown_that_came_before_its_resource_was_followed() -> None:
    events = [*EVENTS, TOLD, DELETION]

    assert compared(events=events, not_followed={"event_3", "event_4"}) == []
    assert compared(events=events, not_followed={"event_3"}) == ["ledger: event_4 is unknown"]


def test_an_id_that_workos_was_not_told_is_told() -> None:
    organizations = {"org_a": {"id": "org_a", "external_id": None}}

    assert compared(organizations=organizations) == [
        "WorkOS: org_a has the external_id None, not 'gram-1'"
    ]


def test_a_name_that_a_rival_wrote_is_wrong_only_after_reconcile() -> None:
    writes = [*WRITES, Committed("set", "gram-1", {"name": "Drifted"})]
    model = model_of(EVENTS, writes)
    mirror = with_row(name="Drifted")

    assert differences(model, mirror, WORKOS, reconciled=False) == []
    assert differences(model, mirror, WORKOS, reconciled=True) == [
        "row gram-1: name is 'Drifted', not 'Globex'"
    ]
