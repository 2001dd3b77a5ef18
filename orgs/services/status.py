"""Reads the mirror's status from the tables alone: in few statements, each bounded in time.

It is right whatever number of processes runs, as none keeps counts of its own.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import Error, ProgrammingError, connection
from django.db.migrations.executor import MigrationExecutor

from orgs.conf import sync_settings
from orgs.db.cursor import read_cursor
from orgs.db.errors import describe, is_full, is_not_granted, is_out_of_time, origin
from orgs.db.figures import read_last_day, read_status
from orgs.db.resources import count_rows
from orgs.db.transactions import read_only_transaction
from orgs.domain.figures import Figures, ResourceFigures
from orgs.domain.naming import one_line
from orgs.domain.resources import PLAIN
from orgs.domain.status import ProblemCode, Status, database_problem, status_of
from orgs.services.maintenance import broken_schedules, sync_due_at
from orgs.services.pages import EVENT_RETENTION
from orgs.services.queue import queue_length
from orgs.services.refusals import missing_grants

#: Who asks for a status gives up after ten seconds or so, and asks again.
STATEMENT_SECONDS = 3.0

#: psycopg raises the second if the DateStyle of the database's user is not ISO.
_ERRORS = (Error, NotImplementedError)

#: Kinds of errors since a status could last be read: a probe comes every few seconds, and an error
#: of one kind is logged once.
_logged: set[str] = set()

#: Problems of which no table says since when, and when this process saw each first and last.
_seen: dict[ProblemCode, tuple[datetime, datetime]] = {}

#: If a process was not asked for longer, another one may have answered that a problem is over.
_SAME_INCIDENT = timedelta(minutes=5)

logger = logging.getLogger(__name__)


def current_status() -> Status:
    """Return what is wrong now, and the figures. Writes nothing, and does not call WorkOS.

    Never raises ``django.db.Error``: that is among the problems then, and there are no figures, as
    while a migration is missing that they need. A problem of which no table says since when it
    lasts has the time when this process saw it first.
    """
    status, now = _current_status(), datetime.now(UTC)
    unknown = {problem.code for problem in status.problems if problem.since is None}
    # One that hides others, or keeps the figures from being read, does not end them.
    is_whole = status.figures and not status.figures.is_read_only
    for code in _seen.keys() - unknown if is_whole else ():
        _seen.pop(code, None)
    first: dict[ProblemCode, datetime] = {}
    for code in _seen.keys() | unknown:
        began, last = _seen.get(code, (now, now))
        first[code] = began if now - last < _SAME_INCIDENT else now
        _seen[code] = first[code], now
    problems = (replace(one, since=one.since or first[one.code]) for one in status.problems)
    return replace(status, problems=tuple(problems))


def _current_status() -> Status:
    found: dict[ProblemCode, tuple[str, ...]] = {}  # with what is missing
    try:
        with read_only_transaction(statement_seconds=STATEMENT_SECONDS):
            # Without grants, it is not known which migrations are applied.
            if missing := missing_grants():
                found[ProblemCode.GRANTS_MISSING] = missing
            elif unapplied := _unapplied():
                found[ProblemCode.MIGRATIONS_UNAPPLIED] = unapplied
        figures = _read_figures()
    except _ERRORS as error:
        if not (found and isinstance(error, ProgrammingError)):
            found = {_code(error): (), **found}
        _log_once(error)
        detail = one_line(error)
        return status_of(None, (database_problem(*each, detail) for each in found.items()))
    _logged.clear()
    return status_of(figures, (database_problem(*each) for each in found.items()))


def _log_once(error: Any) -> None:
    if (kind := origin(error)) not in _logged:
        _logged.add(kind)
        logger.error("the status can't be read: %s", describe(error))


def _code(error: Any) -> ProblemCode:
    if is_out_of_time(error):
        return ProblemCode.TABLES_LOCKED
    if is_not_granted(error):
        return ProblemCode.GRANTS_MISSING
    return ProblemCode.DATABASE_FULL if is_full(error) else ProblemCode.DATABASE_UNUSABLE


def _unapplied() -> tuple[str, ...]:
    """Return which migrations of ours, or that ours depend on, are not applied."""
    executor = MigrationExecutor(connection)
    leaves = executor.loader.graph.leaf_nodes()
    plan = executor.migration_plan([key for key in leaves if key[0] in ("orgs", "django_q")])
    return tuple(f"{migration.app_label}.{migration.name}" for migration, _ in plan)


def _read_figures() -> Figures:
    window = timedelta(seconds=sync_settings().hold_back_window)
    with read_only_transaction(statement_seconds=STATEMENT_SECONDS):
        return Figures(
            **read_status(window=window, resources=sync_settings().resources),
            hold_back_window=window,
            event_retention=EVENT_RETENTION,
            last_day=read_last_day(),
            broken_schedules=broken_schedules(),
            sync_due_at=sync_due_at(),
            queue_length=queue_length(),
            has_key=bool(sync_settings().api_key),
        )


def resource_figures() -> list[ResourceFigures]:
    """Return how many rows each resource of the settings has; none if that takes too long.

    Counts whole tables.
    """
    followed = [name for name in PLAIN if name in sync_settings().resources]
    try:
        with read_only_transaction(statement_seconds=STATEMENT_SECONDS):
            state = read_cursor()
            return [
                ResourceFigures(n, *count_rows(PLAIN[n]), state.listed_at(n), n in state.covered)
                for n in followed
            ]
    except _ERRORS:
        return []
