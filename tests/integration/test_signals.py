"""Signals: those inside the transaction are committed with it; those after it stop nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeAlias

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.dispatch import Signal

from orgs import signals
from orgs.domain.report import Change
from orgs.domain.types import Observation, Outcome
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.disabling import disable, enable
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import (
    NOON,
    a_deletion,
    a_page,
    an_event,
    an_organization,
    an_organization_row,
    apply_page,
)
from tests.concurrency import another_program
from tests.triggers import a_constraint, changed, execute

pytestmark = pytest.mark.usefixtures("database")

Sent: TypeAlias = list[tuple[str, str, str | None]]

ALL = {
    "created": signals.organization_created,
    "updated": signals.organization_updated,
    "relinked": signals.organization_relinked,
    "disabled": signals.organization_disabled,
    "enabled": signals.organization_enabled,
}


@contextmanager
def connected(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@pytest.fixture
def sent() -> Iterator[Sent]:
    """What was sent after commits: the signal's name, Gram's id and WorkOS's."""
    received: Sent = []
    names = {signal: name for name, signal in ALL.items()}

    def note(
        sender: type, signal: Signal, organization_id: str, workos_id: str | None, **_: Any
    ) -> None:
        assert sender is Organization
        received.append((names[signal], organization_id, workos_id))

    for signal in names:
        signal.connect(note)
    yield received
    for signal in names:
        signal.disconnect(note)


# After the commit ---------------------------------------------------------------------------


def test_the_life_of_an_organization(sent: Sent, workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    workos.update_organization(acme["id"], name="Ajax")
    drain_to_end()
    workos.delete_organization(acme["id"])
    drain_to_end()

    names = ("created", "updated", "disabled")
    assert sent == [(name, "gram-1", acme["id"]) for name in names]


NAMES_ROW = an_event(external_id="gram-1")


@pytest.mark.parametrize(
    ("before", "event", "names"),
    [
        pytest.param({}, NAMES_ROW, ["updated"], id="first link"),
        pytest.param({"workos_id": "org_0"}, NAMES_ROW, ["relinked"], id="another link"),
        pytest.param(
            {"workos_id": "org_0"},
            an_event(external_id="gram-1", name="Ajax"),
            ["relinked", "updated"],
            id="another link and name",
        ),
        pytest.param({"workos_id": "org_1"}, NAMES_ROW, [], id="an echo"),
        pytest.param({"workos_id": "org_1", "disabled_at": NOON}, a_deletion(), [], id="disabled"),
    ],
)
def test_what_is_sent_of_a_row(
    sent: Sent, before: dict[str, Any], event: Observation, names: list[str]
) -> None:
    an_organization_row("gram-1", **before)

    apply_page(a_page(event))

    assert sent == [(name, "gram-1", "org_1") for name in names]


def test_what_a_person_disables_and_enables_is_sent_once(sent: Sent) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    an_organization_row("gram-2")

    for switch in (disable, disable, enable, enable):
        switch(["gram-2", "gram-1"])

    rows = (("gram-1", "org_1"), ("gram-2", None))
    assert sent == [(name, *row) for name in ("disabled", "enabled") for row in rows]


def test_it_is_sent_after_the_commit() -> None:
    seen: list[object] = []

    def look(**_: Any) -> None:
        with another_program() as rival:
            seen.append(rival.execute("SELECT id FROM organization_metadata").fetchone())

    with connected(signals.organization_created, look):
        apply_page(a_page(an_event(external_id="gram-1")))

    assert seen == [("gram-1",)]


def test_nothing_is_sent_of_what_is_rolled_back_or_was_a_dry_run(sent: Sent) -> None:
    with a_constraint():
        apply_page(a_page(an_event(name="Forbidden")))
    apply(Batch(observations=[an_organization()]), Mode.DRY_RUN)

    assert WorkOSEvent.objects.get().outcome == "parked"
    assert sent == []


def test_a_receiver_that_raises_is_logged_and_stops_nothing(
    workos: FakeWorkOS, caplog: pytest.LogCaptureFixture, sent: Sent
) -> None:
    def broken(**_: Any) -> None:
        with transaction.atomic():
            execute("SELECT 1 / 0")

    with connected(signals.organization_created, broken):
        workos.create_organization(name="Acme", external_id="gram-1")
        workos.create_organization(name="Ajax", external_id="gram-2")
        report = drain_to_end()

    assert report.drained
    assert [id_ for _, id_, _ in sent] == ["gram-1", "gram-2"]
    assert "division by zero" in caplog.text


# Inside the transaction ---------------------------------------------------------------------


@pytest.fixture
def grants(database: None) -> Iterator[Callable[[], list[str]]]:
    """A table of another app's, and a function that lists what is in it."""

    def listed() -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM grants ORDER BY id")
            return [id_ for (id_,) in cursor.fetchall()]

    with changed("CREATE TABLE grants (id text PRIMARY KEY)", "DROP TABLE grants"):
        yield listed


def grant(changes: tuple[Change, ...], **_: Any) -> None:
    with connection.cursor() as cursor:
        for change in changes:
            cursor.execute("INSERT INTO grants VALUES (%s)", [change.organization_id])


def test_changes_are_sent_once_a_page_and_commit_with_it(grants: Callable[[], list[str]]) -> None:
    seen: list[tuple[Change, ...]] = []
    acme = an_event(1, external_id="gram-1")
    page = a_page(acme, an_event(2, workos_id="org_2", external_id="gram-2"), acme)

    def look(changes: tuple[Change, ...], **_: Any) -> None:
        seen.append(changes)
        with another_program() as rival:
            assert rival.execute("SELECT FROM organization_metadata").fetchone() is None

    with connected(signals.changes_applied, look), connected(signals.changes_applied, grant):
        apply_page(page)
        apply_page(a_page(an_event(0)), Mode.REPLAY)

    ((first, second),) = seen
    assert (first.organization_id, first.change) == ("gram-1", Outcome.CREATED)
    assert (second.organization_id, second.fields["name"]) == ("gram-2", (None, "Acme"))
    assert grants() == ["gram-1", "gram-2"]


def test_a_receiver_that_hides_a_database_error_loses_no_event() -> None:
    """PostgreSQL would roll back at the commit, and say nothing."""

    def careless(**_: Any) -> None:
        with suppress(DatabaseError):
            execute("SELECT 1 / 0")

    with connected(signals.changes_applied, careless):
        apply_page(a_page(an_event()))

    assert WorkOSEvent.objects.get().outcome == "parked"


@pytest.mark.parametrize(
    ("code", "is_parked"), [("23514", True), ("40001", False), ("55P03", False), ("08006", False)]
)
def test_a_database_error_of_a_receiver_counts_as_one_of_ours(code: str, is_parked: bool) -> None:
    def refuse(**_: Any) -> None:
        execute(f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")

    raises = nullcontext() if is_parked else pytest.raises(OperationalError)
    with connected(signals.changes_applied, refuse), raises:
        apply_page(a_page(an_event()))

    assert WorkOSEvent.objects.parked().exists() is is_parked
    assert SyncCursor.objects.exists() is is_parked
