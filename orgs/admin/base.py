"""What all tables of the mirror have in common, and their columns."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.db import Error as DatabaseTrouble
from django.db import models
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
else:

    class ModelAdmin(admin.ModelAdmin):
        """Django's can't be subscripted, its stubs' must be."""

        def __class_getitem__(cls, model: object) -> type:
            return cls


logger = logging.getLogger(__name__)

Shown = TypeVar("Shown", bound=models.Model)

#: As Django shows an empty field; an empty method's answer it shows as "None".
EMPTY = "-"


class MirrorAdmin(ModelAdmin[Shown]):
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

    def log_change(self, request: HttpRequest, obj: Shown, message: Any) -> LogEntry | None:  # type: ignore[override]
        """Keeps in the history what was done; what was, and can't be kept, is said."""
        try:
            return super().log_change(request, obj, message)
        except DatabaseTrouble:
            logger.exception("what was done to %r could not be kept in the history", obj.pk)
            text = "Done, but it could not be kept in the history"
            self.message_user(request, f"{text}: {obj.pk}", messages.WARNING)
            return None

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Shown | None:
        # No text in PostgreSQL holds a NUL, and Django would answer 500 to the question.
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)


class ReadOnlyAdmin(MirrorAdmin[Shown]):
    def has_change_permission(self, request: HttpRequest, obj: Shown | None = None) -> bool:
        return False


def moment(field: str) -> Callable[[models.Model], str]:
    """A narrow column for the time ``field``: to the second, which Django's own leaves out."""

    @admin.display(description=field.replace("_", " "), ordering=field)
    def column(row: models.Model) -> str:
        moment: datetime | None = getattr(row, field)
        return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S}" if moment else EMPTY

    column.__name__ = field
    return column


def link(page: str, key: str, text: str) -> str:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}", args=[quote(key)]), text)


def may_view(request: HttpRequest, model: str) -> bool:
    """Whether the person may look at rows of ``model``, a name in lower case; as Django does."""
    return any(request.user.has_perm(f"orgs.{verb}_{model}") for verb in ("view", "change"))
