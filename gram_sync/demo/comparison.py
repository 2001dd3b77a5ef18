"""Compares what WorkOS has with what the mirror has: decides, and asks nobody.

It shares no code with the service: what it compares was read from the stand-in and with plain SQL.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

_GRAM: Final = uuid5(NAMESPACE_DNS, "speakeasy.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An organization as WorkOS has it or, if it doesn't exist any more, had it last."""

    workos_id: str
    name: str
    external_id: str | None
    created_with: str | None
    """The external_id that it was created with."""
    exists: bool = True

    @property
    def gram_id(self) -> str:
        """The id that Gram has to know it by."""
        return self.created_with or str(uuid5(_GRAM, self.workos_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of ``organization_metadata``."""

    id: str
    name: str
    slug: str
    workos_id: str | None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """An organization and its row, and in what they differ: nothing if they agree."""

    remote: Remote | None
    row: Row | None
    differences: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        either = self.remote or self.row
        return either.name if either else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """A row of ``workos_event``."""

    event_id: str
    type: str
    outcome: str | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What became of the webhooks: an event counts once as announced, and then as repeated."""

    delivered: int
    repeated: int
    lost: int
    refused: int


def remotes(organizations: Sequence[dict[str, Any]], events: Sequence[Any]) -> list[Remote]:
    """The organizations of WorkOS, those there are and those there were, in order of creation.

    ``organizations`` are those there are; ``events`` are all, malformed ones included.
    """
    last = {event["data"]["id"]: event["data"] for event in _of_type("deleted", events)}
    deleted = set(last)
    last |= {organization["id"]: organization for organization in organizations}
    created = {event["data"]["id"]: event["data"] for event in _of_type("created", events)}
    return [
        Remote(
            workos_id=workos_id,
            name=last[workos_id]["name"],
            external_id=last[workos_id]["external_id"],
            created_with=created[workos_id]["external_id"],
            exists=workos_id not in deleted,
        )
        for workos_id in created
    ]


def pair_up(
    remotes: Iterable[Remote], rows: Iterable[Row], first_slugs: Mapping[str, str]
) -> list[Pair]:
    """Each organization with its row, and the rows that are left over.

    ``first_slugs`` has, by id, the slug each row was first seen with.
    """
    by_workos_id = {row.workos_id: row for row in rows if row.workos_id is not None}
    left = {row.id: row for row in rows}
    pairs = []
    for remote in remotes:
        row = by_workos_id.get(remote.workos_id)
        if row is not None:
            left.pop(row.id, None)
        pairs.append(Pair(remote, row, tuple(_differences(remote, row, first_slugs))))
    return [*pairs, *(_left_over(row, first_slugs) for row in left.values())]


def ledger_differences(
    events: Sequence[Any], entries: Sequence[LedgerEntry], malformed: Collection[str]
) -> list[str]:
    """In what the ledger differs from WorkOS's events, of which some were ``malformed``."""
    listed = {event["id"] for event in events}
    known = {entry.event_id for entry in entries}
    parked = {entry.event_id for entry in entries if entry.outcome == "parked"}
    unseen = {entry.event_id for entry in entries if entry.outcome is None}
    return [
        *(f"{event} is listed by WorkOS and not in the ledger" for event in sorted(listed - known)),
        *(f"{event} is in the ledger and not WorkOS's" for event in sorted(known - listed)),
        *(f"{event} was announced and never applied" for event in sorted(unseen)),
        *(f"{event} is parked, and was well-formed" for event in sorted(parked - set(malformed))),
        *(f"{event} is malformed, and not parked" for event in sorted(set(malformed) - parked)),
    ]


def count_deliveries(records: Iterable[Mapping[str, Any]]) -> Deliveries:
    """Count what the stand-in recorded of its webhooks."""
    events_delivered: Counter[str] = Counter()
    lost = refused = 0
    for record in records:
        if record["error"] == "dropped":
            lost += 1
        elif record["status"] == 204:
            events_delivered[record["event_id"]] += 1
        else:
            refused += 1
    repeated = events_delivered.total() - len(events_delivered)
    return Deliveries(
        delivered=events_delivered.total(), repeated=repeated, lost=lost, refused=refused
    )


def _of_type(kind: str, events: Iterable[Any]) -> list[dict[str, Any]]:
    return [event for event in events if event.get("event") == f"organization.{kind}"]


def _differences(remote: Remote, row: Row | None, first_slugs: Mapping[str, str]) -> Iterable[str]:
    if row is None:
        yield "the mirror has no row that is linked to it"
        return
    if row.id != remote.gram_id:
        yield f"the row's id is {row.id}, and should be {remote.gram_id}"
    if row.name != remote.name:
        yield f"WorkOS calls it {remote.name!r}, the mirror {row.name!r}"
    if remote.external_id != row.id:
        yield f"its external_id in WorkOS is {remote.external_id}, and its row's id {row.id}"
    if remote.exists and row.disabled:
        yield "it exists in WorkOS, and is disabled in the mirror"
    if not remote.exists and not row.disabled:
        yield "it was deleted in WorkOS, and is not disabled in the mirror"
    yield from _slug_differences(row, first_slugs)


def _left_over(row: Row, first_slugs: Mapping[str, str]) -> Pair:
    differences = list(_slug_differences(row, first_slugs))
    if row.workos_id is not None:
        differences.append(f"it is linked to {row.workos_id}, which WorkOS never had")
    return Pair(None, row, tuple(differences))


def _slug_differences(row: Row, first_slugs: Mapping[str, str]) -> Iterable[str]:
    first = first_slugs.get(row.id, row.slug)
    if row.slug != first:
        yield f"its slug was {first!r} at first, and is {row.slug!r} now"
