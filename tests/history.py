"""What the mirror must be, by what happened in WorkOS and here. Pure, and nothing of the product's.

Where the order in which things were read decides, the model allows either end: a row whose owner
gave its id away, and whether the new owner of a deleted organization's row finds it disabled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, TypeAlias

from tests.system.chaos.names import derived_id

Organizations: TypeAlias = Mapping[str, Mapping[str, Any]]
"""WorkOS's organizations as JSON, by their ids."""

Row: TypeAlias = SimpleNamespace
"""A row of ``organization_metadata``."""

Rows: TypeAlias = Mapping[str, Row]
"""By Gram id."""

#: The columns that the sync may not write.
_local = attrgetter("slug", "gram_account_type", "whitelisted", "created_at")

_NEVER = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class History:
    """What happened, as far as it decides what the mirror must be."""

    claims: dict[str, set[str]] = field(default_factory=dict)
    """By WorkOS id, the Gram ids that an organization has had, or could have had."""
    deleted: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    """Organizations about which not every event is in the stream."""
    contested: set[str] = field(default_factory=set)
    """Organizations that may be left without a row, or without their id: a person has moved ids."""
    touched: set[str] = field(default_factory=set)
    """Gram ids of rows that other programs wrote."""
    disabled: dict[str, bool] = field(default_factory=dict)
    """By Gram id, whether another program has disabled the row, or enabled it."""

    def note_created(self, workos_id: str, external_id: str | None) -> None:
        """Its id may be one that another organization has given away, or still has here."""
        self.claims[workos_id] = {derived_id(workos_id)}
        if external_id is not None:
            self.claims[workos_id].add(external_id)
            if external_id in self._claimed_by_others(workos_id):
                self.contested.add(workos_id)

    def note_ids(self, organizations: Organizations) -> None:
        """Call it before an organization is deleted, or loses its id: we may have written one."""
        for workos_id, organization in organizations.items():
            if organization["external_id"] is not None:
                self.claims[workos_id].add(organization["external_id"])

    def note_written(self, organization_id: str, *, disabled: bool | None = None) -> None:
        """Another program has written a row."""
        self.touched.add(organization_id)
        if disabled is not None:
            self.disabled[organization_id] = disabled

    def note_replaced(self, organization_id: str) -> None:
        """Another program has inserted or deleted a row."""
        self.touched.add(organization_id)
        self.disabled.pop(organization_id, None)

    @property
    def inherited(self) -> set[str]:
        """Gram ids of rows that a deleted organization may have had."""
        return {id_ for workos_id in self.deleted for id_ in self.claims[workos_id]}

    def _claimed_by_others(self, workos_id: str) -> set[str]:
        others = self.claims.keys() - self.deleted - {workos_id}
        return {id_ for other in others for id_ in self.claims[other]}


def missteps(
    history: History, before: Rows, after: Rows, organizations: Organizations
) -> Iterator[str]:
    """What the sync did between the two and may never do, whatever came before."""
    for id_, row in before.items():
        if id_ not in after:
            yield f"deleted {row}"
        else:
            yield from _missteps(history, row, after[id_], organizations)


def _missteps(history: History, row: Row, now: Row, organizations: Organizations) -> Iterator[str]:
    if _local(now) != _local(row):
        yield f"wrote what is not its own: {row} became {now}"
    if row.disabled_at is not None and now.disabled_at != row.disabled_at:
        yield f"touched when it was disabled: {row} became {now}"
    if row.disabled_at is None and now.disabled_at is not None:
        are_deleted = {row.workos_id, now.workos_id} & history.deleted
        if not are_deleted and row.id not in history.inherited:
            yield f"disabled {now}, whose organization is there"
    if row.workos_id == now.workos_id:
        if (now.workos_updated_at or _NEVER) < (row.workos_updated_at or _NEVER):
            yield f"went back: {row} became {now}"
        if (now.workos_last_event_id or "~") < (row.workos_last_event_id or ""):
            yield f"went back in the stream: {row} became {now}"
    elif row.workos_id is not None and row.workos_id not in history.contested:
        owner = organizations.get(row.workos_id)
        if owner is not None and owner["external_id"] == row.id:
            yield f"took it from its owner: {row} became {now}"


def behind_the_stream(history: History, rows: Rows, there: Organizations) -> Iterator[str]:
    """What is wrong after a drain to the end, where every event is in the stream."""
    linked = {row.workos_id: row for row in rows.values()}
    for workos_id in history.claims.keys() - history.unlisted - history.contested:
        if history.claims[workos_id] & history.touched:
            continue
        row = linked.get(workos_id)
        if workos_id in there:
            if row is None or row.name != there[workos_id]["name"]:
                yield f"{there[workos_id]} was drained to {row}"
        elif row is not None and row.disabled_at is None:
            yield f"its deletion was drained: {row}"


def differences(history: History, rows: Rows, there: Organizations) -> Iterator[str]:
    """What is wrong once all was drained, compared and written back."""
    linked = {row.workos_id: row for row in rows.values()}
    for workos_id in there.keys() - history.contested:
        yield from _differences(there[workos_id], linked.get(workos_id), there)
    for id_, row in rows.items():
        is_disabled = row.disabled_at is not None
        if row.workos_id is not None and (row.workos_id in there) == bool(row.workos_deleted_at):
            yield f"whether its organization is deleted is noted wrongly: {row}"
        if row.workos_id is not None and row.workos_id not in there and not is_disabled:
            yield f"its organization is deleted: {row}"
        if history.disabled.get(id_) and not is_disabled:
            yield f"another program had disabled it: {row}"
        if is_disabled and not history.disabled.get(id_) and id_ not in history.inherited:
            yield f"nobody has disabled it: {row}"


def _differences(
    organization: Mapping[str, Any], row: Row | None, there: Organizations
) -> Iterator[str]:
    if row is None:
        yield f"{organization} has no row"
        return
    if row.name != organization["name"]:
        yield f"{organization} has another name than {row}"
    takers = {other["id"] for other in there.values() if other["external_id"] == row.id}
    if takers != {organization["id"]} and not takers - {organization["id"]}:
        yield f"{organization} does not know the id of {row}"


def conflicts(rows: Rows, there: Organizations) -> set[str]:
    """WorkOS ids of the organizations that a person has to decide about, once all was compared:
    those without a row, and those that WorkOS knows by another id."""
    linked = {row.workos_id: row.id for row in rows.values()}
    return {
        workos_id
        for workos_id, organization in there.items()
        if linked.get(workos_id) != organization["external_id"] or workos_id not in linked
    }
