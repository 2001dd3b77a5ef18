"""The service's admin site: its name, and its order."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from tests.admin_pages import CURSOR, EVENTS, ORGANIZATIONS, read, text_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("url", ["/admin/", CURSOR, EVENTS, ORGANIZATIONS, "/admin/auth/user/"])
def test_every_page_has_the_projects_name(url: str, admin_client: Client) -> None:
    page = read(admin_client, url)

    assert re.search(r"<title>[^<|]+\| gram-sync</title>", page)
    assert '<a href="/admin/">gram-sync</a>' in page
    assert "Django" not in text_of(page).replace("Django Q", "")


def test_the_mirror_is_listed_first_and_external_id_is_written_so(admin_client: Client) -> None:
    page = read(admin_client, "/admin/") + read(admin_client, "/admin/orgs/workosuser/")

    apps = re.findall(r'<div class="app-(\w+)', page)
    assert (apps[0], len(apps) > 2) == ("orgs", True)
    assert "Write-backs of external_id" in page
    assert not re.search(r"External_id|[Ee]xternal id", page)
    assert Permission.objects.filter(codename="retry_externalidwriteback").exists()
