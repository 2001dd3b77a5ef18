"""What is made while its directory is absent for a while is there once the directory is back."""

import pytest

from orgs.services.compare import Run
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.mirrored import held, mirrored

pytestmark = pytest.mark.usefixtures("database", "all_resources")

CHILDREN = ("directory_user", "directory_group", "directory_group_member")


@pytest.mark.parametrize("is_deleted", [False, True], ids=["absent", "deleted by an event"])
def test_what_came_while_its_directory_was_absent(workos: FakeWorkOS, is_deleted: bool) -> None:
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
