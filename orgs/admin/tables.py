"""Declares what the admin shows of each table, and which actions there are."""

from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.db import models
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, JSONObject, Left, Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html

from orgs.admin import calls
from orgs.admin.base import EMPTY, Action, Rows, TableAdmin, choice_filter, link, shown
from orgs.admin.plots import events_plot, latency_plot
from orgs.admin.resources import resources_of
from orgs.conf import sync_settings
from orgs.db.errors import describe
from orgs.db.resources import model_of
from orgs.domain.naming import is_storable, storable
from orgs.domain.resources import PLAIN
from orgs.domain.types import EVENT_OUTCOMES, ConflictKind, EventType
from orgs.models import (
    ORGANIZATIONS_STREAM,
    ExternalIdWriteBack,
    Organization,
    SyncCursor,
    WorkOSConflict,
    WorkOSEvent,
)
from orgs.services import conflicts
from orgs.services.disabling import disable, enable
from orgs.services.outbox import retry
from orgs.services.queue import DRY_RUN, RECONCILE, SYNC_EVENTS, last_dry_run
from orgs.services.refresh import dismiss_parked
from orgs.services.status import current_status, resource_figures

_EVENTS_OF_HISTORY = 50
_WRITE_BACKS = 1_000
_REASONS = 10
_DISABLED, _ENABLED = "Disabled", "Enabled"  # in the history
_CLOCKS = timedelta(minutes=5)  # between those of machines, and until the history is written

_organizations = Organization.objects
_events = WorkOSEvent.objects
_write_backs = ExternalIdWriteBack.objects
_conflicts = WorkOSConflict.objects


# Organizations ------------------------------------------------------------------------------


@admin.register(Organization)
class OrganizationAdmin(TableAdmin):
    columns = "name slug id workos_id is_linked disabled_at pending"
    editable = "slug gram_account_type whitelisted"
    sections = {
        "Owned by Gram": f"id {editable}",
        "Owned by WorkOS": "name workos_id sso_enabled scim_enabled workos_updated_at "
        "workos_last_event_id workos_deleted_at",
        "Times": "created_at updated_at disabled_at",
    }
    prefetch = "write_back"
    search_fields = ["name", "slug", "id", "workos_id"]
    search_help_text = "Name, slug, id or WorkOS id, or a part of one"
    ordering = ["slug"]  # It has an index, and is nearly the name.
    formfield_overrides = {models.TextField: {"widget": AdminTextInputWidget}}
    # fmt: off
    list_filter = [
        choice_filter("linked",
            ("yes", "Linked to WorkOS", _organizations.linked()),
            ("no", "Not linked", _organizations.filter(
                models.Q(workos_id=None) | models.Q(workos_id="")))),
        choice_filter("disabled",
            ("yes", "Disabled", _organizations.disabled()),
            ("here", "Disabled here, lives in WorkOS", _organizations.disabled_here()),
            ("no", "Not disabled", _organizations.filter(disabled_at=None))),
        # All of them are in the outbox's own list: a join of two large tables takes seconds.
        choice_filter("write_back",
            ("yes", f"Write-back pending, the first {_WRITE_BACKS:,}", _organizations.filter(
                pk__in=_write_backs.order_by("next_attempt_at").values("pk")[:_WRITE_BACKS]))),
    ]
    acts = [
        Action("reconcile", "Reconcile with WorkOS",
            "Asks WorkOS for the organization, repairs here what differs, and writes the id to "
            "WorkOS if it is missing there.",
            act=calls.reconcile, plan=calls.plan_reconcile),
        Action("disable", "Disable here",
            "Sets disabled_at to now. The sync goes on with name and link, never enables it, and "
            "reports it as disabled_here.",
            act=partial(calls.write, disable, _DISABLED),
            applies=lambda row: row.disabled_at is None, is_dangerous=True),
        Action("enable", "Enable here",
            "Clears disabled_at. What WorkOS has deleted is disabled again by the next snapshot.",
            act=partial(calls.write, enable, _ENABLED),
            applies=lambda row: row.disabled_at is not None),
    ]
    # fmt: on

    @admin.display(description="linked", boolean=True)
    def is_linked(self, organization: Organization) -> bool:
        return bool(organization.workos_id)

    @admin.display(description="write-back")
    def pending(self, organization: Organization) -> str:
        if (pending := getattr(organization, "write_back", None)) is None:
            return EMPTY
        state = "conflict" if pending.next_attempt_at is None else "pending"
        return link("externalidwriteback", organization.id, state)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        organization = context["original"]
        events = _events.about(organization).defer("payload")
        claims = Q(organization_id=organization.id) | Q(pk=organization.workos_id)
        # The template shows of them what the person may see, and only that is read.
        context |= {
            "parked": events.parked(),
            "conflicts": _conflicts.filter(claims),
            "history": events[:_EVENTS_OF_HISTORY],
            "environment": sync_settings().environment_id,
            "resources": resources_of(organization, request),
            "disabled_by": _who_disabled(organization),
        }
        return super().render_change_form(request, context, *args, **kw)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        # "Changed" then means changed by the person at this page, and not merely different from
        # what another program has written since the page was shown.
        return super().formfield_for_dbfield(db_field, request, show_hidden_initial=True, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        # All columns, which is Django's way, would take back what the sync has written meanwhile.
        if form.changed_data:
            obj.updated_at = Now()
            obj.save(update_fields=[*form.changed_data, "updated_at"])

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except DatabaseError as error:
            # Another program took the slug, or deleted the row, since it was read.
            if request.method != "POST":
                raise
            self.message_user(request, f"Not saved: {describe(error)}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def _who_disabled(organization: Organization) -> Any:
    """Return the user who disabled it here, by the history; None if another program did, or WorkOS.

    The history has the time of a web process's clock.
    """
    if organization.disabled_at is None:
        return None
    entries = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Organization),
        object_id=organization.pk,
        change_message__in=[_DISABLED, _ENABLED],
        action_time__range=[organization.disabled_at + sign * _CLOCKS for sign in (-1, 1)],
    )
    latest = entries.order_by("-action_time").select_related("user").first()
    return latest.user if latest and latest.change_message == _DISABLED else None


class AboutOrganizations(TableAdmin):
    """A table whose rows are about an organization, and link to it."""

    def get_queryset(self, request: HttpRequest) -> Rows:
        rows = (
            _organizations.filter(pk=OuterRef("organization_id")),
            _organizations.filter(workos_id=OuterRef("workos_organization_id")),
        )
        # The second is looked for only if there is no first.
        first = (Subquery(found.values(row=JSONObject(id="id", name="name"))[:1]) for found in rows)
        return super().get_queryset(request).annotate(row=Coalesce(*first))  # type: ignore[no-any-return]

    @admin.display(description="organization")
    def organization(self, about: Any) -> str:
        """Return a link to the row that it names, else to the one that is linked."""
        workos_id = shown(about.workos_organization_id)
        if about.row is None:
            return shown(about.organization_id) if about.organization_id else workos_id
        row = link("organization", about.row["id"], about.row["name"])
        more = about.row["id"] if about.pk == about.workos_organization_id else workos_id
        return format_html('{}<br><span class="quiet">{}</span>', row, more)


# The ledger ---------------------------------------------------------------------------------


_WHAT_REPLAY_DOES = (
    "Asks WorkOS for the object as it is today, and applies that instead of the event. An "
    "event for which that is not possible stays parked. It stops after "
    f"{calls.MAX_SECONDS:.0f} seconds: what is left stays parked, and can be replayed again."
)


class ReasonFilter(admin.SimpleListFilter):
    """Groups parked events by why they are; the most frequent reasons."""

    title, parameter_name = "reason, of parked ones", "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        # Within an address, an error may not be endless.
        reasons = _events.parked().values_list(Left("error", 200)).annotate(n=Count("pk"))
        frequent = reasons.order_by("-n")[:_REASONS]
        return [(error, f"{n}: {shown(storable(error), 100)}") for error, n in frequent]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        reason = self.value() or ""
        if not is_storable(reason):
            return queryset
        return queryset & _events.parked().filter(error__startswith=reason)


@admin.register(WorkOSEvent)
class WorkOSEventAdmin(AboutOrganizations):
    columns = "id outcome type organization error occurred_at announced_at processed"
    sections = {
        "": "id type workos_organization_id organization resource object_key occurred_at "
        "announced_at processed_at outcome"
    }
    ordering = ["-id"]  # WorkOS's ids are in the order of time; and it has an index.
    search_fields = ["id", "workos_organization_id", "organization_id"]
    search_help_text = "Id of the event, the WorkOS organization or the organization, or a part"
    # fmt: off
    list_filter = [
        ReasonFilter,
        choice_filter("outcome",
            ("unseen", "Announced, not yet read", _events.announced_and_unseen()),
            *((name, name.capitalize(), _events.filter(outcome=name)) for name in EVENT_OUTCOMES)),
        choice_filter("webhook",
            ("came", "A webhook came", _events.exclude(announced_at=None)),
            ("late", "A webhook came after the event", _events.filter(
                announced_at__gt=F("processed_at"))),
            ("none", "Listed, but no webhook came", _events.unannounced()),
            ("alone", "A webhook came, but it was never listed", _events.missing())),
        choice_filter("processed",
            ("day", "In the last 24 hours", _events.filter(
                processed_at__gt=Now() - timedelta(days=1)))),
        # Asking the ledger which types there are would read all of it.
        choice_filter("type",
            *((name, name, _events.filter(type=name)) for name in EventType),
            ("other", "other", _events.exclude(type__in=list(EventType)))),
    ]
    acts = [
        Action("replay", "Apply what WorkOS says now", _WHAT_REPLAY_DOES,
            act=calls.replay, applies=lambda event: event.is_parked),
        Action("dismiss", "Dismiss",
            "Changes no row. Keeps the error and a hash of the payload, and forgets the payload. "
            "This can't be undone.",
            act=partial(calls.write, dismiss_parked, "Dismissed"), is_dangerous=True,
            applies=lambda event: event.is_parked),
        Action("replay", "Replay all parked events", _WHAT_REPLAY_DOES,
            act=calls.replay, plan=calls.plan_replay_of_all, page="replay-all"),
    ]
    # fmt: on

    @admin.display(description="processed at")
    def processed(self, event: WorkOSEvent) -> str:
        context = {"event": event, "now": timezone.now()}
        return render_to_string("admin/orgs/processed.html", context)

    def get_queryset(self, request: HttpRequest) -> Rows:
        # A payload may be long, and the list does not show it.
        return super().get_queryset(request).defer("payload")


# The outbox ---------------------------------------------------------------------------------


@admin.register(ExternalIdWriteBack)
class ExternalIdWriteBackAdmin(TableAdmin):
    columns = "workos_id organization_link requested_at attempts next_attempt_at last_error"
    sections = {"": f"{columns} requests"}
    prefetch = "organization"
    search_fields = ["workos_id", "organization__id"]
    search_help_text = "WorkOS id or id of the organization, or a part of one"
    ordering = ["-requested_at", "pk"]
    # fmt: off
    list_filter = [
        choice_filter("state",
            ("waiting", "Waiting for the next attempt", _write_backs.exclude(next_attempt_at=None)),
            ("conflict", "Conflict, for a person", _write_backs.conflicts())),
    ]
    acts = [
        Action("retry", "Try again now",
            "The worker writes the id to WorkOS now, as if it had not been tried before. If WorkOS "
            "has another id there, that is a conflict again: correct it in WorkOS first.",
            act=partial(calls.write, retry, "Enqueued")),
    ]
    # fmt: on

    @admin.display(description="organization")
    def organization_link(self, write_back: ExternalIdWriteBack) -> str:
        return link("organization", write_back.organization.id, write_back.organization.name)


# Conflicts ----------------------------------------------------------------------------------


@admin.register(WorkOSConflict)
class WorkOSConflictAdmin(AboutOrganizations):
    columns = (
        "workos_organization_id organization kind_and_advice reason found_at last_seen_at "
        "acknowledged_at"
    )
    sections = {"": "workos_organization_id organization found_at last_seen_at acknowledged_at"}
    search_fields = ["workos_organization_id", "organization_id", "reason"]
    search_help_text = "WorkOS id, id of the organization, reason, or a part of one"
    ordering = ["-found_at", "pk"]
    # fmt: off
    list_filter = [
        choice_filter("kind",
            *((kind, kind, _conflicts.filter(kind=kind)) for kind in ConflictKind)),
        choice_filter("acknowledged",
            ("no", "To be decided", _conflicts.undecided()),
            ("yes", "Kept as it is", _conflicts.exclude(acknowledged_at=None))),
    ]
    acts = [
        Action("recheck", "Look again",
            "Asks WorkOS for the organization, and repairs here what can be repaired. A conflict "
            "that is solved is removed from this list.",
            act=calls.reconcile, plan=calls.plan_recheck),
        Action("overwrite", "Overwrite in WorkOS",
            "Writes the row's id to WorkOS, over the external_id that is there. Other programs "
            "that use the old one lose their organization.",
            act=partial(calls.decide, conflicts.overwrite_in_workos), is_dangerous=True,
            applies=lambda row: row.kind in conflicts.OVERWRITABLE),
        Action("relink", "Give the row to the new organization",
            "Links the row to the WorkOS organization that claims it, and updates it. The one that "
            "it was linked to gets a row of its own with its next event; if its derived id is this "
            "row's, that is a conflict. Nothing is done while another one has the row's id as "
            "external_id in WorkOS: its next event would take the row back.",
            act=partial(calls.decide, conflicts.give_row), is_dangerous=True,
            applies=lambda row: row.kind in conflicts.RELINKABLE),
        Action("acknowledge", "Keep as it is",
            "Changes nothing. It is no warning any more, until WorkOS says something else.",
            act=partial(calls.write, conflicts.keep, "Kept as it is"),
            applies=lambda row: row.acknowledged_at is None),
    ]
    # fmt: on

    @admin.display(description="kind, and what to do")
    def kind_and_advice(self, conflict: WorkOSConflict) -> str:
        return render_to_string("admin/orgs/conflict_kind.html", {"kind": conflict.kind})


# The cursor: its list, of which there is one row, is the page of the sync status --------------


@admin.register(SyncCursor)
class SyncCursorAdmin(TableAdmin):
    # fmt: off
    acts = [
        Action("drain", "Read the stream now",
            "The worker reads WorkOS's stream from the cursor on, and applies what is new. It does "
            "so every minute by itself.",
            act=partial(calls.enqueue, SYNC_EVENTS, "Read the stream now"), page="drain"),
        Action("snapshot", "Take a snapshot now",
            "The worker compares all of WorkOS's organizations with the table and repairs what "
            "differs, as it does once a day by itself. This page says what it repaired. If a "
            "snapshot is being taken already, nothing happens.",
            act=partial(calls.enqueue, RECONCILE, "Take a snapshot now"), page="snapshot"),
        Action("snapshot", "See what a snapshot would repair",
            "The worker compares everything, and writes nothing: a dry run. This page lists what "
            "it found, once it has ended.", page="dry-run",
            act=partial(calls.enqueue, DRY_RUN, "See what a snapshot would repair")),
    ]
    # fmt: on

    def __init__(self, model: type[SyncCursor], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # Our template of the site's first page only adds to Django's, or to a theme's; in a place
        # where it does not matter which of the installed apps comes first.
        if admin_site.index_template is None:
            admin_site.index_template = "admin/orgs/index.html"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        every: Any = super().get_fieldsets(request, obj)
        if request.user.has_perm("orgs.view_organization"):
            return every
        shown = (column for column in every[0][1]["fields"] if column.__name__ != "last_changes")
        return [(None, {"fields": [*shown]})]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        status = current_status()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Sync status",
            "site_actions": self.site_actions(request),
            "status": status,
        }
        if figures := status.figures:
            context["events"] = events_plot(figures.last_day, figures.at)
            context["latency"] = latency_plot(figures.last_day, figures.at)
            counted = ((model_of(PLAIN[one.name])._meta, one) for one in resource_figures())
            context["resources"] = list(counted)
            if request.user.has_perm("orgs.view_organization"):
                cursor = SyncCursor.objects.filter(pk=ORGANIZATIONS_STREAM)
                changes = cursor.values_list("last_changes", flat=True).first()
                context["repaired"] = changes if isinstance(changes, list) else []
                context["dry_run"] = last_dry_run()
        return TemplateResponse(request, "admin/orgs/sync_status.html", context)
