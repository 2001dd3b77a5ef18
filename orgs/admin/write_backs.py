"""The outbox: which organizations' ids WorkOS is still to be told."""

from django.contrib import admin

from orgs.admin.base import ReadOnlyAdmin, link, moment
from orgs.admin.filters import WaitingFilter
from orgs.models import ExternalIdWriteBack


@admin.register(ExternalIdWriteBack)
class ExternalIdWriteBackAdmin(ReadOnlyAdmin[ExternalIdWriteBack]):
    list_display = [
        "workos_id",
        "organization_link",
        moment("requested_at"),
        "attempts",
        moment("next_attempt_at"),
        "last_error",
    ]
    list_filter = [WaitingFilter]
    list_select_related = ["organization"]
    search_fields = ["workos_id", "organization__id", "organization__name"]
    search_help_text = "WorkOS id, id or name of the organization, or a part of one"
    ordering = ["-requested_at", "pk"]

    @admin.display(description="organization", ordering="organization__name")
    def organization_link(self, write_back: ExternalIdWriteBack) -> str:
        organization = write_back.organization
        return link("orgs_organization_change", organization.id, organization.name)
