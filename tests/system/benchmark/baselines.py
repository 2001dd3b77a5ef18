"""What applying is measured beside: raw psycopg on one connection, with prepared statements.

``apply_one_by_one`` is the system that the mirror replaces. ``apply_decided`` is a limit: what is
to be written is known before the clock starts, so nothing is left but PostgreSQL's own work.
"""

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

from orgs.domain.naming import slug_base
from orgs.domain.types import OrganizationFields
from tests.system.benchmark.databases import Connection
from tests.system.benchmark.workloads import Kind, Page

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

    def fetch(statement: str, *values: object) -> None:
        raw.execute(statement.encode(), values, prepare=True).fetchone()

    for planned in itertools.chain.from_iterable(pages):
        event_id, workos_id, id_ = planned.event.id, planned.workos_id, planned.organization_id
        fetch(_BY_WORKOS_ID, workos_id)
        if (fields := planned.observation.fields) is None:
            fetch(_DISABLE, event_id, id_)
        elif planned.kind is Kind.UPDATE:
            fetch(_UPDATE, fields.name, fields.updated_at, event_id, id_)
        elif planned.kind is Kind.CREATE:
            slug = slug_base(fields.name, workos_id)
            fetch(_BY_ID, id_)
            fetch(_LOCK_SLUG, slug)
            fetch(_BY_SLUG, slug)
            fetch(_INSERT, id_, fields.name, slug, workos_id, fields.updated_at, event_id)
        raw.execute(_MOVE_CURSOR, [workos_id, event_id], prepare=True)
        raw.commit()


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
    (id, type, object_key, workos_organization_id, organization_id, occurred_at, outcome,
     processed_at)
SELECT *, clock_timestamp() FROM unnest(%(ledger_ids)s::text[], %(types)s::text[],
    %(ledger_workos_ids)s::text[], %(ledger_workos_ids)s::text[], %(organization_ids)s::text[],
    %(occurred_at)s::timestamptz[], %(outcomes)s::text[])
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


DecidedPage: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]
"""The statements that write a page, one for each table, and their values."""


def apply_decided(raw: Connection, pages: Sequence[DecidedPage]) -> None:
    """A transaction for each page: one statement for each table that it writes, and no read.

    It writes the rows that our code writes, ledger and outbox and cursor included.
    """
    for statements, values in pages:
        with raw.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.encode(), values, prepare=True)
        raw.commit()


def decide(page: Page) -> DecidedPage:
    """What ``apply_decided`` needs, all of it made beforehand."""
    kinds = {planned.kind for planned in page}
    organizations = [_DECIDED_MIX, _DECIDED_OUTBOX]
    if kinds == {Kind.UPDATE}:
        organizations = [_DECIDED_UPDATE]
    elif kinds == {Kind.CREATE}:
        organizations = [_DECIDED_INSERT, _DECIDED_OUTBOX]
    by_row = sorted(page, key=lambda planned: planned.organization_id)
    created = [planned for planned in by_row if planned.kind is Kind.CREATE]
    new = [planned.observation.organization for planned in created]
    changed = [planned for planned in by_row if planned.kind in (Kind.UPDATE, Kind.DELETE)]
    # A deletion changes neither the name nor the time.
    fields: list[OrganizationFields | None] = [planned.observation.fields for planned in changed]
    by_event = sorted(page, key=lambda planned: planned.event.id)
    values = {
        "new_ids": [planned.organization_id for planned in created],
        "new_names": [organization.name for organization in new],
        "new_slugs": [
            slug_base(organization.name, planned.workos_id)
            for organization, planned in zip(new, created, strict=True)
        ],
        "new_workos_ids": [planned.workos_id for planned in created],
        "new_times": [organization.updated_at for organization in new],
        "new_event_ids": [planned.event.id for planned in created],
        "ids": [planned.organization_id for planned in changed],
        "names": [one and one.name for one in fields],
        "workos_ids": [planned.workos_id for planned in changed],
        "times": [one and one.updated_at for one in fields],
        "event_ids": [planned.event.id for planned in changed],
        "disables": [planned.kind is Kind.DELETE for planned in changed],
        "ledger_ids": [planned.event.id for planned in by_event],
        "types": [str(planned.event.type) for planned in by_event],
        "ledger_workos_ids": [planned.workos_id for planned in by_event],
        "organization_ids": [planned.organization_id for planned in by_event],
        "occurred_at": [planned.event.occurred_at for planned in by_event],
        "outcomes": [_OUTCOMES[planned.kind] for planned in by_event],
        "last_event_id": page[-1].event.id,
        "last_event_at": page[-1].event.occurred_at,
    }
    return (*organizations, _DECIDED_LEDGER, DECIDED_CURSOR), values
