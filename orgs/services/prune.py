"""Forgets what nobody needs any more."""

from datetime import datetime, timedelta

from django.db import transaction
from django_q.models import Task

from orgs.conf import sync_settings
from orgs.models import WorkOSEvent

#: Deleted in transactions of this size, so that none holds its locks for long.
_BATCH_SIZE = 5_000


def prune(now: datetime) -> int:
    """Deletes events processed longer ago than the ledger's retention; returns how many.

    Parked ones and deletions stay for good: a person waits for the first, and the second keep a
    snapshot from bringing an organization back. django-q2 keeps failed tasks for ever: they go by
    the same age. May be repeated and run concurrently.
    """
    before = now - timedelta(days=sync_settings().ledger_retention_days)
    Task.objects.filter(stopped__lt=before).delete()
    pruned = 0
    while batch := _prune_batch(before):
        pruned += batch
    return pruned


def _prune_batch(before: datetime) -> int:
    with transaction.atomic(durable=True):
        ids = WorkOSEvent.objects.prunable(before=before).order_by("id")[:_BATCH_SIZE]
        locked = list(ids.select_for_update(skip_locked=True).values_list("id", flat=True))
        return WorkOSEvent.objects.filter(id__in=locked).delete()[0]
