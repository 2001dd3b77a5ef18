"""What WorkOS could say of an object that no declaration expects: it stops nothing else."""

import json
from typing import Any

import pytest

from orgs.models import Connection, Organization, WorkOSEvent, WorkOSUser
from orgs.services.compare import Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO
from tests.integration.services.stored import Setting
from tests.mirrored import held, mirrored


@pytest.fixture(autouse=True)
def followed(no_hold_back: None, follow: Setting) -> None:
    follow("organization_domain", "connection", "user", "membership")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1e999", "inf"),
        ("NaN", "nan"),
        ('{"x":' * 500 + "1" + "}" * 500, "nested too deeply"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
    ],
    ids=["inf", "nan", "objects", "lists"],
)
def test_what_jsonb_or_python_cant_hold_is_text(workos: FakeWorkOS, text: str, kept: str) -> None:
    event = {"id": "event_odd", "event": "user.created", "created_at": "2026-01-15T12:00:00Z"}
    whole = json.dumps({**event, "data": {"id": "user_1", "email": "a@b.c", "metadata": "ODD"}})
    workos.emit_text(whole.replace('"ODD"', text), id="event_odd")

    drain_to_end()

    user = WorkOSUser.objects.get()
    assert user.email == "a@b.c"
    assert kept in json.dumps(user.data["metadata"])


@pytest.mark.parametrize(
    ("domains", "error"),
    [(True, []), ([{"domain": "acme.com"}], ["organization_domain"])],
    ids=["no list", "without an id"],
)
def test_odd_domains_of_an_organization_are_no_error_of_the_organizations(
    workos: FakeWorkOS, domains: Any, error: list[str]
) -> None:
    for name in ("Acme", "Bolt"):
        workos.create_organization(
            name=name, external_id=name.lower(), at=TWO_DAYS_AGO, emits=False
        )
    first, second = workos.all_organizations()
    reconcile(Run())
    Organization.objects.update(name="Old")
    pages = [({**first, "domains": domains}, first["id"]), (second, None)]
    # The environment is verified by the first page; and odd domains are listed again by themselves.
    for listed, after in (pages[0], *pages, *pages):
        body = {"data": [listed], "list_metadata": {"before": None, "after": after}}
        workos.misbehave("body", path="/organizations", exact=True, body=body)

    found = reconcile(Run(), drain_events=False)

    assert [text.partition(":")[0] for text in found.errors] == error
    assert {*Organization.objects.values_list("name", flat=True)} == {"Acme", "Bolt"}


def test_a_connection_without_an_organization_enables_nothing(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1", emits=False)["id"]
    values: dict[str, Any] = {"name": "Okta", "state": "active", "at": TWO_DAYS_AGO}
    okta = workos.connections.create(organization_id=acme, **values, emits=False)["id"]
    reconcile(Run())
    assert Organization.objects.get().sso_enabled
    event = {"event": "connection.deleted", "data": {"id": okta, "organization_id": None}}

    workos.connections.update(okta, organization_id=None, emits=False)
    reconcile(Run())

    assert Connection.objects.get().workos_organization_id is None
    assert not Organization.objects.get().sso_enabled

    # What is deleted keeps what it belonged to.
    Connection.objects.update(workos_organization_id=acme)
    workos.emit(event)
    drain_to_end()
    assert Connection.objects.get().workos_organization_id == acme


@pytest.mark.parametrize(
    "nest",
    [
        pytest.param(dict, id="as an object"),
        pytest.param(lambda data: [data], id="in a list"),
        pytest.param(lambda data: {"invitation": data}, id="nested"),
    ],
)
def test_the_secrets_of_an_invitation_are_not_stored(
    workos: FakeWorkOS, follow: Setting, nest: Any
) -> None:
    follow("invitation")
    secrets = {"token": "s3cret", "accept_invitation_url": "https://accept/s3cret"}
    data = nest({"id": 7, "email": "a@b.c", **secrets})
    workos.emit({"event": "invitation.created", "data": data})

    drain_to_end()

    parked = WorkOSEvent.objects.parked().get()
    assert "a@b.c" in str(parked.payload)
    assert "s3cret" not in str(parked.payload)


CHILDREN = ("directory_user", "directory_group", "directory_group_member")


@pytest.mark.parametrize("is_deleted", [False, True], ids=["absent", "deleted by an event"])
def test_what_came_while_its_directory_was_absent_comes_back_with_it(
    workos: FakeWorkOS, follow: Setting, is_deleted: bool
) -> None:
    follow("directory", *CHILDREN)
    acme = {"organization_id": workos.create_organization(name="Acme")["id"]}
    okta = workos.directories.create(name="Okta", **acme)["id"]
    other = workos.directories.create(name="Other", **acme)
    reconcile(Run())
    listed = {"data": [other], "list_metadata": {"before": None, "after": None}}
    workos.misbehave("body", path="/directories", exact=True, body=listed, times=None)
    missing = {"message": "Not found.", "code": "entity_not_found"}
    path = f"/directories/{okta}"
    workos.misbehave("status", status=404, body=missing, path=path, times=None)
    reconcile(Run())
    user = workos.directory_users.create(directory_id=okta, email="zoe@acme.com")["id"]
    group = workos.directory_groups.create(directory_id=okta, name="Staff")["id"]
    workos.directory_groups.add_user(group, user)
    drain_to_end()
    assert [mirrored()[name] for name in CHILDREN] == [{}, {}, {}]
    workos.behave()
    if is_deleted:
        workos.directories.delete(okta)
        drain_to_end()

    for _ in range(2):
        assert reconcile(Run()).errors == []

    assert [mirrored()[name] for name in CHILDREN] == [held(workos)[name] for name in CHILDREN]
    assert len(mirrored()["directory"]) == (1 if is_deleted else 2)
