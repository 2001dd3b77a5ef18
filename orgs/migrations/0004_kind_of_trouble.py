"""What kind of trouble the last failed read had, which can be told where its words can't.

May be applied while the release before this one runs: it neither reads nor needs the column.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orgs", "0003_one_index_a_key")]

    operations = [
        migrations.AddField(
            model_name="synccursor",
            name="last_trouble",
            field=models.TextField(
                blank=True,
                db_default="",
                help_text="What kind of trouble the last failed read had.",
            ),
        ),
    ]
