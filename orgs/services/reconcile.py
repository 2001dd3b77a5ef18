"""Compares every organization of WorkOS with the mirror, and repairs what drifted.

Interrupted means: run it again; what was repaired costs only reads. Nothing is disabled before
every missing organization was asked for.
"""

import logging
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b

from django.db import DatabaseError, models

from orgs.conf import sync_settings
from orgs.db.cursor import (
    Lease,
    ensure_cursor,
    note_incomplete,
    note_reconciled,
    replace_lost,
    standing,
)
from orgs.db.errors import is_passing
from orgs.domain.naming import one_line
from orgs.domain.types import (
    Outcome,
    Position,
)
from orgs.models import ExternalIdWriteBack, Organization, WorkOSEvent
from orgs.services import outbox as write_back
from orgs.services import stream as drain
from orgs.services.outbox import WriteBackReport
from orgs.services.repair import (
    Listed,
    Run,
    SnapshotReport,
    ask,
    compare_organizations,
    disable_absent,
    reading,
)
from orgs.services.stream import CursorLost, DrainReport
from orgs.workos import OrganizationPage, WorkOSTrouble
from orgs.workos import client as workos
from orgs.workos.paging import read_ahead

logger = logging.getLogger(__name__)

#: The new position of a lost cursor lies so much before the snapshot, beside the hold-back window:
#: clocks differ, and applying events again is harmless.
_OVERLAP = timedelta(minutes=5)

#: So much later another process may begin a snapshot, if the one that took it is killed.
_LEASE_SECONDS = 120.0

_PUSH_SECONDS = 600.0

_THREADS = 8
_CHUNK = 1_000

#: WorkOS may ask for a pause in the middle of a listing; so often, and so long, it is kept.
_PAUSES = 5
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run found and, unless it was a dry one, did."""

    events: DrainReport
    snapshot: SnapshotReport
    write_backs: WriteBackReport
    cursor: str | None
    """The last event applied, when the run ended."""
    due_write_backs: int = 0
    """Of a dry run: write-backs that a repair would attempt."""
    lost: CursorLost | None = None
    """The cursor was lost; a run that repairs has moved it, if the snapshot was complete."""

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
            or self.trouble
        )

    @property
    def trouble(self) -> list[str]:
        """Why not all is repaired; empty if it is."""
        failed = self.write_backs.failed
        trouble = list(self.snapshot.trouble)
        if failed:
            noun = "write-back" if failed == 1 else "write-backs"
            trouble.append(f"{failed} {noun} failed and will be tried again; see the outbox")
        if self.write_backs.is_cut_short:
            trouble.append("some write-backs are left for the worker: there was no time for them")
        return trouble


class UnknownOrganization(Exception):
    """Neither the mirror nor WorkOS knows an organization by that id."""


def reconcile(run: Run, *, drain_events: bool = True) -> Reconciliation:
    """Drains the events, compares every organization, repairs, and pushes write-backs.

    A lost cursor is recovered: what happened meanwhile is in the snapshot, and the stream goes on
    from before it. May be repeated, interrupted, and run concurrently with anything; beside another
    snapshot it says so. Trouble with the snapshot is in its report. Raises
    ``workos.WorkOSTrouble`` for trouble with the events, and ``django.db.Error``.
    """
    if run.dry:
        return _reconcile(run, drain_events=drain_events)
    ensure_cursor()
    with Lease.SNAPSHOT.kept(_LEASE_SECONDS) as is_alone:
        if not is_alone:
            logger.warning("another process is taking a snapshot; this one is taken beside it")
        return _reconcile(run, drain_events=drain_events)


def reconcile_unless_busy(run: Run, *, only_if_lost: bool = False) -> Reconciliation | None:
    """The same, but leaves it to another process that is taking a snapshot, and returns None; so
    does ``only_if_lost`` if the cursor is not lost."""
    ensure_cursor()
    with Lease.SNAPSHOT.kept(_LEASE_SECONDS) as is_alone:
        if not is_alone or (only_if_lost and not drain.is_cursor_lost()):
            return None
        return _reconcile(run, drain_events=True)


def reconcile_organizations(
    run: Run, ids: Sequence[str], *, deadline: float | None = None
) -> Reconciliation:
    """Compares and repairs only these, by WorkOS id or by Gram id, and pushes their write-backs.

    If not all could be asked for by ``deadline``, a time of ``time.monotonic``, nothing is done and
    it raises ``workos.Unavailable``. Young differences are applied too. Raises
    ``UnknownOrganization`` before anything is written, ``workos.WorkOSTrouble`` and
    ``django.db.Error``. May be repeated and run concurrently.
    """
    report = SnapshotReport()
    found: dict[str, Listed | None] = {}
    for id_ in dict.fromkeys(ids):
        if deadline is not None and time.monotonic() > deadline:
            raise workos.Unavailable("WorkOS answers too slowly for so many at once; choose fewer")
        named = _find(run, id_)
        if not named and id_ not in found:
            report.organizations += 1
            report.counts["unchanged"] += 1
        found |= named
    report.organizations += len(found)
    present = [organization for organization in found.values() if organization is not None]
    absent = [workos_id for workos_id, organization in found.items() if organization is None]
    compare_organizations(run, report, present, young_after=None)
    _settle_locked(run, report)
    if _are_few_enough(run, report, absent):
        disable_absent(run, report, absent)
    touched = {change.organization_id for change in report.changes if change.organization_id}
    return _concluded(run, DrainReport(), report, only=touched)


# One run ------------------------------------------------------------------------------------


def _reconcile(run: Run, *, drain_events: bool) -> Reconciliation:
    with _noted(run):
        return _run(run, drain_events=drain_events)


def _run(run: Run, *, drain_events: bool) -> Reconciliation:
    events, lost = _drain(run) if drain_events else (DrainReport(), None)
    report = SnapshotReport()
    _take_snapshot(run, report, lost)
    if lost is not None and not run.dry and standing().position != lost.position:
        events = drain.drain_to_end()
    concluded = _concluded(run, events, report, lost=lost)
    if drain_events and concluded.write_backs.pushed:
        _absorb_echoes(events)
    return concluded


def _drain(run: Run) -> tuple[DrainReport, CursorLost | None]:
    try:
        if not run.dry:
            return drain.drain_to_end(), None
        with reading(run):
            start = standing()
        waiting = drain.count_waiting(start)
        with reading(run):
            seen = WorkOSEvent.objects.parked().filter(id__in=waiting.placeless).count()
        return DrainReport(waiting=waiting.count - seen), None
    except CursorLost as lost:
        logger.critical("the cursor is lost: %s; taking a full snapshot", lost)
        return DrainReport(), lost


def _concluded(
    run: Run,
    events: DrainReport,
    report: SnapshotReport,
    *,
    only: Collection[str] | None = None,
    lost: CursorLost | None = None,
) -> Reconciliation:
    """Pushes what is due, and says what all came to."""
    due, pushed = 0, WriteBackReport()
    if not run.dry:
        pushed = write_back.push_due(deadline=time.monotonic() + _PUSH_SECONDS, only=only)
    with reading(run):
        cursor = standing().position.last_event_id
        if run.dry and only is None:
            due = ExternalIdWriteBack.objects.due().count()
    return Reconciliation(events, report, pushed, cursor, due, lost)


def _absorb_echoes(events: DrainReport) -> None:
    """WorkOS lists our own write-backs as updates; what is listed of them already is read now.

    What is parked with them is added to ``events``.
    """
    try:
        parked = drain.drain_to_end().parked
        events.parked += parked
        events.outcomes[Outcome.PARKED] += len(parked)
    except (CursorLost, WorkOSTrouble, DatabaseError) as trouble:
        if isinstance(trouble, DatabaseError) and not is_passing(trouble):
            raise
        logger.warning("the echoes of the write-backs are left to the worker: %s", trouble)


# The snapshot -------------------------------------------------------------------------------


def _take_snapshot(run: Run, report: SnapshotReport, lost: CursorLost | None) -> None:
    """Compares what is listed, then what is missing. A listing that is complete, and was applied
    whole, mends a lost cursor, whatever the missing wait for."""
    try:
        seen = _compare_listed(run, report)
        if lost is not None and not run.dry and not report.trouble:
            _recover(lost, run)
        if _settle_missing(run, report, seen) and not run.dry and not report.trouble:
            note_reconciled(run.now, drift=len(report.drift))
    except (WorkOSTrouble, DatabaseError) as trouble:
        if isinstance(trouble, DatabaseError) and not is_passing(trouble):
            raise
        # What was repaired is repaired, and is to be told.
        report.trouble.append(
            f"{one_line(trouble)}; {report.organizations} organizations were compared, "
            f"{report.counts[Outcome.DISABLED.value] or 'none'} disabled"
        )
    if report.trouble and not run.dry:
        _note_incomplete(report.trouble[0])


@contextmanager
def _noted(run: Run) -> Iterator[None]:
    """Around a run: what ends it is also to be seen where people look."""
    try:
        yield
    except (WorkOSTrouble, DatabaseError) as trouble:
        if not run.dry:
            _note_incomplete(one_line(trouble))
        raise


def _note_incomplete(trouble: str) -> None:
    try:
        note_incomplete(one_line(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {trouble}"))
    except DatabaseError as error:
        logger.warning("that the snapshot is not complete could not be noted: %s", one_line(error))


def _compare_listed(run: Run, report: SnapshotReport) -> "_Seen":
    seen = _Seen()
    with closing(read_ahead(_read_patiently, None)) as pages:
        for page in pages:
            organizations = seen.add(page)
            report.organizations += len(organizations)
            compare_organizations(run, report, organizations, young_after=run.young_after)
            run.progress(report.organizations)
    _settle_locked(run, report)
    return seen


def _settle_locked(run: Run, report: SnapshotReport) -> None:
    """Tries once more the rows that another program had locked."""
    locked, report.locked = report.locked, []
    for workos_id in locked:
        organization = ask(workos_id)
        if organization is not None:
            compare_organizations(run, report, [organization], young_after=None)
    report.trouble += [
        f"{workos_id} is locked by another program; run it again" for workos_id in report.locked
    ]


def _read_patiently(position: str | None) -> OrganizationPage:
    for _ in range(_PAUSES):
        try:
            return workos.read_organizations(position)
        except workos.RateLimited as limited:
            if not 0 < (limited.retry_after or 0.0) <= _LONGEST_PAUSE:
                raise
            time.sleep(limited.retry_after or 0.0)
    return workos.read_organizations(position)


@dataclass(slots=True)
class _Seen:
    """The WorkOS ids that were listed, as 64-bit hashes in an open-addressed table.

    At most 32 bytes each, where a set of Python's needs about 100.
    """

    _slots: "array[int]" = field(default_factory=lambda: _empty_table(1_024))
    _count: int = 0

    def add(self, page: OrganizationPage) -> list[Listed]:
        """Those of the page that were not listed before."""
        return [listed for listed in page.organizations if self._put(_hash(listed.workos_id))]

    def __contains__(self, workos_id: str) -> bool:
        return self._slots[self._place(_hash(workos_id))] != _FREE

    def _put(self, key: int) -> bool:
        """Whether it was not there."""
        place = self._place(key)
        if self._slots[place] != _FREE:
            return False
        self._slots[place] = key
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _place(self, key: int) -> int:
        """Where it is, or else would be."""
        last = len(self._slots) - 1
        place = key & last
        while self._slots[place] not in (_FREE, key):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        before, self._slots = self._slots, _empty_table(2 * len(self._slots))
        for key in before:
            if key != _FREE:
                self._slots[self._place(key)] = key


_FREE = 0


def _empty_table(length: int) -> "array[int]":
    """``length`` must be a power of two."""
    return array("Q", [_FREE]) * length


def _hash(workos_id: str) -> int:
    return int.from_bytes(blake2b(workos_id.encode(), digest_size=8).digest(), "big") or 1


def _recover(lost: CursorLost, run: Run) -> None:
    window = timedelta(seconds=sync_settings().hold_back_window)
    position = Position(None, run.now - window - _OVERLAP)
    if replace_lost(lost.position, position, drained_at=run.now):
        logger.critical("the cursor was lost; the stream goes on from %s", position.last_event_at)


# The missing --------------------------------------------------------------------------------


def _settle_missing(run: Run, report: SnapshotReport, seen: _Seen) -> bool:
    """Asks for each linked, enabled row that was not listed, and only then disables any.

    Whether that went well: no more were gone than the limit allows, and none was there after all.
    """
    gone: list[str] = []
    allowed = run.limit.allows(_count_linked(run))
    for workos_id, answer in _ask_for_unseen(run, report, seen):
        if isinstance(answer, workos.Refused):
            report.add_conflict(workos_id, f"WorkOS refuses to say whether it exists: {answer}")
        elif answer:
            report.trouble.append(
                f"the listing is not complete: {workos_id} exists and was not in it; "
                f"{report.organizations} organizations were compared, none disabled"
            )
            return False
        elif answer is False:
            gone.append(workos_id)
        if len(gone) > allowed:
            break
    if not _are_few_enough(run, report, gone):
        return False
    for chunk in _in_groups(gone, _CHUNK):
        disable_absent(run, report, chunk)
    return True


def _ask_for_unseen(
    run: Run, report: SnapshotReport, seen: _Seen
) -> Iterator[tuple[str, bool | workos.Refused | None]]:
    # One so young may have been created after its place in the listing was read.
    still_there = partial(_exists, before=run.young_after)
    with ThreadPoolExecutor(_THREADS) as threads:
        for unseen in _in_groups(_unseen(run, report, seen), _THREADS):
            yield from zip(unseen, threads.map(still_there, unseen), strict=True)


def _exists(workos_id: str, *, before: datetime) -> bool | workos.Refused | None:
    try:
        return workos.exists(workos_id, before=before)
    except workos.Refused as refusal:
        return refusal


def _unseen(run: Run, report: SnapshotReport, seen: _Seen) -> Iterator[str]:
    last = ""
    while True:
        with reading(run):
            rows = _to_be_listed().filter(id__gt=last).order_by("id")
            chunk = list(rows.values_list("id", "workos_id")[:_CHUNK])
        if not chunk:
            return
        last = chunk[-1][0]
        for id_, workos_id in chunk:
            if workos_id and id_ not in report.claimed and workos_id not in seen:
                yield workos_id


def _in_groups(items: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _are_few_enough(run: Run, report: SnapshotReport, gone: Sequence[str]) -> bool:
    linked = _count_linked(run) if gone else 0
    allowed = run.limit.allows(linked)
    if len(gone) <= allowed:
        return True
    report.trouble.append(
        f"more than {allowed} of {linked} linked organizations are gone from WorkOS: none is "
        f"disabled; {report.organizations} organizations were compared; if that is right, raise "
        "--max-disable: with --dry-run and 100%, it lists them"
    )
    return False


def _count_linked(run: Run) -> int:
    with reading(run):
        return _to_be_listed().count()


def _to_be_listed() -> models.QuerySet[Organization]:
    return Organization.objects.linked().filter(disabled_at__isnull=True)


# Single organizations -----------------------------------------------------------------------


def _find(run: Run, id_: str) -> dict[str, Listed | None]:
    """The organizations that an id of either kind is about, by WorkOS id; None: WorkOS says gone.

    More than one if the row's own is gone and another names the row; none if the mirror alone
    knows it.
    """
    with reading(run):
        row = Organization.objects.filter(models.Q(id=id_) | models.Q(workos_id=id_)).first()
    if row is None:
        return _find_in_workos(id_)
    found: dict[str, Listed | None] = {}
    if row.workos_id is not None:
        found[row.workos_id] = ask(row.workos_id)
        if found[row.workos_id] is not None:
            return found
    if heir := workos.find_by_external_id(row.id):
        found[heir] = ask(heir)
    return found


def _find_in_workos(id_: str) -> dict[str, Listed | None]:
    organization = ask(id_)
    if organization is not None:
        return {id_: organization}
    workos_id = workos.find_by_external_id(id_)
    if workos_id is None:
        raise UnknownOrganization(f"neither the mirror nor WorkOS knows an organization {id_}")
    return {workos_id: ask(workos_id)}
