"""Compares every organization of WorkOS with the mirror, and repairs what drifted.

Interrupted means: run it again; what was repaired costs only reads. Nothing is disabled before
every missing organization was asked for.
"""

import logging
import time
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, models

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import rows
from orgs.db.cursor import (
    database_now,
    ensure_cursor,
    note_incomplete,
    note_reconciled,
    read_cursor,
    replace_lost,
)
from orgs.db.errors import describe, is_passing
from orgs.db.leases import Lease
from orgs.domain.naming import is_storable, one_line
from orgs.domain.status import ReadError
from orgs.domain.types import ObjectPage, Observation, Outcome, Report, State
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services import outbox
from orgs.services.compare import Comparing, Run, counted, failures, in_groups
from orgs.services.outbox import WriteBackReport
from orgs.services.pages import CursorLost, count_waiting, is_cursor_lost
from orgs.services.refresh import Lookups
from orgs.services.stream import DrainReport, drain_to_end
from orgs.workos import WorkOSError, read_ahead, read_organizations

logger = logging.getLogger(__name__)

#: The new position of a lost cursor lies so much before the run, beside the hold-back window:
#: applying events again is harmless.
_OVERLAP = timedelta(minutes=5)

#: So much later another process may begin, if the one that runs is killed.
_LEASE_SECONDS = 120.0

_PUSH_SECONDS = 600.0

_THREADS = 8
_CHUNK = 1_000

#: It waits for its share of requests as long as that takes.
_PATIENCE = float("inf")


class UnknownOrganization(Exception):
    """Neither the mirror nor WorkOS knows an organization by that id."""


class WrongEnvironment(WorkOSError):
    """WorkOS lists none of the organizations that rows are linked to."""

    kind = ReadError.WRONG_ENVIRONMENT


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run found and, unless it was a dry one, did."""

    events: DrainReport
    snapshot: Report
    write_backs: WriteBackReport
    organizations: int
    """How many organizations WorkOS listed, or was asked for."""
    cursor: str | None
    """The last event applied, when the run ended."""
    due_write_backs: int = 0
    """Of a dry run: write-backs that a repair would attempt."""
    lost: CursorLost | None = None
    """The cursor was lost; a run that repairs has moved it, if the list was complete."""

    @property
    def in_sync(self) -> bool:
        """Whether there was nothing to repair: neither here nor at WorkOS."""
        return not (
            self.events.moved_rows
            or self.events.waiting
            or self.snapshot.found_drift
            or self.lost
            or self.due_write_backs
            or self.write_backs.pushed
            or self.errors
        )

    @property
    def errors(self) -> list[str]:
        """Why not everything is repaired; empty if it is."""
        errors = [*self.snapshot.errors, *failures(self.snapshot)]
        if failed := self.write_backs.failed:
            errors.append(
                f"{counted(failed, 'write-back')} failed and will be tried again; "
                "see the external_id write-backs"
            )
        if self.write_backs.is_cut_short:
            errors.append("some write-backs are left for the worker: there was no time for them")
        return errors


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
    if the cursor is not lost."""
    ensure_cursor()
    with Lease.SNAPSHOT.auto_renewed(_LEASE_SECONDS) as is_alone:
        if not is_alone or (only_if_lost and not is_cursor_lost()):
            return None
        return _FullRun(run).reconcile(drain_events=True)


# One full run -------------------------------------------------------------------------------


class _FullRun:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.lookups = Lookups(patience=_PATIENCE, dry=run.dry)
        self.comparing = Comparing(run, self.lookups)
        self.report = self.comparing.report
        self.organizations = 0
        self.workos_date: datetime | None = None
        with self.lookups.reading():
            self.began_at = database_now()
        window = timedelta(seconds=sync_settings().hold_back_window)
        #: What changed since may have been listed too early, and has its event.
        self.recent_after = self.began_at - window
        self.overlap = window + _OVERLAP

    def reconcile(self, *, drain_events: bool) -> Reconciliation:
        with self._noting_what_ends_it():
            self._verify_environment()
            events, lost = self._drain() if drain_events else (DrainReport(), None)
            self._compare_all(lost)
            if lost is not None and not self.run.dry and read_cursor().position != lost.position:
                events = drain_to_end()
            reconciliation = _conclude(self.comparing, events, self.organizations, lost=lost)
            if drain_events and reconciliation.write_backs.pushed:
                _read_echoes(events)
        return reconciliation

    def _verify_environment(self) -> None:
        """Find an organization in WorkOS's list that a row is linked to, before anything is
        written: the key may be of another environment, the address of another server."""
        with self.lookups.reading():
            if not Organization.objects.live().exists():
                return
        with closing(read_ahead(self._read, None)) as pages:
            for page in pages:
                with self.lookups.reading():
                    found = rows.linked(o.workos_id for o in page.observations if o.workos_id)
                if found:
                    self.lookups.candidates = sorted(found)[:3]
                    return
        raise WrongEnvironment(
            "WorkOS lists none of the organizations that rows are linked to: WORKOS_API_KEY is of "
            "another environment, or WORKOS_BASE_URL is wrong; nothing was written"
        )

    def _drain(self) -> tuple[DrainReport, CursorLost | None]:
        try:
            if not self.run.dry:
                return drain_to_end(), None
            with self.lookups.reading():
                start = read_cursor()
            waiting = count_waiting(start)
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
        if not self.run.dry:
            self._note_result()

    def _note_result(self) -> None:
        failed = self.report.counts[Outcome.FAILED]
        if errors := [*self.report.errors, *failures(self.report)]:
            kind = ReadError.WRITES_REFUSED if failed else ""
            _note_incomplete(one_line(errors[0]), kind, failed)
        else:
            note_reconciled(self.began_at, drift=len(self.report.drift))

    def _compare_listed(self) -> "_Seen":
        seen = _Seen()
        with closing(read_ahead(self._read, None)) as pages:
            for page in pages:
                self.workos_date = self.workos_date or page.date
                new = seen.add(page.observations)
                self.organizations += len(new)
                self.comparing.compare(new, recent_after=self.recent_after)
                self.run.progress(self.organizations)
        self.comparing.retry_locked()
        seen.sort()
        return seen

    def _read(self, position: str | None) -> ObjectPage:
        return read_organizations(position, patience=_PATIENCE)

    def _replace(self, lost: CursorLost) -> None:
        overlap = self.overlap.total_seconds()
        moved_to = replace_lost(
            lost.position,
            began_at=self.began_at,
            workos_date=self.workos_date,
            overlap=overlap,
        )
        if moved_to is not None:
            logger.critical("the cursor was lost; the stream goes on from %s", moved_to)

    def _resolve_missing(self, seen: "_Seen") -> None:
        """Ask for each linked row that was not listed, and only then disable any."""
        with self.lookups.reading():
            linked = Organization.objects.live().count()
        missing = self._missing(Organization.objects.live(), seen, self.run.limit.allows(linked))
        if not self.comparing.are_few_enough(missing, self.organizations):
            return
        # These are disabled already: that they are deleted in WorkOS too is all there is to note.
        missing += self._missing(Organization.objects.disabled_here(), seen, None)
        if self.report.errors or not missing:
            return
        if self.lookups.proves_absence(set(missing)):
            self.comparing.disable(missing)
            self.comparing.retry_locked()
        else:
            self.comparing.leave_unproven(missing)

    def _missing(
        self, organizations: models.QuerySet[Organization], seen: "_Seen", limit: int | None
    ) -> list[str]:
        """The WorkOS ids that were not listed, and that WorkOS answers 404 for; one more than the
        limit is enough to know that it is exceeded."""
        missing: list[str] = []
        for workos_id, answer in self._answers(self._unseen(organizations, seen)):
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
        return fields is not None and fields.updated_at > self.recent_after

    def _unseen(self, organizations: models.QuerySet[Organization], seen: "_Seen") -> Iterator[str]:
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

    @contextmanager
    def _noting_what_ends_it(self) -> Iterator[None]:
        """Around a run: what ends it is also to be seen where people look."""
        try:
            yield
        except (WorkOSError, DatabaseError) as error:
            if not self.run.dry:
                _note_incomplete(_said(error), getattr(error, "kind", ""))
            raise


class _Seen:
    """The WorkOS ids that were listed, as 64-bit hashes: 8 bytes each.

    Two ids of one hash would hide a missing organization until the next run, by another hash.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._last_page: set[str] = set()

    def add(self, observations: Sequence[Observation]) -> list[Observation]:
        """Add a page; return those that the page before did not list too, as when one moves on."""
        new = [o for o in observations if o.workos_id and o.workos_id not in self._last_page]
        self._last_page = {o.workos_id for o in observations if o.workos_id}
        self._hashes.extend(hash(o.workos_id) for o in new)
        return new

    def sort(self) -> None:
        """Call it after the last ``add``, before ``in``."""
        self._hashes = array("q", sorted(self._hashes))

    def __contains__(self, workos_id: str) -> bool:
        place = bisect_left(self._hashes, hash(workos_id))
        return place < len(self._hashes) and self._hashes[place] == hash(workos_id)


# Single organizations -----------------------------------------------------------------------


def reconcile_organizations(
    run: Run, ids: Sequence[str], *, deadline: float | None = None
) -> Reconciliation:
    """Compare and repair only these, by WorkOS id or by Gram id, and push their write-backs.

    Recent differences are applied too. If not all could be asked for by ``deadline``, a time of
    ``time.monotonic()``, nothing is done and it raises ``workos.Unavailable``. An id that neither
    side knows is an error in the report; if that is all, it raises ``UnknownOrganization``. Raises
    ``WorkOSError`` and ``django.db.Error``. May be repeated and run concurrently.
    """
    patience = _PATIENCE if deadline is None else 0.0
    comparing = Comparing(run, Lookups(patience=patience, dry=run.dry))
    found: dict[str, Observation] = {}
    in_mirror_alone = 0
    for id_ in dict.fromkeys(ids):
        if deadline is not None and time.monotonic() > deadline:
            raise workos.Unavailable("WorkOS answers too slowly for so many at once; choose fewer")
        try:
            named = _find(comparing.lookups, id_)
        except (UnknownOrganization, workos.Refused) as unknown:
            comparing.report.errors.append(one_line(unknown))
            continue
        in_mirror_alone += not named
        found |= named
    if comparing.report.errors and not found and not in_mirror_alone:
        raise UnknownOrganization("; ".join(comparing.report.errors))
    comparing.report.counts[Outcome.UNCHANGED] += in_mirror_alone
    comparing.compare([o for o in found.values() if o.state is not State.ABSENT])
    comparing.retry_locked()
    organizations = len(found) + in_mirror_alone
    _disable_missing(comparing, found, organizations)
    touched = {c.organization_id for c in comparing.report.changes if c.organization_id}
    return _conclude(comparing, DrainReport(), organizations, only=touched)


def _disable_missing(
    comparing: Comparing, found: dict[str, Observation], organizations: int
) -> None:
    missing = [workos_id for workos_id, o in found.items() if o.state is State.ABSENT]
    if not missing or not comparing.are_few_enough(missing, organizations):
        return
    if comparing.lookups.proves_absence(set(missing)):
        comparing.disable(missing)
        comparing.retry_locked()
    else:
        comparing.leave_unproven(missing)


def _find(lookups: Lookups, id_: str) -> dict[str, Observation]:
    """The organizations that an id of either kind is about, by WorkOS id.

    More than one if the row's own is deleted and another one names the row; none if the mirror
    alone knows it.
    """
    if not is_storable(id_.strip()):
        raise UnknownOrganization(f"{id_!r} is not the id of an organization")
    with lookups.reading():
        row = Organization.objects.by_either_id(id_).first()
    if row is None:
        return {id_: _find_in_workos(lookups, id_)}
    found: dict[str, Observation] = {}
    if row.workos_id is not None:
        found[row.workos_id] = lookups.look_up(row.workos_id)
        if found[row.workos_id].state is not State.ABSENT:
            return found
    if new_owner := lookups.new_owner(row.id):
        found[new_owner.workos_id or ""] = new_owner
    return found


def _find_in_workos(lookups: Lookups, id_: str) -> Observation:
    observation = lookups.look_up(id_)
    if observation.state is State.ABSENT:
        named = lookups.new_owner(id_)
        if named is None:
            raise UnknownOrganization(f"neither the mirror nor WorkOS knows an organization {id_}")
        return named
    return observation


# The end of both ----------------------------------------------------------------------------


def _conclude(
    comparing: Comparing,
    events: DrainReport,
    organizations: int,
    *,
    only: Collection[str] | None = None,
    lost: CursorLost | None = None,
) -> Reconciliation:
    """Push what is due, and say what everything came to."""
    patience = min(comparing.lookups.patience, _PUSH_SECONDS)
    due, pushed = 0, WriteBackReport()
    if not comparing.run.dry:
        pushed = outbox.push_due(
            deadline=time.monotonic() + _PUSH_SECONDS, only=only, patience=patience
        )
    with comparing.lookups.reading():
        cursor = read_cursor().position.last_event_id
        if comparing.run.dry and only is None:
            due = ExternalIdWriteBack.objects.due().count()
    return Reconciliation(events, comparing.report, pushed, organizations, cursor, due, lost)


def _read_echoes(events: DrainReport) -> None:
    """WorkOS lists our own write-backs as updates; what is listed of them already is read now.

    What is parked with them is added to ``events``.
    """
    try:
        parked = drain_to_end().parked
        events.changes += parked
        events.counts[Outcome.PARKED] += len(parked)
    except (CursorLost, WorkOSError, DatabaseError) as error:
        if isinstance(error, DatabaseError) and not is_passing(error):
            raise
        logger.warning("the events of our write-backs are left to the worker: %s", one_line(error))


def _note_incomplete(error: str, kind: str, failed: int = 0) -> None:
    try:
        note_incomplete(error, kind=kind, failed=failed)
    except DatabaseError as unnoted:
        logger.warning("that the run is incomplete could not be noted: %s", describe(unnoted))


def _said(error: Exception) -> str:
    return describe(error) if isinstance(error, DatabaseError) else one_line(error)
