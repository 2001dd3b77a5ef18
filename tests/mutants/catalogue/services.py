"""Mutants of the use cases: transactions, leases, order, and what becomes of trouble."""

from tests.mutants.mutant import mutants

_CURSOR = "tests/services/test_cursor.py"
_PRUNE = "tests/services/test_prune.py"
_ADMIN = "tests/test_admin.py"
_APPLY = "tests/services/test_apply.py"
_DRAIN = "tests/services/test_drain.py"
_RECONCILE = "tests/services/test_reconcile.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_WRITE_BACK = "tests/services/test_write_back.py"
_COMMAND = "tests/management/test_reconcile_workos.py"
_VIEWS = "tests/test_views.py"
_SCHEDULES = "tests/services/test_schedules.py"

_OF_ONE = """if not (is_contents_fault(error) or is_passing(error)):
            raise
        if len("""

MUTANTS = (
    *mutants(
        "orgs/services/transactions.py",
        _SAFETY_LINES,
        (
            "a transaction of ours ends in another's commit",
            "with transaction.atomic(durable=True):\n        yield",
            "with transaction.atomic():\n        yield",
            f"{_SAFETY_LINES}::test_our_transactions_are_the_outermost",
        ),
        (
            "a dry run reads inside another's transaction",
            (
                "with transaction.atomic(durable=True):\n"
                "        with connection.cursor() as cursor:\n"
                "            # First"
            ),
            (
                "with transaction.atomic():\n        with connection.cursor() as cursor:\n"
                "            # First"
            ),
            f"{_SAFETY_LINES}::test_our_transactions_are_the_outermost",
        ),
        (
            "a wait is as long as the setting",
            'min(sync_settings().lock_timeout, most or float("inf"))',
            "sync_settings().lock_timeout",
            f"{_SAFETY_LINES}::test_a_wait_is_as_long_as_the_shorter_of_setting_and_call",
        ),
        (
            "a wait is longer than the setting",
            'min(sync_settings().lock_timeout, most or float("inf"))',
            "most or sync_settings().lock_timeout",
            f"{_SAFETY_LINES}::test_a_wait_is_as_long_as_the_shorter_of_setting_and_call",
        ),
        (
            "locks are waited for without end",
            "yield execute_together([bound, *first])[1:]",
            "yield execute_together(first)",
            f"{_SAFETY_LINES}::test_a_wait_is_as_long_as_the_shorter_of_setting_and_call",
        ),
    ),
    *mutants(
        "orgs/services/faults.py",
        (_SAFETY_LINES, _APPLY, _RECONCILE),
        (
            "a unique violation is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            f"{_SAFETY_LINES}::test_a_race_that_is_lost_once_is_run_again",
        ),
        (
            "a serialization failure is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _DEADLOCK_DETECTED})",
            f"{_SAFETY_LINES}::test_a_race_that_is_lost_once_is_run_again",
        ),
        (
            "a deadlock is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE})",
            f"{_SAFETY_LINES}::test_a_race_that_is_lost_once_is_run_again",
        ),
        (
            "a data exception is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("23", "54")',
            f"{_SAFETY_LINES}::test_content_that_is_refused_is_parked_without_being_tried_again",
        ),
        (
            "an integrity violation is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "54")',
            f"{_SAFETY_LINES}::test_content_that_is_refused_is_parked_without_being_tried_again",
        ),
        (
            "a limit of PostgreSQL's is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23")',
            f"{_SAFETY_LINES}::test_content_that_is_refused_is_parked_without_being_tried_again",
        ),
        (
            "a missing column is the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23", "42", "54")',
            f"{_APPLY}::test_a_missing_column_parks_nothing_and_moves_nothing",
        ),
        (
            "a lock not had is the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23", "54", "55")',
            f"{_APPLY}::test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it",
        ),
        (
            "a lost race is not run again",
            "range(_MAX_ATTEMPTS - 1)",
            "range(0)",
            f"{_SAFETY_LINES}::test_a_race_that_is_lost_once_is_run_again",
        ),
        (
            "any trouble is tried again",
            "if _sqlstate(error) not in _RACES:\n                raise",
            "pass",
            f"{_SAFETY_LINES}::test_content_that_is_refused_is_parked_without_being_tried_again",
        ),
        (
            "what psycopg refuses stops the stream",
            "if state else isinstance(error, DataError)",
            "if state else False",
            f"{_SAFETY_LINES}::test_what_psycopg_refuses_before_postgresql_sees_it_is_parked",
        ),
        (
            "a connection that is lost is the content's fault",
            "if state else isinstance(error, DataError)",
            "if state else True",
            f"{_SAFETY_LINES}::test_a_connection_that_is_lost_is_not_the_contents_fault",
        ),
        (
            "content that is refused stops its page",
            "return is_contents_fault(error) or _sqlstate(error)",
            "return _sqlstate(error)",
            f"{_SAFETY_LINES}::test_content_that_is_refused_is_parked_without_being_tried_again",
        ),
        (
            "a lock not had stops what stands before it",
            "or _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "or _sqlstate(error) in _RACES",
            f"{_APPLY}::test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it",
        ),
        (
            "a race that lasts stops what stands before it",
            "or _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "or _sqlstate(error) == _LOCK_NOT_AVAILABLE",
            f"{_SAFETY_LINES}::test_a_race_that_lasts_lets_through_what_stands_before_it_and_parks_nothing",
        ),
        (
            "a lock not had does not pass",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return _sqlstate(error) in _RACES",
            f"{_DRAIN}::test_a_lock_not_had_is_noted_and_tried_again",
        ),
        (
            "a lost race does not pass",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return _sqlstate(error) == _LOCK_NOT_AVAILABLE",
            f"{_SAFETY_LINES}::test_a_race_that_lasts_is_tried_again_by_the_worker",
        ),
        (
            "any trouble with the database passes",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return True",
            f"{_DRAIN}::test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease",
        ),
    ),
    *mutants(
        "orgs/services/apply.py",
        (_APPLY, _SAFETY_LINES, _DRAIN),
        (
            "a page read from elsewhere is applied",
            (
                "with _cursor_of(batch) as position:\n"
                "        if batch.read_from not in (None, position):\n"
                "            return Applied((), dropped=True)\n"
            ),
            "with _cursor_of(batch):\n",
            f"{_APPLY}::test_a_page_read_from_elsewhere_is_dropped",
        ),
        (
            "the cursor is compared by the event's id alone",
            "if batch.read_from not in (None, position):",
            "if batch.read_from and batch.read_from.last_event_id != position.last_event_id:",
            f"{_APPLY}::test_a_page_read_from_another_time_is_dropped",
        ),
        (
            "a replay reads the cursor",
            "read_from=None if replay else page.read_from,",
            "read_from=page.read_from,",
            f"{_APPLY}::test_a_replay_neither_needs_nor_moves_the_cursor",
        ),
        (
            "every page reaches the end of the stream",
            "drained_at=page.read_at if page.is_last else None,",
            "drained_at=page.read_at,",
            f"{_APPLY}::test_the_end_of_the_stream_is_noted_only_when_it_was_reached",
        ),
        (
            "trouble with no event of it is looked for event by event",
            "if not is_one_events_trouble(error):\n            raise\n        return _apply_one",
            "return _apply_one",
            f"{_SAFETY_LINES}::test_trouble_that_is_no_events_is_not_looked_for_in_each",
        ),
        (
            "one bad event stops its page",
            "return _apply_one_by_one(batch)",
            "raise",
            f"{_APPLY}::test_an_event_whose_content_postgresql_refuses_is_parked_and_the_rest_goes_on",
        ),
        (
            "event by event, a page that others apply is not dropped",
            "self.dropped or other.dropped,",
            "self.dropped,",
            f"{_APPLY}::test_one_by_one_stops_where_someone_else_has_moved_the_cursor",
        ),
        (
            "event by event, write-backs are not rung for",
            "self.requested_write_backs or other.requested_write_backs,",
            "self.requested_write_backs,",
            f"{_SAFETY_LINES}::test_what_is_applied_event_by_event_is_told_of",
        ),
        (
            "event by event, drift is not reported",
            "self.moved_rows or other.moved_rows,",
            "self.moved_rows,",
            f"{_SAFETY_LINES}::test_what_is_applied_event_by_event_is_told_of",
        ),
        (
            "event by event, the end is an event's and not the page's",
            "position=self.position if is_last else listed.position,",
            "position=listed.position,",
            f"{_SAFETY_LINES}::test_event_by_event_ends_where_the_page_does",
        ),
        (
            "event by event, the end is reached by the first event",
            "drained_at=self.drained_at if is_last else None,",
            "drained_at=self.drained_at,",
            f"{_SAFETY_LINES}::test_a_race_that_lasts_lets_through_what_stands_before_it_and_parks_nothing",
        ),
        (
            "event by event, the second is read from elsewhere",
            "if before is not None:\n                before = listed.position",
            "pass",
            f"{_APPLY}::test_an_event_whose_content_postgresql_refuses_is_parked_and_the_rest_goes_on",
        ),
        (
            "event by event, a replay moves the cursor",
            "if before is not None:\n                before = listed.position",
            "before = listed.position",
            f"{_APPLY}::test_a_replay_parks_what_postgresql_refuses_and_leaves_the_cursor_alone",
        ),
        (
            "event by event, a page is applied beside others",
            "if total.dropped:\n            break\n",
            "",
            f"{_APPLY}::test_one_by_one_stops_where_someone_else_has_moved_the_cursor",
        ),
        (
            "a lock not had parks an event",
            "if not is_contents_fault(error):\n            raise\n        return _park",
            "return _park",
            f"{_APPLY}::test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it",
        ),
        (
            "an event is parked in a page that others have applied",
            (
                "with _cursor_of(single) as position:\n"
                "        if single.read_from not in (None, position):\n"
                "            return Applied((), dropped=True)\n"
            ),
            "with _cursor_of(single):\n",
            f"{_SAFETY_LINES}::test_an_event_is_not_parked_in_a_page_that_others_have_applied",
        ),
        (
            "a replay moves the cursor",
            (
                "if batch.read_from is None:\n"
                "        write_plan(plan, *ledger)\n"
                "        return tuple(entries)\n"
            ),
            "",
            f"{_APPLY}::test_a_replay_neither_needs_nor_moves_the_cursor",
        ),
        (
            "an event without an id at the end is reported by every read",
            "if entry.resolved.outcome is not Outcome.PARKED or entry.event.id in news\n",
            "",
            f"{_DRAIN}::test_an_event_without_an_id_at_the_streams_end_is_reported_once",
        ),
        (
            "a creation that is listed after its deletion comes to life",
            "Fold(rows, deleted=deleted)",
            "Fold(rows)",
            f"{_APPLY}::test_a_deletion_listed_before_the_creation_keeps_the_organization_out",
        ),
        (
            "event by event, what interrupts the rest is forgotten",
            "self.interrupted_by or other.interrupted_by,",
            "self.interrupted_by,",
            f"{_APPLY}::test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it",
        ),
        (
            "event by event, what was applied is told to nobody",
            "if not total.entries:\n                raise",
            "raise",
            f"{_APPLY}::test_a_lock_not_had_parks_nothing_and_lets_through_what_stands_before_it",
        ),
        (
            "event by event, trouble with the first is no trouble",
            "if not total.entries:\n                raise\n",
            "",
            f"{_SAFETY_LINES}::test_event_by_event_trouble_with_the_first_is_raised",
        ),
        (
            "a race of a single event is not run again",
            "return retry_races(partial(_apply, single))",
            "return _apply(single)",
            f"{_SAFETY_LINES}::test_event_by_event_a_race_that_is_lost_once_is_run_again",
        ),
        (
            "a race of a page is not run again",
            "return retry_races(partial(_apply, batch))",
            "return _apply(batch)",
            f"{_SAFETY_LINES}::test_a_race_that_is_lost_once_is_run_again",
        ),
    ),
    *mutants(
        "orgs/services/cursor.py",
        (_DRAIN, _RECONCILE, _SAFETY_LINES),
        (
            "a cursor that is not there can't be locked",
            "if not found:\n                _create()\n",
            "if not found:\n",
            f"{_APPLY}::test_a_page_writes_rows_ledger_outbox_and_cursor_at_once",
        ),
        (
            "an empty read from elsewhere notes its end",
            "_standing_at(page.read_from).update(",
            "_row().update(",
            f"{_SAFETY_LINES}::test_an_empty_read_from_elsewhere_notes_nothing",
        ),
        (
            "an empty read from another time notes its end",
            "last_event_id=position.last_event_id, last_event_at=position.last_event_at)",
            "last_event_id=position.last_event_id)",
            f"{_SAFETY_LINES}::test_an_empty_read_from_elsewhere_notes_nothing",
        ),
        (
            "an empty read leaves the failures",
            "drained_at=page.read_at, **_NO_FAILURE)",
            "drained_at=page.read_at)",
            f"{_CURSOR}::test_an_empty_read_ends_the_failures",
        ),
        (
            "a good read leaves the count of failures",
            '{"failures": 0, "last_trouble": "", "last_error": ""}',
            '{"last_trouble": "", "last_error": ""}',
            f"{_CURSOR}::test_an_empty_read_ends_the_failures",
        ),
        (
            "a good read leaves the kind of the last trouble",
            '{"failures": 0, "last_trouble": "", "last_error": ""}',
            '{"failures": 0, "last_error": ""}',
            f"{_CURSOR}::test_an_empty_read_ends_the_failures",
        ),
        (
            "a good read leaves the last error",
            '{"failures": 0, "last_trouble": "", "last_error": ""}',
            '{"failures": 0, "last_trouble": ""}',
            f"{_CURSOR}::test_an_empty_read_ends_the_failures",
        ),
        (
            "failures do not add up",
            'failures=F("failures") + 1, last_trouble',
            "failures=1, last_trouble",
            f"{_CURSOR}::test_failures_add_up_and_the_same_one_is_news_once",
        ),
        (
            "the same error is news each time",
            "before.last_error != error)",
            "True)",
            f"{_CURSOR}::test_failures_add_up_and_the_same_one_is_news_once",
        ),
        (
            "a cursor that has moved on is taken back",
            "replaced = _standing_at(lost).update(",
            "replaced = _row().update(",
            f"{_CURSOR}::test_a_position_that_has_moved_on_is_left_alone",
        ),
        (
            "a lost cursor keeps its event",
            "last_event_id=position.last_event_id,\n            last_event_at",
            "last_event_at",
            f"{_CURSOR}::test_a_lost_position_is_replaced_with_all_that_was_known_of_it",
        ),
        (
            "a lost cursor keeps its time",
            "last_event_at=position.last_event_at,\n            drained_at",
            "drained_at",
            f"{_CURSOR}::test_a_lost_position_is_replaced_with_all_that_was_known_of_it",
        ),
        (
            "a cursor that was mended is lost again after a month",
            "drained_at=drained_at,\n            **_NO_FAILURE",
            "**_NO_FAILURE",
            f"{_CURSOR}::test_a_lost_position_is_replaced_with_all_that_was_known_of_it",
        ),
        (
            "a cursor that was mended keeps its failures",
            "drained_at=drained_at,\n            **_NO_FAILURE,\n",
            "drained_at=drained_at,\n",
            f"{_CURSOR}::test_a_lost_position_is_replaced_with_all_that_was_known_of_it",
        ),
        (
            "a cursor that has moved on counts as mended",
            "return replaced == 1",
            "return True",
            f"{_CURSOR}::test_a_position_that_has_moved_on_is_left_alone",
        ),
        (
            "a snapshot that ends keeps its lease",
            "if held is not None:\n                self.let_go(held)\n",
            "",
            f"{_RECONCILE}::test_the_lease_ends_with_the_run_even_if_that_fails",
        ),
        (
            "a long snapshot loses its lease",
            "while held is not None and not done.wait(seconds / 4):",
            "while held is not None and not done.wait():",
            f"{_RECONCILE}::test_a_long_run_keeps_its_lease",
        ),
        (
            "trouble with a lease fails the run",
            "except DatabaseUnusable:\n                    logger",
            "except ZeroDivisionError:\n                    logger",
            f"{_CURSOR}::test_a_lease_that_cant_be_renewed_for_a_while_is_kept",
        ),
        (
            "the thread that keeps a lease leaves its connection open",
            "finally:\n            connection.close()",
            "finally:\n            pass",
            f"{_CURSOR}::test_a_lease_that_is_kept_leaves_no_connection_open",
        ),
        (
            "a lease that can't be released fails its holder",
            "except DatabaseUnusable:\n            logger",
            "except ZeroDivisionError:\n            logger",
            f"{_CURSOR}::test_a_lease_that_cant_be_released_runs_out_by_itself",
        ),
        (
            "a connection that is lost keeps a lease from being renewed",
            "# Or one that is broken would stay so.\n                    connection.close()",
            "pass",
            f"{_RECONCILE}::test_a_lease_is_kept_over_the_loss_of_its_connection",
        ),
        (
            "two failures at once count as one",
            "_row().select_for_update(no_key=True).get()",
            "_row().get()",
            f"{_CURSOR}::test_failures_at_once_are_counted_both",
        ),
        (
            "a lost cursor that is locked is waited for without end",
            "with bounded_transaction():\n        replaced",
            "if True:\n        replaced",
            f"{_RECONCILE}::test_a_lost_cursor_is_not_waited_for_without_end",
        ),
        (
            "a snapshot keeps drains from waiting",
            'SNAPSHOT = "reconciling_until"',
            'SNAPSHOT = "draining_until"',
            f"{_CURSOR}::test_the_leases_do_not_get_in_each_others_way",
        ),
    ),
    *mutants(
        "orgs/services/drain.py",
        (_DRAIN, _SAFETY_LINES),
        (
            "a drain settles nothing that is overdue",
            "report.unsettled = settle_overdue()",
            "pass",
            f"{_DRAIN}::test_overdue_announcements_that_cant_be_settled_do_not_stop_the_rest",
        ),
        (
            "a replay from an unknown event begins at the first",
            "_raise_if_ignored(page, report)\n                _apply",
            "_apply",
            f"{_DRAIN}::test_a_replay_after_an_unknown_event_is_an_error",
        ),
        (
            "a replay applies as a drain does",
            "_apply(page, report, replay=True)",
            "_apply(page, report)",
            f"{_DRAIN}::test_a_replay_applies_what_followed_an_event_and_moves_nothing",
        ),
        (
            "a dry run counts events after a position that has expired",
            "_raise_if_expired(start)\n    with closing",
            "with closing",
            f"{_SAFETY_LINES}::test_a_dry_run_tells_of_an_expired_position",
        ),
        (
            "other trouble with the database is taken for a lock",
            "if not is_passing(error):\n            raise\n        logger.warning(",
            "logger.warning(",
            f"{_DRAIN}::test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease",
        ),
        (
            "a locked cursor fails the task",
            "if not is_passing(error):\n            raise\n        logger.warning(",
            "raise\n        logger.warning(",
            f"{_DRAIN}::test_a_locked_cursor_is_not_waited_for_without_end",
        ),
        (
            "what stands behind a page that ends early is overdue",
            "if overdue and not _is_at_the_end():\n            return None\n",
            "pass\n",
            f"{_DRAIN}::test_what_stands_behind_a_page_that_says_it_is_the_last_is_not_overdue",
        ),
        (
            "trouble with the last look fails the drain",
            "except WorkOSTrouble as error:\n        return error",
            "except ZeroDivisionError as error:\n        return None",
            f"{_DRAIN}::test_trouble_with_the_last_look_leaves_what_is_overdue_for_later",
        ),
        (
            "what can't be settled uses up the time of the rest",
            "random.shuffle(overdue)",
            "pass",
            f"{_SAFETY_LINES}::test_what_is_overdue_is_tried_in_another_order_each_time",
        ),
        (
            "overdue announcements are settled after the deadline",
            "if _has_passed(deadline):\n            break\n",
            "",
            f"{_SAFETY_LINES}::test_the_worker_settles_what_is_overdue_until_its_deadline",
        ),
        (
            "the worker settles without a deadline",
            "report.unsettled = settle_overdue(deadline=deadline)",
            "report.unsettled = settle_overdue()",
            f"{_SAFETY_LINES}::test_the_worker_settles_no_more_after_its_deadline",
        ),
        (
            "one that can't be settled stops the rest",
            "except WorkOSTrouble as error:\n            trouble = error\n        except",
            "except WorkOSTrouble as error:\n            return error\n        except",
            f"{_DRAIN}::test_however_many_cant_be_settled_the_rest_are",
        ),
        (
            "other trouble with the database is taken for one that can't be settled",
            "if not is_passing(error):\n                raise\n            trouble = error",
            "trouble = error",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_is_no_announcements",
        ),
        (
            "a locked row stops the rest that is overdue",
            "if not is_passing(error):\n                raise\n            trouble = error",
            "raise",
            f"{_DRAIN}::test_an_overdue_announcement_of_a_locked_row_does_not_stop_the_rest",
        ),
        (
            "an announcement that another has settled fails the drain",
            "except AlreadySeen:\n            continue",
            "except ZeroDivisionError:\n            continue",
            f"{_SAFETY_LINES}::test_an_announcement_that_another_drain_settles_meanwhile_ends_nothing",
        ),
        (
            "what can't be settled is tried at each read",
            "if report.drained and total.unsettled is None:",
            "if report.drained:",
            f"{_DRAIN}::test_what_cant_be_settled_is_tried_once_a_drain",
        ),
        (
            "trouble that interrupts a page is passed over",
            "if applied.interrupted_by is not None:\n        raise applied.interrupted_by\n",
            "",
            f"{_SAFETY_LINES}::test_trouble_that_interrupts_a_page_is_raised_once_the_rest_is_told",
        ),
        (
            "there is no last look",
            "if not _unseen():\n                    return\n",
            "return\n",
            f"{_DRAIN}::test_what_is_announced_after_the_last_read_is_seen_by_the_last_look",
        ),
        (
            "the last look comes before the lease ends",
            (
                "Lease.DRAIN.release(held)\n                held = None\n"
                "                # A webhook that saw the lease held did not ring, and had "
                "committed "
                "before this.\n"
                "                if not _unseen():\n                    return\n"
            ),
            (
                "if not _unseen():\n                    Lease.DRAIN.release(held)\n"
                "                    held = None\n                    return\n"
                "                Lease.DRAIN.release(held)\n"
            ),
            f"{_DRAIN}::test_what_is_announced_after_the_last_read_is_seen_by_the_last_look",
        ),
        (
            "a drain that ends keeps its lease",
            "if held is not None:\n            Lease.DRAIN.let_go(held)",
            "pass",
            f"{_DRAIN}::test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease",
        ),
        (
            "a drain rings although another has the lease",
            "# Another drain has it, and waits.\n                    return\n",
            "# Another drain has it, and waits.\n                    break\n",
            f"{_SAFETY_LINES}::test_a_lease_that_another_takes_meanwhile_is_left_to_it",
        ),
        (
            "a drain that is cut short does not ring",
            "Lease.DRAIN.let_go(held)\n    ring(SYNC_EVENTS)",
            "Lease.DRAIN.let_go(held)",
            f"{_DRAIN}::test_at_its_deadline_a_drain_gives_the_lease_up_and_rings",
        ),
        (
            "a drain sleeps beyond its deadline",
            "time.sleep(max(min(pause, deadline - time.monotonic()), 0.0))",
            "time.sleep(min(pause, 100.0))",
            f"{_DRAIN}::test_a_drain_ends_soon_after_its_deadline_when_workos_asks_for_a_long_pause",
        ),
        (
            "a lease that can't be released hides the trouble",
            "if held is not None:\n            Lease.DRAIN.let_go(held)",
            "if held is not None:\n            Lease.DRAIN.release(held)",
            f"{_SAFETY_LINES}::test_a_locked_cursor_hides_no_trouble_and_ends_no_drain",
        ),
        (
            "other trouble with the database is not noted",
            "_note(trouble)\n            raise",
            "raise",
            f"{_DRAIN}::test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease",
        ),
        (
            "other trouble with the database is waited out",
            "if isinstance(error, CursorLost) or not is_passing(error):",
            "if isinstance(error, CursorLost):",
            f"{_DRAIN}::test_other_trouble_with_the_database_is_raised_noted_and_frees_the_lease",
        ),
        (
            "a drain with a lost cursor keeps the only process from the snapshot",
            "if isinstance(error, CursorLost) or not is_passing(error):",
            "if not isinstance(error, CursorLost) and not is_passing(error):",
            f"{_DRAIN}::test_a_lost_cursor_is_noted_and_the_snapshot_rung_for",
        ),
        (
            "what was applied before trouble is told to nobody",
            "finally:\n        _announce(report)\n",
            "else:\n        _announce(report)\n    finally:\n",
            f"{_SAFETY_LINES}::test_what_was_applied_before_trouble_is_told_and_rung_for",
        ),
        (
            "write-backs are not rung for",
            "if report.requested_write_backs:\n        ring(PUSH_EXTERNAL_IDS)\n",
            "",
            f"{_DRAIN}::test_a_waiting_drain_waits_until_what_was_announced_can_be_read",
        ),
        (
            "write-backs are rung for without a request",
            "if report.requested_write_backs:\n        ring(PUSH_EXTERNAL_IDS)\n",
            "ring(PUSH_EXTERNAL_IDS)\n",
            f"{_DRAIN}::test_a_drain_with_nothing_to_wait_for_ends_at_once",
        ),
        (
            "a lost cursor waits for the daily snapshot",
            "ring(RECOVER)",
            "pass",
            f"{_DRAIN}::test_a_lost_cursor_is_noted_and_the_snapshot_rung_for",
        ),
        (
            "a cursor that can't be noted on hides the trouble",
            "except DatabaseError:\n        # It may be",
            "except ZeroDivisionError:\n        # It may be",
            f"{_SAFETY_LINES}::test_a_locked_cursor_hides_no_trouble_and_ends_no_drain",
        ),
        (
            "the same trouble is said once a second",
            "if failure.is_news:",
            "if True:",
            f"{_DRAIN}::test_a_revoked_key_is_said_once_and_loudly",
        ),
        (
            "a revoked key is said softly",
            "level = logging.CRITICAL if is_loud else logging.WARNING",
            "level = logging.WARNING",
            f"{_DRAIN}::test_a_revoked_key_is_said_once_and_loudly",
        ),
        (
            "a pause grows without end",
            "2.0 ** min(failure.count, 10), _LONGEST_PAUSE)",
            "2.0 ** min(failure.count, 10), float('inf'))",
            f"{_SAFETY_LINES}::test_pauses_grow_with_the_failures_up_to_a_minute",
        ),
        (
            "pauses do not grow",
            "2.0 ** min(failure.count, 10)",
            "2.0",
            f"{_SAFETY_LINES}::test_pauses_grow_with_the_failures_up_to_a_minute",
        ),
        (
            "a pause that WorkOS asks for is not kept",
            "return max(growing, asked_for)",
            "return growing",
            f"{_DRAIN}::test_a_429_is_waited_out_for_as_long_as_it_asks",
        ),
        (
            "a drain waits for what is overdue",
            "return WorkOSEvent.objects.unseen(within=window).exists()",
            "return WorkOSEvent.objects.announced_and_unseen().exists()",
            f"{_SAFETY_LINES}::test_a_drain_does_not_wait_for_what_is_overdue",
        ),
        (
            "a loss counts although another has moved the position",
            "if standing().position == lost.position:\n                raise",
            "raise",
            f"{_DRAIN}::test_a_loss_does_not_count_if_someone_else_has_moved_the_position",
        ),
        (
            "a position that has expired is read from",
            "_raise_if_expired(start)\n        try",
            "try",
            f"{_DRAIN}::test_nothing_drained_for_longer_than_workos_keeps_events_is_a_lost_cursor",
        ),
        (
            "an empty read does not note the end",
            "note_drained(page)\n",
            "",
            f"{_DRAIN}::test_a_second_drain_reads_once_and_finds_nothing",
        ),
        (
            "a dropped page reaches the end",
            "report.drained = page.is_last and not applied.dropped",
            "report.drained = page.is_last",
            f"{_SAFETY_LINES}::test_a_dropped_page_is_read_again_from_where_the_cursor_is",
        ),
        (
            "the drain goes on behind a page that others have applied",
            "if applied.dropped or _has_passed(deadline):",
            "if _has_passed(deadline):",
            f"{_SAFETY_LINES}::test_behind_a_dropped_page_the_drain_reads_no_further",
        ),
        (
            "a backlog is drained beyond the deadline",
            "if applied.dropped or _has_passed(deadline):",
            "if applied.dropped:",
            f"{_DRAIN}::test_a_backlog_longer_than_the_deadline_is_rung_for",
        ),
        (
            "the beginning is a position that can be lost",
            "if position == Position() or not _is_readable_without_position():",
            "if not _is_readable_without_position():",
            f"{_DRAIN}::test_a_first_read_that_is_refused_is_trouble_and_no_loss",
        ),
        (
            "trouble with every read is a lost cursor",
            "if position == Position() or not _is_readable_without_position():",
            "if position == Position():",
            f"{_DRAIN}::test_a_refusal_of_every_read_is_trouble_and_no_loss",
        ),
        (
            "a silent restart is no lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if False:",
            f"{_DRAIN}::test_a_silent_restart_is_a_lost_cursor",
        ),
        (
            "an event with an old time is a lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if _begins_too_early(page):",
            f"{_DRAIN}::test_an_event_with_an_old_time_alone_is_no_lost_cursor",
        ),
        (
            "a read that begins within a minute of the position is a lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if page.read_from.last_event_id and _was_position_ignored(page):",
            f"{_SAFETY_LINES}::test_a_restart_within_a_minute_is_harmless",
        ),
        (
            "events of one moment, listed either way round, are a lost cursor",
            "after - begins_at > _RESTART_MARGIN",
            "after > begins_at",
            f"{_SAFETY_LINES}::test_a_restart_within_a_minute_is_harmless",
        ),
        (
            "an event of the first moment there is stops the stream",
            "after - begins_at > _RESTART_MARGIN",
            "begins_at < after - _RESTART_MARGIN",
            f"{_DRAIN}::test_an_event_of_the_first_moment_there_is_does_not_stop_the_stream",
        ),
        (
            "the row that PostgreSQL refused is in the log",
            'entry.resolved.error.partition("\\n")[0]',
            "entry.resolved.error",
            "tests/acceptance/test_secrets.py::test_no_secret_and_no_payload_is_ever_logged",
        ),
        (
            "an id forges a line of the log",
            "one_line(entry.event.id)",
            "entry.event.id",
            f"{_DRAIN}::test_an_id_cant_forge_a_line_of_the_log",
        ),
        (
            "an undated event hides a restart",
            "next((moment for moment in times if moment is not None), after)",
            "next(times) or after",
            f"{_DRAIN}::test_a_silent_restart_that_begins_with_an_undated_event_is_a_lost_cursor_too",
        ),
        (
            "an environment without events loses its cursor",
            "if start.drained_at is None or start.position == Position():",
            "if start.drained_at is None:",
            f"{_SAFETY_LINES}::test_an_environment_without_events_has_no_cursor_to_lose",
        ),
        (
            "WorkOS keeps events for ever",
            "if datetime.now(UTC) - start.drained_at > EVENT_RETENTION:",
            "if False:",
            f"{_DRAIN}::test_nothing_drained_for_longer_than_workos_keeps_events_is_a_lost_cursor",
        ),
        (
            "a replay asks about its position for every page",
            "if page.read_from.last_event_id and not report.read and",
            "if page.read_from.last_event_id and",
            f"{_SAFETY_LINES}::test_a_replay_asks_once_whether_its_position_is_known",
        ),
        (
            "trouble with the second question is raised instead of the refusal",
            "except WorkOSTrouble:\n        return False",
            "except ZeroDivisionError:\n        return False",
            f"{_SAFETY_LINES}::test_a_second_question_that_fails_otherwise_is_trouble_and_no_loss",
        ),
    ),
    *mutants(
        "orgs/services/intake.py",
        (_VIEWS, _SAFETY_LINES),
        (
            "a webhook without a secret to compare is unauthorized",
            "if not secrets:\n        return Receipt.NOT_CONFIGURED\n",
            "",
            f"{_VIEWS}::test_without_a_secret_it_is_503_and_said",
        ),
        (
            "a webhook that is not signed is taken",
            (
                "if not workos.is_signed(body, signature, secrets):\n"
                "        return Receipt.NOT_SIGNED\n"
            ),
            "",
            f"{_VIEWS}::test_what_is_not_signed_is_401",
        ),
        (
            "an event of another type is announced",
            "if announcement.type in workos.FOLLOWED_TYPES and _announce(announcement):",
            "if _announce(announcement):",
            f"{_VIEWS}::test_an_event_of_a_type_that_is_not_followed_leaves_no_trace",
        ),
        (
            "a webhook rings although a drain waits",
            "if not is_drain_coming(most=_LONGEST_WAIT) and _is_first_to_ring():",
            "if True:",
            f"{_VIEWS}::test_a_waiting_drain_is_not_rung_for",
        ),
        (
            "a webhook does not ring",
            "ring(SYNC_EVENTS)\n    except",
            "pass\n    except",
            f"{_VIEWS}::test_a_new_event_is_announced_and_rung_for",
        ),
        (
            "a webhook rings before its row is committed",
            (
                "if announcement.type in workos.FOLLOWED_TYPES and _announce(announcement):\n"
                "        _ring_unless_a_drain_comes()"
            ),
            (
                "if announcement.type in workos.FOLLOWED_TYPES:\n"
                "        _ring_unless_a_drain_comes()\n        _announce(announcement)"
            ),
            f"{_VIEWS}::test_the_ring_comes_after_the_commit",
        ),
        (
            "a webhook that can't ring is answered 503",
            'except DatabaseError:\n        logger.exception("could not ring',
            'except ZeroDivisionError:\n        logger.exception("could not ring',
            f"{_VIEWS}::test_a_locked_queue_or_cursor_costs_the_ring_alone",
        ),
        (
            "a webhook waits for a lock of its event as long as a drain does",
            "execute_alone(sql.ANNOUNCE_EVENT, values, most=_LONGEST_WAIT)",
            "execute_alone(sql.ANNOUNCE_EVENT, values)",
            f"{_VIEWS}::test_a_webhook_waits_for_no_lock_as_long_as_a_drain_may",
        ),
    ),
    *mutants(
        "orgs/services/mirror.py",
        (_SAFETY_LINES, _APPLY),
        (
            "links are written before they are cleared",
            (
                "if plan.unlinked:\n"
                "        yield _statement(sql.UNLINK_ORGANIZATIONS, plan.unlinked)\n"
                "    if plan.updated:\n"
                "        yield _statement(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))\n"
            ),
            (
                "if plan.updated:\n"
                "        yield _statement(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))\n"
                "    if plan.unlinked:\n"
                "        yield _statement(sql.UNLINK_ORGANIZATIONS, plan.unlinked)\n"
            ),
            f"{_SAFETY_LINES}::test_links_are_handed_on_in_one_go",
        ),
        (
            "rows are inserted before the others are updated",
            "if plan.unlinked:\n",
            "if plan.created:\n        yield _insert(plan.created)\n    if plan.unlinked:\n",
            f"{_SAFETY_LINES}::test_a_link_is_handed_on_to_a_new_row_in_one_go",
        ),
        (
            "an error that PostgreSQL can't store stops the page",
            'storable(resolved.error) if parked else ""',
            'resolved.error if parked else ""',
            f"{_SAFETY_LINES}::test_a_reason_that_cant_be_stored_is_stored_in_escapes",
        ),
        (
            "the last of an event's entries in a page counts",
            "first.setdefault(entry.event.id, entry)",
            "first[entry.event.id] = entry",
            f"{_APPLY}::test_an_event_listed_twice_in_a_page_keeps_its_first_outcome",
        ),
        (
            "of two deletions the earlier counts",
            "key=lambda pair: str(pair[1]).encode())",
            "key=lambda pair: str(pair[1]).encode(), reverse=True)",
            f"{_SAFETY_LINES}::test_of_two_known_deletions_the_later_one_counts",
        ),
        (
            "the ledger is written in the order of the page",
            "for key in sorted(first)]",
            "for key in first]",
            f"{_SAFETY_LINES}::test_rows_of_every_table_are_locked_in_the_order_of_their_keys",
        ),
        (
            "requests are written in the order of the page",
            "ids = sorted(plan.write_backs)",
            "ids = list(plan.write_backs)",
            f"{_SAFETY_LINES}::test_rows_of_every_table_are_locked_in_the_order_of_their_keys",
        ),
        (
            "new rows are inserted in the order of the page",
            "rows = sorted((creation.row for creation in creations), key=lambda row: row.id)",
            "rows = [creation.row for creation in creations]",
            f"{_SAFETY_LINES}::test_new_rows_are_inserted_in_the_order_of_their_ids",
        ),
        (
            "namesakes of a page get the same slug",
            "taken.add(slug)\n",
            "",
            f"{_SAFETY_LINES}::test_namesakes_get_their_slugs_in_one_go",
        ),
        (
            "slugs are chosen without their locks",
            "execute_together([lock, look])[1]",
            "execute_together([look])[0]",
            f"{_APPLY}::test_pages_with_the_same_new_names_wait_for_each_others_slugs",
        ),
        (
            "slugs that are taken are not looked for",
            "return {slug for (slug,) in found}",
            "return set()",
            f"{_APPLY}::test_namesakes_in_a_page_get_slugs_of_their_own",
        ),
        (
            "a row that is created and deleted in a page is inserted enabled",
            "[row.disabled for row in rows],",
            "[False for row in rows],",
            f"{_APPLY}::test_a_row_that_is_created_and_deleted_in_a_page_is_inserted_disabled",
        ),
    ),
    *mutants(
        "orgs/services/paging.py",
        "tests/services/test_paging.py",
        (
            "pages go round in circles for ever",
            'raise BrokenAnswer("WorkOS lists the same page again")',
            "pass",
        ),
        (
            "pages may come back to where they started",
            "visited: set[object] = {start}",
            "visited: set[object] = set()",
        ),
        (
            "the next page is read after this one",
            (
                "upcoming = reader.submit(read, page.position)  # type: ignore[arg-type]\n"
                "            yield page"
            ),
            "yield page\n            upcoming = reader.submit(read, page.position)",
            f"{_DRAIN}::test_the_next_page_is_read_while_this_one_is_applied",
        ),
    ),
    *mutants(
        "orgs/services/prune.py",
        (_SAFETY_LINES, "tests/services/test_prune.py"),
        (
            "an entry that someone has locked is waited for",
            "skip_locked=True",
            "skip_locked=False",
            f"{_PRUNE}::test_an_entry_that_someone_has_locked_is_left_for_the_next_time",
        ),
        (
            "pruning ends in another's commit",
            "transaction.atomic(durable=True)",
            "transaction.atomic()",
            f"{_SAFETY_LINES}::test_housekeeping_opens_outermost_transactions_too",
        ),
        (
            "all is deleted in one transaction",
            '.order_by("id")[:_BATCH_SIZE]',
            '.order_by("id")',
            f"{_PRUNE}::test_many_are_deleted_in_batches",
        ),
        (
            "tasks are kept for ever",
            "Task.objects.filter(stopped__lt=before).delete()\n",
            "",
            f"{_PRUNE}::test_old_records_of_tasks_go_too",
        ),
        (
            "young tasks are forgotten",
            "Task.objects.filter(stopped__lt=before)",
            "Task.objects.all()",
            f"{_PRUNE}::test_old_records_of_tasks_go_too",
        ),
    ),
    *mutants(
        "orgs/services/ring.py",
        (_DRAIN, _VIEWS, _SAFETY_LINES),
        (
            "a failed ring fails its caller",
            "except Exception:\n",
            "except ZeroDivisionError:\n",
            f"{_VIEWS}::test_a_failed_ring_is_logged_and_the_answer_stays",
        ),
        (
            "a snapshot is ended by the time limit of other tasks",
            '{"timeout": RECONCILE_TIMEOUT} if task in (RECONCILE, RECOVER) else {}',
            "{}",
            f"{_DRAIN}::test_a_lost_cursor_is_noted_and_the_snapshot_rung_for",
        ),
    ),
    *mutants(
        "orgs/services/schedules.py",
        (_SCHEDULES, _SAFETY_LINES),
        (
            "machines that migrate at once make them twice",
            "cursor.execute(_LOCK)\n",
            "",
            f"{_SCHEDULES}::test_machines_that_migrate_at_once_make_them_once",
        ),
        (
            "without the queue's tables a migration fails",
            "if not _has_table(using):\n        return\n    with",
            "with",
            f"{_SCHEDULES}::test_without_django_q2s_tables_nothing_is_done",
        ),
        (
            "doubles stay",
            "present.exclude(id=first.id).delete()\n",
            "",
            f"{_SCHEDULES}::test_one_that_differs_is_mended_and_doubles_are_removed",
        ),
        (
            "schedules end in another's commit",
            "using=using, durable=True",
            "using=using",
            f"{_SAFETY_LINES}::test_housekeeping_opens_outermost_transactions_too",
        ),
        (
            "arguments that don't parse stay",
            '"args": None,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "keyword arguments that don't parse stay",
            '"kwargs": wanted.kwargs,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a hook of another's stays",
            '"hook": None,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a schedule of another cluster's stays there",
            '"cluster": None,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a cron expression stays",
            '"cron": None,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a schedule that has run out stays so",
            '"repeats": -1,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a schedule of another kind stays so",
            '"schedule_type": wanted.schedule_type,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a schedule of other minutes stays so",
            '"minutes": wanted.minutes,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
        (
            "a schedule of another task stays so",
            '"func": wanted.task,\n',
            "",
            f"{_SCHEDULES}::test_every_column_that_could_keep_one_from_running_is_mended",
        ),
    ),
    *mutants(
        "orgs/services/snapshots.py",
        (_SNAPSHOTS, _SAFETY_LINES),
        (
            "a row that was taken over is disabled with its old organization",
            "return _snapshot_of_heir(workos_id) or Snapshot(workos_id, None)",
            "return Snapshot(workos_id, None)",
            f"{_SNAPSHOTS}::test_a_row_that_was_taken_over_is_not_disabled_with_its_old_organization",
        ),
        (
            "every linked organization is asked for by a snapshot of one",
            "Organization.objects.linked().filter(id__in=touched_ids([organization]))",
            "Organization.objects.linked()",
            f"{_SAFETY_LINES}::test_an_organization_that_is_linked_rightly_is_asked_for_once",
        ),
        (
            "an organization that is linked rightly is asked for again",
            "linked = rows.exclude(workos_id=organization.workos_id)",
            "linked = rows",
            f"{_SAFETY_LINES}::test_an_organization_that_is_linked_rightly_is_asked_for_once",
        ),
        (
            "an heir that WorkOS refuses to name fails the snapshot",
            "except workos.Refused:\n        return None\n    if organization",
            "except ZeroDivisionError:\n        return None\n    if organization",
            f"{_SNAPSHOTS}::test_a_row_that_nobody_takes_over_is_disabled",
        ),
        (
            "a rival is taken for gone without asking",
            "frozenset(filter(is_gone, rivals))",
            "frozenset(rivals)",
            f"{_SNAPSHOTS}::test_a_row_moves_only_if_its_old_organization_is_gone",
        ),
        (
            "what is not waited for is asked for",
            'raise AlreadySeen(f"{event_id} is not waited for")',
            "event = WorkOSEvent.objects.get(id=event_id)",
            f"{_SNAPSHOTS}::test_an_announcement_read_from_the_stream_meanwhile_keeps_that_outcome",
        ),
        (
            "parking waits for a lock without end",
            "with bounded_transaction():\n        return park(*reason)",
            "return park(*reason)",
            f"{_SNAPSHOTS}::test_no_note_waits_for_a_lock_without_end",
        ),
        (
            "dismissing waits for a lock without end",
            "with bounded_transaction():\n        return parked",
            "if True:\n        return parked",
            f"{_SNAPSHOTS}::test_no_note_waits_for_a_lock_without_end",
        ),
        (
            "what is not parked is replayed",
            'raise NotParked(f"{event_id} is not parked")',
            "event = WorkOSEvent.objects.get(id=event_id)",
            f"{_SNAPSHOTS}::test_what_is_not_parked_is_not_replayed",
        ),
        (
            "a replay of all ends at one that is not parked any more",
            "except NotParked:\n            continue",
            "except NotParked:\n            break",
            f"{_SAFETY_LINES}::test_a_replay_of_all_passes_over_what_is_dismissed_meanwhile",
        ),
        (
            "a replay of all has no deadline",
            "if time.monotonic() > deadline or ",
            "if ",
            f"{_COMMAND}::test_a_replay_that_runs_out_of_time_says_how_many_are_left",
        ),
        (
            "a replay of all asks on with a key that is refused",
            " or isinstance(report.trouble, _TROUBLE_OF_ALL):",
            ":",
            f"{_ADMIN}::test_trouble_that_is_the_same_for_all_stops_the_replay",
        ),
        (
            "trouble with WorkOS over one parked event ends a replay of all",
            "except workos.WorkOSTrouble as trouble:\n            report.left",
            "except ZeroDivisionError as trouble:\n            report.left",
            f"{_COMMAND}::test_trouble_with_one_parked_event_does_not_stop_the_replay_of_the_rest",
        ),
        (
            "a lock over one parked event ends a replay of all",
            "if not is_passing(error):\n                raise\n            report.left",
            "if True:\n                raise\n            report.left",
            f"{_ADMIN}::test_trouble_with_the_database_over_one_event_does_not_stop_the_rest",
        ),
        (
            "events that are not parked are dismissed",
            "WorkOSEvent.objects.parked().filter(id__in=event_ids)",
            "WorkOSEvent.objects.filter(id__in=event_ids)",
            f"{_SNAPSHOTS}::test_parked_events_are_dismissed_and_others_are_not",
        ),
        (
            "an organization that can't be read stays announced for ever",
            "except workos.UnreadableOrganization as problem:\n        return _alone",
            "except ZeroDivisionError as problem:\n        return _alone",
            f"{_SNAPSHOTS}::test_an_announcement_whose_organization_cant_be_read_is_parked_with_what_workos_said",
        ),
        (
            "a refusal leaves an announcement for ever",
            "except workos.Refused as refusal:\n        return _alone",
            "except ZeroDivisionError as refusal:\n        return _alone",
            f"{_SNAPSHOTS}::test_an_organization_that_workos_refuses_to_talk_about",
        ),
        (
            "any trouble with the database parks",
            "if not is_contents_fault(error):\n            raise\n        return _alone",
            "return _alone",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_is_no_announcements",
        ),
        (
            "content that PostgreSQL refuses is asked for for ever",
            "if not is_contents_fault(error):\n            raise\n        return _alone",
            "raise\n        return _alone",
            f"{_SNAPSHOTS}::test_what_postgresql_refuses_stays_parked",
        ),
        (
            "a snapshot that loses a race fails",
            "return retry_races(partial(_apply, snapshot, note, park))",
            "return _apply(snapshot, note, park)",
            f"{_SAFETY_LINES}::test_a_snapshot_that_loses_a_race_is_applied_again",
        ),
        (
            "a snapshot undoes a deletion that the stream brings meanwhile",
            "with cursor_locked():\n        resolved",
            "with bounded_transaction():\n        resolved",
            f"{_SAFETY_LINES}::test_a_deletion_that_the_stream_brings_meanwhile_is_not_undone",
        ),
        (
            "a conflict counts as applied",
            "if resolved.outcome is Outcome.CONFLICT:\n            return park(resolved.error)\n",
            "",
            f"{_SNAPSHOTS}::test_a_row_moves_only_if_its_old_organization_is_gone",
        ),
        (
            "a snapshot does not look for deletions",
            "Fold(rows, deleted=deleted, gone",
            "Fold(rows, gone",
            f"{_SNAPSHOTS}::test_a_snapshot_does_not_bring_back_what_the_ledger_knows_as_deleted",
        ),
        (
            "an unreadable rival is gone",
            "except workos.UnreadableOrganization:\n        return False\n",
            "except workos.UnreadableOrganization:\n        return True\n",
            f"{_SNAPSHOTS}::test_a_rival_that_cant_be_read_still_exists",
        ),
        (
            "a replay counts as applied although nothing changed",
            "outcome = Outcome.STALE if unchanged else resolved.outcome",
            "outcome = resolved.outcome",
            f"{_SNAPSHOTS}::test_a_replay_that_finds_the_mirror_right_is_stale",
        ),
        (
            "an event dismissed meanwhile is replayed",
            "WorkOSEvent.objects.parked().filter(id=event_id).update(\n        outcome=outcome,",
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=outcome,",
            f"{_SAFETY_LINES}::test_an_event_dismissed_meanwhile_stays_dismissed",
        ),
        (
            "an event dismissed meanwhile has an error",
            "WorkOSEvent.objects.parked().filter(id=event_id).update(error=storable(reason))",
            "WorkOSEvent.objects.filter(id=event_id).update(error=storable(reason))",
            f"{_SAFETY_LINES}::test_an_event_dismissed_meanwhile_stays_dismissed",
        ),
        (
            "an event that was read meanwhile is missing",
            (
                "WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(\n"
                "        outcome=Outcome.MISSING"
            ),
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=Outcome.MISSING",
            f"{_SAFETY_LINES}::test_an_announcement_that_the_stream_brings_meanwhile_keeps_its_outcome",
        ),
        (
            "an event that was read meanwhile is parked",
            (
                "WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(\n"
                "        outcome=Outcome.PARKED"
            ),
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=Outcome.PARKED",
            f"{_SAFETY_LINES}::test_an_announcement_that_the_stream_brings_meanwhile_is_not_parked",
        ),
    ),
    *mutants(
        "orgs/services/repair.py",
        (_RECONCILE, _SAFETY_LINES),
        (
            "the limit is the smaller of the two",
            "return max(self.rows, int(linked * self.percent / 100))",
            "return min(self.rows, int(linked * self.percent / 100))",
            f"{_RECONCILE}::test_the_limit_is_the_larger_of_the_two",
        ),
        (
            "a dry run reads where it could write",
            "with read_only_transaction():\n        yield",
            "yield",
            f"{_RECONCILE}::test_every_transaction_of_a_dry_run_begins_read_only",
        ),
        (
            "a 404 is trouble",
            "except workos.NotFound:\n        return None\n    except workos.Unreadable",
            "except workos.NotFound:\n        raise\n    except workos.Unreadable",
            f"{_RECONCILE}::test_one_that_is_gone_is_disabled_by_either_id",
        ),
        (
            "an organization that can't be read is trouble",
            "except workos.UnreadableOrganization as problem:\n        return Unreadable",
            "except ZeroDivisionError as problem:\n        return Unreadable",
            f"{_RECONCILE}::test_one_that_cant_be_read_is_a_conflict",
        ),
        (
            "rivals that are gone are not asked for",
            "gone = _gone_rivals(rows, organizations)",
            "gone: frozenset[str] = frozenset()",
            f"{_RECONCILE}::test_a_row_that_another_organization_names_is_relinked_and_not_disabled",
        ),
        (
            "a dry run takes for in sync what it would have changed",
            "if report.would_be:\n",
            "if False:\n",
            f"{_RECONCILE}::test_a_dry_run_takes_nothing_for_in_sync_that_it_would_have_changed",
        ),
        (
            "a dry run forgets the rows that it would have written",
            "report.would_be |= comparison.rows_after",
            "pass",
            f"{_SAFETY_LINES}::test_a_dry_run_finds_what_a_repair_would_page_by_page",
        ),
        (
            "a dry run repairs",
            "if run.dry or comparison.plan.is_empty:",
            "if comparison.plan.is_empty:",
            f"{_RECONCILE}::test_a_dry_run_finds_the_same_and_writes_nothing",
        ),
        (
            "a page in which nothing differs is locked",
            "if run.dry or comparison.plan.is_empty:",
            "if run.dry:",
            f"{_RECONCILE}::test_what_is_told_and_left_alone_needs_no_lock",
        ),
        (
            "a name that can't be asked about ends the snapshot",
            "if not is_contents_fault(error):\n            raise\n        # Some value",
            "raise\n        # Some value",
            "tests/acceptance/test_encoding.py",
        ),
        (
            "a dry run disables",
            "if run.dry:\n        with reading(run):\n            rows = [report",
            "if False:\n        with reading(run):\n            rows = [report",
            f"{_RECONCILE}::test_a_dry_run_finds_the_same_and_writes_nothing",
        ),
        (
            "other trouble with the database is taken for a lock while disabling",
            f"{_OF_ONE}workos_ids",
            "if len(workos_ids",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_is_no_lock_that_keeps_a_row_enabled",
        ),
        (
            "a row that is locked while it is disabled stops the rest",
            f"{_OF_ONE}workos_ids",
            "if not is_contents_fault(error):\n            raise\n        if len(workos_ids",
            f"{_RECONCILE}::test_a_row_that_is_locked_while_it_is_disabled_is_said",
        ),
        (
            "a row that can't be disabled keeps the rest enabled",
            f"{_OF_ONE}workos_ids",
            "if not is_passing(error):\n            raise\n        if len(workos_ids",
            f"{_RECONCILE}::test_a_row_that_cant_be_disabled_does_not_keep_the_rest_enabled",
        ),
        (
            "a race while disabling is not run again",
            "report.add(retry_races(partial(_write_absent, report, workos_ids)))",
            "report.add(_write_absent(report, workos_ids))",
            f"{_SAFETY_LINES}::test_a_repair_that_loses_a_race_once_is_run_again",
        ),
        (
            "a race while repairing is not run again",
            "report.add(retry_races(partial(_write, organizations, gone, young_after)))",
            "report.add(_write(organizations, gone, young_after))",
            f"{_SAFETY_LINES}::test_a_repair_that_loses_a_race_once_is_run_again",
        ),
        (
            "other trouble with the database is taken for a lock",
            f"{_OF_ONE}organizations",
            "if len(organizations",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_ends_a_repair",
        ),
        (
            "one bad organization stops the repair",
            f"{_OF_ONE}organizations",
            "if not is_passing(error):\n            raise\n        if len(organizations",
            f"{_RECONCILE}::test_what_postgresql_refuses_is_a_conflict_and_the_rest_of_the_page_is_repaired",
        ),
        (
            "one locked row stops the repair",
            f"{_OF_ONE}organizations",
            "if not is_contents_fault(error):\n            raise\n        if len(organizations",
            f"{_RECONCILE}::test_a_row_that_another_program_has_locked_does_not_keep_the_rest_from_repair",
        ),
        (
            "one bad organization keeps its page from repair",
            "if len(organizations) > 1:\n",
            "if False:\n",
            f"{_RECONCILE}::test_what_postgresql_refuses_is_a_conflict_and_the_rest_of_the_page_is_repaired",
        ),
        (
            "a reconcile undoes a deletion that the stream brings meanwhile",
            "with cursor_locked():\n        rows",
            "with bounded_transaction():\n        rows",
            f"{_SAFETY_LINES}::test_a_deletion_that_the_stream_brings_meanwhile_is_not_undone",
        ),
        (
            "a page is not decided again under its locks",
            "rows = lock_rows(*_keys(organizations))",
            "rows = load_rows(*_keys(organizations))",
            f"{_RECONCILE}::test_a_page_is_decided_again_under_its_locks",
        ),
        (
            "rows are disabled without their locks",
            "_compare_absent(report, lock_rows(workos_ids, ()), workos_ids)",
            "_compare_absent(report, load_rows(workos_ids, ()), workos_ids)",
            f"{_SAFETY_LINES}::test_a_row_is_locked_before_it_is_disabled",
        ),
        (
            "a row that was taken over is disabled",
            "unclaimed = [row for row in rows if row.id not in report.claimed]",
            "unclaimed = list(rows)",
            f"{_SAFETY_LINES}::test_a_row_that_is_locked_while_another_takes_it_over_is_not_disabled",
        ),
        (
            "known deletions are not looked for",
            "deleted=known_deletions(_doubtful(rows, organizations)),",
            "deleted={},",
            f"{_RECONCILE}::test_a_snapshot_does_not_bring_back_what_the_stream_has_deleted",
        ),
        (
            "a disabled row that the stream has deleted is told to be disabled here",
            "alive = {row.workos_id for row in rows if not row.disabled}",
            "alive = {row.workos_id for row in rows}",
            f"{_SAFETY_LINES}::test_a_row_that_the_stream_has_disabled_is_not_told_to_be_disabled_here",
        ),
        (
            "a rival is taken for gone without asking",
            "if rival is not None and is_gone(rival))",
            "if rival is not None)",
            f"{_RECONCILE}::test_conflicts_are_told_and_left_alone",
        ),
    ),
    *mutants(
        "orgs/services/reconcile.py",
        (_RECONCILE, _COMMAND, _SAFETY_LINES),
        (
            "a cursor that is not lost any more takes a snapshot",
            " or (only_if_lost and not drain.is_cursor_lost())",
            "",
            "tests/test_tasks.py::test_one_loss_of_the_cursor_takes_one_snapshot",
        ),
        (
            "two snapshots are taken at once by the worker",
            "if not is_alone or (only_if_lost",
            "if (only_if_lost",
            f"{_RECONCILE}::test_the_scheduled_run_leaves_it_to_the_other",
        ),
        (
            "the stream does not go on after a lost cursor",
            "events = drain.drain_to_end()\n    concluded",
            "pass\n    concluded",
            f"{_RECONCILE}::test_what_happens_while_the_snapshot_is_taken_is_not_lost",
        ),
        (
            "a dry run drains",
            "if not run.dry:\n            return drain.drain_to_end(), None\n",
            "return drain.drain_to_end(), None\n",
            f"{_RECONCILE}::test_what_waits_or_is_due_is_not_in_sync",
        ),
        (
            "a lost cursor ends the run",
            "except CursorLost as lost:\n        logger.critical",
            "except ZeroDivisionError as lost:\n        logger.critical",
            f"{_RECONCILE}::test_a_lost_cursor_is_recovered_by_the_snapshot_and_the_stream_goes_on",
        ),
        (
            "a dry run pushes",
            "if not run.dry:\n        pushed = write_back",
            "if True:\n        pushed = write_back",
            f"{_RECONCILE}::test_what_waits_or_is_due_is_not_in_sync",
        ),
        (
            "a run of one organization pushes the requests of others",
            "deadline=time.monotonic() + _PUSH_SECONDS, only=only)",
            "deadline=time.monotonic() + _PUSH_SECONDS)",
            f"{_RECONCILE}::test_the_write_backs_of_others_are_left_to_their_schedule",
        ),
        (
            "trouble with the echoes fails the run",
            "except (CursorLost, WorkOSTrouble, DatabaseError) as trouble:",
            "except ZeroDivisionError as trouble:",
            f"{_RECONCILE}::test_an_echo_that_cant_be_read_is_left_to_the_worker",
        ),
        (
            "other trouble with the database is taken for a lock at the end of a run",
            (
                "except (CursorLost, WorkOSTrouble, DatabaseError) as trouble:\n"
                "        if isinstance(trouble, DatabaseError) and not is_passing(trouble):"
            ),
            "except (CursorLost, WorkOSTrouble, DatabaseError) as trouble:\n        if False:",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_is_not_left_to_the_worker",
        ),
        (
            "write-backs that there was no time for are no trouble",
            "if self.write_backs.is_cut_short:",
            "if False:",
            f"{_SAFETY_LINES}::test_write_backs_that_there_was_no_time_for_are_trouble",
        ),
        (
            "write-backs that failed are no trouble",
            "if failed:",
            "if False:",
            f"{_RECONCILE}::test_a_write_back_that_failed_is_trouble",
        ),
        (
            "a lost cursor is mended by a listing that was not applied whole",
            "if lost is not None and not run.dry and not report.trouble:",
            "if lost is not None and not run.dry:",
            f"{_RECONCILE}::test_a_row_locked_during_the_recovery_is_tried_again_before_the_stream_goes_on",
        ),
        (
            "a dry run mends a lost cursor",
            "if lost is not None and not run.dry and not report.trouble:",
            "if lost is not None and not report.trouble:",
            f"{_RECONCILE}::test_a_dry_run_tells_of_a_lost_cursor_and_leaves_it",
        ),
        (
            "other trouble with the database is told as trouble with the listing",
            (
                "except (WorkOSTrouble, DatabaseError) as trouble:\n"
                "        if isinstance(trouble, DatabaseError) and not is_passing(trouble):"
            ),
            "except (WorkOSTrouble, DatabaseError) as trouble:\n        if False:",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_database_ends_a_repair",
        ),
        (
            "a snapshot with trouble counts as completed",
            "if _settle_missing(run, report, seen) and not run.dry and not report.trouble:",
            "if _settle_missing(run, report, seen) and not run.dry:",
            f"{_SAFETY_LINES}::test_a_snapshot_with_trouble_is_not_noted_as_completed",
        ),
        (
            "a dry run counts as completed",
            "if _settle_missing(run, report, seen) and not run.dry and not report.trouble:",
            "if _settle_missing(run, report, seen) and not report.trouble:",
            f"{_SAFETY_LINES}::test_a_dry_run_is_not_noted_as_completed",
        ),
        (
            "trouble with the listing ends the run without a report",
            "except (WorkOSTrouble, DatabaseError) as trouble:\n        if isinstance",
            "except ZeroDivisionError as trouble:\n        if isinstance",
            f"{_RECONCILE}::test_a_broken_listing_disables_nothing",
        ),
        (
            "a snapshot that ends with an error leaves no trace",
            "if not run.dry:\n            _note_incomplete(one_line(trouble))\n",
            "",
            "tests/services/test_status.py::test_a_snapshot_that_ends_with_an_error_is_told",
        ),
        (
            "locked rows are not tried once more",
            "_settle_locked(run, report)\n    return seen",
            "return seen",
            f"{_RECONCILE}::test_a_row_locked_during_the_recovery_is_tried_again_before_the_stream_goes_on",
        ),
        (
            "a row that stays locked is not said",
            "report.trouble += [",
            "_ = [",
            f"{_RECONCILE}::test_a_row_that_another_program_has_locked_does_not_keep_the_rest_from_repair",
        ),
        (
            "a pause that WorkOS asks for ends the listing",
            "except workos.RateLimited as limited:",
            "except ZeroDivisionError as limited:",
            f"{_RECONCILE}::test_a_pause_that_workos_asks_for_in_a_listing_is_kept",
        ),
        (
            "a pause of any length is kept in a listing",
            "if not 0 < (limited.retry_after or 0.0) <= _LONGEST_PAUSE:",
            "if not limited.retry_after:",
            f"{_SAFETY_LINES}::test_a_pause_of_many_minutes_is_not_kept_in_a_listing",
        ),
        (
            "an organization that is listed twice is compared twice",
            "if self._slots[place] != _FREE:\n            return False\n",
            "",
            f"{_RECONCILE}::test_an_organization_that_is_listed_twice_is_compared_once",
        ),
        (
            "the stream goes on from the snapshot, without an overlap",
            "position = Position(None, run.now - window - _OVERLAP)",
            "position = Position(None, run.now)",
            f"{_RECONCILE}::test_the_new_position_lies_before_the_snapshot",
        ),
        (
            "a refusal to say whether one exists ends the run",
            "except workos.Refused as refusal:\n        return refusal",
            "except ZeroDivisionError as refusal:\n        raise",
            f"{_RECONCILE}::test_a_link_that_cant_be_asked_for_is_a_conflict_and_stops_nothing",
        ),
        (
            "a listing that is not complete disables",
            "elif answer:\n            report.trouble.append(",
            "elif answer and False:\n            report.trouble.append(",
            f"{_RECONCILE}::test_a_broken_listing_disables_nothing",
        ),
        (
            "one that came during the listing is gone",
            "elif answer is False:",
            "else:",
            f"{_RECONCILE}::test_one_that_was_created_while_the_listing_was_read_is_not_missing",
        ),
        (
            "all that are missing are asked for, however many are gone",
            "if len(gone) > allowed:\n            break\n",
            "",
            f"{_RECONCILE}::test_more_gone_than_the_limit_disables_nothing_and_asks_for_one_more",
        ),
        (
            "more are disabled than the limit allows",
            "if not _are_few_enough(run, report, gone):\n        return False\n",
            "",
            f"{_RECONCILE}::test_more_gone_than_the_limit_disables_nothing_and_asks_for_one_more",
        ),
        (
            "more named ones are disabled than the limit allows",
            "if _are_few_enough(run, report, absent):\n",
            "if True:\n",
            f"{_ADMIN}::test_reconciling_many_that_are_gone_disables_none",
        ),
        (
            "one that was created during the listing is asked for as an old one",
            "still_there = partial(_exists, before=run.young_after)",
            "still_there = partial(_exists, before=run.now + timedelta(days=9))",
            f"{_RECONCILE}::test_one_that_was_created_while_the_listing_was_read_is_not_missing",
        ),
        (
            "a row that is being relinked is asked for",
            "if workos_id and id_ not in report.claimed and workos_id not in seen:",
            "if workos_id and workos_id not in seen:",
            f"{_SAFETY_LINES}::test_a_row_whose_relink_is_on_its_way_counts_for_no_limit",
        ),
        (
            "rows that were listed are asked for",
            "if workos_id and id_ not in report.claimed and workos_id not in seen:",
            "if workos_id and id_ not in report.claimed:",
            f"{_SAFETY_LINES}::test_neither_a_disabled_row_nor_one_that_was_listed_is_asked_for",
        ),
        (
            "disabled rows are asked for by every snapshot",
            "Organization.objects.linked().filter(disabled_at__isnull=True)",
            "Organization.objects.linked()",
            f"{_SAFETY_LINES}::test_neither_a_disabled_row_nor_one_that_was_listed_is_asked_for",
        ),
        (
            "only the first thousand rows are looked at",
            "last = chunk[-1][0]\n",
            "last = chr(0x10FFFF)\n",
            f"{_SAFETY_LINES}::test_all_the_missing_are_disabled_however_many_are_looked_at_at_once",
        ),
        (
            "an organization that nobody knows is passed over",
            "raise UnknownOrganization(",
            "return {}\n        raise UnknownOrganization(",
            f"{_RECONCILE}::test_one_that_neither_side_knows_is_an_error_and_nothing_is_done",
        ),
        (
            "a row whose organization is gone is disabled although another names it",
            "if heir := workos.find_by_external_id(row.id):",
            "if heir := None:",
            f"{_SAFETY_LINES}::test_a_row_that_another_organization_names_is_relinked_by_its_old_ones_id",
        ),
        (
            "organizations that are named twice are counted twice",
            "for id_ in dict.fromkeys(ids):",
            "for id_ in ids:",
            f"{_SAFETY_LINES}::test_a_row_of_the_mirrors_alone_that_is_named_twice_is_counted_once",
        ),
        (
            "a young difference of a named organization is left to its event",
            "compare_organizations(run, report, present, young_after=None)",
            "compare_organizations(run, report, present, young_after=run.young_after)",
            f"{_RECONCILE}::test_a_young_difference_of_one_is_applied_all_the_same",
        ),
    ),
    *mutants(
        "orgs/services/write_back.py",
        (_WRITE_BACK, _SAFETY_LINES),
        (
            "requests are pushed after the deadline",
            "if halt.is_out_of_time:\n        return _Answer(claim, is_untried=True)\n",
            "",
            f"{_SAFETY_LINES}::test_nothing_is_pushed_after_the_deadline",
        ),
        (
            "a revoked key is found out by every batch",
            "while not (halt.trouble or report.is_cut_short):",
            "while not report.is_cut_short:",
            f"{_WRITE_BACK}::test_what_concerns_every_call_is_not_found_out_by_each",
        ),
        (
            "what concerns every call is found out by each of a batch",
            "if halt.trouble is not None:\n        return _postponed(claim, halt.trouble)\n",
            "",
            f"{_WRITE_BACK}::test_what_concerns_every_call_is_not_found_out_by_each",
        ),
        (
            "requests of rows that are linked no more are kept",
            "cursor.execute(sql.FORGET_UNLINKED_WRITE_BACKS, [due_at])\n",
            "",
            f"{_WRITE_BACK}::test_a_request_of_a_row_that_is_linked_no_more_is_forgotten",
        ),
        (
            "a request is tried twice in a run",
            "cursor.execute(sql.CLAIM_WRITE_BACKS, [seconds, due_at, ids, ids, _BATCH_SIZE])",
            "cursor.execute(sql.CLAIM_WRITE_BACKS, [seconds, 'infinity', ids, ids, _BATCH_SIZE])",
            f"{_SAFETY_LINES}::test_a_request_is_tried_once_a_run_even_if_it_is_due_again",
        ),
        (
            "a claim is shorter than its batch",
            "seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout",
            "seconds = 0.0",
            f"{_SAFETY_LINES}::test_what_is_claimed_is_left_to_whoever_claimed_it",
        ),
        (
            "what was not tried counts as confirmed",
            "return self.error is None and not self.is_untried",
            "return self.error is None",
            f"{_WRITE_BACK}::test_what_there_is_no_time_for_is_given_back",
        ),
        (
            "what was not tried waits until its claim ends",
            "_requests(a for a in answers if a.is_untried))",
            "_requests(a for a in answers if False))",
            f"{_WRITE_BACK}::test_what_there_is_no_time_for_is_given_back",
        ),
        (
            "without a key each request finds out by itself",
            "_OF_ALL = (workos.NotConfigured, workos.Unauthorized, workos.RateLimited)",
            "_OF_ALL = (workos.Unauthorized, workos.RateLimited)",
            f"{_WRITE_BACK}::test_without_a_key_no_more_than_a_batch_is_tried",
        ),
        (
            "a conflict is tried again",
            "return _Answer(claim, error=str(conflict))",
            "return _Answer(claim, str(conflict), retry_delay(claim.attempts))",
            f"{_WRITE_BACK}::test_a_conflict_is_kept_with_its_error_for_a_person",
        ),
        (
            "a 404 waits for a deletion that was read",
            "retry_delay(claim.attempts), is_gone=True)",
            "retry_delay(claim.attempts))",
            f"{_WRITE_BACK}::test_a_404_ends_the_request_of_a_row_that_is_disabled_already",
        ),
        (
            "one failure stops the batch",
            "except workos.WorkOSTrouble as trouble:\n        if isinstance",
            "except ZeroDivisionError as trouble:\n        if isinstance",
            f"{_WRITE_BACK}::test_trouble_backs_off_with_its_error",
        ),
        (
            "a pause that WorkOS asks for is not kept",
            "delay = max(retry_delay(claim.attempts), trouble.retry_after or 0.0)",
            "delay = retry_delay(claim.attempts)",
            f"{_WRITE_BACK}::test_a_pause_that_workos_asks_for_is_kept",
        ),
        (
            "a pause grows without end",
            "min(_FIRST_DELAY * 2 ** min(attempts - 1, 30), _LONGEST_DELAY)",
            "_FIRST_DELAY * 2 ** min(attempts - 1, 30)",
            f"{_WRITE_BACK}::test_pauses_double_up_to_a_quarter_of_an_hour_half_of_it_jitter",
        ),
        (
            "other trouble with the database is taken for a lock",
            "if not is_passing(error):\n            raise\n        _write_free(settled)",
            "_write_free(settled)",
            f"{_SAFETY_LINES}::test_other_trouble_with_the_outbox_is_raised",
        ),
        (
            "one locked request keeps its batch waiting",
            "if not is_passing(error):\n            raise\n        _write_free(settled)",
            "raise",
            f"{_WRITE_BACK}::test_a_row_that_another_program_is_deleting_does_not_keep_the_batch_waiting",
        ),
    ),
)
