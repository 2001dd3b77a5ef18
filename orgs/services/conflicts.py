"""Carries out what a person decides about a conflict. WorkOS is called outside of transactions."""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db.models import QuerySet
from django.db.models.functions import Now

from orgs import workos
from orgs.db import rows, sql
from orgs.db.transactions import bounded_transaction
from orgs.domain.report import Change
from orgs.domain.resolution import gram_id
from orgs.domain.types import ConflictKind, Outcome, State
from orgs.models import Organization, WorkOSConflict
from orgs.services.apply import Mode, apply
from orgs.services.decide import Batch
from orgs.services.lookups import Lookups
from orgs.services.refusals import reporting, write_in_batches

logger = logging.getLogger(__name__)


class NotDecidable(Exception):
    """The conflict is solved meanwhile, or is of a kind that this decision does not solve."""


#: Which decisions there are for each kind, beside keeping it as it is.
OVERWRITABLE = (ConflictKind.OTHER_EXTERNAL_ID, ConflictKind.WRITE_BACK_REFUSED)
RELINKABLE = (ConflictKind.ROW_CLAIMED,)


def overwrite_in_workos(workos_id: str) -> Change:
    """Write the row's id to WorkOS, over the ``external_id`` that is there.

    May be repeated. Raises ``NotDecidable``, ``workos.ExternalIdConflict`` if another organization
    in WorkOS has the id, ``WorkOSError`` and ``django.db.Error``.
    """
    conflict = _conflict(workos_id, OVERWRITABLE)
    with bounded_transaction():
        row = Organization.objects.filter(workos_id=workos_id).first()
    if row is None:
        raise NotDecidable(f"no row is linked to {workos_id} any more")
    before = workos.offer_external_id(workos_id, row.id, overwrite=True)
    with bounded_transaction(
        rows.statement(sql.WITHDRAW_WRITE_BACKS, [row.id]),
        rows.statement(sql.REMOVE_CONFLICTS, [conflict.workos_organization_id]),
    ):
        pass
    return Change(row.id, workos_id, Outcome.WRITE_BACK, {"external_id": (before, row.id)})


def give_row(workos_id: str) -> Change:
    """Link the row that two organizations claim to this one, and update it.

    The other organization gets a row of its own with its next event or reconcile. If its derived id
    is this row's, that is a conflict of its own. May be repeated. Raises ``NotDecidable``, also if
    PostgreSQL refuses it, ``WorkOSError`` and ``django.db.Error``.
    """
    conflict = _conflict(workos_id, RELINKABLE)
    with bounded_transaction():
        row = Organization.objects.filter(id=conflict.organization_id).first()
    observation = (lookups := Lookups()).look_up(workos_id)
    if row is None or observation.state is not State.PRESENT:
        raise NotDecidable(f"{workos_id}, or the row it claims, does not exist any more")
    if gram_id(workos_id, observation.organization) != row.id:
        raise NotDecidable(f"{workos_id} does not claim {row.id} any more: look again")
    holder = lookups.new_owner(row.id)
    if holder is not None and holder.workos_id != workos_id:
        raise NotDecidable(
            f"WorkOS has external_id {row.id!r} for {holder.workos_id}, whose next event would "
            "take the row back: remove it there, or write another one; then choose this again"
        )
    owner = frozenset({row.workos_id} if row.workos_id else ())
    report = apply(Batch(observations=[observation], absent=owner), Mode.REFRESH)
    for change in report.changes:
        if change.change in (Outcome.FAILED, Outcome.CONFLICT):
            raise NotDecidable(change.reason)
        return change
    if report.counts[Outcome.STALE]:
        raise NotDecidable(f"{workos_id} is deleted in WorkOS, by an event that came meanwhile")
    return Change(row.id, workos_id, Outcome.UNCHANGED)


def keep(workos_ids: Sequence[str]) -> list[str]:
    """Acknowledge conflicts: no warning, until they change. Return the ids of those that were not,
    before."""
    undecided = WorkOSConflict.objects.undecided().filter(pk__in=workos_ids).order_by("pk")
    with bounded_transaction():
        ids = [*undecided.select_for_update().values_list("pk", flat=True)]
        WorkOSConflict.objects.filter(pk__in=ids).update(acknowledged_at=Now())
    return ids


def remove_ledger_refused(before: datetime) -> None:
    """Remove the conflicts of events that the ledger refused before then, after a run that has
    compared everything: they have nothing to add. Those that are locked, or that PostgreSQL refuses
    to delete, are logged and wait for the next run."""
    refused = WorkOSConflict.objects.filter(kind=ConflictKind.LEDGER_REFUSED)
    solved = refused.filter(last_seen_at__lt=before)
    with reporting(logger.warning, "solved conflicts could not be removed: {}"):
        write_in_batches(solved, QuerySet.delete)


def _conflict(workos_id: str, kinds: Sequence[ConflictKind]) -> WorkOSConflict:
    with bounded_transaction():
        conflict = WorkOSConflict.objects.filter(pk=workos_id).first()
    if conflict is None:
        raise NotDecidable(f"{workos_id} has no conflict any more")
    if conflict.kind not in kinds:
        raise NotDecidable(f"the conflict of {workos_id} is of another kind: {conflict.kind}")
    return conflict
