"""The statements about the cursor's row and its leases, by name."""

from orgs.db.sql import readable

CREATE_CURSOR = """
INSERT INTO workos_sync_cursor (stream) VALUES ('organizations') ON CONFLICT (stream) DO NOTHING
"""

#: With the database's time now: every stored time is compared with it.
CURSOR_STATE = f"""
SELECT last_event_id, {readable("last_event_at")}, {readable("drained_at")}, clock_timestamp(),
    {readable("failing_since")}, snapshot_error_kind = 'wrong_environment',
    event_types, covered, refused_types, progress, listed_at, listed_at -> 'uncovered'
FROM workos_sync_cursor WHERE stream = 'organizations'
"""  # noqa: S608 - all of it is here

LOCK_CURSOR = f"{CURSOR_STATE} FOR NO KEY UPDATE"

_NO_FAILURE = "failures = 0, failing_since = NULL, last_trouble = '', last_error = ''"

#: The third parameter is how many seconds ago the read began that reached the end; NULL: it did
#: not, and ``drained_at`` stays.
MOVE_CURSOR = f"""
UPDATE workos_sync_cursor
SET last_event_id = %s, last_event_at = %s, {_NO_FAILURE},
    drained_at = coalesce(clock_timestamp() - make_interval(secs => %s), drained_at)
WHERE stream = 'organizations'
RETURNING true
"""  # noqa: S608 - put together from constants

NOTE_FAILURE = """
UPDATE workos_sync_cursor AS c
SET failures = c.failures + 1, failing_since = coalesce(c.failing_since, clock_timestamp()),
    last_trouble = %s, last_error = %s
FROM (
    SELECT last_trouble FROM workos_sync_cursor WHERE stream = 'organizations' FOR NO KEY UPDATE
) AS before
WHERE c.stream = 'organizations'
RETURNING c.failures, before.last_trouble <> c.last_trouble
"""

#: Sets since when those resources are not covered that the parameter names: ``{since}`` of each.
#: What derives from them is to be derived again. Written by hand, the column may be no object.
_UNCOVER = """
    listed_at = CASE jsonb_typeof(listed_at) WHEN 'object' THEN listed_at ELSE '{{}}' END
        - 'derived' || jsonb_build_object('uncovered', (
        SELECT coalesce(jsonb_object_agg(name, {since}), '{{}}')
        FROM unnest(%s::text[]) AS name
    ))
"""

#: From a position that WorkOS no longer knows, to a time: the earlier of WorkOS's clock, if it is
#: known, and the database's, at the beginning of the snapshot, less the overlap in seconds. Then
#: when the stream was last drained, which resources are covered all the same, and which are not.
REPLACE_LOST = f"""
UPDATE workos_sync_cursor SET {_NO_FAILURE}, last_event_id = NULL,
    last_event_at = least(%s::timestamptz, %s::timestamptz) - make_interval(secs => %s),
    drained_at = %s, covered = %s::jsonb, {_UNCOVER.format(since="clock_timestamp()")}
WHERE stream = 'organizations'
RETURNING last_event_at
"""  # noqa: S608 - put together from constants

_SINCE = "coalesce(listed_at #> ARRAY['uncovered', name], to_jsonb(clock_timestamp()))"

#: Which types of events are read from now on, which resources are covered, which types are refused,
#: and since when those resources are not covered that the fourth parameter names.
FOLLOW = f"""
UPDATE workos_sync_cursor
SET event_types = %s::jsonb, covered = %s::jsonb, refused_types = %s::jsonb,
    {_UNCOVER.format(since=_SINCE)}
WHERE stream = 'organizations'
RETURNING true
"""  # noqa: S608 - put together from constants

#: Sets a key of a JSON object, or removes it if the value is NULL. It too may be no object.
_SET_KEY = """
UPDATE workos_sync_cursor
SET {column} = CASE jsonb_typeof({column}) WHEN 'object' THEN {column} ELSE '{{}}' END
    - %s::text || jsonb_strip_nulls(jsonb_build_object(%s::text, {value}))
WHERE stream = 'organizations'
"""
NOTE_LISTED = _SET_KEY.format(column="listed_at", value="clock_timestamp()")
NOTE_PROGRESS = _SET_KEY.format(column="progress", value="%s::text")

#: A time ahead of the database's clock, left behind by a clock that was wrong.
RESET_FUTURE_DRAIN = """
UPDATE workos_sync_cursor SET drained_at = NULL
WHERE stream = 'organizations' AND drained_at > clock_timestamp() + interval '1 minute'
"""

#: No lease of ours lasts an hour: one that ends later was acquired while a clock was wrong.
_IS_FREE = """
    ({lease} BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 hour') IS NOT TRUE
"""

#: One conditional UPDATE by the database's clock, so that clocks of machines don't matter.
ACQUIRE_LEASE = f"""
UPDATE workos_sync_cursor SET {{lease}} = clock_timestamp() + make_interval(secs => %s)
WHERE stream = 'organizations' AND {_IS_FREE}
RETURNING {{lease}}
"""  # noqa: S608 - put together from constants

#: Unless a drain waits, or is enqueued: then the row's lock is not waited for either.
NOTE_ENQUEUED = f"""
WITH noted AS (
    UPDATE workos_sync_cursor SET rung_until = clock_timestamp() + make_interval(secs => %s)
    WHERE stream = 'organizations'
        AND {_IS_FREE.format(lease="draining_until")} AND {_IS_FREE.format(lease="rung_until")}
    RETURNING true
), created AS (
    INSERT INTO workos_sync_cursor (stream, rung_until)
    SELECT 'organizations', clock_timestamp() + make_interval(secs => %s)
    WHERE NOT EXISTS (SELECT FROM workos_sync_cursor WHERE stream = 'organizations')
    ON CONFLICT (stream) DO NOTHING RETURNING true
)
SELECT * FROM noted UNION ALL SELECT * FROM created
"""  # noqa: S608 - put together from constants

CLEAR_ENQUEUED = """
UPDATE workos_sync_cursor SET rung_until = NULL
WHERE stream = 'organizations' AND rung_until IS NOT NULL
"""

RENEW_LEASE = """
UPDATE workos_sync_cursor SET {lease} = clock_timestamp() + make_interval(secs => %s)
WHERE stream = 'organizations' AND {lease} = %s
RETURNING {lease}
"""

#: Only the caller's own: a process that was too late must not end another's.
RELEASE_LEASE = """
UPDATE workos_sync_cursor SET {lease} = NULL WHERE stream = 'organizations' AND {lease} = %s
"""
