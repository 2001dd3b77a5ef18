"""What the last snapshot repaired is kept on the cursor's row. Adds a column with a default.

The rest is names in the admin, which PostgreSQL does not know.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orgs", "0009_repeated_write_backs")]

    operations = [
        migrations.AddField(
            model_name="synccursor",
            name="last_changes",
            field=models.JSONField(
                db_default=models.Value([], models.JSONField()),
                help_text="Which organizations: the first 200.",
            ),
        ),
        migrations.AlterModelOptions(
            name="externalidwriteback",
            options={
                "permissions": [("retry_externalidwriteback", "Can try write-backs again now")],
                "verbose_name": "write-back of external_id",
                "verbose_name_plural": "write-backs of external_id",
            },
        ),
        migrations.AlterField(
            model_name="directorygroup",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
                verbose_name="directory",
            ),
        ),
        migrations.AlterField(
            model_name="directorygroupmember",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
                verbose_name="directory",
            ),
        ),
        migrations.AlterField(
            model_name="directorygroupmember",
            name="workos_directory_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directoryuser",
                verbose_name="directory user",
            ),
        ),
        migrations.AlterField(
            model_name="directorygroupmember",
            name="workos_group",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directorygroup",
                verbose_name="group",
            ),
        ),
        migrations.AlterField(
            model_name="directoryuser",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
                verbose_name="directory",
            ),
        ),
        migrations.AlterField(
            model_name="invitation",
            name="accepted_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.workosuser",
                verbose_name="accepted by",
            ),
        ),
        migrations.AlterField(
            model_name="organizationmembership",
            name="workos_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.workosuser",
                verbose_name="WorkOS user",
            ),
        ),
        migrations.AlterField(
            model_name="workosevent",
            name="payload",
            field=models.TextField(
                blank=True,
                help_text="What WorkOS sent, of a parked event; a hash of it, of a dismissed one.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="workosuser",
            name="external_id",
            field=models.TextField(blank=True, null=True, verbose_name="WorkOS external_id"),
        ),
    ]
