"""Compares the lists of the resources other than organizations with their rows, and repairs.

What a list did not show is asked for one by one; where WorkOS has no such call, the list for the
one organization or group is the answer. Nothing is deleted before all of a list was read.
"""

import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from heapq import merge
from math import inf
from typing import Any

from django.db import models
from django.db.models import Exists, F, OuterRef

from orgs import workos
from orgs.db import rows
from orgs.db.resources import WRITTEN_WITHIN, model_of
from orgs.domain.naming import counted
from orgs.domain.resources import (
    DOMAIN,
    ORGANIZATIONS,
    PLAIN,
    ROLE,
    SCOPES,
    Listing,
    Resource,
    Scope,
)
from orgs.domain.types import ORGANIZATION, ConflictKind, ObjectPage, Observation, Outcome, State
from orgs.models import Organization, WorkOSConflict
from orgs.services.compare import Comparison, in_threads
from orgs.services.lookups import live_rows
from orgs.services.refusals import reporting, text_of
from orgs.workos import read_ahead, read_all, read_objects, read_organizations

#: The outcomes by which an organization, directory or group gets a row.
_APPEARS = Outcome.CREATED, Outcome.LINKED, Outcome.RELINKED

#: What may be wrong with one list alone.
_OF_ONE = workos.Refused, workos.Unavailable, workos.BrokenAnswer, workos.Unauthorized

#: So many lists in a row without an answer are an outage, in which each may cost a time-out.
_FAILURES_TO_STOP = 20

#: After so many lists were refused and none was read, not single organizations are the reason.
_REFUSALS_TO_STOP = 100


@dataclass(slots=True)
class ResourceComparison(Comparison):
    """Compares the lists of one resource. ``report.errors`` is empty if they were read in full."""

    resource: Resource
    listed_since: datetime | None = None
    """When the organizations' list began, which was read in full and shows these objects too."""
    not_listed: str = ""
    """Why a resource that is not covered could not be listed."""
    stopped_after: str | None = None
    """The scope after which the next run goes on; None once all were read."""
    comparisons: Mapping[str, Comparison] = field(default_factory=dict, repr=False)
    """By resource, all that this run compares, this one included. A dry run writes no rows: what
    it would create or delete is known from these alone."""
    _absent_since: datetime | None = None
    """When the read began that was the first to show an object of ``absent`` absent."""

    def compare_all(self) -> None:
        """Compare every list. An error is reported, and does not stop other resources."""
        began_after, are_read = self.stopped_after, False
        with reporting(self._note_error):
            if self.listed_since is not None:
                self._finish(self.listed_since)
            else:
                for listing in self.resource.listings:
                    self._compare_list(listing)
            are_read = True
            self._resolve_missing()
        if not are_read and self.run.scope_seconds is not None and self.absent:
            # The next run would go on behind the lists that were read, and not find these again.
            with reporting(lambda _: None):
                self._resolve_missing()
            if 0 < len(self.absent) <= self.allowed:
                self.stopped_after = began_after

    def compare_for(self, organizations: Iterable[Observation], began_at: datetime) -> None:
        """Compare what belongs to these organizations, in the lists that can be read for them.
        ``began_at``: when the organizations were asked for."""
        with reporting(self._note_error):
            for organization in organizations:
                for listing in self.resource.listings:
                    self._compare_for(listing, organization, began_at)
            self._resolve_missing()

    @property
    def _organizations(self) -> Comparison:
        return self.comparisons[ORGANIZATION]

    def is_incomplete(self) -> bool:
        """Return True if not every list was read."""
        return bool(self.not_listed) or self.stopped_after is not None

    def _note_error(self, text: str) -> None:
        if self.is_covered:
            self.report.errors.append(f"{self.name}: {text}")
        else:
            # It stays uncovered, which is a warning: what is covered is not in doubt.
            self.not_listed = text

    # Lists ----------------------------------------------------------------------------------

    def _compare_list(self, listing: Listing) -> None:
        if listing.scope is Scope.ENVIRONMENT:
            began_at = self.lookups.now()
            with closing(read_ahead(self._reader(listing), None)) as pages:
                for page in pages:
                    self.add_page(page.observations, self.lookups.at(page.read_began))
            self._finish(began_at)
            return
        live, after = self._with_row(listing.scope), self.stopped_after or ""
        without_row = self._without_row(listing.scope)
        scopes = (scope for (scope,) in self.in_order(live, "workos_id", after=after))
        also = (scope for scope in without_row if scope > after)
        self._delete_with_parents()
        self._compare_scopes(listing, merge(scopes, also))
        if self.stopped_after is not None:
            return
        # In no list that was read: what they belong to is not here, or not any more.
        _, column = SCOPES[listing.scope]
        # Not ``IN``: PostgreSQL may search the whole of a large list for each row.
        listed_for = Exists(live.filter(workos_id=OuterRef(column)))
        strays = live_rows(self.resource).exclude(listed_for)
        self._delete_with_organizations(strays)
        strays = strays.exclude(**{f"{column}__in": without_row})
        if not self.resource.fetch:
            absent = self._absent_scopes(listing.scope, strays)
            strays = strays.filter(**{f"{column}__in": absent})
        self._note_missing(strays, self.removed, self.lookups.now())

    def _finish(self, began_at: datetime) -> None:
        """Note what the environment's list, read in full since ``began_at``, did not show."""
        self.seen.sort()
        found = live_rows(self.resource)
        if self.resource is ROLE:
            # The environment's list holds its own roles alone.
            found = found.filter(workos_organization_id="")
        else:
            self._delete_with_organizations(found)
        self._note_missing(found, self.seen, began_at)

    def _compare_for(self, listing: Listing, organization: Observation, began_at: datetime) -> None:
        workos_id = organization.workos_id or ""
        if self.resource is DOMAIN:
            domains = domains_of([organization])
            self.compare_listed(domains, began_at)
            of_one = live_rows(self.resource).filter(workos_organization_id=workos_id)
            self._note_missing(of_one, {one.workos_id or "" for one in domains}, began_at)
        elif listing.scope is Scope.ORGANIZATION:
            self._compare_scopes(listing, [workos_id])
        elif listing.scope is not Scope.ENVIRONMENT:
            of_one = self._with_row(listing.scope).filter(workos_organization_id=workos_id)
            with self.lookups.reading():
                scopes = list(of_one.values_list("pk", flat=True))
            self._compare_scopes(
                listing, scopes + self._new_in_dry_run(listing.scope, of=workos_id)
            )
        elif listing.by_organization:
            params = {"organization_id": "{scope}"}
            narrowed = replace(listing, params=params, scope=Scope.ORGANIZATION)
            self._compare_scopes(narrowed, [workos_id])

    def _compare_scopes(self, listing: Listing, scopes: Iterable[str]) -> None:
        """Compare the lists for these organizations, directories or groups. A list that can't be
        read is asked for once more at the end, then reported, and what belongs to it is left alone.
        Raises the error if no list can be read, or many in a row without an answer."""
        seconds = self.run.scope_seconds
        deadline = inf if seconds is None else time.monotonic() + seconds
        failed: dict[str, workos.WorkOSError] = {}
        is_any_read, in_a_row, scopes = False, 0, iter(scopes)
        for asked, errors in self._compare_each(listing, scopes):
            failed |= errors
            is_any_read = is_any_read or len(errors) < len(asked)
            is_silent = len(errors) == len(asked) == len(_passing(errors))
            in_a_row = in_a_row + len(asked) if is_silent else 0
            if not is_silent:
                self.stopped_after = asked[-1]
            is_refused = len(failed) >= _REFUSALS_TO_STOP and not is_any_read
            if is_refused or in_a_row >= _FAILURES_TO_STOP:
                raise next(iter(errors.values()))
            # Unless it was the last one: another day would have nothing to read.
            if time.monotonic() > deadline and next(scopes, None) is not None:
                break
        else:
            if is_any_read or not in_a_row:
                self.stopped_after = None
        if in_a_row and not is_any_read:
            raise next(iter(failed.values()))
        again = _passing(failed) if is_any_read and time.monotonic() < deadline else []
        for asked, errors in self._compare_each(listing, again):
            for scope in asked:
                del failed[scope]
            failed |= errors
        if failed:
            (scope, error), lists = next(iter(failed.items())), counted(len(failed), "list")
            self._note_error(f"{lists} can't be read; the first, for {scope}: {text_of(error)}")

    def _compare_each(
        self, listing: Listing, scopes: Iterable[str]
    ) -> Iterator[tuple[list[str], dict[str, workos.WorkOSError]]]:
        """Compare the lists for these, a few at a time. Yield for which of them was asked, and the
        errors of those that can't be read, although what they are for is not deleted."""
        parent, column = SCOPES[listing.scope]
        began_at = self.lookups.now()
        for answers in in_threads(partial(self._read_scope, listing), scopes, _OF_ONE):
            errors: dict[str, workos.WorkOSError] = {}
            for scope, answer in answers:
                if not isinstance(answer, workos.WorkOSError):
                    self.compare_listed(answer, began_at)
                    keys = {observation.workos_id or "" for observation in answer}
                    of_scope = live_rows(self.resource).filter(**{column: scope})
                    try:
                        self._note_missing(of_scope, keys, began_at)
                    except _OF_ONE as error:
                        errors[scope] = error
                elif not self._is_deleted(scope, parent, answer):
                    errors[scope] = answer
            yield [scope for scope, _ in answers], errors
            began_at = self.lookups.now()

    def _is_deleted(self, scope: str, parent: Resource, error: workos.WorkOSError) -> bool:
        """Return True if WorkOS refuses a list because it has deleted what the list is for."""
        with suppress(*_OF_ONE):
            return isinstance(error, workos.Refused) and self.lookups.is_absent(scope, parent)
        return False

    def _read_scope(self, listing: Listing, scope: str) -> list[Observation]:
        # Not ``read_ahead``: its own thread would go on when this one is ended.
        pages = read_all(self._reader(listing, scope), None)
        return [observation for page in pages for observation in page.observations]

    def _absent_scopes(self, scope: Scope, found: "models.QuerySet[Any]") -> list[str]:
        """Return which of the organizations or groups that these rows name WorkOS has deleted. One
        that it says nothing of is not among them; where the rows can't be asked for either, that is
        noted as an error."""
        parent, column = SCOPES[scope]
        ids = found.exclude(**{f"{column}__isnull": True}).exclude(**{column: ""})
        with self.lookups.reading():
            named = {*ids.order_by().values_list(column, flat=True).distinct()}
        if parent is ORGANIZATIONS:
            named = {id_ for id_ in named if id_ not in self._organizations.seen}
        # A row that this run has linked itself proves no place to be the right one.
        if not (named and self.lookups.candidates and self.lookups.proves_absence(named, parent)):
            return []
        asks = in_threads(partial(self.lookups.look_up, resource=parent), sorted(named), _OF_ONE)
        absent, failed = list[str](), dict[str, workos.WorkOSError]()
        for key, answer in (one for answers in asks for one in answers):
            if isinstance(answer, workos.WorkOSError):
                failed[key] = answer
            elif answer.state is State.ABSENT:
                absent.append(key)
        if not self.resource.fetch and (silent := _passing(failed)):
            # What belongs to others is asked for itself, which shows an outage too.
            which, said = counted(len(silent), parent.name), text_of(failed[silent[0]])
            self._note_error(f"{which} can't be asked for; the first, {silent[0]}: {said}")
        return absent

    def _with_row(self, scope: Scope) -> "models.QuerySet[Any]":
        """Return the rows of the organizations, directories or groups that a list is read for."""
        parent, _ = SCOPES[scope]
        if parent is not ORGANIZATIONS:
            return self._without_removed(parent, live_rows(parent))
        live = Organization.objects.linked().filter(workos_deleted_at=None)
        return live.exclude(workos_id__in=[*self._organizations.removed, *self._lost_row()])

    def _lost_row(self) -> list[str | None]:
        """Return the deleted organizations whose rows others have taken over in this run."""
        taken_over = self._organizations.report.of(Outcome.RELINKED)
        return [change.fields["workos_id"][0] for change in taken_over]

    def _without_row(self, scope: Scope) -> list[str]:
        """Return the other ids that a list is read for: organizations that WorkOS has and that have
        no row, and in a dry run what would get one. In Python's order: if the database's collation
        has another order, a run that goes on later may leave one to the run after it."""
        found = {*self._new_in_dry_run(scope)}
        if scope is Scope.ORGANIZATION:
            conflicts = WorkOSConflict.objects.exclude(kind=ConflictKind.LEDGER_REFUSED)
            with self.lookups.reading():
                found |= self._organizations.may_have_no_row | {
                    *conflicts.values_list("pk", flat=True)
                }
                found -= rows.linked(found) | self._organizations.removed
        return sorted(found)

    def _new_in_dry_run(self, scope: Scope, *, of: str = "") -> list[str]:
        """Return the ids of the scopes, ``of`` one organization or of all, that would get a row by
        what this dry run reports."""
        parent, _ = SCOPES[scope]
        if not self.run.dry or parent.name not in self.comparisons:
            return []
        report = self.comparisons[parent.name].report
        appear = (one for one in report.of(*_APPEARS) if of in ("", one.workos_organization_id))
        return sorted({change.workos_id for change in appear if change.workos_id})

    def _reader(self, listing: Listing, scope: str = "") -> Callable[[str | None], ObjectPage]:
        patience = self.lookups.patience
        if self.resource is DOMAIN:
            return partial(_read_domains, patience=patience)
        return partial(read_objects, self.resource, listing, scope=scope, patience=patience)

    # The missing ----------------------------------------------------------------------------

    def _note_missing(
        self, found: "models.QuerySet[Any]", seen: Container[str], began_at: datetime
    ) -> None:
        missing = self.unlisted(self._without_removed(self.resource, found), seen)
        # What was refused, or is locked, is reported once.
        self.ask_for(key for key in missing if key not in self.removed)
        if self.absent:
            self._absent_since = self._absent_since or began_at

    def _without_removed(
        self, resource: Resource, found: "models.QuerySet[Any]"
    ) -> "models.QuerySet[Any]":
        """Leave out what a dry run reports as deleted, and what would be deleted along."""
        if not self.run.dry:
            return found
        removed = {name: one.removed for name, one in self.comparisons.items()}
        for column, parent in {"pk": resource.name, **resource.parents}.items():
            found = found.exclude(**{f"{column}__in": removed.get(parent, ())})
        return found

    def _resolve_missing(self) -> None:
        """Delete what is absent by the lists that were read; nothing if that is too much."""
        if not self.exceeds_limit():
            self.remove_if_proven(began_at=self._absent_since)
        self.retry_locked()

    def _delete_with_parents(self) -> None:
        """Delete what another program left, or made live again, of a directory or group that an
        event has deleted: no list shows it, and maybe nothing else of its kind is a proof."""
        found, live = [], live_rows(self.resource)
        for column, parent in self.resource.parents.items():
            every = model_of(PLAIN[parent]).objects  # type: ignore[attr-defined] # every model's
            said = every.filter(workos_last_event_id__isnull=False)
            deleted = said.filter(deleted_at__lte=F("synced_at") + WRITTEN_WITHIN)
            found.append(live.filter(**{f"{column}__in": deleted.values("pk")}))
        self._remove_unasked(found)

    def _delete_with_organizations(self, live: "models.QuerySet[Any]") -> None:
        """Delete those of the rows that belong to organizations that are deleted in WorkOS: these
        have no list and no object to ask for any more."""
        deleted: list[Collection[Any]] = [
            Organization.objects.filter(workos_deleted_at__isnull=False).values("workos_id"),
            self._organizations.removed,
            self._lost_row(),
        ]
        self._remove_unasked(live.filter(workos_organization__in=ids) for ids in deleted)
        # Without their list, WorkOS would be asked for each organization that has no row yet.
        organizations = self._organizations
        if self.resource.fetch and organizations.listed and not organizations.report.errors:
            self._delete_without_row(live)

    def _delete_without_row(self, live: "models.QuerySet[Any]") -> None:
        """Delete what belongs to organizations that are deleted in WorkOS and have no row any more.
        Each object is asked for, and there is no limit. That its organization is proven to be
        deleted proves an object's 404, too."""
        rows_of = Organization.objects.filter(workos_id=OuterRef("workos_organization"))
        absent = self._absent_scopes(Scope.ORGANIZATION, live.exclude(Exists(rows_of)))
        lost = self._without_removed(self.resource, live.filter(workos_organization__in=absent))
        keys = [key for key in self.unlisted(lost, self.seen) if key not in self.removed]
        self.remove([*self.absent_among(keys)], self.lookups.now())

    def _remove_unasked(self, found: Iterable["models.QuerySet[Any]"]) -> None:
        """Delete what any of these queries finds, each row once."""
        keys = set[str]()
        with self.lookups.reading():
            for query in found:
                left = self._without_removed(self.resource, query)
                keys.update(left.values_list("pk", flat=True))
        # What the environment's list shows all the same is not deleted.
        keys = {key for key in keys - self.removed if key not in self.seen}
        self.remove(sorted(keys), self.lookups.now())


def _passing(errors: Mapping[str, workos.WorkOSError]) -> list[str]:
    """Return which of them were not refused: asked once more, they may be read."""
    return [scope for scope, error in errors.items() if not isinstance(error, workos.Refused)]


def domains_of(organizations: Iterable[Observation]) -> tuple[Observation, ...]:
    """Return what the JSON of organizations says of their domains.

    Raises ``BrokenAnswer`` if one has no usable id.
    """
    found = []
    for organization in organizations:
        raw = organization.raw if isinstance(organization.raw, dict) else {}
        listed = raw.get("domains")
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, dict):
                scoped = {"organization_id": organization.workos_id, **item}
                found.append(workos.parse_object(DOMAIN, scoped))
    return tuple(domain for domain in found if domain is not None)


def _read_domains(position: str | None, *, patience: float) -> ObjectPage:
    page = read_organizations(position, patience=patience)
    return replace(page, parse=lambda: domains_of(page.observations))
