"""The ledger, and what can be done about events that are parked."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseTrouble
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from orgs.admin.base import EMPTY, ReadOnlyAdmin, link, moment
from orgs.admin.confirmation import ActingAdmin, Subject, asking, is_confirmed, selected
from orgs.admin.filters import AnnouncementFilter, OutcomeFilter, TypeFilter
from orgs.domain.naming import storable
from orgs.domain.types import Change, Outcome
from orgs.models import WorkOSEvent
from orgs.services.refresh import (
    NotParked,
    ReplayReport,
    dismiss_parked,
    replay_all_parked,
    replay_parked,
)
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

#: Replaying all ends about so long after it began: proxies hang up on what takes a minute.
_REPLAY_SECONDS = 20.0

_REPLAY_ALL = (
    "WorkOS is asked for the organization of each as it is today, and that is applied instead of "
    f"the event. It stops after {_REPLAY_SECONDS:.0f} seconds; what is left then stays parked, and "
    "can be replayed again."
)


class _Told(NamedTuple):
    """What a person is told of an event that they acted on."""

    level: int
    text: str


def _replay(event_id: str) -> _Told:
    return _told_of(replay_parked(event_id))


def _told_of(resolved: Change) -> _Told:
    if resolved.change is Outcome.PARKED:
        return _Told(messages.WARNING, f"Still parked ({storable(resolved.reason)})")
    return _Told(messages.SUCCESS, f"Applied what WorkOS says now ({resolved.change})")


def _dismiss(event_id: str) -> _Told:
    if not dismiss_parked([event_id]):
        raise NotParked(event_id)
    return _Told(messages.SUCCESS, "Dismissed")


def _subject(event_id: str, parked: WorkOSEvent | None) -> Subject:
    if parked is None:
        return Subject(event_id, event_id, "Not parked any more: nothing happens.")
    about = parked.workos_organization_id or "no organization"
    return Subject(event_id, event_id, f"About {about}; parked because: {parked.error}")


@admin.register(WorkOSEvent)
class WorkOSEventAdmin(ActingAdmin[WorkOSEvent], ReadOnlyAdmin[WorkOSEvent]):
    list_display = [
        "id",
        "outcome",
        "type",
        "workos_organization_id",
        "organization",
        moment("occurred_at"),
        moment("announced_at"),
        moment("processed_at"),
    ]
    list_filter = [OutcomeFilter, AnnouncementFilter, TypeFilter]
    search_fields = ["id", "workos_organization_id", "organization_id"]
    search_help_text = "Id of the event, the WorkOS organization or the organization, or a part"
    actions = ["replay_selected", "dismiss_selected"]
    effects = {
        "replay_selected": "Asks WorkOS for the organization as it is today, and applies that "
        "instead of the event. A parked event that can't be applied so either stays parked.",
        "dismiss_selected": "Changes no organization, and forgets the payload and the error.",
    }
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
        return EMPTY if key is None else link("orgs_organization_change", key, key)

    @admin.display(description="payload")
    def formatted_payload(self, event: WorkOSEvent) -> str:
        if event.payload is None:
            return EMPTY
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

    def applies(self, action: str, row: WorkOSEvent) -> bool:
        return row.is_parked

    @admin.action(description="Apply what WorkOS says now", permissions=["replay"])
    def replay_selected(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> HttpResponse:
        return self._ask_or_act(request, "replay_selected", _replay)

    @admin.action(description="Dismiss", permissions=["dismiss"])
    def dismiss_selected(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> HttpResponse:
        return self._ask_or_act(request, "dismiss_selected", _dismiss)

    def _ask_or_act(
        self, request: HttpRequest, action: str, act: Callable[[str], _Told]
    ) -> HttpResponse:
        ids = selected(request)
        parked = {event.id: event for event in WorkOSEvent.objects.parked().filter(id__in=ids)}
        if parked and not is_confirmed(request):
            return self.ask(request, action, [_subject(id_, parked.get(id_)) for id_ in ids])
        self._act(request, ids, act)
        return self.done(request)

    def get_urls(self) -> list[URLPattern]:
        replay_all = path(
            "replay-all/",
            self.admin_site.admin_view(self.replay_all_view),
            name="orgs_workosevent_replay_all",
        )
        return [replay_all, *super().get_urls()]

    def replay_all_view(self, request: HttpRequest) -> HttpResponse:
        """Asks first; what then is done, is done by POST."""
        if not self.has_replay_permission(request):
            raise PermissionDenied
        parked = reverse("admin:orgs_workosevent_changelist", query={"outcome": Outcome.PARKED})
        if not is_confirmed(request):
            return asking(
                self,
                request,
                title="Replay all parked events",
                label="Replay all parked events",
                effect=f"Parked events: {WorkOSEvent.objects.parked().count()}. {_REPLAY_ALL}",
                back=parked,
            )
        try:
            report = replay_all_parked(deadline=time.monotonic() + _REPLAY_SECONDS)
        except DatabaseTrouble as trouble:
            logger.exception("replaying all parked events failed")
            self.message_user(request, f"Trouble with the database: {trouble}", messages.ERROR)
        else:
            self._tell(request, report)
        return HttpResponseRedirect(parked)

    def _tell(self, request: HttpRequest, report: ReplayReport) -> None:
        for event_id, resolved in report.results.items():
            self.log_change(request, WorkOSEvent(id=event_id), _told_of(resolved).text)
        for outcome, count in sorted(report.outcomes.items()):
            is_parked = outcome is Outcome.PARKED
            text = "Still parked" if is_parked else f"Applied what WorkOS says now ({outcome})"
            level = messages.WARNING if is_parked else messages.SUCCESS
            self.message_user(request, f"{text}: {count}", level)
        if report.error:
            self.message_user(
                request, storable(f"There was trouble: {report.error}"), messages.ERROR
            )
        if report.left:
            text = f"Left as they were: {report.left}. Replay all again for these"
            self.message_user(request, text, messages.WARNING)
        if not report.results and not report.left:
            self.message_user(request, "No event is parked", messages.INFO)

    def _act(self, request: HttpRequest, event_ids: list[str], act: Callable[[str], _Told]) -> None:
        """Acts on one event after the other, and says what became of them; raises nothing."""
        told: dict[_Told, list[str]] = {}
        for done, event_id in enumerate(event_ids):
            try:
                answer = act(event_id)
                self.log_change(request, WorkOSEvent(id=event_id), answer.text)
            except NotParked:
                answer = _Told(messages.WARNING, "Not parked any more")
            except WorkOSError as trouble:
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


def _indented(payload: str) -> str:
    """The payload to be read by a person; as it is, if it isn't JSON or is nested too deeply."""
    try:
        text = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = payload
    # JSON can hold a lone surrogate, a page can't.
    return storable(text)
