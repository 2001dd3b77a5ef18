"""Watches, by the database alone, that the worker's cluster does its work.

django-q2 can't say so itself: a child that is killed while it holds a lock of the cluster's queues
leaves the others waiting for that lock for ever, and the cluster's own status stays "working".
"""

import time
from collections.abc import Set as AbstractSet
from datetime import timedelta

from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.db.models import Case, F, Q, When
from django.db.models.functions import Now
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule

from orgs.db.cursor import ensure_cursor, set_columns
from orgs.db.transactions import bounded_transaction
from orgs.models import SyncCursor
from orgs.services.coverage import adopt_settings
from orgs.services.maintenance import ensure_schedules
from orgs.services.queue import queue_length

#: Seconds in which some of the work that is due must have been done.
PATIENCE = 120.0
#: It doubles with each restart that did not help: what is wrong then, no restart mends.
LONGEST_PATIENCE = 3_600.0
#: More tasks than two clusters that were killed can leave behind, to be delivered again later.
_MANY_TASKS = 2 * (Conf.QUEUE_LIMIT + Conf.WORKERS + 1)


class Backlog:
    """Work that is due, and when some of it was last seen done."""

    def __init__(self) -> None:
        self._items: AbstractSet[object] = frozenset()
        self._moved_at = time.monotonic()

    def idle(self, items: AbstractSet[object]) -> float:
        """Take note of what is due now; return for how many seconds none of it was done."""
        now = time.monotonic()
        if not items or self._items - items:
            self._moved_at = now
        self._items = items
        return now - self._moved_at


class Watch:
    """Watches one cluster, which may be started anew. For one thread."""

    def __init__(self) -> None:
        self._restarts = 0
        self._has_adopted = False
        self.begin()

    def begin(self) -> None:
        """Begin anew, with a cluster that was just started."""
        self._forget()
        self._is_noted = False

    def _forget(self) -> None:
        self._due, self._unrun, self._unacknowledged = Backlog(), Backlog(), Backlog()

    def look(self) -> str | None:
        """Return why the cluster has to be started anew, or None.

        At first, it repairs the schedules, has the stream read for what the settings name, and
        notes the start on the cursor, unless nothing was read to the end since the one before.

        A database or a queue that does not answer is no reason. Never raises ``django.db.Error``.
        """
        close_old_connections()
        try:
            if not self._is_noted:
                self._note_start()
            with bounded_transaction():
                due, queued, done = due_schedules(), queued_tasks(), cursor_state()
        except DatabaseError:
            self._forget()
            return None
        if not Conf.ORM and queue_length() is None:
            self._forget()
            return None
        patience = min(PATIENCE * 2**self._restarts, LONGEST_PATIENCE)
        # A task may have all workers for as long as the cluster's time limit allows.
        for_tasks = max(patience, Conf.TIMEOUT or 0)
        unrun = {done, *queued} if queued or not Conf.ORM else frozenset()
        too_many = queued if len(queued) > _MANY_TASKS else frozenset()
        found = (
            ("no schedule that is due was worked off", self._due.idle(due), patience),
            ("no task was run", self._unrun.idle(unrun), for_tasks),
            ("no task was acknowledged", self._unacknowledged.idle(too_many), for_tasks),
        )
        for what, seconds, at_most in found:
            if seconds > at_most:
                self._restarts += 1
                return f"{what} for {seconds:.0f} s"
        if not any(seconds for _, seconds, _ in found):
            self._restarts = 0
        return None

    def _note_start(self) -> None:
        ensure_schedules()
        if not self._has_adopted:
            # Once: the settings of a worker that starts later win.
            adopt_settings()
            self._has_adopted = True
        ensure_cursor()
        # If the start before it led to no read, this one does not excuse what is late.
        before = F("worker_started_at")
        is_idle = Q(worker_started_at__lte=Now(), failures=0) & ~Q(drained_at__gt=before)
        set_columns(worker_started_at=Case(When(is_idle, then=before), default=Now()))
        self._is_noted = True


def due_schedules() -> AbstractSet[object]:
    """Return the due runs of the schedules that this cluster works off, by the database's clock."""
    of_any = Q(cluster=None) if Conf.CLUSTER_NAME == Conf.PREFIX else Q()
    mine = Schedule.objects.filter(of_any | Q(cluster=Conf.CLUSTER_NAME)).exclude(repeats=0)
    return frozenset(mine.filter(next_run__lt=Now()).values_list("id", "next_run"))


def queued_tasks() -> AbstractSet[object]:
    """Return the tasks that are not acknowledged; none if they are in Redis, or while a reconcile
    runs, which may have the only worker for an hour."""
    # No lease of ours lasts an hour: one that ends later was acquired by a clock that was wrong.
    leased = (Now(), Now() + timedelta(hours=1))
    if not Conf.ORM or SyncCursor.objects.filter(reconciling_until__range=leased).exists():
        return frozenset()
    tasks = OrmQ.objects.using(Conf.ORM).filter(key=Conf.CLUSTER_NAME).order_by("id")
    return frozenset(tasks.values_list("id", flat=True)[:1_000])


def cursor_state() -> object:
    """Return what every drain changes, also one that fails, and what a reconcile renews."""
    columns = ("last_event_id", "last_event_at", "drained_at", "failures", "reconciling_until")
    return SyncCursor.objects.values_list(*columns).first()
