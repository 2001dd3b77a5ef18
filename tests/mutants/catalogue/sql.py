"""Mutants of the set-based statements: locks and their order, and the conditions of each write."""

from tests.mutants.mutant import mutants

_CURSOR = "tests/services/test_cursor.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_APPLY = "tests/services/test_apply.py"
_DRAIN = "tests/services/test_drain.py"
_WRITE_BACK = "tests/services/test_write_back.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_VIEWS = "tests/test_views.py"
_RECONCILE = "tests/services/test_reconcile.py"
_IN_SYNC = "tests/services/test_mirror.py::test_in_sync_is_what_differs_in_nothing"

_WHERE_FIRST = (
    "WHERE e.outcome IS NULL OR (e.outcome = 'parked' AND excluded.outcome <> 'parked')\n"
)
_SKIP = "FOR UPDATE OF w SKIP LOCKED\n) AS due"

MUTANTS = mutants(
    "orgs/services/sql.py",
    (_APPLY, _SAFETY_LINES),
    (
        "an organization that WorkOS knows by another id is in sync",
        'WHERE o.id COLLATE "C" = listed.external_id AND o.name',
        "WHERE o.name",
        _IN_SYNC,
    ),
    (
        "an organization of another name is in sync",
        ' AND o.name COLLATE "C" = listed.name\n',
        "\n",
        _IN_SYNC,
    ),
    (
        "a row disabled here is in sync",
        "= listed.workos_id AND o.disabled_at IS NULL",
        "= listed.workos_id",
        _IN_SYNC,
    ),
    (
        "a row that is newer than what is listed is in sync",
        "    AND (o.workos_updated_at IS NULL OR o.workos_updated_at <= listed.updated_at)\n",
        "",
        _IN_SYNC,
    ),
    (
        "an organization with a write-back to do is in sync",
        (
            "    AND NOT EXISTS (\n"
            "        SELECT FROM workos_external_id_write_back AS w"
            " WHERE w.organization_id = o.id\n"
            "    )\n"
        ),
        "",
        _IN_SYNC,
    ),
    (
        "the bound on waits outlives its transaction",
        "set_config('lock_timeout', %s, true)",
        "set_config('lock_timeout', %s, false)",
        f"{_APPLY}::test_the_lock_time_out_ends_with_the_transaction",
    ),
    (
        "a dry run may write",
        '"SET TRANSACTION READ ONLY"',
        '"SET TRANSACTION READ WRITE"',
        f"{_RECONCILE}::test_postgresql_itself_keeps_a_dry_run_from_writing",
    ),
    (
        "two that make the cursor at once fail",
        "VALUES (%s) ON CONFLICT (stream) DO NOTHING",
        "VALUES (%s)",
        f"{_SAFETY_LINES}::test_a_cursor_that_two_make_at_once_is_made_once",
    ),
    (
        "the cursor is compared without its lock",
        "WHERE stream = %s FOR NO KEY UPDATE",
        "WHERE stream = %s",
        f"{_APPLY}::test_a_page_waits_for_the_one_before_it_and_is_then_dropped",
    ),
    (
        "a good page leaves the failures",
        "last_event_at = %s, failures = 0, last_trouble = '', last_error = '',",
        "last_event_at = %s,",
        f"{_DRAIN}::test_trouble_with_workos_is_noted_and_tried_again_while_something_is_announced",
    ),
    (
        "a page that is not the last forgets when the end was reached",
        "drained_at = coalesce(%s, drained_at)",
        "drained_at = %s",
        f"{_SAFETY_LINES}::test_the_end_that_was_reached_once_stays_noted",
    ),
    (
        "a time that is not known is the first there is",
        "CASE WHEN workos_updated_at IS NOT NULL\n        THEN least",
        "CASE WHEN true\n        THEN least",
        "tests/services/test_mirror.py",
    ),
    (
        "a time that Python can't hold ends the snapshot",
        "THEN least(greatest(workos_updated_at, '0001-01-02 00:00+00'), '9999-12-30 00:00+00')",
        "THEN workos_updated_at",
        "tests/services/test_mirror.py",
    ),
    (
        "rows are decided about without their locks",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} ORDER BY id"',
        f"{_SAFETY_LINES}::test_a_row_is_locked_before_it_is_decided_about",
    ),
    (
        "rows are locked in any order",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} FOR NO KEY UPDATE"',
        f"{_SAFETY_LINES}::test_rows_of_every_table_are_locked_in_the_order_of_their_keys",
    ),
    (
        "other programs' foreign keys wait for a page",
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR NO KEY UPDATE"',
        '{LOAD_ORGANIZATIONS} ORDER BY id FOR UPDATE"',
        f"{_APPLY}::test_foreign_keys_of_other_programs_go_on_working_while_a_page_is_applied",
    ),
    (
        "slugs are locked in any order",
        "FROM unnest(%s::text[]) AS base ORDER BY 1",
        "FROM unnest(%s::text[]) AS base",
        f"{_APPLY}::test_slug_locks_are_taken_in_the_order_of_their_hashes",
    ),
    (
        "an update does not tell when it was",
        "updated_at = clock_timestamp()\nFROM",
        "updated_at = o.updated_at\nFROM",
        f"{_APPLY}::test_an_update_leaves_the_columns_of_others_alone",
    ),
    (
        "a deletion does not tell when it was",
        "updated_at = clock_timestamp(),\n    disabled_at",
        "updated_at = o.updated_at,\n    disabled_at",
        f"{_SAFETY_LINES}::test_a_deletion_tells_when_the_row_was_changed",
    ),
    (
        "a second deletion forgets when the first was",
        "coalesce(o.disabled_at, clock_timestamp())",
        "clock_timestamp()",
        f"{_APPLY}::test_a_deletion_disables_the_row_and_keeps_when_that_was_first",
    ),
    (
        "a row that is created and deleted in a page is enabled",
        "CASE WHEN disabled THEN clock_timestamp() END",
        "NULL",
        f"{_APPLY}::test_a_row_that_is_created_and_deleted_in_a_page_is_inserted_disabled",
    ),
    (
        "the last outcome of an event stays",
        _WHERE_FIRST,
        "WHERE true\n",
        f"{_APPLY}::test_the_first_outcome_of_an_event_stays",
    ),
    (
        "a parked event can't be applied any more",
        "WHERE e.outcome IS NULL OR (e.outcome = 'parked' AND excluded.outcome <> 'parked')",
        "WHERE e.outcome IS NULL",
        f"{_APPLY}::test_a_parked_events_outcome_changes_when_it_is_applied_after_all",
    ),
    (
        "an event that is parked again is reported again",
        "(e.outcome = 'parked' AND excluded.outcome <> 'parked')",
        "e.outcome = 'parked'",
        f"{_DRAIN}::test_an_event_without_an_id_at_the_streams_end_is_reported_once",
    ),
    (
        "an applied event keeps the reason it was parked for",
        "outcome = excluded.outcome, error = excluded.error, payload = excluded.payload,",
        "outcome = excluded.outcome,",
        f"{_APPLY}::test_a_parked_events_outcome_changes_when_it_is_applied_after_all",
    ),
    (
        "a request that is replaced can be confirmed by whoever had claimed it",
        "SET workos_id = excluded.workos_id, requested_at = clock_timestamp(), attempts = 0,",
        "SET workos_id = excluded.workos_id, attempts = 0,",
        f"{_APPLY}::test_a_new_request_for_a_row_replaces_the_one_that_waits_for_a_person",
    ),
    (
        "a request is for the organization that was linked first",
        "SET workos_id = excluded.workos_id, requested_at = clock_timestamp(), attempts = 0,",
        "SET requested_at = clock_timestamp(), attempts = 0,",
        f"{_SAFETY_LINES}::test_a_request_is_for_the_organization_that_is_linked_last",
    ),
    (
        "a new request inherits the pauses of the old one",
        "requested_at = clock_timestamp(), attempts = 0,",
        "requested_at = clock_timestamp(),",
        f"{_APPLY}::test_a_new_request_for_a_row_replaces_the_one_that_waits_for_a_person",
    ),
    (
        "a new request waits for a person, as the old one did",
        "next_attempt_at = clock_timestamp(), last_error = ''",
        "last_error = ''",
        f"{_APPLY}::test_a_new_request_for_a_row_replaces_the_one_that_waits_for_a_person",
    ),
    (
        "a second webhook announces an event again",
        "DO UPDATE SET announced_at = clock_timestamp() WHERE e.announced_at IS NULL",
        "DO UPDATE SET announced_at = clock_timestamp()",
        f"{_VIEWS}::test_a_repeated_event_is_taken_without_a_second_row_or_ring",
    ),
    (
        "a webhook for what was read already rings",
        "RETURNING processed_at IS NULL",
        "RETURNING true",
        f"{_VIEWS}::test_an_event_that_the_stream_has_brought_already_is_not_rung_for",
    ),
    (
        "a lease that has run out keeps webhooks from ringing",
        "AND draining_until > clock_timestamp()",
        "AND draining_until IS NOT NULL",
        f"{_CURSOR}::test_a_drain_whose_lease_has_run_out_waits_no_more",
    ),
    (
        "an announced deletion that never came keeps an organization out",
        "AND outcome IN ('disabled', 'unknown', 'stale')",
        "",
        f"{_SNAPSHOTS}::test_an_announced_deletion_that_never_came_does_not_keep_an_organization_out",
    ),
    (
        "a deletion of what was not there does not keep it out",
        "AND outcome IN ('disabled', 'unknown', 'stale')",
        "AND outcome IN ('disabled', 'stale')",
        f"{_SAFETY_LINES}::test_only_deletions_keep_an_organization_out",
    ),
    (
        "any event keeps an organization out",
        "AND type = 'organization.deleted'\n    AND outcome",
        "AND outcome",
        f"{_SAFETY_LINES}::test_only_deletions_keep_an_organization_out",
    ),
    (
        "a locked request keeps its batch waiting",
        "WHERE organization_id = ANY(%s::text[]) FOR UPDATE SKIP LOCKED",
        "WHERE organization_id = ANY(%s::text[]) FOR UPDATE",
        f"{_WRITE_BACK}::test_a_row_that_another_program_is_deleting_does_not_keep_the_batch_waiting",
    ),
    (
        "a lease that is held is taken",
        "WHERE stream = %s AND ({lease} IS NULL OR {lease} <= clock_timestamp())",
        "WHERE stream = %s",
        f"{_DRAIN}::test_one_drain_at_a_time_gets_the_lease",
    ),
    (
        "a lease that has run out is held for ever",
        "({lease} IS NULL OR {lease} <= clock_timestamp())",
        "{lease} IS NULL",
        f"{_DRAIN}::test_a_lease_that_ran_out_can_be_taken",
    ),
    (
        "a lease that another has taken is renewed",
        "WHERE stream = %s AND {lease} = %s\nRETURNING",
        "WHERE stream = %s AND ({lease} = %s OR true)\nRETURNING",
        f"{_CURSOR}::test_a_lease_that_another_has_taken_meanwhile_is_not_renewed",
    ),
    (
        "one that overslept ends its successor's lease",
        "SET {lease} = NULL WHERE stream = %s AND {lease} = %s",
        "SET {lease} = NULL WHERE stream = %s AND ({lease} = %s OR true)",
        f"{_DRAIN}::test_a_drain_that_overslept_does_not_end_its_successors_lease",
    ),
    (
        "attempts do not add up",
        "SET attempts = w.attempts + 1",
        "SET attempts = 1",
        f"{_SAFETY_LINES}::test_attempts_add_up",
    ),
    (
        "a claim ends at once",
        "next_attempt_at = clock_timestamp() + make_interval(secs => %s),\n    workos_id",
        "next_attempt_at = clock_timestamp() + make_interval(secs => 0 * %s),\n    workos_id",
        f"{_SAFETY_LINES}::test_what_is_claimed_is_left_to_whoever_claimed_it",
    ),
    (
        "an organization that is linked no more is told",
        "workos_id = due.linked_to",
        "workos_id = w.workos_id",
        f"{_WRITE_BACK}::test_the_organization_that_is_linked_now_is_told_and_no_other",
    ),
    (
        "a request is claimed before it is due",
        "WHERE w.next_attempt_at <= %s\n        AND",
        "WHERE (w.next_attempt_at <= %s OR w.next_attempt_at IS NOT NULL)\n        AND",
        f"{_WRITE_BACK}::test_a_failed_request_is_tried_again_when_it_is_due",
    ),
    (
        "a conflict is claimed",
        "WHERE w.next_attempt_at <= %s\n        AND",
        "WHERE (w.next_attempt_at <= %s OR w.next_attempt_at IS NULL)\n        AND",
        f"{_WRITE_BACK}::test_a_conflict_is_kept_with_its_error_for_a_person",
    ),
    (
        "a reconcile of one organization pushes them all",
        "AND (%s::text[] IS NULL OR w.organization_id = ANY(%s::text[]))",
        "AND (%s::text[] IS NULL OR w.organization_id <> ALL(%s::text[]) OR true)",
        f"{_RECONCILE}::test_the_write_backs_of_others_are_left_to_their_schedule",
    ),
    (
        "the youngest requests are claimed first",
        "ORDER BY w.next_attempt_at LIMIT",
        "ORDER BY w.next_attempt_at DESC LIMIT",
        f"{_SAFETY_LINES}::test_the_oldest_requests_are_claimed_first",
    ),
    (
        "rows that another pusher is claiming are waited for",
        _SKIP,
        "FOR UPDATE OF w\n) AS due",
        f"{_WRITE_BACK}::test_a_row_that_another_pusher_is_claiming_is_left_to_it",
    ),
    (
        "a claim waits for other programs' locks on organizations",
        _SKIP,
        "FOR UPDATE SKIP LOCKED\n) AS due",
        f"{_SAFETY_LINES}::test_a_locked_organization_does_not_keep_its_request_from_being_pushed",
    ),
    (
        "a request of a row that is linked is forgotten",
        "ON o.id = w.organization_id AND o.workos_id IS NULL",
        "ON o.id = w.organization_id",
        f"{_WRITE_BACK}::test_a_due_request_is_written_and_confirmed",
    ),
    (
        "a locked request of an unlinked row stops every push",
        "OR w.next_attempt_at IS NULL FOR UPDATE OF w SKIP LOCKED",
        "OR w.next_attempt_at IS NULL",
        f"{_SAFETY_LINES}::test_a_locked_request_of_an_unlinked_row_stops_no_push",
    ),
    (
        "a conflict of a row that is linked no more is kept",
        "WHERE w.next_attempt_at <= %s OR w.next_attempt_at IS NULL FOR UPDATE",
        "WHERE w.next_attempt_at <= %s FOR UPDATE",
        f"{_WRITE_BACK}::test_a_conflict_of_a_row_that_is_linked_no_more_is_forgotten",
    ),
    (
        "a request that was not tried counts as an attempt",
        "SET next_attempt_at = clock_timestamp(), attempts = w.attempts - 1",
        "SET next_attempt_at = clock_timestamp()",
        f"{_WRITE_BACK}::test_what_there_is_no_time_for_is_given_back",
    ),
    (
        "a newer request is confirmed with an older one",
        "WHERE w.organization_id = done.organization_id AND w.requested_at = done.requested_at",
        "WHERE w.organization_id = done.organization_id",
        f"{_WRITE_BACK}::test_a_newer_request_is_not_removed_by_the_confirmation_of_an_older_one",
    ),
    (
        "a newer request inherits the failure of an older one",
        "WHERE w.organization_id = failed.organization_id AND w.requested_at = failed.requested_at",
        "WHERE w.organization_id = failed.organization_id",
        f"{_WRITE_BACK}::test_a_newer_request_does_not_inherit_the_failure_of_an_older_one",
    ),
    (
        "a newer request is forgotten with an older one",
        "WHERE w.organization_id = gone.organization_id AND w.requested_at = gone.requested_at",
        "WHERE w.organization_id = gone.organization_id",
        f"{_SAFETY_LINES}::test_a_newer_request_outlives_the_404_of_an_older_one",
    ),
    (
        "a 404 ends the request of a row that is enabled",
        "AND o.id = w.organization_id AND o.disabled_at IS NOT NULL",
        "AND o.id = w.organization_id",
        f"{_WRITE_BACK}::test_a_404_waits_for_the_deletion",
    ),
)
