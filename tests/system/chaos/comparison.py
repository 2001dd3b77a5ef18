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
    return [
        *_rows(model, mirror, reconciled=reconciled),
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


def _rows(model: Model, mirror: Mirror, *, reconciled: bool) -> Iterator[str]:
    organizations = model.unlinked_organizations.items()
    awaited = {id_: linked for id_, linked in organizations if not linked.is_disabled}
    optional = {id_: linked for id_, linked in organizations if linked.is_disabled}
    required = dict(model.linked)
    (required if reconciled else optional).update(awaited)
    unlinked = {id_ for id_, local in model.local.items() if local.exists}
    for id_ in sorted({*required, *optional, *unlinked} | mirror.rows.keys()):
        row = mirror.rows.get(id_)
        linked = required.get(id_)
        if linked is None and row is not None and row.workos_id is not None:
            linked = optional.get(id_)
        local = model.local.get(id_, Local())
        if linked is None and not local.exists:
            if row is not None:
                yield f"row {id_} should not be there: {row}"
        elif row is None:
            yield f"row {id_} is missing; it should be {linked or local}"
        else:
            slug = mirror.created_slugs.get(id_)
            yield from _row(row, linked, local, slug, reconciled=reconciled)


def _row(
    row: SeenRow, linked: Linked | None, local: Local, created_slug: str | None, *, reconciled: bool
) -> Iterator[str]:
    wanted: list[tuple[str, object, set[object]]] = [
        ("workos_id", row.workos_id, {linked and linked.workos_id}),
        ("disabled", row.is_disabled, _states(linked)),
        ("name", row.name, _names(linked, local, reconciled=reconciled)),
        ("gram_account_type", row.gram_account_type, {local.gram_account_type}),
        ("whitelisted", row.whitelisted, {local.whitelisted}),
        ("slug", row.slug, {local.slug or created_slug}),
    ]
    for column, seen, allowed in wanted:
        if seen not in allowed:
            either = " or ".join(sorted(map(repr, allowed)))
            yield f"row {row.id}: {column} is {seen!r}, not {either}"
    names = linked.names if linked else set()
    fits = created_slug is None or any(may_be_slug_of(created_slug, name) for name in names)
    if not fits and not local.exists:
        yield f"row {row.id}: was created with the slug {created_slug!r}, but was called {names}"


def _names(linked: Linked | None, local: Local, *, reconciled: bool) -> set[object]:
    if linked is None:
        return {local.name}
    # WorkOS no longer says what an organization is called that is gone.
    may_have_drifted = linked.is_disabled or not reconciled
    drifted = {local.drifted_to} if local.drifted_to and may_have_drifted else set()
    return {linked.name, *drifted}


def _states(linked: Linked | None) -> set[object]:
    if linked is None:
        return {False}
    return {linked.is_disabled, linked.is_disabled and not linked.is_inherited}


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
