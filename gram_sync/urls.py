"""Where requests go: the webhook, what monitoring asks, and the admin for everything else."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("orgs.urls")),
    path("admin/", admin.site.urls),
]
