"""The service's own admin site: its name, and the mirror before other apps."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest


class GramSyncSite(AdminSite):
    site_header = site_title = "gram-sync"
    index_title = "Overview"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the mirror, then the other apps, each in the order of its name."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] != "orgs")


class GramSyncAdminConfig(AdminConfig):
    default_site = "gram_sync.admin.GramSyncSite"
