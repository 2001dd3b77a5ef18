"""Rings a worker: enqueues a task by its dotted path. What is true is in the tables; a task that is
lost is one that the minute schedule rings again."""

import logging

from django.db import Error as DatabaseError
from django_q.brokers import get_broker
from django_q.tasks import async_task

logger = logging.getLogger(__name__)

SYNC_EVENTS = "orgs.tasks.sync_events"
PUSH_EXTERNAL_IDS = "orgs.tasks.push_external_ids"
PRUNE = "orgs.tasks.prune"
RECONCILE = "orgs.tasks.reconcile"
RECOVER = "orgs.tasks.recover"

#: Seconds. A snapshot is long: it has its own limit, and a lease, because django-q2 delivers a task
#: again that runs for longer than the cluster's ``retry``.
RECONCILE_TIMEOUT = 3_600


def queue_length() -> int | None:
    """How many tasks wait for a worker; None if the queue is elsewhere and can't be asked.

    Raises ``django.db.Error`` if it is in the database.
    """
    try:
        length: int = get_broker().queue_size()
    except DatabaseError:
        raise
    except Exception:  # noqa: BLE001 - each broker has exceptions of its own
        return None
    return length


def ring(task: str) -> bool:
    """Enqueues ``task``; returns whether it could. Never raises: a failed ring is logged, and the
    schedule covers it.

    Call it after the commit of what the task is to find.
    """
    try:
        options = {"timeout": RECONCILE_TIMEOUT} if task in (RECONCILE, RECOVER) else {}
        async_task(task, q_options=options)
    except Exception:
        logger.exception("could not ring %s; the minute schedule will", task)
        return False
    return True
