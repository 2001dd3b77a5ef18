"""Counts the requests for a write-back, so that a repeated one keeps the time of the first.

May be applied while the release before this one runs: it inserts rows without the column.
"""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orgs", "0008_validate_outcomes")]

    operations = [
        migrations.AddField(
            model_name="externalidwriteback",
            name="requests",
            field=models.IntegerField(
                db_default=1,
                help_text="Grows when it is requested again: an answer to an earlier request is "
                "outdated.",
            ),
        ),
        migrations.AlterField(
            model_name="externalidwriteback",
            name="requested_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(),
                help_text="When WorkOS was first seen not to know our id.",
            ),
        ),
    ]
