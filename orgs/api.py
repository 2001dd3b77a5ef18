"""Offers what other apps of the project may call: who has access, with which roles, and a fetch
that does not wait for the stream.

Nothing else is promised to other code, apart from ``orgs.models``, ``orgs.signals`` and
``orgs.testing``.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, models
from django.db.models.expressions import BaseExpression

from orgs.domain.naming import without_unstorable
from orgs.models import ORGANIZATIONS_STREAM, Organization, OrganizationMembership, Role, SyncCursor
from orgs.services.compare import Run
from orgs.services.conclude import Reconciliation
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations

__all__ = ["ResourceNotCovered", "UnknownOrganization", "ensure_fresh", "has_access", "roles_of"]

#: Seconds. Whoever calls is waited for.
_PATIENCE = 10.0


class ResourceNotCovered(Exception):
    """The answer is not known: the resource is not followed, or not listed in full yet."""


def has_access(workos_user_id: str, organization: Organization | str) -> bool:
    """Return True if the user is an active member of the organization, a row or a Gram id.

    One query. The rule is ``OrganizationMembership.objects.active()``. Raises
    ``ResourceNotCovered`` while memberships are not covered: it never guesses.
    """
    return bool(_answer(_access, workos_user_id, organization, "membership"))


def roles_of(workos_user_id: str, organization: Organization | str) -> list[str]:
    """Return the slugs of the user's roles in the organization; empty without access.

    One query. A role that is deleted, or not here, gives nothing. Raises ``ResourceNotCovered``
    while memberships or roles are not covered.
    """
    return sorted({*_answer(_roles, workos_user_id, organization, "membership", "role")})


def ensure_fresh(organization: Organization | str) -> Reconciliation:
    """Fetch one organization with its resources now, for what can't wait for the stream.

    ``organization`` is a row, a Gram id or a WorkOS id. A request waits 10 seconds at most for its
    share of the rate limit, or for the end of a pause that WorkOS asked for. What could not be
    fetched of its resources is in ``errors``. Raises ``RuntimeError`` inside a transaction,
    ``UnknownOrganization``, ``orgs.workos.WorkOSError`` and ``django.db.Error``. May be repeated
    and run concurrently.
    """
    if connection.in_atomic_block:
        raise RuntimeError("ensure_fresh calls WorkOS: call it outside of transactions")
    return reconcile_organizations(Run(), [_id(organization)], patience=_PATIENCE)


def _id(organization: Organization | str) -> str:
    id_: object = getattr(organization, "pk", organization)
    if not isinstance(id_, str):
        raise TypeError(f"an Organization or its id as text is needed, not {organization!r}")
    return id_


#: In the places of the values, in a statement that is made once: making it takes Django longer than
#: PostgreSQL needs to answer.
_USER, _ORGANIZATION = "\0 user", "\0 organization"


def _access() -> BaseExpression:
    return models.Exists(_active())


def _roles() -> BaseExpression:
    having = _active().filter(role_slugs__contains=[models.OuterRef("slug")])
    here = Organization.objects.filter(pk=_ORGANIZATION).values("workos_id")
    is_here = models.Q(workos_organization_id="") | models.Q(workos_organization_id__in=here)
    roles = Role.objects.filter(is_here, models.Exists(having), deleted_at__isnull=True)
    return ArraySubquery(roles.order_by().values("slug"))


def _active() -> "models.QuerySet[OrganizationMembership]":
    of_user = OrganizationMembership.objects.active().filter(workos_user_id=_USER)
    return of_user.filter(workos_organization__id=_ORGANIZATION)


@cache
def _statement(asked: Callable[[], BaseExpression]) -> tuple[str, list[Any]]:
    rows = SyncCursor.objects.filter(stream=ORGANIZATIONS_STREAM).annotate(answer=asked())
    statement, names = rows.values_list("covered", "answer").query.sql_with_params()
    return statement, [*names]


def _answer(
    asked: Callable[[], BaseExpression], user: str, organization: Organization | str, *needed: str
) -> Any:
    statement, names = _statement(asked)
    values = {_USER: user, _ORGANIZATION: _id(organization)}
    values = {name: value and without_unstorable(value) for name, value in values.items()}
    with connection.cursor() as cursor:
        cursor.execute(statement, [values.get(name, name) for name in names])
        covered, answer = cursor.fetchone() or (None, None)
    listed = json.loads(covered or "[]")
    if missing := [name for name in needed if name not in listed]:
        raise ResourceNotCovered(
            f"{', '.join(missing)} is not covered: see RESOURCES in WORKOS_SYNC, and the sync "
            "status in the admin"
        )
    return answer
