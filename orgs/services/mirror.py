"""Reads and writes a page of the mirror inside a transaction that the caller has opened."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from django.db import connection, transaction

from orgs import signals
from orgs.drift import PendingWriteBack
from orgs.models import Organization
from orgs.resolution import Creation, Event, Outcome, Plan, Resolved, Row, RowChange
from orgs.services import sql
from orgs.slugs import slug_base, slug_candidates
from orgs.wording import storable


def lock_rows(workos_ids: Iterable[str], ids: Iterable[str]) -> list[Row]:
    """Locks and returns the rows linked to one of ``workos_ids`` or with one of ``ids``."""
    return _select(sql.LOCK_ORGANIZATIONS, workos_ids, ids)


def load_rows(workos_ids: Iterable[str], ids: Iterable[str]) -> list[Row]:
    """The same rows, without a lock: good for a comparison that is repeated before a write."""
    return _select(sql.LOAD_ORGANIZATIONS, workos_ids, ids)


def _select(statement: str, workos_ids: Iterable[str], ids: Iterable[str]) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [sql.array(sorted(workos_ids)), sql.array(sorted(ids))])
        return [
            Row(
                id=id_,
                name=name,
                workos_id=workos_id,
                workos_updated_at=updated_at,
                workos_last_event_id=event_id,
                disabled=disabled,
            )
            for id_, name, workos_id, updated_at, event_id, disabled in cursor.fetchall()
        ]


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
    with connection.cursor() as cursor:
        cursor.execute(sql.KNOWN_DELETIONS, [sql.array(sorted(workos_ids))])
        return dict(sorted(cursor.fetchall(), key=lambda pair: pair[1].encode()))


def write_plan(plan: Plan) -> None:
    """Writes what a fold decided: one statement for each kind of write that there is.

    Once the transaction is committed, it tells who listens to the signals.
    """
    if plan.unlinked:
        _execute(sql.UNLINK_ORGANIZATIONS, list(plan.unlinked))
    if plan.updated:
        _execute(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))
    if plan.disabled:
        _execute(sql.DISABLE_ORGANIZATIONS, *_columns(plan.disabled))
    if plan.created:
        _insert(plan.created)
    if plan.write_backs:
        ids = sorted(plan.write_backs)
        _execute(sql.REQUEST_WRITE_BACKS, ids, [plan.write_backs[id_] for id_ in ids])
    if plan.known_to_workos:
        _execute(sql.WITHDRAW_WRITE_BACKS, list(plan.known_to_workos))
    transaction.on_commit(partial(_tell, plan.changes), robust=True)


_SIGNALS = {
    Outcome.CREATED: signals.organization_created,
    Outcome.UPDATED: signals.organization_updated,
    Outcome.RELINKED: signals.organization_relinked,
    Outcome.DISABLED: signals.organization_disabled,
}


def _tell(changes: Iterable[RowChange]) -> None:
    for change in changes:
        _SIGNALS[change.outcome].send_robust(
            sender=Organization,
            organization_id=change.organization_id,
            workos_id=change.workos_id,
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An event and what became of it; ``payload`` is kept if it was parked."""

    event: Event
    resolved: Resolved
    payload: str | None = None


def record_events(entries: Iterable[LedgerEntry]) -> set[str]:
    """Enters events in the ledger, and returns the ids of those for which that is news.

    The first outcome of an event stays, also of one that stands twice among ``entries``.
    """
    first: dict[str, LedgerEntry] = {}
    for entry in entries:
        first.setdefault(entry.event.id, entry)
    if not first:
        return set()
    rows = [_ledger_values(first[key]) for key in sorted(first)]
    with connection.cursor() as cursor:
        cursor.execute(sql.RECORD_EVENTS, [*map(sql.array, zip(*rows, strict=True))])
        return {id_ for (id_,) in cursor.fetchall()}


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


def _insert(creations: Sequence[Creation]) -> None:
    slugs = dict(_choose_slugs(creations))
    rows = sorted((creation.row for creation in creations), key=lambda row: row.id)
    ids, *others = _columns(rows)
    _execute(
        sql.INSERT_ORGANIZATIONS,
        ids,
        [slugs[row.id] for row in rows],
        *others,
        [row.disabled for row in rows],
    )


def _choose_slugs(creations: Sequence[Creation]) -> Iterator[tuple[str, str]]:
    """Pairs of id and slug, chosen in the order of creation."""
    bases = [slug_base(creation.named, creation.created_for) for creation in creations]
    _execute(sql.LOCK_SLUGS, bases)
    candidates = [
        list(slug_candidates(base, creation.created_for))
        for base, creation in zip(bases, creations, strict=True)
    ]
    with connection.cursor() as cursor:
        every = sql.array(slug for slugs in candidates for slug in slugs)
        cursor.execute(sql.TAKEN_SLUGS, [every])
        taken = {slug for (slug,) in cursor.fetchall()}
    for creation, slugs in zip(creations, candidates, strict=True):
        # If even the last is taken, the unique index says so, and the event is parked.
        slug = next((slug for slug in slugs if slug not in taken), slugs[-1])
        taken.add(slug)
        yield creation.row.id, slug


def _columns(rows: Sequence[Row]) -> tuple[list[object], ...]:
    return (
        [row.id for row in rows],
        [row.name for row in rows],
        [row.workos_id for row in rows],
        [row.workos_updated_at for row in rows],
        [row.workos_last_event_id for row in rows],
    )


def _execute(statement: str, *columns: Iterable[object]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [*map(sql.array, columns)])
