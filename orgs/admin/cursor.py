"""The cursor: its list, of which there is one row, is the page of the sync status."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from orgs.admin.base import ReadOnlyAdmin, may_view
from orgs.admin.status import page
from orgs.models import SyncCursor
from orgs.services.status import current_status


@admin.register(SyncCursor)
class SyncCursorAdmin(ReadOnlyAdmin[SyncCursor]):
    def __init__(self, model: type[SyncCursor], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # Our template of the site's first page only adds to Django's, or to a theme's; in a place
        # where it does not matter which of the installed apps comes first.
        if admin_site.index_template is None:
            admin_site.index_template = "admin/orgs/index.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **page(current_status(), lambda model: may_view(request, model)),
            "opts": self.opts,
            "title": "Sync status",
        }
        return TemplateResponse(request, "admin/orgs/sync_status.html", context)
