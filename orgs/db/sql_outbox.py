"""The statements that work off the outbox, by name.

A claim is for a request as it was then: by when it was requested, and how often since. An answer to
it counts as long as both are the same.
"""

#: Rows that another worker is claiming right now are left to it. What is linked is looked at again
#: by the next statement: only what it sees is as new as the rows that are locked here.
LOCK_DUE_WRITE_BACKS = """
SELECT w.organization_id FROM workos_external_id_write_back AS w
JOIN organization_metadata AS o ON o.id = w.organization_id AND o.workos_id > ''
WHERE w.next_attempt_at <= %s AND w.organization_id <> ALL(%s::text[])
    AND (%s::text[] IS NULL OR w.organization_id = ANY(%s::text[]))
ORDER BY w.next_attempt_at LIMIT %s FOR UPDATE OF w SKIP LOCKED
"""

#: The link may have been moved by another program since it was requested: the id is written to the
#: organization that is linked now. When it was requested is text: it may be a time that Python
#: can't hold. Returns also those that a trigger or a policy left out, without it.
CLAIM_WRITE_BACKS = """
WITH due AS (
    SELECT w.organization_id, o.workos_id AS linked_to
    FROM workos_external_id_write_back AS w
    JOIN organization_metadata AS o ON o.id = w.organization_id AND o.workos_id > ''
    WHERE w.organization_id = ANY(%s::text[])
), claimed AS (
    UPDATE workos_external_id_write_back AS w
    SET attempts = w.attempts + 1, workos_id = due.linked_to,
        next_attempt_at = clock_timestamp() + make_interval(secs => %s)
    FROM due WHERE w.organization_id = due.organization_id
    RETURNING w.organization_id, w.requested_at::text AS requested_at, w.requests, w.attempts
)
SELECT organization_id, due.linked_to, claimed.requested_at, claimed.requests, claimed.attempts
FROM due LEFT JOIN claimed USING (organization_id)
"""

LOCK_UNLINKED_WRITE_BACKS = """
SELECT w.organization_id FROM workos_external_id_write_back AS w
JOIN organization_metadata AS o ON o.id = w.organization_id AND coalesce(o.workos_id, '') = ''
WHERE (w.next_attempt_at <= %s OR w.next_attempt_at IS NULL)
    AND (%s::text[] IS NULL OR w.organization_id = ANY(%s::text[]))
FOR UPDATE OF w SKIP LOCKED
"""

#: Another program has removed the link: there is nothing to write back. Returns those that a
#: trigger or a policy left out.
FORGET_UNLINKED_WRITE_BACKS = """
WITH unlinked AS (
    SELECT w.organization_id FROM workos_external_id_write_back AS w
    JOIN organization_metadata AS o ON o.id = w.organization_id AND coalesce(o.workos_id, '') = ''
    WHERE w.organization_id = ANY(%s::text[])
), forgotten AS (
    DELETE FROM workos_external_id_write_back AS w USING unlinked
    WHERE w.organization_id = unlinked.organization_id RETURNING w.organization_id
)
SELECT organization_id FROM unlinked EXCEPT SELECT organization_id FROM forgotten
"""

LOCK_FREE_WRITE_BACKS = """
SELECT organization_id FROM workos_external_id_write_back
WHERE organization_id = ANY(%s::text[]) FOR UPDATE SKIP LOCKED
"""

#: Only the request that was claimed: one that was repeated since stays.
CONFIRM_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back AS w
USING unnest(%s::text[], %s::timestamptz[], %s::integer[])
    AS done (organization_id, requested_at, requests)
WHERE w.organization_id = done.organization_id
    AND (w.requested_at, w.requests) = (done.requested_at, done.requests)
"""

#: Those that are still as they were claimed. Of the confirmed: a trigger or a policy keeps them.
KEPT_WRITE_BACKS = """
SELECT w.organization_id FROM workos_external_id_write_back AS w
JOIN unnest(%s::text[], %s::timestamptz[], %s::integer[])
    AS done (organization_id, requested_at, requests) USING (organization_id)
WHERE (w.requested_at, w.requests) = (done.requested_at, done.requests)
"""

#: There was no time to try them, or they were repeated while WorkOS answered: as if they had not
#: been claimed, but due now.
RETURN_WRITE_BACKS = """
UPDATE workos_external_id_write_back AS w
SET next_attempt_at = clock_timestamp(), attempts = greatest(w.attempts - 1, 0)
FROM unnest(%s::text[], %s::timestamptz[]) AS returned (organization_id, requested_at)
WHERE w.organization_id = returned.organization_id AND w.requested_at = returned.requested_at
"""

#: A delay of NULL is a conflict: no next attempt, it waits for a person.
POSTPONE_WRITE_BACKS = """
UPDATE workos_external_id_write_back AS w
SET next_attempt_at = clock_timestamp() + make_interval(secs => failed.delay),
    last_error = failed.error
FROM unnest(%s::text[], %s::timestamptz[], %s::integer[], %s::float8[], %s::text[])
    AS failed (organization_id, requested_at, requests, delay, error)
WHERE w.organization_id = failed.organization_id
    AND (w.requested_at, w.requests) = (failed.requested_at, failed.requests)
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

#: WorkOS does not know the organization any more, and its deletion is confirmed already: none will
#: come that takes the request along, and nothing can ever confirm it. The 404 alone proves nothing.
FORGET_DELETED_WRITE_BACKS = """
DELETE FROM workos_external_id_write_back AS w
USING unnest(%s::text[], %s::timestamptz[], %s::integer[])
    AS missing (organization_id, requested_at, requests), organization_metadata AS o
WHERE w.organization_id = missing.organization_id
    AND (w.requested_at, w.requests) = (missing.requested_at, missing.requests)
    AND o.id = w.organization_id AND o.workos_deleted_at IS NOT NULL
"""
