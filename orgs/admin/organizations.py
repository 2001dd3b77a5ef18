"""Organizations: what Gram owns of them can be edited, the rest can be reconciled."""

import logging
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import Error as DatabaseTrouble
from django.db import models
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from orgs.admin.base import EMPTY, MirrorAdmin, link, moment, selected
from orgs.admin.filters import DisabledFilter, LinkedFilter, WriteBackFilter
from orgs.models import ExternalIdWriteBack, Organization
from orgs.services.reconcile import (
    Reconciliation,
    UnknownOrganization,
    reconcile_organizations,
)
from orgs.services.repair import Run
from orgs.wording import storable
from orgs.workos import WorkOSTrouble

logger = logging.getLogger(__name__)


@admin.register(Organization)
class OrganizationAdmin(MirrorAdmin[Organization]):
    list_display = ["name", "slug", "id", "workos_id", "is_linked", "disabled", "write_back_state"]
    list_filter = [LinkedFilter, DisabledFilter, WriteBackFilter]
    list_select_related = ["write_back"]
    search_fields = ["name", "slug", "id", "workos_id"]
    search_help_text = "Name, slug, id or WorkOS id, or a part of one"
    ordering = ["slug"]  # It has an index, and is nearly the name.
    actions = ["reconcile_selected"]
    formfield_overrides = {models.TextField: {"widget": AdminTextInputWidget}}
    readonly_fields = [
        "id",
        "name",
        "workos_id",
        "workos_updated_at",
        "workos_last_event_id",
        "write_back_state",
        "events",
        "created_at",
        "updated_at",
        "disabled_at",
    ]
    fieldsets = [
        ("Owned by Gram", {"fields": ["id", "slug", "gram_account_type", "whitelisted"]}),
        (
            "Owned by WorkOS",
            {"fields": ["name", "workos_id", "workos_updated_at", "workos_last_event_id"]},
        ),
        ("Mirror", {"fields": ["write_back_state", "events"]}),
        ("Times", {"fields": ["created_at", "updated_at", "disabled_at"]}),
    ]

    def has_reconcile_permission(self, request: HttpRequest) -> bool:
        may_look = self.has_view_permission(request)
        return may_look and request.user.has_perm("orgs.reconcile_organization")

    @admin.action(description="Reconcile with WorkOS", permissions=["reconcile"])
    def reconcile_selected(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> None:
        ids = selected(request)
        try:
            found = reconcile_organizations(Run(now=timezone.now()), ids)
        except (UnknownOrganization, WorkOSTrouble) as trouble:
            self.message_user(request, storable(f"Nothing was done: {trouble}"), messages.ERROR)
        except DatabaseTrouble as trouble:
            logger.exception("reconciling %r failed", ids)
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
        else:
            self._tell(request, found)

    def _tell(self, request: HttpRequest, found: Reconciliation) -> None:
        for change in found.snapshot.changes:
            level = messages.WARNING if change.reason else messages.SUCCESS
            self.message_user(request, storable(str(change)), level)
            if change.organization_id and not change.reason:
                organization = Organization(id=change.organization_id, name=change.organization_id)
                self.log_change(request, organization, str(change))
        for trouble in found.snapshot.trouble:
            self.message_user(request, storable(trouble), messages.ERROR)
        if same := found.snapshot.organizations - len(found.snapshot.changes):
            self.message_user(request, f"In sync with WorkOS: {same}", messages.INFO)
        failed = found.write_backs.failed + found.write_backs.conflicts
        if failed:
            text = f"Not written back to WorkOS: {failed}; see the outbox"
            self.message_user(request, text, messages.WARNING)

    @admin.display(description="linked", boolean=True, ordering="workos_id")
    def is_linked(self, organization: Organization) -> bool:
        return organization.workos_id is not None

    disabled = staticmethod(moment("disabled_at"))

    @admin.display(description="write-back")
    def write_back_state(self, organization: Organization) -> str:
        request: ExternalIdWriteBack | None = getattr(organization, "write_back", None)
        if request is None:
            return EMPTY
        state = "conflict" if request.next_attempt_at is None else "pending"
        return link("orgs_externalidwriteback_change", organization.id, state)

    @admin.display(description="events")
    def events(self, organization: Organization) -> str:
        ledger = reverse("admin:orgs_workosevent_changelist", query={"q": organization.id})
        return format_html('<a href="{}">In the ledger</a>', ledger)

    def formfield_for_dbfield(
        self, db_field: "models.Field[Any, Any]", request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        # "Changed" then means changed by the person at this page, and not merely different from
        # what another program has written since the page was shown.
        return super().formfield_for_dbfield(db_field, request, show_hidden_initial=True, **kwargs)

    def save_model(
        self,
        request: HttpRequest,
        obj: Organization,
        form: "forms.ModelForm[Organization]",
        change: Any,
    ) -> None:
        # All columns, which is Django's way, would take back what the sync has written meanwhile.
        if form.changed_data:
            obj.updated_at = Now()
            obj.save(update_fields=[*form.changed_data, "updated_at"])

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DatabaseTrouble as trouble:
            # Another program took the slug, or deleted the row, since it was read.
            if request.method != "POST":
                raise
            self.message_user(request, f"Not saved: {trouble}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
