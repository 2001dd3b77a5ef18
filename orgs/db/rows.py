"""Loads, locks and writes rows. What locks or writes needs the caller's transaction."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from orgs.db import sql
from orgs.db.errors import WriteSkipped
from orgs.db.transactions import Rows, Statement, execute_bounded, execute_together
from orgs.domain.naming import slug_base, slug_candidates, storable
from orgs.domain.resolution import row_ids
from orgs.domain.resources import payload_of
from orgs.domain.types import (
    Conflict,
    Creation,
    Decision,
    Known,
    Observation,
    Outcome,
    PendingWriteBack,
    Plan,
    Row,
)


def load(observations: Sequence[Observation], *, lock: bool) -> Known:
    """Return what the decisions over these observations rest on, in one round trip.

    ``lock`` locks the organizations, in id order. Without it, what is returned is good for a
    comparison that is repeated before a write.
    """
    ids = sorted(row_ids(observations))
    workos_ids = sorted({o.workos_id for o in observations if o.workos_id is not None})
    organizations = sql.LOCK_ORGANIZATIONS if lock else sql.LOAD_ORGANIZATIONS
    statements = [
        statement(organizations, workos_ids, ids),
        statement(sql.KNOWN_DELETIONS, workos_ids),
        statement(sql.CONFLICTS_OF, workos_ids),
    ]
    if any(observation.event is None for observation in observations):
        statements.append(statement(sql.PENDING_WRITE_BACKS, workos_ids, ids))
    rows, deletions, conflicts, *pending = execute_together(statements)
    return Known(
        rows=tuple(map(Row._make, rows)),
        # Of two deletions of one organization the later one.
        deletions=dict(sorted(deletions)),
        conflicts={workos_id for (workos_id,) in conflicts},
        pending={id_: PendingWriteBack(*v) for id_, *v in pending[0]} if pending else None,
    )


def ids_in_sync(observations: Iterable[Observation]) -> set[str]:
    """Return the WorkOS ids of listed organizations for which there is nothing to write or report.

    Their rows are enabled, linked and named as WorkOS has it, not newer, and WorkOS knows them by
    their ids; they have no write-back pending, and no conflict.
    """
    listed = [
        (o.workos_id, o.fields.external_id, o.fields.name, o.fields.updated_at)
        for o in observations
        if o.fields is not None
    ]
    if not listed:
        return set()
    found = execute_bounded(statement(sql.ORGANIZATIONS_IN_SYNC, *zip(*listed, strict=True)))
    return {workos_id for (workos_id,) in found}


def linked(workos_ids: Iterable[str]) -> set[str]:
    """Return those of the WorkOS ids that a row is linked to."""
    found = execute_bounded(statement(sql.LINKED, sorted(workos_ids)))
    return {workos_id for (workos_id,) in found}


class Written(NamedTuple):
    """What the statements of a batch returned."""

    new_conflicts: list[Conflict]
    in_ledger: set[str]
    """Ids of the events that were recorded; not of those that the ledger knew already."""
    then: Sequence[Rows]
    """What the statements returned that were executed then."""


Intended: TypeAlias = Mapping[str, tuple[Any, ...]]
"""By key, the values that a row has to have once it is written."""

Writes: TypeAlias = Sequence[tuple[Statement, Intended]]
"""Statements that return the rows as they were written, their keys first, and what is intended."""


def write(
    plan: Plan, recorded: Sequence[Decision], *then: Statement, others: Writes = ()
) -> Written:
    """Write a plan and ``others``, record decisions over events in the ledger, execute ``then``.

    One statement for each kind of write that there is, all in one round trip. Raises
    ``WriteSkipped`` if PostgreSQL did not write all that was intended.
    """
    # What a run has listed or fetched, it writes back itself; an event keeps the pause.
    writes = [*_row_writes(plan, at_once=not recorded), *others]
    removals = [*_removals(plan)]
    conflicts = [store_conflicts(plan.conflicts)] if plan.conflicts else []
    ledger = [_ledger(recorded)] if recorded else []
    returned = execute_together([*(s for s, _ in writes), *removals, *conflicts, *ledger, *then])
    for (_, intended), written in zip(writes, returned, strict=False):
        _require_all(intended, written)
    rest = iter(returned[len(writes) + len(removals) :])
    new = new_among(plan.conflicts, next(rest)) if conflicts else set()
    in_ledger = {event_id for (event_id,) in next(rest)} if ledger else set()
    new_conflicts = [conflict for conflict in plan.conflicts if conflict.workos_id in new]
    return Written(new_conflicts, in_ledger, [*rest])


def statement(text: str, *columns: Iterable[object]) -> Statement:
    """Return a statement whose parameters are arrays."""
    return Statement(text, [*map(sql.array, columns)])


def _row_writes(plan: Plan, *, at_once: bool) -> Iterator[tuple[Statement, Intended]]:
    if ids := plan.unlinked:
        yield statement(sql.UNLINK_ORGANIZATIONS, ids), dict.fromkeys(ids, ())
    if ids := plan.undeleted:
        yield statement(sql.UNDELETE_ORGANIZATIONS, ids), dict.fromkeys(ids, ())
    if rows := plan.updated:
        *written, _disabled, _deleted = zip(*rows, strict=True)
        yield statement(sql.UPDATE_ORGANIZATIONS, *written), _intended(rows)
    if rows := plan.disabled:
        # Disabled and deleted are not the same: another organization may have taken it over since.
        *written, _disabled, deleted = zip(*rows, strict=True)
        yield statement(sql.DISABLE_ORGANIZATIONS, *written, deleted), _intended(rows)
    if plan.created:
        yield _insert(plan.created), _intended([creation.row for creation in plan.created])
    if plan.write_backs:
        ids, workos_ids = zip(*sorted(plan.write_backs.items()), strict=True)
        values = [sql.array(ids), sql.array(workos_ids), at_once]
        yield Statement(sql.REQUEST_WRITE_BACKS, values), dict.fromkeys(ids, ())


def _intended(rows: Sequence[Row]) -> Intended:
    return {row.id: (row.name, row.workos_id, row.disabled, row.deleted) for row in rows}


def _removals(plan: Plan) -> Iterator[Statement]:
    if plan.withdrawn_write_backs:
        yield statement(sql.WITHDRAW_WRITE_BACKS, plan.withdrawn_write_backs)
    if plan.solved:
        yield statement(sql.REMOVE_CONFLICTS, plan.solved)


def _require_all(intended: Intended, returned: Rows) -> None:
    written = {row[0]: row[1:] for row in returned}
    if written == intended:
        return
    if wrong := [key for key, values in intended.items() if written.get(key) != values]:
        raise WriteSkipped(
            f"{len(wrong)} of {len(intended)} rows of one table were not written as they should "
            "be: a trigger changed them, or a trigger or a policy left them out"
        )


def store_conflicts(conflicts: Sequence[Conflict]) -> Statement:
    """Return the statement that stores conflicts, and returns for each whether it is new."""
    by_id = {conflict.workos_id: conflict for conflict in conflicts}
    rows = [
        (c.workos_id, c.organization_id, c.kind, storable(c.reason))
        for _, c in sorted(by_id.items())
    ]
    return statement(sql.STORE_CONFLICTS, *zip(*rows, strict=True))


def new_among(conflicts: Sequence[Conflict], stored: Rows) -> set[str]:
    """Return the WorkOS ids of the conflicts that are new, by what storing them has returned.

    Raises ``WriteSkipped`` if not all were stored.
    """
    is_new: dict[str, bool] = dict(stored)
    _require_all({c.workos_id: () for c in conflicts}, [(workos_id,) for workos_id in is_new])
    return {workos_id for workos_id, new in is_new.items() if new}


def _ledger(recorded: Sequence[Decision]) -> Statement:
    """The first outcome of an event stays, also of one that stands twice among ``recorded``."""
    values = {}
    for decision in reversed(recorded):
        observation, event = decision.observation, decision.observation.event
        if event is None:
            continue
        is_parked = decision.outcome is Outcome.PARKED
        about = observation.resource, observation.workos_id, observation.workos_organization_id
        what = decision.organization_id, event.occurred_at, decision.outcome
        payload = payload_of(observation.raw) if is_parked else None
        why = storable(decision.reason) if is_parked else ""
        values[event.id] = (event.id, event.type, *about, *what, why, payload)
    columns = zip(*(values[key] for key in sorted(values)), strict=True)
    return statement(sql.RECORD_EVENTS, *columns)


def _insert(creations: Sequence[Creation]) -> Statement:
    slugs = dict(_choose_slugs(creations))
    rows = sorted((creation.row for creation in creations), key=lambda row: row.id)
    ids, *others = zip(*rows, strict=True)
    return statement(sql.INSERT_ORGANIZATIONS, ids, [slugs[id_] for id_ in ids], *others)


def _choose_slugs(creations: Sequence[Creation]) -> Iterator[tuple[str, str]]:
    """Pairs of id and slug, chosen in the order of creation."""
    bases = [slug_base(creation.name, creation.workos_id) for creation in creations]
    # The lock first: only then can no other process of ours be choosing one of them.
    lock, look = (statement(text, bases) for text in (sql.LOCK_SLUGS, sql.TAKEN_SLUGS))
    taken = {slug for (slug,) in execute_together([lock, look])[1]}
    if not taken and len(set(bases)) == len(bases):
        # As on most pages: no row needs a suffix.
        yield from zip((creation.row.id for creation in creations), bases, strict=True)
        return
    candidates = [
        list(slug_candidates(base, creation.workos_id))
        for base, creation in zip(bases, creations, strict=True)
    ]
    every = statement(sql.TAKEN_SLUGS, (slug for slugs in candidates for slug in slugs))
    taken |= {slug for (slug,) in execute_together([every])[0]}
    for creation, slugs in zip(creations, candidates, strict=True):
        # If even the last is taken, the unique index says so, and the event is parked.
        slug = next((slug for slug in slugs if slug not in taken), slugs[-1])
        taken.add(slug)
        yield creation.row.id, slug
