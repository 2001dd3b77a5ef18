"""Writes our ids back to WorkOS as ``external_id``: works off the outbox.

The row enters the outbox in the transaction that links it, and leaves it when WorkOS has confirmed.
Claims are short transactions. WorkOS is called between them, in a few threads that never touch the
database.
"""

import logging
import random
import time
from collections.abc import Collection, Iterator, Sequence
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
    Rows,
    Statement,
    bounded_transaction,
    execute_alone,
    execute_together,
)
from orgs.domain.naming import counted, one_line
from orgs.domain.types import Conflict, ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack
from orgs.services.queue import PUSH_EXTERNAL_IDS, enqueue
from orgs.services.refusals import together_or_alone

logger = logging.getLogger(__name__)

_THREADS = 8
_BATCH_SIZE = 40

#: A claim lasts longer than the slowest batch: rounds of two calls each, by their time-out. The
#: rows of a process that is killed wait as long; one that is late writes nothing twice.
_ROUNDS_OF_CALLS = _BATCH_SIZE // _THREADS * 2

_FIRST_DELAY = 1.0
_LONGEST_DELAY = 900.0


@dataclass(slots=True)
class WriteBackReport:
    """What became of the requests that were due."""

    pushed: int = 0
    failed: int = 0
    conflicts: int = 0
    is_cut_short: bool = False
    """Whether the time was up before all were tried."""
    refused: tuple[str, ...] = ()
    """A sentence for each failed request that PostgreSQL refuses to write: its row can't hold the
    reason."""

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

    ``only`` the requests with these Gram ids, if given. ``patience``: as in ``orgs.workos``.
    May be repeated and run concurrently: rows are claimed, and what WorkOS already shows is not
    written again. An error of WorkOS is noted on the rows, which are tried again after a growing
    pause. A row that PostgreSQL refuses to write is reported and logged, and the others go on.
    Raises ``django.db.Error``.
    """
    push = _Push(deadline, patience, None if only is None else sorted(only))
    push.forget_unlinked()
    with workos.asking_threads(_THREADS) as threads:
        while not (push.error or push.report.is_cut_short):
            if (requests := push.claim()) is None:
                break
            push.record([*threads.map(push.offer, requests)])
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


@dataclass(slots=True, eq=False)
class _Request:
    """A request that was claimed, and WorkOS's answer; none if there was no time to ask."""

    organization_id: str
    workos_id: str
    requested_at: str
    requests: int
    attempts: int
    is_confirmed: bool = False
    error: str | None = None
    delay: float | None = None
    is_missing: bool = False

    @property
    def is_conflict(self) -> bool:
        """An error that no later attempt ends."""
        return self.error is not None and self.delay is None

    def postpone(self, error: workos.WorkOSError) -> None:
        """Have it tried again, after a pause."""
        self.error = str(error)
        self.delay = max(retry_delay(self.attempts), error.retry_after or 0.0)
        if isinstance(error, workos.NotFound):
            self.error, self.is_missing = f"{error}; waits for the deletion to be read", True


@dataclass(slots=True)
class _Push:
    """Claims requests, offers the ids to WorkOS, and records its answers."""

    deadline: float
    patience: float = 0.0
    only: list[str] | None = None
    due_at: datetime = field(default_factory=database_now)
    """The database's time at the beginning: what comes due later is for the next push."""
    error: workos.WorkOSError | None = None
    """An error that would be the same for every call: no other is made."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why PostgreSQL refuses to write a row, by Gram id: none is tried twice."""
    report: WriteBackReport = field(default_factory=WriteBackReport)

    def forget_unlinked(self) -> None:
        """Remove the requests of rows from which another program has removed the link."""

        def forget(ids: Sequence[str] | None) -> list[str]:
            locking = Statement(sql_outbox.LOCK_UNLINKED_WRITE_BACKS, [self.due_at, ids, ids])
            with bounded_transaction(locking) as (locked,):
                _require_none(_execute_for(locked, sql_outbox.FORGET_UNLINKED_WRITE_BACKS))
            return []

        unlinked = self._candidates(organization__workos_id__isnull=True)
        _, refused = together_or_alone(unlinked, forget, lambda: forget(self.only))
        self._refuse(refused)

    def claim(self) -> list[_Request] | None:
        """Claim the next requests, and return them; None if none was due.

        PostgreSQL may refuse to claim some: they are noted, and not due again in this push.
        """
        seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout

        def claim(ids: Sequence[str] | None) -> list[_Request]:
            values = [self.due_at, [*self.refused], ids, ids, _BATCH_SIZE]
            locking = Statement(sql_outbox.LOCK_DUE_WRITE_BACKS, values)
            with bounded_transaction(locking) as (locked,):
                found = _execute_for(locked, sql_outbox.CLAIM_WRITE_BACKS, seconds)
                _require_none([row for row in found if row[2] is None])
            return [_Request(*row) for row in found]

        is_due = {"next_attempt_at__lte": self.due_at, "organization__workos_id__isnull": False}
        due = self._candidates(**is_due)
        requests, refused = together_or_alone(due, claim, lambda: claim(self.only))
        self._refuse(refused)
        return requests if requests or refused else None

    def offer(self, request: _Request) -> _Request:
        """Have WorkOS show the id. Runs in a thread that never touches the database."""
        if self.error is not None:
            request.postpone(self.error)
        elif time.monotonic() < self.deadline:
            id_, workos_id = request.organization_id, request.workos_id
            try:
                workos.offer_external_id(workos_id, id_, patience=self.patience)
                request.is_confirmed = True
            except workos.ExternalIdConflict as conflict:
                request.error = str(conflict)
            except workos.WorkOSError as error:
                if isinstance(error, workos.SAME_FOR_ALL):
                    self.error = error
                request.postpone(error)
        return request

    def record(self, requests: list[_Request]) -> None:
        """Write what WorkOS answered, and count it."""
        # In id order, as every process locks rows.
        requests.sort(key=lambda request: request.organization_id)
        new, refused = together_or_alone(requests, _write_free, lambda: _write(requests))
        # Their claim runs out, and they are tried again. Until then nothing else says their error.
        for request, why in refused.items():
            said = f"{one_line(request.error)}; {why}" if request.error else why
            self._refuse({request.organization_id: said})
        recorded = [request for request in requests if request not in refused]
        conflicts = [request for request in recorded if request.is_conflict]
        failed = [request for request in recorded if request.delay is not None]
        self.report.pushed += sum(request.is_confirmed for request in recorded)
        self.report.failed += len(failed)
        self.report.conflicts += len(conflicts)
        is_too_late = not requests and time.monotonic() >= self.deadline
        are_untried = any(not (one.is_confirmed or one.error) for one in requests)
        self.report.is_cut_short |= is_too_late or are_untried
        _log([request for request in conflicts if request.workos_id in new], failed)

    def _candidates(self, **conditions: Any) -> Iterator[str]:
        """Yield the next requests, to be tried alone: PostgreSQL has refused them together."""
        pending = ExternalIdWriteBack.objects.filter(**conditions).exclude(pk__in=self.refused)
        if self.only is not None:
            pending = pending.filter(pk__in=self.only)
        ids = pending.order_by("next_attempt_at").values_list("pk", flat=True)
        with bounded_transaction():
            found = list(ids[:_BATCH_SIZE])
        yield from found

    def _refuse(self, reasons: dict[str, str]) -> None:
        for id_, reason in reasons.items():
            logger.warning("the write-back of %s can't be written: %s", one_line(id_), reason)
        self.refused |= reasons


def _execute_for(locked: Rows, query: str, *values: float) -> Rows:
    """Run the statement for rows that one before it has locked, if there are any."""
    ids = [id_ for (id_,) in locked]
    return execute_together([Statement(query, [ids, *values])])[0] if ids else []


def _require_none(left_out: Sequence[object]) -> None:
    if left_out:
        raise WriteSkipped("a trigger or a policy leaves it as it is")


# Answers ------------------------------------------------------------------------------------


def _write(requests: list[_Request]) -> list[str]:
    """Write the answers; return the WorkOS ids of conflicts that are new."""
    try:
        with bounded_transaction():
            return _execute_writes(requests)
    except DatabaseError as error:
        if not is_passing(error):
            raise
    return _write_free(requests)


def _write_free(requests: Sequence[_Request]) -> list[str]:
    """Write all but those that another program has locked: their claims run out by themselves."""
    ids = [request.organization_id for request in requests]
    with bounded_transaction(Statement(sql_outbox.LOCK_FREE_WRITE_BACKS, [ids])) as (found,):
        free = {id_ for (id_,) in found}
        new = _execute_writes([one for one in requests if one.organization_id in free])
    for id_ in map(one_line, (id_ for id_ in ids if id_ not in free)):
        # And then WorkOS is asked again.
        logger.warning("the write-back of %s is locked by another program, or deleted", id_)
    return new


def _execute_writes(requests: list[_Request]) -> list[str]:
    confirmed = [request for request in requests if request.is_confirmed]
    # Those that were not tried. Of those that are confirmed, only one that was requested again
    # meanwhile is still there.
    returned = [request for request in requests if request.error is None]
    failed = [request for request in requests if request.error is not None]
    missing = [request for request in failed if request.is_missing]
    delays_and_errors = [[one.delay for one in failed], [one.error for one in failed]]
    statements = [
        Statement(sql_outbox.CONFIRM_WRITE_BACKS, _columns(confirmed)),
        Statement(sql_outbox.KEPT_WRITE_BACKS, _columns(confirmed)),
        Statement(sql.REMOVE_CONFLICTS, [[request.workos_id for request in confirmed]]),
        Statement(sql_outbox.RETURN_WRITE_BACKS, _columns(returned)[:2]),
        Statement(sql_outbox.POSTPONE_WRITE_BACKS, [*_columns(failed), *delays_and_errors]),
        Statement(sql_outbox.KEPT_WRITE_BACKS, _columns(failed)),
        Statement(sql_outbox.FORGET_DELETED_WRITE_BACKS, _columns(missing)),
    ]
    _, kept, _, _, _, not_repeated, _ = execute_together(statements)
    _require_none(kept)
    conflicts = [
        Conflict(
            one.workos_id, one.organization_id, ConflictKind.WRITE_BACK_REFUSED, one.error or ""
        )
        for one in failed
        if one.is_conflict and (one.organization_id,) in not_repeated
    ]
    if not conflicts:
        return []
    (stored,) = execute_together([rows.store_conflicts(conflicts)])
    return [*rows.new_among(conflicts, stored)]


def _columns(requests: list[_Request]) -> list[list[Any]]:
    names = ("organization_id", "requested_at", "requests")
    return [[getattr(request, name) for request in requests] for name in names]


def _log(conflicts: list[_Request], failed: list[_Request]) -> None:
    for request in conflicts:
        about = {"organization": request.workos_id, "outcome": Outcome.CONFLICT}
        said = one_line(request.workos_id), one_line(request.error)
        logger.warning("the external_id of %s waits for a person: %s", *said, extra=about)
    if failed:
        # WorkOS being down fails them all: one line a batch, each row has its own error.
        first = failed[0]
        logger.warning(
            "%d write-backs failed and are tried again later; the first, %s: %s",
            len(failed),
            one_line(first.workos_id),
            one_line(first.error),
            extra={"organization": first.workos_id},
        )
