"""Shows a table: read-only, quick at a million rows, and unharmed by whatever the rows hold."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db import Error as DatabaseError
from django.db import models
from django.db.models import OrderBy, Value
from django.db.models.functions import Concat
from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import NoReverseMatch, URLPattern, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html

from orgs.domain.naming import storable

if TYPE_CHECKING:
    ModelAdmin: TypeAlias = admin.ModelAdmin[Any]
    Pages: TypeAlias = Paginator[Any]
else:
    ModelAdmin, Pages = admin.ModelAdmin, Paginator

Rows: TypeAlias = "models.QuerySet[Any]"

logger = logging.getLogger(__name__)

#: As Django shows an empty field; an empty method's answer it shows as "None".
EMPTY = "-"

_MAX_PAGES = 100
_MAX_FOUND = 1_000

#: So many characters of a value are shown in a list, in a message and on a row's page.
_IN_LIST, _IN_MESSAGE, _ON_PAGE = 200, 1_000, 20_000


def shown(value: object, most: int = _ON_PAGE) -> str:
    """Return a column's value as all pages show it: times with their zone, and no endless texts."""
    if isinstance(value, datetime):
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return f"{local.replace(tzinfo=None, microsecond=0)} {local:%Z}".rstrip()
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


def choice_filter(name: str, *choices: tuple[str, str, "Rows"]) -> type[admin.SimpleListFilter]:
    """Return a filter; a choice is its value in the address, its label and its rows.

    Any other value filters nothing.
    """

    class ChoiceFilter(admin.SimpleListFilter):
        title, parameter_name = name.replace("_", " "), name

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, label) for value, label, _ in choices]

        def queryset(self, request: HttpRequest, queryset: "Rows") -> "Rows":
            chosen = next((rows for value, _, rows in choices if value == self.value()), None)
            return queryset if chosen is None else queryset & chosen

    return ChoiceFilter


def _unindexed(name: str) -> OrderBy:
    """Return the order by the text column ``name``, such that no index can be used for it.

    Where few rows match, PostgreSQL may walk through a million in the order of an index for them.
    """
    text = Concat(name.removeprefix("-"), Value(""))
    return text.desc() if name.startswith("-") else text.asc()


class FirstPages(Pages):
    """Offers no page that half of a large table would have to be read for."""

    @cached_property
    def num_pages(self) -> int:
        """Return how many are offered."""
        return min(int(super().num_pages), _MAX_PAGES)


class TableAdmin(ModelAdmin):
    """A table that nobody adds rows to, or deletes them from, by hand."""

    list_per_page = 50
    paginator = FirstPages
    # Both would read the whole table for each page.
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    columns: ClassVar[str] = "__str__"  # of the list: names of columns and methods
    sections: ClassVar[Mapping[str, str]] = {}  # of a row's page, by title; if empty, all columns
    editable: ClassVar[str] = ""
    prefetch: ClassVar[str] = ""

    def __init__(self, model: type[models.Model], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        editable, every = self.editable.split(), " ".join(f.name for f in self.opts.fields)
        self.list_display = [self._column(name, _IN_LIST) for name in self.columns.split()]
        sections = {
            title: [name if name in editable else self._column(name) for name in names.split()]
            for title, names in (self.sections or {"": every}).items()
        }
        self.fieldsets = [  # type: ignore[misc]
            (title or None, {"fields": names}) for title, names in sections.items()
        ]
        self.readonly_fields = [  # type: ignore[misc]
            name for names in sections.values() for name in names if name not in editable
        ]

    def _column(self, name: str, most: int = _ON_PAGE) -> Any:
        """Return how the column ``name`` of the table is shown; a method's is its own business."""
        field: Any = next((field for field in self.opts.fields if field.name == name), None)
        if field is None:
            return name

        ordering = _unindexed(name) if isinstance(field, models.TextField) else name

        @admin.display(description=field.verbose_name, ordering=ordering)
        def show(row: models.Model) -> str:
            return shown(getattr(row, field.attname), most)

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
        return lookup in {offered.parameter_name for offered in self.list_filter}  # type: ignore[union-attr]

    def get_ordering(self, request: HttpRequest) -> Any:
        # Those of more than one column have no index.
        names = super().get_ordering(request)
        is_filtered = any(each.parameter_name in request.GET for each in self.list_filter)  # type: ignore[union-attr]
        return [_unindexed(*names)] if is_filtered and len(names) == 1 else names

    def get_queryset(self, request: HttpRequest) -> "Rows":
        # Joined, PostgreSQL would sort a million pairs of rows before it takes the first fifty.
        return super().get_queryset(request).prefetch_related(*self.prefetch.split())

    def get_search_results(
        self, request: HttpRequest, queryset: "Rows", search_term: str
    ) -> tuple["Rows", bool]:
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

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        # No text in PostgreSQL holds a NUL, and Django would answer 500 to the question.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def get_urls(self) -> list[URLPattern]:
        patterns = super().get_urls()
        for pattern in patterns:
            pattern.callback = printable_page(pattern.callback)
        return patterns

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **kwargs: Any) -> None:
        super().message_user(request, shown(storable(str(message)), _IN_MESSAGE), *args, **kwargs)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Keep what was done in the history; if that fails, say so: it was done all the same."""
        try:
            return super().log_change(request, obj, message)
        except DatabaseError:
            logger.exception("what was done to %r could not be kept in the history", obj.pk)
            text = f"Done, but it could not be kept in the history: {obj.pk}"
            self.message_user(request, text, messages.WARNING)


def printable_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Return the view with a page that shows control characters of values as escapes."""

    def escape(response: SimpleTemplateResponse) -> None:
        response.content = storable(response.content.decode())

    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        if isinstance(response, SimpleTemplateResponse):
            response.add_post_render_callback(escape)
        return response

    return answer
