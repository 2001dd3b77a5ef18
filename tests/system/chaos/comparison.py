"""Says how what was seen differs from the model. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.system.chaos.kinds import RESOURCES
from tests.system.chaos.model import JsonObject, Linked, Local, Model
from tests.system.chaos.names import may_be_slug_of
from tests.system.chaos.resource_audit import Objects, resource_differences, value_of

#: What may have become of an event that WorkOS lists; not ``parked``, and not nothing.
_OUTCOMES: Final = {
    *("created", "linked", "relinked", "updated", "disabled", "deleted"),
    *("stale", "unknown", "missing"),
}


@dataclass(frozen=True, slots=True)
class Mirror:
    """The database, at one moment."""

    rows: Objects
    """Those of ``organization_metadata``, by Gram id."""
    ledger: Objects
    outbox: Mapping[str, str]
    """Gram id to the last error."""
    created_slugs: Mapping[str, str]
    """Gram id to the slug with which the sync inserted the row, if it did."""
    resources: Mapping[str, Objects]
    """The rows of each of the others."""
    covered: frozenset[str]


@dataclass(frozen=True, slots=True)
class WorkOS:
    """WorkOS and its mail, at one moment."""

    events: Sequence[JsonObject]
    organizations: Objects
    held: Mapping[str, Objects]
    """What there is of each resource beside organizations."""
    announced_only: frozenset[str]
    """Events that were announced and are not listed, or only once nobody reads there any more."""
    acknowledged: frozenset[str]
    """Events of which some webhook was answered with success."""
    not_followed: frozenset[str]
    """Events that came before their resource was followed: the ledger may not know them."""


def differences(model: Model, mirror: Mirror, workos: WorkOS, *, reconciled: bool) -> list[str]:
    """A line for each thing that is not as it must be; none if all is well.

    Before it is ``reconciled``, a name may be the one that another program wrote last, and an
    organization that lost its row to another and was not mentioned since may be without one.
    """
    return [
        *_rows(model, mirror, reconciled=reconciled),
        *_ledger(mirror, workos),
        *(f"outbox: {id_} still waits: {error}" for id_, error in mirror.outbox.items()),
        *_written_back(mirror, workos),
        *(f"{name} is not covered" for name in sorted(set(RESOURCES) - mirror.covered)),
        *resource_differences(
            mirror.resources,
            workos.held,
            workos.events,
            not_followed=workos.not_followed,
            reconciled=reconciled,
        ),
        *_derived(mirror),
    ]


def _rows(model: Model, mirror: Mirror, *, reconciled: bool) -> Iterator[str]:
    required, optional = dict(model.linked), dict[str, Linked]()
    for id_, linked in model.unlinked_organizations.items():
        (required if reconciled and not linked.is_disabled else optional)[id_] = linked
    for id_ in sorted(required.keys() | optional.keys() | model.local.keys() | mirror.rows.keys()):
        row, local = mirror.rows.get(id_), model.local.get(id_, Local())
        wanted = required.get(id_)
        if wanted is None and row is not None and row["workos_id"] is not None:
            wanted = optional.get(id_)
        if wanted is None and not local.exists:
            if row is not None:
                yield f"row {id_} should not be there: {row}"
        elif row is None:
            yield f"row {id_} is missing; it should be {wanted or local}"
        else:
            yield from _row(id_, row, wanted, local, mirror, reconciled=reconciled)


def _row(
    id_: str,
    row: Mapping[str, Any],
    linked: Linked | None,
    local: Local,
    mirror: Mirror,
    *,
    reconciled: bool,
) -> Iterator[str]:
    created_slug = mirror.created_slugs.get(id_)
    names, states = {local.name}, {False}
    if linked is not None:
        names = {linked.name}
        # WorkOS no longer says what an organization is called that is gone.
        if local.drifted_to and (linked.is_disabled or not reconciled):
            names.add(local.drifted_to)
        states = {linked.is_disabled, linked.is_disabled and not linked.is_inherited}
    wanted: list[tuple[str, object, set[Any]]] = [
        ("workos_id", row["workos_id"], {linked and linked.workos_id}),
        ("disabled", row["disabled_at"] is not None, states),
        ("name", row["name"], names),
        ("gram_account_type", row["gram_account_type"], {local.gram_account_type}),
        ("whitelisted", row["whitelisted"], {local.whitelisted}),
        ("slug", row["slug"], {local.slug or created_slug}),
    ]
    for column, seen, allowed in wanted:
        if seen not in allowed:
            either = " or ".join(sorted(map(repr, allowed)))
            yield f"row {id_}: {column} is {seen!r}, not {either}"
    called = linked.names if linked else set()
    fits = created_slug is None or any(may_be_slug_of(created_slug, name) for name in called)
    if not fits and not local.exists:
        yield f"row {id_}: was created with the slug {created_slug!r}, but was called {called}"


def _ledger(mirror: Mirror, workos: WorkOS) -> Iterator[str]:
    listed = {event["id"] for event in workos.events}
    excused = workos.announced_only - workos.acknowledged | workos.not_followed
    for id_ in sorted((listed | workos.announced_only & workos.acknowledged) - excused):
        seen = mirror.ledger.get(id_)
        if seen is None:
            yield f"ledger: {id_} is unknown"
        elif seen["outcome"] not in _OUTCOMES:
            yield f"ledger: {id_} is {seen['outcome'] or 'unseen'}: {seen['error']}"
        elif id_ in workos.acknowledged and seen["announced_at"] is None:
            yield f"ledger: a webhook of {id_} was answered with success, and is not noted"
    for id_ in sorted(mirror.ledger.keys() - listed - workos.announced_only):
        yield f"ledger: {id_} is no event of WorkOS's"


def _written_back(mirror: Mirror, workos: WorkOS) -> Iterator[str]:
    for id_, row in mirror.rows.items():
        seen = workos.organizations.get(row["workos_id"], {"external_id": id_})["external_id"]
        if seen != id_:
            yield f"WorkOS: {row['workos_id']} has the external_id {seen!r}, not {id_!r}"


def _derived(mirror: Mirror) -> Iterator[str]:
    for column, resource in (("sso_enabled", "connection"), ("scim_enabled", "directory")):
        active = {
            row["workos_organization_id"]
            for row in mirror.resources[resource].values()
            if row["deleted_at"] is None and value_of("state", row["state"]) == "active"
        }
        for id_, row in sorted(mirror.rows.items()):
            is_active = row["workos_id"] in active
            if row["workos_id"] is not None and row[column] is not is_active:
                yield f"row {id_}: {column} is {row[column]}, not {is_active}"
