"""Compares single organizations, and what belongs to them, with WorkOS, and repairs."""

import time
from collections.abc import Sequence

from orgs import workos
from orgs.db import rows
from orgs.db.cursor import database_now, read_cursor
from orgs.domain.naming import is_storable, one_line
from orgs.domain.resources import PLAIN
from orgs.domain.types import ConflictKind, Observation, Outcome, State
from orgs.models import Organization, WorkOSConflict
from orgs.services.compare import Comparing, Run
from orgs.services.conclude import Reconciliation, conclude
from orgs.services.coverage import add_derived, resources_to_compare
from orgs.services.reconcile import reporting_errors
from orgs.services.reconcile_resources import Clock, ResourceRun, compare_for_organization
from orgs.services.refresh import Lookups
from orgs.services.stream import DrainReport

#: It waits for its share of requests as long as that takes.
_PATIENCE = float("inf")


class UnknownOrganization(Exception):
    """Neither the mirror nor WorkOS knows an organization by that id."""


def reconcile_organizations(
    run: Run, ids: Sequence[str], *, deadline: float | None = None, patience: float = _PATIENCE
) -> Reconciliation:
    """Compare and repair only these, by WorkOS id or by Gram id, and push their write-backs.

    Recent differences are applied too. If not all could be asked for by ``deadline``, a time of
    ``time.monotonic()``, nothing is done and it raises ``workos.Unavailable``. ``patience``: as in
    ``orgs.workos``. An id that neither side knows is an error in the report; if that is all, it
    raises ``UnknownOrganization``. An error of another resource is in its report. Raises
    ``WorkOSError`` and ``django.db.Error``. May be repeated and run concurrently.
    """
    comparing = Comparing(run, Lookups(patience=patience, dry=run.dry))
    found: dict[str, Observation] = {}
    in_mirror_alone: list[str] = []
    for id_ in dict.fromkeys(ids):
        if deadline is not None and time.monotonic() > deadline:
            raise workos.Unavailable("WorkOS answers too slowly for so many at once; choose fewer")
        try:
            named = _find(comparing.lookups, id_)
        except (UnknownOrganization, workos.Refused) as unknown:
            comparing.report.errors.append(one_line(unknown))
            continue
        if not named:
            in_mirror_alone.append(id_)
        found |= named
    if comparing.report.errors and not found and not in_mirror_alone:
        raise UnknownOrganization("; ".join(comparing.report.errors))
    _note_absent(comparing, found, in_mirror_alone)
    organizations = len(found) + len(in_mirror_alone)
    found = _without_unproven(comparing, found)
    comparing.compare([o for o in found.values() if o.state is not State.ABSENT])
    comparing.retry_locked()
    _disable_missing(comparing, found, organizations)
    others = _compare_resources(comparing, [*found.values()])
    touched = {c.organization_id for c in comparing.report.changes if c.organization_id}
    return conclude(comparing, DrainReport(), organizations, only=touched, others=others)


def _note_absent(
    comparing: Comparing, found: dict[str, Observation], in_mirror_alone: list[str]
) -> None:
    """Find out if a 404 counts; only then a row that the mirror alone knows is in sync."""
    if missing := {id_ for id_, o in found.items() if o.state is State.ABSENT}:
        # Before the first write: a row that this run links would prove any place right.
        comparing.lookups.proves_absence(missing)
    if in_mirror_alone and not comparing.lookups.proves_place(missing):
        comparing.leave_unproven(in_mirror_alone)
    else:
        comparing.report.counts[Outcome.UNCHANGED] += len(in_mirror_alone)


def _without_unproven(
    comparing: Comparing, found: dict[str, Observation]
) -> dict[str, Observation]:
    """Leave out those that no row is linked to yet, if the place may be the wrong one."""
    with comparing.lookups.reading():
        linked = rows.linked(found)
    here = {id_ for id_, o in found.items() if o.state is not State.ABSENT}
    new = here - linked
    if not new or here & linked or comparing.lookups.proves_place({*found}):
        return found
    comparing.leave_unproven(sorted(new))
    return {id_: observation for id_, observation in found.items() if id_ not in new}


def _compare_resources(
    comparing: Comparing, found: Sequence[Observation]
) -> tuple[ResourceRun, ...]:
    """Compare what belongs to organizations that are present: what is followed of it."""
    present = [organization for organization in found if organization.state is State.PRESENT]
    with comparing.lookups.reading():
        state, clock = read_cursor(), Clock(database_now())
    names = [name for name in resources_to_compare(comparing.run.resources, state) if name in PLAIN]
    runs = [
        ResourceRun(
            comparing.run, comparing.lookups, PLAIN[name], clock, is_covered=name in state.covered
        )
        for name in names
    ]
    for one in runs:
        with reporting_errors(one):
            for organization in present:
                compare_for_organization(one, organization)
            one.resolve_missing()
    if runs and present:
        only = [organization.workos_id or "" for organization in present]
        add_derived(comparing.report, dry=comparing.run.dry, only=only)
    return tuple(runs)


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
        observation = _find_in_workos(lookups, id_)
        return {observation.workos_id or id_: observation}
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
    if observation.state is not State.ABSENT:
        return observation
    if named := lookups.new_owner(id_):
        return named
    with lookups.reading():
        conflict = WorkOSConflict.objects.filter(pk=id_).first()
    if conflict is not None and conflict.kind != ConflictKind.LEDGER_REFUSED:
        # It is deleted, and so its conflict is solved.
        return observation
    if conflict is not None:
        # By another resource's key, or an event's id, of which this 404 says nothing.
        raise UnknownOrganization(
            f"WorkOS knows no organization {id_}: the next snapshot that compares everything "
            "without an error removes this conflict"
        )
    raise UnknownOrganization(f"neither the mirror nor WorkOS knows an organization {id_}")
