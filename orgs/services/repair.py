"""Compares organizations with the mirror, and repairs what differs: a page, or a single one.

Compared without locks first; only where something differs it is locked, decided again and written,
in a transaction of its own. WorkOS is asked before it, never inside.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial

from django.db import DatabaseError

from orgs.conf import sync_settings
from orgs.db.cursor import CursorLocked, cursor_locked
from orgs.db.errors import is_contents_fault, is_passing, retry_races
from orgs.db.rows import (
    ids_in_sync,
    known_deletions,
    load_rows,
    lock_rows,
    pending_write_backs,
    write_plan,
)
from orgs.db.transactions import bounded_transaction, read_only_transaction
from orgs.domain.drift import LEFT_ALONE, Change, Comparison, Unreadable, compare, compare_absent
from orgs.domain.resolution import (
    RemoteOrganization,
    Row,
    touched_ids,
)
from orgs.domain.types import (
    Outcome,
)
from orgs.services.refresh import is_gone
from orgs.workos import client as workos

Listed = RemoteOrganization | Unreadable


@dataclass(frozen=True, slots=True)
class DisableLimit:
    """How many organizations may turn out to be gone before that is taken for a broken answer."""

    rows: int = 10
    percent: Fraction | int = 1

    def allows(self, linked: int) -> int:
        """The larger of the two: so many rows, or so many per cent of the linked ones."""
        return max(self.rows, int(linked * self.percent / 100))


def _no_progress(_: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How to run: what ``now`` is, whether to write, and how much may be disabled."""

    now: datetime
    dry: bool = False
    limit: DisableLimit = DisableLimit()
    progress: Callable[[int], None] = _no_progress
    """Called with how many organizations were compared so far."""

    @property
    def young_after(self) -> datetime:
        """What was created since is too young to be missed."""
        return self.now - timedelta(seconds=sync_settings().hold_back_window)


@dataclass(slots=True)
class SnapshotReport:
    """What differed. Counts are of organizations that WorkOS listed, or was asked for."""

    organizations: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """Why the snapshot did not do all it should; empty if it did."""
    withdrawn: int = 0
    """Write-backs that were pending although WorkOS shows our id."""
    claimed: set[str] = field(default_factory=set)
    """Ids of rows that are not to be disabled: see ``Comparison.claimed``."""
    locked: list[str] = field(default_factory=list)
    """WorkOS ids of organizations whose rows another program had locked."""
    would_be: dict[str, Row] = field(default_factory=dict)
    """Of a dry run: the rows that it would have written, for what comes after them."""

    def add(self, comparison: Comparison) -> None:
        """Adds what a page's comparison found."""
        self.counts += comparison.counts
        self.changes += comparison.changes
        self.claimed |= comparison.claimed
        self.withdrawn += len(comparison.plan.known_to_workos)

    def add_conflict(self, workos_id: str, reason: str) -> None:
        """Adds what a person has to decide."""
        conflict = Outcome.CONFLICT.value
        self.counts[conflict] += 1
        self.changes.append(Change(None, workos_id, conflict, reason=reason))

    @property
    def drift(self) -> list[Change]:
        """What is repaired, or would be; without what is told and left alone."""
        return [change for change in self.changes if change.change not in LEFT_ALONE]

    @property
    def found_drift(self) -> bool:
        """Whether there was, or is, something to repair."""
        return bool(self.drift) or self.withdrawn > 0


@contextmanager
def reading(run: Run) -> Iterator[None]:
    """Around every read: a dry run's happen where PostgreSQL itself refuses to write."""
    if not run.dry:
        yield
        return
    with read_only_transaction():
        yield


def ask(workos_id: str) -> Listed | None:
    """The organization as it is now; None if WorkOS says that there is none.

    Raises ``workos.WorkOSTrouble``.
    """
    try:
        return workos.get_organization(workos_id)
    except workos.NotFound:
        return None
    except workos.UnreadableOrganization as problem:
        return Unreadable(workos_id, str(problem))


def compare_organizations(
    run: Run,
    report: SnapshotReport,
    organizations: Sequence[Listed],
    *,
    young_after: datetime | None,
) -> None:
    """Compares and, unless the run is dry, repairs; adds what it found to ``report``.

    What is younger than ``young_after`` is left to its event. Rows that another program has locked
    are noted in the report. Raises ``workos.WorkOSTrouble`` and ``django.db.Error``.
    """
    organizations = _without_those_in_sync(run, report, organizations)
    if not organizations:
        return
    with reading(run):
        rows = _with_what_would_be(report, load_rows(*_keys(organizations)), organizations)
        comparison = _compare(rows, organizations, frozenset(), young_after)
    gone = _gone_rivals(rows, organizations)
    if gone:
        with reading(run):
            comparison = _compare(rows, organizations, gone, young_after)
    if run.dry:
        report.would_be |= comparison.rows_after
    if run.dry or comparison.plan.is_empty:
        report.add(comparison)
    else:
        _repair(report, organizations, gone, young_after)


def disable_absent(run: Run, report: SnapshotReport, workos_ids: Sequence[str]) -> None:
    """Disables the rows linked to organizations that WorkOS said are gone, but for claimed ones.

    One that PostgreSQL refuses to disable is told as a conflict, one that is locked as trouble.
    """
    if not workos_ids:
        return
    if run.dry:
        with reading(run):
            rows = [report.would_be.get(row.id, row) for row in load_rows(workos_ids, ())]
            report.add(_compare_absent(report, rows, workos_ids))
        return
    try:
        report.add(retry_races(partial(_write_absent, report, workos_ids)))
    except DatabaseError as error:
        if not (is_contents_fault(error) or is_passing(error)):
            raise
        if len(workos_ids) > 1:
            for workos_id in workos_ids:
                disable_absent(run, report, [workos_id])
        elif is_contents_fault(error):
            report.add_conflict(workos_ids[0], f"PostgreSQL: {error}")
        else:
            report.trouble.append(f"{workos_ids[0]} is locked by another program; run it again")


def _repair(
    report: SnapshotReport,
    organizations: Sequence[Listed],
    gone: frozenset[str],
    young_after: datetime | None,
) -> None:
    """Decides again under locks and writes; one by one if something is the matter with one."""
    try:
        report.add(retry_races(partial(_write, organizations, gone, young_after)))
    except CursorLocked:
        # No row of the page is the trouble, and the next page would have to wait as well.
        raise
    except DatabaseError as error:
        if not (is_contents_fault(error) or is_passing(error)):
            raise
        if len(organizations) > 1:
            for organization in organizations:
                _repair(report, [organization], gone, young_after)
        elif is_contents_fault(error):
            report.add_conflict(organizations[0].workos_id, f"PostgreSQL: {error}")
        else:
            report.locked.append(organizations[0].workos_id)
            # It may take over a row that must not be disabled with its old organization.
            report.claimed |= _keys(organizations)[1]


def _write(
    organizations: Sequence[Listed], gone: frozenset[str], young_after: datetime | None
) -> Comparison:
    # Or the stream could apply a deletion between our look for it and our insert.
    with cursor_locked():
        rows = lock_rows(*_keys(organizations))
        comparison = _compare(rows, organizations, gone, young_after)
        write_plan(comparison.plan)
    return comparison


def _write_absent(report: SnapshotReport, workos_ids: Sequence[str]) -> Comparison:
    with bounded_transaction():
        comparison = _compare_absent(report, lock_rows(workos_ids, ()), workos_ids)
        write_plan(comparison.plan)
    return comparison


def _compare(
    rows: Sequence[Row],
    organizations: Sequence[Listed],
    gone: frozenset[str],
    young_after: datetime | None,
) -> Comparison:
    return compare(
        rows,
        organizations,
        pending=pending_write_backs(row.id for row in rows),
        deleted=known_deletions(_doubtful(rows, organizations)),
        gone=gone,
        young_after=young_after,
    )


def _compare_absent(
    report: SnapshotReport, rows: Sequence[Row], workos_ids: Sequence[str]
) -> Comparison:
    unclaimed = [row for row in rows if row.id not in report.claimed]
    pending = pending_write_backs(row.id for row in unclaimed)
    return compare_absent(unclaimed, workos_ids, pending=pending)


def _without_those_in_sync(
    run: Run, report: SnapshotReport, organizations: Sequence[Listed]
) -> Sequence[Listed]:
    """Counts those of which PostgreSQL says that nothing is to be told or written.

    Nearly all of them, nearly always: their rows need not come here to be compared. One that it
    does not say so of is compared in full.
    """
    if report.would_be:
        # What this dry run would have written by now, PostgreSQL does not know.
        return organizations
    readable = [o for o in organizations if isinstance(o, RemoteOrganization)]
    try:
        with reading(run):
            in_sync = ids_in_sync(readable)
    except DatabaseError as error:
        if not is_contents_fault(error):
            raise
        # Some value can't even be asked about. Which one shows when they are repaired.
        return organizations
    report.counts["unchanged"] += len(in_sync)
    return [o for o in organizations if o.workos_id not in in_sync]


def _keys(organizations: Sequence[Listed]) -> tuple[set[str], set[str]]:
    readable = [o for o in organizations if isinstance(o, RemoteOrganization)]
    return {o.workos_id for o in readable}, touched_ids(readable)


def _with_what_would_be(
    report: SnapshotReport, rows: Sequence[Row], organizations: Sequence[Listed]
) -> list[Row]:
    workos_ids, ids = _keys(organizations)
    by_id = {row.id: row for row in rows}
    for row in report.would_be.values():
        if row.id in by_id or row.id in ids or row.workos_id in workos_ids:
            by_id[row.id] = row
    return list(by_id.values())


def _doubtful(rows: Sequence[Row], organizations: Sequence[Listed]) -> set[str]:
    """Those that have no row, or a disabled one: for others a deletion makes no difference."""
    alive = {row.workos_id for row in rows if not row.disabled}
    return {o.workos_id for o in organizations} - alive


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
