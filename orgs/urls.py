"""The address that WorkOS sends its webhooks to, below where the project includes it."""

from django.urls import re_path

from orgs.views import workos_webhook

app_name = "orgs"

urlpatterns = [
    # With or without the last slash: a redirect would lose the POST.
    re_path(r"^workos/?$", workos_webhook, name="workos-webhook"),
]
