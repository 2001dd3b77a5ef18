"""Compares the lists of the resources beside organizations with their rows, and repairs.

What a list did not show is asked for one by one; where WorkOS has no such call, the list for the
one organization or group is the answer. Nothing is deleted before all of a list was read.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import models

from orgs import workos
from orgs.db.resources import model_of
from orgs.domain.report import Change, Report
from orgs.domain.resources import DOMAIN, ROLE, Listing, Resource, Scope
from orgs.domain.types import ObjectPage, Observation, Outcome, State
from orgs.models import Directory, DirectoryGroup, Organization
from orgs.services.apply import Mode, apply
from orgs.services.compare import Run, Seen, in_groups
from orgs.services.decide import Batch
from orgs.services.refresh import UNPROVEN_OBJECT, Lookups, is_gone, proves_absence_of
from orgs.workos import read_ahead, read_objects, read_organizations

_THREADS = 8
_CHUNK = 1_000


@dataclass(slots=True)
class Clock:
    """Tells the database's time, from one look at it and the time that has passed since."""

    began_at: datetime
    _began: float = field(default_factory=time.monotonic)

    def now(self) -> datetime:
        """Return the time now, by the database's clock."""
        return self.began_at + timedelta(seconds=time.monotonic() - self._began)


@dataclass(slots=True)
class ResourceRun:
    """Compares one resource. ``report.errors`` is empty if its lists were read in full."""

    run: Run
    lookups: Lookups
    resource: Resource
    clock: Clock
    is_covered: bool = True
    """Otherwise nobody relies on its rows yet, and no limit keeps confirmed absences from them."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this is left to its event; None: nothing is."""
    report: Report = field(default_factory=Report)
    listed: int = 0
    _seen: Seen = field(default_factory=Seen)
    is_finished: bool = False
    """Its list was read in full, with the organizations'."""
    not_listed: str = ""
    """Why a resource that is not covered could not be listed."""
    stopped_after: str | None = None
    """The last scope that was read, if the time was up before all were."""
    _absent: list[Observation] = field(default_factory=list)
    _absent_since: datetime | None = None
    """When the first read began that showed one of them absent."""
    _most_absent: int | None = None

    def compare_all(self, *, after: str = "") -> None:
        """Compare every list; those for single scopes go on after ``after``.

        Raises ``WorkOSError`` and ``django.db.Error``.
        """
        for listing in self.resource.listings:
            if listing.scope is Scope.ENVIRONMENT:
                self._compare_environment(listing)
                continue
            self.compare_scopes(listing, self._scopes(listing, after))
            if self.stopped_after is not None:
                continue
            if listing.scope is Scope.ORGANIZATION:
                self._delete_with_organizations()
            # In no list that was read: what they belong to is not here, or not any more.
            column, live = _scope_column(listing), _live_scopes()[listing.scope]
            strays = self._rows().exclude(**{f"{column}__in": live.values("workos_id")})
            if not self.resource.fetch:
                strays = strays.filter(**{f"{column}__in": self._gone_scopes(listing, strays)})
            self._note_missing(strays, lambda _: False, self.clock.now())

    def compare(self, observations: list[Observation], began_at: datetime) -> None:
        """Compare objects that were listed or fetched by a request that began then."""
        if not observations:
            return
        batch = Batch(
            observations=observations, read_began_at=began_at, recent_after=self.recent_after
        )
        preview = apply(batch, Mode.DRY_RUN)
        is_final = self.run.dry or not (preview.needs_writing or preview.of(Outcome.FAILED))
        self.report.add(preview if is_final else apply(batch, Mode.RECONCILE))

    # Lists --------------------------------------------------------------------------------------

    def _compare_environment(self, listing: Listing) -> None:
        first = began_at = self.clock.now()
        for page in self._pages(listing, ""):
            self.add_page(page.observations, began_at)
            began_at = self.clock.now()
        self.finish(first)

    def add_page(self, observations: Sequence[Observation], began_at: datetime) -> None:
        """Compare a page of the environment's list."""
        self._add(self._seen.add(observations), began_at)

    def finish(self, began_at: datetime) -> None:
        """Note what the environment's list did not show, which was read in full since then."""
        self.is_finished = True
        self._seen.sort()
        rows = self._rows()
        if self.resource is ROLE:
            # The environment's list holds its own roles alone.
            rows = rows.filter(workos_organization_id="")
        self._note_missing(rows, self._seen.__contains__, began_at)

    def compare_scopes(self, listing: Listing, scopes: Iterable[str]) -> None:
        """Compare the lists for these organizations, directories or groups."""
        seconds = self.run.scope_seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        refusals, is_any_read = [], False
        with ThreadPoolExecutor(_THREADS) as threads:
            for group in in_groups(scopes, _THREADS):
                began_at = self.clock.now()
                lists = threads.map(partial(self._read_scope, listing), group)
                for scope, observations in zip(group, lists, strict=True):
                    if isinstance(observations, workos.Refused):
                        if not is_gone(listing.scope, scope, self.lookups):
                            refusals.append(observations)
                    else:
                        is_any_read = True
                        self._add(observations, began_at)
                        keys = {observation.workos_id for observation in observations}
                        rows = self._rows().filter(**{_scope_column(listing): scope})
                        self._note_missing(rows, keys.__contains__, began_at)
                    self.stopped_after = scope
                if refusals and not is_any_read:
                    # It is not single scopes that are refused.
                    raise refusals[0]
                if deadline is not None and time.monotonic() > deadline:
                    break
            else:
                self.stopped_after = None
        if refusals:
            raise refusals[0]

    def _gone_scopes(self, listing: Listing, rows: "models.QuerySet[Any]") -> list[str]:
        """Return which of the organizations or groups that these rows name WorkOS has deleted."""
        column = _scope_column(listing)
        with self.lookups.reading():
            named = set(rows.exclude(**{column: ""}).values_list(column, flat=True)) - {None}
        return [scope for scope in sorted(named) if is_gone(listing.scope, scope, self.lookups)]

    def _read_scope(self, listing: Listing, scope: str) -> list[Observation] | workos.Refused:
        try:
            pages = self._pages(listing, scope)
            return [observation for page in pages for observation in page.observations]
        except workos.Refused as refusal:
            return refusal

    def _pages(self, listing: Listing, scope: str) -> Iterator[ObjectPage]:
        patience = self.lookups.patience
        read = partial(read_objects, self.resource, listing, scope=scope, patience=patience)
        if self.resource is DOMAIN:
            read = partial(_read_domains, patience=patience)
        with closing(read_ahead(read, None)) as pages:
            yield from pages

    def _add(self, observations: Sequence[Observation], began_at: datetime) -> None:
        for chunk in in_groups(observations, _CHUNK):
            self.compare(chunk, began_at)
        self.listed += len(observations)
        self.run.progress(self.resource.name, self.listed)

    def _scopes(self, listing: Listing, after: str) -> Iterator[str]:
        """The ids of the scopes to read lists for, in their order, the rows read in chunks."""
        last = after
        while True:
            with self.lookups.reading():
                rows = (
                    _live_scopes()[listing.scope].filter(workos_id__gt=last).order_by("workos_id")
                )
                chunk = list(rows.values_list("workos_id", flat=True)[:_CHUNK])
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            last = chunk[-1]

    def scopes_of(self, workos_organization_id: str) -> dict[Scope, list[str]]:
        """Return the ids of an organization's directories and groups."""
        with self.lookups.reading():
            return {
                scope: list(
                    _live_scopes()[scope]
                    .filter(workos_organization_id=workos_organization_id)
                    .values_list("pk", flat=True)
                )
                for scope in (Scope.DIRECTORY, Scope.GROUP)
            }

    # The missing --------------------------------------------------------------------------------

    def _rows(self) -> "models.QuerySet[Any]":
        rows = model_of(self.resource).objects  # type: ignore[attr-defined] # every model's
        return rows.filter(**{self.resource.deleted_column: None}).order_by("pk")  # type: ignore[no-any-return]

    def _note_missing(
        self, rows: "models.QuerySet[Any]", is_seen: Callable[[str], bool], began_at: datetime
    ) -> None:
        """Ask for each row that a list did not show, until too many are absent."""
        with self.lookups.reading():
            keys = rows.values_list("pk", flat=True)
            missing = [key for key in keys.iterator(_CHUNK) if not is_seen(key)]
            if missing and self._most_absent is None:
                total = self._rows().count()
                self._most_absent = self.run.limit.allows(total) if self.is_covered else total
        for group in in_groups(missing, _THREADS):
            if len(self._absent) > (self._most_absent or 0):
                return
            self._absent += [o for o in self._observe(group) if o.state is State.ABSENT]
            self._absent_since = self._absent_since or began_at

    def resolve_missing(self) -> None:
        """Delete what is absent, once every list was read; nothing if that is too much.

        Raises ``WorkOSError`` and ``django.db.Error``.
        """
        absent, allowed = self._absent, self._most_absent or 0
        if len(absent) > allowed:
            self.report.errors.append(
                f"more than {allowed} rows of {self.resource.name} are missing from WorkOS: none "
                "of them is deleted; if that is right, raise --max-disable"
            )
        elif absent and not self._is_proven({o.workos_id or "" for o in absent}):
            self._leave_unproven(absent)
        else:
            for chunk in in_groups(absent, _CHUNK):
                self.compare(chunk, self._absent_since or self.clock.now())
        self._absent = []
        self.report.errors += [
            f"another program has {self.resource.name} {key} locked, or writes it at the same "
            "time; run it again"
            for key in self.report.locked
        ]
        self.report.locked = []

    def _leave_unproven(self, absent: Sequence[Observation]) -> None:
        name = self.resource.name
        self.report.counts[Outcome.UNPROVEN] += len(absent)
        self.report.changes += [
            Change(None, one.workos_id, Outcome.UNPROVEN, reason=UNPROVEN_OBJECT, resource=name)
            for one in absent
        ]

    def _delete_with_organizations(self) -> None:
        """WorkOS shows nothing of an organization that it has deleted: neither list nor object."""
        deleted = Organization.objects.filter(workos_deleted_at__isnull=False)
        rows = self._rows().filter(workos_organization__in=deleted.values("workos_id"))
        with self.lookups.reading():
            keys = list(rows.values_list("pk", flat=True))
        name = self.resource.name
        for chunk in in_groups(keys, _CHUNK):
            absent = [Observation(workos_id=k, state=State.ABSENT, resource=name) for k in chunk]
            self.compare(absent, self.clock.now())

    def _observe(self, keys: list[str]) -> list[Observation]:
        """What WorkOS says of each now; without such a call, the list that was read says it."""
        name = self.resource.name
        if not self.resource.fetch:
            return [Observation(workos_id=k, state=State.ABSENT, resource=name) for k in keys]
        look_up = partial(workos.lookup_object, self.resource, patience=self.lookups.patience)
        with ThreadPoolExecutor(_THREADS) as threads:
            return [*threads.map(look_up, keys)]

    def _is_proven(self, missing: set[str]) -> bool:
        """The same route found another object of this resource that has a row."""
        if not self.resource.fetch:
            # The list for this scope was answered with 200.
            return True
        return proves_absence_of(self.resource, missing, self.lookups)


def domains_of(organization: Observation) -> list[Observation]:
    """Return what an organization's JSON says of its domains."""
    raw = organization.raw if isinstance(organization.raw, dict) else {}
    items = [item for item in raw.get("domains") or () if isinstance(item, dict)]
    scoped = ({"organization_id": organization.workos_id, **item} for item in items)
    return [found for item in scoped if (found := workos.parse_object(DOMAIN, item)) is not None]


def _read_domains(position: str | None, *, patience: float) -> ObjectPage:
    page = read_organizations(position, patience=patience)
    found = (domain for listed in page.observations for domain in domains_of(listed))
    return replace(page, observations=tuple(found))


def compare_for_organization(resource_run: ResourceRun, organization: Observation) -> None:
    """Compare what belongs to one organization: the lists that can be read for it alone."""
    workos_id = organization.workos_id or ""
    for listing in resource_run.resource.listings:
        if resource_run.resource is DOMAIN:
            resource_run.compare(domains_of(organization), resource_run.clock.now())
        elif listing.scope is Scope.ORGANIZATION:
            resource_run.compare_scopes(listing, [workos_id])
        elif (scopes := resource_run.scopes_of(workos_id).get(listing.scope)) is not None:
            resource_run.compare_scopes(listing, scopes)
        elif listing.by_organization:
            params = {"organization_id": "{scope}"}
            of_one = replace(listing, params=params, scope=Scope.ORGANIZATION)
            resource_run.compare_scopes(of_one, [workos_id])


def _live_scopes() -> "dict[Scope, models.QuerySet[Any]]":
    return {
        Scope.ORGANIZATION: Organization.objects.linked().filter(workos_deleted_at=None),
        Scope.DIRECTORY: Directory.objects.filter(deleted_at=None),
        Scope.GROUP: DirectoryGroup.objects.filter(deleted_at=None),
    }


def _scope_column(listing: Listing) -> str:
    return {
        Scope.ORGANIZATION: "workos_organization_id",
        Scope.DIRECTORY: "workos_directory_id",
        Scope.GROUP: "workos_group_id",
    }[listing.scope]
