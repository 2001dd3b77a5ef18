"""Reads values of PostgreSQL's that Python has no value for."""

from collections.abc import Sequence
from typing import Any

from django.db import models


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
