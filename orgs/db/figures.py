"""Reads the figures of the status from the tables, in two statements.

Rows may hold any value that their columns allow. A time that Python can't hold (infinity, a year of
five digits) is read as the first or the last that it can.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from orgs.db.cursor import parsed_json
from orgs.db.sql import readable
from orgs.domain import figures
from orgs.domain.resources import event_types, parse_time
from orgs.domain.status import LONGEST_WRITE_BACK
from orgs.models import ORGANIZATIONS_STREAM

#: The times in STATUS; each is read as one that Python can hold.
_TIMES: Final = (
    *("drained_at", "last_event_at", "reconciled_at", "failing_since", "worker_started_at"),
    *("announced_since", "parked_since", "write_backs_since", "write_back_conflicts_since"),
    *("conflicts_since", "disabled_here_since", "refused_since", "last_refused_at"),
)
#: No lease of ours lasts an hour: a clock was wrong if it seems to.
_SOON: Final = "BETWEEN statement_timestamp() AND statement_timestamp() + interval '1 hour'"
_UNDECIDED: Final = "next_attempt_at IS NULL AND acknowledged_at IS NULL"
_LIVE: Final = "workos_id > '' AND workos_deleted_at IS NULL"

#: One row, whose columns are named as the figures are. Each part names the condition of a partial
#: index, or reads a table once. ``statement_timestamp()`` is one moment for all of it, and, unlike
#: ``clock_timestamp()``, can be looked up in an index.
STATUS: Final = f"""
SELECT statement_timestamp() AS at,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean
        AS is_read_only,
    {", ".join(f"{readable(name)} AS {name}" for name in _TIMES)},
    draining_until {_SOON} AS is_draining, reconciling_until {_SOON} AS is_reconciling,
    failures, last_trouble, last_error, last_drift, last_failed, snapshot_trouble,
    snapshot_error_kind, announced, overdue, parked, write_backs, write_backs_failing,
    write_back_conflicts, conflicts, conflicts_by_kind, linked, unlinked, disabled, disabled_here,
    refused_webhooks, (
        SELECT last_error FROM workos_external_id_write_back
        WHERE next_attempt_at IS NOT NULL AND last_error <> '' ORDER BY requested_at LIMIT 1
    ) AS write_back_error,
    event_types IS NOT NULL AS is_following, covered::text, refused_types::text,
    (listed_at -> 'uncovered')::text AS uncovered
FROM (
    SELECT count(*) AS announced, min(announced_at) AS announced_since,
        count(*) FILTER (WHERE announced_at NOT BETWEEN
            statement_timestamp() - make_interval(secs => %(window)s)
            AND statement_timestamp() + interval '1 minute'
            AND (listed_at -> 'uncovered' ? resource) IS NOT TRUE
        ) AS overdue
    FROM workos_event LEFT JOIN workos_sync_cursor ON stream = %(stream)s
    WHERE announced_at IS NOT NULL AND processed_at IS NULL
) AS unseen_events
CROSS JOIN (
    SELECT count(*) AS parked, min(processed_at) AS parked_since
    FROM workos_event WHERE outcome = 'parked'
) AS parked_events
CROSS JOIN (
    SELECT count(next_attempt_at) AS write_backs,
        min(requested_at) FILTER (WHERE next_attempt_at IS NOT NULL) AS write_backs_since,
        count(next_attempt_at) FILTER (WHERE requested_at <=
            statement_timestamp() - make_interval(secs => %(longest_write_back)s)
        ) AS write_backs_failing,
        count(*) FILTER (WHERE {_UNDECIDED}) AS write_back_conflicts,
        min(requested_at) FILTER (WHERE {_UNDECIDED}) AS write_back_conflicts_since
    FROM workos_external_id_write_back AS w
    LEFT JOIN workos_conflict AS c ON c.workos_organization_id = w.workos_id
) AS outbox
CROSS JOIN (
    SELECT sum(others)::bigint AS conflicts, min(since) AS conflicts_since,
        jsonb_object_agg(kind, undecided)::text AS conflicts_by_kind
    FROM (
        SELECT kind, count(*) AS undecided, count(*) FILTER (WHERE w.workos_id IS NULL) AS others,
            min(found_at) FILTER (WHERE w.workos_id IS NULL) AS since
        FROM workos_conflict AS c
        LEFT JOIN workos_external_id_write_back AS w
            ON w.workos_id = c.workos_organization_id AND w.next_attempt_at IS NULL
        WHERE acknowledged_at IS NULL GROUP BY kind
    ) AS kinds
) AS all_conflicts
CROSS JOIN (
    SELECT count(*) FILTER (WHERE disabled_at IS NULL AND workos_id > '') AS linked,
        count(*) FILTER (WHERE disabled_at IS NULL AND coalesce(workos_id, '') = '') AS unlinked,
        count(disabled_at) AS disabled, count(disabled_at) FILTER (WHERE {_LIVE}) AS disabled_here,
        min(disabled_at) FILTER (WHERE {_LIVE}) AS disabled_here_since
    FROM organization_metadata
) AS organizations
LEFT JOIN workos_sync_cursor AS cursors ON stream = %(stream)s
LEFT JOIN workos_request_budget AS budget ON budget.id = 1
"""  # noqa: S608 - of constants

#: For each hour and outcome, for each hour, and for all. An event that no webhook announced counts
#: as lost only if WorkOS created it in that time, so that the first drain of an old stream loses
#: none, and if the webhook had five minutes to come.
LAST_DAY: Final = """
SELECT hour, outcome, count(*) AS count,
    percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY latency) AS latencies,
    count(*) FILTER (WHERE is_announced) AS announced, count(*) FILTER (WHERE is_late) AS late,
    count(*) FILTER (WHERE is_lost) AS lost,
    count(*) FILTER (WHERE is_announced AND is_recent) AS recently_announced,
    count(*) FILTER (WHERE is_lost AND is_recent) AS recently_lost,
    coalesce(max(announced_at) FILTER (WHERE announced_at
            BETWEEN processed_at - interval '1 year' AND statement_timestamp()),
        min(occurred_at) FILTER (WHERE is_lost AND occurred_at <= statement_timestamp())
    ) AS unannounced_since
FROM (
    SELECT date_trunc('hour', processed_at, 'UTC') AS hour, outcome COLLATE "C" AS outcome,
        processed_at, announced_at, occurred_at,
        CASE WHEN announced_at BETWEEN processed_at - interval '1 year' AND processed_at
            AND outcome NOT IN ('parked', 'dismissed') THEN processed_at - announced_at
        END AS latency,
        announced_at IS NOT NULL AS is_announced, announced_at > processed_at AS is_late,
        announced_at IS NULL AND outcome <> 'ignored'
            AND processed_at <= statement_timestamp() - interval '5 minutes'
            AND occurred_at > statement_timestamp() - interval '1 day' AS is_lost,
        occurred_at > statement_timestamp() - interval '1 hour' AS is_recent
    FROM workos_event
    WHERE processed_at BETWEEN statement_timestamp() - interval '1 day' AND statement_timestamp()
    ORDER BY processed_at DESC LIMIT %s
) AS processed
GROUP BY GROUPING SETS ((hour, outcome), (hour), ()) ORDER BY hour, outcome
"""

#: Some programs grant columns and not tables. A DELETE is never of a column. Without USAGE on its
#: schema, a table is not found by its name. Of the search path, names with commas are not known.
#: Ids of tables that Django made before 4.1 take a sequence, whose grant an INSERT needs.
MISSING_GRANTS: Final = """
WITH needed (name, privilege) AS (SELECT * FROM unnest(%s::text[], %s::text[])),
searched AS (
    SELECT oid, nspname FROM pg_namespace WHERE nspname::text IN (
        SELECT replace(btrim(name, ' "'), '$user', current_user)
        FROM unnest(string_to_array(current_setting('search_path'), ',')) AS path (name)
    )
)
SELECT DISTINCT 'SCHEMA ' || quote_ident(nspname) AS name, 'USAGE' AS privilege
FROM needed JOIN pg_class ON relname = needed.name JOIN searched AS s ON s.oid = relnamespace
WHERE to_regclass(needed.name) IS NULL AND NOT has_schema_privilege(s.oid, 'USAGE')
UNION ALL
SELECT needed.name, privilege
FROM needed JOIN pg_class AS c ON c.oid = to_regclass(needed.name)
WHERE NOT CASE privilege
    WHEN 'DELETE' THEN has_table_privilege(c.oid, privilege)
    ELSE has_any_column_privilege(c.oid, privilege)
END
UNION ALL
SELECT 'SEQUENCE ' || sequence, 'USAGE'
FROM needed JOIN pg_attribute ON attrelid = to_regclass(needed.name) AND atthasdef
CROSS JOIN pg_get_serial_sequence(needed.name, attname::text) AS sequence
WHERE privilege = 'INSERT' AND NOT has_sequence_privilege(sequence, 'USAGE, UPDATE')
ORDER BY name, privilege
"""

#: The columns of Gram's table, and whether a unique index is on each alone; no rows without it.
ORGANIZATION_COLUMNS: Final = """
SELECT attname, EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = attrelid AND indisunique AND indisvalid
        AND indnkeyatts = 1 AND indkey[0] = attnum
        AND coalesce(pg_get_expr(indpred, i.indrelid) = format('(%I IS NOT NULL)', attname), true)
), (SELECT typcategory = 'S' FROM pg_type WHERE oid = atttypid)
FROM pg_attribute
WHERE attrelid = to_regclass('organization_metadata') AND attnum > 0 AND NOT attisdropped
"""


def read_status(*, window: timedelta, resources: Sequence[str]) -> dict[str, Any]:
    """Return the figures by name, but for those of the last day, the queue and the schedules."""
    limits = {"window": window, "longest_write_back": LONGEST_WRITE_BACK}
    parameters = {name: limit.total_seconds() for name, limit in limits.items()}
    (row,) = _rows(STATUS, {**parameters, "stream": ORGANIZATIONS_STREAM})
    is_following, covered = row.pop("is_following"), parsed_json(row.pop("covered"), list[str]())
    refused = parsed_json(row.pop("refused_types"), dict[str, Any]())
    since = parsed_json(row.pop("uncovered"), dict[str, Any]())
    # One that the settings do not name any more is no problem, until it is tried again daily.
    types = event_types(resources)
    refused = {type_: at for type_, at in refused.items() if type_ in types}
    # Before the first drain nothing is decided, and so nothing is missing. Where a type is refused,
    # that is reported.
    readable = [name for name in resources if refused.keys().isdisjoint(event_types([name]))]
    uncovered = tuple(name for name in readable if is_following and name not in covered)
    row["conflicts_by_kind"] = json.loads(row["conflicts_by_kind"] or "{}")
    return {
        # What is NULL, because there is no row yet, has a default.
        **{name: value for name, value in row.items() if value is not None},
        "uncovered": uncovered,
        "uncovered_since": _first(since.get(name) for name in uncovered),
        "refused_types": tuple(refused),
        "refused_types_since": _first(refused.values()),
    }


def _first(times: Iterable[str | None]) -> datetime | None:
    return min(filter(None, map(parse_time, times)), default=None)


def read_last_day() -> figures.LastDayFigures:
    """Return what happened in the last 24 hours."""
    rows = _rows(LAST_DAY, [figures.MOST_EVENTS])
    total = rows.pop()  # NULLs sort last
    p50, p99 = total.pop("latencies") or (None, None)
    del total["hour"], total["outcome"], total["count"]
    by_outcome = [row for row in rows if row["outcome"] is not None]
    by_hour = [row for row in rows if row["outcome"] is None and row["latencies"]]
    return figures.LastDayFigures(
        events=tuple(figures.EventCount(r["hour"], r["outcome"], r["count"]) for r in by_outcome),
        latency_p50=p50,
        latency_p99=p99,
        latencies=tuple(figures.HourLatency(row["hour"], *row["latencies"]) for row in by_hour),
        **total,
    )


def _rows(statement: str, parameters: Any) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
