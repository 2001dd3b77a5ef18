"""What the mirror must hold, from what happened alone: WorkOS's events, and what other
programs committed.

Small, sequential, and written without the product's code. Pure. An event links its organization to
the row that is its own, to the one that its ``external_id`` names, or to a new one; a deletion
disables the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.system.chaos.actions import Write
from tests.system.chaos.kinds import ORGANIZATION, subject_of
from tests.system.chaos.names import derived_id

JsonObject: TypeAlias = dict[str, Any]


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
    """Whether another program inserted it, and none has deleted it since."""
    drifted_to: str | None = None
    """The last name that another program wrote into a row that it may not name."""


@dataclass(slots=True)
class Model:
    """The mirror as it must be, by Gram id and by WorkOS id."""

    linked: dict[str, Linked] = field(default_factory=dict)
    local: dict[str, Local] = field(default_factory=dict)
    unlinked_organizations: dict[str, Linked] = field(default_factory=dict)
    """By the Gram id that each would get: those whose row went to another organization, and which
    no event has mentioned since. Only a snapshot gives them a row."""


def model_of(events: Sequence[JsonObject], writes: Iterable[Write]) -> Model:
    """The mirror that results from these events, in this order, and these writes, which
    committed in the order of the row's locks."""
    model = Model()
    row_of: dict[str, str] = {}
    """WorkOS id to Gram id."""
    last: dict[str, Linked] = {}
    """By WorkOS id, what the last event showed."""
    organizations = [event for event in events if subject_of(event)[0] == ORGANIZATION]
    for event in organizations:
        _apply(event, model.linked, row_of, last)
    shown = {event["data"]["id"]: event["data"] for event in organizations}
    lost = sorted(last.keys() - row_of.keys())
    model.unlinked_organizations = {_gram_id(shown[id_]): last[id_] for id_ in lost}
    for kind, id_, columns, _ in writes:
        local = model.local.setdefault(id_, Local())
        if kind != "set":
            model.local[id_] = Local(**columns, exists=kind == "insert")
            continue
        for column, value in columns.items():
            setattr(local, column, value)
        local.drifted_to = columns.get("name", local.drifted_to)
    return model


def _apply(
    event: JsonObject, rows: dict[str, Linked], row_of: dict[str, str], last: dict[str, Linked]
) -> None:
    """One event, by the resolution flow."""
    workos_id, name = event["data"]["id"], event["data"]["name"]
    seen = last.setdefault(workos_id, Linked(workos_id, name))
    seen.name = name
    seen.names.add(name)
    if event["event"] == "organization.deleted":
        seen.is_disabled = True
        if workos_id in row_of:
            row = rows[row_of[workos_id]]
            row.is_disabled, row.is_inherited = True, False
        return
    gram_id = row_of.get(workos_id) or _gram_id(event["data"])
    row = rows.setdefault(gram_id, Linked(workos_id, name))
    if row.workos_id != workos_id:
        del row_of[row.workos_id]
        row.is_inherited = row.is_disabled
    row_of[workos_id] = gram_id
    row.workos_id, row.name = workos_id, name
    row.names |= seen.names


def _gram_id(organization: JsonObject) -> str:
    return organization["external_id"] or derived_id(organization["id"])
