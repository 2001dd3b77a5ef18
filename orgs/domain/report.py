"""Reports what was written, or would be: the text and the JSON are made of it. No I/O."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from orgs.domain.naming import one_line, shortened
from orgs.domain.types import ORGANIZATION, Outcome

Fields: TypeAlias = Mapping[str, tuple[str | None, str | None]]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a report: what happened to one object, or why nothing could."""

    organization_id: str | None
    workos_id: str | None
    change: Outcome
    fields: Fields = field(default_factory=dict)
    """The old and the new value of each."""
    reason: str = ""
    event_id: str | None = None
    resource: str = ORGANIZATION
    workos_organization_id: str | None = None
    """The organization that an object of another resource belongs to, if that is known."""
    is_unproven: bool = False
    """The event is parked because what WorkOS answers proves nothing."""

    @property
    def order(self) -> tuple[str, str]:
        """What changes are sorted by, so that two runs report alike."""
        return (self.organization_id or "", f"{self.resource} {self.workos_id or ''}")

    def __str__(self) -> str:
        workos_id, reason = _shown(self.workos_id), one_line(self.reason)
        if self.resource != ORGANIZATION:
            return f"{self.change} {self.resource} {workos_id}" + (reason and f": {reason}")
        fields = ", ".join(
            f"{name}: {_quoted(old)} → {_quoted(new)}" for name, (old, new) in self.fields.items()
        )
        return f"{self.change} {_shown(self.organization_id)} ({workos_id}): {fields or reason}"


def _shown(id_: str | None) -> str:
    return "?" if id_ is None else shortened(id_ if id_.isprintable() else json.dumps(id_))


def _quoted(value: str | None) -> str:
    # JSON escapes the control characters of ASCII only: ESC, but not CSI.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


#: These are reported and left alone: a repair writes nothing for them.
LEFT_ALONE = (Outcome.CONFLICT, Outcome.DISABLED_HERE, Outcome.UNPROVEN)


@dataclass(slots=True)
class Report:
    """What became of observations, by what PostgreSQL's statements returned."""

    counts: Counter[str] = field(default_factory=Counter)
    """By outcome. One object may count twice: under its outcome, and under ``write_backs``,
    ``conflict`` or ``disabled_here``."""
    changes: list[Change] = field(default_factory=list)
    """What a person may want to see; of the live stream only what waits for a person."""
    errors: list[str] = field(default_factory=list)
    """Why not everything was done; empty if it was."""
    changed_rows: bool = False
    """A row appeared, was renamed, linked or disabled: more than its bookkeeping."""
    requested_write_backs: bool = False
    taken_over: set[str] = field(default_factory=set)
    """Ids of rows that another organization takes over: that the one they are linked to is
    deleted is no reason to disable them."""
    owners: set[str] = field(default_factory=set)
    """WorkOS ids of organizations whose rows others claim: if one of them is confirmed to be
    deleted, its row can be given away."""
    needs_writing: bool = False
    """Of a dry run: whether the same batch would write anything."""
    derived: set[str] = field(default_factory=set)
    """Of a dry run: WorkOS ids of organizations whose derived columns a run would recompute."""
    locked: list[str] = field(default_factory=list)
    """WorkOS ids of objects whose rows another program had locked."""
    dropped: bool = False
    """Another process had moved the cursor: the page, or the rest of it, is not applied."""
    interrupted_by: Exception | None = None
    """Why the rest of the page was not applied, if it was not."""

    def add(self, other: "Report") -> None:
        """Add what a later batch did. ``dropped`` and ``interrupted_by`` are of one batch."""
        self.counts += other.counts
        self.changes += other.changes
        self.errors += other.errors
        self.changed_rows |= other.changed_rows
        self.requested_write_backs |= other.requested_write_backs
        self.taken_over |= other.taken_over
        self.owners |= other.owners
        self.needs_writing |= other.needs_writing
        self.derived |= other.derived
        self.locked += other.locked

    def of(self, *outcomes: Outcome) -> list[Change]:
        """Return the changes of these outcomes."""
        return [change for change in self.changes if change.change in outcomes]

    @property
    def drift(self) -> list[Change]:
        """What differs from WorkOS: repaired, to be repaired, or refused by PostgreSQL."""
        return [change for change in self.changes if change.change not in LEFT_ALONE]
