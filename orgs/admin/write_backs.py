"""The outbox: which organizations' ids WorkOS is still to be told."""

import logging

from django.contrib import admin, messages
from django.db import Error as DatabaseTrouble
from django.db import models
from django.http import HttpRequest, HttpResponse

from orgs.admin.base import ReadOnlyAdmin, link, moment
from orgs.admin.confirmation import ActingAdmin, Subject, is_confirmed, selected
from orgs.admin.filters import WaitingFilter
from orgs.models import ExternalIdWriteBack
from orgs.services.outbox import retry

logger = logging.getLogger(__name__)


@admin.register(ExternalIdWriteBack)
class ExternalIdWriteBackAdmin(
    ActingAdmin[ExternalIdWriteBack], ReadOnlyAdmin[ExternalIdWriteBack]
):
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
    actions = ["retry_selected"]
    effects = {
        "retry_selected": "The worker tells WorkOS the id now, as if it had not been tried before. "
        "If WorkOS has another id there, that is a conflict again: correct it in WorkOS first.",
    }

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.retry_externalidwriteback")

    @admin.action(description="Try again now", permissions=["retry"])
    def retry_selected(
        self, request: HttpRequest, queryset: models.QuerySet[ExternalIdWriteBack]
    ) -> HttpResponse:
        ids = selected(request)
        if not is_confirmed(request):
            waiting = ExternalIdWriteBack.objects.select_related("organization").in_bulk(ids)
            return self.ask(
                request, "retry_selected", [_subject(id_, waiting.get(id_)) for id_ in ids]
            )
        try:
            retried = retry(ids)
        except DatabaseTrouble as trouble:
            logger.exception("retrying the write-backs of %r failed", ids)
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
            return self.done(request)
        for id_ in retried:
            self.log_change(request, ExternalIdWriteBack(organization_id=id_), "To be tried again")
        self.message_user(request, f"The worker tries them now: {len(retried)}", messages.SUCCESS)
        if gone := len(ids) - len(retried):
            self.message_user(request, f"Not waiting any more: {gone}", messages.INFO)
        return self.done(request)

    @admin.display(description="organization", ordering="organization__name")
    def organization_link(self, write_back: ExternalIdWriteBack) -> str:
        organization = write_back.organization
        return link("orgs_organization_change", organization.id, organization.name)


def _subject(id_: str, write_back: ExternalIdWriteBack | None) -> Subject:
    if write_back is None:
        return Subject(id_, "", "Not waiting any more: nothing happens.")
    state = "In conflict" if write_back.next_attempt_at is None else "Waiting"
    because = f": {write_back.last_error}" if write_back.last_error else ""
    return Subject(id_, f"{id_} → {write_back.workos_id}", f"{state}{because}")
