"""Adds conflicts, the request budget, and when a deletion in WorkOS was applied.

May be applied while the release before this one runs: it neither reads nor needs these.
"""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0004_kind_of_trouble"),
    ]

    operations = [
        migrations.CreateModel(
            name="RequestBudget",
            fields=[
                ("id", models.SmallIntegerField(db_default=1, primary_key=True, serialize=False)),
                (
                    "stream_tokens",
                    models.FloatField(db_default=0, help_text="For reads of the stream alone."),
                ),
                ("bulk_tokens", models.FloatField(db_default=0, help_text="For everything else.")),
                (
                    "refilled_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "paused_until",
                    models.DateTimeField(
                        help_text="WorkOS asked for a pause until then (429).", null=True
                    ),
                ),
                (
                    "refused_webhooks",
                    models.IntegerField(
                        db_default=0,
                        help_text="Webhooks with a well-formed signature that did not fit.",
                    ),
                ),
                (
                    "refused_since",
                    models.DateTimeField(help_text="When the first of these came.", null=True),
                ),
                (
                    "last_refused_at",
                    models.DateTimeField(help_text="When the last of these came.", null=True),
                ),
            ],
            options={
                "db_table": "workos_request_budget",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="WorkOSConflict",
            fields=[
                (
                    "workos_organization_id",
                    models.TextField(
                        help_text="The organization it is about.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS organization id",
                    ),
                ),
                (
                    "organization_id",
                    models.TextField(
                        blank=True, help_text="The Gram organization that it is about.", null=True
                    ),
                ),
                (
                    "kind",
                    models.TextField(
                        choices=[
                            ("row_claimed", "row_claimed"),
                            ("other_external_id", "other_external_id"),
                            ("write_back_refused", "write_back_refused"),
                            ("unreadable", "unreadable"),
                            ("ledger_refused", "ledger_refused"),
                        ],
                        help_text="What is claimed.",
                    ),
                ),
                ("reason", models.TextField(help_text="What WorkOS says, and what is here.")),
                (
                    "found_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was first found.",
                    ),
                ),
                (
                    "last_seen_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last found.",
                    ),
                ),
                (
                    "acknowledged_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When a person chose to keep it as it is; empty again when it changes.",
                        null=True,
                    ),
                ),
            ],
            options={
                "verbose_name": "conflict",
                "db_table": "workos_conflict",
                "required_db_vendor": "postgresql",
                "ordering": ["-found_at", "workos_organization_id"],
                "permissions": [
                    ("recheck_workosconflict", "Can look at conflicts again"),
                    ("overwrite_workosconflict", "Can overwrite external_id in WorkOS"),
                    ("relink_workosconflict", "Can give a row to the new organization"),
                    ("acknowledge_workosconflict", "Can keep conflicts as they are"),
                ],
            },
        ),
        migrations.AddField(
            model_name="organization",
            name="workos_deleted_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When its deletion in WorkOS was applied, or confirmed by a 404.",
                null=True,
                verbose_name="deleted in WorkOS at",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="failing_since",
            field=models.DateTimeField(
                help_text="When the first of these reads failed; empty after a good one.", null=True
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="last_failed",
            field=models.IntegerField(
                db_default=0, help_text="How many organizations PostgreSQL refused to write in it."
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="snapshot_error_kind",
            field=models.TextField(
                blank=True,
                db_default="",
                help_text="What kind of error that was, as in last_trouble.",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="worker_started_at",
            field=models.DateTimeField(
                help_text="When manage.py sync_worker last started a cluster.", null=True
            ),
        ),
    ]
