"""Validates the ledger's constraint, in a transaction of its own: others write meanwhile."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orgs", "0007_resources")]

    operations = [ValidateConstraint(model_name="workosevent", name="workos_event_outcome")]
