"""Empties personal data that is not needed any more. Ids and times stay.

A row that was erased takes no personal data again, whatever WorkOS says.
"""

import json
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import models
from django.db.models.functions import Cast, Now

from orgs.conf import sync_settings
from orgs.db.errors import WriteSkipped
from orgs.db.resources import model_of
from orgs.db.transactions import bounded_transaction
from orgs.domain.resources import PLAIN, Resource
from orgs.domain.types import Outcome
from orgs.models import DirectoryUser, Invitation, OrganizationMembership, WorkOSEvent, WorkOSUser
from orgs.services.maintenance import Written, write_in_batches

_CHUNK = 1_000


def erase_due() -> int:
    """Erase what was deleted, or for an invitation answered or expired, long enough ago.

    Returns how many rows were erased. A row that PostgreSQL refuses is left for the next time, and
    logged. May be repeated and run concurrently. Raises ``django.db.Error``.
    """
    before = Now() - timedelta(days=sync_settings().erase_after_days)
    ended = models.Q(deleted_at__lt=before)
    over = ended | models.Q(expires_at__lt=before)
    over |= models.Q(workos_updated_at__lt=before) & ~models.Q(state="pending")
    return sum(
        _erase(resource, over if resource.model == "Invitation" else ended).count
        for resource in PLAIN.values()
        if resource.is_personal
    )


def held_about(user_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return by table every row about a user: the user's own, and those that name them. ``data`` is
    text if it can't be JSON in Python: a number too long, or nested too deeply."""
    held = {}
    for model, rows in _rows_about(user_id).items():
        names = [field.attname for field in model._meta.concrete_fields if field.name != "data"]
        found = rows.values(*names, json=Cast("data", models.TextField()))
        held[model._meta.db_table] = [{**row, "data": _parsed(row.pop("json"))} for row in found]
    return held


def count_about(user_id: str) -> int:
    """Return how many rows there are about a user."""
    return sum(rows.count() for rows in _rows_about(user_id).values())


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, indent=2)
    except (RecursionError, ValueError):
        return text
    return value


def erase_user(user_id: str) -> int:
    """Erase what is held about a user now; return how many rows were erased.

    Raises ``django.db.Error`` if any row could not be; the others are erased all the same.
    """
    # All are found before the first is erased: some are found by the user's address.
    found = {m: list(rows.values_list("pk", flat=True)) for m, rows in _rows_about(user_id).items()}
    erased = [
        _erase(resource, models.Q(pk__in=found[model_of(resource)]))
        for resource in PLAIN.values()
        if model_of(resource) in found
    ]
    # Those that never became a row.
    parked = WorkOSEvent.objects.parked().filter(payload__contains=user_id)
    payloads = write_in_batches(parked, partial(_erase_payloads, parked))
    for one in (*erased, payloads):
        if one.error is not None:
            raise one.error
    return sum(one.count for one in erased)


def _rows_about(user_id: str) -> "dict[type[models.Model], models.QuerySet[Any]]":
    emails = WorkOSUser.objects.filter(pk=user_id, email__isnull=False).values("email")
    by_email = models.Q(email__in=emails)
    return {
        WorkOSUser: WorkOSUser.objects.filter(pk=user_id),
        OrganizationMembership: OrganizationMembership.objects.filter(workos_user_id=user_id),
        Invitation: Invitation.objects.filter(by_email | models.Q(accepted_user_id=user_id)),
        DirectoryUser: DirectoryUser.objects.filter(by_email),
    }


def _erase(resource: Resource, which: models.Q) -> Written:
    rows = model_of(resource).objects.filter(which, erased_at__isnull=True)  # type: ignore[attr-defined]
    return write_in_batches(rows, partial(_erase_rows, resource, rows), size=_CHUNK)


def _erase_rows(resource: Resource, rows: "models.QuerySet[Any]", keys: list[str]) -> int:
    model: Any = model_of(resource)
    empty: dict[str, Any] = dict.fromkeys(resource.personal)
    about = WorkOSEvent.objects.filter(resource=resource.name, object_key__in=keys)
    with bounded_transaction():
        chunk = rows.filter(pk__in=keys).order_by("pk").select_for_update()
        locked = list(chunk.values_list("pk", flat=True))
        erased: int = model.objects.filter(pk__in=locked).update(
            **empty, data={}, erased_at=Now(), synced_at=Now()
        )
        if erased < len(locked):
            raise WriteSkipped("a trigger or a policy keeps it from being erased")
        about.filter(outcome=Outcome.PARKED, payload__isnull=False).update(payload=None)
    return erased


def _erase_payloads(parked: "models.QuerySet[WorkOSEvent]", ids: list[str]) -> int:
    with bounded_transaction():
        return parked.filter(id__in=ids).update(payload=None)
