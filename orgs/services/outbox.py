"""Tells WorkOS our ids: works off the outbox.

The row enters the outbox in the transaction that links it, and leaves it when WorkOS has confirmed.
Claims are short transactions, WorkOS is called between them, in a few threads that never touch the
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

from orgs.conf import sync_settings
from orgs.db import sql
from orgs.db.errors import is_passing
from orgs.db.transactions import bounded_transaction
from orgs.domain.types import (
    Outcome,
)
from orgs.services.queue import PUSH_EXTERNAL_IDS, ring
from orgs.workos import client as workos

logger = logging.getLogger(__name__)

_THREADS = 8
_BATCH_SIZE = 40

#: A claim outlives the slowest batch: rounds of two calls each, by their time-out. A pusher that is
#: killed costs its rows as much; one that is merely late finds WorkOS's answer unchanged.
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


def push_due(*, deadline: float, only: Collection[str] | None = None) -> WriteBackReport:
    """Tries once each request that is due now; stops early at ``deadline`` (``time.monotonic()``).

    ``only`` the requests of these organizations, if given.

    May be repeated and run concurrently: rows are claimed, and what WorkOS already shows is not
    written again. Trouble with WorkOS is noted on the rows, which are tried again after a growing
    pause. Raises ``django.db.Error``.
    """
    report = WriteBackReport()
    due_at = _begin()
    halt = _Halt(deadline)
    with ThreadPoolExecutor(_THREADS) as threads:
        while not (halt.trouble or report.is_cut_short):
            claims = _claim(due_at, only)
            if not claims:
                break
            report += _settle(threads.map(partial(_offer, halt), claims))
    return report


def retry(organization_ids: Sequence[str]) -> list[str]:
    """Makes the requests of these organizations due now, conflicts included, as if they had not
    been tried; and rings for them. Returns the ids of those that there were.

    May be repeated and run concurrently, beside a push too. Raises ``django.db.Error``.
    """
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(sql.RETRY_WRITE_BACKS, [list(organization_ids)])
        retried = sorted(id_ for (id_,) in cursor.fetchall())
    if retried:
        ring(PUSH_EXTERNAL_IDS)
    return retried


@dataclass(frozen=True, slots=True)
class _Claim:
    organization_id: str
    workos_id: str
    requested_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """WorkOS confirmed if there is no error; a conflict if there is, but no delay."""

    claim: _Claim
    error: str | None = None
    delay: float | None = None
    is_gone: bool = False
    is_untried: bool = False

    @property
    def is_confirmed(self) -> bool:
        return self.error is None and not self.is_untried


def _begin() -> datetime:
    """The database's time now: what comes due later is for the next run."""
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        due_at: datetime = cursor.fetchone()[0]
        cursor.execute(sql.FORGET_UNLINKED_WRITE_BACKS, [due_at])
    return due_at


def _claim(due_at: datetime, only: Collection[str] | None = None) -> list[_Claim]:
    seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout
    with bounded_transaction(), connection.cursor() as cursor:
        ids = None if only is None else sorted(only)
        cursor.execute(sql.CLAIM_WRITE_BACKS, [seconds, due_at, ids, ids, _BATCH_SIZE])
        return [_Claim(*row) for row in cursor.fetchall()]


#: What is the same for every row, and found out by one call.
_OF_ALL = (workos.NotConfigured, workos.Unauthorized, workos.RateLimited)


@dataclass(slots=True)
class _Halt:
    """What one call has found out for all: a revoked key, a pause that WorkOS asks for, no time."""

    deadline: float
    trouble: workos.WorkOSTrouble | None = None

    @property
    def is_out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline


def _offer(halt: _Halt, claim: _Claim) -> _Answer:
    if halt.trouble is not None:
        return _postponed(claim, halt.trouble)
    if halt.is_out_of_time:
        return _Answer(claim, is_untried=True)
    try:
        workos.offer_external_id(claim.workos_id, claim.organization_id)
    except workos.ExternalIdConflict as conflict:
        return _Answer(claim, error=str(conflict))
    except workos.NotFound as error:
        message = f"{error}; waits for the deletion to be read"
        return _Answer(claim, message, retry_delay(claim.attempts), is_gone=True)
    except workos.WorkOSTrouble as trouble:
        if isinstance(trouble, _OF_ALL):
            halt.trouble = trouble
        return _postponed(claim, trouble)
    return _Answer(claim)


def _postponed(claim: _Claim, trouble: workos.WorkOSTrouble) -> _Answer:
    delay = max(retry_delay(claim.attempts), trouble.retry_after or 0.0)
    return _Answer(claim, str(trouble), delay)


def retry_delay(attempts: int) -> float:
    """Seconds to wait after so many attempts: 1, doubling, up to 15 minutes, half of it jitter."""
    longest: float = min(_FIRST_DELAY * 2 ** min(attempts - 1, 30), _LONGEST_DELAY)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def _settle(answers: Iterable[_Answer]) -> WriteBackReport:
    # In id order, as everybody locks rows.
    settled = sorted(answers, key=lambda answer: answer.claim.organization_id)
    try:
        _write(settled)
    except DatabaseError as error:
        if not is_passing(error):
            raise
        _write_free(settled)
    conflicts = [answer for answer in settled if answer.error and answer.delay is None]
    failures = [answer for answer in settled if answer.error and answer.delay is not None]
    untried = [answer for answer in settled if answer.is_untried]
    _log(conflicts, failures)
    pushed = len(settled) - len(conflicts) - len(failures) - len(untried)
    return WriteBackReport(pushed, len(failures), len(conflicts), bool(untried))


def _write_free(answers: list[_Answer]) -> None:
    """Without those that another program has locked: their claims run out by themselves."""
    ids = [answer.claim.organization_id for answer in answers]
    with bounded_transaction(), connection.cursor() as cursor:
        cursor.execute(sql.LOCK_FREE_WRITE_BACKS, [ids])
        free = {id_ for (id_,) in cursor.fetchall()}
        _execute_writes(cursor, [a for a in answers if a.claim.organization_id in free])
    for id_ in ids:
        if id_ not in free:
            # And then WorkOS is asked again.
            logger.warning("the write-back of %s is locked by another program, or gone", id_)


def _write(answers: list[_Answer]) -> None:
    with bounded_transaction(), connection.cursor() as cursor:
        _execute_writes(cursor, answers)


def _execute_writes(cursor: CursorWrapper, answers: list[_Answer]) -> None:
    failed = [answer for answer in answers if answer.error is not None]
    delays_and_errors: list[list[Any]] = [[a.delay for a in failed], [a.error for a in failed]]
    cursor.execute(sql.CONFIRM_WRITE_BACKS, _requests(a for a in answers if a.is_confirmed))
    cursor.execute(sql.RETURN_WRITE_BACKS, _requests(a for a in answers if a.is_untried))
    cursor.execute(sql.POSTPONE_WRITE_BACKS, [*_requests(failed), *delays_and_errors])
    cursor.execute(sql.FORGET_DELETED_WRITE_BACKS, _requests(a for a in failed if a.is_gone))


def _log(conflicts: list[_Answer], failures: list[_Answer]) -> None:
    for answer in conflicts:
        logger.error(
            "the external_id of %s waits for a person: %s",
            answer.claim.workos_id,
            answer.error,
            extra={"organization": answer.claim.workos_id, "outcome": Outcome.CONFLICT},
        )
    if failures:
        # WorkOS being down fails them all: one line a batch, each row has its own error.
        logger.warning(
            "%d write-backs failed and are tried again later; the first, %s: %s",
            len(failures),
            failures[0].claim.workos_id,
            failures[0].error,
            extra={"organization": failures[0].claim.workos_id},
        )


def _requests(answers: Iterable[_Answer]) -> list[list[Any]]:
    claims = [answer.claim for answer in answers]
    return [[claim.organization_id for claim in claims], [c.requested_at for c in claims]]
