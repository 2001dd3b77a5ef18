"""What applying is measured beside: raw psycopg on one connection, with prepared statements.

``apply_one_by_one`` is the system that the mirror replaces. ``apply_decided`` is a limit: what is
to be written is known before the clock starts, so nothing is left but PostgreSQL's own work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orgs.domain.naming import slug_base
from orgs.domain.types import OrganizationFields
from tests.system.benchmark.databases import Connection
from tests.system.benchmark.workloads import Kind, Page, Planned

# The system that is replaced -----------------------------------------------------------------

_BY_WORKOS_ID = """
SELECT id, name, slug, workos_id, workos_updated_at, workos_last_event_id, disabled_at
FROM organization_metadata WHERE workos_id = %s
"""
_BY_ID = "SELECT id, name, slug, workos_id FROM organization_metadata WHERE id = %s"
_LOCK_SLUG = "SELECT pg_advisory_xact_lock(hashtext(%s))"
_BY_SLUG = "SELECT id FROM organization_metadata WHERE slug = %s"
_INSERT = """
INSERT INTO organization_metadata
    (id, name, slug, workos_id, workos_updated_at, workos_last_event_id)
VALUES (%s, %s, %s, %s, %s, %s) RETURNING *
"""
_UPDATE = """
UPDATE organization_metadata SET name = %s, workos_updated_at = %s, workos_last_event_id = %s,
    updated_at = clock_timestamp() WHERE id = %s RETURNING *
"""
_DISABLE = """
UPDATE organization_metadata SET disabled_at = clock_timestamp(), workos_last_event_id = %s,
    updated_at = clock_timestamp() WHERE id = %s RETURNING *
"""
_MOVE_CURSOR = """
INSERT INTO benchmark_organization_cursor (workos_organization_id, last_event_id) VALUES (%s, %s)
ON CONFLICT (workos_organization_id) DO UPDATE
SET last_event_id = excluded.last_event_id, updated_at = clock_timestamp()
"""


def apply_one_by_one(raw: Connection, pages: Sequence[Page]) -> None:
    """A transaction for each event, with the statements of the system that is replaced.

    BEGIN; SELECT by workos_id; for a create SELECT by id, advisory lock, SELECT by slug and INSERT
    RETURNING; for an update or a deletion UPDATE RETURNING, for a stale event nothing; upsert of a
    cursor that each organization has; COMMIT. It keeps no ledger and no outbox. Needs a connection
    without autocommit: psycopg sends BEGIN before the first statement.
    """
    for page in pages:
        for planned in page:
            _apply_one(raw, planned)


def _apply_one(raw: Connection, planned: Planned) -> None:
    event, workos_id = planned.event, planned.observation.workos_id
    _fetch(raw, _BY_WORKOS_ID, workos_id)
    if (fields := planned.observation.fields) is not None:
        name, updated_at = fields.name, fields.updated_at
        if planned.kind is Kind.CREATE:
            slug = slug_base(name, workos_id or "")
            _fetch(raw, _BY_ID, planned.organization_id)
            _fetch(raw, _LOCK_SLUG, slug)
            _fetch(raw, _BY_SLUG, slug)
            values = (planned.organization_id, name, slug, workos_id, updated_at, event.id)
            _fetch(raw, _INSERT, *values)
        elif planned.kind is Kind.UPDATE:
            _fetch(raw, _UPDATE, name, updated_at, event.id, planned.organization_id)
    else:
        _fetch(raw, _DISABLE, event.id, planned.organization_id)
    raw.execute(_MOVE_CURSOR, [workos_id, event.id], prepare=True)
    raw.commit()


def _fetch(raw: Connection, statement: str, *values: object) -> object:
    return raw.execute(statement.encode(), values, prepare=True).fetchone()


# The limit ----------------------------------------------------------------------------------

_DECIDED_INSERT = """
INSERT INTO organization_metadata
    (id, name, slug, workos_id, workos_updated_at, workos_last_event_id)
SELECT * FROM unnest(%(new_ids)s::text[], %(new_names)s::text[], %(new_slugs)s::text[],
    %(new_workos_ids)s::text[], %(new_times)s::timestamptz[], %(new_event_ids)s::text[])
"""
_DECIDED_UPDATE = """
UPDATE organization_metadata AS o
SET name = new.name, workos_id = new.workos_id, workos_updated_at = new.workos_updated_at,
    workos_last_event_id = new.workos_last_event_id, updated_at = clock_timestamp()
FROM unnest(%(ids)s::text[], %(names)s::text[], %(workos_ids)s::text[], %(times)s::timestamptz[],
    %(event_ids)s::text[]) AS new (id, name, workos_id, workos_updated_at, workos_last_event_id)
WHERE o.id = new.id
"""
#: All that a mixed page does to the table, in one statement.
_DECIDED_MIX = f"""
WITH changed AS (
    UPDATE organization_metadata AS o
    SET name = coalesce(new.name, o.name), workos_id = new.workos_id,
        workos_updated_at = coalesce(new.workos_updated_at, o.workos_updated_at),
        workos_last_event_id = new.workos_last_event_id, updated_at = clock_timestamp(),
        disabled_at = CASE WHEN new.disables THEN clock_timestamp() ELSE o.disabled_at END
    FROM unnest(%(ids)s::text[], %(names)s::text[], %(workos_ids)s::text[],
        %(times)s::timestamptz[], %(event_ids)s::text[], %(disables)s::boolean[])
        AS new (id, name, workos_id, workos_updated_at, workos_last_event_id, disables)
    WHERE o.id = new.id
)
{_DECIDED_INSERT}
"""  # noqa: S608 - put together from constants
_DECIDED_LEDGER = """
INSERT INTO workos_event
    (id, type, workos_organization_id, organization_id, occurred_at, outcome, processed_at)
SELECT *, clock_timestamp() FROM unnest(%(ledger_ids)s::text[], %(types)s::text[],
    %(ledger_workos_ids)s::text[], %(organization_ids)s::text[], %(occurred_at)s::timestamptz[],
    %(outcomes)s::text[])
"""
_DECIDED_OUTBOX = """
INSERT INTO workos_external_id_write_back (organization_id, workos_id)
SELECT * FROM unnest(%(new_ids)s::text[], %(new_workos_ids)s::text[])
"""
DECIDED_CURSOR = """
UPDATE workos_sync_cursor
SET last_event_id = %(last_event_id)s, last_event_at = %(last_event_at)s, failures = 0,
    failing_since = NULL, last_trouble = '', last_error = ''
WHERE stream = 'organizations'
"""

_OUTCOMES = dict(zip(Kind, ("created", "updated", "disabled", "stale"), strict=True))


@dataclass(frozen=True, slots=True)
class DecidedPage:
    """The statements that write a page, one for each table, and their values."""

    statements: tuple[str, ...]
    values: dict[str, Any]


def apply_decided(raw: Connection, pages: Sequence[DecidedPage]) -> None:
    """A transaction for each page: one statement for each table that it writes, and no read.

    It writes the rows that our code writes, ledger and outbox and cursor included.
    """
    for page in pages:
        with raw.cursor() as cursor:
            for statement in page.statements:
                cursor.execute(statement.encode(), page.values, prepare=True)
        raw.commit()


def decide(pages: Sequence[Page]) -> list[DecidedPage]:
    """What ``apply_decided`` needs, all of it made beforehand."""
    return [_decide(page) for page in pages]


def _decide(page: Page) -> DecidedPage:
    kinds = {planned.kind for planned in page}
    organizations = [_DECIDED_MIX, _DECIDED_OUTBOX]
    if kinds == {Kind.UPDATE}:
        organizations = [_DECIDED_UPDATE]
    elif kinds == {Kind.CREATE}:
        organizations = [_DECIDED_INSERT, _DECIDED_OUTBOX]
    created = [planned for planned in page if planned.kind is Kind.CREATE]
    changed = [planned for planned in page if planned.kind in (Kind.UPDATE, Kind.DELETE)]
    last = page[-1].event
    values = {
        **_created(sorted(created, key=lambda planned: planned.organization_id)),
        **_changed(sorted(changed, key=lambda planned: planned.organization_id)),
        **_ledger(sorted(page, key=lambda planned: planned.event.id)),
        "last_event_id": last.id,
        "last_event_at": last.occurred_at,
    }
    return DecidedPage((*organizations, _DECIDED_LEDGER, DECIDED_CURSOR), values)


def _created(created: Sequence[Planned]) -> dict[str, list[Any]]:
    organizations = [planned.observation.organization for planned in created]
    workos_ids = [planned.observation.workos_id or "" for planned in created]
    names = [organization.name for organization in organizations]
    return {
        "new_ids": [planned.organization_id for planned in created],
        "new_names": names,
        "new_slugs": [*map(slug_base, names, workos_ids)],
        "new_workos_ids": workos_ids,
        "new_times": [organization.updated_at for organization in organizations],
        "new_event_ids": [planned.event.id for planned in created],
    }


def _changed(changed: Sequence[Planned]) -> dict[str, list[Any]]:
    # A deletion changes neither the name nor the time.
    organizations: list[OrganizationFields | None] = [p.observation.fields for p in changed]
    return {
        "ids": [planned.organization_id for planned in changed],
        "names": [o and o.name for o in organizations],
        "workos_ids": [planned.observation.workos_id for planned in changed],
        "times": [o and o.updated_at for o in organizations],
        "event_ids": [planned.event.id for planned in changed],
        "disables": [planned.kind is Kind.DELETE for planned in changed],
    }


def _ledger(page: Sequence[Planned]) -> dict[str, list[Any]]:
    return {
        "ledger_ids": [planned.event.id for planned in page],
        "types": [str(planned.event.type) for planned in page],
        "ledger_workos_ids": [planned.observation.workos_id for planned in page],
        "organization_ids": [planned.organization_id for planned in page],
        "occurred_at": [planned.event.occurred_at for planned in page],
        "outcomes": [_OUTCOMES[planned.kind] for planned in page],
    }
