"""Actions that ask first: a page says what will happen to which rows, and then it is done by POST.

A button on a row's own page does what the list's action does with that row alone ticked, so that
there is one way in, with one check of the permission.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from orgs.admin.base import MirrorAdmin, Shown
from orgs.domain.naming import is_storable

_CONFIRMED = "confirmed"
_FROM_ROW = "from_row"


@dataclass(frozen=True, slots=True)
class Subject:
    """One row that an action is about, and what will become of it."""

    key: str
    name: str
    """For the link to its page; empty if it has none."""
    fate: str


@dataclass(frozen=True, slots=True)
class RowAction:
    """A button on a row's page."""

    name: str
    label: str
    effect: str


def selected(request: HttpRequest) -> list[str]:
    """The ids that a person ticked; never more than a page of them.

    Not the action's queryset: the list's filters apply to that, so an event that is not parked any
    more would drop out of a list of parked ones without a word.
    """
    # No row has an id that PostgreSQL can't store.
    return [id_ for id_ in request.POST.getlist(ACTION_CHECKBOX_NAME) if is_storable(id_)]


def is_confirmed(request: HttpRequest) -> bool:
    return _CONFIRMED in request.POST


def asking(
    table: MirrorAdmin[Shown],
    request: HttpRequest,
    *,
    title: str,
    label: str,
    effect: str,
    back: str,
    warnings: Sequence[str] = (),
    **more: Any,
) -> HttpResponse:
    """A page that says what will happen, with a button that makes it happen: by POST to the same
    address, for which ``is_confirmed`` is true then."""
    context = {
        **table.admin_site.each_context(request),
        "opts": table.opts,
        "title": title,
        "label": label,
        "effect": effect,
        "back": back,
        "warnings": warnings,
        "confirmed": _CONFIRMED,
        **more,
    }
    return TemplateResponse(request, "admin/orgs/confirm.html", context)


class ActingAdmin(MirrorAdmin[Shown]):
    """A table whose rows something can be done about."""

    effects: ClassVar[Mapping[str, str]] = {}
    """What each action does, in a sentence or two."""

    def applies(self, action: str, row: Shown) -> bool:
        """Whether the action would do anything about the row as it is."""
        return True

    def ask(
        self,
        request: HttpRequest,
        action: str,
        subjects: Sequence[Subject],
        warnings: Sequence[str] = (),
    ) -> HttpResponse:
        """A page that says what will happen, with a button that makes it happen."""
        chosen = selected(request)
        label = self._labels(request)[action]
        noun = self.opts.verbose_name if len(chosen) == 1 else self.opts.verbose_name_plural
        return asking(
            self,
            request,
            title=f"{label}: {len(chosen)} {noun}",
            label=label,
            effect=self.effects[action],
            warnings=warnings,
            back=self._back(request),
            action=action,
            subjects=[
                (subject, self._page_of(subject.key) if subject.name else "")
                for subject in subjects
            ],
            chosen=chosen,
            checkbox=ACTION_CHECKBOX_NAME,
            from_row=_FROM_ROW if _FROM_ROW in request.POST else "",
        )

    def done(self, request: HttpRequest) -> HttpResponse:
        """Back to where the action was chosen."""
        return HttpResponseRedirect(self._back(request))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["row_actions"] = list(self._row_actions(request, context["original"]))
        context |= {"checkbox": ACTION_CHECKBOX_NAME, "from_row": _FROM_ROW}
        return super().render_change_form(request, context, *args, **kwargs)

    def _row_actions(self, request: HttpRequest, row: Shown) -> Iterator[RowAction]:
        for name, label in self._labels(request).items():
            if self.applies(name, row):
                yield RowAction(name, label, self.effects[name])

    def _labels(self, request: HttpRequest) -> dict[str, str]:
        """Of the actions that the person may take."""
        offered = filter(None, self.get_actions(request).values())
        return {name: str(label) for _, name, label in offered}

    def _back(self, request: HttpRequest) -> str:
        ids = selected(request)
        if _FROM_ROW not in request.POST or len(ids) != 1:
            return request.get_full_path()
        kept: dict[str, Any] = {
            "preserved_filters": self.get_preserved_filters(request),
            "opts": self.opts,
        }
        return str(add_preserved_filters(kept, self._page_of(ids[0])))

    def _page_of(self, key: str) -> str:
        return reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[quote(key)]
        )
