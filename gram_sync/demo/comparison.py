"""Reads what WorkOS and what the mirror have, and compares them.

It shares no code with the service: it reads the fake WorkOS's events, and tables by plain SQL.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_DNS, uuid5

#: Every row of the mirror, oldest first; every membership with its organization and its user; and
#: every event of the ledger, oldest first.
ROWS: Final = """
    SELECT id, name, slug, workos_id, disabled_at IS NOT NULL AS disabled
    FROM organization_metadata ORDER BY created_at, id
"""
MEMBERS: Final = """
    SELECT o.name AS organization, u.email, m.status, o.sso_enabled,
        array_to_string(m.role_slugs, ', ') AS roles
    FROM workos_organization_membership AS m
    JOIN workos_user AS u ON u.workos_id = m.workos_user_id
    JOIN organization_metadata AS o ON o.workos_id = m.workos_organization_id
    WHERE m.deleted_at IS NULL AND u.deleted_at IS NULL ORDER BY u.email, o.name
"""
EVENTS: Final = "SELECT id, type, outcome, error FROM workos_event ORDER BY occurred_at, id"

_GRAM: Final = uuid5(NAMESPACE_DNS, "speakeasy.com")


class Remote(NamedTuple):
    """An organization as WorkOS has it, or had it; ``given_id`` is its first external_id."""

    workos_id: str
    name: str
    external_id: str | None
    given_id: str | None
    deleted: bool = False


class Row(NamedTuple):
    """A row of ``organization_metadata``."""

    id: str
    name: str
    slug: str
    workos_id: str | None
    disabled: bool = False


def remotes(organizations: Iterable[dict[str, Any]], events: Sequence[Any]) -> Iterator[Remote]:
    """Yield the organizations that exist and those that were deleted, in order of creation."""
    existing = {organization["id"]: organization for organization in organizations}
    deleted = {e["data"]["id"]: e["data"] for e in events if e["event"] == "organization.deleted"}
    for event in events:
        if event["event"] == "organization.created":
            first, id_ = event["data"], event["data"]["id"]
            last = existing.get(id_) or deleted[id_]
            ids = last["external_id"], first["external_id"]
            yield Remote(id_, last["name"], *ids, id_ not in existing)


def compare(
    remotes: Iterable[Remote], rows: Iterable[Row], first_slugs: Mapping[str, str]
) -> Iterator[tuple[Remote | None, Row | None, list[str]]]:
    """Yield each organization, the row that is linked to it, and in what they differ; then the
    rows that are left. ``first_slugs`` has, by id, the slug that each row began with."""
    left = {row.workos_id or row.id: row for row in rows}
    for remote in remotes:
        row = left.pop(remote.workos_id, None)
        texts = _differences(remote, row, first_slugs) if row else ["it has no row"]
        yield remote, row, [f"{remote.name}: {text}" for text in texts]
    for row in left.values():
        yield None, row, [f"{row.name}: {text}" for text in _differences(None, row, first_slugs)]


def _differences(remote: Remote | None, row: Row, first_slugs: Mapping[str, str]) -> Iterator[str]:
    expected = row._replace(slug=first_slugs.get(row.id, row.slug), workos_id=None)
    if remote is not None:
        gram_id = remote.given_id or str(uuid5(_GRAM, remote.workos_id))
        if remote.external_id != gram_id:
            yield f"its external_id is {remote.external_id!r}, not {gram_id!r}"
        expected = Row(gram_id, remote.name, expected.slug, remote.workos_id, remote.deleted)
    for name, is_, should_be in zip(Row._fields, row, expected, strict=True):
        if is_ != should_be:
            yield f"its row's {name} is {is_!r}, not {should_be!r}"
