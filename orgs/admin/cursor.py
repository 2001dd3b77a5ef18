"""The cursor: its list, of which there is one row, is the page of the sync status."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from orgs.admin.base import ReadOnlyAdmin, may_view
from orgs.admin.confirmation import asking, is_confirmed
from orgs.admin.status import page
from orgs.models import ORGANIZATIONS_STREAM, SyncCursor
from orgs.services.queue import RECONCILE, SYNC_EVENTS, enqueue
from orgs.services.status import current_status


@dataclass(frozen=True, slots=True)
class Ring:
    """What the worker can be told to do now, instead of at its time."""

    name: str
    task: str
    permission: str
    label: str
    effect: str

    @property
    def url(self) -> str:
        return reverse("admin:orgs_synccursor_ring", args=[self.name])


_RINGS = {
    ring.name: ring
    for ring in (
        Ring(
            "drain",
            SYNC_EVENTS,
            "orgs.drain_synccursor",
            "Read the stream now",
            "The worker reads WorkOS's stream from where the cursor stands, and applies what is "
            "new. It does so every minute by itself.",
        ),
        Ring(
            "snapshot",
            RECONCILE,
            "orgs.snapshot_synccursor",
            "Take a snapshot now",
            "The worker compares all of WorkOS's organizations with the table and repairs what "
            "differs, as it does once a day by itself. What it repaired stands in its log, and "
            "how much on the status page; to see that before, run manage.py reconcile_workos "
            "--dry-run. If a snapshot is being taken already, nothing happens.",
        ),
    )
}


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
            "rings": [ring for ring in _RINGS.values() if request.user.has_perm(ring.permission)],
        }
        return TemplateResponse(request, "admin/orgs/sync_status.html", context)

    def get_urls(self) -> list[URLPattern]:
        ring_it = path(
            "ring/<slug:name>/",
            self.admin_site.admin_view(self.ring_view),
            name="orgs_synccursor_ring",
        )
        return [ring_it, *super().get_urls()]

    def ring_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Asks first; what then is done, is done by POST."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = _RINGS.get(name)
        if chosen is None:
            raise Http404(f"There is nothing to ring for that is called {name}.")
        if not request.user.has_perm(chosen.permission):
            raise PermissionDenied
        back = reverse("admin:orgs_synccursor_changelist")
        if not is_confirmed(request):
            return asking(
                self,
                request,
                title=chosen.label,
                label=chosen.label,
                effect=chosen.effect,
                back=back,
            )
        if enqueue(chosen.task):
            self.log_change(request, SyncCursor(stream=ORGANIZATIONS_STREAM), chosen.label)
            text = f"The worker was told: {chosen.label}. What came of it stands here soon"
            self.message_user(request, text, messages.SUCCESS)
        else:
            text = "The worker could not be told; the web process's log says why"
            self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(back)
