"""Compares listed or fetched objects with the rows, and repairs what differs, a batch at a time.

What a list did not show is asked for one by one. Only a confirmed absence disables or deletes: none
before all were asked, none above the limit, and none if a 404 proves nothing.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from itertools import islice
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DatabaseError, models

from orgs import workos
from orgs.db import rows
from orgs.db.transactions import Rows, Statement, execute_bounded
from orgs.domain.naming import counted
from orgs.domain.report import Change, Report
from orgs.domain.resolution import is_left_to_event
from orgs.domain.resources import ORGANIZATIONS, Resource
from orgs.domain.types import ORGANIZATION, ConflictKind, Observation, Outcome, State
from orgs.models import WorkOSConflict, WorkOSEvent
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.lookups import UNPROVEN, UNPROVEN_OBJECT, Lookups, live_rows
from orgs.services.refusals import fails_every_row

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound=workos.WorkOSError)

_CHUNK = 1_000
_THREADS = 8


@dataclass(frozen=True, slots=True)
class DisableLimit:
    """How many objects of a resource may be missing before that is taken for a broken answer."""

    rows: int = 10
    percent: Fraction | int = 1

    def allows(self, total: int) -> int:
        """Return the larger of the two: so many rows, or so many per cent of all."""
        return max(self.rows, int(total * self.percent / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The options of a run: whether to write, how much may be disabled, and what to compare."""

    dry: bool = False
    limit: DisableLimit = DisableLimit()
    progress: Callable[[str, int], object] = lambda *_: None
    """Called with a resource's name, and how many of it were compared so far."""
    resources: tuple[str, ...] = ()
    """Which resources to compare; empty: all that are followed."""
    scope_seconds: float | None = None
    """How long lists for single organizations and directories may take, for each resource; the next
    run goes on where this one stopped."""


class Seen:
    """The keys that were listed, as 64-bit hashes: 8 bytes each.

    Two keys of one hash would hide a missing object, until a process runs that has another seed.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, observations: Sequence[Observation]) -> None:
        """Add a page."""
        self._hashes.extend(hash(observation.workos_id) for observation in observations)

    def sort(self) -> None:
        """Call it after the last ``add``, before ``in``."""
        self._hashes = array("q", sorted(self._hashes))

    def __contains__(self, workos_id: object) -> bool:
        index = bisect_left(self._hashes, hash(workos_id))
        return index < len(self._hashes) and self._hashes[index] == hash(workos_id)


@dataclass(slots=True)
class Comparison:
    """Compares the objects of one resource with their rows, and repairs unless the run is dry.

    ``report.errors`` is empty if all was compared. Methods raise ``WorkOSError`` and
    ``django.db.Error``.
    """

    run: Run
    lookups: Lookups
    resource: Resource = ORGANIZATIONS
    is_covered: bool = True
    followed_since: datetime | None = None
    """If all its events are followed, and it is not covered: since when. Nobody relies on its rows
    yet, so confirmed absences have no limit."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this may not be listed yet; None: everything is."""
    leaves_recent: bool = True
    """False: what changed after ``recent_after`` is compared as well, not left to its event."""
    report: Report = field(default_factory=Report)
    listed: int = 0
    """How many objects WorkOS listed, or was asked for."""
    absent: list[str] = field(default_factory=list)
    """Keys of rows whose objects are absent, until ``remove_if_proven``."""
    seen: Seen = field(default_factory=Seen)
    removed: set[str] = field(default_factory=set)
    """Keys given to ``remove``, also by a dry run."""
    may_have_no_row: set[str] = field(default_factory=set)
    """Keys of objects that WorkOS lists, and that may still have no row after this run."""
    _total: int | None = None

    @property
    def name(self) -> str:
        """The name of the resource."""
        return self.resource.name

    # What WorkOS shows ----------------------------------------------------------------------

    def add_page(self, page: Sequence[Observation], began_at: datetime) -> None:
        """Compare a page of a list, and note its keys. ``began_at``: when its read began."""
        self.seen.add(page)
        self.compare_listed(page, began_at)

    def compare_listed(self, listed: Sequence[Observation], began_at: datetime) -> None:
        """Compare listed objects. ``began_at``: when the read of the list began."""
        self.listed += len(listed)
        for chunk in in_groups(listed, _CHUNK):
            self.compare(chunk, began_at)
        self.run.progress(self.name, self.listed)

    def compare(
        self, observations: Sequence[Observation], began_at: datetime | None = None
    ) -> None:
        """Compare without locks; if anything differs, lock the batch, decide again and write.

        ``began_at``: when the request for them began.
        """
        left = self._without_those_in_sync(observations)
        refused = self._refused_among(left)
        recent_after = self.recent_after if self.leaves_recent else None
        self._compare([o for o in left if o.workos_id not in refused], began_at, recent_after)
        self._compare([o for o in left if o.workos_id in refused], began_at, None)

    def _compare(
        self,
        observations: Sequence[Observation],
        began_at: datetime | None,
        recent_after: datetime | None,
    ) -> None:
        if not observations:
            return
        batch = Batch(
            observations=observations,
            recent_after=recent_after,
            read_began_at=began_at,
            overwrite_before=self.followed_since,
            taken_over=frozenset(self.report.taken_over),
        )
        preview = apply(batch, Mode.DRY_RUN)
        if preview.owners and (absent := self.lookups.confirmed_absent(preview.owners)):
            batch = replace(batch, absent=absent)
            preview = apply(batch, Mode.DRY_RUN)
        is_final = self.run.dry or not (preview.needs_writing or preview.of(Outcome.FAILED))
        self.report.add(preview if is_final else apply(batch, Mode.RECONCILE))

    def _without_those_in_sync(self, observations: Sequence[Observation]) -> Sequence[Observation]:
        """Leave out organizations that are in sync: nearly all. Their rows need not be loaded."""
        if self.resource is not ORGANIZATIONS:
            return observations
        try:
            with self.lookups.reading(once=True):
                in_sync = rows.ids_in_sync(observations)
        except DatabaseError as error:
            if fails_every_row(error):
                raise
            # Some value can't even be compared. Which one, applying them alone finds out.
            return observations
        self.report.counts[Outcome.UNCHANGED] += len(in_sync)
        return [o for o in observations if o.workos_id not in in_sync]

    def _refused_among(self, observations: Sequence[Observation]) -> set[str | None]:
        """Return the keys of recent objects whose events have come, and are parked or left out of
        the ledger: nothing else will bring what they said."""
        fields = {o.workos_id: o.fields or o.plain for o in observations if self.is_recent(o)}
        if not (fields and self.leaves_recent):
            return set()
        parked = WorkOSEvent.objects.parked().filter(resource=self.name, object_key__in=fields)
        left_out = WorkOSConflict.objects.filter(kind=ConflictKind.LEDGER_REFUSED, pk__in=fields)
        came = parked.values_list("object_key", "occurred_at")
        query = came.union(left_out.values_list("pk", "last_seen_at")).query
        with self.lookups.reading(once=True):
            found = execute_bounded(Statement(*query.sql_with_params()))
        changed_at = {key: one.updated_at for key, one in fields.items() if one}
        return {key for key, at in found if at and at >= (changed_at[key] or at)}

    def retry_locked(self) -> None:
        """Look up the organizations whose rows another program had locked or written, and compare
        them again. Report those that still are locked, and locked rows of other resources."""
        if self.resource is ORGANIZATIONS:
            locked, self.report.locked = self.report.locked, []
            for workos_id in locked:
                observation = self.lookups.look_up(workos_id)
                if observation.state is not State.ABSENT or workos_id in self.removed:
                    self.compare([observation])
            # What belongs to one is listed all the same, though no row may be linked to it yet.
            self.may_have_no_row |= {*self.report.locked}
        which = "" if self.resource is ORGANIZATIONS else f"{self.name} "
        self.report.errors += [
            f"another program has {which}{key} locked, or writes it at the same time; run it again"
            for key in self.report.locked
        ]
        self.report.locked = []

    # What it does not show ------------------------------------------------------------------

    def in_order(
        self, found: "models.QuerySet[Any]", *columns: str, after: str = ""
    ) -> Iterator[tuple[str, ...]]:
        """Yield columns of rows in the order of the first one, a key. They are read in chunks."""
        key = columns[0]
        while True:
            rest = found.filter(**{f"{key}__gt": after}).order_by(key)
            chunk = Rows()
            with suppress(EmptyResultSet), self.lookups.reading(once=True):
                query = rest.values_list(*columns)[:_CHUNK].query
                chunk = execute_bounded(Statement(*query.sql_with_params()))
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            after = chunk[-1][0]

    def unlisted(self, found: "models.QuerySet[Any]", seen: Container[str]) -> Iterator[str]:
        """Yield the WorkOS ids of rows that were not listed, unless another organization takes the
        row over."""
        for id_, workos_id in self.in_order(found, "pk", "workos_id"):
            if workos_id and id_ not in self.report.taken_over and workos_id not in seen:
                yield workos_id

    def ask_for(self, keys: Iterable[str]) -> None:
        """Ask WorkOS for each of these, and note those that are absent. Stop once they exceed the
        limit. After an error note none, because not all were asked for."""
        if self.absent and len(self.absent) > self.allowed:
            return
        absent = list[str]()
        for key in self.absent_among(keys):
            absent.append(key)
            if len(self.absent) + len(absent) > self.allowed:
                break
        self.absent += absent

    def absent_among(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield those that WorkOS answers 404 for, and compare the others. Raises ``BrokenAnswer``
        if an organization exists: the list, which did not show it, is not complete."""
        for answers in in_threads(self._ask, keys, workos.Refused):
            for key, answer in answers:
                if isinstance(answer, workos.Refused):
                    reason = f"WorkOS refuses to say whether it exists: {answer}"
                    self.leave_unproven([key], reason)
                elif answer.state is State.ABSENT:
                    yield key
                elif self.resource is not ORGANIZATIONS:
                    # It belongs to another organization now, or its place in the list was read.
                    self.compare([answer])
                elif not self.is_recent(answer):
                    text = f"the list is not complete: {key} exists and was not in it"
                    raise workos.BrokenAnswer(text)

    def _ask(self, key: str) -> Observation:
        if not self.resource.fetch:
            # WorkOS has no such call: the list that was read says it.
            return Observation(workos_id=key, state=State.ABSENT, resource=self.name)
        return self.lookups.look_up(key, self.resource)

    def is_recent(self, observation: Observation) -> bool:
        """Return True if it is left to its event; it may have been created after its index in the
        list was read."""
        fields = observation.fields or observation.plain
        return is_left_to_event(None, fields.updated_at if fields else None, self.recent_after)

    @property
    def allowed(self) -> int:
        """How many may be absent before that is taken for a broken answer."""
        if self._total is None:
            with self.lookups.reading():
                self._total = live_rows(self.resource).count()
        return self._total if self.followed_since else self.run.limit.allows(self._total)

    def exceeds_limit(self) -> bool:
        """Return True, and report it, if more are absent than the limit allows."""
        if not self.absent or len(self.absent) <= (allowed := self.allowed):
            return False
        advice = "if that is right, raise --max-disable"
        if self.resource is ORGANIZATIONS:
            text = (
                f"more than {allowed} of {self._total} linked organizations are missing from "
                f"WorkOS: none is disabled; {self.listed} organizations were compared; {advice}: "
                "with --dry-run and 100%, it lists them"
            )
        else:
            text = (
                f"more than {allowed} rows of {self.name} are missing from WorkOS: none of them "
                f"is deleted; {advice}"
            )
        self.report.errors.append(text)
        return True

    def remove_if_proven(
        self, also: Sequence[str] = (), *, began_at: datetime | None = None
    ) -> None:
        """Disable or delete the rows of what is absent, if the 404s prove it.

        ``also``: WorkOS ids without a row, whose conflicts are solved by that. ``began_at``: when
        the first read began that showed one of them absent.
        """
        missing = {*self.absent, *also}
        if missing and self.lookups.proves_absence(missing, self.resource):
            self.remove(sorted(missing), began_at)
        elif missing:
            self.leave_unproven(self.absent)
        self.absent = []

    def remove(self, keys: Sequence[str], began_at: datetime | None) -> None:
        """Disable or delete the rows of objects that are confirmed to be absent."""
        self.removed.update(keys)
        absent = (Observation(workos_id=k, state=State.ABSENT, resource=self.name) for k in keys)
        for chunk in in_groups(absent, _CHUNK):
            self.compare(chunk, began_at)

    def leave_unproven(self, keys: Sequence[str], reason: str = "") -> None:
        """Report what is missing without proof, and leave the rows alone."""
        reason = reason or (UNPROVEN if self.resource is ORGANIZATIONS else UNPROVEN_OBJECT)
        self.report.counts[Outcome.UNPROVEN] += len(keys)
        self.report.changes += [
            Change(None, key, Outcome.UNPROVEN, reason=reason, resource=self.name) for key in keys
        ]


def why_incomplete(report: Report) -> list[str]:
    """Return why not everything was done: errors, and a sentence each about what was refused, and
    what a 404 could not prove."""
    found = [*report.errors]
    for outcome, which in ((Outcome.FAILED, ""), (Outcome.UNPROVEN, "missing ")):
        if changes := report.of(outcome):
            first, removed = changes[0], "deleted"
            what = f"{counted(len(changes), f'{which}row')} of {first.resource}"
            if first.resource == ORGANIZATION:
                what, removed = counted(len(changes), f"{which}{ORGANIZATION}"), "disabled"
            text = f"{what} not {removed}" if which else f"PostgreSQL refused to write {what}"
            found.append(f"{text}; the first, {first.workos_id}: {first.reason}")
    return found


def in_threads(
    ask: Callable[[str], R], keys: Iterable[str], of_one: type[E] | tuple[type[E], ...]
) -> Iterator[list[tuple[str, R | E]]]:
    """Yield each key with what ``ask`` returned of it, or with its error if that is ``of_one`` key:
    a few at a time, in threads. Raises what else ``ask`` raises."""

    def answer(key: str) -> R | E:
        try:
            return ask(key)
        except of_one as error:
            return error

    with workos.asking_threads(_THREADS) as threads:
        for group in in_groups(keys, _THREADS):
            asked = {key: threads.submit(answer, key) for key in group}
            for one in as_completed(asked.values()):
                # The error of one does not wait for the others.
                one.result()
            yield [(key, one.result()) for key, one in asked.items()]


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most ``size``."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
