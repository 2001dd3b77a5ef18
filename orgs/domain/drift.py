"""Decides what a snapshot of WorkOS's organizations changes in the mirror, and says it. Pure."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from orgs.domain.resolution import (
    Fold,
    Plan,
    RemoteOrganization,
    Resolved,
    Row,
    is_stale_snapshot,
    is_traffic,
)
from orgs.domain.types import (
    Outcome,
)

#: The kinds of change that ``Outcome`` has no word for.
WRITE_BACK = "write_back"
DISABLED_HERE = "disabled_here"

#: These are told and left alone: a repair writes nothing for them.
LEFT_ALONE = (Outcome.CONFLICT, DISABLED_HERE)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An organization that is listed, so it exists, but can't be applied."""

    workos_id: str
    error: str


@dataclass(frozen=True, slots=True)
class PendingWriteBack:
    """What the outbox holds for an organization."""

    workos_id: str
    waits_for_person: bool


@dataclass(frozen=True, slots=True)
class Change:
    """How one organization differs. ``fields`` are the old and the new values."""

    organization_id: str | None
    workos_id: str
    change: str
    fields: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    reason: str = ""
    """Why it is left alone, if it is."""

    @property
    def order(self) -> tuple[str, str]:
        """What changes are sorted by, so that two runs report alike."""
        return (self.organization_id or "", self.workos_id)

    def __str__(self) -> str:
        fields = ", ".join(
            f"{name}: {_shown(old)} → {_shown(new)}" for name, (old, new) in self.fields.items()
        )
        subject = f"{_plain(self.organization_id or '?')} ({_plain(self.workos_id)})"
        return f"{self.change} {subject}: {fields or self.reason}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between some organizations and the mirror, and what repairs it."""

    changes: tuple[Change, ...]
    plan: Plan
    unchanged: int = 0
    stale: int = 0
    disabled_here: int = 0
    """Rows disabled here alone, those included that are told for another difference."""
    claimed: frozenset[str] = frozenset()
    """Ids of rows that an organization takes over, now or by an event that is on its way: that the
    one they are linked to is gone is no reason to disable them."""

    @property
    def rows_after(self) -> dict[str, Row]:
        """The rows that the plan writes, as they are then."""
        created = (creation.row for creation in self.plan.created)
        return {row.id: row for row in (*self.plan.updated, *self.plan.disabled, *created)}

    @property
    def counts(self) -> Counter[str]:
        """How many changes there are of each kind."""
        counts = Counter(change.change for change in self.changes)
        counts[DISABLED_HERE] = self.disabled_here
        counts["write_backs"] = sum("external_id" in change.fields for change in self.changes)
        counts["unchanged"] = self.unchanged
        counts["stale"] = self.stale
        return counts


def compare(
    rows: Iterable[Row],
    organizations: Iterable[RemoteOrganization | Unreadable],
    *,
    pending: Mapping[str, PendingWriteBack],
    deleted: Mapping[str, str] = MappingProxyType({}),
    gone: Collection[str] = (),
    young_after: datetime | None = None,
) -> Comparison:
    """Compares organizations as WorkOS has them with ``rows``, which a ``Fold`` must find whole.

    ``pending`` is the outbox by organization id. ``deleted`` and ``gone`` as for a ``Fold``. What
    is newer than its row and younger than ``young_after`` is traffic, and left to its event.
    """
    comparing = _Comparing(
        Fold(tuple(rows), deleted=deleted, gone=gone), pending, deleted, young_after
    )
    for organization in organizations:
        comparing.add(organization)
    return comparing.result()


def compare_absent(
    rows: Iterable[Row], workos_ids: Iterable[str], *, pending: Collection[str] = ()
) -> Comparison:
    """What it changes that WorkOS answered 404 for ``workos_ids``."""
    fold = Fold(tuple(rows))
    changes = []
    for workos_id in workos_ids:
        resolved = fold.apply_absence(workos_id)
        if resolved.outcome is Outcome.DISABLED:
            fields: dict[str, tuple[str | None, str | None]] = {"disabled_at": (None, "now")}
            changes.append(
                Change(resolved.organization_id, workos_id, Outcome.DISABLED.value, fields)
            )
    plan = _without_needless_withdrawals(fold.plan(), pending)
    return Comparison(tuple(changes), plan)


def _plain(id_: str) -> str:
    return id_ if id_.isprintable() else json.dumps(id_)


def _shown(value: str | None) -> str:
    return json.dumps(value, ensure_ascii=False)


@dataclass(slots=True)
class _Comparing:
    fold: Fold
    pending: Mapping[str, PendingWriteBack]
    deleted: Mapping[str, str]
    young_after: datetime | None
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    stale: int = 0
    disabled_here: int = 0
    claimed: set[str] = field(default_factory=set)

    def add(self, organization: RemoteOrganization | Unreadable) -> None:
        if isinstance(organization, Unreadable):
            self._leave_alone(None, organization.workos_id, organization.error)
            return
        before = self.fold.find(organization)
        if self.young_after and is_traffic(before, organization, young_after=self.young_after):
            self.unchanged += 1
            if before is not None and before.workos_id != organization.workos_id:
                self.claimed.add(before.id)
            return
        if before is not None and _names_another(before, organization):
            reason = (
                f"WorkOS has external_id {organization.external_id!r} for "
                f"{organization.workos_id}, which is linked to {before.id}"
            )
            self._leave_alone(before.id, organization.workos_id, reason)
            return
        resolved = self.fold.apply_snapshot(organization)
        if resolved.outcome is Outcome.STALE:
            self.stale += 1
        elif resolved.outcome is Outcome.CONFLICT:
            self._leave_alone(resolved.organization_id, organization.workos_id, resolved.error)
        else:
            self._tell(before, organization, resolved)

    def result(self) -> Comparison:
        plan = self.fold.plan()
        write_backs = {
            id_: workos_id
            for id_, workos_id in plan.write_backs.items()
            if not self._waits_for_person(id_, workos_id)
        }
        plan = _without_needless_withdrawals(replace(plan, write_backs=write_backs), self.pending)
        return Comparison(
            tuple(self.changes),
            plan,
            unchanged=self.unchanged,
            stale=self.stale,
            disabled_here=self.disabled_here,
            claimed=frozenset(self.claimed),
        )

    def _tell(
        self, before: Row | None, organization: RemoteOrganization, resolved: Resolved
    ) -> None:
        id_ = resolved.organization_id
        after = None if id_ is None else self.fold.row(id_)
        if id_ is None or after is None:
            raise AssertionError("an organization that was applied has a row")
        fields = dict(_differences(before, after))
        awaits_person = False
        if organization.external_id is None:
            awaits_person = self._waits_for_person(id_, organization.workos_id)
            if not awaits_person:
                fields["external_id"] = (None, id_)
        is_disabled_here = after.disabled and organization.workos_id not in self.deleted
        self.disabled_here += is_disabled_here
        if resolved.outcome is Outcome.RELINKED:
            self.claimed.add(id_)
        if resolved.outcome is not Outcome.UNCHANGED:
            self._change(id_, organization, resolved.outcome.value, fields)
        elif fields:
            self._change(id_, organization, WRITE_BACK, fields)
        elif awaits_person:
            reason = "its external_id waits for a person: see the outbox"
            self._leave_alone(id_, organization.workos_id, reason)
        elif not after.disabled:
            self.unchanged += 1
        elif not is_disabled_here:
            # The listing is older than the deletion that the stream has already brought.
            self.stale += 1
        else:
            reason = "it is disabled here, and exists in WorkOS"
            self._leave_alone(id_, organization.workos_id, reason, kind=DISABLED_HERE)

    def _change(
        self,
        id_: str,
        organization: RemoteOrganization,
        kind: str,
        fields: Mapping[str, tuple[str | None, str | None]],
    ) -> None:
        self.changes.append(Change(id_, organization.workos_id, kind, fields))

    def _leave_alone(
        self, id_: str | None, workos_id: str, reason: str, *, kind: str = Outcome.CONFLICT.value
    ) -> None:
        self.changes.append(Change(id_, workos_id, kind, reason=reason))

    def _waits_for_person(self, id_: str, workos_id: str) -> bool:
        pending = self.pending.get(id_)
        return pending == PendingWriteBack(workos_id, waits_for_person=True)


def _names_another(row: Row, organization: RemoteOrganization) -> bool:
    names_it = organization.external_id in (None, row.id)
    return not names_it and not is_stale_snapshot(row, organization)


def _differences(
    before: Row | None, after: Row
) -> Iterable[tuple[str, tuple[str | None, str | None]]]:
    for name in ("name", "workos_id"):
        old, new = getattr(before, name, None), getattr(after, name)
        if old != new:
            yield name, (old, new)


def _without_needless_withdrawals(plan: Plan, pending: Collection[str]) -> Plan:
    """Almost every organization of a snapshot shows our id; few have a request to withdraw."""
    return replace(
        plan, known_to_workos=tuple(id_ for id_ in plan.known_to_workos if id_ in pending)
    )
