"""Compares single organizations, and what belongs to them, with WorkOS, and repairs."""

import time
from collections.abc import Sequence
from datetime import datetime
from math import inf

from orgs import workos
from orgs.db import rows
from orgs.db.cursor import read_cursor
from orgs.domain.naming import is_storable, one_line
from orgs.domain.resources import PLAIN
from orgs.domain.types import ConflictKind, Observation, Outcome, State
from orgs.models import Organization, WorkOSConflict
from orgs.services.compare import Comparison, Run
from orgs.services.conclude import Reconciliation, conclude
from orgs.services.coverage import report_derived, resources_to_compare
from orgs.services.lookups import Lookups
from orgs.services.reconcile_resources import ResourceComparison
from orgs.services.stream import DrainReport


class UnknownOrganization(Exception):
    """Neither the mirror nor WorkOS knows an organization by that id."""


def reconcile_organizations(
    run: Run, ids: Sequence[str], *, deadline: float = inf, patience: float = inf
) -> Reconciliation:
    """Compare and repair only these, by WorkOS id or by Gram id, and push their write-backs.

    Recent differences are applied too. If not all could be asked for by ``deadline``, a time of
    ``time.monotonic()``, nothing is done and it raises ``workos.Unavailable``. ``patience``: as in
    ``orgs.workos``. An id that neither side knows is an error in the report; if that is all, it
    raises ``UnknownOrganization``. An error of another resource is in its report. Raises
    ``WorkOSError`` and ``django.db.Error``. May be repeated and run concurrently.
    """
    comparing = Comparison(run, lookups := Lookups(patience=patience, dry=run.dry))
    began_at = lookups.now()
    present, in_mirror_alone = _find_all(comparing, ids, deadline)
    absent = {*comparing.absent}
    # Before the first write: a row that this run links would prove any place right.
    if absent and not lookups.proves_absence(absent):
        known = lookups.known_deleted(absent)
        comparing.absent = [id_ for id_ in comparing.absent if id_ not in known]
        comparing.report.counts[Outcome.UNCHANGED] += len(known)
    if in_mirror_alone and not lookups.proves_environment(absent):
        comparing.leave_unproven(in_mirror_alone)
    else:
        # Only if a 404 counts, a row that the mirror alone knows is in sync.
        comparing.report.counts[Outcome.UNCHANGED] += len(in_mirror_alone)
    with lookups.reading():
        is_any_linked = bool(rows.linked(present))
    if present and not is_any_linked and not lookups.proves_environment({*present, *absent}):
        # No row is linked to them yet, and the place may be the wrong one.
        comparing.leave_unproven(sorted(present))
        present = {}
    comparing.compare([*present.values()])
    comparing.retry_locked()
    if not comparing.exceeds_limit():
        comparing.remove_if_proven()
        comparing.retry_locked()
    resources = _compare_resources(comparing, [*present.values()], began_at)
    touched = {c.organization_id for c in comparing.report.changes if c.organization_id}
    return conclude(comparing, resources, DrainReport(), only=touched)


def _find_all(
    comparing: Comparison, ids: Sequence[str], deadline: float
) -> tuple[dict[str, Observation], list[str]]:
    """Return what is in WorkOS by WorkOS id, and the ids that the mirror alone knows. Note what is
    absent."""
    found: dict[str, Observation] = {}
    in_mirror_alone = []
    for id_ in dict.fromkeys(ids):
        if time.monotonic() > deadline:
            raise workos.Unavailable("WorkOS answers too slowly for so many at once; choose fewer")
        try:
            named = _find(comparing.lookups, id_)
        except (UnknownOrganization, workos.Refused) as unknown:
            comparing.report.errors.append(one_line(unknown))
            continue
        found |= {observation.workos_id or id_: observation for observation in named}
        if not named:
            in_mirror_alone.append(id_)
    if comparing.report.errors and not found and not in_mirror_alone:
        raise UnknownOrganization("; ".join(comparing.report.errors))
    comparing.listed = len(found) + len(in_mirror_alone)
    comparing.absent = [id_ for id_, o in found.items() if o.state is State.ABSENT]
    return {id_: o for id_, o in found.items() if o.state is not State.ABSENT}, in_mirror_alone


def _compare_resources(
    comparing: Comparison, found: Sequence[Observation], began_at: datetime
) -> list[ResourceComparison]:
    """Compare what belongs to organizations that are present: what is followed of it."""
    run, lookups = comparing.run, comparing.lookups
    present = [organization for organization in found if organization.state is State.PRESENT]
    with lookups.reading():
        state = read_cursor()
    names = [name for name in resources_to_compare(run.resources, state) if name in PLAIN]
    comparisons = [
        ResourceComparison(
            run,
            lookups,
            PLAIN[name],
            is_covered=name in state.covered,
            followed_since=state.followed_since(name),
        )
        for name in names
    ]
    for one in comparisons:
        one.comparisons = {each.name: each for each in (comparing, *comparisons)}
        one.compare_for(present, began_at)
    if comparisons and present:
        workos_ids = [organization.workos_id or "" for organization in present]
        reports = [one.report for one in comparisons]
        report_derived(comparing.report, reports, dry=run.dry, workos_ids=workos_ids)
    return comparisons


def _find(lookups: Lookups, id_: str) -> list[Observation]:
    """The organizations that an id of either kind is about.

    More than one if the row's own is deleted and another one names the row; none if the mirror
    alone knows it.
    """
    if not is_storable(id_.strip()):
        raise UnknownOrganization(f"{id_!r} is not the id of an organization")
    with lookups.reading():
        row = Organization.objects.by_either_id(id_).first()
    workos_id = row.workos_id if row else id_
    own = [lookups.look_up(workos_id)] if workos_id else []
    if own and own[0].state is not State.ABSENT:
        return own
    new_owner = lookups.new_owner(row.id if row else id_)
    named = [new_owner] if new_owner else []
    if row is not None or named:
        return own + named if row else named
    with lookups.reading():
        conflict = WorkOSConflict.objects.filter(pk=id_).first()
    if conflict is None:
        raise UnknownOrganization(f"neither the mirror nor WorkOS knows an organization {id_}")
    if conflict.kind == ConflictKind.LEDGER_REFUSED:
        # By another resource's key, or an event's id, of which this 404 says nothing.
        raise UnknownOrganization(
            f"WorkOS knows no organization {id_}: the next snapshot that compares everything "
            "without an error removes this conflict"
        )
    # It is deleted, and so its conflict is solved.
    return own
