"""Decides what becomes of a row: the resolution flow and the freshness guard. Pure.

The shell around it (``services``) loads and locks every row that a page can touch, lets a ``Fold``
decide over them in memory, and writes the ``Plan`` that comes out. Nothing here reads a clock,
a database or WorkOS.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from orgs.domain.naming import derived_id
from orgs.domain.types import EventType, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteOrganization:
    """An organization as WorkOS shows it. An ``external_id`` that is empty there is None here."""

    workos_id: str
    name: str
    external_id: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationChanged:
    """``organization.created`` or ``organization.updated``: the organization as it was then."""

    id: str
    type: EventType
    organization: RemoteOrganization
    occurred_at: datetime | None

    @property
    def workos_id(self) -> str:
        """Of the organization that it is about."""
        return self.organization.workos_id


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationDeleted:
    """``organization.deleted``: nothing but its id and its organization's id is read."""

    id: str
    workos_id: str
    occurred_at: datetime | None
    type: EventType = EventType.DELETED


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredEvent:
    """An event of a type that the mirror does not follow."""

    id: str
    type: str
    workos_id: str | None
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableEvent:
    """An event whose own content is the trouble. ``id`` is a hash of it if it has no usable one."""

    id: str
    type: str
    workos_id: str | None
    occurred_at: datetime | None
    error: str


Event = OrganizationChanged | OrganizationDeleted | IgnoredEvent | UnreadableEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the resolution knows of a row of ``organization_metadata``."""

    id: str
    name: str
    workos_id: str | None = None
    workos_updated_at: datetime | None = None
    workos_last_event_id: str | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Creation:
    """A row to insert. Its slug is chosen by what the row was when it was created: a page that
    creates and renames ends in the same slug as the two events one by one."""

    row: Row
    named: str
    created_for: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of one event or snapshot, and of which row."""

    outcome: Outcome
    organization_id: str | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class RowChange:
    """What others may want to hear of a row: that it was ``CREATED``, ``UPDATED``, ``RELINKED`` or
    ``DISABLED``."""

    outcome: Outcome
    organization_id: str
    workos_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write: at most one write a row, rows in id order, creations in order of creation."""

    unlinked: tuple[str, ...]
    """Ids of rows whose present link moves away, to be cleared before others take it."""
    updated: tuple[Row, ...]
    """Rows to update; of these, the sync leaves ``disabled_at`` alone."""
    disabled: tuple[Row, ...]
    """Rows to update and to disable."""
    created: tuple[Creation, ...]
    write_backs: dict[str, str]
    """Organization id to the WorkOS id that does not know it yet."""
    known_to_workos: tuple[str, ...]
    """Ids whose write-back is not needed any more."""
    changes: tuple[RowChange, ...]
    """What changes but for bookkeeping; more than one of a row that changes in several ways."""

    @property
    def moves_rows(self) -> bool:
        """Whether a row appears, is renamed, linked or disabled: more than its bookkeeping."""
        return bool(self.changes)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.updated
            or self.disabled
            or self.created
            or self.write_backs
            or self.known_to_workos
        )


def should_process_event(row: Row, event: OrganizationChanged | OrganizationDeleted) -> bool:
    """The freshness guard: whether ``event`` is newer than what ``row`` was last written from.

    WorkOS's event ids are ordered across organizations, so the guard also covers a row that has
    moved to another WorkOS organization: an old event can't steal it back. Ids are compared
    bytewise, which is the order of ULIDs. A row without an event id was written by a snapshot or
    by another program, and is measured by time; a deletion's ``updated_at`` is that of the last
    update or older, so a deletion is never measured by time.
    """
    if row.workos_last_event_id is not None:
        return event.id.encode() > row.workos_last_event_id.encode()
    if isinstance(event, OrganizationDeleted) or row.workos_updated_at is None:
        return True
    return event.organization.updated_at >= row.workos_updated_at


def is_stale_snapshot(row: Row, organization: RemoteOrganization) -> bool:
    """Whether the row was written from something newer that WorkOS said of the same organization.

    The times of two organizations tell nothing of each other: whether a row moves to another one
    depends on whether the old one is gone.
    """
    if row.workos_id != organization.workos_id or row.workos_updated_at is None:
        return False
    return organization.updated_at < row.workos_updated_at


def is_traffic(row: Row | None, organization: RemoteOrganization, *, young_after: datetime) -> bool:
    """Whether what differs is on its way as an event: newer in WorkOS than here, and young."""
    if organization.updated_at <= young_after:
        return False
    if row is None or row.workos_updated_at is None:
        return True
    return organization.updated_at > row.workos_updated_at


def touched_ids(organizations: Iterable[RemoteOrganization]) -> set[str]:
    """The Gram ids that ``organizations`` can resolve to, beside the rows linked to them."""
    return {_gram_id(organization) for organization in organizations}


@dataclass(slots=True)
class Fold:
    """Applies events and snapshots, one after the other, to rows in memory.

    ``rows`` must hold every row that is linked to one of the organizations or has one of their
    ``touched_ids``. ``deleted`` is what the ledger knows of their deletions: WorkOS id to the id of
    the event. ``gone`` are those that WorkOS answered 404 for; they matter to snapshots alone.

    An error raised while one is applied leaves the rows as they were before it.
    """

    rows: Collection[Row]
    deleted: Mapping[str, str] = field(default_factory=dict)
    gone: Collection[str] = ()

    _deleted: dict[str, str] = field(init=False)
    _original: dict[str, Row] = field(init=False)
    _rows: dict[str, Row] = field(init=False)
    _id_by_workos_id: dict[str, str] = field(init=False)
    _creations: dict[str, Creation] = field(init=False, default_factory=dict)
    _disabled: set[str] = field(init=False, default_factory=set)
    _pending: dict[str, str | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._deleted = dict(self.deleted)
        self._original = {row.id: row for row in self.rows}
        self._rows = dict(self._original)
        self._id_by_workos_id = {row.workos_id: row.id for row in self.rows if row.workos_id}

    def apply(self, event: Event) -> Resolved:
        """Applies one event of the stream and says what became of it. Never raises."""
        try:
            match event:
                case OrganizationChanged():
                    return self._change(event)
                case OrganizationDeleted():
                    return self._delete(event)
                case IgnoredEvent():
                    return Resolved(Outcome.IGNORED)
                case UnreadableEvent():
                    return Resolved(Outcome.PARKED, error=event.error)
        except Exception as error:  # noqa: BLE001 - one bad event must not stop the rest
            return Resolved(Outcome.PARKED, error=f"{type(error).__name__}: {error}")

    def apply_snapshot(self, organization: RemoteOrganization) -> Resolved:
        """Applies an organization as ``GET`` returned it: it is there, and it looks like this.

        Unlike an event it has no place in the stream. It is measured by time, writes only if that
        changes something, and then forgets the row's event id, so that the events it overtook are
        measured by time too and can't rewind the row.
        """
        row = self.find(organization)
        if organization.workos_id in self._deleted and not self._linked_to(organization.workos_id):
            # The answer is older than the deletion that the stream has already brought.
            return Resolved(Outcome.STALE, row.id if row else None)
        if row is None:
            return self._insert_from_snapshot(organization)
        if is_stale_snapshot(row, organization):
            return Resolved(Outcome.STALE, row.id)
        if row.workos_id not in (None, organization.workos_id) and row.workos_id not in self.gone:
            reason = (
                f"{organization.workos_id} resolves to {row.id}, which is linked to "
                f"{row.workos_id}, and that still exists in WorkOS"
            )
            return Resolved(Outcome.CONFLICT, row.id, reason)
        outcome = self._update_from_snapshot(row, organization)
        self._note_external_id(row.id, organization)
        return Resolved(outcome, row.id)

    def apply_absence(self, workos_id: str) -> Resolved:
        """Applies a 404: the WorkOS organization ``workos_id`` is gone."""
        row = self._linked_to(workos_id)
        if row is None:
            return Resolved(Outcome.UNKNOWN)
        if row.disabled:
            self._pending[row.id] = None
            return Resolved(Outcome.UNCHANGED, row.id)
        self._disable(row)
        return Resolved(Outcome.DISABLED, row.id)

    def find(self, organization: RemoteOrganization) -> Row | None:
        """The resolution flow: by link, else by the id WorkOS names, else by the derived id."""
        linked = self._linked_to(organization.workos_id)
        return linked or self._rows.get(_gram_id(organization))

    def row(self, organization_id: str) -> Row | None:
        """The row as it is now."""
        return self._rows.get(organization_id)

    def plan(self) -> Plan:
        """What to write so that the table holds what the rows are now."""
        changed = [
            row
            for row_id, row in sorted(self._rows.items())
            if row_id in self._original and row != self._original[row_id]
        ]
        return Plan(
            unlinked=tuple(row.id for row in changed if self._moved_away(row)),
            updated=tuple(row for row in changed if row.id not in self._disabled),
            disabled=tuple(row for row in changed if row.id in self._disabled),
            created=tuple(
                replace(creation, row=self._rows[row_id])
                for row_id, creation in self._creations.items()
            ),
            write_backs={
                row_id: workos_id for row_id, workos_id in self._pending.items() if workos_id
            },
            known_to_workos=tuple(
                sorted(row_id for row_id, workos_id in self._pending.items() if workos_id is None)
            ),
            changes=tuple(
                RowChange(outcome, row.id, row.workos_id)
                for row in (*map(self._rows.__getitem__, self._creations), *changed)
                for outcome in self._ways_of_change(row)
            ),
        )

    def _change(self, event: OrganizationChanged) -> Resolved:
        organization = event.organization
        row = self.find(organization)
        if self._was_deleted_after(event):
            return Resolved(Outcome.STALE, row.id if row else None)
        if row is None:
            row = self._insert(organization, event_id=event.id)
            outcome = Outcome.CREATED
        elif should_process_event(row, event):
            outcome = _kind_of_update(row, organization)
            self._put(_overwritten(row, organization, event_id=event.id))
        else:
            return Resolved(Outcome.STALE, row.id)
        self._note_external_id(row.id, organization)
        return Resolved(outcome, row.id)

    def _was_deleted_after(self, event: OrganizationChanged) -> bool:
        # Two events of one millisecond may be listed either way round. Where no row is linked to
        # the organization, there is none to guard itself.
        deletion = self._deleted.get(event.workos_id)
        return deletion is not None and event.id.encode() < deletion.encode()

    def _delete(self, event: OrganizationDeleted) -> Resolved:
        self._note_deletion(event)
        row = self._linked_to(event.workos_id)
        if row is None:
            return Resolved(Outcome.UNKNOWN)
        if not should_process_event(row, event):
            return Resolved(Outcome.STALE, row.id)
        self._disable(replace(row, workos_last_event_id=event.id))
        return Resolved(Outcome.DISABLED, row.id)

    def _note_deletion(self, event: OrganizationDeleted) -> None:
        known = self._deleted.get(event.workos_id, "")
        self._deleted[event.workos_id] = max(known, event.id, key=str.encode)

    def _linked_to(self, workos_id: str) -> Row | None:
        row_id = self._id_by_workos_id.get(workos_id)
        return None if row_id is None else self._rows[row_id]

    def _insert(self, organization: RemoteOrganization, *, event_id: str | None) -> Row:
        blank = Row(id=_gram_id(organization), name=organization.name)
        row = _overwritten(blank, organization, event_id=event_id)
        self._put(row)
        self._creations[row.id] = Creation(row, organization.name, organization.workos_id)
        return row

    def _insert_from_snapshot(self, organization: RemoteOrganization) -> Resolved:
        row = self._insert(organization, event_id=None)
        self._note_external_id(row.id, organization)
        return Resolved(Outcome.CREATED, row.id)

    def _update_from_snapshot(self, row: Row, organization: RemoteOrganization) -> Outcome:
        if (row.name, row.workos_id) == (organization.name, organization.workos_id):
            return Outcome.UNCHANGED
        self._put(_overwritten(row, organization, event_id=None))
        return _kind_of_update(row, organization)

    def _note_external_id(self, row_id: str, organization: RemoteOrganization) -> None:
        """WorkOS does not know our id: the row enters the outbox. It shows it: the row leaves."""
        if organization.external_id is None:
            self._pending[row_id] = organization.workos_id
        elif organization.external_id == row_id:
            self._pending[row_id] = None

    def _disable(self, row: Row) -> None:
        self._put(replace(row, disabled=True))
        self._disabled.add(row.id)
        self._pending[row.id] = None

    def _put(self, row: Row) -> None:
        before = self._rows.get(row.id)
        if before is not None and before.workos_id is not None:
            self._id_by_workos_id.pop(before.workos_id, None)
        if row.workos_id is not None:
            self._id_by_workos_id[row.workos_id] = row.id
        self._rows[row.id] = row

    def _ways_of_change(self, row: Row) -> Iterator[Outcome]:
        before = self._original.get(row.id)
        if before is None:
            yield Outcome.CREATED
        else:
            if self._moved_away(row):
                yield Outcome.RELINKED
            if before.name != row.name or (before.workos_id is None and row.workos_id is not None):
                yield Outcome.UPDATED
        if row.disabled and not (before and before.disabled):
            yield Outcome.DISABLED

    def _moved_away(self, row: Row) -> bool:
        before = self._original[row.id].workos_id
        return before is not None and before != row.workos_id


def _gram_id(organization: RemoteOrganization) -> str:
    return organization.external_id or derived_id(organization.workos_id)


def _kind_of_update(row: Row, organization: RemoteOrganization) -> Outcome:
    if row.workos_id == organization.workos_id:
        return Outcome.UPDATED
    return Outcome.LINKED if row.workos_id is None else Outcome.RELINKED


def _overwritten(row: Row, organization: RemoteOrganization, *, event_id: str | None) -> Row:
    """``row`` with the columns that WorkOS owns; its id, its slug and the rest stay."""
    return replace(
        row,
        name=organization.name,
        workos_id=organization.workos_id,
        workos_updated_at=organization.updated_at,
        workos_last_event_id=event_id,
    )
