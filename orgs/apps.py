"""The Django app: registers its system checks and keeps its schedules right."""

import sys
from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models.signals import post_migrate

from orgs.db.budget import SharedBudget
from orgs.workos import use_budget


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = "WorkOS mirror"

    def ready(self) -> None:
        if not apps.is_installed("django_q"):
            raise ImproperlyConfigured('orgs works with django-q2: add "django_q" before "orgs".')
        from orgs import checks  # noqa: F401, PLC0415 - registers them, once models can be had

        if sys.argv[1:2] == ["qcluster"]:
            # Its workers are forked from it: once for all of them.
            from orgs.workos import sdk  # noqa: F401

        use_budget(SharedBudget())
        post_migrate.connect(_ensure_schedules, sender=self)


def _ensure_schedules(using: str, **_: Any) -> None:
    from orgs.services.maintenance import ensure_schedules  # noqa: PLC0415 - needs the models

    if using == DEFAULT_DB_ALIAS and connections[using].vendor == "postgresql":
        ensure_schedules()
