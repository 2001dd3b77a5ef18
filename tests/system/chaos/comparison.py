"""Says how what was seen differs from the model. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.system.chaos.model import JsonObject, Linked, Local, Model
from tests.system.chaos.names import may_be_slug_of
from tests.system.chaos.resource_audit import Objects, SeenResources, resource_differences

#: What may have become of an event that WorkOS lists; not ``parked``, and not nothing.
_OUTCOMES: Final = frozenset(
    (
        *("created", "linked", "relinked", "updated", "disabled", "deleted"),
        *("stale", "unknown", "missing"),
    )
)


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A row of ``organization_metadata``."""

    id: str
    name: str
    slug: str
    workos_id: str | None
    gram_account_type: str
    whitelisted: bool
    is_disabled: bool


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """A row of the ledger."""

    id: str
    outcome: str | None
    is_announced: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class Mirror:
    """The database, at one moment."""

    rows: Mapping[str, SeenRow]
    ledger: Mapping[str, SeenEvent]
    outbox: Mapping[str, str]
    """Gram id to the last error."""
    created_slugs: Mapping[str, str]
    """Gram id to the slug with which the sync inserted the row, if it did."""
    resources: SeenResources


@dataclass(frozen=True, slots=True)
class WorkOS:
    """WorkOS and its mail, at one moment."""

    events: Sequence[JsonObject]
    organizations: Mapping[str, JsonObject]
    announced_only: frozenset[str]
    """Events that were announced and are not listed, or only once nobody reads there any more."""
    acknowledged: frozenset[str]
    """Events of which some webhook was answered with success."""
    held: Mapping[str, Objects]
    """What there is of each resource beside organizations."""
    not_followed: frozenset[str]
    """Events that came before their resource was followed: the ledger may not know them."""


def differences(model: Model, mirror: Mirror, workos: WorkOS, *, reconciled: bool) -> list[str]:
    """A line for each thing that is not as it must be; none if all is well.

    Before it is ``reconciled``, a name may be the one that a rival wrote last, and an organization
    that lost its row to another and was not mentioned since may be without one.
    """
    expectation = _Expectation(model, mirror, reconciled)
    return [
        *expectation.rows(),
        *_ledger(mirror, workos),
        *(f"outbox: {id_} is still to be told: {error}" for id_, error in mirror.outbox.items()),
        *_told(mirror, workos),
        *resource_differences(
            mirror.resources,
            workos.held,
            workos.events,
            not_followed=workos.not_followed,
            reconciled=reconciled,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Expectation:
    model: Model
    mirror: Mirror
    reconciled: bool

    def rows(self) -> Iterator[str]:
        required = {**self.model.linked, **(self._awaited() if self.reconciled else {})}
        optional = {} if self.reconciled else self._awaited()
        optional |= {
            id_: linked
            for id_, linked in self.model.unlinked_organizations.items()
            if linked.is_disabled
        }
        known = {*required, *optional, *self._unlinked()}
        for id_ in sorted(known | self.mirror.rows.keys()):
            row = self.mirror.rows.get(id_)
            linked = required.get(id_) or (optional.get(id_) if self._is_linked(row) else None)
            local = self.model.local.get(id_, Local())
            if linked is None and not local.exists:
                if row is not None:
                    yield f"row {id_} should not be there: {row}"
            elif row is None:
                yield f"row {id_} is missing; it should be {linked or local}"
            else:
                yield from self._row(row, linked, local)

    def _awaited(self) -> dict[str, Linked]:
        organizations = self.model.unlinked_organizations.items()
        return {id_: linked for id_, linked in organizations if not linked.is_disabled}

    def _unlinked(self) -> set[str]:
        return {id_ for id_, local in self.model.local.items() if local.exists}

    def _is_linked(self, row: SeenRow | None) -> bool:
        return row is not None and row.workos_id is not None

    def _row(self, row: SeenRow, linked: Linked | None, local: Local) -> Iterator[str]:
        workos_id = linked.workos_id if linked else None
        wanted: list[tuple[str, object, set[object]]] = [
            ("workos_id", row.workos_id, {workos_id}),
            ("disabled", row.is_disabled, self._states(linked)),
            ("name", row.name, self._names(linked, local)),
            ("gram_account_type", row.gram_account_type, {local.gram_account_type}),
            ("whitelisted", row.whitelisted, {local.whitelisted}),
            ("slug", row.slug, {local.slug or self.mirror.created_slugs.get(row.id)}),
        ]
        for column, seen, allowed in wanted:
            if seen not in allowed:
                yield f"row {row.id}: {column} is {seen!r}, not {_either(allowed)}"
        yield from self._slug_was_due(row, linked, local)

    def _names(self, linked: Linked | None, local: Local) -> set[object]:
        if linked is None:
            return {local.name}
        # WorkOS no longer says what an organization is called that is gone.
        may_have_drifted = linked.is_disabled or not self.reconciled
        drifted = {local.drifted_to} if local.drifted_to and may_have_drifted else set()
        return {linked.name, *drifted}

    def _states(self, linked: Linked | None) -> set[object]:
        if linked is None:
            return {False}
        return {linked.is_disabled, linked.is_disabled and not linked.is_inherited}

    def _slug_was_due(self, row: SeenRow, linked: Linked | None, local: Local) -> Iterator[str]:
        slug = self.mirror.created_slugs.get(row.id)
        if slug is None or local.exists:
            return
        names = linked.names if linked else set()
        if not any(may_be_slug_of(slug, name) for name in names):
            yield f"row {row.id}: was created with the slug {slug!r}, but was called {names}"


def _ledger(mirror: Mirror, workos: WorkOS) -> Iterator[str]:
    listed = {event["id"] for event in workos.events}
    excused = workos.announced_only - workos.acknowledged | workos.not_followed
    for id_ in sorted((listed | workos.announced_only & workos.acknowledged) - excused):
        seen = mirror.ledger.get(id_)
        if seen is None:
            yield f"ledger: {id_} is unknown"
        elif seen.outcome not in _OUTCOMES:
            yield f"ledger: {id_} is {seen.outcome or 'unseen'}{seen.error and f': {seen.error}'}"
        elif id_ in workos.acknowledged and not seen.is_announced:
            yield f"ledger: a webhook of {id_} was answered with success, and is not noted"
    for id_ in sorted(mirror.ledger.keys() - listed - workos.announced_only):
        yield f"ledger: {id_} is no event of WorkOS's"


def _told(mirror: Mirror, workos: WorkOS) -> Iterator[str]:
    for row in mirror.rows.values():
        organization = workos.organizations.get(row.workos_id or "")
        if organization is not None and organization["external_id"] != row.id:
            told = organization["external_id"]
            yield f"WorkOS: {row.workos_id} has the external_id {told!r}, not {row.id!r}"


def _either(allowed: set[object]) -> str:
    return " or ".join(sorted(repr(value) for value in allowed))
