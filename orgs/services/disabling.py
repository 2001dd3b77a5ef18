"""Disables and enables organizations here, because a person says so.

The sync goes on with their names and links, and never enables one by itself. A row that is disabled
here and lives in WorkOS is reported. One that WorkOS has deleted is disabled again.
"""

from collections.abc import Sequence

from django.dispatch import Signal

from orgs.db import sql
from orgs.db.transactions import Statement, bounded_transaction
from orgs.services.announce import send_after_commit
from orgs.signals import organization_disabled, organization_enabled


def disable(ids: Sequence[str]) -> list[str]:
    """Disable these organizations now; return the ids of those that were enabled.

    Sends ``organization_disabled``. May be repeated and run concurrently. Raises
    ``django.db.Error``.
    """
    return _switch(sql.DISABLE_HERE, ids, organization_disabled)


def enable(ids: Sequence[str]) -> list[str]:
    """Enable these organizations; return the ids of those that were disabled.

    Sends ``organization_enabled``. May be repeated and run concurrently. Raises
    ``django.db.Error``.
    """
    return _switch(sql.ENABLE_HERE, ids, organization_enabled)


def _switch(statement: str, ids: Sequence[str], signal: Signal) -> list[str]:
    with bounded_transaction(Statement(statement, [list(ids)])) as (rows,):
        switched = sorted(rows)
        if switched:
            send_after_commit([(signal, id_, workos_id) for id_, workos_id in switched])
    return [id_ for id_, _ in switched]
