"""Mutants of the set-based statements: locks and their order, and the conditions of each write."""

from tests.mutants.mutant import mutants

_APPLY = "tests/services/test_apply.py"
_DRAIN = "tests/services/test_drain.py"
_WRITE_BACK = "tests/services/test_write_back.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_VIEWS = "tests/test_views.py"
_RECONCILE = "tests/services/test_reconcile.py"

_WHERE_FIRST = (
    "WHERE e.outcome IS NULL OR (e.outcome = 'parked' AND excluded.outcome <> 'parked')\n"
)
_SKIP = "FOR UPDATE OF w SKIP LOCKED\n) AS due"

MUTANTS = mutants(
    "orgs/services/sql.py",
    (_APPLY, _SAFETY_LINES),
    (
        "the bound on waits outlives its transaction",
        "set_config('lock_timeout', %s, true)",
        "set_config('lock_timeout', %s, false)",
    ),
    (
        "a dry run may write",
        '"SET TRANSACTION READ ONLY"',
        '"SET TRANSACTION READ WRITE"',
        (_SAFETY_LINES, "tests/management/test_reconcile_workos.py", _RECONCILE),
    ),
    (
        "two that make the cursor at once fail",
        "VALUES (%s) ON CONFLICT (stream) DO NOTHING",
        "VALUES (%s)",
    ),
    (
        "the cursor is compared without its lock",
        "WHERE stream = %s FOR NO KEY UPDATE",
        "WHERE stream = %s",
    ),
    (
        "a good page leaves the failures",
        "last_event_at = %s, failures = 0, last_error = '',",
        "last_event_at = %s,",
        _DRAIN,
    ),
    (
        "a page that is not the last forgets when the end was reached",
        "drained_at = coalesce(%s, drained_at)",
        "drained_at = %s",
    ),
    (
        "rows are decided about without their locks",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} ORDER BY id"',
    ),
    (
        "rows are locked in any order",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} FOR NO KEY UPDATE"',
    ),
    (
        "other programs' foreign keys wait for a page",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR UPDATE"',
    ),
    (
        "slugs are locked in any order",
        "FROM unnest(%s::text[]) AS base ORDER BY 1",
        "FROM unnest(%s::text[]) AS base",
    ),
    (
        "an update does not tell when it was",
        "updated_at = clock_timestamp()\nFROM",
        "updated_at = o.updated_at\nFROM",
    ),
    (
        "a deletion does not tell when it was",
        "updated_at = clock_timestamp(),\n    disabled_at",
        "updated_at = o.updated_at,\n    disabled_at",
    ),
    (
        "a second deletion forgets when the first was",
        "coalesce(o.disabled_at, clock_timestamp())",
        "clock_timestamp()",
    ),
    (
        "a row that is created and deleted in a page is enabled",
        "CASE WHEN disabled THEN clock_timestamp() END",
        "NULL",
    ),
    ("the last outcome of an event stays", _WHERE_FIRST, "WHERE true\n"),
    (
        "a parked event can't be applied any more",
        "WHERE e.outcome IS NULL OR (e.outcome = 'parked' AND excluded.outcome <> 'parked')",
        "WHERE e.outcome IS NULL",
    ),
    (
        "an event that is parked again is reported again",
        "(e.outcome = 'parked' AND excluded.outcome <> 'parked')",
        "e.outcome = 'parked'",
        (_DRAIN, _APPLY),
    ),
    (
        "an applied event keeps the reason it was parked for",
        "outcome = excluded.outcome, error = excluded.error, payload = excluded.payload,",
        "outcome = excluded.outcome,",
    ),
    (
        "a request that is replaced can be confirmed by whoever had claimed it",
        "SET workos_id = excluded.workos_id, requested_at = clock_timestamp(), attempts = 0,",
        "SET workos_id = excluded.workos_id, attempts = 0,",
    ),
    (
        "a request is for the organization that was linked first",
        "SET workos_id = excluded.workos_id, requested_at = clock_timestamp(), attempts = 0,",
        "SET requested_at = clock_timestamp(), attempts = 0,",
    ),
    (
        "a new request inherits the pauses of the old one",
        "requested_at = clock_timestamp(), attempts = 0,",
        "requested_at = clock_timestamp(),",
    ),
    (
        "a new request waits for a person, as the old one did",
        "next_attempt_at = clock_timestamp(), last_error = ''",
        "last_error = ''",
    ),
    (
        "a second webhook announces an event again",
        "DO UPDATE SET announced_at = clock_timestamp() WHERE e.announced_at IS NULL",
        "DO UPDATE SET announced_at = clock_timestamp()",
        _VIEWS,
    ),
    (
        "a webhook for what was read already rings",
        "RETURNING processed_at IS NULL",
        "RETURNING true",
        _VIEWS,
    ),
    (
        "a lease that is held is taken",
        "WHERE stream = %s AND ({lease} IS NULL OR {lease} <= clock_timestamp())",
        "WHERE stream = %s",
        (_DRAIN, _RECONCILE),
    ),
    (
        "a lease that has run out is held for ever",
        "({lease} IS NULL OR {lease} <= clock_timestamp())",
        "{lease} IS NULL",
        (_DRAIN, _RECONCILE),
    ),
    (
        "a lease that another has taken is renewed",
        "WHERE stream = %s AND {lease} = %s\nRETURNING",
        "WHERE stream = %s AND ({lease} = %s OR true)\nRETURNING",
        (_DRAIN, _RECONCILE, _SAFETY_LINES),
    ),
    (
        "one that overslept ends its successor's lease",
        "SET {lease} = NULL WHERE stream = %s AND {lease} = %s",
        "SET {lease} = NULL WHERE stream = %s AND ({lease} = %s OR true)",
        _DRAIN,
    ),
    (
        "attempts do not add up",
        "SET attempts = w.attempts + 1",
        "SET attempts = 1",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a claim ends at once",
        "next_attempt_at = clock_timestamp() + make_interval(secs => %s),\n    workos_id",
        "next_attempt_at = clock_timestamp() + make_interval(secs => 0 * %s),\n    workos_id",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "an organization that is linked no more is told",
        "workos_id = due.linked_to",
        "workos_id = w.workos_id",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a request is claimed before it is due",
        "WHERE w.next_attempt_at <= %s\n        AND",
        "WHERE (w.next_attempt_at <= %s OR w.next_attempt_at IS NOT NULL)\n        AND",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a conflict is claimed",
        "WHERE w.next_attempt_at <= %s\n        AND",
        "WHERE (w.next_attempt_at <= %s OR w.next_attempt_at IS NULL)\n        AND",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a reconcile of one organization pushes them all",
        "AND (%s::text[] IS NULL OR w.organization_id = ANY(%s::text[]))",
        "AND (%s::text[] IS NULL OR w.organization_id <> ALL(%s::text[]) OR true)",
        (_RECONCILE, _WRITE_BACK),
    ),
    (
        "the youngest requests are claimed first",
        "ORDER BY w.next_attempt_at LIMIT",
        "ORDER BY w.next_attempt_at DESC LIMIT",
        _SAFETY_LINES,
    ),
    (
        "rows that another pusher is claiming are waited for",
        _SKIP,
        "FOR UPDATE OF w\n) AS due",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a claim waits for other programs' locks on organizations",
        _SKIP,
        "FOR UPDATE SKIP LOCKED\n) AS due",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a request of a row that is linked is forgotten",
        "ON o.id = w.organization_id AND o.workos_id IS NULL",
        "ON o.id = w.organization_id",
        _WRITE_BACK,
    ),
    (
        "a locked request of an unlinked row stops every push",
        "OR w.next_attempt_at IS NULL FOR UPDATE OF w SKIP LOCKED",
        "OR w.next_attempt_at IS NULL",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a conflict of a row that is linked no more is kept",
        "WHERE w.next_attempt_at <= %s OR w.next_attempt_at IS NULL FOR UPDATE",
        "WHERE w.next_attempt_at <= %s FOR UPDATE",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a request that was not tried counts as an attempt",
        "SET next_attempt_at = clock_timestamp(), attempts = w.attempts - 1",
        "SET next_attempt_at = clock_timestamp()",
        (_WRITE_BACK, _SAFETY_LINES),
    ),
    (
        "a newer request is confirmed with an older one",
        "WHERE w.organization_id = done.organization_id AND w.requested_at = done.requested_at",
        "WHERE w.organization_id = done.organization_id",
        _WRITE_BACK,
    ),
    (
        "a newer request inherits the failure of an older one",
        "WHERE w.organization_id = failed.organization_id AND w.requested_at = failed.requested_at",
        "WHERE w.organization_id = failed.organization_id",
        _WRITE_BACK,
    ),
    (
        "a newer request is forgotten with an older one",
        "WHERE w.organization_id = gone.organization_id AND w.requested_at = gone.requested_at",
        "WHERE w.organization_id = gone.organization_id",
        _SAFETY_LINES,
    ),
    (
        "a 404 ends the request of a row that is enabled",
        "AND o.id = w.organization_id AND o.disabled_at IS NOT NULL",
        "AND o.id = w.organization_id",
        _WRITE_BACK,
    ),
)
