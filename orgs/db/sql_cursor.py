"""The statements about the cursor's row and its leases, by name."""

from orgs.db.sql import readable

CREATE_CURSOR = """
INSERT INTO workos_sync_cursor (stream) VALUES (%s) ON CONFLICT (stream) DO NOTHING
"""

#: With the database's time now: every stored time is compared with it.
CURSOR_STATE = f"""
SELECT last_event_id, {readable("last_event_at")}, {readable("drained_at")}, clock_timestamp(),
    {readable("failing_since")}, event_types, covered, refused_types, progress, listed_at
FROM workos_sync_cursor WHERE stream = %s
"""  # noqa: S608 - all of it is here

_PLACE = f"""
SELECT last_event_id, {readable("last_event_at")}, event_types FROM workos_sync_cursor
WHERE stream = %s
"""  # noqa: S608 - same

LOCK_CURSOR = f"{_PLACE} FOR NO KEY UPDATE"

#: Several may hold it, and the stream does not go on meanwhile.
SHARE_CURSOR = f"{_PLACE} FOR SHARE"

#: Only a read that reached the end moves ``drained_at``: the fourth parameter is how many seconds
#: ago it began.
MOVE_CURSOR = """
UPDATE workos_sync_cursor
SET last_event_id = %s, last_event_at = %s, failures = 0, failing_since = NULL, last_trouble = '',
    last_error = '', drained_at = CASE WHEN %s::float8 IS NULL THEN drained_at
        ELSE clock_timestamp() - make_interval(secs => %s::float8) END
WHERE stream = %s
RETURNING true
"""

#: If the cursor still stands where the read began that found nothing after it.
NOTE_DRAINED = f"""
UPDATE workos_sync_cursor
SET failures = 0, failing_since = NULL, last_trouble = '', last_error = '',
    drained_at = clock_timestamp() - make_interval(secs => %s::float8)
WHERE stream = %s AND last_event_id IS NOT DISTINCT FROM %s
    AND {readable("last_event_at")} IS NOT DISTINCT FROM %s
"""  # noqa: S608 - all of it is here

NOTE_FAILURE = """
UPDATE workos_sync_cursor AS c
SET failures = c.failures + 1, failing_since = coalesce(c.failing_since, clock_timestamp()),
    last_trouble = %s, last_error = %s
FROM (
    SELECT stream, last_trouble FROM workos_sync_cursor WHERE stream = %s FOR NO KEY UPDATE
) AS before
WHERE c.stream = before.stream
RETURNING c.failures, before.last_trouble <> c.last_trouble
"""

#: From a position that WorkOS no longer knows, to a time: the earlier of WorkOS's clock, if it is
#: known, and the database's, at the beginning of the snapshot, less the overlap in seconds.
REPLACE_LOST = f"""
UPDATE workos_sync_cursor
SET failures = 0, failing_since = NULL, last_trouble = '', last_error = '', last_event_id = NULL,
    last_event_at = least(%(began_at)s::timestamptz, %(workos_date)s::timestamptz)
        - make_interval(secs => %(overlap)s::float8),
    drained_at = %(began_at)s
WHERE stream = %(stream)s AND last_event_id IS NOT DISTINCT FROM %(last_event_id)s
    AND {readable("last_event_at")} IS NOT DISTINCT FROM %(last_event_at)s
RETURNING last_event_at
"""  # noqa: S608 - same

#: Which types of events are read from now on, which resources are covered, which types are refused,
#: and since when those resources are not covered that the fourth parameter names.
FOLLOW = """
UPDATE workos_sync_cursor
SET event_types = %s::jsonb, covered = %s::jsonb, refused_types = %s::jsonb,
    listed_at = CASE jsonb_typeof(listed_at) WHEN 'object' THEN listed_at ELSE '{}' END
        || jsonb_build_object('uncovered', (
            SELECT coalesce(jsonb_object_agg(name, coalesce(
                listed_at #> ARRAY['uncovered', name], to_jsonb(clock_timestamp()))), '{}')
            FROM unnest(%s::text[]) AS name
        ))
WHERE stream = %s AND event_types IS NOT DISTINCT FROM %s::jsonb
    AND covered IS NOT DISTINCT FROM %s::jsonb
RETURNING true
"""

NOTE_LISTED = """
UPDATE workos_sync_cursor
SET listed_at = CASE jsonb_typeof(listed_at) WHEN 'object' THEN listed_at ELSE '{}' END
    || jsonb_build_object(%s::text, clock_timestamp())
WHERE stream = %s
"""

#: A scope of NULL: there is nothing to go on with.
NOTE_PROGRESS = """
UPDATE workos_sync_cursor
SET progress = CASE jsonb_typeof(progress) WHEN 'object' THEN progress ELSE '{}' END
    - %s::text || jsonb_strip_nulls(jsonb_build_object(%s::text, %s::text))
WHERE stream = %s
"""

#: A time ahead of the database's clock, left behind by a clock that was wrong.
RESET_FUTURE_DRAIN = """
UPDATE workos_sync_cursor SET drained_at = NULL
WHERE stream = %s AND drained_at > clock_timestamp() + interval '1 minute'
"""

NOTE_RECONCILED = """
UPDATE workos_sync_cursor
SET reconciled_at = %s, last_drift = %s, last_changes = %s::jsonb, last_failed = 0,
    snapshot_trouble = '', snapshot_error_kind = ''
WHERE stream = %s
"""

NOTE_INCOMPLETE = """
UPDATE workos_sync_cursor
SET last_failed = %s, snapshot_error_kind = %s,
    snapshot_trouble = to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
        || ' UTC: ' || %s
WHERE stream = %s
"""

#: One conditional UPDATE by the database's clock, so that clocks of machines don't matter. None of
#: ours lasts an hour: one that ends later was acquired while that clock was wrong.
ACQUIRE_LEASE = """
UPDATE workos_sync_cursor
SET {lease} = clock_timestamp() + make_interval(secs => %s)
WHERE stream = %s AND ({lease} IS NULL OR {lease} <= clock_timestamp()
    OR {lease} > clock_timestamp() + interval '1 hour')
RETURNING {lease}
"""

EXPECTED_DRAIN = """
SELECT true FROM workos_sync_cursor
WHERE stream = %s AND (
    draining_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour'
    OR rung_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour'
)
"""

CLEAR_ENQUEUED = """
UPDATE workos_sync_cursor SET rung_until = NULL WHERE stream = %s AND rung_until IS NOT NULL
"""

RENEW_LEASE = """
UPDATE workos_sync_cursor
SET {lease} = clock_timestamp() + make_interval(secs => %s)
WHERE stream = %s AND {lease} = %s
RETURNING {lease}
"""

#: Only the caller's own: a process that was too late must not end another's.
RELEASE_LEASE = """
UPDATE workos_sync_cursor SET {lease} = NULL WHERE stream = %s AND {lease} = %s
"""
