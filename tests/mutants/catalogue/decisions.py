"""Mutants of the pure modules: what becomes of a row, and how things are named."""

from tests.mutants.mutant import mutants

_CHECKS = "tests/test_checks.py"
_SETTINGS = "tests/test_settings.py"
_SLUGS = "tests/test_slugs.py"
_WORDING = "tests/test_wording.py"
_RESOLUTION = "tests/test_resolution.py"
_DRIFT = "tests/test_drift.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_RECONCILE = "tests/services/test_reconcile.py"
_HEALTH = "tests/test_health.py"

MUTANTS = (
    *mutants(
        "orgs/resolution.py",
        (_RESOLUTION, _DRIFT),
        (
            "an event is applied twice",
            "return event.id.encode() > row.workos_last_event_id.encode()",
            "return event.id.encode() >= row.workos_last_event_id.encode()",
        ),
        (
            "an older event rewinds a row",
            "return event.id.encode() > row.workos_last_event_id.encode()",
            "return True",
        ),
        (
            "a row written from an event is measured by time, too",
            "if row.workos_last_event_id is not None:",
            "if row.workos_last_event_id is not None and isinstance(event, OrganizationDeleted):",
        ),
        (
            "a deletion is measured by time",
            "if isinstance(event, OrganizationDeleted) or row.workos_updated_at is None:",
            "if row.workos_updated_at is None:",
        ),
        (
            "an event that is older than a snapshot rewinds it",
            "return event.organization.updated_at >= row.workos_updated_at",
            "return True",
        ),
        (
            "an event as old as the snapshot is stale",
            "return event.organization.updated_at >= row.workos_updated_at",
            "return event.organization.updated_at > row.workos_updated_at",
        ),
        (
            "a snapshot is measured by the time of another organization",
            "if row.workos_id != organization.workos_id or row.workos_updated_at is None:",
            "if row.workos_updated_at is None:",
            f"{_DRIFT}::test_a_row_that_moves_is_claimed_by_its_new_organization",
        ),
        (
            "an older snapshot rewinds a row",
            "return organization.updated_at < row.workos_updated_at",
            "return False",
        ),
        (
            "a snapshot as old as the row is stale",
            "return organization.updated_at < row.workos_updated_at",
            "return organization.updated_at <= row.workos_updated_at",
        ),
        (
            "an old difference is taken for traffic",
            "if organization.updated_at <= young_after:\n        return False\n",
            "",
            f"{_SAFETY_LINES}::test_a_deletion_that_the_stream_brings_meanwhile_is_not_undone",
        ),
        (
            "a young organization without a row is no traffic",
            "if row is None or row.workos_updated_at is None:\n        return True",
            "if row is None or row.workos_updated_at is None:\n        return False",
            f"{_RECONCILE}::test_a_row_whose_relink_is_on_its_way_is_not_disabled",
        ),
        (
            "an organization as old as its row is traffic",
            "return organization.updated_at > row.workos_updated_at",
            "return organization.updated_at >= row.workos_updated_at",
            f"{_RECONCILE}::test_echoes_that_cant_be_absorbed_are_left_to_the_worker",
        ),
        (
            "an error in one event stops the rest",
            "except Exception as error:  # noqa: BLE001 - one bad event must not stop the rest",
            "except ZeroDivisionError as error:",
        ),
        (
            "a snapshot takes a row from an organization that is there",
            (
                "if row.workos_id not in (None, organization.workos_id) and row.workos_id not in "
                "self.gone:"
            ),
            "if False:",
        ),
        (
            "a row never moves from an organization that is gone",
            " and row.workos_id not in self.gone:",
            ":",
        ),
        (
            "a disabled row whose organization is gone waits for its write-back",
            "if row.disabled:\n            self._pending[row.id] = None",
            "if row.disabled:",
            f"{_SAFETY_LINES}::test_an_absence_withdraws_the_request_of_a_disabled_row",
        ),
        (
            "the id that WorkOS names goes before the link",
            "return linked or self._rows.get(_gram_id(organization))",
            "return self._rows.get(_gram_id(organization)) or linked",
        ),
        (
            "links that move away are not cleared",
            "unlinked=tuple(row.id for row in changed if self._moved_away(row)),",
            "unlinked=(),",
        ),
        (
            "the echo of a write-back counts as drift",
            "if before.name != row.name or (",
            "if True or (",
            _RESOLUTION,
        ),
        (
            "a rename alone does not count as drift",
            "if before.name != row.name or (",
            "if (",
            _RESOLUTION,
        ),
        (
            "a new link alone does not count as drift",
            " or (before.workos_id is None and row.workos_id is not None):",
            ":",
        ),
        (
            "another link alone does not count as drift",
            "if self._moved_away(row):\n                yield Outcome.RELINKED\n",
            "",
        ),
        (
            "a second deletion counts as drift",
            "if row.disabled and not (before and before.disabled):",
            "if row.disabled:",
        ),
        (
            "a disabled row alone does not count as drift",
            (
                "if row.disabled and not (before and before.disabled):\n"
                "            yield Outcome.DISABLED\n"
            ),
            "",
        ),
        (
            "an older deletion disables a row",
            (
                "if not should_process_event(row, event):\n"
                "            return Resolved(Outcome.STALE, row.id)\n"
            ),
            "",
        ),
        (
            "a deletion leaves no trace of its event",
            "self._disable(replace(row, workos_last_event_id=event.id))",
            "self._disable(row)",
        ),
        (
            "a snapshot brings back what the stream has deleted",
            "if organization.workos_id in self._deleted and not self._linked_to(",
            "if False and not self._linked_to(",
            f"{_RESOLUTION}::test_a_snapshot_does_not_bring_a_deleted_organization_back",
        ),
        (
            "a row that a snapshot inserts refuses the events it overtook, by their ids",
            "row = self._insert(organization, event_id=None)",
            'row = self._insert(organization, event_id="event_9999")',
        ),
        (
            "a creation that is listed after its deletion comes to life",
            "if self._was_deleted_after(event):",
            "if False:",
        ),
        (
            "a creation after a deletion does not come to life",
            "return deletion is not None and event.id.encode() < deletion.encode()",
            "return deletion is not None",
        ),
        (
            "a deletion of the same page is not remembered",
            "self._note_deletion(event)\n",
            "",
        ),
        (
            "of two deletions of a page the last listed counts",
            "max(known, event.id, key=str.encode)",
            "event.id",
        ),
        (
            "a snapshot that changes nothing forgets the row's event",
            (
                "if (row.name, row.workos_id) == (organization.name, organization.workos_id):\n"
                "            return Outcome.UNCHANGED\n"
            ),
            "",
        ),
        (
            "a snapshot leaves the event's id, and older events are measured by it",
            "self._put(_overwritten(row, organization, event_id=None))",
            "self._put(_overwritten(row, organization, event_id=row.workos_last_event_id))",
        ),
        (
            "WorkOS is not told an id that it does not know",
            "self._pending[row_id] = organization.workos_id",
            "pass",
        ),
        (
            "another external_id takes the row out of the outbox",
            "elif organization.external_id == row_id:",
            "else:",
        ),
        (
            "a deletion leaves the row in the outbox",
            "self._disabled.add(row.id)\n        self._pending[row.id] = None",
            "self._disabled.add(row.id)",
        ),
        (
            "an organization is found by the link of a row that has moved",
            "self._id_by_workos_id.pop(before.workos_id, None)",
            "pass",
        ),
        (
            "the external_id is not taken for a Gram id",
            "return organization.external_id or derived_id(organization.workos_id)",
            "return derived_id(organization.workos_id)",
        ),
        (
            "a slug is chosen by the last name of a page",
            "replace(creation, row=self._rows[row_id])",
            "replace(creation, row=self._rows[row_id], named=self._rows[row_id].name)",
        ),
    ),
    *mutants(
        "orgs/drift.py",
        (_DRIFT, _RECONCILE),
        (
            "traffic is repaired instead of left to its event",
            (
                "if self.young_after and is_traffic(before, organization, "
                "young_after=self.young_after):"
            ),
            "if False:",
            f"{_DRIFT}::test_what_is_no_drift_is_counted_and_not_told",
        ),
        (
            "a row whose relink is on its way is disabled",
            (
                "if before is not None and before.workos_id != organization.workos_id:\n"
                "                self.claimed.add(before.id)\n"
            ),
            "",
            f"{_DRIFT}::test_a_row_whose_move_is_on_its_way_is_claimed_already",
        ),
        (
            "another external_id is no conflict",
            "if before is not None and _names_another(before, organization):",
            "if False:",
            f"{_DRIFT}::test_what_only_a_person_can_decide_is_told_and_left_alone",
        ),
        (
            "an older answer with another external_id is a conflict",
            "return not names_it and not is_stale_snapshot(row, organization)",
            "return not names_it",
            f"{_DRIFT}::test_an_older_answer_that_names_another_row_is_stale_and_no_conflict",
        ),
        (
            "a request that waits for a person is begun again by each snapshot",
            "if not self._waits_for_person(id_, workos_id)\n",
            "",
            f"{_DRIFT}::test_a_write_back_that_waits_for_a_person_is_a_conflict_and_not_asked_for_again",
        ),
        (
            "a person's decision about another organization keeps this one waiting",
            "return pending == PendingWriteBack(workos_id, waits_for_person=True)",
            "return pending is not None and pending.waits_for_person",
            f"{_DRIFT}::test_a_write_back_that_is_pending_is_still_drift",
        ),
        (
            "a row that was relinked is disabled with its old organization",
            "if resolved.outcome is Outcome.RELINKED:\n            self.claimed.add(id_)\n",
            "",
            f"{_DRIFT}::test_a_row_that_moves_is_claimed_by_its_new_organization",
        ),
        (
            "every organization that shows our id is written again",
            "tuple(id_ for id_ in plan.known_to_workos if id_ in pending)",
            "plan.known_to_workos",
            f"{_DRIFT}::test_what_is_no_drift_is_counted_and_not_told",
        ),
        (
            "a row that the stream has deleted is told to be disabled here",
            "is_disabled_here = after.disabled and organization.workos_id not in self.deleted",
            "is_disabled_here = after.disabled",
            f"{_DRIFT}::test_what_is_no_drift_is_counted_and_not_told",
        ),
        (
            "an id with control characters is printed as it is",
            "return id_ if id_.isprintable() else json.dumps(id_)",
            "return id_",
            f"{_DRIFT}::test_a_change_is_told_in_one_line_whatever_the_ids_hold",
        ),
        (
            "what is left alone counts as drift",
            "LEFT_ALONE = (Outcome.CONFLICT, DISABLED_HERE)",
            "LEFT_ALONE = ()",
            f"{_RECONCILE}::test_a_row_disabled_here_is_told_and_not_enabled",
        ),
    ),
    *mutants(
        "orgs/slugs.py",
        ("tests/test_slugs.py", _SAFETY_LINES),
        (
            "a slug is as long as the name",
            'return dashed[:MAX_BASE_LENGTH].strip("-")',
            'return dashed.strip("-")',
            f"{_SLUGS}::test_the_base_of_a_name",
        ),
        (
            "a slug that was cut ends in a dash",
            'return dashed[:MAX_BASE_LENGTH].strip("-")',
            "return dashed[:MAX_BASE_LENGTH]",
            f"{_SLUGS}::test_the_base_of_a_name",
        ),
        (
            "a name is read to its end",
            "text[:_MAX_READ]",
            "text",
            f"{_SLUGS}::test_the_base_of_a_name",
        ),
        (
            "a slug has one letter",
            "if len(base) < MIN_BASE_LENGTH:",
            "if not base:",
            f"{_SLUGS}::test_the_base_of_a_name",
        ),
        (
            "a slug is empty",
            'return base or "organization"',
            "return base",
            f"{_SLUGS}::test_a_name_and_an_id_that_leave_nothing_still_get_a_base",
        ),
        (
            "few namesakes get a slug",
            "_SUFFIX_LENGTHS = (4, 8, 16, 32, 64)",
            "_SUFFIX_LENGTHS = (4,)",
            f"{_SLUGS}::test_candidates_are_the_base_then_ever_more_digits_of_the_workos_id",
        ),
        (
            "only short suffixes tell namesakes apart",
            "_SUFFIX_LENGTHS = (4, 8, 16, 32, 64)",
            "_SUFFIX_LENGTHS = (4, 8, 16, 32)",
            f"{_SLUGS}::test_candidates_are_the_base_then_ever_more_digits_of_the_workos_id",
        ),
        (
            "all namesakes ask for the same slug",
            "digest = sha256(workos_id.encode()).hexdigest()",
            "digest = sha256(base.encode()).hexdigest()",
            f"{_SLUGS}::test_candidates_are_the_same_each_time_and_differ_by_workos_id",
        ),
    ),
    *mutants(
        "orgs/ids.py",
        "tests/test_ids.py",
        ("ids differ from other programs'", '"speakeasy.com"', '"gram.example"'),
        ("all events without an id are one", "sha256(content)", "sha256()"),
    ),
    *mutants(
        "orgs/wording.py",
        ("tests/test_wording.py", "tests/test_workos.py", "tests/services/test_write_back.py"),
        (
            "a NUL reaches PostgreSQL",
            r'.replace("\x00", "\\x00")',
            "",
            f"{_WORDING}::test_what_postgresql_cant_store_is_told_in_escapes",
        ),
        (
            "a lone surrogate can't be told",
            '"backslashreplace"',
            '"strict"',
            f"{_WORDING}::test_what_postgresql_cant_store_is_told_in_escapes",
        ),
        (
            "nothing counts as some text",
            'text != "" and ',
            "",
            f"{_WORDING}::test_text_is_storable_if_it_is_some_and_postgresql_takes_it",
        ),
        (
            "what PostgreSQL can't store counts as storable",
            " and storable(text) == text",
            "",
            f"{_WORDING}::test_text_is_storable_if_it_is_some_and_postgresql_takes_it",
        ),
        (
            "trouble is told in many lines",
            '" ".join(str(trouble).split())',
            "str(trouble)",
            f"{_WORDING}::test_trouble_is_told_in_one_short_line",
        ),
        (
            "trouble is told at any length",
            "if len(line) <= _MAX_LENGTH else",
            "if True else",
            f"{_WORDING}::test_trouble_is_told_in_one_short_line",
        ),
    ),
    *mutants(
        "orgs/tolerant_json.py",
        "tests/test_tolerant_json.py",
        (
            "nesting without end is an error",
            "except (RecursionError, ValueError):",
            "except ValueError:",
        ),
        (
            "a number without end is an error",
            "except (RecursionError, ValueError):",
            "except RecursionError:",
        ),
        (
            "bytes that are no text spoil a page",
            ', "surrogateescape"',
            "",
            "tests/test_tolerant_json.py::test_bytes_that_are_no_text_spoil_their_own_string_alone",
        ),
        (
            "a control character in a string spoils a page",
            ", strict=False",
            "",
            "tests/test_tolerant_json.py::test_control_characters_that_are_not_escaped_spoil_nothing",
        ),
        (
            "a long number is read as one",
            "return int(digits) if len(digits) <= _MAX_DIGITS else digits",
            "return int(digits)",
        ),
        (
            "brackets in strings are nesting",
            're.compile(r\'"(?>(?:[^"\\\\]+|\\\\.)*)(?:"|\\\\?\\Z)|[\\[\\]{}]\', re.DOTALL)',
            're.compile(r"[\\[\\]{}]", re.DOTALL)',
        ),
        (
            "a quote in a string ends it",
            r"""(?>(?:[^"\\]+|\\.)*)""",
            r"""(?>(?:[^"]+)*)""",
        ),
        (
            "what never ends is completed",
            "if depth <= _MAX_DEPTH:\n        yield",
            "if True:\n        yield",
        ),
        (
            "neighbours of what is nested too deeply are lost",
            "kept_until = token.end()",
            "kept_until = len(text)",
        ),
    ),
    *mutants(
        "orgs/health.py",
        _HEALTH,
        (
            "a warning wakes someone",
            "return Severity.WARNING if self in _WARNINGS else Severity.ERROR",
            "return Severity.ERROR",
        ),
        (
            "an error wakes nobody",
            "return Severity.WARNING if self in _WARNINGS else Severity.ERROR",
            "return Severity.WARNING",
        ),
        (
            "an error is ready",
            "return all(problem.severity is not Severity.ERROR for problem in self.problems)",
            "return True",
        ),
        (
            "missing schedules are no problem",
            "if figures.schedules.broken:",
            "if False:",
        ),
        (
            "a worker that is gone is no problem",
            "if delay > LONGEST_SCHEDULE_DELAY:",
            "if False:",
        ),
        (
            "a schedule that is just due is a problem",
            "if delay > LONGEST_SCHEDULE_DELAY:",
            "if delay:",
        ),
        (
            "an old cursor is no problem while reads fail",
            "if age is not None and age <= LONGEST_SINCE_DRAIN:",
            "if cursor.failures or (age is not None and age <= LONGEST_SINCE_DRAIN):",
        ),
        (
            "a cursor that was never drained is no problem",
            "if age is not None and age <= LONGEST_SINCE_DRAIN:",
            "if age is None or age <= LONGEST_SINCE_DRAIN:",
        ),
        (
            "reads that fail for a moment are a problem",
            "is_no_hiccup = age > LONGEST_FAILING or bool(figures.waiting.overdue)",
            "is_no_hiccup = True",
        ),
        (
            "an overdue announcement is told without its cause",
            "is_no_hiccup = age > LONGEST_FAILING or bool(figures.waiting.overdue)",
            "is_no_hiccup = age > LONGEST_FAILING",
        ),
        (
            "a refused key is a hiccup at first",
            "(is_no_hiccup or _needs_person(cursor.last_trouble))",
            "is_no_hiccup",
        ),
        (
            "the end of retention is no problem",
            "if age is not None and age > figures.event_retention - RETENTION_MARGIN:",
            "if False:",
        ),
        (
            "a kind of trouble of another release is a crash",
            "        _UNKNOWN_READ_TROUBLE,\n",
            "",
        ),
        (
            "WorkOS's words are in the sentence",
            'reason = f"; the last {_reads(cursor.failures)} failed: {reason}"',
            'reason = f"; the last {_reads(cursor.failures)} failed: {cursor.last_error}"',
        ),
        (
            "overdue announcements are no problem",
            "if waiting.overdue:",
            "if False:",
        ),
        (
            "parked events are no problem",
            "if waiting.parked:",
            "if False:",
        ),
        (
            "failing write-backs are no problem",
            "if waiting.write_backs_failing:",
            "if False:",
        ),
        (
            "conflicts are no problem",
            "if waiting.conflicts:",
            "if False:",
        ),
        (
            "one webhook that is lost is a problem though others came",
            "if last_day.recently_lost and not last_day.recently_announced:",
            "if last_day.recently_lost:",
        ),
        (
            "an hour without events is an hour without webhooks",
            "if last_day.recently_lost and not last_day.recently_announced:",
            "if not last_day.recently_announced:",
        ),
        (
            "a snapshot that was never taken is no problem",
            "if reconciled_at is None:",
            "if reconciled_at is None:\n        return\n    elif False:",
        ),
        (
            "an old snapshot is no problem",
            "elif figures.at - reconciled_at > LONGEST_SINCE_SNAPSHOT:",
            "elif False:",
        ),
    ),
    *mutants(
        "orgs/conf.py",
        ("tests/test_settings.py::test_a_secret_does_not_show_itself", "tests/test_checks.py"),
        (
            "a secret shows itself",
            "return \"'********'\"",
            "return str.__repr__(self)",
            f"{_SETTINGS}::test_a_secret_does_not_show_itself",
        ),
        (
            "a setting that does not exist is passed over",
            "if unknown:",
            "if False:",
            f"{_CHECKS}::test_a_setting_that_does_not_exist_is_named",
        ),
    ),
)
