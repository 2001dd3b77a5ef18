"""Writes our ids back to WorkOS as ``external_id``: works off the outbox.

The row enters the outbox in the transaction that links it, and leaves it when WorkOS has confirmed.
Claims are short transactions. WorkOS is called between them, in a few threads that never touch the
database.
"""

import logging
import random
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import DatabaseError, connection
from django.db.backends.utils import CursorWrapper

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import rows, sql, sql_outbox
from orgs.db.errors import is_passing
from orgs.db.transactions import bounded_transaction
from orgs.domain.naming import one_line
from orgs.domain.types import Conflict, ConflictKind, Outcome
from orgs.services.queue import PUSH_EXTERNAL_IDS, enqueue

logger = logging.getLogger(__name__)

_THREADS = 8
_BATCH_SIZE = 40

#: A claim outlasts the slowest batch: rounds of two calls each, by their time-out. A process that
#: is killed costs its rows as much; one that is merely late finds WorkOS's answer unchanged.
_ROUNDS_OF_CALLS = _BATCH_SIZE // _THREADS * 2

_FIRST_DELAY = 1.0
_LONGEST_DELAY = 900.0


@dataclass(frozen=True, slots=True)
class WriteBackReport:
    """What became of the requests that were due."""

    pushed: int = 0
    failed: int = 0
    conflicts: int = 0
    is_cut_short: bool = False
    """Whether the time was up before all were tried."""

    def __add__(self, other: "WriteBackReport") -> "WriteBackReport":
        return WriteBackReport(
            self.pushed + other.pushed,
            self.failed + other.failed,
            self.conflicts + other.conflicts,
            self.is_cut_short or other.is_cut_short,
        )


def push_due(
    *, deadline: float, only: Collection[str] | None = None, patience: float = 0.0
) -> WriteBackReport:
    """Try once each request that is due now; stop early at ``deadline`` (``time.monotonic()``).

    ``only`` the requests of these organizations, if given. ``patience``: as in ``orgs.workos``.
    May be repeated and run concurrently: rows are claimed, and what WorkOS already shows is not
    written again. An error of WorkOS is noted on the rows, which are tried again after a growing
    pause. Raises ``django.db.Error``.
    """
    report = WriteBackReport()
    due_at = _begin()
    run = _Run(deadline, patience)
    with ThreadPoolExecutor(_THREADS) as threads:
        while not (run.error or report.is_cut_short):
            claims = _claim(due_at, only)
            if not claims:
                break
            report += _record(threads.map(partial(_offer, run), claims))
    return report


def retry(organization_ids: Sequence[str]) -> list[str]:
    """Make the requests of these organizations due now, conflicts included, as if they had not
    been tried, and enqueue a push. Return the ids of those that there were.

    May be repeated and run concurrently, beside a push too. Raises ``django.db.Error``.
    """
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(sql_outbox.RETRY_WRITE_BACKS, [list(organization_ids)])
        retried = sorted(id_ for (id_,) in cursor.fetchall())
    if retried:
        enqueue(PUSH_EXTERNAL_IDS)
    return retried


@dataclass(frozen=True, slots=True)
class _Claim:
    organization_id: str
    workos_id: str
    requested_at: str
    attempts: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """WorkOS confirmed if there is no error; a conflict if there is an error, but no delay."""

    claim: _Claim
    error: str | None = None
    delay: float | None = None
    is_missing: bool = False
    is_untried: bool = False

    @property
    def is_conflict(self) -> bool:
        return self.error is not None and self.delay is None

    @property
    def is_confirmed(self) -> bool:
        return self.error is None and not self.is_untried


def _begin() -> datetime:
    """The database's time now: what comes due later is for the next run."""
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        due_at: datetime = cursor.fetchone()[0]
        cursor.execute(sql_outbox.FORGET_UNLINKED_WRITE_BACKS, [due_at])
    return due_at


def _claim(due_at: datetime, only: Collection[str] | None = None) -> list[_Claim]:
    seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout
    with bounded_transaction(), connection.cursor() as cursor:
        ids = None if only is None else sorted(only)
        cursor.execute(sql_outbox.CLAIM_WRITE_BACKS, [seconds, due_at, ids, ids, _BATCH_SIZE])
        return [_Claim(*row) for row in cursor.fetchall()]


#: Errors that would be the same for every row.
_SAME_FOR_ALL = (
    workos.NotConfigured,
    workos.Misconfigured,
    workos.Unauthorized,
    workos.RateLimited,
)


@dataclass(slots=True)
class _Run:
    """What the calls of a run share, and what one of them found out for all."""

    deadline: float
    patience: float
    error: workos.WorkOSError | None = None

    @property
    def is_out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline


def _offer(run: _Run, claim: _Claim) -> _Answer:
    if run.error is not None:
        return _postponed(claim, run.error)
    if run.is_out_of_time:
        return _Answer(claim, is_untried=True)
    try:
        workos.offer_external_id(claim.workos_id, claim.organization_id, patience=run.patience)
    except workos.ExternalIdConflict as conflict:
        return _Answer(claim, error=str(conflict))
    except workos.NotFound as error:
        message = f"{error}; waits for the deletion to be read"
        return _Answer(claim, message, retry_delay(claim.attempts), is_missing=True)
    except workos.WorkOSError as error:
        if isinstance(error, _SAME_FOR_ALL):
            run.error = error
        return _postponed(claim, error)
    return _Answer(claim)


def _postponed(claim: _Claim, error: workos.WorkOSError) -> _Answer:
    delay = max(retry_delay(claim.attempts), error.retry_after or 0.0)
    return _Answer(claim, str(error), delay)


def retry_delay(attempts: int) -> float:
    """Return the seconds to wait after so many attempts: 1, doubling, up to 15 minutes, with
    jitter of up to a half."""
    longest: float = min(_FIRST_DELAY * 2 ** min(attempts - 1, 30), _LONGEST_DELAY)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def _record(answers: Iterable[_Answer]) -> WriteBackReport:
    # In id order, as every process locks rows.
    ordered = sorted(answers, key=lambda answer: answer.claim.organization_id)
    try:
        new = _write(ordered)
    except DatabaseError as error:
        if not is_passing(error):
            raise
        new = _write_unlocked(ordered)
    conflicts = [answer for answer in ordered if answer.is_conflict]
    failed = [answer for answer in ordered if answer.error and not answer.is_conflict]
    untried = [answer for answer in ordered if answer.is_untried]
    _log([answer for answer in conflicts if answer.claim.workos_id in new], failed)
    pushed = len(ordered) - len(conflicts) - len(failed) - len(untried)
    return WriteBackReport(pushed, len(failed), len(conflicts), bool(untried))


def _write(answers: list[_Answer]) -> set[str]:
    with bounded_transaction(), connection.cursor() as cursor:
        return _execute_writes(cursor, answers)


def _write_unlocked(answers: list[_Answer]) -> set[str]:
    """Without those that another program has locked: their claims run out by themselves."""
    ids = [answer.claim.organization_id for answer in answers]
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(sql_outbox.LOCK_FREE_WRITE_BACKS, [ids])
        free = {id_ for (id_,) in cursor.fetchall()}
        new = _execute_writes(cursor, [a for a in answers if a.claim.organization_id in free])
    for id_ in ids:
        if id_ not in free:
            # And then WorkOS is asked again.
            logger.warning("the write-back of %s is locked by another program, or deleted", id_)
    return new


def _execute_writes(cursor: CursorWrapper, answers: list[_Answer]) -> set[str]:
    """Write the answers; return the WorkOS ids of conflicts that are new."""
    failed = [answer for answer in answers if answer.error is not None]
    confirmed = [answer for answer in answers if answer.is_confirmed]
    delays_and_errors: list[list[Any]] = [[a.delay for a in failed], [a.error for a in failed]]
    cursor.execute(sql_outbox.CONFIRM_WRITE_BACKS, _requests(confirmed))
    cursor.execute(sql.REMOVE_CONFLICTS, [[answer.claim.workos_id for answer in confirmed]])
    cursor.execute(sql_outbox.RETURN_WRITE_BACKS, _requests(a for a in answers if a.is_untried))
    cursor.execute(sql_outbox.POSTPONE_WRITE_BACKS, [*_requests(failed), *delays_and_errors])
    cursor.execute(
        sql_outbox.FORGET_DELETED_WRITE_BACKS, _requests(a for a in failed if a.is_missing)
    )
    conflicts = [_conflict(answer) for answer in failed if answer.is_conflict]
    if not conflicts:
        return set()
    stored = rows.store_conflicts(conflicts)
    cursor.execute(stored.text, stored.values)
    return {workos_id for workos_id, is_new in cursor.fetchall() if is_new}


def _conflict(answer: _Answer) -> Conflict:
    claim = answer.claim
    kind = ConflictKind.WRITE_BACK_REFUSED
    return Conflict(claim.workos_id, claim.organization_id, kind, answer.error or "")


def _log(conflicts: list[_Answer], failures: list[_Answer]) -> None:
    for answer in conflicts:
        logger.warning(
            "the external_id of %s waits for a person: %s",
            one_line(answer.claim.workos_id),
            one_line(answer.error),
            extra={"organization": answer.claim.workos_id, "outcome": Outcome.CONFLICT},
        )
    if failures:
        # WorkOS being down fails them all: one line a batch, each row has its own error.
        logger.warning(
            "%d write-backs failed and are tried again later; the first, %s: %s",
            len(failures),
            one_line(failures[0].claim.workos_id),
            one_line(failures[0].error),
            extra={"organization": failures[0].claim.workos_id},
        )


def _requests(answers: Iterable[_Answer]) -> list[list[Any]]:
    claims = [answer.claim for answer in answers]
    return [[claim.organization_id for claim in claims], [c.requested_at for c in claims]]
