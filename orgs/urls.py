"""The addresses that WorkOS and monitoring ask, below where the project includes them."""

from django.urls import re_path

from orgs.views import healthz, metrics, readyz, workos_webhook

app_name = "orgs"

urlpatterns = [
    # With or without the last slash: a redirect would lose the POST.
    re_path(r"^webhooks/workos/?$", workos_webhook, name="workos-webhook"),
    re_path(r"^healthz/?$", healthz, name="healthz"),
    re_path(r"^readyz/?$", readyz, name="readyz"),
    re_path(r"^metrics/?$", metrics, name="metrics"),
]
