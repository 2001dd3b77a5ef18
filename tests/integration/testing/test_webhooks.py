"""Webhooks of the fake WorkOS: signed, repeated, lost, late and out of order on request."""

import json
from typing import Any

import pytest
from workos import WorkOSClient
from workos.common.models import OrganizationCreated

from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.integration.testing import event_ids, fake_threads, read
from tests.integration.testing.receiver import SECRET, Receiver


def create(workos: FakeWorkOS, *names: str) -> None:
    for name in names:
        workos.create_organization(name=name)


def test_a_delivery_is_signed(workos: FakeWorkOS, sdk: WorkOSClient, receiver: Receiver) -> None:
    workos.set_hold_back(60)
    organization = workos.create_organization(name="Åcme")

    assert workos.wait_for_deliveries()
    ((headers, body),) = receiver.received
    signature = headers["WorkOS-Signature"]
    event = sdk.webhooks.verify_event(event_body=body, event_signature=signature, secret=SECRET)
    assert isinstance(event, OrganizationCreated)
    assert event.data.id == organization["id"]
    assert "object" not in json.loads(body)
    assert read(sdk)["data"] == []
    with pytest.raises(ValueError, match="Signature hash does not match"):
        sdk.webhooks.verify_event(event_body=body, event_signature=signature, secret="other")


def test_every_endpoint_gets_what_it_asked_for(workos: FakeWorkOS, receiver: Receiver) -> None:
    deleted_url = receiver.url + "?deleted=1"
    deleted = ["organization.deleted"]
    workos.add_webhook_endpoint(url=deleted_url, secret=SECRET, events=deleted)

    workos.delete_organization(workos.create_organization(name="Acme")["id"])
    workos.emit({"data": {"name": "Announced"}}, listed=False)
    workos.emit({"data": {"name": "Listed"}}, announced=False)

    assert workos.wait_for_deliveries()
    assert [(one["event"], one["url"]) for one in workos.deliveries()] == [
        ("organization.created", receiver.url),
        ("organization.deleted", receiver.url),
        ("organization.deleted", deleted_url),
        ("organization.updated", receiver.url),
    ]
    workos.forget_deliveries()
    assert workos.deliveries() == []


@pytest.mark.parametrize(
    ("statuses", "attempts"),
    [
        pytest.param([500, 302, 204], [500, 302, 204], id="until one is taken"),
        pytest.param([500] * 9, [500] * 6, id="six times at most"),
    ],
)
def test_a_failed_delivery_is_repeated(
    receiver: Receiver, statuses: list[int], attempts: list[int]
) -> None:
    receiver.statuses = statuses
    with FakeWorkOS(delivery_pauses=[0.0] * 5) as workos:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        create(workos, "Acme")

        assert workos.wait_for_deliveries()
        records = workos.deliveries()
    assert [one["status"] for one in records] == attempts
    assert [one["attempt"] for one in records] == list(range(1, len(attempts) + 1))
    assert len({body for _, body in receiver.received}) == 1


def test_deliveries_are_dropped_and_repeated(workos: FakeWorkOS, receiver: Receiver) -> None:
    workos.drop_deliveries(2)
    create(workos, "Lost", "Lost too", "Delivered")
    workos.repeat_deliveries(2)
    create(workos, "Twice")
    workos.repeat_deliveries(1)
    workos.hold_deliveries()
    create(workos, "First", "Lost by its id", "Last")
    workos.drop_deliveries(event_id=event_ids(workos)[-2])
    workos.release_deliveries()

    assert workos.wait_for_deliveries()
    assert receiver.names() == ["Delivered", "Twice", "Twice", "First", "Last"]
    assert [one["error"] for one in workos.deliveries()].count("dropped") == 3


@pytest.mark.parametrize(
    ("order", "expected"), [("as sent", "01234"), ("reversed", "43210"), ("shuffled", "21340")]
)
def test_deliveries_on_hold_are_released_in_an_order(
    workos: FakeWorkOS, receiver: Receiver, order: Any, expected: str
) -> None:
    workos.hold_deliveries()
    create(workos, *"01234")
    assert workos.wait_for_deliveries()
    assert receiver.received == []
    unknown: Any = "sideways"
    with pytest.raises(ValueError, match="not 'sideways'"):
        workos.release_deliveries(order=unknown)

    assert workos.release_deliveries(order=order, seed=2) == 5
    create(workos, "Last")

    assert workos.wait_for_deliveries()
    assert receiver.names() == [*expected, "Last"]


def test_deliveries_are_delayed(workos: FakeWorkOS, receiver: Receiver) -> None:
    workos.delay_deliveries(60)
    create(workos, "Later")
    workos.delay_deliveries(0)
    create(workos, "Now")

    wait_until(workos.deliveries, "it is delivered")
    assert receiver.names() == ["Now"]
    assert not workos.wait_for_deliveries(timeout=0)


def test_a_stop_waits_for_no_endpoint_and_loses_no_webhook(receiver: Receiver) -> None:
    receiver.answers.clear()
    others = fake_threads()
    with FakeWorkOS(delivery_pauses=[0.0] * 5) as workos:
        workos.add_webhook_endpoint(url=receiver.url, secret=SECRET)
        create(workos, "Under way")
        wait_until(lambda: receiver.received, "it is received")
        workos.stop()
        assert [one["status"] for one in workos.deliveries()] == [None]
        assert fake_threads() == others

        create(workos, "Meanwhile")
        receiver.answers.set()
        workos.start()

        assert workos.wait_for_deliveries()
    assert receiver.names() == ["Under way", "Under way", "Meanwhile"]
