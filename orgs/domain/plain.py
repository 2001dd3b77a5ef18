"""Decides what becomes of objects of the resources other than organizations. Pure.

One set of rules for all of them: freshness guard, tombstones, and the deletion of an object that
arrives after its parent was deleted. Children that have a row are deleted by a statement:
``orgs.db.resources.take_along``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orgs.domain.resolution import decide_or_park, is_left_to_event
from orgs.domain.resources import Resource
from orgs.domain.types import Decision, Event, Observation, Outcome, PlainFields, PlainRow, State


@dataclass(slots=True, kw_only=True)
class PlainResolution:
    """Decides over observations of one resource, one after the other, on rows in memory."""

    resource: Resource
    loaded: Collection[PlainRow] = ()
    """The rows as they are in the table."""
    deleted_parents: dict[tuple[str, str], bool]
    """Shared by the resolutions of a batch: by resource and key, each object that is known to be
    deleted, those of this batch included, and whether an event said so."""
    now: datetime
    """By the database's clock."""
    read_began_at: datetime | None = None
    """When the request began that brought a list or an object, by the database's clock."""
    overwrite_before: datetime | None = None
    """Of a resource with ``has_order=False``, a list changes only rows written before this."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this is left to its event."""
    rows: dict[str, PlainRow] = field(init=False)
    changed: dict[str, PlainRow] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = {row.key: row for row in self.loaded}

    @property
    def touched_organizations(self) -> set[str]:
        """WorkOS ids of the organizations that the changed rows belonged to, or belong to now."""
        before = [row for row in self.loaded if row.key in self.changed]
        ids = {row.workos_organization_id for row in (*before, *self.changed.values())}
        return {id_ for id_ in ids if id_}

    def decide(self, observation: Observation) -> Decision:
        """Decide what becomes of one observation, and apply that to the rows in memory."""
        return decide_or_park(self._decide, observation)

    def _decide(self, observation: Observation) -> Decision:
        event, fields = observation.event, observation.plain
        row = self.rows.get(observation.workos_id or "")
        if observation.state is State.ABSENT:
            if event is None:
                return self._confirm_absence(observation, row)
            return self._delete(observation, event, row)
        if fields is None:
            outcome = Outcome.PARKED if event else Outcome.FAILED
            return Decision(observation, outcome, reason=observation.error)
        if event is None:
            return self._compare(observation, fields, row)
        return self._change(observation, fields, event, row)

    # Events ---------------------------------------------------------------------------------

    def _change(
        self, observation: Observation, fields: PlainFields, event: Event, row: PlainRow | None
    ) -> Decision:
        if row is not None and not self._is_fresh(row, event, fields):
            return Decision(observation, Outcome.STALE, plain=row)
        deletions = self._deletions_of_parents(fields.columns, row)
        if not deletions:
            outcome = Outcome.CREATED if row is None else Outcome.UPDATED
            after = self._overwrite(observation, row, event_id=event.id, deleted_at=None)
            return self._set_row(observation, outcome, after)
        if row is not None and row.deleted_at is not None:
            return Decision(observation, Outcome.STALE, plain=row)
        # The deletion is final if its parent's is, and then has the event's id. Without the id, a
        # newer ``updated_at`` brings the object back, or, if WorkOS sends no such time, a list.
        is_final = any(deletions) or not self.resource.has_order
        event_id = event.id if is_final else None
        after = self._overwrite(observation, row, event_id=event_id, deleted_at=self.now)
        return self._set_row(observation, Outcome.DELETED, after)

    def _delete(self, observation: Observation, event: Event, row: PlainRow | None) -> Decision:
        if row is not None and not self._is_fresh(row, event, None):
            if self.resource.key_comes_back or row.deleted_at is not None:
                return Decision(observation, Outcome.STALE, plain=row)
            # It is final also if the row was written from a later event, whose id it keeps.
            after = row._replace(deleted_at=self.now)
            return self._set_row(observation, Outcome.DELETED, after)
        deleted_at = row.deleted_at if row and row.deleted_at else self.now
        after = self._overwrite(observation, row, event_id=event.id, deleted_at=deleted_at)
        return self._set_row(observation, Outcome.DELETED, after)

    def _is_fresh(self, row: PlainRow, event: Event, fields: PlainFields | None) -> bool:
        """A deletion (without ``fields``) is never judged by time."""
        if row.last_event_id is not None:
            is_final = row.deleted_at is not None and not self.resource.key_comes_back
            if fields is not None and is_final:
                return False
            return event.id > row.last_event_id
        if fields is None:
            return True
        if row.deleted_at is not None and not self.resource.has_order:
            # By absence. One clock is WorkOS's: if they differ, the next list repairs it.
            return event.occurred_at is None or event.occurred_at > row.deleted_at
        if fields.updated_at is None or row.updated_at is None:
            return True
        if row.deleted_at is not None:
            # By absence: a replay of what was here before must not lift it.
            return fields.updated_at > row.updated_at
        return fields.updated_at >= row.updated_at

    # Objects that were listed or fetched ----------------------------------------------------

    def _compare(
        self, observation: Observation, fields: PlainFields, row: PlainRow | None
    ) -> Decision:
        row_updated_at = row.updated_at if row else None
        if is_left_to_event(row_updated_at, fields.updated_at, self.recent_after):
            return Decision(observation, Outcome.UNCHANGED, plain=row)
        is_orphan = bool(self._deletions_of_parents(fields.columns, row))
        if is_orphan or (row and self._is_newer(row, fields)):
            return Decision(observation, Outcome.STALE, plain=row)
        if row is not None and row.deleted_at is None and not self._differs(row, fields):
            return Decision(observation, Outcome.UNCHANGED, plain=row)
        kept = row.last_event_id if row and not self.resource.has_order else None
        after = self._overwrite(observation, row, event_id=kept, deleted_at=None)
        return self._set_row(observation, Outcome.UPDATED if row else Outcome.CREATED, after)

    def _is_newer(self, row: PlainRow, fields: PlainFields) -> bool:
        """Return True if the row was written from something newer than the list."""
        if row.is_deleted_by_event and not self.resource.key_comes_back:
            return True
        if row.deleted_at is not None and not row.is_deleted_by_event:
            # By absence: a list that was read afterwards is newer.
            began_at = self.read_began_at
            return began_at is None or began_at <= row.deleted_at
        if not self.resource.has_order or row.deleted_at is not None:
            return self._was_just_written(row)
        if fields.updated_at is None or row.updated_at is None:
            return False
        return fields.updated_at < row.updated_at

    def _was_just_written(self, row: PlainRow) -> bool:
        before = self.overwrite_before
        return before is not None and row.synced_at is not None and row.synced_at >= before

    def _confirm_absence(self, observation: Observation, row: PlainRow | None) -> Decision:
        if row is None:
            return Decision(observation, Outcome.UNKNOWN)
        if row.deleted_at is not None:
            return Decision(observation, Outcome.UNCHANGED, plain=row)
        if not self.resource.has_order and self._was_just_written(row):
            return Decision(observation, Outcome.STALE, plain=row)
        if self.resource.has_order:
            after = row._replace(deleted_at=self.now, last_event_id=None)
        else:
            # An event is compared with this time: it may have come while the list was read.
            after = row._replace(deleted_at=self.read_began_at or self.now)
        return self._set_row(observation, Outcome.DELETED, after)

    # Both -----------------------------------------------------------------------------------

    def _deletions_of_parents(self, columns: Mapping[str, Any], row: PlainRow | None) -> list[bool]:
        """Return for each of its parents that is deleted whether an event said so."""
        known = row.columns if row else {}
        parents = (
            (parent, columns.get(column, known.get(column)))
            for column, parent in self.resource.parents.items()
        )
        return [self.deleted_parents[one] for one in parents if one in self.deleted_parents]

    def _differs(self, row: PlainRow, fields: PlainFields) -> bool:
        if _organization_of(row, fields) != row.workos_organization_id:
            return True
        return any(
            self.resource.differs(name, row.columns.get(name), value)
            for name, value in self._columns(row, fields).items()
        )

    def _columns(self, row: PlainRow, fields: PlainFields) -> Mapping[str, Any]:
        if not row.is_erased:
            return fields.columns
        return {k: v for k, v in fields.columns.items() if k not in self.resource.personal}

    def _overwrite(
        self,
        observation: Observation,
        row: PlainRow | None,
        *,
        event_id: str | None,
        deleted_at: datetime | None,
    ) -> PlainRow:
        """Return the row with what WorkOS says. A field that WorkOS does not send keeps its value,
        unless the object is a new one under the key of a deleted one."""
        row = row or PlainRow(key=observation.workos_id or "")
        if (fields := observation.plain) is None:
            return row._replace(last_event_id=event_id, deleted_at=deleted_at, is_marked=False)
        is_another = self.resource.key_comes_back and row.deleted_at and deleted_at is None
        return PlainRow(
            key=row.key,
            workos_organization_id=_organization_of(row, fields),
            created_at=fields.created_at or row.created_at,
            updated_at=fields.updated_at or row.updated_at,
            last_event_id=event_id,
            deleted_at=deleted_at,
            synced_at=row.synced_at,
            is_erased=row.is_erased,
            columns={**({} if is_another else row.columns), **self._columns(row, fields)},
            data={} if row.is_erased else fields.data,
        )

    def _set_row(self, observation: Observation, outcome: Outcome, after: PlainRow) -> Decision:
        """Set the row in memory, and note whether it is a deleted parent; return the decision."""
        self.rows[after.key] = self.changed[after.key] = after
        entry = (self.resource.name, after.key)
        if after.deleted_at is None:
            self.deleted_parents.pop(entry, None)
        else:
            self.deleted_parents[entry] = after.is_deleted_by_event
        return Decision(observation, outcome, plain=after)


def _organization_of(row: PlainRow, fields: PlainFields) -> str | None:
    """Return the organization that it belongs to; if WorkOS's JSON has none, that is kept."""
    is_kept = fields.workos_organization_id is None and not fields.has_no_organization
    return row.workos_organization_id if is_kept else fields.workos_organization_id
