"""Removes from the memberships' ``data`` the user that WorkOS's lists show in it: who may see
memberships may not see users, and erasing a user left it.

May be applied while programs write. The release before this one may write it again until it ends.
"""

from django.db import migrations, models

from orgs.migrations._postgres import RunPostgres

#: A thousand rows at a time, locked in the order of their keys, as the mirror does: a million rows
#: take long, and whoever waits for one of them waits for its thousand alone.
_REMOVE = """
DO $$
DECLARE
    last text := '';
    upto text;
BEGIN
    LOOP
        SELECT max(workos_id) INTO upto FROM (
            SELECT workos_id FROM workos_organization_membership WHERE workos_id > last
            ORDER BY workos_id LIMIT 1000
        ) AS batch;
        EXIT WHEN upto IS NULL;
        UPDATE workos_organization_membership SET data = data - 'user' WHERE workos_id IN (
            SELECT workos_id FROM workos_organization_membership
            WHERE workos_id > last AND workos_id <= upto AND data ? 'user'
            ORDER BY workos_id FOR NO KEY UPDATE
        );
        COMMIT;
        last := upto;
    END LOOP;
END $$
"""


class Migration(migrations.Migration):
    # It commits by itself. Interrupted, it is run again.
    atomic = False

    dependencies = [("orgs", "0011_room_for_updates")]

    operations = [
        migrations.AlterField(
            model_name="synccursor",
            name="worker_started_at",
            field=models.DateTimeField(
                help_text="When manage.py sync_worker started a cluster: the first time since a "
                "read to the end.",
                null=True,
            ),
        ),
        RunPostgres(_REMOVE, ""),
    ]
