"""Loads what the rules need for a batch, and lets them decide over every observation of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import attrgetter

from orgs.conf import sync_settings
from orgs.db import resources, rows
from orgs.db.cursor import CursorState
from orgs.db.transactions import Statement
from orgs.domain.plain import PlainResolution
from orgs.domain.resolution import Resolution
from orgs.domain.resources import PLAIN, Resource
from orgs.domain.types import (
    ORGANIZATION,
    Decision,
    Known,
    Observation,
    Outcome,
    Plan,
    Position,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Observations that are applied together."""

    observations: Sequence[Observation]
    read_from: Position = Position()
    """Live: where the page was read from."""
    types: tuple[str, ...] | None = None
    """Live: the types of events that were asked for."""
    position: Position = Position()
    """Live: where the next page starts."""
    end_read_began: float | None = None
    """Live: when the read began that reached the end of the stream, by ``time.monotonic()``."""
    absent: frozenset[str] = frozenset()
    """WorkOS ids of organizations that are confirmed to be deleted."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this is left to its event."""
    taken_over: frozenset[str] = frozenset()
    """Gram ids of rows that an absence does not disable."""
    read_began_at: datetime | None = None
    """When the request of a list or an object began, by the database's clock."""
    overwrite_before: datetime | None = None
    """A list or fetch may overwrite rows of roles and group members that were written before this,
    also within the hold-back window."""
    record: Callable[[Decision], object] | None = None
    """Refresh: records, in the transaction, what became of the event."""

    def is_current(self, state: CursorState | None) -> bool:
        """Return True if the cursor is still where the page was read, for the same types."""
        return state is not None and (state.position, state.types) == (self.read_from, self.types)

    def singles(self) -> Iterator["Batch"]:
        """Return a batch for each observation; live, they move the cursor step by step."""
        read_from = self.read_from
        for number, observation in enumerate(self.observations, 1):
            is_last = number == len(self.observations)
            event = observation.event
            position = self.position if is_last or event is None else event.position
            yield replace(
                self,
                observations=(observation,),
                read_from=read_from,
                position=position,
                end_read_began=self.end_read_began if is_last else None,
            )
            read_from = position


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions over a batch, and what they write."""

    decisions: list[Decision]
    plan: Plan
    resolutions: Sequence[PlainResolution]
    """Of the other resources."""

    @property
    def changes_rows(self) -> bool:
        """Whether a row changes in a way that signals report."""
        return bool(self.plan.changes) or any(one.changed for one in self.resolutions)

    def writes(self) -> rows.Writes:
        """Return the statements that write the rows of the other resources."""
        return [
            resources.upsert(one.resource, one.changed.values())
            for one in self.resolutions
            if one.changed
        ]

    def taken_along(self) -> list[tuple[Resource, Statement]]:
        """Return the statements that delete the children of deleted objects, and what resource the
        children are of."""
        statements = []
        for one in self.resolutions:
            deleted = {key: row for key, row in one.changed.items() if row.deleted_at is not None}
            if deleted:
                latest = max(row.last_event_id or "" for row in deleted.values())
                statements += resources.take_along(one.resource, deleted, latest or None)
        return statements

    def organizations_to_derive(self) -> set[str]:
        """Return the WorkOS ids of the organizations whose derived columns are to be recomputed.

        Not of new rows: the statement that inserts a row derives them itself. Also of an updated
        row that had no event id: another program may have linked it.
        """
        touched = {
            decision.after.workos_id
            for decision in self.decisions
            if decision.after and decision.after.workos_id and _may_be_linked_now(decision)
        }
        for one in self.resolutions:
            if one.resource.name in ("connection", "directory"):
                touched |= one.touched_organizations
        return touched


def _may_be_linked_now(decision: Decision) -> bool:
    if decision.outcome is Outcome.UPDATED:
        return decision.before is not None and decision.before.workos_last_event_id is None
    return decision.outcome in (Outcome.LINKED, Outcome.RELINKED)


def decide(batch: Batch, *, lock: bool) -> Decided:
    """Load the rows, locked if ``lock``, and decide over the observations in their order.

    Needs the caller's transaction.
    """
    organizations = Resolution(_load_organizations(batch, lock=lock))
    plain = _load_plain(batch, lock=lock)
    decisions = [
        (plain.get(observation.resource) or organizations).decide(observation)
        for observation in batch.observations
    ]
    return Decided(decisions, organizations.plan(), [*plain.values()])


def _load_organizations(batch: Batch, *, lock: bool) -> Known:
    observations = [o for o in batch.observations if o.resource == ORGANIZATION]
    known = rows.load(observations, lock=lock) if observations else Known()
    return replace(
        known,
        absent=batch.absent,
        recent_after=batch.recent_after,
        taken_over=batch.taken_over,
    )


def _load_plain(batch: Batch, *, lock: bool) -> dict[str, PlainResolution]:
    observed: dict[Resource, list[Observation]] = {}
    # In one order for all, as every process locks rows.
    for observation in sorted(batch.observations, key=attrgetter("resource")):
        if (resource := PLAIN.get(observation.resource)) is not None:
            observed.setdefault(resource, []).append(observation)
    if not observed:
        return {}
    loaded = resources.load(observed, lock=lock)
    began_at, overwrite_before = batch.read_began_at, None
    if began_at is not None:
        overwrite_before = began_at - timedelta(seconds=sync_settings().hold_back_window)
        overwrite_before = max(overwrite_before, batch.overwrite_before or overwrite_before)
    return {
        resource.name: PlainResolution(
            resource=resource,
            loaded=rows_loaded,
            deleted_parents=loaded.deleted_parents,
            now=loaded.now,
            read_began_at=began_at,
            overwrite_before=overwrite_before,
            recent_after=batch.recent_after,
        )
        for resource, rows_loaded in loaded.rows.items()
    }
