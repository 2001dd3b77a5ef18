"""Keeps the tables and the schedules right."""

from django.utils import timezone

from orgs.services import prune as pruning
from orgs.services.grants import missing_grants as missing_grants


def prune() -> int:
    """Delete old events."""
    return pruning.prune(timezone.now())
