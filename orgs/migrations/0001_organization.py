"""Gram's own table. Where it is there already, ``migrate --fake-initial`` takes it as it is."""

import django.db.models.functions.datetime
from django.db import migrations, models

from orgs.migrations._postgres import RunPostgres


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Organization",
            fields=[
                (
                    "id",
                    models.TextField(
                        help_text="Gram's id; WorkOS's external_id.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.TextField(help_text="Owned by WorkOS: a rename there overwrites it."),
                ),
                (
                    "slug",
                    models.TextField(
                        help_text="Chosen once, when the row is created; never written again by the sync."
                    ),
                ),
                (
                    "workos_id",
                    models.TextField(
                        blank=True,
                        help_text="The WorkOS organization that this one is linked to.",
                        null=True,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="WorkOS's updated_at, as last applied.",
                        null=True,
                        verbose_name="WorkOS updated at",
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a snapshot. Older events are stale.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                ("gram_account_type", models.TextField(db_default="free")),
                ("whitelisted", models.BooleanField(db_default=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "disabled_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When it was disabled; updates never enable it again.",
                        null=True,
                    ),
                ),
            ],
            options={
                "db_table": "organization_metadata",
                "required_db_vendor": "postgresql",
                "permissions": [
                    ("reconcile_organization", "Can reconcile with WorkOS"),
                    ("disable_organization", "Can disable organizations here"),
                    ("enable_organization", "Can enable organizations here"),
                ],
            },
        ),
        # Room in each page for the new versions of its rows: an update that finds some touches no
        # index, which a million rows were measured to need. Of a table that is there already its
        # owner decides.
        RunPostgres(
            sql="ALTER TABLE organization_metadata SET (fillfactor = 85)",
            reverse_sql="ALTER TABLE organization_metadata RESET (fillfactor)",
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.UniqueConstraint(
                fields=("slug",), name="organization_metadata_slug_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.UniqueConstraint(
                fields=("workos_id",), name="organization_metadata_workos_id_key"
            ),
        ),
    ]
