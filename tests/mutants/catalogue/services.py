"""Mutants of the use cases: transactions, leases, order, and what becomes of trouble."""

from tests.mutants.mutant import mutants

_APPLY = "tests/services/test_apply.py"
_DRAIN = "tests/services/test_drain.py"
_RECONCILE = "tests/services/test_reconcile.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_WRITE_BACK = "tests/services/test_write_back.py"
_COMMAND = "tests/management/test_reconcile_workos.py"
_VIEWS = "tests/test_views.py"
_SCHEDULES = "tests/services/test_schedules.py"

MUTANTS = (
    *mutants(
        "orgs/services/transactions.py",
        _SAFETY_LINES,
        (
            "a transaction of ours ends in another's commit",
            (
                "with transaction.atomic(durable=True):\n"
                "        with connection.cursor() as cursor:\n"
                "            cursor.execute(sql.SET_LOCK"
            ),
            (
                "with transaction.atomic():\n        with connection.cursor() as cursor:\n"
                "            cursor.execute(sql.SET_LOCK"
            ),
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
        ),
        (
            "a wait is as long as the setting",
            'min(sync_settings().lock_timeout, most or float("inf"))',
            "sync_settings().lock_timeout",
        ),
        (
            "a wait is longer than the setting",
            'min(sync_settings().lock_timeout, most or float("inf"))',
            "most or sync_settings().lock_timeout",
        ),
        (
            "locks are waited for without end",
            'cursor.execute(sql.SET_LOCK_TIMEOUT, [f"{int(seconds * 1000)}ms"])',
            "pass",
            (_APPLY, _SAFETY_LINES),
        ),
    ),
    *mutants(
        "orgs/services/faults.py",
        (_SAFETY_LINES, _APPLY, _RECONCILE),
        (
            "a unique violation is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
        ),
        (
            "a serialization failure is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _DEADLOCK_DETECTED})",
        ),
        (
            "a deadlock is no race",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE, _DEADLOCK_DETECTED})",
            "_RACES = frozenset({_UNIQUE_VIOLATION, _SERIALIZATION_FAILURE})",
        ),
        (
            "a data exception is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("23", "54")',
        ),
        (
            "an integrity violation is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "54")',
        ),
        (
            "a limit of PostgreSQL's is not the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23")',
        ),
        (
            "a missing column is the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23", "42", "54")',
        ),
        (
            "a lock not had is the content's fault",
            '_CONTENT_CLASSES = ("22", "23", "54")',
            '_CONTENT_CLASSES = ("22", "23", "54", "55")',
        ),
        ("a lost race is not run again", "range(_MAX_ATTEMPTS - 1)", "range(0)"),
        (
            "any trouble is tried again",
            "if _sqlstate(error) not in _RACES:\n                raise",
            "pass",
        ),
        (
            "what psycopg refuses stops the stream",
            "if state else isinstance(error, DataError)",
            "if state else False",
        ),
        (
            "a connection that is lost is the content's fault",
            "if state else isinstance(error, DataError)",
            "if state else True",
            (_SAFETY_LINES, _APPLY, _DRAIN),
        ),
        (
            "content that is refused stops its page",
            "return is_contents_fault(error) or _sqlstate(error)",
            "return _sqlstate(error)",
        ),
        (
            "a lock not had stops what stands before it",
            "or _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "or _sqlstate(error) in _RACES",
        ),
        (
            "a race that lasts stops what stands before it",
            "or _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "or _sqlstate(error) == _LOCK_NOT_AVAILABLE",
        ),
        (
            "a lock not had does not pass",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return _sqlstate(error) in _RACES",
            (_DRAIN, _RECONCILE),
        ),
        (
            "a lost race does not pass",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return _sqlstate(error) == _LOCK_NOT_AVAILABLE",
            (_DRAIN, _RECONCILE, _SAFETY_LINES),
        ),
        (
            "any trouble with the database passes",
            "return _sqlstate(error) in _RACES | {_LOCK_NOT_AVAILABLE}",
            "return True",
            (_DRAIN, _RECONCILE),
        ),
    ),
    *mutants(
        "orgs/services/apply.py",
        (_APPLY, _SAFETY_LINES, _DRAIN),
        (
            "a page read from elsewhere is applied",
            "return position is None or lock_cursor() == position",
            "return True",
        ),
        (
            "the cursor is compared by the event's id alone",
            "return position is None or lock_cursor() == position",
            "return position is None or lock_cursor().last_event_id == position.last_event_id",
        ),
        (
            "a replay reads the cursor",
            "read_from=None if replay else page.read_from,",
            "read_from=page.read_from,",
        ),
        (
            "every page reaches the end of the stream",
            "drained_at=page.read_at if page.is_last else None,",
            "drained_at=page.read_at,",
        ),
        (
            "trouble with no event of it is looked for event by event",
            "if not is_one_events_trouble(error):\n            raise\n        return _apply_one",
            "return _apply_one",
        ),
        (
            "one bad event stops its page",
            "return _apply_one_by_one(batch)",
            "raise",
        ),
        (
            "event by event, a page that others apply is not dropped",
            "self.dropped or other.dropped,",
            "self.dropped,",
        ),
        (
            "event by event, write-backs are not rung for",
            "self.requested_write_backs or other.requested_write_backs,",
            "self.requested_write_backs,",
        ),
        (
            "event by event, drift is not reported",
            "self.moved_rows or other.moved_rows,",
            "self.moved_rows,",
        ),
        (
            "event by event, the end is an event's and not the page's",
            "position=self.position if is_last else listed.position,",
            "position=listed.position,",
        ),
        (
            "event by event, the end is reached by the first event",
            "drained_at=self.drained_at if is_last else None,",
            "drained_at=self.drained_at,",
        ),
        (
            "event by event, the second is read from elsewhere",
            "if before is not None:\n                before = listed.position",
            "pass",
        ),
        (
            "event by event, a replay moves the cursor",
            "if before is not None:\n                before = listed.position",
            "before = listed.position",
        ),
        (
            "event by event, a page is applied beside others",
            "if total.dropped:\n            break\n",
            "",
        ),
        (
            "a lock not had parks an event",
            "if not is_contents_fault(error):\n            raise\n        return _park",
            "return _park",
        ),
        (
            "an event is parked in a page that others have applied",
            "if not _stands_at(single.read_from):\n            return Applied((), dropped=True)\n",
            "",
        ),
        (
            "a replay moves the cursor",
            "if batch.read_from is None:\n        return tuple(entries)\n",
            "",
        ),
        (
            "an event without an id at the end is reported by every read",
            "if entry.resolved.outcome is not Outcome.PARKED or entry.event.id in news\n",
            "",
        ),
        (
            "a creation that is listed after its deletion comes to life",
            "deleted=known_deletions({o.workos_id for o in organizations}),\n",
            "",
        ),
        (
            "event by event, what interrupts the rest is forgotten",
            "self.interrupted_by or other.interrupted_by,",
            "self.interrupted_by,",
        ),
        (
            "event by event, what was applied is told to nobody",
            "if not total.entries:\n                raise",
            "raise",
        ),
        (
            "event by event, trouble with the first is no trouble",
            "if not total.entries:\n                raise\n",
            "",
        ),
        (
            "a race of a single event is not run again",
            "return retry_races(partial(_apply, single))",
            "return _apply(single)",
        ),
        (
            "a race of a page is not run again",
            "return retry_races(partial(_apply, batch))",
            "return _apply(batch)",
        ),
    ),
    *mutants(
        "orgs/services/cursor.py",
        (_DRAIN, _RECONCILE, _SAFETY_LINES),
        (
            "a cursor that is not there can't be locked",
            "if row is None:\n            _create()\n",
            "if row is None:\n",
            _APPLY,
        ),
        (
            "an empty read from elsewhere notes its end",
            "_standing_at(page.read_from).update(",
            "_row().update(",
        ),
        (
            "an empty read from another time notes its end",
            "last_event_id=position.last_event_id, last_event_at=position.last_event_at)",
            "last_event_id=position.last_event_id)",
        ),
        (
            "an empty read leaves the failures",
            'drained_at=page.read_at, failures=0, last_error="")',
            'drained_at=page.read_at, last_error="")',
        ),
        (
            "an empty read leaves the last error",
            'drained_at=page.read_at, failures=0, last_error="")',
            "drained_at=page.read_at, failures=0)",
        ),
        (
            "failures do not add up",
            'failures=F("failures") + 1, last_error=error',
            "failures=1, last_error=error",
        ),
        (
            "the same error is news each time",
            "before.last_error != error)",
            "True)",
        ),
        (
            "a cursor that has moved on is taken back",
            "replaced = _standing_at(lost).update(",
            "replaced = _row().update(",
        ),
        (
            "a lost cursor keeps its event",
            "last_event_id=position.last_event_id,\n            last_event_at",
            "last_event_at",
        ),
        (
            "a lost cursor keeps its time",
            "last_event_at=position.last_event_at,\n            drained_at",
            "drained_at",
        ),
        (
            "a cursor that was mended is lost again after a month",
            "drained_at=drained_at,\n            failures",
            "failures",
        ),
        (
            "a cursor that was mended keeps its failures",
            'failures=0,\n            last_error="",\n',
            'last_error="",\n',
        ),
        (
            "a cursor that was mended keeps its error",
            'failures=0,\n            last_error="",\n',
            "failures=0,\n",
        ),
        (
            "a cursor that has moved on counts as mended",
            "return replaced == 1",
            "return True",
        ),
        (
            "a snapshot that ends keeps its lease",
            "if held is not None:\n                self.let_go(held)\n",
            "",
        ),
        (
            "a long snapshot loses its lease",
            "while held is not None and not done.wait(seconds / 4):",
            "while held is not None and not done.wait():",
        ),
        (
            "trouble with a lease fails the run",
            "except DatabaseUnusable:\n                    logger",
            "except ZeroDivisionError:\n                    logger",
        ),
        (
            "the thread that keeps a lease leaves its connection open",
            "finally:\n            connection.close()",
            "finally:\n            pass",
        ),
        (
            "a lease that can't be released fails its holder",
            "except DatabaseUnusable:\n            logger",
            "except ZeroDivisionError:\n            logger",
        ),
        (
            "a connection that is lost keeps a lease from being renewed",
            "# Or one that is broken would stay so.\n                    connection.close()",
            "pass",
        ),
        (
            "two failures at once count as one",
            "_row().select_for_update(no_key=True).get()",
            "_row().get()",
        ),
        (
            "a lost cursor that is locked is waited for without end",
            "with bounded_transaction():\n        replaced",
            "if True:\n        replaced",
        ),
        (
            "a lease that has run out keeps webhooks from ringing",
            "draining_until__gt=Now()",
            "draining_until__isnull=False",
            (_DRAIN, _VIEWS, _SAFETY_LINES),
        ),
        (
            "a snapshot keeps drains from waiting",
            'SNAPSHOT = "reconciling_until"',
            'SNAPSHOT = "draining_until"',
        ),
    ),
    *mutants(
        "orgs/services/drain.py",
        (_DRAIN, _SAFETY_LINES),
        (
            "a drain settles nothing that is overdue",
            "report.unsettled = settle_overdue()",
            "pass",
        ),
        (
            "a replay from an unknown event begins at the first",
            "_raise_if_ignored(page, report)\n                _apply",
            "_apply",
        ),
        (
            "a replay applies as a drain does",
            "_apply(page, report, replay=True)",
            "_apply(page, report)",
        ),
        (
            "a dry run counts events after a position that has expired",
            "_raise_if_expired(start)\n    with closing",
            "with closing",
            _RECONCILE,
        ),
        (
            "other trouble with the database is taken for a lock",
            'if not is_passing(error):\n            raise\n        logger.warning("the cursor',
            'logger.warning("the cursor',
        ),
        (
            "a locked cursor fails the task",
            'if not is_passing(error):\n            raise\n        logger.warning("the cursor',
            'raise\n        logger.warning("the cursor',
        ),
        (
            "what stands behind a page that ends early is overdue",
            "if overdue and not _is_at_the_end():\n            return None\n",
            "pass\n",
        ),
        (
            "trouble with the last look fails the drain",
            "except WorkOSTrouble as error:\n        return error",
            "except ZeroDivisionError as error:\n        return None",
        ),
        (
            "what can't be settled uses up the time of the rest",
            "random.shuffle(overdue)",
            "pass",
        ),
        (
            "overdue announcements are settled after the deadline",
            "if _has_passed(deadline):\n            break\n",
            "",
        ),
        (
            "the worker settles without a deadline",
            "report.unsettled = settle_overdue(deadline=deadline)",
            "report.unsettled = settle_overdue()",
        ),
        (
            "one that can't be settled stops the rest",
            "except WorkOSTrouble as error:\n            trouble = error\n        except",
            "except WorkOSTrouble as error:\n            return error\n        except",
        ),
        (
            "other trouble with the database is taken for one that can't be settled",
            "if not is_passing(error):\n                raise\n            trouble = error",
            "trouble = error",
        ),
        (
            "a locked row stops the rest that is overdue",
            "if not is_passing(error):\n                raise\n            trouble = error",
            "raise",
        ),
        (
            "an announcement that another has settled fails the drain",
            "except AlreadySeen:\n            continue",
            "except ZeroDivisionError:\n            continue",
        ),
        (
            "what can't be settled is tried at each read",
            "if report.drained and total.unsettled is None:",
            "if report.drained:",
        ),
        (
            "trouble that interrupts a page is passed over",
            "if applied.interrupted_by is not None:\n        raise applied.interrupted_by\n",
            "",
        ),
        (
            "the drain does not wait",
            "if not _unseen() and not _has_passed(deadline):",
            "if not _has_passed(deadline):",
        ),
        (
            "there is no last look",
            "if not _unseen():\n                    return\n",
            "return\n",
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
        ),
        (
            "a drain that ends keeps its lease",
            "if held is not None:\n            Lease.DRAIN.let_go(held)",
            "pass",
        ),
        (
            "a drain rings although another has the lease",
            "# Another drain has it, and waits.\n                    return\n",
            "# Another drain has it, and waits.\n                    break\n",
        ),
        (
            "a drain that is cut short does not ring",
            "Lease.DRAIN.let_go(held)\n    ring(SYNC_EVENTS)",
            "Lease.DRAIN.let_go(held)",
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
        ),
        (
            "other trouble with the database is not noted",
            "_note(trouble)\n            raise",
            "raise",
        ),
        (
            "other trouble with the database is waited out",
            "if not is_passing(error):\n            _note(trouble)\n            raise\n",
            "",
        ),
        (
            "what was applied before trouble is told to nobody",
            "finally:\n        _announce(report)\n",
            "else:\n        _announce(report)\n    finally:\n",
        ),
        (
            "write-backs are not rung for",
            "if report.requested_write_backs:\n        ring(PUSH_EXTERNAL_IDS)\n",
            "",
        ),
        (
            "write-backs are rung for without a request",
            "if report.requested_write_backs:\n        ring(PUSH_EXTERNAL_IDS)\n",
            "ring(PUSH_EXTERNAL_IDS)\n",
        ),
        ("a lost cursor waits for the daily snapshot", "ring(RECONCILE)", "pass"),
        (
            "a cursor that can't be noted on hides the trouble",
            "except DatabaseError:\n        # It may be",
            "except ZeroDivisionError:\n        # It may be",
        ),
        ("the same trouble is said once a second", "if failure.is_news:", "if True:"),
        (
            "a revoked key is said softly",
            "level = logging.CRITICAL if needs_person else logging.WARNING",
            "level = logging.WARNING",
        ),
        ("a pause grows without end", ", _LONGEST_PAUSE)", ", float('inf'))"),
        ("pauses do not grow", "2.0 ** min(failure.count, 10)", "2.0"),
        (
            "a pause that WorkOS asks for is not kept",
            "return max(growing, asked_for)",
            "return growing",
        ),
        (
            "a drain waits for what is overdue",
            "return WorkOSEvent.objects.unseen(within=window).exists()",
            "return WorkOSEvent.objects.announced_and_unseen().exists()",
        ),
        (
            "a loss counts although another has moved the position",
            "if standing().position == lost.position:\n                raise",
            "raise",
        ),
        (
            "a position that has expired is read from",
            "_raise_if_expired(start)\n        try",
            "try",
        ),
        ("an empty read does not note the end", "note_drained(page)\n", ""),
        (
            "a dropped page reaches the end",
            "report.drained = page.is_last and not applied.dropped",
            "report.drained = page.is_last",
        ),
        (
            "the drain goes on behind a page that others have applied",
            "if applied.dropped or _has_passed(deadline):",
            "if _has_passed(deadline):",
        ),
        (
            "a backlog is drained beyond the deadline",
            "if applied.dropped or _has_passed(deadline):",
            "if applied.dropped:",
        ),
        (
            "the beginning is a position that can be lost",
            "if position == Position() or not _is_readable_without_position():",
            "if not _is_readable_without_position():",
        ),
        (
            "trouble with every read is a lost cursor",
            "if position == Position() or not _is_readable_without_position():",
            "if position == Position():",
        ),
        (
            "a silent restart is no lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if False:",
        ),
        (
            "an event with an old time is a lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if _begins_too_early(page):",
        ),
        (
            "a read that begins within a minute of the position is a lost cursor",
            "if _begins_too_early(page) and _was_position_ignored(page):",
            "if page.read_from.last_event_id and _was_position_ignored(page):",
        ),
        (
            "events of one moment, listed either way round, are a lost cursor",
            "begins_at < after - _RESTART_MARGIN",
            "begins_at < after",
        ),
        (
            "an undated event hides a restart",
            "next((moment for moment in times if moment is not None), after)",
            "next(times) or after",
        ),
        (
            "an environment without events loses its cursor",
            "if start.drained_at is None or start.position == Position():",
            "if start.drained_at is None:",
        ),
        (
            "WorkOS keeps events for ever",
            "if datetime.now(UTC) - start.drained_at > EVENT_RETENTION:",
            "if False:",
        ),
        (
            "a replay asks about its position for every page",
            "if page.read_from.last_event_id and not report.read and",
            "if page.read_from.last_event_id and",
        ),
        (
            "trouble with the second question is raised instead of the refusal",
            "except WorkOSTrouble:\n        return False",
            "except ZeroDivisionError:\n        return False",
        ),
    ),
    *mutants(
        "orgs/services/intake.py",
        (_VIEWS, _SAFETY_LINES),
        (
            "a webhook without a secret to compare is unauthorized",
            "if not secrets:\n        return Receipt.NOT_CONFIGURED\n",
            "",
        ),
        (
            "a webhook that is not signed is taken",
            (
                "if not workos.is_signed(body, signature, secrets):\n"
                "        return Receipt.NOT_SIGNED\n"
            ),
            "",
        ),
        (
            "an event of another type is announced",
            "if announcement.type in workos.FOLLOWED_TYPES and _announce(announcement):",
            "if _announce(announcement):",
        ),
        (
            "a webhook rings although a drain waits",
            "if not is_drain_waiting():",
            "if True:",
        ),
        ("a webhook does not ring", "ring(SYNC_EVENTS)\n    except", "pass\n    except"),
        (
            "a webhook rings before its row is committed",
            (
                "if announcement.type in workos.FOLLOWED_TYPES and _announce(announcement):\n"
                "        _ring_unless_a_drain_waits()"
            ),
            (
                "if announcement.type in workos.FOLLOWED_TYPES:\n"
                "        _ring_unless_a_drain_waits()\n        _announce(announcement)"
            ),
        ),
        (
            "a webhook that can't ring is answered 503",
            'except DatabaseError:\n        logger.exception("could not ring',
            'except ZeroDivisionError:\n        logger.exception("could not ring',
        ),
        (
            "a webhook waits for a lock of its event as long as a drain does",
            "with bounded_transaction(most=_LONGEST_WAIT), connection.cursor() as cursor:",
            "with bounded_transaction(), connection.cursor() as cursor:",
        ),
    ),
    *mutants(
        "orgs/services/mirror.py",
        (_SAFETY_LINES, _APPLY),
        (
            "links are written before they are cleared",
            (
                "if plan.unlinked:\n"
                "        _execute(sql.UNLINK_ORGANIZATIONS, list(plan.unlinked))\n"
                "    if plan.updated:\n"
                "        _execute(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))\n"
            ),
            (
                "if plan.updated:\n"
                "        _execute(sql.UPDATE_ORGANIZATIONS, *_columns(plan.updated))\n"
                "    if plan.unlinked:\n"
                "        _execute(sql.UNLINK_ORGANIZATIONS, list(plan.unlinked))\n"
            ),
        ),
        (
            "rows are inserted before the others are updated",
            "if plan.unlinked:\n",
            "if plan.created:\n        _insert(plan.created)\n    if plan.unlinked:\n",
        ),
        (
            "an error that PostgreSQL can't store stops the page",
            'storable(resolved.error) if parked else ""',
            'resolved.error if parked else ""',
        ),
        (
            "the last of an event's entries in a page counts",
            "first.setdefault(entry.event.id, entry)",
            "first[entry.event.id] = entry",
        ),
        (
            "of two deletions the earlier counts",
            "sorted(pairs, key=lambda pair: pair[1].encode())",
            "sorted(pairs, key=lambda pair: pair[1].encode(), reverse=True)",
        ),
        (
            "the ledger is written in the order of the page",
            "for key in sorted(first)]",
            "for key in first]",
        ),
        (
            "requests are written in the order of the page",
            "ids = sorted(plan.write_backs)",
            "ids = list(plan.write_backs)",
        ),
        (
            "new rows are inserted in the order of the page",
            "rows = sorted((creation.row for creation in creations), key=lambda row: row.id)",
            "rows = [creation.row for creation in creations]",
        ),
        (
            "namesakes of a page get the same slug",
            "taken.add(slug)\n",
            "",
        ),
        (
            "slugs are chosen without their locks",
            "_execute(sql.LOCK_SLUGS, bases)\n",
            "",
        ),
        (
            "slugs that are taken are not looked for",
            "taken = {slug for (slug,) in cursor.fetchall()}",
            "taken: set[str] = set()",
        ),
        (
            "a row that is created and deleted in a page is inserted enabled",
            "[row.disabled for row in rows],",
            "[False for row in rows],",
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
        ),
    ),
    *mutants(
        "orgs/services/prune.py",
        (_SAFETY_LINES, "tests/services/test_prune.py"),
        ("an entry that someone has locked is waited for", "skip_locked=True", "skip_locked=False"),
        (
            "pruning ends in another's commit",
            "transaction.atomic(durable=True)",
            "transaction.atomic()",
        ),
        ("all is deleted in one transaction", '.order_by("id")[:_BATCH_SIZE]', '.order_by("id")'),
        ("tasks are kept for ever", "Task.objects.filter(stopped__lt=before).delete()\n", ""),
        (
            "young tasks are forgotten",
            "Task.objects.filter(stopped__lt=before)",
            "Task.objects.all()",
        ),
    ),
    *mutants(
        "orgs/services/ring.py",
        (_DRAIN, _VIEWS, _SAFETY_LINES),
        (
            "a failed ring fails its caller",
            "except Exception:\n",
            "except ZeroDivisionError:\n",
        ),
        (
            "a snapshot is ended by the time limit of other tasks",
            '{"timeout": RECONCILE_TIMEOUT} if task == RECONCILE else {}',
            "{}",
        ),
    ),
    *mutants(
        "orgs/services/schedules.py",
        (_SCHEDULES, _SAFETY_LINES),
        ("machines that migrate at once make them twice", "cursor.execute(_LOCK)\n", ""),
        (
            "without the queue's tables a migration fails",
            "if Schedule._meta.db_table not in connection.introspection.table_names():",
            "if False:",
        ),
        ("doubles stay", "present.exclude(id=first.id).delete()\n", ""),
        ("schedules end in another's commit", "using=using, durable=True", "using=using"),
        ("arguments that don't parse stay", '"args": None,\n', ""),
        ("keyword arguments that don't parse stay", '"kwargs": wanted.kwargs,\n', ""),
        ("a hook of another's stays", '"hook": None,\n', ""),
        ("a schedule of another cluster's stays there", '"cluster": None,\n', ""),
        ("a cron expression stays", '"cron": None,\n', ""),
        ("a schedule that has run out stays so", '"repeats": -1,\n', ""),
        ("a schedule of another kind stays so", '"schedule_type": wanted.schedule_type,\n', ""),
        ("a schedule of other minutes stays so", '"minutes": wanted.minutes,\n', ""),
        ("a schedule of another task stays so", '"func": wanted.task,\n', ""),
    ),
    *mutants(
        "orgs/services/snapshots.py",
        (_SNAPSHOTS, _SAFETY_LINES),
        (
            "a row that was taken over is disabled with its old organization",
            "return _snapshot_of_heir(workos_id) or Snapshot(workos_id, None)",
            "return Snapshot(workos_id, None)",
        ),
        (
            "every linked organization is asked for by a snapshot of one",
            "Organization.objects.linked().filter(id__in=touched_ids([organization]))",
            "Organization.objects.linked()",
        ),
        (
            "an organization that is linked rightly is asked for again",
            "linked = rows.exclude(workos_id=organization.workos_id)",
            "linked = rows",
        ),
        (
            "an heir that WorkOS refuses to name fails the snapshot",
            "except workos.Refused:\n        return None\n    if organization",
            "except ZeroDivisionError:\n        return None\n    if organization",
        ),
        (
            "a rival is taken for gone without asking",
            "frozenset(filter(is_gone, rivals))",
            "frozenset(rivals)",
        ),
        (
            "what is not waited for is asked for",
            'raise AlreadySeen(f"{event_id} is not waited for")',
            "event = WorkOSEvent.objects.get(id=event_id)",
        ),
        (
            "parking waits for a lock without end",
            "with bounded_transaction():\n        return park(*reason)",
            "return park(*reason)",
        ),
        (
            "dismissing waits for a lock without end",
            "with bounded_transaction():\n        return parked",
            "if True:\n        return parked",
        ),
        (
            "what is not parked is replayed",
            'raise NotParked(f"{event_id} is not parked")',
            "event = WorkOSEvent.objects.get(id=event_id)",
        ),
        (
            "a replay of all ends at one that is not parked any more",
            "except NotParked:\n            continue",
            "except NotParked:\n            break",
            (_SNAPSHOTS, _COMMAND),
        ),
        (
            "a replay of all has no deadline",
            "if time.monotonic() > deadline:",
            "if False:",
            (_SNAPSHOTS, _COMMAND),
        ),
        (
            "events that are not parked are dismissed",
            "WorkOSEvent.objects.parked().filter(id__in=event_ids)",
            "WorkOSEvent.objects.filter(id__in=event_ids)",
        ),
        (
            "an organization that can't be read stays announced for ever",
            "except workos.UnreadableOrganization as problem:\n        return _alone",
            "except ZeroDivisionError as problem:\n        return _alone",
        ),
        (
            "a refusal leaves an announcement for ever",
            "except workos.Refused as refusal:\n        return _alone",
            "except ZeroDivisionError as refusal:\n        return _alone",
        ),
        (
            "any trouble with the database parks",
            "if not is_contents_fault(error):\n            raise\n        return _alone",
            "return _alone",
        ),
        (
            "content that PostgreSQL refuses is asked for for ever",
            "if not is_contents_fault(error):\n            raise\n        return _alone",
            "raise\n        return _alone",
        ),
        (
            "a snapshot that loses a race fails",
            "return retry_races(partial(_apply, snapshot, note, park))",
            "return _apply(snapshot, note, park)",
        ),
        (
            "a snapshot undoes a deletion that the stream brings meanwhile",
            "lock_cursor()\n        resolved",
            "resolved",
        ),
        (
            "a conflict counts as applied",
            "if resolved.outcome is Outcome.CONFLICT:\n            return park(resolved.error)\n",
            "",
        ),
        (
            "a snapshot does not look for deletions",
            "deleted = known_deletions([snapshot.workos_id])",
            "deleted: dict[str, str] = {}",
        ),
        (
            "an unreadable rival is gone",
            "except workos.UnreadableOrganization:\n        return False\n",
            "except workos.UnreadableOrganization:\n        return True\n",
        ),
        (
            "a replay counts as applied although nothing changed",
            "outcome = Outcome.STALE if unchanged else resolved.outcome",
            "outcome = resolved.outcome",
        ),
        (
            "an event dismissed meanwhile is replayed",
            "WorkOSEvent.objects.parked().filter(id=event_id).update(\n        outcome=outcome,",
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=outcome,",
        ),
        (
            "an event dismissed meanwhile has an error",
            "WorkOSEvent.objects.parked().filter(id=event_id).update(error=storable(reason))",
            "WorkOSEvent.objects.filter(id=event_id).update(error=storable(reason))",
        ),
        (
            "a reason that can't be stored fails the replay",
            ".update(error=storable(reason))",
            ".update(error=reason)",
        ),
        (
            "an event that was read meanwhile is missing",
            (
                "WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(\n"
                "        outcome=Outcome.MISSING"
            ),
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=Outcome.MISSING",
        ),
        (
            "an event that was read meanwhile is parked",
            (
                "WorkOSEvent.objects.announced_and_unseen().filter(id=event_id).update(\n"
                "        outcome=Outcome.PARKED"
            ),
            "WorkOSEvent.objects.filter(id=event_id).update(\n        outcome=Outcome.PARKED",
        ),
    ),
    *mutants(
        "orgs/services/repair.py",
        (_RECONCILE, _SAFETY_LINES),
        (
            "the limit is the smaller of the two",
            "return max(self.rows, int(linked * self.percent / 100))",
            "return min(self.rows, int(linked * self.percent / 100))",
        ),
        (
            "a dry run reads where it could write",
            "with read_only_transaction():\n        yield",
            "yield",
        ),
        (
            "a 404 is trouble",
            "except workos.NotFound:\n        return None\n    except workos.Unreadable",
            "except workos.NotFound:\n        raise\n    except workos.Unreadable",
        ),
        (
            "an organization that can't be read is trouble",
            "except workos.UnreadableOrganization as problem:\n        return Unreadable",
            "except ZeroDivisionError as problem:\n        return Unreadable",
        ),
        (
            "rivals that are gone are not asked for",
            "gone = _gone_rivals(rows, organizations)",
            "gone: frozenset[str] = frozenset()",
        ),
        (
            "a dry run tells a relinked row twice",
            "report.would_be |= comparison.rows_after",
            "pass",
        ),
        (
            "a dry run repairs",
            "if run.dry or comparison.plan.is_empty:",
            "if comparison.plan.is_empty:",
            (_RECONCILE, _COMMAND),
        ),
        (
            "a page in which nothing differs is locked",
            "if run.dry or comparison.plan.is_empty:",
            "if run.dry:",
        ),
        (
            "a dry run disables",
            "if run.dry:\n        with reading(run):\n            rows = [report",
            "if False:\n        with reading(run):\n            rows = [report",
            (_RECONCILE, _COMMAND),
        ),
        (
            "other trouble with the database is taken for a lock while disabling",
            "if not is_passing(error):\n            raise\n        if len(workos_ids) == 1:",
            "if len(workos_ids) == 1:",
        ),
        (
            "a row that is locked while it is disabled stops the rest",
            "if not is_passing(error):\n            raise\n        if len(workos_ids) == 1:",
            "raise\n        if len(workos_ids) == 1:",
        ),
        (
            "a race while disabling is not run again",
            "report.add(retry_races(partial(_write_absent, report, workos_ids)))",
            "report.add(_write_absent(report, workos_ids))",
        ),
        (
            "a race while repairing is not run again",
            "report.add(retry_races(partial(_write, organizations, gone, young_after)))",
            "report.add(_write(organizations, gone, young_after))",
        ),
        (
            "other trouble with the database is taken for a lock",
            "if not (is_contents_fault(error) or is_passing(error)):\n            raise\n",
            "",
        ),
        (
            "one bad organization stops the repair",
            "if not (is_contents_fault(error) or is_passing(error)):",
            "if not is_passing(error):",
        ),
        (
            "one locked row stops the repair",
            "if not (is_contents_fault(error) or is_passing(error)):",
            "if not is_contents_fault(error):",
        ),
        (
            "one bad organization keeps its page from repair",
            "if len(organizations) > 1:\n",
            "if False:\n",
        ),
        (
            "a reconcile undoes a deletion that the stream brings meanwhile",
            "lock_cursor()\n        rows",
            "rows",
        ),
        (
            "a page is not decided again under its locks",
            "rows = lock_rows(*_keys(organizations))",
            "rows = load_rows(*_keys(organizations))",
        ),
        (
            "rows are disabled without their locks",
            "_compare_absent(report, lock_rows(workos_ids, ()), workos_ids)",
            "_compare_absent(report, load_rows(workos_ids, ()), workos_ids)",
        ),
        (
            "a row that was taken over is disabled",
            "unclaimed = [row for row in rows if row.id not in report.claimed]",
            "unclaimed = list(rows)",
        ),
        (
            "known deletions are not looked for",
            "deleted=known_deletions(_doubtful(rows, organizations)),",
            "deleted={},",
        ),
        (
            "a disabled row that the stream has deleted is told to be disabled here",
            "alive = {row.workos_id for row in rows if not row.disabled}",
            "alive = {row.workos_id for row in rows}",
        ),
        (
            "a rival is taken for gone without asking",
            "if rival is not None and is_gone(rival))",
            "if rival is not None)",
        ),
    ),
    *mutants(
        "orgs/services/reconcile.py",
        (_RECONCILE, _COMMAND, _SAFETY_LINES),
        (
            "two snapshots are taken at once by the worker",
            "return _reconcile(run, drain_events=True) if is_alone else None",
            "return _reconcile(run, drain_events=True)",
        ),
        (
            "the stream does not go on after a lost cursor",
            "events = drain.drain_to_end()\n    concluded",
            "pass\n    concluded",
        ),
        (
            "a dry run drains",
            "if not run.dry:\n            return drain.drain_to_end(), None\n",
            "return drain.drain_to_end(), None\n",
        ),
        (
            "a lost cursor ends the run",
            "except CursorLost as lost:\n        logger.critical",
            "except ZeroDivisionError as lost:\n        logger.critical",
        ),
        (
            "a dry run pushes",
            "if not run.dry:\n        pushed = write_back",
            "if True:\n        pushed = write_back",
        ),
        (
            "a run of one organization pushes the requests of others",
            "deadline=time.monotonic() + _PUSH_SECONDS, only=only)",
            "deadline=time.monotonic() + _PUSH_SECONDS)",
        ),
        (
            "trouble with the echoes fails the run",
            "except (CursorLost, WorkOSTrouble, DatabaseError) as trouble:",
            "except ZeroDivisionError as trouble:",
        ),
        (
            "other trouble with the database is taken for a lock at the end of a run",
            "if isinstance(trouble, DatabaseError) and not is_passing(trouble):",
            "if False:",
        ),
        (
            "write-backs that there was no time for are no trouble",
            "if self.write_backs.is_cut_short:",
            "if False:",
        ),
        (
            "write-backs that failed are no trouble",
            "if failed:\n            trouble.append",
            "if False:\n            trouble.append",
        ),
        (
            "a lost cursor is mended by a listing that was not applied whole",
            "if lost is not None and not run.dry and not report.trouble:",
            "if lost is not None and not run.dry:",
        ),
        (
            "a dry run mends a lost cursor",
            "if lost is not None and not run.dry and not report.trouble:",
            "if lost is not None and not report.trouble:",
        ),
        (
            "a snapshot with trouble counts as completed",
            "if _settle_missing(run, report, seen) and not run.dry and not report.trouble:",
            "if _settle_missing(run, report, seen) and not run.dry:",
        ),
        (
            "a snapshot that disabled nothing counts as completed",
            "if _settle_missing(run, report, seen) and not run.dry and not report.trouble:",
            "if [_settle_missing(run, report, seen)] and not run.dry and not report.trouble:",
        ),
        (
            "a dry run counts as completed",
            "if _settle_missing(run, report, seen) and not run.dry and not report.trouble:",
            "if _settle_missing(run, report, seen) and not report.trouble:",
        ),
        (
            "trouble with the listing ends the run without a report",
            "except WorkOSTrouble as trouble:\n        report.trouble.append(",
            "except ZeroDivisionError as trouble:\n        report.trouble.append(",
        ),
        (
            "locked rows are not tried once more",
            "_settle_locked(run, report)\n    return seen",
            "return seen",
        ),
        (
            "a row that stays locked is not said",
            "report.trouble += [",
            "_ = [",
        ),
        (
            "a pause that WorkOS asks for ends the listing",
            "except workos.RateLimited as limited:",
            "except ZeroDivisionError as limited:",
        ),
        (
            "a pause of any length is kept in a listing",
            "if not 0 < (limited.retry_after or 0.0) <= _LONGEST_PAUSE:",
            "if not limited.retry_after:",
        ),
        (
            "an organization that is listed twice is compared twice",
            "if organization.workos_id not in self:",
            "if True:",
        ),
        (
            "the stream goes on from the snapshot, without an overlap",
            "position = Position(None, run.now - window - _OVERLAP)",
            "position = Position(None, run.now)",
        ),
        (
            "a refusal to say whether one exists ends the run",
            "except workos.Refused as refusal:\n        return refusal",
            "except ZeroDivisionError as refusal:\n        raise",
        ),
        (
            "a listing that is not complete disables",
            "elif answer:\n            report.trouble.append(",
            "elif answer and False:\n            report.trouble.append(",
        ),
        (
            "one that came during the listing is gone",
            "elif answer is False:",
            "else:",
        ),
        (
            "all that are missing are asked for, however many are gone",
            "if len(gone) > allowed:\n            break\n",
            "",
        ),
        (
            "more are disabled than the limit allows",
            "if not _are_few_enough(run, report, gone):\n        return False\n",
            "",
        ),
        (
            "more named ones are disabled than the limit allows",
            "if _are_few_enough(run, report, absent):\n",
            "if True:\n",
        ),
        (
            "one that was created during the listing is asked for as an old one",
            "still_there = partial(_exists, before=run.young_after)",
            "still_there = partial(_exists, before=run.now + timedelta(days=9))",
        ),
        (
            "a row that is being relinked is asked for",
            "if workos_id and id_ not in report.claimed and workos_id not in seen:",
            "if workos_id and workos_id not in seen:",
        ),
        (
            "rows that were listed are asked for",
            "if workos_id and id_ not in report.claimed and workos_id not in seen:",
            "if workos_id and id_ not in report.claimed:",
        ),
        (
            "disabled rows are asked for by every snapshot",
            "Organization.objects.linked().filter(disabled_at__isnull=True)",
            "Organization.objects.linked()",
        ),
        (
            "only the first thousand rows are looked at",
            "last = chunk[-1][0]\n",
            "last = chr(0x10FFFF)\n",
        ),
        (
            "an organization that nobody knows is passed over",
            "raise UnknownOrganization(",
            "return {}\n        raise UnknownOrganization(",
        ),
        (
            "a row whose organization is gone is disabled although another names it",
            "if heir := workos.find_by_external_id(row.id):",
            "if heir := None:",
        ),
        (
            "organizations that are named twice are counted twice",
            "for id_ in dict.fromkeys(ids):",
            "for id_ in ids:",
        ),
        (
            "a young difference of a named organization is left to its event",
            "compare_organizations(run, report, present, young_after=None)",
            "compare_organizations(run, report, present, young_after=run.young_after)",
        ),
    ),
    *mutants(
        "orgs/services/write_back.py",
        (_WRITE_BACK, _SAFETY_LINES),
        (
            "requests are pushed after the deadline",
            "if halt.is_out_of_time:\n        return _Answer(claim, is_untried=True)\n",
            "",
        ),
        (
            "a revoked key is found out by every batch",
            "while not (halt.trouble or report.is_cut_short):",
            "while not report.is_cut_short:",
        ),
        (
            "what concerns every call is found out by each of a batch",
            "if halt.trouble is not None:\n        return _postponed(claim, halt.trouble)\n",
            "",
        ),
        (
            "requests of rows that are linked no more are kept",
            "cursor.execute(sql.FORGET_UNLINKED_WRITE_BACKS, [due_at])\n",
            "",
        ),
        (
            "a request is tried twice in a run",
            "cursor.execute(sql.CLAIM_WRITE_BACKS, [seconds, due_at, ids, ids, _BATCH_SIZE])",
            "cursor.execute(sql.CLAIM_WRITE_BACKS, [seconds, 'infinity', ids, ids, _BATCH_SIZE])",
        ),
        (
            "a claim is shorter than its batch",
            "seconds = _ROUNDS_OF_CALLS * sync_settings().request_timeout",
            "seconds = 0.0",
        ),
        (
            "what was not tried counts as confirmed",
            "return self.error is None and not self.is_untried",
            "return self.error is None",
        ),
        (
            "what was not tried waits until its claim ends",
            "_requests(a for a in answers if a.is_untried))",
            "_requests(a for a in answers if False))",
        ),
        (
            "without a key each request finds out by itself",
            "_OF_ALL = (workos.NotConfigured, workos.Unauthorized, workos.RateLimited)",
            "_OF_ALL = (workos.Unauthorized, workos.RateLimited)",
        ),
        (
            "a conflict is tried again",
            "return _Answer(claim, error=str(conflict))",
            "return _Answer(claim, str(conflict), retry_delay(claim.attempts))",
        ),
        (
            "a 404 waits for a deletion that was read",
            "retry_delay(claim.attempts), is_gone=True)",
            "retry_delay(claim.attempts))",
        ),
        (
            "one failure stops the batch",
            "except workos.WorkOSTrouble as trouble:\n        if isinstance",
            "except ZeroDivisionError as trouble:\n        if isinstance",
        ),
        (
            "a pause that WorkOS asks for is not kept",
            "delay = max(retry_delay(claim.attempts), trouble.retry_after or 0.0)",
            "delay = retry_delay(claim.attempts)",
        ),
        (
            "a pause grows without end",
            "min(_FIRST_DELAY * 2 ** min(attempts - 1, 30), _LONGEST_DELAY)",
            "_FIRST_DELAY * 2 ** min(attempts - 1, 30)",
        ),
        (
            "other trouble with the database is taken for a lock",
            "if not is_passing(error):\n            raise\n        _write_one",
            "_write_one",
        ),
        (
            "one locked request keeps its batch waiting",
            "if not is_passing(error):\n            raise\n        _write_one",
            "raise\n        _write_one",
        ),
        (
            "one locked request keeps those behind it waiting",
            "if not is_passing(error):\n                raise\n            # Its claim",
            "raise\n            # Its claim",
        ),
        (
            "other trouble with one request is taken for a lock",
            "if not is_passing(error):\n                raise\n            # Its claim",
            "# Its claim",
        ),
    ),
)
