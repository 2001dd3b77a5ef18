"""The service's own admin site: its name, its release, and the mirror before other apps."""

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest

import orgs


class GramSyncSite(AdminSite):
    site_header = site_title = "gram-sync"
    index_title = "Overview"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Add the release, for the footer."""
        return {**super().each_context(request), "version": orgs.__version__}

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the mirror, then the other apps, each in the order of its name."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] != "orgs")


class GramSyncAdminConfig(AdminConfig):
    default_site = "gram_sync.admin.GramSyncSite"
