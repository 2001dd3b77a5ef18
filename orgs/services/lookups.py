"""Looks objects up in WorkOS, and finds out whether its 404s prove anything."""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from django.db.models import QuerySet

from orgs import workos
from orgs.db import rows
from orgs.db.cursor import database_now
from orgs.db.resources import model_of
from orgs.db.transactions import bounded_transaction, read_only_transaction
from orgs.domain.resources import ORGANIZATIONS, SCOPES, Resource, Scope
from orgs.domain.status import ReadError
from orgs.domain.types import Observation, State
from orgs.models import Organization
from orgs.workos import WorkOSError, read_all, read_objects, read_organizations

_PROVES_NOTHING = (
    "could be found by the same address and key, so what WorkOS answers proves nothing: see "
    "WORKOS_BASE_URL and WORKOS_API_KEY"
)

#: Why a 404 for an organization, or for an object of another resource, changes nothing.
UNPROVEN = (
    f"no other linked organization {_PROVES_NOTHING}. If it is deleted in WorkOS, disable it in "
    "the admin"
)
UNPROVEN_OBJECT = f"nothing else that has a row {_PROVES_NOTHING}"


class Unproven(WorkOSError):
    """What WorkOS answers may come from a wrong address, or be that of another environment."""


class WrongEnvironment(WorkOSError):
    """WorkOS lists none of the organizations that rows are linked to."""

    kind = ReadError.WRONG_ENVIRONMENT


@dataclass(slots=True)
class Lookups:
    """Looks objects up, for one run, and finds out whether WorkOS's 404s prove anything.

    The same 404 may come from a wrong address, or with the key of another environment. It counts
    only if, in the same run, the same route found another object that has a row. What calls WorkOS
    raises ``WorkOSError``.
    """

    patience: float = 0.0
    """Seconds that a call may wait for the request budget, or for a pause WorkOS asked for."""
    dry: bool = False
    candidates: list[str] = field(default_factory=list)
    """WorkOS ids of linked organizations that should be found."""
    workos_date: datetime | None = None
    """WorkOS's own clock, when the environment was verified."""
    _is_proven: dict[Resource, bool] = field(default_factory=dict)
    _looked_at: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        return self.at(time.monotonic())

    def at(self, moment: float) -> datetime:
        """Return the database's time at a moment of ``time.monotonic()``, from one look at it."""
        if self._looked_at is None:
            with self.reading():
                self._looked_at = database_now(), time.monotonic()
        looked_at, then = self._looked_at
        return looked_at + timedelta(seconds=moment - then)

    def verify_environment(self) -> None:
        """Find an organization in WorkOS's list that a row is linked to: before any write.

        Raises ``WrongEnvironment`` if rows are linked and the list shows none of them.
        """
        if not self._has_linked():
            return
        for page in read_all(partial(read_organizations, patience=self.patience), None):
            self.workos_date = self.workos_date or page.date
            with self.reading(once=True):
                found = rows.linked(o.workos_id for o in page.observations if o.workos_id)
            if found:
                self.candidates = sorted(found)[:3]
                workos.note_verified()
                return
        raise WrongEnvironment(
            "WorkOS lists none of the organizations that rows are linked to: WORKOS_API_KEY is of "
            "another environment, or WORKOS_BASE_URL is wrong; nothing was written"
        )

    def look_up(self, key: str, resource: Resource = ORGANIZATIONS) -> Observation:
        """Return what WorkOS says of it now. May run in a thread."""
        return workos.lookup(resource, key, patience=self.patience)

    def find_listed(self, key: str, resource: Resource) -> Observation:
        """Return what the list that holds it says of an object that can't be looked up."""
        # A role's slug may hold colons; ids of organizations, groups and users hold none.
        scope = key.partition(":")[0]
        listing = next(
            one for one in resource.listings if (one.scope is Scope.ENVIRONMENT) != bool(scope)
        )
        read = partial(read_objects, resource, listing, scope=scope, patience=self.patience)
        absent = Observation(workos_id=key, state=State.ABSENT, resource=resource.name)
        try:
            listed = (one for page in read_all(read, None) for one in page.observations)
            return next((one for one in listed if one.workos_id == key), absent)
        except workos.Refused:
            # Of an organization or group that was deleted, WorkOS has no list.
            if not (scope and self.is_absent(scope, SCOPES[listing.scope][0])):
                raise
            return absent

    def is_absent(self, key: str, resource: Resource = ORGANIZATIONS) -> bool:
        """Return True if WorkOS does not have it, and that is proven; False if it does not say."""
        return self._exists(key, resource) is False and self.proves_absence({key}, resource)

    def _exists(self, key: str, resource: Resource = ORGANIZATIONS) -> bool | None:
        """Return whether WorkOS has it; None if WorkOS refuses to say."""
        try:
            return self.look_up(key, resource).state is not State.ABSENT
        except workos.Refused:
            return None

    def proves_environment(self, new: set[str]) -> bool:
        """Return True if organizations without a row may get one: no row is linked yet, or WorkOS
        has a linked organization that is not among ``new``. Otherwise a row from the wrong
        environment would later prove that environment to be the right one."""
        return not self._has_linked() or self.proves_absence(new)

    def proves_absence(self, missing: set[str], resource: Resource = ORGANIZATIONS) -> bool:
        """Return True if a 404 counts in this run: the first call looks up objects that have a row
        and are not among ``missing``, and its result is kept. For a resource without a call for
        one object, the list is proof enough."""
        if not resource.fetch:
            return True
        if resource not in self._is_proven:
            others = self._others(resource, missing)
            self._is_proven[resource] = self._any_exists(others, resource)
        return self._is_proven[resource]

    def _any_exists(self, keys: Iterable[str], resource: Resource) -> bool:
        """Return True once WorkOS shows one. Raises an error of one if it shows none."""
        failed: WorkOSError | None = None
        for key in keys:
            try:
                if self._exists(key, resource):
                    return True
            except (workos.Unavailable, workos.BrokenAnswer) as error:
                failed = error
        if failed is not None:
            raise failed
        return False

    def confirmed_absent(self, workos_ids: set[str]) -> frozenset[str]:
        """Return those that WorkOS confirms not to exist."""
        absent = frozenset(id_ for id_ in workos_ids if self._exists(id_) is False)
        is_proven = not absent or self.proves_absence({*absent})
        return absent if is_proven else self.known_deleted(absent)

    def known_deleted(self, absent: Iterable[str]) -> frozenset[str]:
        """Return those whose rows are disabled by their deletion: a 404 says nothing new of them,
        and needs no proof."""
        deleted = Organization.objects.disabled().exclude(workos_deleted_at=None)
        with self.reading():
            found = deleted.filter(workos_id__in=absent).values_list("workos_id", flat=True)
            return frozenset(id_ for id_ in found if id_)

    def new_owner(self, organization_id: str) -> Observation | None:
        """Return the organization that WorkOS shows with this ``external_id``, if there is one."""
        try:
            workos_id = workos.find_by_external_id(organization_id, patience=self.patience)
        except workos.Refused:
            return None  # It can't be an external_id.
        return None if workos_id is None else self.look_up(workos_id)

    def reading(self, *, once: bool = False) -> AbstractContextManager[object]:
        """Return the context for reads of the database, in which waits for locks are bounded; in a
        dry run, PostgreSQL refuses writes in it. ``once``: for one ``execute_bounded``, which takes
        fewer round trips without a transaction."""
        if self.dry:
            return read_only_transaction()
        return nullcontext() if once else bounded_transaction()

    def _has_linked(self) -> bool:
        # Also those that are disabled here alone: they live in WorkOS.
        with self.reading():
            return Organization.objects.linked().filter(workos_deleted_at=None).exists()

    def _others(self, resource: Resource, missing: set[str]) -> list[str]:
        with self.reading():
            if resource is not ORGANIZATIONS:
                others = live_rows(resource).exclude(pk__in=missing).values_list("pk", flat=True)
                # From both ends: of neighbours, the events may have been missed together.
                return [*others.order_by("-pk")[:3], *others.order_by("pk")[:3]]
            live = Organization.objects.live().exclude(workos_id__in=missing).order_by("id")
            # Any rows will do. From a random id on, the key's index finds them at once.
            found = [*live.filter(id__gte=str(uuid4()))[:3], *live[:2]]
            if not found:
                disabled = Organization.objects.disabled_here().exclude(workos_id__in=missing)
                found = [*disabled.order_by("-disabled_at")[:5]]
        candidates = [id_ for id_ in self.candidates if id_ not in missing]
        return [*candidates, *(row.workos_id for row in found if row.workos_id)]


def live_rows(resource: Resource) -> "QuerySet[Any]":
    """Return the rows whose objects WorkOS should show."""
    if resource is ORGANIZATIONS:
        return Organization.objects.live()
    rows_of = model_of(resource).objects  # type: ignore[attr-defined] # every model's
    return rows_of.filter(**{resource.deleted_column: None})  # type: ignore[no-any-return]
