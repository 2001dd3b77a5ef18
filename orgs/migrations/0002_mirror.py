"""What the mirror keeps for itself: its cursor, its ledger and its outbox."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

from orgs.migrations._postgres import RunPostgres


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0001_organization"),
        # The schedules are rows of django-q2's, made once both are migrated.
        ("django_q", "0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more"),
    ]

    operations = [
        migrations.CreateModel(
            name="SyncCursor",
            fields=[
                (
                    "stream",
                    models.TextField(
                        help_text="Which of WorkOS's streams is followed.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "last_event_id",
                    models.TextField(
                        help_text="The last event applied. Without it, reads start at last_event_at.",
                        null=True,
                    ),
                ),
                (
                    "last_event_at",
                    models.DateTimeField(help_text="When that event was created.", null=True),
                ),
                (
                    "drained_at",
                    models.DateTimeField(
                        help_text="When a read last reached the end of the stream.", null=True
                    ),
                ),
                (
                    "draining_until",
                    models.DateTimeField(
                        help_text="The waiting drain's lease; in the past or empty: nobody waits.",
                        null=True,
                    ),
                ),
                (
                    "rung_until",
                    models.DateTimeField(
                        help_text="A drain was rung for and has not begun; in the past or empty: none.",
                        null=True,
                    ),
                ),
                (
                    "reconciling_until",
                    models.DateTimeField(help_text="A snapshot's lease.", null=True),
                ),
                (
                    "reconciled_at",
                    models.DateTimeField(help_text="When a snapshot last completed.", null=True),
                ),
                (
                    "failures",
                    models.IntegerField(
                        db_default=0, help_text="Failed reads since the last good one."
                    ),
                ),
                (
                    "last_error",
                    models.TextField(
                        blank=True,
                        db_default="",
                        help_text="Why the last read failed; empty after a good one.",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "sync status",
                "db_table": "workos_sync_cursor",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="WorkOSEvent",
            fields=[
                (
                    "id",
                    models.TextField(
                        help_text="WorkOS's id of the event.", primary_key=True, serialize=False
                    ),
                ),
                ("type", models.TextField(help_text="WorkOS's type of the event.")),
                (
                    "workos_organization_id",
                    models.TextField(
                        blank=True,
                        help_text="The organization it is about.",
                        null=True,
                        verbose_name="WorkOS organization id",
                    ),
                ),
                (
                    "organization_id",
                    models.TextField(
                        blank=True, help_text="The Gram organization it was applied to.", null=True
                    ),
                ),
                (
                    "occurred_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When WorkOS created it; known once it is read.",
                        null=True,
                    ),
                ),
                (
                    "announced_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the first webhook for it came, if one did.",
                        null=True,
                    ),
                ),
                (
                    "processed_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When it was applied, parked, dismissed or given up.",
                        null=True,
                    ),
                ),
                (
                    "outcome",
                    models.TextField(
                        blank=True,
                        choices=[
                            ("created", "created"),
                            ("linked", "linked"),
                            ("relinked", "relinked"),
                            ("updated", "updated"),
                            ("disabled", "disabled"),
                            ("stale", "stale"),
                            ("unknown", "unknown"),
                            ("ignored", "ignored"),
                            ("parked", "parked"),
                            ("missing", "missing"),
                            ("dismissed", "dismissed"),
                        ],
                        help_text="What became of it. The first outcome stays; only a parked one may change.",
                        null=True,
                    ),
                ),
                (
                    "error",
                    models.TextField(blank=True, db_default="", help_text="Why it was parked."),
                ),
                (
                    "payload",
                    models.TextField(
                        blank=True,
                        help_text="What WorkOS sent; kept for parked events only.",
                        null=True,
                    ),
                ),
            ],
            options={
                "verbose_name": "WorkOS event",
                "db_table": "workos_event",
                "required_db_vendor": "postgresql",
                "ordering": ["-occurred_at", "-id"],
                "permissions": [
                    ("replay_workosevent", "Can apply what WorkOS says now"),
                    ("dismiss_workosevent", "Can dismiss parked events"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ExternalIdWriteBack",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="write_back",
                        serialize=False,
                        to="orgs.organization",
                    ),
                ),
                (
                    "workos_id",
                    models.TextField(
                        help_text="The WorkOS organization that is to be told.",
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "requested_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When an event last showed that WorkOS does not know our id.",
                    ),
                ),
                ("attempts", models.IntegerField(db_default=0, help_text="Attempts since then.")),
                (
                    "next_attempt_at",
                    models.DateTimeField(
                        blank=True,
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="Empty: a conflict, which waits for a person.",
                        null=True,
                    ),
                ),
                (
                    "last_error",
                    models.TextField(
                        blank=True, db_default="", help_text="Why the last attempt failed."
                    ),
                ),
            ],
            options={
                "verbose_name": "external_id write-back",
                "db_table": "workos_external_id_write_back",
                "required_db_vendor": "postgresql",
                "permissions": [("retry_externalidwriteback", "Can try write-backs again now")],
            },
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(
                condition=models.Q(("announced_at__isnull", False), ("processed_at__isnull", True)),
                fields=["announced_at"],
                name="workos_event_unseen",
            ),
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(fields=["workos_organization_id"], name="workos_event_organization"),
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(
                condition=models.Q(("type", "organization.deleted")),
                fields=["workos_organization_id"],
                name="workos_event_deletion",
            ),
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(
                condition=models.Q(("organization_id__isnull", False)),
                fields=["organization_id"],
                name="workos_event_row",
            ),
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(
                condition=models.Q(("processed_at__isnull", False)),
                fields=["processed_at"],
                name="workos_event_processed",
            ),
        ),
        migrations.AddIndex(
            model_name="workosevent",
            index=models.Index(
                condition=models.Q(("outcome", "parked")), fields=["id"], name="workos_event_parked"
            ),
        ),
        migrations.AddConstraint(
            model_name="workosevent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("outcome__isnull", True), ("processed_at__isnull", True)),
                    models.Q(
                        (
                            "outcome__in",
                            [
                                "created",
                                "linked",
                                "relinked",
                                "updated",
                                "disabled",
                                "stale",
                                "unknown",
                                "ignored",
                                "parked",
                                "missing",
                                "dismissed",
                            ],
                        ),
                        ("outcome__isnull", False),
                        ("processed_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="workos_event_outcome",
            ),
        ),
        migrations.AddIndex(
            model_name="externalidwriteback",
            index=models.Index(fields=["next_attempt_at"], name="workos_write_back_due"),
        ),
        # Cascading in the database, not in Django: other programs delete organizations with SQL.
        RunPostgres(
            sql="""
                ALTER TABLE workos_external_id_write_back
                ADD CONSTRAINT workos_external_id_write_back_organization_id_fkey
                FOREIGN KEY (organization_id) REFERENCES organization_metadata (id)
                ON DELETE CASCADE
            """,
            reverse_sql="""
                ALTER TABLE workos_external_id_write_back
                DROP CONSTRAINT workos_external_id_write_back_organization_id_fkey
            """,
        ),
    ]
