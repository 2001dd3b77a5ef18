"""Signals: sent after the commit, once for each change, and no danger to the sync."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from orgs import signals
from orgs.domain.types import (
    EventType,
)
from orgs.models import Organization, WorkOSEvent
from orgs.services.apply import apply_page
from orgs.services.disabling import disable, enable
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import (
    a_deletion,
    a_page,
    an_event,
    an_organization_row,
)
from tests.concurrency import another_program

pytestmark = pytest.mark.usefixtures("database")

ALL = {
    "created": signals.organization_created,
    "updated": signals.organization_updated,
    "relinked": signals.organization_relinked,
    "disabled": signals.organization_disabled,
    "enabled": signals.organization_enabled,
}


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, str | None]]]:
    """What was sent: the signal's name, Gram's id and WorkOS's."""
    told: list[tuple[str, str, str | None]] = []
    receivers = {}
    for name, signal in ALL.items():

        def receive(
            sender: type, *, organization_id: str, workos_id: str | None, name: str = name, **_: Any
        ) -> None:
            assert sender is Organization
            told.append((name, organization_id, workos_id))

        receivers[name] = receive
        signal.connect(receive)
    yield told
    for name, signal in ALL.items():
        signal.disconnect(receivers[name])


def test_an_organizations_life_is_told(
    heard: list[tuple[str, str, str | None]], workos: FakeWorkOS
) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    workos.update_organization(acme["id"], name="Ajax")
    drain_to_end()
    workos.delete_organization(acme["id"])
    drain_to_end()

    assert heard == [
        ("created", "gram-1", acme["id"]),
        ("updated", "gram-1", acme["id"]),
        ("disabled", "gram-1", acme["id"]),
    ]


@pytest.mark.parametrize(
    ("before", "event", "told"),
    [
        pytest.param(
            {}, an_event(external_id="gram-1"), [("updated", "gram-1", "org_1")], id="first link"
        ),
        pytest.param(
            {"workos_id": "org_0"},
            an_event(external_id="gram-1"),
            [("relinked", "gram-1", "org_1")],
            id="another link",
        ),
        pytest.param(
            {"workos_id": "org_0"},
            an_event(external_id="gram-1", name="Ajax"),
            [("relinked", "gram-1", "org_1"), ("updated", "gram-1", "org_1")],
            id="another link and name",
        ),
        pytest.param({"workos_id": "org_1"}, an_event(external_id="gram-1"), [], id="an echo"),
        pytest.param(
            {"workos_id": "org_1", "disabled_at": "2026-01-01"},
            a_deletion(),
            [],
            id="disabled already",
        ),
    ],
)
def test_what_is_told_of_a_row(
    heard: list[tuple[str, str, str | None]],
    before: dict[str, Any],
    event: Any,
    told: list[tuple[str, str, str | None]],
) -> None:
    an_organization_row("gram-1", **before)

    apply_page(a_page(event))

    assert heard == told


def test_a_page_that_creates_renames_and_deletes_tells_of_one_row(
    heard: list[tuple[str, str, str | None]],
) -> None:
    created = an_event(1, external_id="gram-1", type=EventType.CREATED)
    renamed = an_event(2, external_id="gram-1", name="Ajax")

    apply_page(a_page(created, renamed, a_deletion(3)))

    assert heard == [("created", "gram-1", "org_1"), ("disabled", "gram-1", "org_1")]


def test_what_a_person_disables_and_enables_is_told_once(
    heard: list[tuple[str, str, str | None]],
) -> None:
    an_organization_row("gram-1", workos_id="org_1")
    an_organization_row("gram-2")

    for switch in (disable, disable, enable, enable):
        switch(["gram-2", "gram-1"])

    assert heard == [
        ("disabled", "gram-1", "org_1"),
        ("disabled", "gram-2", None),
        ("enabled", "gram-1", "org_1"),
        ("enabled", "gram-2", None),
    ]


def test_it_is_told_after_the_commit() -> None:
    seen: list[object] = []

    def look(**_: Any) -> None:
        with another_program() as rival:
            seen.append(rival.execute("SELECT id FROM organization_metadata").fetchone())

    signals.organization_created.connect(look)
    try:
        apply_page(a_page(an_event(external_id="gram-1")))
    finally:
        signals.organization_created.disconnect(look)

    assert seen == [("gram-1",)]


def test_what_is_rolled_back_is_not_told(heard: list[tuple[str, str, str | None]]) -> None:
    # PostgreSQL refuses it: the page is rolled back, and the event parked.
    apply_page(a_page(an_event(external_id="gram-1", name="\x00")))

    assert WorkOSEvent.objects.get().outcome == "parked"
    assert heard == []


def test_a_receiver_that_raises_is_logged_and_stops_nothing(
    workos: FakeWorkOS,
    caplog: pytest.LogCaptureFixture,
    heard: list[tuple[str, str, str | None]],
) -> None:
    def broken(**_: Any) -> None:
        with connection.cursor() as cursor, transaction.atomic():
            cursor.execute("SELECT 1 / 0")

    signals.organization_created.connect(broken)
    try:
        workos.create_organization(name="Acme", external_id="gram-1")
        workos.create_organization(name="Ajax", external_id="gram-2")
        report = drain_to_end()
    finally:
        signals.organization_created.disconnect(broken)

    assert report.drained
    assert Organization.objects.count() == 2
    assert [id_ for _, id_, _ in heard] == ["gram-1", "gram-2"]
    assert "division by zero" in caplog.text
