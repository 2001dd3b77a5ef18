"""What the mirror must hold, from what happened alone: WorkOS's events, and what rivals committed.

Small, sequential, and written without the product's code. Pure. An event links its organization to
the row that is its own, to the one that its ``external_id`` names, or to a new one; a deletion
disables the row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tests.system.chaos.kinds import ORGANIZATION, subject_of
from tests.system.chaos.names import derived_id

JsonObject: TypeAlias = dict[str, Any]
Columns: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Committed:
    """One write of a rival's that committed; they are in the order of the row's locks."""

    kind: Literal["insert", "set", "delete"]
    organization_id: str
    columns: Columns


@dataclass(slots=True)
class Linked:
    """What WorkOS owns of a row."""

    workos_id: str
    name: str
    is_disabled: bool = False
    is_inherited: bool = False
    """It was disabled by the deletion of another organization than the one it is linked to now. A
    snapshot that overtakes that deletion hands it over enabled: it can't tell whether its old
    organization let go of it before it was deleted."""
    names: set[str] = field(default_factory=set)
    """All that its organizations were ever called: a slug was chosen from one of them."""


@dataclass(slots=True)
class Local:
    """What other programs own of a row. None: they never said, so that the default stands."""

    slug: str | None = None
    gram_account_type: str = "free"
    whitelisted: bool = True
    name: str | None = None
    exists: bool = False
    """Whether a rival inserted it, and none has deleted it since."""
    drifted_to: str | None = None
    """The last name that a rival wrote into a row that it may not name."""

    def apply(self, write: Committed) -> "Local":
        """The row after one more write."""
        if write.kind == "delete":
            return Local()
        values = dict(write.columns)
        if write.kind == "insert":
            return Local(**values, exists=True)
        if "name" in values:
            self.drifted_to = values["name"]
        for column, value in values.items():
            setattr(self, column, value)
        return self


@dataclass(slots=True)
class Model:
    """The mirror as it must be, by Gram id and by WorkOS id."""

    linked: dict[str, Linked] = field(default_factory=dict)
    local: dict[str, Local] = field(default_factory=dict)
    unlinked_organizations: dict[str, Linked] = field(default_factory=dict)
    """By the Gram id that each would get: those whose row went to another organization, and which
    no event has mentioned since. Only a snapshot gives them a row."""


def model_of(events: Sequence[JsonObject], writes: Iterable[Committed]) -> Model:
    """The mirror that results from these events, in this order, and these writes."""
    model = Model()
    stream = _Stream(model.linked)
    for event in events:
        if subject_of(event)[0] == ORGANIZATION:
            stream.apply(event)
    model.unlinked_organizations = stream.unlinked()
    for write in writes:
        local = model.local.setdefault(write.organization_id, Local())
        model.local[write.organization_id] = local.apply(write)
    return model


@dataclass(slots=True)
class _Stream:
    """The resolution flow, one event at a time."""

    rows: dict[str, Linked]
    row_of: dict[str, str] = field(default_factory=dict)
    """WorkOS id to Gram id."""
    last_seen: dict[str, JsonObject] = field(default_factory=dict)
    names_of: dict[str, set[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def apply(self, event: JsonObject) -> None:
        organization = event["data"]
        workos_id = organization["id"]
        self.last_seen[workos_id] = organization
        self.names_of.setdefault(workos_id, set()).add(organization["name"])
        if event["event"] == "organization.deleted":
            self._disable(workos_id)
        else:
            self._link(organization)

    def _disable(self, workos_id: str) -> None:
        self.deleted.add(workos_id)
        if workos_id in self.row_of:
            row = self.rows[self.row_of[workos_id]]
            row.is_disabled, row.is_inherited = True, False

    def _link(self, organization: JsonObject) -> None:
        workos_id, name = organization["id"], organization["name"]
        gram_id = self.row_of.get(workos_id) or _gram_id(organization)
        row = self.rows.setdefault(gram_id, Linked(workos_id, name))
        if row.workos_id != workos_id:
            del self.row_of[row.workos_id]
            row.is_inherited = row.is_disabled
        self.row_of[workos_id] = gram_id
        row.workos_id, row.name = workos_id, name
        row.names |= self.names_of[workos_id]

    def unlinked(self) -> dict[str, Linked]:
        return {
            _gram_id(organization): Linked(
                workos_id,
                organization["name"],
                is_disabled=workos_id in self.deleted,
                names=self.names_of[workos_id],
            )
            for workos_id, organization in self.last_seen.items()
            if workos_id not in self.row_of
        }


def _gram_id(organization: JsonObject) -> str:
    return organization["external_id"] or derived_id(organization["id"])
