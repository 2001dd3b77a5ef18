"""Shows tables, and acts on rows; what is particular to a table is declared in ``tables``.

A table is read-only, quick at a million rows, and unharmed by whatever the rows hold. An action is
declared once, asks before it acts, and says what it did. It is about the rows that a person ticked
in a list, about the one whose page has its button, or about no row in particular. The button posts
what ticking that row alone would, so that rows are acted on in one way, with one check.
"""

import logging
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial, wraps
from itertools import chain
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote as encoded
from urllib.parse import unquote

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import Error as DatabaseError
from django.db import models
from django.db.models.functions import Concat
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import NoReverseMatch, URLPattern, re_path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html

from orgs.db.errors import describe
from orgs.domain.naming import counted, is_storable, one_line, storable
from orgs.services.reconcile_one import UnknownOrganization
from orgs.workos import WorkOSError

Rows: TypeAlias = "models.QuerySet[Any]"
Answer: TypeAlias = Callable[..., HttpResponse]

logger = logging.getLogger(__name__)

#: As Django shows an empty field; an empty method's answer it shows as "None".
EMPTY = "-"

_MAX_PAGES = 100
_MAX_FOUND = 1_000
_MAX_NAMED = 5  # rows in a message; more are counted

#: So many characters of a value are shown in a list, in a message and on a row's page.
_IN_LIST, _IN_MESSAGE, _ON_PAGE = 200, 1_000, 20_000

_POSTED_KEY = re.compile(rf'(?<=name="{ACTION_CHECKBOX_NAME}" value=")[^"]*')
_SAFE = f" {string.punctuation}".replace("%", "")


def shown(value: object, most: int = _ON_PAGE) -> str:
    """Return a value as all pages show it: times with their zone, and no endless texts."""
    if isinstance(value, datetime):
        local = timezone.localtime(value)
        return f"{local.replace(tzinfo=None, microsecond=0)} {local:%Z}".rstrip()
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = EMPTY if value in (None, "") else str(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def link(model: str, key: str, text: str = "") -> str:
    """Return a link to the page of the row ``key``; its text alone if it can't have a page."""
    text = shown(text or key, _IN_LIST)
    try:
        url = reverse(f"admin:orgs_{model}_change", args=[quote(key)])
    except NoReverseMatch:  # an empty key
        return text
    return format_html('<a href="{}">{}</a>', url, text)


def choice_filter(name: str, *choices: tuple[str, str, Rows]) -> type[admin.SimpleListFilter]:
    """Return a filter; a choice is its value in the address, its label and its rows.

    Any other value filters nothing.
    """

    class ChoiceFilter(admin.SimpleListFilter):
        title, parameter_name = name.replace("_", "-"), name

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, label) for value, label, _ in choices]

        def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
            chosen = next((rows for value, _, rows in choices if value == self.value()), None)
            return queryset if chosen is None else queryset & chosen

    return ChoiceFilter


def printable_page(view: Answer) -> Answer:
    """Return the view with a page that shows control characters of values as escapes.

    Keys, which are posted back, are percent-encoded: no page shows them, and a browser would change
    their line breaks.
    """

    def escape(response: SimpleTemplateResponse) -> None:
        content = response.content.decode()
        response.content = storable(_POSTED_KEY.sub(lambda key: encoded(key[0], _SAFE), content))

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.add_post_render_callback(escape)
        return response

    return answer


class FirstPages(Paginator):  # type: ignore[type-arg]
    """Offers no page that half of a large table would have to be read for."""

    @cached_property
    def num_pages(self) -> int:
        return min(int(super().num_pages), _MAX_PAGES)


def indexed(model: type[models.Model]) -> set[str]:
    """Return the columns with which an index of all rows begins."""
    every: list[Any] = [*model._meta.indexes, *model._meta.constraints]
    of_all = (each for each in every if getattr(each, "fields", ()) and not each.condition)
    return {model._meta.pk.name, *(each.fields[0] for each in of_all)}


def unindexed(name: str) -> models.OrderBy:
    """Return the order by the text column ``name``, such that no index can be used for it.

    Where few rows match, PostgreSQL may walk through a million in the order of an index for them.
    """
    text = Concat(name.removeprefix("-"), models.Value(""))
    return text.desc() if name.startswith("-") else text.asc()


class FilteredInFull(ChangeList):
    """Finds the rows of a filter before it orders them."""

    def get_ordering(self, request: HttpRequest, queryset: Rows) -> list[Any]:
        """Return the order: by an index, unless a filter leaves out rows of it."""
        first: Any
        first, *others = super().get_ordering(request, queryset)
        offered = self.model_admin.filters()  # type: ignore[attr-defined]
        field = self.lookup_opts.get_field(first.removeprefix("-"))
        if isinstance(field, models.TextField) and not offered.isdisjoint(request.GET):
            first = unindexed(first)
        return [first, *others]


# Actions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What an action did to some rows, or why it did nothing."""

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

    ``act`` and ``plan`` call the service with the keys of the chosen rows; they raise
    ``UnknownOrganization``, ``WorkOSError`` and ``django.db.Error``.
    """

    verb: str
    label: str
    description: str
    act: Callable[[Sequence[str]], Iterable[Result]]
    applies: Callable[[Any], bool] = lambda _: True  # there is something to do for this row
    plan: Callable[[Sequence[str]], Plan] | None = None  # in place of ``applies``
    is_dangerous: bool = False
    page: str = ""  # where it is, if it is about no row in particular

    @property
    def name(self) -> str:
        """Return its name in forms."""
        return f"{self.verb}_selected"


# Tables -----------------------------------------------------------------------------------


class TableAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A table that nobody adds rows to, or deletes them from, by hand; and its actions."""

    list_per_page = 50
    paginator = FirstPages
    # Both would read the whole table for each page.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    columns: ClassVar[str] = "__str__"  # of the list: names of columns and methods
    sections: ClassVar[Mapping[str, str]] = {}  # of a row's page, by title; if empty, all columns
    editable: ClassVar[str] = ""
    prefetch: ClassVar[str] = ""
    acts: ClassVar[Sequence[Action]] = ()

    def __init__(self, model: type[models.Model], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        editable, every = self.editable.split(), " ".join(f.name for f in self.opts.fields)
        self.list_display = [self._column(name, _IN_LIST) for name in self.columns.split()]
        sections = {
            title or None: [n if n in editable else self._column(n) for n in names.split()]
            for title, names in (self.sections or {"": every}).items()
        }
        self.fieldsets = [(title, {"fields": names}) for title, names in sections.items()]  # type: ignore[misc]
        columns = chain.from_iterable(sections.values())
        self.readonly_fields = [name for name in columns if name not in editable]  # type: ignore[misc]

    def _column(self, name: str, most: int = _ON_PAGE) -> Any:
        """Return how the column ``name`` of the table is shown; a method's is its own business."""
        field: Any = next((field for field in self.opts.fields if field.name == name), None)
        if field is None:
            return name
        ordering = name if name in indexed(self.model) else None

        @admin.display(description=field.verbose_name, ordering=ordering)
        def show(row: models.Model) -> str:
            value = getattr(row, field.attname)
            if value and isinstance(field, models.ForeignKey):
                return link(str(field.related_model._meta.model_name), value)
            return shown(value, most)

        # Django finds the help text by it, and names the cell's class.
        show.__name__ = name
        return show

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Only the filters on offer: Django hands any other lookup to PostgreSQL as it comes, and
        # answers 500 if that refuses it (a NUL, a regular expression that isn't one).
        return lookup in self.filters()

    def filters(self) -> set[str]:
        """Return the names of the filters, in an address."""
        return {offered.parameter_name for offered in self.list_filter}  # type: ignore[union-attr]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FilteredInFull

    def get_queryset(self, request: HttpRequest) -> Rows:
        # Joined, PostgreSQL would sort a million pairs of rows before it takes the first fifty.
        return super().get_queryset(request).prefetch_related(*self.prefetch.split())

    def get_search_results(self, request: HttpRequest, queryset: Rows, search_term: str) -> Any:
        found, _ = super().get_search_results(request, queryset, search_term)
        if not search_term:
            return found, False
        # One scan for the count and the page. In the order of an index, PostgreSQL would fetch a
        # million rows one by one.
        keys = list(found.order_by().values_list("pk", flat=True)[: _MAX_FOUND + 1])
        if len(keys) > _MAX_FOUND:
            text = f"More than {_MAX_FOUND} rows match; these are some of them"
            self.message_user(request, text, messages.WARNING)
        return queryset.filter(pk__in=keys[:_MAX_FOUND]), False

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        # No text in PostgreSQL holds a NUL, and Django would answer 500 to the question.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def get_urls(self) -> list[URLPattern]:
        pages = (self._page_of(action) for action in self.acts if action.page)
        patterns = [*pages, *super().get_urls()]
        for pattern in patterns:
            pattern.callback = printable_page(pattern.callback)
        return patterns

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **kwargs: Any) -> None:
        super().message_user(request, shown(storable(str(message)), _IN_MESSAGE), *args, **kwargs)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Keep what was done in the history; if that fails, say so: it was done all the same."""
        try:
            return super().log_change(request, obj, message)
        except DatabaseError as error:
            logger.warning("what was done to %r is not in the history: %s", obj.pk, describe(error))
            text = f"Done, but it could not be kept in the history: {obj.pk}"
            self.message_user(request, text, messages.WARNING)

    # Actions

    def allowed(self, request: HttpRequest, *, has_page: bool) -> list[Action]:
        """Return the actions that the person may take: those with pages, or those on rows."""
        if not self.has_view_permission(request):
            return []
        may, model = request.user.has_perm, self.opts.model_name
        actions = (each for each in self.acts if bool(each.page) is has_page)
        return [action for action in actions if may(f"orgs.{action.verb}_{model}")]

    def site_actions(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Return the addresses and labels of the actions with pages."""
        actions = self.allowed(request, has_page=True)
        return [(reverse(f"admin:{self._url_name(each.page)}"), each.label) for each in actions]

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        # Django 6.1 asks for a row's own page too, which has buttons.
        if getattr(action_location, "name", "") == "CHANGE_FORM":
            return {}

        def choose(action: Action, _: Any, request: HttpRequest, *__: Any) -> HttpResponse | None:
            # Not the queryset: the list's filters apply to that, so an event that is not parked any
            # more would drop out of a list of parked ones without a word. No row has a key that
            # PostgreSQL can't store.
            keys = map(unquote, request.POST.getlist(ACTION_CHECKBOX_NAME))
            ids = list(filter(is_storable, keys))
            return self._respond(action, request, ids) if ids else None

        actions = self.allowed(request, has_page=False)
        return {a.name: (partial(choose, a), a.name, a.label) for a in actions}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {"site_actions": self.site_actions(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        actions, row = self.allowed(request, has_page=False), context["original"]
        context["row_actions"] = [action for action in actions if action.applies(row)]
        return super().render_change_form(request, context, *args, **kw)

    def _page_of(self, action: Action) -> URLPattern:
        def view(request: HttpRequest) -> HttpResponse:
            if action not in self.allowed(request, has_page=True):
                raise PermissionDenied
            return self._respond(action, request, ())

        # Earlier releases had some of them below ring/.
        address, name = rf"^(?:ring/)?{action.page}/$", self._url_name(action.page)
        return re_path(address, self.admin_site.admin_view(view), name=name)

    def _respond(self, action: Action, request: HttpRequest, ids: Sequence[str]) -> HttpResponse:
        """Ask, or act if that is confirmed; then lead back to where the action was chosen."""
        back, left = self._back(request, ids), dict.fromkeys(ids)
        try:
            if "confirmed" not in request.POST:
                plan = action.plan(ids) if action.plan else self._plan(request, action, ids)
                return self._ask(request, action, ids, plan, back)
            self._say(request, action.act(ids), left)
            if left:
                self.message_user(request, f"Nothing to do{_named(left)}", messages.INFO)
        except (UnknownOrganization, WorkOSError, DatabaseError) as error:
            said = describe(error) if isinstance(error, DatabaseError) else str(error)
            logger.warning("%s: %r: %s", action.label, list(left), one_line(said))
            self.message_user(request, f"Not done{_named(left)}: {said}", messages.ERROR)
        return HttpResponseRedirect(back)

    def _plan(self, request: HttpRequest, action: Action, ids: Sequence[str]) -> Plan:
        rows = self.get_queryset(request).in_bulk(ids)
        live = {id_ for id_, row in rows.items() if action.applies(row)}

        def state(id_: str) -> str:
            context = {"row": rows.get(id_), "model": self.opts.model_name, "applies": id_ in live}
            return render_to_string("admin/orgs/row_state.html", context)

        return Plan({id_: state(id_) for id_ in ids}, is_idle=bool(ids) and not live)

    def _ask(
        self, request: HttpRequest, action: Action, ids: Sequence[str], plan: Plan, back: str
    ) -> HttpResponse:
        rows = self.get_queryset(request).in_bulk(list(plan.rows))
        model = str(self.opts.model_name)
        one, many = str(self.opts.verbose_name), str(self.opts.verbose_name_plural)
        about = f": {counted(len(ids), one, many)}" if ids else ""
        named = {key: link(model, key, str(row)) for key, row in rows.items()}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "action": action,
            "ids": ids,
            "is_from_row": "from_row" in request.POST,
            "plan": plan,
            "back": back,
            "title": f"{action.label}{about}",
            "rows": [(named.get(key, key), text) for key, text in plan.rows.items()],
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
            if result.ids or result.level == messages.ERROR:
                named = "" if result.names_rows else _named(result.ids)
                self.message_user(request, f"{result.text}{named}", result.level)

    def _back(self, request: HttpRequest, ids: Sequence[str]) -> str:
        if not ids:
            return reverse(f"admin:{self._url_name('changelist')}")
        if "from_row" not in request.POST:
            return request.get_full_path()
        kept: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        page = reverse(f"admin:{self._url_name('change')}", args=[quote(ids[0])])
        return str(add_preserved_filters(kept, page))

    def _url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


def _named(ids: Iterable[str]) -> str:
    """Return the end of a message about these rows."""
    names = list(ids)
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f": {', '.join(names[:_MAX_NAMED])}{more}" if names else ""
