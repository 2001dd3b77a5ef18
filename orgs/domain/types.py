"""Defines the values that pass between WorkOS, the rules and the database. No I/O.

``Observation`` (what WorkOS said of an object) → ``Decision`` (what that changes) →
``orgs.domain.report.Report`` (what was written).

What a page makes hundreds of is a ``NamedTuple``: a frozen dataclass was measured to cost three
times as much to make, and four times as much to replace.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

#: The resource whose rules are in ``orgs.domain.resolution``.
ORGANIZATION = "organization"


class EventType(StrEnum):
    """The types of WorkOS's events about organizations."""

    CREATED = "organization.created"
    UPDATED = "organization.updated"
    DELETED = "organization.deleted"


class Outcome(StrEnum):
    """The result of one observation."""

    CREATED = "created"
    LINKED = "linked"
    RELINKED = "relinked"
    UPDATED = "updated"
    DISABLED = "disabled"
    DELETED = "deleted"
    STALE = "stale"
    """It is older than the row."""
    UNKNOWN = "unknown"
    """A deletion of what has no row."""
    IGNORED = "ignored"
    PARKED = "parked"
    MISSING = "missing"
    """The event was announced and never listed; its object was fetched."""
    DISMISSED = "dismissed"
    """A person is done with the parked event."""
    UNCHANGED = "unchanged"
    WRITE_BACK = "write_back"
    CONFLICT = "conflict"
    DISABLED_HERE = "disabled_here"
    FAILED = "failed"
    UNPROVEN = "unproven"


_NEVER_AN_EVENTS = (
    Outcome.UNCHANGED,
    Outcome.WRITE_BACK,
    Outcome.CONFLICT,
    Outcome.DISABLED_HERE,
    Outcome.FAILED,
    Outcome.UNPROVEN,
)

#: What the ledger's ``outcome`` may hold.
EVENT_OUTCOMES = tuple(outcome for outcome in Outcome if outcome not in _NEVER_AN_EVENTS)


class Position(NamedTuple):
    """Where a read of the stream starts: after an event, else at a time, else at its beginning."""

    last_event_id: str | None = None
    last_event_at: datetime | None = None


# What WorkOS said ---------------------------------------------------------------------------


class State(StrEnum):
    """What an observation says of its object."""

    PRESENT = "present"
    ABSENT = "absent"
    """A deletion event, or a 404 for the object."""
    UNREADABLE = "unreadable"
    """It exists, or the event exists, but its content can't be applied."""
    IGNORED = "ignored"
    """An event of a type that is not followed."""


class Event(NamedTuple):
    """The place of an observation in WorkOS's stream."""

    id: str
    """WorkOS's id, or a hash of the content of an event that has no usable one."""
    type: str
    occurred_at: datetime | None
    position: Position = Position()
    """Where a read goes on after this event."""


class OrganizationFields(NamedTuple):
    """An organization as WorkOS shows it. An empty ``external_id`` is None here."""

    name: str
    external_id: str | None
    updated_at: datetime


class PlainFields(NamedTuple):
    """An object of another resource as WorkOS shows it."""

    workos_organization_id: str | None
    created_at: datetime | None
    updated_at: datetime | None
    columns: Mapping[str, Any]
    """The typed columns that WorkOS's JSON has."""
    data: Mapping[str, Any]
    has_no_organization: bool = False
    """True: WorkOS says that it belongs to none. False with no ``workos_organization_id``: WorkOS
    does not say, and the row keeps its organization."""


class Observation(NamedTuple):
    """What WorkOS said of one object: by an event, in a list, when it was fetched, or by a 404."""

    workos_id: str | None
    """WorkOS's id of the object; None if an event names none."""
    state: State
    resource: str = ORGANIZATION
    fields: OrganizationFields | None = None
    """Set if, and only if, an organization is ``PRESENT``."""
    plain: PlainFields | None = None
    """Set if an object of another resource is ``PRESENT``, or an event shows it deleted."""
    event: Event | None = None
    """None: the object was fetched or listed, which has no place in the stream."""
    error: str = ""
    """Why it is unreadable."""
    raw: object = None
    """The JSON as WorkOS sent it."""

    @property
    def workos_organization_id(self) -> str | None:
        """The organization that it is about, if that is known."""
        if self.resource == ORGANIZATION:
            return self.workos_id
        return self.plain.workos_organization_id if self.plain else None

    @property
    def organization(self) -> OrganizationFields:
        """The fields of an organization that is present."""
        if self.fields is None:
            raise TypeError(f"{self.workos_id} is {self.state}: it has no fields")
        return self.fields


PositionT = TypeVar("PositionT")


@dataclass(frozen=True)
class Page(Generic[PositionT]):
    """One read of the stream, by ``Position``, or of a list, by a cursor of WorkOS's."""

    read_from: PositionT
    parse: Callable[[], tuple[Observation, ...]]
    position: PositionT
    """Where the next page starts."""
    is_last: bool
    """WorkOS had nothing more to list then."""
    read_began: float
    """When the read began, by ``time.monotonic()``."""
    date: datetime | None = None
    """The answer's ``Date`` header: WorkOS's own clock."""

    @cached_property
    def observations(self) -> tuple[Observation, ...]:
        """What it lists. Parsed at the first use, so that the thread that reads ahead goes on."""
        return self.parse()


ObjectPage: TypeAlias = Page[str | None]


# What is decided ----------------------------------------------------------------------------


class Row(NamedTuple):
    """What the rules read and write of a row of ``organization_metadata``."""

    id: str
    name: str
    workos_id: str | None = None
    workos_updated_at: datetime | None = None
    workos_last_event_id: str | None = None
    disabled: bool = False
    deleted: bool = False
    """Its organization is known to be deleted in WorkOS."""


class ConflictKind(StrEnum):
    """Why a person has to decide."""

    ROW_CLAIMED = "row_claimed"
    """Two WorkOS organizations claim one row."""
    OTHER_EXTERNAL_ID = "other_external_id"
    """WorkOS has another ``external_id`` than the row's id."""
    WRITE_BACK_REFUSED = "write_back_refused"
    """WorkOS does not take the row's id as ``external_id``."""
    UNREADABLE = "unreadable"
    """WorkOS lists the organization, but what it says of it can't be applied."""
    LEDGER_REFUSED = "ledger_refused"
    """PostgreSQL refuses to record an event, even as parked."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a person has to decide about one WorkOS organization."""

    workos_id: str
    organization_id: str | None
    kind: ConflictKind
    reason: str


class PlainRow(NamedTuple):
    """What the rules read and write of a row of another resource."""

    key: str
    workos_organization_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_event_id: str | None = None
    deleted_at: datetime | None = None
    synced_at: datetime | None = None
    """When it was last written here, by the database's clock."""
    is_erased: bool = False
    columns: Mapping[str, Any] = MappingProxyType({})
    data: Mapping[str, Any] | None = None
    """What is to be written; None: it stays."""
    is_marked: bool = False
    """Another program has marked it as deleted, after all that was written here."""

    @property
    def is_deleted_by_event(self) -> bool:
        """Return True if it is deleted, has an event's id, and was not marked by another program. A
        deletion by absence clears that id, but not of roles and group members, which keep it."""
        return None not in (self.deleted_at, self.last_event_id) and not self.is_marked


class Decision(NamedTuple):
    """What becomes of one observation: the row before and after it, and why."""

    observation: Observation
    outcome: Outcome
    before: Row | None = None
    after: Row | None = None
    reason: str = ""
    conflict: Conflict | None = None
    plain: PlainRow | None = None
    """The row of another resource, after it."""
    is_disabled_here: bool = False
    """The organization lives in WorkOS, and its row is disabled."""
    requests_write_back: bool = False
    """WorkOS does not know the row's id yet."""

    @property
    def organization_id(self) -> str | None:
        """The id of the row that it is about."""
        row = self.after or self.before
        return row.id if row else None


class Creation(NamedTuple):
    """A row to insert. Its slug is chosen from the name and WorkOS id that it was created with: a
    page that creates and renames ends in the same slug as the two events one by one."""

    row: Row
    name: str
    workos_id: str


@dataclass(frozen=True, slots=True)
class PendingWriteBack:
    """What the outbox holds for an organization."""

    workos_id: str
    waits_for_person: bool
    error: str = ""
    """Why the last attempt failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the decisions rest on, apart from the observations."""

    rows: Collection[Row] = ()
    """Every row that is linked to one of the organizations, or has an id they resolve to."""
    deletions: Mapping[str, str] = field(default_factory=dict)
    """Deletions in the ledger: WorkOS id to event id."""
    absent: Collection[str] = ()
    """WorkOS ids of organizations that are confirmed to be deleted, for listed objects."""
    pending: Mapping[str, PendingWriteBack] | None = None
    """The outbox by Gram id; None: not known, as for events."""
    conflicts: Collection[str] = ()
    """WorkOS ids of organizations that have a stored conflict."""
    recent_after: datetime | None = None
    """What changed in WorkOS after this is left to its event."""
    taken_over: Collection[str] = ()
    """Gram ids of rows that another organization takes over: an absence does not disable them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write: at most one write a row, rows in id order, creations in order of creation."""

    unlinked: tuple[str, ...] = ()
    """Ids of rows whose link moves away: it is cleared before another row takes it."""
    undeleted: tuple[str, ...] = ()
    """Ids of rows whose organization is not deleted in WorkOS after all."""
    updated: tuple[Row, ...] = ()
    disabled: tuple[Row, ...] = ()
    """Rows to update, and to disable too: in this batch, the organization that they are linked to,
    or were linked to before, was deleted in WorkOS."""
    created: tuple[Creation, ...] = ()
    write_backs: Mapping[str, str] = field(default_factory=dict)
    """Gram id to the WorkOS id that does not know it yet."""
    withdrawn_write_backs: tuple[str, ...] = ()
    """Gram ids that need no write-back any more."""
    conflicts: tuple[Conflict, ...] = ()
    solved: tuple[str, ...] = ()
    """WorkOS ids of organizations whose stored conflict is solved: WorkOS shows the row's id as
    ``external_id``, or the organization is deleted."""
    changes: tuple[tuple[Outcome, Row], ...] = ()
    """What signals report: ``CREATED``, ``UPDATED``, ``RELINKED`` or ``DISABLED``, and the row."""


#: A plan that writes nothing.
EMPTY_PLAN = Plan()
