"""Empties personal data that is not needed any more. Ids and times stay.

A row that was erased takes no personal data again, whatever WorkOS says.
"""

import json
import re
from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models.functions import Cast, Concat, Lower, Now

from orgs.conf import sync_settings
from orgs.db.resources import model_of
from orgs.domain.resources import DIRECTORY_USER, INVITATION, MEMBERSHIP, PLAIN, USER, Resource
from orgs.models import DirectoryUser, Invitation, OrganizationMembership, WorkOSEvent, WorkOSUser
from orgs.services.refusals import write_in_batches


class NotErased(Exception):
    """PostgreSQL refuses to erase some rows, or another program has them locked."""


def erase_due() -> int:
    """Erase what was deleted, or for an invitation answered or expired, long enough ago.

    Empties the payloads of parked events about what is erased, too. Returns how many rows were
    erased. A row that PostgreSQL refuses is left for the next time, and logged. May be repeated and
    run concurrently. Raises ``django.db.Error``.
    """
    before = Now() - timedelta(days=sync_settings().erase_after_days)
    ended = models.Q(deleted_at__lt=before)
    over = ended | models.Q(expires_at__lt=before)
    over |= models.Q(workos_updated_at__lt=before) & ~models.Q(state="pending")
    erased = sum(
        _erase(resource, over if resource.model == "Invitation" else ended)[0]
        for resource in _personal()
    )
    _erase_payloads(_names_erased())
    return erased


def held_about(user_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return by table every row about a user: the user's own, and those that name them. ``data`` is
    text if it can't be JSON in Python: a number too long, or nested too deeply."""
    held = {}
    for resource, rows in _rows_about(user_id).items():
        model = model_of(resource)
        names = [field.attname for field in model._meta.concrete_fields if field.name != "data"]
        found = rows.values(*names, json=Cast("data", models.TextField()))
        held[model._meta.db_table] = [row | {"data": _parsed(row.pop("json"))} for row in found]
    return held


def count_about(user_id: str) -> int:
    """Return how many rows there are about a user."""
    return sum(rows.count() for rows in _rows_about(user_id).values())


def count_payloads_about(user_id: str) -> int:
    """Return how many parked events have a payload that shows a user's id or address."""
    return _payloads(_shows(user_id)).count()


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, indent=2)
    except (RecursionError, ValueError):
        return text
    return value


def erase_user(user_id: str) -> int:
    """Erase what is held about a user now; return how many rows were erased.

    Raises ``NotErased`` if any row could not be; the others are erased all the same, but for the
    user's own: the rest is found by its address, and another run goes on. Raises
    ``django.db.Error``.
    """
    about = _rows_about(user_id)
    user = about.pop(USER)
    erased = [_erase(resource, models.Q(pk__in=rows)) for resource, rows in about.items()]
    # Some are of what never became a row.
    shown = _erase_payloads(_shows(user_id))
    if not any(refused for _, refused in (*erased, shown)):
        erased.append(_erase(USER, models.Q(pk__in=user)))
    named = _erase_payloads(_names_erased())
    if reasons := [reason for _, refused in (*erased, shown, named) for reason in refused]:
        raise NotErased(f"rows that are not erased: {len(reasons)}; the last, {reasons[-1]}")
    return sum(count for count, _ in erased)


def _rows_about(user_id: str) -> "dict[Resource, models.QuerySet[Any]]":
    """By address, it is compared without regard to capital letters: who invites types it anew."""
    user = WorkOSUser.objects.filter(pk=user_id)
    by_address = models.Q(address__in=user.filter(email__gt="").values_list(Lower("email")))
    invitations = Invitation.objects.alias(address=Lower("email"))
    directory_users = DirectoryUser.objects.alias(address=Lower("email"))
    return {
        USER: user,
        MEMBERSHIP: OrganizationMembership.objects.filter(workos_user_id=user_id),
        INVITATION: invitations.filter(by_address | models.Q(accepted_user_id=user_id)),
        DIRECTORY_USER: directory_users.filter(by_address),
    }


def _personal() -> list[Resource]:
    return [resource for resource in PLAIN.values() if resource.is_personal]


def _rows_of(resource: Resource) -> "models.QuerySet[Any]":
    return model_of(resource).objects.all()  # type: ignore[attr-defined, no-any-return]


def _erase(resource: Resource, which: models.Q) -> tuple[int, list[str]]:
    rows = _rows_of(resource).filter(which, erased_at__isnull=True)
    empty: dict[str, Any] = dict.fromkeys(resource.personal)
    empty |= {"data": {}, "erased_at": Now()}
    return write_in_batches(rows, lambda due: due.update(**empty))


# Payloads of parked events -------------------------------------------------------------------


def _shows(user_id: str) -> models.Q:
    """The payload has the user's id, or the address that the user has now, as one string. The id is
    that of a user if a row or a payload says so: payloads have other strings too."""
    as_json = re.escape(json.dumps(user_id))
    names_user = models.Q(payload__regex=rf'user_id"\s*:\s*{as_json}')
    names_user |= models.Q(payload__regex=rf'"id"\s*:\s*{as_json}', resource=USER.name)
    if not count_about(user_id) and not _payloads(names_user).exists():
        return models.Q(pk__in=[])
    addresses = WorkOSUser.objects.filter(pk=user_id, email__gt="")
    strings: list[Any] = [user_id, *addresses.values_list("email", flat=True)]
    # JSON has another escape for each case of a letter that is not of ASCII.
    cases = {
        json.dumps(to(it)).lower()
        for it in strings
        for to in (str, str.lower, str.upper)
        # Not "ss" for "ß": that is somebody else's.
        if to(it).lower() == it.lower()
    }
    shows = [models.Q(payload__icontains=case) for case in cases]
    return models.Q(*shows, _connector=models.Q.OR)


def _names_erased() -> models.Q:
    """The event names an object whose row is erased: as its own, or anywhere in the payload. A
    group's event shows a whole directory user. Events are also parked after the erasure."""
    said = Concat(
        models.OuterRef("object_key"),
        models.Value(" "),
        models.OuterRef("payload"),
        output_field=models.TextField(),
    )
    is_said = models.Func(
        "pk",
        said,
        arg_joiner=" IN (SELECT unnest(regexp_split_to_array(",
        template=r"%(expressions)s, '[^\w-]+')))",
        output_field=models.BooleanField(),
    )
    exist = [
        models.Exists(_rows_of(one).filter(is_said, erased_at__isnull=False)) for one in _personal()
    ]
    return models.Q(*exist, _connector=models.Q.OR)


def _payloads(which: models.Q) -> "models.QuerySet[WorkOSEvent]":
    """Of the resources whose events show people."""
    names = {resource.name for resource in _personal()}
    showing = [one.name for one in PLAIN.values() if names & {one.name, *one.parents.values()}]
    parked = WorkOSEvent.objects.parked()
    return parked.filter(which, payload__isnull=False, resource__in=showing)


def _erase_payloads(which: models.Q) -> tuple[int, list[str]]:
    return write_in_batches(_payloads(which), lambda due: due.update(payload=None))
