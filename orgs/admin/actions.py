"""Acts on rows: each action is declared once, asks before it acts, and says what it did.

An action is about the rows that a person ticked in a list, about the one whose page has its button,
or about no row in particular. The button posts what ticking that row alone would, so that rows are
acted on in one way, with one check of the permission.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, re_path, reverse

from orgs.admin.base import TableAdmin, link, printable_page
from orgs.domain.naming import is_storable
from orgs.workos import WorkOSError

logger = logging.getLogger(__name__)

#: So many rows are named in a message; more are counted.
_MAX_NAMED = 5


class NotDone(Exception):
    """The action could not be taken, for the reason that it says."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an action did to some rows, or found of them."""

    text: str
    ids: Sequence[str] = ()
    level: int = messages.SUCCESS  # this and WARNING are kept in the history of each row
    names_rows: bool = False  # the text says itself which rows it is about


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action would do."""

    rows: Mapping[str, str]  # key to what would happen to the row
    is_idle: bool = False  # there is nothing to do, and so nothing to confirm
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a person can do who has the permission ``<verb>_<model>``.

    ``act`` and ``plan`` call the service with the keys of the chosen rows; they raise ``NotDone``,
    ``WorkOSError`` and ``django.db.Error``.
    """

    verb: str
    label: str
    description: str
    act: Callable[[Sequence[str]], Iterable[Result]]
    applies: Callable[[Any], bool] = lambda _: True  # there is something to do for this row
    state: Callable[[Any], str] = str  # how the row is now, for the page that asks
    plan: Callable[[Sequence[str]], Plan] | None = None  # in place of ``applies`` and ``state``
    is_dangerous: bool = False
    page: str = ""  # where it is, if it is about no row in particular

    @property
    def name(self) -> str:
        """Return its name in forms."""
        return f"{self.verb}_selected"


class ActingAdmin(TableAdmin):
    """A table with actions: on its rows, and with pages of their own."""

    acts: ClassVar[Sequence[Action]] = ()

    def allowed(self, request: HttpRequest, *, with_page: bool) -> list[Action]:
        """Return the actions, of one of the two sorts, that the person may take."""
        actions = [action for action in self.acts if bool(action.page) == with_page]
        if not self.has_view_permission(request):
            return []
        permission = f"orgs.{{}}_{self.opts.model_name}"
        return [a for a in actions if request.user.has_perm(permission.format(a.verb))]

    def get_actions(self, request: HttpRequest) -> Any:
        def choose(action: Action, _: Any, request: HttpRequest, *__: Any) -> HttpResponse | None:
            # Not the queryset: the list's filters apply to that, so an event that is not parked any
            # more would drop out of a list of parked ones without a word. No row has a key that
            # PostgreSQL can't store.
            ids = list(filter(is_storable, request.POST.getlist(ACTION_CHECKBOX_NAME)))
            return self._respond(action, request, ids) if ids else None

        actions = self.allowed(request, with_page=False)
        return {a.name: (partial(choose, a), a.name, a.label) for a in actions}

    def get_urls(self) -> list[URLPattern]:
        def view(action: Action) -> Callable[..., HttpResponse]:
            def respond(request: HttpRequest) -> HttpResponse:
                if action not in self.allowed(request, with_page=True):
                    raise PermissionDenied
                return self._respond(action, request, ())

            return printable_page(self.admin_site.admin_view(respond))

        # Earlier releases had some of them below ring/.
        pages = [
            re_path(rf"^(?:ring/)?{action.page}/$", view(action), name=self._url_name(action.page))
            for action in self.acts
            if action.page
        ]
        return [*pages, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"site_actions": self.site_actions(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def site_actions(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return the addresses and labels of the actions with pages."""
        actions = self.allowed(request, with_page=True)
        return [(reverse(f"admin:{self._url_name(a.page)}"), a.label) for a in actions]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        actions = self.allowed(request, with_page=False)
        context["row_actions"] = [each for each in actions if each.applies(context["original"])]
        return super().render_change_form(request, context, *args, **kwargs)

    def _respond(self, action: Action, request: HttpRequest, ids: Sequence[str]) -> HttpResponse:
        """Ask, or act if that is confirmed; then lead back to where the action was chosen."""
        back, left = self._back(request, ids), dict.fromkeys(ids)
        try:
            if "confirmed" not in request.POST:
                plan = action.plan(ids) if action.plan else self._plan(request, action, ids)
                return self._ask(request, action, ids, plan, back)
            self._say(request, action.act(ids), left)
            if left:
                self.message_user(request, f"Nothing to do{_named(list(left))}", messages.INFO)
        except (NotDone, WorkOSError, DatabaseError) as error:
            is_odd = isinstance(error, DatabaseError)
            logger.warning("%s: %r: %s", action.label, list(left), error, exc_info=is_odd)
            self.message_user(request, f"Not done{_named(list(left))}: {error}", messages.ERROR)
        return HttpResponseRedirect(back)

    def _plan(self, request: HttpRequest, action: Action, ids: Sequence[str]) -> Plan:
        rows = self.get_queryset(request).in_bulk(ids)
        states = {id_: action.state(rows[id_]) if id_ in rows else "Not there" for id_ in ids}
        idle = [id_ for id_ in ids if id_ not in rows or not action.applies(rows[id_])]
        states |= {id_: f"{states[id_]}: nothing happens" for id_ in idle}
        return Plan(states, is_idle=bool(ids) and len(idle) == len(ids))

    def _ask(
        self, request: HttpRequest, action: Action, ids: Sequence[str], plan: Plan, back: str
    ) -> HttpResponse:
        rows = self.get_queryset(request).in_bulk(list(plan.rows))
        model, noun = str(self.opts.model_name), self.opts.verbose_name
        about = f": {len(ids)} {noun}{'' if len(ids) == 1 else 's'}" if ids else ""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "action": action,
            "ids": ids,
            "is_from_row": "from_row" in request.POST,
            "plan": plan,
            "back": back,
            "title": f"{action.label}{about}",
            "rows": [
                (link(model, key, str(rows[key])) if key in rows else key, text)
                for key, text in plan.rows.items()
            ],
        }
        return TemplateResponse(request, "admin/orgs/confirm.html", context)

    def _say(self, request: HttpRequest, results: Iterable[Result], left: dict[str, Any]) -> None:
        """Say what became of rows, which are not among those left then."""
        for result in results:
            rows = self.get_queryset(request).in_bulk(result.ids)
            for id_ in result.ids:
                left.pop(id_, None)
                if result.level in (messages.SUCCESS, messages.WARNING):
                    self.log_change(request, rows.get(id_) or self.model(pk=id_), result.text)
            named = "" if result.names_rows else _named(result.ids)
            if result.ids or result.level == messages.ERROR:
                self.message_user(request, f"{result.text}{named}", result.level)

    def _back(self, request: HttpRequest, ids: Sequence[str]) -> str:
        if not ids:
            return reverse(f"admin:{self._url_name('changelist')}")
        if "from_row" not in request.POST or len(ids) != 1:
            return request.get_full_path()
        kept: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        page = reverse(f"admin:{self._url_name('change')}", args=[quote(ids[0])])
        return str(add_preserved_filters(kept, page))

    def _url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    return f": {', '.join(ids[:_MAX_NAMED])}{more}" if ids else ""
