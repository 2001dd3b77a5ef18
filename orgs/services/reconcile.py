"""Compares every organization of WorkOS with the mirror, and repairs what drifted.

Interrupted means: run it again; what was repaired costs only reads. Nothing is disabled before
every missing organization was asked for.
"""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from django.db import DatabaseError, models

from orgs import workos
from orgs.conf import sync_settings
from orgs.db.cursor import (
    database_now,
    ensure_cursor,
    note_incomplete,
    note_progress,
    note_reconciled,
    read_cursor,
    replace_lost,
)
from orgs.db.errors import describe, is_passing
from orgs.db.leases import Lease
from orgs.domain.naming import one_line
from orgs.domain.resolution import is_in_flight
from orgs.domain.resources import DOMAIN, PLAIN
from orgs.domain.status import ReadError
from orgs.domain.types import ORGANIZATION, ConflictKind, ObjectPage, Observation, Outcome, State
from orgs.models import Organization, WorkOSConflict, WorkOSEvent
from orgs.services import conflicts
from orgs.services.compare import Comparing, Run, Seen, failures, in_groups
from orgs.services.conclude import Reconciliation, conclude
from orgs.services.coverage import (
    add_derived,
    note_listed_in_full,
    resources_to_compare,
    retry_refused,
)
from orgs.services.pages import CursorLost, count_waiting, is_cursor_lost
from orgs.services.reconcile_resources import Clock, ResourceRun, domains_of
from orgs.services.refresh import Lookups, WrongEnvironment
from orgs.services.stream import DrainReport, drain_to_end
from orgs.workos import WorkOSError, read_ahead, read_organizations

logger = logging.getLogger(__name__)

#: The new position of a lost cursor lies so much before the run, beside the hold-back window:
#: applying events again is harmless.
_OVERLAP = timedelta(minutes=5)

#: So much later another process may begin, if the one that runs is killed.
_LEASE_SECONDS = 120.0

_THREADS = 8
_CHUNK = 1_000

#: It waits for its share of requests as long as that takes.
_PATIENCE = float("inf")


def reconcile(run: Run, *, drain_events: bool = True) -> Reconciliation:
    """Drain the events, compare every organization, repair, and push write-backs.

    A lost cursor is recovered: what happened meanwhile is in the list, and the stream goes on from
    before it. May be repeated, interrupted, and run concurrently with anything. Errors while
    comparing are in the report. Raises ``WrongEnvironment`` before anything is written, another
    ``WorkOSError`` for an error of the stream, and ``django.db.Error``.
    """
    if run.dry:
        return _FullRun(run).reconcile(drain_events=drain_events)
    ensure_cursor()
    with Lease.SNAPSHOT.auto_renewed(_LEASE_SECONDS) as is_alone:
        if not is_alone:
            logger.warning("another process reconciles too; this run goes on beside it")
        return _FullRun(run).reconcile(drain_events=drain_events)


def reconcile_unless_busy(run: Run, *, only_if_lost: bool = False) -> Reconciliation | None:
    """Reconcile, unless another process does; then return None. ``only_if_lost`` also returns None
    if the cursor is not lost. A run of everything first reads refused types of events again."""
    ensure_cursor()
    with Lease.SNAPSHOT.auto_renewed(_LEASE_SECONDS) as is_alone:
        if not is_alone or (only_if_lost and not is_cursor_lost(patience=_PATIENCE)):
            return None
        if not (only_if_lost or run.resources):
            # Under the lease: while it is held, the watch knows that waiting is no standstill.
            retry_refused(patience=_PATIENCE)
        return _FullRun(run).reconcile(drain_events=True)


# One full run -------------------------------------------------------------------------------


class _FullRun:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.lookups = Lookups(patience=_PATIENCE, dry=run.dry)
        self.comparing = Comparing(run, self.lookups)
        self.report = self.comparing.report
        self.organizations = 0
        self.resources: dict[str, ResourceRun] = {}
        self.covered: frozenset[str] = frozenset()
        with self.lookups.reading():
            self.began_at = database_now()
        self.window = timedelta(seconds=sync_settings().hold_back_window)

    @property
    def recent_after(self) -> datetime:
        """What changed since may have been listed too early, and has its event. If WorkOS's clock
        is ahead of the database's, its changes are too."""
        return max(self.began_at, self.lookups.workos_date or self.began_at) - self.window

    def reconcile(self, *, drain_events: bool) -> Reconciliation:
        with self._noting_what_ends_it():
            if not self._is_verified():
                self._note_result(is_full=True)
                return conclude(self.comparing, DrainReport(), 0, only=())
            events, lost = self._drain() if drain_events else (DrainReport(), None)
            with self.lookups.reading():
                state = read_cursor()
            names, self.covered = resources_to_compare(self.run.resources, state), state.covered
            self.resources = {name: self._resource_run(name) for name in names if name in PLAIN}
            is_full = ORGANIZATION in names or lost is not None
            if is_full:
                self._compare_all(lost)
            self._compare_resources()
            if {ORGANIZATION, "connection", "directory"} & {*names}:
                add_derived(self.report, dry=self.run.dry)
            self._note_result(is_full=is_full)
            if lost is not None and not self.run.dry and read_cursor().position != lost.position:
                events = drain_to_end(patience=_PATIENCE)
            others = tuple(self.resources.values())
            reconciliation = conclude(
                self.comparing, events, self.organizations, lost=lost, others=others
            )
            if self._compared_everything():
                # What changed later may have been left to its event.
                conflicts.remove_ledger_refused(self.recent_after)
            if drain_events and reconciliation.write_backs.pushed:
                _read_echoes(events)
        return reconciliation

    def _compared_everything(self) -> bool:
        runs = self.resources.values()
        reports = [self.report, *(one.report for one in runs)]
        return not (
            self.run.dry
            or self.run.resources
            or any(report.errors or failures(report) for report in reports)
            or any(one.not_listed or one.stopped_after is not None for one in runs)
        )

    def _is_verified(self) -> bool:
        """An error of the list is reported, and nothing is written: nothing is verified then."""
        try:
            self.lookups.verify_environment()
        except WrongEnvironment:
            raise
        except WorkOSError as error:
            self.report.errors.append(
                f"{_said(error)}; 0 organizations were compared, none disabled"
            )
            return False
        return True

    def _drain(self) -> tuple[DrainReport, CursorLost | None]:
        try:
            if not self.run.dry:
                return drain_to_end(patience=_PATIENCE), None
            with self.lookups.reading():
                start = read_cursor()
            waiting = count_waiting(start, patience=_PATIENCE)
            with self.lookups.reading():
                seen = WorkOSEvent.objects.parked().filter(id__in=waiting.placeless).count()
            return DrainReport(waiting=waiting.count - seen), None
        except CursorLost as lost:
            logger.critical("the cursor is lost: %s; reconciling in full", lost)
            return DrainReport(), lost

    def _compare_all(self, lost: CursorLost | None) -> None:
        """Compare what is listed, then what is missing. A list that is complete repairs a lost
        cursor, whatever the missing ones wait for."""
        try:
            seen = self._compare_listed()
            if lost is not None and not self.run.dry and not self.report.errors:
                self._replace(lost)
            self._resolve_missing(seen)
        except (WorkOSError, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not is_passing(error):
                raise
            # What was repaired is repaired, and is to be reported.
            self.report.errors.append(
                f"{_said(error)}; {self.organizations} organizations were compared, "
                f"{self.report.counts[Outcome.DISABLED] or 'none'} disabled"
            )

    def _resource_run(self, name: str) -> ResourceRun:
        # Of a resource that is not covered, the events before the listing may not have been read.
        is_covered, clock = name in self.covered, Clock(self.began_at)
        return ResourceRun(
            self.run,
            self.lookups,
            PLAIN[name],
            clock,
            is_covered=is_covered,
            recent_after=self.recent_after if is_covered else None,
        )

    def _compare_resources(self) -> None:
        for name, one in self.resources.items():
            with reporting_errors(one):
                if not one.is_finished:
                    one.compare_all(after=self._go_on_after(name))
                one.resolve_missing()
            if not self.run.dry:
                self._note_compared(name, one)

    def _go_on_after(self, name: str) -> str:
        if self.run.scope_seconds is None or name not in self.covered:
            # Where a run stopped before it was covered, nobody knows what was missed since.
            return ""
        return str(read_cursor().progress.get(name, ""))

    def _note_compared(self, name: str, one: ResourceRun) -> None:
        if self.run.scope_seconds is not None:
            note_progress(name, one.stopped_after)
        is_incomplete = one.report.errors or one.not_listed or failures(one.report)
        if not is_incomplete and one.stopped_after is None:
            note_listed_in_full(name, was_covered=name in self.covered)

    def _note_result(self, *, is_full: bool) -> None:
        """Note what is wrong with any resource, or else that all organizations are compared."""
        if self.run.dry:
            return
        reports = [self.report, *(one.report for one in self.resources.values())]
        failed = sum(report.counts[Outcome.FAILED] for report in reports)
        if errors := [e for report in reports for e in (*report.errors, *failures(report))]:
            kind = ReadError.WRITES_REFUSED if failed else ""
            _note_incomplete(one_line(errors[0]), kind, failed)
            return
        if not is_full:
            return
        try:
            note_reconciled(self.began_at, self.report.drift)
        except DatabaseError as error:
            if not is_passing(error):
                raise
            self.report.errors.append(f"that it is complete could not be noted: {_said(error)}")

    def _compare_listed(self) -> "Seen":
        seen, domains = Seen(), self.resources.get(DOMAIN.name)
        began_at = self.began_at
        with closing(read_ahead(self._read, None)) as pages:
            for page in pages:
                self.lookups.workos_date = self.lookups.workos_date or page.date
                new = seen.add(page.observations)
                self.organizations += len(new)
                self.comparing.compare(new, recent_after=self.recent_after)
                self.run.progress(ORGANIZATION, self.organizations)
                if domains is not None:
                    found = [domain for listed in new for domain in domains_of(listed)]
                    domains.add_page(found, began_at)
                    began_at = domains.clock.now()
        if domains is not None:
            domains.finish(self.began_at)
        self.comparing.retry_locked()
        seen.sort()
        return seen

    def _read(self, position: str | None) -> ObjectPage:
        return read_organizations(position, patience=_PATIENCE)

    def _replace(self, lost: CursorLost) -> None:
        overlap = (self.window + _OVERLAP).total_seconds()
        moved_to = replace_lost(
            lost.position,
            began_at=self.began_at,
            workos_date=self.lookups.workos_date,
            overlap=overlap,
        )
        if moved_to is not None:
            logger.critical("the cursor was lost; the stream goes on from %s", moved_to)
        elif read_cursor().position == lost.position:
            self.report.errors.append("the lost cursor can't be replaced: its row is left as it is")

    def _resolve_missing(self, seen: "Seen") -> None:
        """Ask for each linked row that was not listed, and only then disable any."""
        with self.lookups.reading():
            linked = Organization.objects.live().count()
        unseen = self._unseen(Organization.objects.live(), seen)
        missing = self._missing(unseen, self.run.limit.allows(linked))
        if not self.comparing.are_few_enough(missing, self.organizations):
            return
        # These are disabled already: that they are deleted in WorkOS too is all there is to note.
        missing += self._missing(self._unseen(Organization.objects.disabled_here(), seen))
        in_conflict = self._missing(self._unseen_conflicts(seen))
        if self.report.errors or not (missing or in_conflict):
            return
        if self.lookups.proves_absence({*missing, *in_conflict}):
            self.comparing.disable(dict.fromkeys((*missing, *in_conflict)))
            self.comparing.retry_locked()
        else:
            self.comparing.leave_unproven(missing)

    def _missing(self, unseen: Iterable[str], limit: int | None = None) -> list[str]:
        """The WorkOS ids that WorkOS answers 404 for; one more than the limit is enough to know
        that it is exceeded."""
        missing: list[str] = []
        for workos_id, answer in self._answers(unseen):
            if isinstance(answer, workos.Refused):
                reason = f"WorkOS refuses to say whether it exists: {answer}"
                self.comparing.leave_unproven([workos_id], reason)
            elif answer.state is State.ABSENT:
                missing.append(workos_id)
            elif not self._is_recent(answer):
                self.report.errors.append(
                    f"the list is not complete: {workos_id} exists and was not in it; "
                    f"{self.organizations} organizations were compared, none disabled"
                )
                return []
            if limit is not None and len(missing) > limit:
                break
        return missing

    def _answers(
        self, workos_ids: Iterable[str]
    ) -> Iterator[tuple[str, Observation | workos.Refused]]:
        with ThreadPoolExecutor(_THREADS) as threads:
            for group in in_groups(workos_ids, _THREADS):
                yield from zip(group, threads.map(self._ask, group), strict=True)

    def _ask(self, workos_id: str) -> Observation | workos.Refused:
        try:
            return self.lookups.look_up(workos_id)
        except workos.Refused as refusal:
            return refusal

    def _is_recent(self, observation: Observation) -> bool:
        """It may have been created after its place in the list was read."""
        fields = observation.fields
        updated_at = fields.updated_at if fields else None
        return is_in_flight(None, updated_at, self.recent_after)

    def _unseen(self, organizations: models.QuerySet[Organization], seen: "Seen") -> Iterator[str]:
        last = ""
        while True:
            with self.lookups.reading():
                linked = organizations.filter(id__gt=last).order_by("id")
                chunk = list(linked.values_list("id", "workos_id")[:_CHUNK])
            if not chunk:
                return
            last = chunk[-1][0]
            for id_, workos_id in chunk:
                if workos_id and id_ not in self.report.claimed and workos_id not in seen:
                    yield workos_id

    def _unseen_conflicts(self, seen: "Seen") -> list[str]:
        """No missing row solves the conflict of an organization that has none."""
        with self.lookups.reading():
            stored = WorkOSConflict.objects.exclude(kind=ConflictKind.LEDGER_REFUSED)
            return [conflict.pk for conflict in stored if conflict.pk not in seen]

    @contextmanager
    def _noting_what_ends_it(self) -> Iterator[None]:
        """Around a run: what ends it is also to be seen where people look."""
        try:
            yield
        except (WorkOSError, DatabaseError) as error:
            if not self.run.dry:
                _note_incomplete(_said(error), getattr(error, "kind", ""))
            raise


@contextmanager
def reporting_errors(one: ResourceRun) -> Iterator[None]:
    """Around the comparison of one resource: an error is reported, and does not stop the others."""
    try:
        yield
    except (WorkOSError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and not is_passing(error):
            raise
        if one.is_covered:
            one.report.errors.append(f"{one.resource.name}: {_said(error)}")
        else:
            # It stays uncovered, which is a warning: what is covered is not in doubt.
            one.not_listed = _said(error)


def _read_echoes(events: DrainReport) -> None:
    """WorkOS lists our own write-backs as updates; what is listed of them already is read now.

    What is parked with them is added to ``events``.
    """
    try:
        parked = drain_to_end(patience=_PATIENCE).parked
        events.changes += parked
        events.counts[Outcome.PARKED] += len(parked)
    except (CursorLost, WorkOSError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and not is_passing(error):
            raise
        logger.warning("the events of our write-backs are left to the worker: %s", _said(error))


def _note_incomplete(error: str, kind: str, failed: int = 0) -> None:
    try:
        note_incomplete(error, kind=kind, failed=failed)
    except DatabaseError as unnoted:
        logger.warning("that the run is incomplete could not be noted: %s", describe(unnoted))


def _said(error: Exception) -> str:
    return describe(error) if isinstance(error, DatabaseError) else one_line(error)
