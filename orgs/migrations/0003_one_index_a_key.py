"""One index for each key, where Django made two."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_OURS = (
    "workos_event_id_b7e6a2b6_like",
    "workos_sync_cursor_stream_fc4010bd_like",
    "workos_external_id_write_back_organization_id_e22d1274_like",
)
_ORGANIZATIONS = "organization_metadata_id_2812479d_like"

#: The first migration gave the table this, unless it was there before, whoever made it.
_IS_OURS = """
SELECT EXISTS (
    SELECT FROM pg_class
    WHERE oid = to_regclass('organization_metadata') AND 'fillfactor=85' = ANY(reloptions)
        AND pg_has_role(relowner, 'USAGE')
)
"""


def drop(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_IS_OURS)
        (is_ours,) = cursor.fetchone()
        for index in (*_OURS, _ORGANIZATIONS) if is_ours else _OURS:
            # Waits for who reads the table, and keeps nobody else from it meanwhile.
            cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")


class Migration(migrations.Migration):
    # DROP INDEX CONCURRENTLY allows no transaction. Interrupted, it is run again.
    atomic = False

    dependencies = [("orgs", "0002_mirror")]

    operations = [
        # Django gives each text key a second index for LIKE 'a%', which nobody asks: a third of what
        # an insert costs the indexes. It makes them when a migration ends, so not in that one.
        migrations.RunPython(drop, migrations.RunPython.noop),
    ]
