"""Asks what the database's user may do with the tables."""

from django.db import DEFAULT_DB_ALIAS, connections
from django_q.models import OrmQ, Schedule, Task

from orgs.db import sql
from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

#: Organizations are disabled, never deleted.
_NEEDED = {
    Organization: ("SELECT", "INSERT", "UPDATE"),
    SyncCursor: ("SELECT", "INSERT", "UPDATE"),
    WorkOSEvent: _ALL,
    ExternalIdWriteBack: _ALL,
    OrmQ: _ALL,
    Schedule: _ALL,
    Task: _ALL,
}


def missing_grants(*, using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """What is needed and not granted, as in ``UPDATE ON workos_event``.

    Tables that are not there miss nothing. Raises ``django.db.Error``.
    """
    needed = [
        (model._meta.db_table, privilege)
        for model, privileges in _NEEDED.items()
        for privilege in privileges
    ]
    with connections[using].cursor() as cursor:
        cursor.execute(sql.MISSING_GRANTS, [list(column) for column in zip(*needed, strict=True)])
        return [f"{privilege} ON {table}" for table, privilege in cursor.fetchall()]
