"""Reads how the mirror is, from the tables alone: in few statements, each with a bound on its time.

Right whatever number of processes runs, as none keeps counts of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, TypeVar

from django.db import Error as DatabaseUnusable
from django.db import ProgrammingError, connection
from django.db.backends.utils import CursorWrapper
from django.db.migrations.executor import MigrationExecutor

from orgs.conf import sync_settings
from orgs.db import sql
from orgs.db.errors import is_not_granted, is_out_of_time
from orgs.db.transactions import read_only_transaction
from orgs.domain.naming import one_line
from orgs.domain.status import (
    LONGEST_WRITE_BACK,
    CursorFigures,
    EventCount,
    Figures,
    HourLatency,
    LastDayFigures,
    OrganizationFigures,
    Problem,
    ScheduleFigures,
    Status,
    WaitingFigures,
    database_unusable,
    grants_missing,
    migrations_unapplied,
    status_of,
    tables_locked,
)
from orgs.models import ORGANIZATIONS_STREAM
from orgs.services.grants import missing_grants
from orgs.services.pages import EVENT_RETENTION
from orgs.services.queue import queue_length
from orgs.services.schedules import broken_schedules, sync_due_at

T = TypeVar("T", CursorFigures, WaitingFigures, OrganizationFigures, LastDayFigures)

#: What asks for a status gives up after ten seconds or so, and asks again.
_STATEMENT_SECONDS = 3.0


def current_status() -> Status:
    """What is wrong with the mirror now, and its figures. Writes nothing, and does not call WorkOS.

    Never raises ``django.db.Error``: that is among the problems then, and the figures are None, as
    they are while a migration is missing that they need.
    """
    try:
        with read_only_transaction(statement_seconds=_STATEMENT_SECONDS):
            first = [*_problems_with_tables()]
        return _status_behind(first) if first else status_of(_read_figures())
    except DatabaseUnusable as error:
        return Status((_problem_of(error),))


def _problem_of(error: DatabaseUnusable) -> Problem:
    told = one_line(error)
    if is_out_of_time(error):
        return tables_locked(told)
    return grants_missing((), told) if is_not_granted(error) else database_unusable(told)


def _problems_with_tables() -> Iterator[Problem]:
    if unapplied := _unapplied_migrations():
        yield migrations_unapplied(unapplied)
    if lacking := missing_grants():
        yield grants_missing(lacking)


def _status_behind(first: Sequence[Problem]) -> Status:
    try:
        status = status_of(_read_figures())
    except ProgrammingError:
        # A table or a column is not there yet, or may not be read.
        return Status((*first,))
    return Status((*first, *status.problems), status.figures)


def _unapplied_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _read_figures() -> Figures:
    window = timedelta(seconds=sync_settings().hold_back_window)
    with (
        read_only_transaction(statement_seconds=_STATEMENT_SECONDS),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            sql.STATUS,
            {
                "window": window.total_seconds(),
                "longest_write_back": LONGEST_WRITE_BACK.total_seconds(),
                "stream": ORGANIZATIONS_STREAM,
            },
        )
        status = _row(cursor)
        cursor.execute(sql.LAST_DAY)
        last_day = _row(cursor)
        cursor.execute(sql.EVENTS_BY_HOUR)
        last_day["events"] = tuple(EventCount(*row) for row in cursor.fetchall())
        cursor.execute(sql.LATENCY_BY_HOUR)
        last_day["latencies"] = tuple(HourLatency(*row) for row in cursor.fetchall())
        schedules = ScheduleFigures(broken=broken_schedules(), sync_due_at=sync_due_at())
        queued = queue_length()
    return Figures(
        at=status["at"],
        hold_back_window=window,
        event_retention=EVENT_RETENTION,
        cursor=_part(CursorFigures, status),
        waiting=_part(WaitingFigures, status),
        organizations=_part(OrganizationFigures, status),
        last_day=_part(LastDayFigures, last_day),
        schedules=schedules,
        queue_length=queued,
        is_read_only=status["is_read_only"],
    )


def _row(cursor: CursorWrapper) -> dict[str, Any]:
    """The only row, by the names of its columns."""
    return dict(zip((column.name for column in cursor.description), cursor.fetchone(), strict=True))


def _part(figures: type[T], row: dict[str, Any]) -> T:
    return figures(**{field.name: row[field.name] for field in fields(figures)})
