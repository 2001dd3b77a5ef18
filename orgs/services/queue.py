"""Enqueues tasks by their dotted paths. What is true is in the tables: a task that is lost is one
that the minute schedule enqueues again."""

import json
import logging
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError
from django_q.brokers import get_broker
from django_q.models import Task
from django_q.tasks import async_task

from orgs.db.errors import without_detail
from orgs.domain.naming import one_line

logger = logging.getLogger(__name__)

SYNC_EVENTS = "orgs.tasks.sync_events"
PUSH_EXTERNAL_IDS = "orgs.tasks.push_external_ids"
PRUNE = "orgs.tasks.prune"
RECONCILE = "orgs.tasks.reconcile"
RECOVER = "orgs.tasks.recover"
COVER = "orgs.tasks.cover"
DRY_RUN = "orgs.tasks.dry_run"

#: Seconds. A full reconcile is long: it has its own limit, and a lease, because django-q2 delivers
#: a task again that runs for longer than the cluster's ``retry``.
RECONCILE_TIMEOUT = 3_600


def queue_length() -> int | None:
    """Return how many tasks wait for a worker; None if the queue does not answer.

    Raises ``django.db.Error`` if the queue is in the database.
    """
    try:
        return int(get_broker().queue_size())
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001 - each broker has exceptions of its own
        return None


def last_dry_run() -> tuple[datetime, dict[str, Any]] | None:
    """Return when the last dry run of the admin's ended, and what it found."""
    task = Task.objects.filter(func=DRY_RUN).order_by("-stopped").first()
    if task is None:
        return None
    failed = {"errors": [one_line(task.result)]}
    return task.stopped, json.loads(task.result) if task.success else failed


def enqueue(task: str) -> bool:
    """Enqueue ``task``; return False, and log why, if that fails. Never raises.

    Call it after the commit of what the task is to find.
    """
    try:
        # Whatever Q_CLUSTER['sync'] says: a task that runs here would run inside the caller's
        # transaction.
        options: dict[str, object] = {"sync": False}
        if task in (RECONCILE, RECOVER, COVER, DRY_RUN):
            options["timeout"] = RECONCILE_TIMEOUT
        if task == DRY_RUN:
            options["save"] = True  # whatever Q_CLUSTER['save_limit'] says
        async_task(task, q_options=options)
    except Exception as error:  # noqa: BLE001 - each broker has exceptions of its own
        # A queue that is down is no news for a traceback.
        said = f"{type(error).__name__}: {without_detail(error)}"
        logger.error("could not enqueue %s; the minute schedule will: %s", task, said)  # noqa: TRY400
        return False
    return True
