"""Writes our ids back to WorkOS as ``external_id``: works off the outbox.

The row enters the outbox in the transaction that links it, and leaves it when WorkOS has confirmed.
Claims are short transactions. WorkOS is called between them, in a few threads that never touch the
database.
"""

import logging
import random
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError

from orgs import workos
from orgs.conf import sync_settings
from orgs.db import rows, sql, sql_outbox
from orgs.db.cursor import database_now
from orgs.db.errors import WriteSkipped, is_passing
from orgs.db.transactions import (
    Statement,
    bounded_transaction,
    execute_alone,
    execute_together,
    read_only_transaction,
)
from orgs.domain.naming import one_line
from orgs.domain.types import Conflict, ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack
from orgs.services.compare import counted
from orgs.services.queue import PUSH_EXTERNAL_IDS, enqueue
from orgs.services.refusals import together_or_alone

logger = logging.getLogger(__name__)

_THREADS = 8
_BATCH_SIZE = 40

#: A claim outlasts the slowest batch: rounds of two calls each, by their time-out. A process that
#: is killed costs its rows as much; one that is merely late finds WorkOS's answer unchanged.
_ROUNDS_OF_CALLS = _BATCH_SIZE // _THREADS * 2

_FIRST_DELAY = 1.0
_LONGEST_DELAY = 900.0

#: Errors that would be the same for every row.
_SAME_FOR_ALL = workos.NotConfigured, workos.Misconfigured, workos.Unauthorized, workos.RateLimited


@dataclass(slots=True)
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
    push = _Push(deadline, patience, None if only is None else sorted(only))
    push.forget_unlinked()
    with ThreadPoolExecutor(_THREADS) as threads:
        while not (push.error or push.report.is_cut_short):
            due, claims = push.claim()
            if not due:
                break
            push.record(threads.map(push.offer, claims))
    push.report.failed += len(push.refused)
    push.report.refused = tuple(f"{id_}: {why}" for id_, why in sorted(push.refused.items()))
    return push.report


def retry(organization_ids: Sequence[str]) -> list[str]:
    """Make the requests of these organizations due now, conflicts included, as if they had not
    been tried, and enqueue a push. Return the ids of those that there were.

    May be repeated and run concurrently, beside a push too. Raises ``django.db.Error``.
    """
    found = execute_alone(sql_outbox.RETRY_WRITE_BACKS, [list(organization_ids)])
    if found:
        enqueue(PUSH_EXTERNAL_IDS)
    return sorted(id_ for (id_,) in found)


def retry_delay(attempts: int) -> float:
    """Return the seconds to wait after so many attempts: 1, doubling, up to 15 minutes, with
    jitter of up to a half."""
    longest: float = min(_FIRST_DELAY * 2 ** min(attempts - 1, 30), _LONGEST_DELAY)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


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


@dataclass(slots=True)
class _Push:
    """Claims requests, offers the ids to WorkOS, and records its answers."""

    deadline: float
    patience: float = 0.0
    only: list[str] | None = None
    due_at: datetime = field(default_factory=database_now)
    """The database's time at the beginning: what comes due later is for the next push."""
    error: workos.WorkOSError | None = None
    """What one of the calls found out for all."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why PostgreSQL refuses to write a row, by Gram id: none is tried twice."""
    report: WriteBackReport = field(default_factory=WriteBackReport)

    def forget_unlinked(self) -> None:
        """Remove the requests of rows from which another program has removed the link."""

        def forget(ids: Sequence[str] | None) -> list[str]:
            forgetting = Statement(sql_outbox.FORGET_UNLINKED_WRITE_BACKS, [self.due_at, ids, ids])
            with bounded_transaction(forgetting) as (left_out,):
                _require_none(left_out)
            return []

        unlinked = self._candidates(organization__workos_id__isnull=True)
        _, refused = together_or_alone(unlinked, forget, lambda: forget(self.only))
        self._refuse(refused)

    def claim(self) -> tuple[list[str], list[_Claim]]:
        """Claim the next requests; return which were due, and the claims.

        PostgreSQL may refuse to claim some: they are noted, and not due again in this push.
        """
        seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout

        def claim(ids: Sequence[str] | None) -> list[_Claim]:
            values = [self.due_at, [*self.refused], ids, ids, _BATCH_SIZE, seconds]
            with bounded_transaction(Statement(sql_outbox.CLAIM_WRITE_BACKS, values)) as (found,):
                _require_none([row for row in found if row[2] is None])
            return [_Claim(*row) for row in found]

        is_due = {"next_attempt_at__lte": self.due_at, "organization__workos_id__isnull": False}
        due = self._candidates(**is_due)
        claims, refused = together_or_alone(due, claim, lambda: claim(self.only))
        self._refuse(refused)
        return [*refused, *(claim.organization_id for claim in claims)], claims

    def offer(self, claim: _Claim) -> _Answer:
        """Have WorkOS show the id. Runs in a thread that never touches the database."""
        if self.error is not None:
            return _postponed(claim, self.error)
        if time.monotonic() >= self.deadline:
            return _Answer(claim, is_untried=True)
        try:
            workos.offer_external_id(claim.workos_id, claim.organization_id, patience=self.patience)
        except workos.ExternalIdConflict as conflict:
            return _Answer(claim, str(conflict))
        except workos.WorkOSError as error:
            if isinstance(error, _SAME_FOR_ALL):
                self.error = error
            return _postponed(claim, error)
        return _Answer(claim)

    def record(self, answers: Iterable[_Answer]) -> None:
        """Write what WorkOS answered, and count it."""
        # In id order, as every process locks rows.
        ordered = sorted(answers, key=lambda answer: answer.claim.organization_id)
        new, refused = together_or_alone(ordered, _write_unlocked, lambda: _write(ordered))
        # Their claim runs out, and they are tried again. Until then nothing else says their error.
        for answer, why in refused.items():
            said = f"{one_line(answer.error)}; {why}" if answer.error else why
            self._refuse({answer.claim.organization_id: said})
        recorded = [answer for answer in ordered if answer not in refused]
        conflicts = [answer for answer in recorded if answer.is_conflict]
        failed = [answer for answer in recorded if answer.error and not answer.is_conflict]
        self.report.pushed += sum(answer.is_confirmed for answer in recorded)
        self.report.failed += len(failed)
        self.report.conflicts += len(conflicts)
        is_too_late = not ordered and time.monotonic() >= self.deadline
        self.report.is_cut_short |= is_too_late or any(answer.is_untried for answer in ordered)
        _log([answer for answer in conflicts if answer.claim.workos_id in new], failed)

    def _candidates(self, **conditions: Any) -> Iterator[str]:
        """Find the next requests, which PostgreSQL has refused to write together: one is why."""
        pending = ExternalIdWriteBack.objects.filter(**conditions).exclude(pk__in=self.refused)
        if self.only is not None:
            pending = pending.filter(pk__in=self.only)
        ids = pending.order_by("next_attempt_at").values_list("pk", flat=True)
        with read_only_transaction():
            found = list(ids[:_BATCH_SIZE])
        yield from found

    def _refuse(self, reasons: dict[str, str]) -> None:
        for id_, reason in reasons.items():
            logger.warning("the write-back of %s can't be written: %s", one_line(id_), reason)
        self.refused |= reasons


def _postponed(claim: _Claim, error: workos.WorkOSError) -> _Answer:
    delay = max(retry_delay(claim.attempts), error.retry_after or 0.0)
    if isinstance(error, workos.NotFound):
        said = f"{error}; waits for the deletion to be read"
        return _Answer(claim, said, delay, is_missing=True)
    return _Answer(claim, str(error), delay)


def _require_none(left_out: Sequence[object]) -> None:
    if left_out:
        raise WriteSkipped("a trigger or a policy leaves it as it is")


# Answers ------------------------------------------------------------------------------------


def _write(answers: list[_Answer]) -> list[str]:
    """Write the answers; return the WorkOS ids of conflicts that are new."""
    try:
        with bounded_transaction():
            return _execute_writes(answers)
    except DatabaseError as error:
        if not is_passing(error):
            raise
    return _write_unlocked(answers)


def _write_unlocked(answers: Sequence[_Answer]) -> list[str]:
    """Without those that another program has locked: their claims run out by themselves."""
    ids = [answer.claim.organization_id for answer in answers]
    with bounded_transaction(Statement(sql_outbox.LOCK_FREE_WRITE_BACKS, [ids])) as (found,):
        free = {id_ for (id_,) in found}
        new = _execute_writes([a for a in answers if a.claim.organization_id in free])
    for id_ in map(one_line, (id_ for id_ in ids if id_ not in free)):
        # And then WorkOS is asked again.
        logger.warning("the write-back of %s is locked by another program, or deleted", id_)
    return new


def _execute_writes(answers: list[_Answer]) -> list[str]:
    failed = [answer for answer in answers if answer.error is not None]
    missing = [answer for answer in failed if answer.is_missing]
    confirmed = [answer for answer in answers if answer.is_confirmed]
    # Of those that are confirmed, what is still there was requested again meanwhile.
    returned = [answer for answer in answers if answer.error is None]
    kind = ConflictKind.WRITE_BACK_REFUSED
    conflicts = [
        Conflict(answer.claim.workos_id, answer.claim.organization_id, kind, answer.error or "")
        for answer in failed
        if answer.is_conflict
    ]
    delays_and_errors = [[answer.delay for answer in failed], [answer.error for answer in failed]]
    statements = [
        Statement(sql_outbox.CONFIRM_WRITE_BACKS, _requests(confirmed)),
        Statement(sql_outbox.KEPT_WRITE_BACKS, _requests(confirmed)),
        Statement(sql.REMOVE_CONFLICTS, [[answer.claim.workos_id for answer in confirmed]]),
        Statement(sql_outbox.RETURN_WRITE_BACKS, _requests(returned)[:2]),
        Statement(sql_outbox.POSTPONE_WRITE_BACKS, [*_requests(failed), *delays_and_errors]),
        Statement(sql_outbox.FORGET_DELETED_WRITE_BACKS, _requests(missing)),
    ]
    if conflicts:
        statements.append(rows.store_conflicts(conflicts))
    _, kept, *_, last = execute_together(statements)
    _require_none(kept)
    return [*rows.new_among(conflicts, last)] if conflicts else []


def _log(conflicts: list[_Answer], failures: list[_Answer]) -> None:
    for answer in conflicts:
        about = answer.claim.workos_id
        logger.warning(
            "the external_id of %s waits for a person: %s",
            one_line(about),
            one_line(answer.error),
            extra={"organization": about, "outcome": Outcome.CONFLICT},
        )
    if failures:
        # WorkOS being down fails them all: one line a batch, each row has its own error.
        about = failures[0].claim.workos_id
        logger.warning(
            "%d write-backs failed and are tried again later; the first, %s: %s",
            len(failures),
            one_line(about),
            one_line(failures[0].error),
            extra={"organization": about},
        )


def _requests(answers: Sequence[_Answer]) -> list[list[Any]]:
    columns = ("organization_id", "requested_at", "requests")
    return [[getattr(answer.claim, column) for answer in answers] for column in columns]
