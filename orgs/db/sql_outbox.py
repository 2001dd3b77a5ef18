"""The statements that work off the outbox, by name."""

#: Rows that another worker is claiming right now are left to it. The link may have been moved by
#: another program since: the id is written to the organization that is linked now.
#: When it was requested is text: it may be a time that Python can't hold.
CLAIM_WRITE_BACKS = """
UPDATE workos_external_id_write_back AS w
SET attempts = w.attempts + 1, next_attempt_at = clock_timestamp() + make_interval(secs => %s),
    workos_id = due.linked_to
FROM (
    SELECT w.organization_id, o.workos_id AS linked_to
    FROM workos_external_id_write_back AS w
    JOIN organization_metadata AS o ON o.id = w.organization_id AND o.workos_id IS NOT NULL
    WHERE w.next_attempt_at <= %s
        AND (%s::text[] IS NULL OR w.organization_id = ANY(%s::text[]))
    ORDER BY w.next_attempt_at LIMIT %s FOR UPDATE OF w SKIP LOCKED
) AS due
WHERE w.organization_id = due.organization_id
RETURNING w.organization_id, w.workos_id, w.requested_at::text, w.attempts
"""

#: Another program has removed the link: there is nothing to write back.
FORGET_UNLINKED_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back WHERE organization_id IN (
    SELECT w.organization_id FROM workos_external_id_write_back AS w
    JOIN organization_metadata AS o ON o.id = w.organization_id AND o.workos_id IS NULL
    WHERE w.next_attempt_at <= %s OR w.next_attempt_at IS NULL FOR UPDATE OF w SKIP LOCKED
)
"""

LOCK_FREE_WRITE_BACKS = """
SELECT organization_id FROM workos_external_id_write_back
WHERE organization_id = ANY(%s::text[]) FOR UPDATE SKIP LOCKED
"""

#: Only the request that was claimed: a newer one for the same row stays.
CONFIRM_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back AS w
USING unnest(%s::text[], %s::timestamptz[]) AS done (organization_id, requested_at)
WHERE w.organization_id = done.organization_id AND w.requested_at = done.requested_at
"""

#: There was no time to try them: as if they had not been claimed, but due now.
RETURN_WRITE_BACKS = """
UPDATE workos_external_id_write_back AS w
SET next_attempt_at = clock_timestamp(), attempts = w.attempts - 1
FROM unnest(%s::text[], %s::timestamptz[]) AS untried (organization_id, requested_at)
WHERE w.organization_id = untried.organization_id AND w.requested_at = untried.requested_at
"""

#: A delay of NULL is a conflict: no next attempt, it waits for a person.
POSTPONE_WRITE_BACKS = """
UPDATE workos_external_id_write_back AS w
SET next_attempt_at = clock_timestamp() + make_interval(secs => failed.delay),
    last_error = failed.error
FROM unnest(%s::text[], %s::timestamptz[], %s::float8[], %s::text[])
    AS failed (organization_id, requested_at, delay, error)
WHERE w.organization_id = failed.organization_id AND w.requested_at = failed.requested_at
"""

#: Conflicts too. In id order, as everybody locks rows.
RETRY_WRITE_BACKS = """
UPDATE workos_external_id_write_back SET next_attempt_at = clock_timestamp(), attempts = 0
WHERE organization_id IN (
    SELECT organization_id FROM workos_external_id_write_back
    WHERE organization_id = ANY(%s::text[]) ORDER BY organization_id FOR UPDATE
)
RETURNING organization_id
"""

#: WorkOS does not know the organization any more, and its row is disabled already: no deletion will
#: come that takes the request along, and nothing can ever confirm it.
FORGET_DELETED_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back AS w
USING unnest(%s::text[], %s::timestamptz[]) AS missing (organization_id, requested_at),
    organization_metadata AS o
WHERE w.organization_id = missing.organization_id AND w.requested_at = missing.requested_at
    AND o.id = w.organization_id AND o.disabled_at IS NOT NULL
"""
