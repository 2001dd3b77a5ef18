"""Organizations: what Gram owns of them can be edited, the rest can be reconciled."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote as url_quote

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

from orgs.admin.base import EMPTY, link, may_view, moment
from orgs.admin.confirmation import ActingAdmin, Subject, is_confirmed, selected
from orgs.admin.filters import DisabledFilter, LinkedFilter, WriteBackFilter
from orgs.conf import sync_settings
from orgs.domain.naming import storable
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services.compare import Run
from orgs.services.disabling import disable, enable
from orgs.services.reconcile import Reconciliation
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

_DASHBOARD = "https://dashboard.workos.com"

_EVENTS_OF_STORY = 50

#: Proxies hang up on what takes a minute.
_RECONCILE_SECONDS = 20.0


@admin.register(Organization)
class OrganizationAdmin(ActingAdmin[Organization]):
    list_display = ["name", "slug", "id", "workos_id", "is_linked", "disabled", "write_back_state"]
    list_filter = [LinkedFilter, DisabledFilter, WriteBackFilter]
    list_select_related = ["write_back"]
    search_fields = ["name", "slug", "id", "workos_id"]
    search_help_text = "Name, slug, id or WorkOS id, or a part of one"
    ordering = ["slug"]  # It has an index, and is nearly the name.
    actions = ["reconcile_selected", "disable_selected", "enable_selected"]
    effects = {
        "reconcile_selected": "Asks WorkOS for the organization, repairs here what differs, and "
        "tells WorkOS the id if it does not know it.",
        "disable_selected": "Sets disabled_at to now. The sync goes on with name and link, never "
        "enables it, and tells of it as disabled_here.",
        "enable_selected": "Clears disabled_at. What WorkOS has deleted is disabled again by the "
        "next snapshot.",
    }
    formfield_overrides = {models.TextField: {"widget": AdminTextInputWidget}}
    readonly_fields = [
        "id",
        "name",
        "workos_id",
        "workos_updated_at",
        "workos_last_event_id",
        "dashboard",
        "write_back_story",
        "events",
        "created_at",
        "updated_at",
        "disabled_at",
    ]
    fieldsets = [
        ("Owned by Gram", {"fields": ["id", "slug", "gram_account_type", "whitelisted"]}),
        (
            "Owned by WorkOS",
            {
                "fields": [
                    "name",
                    "workos_id",
                    "dashboard",
                    "workos_updated_at",
                    "workos_last_event_id",
                ]
            },
        ),
        ("Mirror", {"fields": ["write_back_story", "events"]}),
        ("Times", {"fields": ["created_at", "updated_at", "disabled_at"]}),
    ]

    def has_reconcile_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.reconcile_organization")

    def has_disable_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.disable_organization")

    def has_enable_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.enable_organization")

    def applies(self, action: str, row: Organization) -> bool:
        match action:
            case "disable_selected":
                return row.disabled_at is None
            case "enable_selected":
                return row.disabled_at is not None
        return True

    @admin.action(description="Reconcile with WorkOS", permissions=["reconcile"])
    def reconcile_selected(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> HttpResponse:
        ids = selected(request)
        try:
            return self._ask_or_reconcile(request, ids)
        except (UnknownOrganization, WorkOSError) as trouble:
            self.message_user(request, storable(f"Nothing was done: {trouble}"), messages.ERROR)
        except DatabaseTrouble as trouble:
            logger.exception("reconciling %r failed", ids)
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
        return self.done(request)

    def _ask_or_reconcile(self, request: HttpRequest, ids: list[str]) -> HttpResponse:
        """A dry run says what will happen; if that is nothing, there is nothing to confirm."""
        run = Run(dry=not is_confirmed(request))
        found = reconcile_organizations(run, ids, deadline=time.monotonic() + _RECONCILE_SECONDS)
        if not is_confirmed(request) and found.snapshot.found_drift:
            trouble = [storable(text) for text in found.errors]
            return self.ask(request, "reconcile_selected", _plan(ids, found), trouble)
        self._tell(request, found)
        if is_confirmed(request):
            self._log_reconciled(request, ids, found)
        return self.done(request)

    def _tell(self, request: HttpRequest, found: Reconciliation) -> None:
        for change in found.snapshot.changes:
            level = messages.WARNING if change.reason else messages.SUCCESS
            self.message_user(request, storable(str(change)), level)
        for trouble in found.errors:
            self.message_user(request, storable(trouble), messages.ERROR)
        if same := found.organizations - len(found.snapshot.changes):
            self.message_user(request, f"In sync with WorkOS: {same}", messages.INFO)
        failed = found.write_backs.failed + found.write_backs.conflicts
        if failed:
            text = f"Not written back to WorkOS: {failed}; see the outbox"
            self.message_user(request, text, messages.WARNING)

    def _log_reconciled(self, request: HttpRequest, ids: list[str], found: Reconciliation) -> None:
        changes = _changes(found)
        for id_ in dict.fromkeys([*ids, *changes]):
            told = "; ".join(changes.get(id_, ["nothing to repair"]))
            self._log(request, id_, f"Reconciled with WorkOS: {told}")

    @admin.action(description="Disable here", permissions=["disable"])
    def disable_selected(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> HttpResponse:
        return self._ask_or_switch(request, "disable_selected", disable, "Disabled")

    @admin.action(description="Enable here", permissions=["enable"])
    def enable_selected(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> HttpResponse:
        return self._ask_or_switch(request, "enable_selected", enable, "Enabled")

    def _ask_or_switch(
        self,
        request: HttpRequest,
        action: str,
        switch: Callable[[Sequence[str]], list[str]],
        done: str,
    ) -> HttpResponse:
        ids = selected(request)
        if not is_confirmed(request):
            rows = Organization.objects.in_bulk(ids)
            return self.ask(
                request, action, [self._fate(id_, rows.get(id_), action, done) for id_ in ids]
            )
        try:
            switched = switch(ids)
        except DatabaseTrouble as trouble:
            logger.exception("%s of %r failed", action, ids)
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
            return self.done(request)
        for id_ in switched:
            self._log(request, id_, f"{done} here")
        self.message_user(request, f"{done}: {len(switched)}", messages.SUCCESS)
        if left := len(ids) - len(switched):
            self.message_user(request, f"There was nothing to do for: {left}", messages.INFO)
        return self.done(request)

    def _fate(self, id_: str, row: Organization | None, action: str, done: str) -> Subject:
        if row is None:
            return Subject(id_, "", "Not there any more: nothing happens.")
        now = f"Disabled since {row.disabled_at:%Y-%m-%d %H:%M}" if row.disabled_at else "Enabled"
        then = f"will be {done.lower()}" if self.applies(action, row) else "nothing happens"
        return Subject(id_, row.name, f"{now}; {then}.")

    def _log(self, request: HttpRequest, id_: str, told: str) -> None:
        self.log_change(request, Organization(id=id_, name=id_), told)

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

    @admin.display(description="write-back")
    def write_back_story(self, organization: Organization) -> str:
        state = self.write_back_state(organization)
        if state == EMPTY:
            return "Nothing waits: WorkOS knows the id." if organization.workos_id else EMPTY
        request = organization.write_back
        because = f": {request.last_error}" if request.last_error else ""
        since = f"since {timezone.localtime(request.requested_at):%Y-%m-%d %H:%M:%S}"
        return format_html("{} {}, attempts {}{}", state, since, request.attempts, because)

    @admin.display(description="in WorkOS's dashboard")
    def dashboard(self, organization: Organization) -> str:
        environment = sync_settings().environment_id
        if not environment or organization.workos_id is None:
            return EMPTY
        path = [url_quote(environment, safe=""), "organizations"]
        url = "/".join([_DASHBOARD, *path, url_quote(organization.workos_id, safe="")])
        return format_html('<a href="{}" rel="noreferrer">{}</a>', url, organization.workos_id)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if may_view(request, "workosevent"):
            story = WorkOSEvent.objects.about(context["original"])
            context["story"] = story[:_EVENTS_OF_STORY]
        return super().render_change_form(request, context, *args, **kwargs)

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


def _changes(found: Reconciliation) -> dict[str, list[str]]:
    """What a run changes or tells, by organization; what is about none yet, by WorkOS id."""
    changes: dict[str, list[str]] = {}
    for change in found.snapshot.changes:
        key = change.organization_id or change.workos_id or ""
        changes.setdefault(key, []).append(storable(str(change)))
    return changes


def _plan(ids: Sequence[str], found: Reconciliation) -> list[Subject]:
    """What the run would do, to those that were chosen first."""
    changes = _changes(found)
    return [
        Subject(
            id_,
            id_ if id_ in ids else "",
            "; ".join(changes.get(id_, ["In sync with WorkOS: nothing happens."])),
        )
        for id_ in dict.fromkeys([*ids, *changes])
    ]
