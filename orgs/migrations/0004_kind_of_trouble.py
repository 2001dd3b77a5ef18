"""What kind of trouble the last failed read had, which can be told where its words can't; how much the
last snapshot repaired, or what kept it from completing; and who may have the stream read, or a snapshot taken.

May be applied while the release before this one runs: it neither reads nor needs the columns.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orgs", "0003_one_index_a_key")]

    operations = [
        migrations.AlterModelOptions(
            name="synccursor",
            options={
                "permissions": [
                    ("drain_synccursor", "Can have the stream read now"),
                    ("snapshot_synccursor", "Can have a snapshot taken now"),
                ],
                "verbose_name_plural": "sync status",
            },
        ),
        migrations.AddField(
            model_name="synccursor",
            name="last_trouble",
            field=models.TextField(
                blank=True,
                db_default="",
                help_text="What kind of trouble the last failed read had.",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="snapshot_trouble",
            field=models.TextField(
                blank=True,
                db_default="",
                help_text="Why the last snapshot did not complete; or empty.",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="last_drift",
            field=models.IntegerField(
                db_default=0, help_text="How many organizations differed, and were repaired by it."
            ),
        ),
    ]
