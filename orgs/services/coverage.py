"""Decides which types of events are read, and which resources are covered by them.

The cursor's row says what is read with its position. Settings change it when a worker starts. What
is new is followed from that commit on, then listed in full, then covered.
"""

import logging
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import inf

from django.db import DatabaseError

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import resources
from orgs.db.cursor import (
    COVER_ENDED,
    DERIVED,
    RUN_WANTED,
    CursorState,
    cursor_locked,
    ensure_cursor,
    follow,
    note_derived,
    note_listed,
    read_cursor,
)
from orgs.db.errors import WriteSkipped, describe, is_passing
from orgs.db.transactions import execute_together, read_only_transaction
from orgs.domain.naming import one_line
from orgs.domain.report import Change, Report
from orgs.domain.resources import NAMES, event_types, followed_by, parse_time, scopes_of
from orgs.domain.types import ORGANIZATION, Outcome, Position
from orgs.models import Organization, SyncCursor
from orgs.services.refusals import reporting, together_or_alone

logger = logging.getLogger(__name__)

#: How many rows are written together.
_CHUNK = 1_000

#: How long what could not be covered is left alone, at most.
_LONGEST_PAUSE = timedelta(hours=1)

#: What ``sso_enabled`` and ``scim_enabled`` derive from.
_DERIVED_FROM = {"connection", "directory"}

#: What a run has done to a row.
_WRITTEN = Outcome.CREATED, Outcome.LINKED, Outcome.RELINKED, Outcome.UPDATED, Outcome.DISABLED


class SettingsDiffer(Exception):
    """The settings of this process name other resources than the stream is read for."""


class TypesRefused(workos.WorkOSError):
    """WorkOS refuses a read because of these types of events."""

    def __init__(self, types: Iterable[str]) -> None:
        self.types = tuple(types)
        super().__init__(f"WorkOS refuses to list events of the type {', '.join(self.types)}")


def wanted_types(state: CursorState) -> tuple[str, ...]:
    """Return the types of events that the settings name, without those that WorkOS refuses."""
    types = event_types(sync_settings().resources)
    return tuple(type_ for type_ in types if type_ not in state.refused)


def prepare_to_read() -> CursorState:
    """Return where the stream stands. If nothing is followed yet, follow the settings.

    Raises ``SettingsDiffer`` if the stream is read for other resources than this process's settings
    name: a worker that started later has other settings.
    """
    ensure_cursor()
    if (state := read_cursor()).types is None:
        state = adopt_settings()
    require_same(state)
    return state


def require_same(state: CursorState) -> None:
    """Raise ``SettingsDiffer`` unless the stream is read for what the settings name."""
    if state.types is not None and state.types != wanted_types(state):
        raise SettingsDiffer(
            "WORKOS_RESOURCES of this process differs from what the worker follows: restart the "
            "worker with these settings (manage.py sync_worker), or start this process with those"
        )


def adopt_settings() -> CursorState:
    """Have the stream read for what this process's settings name: the newest worker wins.

    A resource of which a type is not read any more is not covered any more. May be repeated and
    run concurrently.
    """
    ensure_cursor()
    while True:
        state = read_cursor()
        types = wanted_types(state)
        before = state.covered if state.types is not None else {ORGANIZATION}
        covered = frozenset(followed_by(types, before))
        if (state.types, state.covered) == (types, covered):
            return state
        if follow(state, types, covered, state.refused):
            derive_again()
            logger.debug("the stream is read for: %s", ", ".join(sync_settings().resources))
            return read_cursor()


def without(state: CursorState, refused: Iterable[str]) -> CursorState:
    """Return the state that leaves out these types of events, which WorkOS refuses."""
    known = {**dict.fromkeys(refused, state.now.isoformat()), **state.refused}
    types = tuple(type_ for type_ in state.types or wanted_types(state) if type_ not in known)
    covered = frozenset(followed_by(types, state.covered))
    return replace(state, types=types, covered=covered, refused=known)


def note_refused(types: Iterable[str]) -> None:
    """Leave out types of events that WorkOS refuses, so that the others go on."""
    left = without(state := read_cursor(), types)
    if follow(state, left.types or (), left.covered, left.refused):
        derive_again()
        logger.error("WorkOS refuses events of the type %s; the others go on", ", ".join(types))


def retry_refused() -> None:
    """Read types of events again that WorkOS had refused, if it lists them now.

    After any error of WorkOS's a type stays left out. Raises ``django.db.Error``.
    """
    if (state := read_cursor()).types != wanted_types(state):
        # Another process's settings are followed: this one must not change that.
        return
    refused = dict(state.refused)
    for type_ in state.refused:
        with reporting(logger.warning, f"{type_} is not read again: {{}}"):
            if is_readable((type_,), inf):
                del refused[type_]
    types = wanted_types(replace(state, refused=refused))
    if len(refused) < len(state.refused) and follow(state, types, state.covered, refused):
        logger.info("types of events are read again that WorkOS had refused")


def is_readable(types: tuple[str, ...], patience: float) -> bool:
    """Return True if WorkOS does not refuse a read of these types of events from the beginning."""
    try:
        workos.read_events(Position(), types=types, limit=1, patience=patience)
    except workos.Refused:
        return False
    return True


def uncovered(state: CursorState) -> list[str]:
    """Return the resources of the settings that are followed and still to be listed in full."""
    followed = followed_by(state.types or (), sync_settings().resources)
    return [name for name in sync_settings().resources if name in followed - state.covered]


def is_derived(state: CursorState) -> bool:
    """Return False from a change of what is covered until the columns that derive from it are
    recomputed: if a process was killed in between, a cover has to do that."""
    return DERIVED in state.listed


def is_cover_due(state: CursorState) -> bool:
    """Return True if something is to be listed in full, or derived."""
    return is_list_due(state) or not is_derived(state)


def is_list_due(state: CursorState) -> bool:
    """Return True if something is to be listed in full. What could not be covered is tried again
    after as long as that has taken so far: it may cost a request an organization."""
    if state.types != wanted_types(state):
        # Another process's settings are followed, and its covers list what is new in them.
        return False
    names, ended_at = uncovered(state), state.listed_at(COVER_ENDED)
    if ended_at is None:
        return bool(names)
    longest = ended_at - _LONGEST_PAUSE
    begins = [max(parse_time(state.uncovered.get(name)) or longest, longest) for name in names]
    return any(abs(state.now - ended_at) >= ended_at - began_at for began_at in begins)


def note_cover_ended(before: CursorState) -> bool:
    """Note that what was not covered ``before`` was listed, unless there is more by now. Return
    True if a full run is to follow: one was left to that, or can solve what is noted as wrong."""
    state = read_cursor()
    if state.types == wanted_types(state) and state.uncovered.items() <= before.uncovered.items():
        note_listed(COVER_ENDED)
    wanted_at = state.listed_at(RUN_WANTED)
    if wanted_at is not None and wanted_at > before.now:
        return True
    has_covered = bool(state.covered - before.covered)
    return has_covered and SyncCursor.objects.exclude(snapshot_trouble="").exists()


def resources_to_compare(named: Collection[str], state: CursorState) -> list[str]:
    """Return the resources that a run compares: those that are named, else organizations and all
    others that are followed, in the order in which they are listed. Each brings along what it is
    listed for, if no event says what became of that; and if it is not covered itself, organizations
    too: some may have no row, and only their list shows these."""
    names = sync_settings().resources
    wanted = {*named} or {ORGANIZATION, *followed_by(state.types or wanted_types(state), names)}
    related = {*wanted}
    for name in reversed(NAMES):
        if name in related:
            related |= (scopes := scopes_of(name))
            known = state.covered if name in state.covered else state.covered - {ORGANIZATION}
            wanted |= (scopes - known) & {*names}
    return [name for name in NAMES if name in wanted]


def note_listed_in_full(name: str, before: CursorState) -> None:
    """Note that a resource was listed in full: it is covered from now on.

    ``before``: the cursor before the listing began. If the resource is not followed without a break
    since, events are missing that the list did not show either.
    """
    note_listed(name)
    state = read_cursor()
    if name in before.covered or name in state.covered:
        return
    if name not in followed_by(state.types or (), [name]):
        return
    if state.uncovered.get(name) != before.uncovered.get(name):
        return
    covered = {*state.covered, name}
    if follow(state, state.types or (), covered, state.refused):
        logger.info("%s is covered: it was listed in full", name)
        if name in _DERIVED_FROM or not is_derived(state):
            derive_again()
        else:
            # The run that goes on reports what differs.
            note_derived(covered)


def may_lack_rows(name: str, *, since: datetime) -> bool:
    """Return True if objects of a resource may have no row: it was never listed in full, or is not
    covered and was not listed ``since``. Organizations count as covered from the start."""
    state = read_cursor()
    listed_at = state.listed_at(name)
    return listed_at is None or (name not in state.covered and listed_at < since)


def repair_derived(*, dry: bool = False, workos_ids: Collection[str] = ()) -> Iterator[Change]:
    """Recompute ``sso_enabled`` and ``scim_enabled`` while it is iterated, and yield what changed.
    If ``dry``, only yield what would change.

    Written in batches, so that no row is locked for long. Without ``workos_ids``: of all. What
    PostgreSQL refuses for one row is yielded as failed, and the others are written. For rows that
    another program has locked, it waits once all others are written. Raises ``django.db.Error``.
    """
    if locked := (yield from _repair_derived(workos_ids, dry=dry, waits=False)):
        yield from _repair_derived(locked, dry=dry, waits=True)


def _repair_derived(
    workos_ids: Collection[str], *, dry: bool, waits: bool
) -> Generator[Change, None, list[str]]:
    """Return the WorkOS ids of the rows that were left because of a lock."""
    last, locked = "", list[str]()
    while True:
        with read_only_transaction():
            found = resources.find_wrong_derived(last, workos_ids=workos_ids, limit=_CHUNK)
        if not found:
            return locked
        differ = [workos_id for _, workos_id, *_ in found]
        written, refused = differ, dict[str, str]()
        if not dry:
            written, refused = together_or_alone(differ, partial(_derive, waits=waits))
        is_done = {*written, *refused}
        locked += [workos_id for workos_id in differ if workos_id not in is_done]
        for id_, workos_id, *values in found:
            if workos_id not in is_done:
                continue
            old_sso, sso, old_scim, scim = (v if v is None else str(v).lower() for v in values)
            fields = {"sso_enabled": (old_sso, sso), "scim_enabled": (old_scim, scim)}
            changed = {name: pair for name, pair in fields.items() if pair[0] != pair[1]}
            if workos_id in refused:
                reason = f"{', '.join(changed)}: {refused[workos_id]}"
                yield Change(id_, workos_id, Outcome.FAILED, reason=reason)
            else:
                yield Change(id_, workos_id, Outcome.UPDATED, changed)
        last = differ[-1]


def report_derived(
    report: Report, others: Iterable[Report], *, dry: bool, workos_ids: Collection[str] = ()
) -> None:
    """Recompute the derived columns, and add to the report which differed, or were refused: to a
    row's own change, if it has one."""
    # A run has recomputed these with their changes by now.
    derived = report.derived.union(*(other.derived for other in others))
    written = enumerate(report.changes)
    places = {one.organization_id: n for n, one in written if one.change in _WRITTEN}
    with reporting(report.errors.append, "sso_enabled and scim_enabled are not compared: {}"):
        for change in repair_derived(dry=dry, workos_ids=workos_ids):
            place = places.get(change.organization_id, -1)
            own = report.changes[place] if place >= 0 else None
            if change.workos_id in derived or (dry and own and own.change is Outcome.RELINKED):
                continue
            if own is not None and change.change is Outcome.UPDATED:
                report.changes[place] = replace(own, fields={**own.fields, **change.fields})
            else:
                report.counts[change.change] += 1
                report.changes.append(change)


def derive_again() -> None:
    """Recompute the derived columns after a change of which resources are covered: they are empty
    where that is not known. What PostgreSQL refuses is logged and stays different until a full run
    reports it; after a lock that another program has, the next drain has a cover do it."""
    covered = read_cursor().covered
    try:
        for change in repair_derived():
            if change.change is Outcome.FAILED:
                logger.warning("%s: %s", one_line(change.workos_id), change.reason)
    except DatabaseError as error:
        logger.warning("sso_enabled and scim_enabled are not recomputed: %s", describe(error))
        if is_passing(error):
            # As after a process that was killed, the next drain has a cover do it.
            return
    with suppress(DatabaseError):  # Then a cover does it once more.
        note_derived(covered)


def _derive(workos_ids: Sequence[str], *, waits: bool) -> list[str]:
    found = Organization.objects.filter(workos_id__in=workos_ids).order_by("pk")
    # As every writer: what another transaction commits meanwhile would be missing.
    with cursor_locked():
        rows = found.select_for_update(no_key=True, skip_locked=not waits)
        free = [row.workos_id for row in rows.only("workos_id") if row.workos_id]
        # With all locks, what a policy hides from them is refused, and not locked.
        written = [*workos_ids] if waits else free
        if execute_together([resources.derived(written)]) != [[]]:
            raise WriteSkipped("a trigger or a policy leaves it as it is")
    return written
