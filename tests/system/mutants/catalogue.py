"""Lists the mutants: a line that prevents a loss, what stands there instead, and who notices."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old`` stands once in ``file``; with ``new`` in its place, one of ``tests`` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


_APPLY = "tests/integration/services/test_apply.py"
_STREAM = "tests/integration/services/stream"
_RECONCILE = "tests/integration/services/reconcile"
_OUTBOX = "tests/integration/services/test_outbox.py"
_RESOURCES = "tests/integration/services/test_resources.py"
_TOGETHER = "tests/integration/services/test_derived_together.py"
_DB = "tests/integration/db"

MUTANTS: Final = (
    Mutant(
        "a page is applied wherever the cursor stands",
        "orgs/services/apply.py",
        "if mode is Mode.LIVE and not batch.is_current(place):\n            return Report(dropped=True)\n        decided",
        "if False:\n            return Report(dropped=True)\n        decided",
        _APPLY,
    ),
    Mutant(
        "the cursor is not locked",
        "orgs/db/sql_cursor.py",
        'LOCK_CURSOR = f"{CURSOR_STATE} FOR NO KEY UPDATE"',
        'LOCK_CURSOR = f"{CURSOR_STATE}"',
        _APPLY,
    ),
    Mutant(
        "rows are not locked",
        "orgs/db/sql.py",
        'LOCK_ORGANIZATIONS = f"{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        'LOCK_ORGANIZATIONS = f"{LOAD_ORGANIZATIONS} ORDER BY id"',
        f"{_APPLY} {_DB}",
    ),
    Mutant(
        "slugs are chosen without a lock",
        "orgs/db/sql.py",
        "SELECT pg_advisory_xact_lock(slug_hash) FROM (",
        "SELECT slug_hash FROM (",
        f"{_APPLY} {_DB}",
    ),
    Mutant(
        "the first outcome of an event does not stay",
        "orgs/db/sql.py",
        "WHERE e.outcome IS NULL OR (e.outcome = 'parked' AND excluded.outcome <> 'parked')\n",
        "",
        f"{_APPLY} {_STREAM}",
    ),
    Mutant(
        "a deletion moves the time when the row was disabled",
        "orgs/db/sql.py",
        "disabled_at = coalesce(o.disabled_at, clock_timestamp()),",
        "disabled_at = clock_timestamp(),",
        _APPLY,
    ),
    Mutant(
        "what a trigger left out counts as written",
        "orgs/db/rows.py",
        "        _require_all(intended, written)\n",
        "        pass\n",
        "tests/integration/services/test_apply_refused.py",
    ),
    Mutant(
        "a lock that is not available is the item's fault",
        "orgs/services/apply.py",
        "        if is_passing(error) or fails_every_row(error):\n            raise\n        (observation,)",
        "        if fails_every_row(error):\n            raise\n        (observation,)",
        "tests/integration/services/test_apply_refused.py",
    ),
    Mutant(
        "a database that fails parks events",
        "orgs/db/errors.py",
        "    return state.startswith(_ENVIRONMENT_CLASSES) or state in _ENVIRONMENT",
        "    return False",
        f"{_APPLY} tests/unit/db",
    ),
    Mutant(
        "a wait for a lock has no end",
        "orgs/db/sql.py",
        "SELECT set_config('lock_timeout', greatest(1,",
        "SELECT set_config('application_name', greatest(1,",
        f"{_DB} {_APPLY}",
    ),
    Mutant(
        "a lease is acquired while another process has it",
        "orgs/db/sql_cursor.py",
        "WHERE stream = 'organizations' AND ({lease} IS NULL OR {lease} <= clock_timestamp()",
        "WHERE stream = 'organizations' AND (true",
        f"{_DB} {_STREAM}",
    ),
    Mutant(
        "a lease that another process has is released",
        "orgs/db/sql_cursor.py",
        "SET {lease} = NULL WHERE stream = 'organizations' AND {lease} = %s",
        "SET {lease} = NULL WHERE stream = 'organizations' AND %s::text IS NOT NULL",
        f"{_DB} {_STREAM}",
    ),
    Mutant(
        "a drain does not look once more after it released its lease",
        "orgs/services/stream.py",
        "                if not _has_unseen():\n                    return\n                lease",
        "                return\n                lease",
        _STREAM,
    ),
    Mutant(
        "a lost cursor that has moved on is moved back",
        "orgs/db/cursor.py",
        "        if state.position != lost:\n            return None\n",
        "",
        _RECONCILE,
    ),
    Mutant(
        "a dry run may write",
        "orgs/db/sql.py",
        'SET_READ_ONLY = "SET TRANSACTION READ ONLY"',
        'SET_READ_ONLY = "SELECT 1"',
        _RECONCILE,
    ),
    Mutant(
        "a full run does not verify the environment",
        "orgs/services/reconcile.py",
        "            self.lookups.verify_environment()\n",
        "            pass\n",
        _RECONCILE,
    ),
    Mutant(
        "a 404 proves an absence by itself",
        "orgs/services/refresh.py",
        "        if name not in self._is_proven:\n",
        "        self._is_proven[name] = True\n        if name not in self._is_proven:\n",
        f"{_RECONCILE} tests/integration/services/test_refresh.py",
    ),
    Mutant(
        "any number may be disabled",
        "orgs/services/reconcile.py",
        "        if organizations.exceeds_limit():\n            return\n",
        "",
        _RECONCILE,
    ),
    Mutant(
        "a newer request is confirmed by an older answer",
        "orgs/db/sql_outbox.py",
        "    AND (w.requested_at, w.requests) = (done.requested_at, done.requests)\n",
        "",
        _OUTBOX,
    ),
    Mutant(
        "a repeated request for a write-back begins anew",
        "orgs/db/sql.py",
        "requested_at = CASE w.workos_id WHEN excluded.workos_id THEN w.requested_at\n        ELSE clock_timestamp() END",
        "requested_at = clock_timestamp()",
        "tests/integration/services/test_apply.py",
    ),
    Mutant(
        "two workers claim one write-back",
        "orgs/db/sql_outbox.py",
        "ORDER BY w.next_attempt_at LIMIT %s FOR UPDATE OF w SKIP LOCKED",
        "ORDER BY w.next_attempt_at LIMIT %s",
        _OUTBOX,
    ),
    Mutant(
        "an older event overwrites a newer row of another resource",
        "orgs/domain/plain.py",
        "            return event.id.encode() > row.last_event_id.encode()\n",
        "            return True\n",
        f"{_RESOURCES} tests/unit/domain/test_plain.py",
    ),
    Mutant(
        "sso_enabled is not recomputed",
        "orgs/services/decide.py",
        "        return touched\n",
        "        return set()\n",
        _RESOURCES,
    ),
    Mutant(
        "derived columns are read while others write what they rest on",
        "orgs/services/apply.py",
        "if mode is not Mode.LIVE and (touched or inserted):",
        "if False:",
        _TOGETHER,
    ),
    Mutant(
        "a row that is inserted does not wait for its connection",
        "orgs/services/apply.py",
        "resources.lock_derived(touched | inserted)",
        "resources.lock_derived(touched)",
        _TOGETHER,
    ),
    Mutant(
        "what a trigger changed counts as written",
        "orgs/db/rows.py",
        "if intended[key] != written[key]]",
        "if False]",
        "tests/integration/services/test_apply_refused.py",
    ),
    Mutant(
        "the stream of another environment is read",
        "orgs/services/stream.py",
        "        for page in pages:\n            _verify_environment(page, patience)\n",
        "        for page in pages:\n",
        _STREAM,
    ),
    Mutant(
        "an organization of another environment gets a row",
        "orgs/services/refresh.py",
        "is_proven = (row is not None and not is_absent) or lookups.proves_place({workos_id})",
        "is_proven = True",
        "tests/integration/services/test_refresh.py",
    ),
    Mutant(
        "a time in the future is believed",
        "orgs/db/sql.py",
        'return f"CASE WHEN {is_ahead} THEN {otherwise} ELSE {readable(time)} END"',
        "return readable(time)",
        f"{_RECONCILE} {_RESOURCES}",
    ),
    Mutant(
        "a cursor that was not moved goes unseen",
        "orgs/services/apply.py",
        "    if not written.then[-1]:\n",
        "    if False:\n",
        "tests/integration/services/test_apply_refused.py",
    ),
    Mutant(
        "a parked event that the ledger left out goes unseen",
        "orgs/services/apply.py",
        "    _require_recorded({_event_id(decision) for decision in events}, written)\n",
        "",
        "tests/integration/services/test_apply_refused.py",
    ),
    Mutant(
        "a failed row covers its resource",
        "orgs/services/reconcile.py",
        "if not (problems(one.report) or one.is_incomplete()):",
        "if not (one.report.errors or one.is_incomplete()):",
        "tests/integration/services/test_coverage.py",
    ),
    Mutant(
        "a scope's 404 needs no proof",
        "orgs/services/refresh.py",
        "return is_absent and self.proves_absence({key}, resource)",
        "return is_absent",
        "tests/integration/services/test_coverage.py",
    ),
)
