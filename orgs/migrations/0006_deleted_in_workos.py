"""Fills ``workos_deleted_at`` of the rows whose deletion is in the ledger.

A row that was disabled because WorkOS answered 404 has no event: the next full reconcile asks again.
In a migration of its own, so that the lock for adding the column is not held meanwhile.
"""

from django.db import migrations

from orgs.migrations._postgres import RunPostgres


class Migration(migrations.Migration):
    dependencies = [("orgs", "0005_conflicts_and_budget")]

    operations = [
        RunPostgres(
            sql="""
                UPDATE organization_metadata AS o
                SET workos_deleted_at = coalesce(e.processed_at, o.disabled_at)
                FROM (
                    SELECT workos_organization_id, min(processed_at) AS processed_at
                    FROM workos_event
                    WHERE type = 'organization.deleted' AND outcome = 'disabled'
                    GROUP BY workos_organization_id
                ) AS e
                WHERE o.workos_id = e.workos_organization_id AND o.disabled_at IS NOT NULL
                    AND o.workos_deleted_at IS NULL
            """,
            reverse_sql=RunPostgres.noop,
        ),
    ]
