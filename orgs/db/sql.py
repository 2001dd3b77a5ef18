"""The set-based statements, by name.

Each takes a whole page as arrays: Django's ``bulk_update`` builds a ``CASE`` for every row and
column, and was measured slower than saving each row. Organizations are locked in id order, and
pages enter their rows sorted, so that two transactions wait for each other instead of deadlocking.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime


def array(values: Iterable[object]) -> str:
    """Return the values as PostgreSQL writes an array, for a parameter that is cast to one.

    psycopg makes the same of a list by regular expressions: measured to cost three times as much.
    """
    listed = [*values]
    with suppress(TypeError):
        # Nearly always all is text, in which no quote and no backslash needs another.
        joined = '","'.join(listed)  # type: ignore[arg-type]
        if listed and "\\" not in joined and joined.count('"') == 2 * len(listed) - 2:
            return f'{{"{joined}"}}'
    return f"{{{','.join(map(_element, listed))}}}"


def _element(value: object) -> str:
    if isinstance(value, str):
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    elif isinstance(value, datetime):
        # Measured to take half as long as ``str``.
        value = value.isoformat()
    return "NULL" if value is None else f'"{value}"'


def readable(time: str) -> str:
    """Return a time as it is, or the nearest one if Python can't hold it (infinity, year 10000)."""
    nearest = f"least(greatest({time}, '0001-01-02 00:00+00'), '9999-12-30 00:00+00')"
    return f"CASE WHEN {time} IS NOT NULL THEN {nearest} END"


def believable(time: str, otherwise: str = "NULL") -> str:
    """Return a readable time; ``otherwise`` if it is more than a day ahead: a clock that was wrong
    left it behind, and everything would be older."""
    is_ahead = f"{time} > clock_timestamp() + interval '1 day'"
    return f"CASE WHEN {is_ahead} THEN {otherwise} ELSE {readable(time)} END"


#: Parameter: milliseconds. True: until the end of the transaction, as SET LOCAL. Less than the
#: user's own ``statement_timeout``: a lock that is not available must not look like a statement
#: that takes long by itself. Ours never idle: a process that stands still, or whose machine is
#: down, must not keep its locks. ``array`` needs ``array_nulls``, which a database may have off.
SET_LOCK_TIMEOUT = """
SELECT set_config('lock_timeout', greatest(1, least(%s::float8,
        0.9e3 * nullif(extract(epoch FROM current_setting('statement_timeout')::interval), 0)
    ))::int::text, true),
    set_config('idle_in_transaction_session_timeout', '60s', true),
    set_config('array_nulls', 'on', true)
"""

SET_READ_ONLY = "SET TRANSACTION READ ONLY"

#: Parameter: a time with its unit, such as 3000ms. True: until the end of the transaction.
SET_STATEMENT_TIMEOUT = "SELECT set_config('statement_timeout', %s, true)"

#: NO KEY: other programs' foreign keys to the table go on working while a page is applied. Some of
#: them write '' for no link.
LOAD_ORGANIZATIONS = f"""
SELECT id, name, nullif(workos_id, ''), {believable("workos_updated_at")},
    workos_last_event_id, disabled_at IS NOT NULL, workos_deleted_at IS NOT NULL
FROM organization_metadata
WHERE workos_id = ANY(%s::text[]) OR id = ANY(%s::text[])
"""  # noqa: S608 - put together from constants

LOCK_ORGANIZATIONS = f"{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"

#: What a comparison row by row would find nothing in. Byte for byte, as Python compares: a column's
#: own collation may hold two names for one.
ORGANIZATIONS_IN_SYNC = """
SELECT o.workos_id
FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[])
    AS listed (workos_id, external_id, name, updated_at)
JOIN organization_metadata AS o ON o.workos_id = listed.workos_id
WHERE o.id COLLATE "C" = listed.external_id AND o.name COLLATE "C" = listed.name
    AND o.workos_id COLLATE "C" = listed.workos_id
    AND o.disabled_at IS NULL AND o.workos_deleted_at IS NULL
    AND (o.workos_updated_at IS NULL OR o.workos_updated_at <= listed.updated_at)
    AND NOT EXISTS (
        SELECT FROM workos_external_id_write_back AS w WHERE w.organization_id = o.id
    )
    AND NOT EXISTS (
        SELECT FROM workos_conflict AS c WHERE c.workos_organization_id = o.workos_id
    )
"""

LINKED = "SELECT workos_id FROM organization_metadata WHERE workos_id = ANY(%s::text[])"

#: Deletions that the stream brought.
KNOWN_DELETIONS = """
SELECT workos_organization_id, id FROM workos_event
WHERE workos_organization_id = ANY(%s::text[]) AND type = 'organization.deleted'
    AND outcome IN ('disabled', 'unknown', 'stale')
"""

PENDING_WRITE_BACKS = """
SELECT w.organization_id, w.workos_id, w.next_attempt_at IS NULL, w.last_error
FROM workos_external_id_write_back AS w
JOIN organization_metadata AS o ON o.id = w.organization_id
WHERE o.workos_id = ANY(%s::text[]) OR o.id = ANY(%s::text[])
"""

CONFLICTS_OF = """
SELECT workos_organization_id FROM workos_conflict WHERE workos_organization_id = ANY(%s::text[])
"""

#: A conflict that changes is a new one for the person who had acknowledged it.
STORE_CONFLICTS = """
INSERT INTO workos_conflict AS c (workos_organization_id, organization_id, kind, reason)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT (workos_organization_id) DO UPDATE
SET organization_id = excluded.organization_id, kind = excluded.kind, reason = excluded.reason,
    last_seen_at = clock_timestamp(),
    acknowledged_at = CASE WHEN (c.kind, c.reason) = (excluded.kind, excluded.reason)
        THEN c.acknowledged_at END
RETURNING workos_organization_id, xmax = 0
"""

REMOVE_CONFLICTS = """
DELETE FROM workos_conflict WHERE workos_organization_id = ANY(%s::text[])
"""

#: In the order of the hashes. Writers outside the sync don't take these locks: their race ends in
#: a unique violation, and the page is resolved again.
LOCK_SLUGS = """
SELECT pg_advisory_xact_lock(slug_hash) FROM (
    SELECT DISTINCT hashtext(base) AS slug_hash FROM unnest(%s::text[]) AS base ORDER BY 1
) AS hashes
"""

TAKEN_SLUGS = "SELECT slug FROM organization_metadata WHERE slug = ANY(%s::text[])"

#: Links that move to another row in the same page are cleared first: a unique index is checked
#: row by row, not at the end of the statement.
UNLINK_ORGANIZATIONS = """
UPDATE organization_metadata SET workos_id = NULL WHERE id = ANY(%s::text[]) RETURNING id
"""

UNDELETE_ORGANIZATIONS = """
UPDATE organization_metadata SET workos_deleted_at = NULL WHERE id = ANY(%s::text[]) RETURNING id
"""

_UPDATE = """
UPDATE organization_metadata AS o
SET name = new.name, workos_id = new.workos_id, workos_updated_at = new.workos_updated_at,
    workos_last_event_id = new.workos_last_event_id, updated_at = clock_timestamp()"""

#: What a trigger may have changed of what was written.
_RETURNING = """
RETURNING o.id, o.name, o.workos_id, o.disabled_at IS NOT NULL, o.workos_deleted_at IS NOT NULL
"""

UPDATE_ORGANIZATIONS = f"""{_UPDATE}
FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
    AS new (id, name, workos_id, workos_updated_at, workos_last_event_id)
WHERE o.id = new.id {_RETURNING}
"""

DISABLE_ORGANIZATIONS = f"""{_UPDATE},
    disabled_at = coalesce(o.disabled_at, clock_timestamp()),
    workos_deleted_at =
        CASE WHEN new.deleted THEN coalesce(o.workos_deleted_at, clock_timestamp()) END
FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::boolean[])
    AS new (id, name, workos_id, workos_updated_at, workos_last_event_id, deleted)
WHERE o.id = new.id {_RETURNING}
"""

#: By a person's decision; the link and what WorkOS owns stay as they are.
DISABLE_HERE, ENABLE_HERE = (
    f"""
UPDATE organization_metadata SET disabled_at = {new}, updated_at = clock_timestamp()
WHERE id IN (
    SELECT id FROM organization_metadata
    WHERE id = ANY(%s::text[]) AND disabled_at {before} ORDER BY id FOR NO KEY UPDATE
)
RETURNING id, workos_id
"""  # noqa: S608 - put together from constants
    for new, before in (("clock_timestamp()", "IS NULL"), ("NULL", "IS NOT NULL"))
)

#: NULL while the resource is not covered: then nobody knows. ``linked`` is the older ``status`` of
#: an active connection, and the state of an active directory in lists.
_SSO = """
CASE WHEN cursor.covered ? 'connection' THEN EXISTS (
    SELECT FROM workos_connection AS c
    WHERE c.workos_organization_id = new.workos_id AND c.state IN ('active', 'linked')
        AND c.deleted_at IS NULL
) END
"""
_SCIM = """
CASE WHEN cursor.covered ? 'directory' THEN EXISTS (
    SELECT FROM workos_directory AS d
    WHERE d.workos_organization_id = new.workos_id AND d.state IN ('active', 'linked')
        AND d.deleted_at IS NULL
) END
"""

#: With the derived columns, or each new row would be written twice.
INSERT_ORGANIZATIONS = f"""
INSERT INTO organization_metadata AS o
    (id, slug, name, workos_id, workos_updated_at, workos_last_event_id, disabled_at,
     workos_deleted_at, sso_enabled, scim_enabled)
SELECT id, slug, name, workos_id, workos_updated_at, workos_last_event_id,
    CASE WHEN disabled THEN clock_timestamp() END, CASE WHEN deleted THEN clock_timestamp() END,
    {_SSO}, {_SCIM}
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[],
    %s::boolean[], %s::boolean[])
    AS new (id, slug, name, workos_id, workos_updated_at, workos_last_event_id, disabled, deleted)
LEFT JOIN workos_sync_cursor AS cursor ON cursor.stream = 'organizations' {_RETURNING}
"""  # noqa: S608 - put together from constants

#: Returns those that are still wrong: a trigger or a policy changed them, or left them out.
DERIVE_ENABLED = f"""
WITH derived AS (
    SELECT new.workos_id, {_SSO} AS sso, {_SCIM} AS scim
    FROM unnest(%s::text[]) AS new (workos_id)
    JOIN workos_sync_cursor AS cursor ON cursor.stream = 'organizations'
), wrong AS (
    SELECT derived.* FROM derived JOIN organization_metadata USING (workos_id)
    WHERE (sso_enabled, scim_enabled) IS DISTINCT FROM (sso, scim)
), written AS (
    UPDATE organization_metadata AS o SET sso_enabled = sso, scim_enabled = scim
    FROM wrong WHERE o.workos_id = wrong.workos_id
    RETURNING o.workos_id, sso_enabled, scim_enabled
)
SELECT * FROM wrong EXCEPT SELECT * FROM written
"""  # noqa: S608 - put together from constants

#: After a WorkOS id, so many, of these organizations; NULL: of all.
WRONG_DERIVED = f"""
SELECT id, workos_id, sso_enabled, sso, scim_enabled, scim
FROM (
    SELECT new.id, new.workos_id, sso_enabled, {_SSO} AS sso, scim_enabled, {_SCIM} AS scim
    FROM organization_metadata AS new
    JOIN workos_sync_cursor AS cursor ON cursor.stream = 'organizations'
    WHERE new.workos_id > %s AND (%s::text[] IS NULL OR new.workos_id = ANY(%s::text[]))
) AS derived
WHERE (sso_enabled, scim_enabled) IS DISTINCT FROM (sso, scim)
ORDER BY workos_id LIMIT %s
"""  # noqa: S608 - put together from constants

#: The first outcome of an event stays, unless it was parked, or ignored by a process that does not
#: follow its resource.
RECORD_EVENTS = """
INSERT INTO workos_event AS e
    (id, type, resource, object_key, workos_organization_id, organization_id, occurred_at, outcome,
     error, payload, processed_at)
SELECT *, clock_timestamp()
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::timestamptz[], %s::text[], %s::text[], %s::text[])
ON CONFLICT (id) DO UPDATE
SET type = excluded.type, resource = excluded.resource, object_key = excluded.object_key,
    workos_organization_id = excluded.workos_organization_id,
    organization_id = excluded.organization_id, occurred_at = excluded.occurred_at,
    outcome = excluded.outcome, error = excluded.error, payload = excluded.payload,
    processed_at = excluded.processed_at
WHERE e.outcome IS NULL OR (e.outcome IN ('parked', 'ignored') AND excluded.outcome <> e.outcome)
RETURNING e.id
"""

#: What became of one event that was parked, or announced and never listed. A parked event keeps its
#: payload while it stays parked: that is what a person has to understand.
RESOLVE_EVENT = """
UPDATE workos_event
SET outcome = %s, organization_id = %s, error = %s, processed_at = clock_timestamp(),
    payload = CASE WHEN %s = 'parked' THEN coalesce(payload, %s) END
WHERE id = %s
    AND (outcome = 'parked' OR (announced_at IS NOT NULL AND processed_at IS NULL))
RETURNING id
"""

#: How many other objects' events PostgreSQL has refused with one code since it last accepted one
#: that writes a row. Not by a time in the future, which a clock that was wrong left behind.
REFUSED_BEFORE = """
SELECT count(DISTINCT (resource, object_key)) FROM workos_event
WHERE outcome = 'parked' AND starts_with(error, %s) AND object_key <> %s
    AND processed_at <= statement_timestamp() AND processed_at > coalesce((
        SELECT processed_at FROM workos_event
        WHERE processed_at <= statement_timestamp()
            AND outcome IN ('created', 'linked', 'relinked', 'updated', 'disabled', 'deleted')
        ORDER BY processed_at DESC LIMIT 1
    ), '-infinity')
"""

#: The same of those that the ledger has refused since it last took one.
LEFT_OUT_BEFORE = """
SELECT count(*) FROM workos_conflict
WHERE kind = 'ledger_refused' AND workos_organization_id <> %s
    AND last_seen_at > coalesce((
        SELECT max(processed_at) FROM workos_event WHERE processed_at <= statement_timestamp()
    ), '-infinity')
"""

#: A repeated request is as old as the pending one, and goes on with its attempts: how long WorkOS
#: has not taken the id must stay visible. It keeps the pause too, unless it is to be tried at once
#: (the third parameter). If that one waits for a person, the cause may have ended; if it is due in
#: more than an hour, a clock was wrong: it is tried now. One for another organization begins anew.
#: By ``requests``, an answer to the one before is outdated.
REQUEST_WRITE_BACKS = """
INSERT INTO workos_external_id_write_back AS w (organization_id, workos_id)
SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT (organization_id) DO UPDATE
SET workos_id = excluded.workos_id, requests = w.requests + 1,
    next_attempt_at = CASE WHEN w.workos_id = excluded.workos_id AND NOT %s
        AND w.next_attempt_at < clock_timestamp() + interval '1 hour' THEN w.next_attempt_at
        ELSE clock_timestamp() END,
    requested_at = CASE w.workos_id WHEN excluded.workos_id THEN w.requested_at
        ELSE clock_timestamp() END,
    attempts = CASE w.workos_id WHEN excluded.workos_id THEN w.attempts ELSE 0 END,
    last_error = CASE w.workos_id WHEN excluded.workos_id THEN w.last_error ELSE '' END
RETURNING organization_id
"""

WITHDRAW_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back WHERE organization_id = ANY(%s::text[])
"""

#: Returns a row if, and only if, this is the event's first webhook; true if it is still unseen.
ANNOUNCE_EVENT = """
INSERT INTO workos_event AS e
    (id, type, resource, object_key, workos_organization_id, announced_at)
VALUES (%s, %s, %s, %s, %s, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET announced_at = clock_timestamp() WHERE e.announced_at IS NULL
RETURNING processed_at IS NULL
"""
