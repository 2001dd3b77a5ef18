"""Adds the resources beside organizations, and what the cursor and the ledger hold about them.

May be applied while the release before this one runs. The ledger's constraint is validated by the next
migration, which lets others write meanwhile.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orgs", "0006_deleted_in_workos"),
    ]

    operations = [
        migrations.CreateModel(
            name="Connection",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                ("connection_type", models.TextField(blank=True, null=True)),
                ("name", models.TextField(blank=True, null=True)),
                (
                    "state",
                    models.TextField(
                        blank=True, help_text="As WorkOS says it: active, inactive, …", null=True
                    ),
                ),
            ],
            options={
                "db_table": "workos_connection",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="Directory",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                ("directory_type", models.TextField(blank=True, null=True)),
                ("name", models.TextField(blank=True, null=True)),
                (
                    "state",
                    models.TextField(
                        blank=True, help_text="As WorkOS says it: active or linked, …", null=True
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "directories",
                "db_table": "workos_directory",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="DirectoryGroup",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                ("name", models.TextField(blank=True, null=True)),
            ],
            options={
                "db_table": "workos_directory_group",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="DirectoryGroupMember",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                (
                    "removed_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the user left the group; the row stays.",
                        null=True,
                    ),
                ),
            ],
            options={
                "db_table": "workos_directory_group_member",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="DirectoryUser",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                (
                    "erased_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its personal data was erased; it never comes back.",
                        null=True,
                    ),
                ),
                ("email", models.TextField(blank=True, null=True)),
                (
                    "state",
                    models.TextField(
                        blank=True,
                        help_text="As WorkOS says it; only active gives access.",
                        null=True,
                    ),
                ),
                ("first_name", models.TextField(blank=True, null=True)),
                ("last_name", models.TextField(blank=True, null=True)),
            ],
            options={
                "db_table": "workos_directory_user",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                (
                    "erased_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its personal data was erased; it never comes back.",
                        null=True,
                    ),
                ),
                ("email", models.TextField(blank=True, null=True)),
                (
                    "state",
                    models.TextField(
                        blank=True,
                        help_text="As WorkOS says it: pending, accepted, expired, revoked.",
                        null=True,
                    ),
                ),
                ("role_slug", models.TextField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "db_table": "workos_invitation",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="OrganizationDomain",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                ("domain", models.TextField(blank=True, null=True)),
                (
                    "state",
                    models.TextField(
                        blank=True,
                        help_text="As WorkOS says it: pending, verified, failed, …",
                        null=True,
                    ),
                ),
            ],
            options={
                "verbose_name": "domain",
                "db_table": "workos_organization_domain",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="OrganizationMembership",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                (
                    "erased_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its personal data was erased; it never comes back.",
                        null=True,
                    ),
                ),
                (
                    "status",
                    models.TextField(
                        blank=True,
                        help_text="As WorkOS says it: active, inactive, pending.",
                        null=True,
                    ),
                ),
                (
                    "role_slugs",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        db_default=models.Value(
                            [],
                            django.contrib.postgres.fields.ArrayField(
                                base_field=models.TextField(), size=None
                            ),
                        ),
                        help_text="The slugs of its roles.",
                        size=None,
                    ),
                ),
            ],
            options={
                "verbose_name": "membership",
                "db_table": "workos_organization_membership",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="Role",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                ("slug", models.TextField(blank=True, null=True)),
                ("name", models.TextField(blank=True, null=True)),
                ("description", models.TextField(blank=True, null=True)),
                (
                    "permissions",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(),
                        db_default=models.Value(
                            [],
                            django.contrib.postgres.fields.ArrayField(
                                base_field=models.TextField(), size=None
                            ),
                        ),
                        help_text="The slugs of what it permits.",
                        size=None,
                    ),
                ),
            ],
            options={
                "db_table": "workos_role",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.CreateModel(
            name="WorkOSUser",
            fields=[
                (
                    "workos_id",
                    models.TextField(
                        help_text="WorkOS's key of it.",
                        primary_key=True,
                        serialize=False,
                        verbose_name="WorkOS id",
                    ),
                ),
                (
                    "workos_created_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="created in WorkOS at"
                    ),
                ),
                (
                    "workos_updated_at",
                    models.DateTimeField(
                        blank=True, null=True, verbose_name="updated in WorkOS at"
                    ),
                ),
                (
                    "workos_last_event_id",
                    models.TextField(
                        blank=True,
                        help_text="The last event applied; empty after a list or a fetch.",
                        null=True,
                        verbose_name="WorkOS last event id",
                    ),
                ),
                (
                    "deleted_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its deletion was applied; the row stays.",
                        null=True,
                    ),
                ),
                (
                    "synced_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last written here.",
                    ),
                ),
                (
                    "data",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()),
                        help_text="The object as WorkOS shows it, without secrets.",
                    ),
                ),
                (
                    "erased_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When its personal data was erased; it never comes back.",
                        null=True,
                    ),
                ),
                ("email", models.TextField(blank=True, null=True)),
                ("email_verified", models.BooleanField(blank=True, null=True)),
                ("first_name", models.TextField(blank=True, null=True)),
                ("last_name", models.TextField(blank=True, null=True)),
                ("external_id", models.TextField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "user",
                "db_table": "workos_user",
                "required_db_vendor": "postgresql",
            },
        ),
        migrations.RemoveConstraint(
            model_name="workosevent",
            name="workos_event_outcome",
        ),
        migrations.AddField(
            model_name="organization",
            name="scim_enabled",
            field=models.BooleanField(
                blank=True,
                help_text="A directory is active; empty: not covered.",
                null=True,
                verbose_name="SCIM",
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="sso_enabled",
            field=models.BooleanField(
                blank=True,
                help_text="A connection is active; empty: not covered.",
                null=True,
                verbose_name="SSO",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="covered",
            field=models.JSONField(
                help_text="Resources that were listed in full since they are followed.", null=True
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="event_types",
            field=models.JSONField(
                help_text="The types of events that are read with this position.", null=True
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="listed_at",
            field=models.JSONField(
                db_default=models.Value({}, models.JSONField()),
                help_text="When each resource was last listed in full.",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="progress",
            field=models.JSONField(
                db_default=models.Value({}, models.JSONField()),
                help_text="After which organization or directory the lists of a resource go on.",
            ),
        ),
        migrations.AddField(
            model_name="synccursor",
            name="refused_types",
            field=models.JSONField(
                db_default=models.Value({}, models.JSONField()),
                help_text="Types of events that WorkOS refuses, and since when.",
            ),
        ),
        migrations.AddField(
            model_name="workosevent",
            name="object_key",
            field=models.TextField(
                blank=True, help_text="WorkOS's id of the object it is about.", null=True
            ),
        ),
        migrations.AddField(
            model_name="workosevent",
            name="resource",
            field=models.TextField(
                db_default="organization", help_text="What kind of object it is about."
            ),
        ),
        migrations.AlterField(
            model_name="workosevent",
            name="outcome",
            field=models.TextField(
                blank=True,
                choices=[
                    ("created", "created"),
                    ("linked", "linked"),
                    ("relinked", "relinked"),
                    ("updated", "updated"),
                    ("disabled", "disabled"),
                    ("deleted", "deleted"),
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
        AddConstraintNotValid(
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
                                "deleted",
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
        migrations.AddField(
            model_name="connection",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="directory",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="directorygroup",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
            ),
        ),
        migrations.AddField(
            model_name="directorygroup",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="directorygroupmember",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
            ),
        ),
        migrations.AddField(
            model_name="directorygroupmember",
            name="workos_group",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directorygroup",
            ),
        ),
        migrations.AddField(
            model_name="directorygroupmember",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="directoryuser",
            name="workos_directory",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directory",
            ),
        ),
        migrations.AddField(
            model_name="directoryuser",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="directorygroupmember",
            name="workos_directory_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.directoryuser",
            ),
        ),
        migrations.AddField(
            model_name="invitation",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="organizationdomain",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="organizationmembership",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="role",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="workosuser",
            name="workos_organization",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The organization it belongs to, by its WorkOS id.",
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.organization",
                to_field="workos_id",
            ),
        ),
        migrations.AddField(
            model_name="organizationmembership",
            name="workos_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.workosuser",
            ),
        ),
        migrations.AddField(
            model_name="invitation",
            name="accepted_user",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                to="orgs.workosuser",
            ),
        ),
        migrations.AddIndex(
            model_name="connection",
            index=models.Index(fields=["workos_organization"], name="workos_connection_org"),
        ),
        migrations.AddIndex(
            model_name="directory",
            index=models.Index(fields=["workos_organization"], name="workos_directory_org"),
        ),
        migrations.AddIndex(
            model_name="directorygroup",
            index=models.Index(fields=["workos_directory"], name="workos_directory_group_dir"),
        ),
        migrations.AddIndex(
            model_name="directoryuser",
            index=models.Index(fields=["workos_directory"], name="workos_directory_user_dir"),
        ),
        migrations.AddIndex(
            model_name="directorygroupmember",
            index=models.Index(fields=["workos_directory"], name="workos_group_member_dir"),
        ),
        migrations.AddIndex(
            model_name="directorygroupmember",
            index=models.Index(fields=["workos_directory_user"], name="workos_group_member_user"),
        ),
        migrations.AddConstraint(
            model_name="directorygroupmember",
            constraint=models.UniqueConstraint(
                fields=("workos_group", "workos_directory_user"), name="workos_group_member_key"
            ),
        ),
        migrations.AddIndex(
            model_name="organizationdomain",
            index=models.Index(fields=["workos_organization"], name="workos_domain_org"),
        ),
        migrations.AddConstraint(
            model_name="role",
            constraint=models.UniqueConstraint(
                fields=("workos_organization", "slug"), name="workos_role_key"
            ),
        ),
        migrations.AddIndex(
            model_name="workosuser",
            index=models.Index(fields=["email"], name="workos_user_email"),
        ),
        migrations.AddIndex(
            model_name="organizationmembership",
            index=models.Index(
                fields=["workos_user", "workos_organization"], name="workos_membership_user"
            ),
        ),
        migrations.AddIndex(
            model_name="organizationmembership",
            index=models.Index(fields=["workos_organization"], name="workos_membership_org"),
        ),
        migrations.AddIndex(
            model_name="invitation",
            index=models.Index(fields=["workos_organization"], name="workos_invitation_org"),
        ),
    ]
