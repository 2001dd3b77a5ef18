"""Shows the tables to people, and translates a click into one call of a service. No logic.

It opens no transaction and never talks to WorkOS.
"""

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseTrouble
from django.db import models
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST

from orgs.models import (
    ExternalIdWriteBack,
    Organization,
    OrganizationQuerySet,
    SyncCursor,
    WorkOSEvent,
)
from orgs.resolution import EVENT_OUTCOMES, EventType, Outcome, Resolved
from orgs.services.reconcile import (
    Reconciliation,
    UnknownOrganization,
    reconcile_organizations,
)
from orgs.services.repair import Run
from orgs.services.snapshots import (
    NotParked,
    ReplayReport,
    dismiss_parked,
    replay_all_parked,
    replay_parked,
)
from orgs.wording import storable
from orgs.workos import WorkOSTrouble

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
else:

    class ModelAdmin(admin.ModelAdmin):
        """Django's can't be subscripted, its stubs' must be."""

        def __class_getitem__(cls, model: object) -> type:
            return cls


logger = logging.getLogger(__name__)

Shown = TypeVar("Shown", bound=models.Model)

#: Replaying all ends about so long after it began: proxies hang up on what takes a minute.
_REPLAY_SECONDS = 20.0

#: As Django shows an empty field; an empty method's answer it shows as "None".
_EMPTY = "-"


# Filters ------------------------------------------------------------------------------------


class _YesNoFilter(admin.SimpleListFilter):
    """Whether an organization is one of those ``matching``, a queryset of the model's."""

    yes: ClassVar[str]
    no: ClassVar[str]

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", self.yes), ("no", self.no)]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> models.QuerySet[Organization]:
        if self.value() not in ("yes", "no"):
            return queryset
        # Not NOT IN: PostgreSQL can't make an anti-join of that, and it is slow on many rows.
        same = self.matching(Organization.objects.filter(pk=models.OuterRef("pk")))
        matches = models.Exists(same)
        return queryset.filter(matches if self.value() == "yes" else ~matches)


class LinkedFilter(_YesNoFilter):
    title, parameter_name = "link", "linked"
    yes, no = "Linked to WorkOS", "Not linked"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.linked()


class DisabledFilter(_YesNoFilter):
    title, parameter_name = "state", "disabled"
    yes, no = "Disabled", "Not disabled"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.disabled()


class WriteBackFilter(_YesNoFilter):
    title, parameter_name = "write-back", "write_back"
    yes, no = "Write-back pending", "No write-back pending"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.awaiting_write_back()


class OutcomeFilter(admin.SimpleListFilter):
    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        outcomes = [(outcome.value, outcome.value.capitalize()) for outcome in EVENT_OUTCOMES]
        return [("unseen", "Announced, not yet seen"), *outcomes]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        if self.value() == "unseen":
            return queryset & WorkOSEvent.objects.announced_and_unseen()
        return queryset.filter(outcome=self.value()) if self.value() in EVENT_OUTCOMES else queryset


class AnnouncementFilter(admin.SimpleListFilter):
    """Webhooks that were lost, and webhooks whose events were."""

    title, parameter_name = "webhook", "webhook"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("none", "Listed, but no webhook came"),
            ("alone", "A webhook came, but it was never listed"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        match self.value():
            case "none":
                return queryset & WorkOSEvent.objects.unannounced()
            case "alone":
                return queryset & WorkOSEvent.objects.missing()
        return queryset


class TypeFilter(admin.SimpleListFilter):
    """The types that are followed; asking the ledger which there are would read all of it."""

    title, parameter_name = "type", "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            *((event_type.value, event_type.value) for event_type in EventType),
            ("other", "other"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        if self.value() == "other":
            return queryset.exclude(type__in=list(EventType))
        return queryset.filter(type=self.value()) if self.value() in list(EventType) else queryset


class WaitingFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting for the next attempt"), ("conflict", "Conflict, for a person")]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[ExternalIdWriteBack]
    ) -> models.QuerySet[ExternalIdWriteBack]:
        match self.value():
            case "conflict":
                return queryset & ExternalIdWriteBack.objects.conflicts()
            case "waiting":
                return queryset.filter(next_attempt_at__isnull=False)
        return queryset


# Columns ------------------------------------------------------------------------------------


def _moment(field: str) -> Callable[[models.Model], str]:
    """A narrow column for the time ``field``: to the second, which Django's own leaves out."""

    @admin.display(description=field.replace("_", " "), ordering=field)
    def column(row: models.Model) -> str:
        moment: datetime | None = getattr(row, field)
        return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}" if moment else _EMPTY

    column.__name__ = field
    return column


def _link(page: str, key: str, text: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}", args=[quote(key)]), text)


# Admins -------------------------------------------------------------------------------------


class _MirrorAdmin(ModelAdmin[Shown]):
    """What all tables have in common: nobody adds or deletes rows by hand, and there are many."""

    list_per_page = 50
    # It would count the whole table for each page.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Shown | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Only the filters on offer: Django hands any other lookup to PostgreSQL as it comes, and
        # answers 500 if that refuses it (a NUL, a regular expression that isn't one).
        return lookup in {offered.parameter_name for offered in self.list_filter}  # type: ignore[union-attr]

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Shown | None:
        # No text in PostgreSQL holds a NUL, and Django would answer 500 to the question.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)


class _ReadOnlyAdmin(_MirrorAdmin[Shown]):
    def has_change_permission(self, request: HttpRequest, obj: Shown | None = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(_MirrorAdmin[Organization]):
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
        ids = _selected(request)
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

    disabled = staticmethod(_moment("disabled_at"))

    @admin.display(description="write-back")
    def write_back_state(self, organization: Organization) -> str:
        request: ExternalIdWriteBack | None = getattr(organization, "write_back", None)
        if request is None:
            return _EMPTY
        state = "conflict" if request.next_attempt_at is None else "pending"
        return _link("orgs_externalidwriteback_change", organization.id, state)

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


@admin.register(SyncCursor)
class SyncCursorAdmin(_ReadOnlyAdmin[SyncCursor]):
    list_display = [
        "stream",
        "last_event_id",
        _moment("last_event_at"),
        _moment("drained_at"),
        _moment("reconciled_at"),
        "failures",
        "last_error",
    ]


class _Told(NamedTuple):
    """What a person is told of an event that they acted on."""

    level: int
    text: str


def _replay(event_id: str) -> _Told:
    return _told_of(replay_parked(event_id))


def _told_of(resolved: Resolved) -> _Told:
    if resolved.outcome is Outcome.PARKED:
        return _Told(messages.WARNING, f"Still parked ({storable(resolved.error)})")
    return _Told(messages.SUCCESS, f"Applied what WorkOS says now ({resolved.outcome})")


def _dismiss(event_id: str) -> _Told:
    if not dismiss_parked([event_id]):
        raise NotParked(event_id)
    return _Told(messages.SUCCESS, "Dismissed")


@admin.register(WorkOSEvent)
class WorkOSEventAdmin(_ReadOnlyAdmin[WorkOSEvent]):
    list_display = [
        "id",
        "outcome",
        "type",
        "workos_organization_id",
        "organization",
        _moment("occurred_at"),
        _moment("announced_at"),
        _moment("processed_at"),
    ]
    list_filter = [OutcomeFilter, AnnouncementFilter, TypeFilter]
    search_fields = ["id", "workos_organization_id", "organization_id"]
    search_help_text = "Id of the event, the WorkOS organization or the organization, or a part"
    actions = ["replay_selected", "dismiss_selected"]
    readonly_fields = ["organization", "formatted_payload"]
    _fields = [
        "id",
        "type",
        "workos_organization_id",
        "organization",
        "occurred_at",
        "announced_at",
        "processed_at",
        "outcome",
    ]

    def get_fields(self, request: HttpRequest, obj: WorkOSEvent | None = None) -> list[Any]:
        parked = obj is not None and obj.is_parked
        return [*self._fields, "error", "formatted_payload"] if parked else [*self._fields]

    @admin.display(description="organization", ordering="organization_id")
    def organization(self, event: WorkOSEvent) -> str:
        key = event.organization_id
        return _EMPTY if key is None else _link("orgs_organization_change", key, key)

    @admin.display(description="payload")
    def formatted_payload(self, event: WorkOSEvent) -> str:
        if event.payload is None:
            return _EMPTY
        return format_html(
            '<pre class="payload" role="region" aria-label="Payload" tabindex="0">{}</pre>',
            _indented(event.payload),
        )

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "orgs.replay_workosevent")

    def has_dismiss_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "orgs.dismiss_workosevent")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(permission)

    @admin.action(description="Apply what WorkOS says now", permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]) -> None:
        self._act(request, _selected(request), _replay)

    @admin.action(description="Dismiss", permissions=["dismiss"])
    def dismiss_selected(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> None:
        self._act(request, _selected(request), _dismiss)

    def get_urls(self) -> list[URLPattern]:
        # Views of their own: Django's page of an object works in a transaction, and the services
        # open theirs, after WorkOS was asked.
        return [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"orgs_workosevent_{name}",
            )
            for name, view in [("replay", self.replay_view), ("dismiss", self.dismiss_view)]
        ] + [
            path(
                "replay-all/",
                self.admin_site.admin_view(self.replay_all_view),
                name="orgs_workosevent_replay_all",
            ),
            *super().get_urls(),
        ]

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_replay_permission(request):
            raise PermissionDenied
        self._act(request, [unquote(object_id)], _replay)
        return self._back_to(request, object_id)

    def replay_all_view(self, request: HttpRequest) -> HttpResponse:
        """Asks first; what then is done, is done by POST."""
        if not self.has_replay_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            context = {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": "Replay all parked events",
                "parked": WorkOSEvent.objects.parked().count(),
                "seconds": _REPLAY_SECONDS,
            }
            return TemplateResponse(request, "admin/orgs/workosevent/replay_all.html", context)
        try:
            report = replay_all_parked(deadline=time.monotonic() + _REPLAY_SECONDS)
        except DatabaseTrouble as trouble:
            logger.exception("replaying all parked events failed")
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
        else:
            self._tell(request, report)
        parked = reverse("admin:orgs_workosevent_changelist", query={"outcome": Outcome.PARKED})
        return HttpResponseRedirect(parked)

    def _tell(self, request: HttpRequest, report: ReplayReport) -> None:
        for event_id, resolved in report.resolved.items():
            self.log_change(request, WorkOSEvent(id=event_id), _told_of(resolved).text)
        for outcome, count in sorted(report.outcomes.items()):
            is_parked = outcome is Outcome.PARKED
            text = "Still parked" if is_parked else f"Applied what WorkOS says now ({outcome})"
            level = messages.WARNING if is_parked else messages.SUCCESS
            self.message_user(request, f"{text}: {count}", level)
        if report.trouble:
            self.message_user(
                request, storable(f"There was trouble: {report.trouble}"), messages.ERROR
            )
        if report.left:
            text = f"Left as they were: {report.left}. Replay all again for these"
            self.message_user(request, text, messages.WARNING)
        if not report.resolved and not report.left:
            self.message_user(request, "No event is parked", messages.INFO)

    def dismiss_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_dismiss_permission(request):
            raise PermissionDenied
        self._act(request, [unquote(object_id)], _dismiss)
        return self._back_to(request, object_id)

    def _act(self, request: HttpRequest, event_ids: list[str], act: Callable[[str], _Told]) -> None:
        """Acts on one event after the other, and says what became of them; raises nothing."""
        told: dict[_Told, list[str]] = {}
        for done, event_id in enumerate(event_ids):
            try:
                answer = act(event_id)
                self.log_change(request, WorkOSEvent(id=event_id), answer.text)
            except NotParked:
                answer = _Told(messages.WARNING, "Not parked any more")
            except WorkOSTrouble as trouble:
                left = len(event_ids) - done
                text = f"WorkOS could not be asked ({trouble}). Left as they were: {left}"
                self.message_user(request, storable(text), messages.ERROR)
                break
            except DatabaseTrouble as trouble:
                logger.exception("an action on the parked event %r failed", event_id)
                answer = _Told(messages.ERROR, f"Trouble with the database ({trouble})")
            told.setdefault(answer, []).append(event_id)
        for (level, text), ids in told.items():
            self.message_user(request, f"{text}: {', '.join(ids)}", level)

    def _back_to(self, request: HttpRequest, object_id: str) -> HttpResponse:
        page = reverse("admin:orgs_workosevent_change", args=[object_id])
        kept: dict[str, Any] = {
            "preserved_filters": self.get_preserved_filters(request),
            "opts": self.opts,
        }
        return HttpResponseRedirect(add_preserved_filters(kept, page))


def _selected(request: HttpRequest) -> list[str]:
    """The ids that a person ticked; never more than a page of them.

    Not the action's queryset: the list's filters apply to that, so an event that is not parked any
    more would drop out of a list of parked ones without a word.
    """
    return request.POST.getlist(ACTION_CHECKBOX_NAME)


def _indented(payload: str) -> str:
    """The payload to be read by a person; as it is, if it isn't JSON or is nested too deeply."""
    try:
        text = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = payload
    # JSON can hold a lone surrogate, a page can't.
    return storable(text)


@admin.register(ExternalIdWriteBack)
class ExternalIdWriteBackAdmin(_ReadOnlyAdmin[ExternalIdWriteBack]):
    list_display = [
        "workos_id",
        "organization_link",
        _moment("requested_at"),
        "attempts",
        _moment("next_attempt_at"),
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
        return _link("orgs_organization_change", organization.id, organization.name)
