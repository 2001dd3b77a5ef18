"""Disables and enables organizations here, because a person says so.

The sync goes on with their names and links, and never enables one by itself; a snapshot tells that
one is disabled here alone, and disables again what WorkOS has deleted.
"""

from collections.abc import Sequence

from django.db import connection

from orgs.services import sql
from orgs.services.transactions import bounded_transaction


def disable(ids: Sequence[str]) -> list[str]:
    """Disables these organizations now, by the database's clock; returns the ids of those that were
    not disabled yet.

    May be repeated and run concurrently. Raises ``django.db.Error``.
    """
    return _switch(sql.DISABLE_HERE, ids)


def enable(ids: Sequence[str]) -> list[str]:
    """Enables these organizations; returns the ids of those that were disabled. As ``disable``."""
    return _switch(sql.ENABLE_HERE, ids)


def _switch(statement: str, ids: Sequence[str]) -> list[str]:
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(statement, [list(ids)])
        return sorted(id_ for (id_,) in cursor.fetchall())
