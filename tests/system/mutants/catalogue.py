"""Lists the mutants: a line that prevents a loss, what stands there instead, and who notices."""

from collections.abc import Iterator
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


_TESTS: Final = {
    "apply": "tests/integration/services/test_apply.py",
    "stream": "tests/integration/services/stream",
    "reconcile": "tests/integration/services/reconcile",
    "outbox": "tests/integration/services/test_outbox.py",
    "resources": "tests/integration/services/test_resources.py",
    "db": "tests/integration/db",
    "apply_refused": "tests/integration/services/test_apply_refused.py",
    "refresh": "tests/integration/services/test_refresh.py",
    "coverage": "tests/integration/services/test_coverage.py",
    "unit_db": "tests/unit/db",
    "plain": "tests/unit/domain/test_plain.py",
}

#: A name, a file and who notices; then the lines, as a diff has them.
_MUTANTS: Final = r"""
a page is applied wherever the cursor stands (orgs/services/apply.py; apply)
-if mode is Mode.LIVE and not batch.is_current(state):
-            return Report(dropped=True)
-        decided
+if False:
+            return Report(dropped=True)
+        decided

the cursor is not locked (orgs/db/sql_cursor.py; apply)
-LOCK_CURSOR = f"{CURSOR_STATE} FOR NO KEY UPDATE"
+LOCK_CURSOR = f"{CURSOR_STATE}"

rows are not locked (orgs/db/sql.py; apply, db)
-LOCK_ORGANIZATIONS = f"{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"
+LOCK_ORGANIZATIONS = f"{LOAD_ORGANIZATIONS} ORDER BY id"

slugs are chosen without a lock (orgs/db/sql.py; apply, db)
-SELECT pg_advisory_xact_lock(slug_hash) FROM (
+SELECT slug_hash FROM (

the first outcome of an event does not stay (orgs/db/sql.py; apply, stream)
-WHERE e.outcome IS NULL OR (e.outcome IN ('parked', 'ignored') AND excluded.outcome <> e.outcome)

a deletion moves the time when the row was disabled (orgs/db/sql.py; apply)
-disabled_at = coalesce(o.disabled_at, clock_timestamp()),
+disabled_at = clock_timestamp(),

what a trigger left out counts as written (orgs/db/rows.py; apply_refused)
-        _require_all(intended, written)
+        pass

a lock that is not available is the item's fault (orgs/services/apply.py; apply_refused)
-        if not is_refusal(error):
-            raise
-        (observation,)
+        if fails_every_row(error):
+            raise
+        (observation,)

a database that fails parks events (orgs/db/errors.py; apply, unit_db)
-    return state.startswith(_ENVIRONMENT_CLASSES) or state in _ENVIRONMENT
+    return False

a wait for a lock has no end (orgs/db/sql.py; db, apply)
-SELECT set_config('lock_timeout', greatest(1,
+SELECT set_config('application_name', greatest(1,

a lease is acquired while another process has it (orgs/db/sql_cursor.py; db, stream)
-WHERE stream = 'organizations' AND {_IS_FREE}
+WHERE stream = 'organizations'

a lease that another process has is released (orgs/db/sql_cursor.py; db, stream)
-SET {lease} = NULL WHERE stream = 'organizations' AND {lease} = %s
+SET {lease} = NULL WHERE stream = 'organizations' AND %s::text IS NOT NULL

a drain does not look once more after it released its lease (orgs/services/stream.py; stream)
-                if not _has_unseen():
-                    return
-                lease
+                return
+                lease

a lost cursor that has moved on is moved back (orgs/db/cursor.py; db)
-        if state.position != lost:
-            return None

a dry run may write (orgs/db/sql.py; reconcile)
-SET_READ_ONLY = "SET TRANSACTION READ ONLY"
+SET_READ_ONLY = "SELECT 1"

a full run does not verify the environment (orgs/services/reconcile.py; reconcile)
-        self.lookups.verify_environment()
+        pass

a 404 proves an absence by itself (orgs/services/lookups.py; reconcile, refresh)
-        if resource not in self._is_proven:
+        self._is_proven[resource] = True
+        if resource not in self._is_proven:

any number may be disabled (orgs/services/reconcile.py; reconcile)
-        if organizations.exceeds_limit():
-            return

a newer request is confirmed by an older answer (orgs/db/sql_outbox.py; outbox)
-    AND (w.requested_at, w.requests) = (done.requested_at, done.requests)

a repeated request for a write-back begins anew (orgs/db/sql.py; apply)
-requested_at = CASE w.workos_id WHEN excluded.workos_id THEN w.requested_at
-        ELSE clock_timestamp() END
+requested_at = clock_timestamp()

two workers claim one write-back (orgs/db/sql_outbox.py; outbox)
-ORDER BY w.next_attempt_at LIMIT %s FOR UPDATE OF w SKIP LOCKED
+ORDER BY w.next_attempt_at LIMIT %s

an older event overwrites a newer row of another resource (orgs/domain/plain.py; resources, plain)
-            return event.id > row.last_event_id
+            return True

sso_enabled is not recomputed (orgs/services/decide.py; resources)
-        return touched
+        return set()

derived columns are read while others write what they rest on (orgs/db/sql_cursor.py; apply)
-LOCK_CURSOR = f"{CURSOR_STATE} FOR NO KEY UPDATE"
+LOCK_CURSOR = f"{CURSOR_STATE} FOR SHARE"

what a trigger changed counts as written (orgs/db/rows.py; apply_refused)
-if written.get(key) != values]
+if key not in written]

the stream of another environment is read (orgs/services/stream.py; stream)
-        for page in pages:
-            _verify_environment(page, types, patience=patience)
+        for page in pages:

an organization of another environment gets a row (orgs/services/refresh.py; refresh)
-is_proven = (row is not None and not is_absent) or lookups.proves_environment({workos_id})
+is_proven = True

a time in the future is believed (orgs/db/sql.py; reconcile, resources)
-return f"CASE WHEN {is_ahead} THEN {otherwise} ELSE {readable(time)} END"
+return readable(time)

a cursor that was not moved goes unseen (orgs/services/apply.py; apply_refused)
-    if mode is Mode.LIVE and not written.then[-1]:
+    if False:

a parked event that the ledger left out goes unseen (orgs/services/apply.py; apply_refused)
-    _require_recorded({_event_id(decision) for decision in events}, written)

a failed row covers its resource (orgs/services/reconcile.py; coverage)
-if not (why_incomplete(one.report) or one.is_incomplete()):
+if not (one.report.errors or one.is_incomplete()):

a scope's 404 needs no proof (orgs/services/lookups.py; coverage)
-return self._exists(key, resource) is False and self.proves_absence({key}, resource)
+return self._exists(key, resource) is False
"""


def _read() -> Iterator[Mutant]:
    for text in _MUTANTS.strip().split("\n\n"):
        head, *lines = text.split("\n")
        name, _, place = head.removesuffix(")").partition(" (")
        file, _, tests = place.partition("; ")
        old, new = ("\n".join(it[1:] for it in lines if it[0] == sign) for sign in "-+")
        yield Mutant(name, file, old, new, " ".join(_TESTS[it] for it in tests.split(", ")))


MUTANTS: Final = tuple(_read())
