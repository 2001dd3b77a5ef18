"""Compares every organization of WorkOS with the mirror, and repairs what drifted.

A page at a time: compared without locks first; only where something differs it is locked, decided
again and written, in a transaction of its own. Interrupted means: run it again. No transaction is
open while WorkOS is asked, and a dry run's transactions are read-only to PostgreSQL too.
"""

import logging
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b

from django.db import DatabaseError, models

from orgs import workos
from orgs.conf import sync_settings
from orgs.drift import (
    LEFT_ALONE,
    Change,
    Comparison,
    Unreadable,
    compare,
    compare_absent,
)
from orgs.models import Organization, WorkOSEvent
from orgs.resolution import Outcome, RemoteOrganization, Row, touched_ids
from orgs.services import drain, write_back
from orgs.services.cursor import (
    Lease,
    ensure_cursor,
    note_reconciled,
    replace_lost,
    standing,
)
from orgs.services.drain import CursorLost, DrainReport
from orgs.services.faults import is_contents_fault, is_passing, retry_races
from orgs.services.mirror import (
    load_rows,
    lock_rows,
    pending_write_backs,
    write_plan,
)
from orgs.services.paging import read_ahead
from orgs.services.snapshots import is_gone
from orgs.services.transactions import bounded_transaction, read_only_transaction
from orgs.services.write_back import WriteBackReport
from orgs.workos import OrganizationPage, Position, WorkOSTrouble

logger = logging.getLogger(__name__)

Listed = RemoteOrganization | Unreadable

#: The new position of a lost cursor lies so much before the snapshot, beside the hold-back window:
#: clocks differ, and applying events again is harmless.
_OVERLAP = timedelta(minutes=5)

_LEASE_SECONDS = 120.0
_RENEW_SECONDS = 30.0

_PUSH_SECONDS = 600.0

_THREADS = 8
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class DisableLimit:
    """How many organizations may turn out to be gone before that is taken for a broken answer."""

    rows: int = 10
    percent: float = 1.0

    def allows(self, linked: int) -> int:
        """The larger of the two: so many rows, or so many per cent of the linked ones."""
        return max(self.rows, int(linked * self.percent / 100))


@dataclass(slots=True)
class SnapshotReport:
    """What differed. Counts are of organizations that WorkOS listed, or was asked for."""

    organizations: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """Why the snapshot did not do all it should; empty if it did."""

    def add(self, comparison: Comparison) -> None:
        self.counts += comparison.counts
        self.changes += comparison.changes

    def add_conflict(self, organization: Listed, reason: str) -> None:
        self.counts[Outcome.CONFLICT.value] += 1
        conflict = Outcome.CONFLICT.value
        self.changes.append(Change(None, organization.workos_id, conflict, reason=reason))

    @property
    def found_drift(self) -> bool:
        return any(change.change not in LEFT_ALONE for change in self.changes)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run found and, unless it was a dry one, did."""

    events: DrainReport
    snapshot: SnapshotReport
    write_backs: WriteBackReport
    lost: CursorLost | None = None
    """The cursor was lost; a run that repairs has moved it, if the listing was complete."""

    @property
    def in_sync(self) -> bool:
        """Whether there was nothing to repair: neither here nor at WorkOS."""
        return not (
            self.events.moved_rows
            or self.snapshot.found_drift
            or self.snapshot.trouble
            or self.lost
            or self.write_backs.pushed
        )


Progress = Callable[[int], None]


def _no_progress(_: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to run: what ``now`` is, whether to write, and how much may be disabled."""

    now: datetime
    dry: bool = False
    limit: DisableLimit = DisableLimit()
    progress: Progress = _no_progress
    """Called with how many organizations were compared so far."""

    @property
    def young_after(self) -> datetime:
        return self.now - timedelta(seconds=sync_settings().hold_back_window)


def reconcile(run: Run, *, drain_events: bool = True) -> Reconciliation:
    """Drains the events, compares every organization, repairs, and pushes write-backs.

    A lost cursor is recovered: what happened meanwhile is in the snapshot, and the stream goes on
    from before it. May be repeated, interrupted, and run concurrently with anything; beside another
    snapshot it says so. Trouble with the snapshot is in its report. Raises
    ``workos.WorkOSTrouble`` for trouble with the events, and ``django.db.Error``.
    """
    if run.dry:
        return _reconcile(run, drain_events=drain_events)
    with _leased(run) as leased:
        if leased is None:
            logger.warning("another process is taking a snapshot; this one is taken beside it")
        return _reconcile(leased or run, drain_events=drain_events)


def reconcile_unless_busy(run: Run) -> Reconciliation | None:
    """The same, but leaves it to another process that is taking a snapshot, and returns None."""
    with _leased(run) as leased:
        return None if leased is None else _reconcile(leased, drain_events=True)


@contextmanager
def _leased(run: Run) -> Iterator[Run | None]:
    """Holds the snapshot's lease, and gives a run that keeps it as it goes; None if it is taken.

    Two snapshots at once are harmless, and wasteful.
    """
    ensure_cursor()
    held = Lease.SNAPSHOT.take(_LEASE_SECONDS)
    if held is None:
        yield None
        return
    renewed_at = time.monotonic()

    def progress(compared: int) -> None:
        nonlocal held, renewed_at
        if held is not None and time.monotonic() - renewed_at > _RENEW_SECONDS:
            held = Lease.SNAPSHOT.renew(held, _LEASE_SECONDS)
            renewed_at = time.monotonic()
        run.progress(compared)

    try:
        yield replace(run, progress=progress)
    finally:
        if held is not None:
            Lease.SNAPSHOT.release(held)


def _reconcile(run: Run, *, drain_events: bool) -> Reconciliation:
    events, lost = _drain(run) if drain_events else (DrainReport(), None)
    snapshot = SnapshotReport()
    _take_snapshot(run, snapshot, lost)
    if lost is not None and not run.dry and standing().position != lost.position:
        events = drain.drain_to_end()
    return Reconciliation(events, snapshot, _push(run), lost)


def reconcile_organizations(run: Run, ids: Sequence[str]) -> Reconciliation:
    """Compares and repairs only these, by WorkOS id or by Gram id, and pushes their write-backs.

    Young differences are applied too. Raises ``UnknownOrganization`` before anything is written,
    ``workos.WorkOSTrouble`` and ``django.db.Error``. May be repeated and run concurrently.
    """
    report = SnapshotReport()
    present: list[Listed] = []
    absent: list[str] = []
    for id_ in dict.fromkeys(ids):
        workos_id = _workos_id_of(run, id_)
        if workos_id is None:
            report.counts["unchanged"] += 1
            continue
        found = _ask(workos_id)
        if found is None:
            absent.append(workos_id)
        else:
            present.append(found)
    report.organizations = len(set(ids))
    _compare_page(run, report, present, young_after=None)
    if _are_few_enough(run, report, absent):
        _disable(run, report, absent)
    touched = [change.organization_id for change in report.changes if change.organization_id]
    return Reconciliation(DrainReport(), report, _push(run, only=touched))


class UnknownOrganization(Exception):
    """Neither the mirror nor WorkOS knows an organization by that id."""


# Events -------------------------------------------------------------------------------------


def _drain(run: Run) -> tuple[DrainReport, CursorLost | None]:
    try:
        if not run.dry:
            return drain.drain_to_end(), None
        with _reading(run):
            start = standing()
        waiting = drain.count_waiting(start)
        return DrainReport(waiting=waiting), None
    except CursorLost as lost:
        logger.critical("the cursor is lost: %s; taking a full snapshot", lost)
        return DrainReport(), lost


def _recover(lost: CursorLost, run: Run) -> None:
    window = timedelta(seconds=sync_settings().hold_back_window)
    position = Position(None, run.now - window - _OVERLAP)
    if replace_lost(lost.position, position, drained_at=run.now):
        logger.critical("the cursor was lost; the stream goes on from %s", position.last_event_at)


def _push(run: Run, *, only: Collection[str] | None = None) -> WriteBackReport:
    if run.dry:
        return WriteBackReport()
    return write_back.push_due(deadline=time.monotonic() + _PUSH_SECONDS, only=only)


# The snapshot -------------------------------------------------------------------------------


def _take_snapshot(run: Run, report: SnapshotReport, lost: CursorLost | None) -> None:
    """Compares what is listed, then what is missing. A listing that is complete mends the cursor,
    whatever the missing wait for."""
    seen = _Seen()
    try:
        with closing(read_ahead(workos.read_organizations, None)) as pages:
            for page in pages:
                seen.add(page)
                report.organizations += len(page.organizations)
                _compare_page(run, report, page.organizations, young_after=run.young_after)
                run.progress(report.organizations)
        if lost is not None and not run.dry:
            _recover(lost, run)
        if _find_missing(run, report, seen) and not run.dry:
            note_reconciled(run.now)
    except WorkOSTrouble as trouble:
        report.trouble.append(
            f"{trouble}; {report.organizations} organizations were compared, none disabled"
        )


@dataclass(slots=True)
class _Seen:
    """The WorkOS ids that were listed, as 64-bit hashes: eight bytes each."""

    hashes: "array[int]" = field(default_factory=lambda: array("Q"))
    is_sorted: bool = False

    def add(self, page: OrganizationPage) -> None:
        self.hashes.extend(_hash(organization.workos_id) for organization in page.organizations)

    def __contains__(self, workos_id: str) -> bool:
        if not self.is_sorted:
            self.hashes = array("Q", sorted(self.hashes))
            self.is_sorted = True
        wanted = _hash(workos_id)
        index = bisect_left(self.hashes, wanted)
        return index < len(self.hashes) and self.hashes[index] == wanted


def _hash(workos_id: str) -> int:
    return int.from_bytes(blake2b(workos_id.encode(), digest_size=8).digest(), "big")


def _compare_page(
    run: Run,
    report: SnapshotReport,
    organizations: Sequence[Listed],
    *,
    young_after: datetime | None,
) -> None:
    if not organizations:
        return
    with _reading(run):
        rows = load_rows(*_keys(organizations))
        comparison = _compare(rows, organizations, gone=frozenset(), young_after=young_after)
    gone = _gone_rivals(rows, organizations)
    if gone:
        with _reading(run):
            comparison = _compare(rows, organizations, gone=gone, young_after=young_after)
    if run.dry or comparison.plan.is_empty:
        report.add(comparison)
    else:
        _repair(report, organizations, gone, young_after)


def _repair(
    report: SnapshotReport,
    organizations: Sequence[Listed],
    gone: frozenset[str],
    young_after: datetime | None,
) -> None:
    """Decides again under locks and writes; one by one if something is the matter with one."""
    try:
        report.add(retry_races(partial(_write, organizations, gone, young_after)))
    except DatabaseError as error:
        if not (is_contents_fault(error) or is_passing(error)):
            raise
        if len(organizations) > 1:
            for organization in organizations:
                _repair(report, [organization], gone, young_after)
        elif is_contents_fault(error):
            report.add_conflict(organizations[0], f"PostgreSQL: {error}")
        else:
            report.trouble.append(
                f"{organizations[0].workos_id} is locked by another program; run it again"
            )


def _write(
    organizations: Sequence[Listed], gone: frozenset[str], young_after: datetime | None
) -> Comparison:
    with bounded_transaction():
        rows = lock_rows(*_keys(organizations))
        comparison = _compare(rows, organizations, gone=gone, young_after=young_after)
        write_plan(comparison.plan)
    return comparison


def _compare(
    rows: Sequence[Row],
    organizations: Sequence[Listed],
    *,
    gone: frozenset[str],
    young_after: datetime | None,
) -> Comparison:
    return compare(
        rows,
        organizations,
        pending=pending_write_backs(row.id for row in rows),
        deleted=_known_deletions(rows, organizations),
        gone=gone,
        young_after=young_after,
    )


def _keys(organizations: Sequence[Listed]) -> tuple[set[str], set[str]]:
    readable = [o for o in organizations if isinstance(o, RemoteOrganization)]
    return {o.workos_id for o in readable}, touched_ids(readable)


def _known_deletions(rows: Sequence[Row], organizations: Sequence[Listed]) -> set[str]:
    """Of those that have no row, or a disabled one: for others a deletion makes no difference."""
    alive = {row.workos_id for row in rows if not row.disabled}
    doubtful = [o.workos_id for o in organizations if o.workos_id not in alive]
    if not doubtful:
        return set()
    deletions = WorkOSEvent.objects.deletions_of(doubtful)
    return {deletion.workos_organization_id or "" for deletion in deletions}


def _gone_rivals(rows: Sequence[Row], organizations: Sequence[Listed]) -> frozenset[str]:
    """Which WorkOS organizations are gone whose rows others of the page resolve to."""
    by_id = {row.id: row for row in rows}
    linked = {row.workos_id for row in rows}
    rivals = {
        by_id[id_].workos_id
        for organization in organizations
        if isinstance(organization, RemoteOrganization) and organization.workos_id not in linked
        for id_ in touched_ids([organization]) & by_id.keys()
    }
    return frozenset(rival for rival in rivals if rival is not None and is_gone(rival))


def _ask(workos_id: str) -> Listed | None:
    """The organization as it is now; None if WorkOS says that there is none."""
    try:
        return workos.get_organization(workos_id)
    except workos.NotFound:
        return None
    except workos.UnreadableOrganization as problem:
        return Unreadable(workos_id, str(problem))


# The missing --------------------------------------------------------------------------------


def _find_missing(run: Run, report: SnapshotReport, seen: _Seen) -> bool:
    """Asks for each linked, enabled row that was not listed, and only then disables any.

    Whether that went well: no more were gone than the limit allows, and none was there after all.
    """
    gone: list[str] = []
    allowed = run.limit.allows(_count_linked(run))
    for workos_id, is_there in _ask_for_unseen(run, seen):
        if is_there:
            report.trouble.append(
                f"the listing is not complete: {workos_id} exists and was not in it; "
                f"{report.organizations} organizations were compared, none disabled"
            )
            return False
        if is_there is False:
            gone.append(workos_id)
        if len(gone) > allowed:
            break
    if not _are_few_enough(run, report, gone):
        return False
    for start in range(0, len(gone), _CHUNK):
        _disable(run, report, gone[start : start + _CHUNK])
    return True


def _are_few_enough(run: Run, report: SnapshotReport, gone: Sequence[str]) -> bool:
    linked = _count_linked(run) if gone else 0
    allowed = run.limit.allows(linked)
    if len(gone) <= allowed:
        return True
    report.trouble.append(
        f"more than {allowed} of {linked} linked organizations are gone from WorkOS: none is "
        f"disabled; {report.organizations} organizations were compared; if that is right, raise "
        "--max-disable"
    )
    return False


def _count_linked(run: Run) -> int:
    with _reading(run):
        return _to_be_listed().count()


def _ask_for_unseen(run: Run, seen: _Seen) -> Iterator[tuple[str, bool | None]]:
    # One so young may have been created after its place in the listing was read.
    ask = partial(workos.exists, before=run.young_after)
    with ThreadPoolExecutor(_THREADS) as threads:
        for unseen in _in_groups(_unseen(run, seen), _THREADS):
            yield from zip(unseen, threads.map(ask, unseen), strict=True)


def _unseen(run: Run, seen: _Seen) -> Iterator[str]:
    last = ""
    while True:
        with _reading(run):
            rows = _to_be_listed().filter(id__gt=last).order_by("id")
            chunk = list(rows.values_list("id", "workos_id")[:_CHUNK])
        if not chunk:
            return
        last = chunk[-1][0]
        yield from (workos_id for _, workos_id in chunk if workos_id and workos_id not in seen)


def _in_groups(items: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _to_be_listed() -> models.QuerySet[Organization]:
    return Organization.objects.linked().filter(disabled_at__isnull=True)


def _disable(run: Run, report: SnapshotReport, workos_ids: Sequence[str]) -> None:
    """Disables the rows linked to organizations that WorkOS said are gone."""
    if not workos_ids:
        return
    if run.dry:
        with _reading(run):
            report.add(_compare_absent(load_rows(workos_ids, ()), workos_ids))
    else:
        report.add(retry_races(partial(_write_absent, workos_ids)))


def _write_absent(workos_ids: Sequence[str]) -> Comparison:
    with bounded_transaction():
        comparison = _compare_absent(lock_rows(workos_ids, ()), workos_ids)
        write_plan(comparison.plan)
    return comparison


def _compare_absent(rows: Sequence[Row], workos_ids: Sequence[str]) -> Comparison:
    pending = pending_write_backs(row.id for row in rows)
    return compare_absent(rows, workos_ids, pending=pending)


# Single organizations -----------------------------------------------------------------------


def _workos_id_of(run: Run, id_: str) -> str | None:
    """The WorkOS id of an organization, known by either id; None if it is in the mirror alone."""
    with _reading(run):
        row = Organization.objects.filter(id=id_).first()
        linked = Organization.objects.filter(workos_id=id_).exists()
    if linked or (row is None and _ask(id_) is not None):
        return id_
    if row is not None and row.workos_id is not None:
        return row.workos_id
    workos_id = workos.find_by_external_id(id_)
    if workos_id is None and row is None:
        raise UnknownOrganization(f"neither the mirror nor WorkOS knows an organization {id_}")
    return workos_id


@contextmanager
def _reading(run: Run) -> Iterator[None]:
    """A dry run reads in transactions in which PostgreSQL itself refuses to write."""
    if not run.dry:
        yield
        return
    with read_only_transaction():
        yield
