"""Disables and enables organizations here, because a person says so.

The sync goes on with their names and links, and never enables one by itself; a snapshot tells that
one is disabled here alone, and disables again what WorkOS has deleted.
"""

from collections.abc import Sequence

from django.dispatch import Signal

from orgs.db import sql
from orgs.db.rows import tell
from orgs.db.transactions import Statement, bounded_transaction
from orgs.signals import organization_disabled, organization_enabled


def disable(ids: Sequence[str]) -> list[str]:
    """Disables these organizations now, by the database's clock; returns the ids of those that were
    not disabled yet.

    Who listens to ``organization_disabled`` is told. May be repeated and run concurrently. Raises
    ``django.db.Error``.
    """
    return _switch(sql.DISABLE_HERE, ids, organization_disabled)


def enable(ids: Sequence[str]) -> list[str]:
    """Enables these organizations; returns those that were disabled. As ``disable``, with
    ``organization_enabled``.
    """
    return _switch(sql.ENABLE_HERE, ids, organization_enabled)


def _switch(statement: str, ids: Sequence[str], signal: Signal) -> list[str]:
    with bounded_transaction(Statement(statement, [list(ids)])) as (rows,):
        switched = sorted(rows)
        tell((signal, id_, workos_id) for id_, workos_id in switched)
    return [id_ for id_, _ in switched]
