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
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from django.db import DatabaseError, connection
from django.db.backends.utils import CursorWrapper

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import rows, sql, sql_outbox
from orgs.db.cursor import database_now
from orgs.db.errors import WriteSkipped, is_passing
from orgs.db.transactions import (
    Statement,
    bounded_transaction,
    read_only_transaction,
)
from orgs.domain.naming import one_line
from orgs.domain.types import Conflict, ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack
from orgs.services.compare import counted
from orgs.services.queue import PUSH_EXTERNAL_IDS, enqueue
from orgs.services.refusals import each_alone, is_refusal

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
    refused: tuple[str, ...] = ()
    """Those of the failed that PostgreSQL refuses to write: a sentence each, as their rows can't
    say it."""

    def __add__(self, other: "WriteBackReport") -> "WriteBackReport":
        return WriteBackReport(
            self.pushed + other.pushed,
            self.failed + other.failed,
            self.conflicts + other.conflicts,
            self.is_cut_short or other.is_cut_short,
            self.refused + other.refused,
        )

    @property
    def errors(self) -> list[str]:
        """Why not all that was due is written back; conflicts are no error."""
        errors = []
        if self.failed:
            errors.append(
                f"{counted(self.failed, 'write-back')} failed and will be tried again; "
                "see the write-backs of external_id"
            )
        if self.refused:
            errors.append(
                f"PostgreSQL refused to write {counted(len(self.refused), 'row')} of the outbox; "
                f"the first, {self.refused[0]}"
            )
        if self.is_cut_short:
            errors.append("some write-backs are left for the worker: there was no time for them")
        return errors


def push_due(
    *, deadline: float, only: Collection[str] | None = None, patience: float = 0.0
) -> WriteBackReport:
    """Try once each request that is due now; stop early at ``deadline`` (``time.monotonic()``).

    ``only`` the requests of these organizations, if given. ``patience``: as in ``orgs.workos``.
    May be repeated and run concurrently: rows are claimed, and what WorkOS already shows is not
    written again. An error of WorkOS is noted on the rows, which are tried again after a growing
    pause. A row that PostgreSQL refuses to write is reported and logged, and the others go on.
    Raises ``django.db.Error``.
    """
    report, run = WriteBackReport(), _Run(deadline, patience, only)
    _begin(run)
    with ThreadPoolExecutor(_THREADS) as threads:
        while not (run.error or report.is_cut_short):
            due, claims = _claim(run)
            if not due:
                break
            report += _record(run, threads.map(partial(_offer, run), claims))
    refused = (f"{id_}: {reason}" for id_, reason in sorted(run.refused.items()))
    return report + WriteBackReport(failed=len(run.refused), refused=tuple(refused))


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
    requests: int
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
    patience: float = 0.0
    only: Collection[str] | None = None
    due_at: datetime | None = None
    """The database's time at the beginning: what comes due later is for the next run."""
    error: workos.WorkOSError | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Why PostgreSQL refuses to write a row, by Gram id: none is tried twice."""

    @property
    def is_out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    def refuse(self, reasons: dict[str, str]) -> None:
        for id_, reason in reasons.items():
            logger.warning("the write-back of %s can't be written: %s", one_line(id_), reason)
        self.refused |= reasons


# Claims -------------------------------------------------------------------------------------


def _begin(run: _Run) -> None:
    run.due_at = database_now()
    try:
        _forget_unlinked(run, run.only)
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        unlinked = _candidates(run, organization__workos_id__isnull=True)
        _, refused = each_alone(unlinked, lambda id_: _forget_unlinked(run, [id_]))
        run.refuse(refused)


def _forget_unlinked(run: _Run, only: Collection[str] | None) -> None:
    ids = None if only is None else sorted(only)
    with bounded_transaction(
        Statement(sql_outbox.FORGET_UNLINKED_WRITE_BACKS, [run.due_at, ids, ids])
    ) as (left_out,):
        _require_none(left_out)


def _claim(run: _Run) -> tuple[list[str], list[_Claim]]:
    """Claim the next requests; return which were due, and the claims.

    PostgreSQL may refuse to claim some: they are noted, and not due again in this run.
    """
    try:
        claims = _claim_some(run, run.only, _BATCH_SIZE)
        refused: dict[str, str] = {}
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        is_due = {"next_attempt_at__lte": run.due_at, "organization__workos_id__isnull": False}
        due = _candidates(run, **is_due)
        found, refused = each_alone(due, lambda id_: _claim_some(run, [id_], 1))
        claims = [claim for claimed in found for claim in claimed]
    run.refuse(refused)
    return [*refused, *(claim.organization_id for claim in claims)], claims


def _claim_some(run: _Run, only: Collection[str] | None, limit: int) -> list[_Claim]:
    seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout
    ids = None if only is None else sorted(only)
    values = [run.due_at, [*run.refused], ids, ids, limit, seconds]
    with bounded_transaction(Statement(sql_outbox.CLAIM_WRITE_BACKS, values)) as (found,):
        _require_none([row for row in found if row[2] is None])
    return [_Claim(*row) for row in found]


def _candidates(run: _Run, **conditions: Any) -> list[str]:
    """The next requests that PostgreSQL has refused to write together: one of them is why."""
    pending = ExternalIdWriteBack.objects.filter(**conditions).exclude(pk__in=run.refused)
    if run.only is not None:
        pending = pending.filter(pk__in=run.only)
    with read_only_transaction():
        return [*pending.order_by("next_attempt_at").values_list("pk", flat=True)[:_BATCH_SIZE]]


def _require_none(left_out: Sequence[object]) -> None:
    if left_out:
        raise WriteSkipped("a trigger or a policy leaves it as it is")


# Calls of WorkOS ----------------------------------------------------------------------------


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


# Answers ------------------------------------------------------------------------------------


def _record(run: _Run, answers: Iterable[_Answer]) -> WriteBackReport:
    # In id order, as every process locks rows.
    ordered = sorted(answers, key=lambda answer: answer.claim.organization_id)
    refused: dict[_Answer, str] = {}
    try:
        new = _write(ordered)
    except DatabaseError as error:
        if not is_refusal(error):
            raise
        written, refused = each_alone(ordered, lambda answer: _write_unlocked([answer]))
        new = set().union(*written)
    run.refuse({a.claim.organization_id: _unwritten(a, why) for a, why in refused.items()})
    recorded = [answer for answer in ordered if answer not in refused]
    conflicts = [answer for answer in recorded if answer.is_conflict]
    failed = [answer for answer in recorded if answer.error and not answer.is_conflict]
    pushed = [answer for answer in recorded if answer.is_confirmed]
    _log([answer for answer in conflicts if answer.claim.workos_id in new], failed)
    is_cut_short = any(a.is_untried for a in ordered) or (not ordered and run.is_out_of_time)
    return WriteBackReport(len(pushed), len(failed), len(conflicts), is_cut_short)


def _unwritten(answer: _Answer, refusal: str) -> str:
    """Their claim runs out, and they are tried again. Until then nothing else says it."""
    return f"{one_line(answer.error)}; {refusal}" if answer.error else refusal


def _write(answers: list[_Answer]) -> set[str]:
    """Write the answers; return the WorkOS ids of conflicts that are new."""
    try:
        with bounded_transaction(), connection.cursor() as cursor:
            return _execute_writes(cursor, answers)
    except DatabaseError as error:
        if not is_passing(error):
            raise
    return _write_unlocked(answers)


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
            logger.warning(
                "the write-back of %s is locked by another program, or deleted", one_line(id_)
            )
    return new


def _execute_writes(cursor: CursorWrapper, answers: list[_Answer]) -> set[str]:
    failed = [answer for answer in answers if answer.error is not None]
    confirmed = [answer for answer in answers if answer.is_confirmed]
    delays_and_errors: list[list[Any]] = [[a.delay for a in failed], [a.error for a in failed]]
    cursor.execute(sql_outbox.CONFIRM_WRITE_BACKS, _requests(confirmed))
    cursor.execute(sql_outbox.KEPT_WRITE_BACKS, _requests(confirmed))
    _require_none(cursor.fetchall())
    cursor.execute(sql.REMOVE_CONFLICTS, [[answer.claim.workos_id for answer in confirmed]])
    # Of those that are confirmed, what is still there was requested again meanwhile.
    returned = _requests(answer for answer in answers if answer.error is None)
    cursor.execute(sql_outbox.RETURN_WRITE_BACKS, returned[:2])
    cursor.execute(sql_outbox.POSTPONE_WRITE_BACKS, [*_requests(failed), *delays_and_errors])
    cursor.execute(
        sql_outbox.FORGET_DELETED_WRITE_BACKS, _requests(a for a in failed if a.is_missing)
    )
    conflicts = [_conflict(answer) for answer in failed if answer.is_conflict]
    if not conflicts:
        return set()
    stored = rows.store_conflicts(conflicts)
    cursor.execute(stored.text, stored.values)
    return rows.new_among(conflicts, cursor.fetchall())


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
    return [
        [claim.organization_id for claim in claims],
        [claim.requested_at for claim in claims],
        [claim.requests for claim in claims],
    ]
