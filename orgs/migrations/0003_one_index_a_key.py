"""One index for each key, where Django made two."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orgs", "0002_mirror")]

    operations = [
        # Django gives each text key a second index for LIKE 'a%', which nobody asks: a third of what
        # an insert costs the indexes. It makes them when a migration ends, so not in that one.
        migrations.RunSQL(
            sql="""
                DROP INDEX IF EXISTS organization_metadata_id_2812479d_like,
                    workos_event_id_b7e6a2b6_like, workos_sync_cursor_stream_fc4010bd_like,
                    workos_external_id_write_back_organization_id_e22d1274_like
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
