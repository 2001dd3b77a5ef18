"""Compares organizations and the other resources of WorkOS with the mirror, and repairs drift.

After an interruption, run it again: what is repaired already costs only reads. No organization is
disabled before WorkOS was asked for each one that is missing.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from math import inf

from django.db import DatabaseError, connection

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import cursor
from orgs.db.cursor import CursorState, ensure_cursor, read_cursor
from orgs.db.errors import describe, is_passing
from orgs.db.leases import Lease
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import one_line
from orgs.domain.resources import DOMAIN, ORGANIZATIONS, PLAIN, scopes_of
from orgs.domain.status import ReadError
from orgs.domain.types import ORGANIZATION, ConflictKind, Outcome, Position
from orgs.models import Organization, SyncCursor, WorkOSConflict
from orgs.services import conflicts, coverage
from orgs.services.compare import Comparison, Run, why_incomplete
from orgs.services.conclude import Reconciliation, conclude
from orgs.services.lookups import Lookups, WrongEnvironment, live_rows
from orgs.services.pages import CursorLost, count_waiting
from orgs.services.reconcile_resources import ResourceComparison, domains_of
from orgs.services.refusals import reporting, text_of
from orgs.services.stream import DrainReport, drain_to_end
from orgs.workos import BrokenAnswer, WorkOSError, read_ahead, read_organizations

logger = logging.getLogger(__name__)

#: The new position of a lost cursor lies the hold-back window and this much before the run:
#: applying events again is harmless.
_OVERLAP = timedelta(minutes=5)

#: How long the lease of a process that was killed keeps others away.
_LEASE_SECONDS = 60.0


def reconcile(run: Run, *, drain_events: bool = True) -> Reconciliation:
    """Drain the stream if ``drain_events``, compare what ``run`` names, repair, push write-backs.

    A lost cursor is recovered: the lists show what happened meanwhile, and the stream goes on from
    before they were read. May be repeated, interrupted, and run concurrently with anything. Errors
    of the stream, or while comparing, are in the report. Raises ``WrongEnvironment`` before
    anything is written, another ``WorkOSError`` that every call would raise,
    ``coverage.SettingsDiffer`` and ``django.db.Error``.
    """
    if run.dry:
        return _FullRun(run).reconcile(drain_events=drain_events)
    ensure_cursor()
    with Lease.SNAPSHOT.auto_renewed(_LEASE_SECONDS) as is_alone:
        if not is_alone:
            logger.warning("another process reconciles too; this run goes on beside it")
        return _FullRun(run).reconcile(drain_events=drain_events)


def reconcile_unless_busy(run: Run, *, only_if_lost: bool = False) -> Reconciliation | None:
    """Reconcile; return None if another process does so already. With ``only_if_lost``, reconcile
    only if the last read found the cursor lost, and return None otherwise. Otherwise a run of every
    resource first reads refused types of events again."""
    ensure_cursor()
    is_daily = not (only_if_lost or run.resources)
    if is_daily:
        # A cover that has the lease enqueues it again when it ends.
        cursor.note_listed(cursor.RUN_WANTED)
    with Lease.SNAPSHOT.auto_renewed(_LEASE_SECONDS) as is_alone:
        lost = SyncCursor.objects.filter(last_trouble=ReadError.CURSOR_LOST)
        with bounded_transaction():
            is_lost = lost.exists()
        if not is_alone or (only_if_lost and not is_lost):
            return None
        if is_daily:
            # Inside the lease: as long as it lasts, ``sync_worker`` takes no worker for stuck.
            coverage.retry_refused()
        return _FullRun(run).reconcile(drain_events=True)


# One full run -------------------------------------------------------------------------------


class _FullRun:
    def __init__(self, run: Run) -> None:
        self.run = run
        # It waits for its share of requests as long as that takes.
        self.lookups = Lookups(patience=inf, dry=run.dry)
        self.began_at = self.lookups.now()
        self.window = timedelta(seconds=sync_settings().hold_back_window)
        self.organizations = Comparison(run, self.lookups)
        self.report = self.organizations.report
        self.resources: dict[str, ResourceComparison] = {}
        self.state = CursorState(Position(), None, self.began_at)
        self.refused = set[str]()

    @property
    def recent_after(self) -> datetime:
        """What changed after this is left to its event: it may have been listed too early. By the
        later of WorkOS's clock and the database's."""
        return max(self.began_at, self.lookups.workos_date or self.began_at) - self.window

    @property
    def comparisons(self) -> list[Comparison]:
        """What is compared, in this order: organizations, and the other resources."""
        return [self.organizations, *self.resources.values()]

    @property
    def why_incomplete(self) -> list[str]:
        """Why not everything was compared and repaired."""
        return [text for one in self.comparisons for text in why_incomplete(one.report)]

    def reconcile(self, *, drain_events: bool) -> Reconciliation:
        try:
            return self._reconcile(drain_events=drain_events)
        except (WorkOSError, DatabaseError) as error:
            # What ends it is also to be seen where people look.
            self._note_incomplete(text_of(error), getattr(error, "kind", ""))
            raise

    def _reconcile(self, *, drain_events: bool) -> Reconciliation:
        try:
            self.lookups.verify_environment()
        except WrongEnvironment:
            raise
        except WorkOSError as error:
            # Nothing is verified, so nothing is written.
            self._note_stopped(text_of(error))
            self._note_result(is_full=True)
            return conclude(self.organizations, (), DrainReport(), only=())
        events, lost = self._drain() if drain_events else (DrainReport(), None)
        self.state = self._read_cursor()
        names = coverage.resources_to_compare(self.run.resources, self.state)
        self.resources = {name: self._resource_comparison(name) for name in names if name in PLAIN}
        is_full = ORGANIZATION in names or lost is not None
        if is_full:
            self._compare_organizations(lost)
        for one in self.resources.values():
            self._compare_resource(one)
        if {ORGANIZATION, "connection", "directory"} & {*names}:
            reports = [one.report for one in self.resources.values()]
            coverage.report_derived(self.report, reports, dry=self.run.dry)
        self._note_result(is_full=is_full and not self.run.resources)
        if lost is not None and not self.run.dry and read_cursor().position != lost.position:
            with reporting(events.errors.append, "the stream is not read to its end: {}"):
                drain_to_end(events)
        others = [*self.resources.values()]
        reconciliation = conclude(self.organizations, others, events, lost=lost)
        if self._compared_everything():
            # What changed later may have been left to its event.
            conflicts.remove_ledger_refused(self.recent_after)
        if drain_events and reconciliation.write_backs.pushed:
            _read_own_updates(events)
        return reconciliation

    def _compared_everything(self) -> bool:
        if self.run.dry or self.run.resources or self.why_incomplete:
            return False
        return not any(one.is_incomplete() for one in self.resources.values())

    def _note_stopped(self, text: str) -> None:
        self.report.errors.append(
            f"{text}; {self.organizations.listed} organizations were compared, "
            f"{self.report.counts[Outcome.DISABLED] or 'none'} disabled"
        )

    def _drain(self) -> tuple[DrainReport, CursorLost | None]:
        """Drain, or count what waits. What stops the stream alone does not stop the run: its events
        are older than the lists, and are stale, or followed by newer ones, once they are read."""
        report = DrainReport()
        try:
            if self.run.dry:
                report.waiting = count_waiting(self._read_cursor())
            else:
                drain_to_end(report)
        except coverage.TypesRefused as refusal:
            # Of a dry run: another run notes them.
            self.refused |= {*refusal.types}
            return self._drain()
        except CursorLost as lost:
            logger.critical("the cursor is lost: %s; reconciling in full", lost.reason)
            return report, lost
        except (WorkOSError, DatabaseError) as error:
            is_of_all = isinstance(error, (*workos.SAME_FOR_ALL, WrongEnvironment))
            if is_of_all or (isinstance(error, DatabaseError) and not is_passing(error)):
                raise
            report.errors.append(f"the stream is not read to its end: {text_of(error)}")
        return report, None

    def _read_cursor(self) -> CursorState:
        with self.lookups.reading():
            state = read_cursor()
        return coverage.without(state, self.refused) if self.refused else state

    # Organizations --------------------------------------------------------------------------

    def _compare_organizations(self, lost: CursorLost | None) -> None:
        """Compare what is listed, then what is missing. In between, once the list is complete, the
        lost cursor is replaced, even if rows are locked or missing ones can't be resolved. An error
        is reported, and what was repaired before it stays so."""
        with reporting(self._note_stopped):
            is_read = self.state.types is None or ORGANIZATION in self.state.covered
            for one in self.comparisons:
                # Otherwise the events of recent changes may be lost too.
                one.leaves_recent = lost is None and is_read
            self._compare_listed()
            if lost is not None and not self.run.dry and not self.report.errors:
                self._replace_cursor(lost)
            # After that: a lock on one row must not keep the stream from going on.
            self.organizations.retry_locked()
            without_row = self.report.of(Outcome.CONFLICT, Outcome.FAILED)
            self.organizations.may_have_no_row |= {change.workos_id or "" for change in without_row}
            if not (self.run.dry or self.report.errors):
                coverage.note_listed_in_full(ORGANIZATION, self.state)
            self._resolve_missing()

    def _compare_listed(self) -> None:
        domains = self.resources.get(DOMAIN.name)
        with closing(read_ahead(partial(read_organizations, patience=inf), None)) as pages:
            for page in pages:
                self.lookups.workos_date = self.lookups.workos_date or page.date
                self.organizations.recent_after = self.recent_after
                began_at = self.lookups.at(page.read_began)
                self.organizations.add_page(page.observations, began_at)
                recent = filter(self.organizations.is_recent, page.observations)
                self.organizations.may_have_no_row |= {listed.workos_id or "" for listed in recent}
                if domains is not None:
                    try:
                        found = domains_of(page.observations)
                    except BrokenAnswer:
                        # They are listed once more, alone: there an error ends nothing else.
                        domains = None
                    else:
                        domains.add_page(found, began_at)
        if domains is not None:
            # Their own run asks for missing ones: an error there is not the organizations'.
            domains.listed_since = self.began_at
        self.organizations.seen.sort()

    def _replace_cursor(self, lost: CursorLost) -> None:
        moved_to = cursor.replace_lost(
            lost.position,
            began_at=self.began_at,
            workos_date=self.lookups.workos_date,
            overlap=(self.window + _OVERLAP).total_seconds(),
        )
        if moved_to is not None:
            logger.critical("the cursor was lost; the stream goes on from %s", moved_to)
            self._uncover()
        elif read_cursor().position == lost.position:
            self.report.errors.append("the lost cursor can't be replaced: its row is left as it is")

    def _uncover(self) -> None:
        """Go on as the cursor's row says: nothing other than organizations is covered."""
        self.state = read_cursor()
        for one in self.resources.values():
            one.is_covered, one.stopped_after = False, None
        coverage.derive_again()

    def _resolve_missing(self) -> None:
        """Ask for each linked row that was not listed, and only then disable any."""
        organizations, seen = self.organizations, self.organizations.seen
        organizations.ask_for(organizations.unlisted(live_rows(ORGANIZATIONS), seen))
        if organizations.exceeds_limit():
            return
        # These are disabled already: that they are deleted in WorkOS too is all there is to note.
        disabled = organizations.unlisted(Organization.objects.disabled_here(), seen)
        organizations.absent += organizations.absent_among(disabled)
        in_conflict = [*organizations.absent_among(self._unlisted_conflicts())]
        if not self.report.errors:
            organizations.remove_if_proven(in_conflict)
            organizations.retry_locked()

    def _unlisted_conflicts(self) -> Iterator[str]:
        """Yield the organizations with a conflict that were not listed: without a row, nothing else
        shows that they are deleted."""
        with self.lookups.reading():
            stored = [*WorkOSConflict.objects.exclude(kind=ConflictKind.LEDGER_REFUSED)]
        yield from (c.pk for c in stored if c.pk not in self.organizations.seen)

    # The others -----------------------------------------------------------------------------

    def _resource_comparison(self, name: str) -> ResourceComparison:
        is_covered = name in self.state.covered
        one = ResourceComparison(self.run, self.lookups, PLAIN[name], is_covered=is_covered)
        if one.is_covered:
            # Otherwise the events before the listing may not have been read, and where a run has
            # stopped, nobody knows what was missed since.
            one.recent_after = self.recent_after
            if self.run.scope_seconds is not None and scopes_of(name):
                # Also if an error ends it before the first of them is read.
                one.stopped_after = self.state.progress.get(name)
        return one

    def _compare_resource(self, one: ResourceComparison) -> None:
        one.comparisons = {each.name: each for each in self.comparisons}
        if not one.is_covered:
            one.followed_since = self.state.followed_since(one.name)
        one.compare_all()
        if self.run.dry:
            return
        if self.run.scope_seconds is not None:
            cursor.note_progress(one.name, one.stopped_after)
        for scope in () if one.is_covered else scopes_of(one.name):
            if coverage.may_lack_rows(scope, since=self.began_at):
                text = f"it is listed for each {scope}, and not every {scope} was listed"
                one.not_listed = one.not_listed or text
        if not (why_incomplete(one.report) or one.is_incomplete()):
            coverage.note_listed_in_full(one.name, self.state)

    # The result -----------------------------------------------------------------------------

    def _note_result(self, *, is_full: bool) -> None:
        """Note what is wrong with any resource, or else that all organizations are compared."""
        if found := self.why_incomplete:
            failed = sum(one.report.counts[Outcome.FAILED] for one in self.comparisons)
            self._note_incomplete(found[0], ReadError.WRITES_REFUSED if failed else "", failed)
        elif is_full and not self.run.dry:
            errors = self.report.errors
            with reporting(errors.append, "that it is complete could not be noted: {}"):
                cursor.note_reconciled(self.began_at, self.report.drift)

    def _note_incomplete(self, error: str, kind: str, failed: int = 0) -> None:
        # What a run of some resources could not read, it says, or it is tried again. Here it would
        # stay until all are compared.
        if self.run.dry or (self.run.resources and not failed):
            return
        # After an error of the connection, by a new one.
        connection.close_if_unusable_or_obsolete()
        try:
            cursor.note_incomplete(one_line(error), kind=kind, failed=failed)
        except DatabaseError as unnoted:
            logger.warning("that the run is incomplete could not be noted: %s", describe(unnoted))


def _read_own_updates(events: DrainReport) -> None:
    """WorkOS lists our own write-backs as updates; what is listed of them already is read now.

    What is parked with them is added to ``events``.
    """
    with reporting(logger.warning, "the events of our write-backs are left to the worker: {}"):
        parked = drain_to_end().parked
        events.changes += parked
        events.counts[Outcome.PARKED] += len(parked)
