"""Reads and writes a page of the mirror inside a transaction that the caller has opened."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.dispatch import Signal

from orgs import signals
from orgs.db import sql
from orgs.db.transactions import Rows, Statement, execute_together
from orgs.domain.drift import PendingWriteBack
from orgs.domain.naming import slug_base, slug_candidates, storable
from orgs.domain.resolution import (
    Creation,
    Event,
    Plan,
    RemoteOrganization,
    Resolved,
    Row,
)
from orgs.domain.types import (
    Outcome,
)
from orgs.models import Organization


def lock_rows(workos_ids: Iterable[str], ids: Iterable[str]) -> list[Row]:
    """Locks and returns the rows linked to one of ``workos_ids`` or with one of ``ids``."""
    (found,) = execute_together([_rows_of(sql.LOCK_ORGANIZATIONS, workos_ids, ids)])
    return [*map(_row, found)]


def lock_rows_and_find_deletions(
    workos_ids: Iterable[str], ids: Iterable[str], *, deletions_of: Iterable[str]
) -> tuple[list[Row], dict[str, str]]:
    """``lock_rows`` and ``known_deletions`` in one round trip."""
    found, deletions = execute_together(
        [_rows_of(sql.LOCK_ORGANIZATIONS, workos_ids, ids), _deletions_of(deletions_of)]
    )
    return [*map(_row, found)], _latest(deletions)


def load_rows(workos_ids: Iterable[str], ids: Iterable[str]) -> list[Row]:
    """The same rows, without a lock: good for a comparison that is repeated before a write."""
    (found,) = execute_together([_rows_of(sql.LOAD_ORGANIZATIONS, workos_ids, ids)])
    return [*map(_row, found)]


def _rows_of(text: str, workos_ids: Iterable[str], ids: Iterable[str]) -> Statement:
    return _statement(text, sorted(workos_ids), sorted(ids))


def _row(values: tuple[Any, ...]) -> Row:
    id_, name, workos_id, updated_at, event_id, disabled = values
    return Row(
        id=id_,
        name=name,
        workos_id=workos_id,
        workos_updated_at=updated_at,
        workos_last_event_id=event_id,
        disabled=disabled,
    )


def ids_in_sync(organizations: Iterable[RemoteOrganization]) -> set[str]:
    """The WorkOS ids of those whose row is enabled, linked, and named as WorkOS names it, and that
    WorkOS knows by the row's id; none is among them that the row is newer than, or that has
    something in the outbox."""
    listed = [(o.workos_id, o.external_id, o.name, o.updated_at) for o in organizations]
    if not listed:
        return set()
    (found,) = execute_together([_statement(sql.ORGANIZATIONS_IN_SYNC, *zip(*listed, strict=True))])
    return {workos_id for (workos_id,) in found}


def pending_write_backs(ids: Iterable[str]) -> dict[str, PendingWriteBack]:
    """The outbox rows of these organizations, by organization id."""
    with connection.cursor() as cursor:
        cursor.execute(sql.PENDING_WRITE_BACKS, [sql.array(sorted(ids))])
        return {id_: PendingWriteBack(*values) for id_, *values in cursor.fetchall()}


def known_deletions(workos_ids: Collection[str]) -> dict[str, str]:
    """The deletions of these organizations that the stream has brought: WorkOS id to event id.

    Of two deletions the later one, bytewise.
    """
    if not workos_ids:
        return {}
    (found,) = execute_together([_deletions_of(workos_ids)])
    return _latest(found)


def _deletions_of(workos_ids: Iterable[str]) -> Statement:
    return _statement(sql.KNOWN_DELETIONS, sorted(workos_ids))


def _latest(deletions: Rows) -> dict[str, str]:
    return dict(sorted(deletions, key=lambda pair: str(pair[1]).encode()))


def write_plan(plan: Plan, *then: Statement) -> list[Rows]:
    """Writes what a fold decided: one statement for each kind of write that there is.

    ``then`` are executed after these, in the same round trip, and their rows are returned. Once the
    transaction is committed, it tells who listens to the signals.
    """
    writes = [*_writes(plan)]
    results = execute_together([*writes, *then])
    tell(
        (_SIGNALS[change.outcome], change.organization_id, change.workos_id)
        for change in plan.changes
    )
    return results[len(writes) :]


def _writes(plan: Plan) -> Iterator[Statement]:
    if plan.unlinked:
        yield _statement(sql.UNLINK_ORGANIZATIONS, plan.unlinked)
    if plan.updated:
        yield _statement(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))
    if plan.disabled:
        yield _statement(sql.DISABLE_ORGANIZATIONS, *_columns(plan.disabled))
    if plan.created:
        yield _insert(plan.created)
    if plan.write_backs:
        ids = sorted(plan.write_backs)
        yield _statement(sql.REQUEST_WRITE_BACKS, ids, [plan.write_backs[id_] for id_ in ids])
    if plan.known_to_workos:
        yield _statement(sql.WITHDRAW_WRITE_BACKS, plan.known_to_workos)


_SIGNALS = {
    Outcome.CREATED: signals.organization_created,
    Outcome.UPDATED: signals.organization_updated,
    Outcome.RELINKED: signals.organization_relinked,
    Outcome.DISABLED: signals.organization_disabled,
}


def tell(changes: Iterable[tuple[Signal, str, str | None]]) -> None:
    """Sends each signal about Gram's id and WorkOS's, once the transaction is committed."""
    transaction.on_commit(partial(_send, [*changes]), robust=True)


def _send(changes: Iterable[tuple[Signal, str, str | None]]) -> None:
    for signal, organization_id, workos_id in changes:
        signal.send_robust(
            sender=Organization, organization_id=organization_id, workos_id=workos_id
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An event and what became of it; ``payload`` is kept if it was parked."""

    event: Event
    resolved: Resolved
    payload: str | None = None


def entering(entries: Sequence[LedgerEntry]) -> Statement:
    """Enters events in the ledger; returns the ids of those for which that is news.

    The first outcome of an event stays, also of one that stands twice among ``entries``.
    """
    first: dict[str, LedgerEntry] = {}
    for entry in entries:
        first.setdefault(entry.event.id, entry)
    rows = [_ledger_values(first[key]) for key in sorted(first)]
    return _statement(sql.RECORD_EVENTS, *zip(*rows, strict=True))


def _ledger_values(entry: LedgerEntry) -> tuple[object, ...]:
    event, resolved = entry.event, entry.resolved
    parked = resolved.outcome is Outcome.PARKED
    return (
        event.id,
        event.type,
        event.workos_id,
        resolved.organization_id,
        event.occurred_at,
        resolved.outcome,
        storable(resolved.error) if parked else "",
        entry.payload if parked else None,
    )


def _insert(creations: Sequence[Creation]) -> Statement:
    slugs = dict(_choose_slugs(creations))
    rows = sorted((creation.row for creation in creations), key=lambda row: row.id)
    ids, *others = _columns(rows)
    return _statement(
        sql.INSERT_ORGANIZATIONS,
        ids,
        [slugs[row.id] for row in rows],
        *others,
        [row.disabled for row in rows],
    )


def _choose_slugs(creations: Sequence[Creation]) -> Iterator[tuple[str, str]]:
    """Pairs of id and slug, chosen in the order of creation."""
    bases = [slug_base(creation.named, creation.created_for) for creation in creations]
    # The lock first: only then can nobody else of ours be choosing one of them.
    lock, look = (_statement(text, bases) for text in (sql.LOCK_SLUGS, sql.TAKEN_SLUGS))
    taken = _slugs(execute_together([lock, look])[1])
    if not taken and len(set(bases)) == len(bases):
        # As on most pages: nobody needs a suffix.
        yield from zip((creation.row.id for creation in creations), bases, strict=True)
        return
    candidates = [
        list(slug_candidates(base, creation.created_for))
        for base, creation in zip(bases, creations, strict=True)
    ]
    every = _statement(sql.TAKEN_SLUGS, (slug for slugs in candidates for slug in slugs))
    taken |= _slugs(execute_together([every])[0])
    for creation, slugs in zip(creations, candidates, strict=True):
        # If even the last is taken, the unique index says so, and the event is parked.
        slug = next((slug for slug in slugs if slug not in taken), slugs[-1])
        taken.add(slug)
        yield creation.row.id, slug


def _slugs(found: Rows) -> set[str]:
    return {slug for (slug,) in found}


def _columns(rows: Sequence[Row]) -> tuple[list[object], ...]:
    return (
        [row.id for row in rows],
        [row.name for row in rows],
        [row.workos_id for row in rows],
        [row.workos_updated_at for row in rows],
        [row.workos_last_event_id for row in rows],
    )


def _statement(text: str, *columns: Iterable[object]) -> Statement:
    return Statement(text, [*map(sql.array, columns)])
