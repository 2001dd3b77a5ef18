"""A twelfth resource that does not exist: one declaration and one model, and nothing else.

As ``CONTRIBUTING.md`` has it. The table is made here, by a migration elsewhere.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models

from orgs import conf, signals
from orgs.db.cursor import read_cursor
from orgs.domain import resources
from orgs.domain.resources import Listing, Resource
from orgs.domain.types import Outcome, State
from orgs.management.commands import reconcile_workos
from orgs.models.resources import PersonalResource
from orgs.services import coverage
from orgs.services.compare import DisableLimit, Run
from orgs.services.erasure import erase_due
from orgs.services.reconcile import reconcile
from orgs.services.refresh import resolve
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS, state
from tests.builders import TWO_DAYS_AGO, a_mirrored_organization, a_parked_event
from tests.integration.services.stored import MonkeyPatch

VAULT = Resource(
    name="vault",
    model="Vault",
    events={
        "vault.created": State.PRESENT,
        "vault.updated": State.PRESENT,
        "vault.deleted": State.ABSENT,
    },
    columns={
        "owner": lambda data: data.get("owner", resources.NOT_SENT),
        "workos_directory_id": lambda data: data.get("directory_id", resources.NOT_SENT),
    },
    fetch=("vaults", "{key}"),
    listings=(Listing(path=("vaults",)),),
    is_personal=True,
    personal=frozenset({"owner"}),
    parents={"workos_directory_id": "directory"},
)


@pytest.fixture
def vaults(monkeypatch: MonkeyPatch, sync_setting: Any) -> Iterator[Any]:
    """The model, with its table, and the declaration among the others."""

    class Vault(PersonalResource):
        owner = models.TextField(null=True)
        workos_directory_id = models.TextField(null=True)

        class Meta:
            app_label = "orgs"
            db_table = "workos_vault"

    names = (*resources.NAMES, VAULT.name)
    monkeypatch.setitem(resources.PLAIN, VAULT.name, VAULT)
    for type_ in VAULT.events:
        monkeypatch.setitem(resources.RESOURCE_OF_EVENT, type_, VAULT.name)
    for module in (resources, conf, coverage, reconcile_workos):
        monkeypatch.setattr(module, "NAMES", names)
    monkeypatch.setattr(state, "KNOWN_EVENT_TYPES", {*state.KNOWN_EVENT_TYPES, *VAULT.events})
    sync_setting(RESOURCES=("organization", "directory", VAULT.name), HOLD_BACK_WINDOW=0.0)
    with connection.schema_editor() as editor:
        editor.create_model(Vault)
    yield Vault._default_manager
    with connection.schema_editor() as editor:
        editor.delete_model(Vault)
    del apps.all_models["orgs"]["vault"]
    apps.clear_cache()


def shown(key: str, **fields: Any) -> dict[str, Any]:
    at = TWO_DAYS_AGO.isoformat()
    return {"id": key, "owner": "Ada", "created_at": at, "updated_at": at, **fields}


def emit(workos: FakeWorkOS, type_: str, key: str = "vault_1", **fields: Any) -> None:
    workos.emit({"event": f"vault.{type_}", "data": shown(key, **fields)})


def list_vaults(workos: FakeWorkOS, *listed: dict[str, Any]) -> None:
    """Have the fake list them, which does not know them, and show each."""
    workos.behave()
    body = {"data": [*listed], "list_metadata": {"before": None, "after": None}}
    workos.misbehave("body", body=body, path="/vaults", exact=True, times=None)
    for one in listed:
        workos.misbehave("body", body=one, path=f"/vaults/{one['id']}", times=None)


def test_its_events_are_applied_and_sent_and_it_is_erased(workos: FakeWorkOS, vaults: Any) -> None:
    heard: list[Any] = []

    def hear(sender: Any, key: str, change: Outcome, **_: Any) -> None:
        heard.append((sender, key, change))

    signals.resource_changed.connect(hear)
    try:
        emit(workos, "created", organization_id="org_1")
        emit(workos, "updated", extra=[1])
        drain_to_end()
        row = vaults.get()
        assert (row.pk, row.owner, row.workos_organization_id) == ("vault_1", "Ada", "org_1")
        assert row.data["extra"] == [1]

        emit(workos, "deleted")
        emit(workos, "updated")
        drain_to_end()
    finally:
        signals.resource_changed.disconnect(hear)

    assert vaults.get().deleted_at is not None
    model = vaults.model
    assert heard == [(model, "vault_1", Outcome.CREATED), (model, "vault_1", Outcome.DELETED)]
    vaults.update(deleted_at=datetime.now(UTC) - timedelta(days=31))
    assert erase_due() == 1
    assert (vaults.get().owner, vaults.get().data) == (None, {})


def test_it_is_deleted_along_with_its_directory(workos: FakeWorkOS, vaults: Any) -> None:
    directory = workos.directories.create(name="Okta")["id"]
    emit(workos, "created", directory_id=directory)
    drain_to_end()
    workos.directories.delete(directory)
    emit(workos, "created", key="vault_2", directory_id=directory)
    drain_to_end()

    assert [row.deleted_at is not None for row in vaults.order_by("pk")] == [True, True]


def test_it_is_listed_covered_compared_and_fetched(workos: FakeWorkOS, vaults: Any) -> None:
    a_mirrored_organization(workos)
    list_vaults(workos, shown("vault_1"), shown("vault_2"))
    out = StringIO()
    call_command("reconcile_workos", "--format", "json", stdout=out)

    section = json.loads(out.getvalue())["resources"]["vault"]
    assert (section["listed"], section["created"]) == (2, 2)
    assert "vault" in read_cursor().covered

    list_vaults(workos, shown("vault_2", owner="Bob"))
    found = reconcile(Run(resources=("vault",), limit=DisableLimit(percent=100)))
    assert found.errors == []
    rows = {(row.pk, row.owner, row.deleted_at is None) for row in vaults.all()}
    assert rows == {("vault_1", "Ada", False), ("vault_2", "Bob", True)}
    assert reconcile(Run(resources=("vault",))).in_sync

    list_vaults(workos, shown("vault_2", owner="Eve"))
    a_parked_event(None, resource="vault", object_key="vault_2", type="vault.updated")
    assert resolve("event_1").change is Outcome.UPDATED
    assert vaults.get(pk="vault_2").owner == "Eve"
