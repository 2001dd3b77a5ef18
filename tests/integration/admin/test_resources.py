"""The tables of the resources beside organizations, and an organization's page of them."""

import re
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.db.models import TextField
from django.test import RequestFactory

from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.models import (
    Connection,
    Organization,
    OrganizationDomain,
    OrganizationMembership,
    Role,
    WorkOSUser,
)
from tests.admin_pages import a_client, listed, page_of, read, text_of
from tests.builders import NOON, an_organization_row
from tests.triggers import execute

pytestmark = pytest.mark.django_db

MODELS: dict[str, Any] = {name: model_of(resource) for name, resource in PLAIN.items()}
RESOURCES = pytest.mark.parametrize("name", MODELS)


def url_of(model: Any) -> str:
    return f"/admin/orgs/{model._meta.model_name}/"


def a_row_of(name: str, key: str = "key_1", **columns: Any) -> Any:
    """A row with a text in each of its text columns."""
    model = MODELS[name]
    texts = [f.name for f in model._meta.fields if type(f) is TextField and f.name != "workos_id"]
    values = {column: f"the-{column}" for column in texts}
    organization = {"workos_organization_id": "org_1"}
    return model.objects.create(workos_id=key, **{**values, **organization, **columns})


@RESOURCES
def test_a_list_and_a_row_show_the_typed_columns_the_organization_and_the_data(name: str) -> None:
    an_organization_row("gram-1", name="A & B", workos_id="org_1")
    row = a_row_of(name, data={"a": ["<b>"]}, workos_updated_at=NOON)
    client = a_client()

    listing, page = read(client, url_of(MODELS[name])), read(client, page_of(row))

    link = '<a href="/admin/orgs/organization/gram-1/change/">A &amp; B</a>'
    for shown in (listing, page):
        assert link in shown
        for column in PLAIN[name].columns:
            assert column not in {"email", "name", "state", "slug"} or f"the-{column}" in shown
    assert "&quot;a&quot;: [\n    &quot;&lt;b&gt;&quot;" in page
    assert "2026-01-15 12:00:00 UTC" in page
    assert "&lt;b&gt;" not in listing


@RESOURCES
def test_rows_are_found_by_key_organization_and_text(name: str) -> None:
    row, other = a_row_of(name), a_row_of(name, "key_2", workos_organization_id="org_2")
    MODELS[name].objects.filter(pk="key_2").update(**{PLAIN[name].deleted_column: NOON})
    client, url = a_client(), url_of(MODELS[name])

    def found(query: str) -> list[str]:
        return listed(client.get(f"{url}?{query}"))

    assert found("") == found("q=ey_") == [row.pk, other.pk]
    assert found("q=key_1") == found("q=org_1") == found("deleted=no") == [row.pk]
    assert found("q=org_2") == found("deleted=yes") == [other.pk]
    assert found("q=org_2&deleted=no") == found("q=nowhere") == []
    assert "2026-01-15 12:00:00 UTC" in read(client, url)
    if searched := {"name", "email", "domain"} & {*PLAIN[name].columns}:
        assert found(f"q=the-{searched.pop()[:3]}") == [row.pk, other.pk]


def test_rows_are_found_by_their_state_and_by_what_they_refer_to() -> None:
    for number, status in enumerate(("active", "pending", "strange")):
        a_row_of("membership", f"om_{number}", status=status, workos_user_id=f"user_{number}")
    client, url = a_client(), url_of(OrganizationMembership)

    for query, key in (("status=active", "om_0"), ("status=other", "om_2"), ("q=user_1", "om_1")):
        assert listed(client.get(f"{url}?{query}")) == [key]
    assert f'<a href="{url_of(WorkOSUser)}user_5F1/change/">user_1</a>' in read(client, url)


@RESOURCES
def test_a_list_is_ordered_by_an_index_and_offers_no_other_order(name: str) -> None:
    a_row_of(name)
    page = read(a_client(), url_of(MODELS[name]))
    request = RequestFactory().get(url_of(MODELS[name]))
    request.user = User.objects.get()
    rows = site.get_model_admin(MODELS[name]).get_changelist_instance(request).queryset
    execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")

    plan = rows[:50].explain()

    assert "Sort" not in plan
    assert "_pkey" in plan
    sortable = re.findall(r'class="sortable column-(\w+)', page)
    related = {f"workos_{name}" for name in ("user", "directory", "group", "directory_user")}
    assert {*sortable} <= {"workos_id", "email"} | related


def test_the_index_names_the_resources_of_the_settings_alone(sync_setting: Any) -> None:
    before = read(a_client(), "/admin/orgs/")
    sync_setting(RESOURCES=("connection",))
    after = read(a_client(), "/admin/orgs/")

    assert f'href="{url_of(Connection)}"' not in before
    assert f'href="{url_of(Connection)}"' in after
    assert f'href="{url_of(Role)}"' not in after


@pytest.fixture
def an_organization_with_members() -> Organization:
    row = an_organization_row("gram-1", workos_id="org_1")
    owned: Any = {"workos_organization_id": "org_1"}
    OrganizationDomain.objects.create(workos_id="dom_1", domain="a.io", **owned)
    WorkOSUser.objects.create(workos_id="user_1", email="ada@a.io")
    member = {"workos_user_id": "user_1", "status": "active", "role_slugs": ["lead", "own"]}
    for key, deleted_at in (("om_1", None), ("om_2", None), ("om_9", NOON)):
        OrganizationMembership.objects.create(
            workos_id=key, deleted_at=deleted_at, **owned, **member
        )
    return row


def test_an_organizations_page_shows_what_belongs_to_it_to_whom_may_see_it(
    an_organization_with_members: Organization, sync_setting: Any
) -> None:
    sync_setting(RESOURCES=("directory",))
    url = page_of(an_organization_with_members)

    page = read(a_client(), url)
    without_users = read(a_client(sees="organization"), url)
    blind = read(a_client(sees="organization$"), url)

    text = text_of(page)
    assert "om_1 user_1 active lead, own ada@a.io" in text
    assert "dom_1 a.io" in text
    assert "om_9" not in page
    assert "Directories None." in text
    assert ">Connections<" not in page
    assert "om_1" in without_users
    assert "ada@a.io" not in without_users
    assert not [key for key in ("om_1", "dom_1", "ada@a.io") if key in blind]


def test_an_organizations_page_shows_the_first_and_links_to_all(
    an_organization_with_members: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orgs.admin.resources._MOST_SHOWN", 1)

    page = read(a_client(), page_of(an_organization_with_members))

    assert "om_1" in page
    assert "om_2" not in page
    url = f"{url_of(OrganizationMembership)}?q=org_1&amp;deleted=no"
    assert f'<a href="{url}">All memberships' in page
    assert listed(a_client().get(url.replace("&amp;", "&"))) == ["om_1", "om_2"]
