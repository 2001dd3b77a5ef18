"""Compares listed or fetched objects with the rows, and repairs what differs, a batch at a time."""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import TypeVar

from django.db import DatabaseError

from orgs.db import rows
from orgs.db.errors import is_environment
from orgs.domain.report import Change, Report
from orgs.domain.types import ORGANIZATION, Observation, Outcome, Row, State
from orgs.models import Organization
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.refresh import UNPROVEN, Lookups

T = TypeVar("T")

_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class DisableLimit:
    """How many organizations may be deleted in WorkOS before that is taken for a broken answer."""

    rows: int = 10
    percent: Fraction | int = 1

    def allows(self, linked: int) -> int:
        """Return the larger of the two: so many rows, or so many per cent of the linked ones."""
        return max(self.rows, int(linked * self.percent / 100))


def _no_progress(_: str, __: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to run: whether to write, and how much may be disabled."""

    dry: bool = False
    limit: DisableLimit = DisableLimit()
    progress: Callable[[str, int], None] = _no_progress
    """Called with a resource's name, and how many of it were compared so far."""
    resources: tuple[str, ...] = ()
    """Which resources to compare; empty: all that are covered."""
    scope_seconds: float | None = None
    """How long lists for single organizations and directories may take, for each resource; the next
    run goes on where this one stopped."""


@dataclass(slots=True)
class Comparing:
    """Compares observations with the rows, and repairs unless the run is dry."""

    run: Run
    lookups: Lookups
    report: Report = field(default_factory=Report)
    overlay: dict[str, Row] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """WorkOS ids of organizations that are confirmed to be deleted."""

    def compare(
        self, observations: Sequence[Observation], *, recent_after: datetime | None = None
    ) -> None:
        """Compare without locks; lock, decide again and write only where something differs.

        What changed after ``recent_after`` is left to its event. Raises ``WorkOSError`` and
        ``django.db.Error``.
        """
        observations = self._without_those_in_sync(observations)
        if not observations:
            return
        batch = Batch(
            observations=observations,
            recent_after=recent_after,
            overlay=self.overlay,
            claimed=frozenset(self.report.claimed),
        )
        preview = apply(batch, Mode.DRY_RUN)
        if preview.owners and (absent := self.lookups.confirmed_absent(preview.owners)):
            batch = replace(batch, absent=absent)
            preview = apply(batch, Mode.DRY_RUN)
        if self.run.dry:
            self.overlay |= preview.rows_after
        needs_writing = preview.needs_writing or bool(preview.of(Outcome.FAILED))
        is_final = self.run.dry or not needs_writing
        self.report.add(preview if is_final else apply(batch, Mode.RECONCILE))

    def disable(self, workos_ids: Iterable[str]) -> None:
        """Disable the rows of organizations that are confirmed to be deleted."""
        absent = sorted(set(workos_ids))
        self.absent.update(absent)
        for chunk in in_groups(absent, _CHUNK):
            self.compare([Observation(workos_id=id_, state=State.ABSENT) for id_ in chunk])

    def retry_locked(self) -> None:
        """Try rows that another program had locked, or wrote, again, by what WorkOS says now."""
        locked, self.report.locked = self.report.locked, []
        for workos_id in locked:
            observation = self.lookups.look_up(workos_id)
            if observation.state is not State.ABSENT or workos_id in self.absent:
                self.compare([observation])
        self.report.errors += [
            f"another program has {workos_id} locked, or writes it at the same time; run it again"
            for workos_id in self.report.locked
        ]

    def leave_unproven(self, workos_ids: Iterable[str], reason: str = UNPROVEN) -> None:
        """Report organizations that are missing without proof, and leave their rows alone."""
        for workos_id in workos_ids:
            self.report.counts[Outcome.UNPROVEN] += 1
            self.report.changes.append(Change(None, workos_id, Outcome.UNPROVEN, reason=reason))

    def are_few_enough(self, missing: Sequence[str], organizations: int) -> bool:
        """Return True if no more are missing than the limit allows; else report that."""
        if not missing:
            return True
        with self.lookups.reading():
            linked = Organization.objects.live().count()
        if len(missing) <= (allowed := self.run.limit.allows(linked)):
            return True
        self.report.errors.append(
            f"more than {allowed} of {linked} linked organizations are missing from WorkOS: none "
            f"is disabled; {organizations} organizations were compared; if that is right, raise "
            "--max-disable: with --dry-run and 100%, it lists them"
        )
        return False

    def _without_those_in_sync(self, observations: Sequence[Observation]) -> Sequence[Observation]:
        """Nearly all, nearly always: their rows need not be loaded to be compared."""
        if self.overlay:
            # What this dry run would have written by now, PostgreSQL does not know.
            return observations
        try:
            with self.lookups.reading():
                in_sync = rows.ids_in_sync(observations)
        except DatabaseError as error:
            if is_environment(error):
                raise
            # Some value can't even be compared. Which one, applying them alone finds out.
            return observations
        self.report.counts[Outcome.UNCHANGED] += len(in_sync)
        return [o for o in observations if o.workos_id not in in_sync]


class Seen:
    """The keys that were listed, as 64-bit hashes: 8 bytes each.

    Two keys of one hash would hide a missing object until the next run, by another hash.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._last_page: set[str] = set()

    def add(self, observations: Sequence[Observation]) -> list[Observation]:
        """Add a page; return those that the page before did not list too, as when one moves on."""
        page = {o.workos_id: o for o in observations if o.workos_id}
        new = [o for workos_id, o in page.items() if workos_id not in self._last_page]
        self._last_page = set(page)
        self._hashes.extend(hash(o.workos_id) for o in new)
        return new

    def sort(self) -> None:
        """Call it after the last ``add``, before ``in``."""
        self._hashes = array("q", sorted(self._hashes))

    def __contains__(self, workos_id: str) -> bool:
        place = bisect_left(self._hashes, hash(workos_id))
        return place < len(self._hashes) and self._hashes[place] == hash(workos_id)


def failures(report: Report) -> list[str]:
    """Return a sentence each about what was refused, and what a 404 could not prove."""
    found = []
    if failed := report.of(Outcome.FAILED):
        found.append(
            f"PostgreSQL refused to write {_counted(failed)}; "
            f"the first, {failed[0].workos_id}: {failed[0].reason}"
        )
    if unproven := report.of(Outcome.UNPROVEN):
        found.append(
            f"{_counted(unproven, 'missing ')} not {_removed(unproven)}; "
            f"the first, {unproven[0].workos_id}: {unproven[0].reason}"
        )
    return found


def _counted(changes: Sequence[Change], which: str = "") -> str:
    resource = changes[0].resource
    if resource == ORGANIZATION:
        return counted(len(changes), f"{which}{resource}")
    return f"{counted(len(changes), f'{which}row')} of {resource}"


def _removed(changes: Sequence[Change]) -> str:
    return "disabled" if changes[0].resource == ORGANIZATION else "deleted"


def counted(number: int, noun: str) -> str:
    """Return the number with its noun in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most ``size``."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
