"""The base of all tables, and the fields that they share."""

from collections.abc import Sequence
from typing import Any

from django.db import models

from orgs.domain.naming import storable


class Table(models.Model):
    """A table of PostgreSQL's; a row is called by its key."""

    class Meta:
        abstract = True
        required_db_vendor = "postgresql"

    def __str__(self) -> str:
        return storable(str(self.pk))


class TimeField(models.DateTimeField):  # type: ignore[type-arg]
    """Reads a time that Python can't hold (infinity, a year of five digits) as the nearest one."""

    def select_format(self, _: object, sql: str, params: Sequence[object]) -> Any:
        """Return the column as it is selected; conditions and orders use it as it is."""
        bounded = f"least(greatest({sql}, '0001-01-02 00:00+00'), '9999-12-30 00:00+00')"
        return f"CASE WHEN {sql} IS NOT NULL THEN {bounded} END", [*params, *params]

    def deconstruct(self) -> Any:
        """Return what migrations know it as: for the table there is no difference."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


# Each with what the admin says of the column, and how it calls it.


def optional_text(
    help_text: str = "", name: str = ""
) -> "models.TextField[str | None, str | None]":
    """Return a text column that may be NULL."""
    return models.TextField(name or None, null=True, blank=True, help_text=help_text)


def text(help_text: str) -> "models.TextField[str, str]":
    """Return a text column that is empty by default."""
    return models.TextField(db_default="", blank=True, help_text=help_text)


def optional_time(help_text: str = "", name: str = "") -> TimeField:
    """Return a column for a time that may be NULL."""
    return TimeField(name or None, null=True, blank=True, help_text=help_text)


def count(help_text: str) -> "models.IntegerField[int, int]":
    """Return a column for a number that is 0 by default."""
    return models.IntegerField(db_default=0, help_text=help_text)


def json(empty: Any, help_text: str) -> "models.JSONField[Any, Any]":
    """Return a column for JSON that is ``empty`` by default."""
    default = models.Value(empty, models.JSONField())
    return models.JSONField(db_default=default, help_text=help_text)


def unique(name: str, *columns: str) -> models.UniqueConstraint:
    """Return the constraint that no two rows have the same values in these columns."""
    return models.UniqueConstraint(fields=columns, name=name)


def index(name: str, *columns: str, **condition: object) -> models.Index:
    """Return an index of these columns, of the rows alone for which the condition holds."""
    partial = models.Q(**condition) if condition else None
    return models.Index(fields=columns, condition=partial, name=name)
