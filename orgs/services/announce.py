"""Sends signals about what was written, and logs it."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from django.db import DatabaseError, connection, transaction
from django.dispatch import Signal

from orgs import signals
from orgs.db import resources
from orgs.db.errors import ReceiverFailed, describe, is_mistake
from orgs.domain.naming import one_line
from orgs.domain.report import Change
from orgs.domain.resolution import changes_of
from orgs.domain.resources import Resource
from orgs.domain.types import Conflict, Decision, Outcome
from orgs.models import Organization
from orgs.services.decide import Decided

logger = logging.getLogger(__name__)

_SIGNALS = {
    Outcome.CREATED: signals.organization_created,
    Outcome.UPDATED: signals.organization_updated,
    Outcome.RELINKED: signals.organization_relinked,
    Outcome.DISABLED: signals.organization_disabled,
}

_RAISED = "A receiver of changes_applied raised"

Taken: TypeAlias = Sequence[tuple[Resource, str, str | None]]
"""What was deleted along with something else: the resource, the key, and the organization."""


def send_changes(decided: Decided, new_conflicts: Sequence[Conflict], taken: Taken = ()) -> None:
    """Send ``changes_applied`` now, inside the transaction, and the other signals after its commit.

    Raises ``ReceiverFailed`` if a receiver of ``changes_applied`` raises.
    """
    _send_in_transaction(decided, taken)
    if changes := decided.plan.changes:
        send_after_commit([(_SIGNALS[kind], row.id, row.workos_id) for kind, row in changes])
    if signals.resource_changed.receivers and any(one.changed for one in decided.resolutions):
        transaction.on_commit(partial(_send_resources, decided, taken), robust=True)
    if new_conflicts:
        transaction.on_commit(partial(_log_conflicts, new_conflicts), robust=True)
    if logger.isEnabledFor(logging.DEBUG):
        transaction.on_commit(partial(_log_decisions, decided.decisions), robust=True)


def _send_in_transaction(decided: Decided, taken: Taken) -> None:
    if not signals.changes_applied.has_listeners():
        return
    reported = (Outcome.PARKED, Outcome.CONFLICT, Outcome.DISABLED_HERE, Outcome.FAILED)
    written = [c for d in decided.decisions for c in changes_of(d) if c.change not in reported]
    written += [
        Change(None, key, Outcome.DELETED, resource=one.name, workos_organization_id=about)
        for one, key, about in taken
    ]
    if not written:
        return
    try:
        with transaction.atomic():
            signals.changes_applied.send(sender=None, changes=tuple(written))
            is_hidden = connection.needs_rollback
    except DatabaseError as error:
        if not is_mistake(error):
            # Its SQLSTATE says whether it passes, as for a statement of ours.
            raise
        raise ReceiverFailed(f"{_RAISED} {type(error).__name__}: {describe(error)}") from error
    except Exception as error:
        raise ReceiverFailed(f"{_RAISED} {type(error).__name__}: {error}") from error
    if is_hidden:
        # Django has rolled back what all receivers wrote, and said nothing.
        raise ReceiverFailed(f"{_RAISED} no exception: it caught one without an own atomic()")


def send_after_commit(changes: Sequence[tuple[Signal, str, str | None]]) -> None:
    """Send each signal about Gram's id and WorkOS's, once the transaction is committed."""

    def send() -> None:
        for signal, id_, workos_id in changes:
            signal.send_robust(sender=Organization, organization_id=id_, workos_id=workos_id)

    transaction.on_commit(send, robust=True)


def _send_resources(decided: Decided, taken: Taken) -> None:
    along = {(resource.name, key) for resource, key, _ in taken}
    known = {(one.resource, row.key) for one in decided.resolutions for row in one.loaded}
    kinds = {True: Outcome.UPDATED, False: Outcome.CREATED}
    changed = [
        (
            one.resource,
            key,
            row.workos_organization_id,
            Outcome.DELETED if row.deleted_at else kinds[(one.resource, key) in known],
        )
        for one in decided.resolutions
        for key, row in one.changed.items()
        if (one.resource.name, key) not in along
    ]
    changed += [(*row, Outcome.DELETED) for row in taken]
    for resource, key, organization_id, change in changed:
        signals.resource_changed.send_robust(
            sender=resources.model_of(resource),
            key=key,
            workos_organization_id=organization_id,
            change=change,
        )


def _log_conflicts(conflicts: Sequence[Conflict]) -> None:
    for conflict in conflicts:
        about = {"organization": conflict.workos_id, "outcome": Outcome.CONFLICT}
        logger.warning("a conflict waits for a person: %s", one_line(conflict.reason), extra=about)


def _log_decisions(decisions: Sequence[Decision]) -> None:
    for decision in decisions:
        event, workos_id = decision.observation.event, decision.observation.workos_id
        event_id = event.id if event else None
        about = {"event": event_id, "organization": workos_id, "outcome": decision.outcome}
        logger.debug("%s: %s", event_id or workos_id, decision.outcome, extra=about)
