"""Keeps what is around the mirror right: the ledger's size, schedules, grants, refused webhooks."""

import logging
import threading
import time
from datetime import datetime, timedelta
from functools import reduce
from math import inf
from operator import or_
from typing import Any, Final

from django.db import DatabaseError, Error, connection, transaction
from django.db.models import Min, Q, QuerySet
from django.db.models.functions import Now
from django_q.models import Schedule, Task

from orgs.conf import sync_settings
from orgs.db.errors import describe
from orgs.db.transactions import execute_alone
from orgs.domain.status import LEAST_REFUSED_WEBHOOKS
from orgs.models import WorkOSEvent
from orgs.services.queue import PRUNE, PUSH_EXTERNAL_IDS, RECONCILE, RECONCILE_TIMEOUT, SYNC_EVENTS
from orgs.services.refusals import is_refusal, write_in_batches

logger = logging.getLogger(__name__)

# The ledger ---------------------------------------------------------------------------------


def prune() -> int:
    """Delete events processed longer ago than the ledger's retention; return how many.

    Parked ones and deletions stay for good: a person decides about the first, and the second keep a
    snapshot from bringing an organization back. Records of tasks, of which django-q2 keeps the
    failed ones for ever, go at the same age. May be repeated and run concurrently.
    """
    age = timedelta(days=sync_settings().ledger_retention_days)
    records = Task.objects.filter(stopped__lt=Now() - age)
    entries = WorkOSEvent.objects.prunable(after=age)
    pruned, _ = write_in_batches(entries, QuerySet.delete)
    write_in_batches(records, QuerySet.delete)
    return pruned


# Schedules ----------------------------------------------------------------------------------

#: Names of django-q2's schedules are not unique: this lock makes them so.
LOCK_SCHEDULES = "SELECT pg_advisory_xact_lock(hashtext('orgs.schedules'))"

#: A day has 25 hours when clocks go back, and the clocks of machines differ.
SLACK = timedelta(hours=2)

#: Where django-q2 takes an empty text, as its admin stores it, for NULL.
_TEXTS = ("args", "kwargs", "hook", "cron", "intended_date_kwarg")
#: Every column that could keep a schedule from running, but for when it is due.
_COLUMNS = {**dict.fromkeys((*_TEXTS, "cluster")), "repeats": -1}
_EVERY_MINUTE = {**_COLUMNS, "schedule_type": Schedule.MINUTES, "minutes": 1}
_DAILY = {**_COLUMNS, "schedule_type": Schedule.DAILY, "minutes": None}
_LONG = {"kwargs": repr({"q_options": {"timeout": RECONCILE_TIMEOUT}})}

#: By name. Arguments are Python literals: a row whose arguments don't parse blocks all schedules.
SCHEDULES: Final[dict[str, dict[str, Any]]] = {
    "workos: sync events": {**_EVERY_MINUTE, "func": SYNC_EVENTS},
    "workos: push external ids": {**_EVERY_MINUTE, "func": PUSH_EXTERNAL_IDS},
    "workos: prune": {**_DAILY, "func": PRUNE},
    "workos: reconcile": {**_DAILY, **_LONG, "func": RECONCILE},
}


def ensure_schedules() -> None:
    """Create the schedules that are missing and repair those that differ.

    When the next run of one is due is left alone, unless that is later than it could be. One that
    PostgreSQL refuses is logged, and does not stop the others. May be repeated and run
    concurrently. Without django-q2's tables it does nothing.
    """
    if not _has_schedules():
        return
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(LOCK_SCHEDULES)
        for name, columns in SCHEDULES.items():
            try:
                with transaction.atomic():
                    _ensure_schedule(name, columns)
            except DatabaseError as error:
                if not is_refusal(error):
                    raise
                logger.warning("the schedule %r can't be repaired: %s", name, describe(error))


def _ensure_schedule(name: str, columns: dict[str, Any]) -> None:
    present = Schedule.objects.filter(name=name)
    first = present.aggregate(id=Min("id"))["id"]
    if first is None:
        Schedule.objects.create(name=name, next_run=Now(), **columns)
        return
    present.exclude(id=first).delete()
    present.update(**columns)
    present.exclude(_is_due_in_time(columns)).update(next_run=Now())


def broken_schedules() -> tuple[str, ...]:
    """Return the names of schedules that are missing, or will not do what they are for when they
    are due; none without django-q2's tables. Raises ``django.db.Error``."""
    if not _has_schedules():
        return ()
    is_sound = reduce(or_, (_is_sound(name, columns) for name, columns in SCHEDULES.items()))
    sound = set(Schedule.objects.filter(is_sound).values_list("name", flat=True))
    return tuple(name for name in SCHEDULES if name not in sound)


def _is_sound(name: str, columns: dict[str, Any]) -> Q:
    sound = Q(_is_due_in_time(columns), name=name)
    for column, value in columns.items():
        accepted = Q(**{column: value})
        if column in _TEXTS and value is None:
            accepted |= Q(**{column: ""})
        sound &= accepted
    return sound


def sync_due_at() -> datetime | None:
    """Return when the stream is to be read next; long past if no worker runs. None: never."""
    rows = Schedule.objects.filter(_is_due_in_time(_EVERY_MINUTE), func=SYNC_EVENTS)
    due_at: datetime | None = rows.aggregate(due_at=Min("next_run"))["due_at"]
    return due_at


def _is_due_in_time(columns: dict[str, Any]) -> Q:
    """Return the condition that a schedule is due no later than it could be, as after a mistyped
    year: by the database's clock, and without reading a time that Python may not hold."""
    interval = timedelta(minutes=1) if columns["minutes"] else timedelta(days=1)
    return Q(next_run__range=(Now() - timedelta(days=3_650), Now() + interval + SLACK))


def _has_schedules() -> bool:
    tables = connection.introspection.table_names() if connection.vendor == "postgresql" else ()
    return Schedule._meta.db_table in tables


# Refused webhooks ---------------------------------------------------------------------------

#: Seconds in which a process writes a count a few times, so that nobody can flood the database by
#: webhooks; and between two times that it clears the count.
WRITE_PAUSE = 60.0

#: Seconds for a lock: WorkOS waits for its answer.
LONGEST_WAIT = 0.5

COUNT_REFUSED = """
INSERT INTO workos_request_budget AS b (id, refused_webhooks, refused_since, last_refused_at)
VALUES (1, %s, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE
SET refused_webhooks = least(b.refused_webhooks, 1000000) + excluded.refused_webhooks,
    refused_since = coalesce(b.refused_since, excluded.refused_since),
    last_refused_at = excluded.last_refused_at
"""
CLEAR_REFUSED = """
UPDATE workos_request_budget
SET refused_webhooks = 0, refused_since = NULL, last_refused_at = NULL WHERE refused_webhooks > 0
"""


class RefusedWebhooks:
    """Counts webhooks whose signature is well-formed and does not match, until one does match.

    Never raises ``django.db.Error``: WorkOS's answer does not depend on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = self._writes = 0
        self._writes_began_at = self._cleared_at = -inf

    def refuse(self) -> None:
        """Count one. The first few are written at once: each process sees a part of them."""
        now = time.monotonic()
        with self._lock:
            self._count, self._cleared_at = self._count + 1, -inf
            if now - self._writes_began_at >= WRITE_PAUSE:
                self._writes, self._writes_began_at = 0, now
            if self._writes == LEAST_REFUSED_WEBHOOKS:
                return
            count, self._count, self._writes = self._count, 0, self._writes + 1
        self._write(COUNT_REFUSED, count)

    def accept(self) -> None:
        """Forget those before a webhook that is signed as it should be."""
        now = time.monotonic()
        with self._lock:
            if now - self._cleared_at < WRITE_PAUSE:
                return
            self._count, self._cleared_at = 0, now
        self._write(CLEAR_REFUSED)

    def _write(self, statement: str, *values: int) -> None:
        try:
            execute_alone(statement, values, at_most=LONGEST_WAIT)
        except Error as error:
            logger.warning("refused webhooks could not be counted: %s", describe(error))


refused_webhooks = RefusedWebhooks()
