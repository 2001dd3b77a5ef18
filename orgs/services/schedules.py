"""Keeps django-q2's schedules right: made once, whatever the number of clusters and migrations."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Min
from django.utils import timezone
from django_q.models import Schedule

from orgs.services.queue import (
    PRUNE,
    PUSH_EXTERNAL_IDS,
    RECONCILE,
    RECONCILE_TIMEOUT,
    SYNC_EVENTS,
)

#: Names of django-q2's schedules are not unique: this lock makes them so.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('orgs.schedules'))"


#: So much the clocks of a project's machines may.
_CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    task: str
    schedule_type: str
    minutes: int | None = None
    kwargs: str | None = None
    """A Python literal: one row whose arguments don't parse blocks every schedule."""

    @property
    def interval(self) -> timedelta:
        """How long after a run the next one is due."""
        return timedelta(minutes=self.minutes) if self.minutes else timedelta(days=1)


_WANTED = (
    _Wanted("workos: sync events", SYNC_EVENTS, Schedule.MINUTES, 1),
    _Wanted("workos: push external ids", PUSH_EXTERNAL_IDS, Schedule.MINUTES, 1),
    _Wanted("workos: prune", PRUNE, Schedule.DAILY),
    _Wanted(
        "workos: reconcile",
        RECONCILE,
        Schedule.DAILY,
        kwargs=repr({"q_options": {"timeout": RECONCILE_TIMEOUT}}),
    ),
)


def ensure_schedules(*, using: str) -> None:
    """Makes the schedules that are missing and mends those that differ.

    May be repeated and run concurrently. When the next run of one is due is left alone, unless that
    is later than it could be. Without django-q2's tables, as while it is being migrated away, it
    does nothing.
    """
    if not _has_table(using):
        return
    with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
        cursor.execute(_LOCK)
        for wanted in _WANTED:
            _ensure(wanted, using)


def broken_schedules(*, using: str = DEFAULT_DB_ALIAS) -> tuple[str, ...]:
    """The names of schedules that are missing, or will not do what they are for when it is due;
    none without django-q2's tables.

    Raises ``django.db.Error``.
    """
    if not _has_table(using):
        return ()
    present = {schedule.name: schedule for schedule in Schedule.objects.using(using).all()}
    return tuple(
        wanted.name
        for wanted in _WANTED
        if wanted.name not in present or not _is_sound(present[wanted.name], wanted)
    )


def _is_sound(schedule: Schedule, wanted: _Wanted) -> bool:
    is_as_wanted = all(
        getattr(schedule, column) == value for column, value in _values(wanted).items()
    )
    return is_as_wanted and not _is_far_away(schedule, wanted)


def _is_far_away(schedule: Schedule, wanted: _Wanted) -> bool:
    """Whether it is due later than it could be, as after a mistyped year."""
    next_run: datetime | None = schedule.next_run
    return next_run is None or next_run > timezone.now() + wanted.interval + _CLOCKS_DIFFER


def sync_due_at() -> datetime | None:
    """When the minute schedule rings next; long past if no worker runs. None: it is missing."""
    due: datetime | None = Schedule.objects.filter(func=SYNC_EVENTS).aggregate(due=Min("next_run"))[
        "due"
    ]
    return due


def _has_table(using: str) -> bool:
    return Schedule._meta.db_table in connections[using].introspection.table_names()


def _ensure(wanted: _Wanted, using: str) -> None:
    present = Schedule.objects.using(using).filter(name=wanted.name).order_by("id")
    first = present.first()
    if first is None:
        Schedule.objects.using(using).create(
            name=wanted.name, next_run=timezone.now(), **_values(wanted)
        )
        return
    present.exclude(id=first.id).delete()
    present.update(**_values(wanted))
    if _is_far_away(first, wanted):
        present.update(next_run=timezone.now())


def _values(wanted: _Wanted) -> dict[str, object]:
    return {
        "func": wanted.task,
        "args": None,
        "kwargs": wanted.kwargs,
        "hook": None,
        "cluster": None,
        "cron": None,
        "schedule_type": wanted.schedule_type,
        "minutes": wanted.minutes,
        "repeats": -1,
    }
