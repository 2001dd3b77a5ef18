"""Mutants of the doors to the outside: the webhook, the admin, tasks, checks and the command; and
of the tables."""

from tests.mutants.mutant import mutants

_VIEWS = "tests/test_views.py"
_ADMIN = "tests/test_admin.py"
_ACTIONS = "tests/test_admin_actions.py"
_STATUS = "tests/test_admin_status.py"
_MODELS = "tests/test_models.py"
_DRAIN = "tests/services/test_drain.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_COMMAND = "tests/management/test_reconcile_workos.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_PRUNE = "tests/services/test_prune.py"
_WRITE_BACK = "tests/services/test_write_back.py"

_MAY_NOT_LOOK = """if not self.has_view_permission(request):
            raise PermissionDenied
        """

MUTANTS = (
    *mutants(
        "orgs/views.py",
        _VIEWS,
        (
            "a webhook wants a form's token",
            "@csrf_exempt\n",
            "",
            f"{_VIEWS}::test_a_new_event_is_announced_and_rung_for",
        ),
        (
            "a webhook can be fetched",
            "@require_POST\n",
            "",
            f"{_VIEWS}::test_another_method_is_405",
        ),
        (
            "a body that is announced to be long is read",
            "if length > MAX_BODY_BYTES:\n        return HttpResponse(status=413)\n",
            "",
            f"{_VIEWS}::test_a_body_over_a_mebibyte_is_413_and_stays_unread",
        ),
        (
            "a chunked body is as long as it likes",
            "if len(body) > MAX_BODY_BYTES:\n            return HttpResponse(status=413)\n",
            "",
            f"{_VIEWS}::test_a_body_in_chunks_is_read_up_to_a_mebibyte",
        ),
        (
            "a chunked body is read to its end",
            ".read(MAX_BODY_BYTES + 1)",
            ".read()",
            f"{_VIEWS}::test_chunks_without_end_are_413_after_a_mebibyte",
        ),
        (
            "a length that is no number is answered 500",
            "except ValueError:\n        return None",
            "except ZeroDivisionError:\n        return None",
            f"{_VIEWS}::test_a_length_that_is_none_is_not_a_500",
        ),
        (
            "a body that breaks off is answered 500",
            "except UnreadablePostError:\n        return",
            "except ZeroDivisionError:\n        return",
            f"{_VIEWS}::test_a_body_that_breaks_off_is_400",
        ),
        (
            "without a database a webhook is answered 500",
            "except DatabaseUnusable:\n",
            "except ZeroDivisionError:\n",
            f"{_VIEWS}::test_without_a_database_it_is_503_and_logged",
        ),
        (
            "a forged webhook is not told so",
            "Receipt.NOT_SIGNED: 401",
            "Receipt.NOT_SIGNED: 204",
            f"{_VIEWS}::test_without_the_header_it_is_401",
        ),
        (
            "a webhook that can't be checked is not sent again",
            "Receipt.NOT_CONFIGURED: 503",
            "Receipt.NOT_CONFIGURED: 204",
            f"{_VIEWS}::test_without_a_secret_it_is_503_and_said",
        ),
        (
            "a body in chunks is empty",
            'if "CONTENT_LENGTH" in request.META or not request.META.get("wsgi.input_terminated"):',
            "if True:",
            f"{_VIEWS}::test_a_body_in_chunks_is_read_up_to_a_mebibyte",
        ),
        (
            "chunks that are none are answered 500",
            "except Exception as error:\n        # Each",
            "except ZeroDivisionError as error:\n        # Each",
            f"{_VIEWS}::test_chunks_that_are_none_are_400",
        ),
    ),
    *mutants(
        "orgs/admin/base.py",
        _ADMIN,
        (
            "people add rows",
            "def has_add_permission(self, request: HttpRequest) -> bool:\n        return False",
            "def has_add_permission(self, request: HttpRequest) -> bool:\n        return True",
            f"{_ADMIN}::test_nobody_adds_rows_by_hand",
        ),
        (
            "people delete rows",
            (
                "def has_delete_permission(self, request: HttpRequest, obj: Shown | None = None)"
                " -> bool:\n        return False"
            ),
            (
                "def has_delete_permission(self, request: HttpRequest, obj: Shown | None = None)"
                " -> bool:\n        return True"
            ),
            f"{_ADMIN}::test_nobody_deletes_rows_by_hand",
        ),
        (
            "people edit what is read-only",
            (
                "def has_change_permission(self, request: HttpRequest, obj: Shown | None = None)"
                " -> bool:\n        return False"
            ),
            (
                "def has_change_permission(self, request: HttpRequest, obj: Shown | None = None)"
                " -> bool:\n        return True"
            ),
            f"{_ADMIN}::test_not_even_a_superuser_changes",
        ),
        (
            "any lookup reaches PostgreSQL",
            "return lookup in {offered.parameter_name for offered in self.list_filter}",
            "return True",
            f"{_ADMIN}::test_no_question_is_answered_500",
        ),
        (
            "a NUL in an address is answered 500",
            'return None if "\\x00" in object_id else super()',
            "return super()",
            f"{_ADMIN}::test_no_question_is_answered_500",
        ),
    ),
    *mutants(
        "orgs/admin/organizations.py",
        _ADMIN,
        (
            "what WorkOS owns can be edited",
            'readonly_fields = [\n        "id",\n        "name",',
            'readonly_fields = [\n        "id",',
            f"{_ADMIN}::test_what_workos_owns_stays_whatever_is_posted",
        ),
        (
            "a link can be edited",
            '"name",\n        "workos_id",\n        "workos_updated_at",',
            '"name",\n        "workos_updated_at",',
            f"{_ADMIN}::test_what_workos_owns_stays_whatever_is_posted",
        ),
        (
            "who may enable may disable",
            'return request.user.has_perm("orgs.disable_organization")',
            'return request.user.has_perm("orgs.enable_organization")',
            _ACTIONS,
        ),
        (
            "the action to disable needs no permission",
            '@admin.action(description="Disable here", permissions=["disable"])',
            '@admin.action(description="Disable here")',
            _ACTIONS,
        ),
        (
            "organizations are disabled without a question",
            "if not is_confirmed(request):\n            rows",
            "if False:\n            rows",
            _ACTIONS,
        ),
        (
            "organizations are reconciled without a question",
            "dry=not is_confirmed(request)",
            "dry=False",
            _ACTIONS,
        ),
        (
            "who disabled an organization is not kept",
            'self._log(request, id_, f"{done} here")',
            "pass",
            _ACTIONS,
        ),
        (
            "the action to reconcile needs no permission",
            '@admin.action(description="Reconcile with WorkOS", permissions=["reconcile"])',
            '@admin.action(description="Reconcile with WorkOS")',
            f"{_ADMIN}::test_without_its_permission_nobody_reconciles",
        ),
        (
            "a person's change takes back what the sync has written",
            'obj.save(update_fields=[*form.changed_data, "updated_at"])',
            "obj.save()",
            f"{_ADMIN}::test_a_name_that_the_sync_writes_while_the_form_is_saved_survives",
        ),
        (
            "a person's page takes back what another program has written",
            "db_field, request, show_hidden_initial=True, **kwargs)",
            "db_field, request, **kwargs)",
            f"{_ADMIN}::test_what_another_program_wrote_since_the_page_was_shown_survives",
        ),
        (
            "a slug that is taken meanwhile is answered 500",
            "except DatabaseTrouble as trouble:\n            # Another",
            "except ZeroDivisionError as trouble:\n            # Another",
            f"{_ADMIN}::test_a_save_that_another_program_was_quicker_than_is_said_to_have_failed",
        ),
        (
            "trouble with WorkOS ends an action without a word",
            "except (UnknownOrganization, WorkOSTrouble) as trouble:",
            "except UnknownOrganization as trouble:",
            f"{_ADMIN}::test_reconciling_says_when_workos_cant_be_asked",
        ),
    ),
    *mutants(
        "orgs/admin/events.py",
        _ADMIN,
        (
            "events are acted on without a question",
            "if parked and not is_confirmed(request):",
            "if False:",
        ),
        (
            "who may look may act on parked events",
            "return self.has_view_permission(request) and request.user.has_perm(permission)",
            "return self.has_view_permission(request)",
            f"{_ADMIN}::test_the_other_permission_does_not_do",
        ),
        (
            "who may not look may act on parked events",
            "return self.has_view_permission(request) and request.user.has_perm(permission)",
            "return request.user.has_perm(permission)",
            f"{_ADMIN}::test_who_may_not_look_does_not_replay_all",
        ),
        (
            "the action to replay needs no permission",
            '@admin.action(description="Apply what WorkOS says now", permissions=["replay"])',
            '@admin.action(description="Apply what WorkOS says now")',
            f"{_ADMIN}::test_a_permission_shows_its_action_alone",
        ),
        (
            "the action to dismiss needs no permission",
            '@admin.action(description="Dismiss", permissions=["dismiss"])',
            '@admin.action(description="Dismiss")',
            f"{_ADMIN}::test_a_permission_shows_its_action_alone",
        ),
        (
            "who may replay may dismiss",
            'return self._may(request, "orgs.dismiss_workosevent")',
            'return self._may(request, "orgs.replay_workosevent")',
            f"{_ADMIN}::test_the_other_permission_does_not_do",
        ),
        (
            "to replay all needs no permission",
            "if not self.has_replay_permission(request):\n            raise PermissionDenied\n",
            "",
            f"{_ADMIN}::test_without_its_permission_nobody_replays_all",
        ),
        (
            "a link replays all",
            "if not is_confirmed(request):\n            return asking(",
            "if False:\n            return asking(",
            f"{_ADMIN}::test_replaying_all_asks_first_and_says_what_came_of_it",
        ),
        (
            "to replay all needs no one who is logged in",
            "self.admin_site.admin_view(self.replay_all_view),",
            "self.replay_all_view,",
            f"{_ADMIN}::test_strangers_who_would_replay_all_are_sent_to_the_login",
        ),
        (
            "a payload is a part of the page",
            'return format_html(\n            \'<pre class="payload"',
            (
                "return (lambda html, text: __import__('django.utils.safestring').utils.safestring"
                '.mark_safe(html.format(text)))(\n            \'<pre class="payload"'
            ),
            f"{_ADMIN}::test_a_parked_event_shows_its_payload_and_error",
        ),
        (
            "a lone surrogate in a payload is answered 500",
            "return storable(text)",
            "return text",
            f"{_ADMIN}::test_a_parked_event_shows_its_payload_and_error",
        ),
    ),
    *mutants(
        "orgs/admin/confirmation.py",
        _ACTIONS,
        (
            "what was not chosen is acted on after the question",
            "chosen=chosen,",
            "chosen=[subject.key for subject in subjects],",
        ),
        (
            "a NUL among what was ticked is answered 500",
            "if is_storable(id_)]",
            "]",
            _ADMIN,
        ),
        (
            "a row's page shows what makes no sense for it",
            "if self.applies(name, row):",
            "if True:",
        ),
    ),
    *mutants(
        "orgs/admin/write_backs.py",
        _ACTIONS,
        (
            "who may look may retry",
            'return request.user.has_perm("orgs.retry_externalidwriteback")',
            "return True",
        ),
        (
            "write-backs are retried without a question",
            "if not is_confirmed(request):",
            "if False:",
        ),
    ),
    *mutants(
        "orgs/admin/cursor.py",
        _STATUS,
        (
            "who may not look sees the status",
            f"{_MAY_NOT_LOOK}context",
            "context",
        ),
        (
            "who may not look rings",
            f"{_MAY_NOT_LOOK}chosen",
            "chosen",
        ),
        (
            "a ring needs no permission",
            "if not request.user.has_perm(chosen.permission):",
            "if False:",
        ),
        (
            "a link rings",
            "if not is_confirmed(request):",
            "if False:",
        ),
        (
            "a ring needs no one who is logged in",
            "self.admin_site.admin_view(self.ring_view),",
            "self.ring_view,",
        ),
        (
            "a worker that could not be told was told",
            "if ring(chosen.task):",
            "if ring(chosen.task) or True:",
        ),
        (
            "a site's own first page is replaced",
            "if admin_site.index_template is None:",
            "if True:",
        ),
    ),
    *mutants(
        "orgs/templatetags/orgs_admin.py",
        _STATUS,
        (
            "who may not look sees the state",
            'if not may_view(request, "synccursor"):\n        return {}\n',
            "",
        ),
        ("a problem's words are a part of the page", "conditional_escape(text),", "text,"),
        (
            "under ATOMIC_REQUESTS the admin is answered 500",
            "is_alone = not connection.in_atomic_block",
            "is_alone = True",
        ),
    ),
    *mutants(
        "orgs/checks.py",
        "tests/test_checks.py",
        (
            "with DEBUG off nothing is checked",
            "[] if settings.DEBUG or current is None else",
            "[] if True else",
        ),
        ("a missing key of Django's is not said", "if not _has_secret_key():", "if False:"),
        ("a missing key of WorkOS's is not said", "if not current.api_key:", "if False:"),
        (
            "a key with a line break is not said",
            "elif not is_header_text(current.api_key):",
            "elif False:",
        ),
        ("a missing webhook secret is not said", "if not current.webhook_secrets:", "if False:"),
    ),
    *mutants(
        "orgs/tasks.py",
        "tests/test_tasks.py",
        (
            "the worker takes a snapshot beside another",
            "reconciling.reconcile_unless_busy(Run(now=timezone.now()), only_if_lost=only_if_lost)",
            "reconciling.reconcile(Run(now=timezone.now()))",
        ),
        (
            "a snapshot that is not complete is not logged",
            'logger.error("the snapshot is not complete: %s", trouble)',
            "pass",
        ),
        (
            "the worker's pushes have no deadline",
            "deadline = time.monotonic() + sync_settings().drain_deadline",
            "deadline = float('inf')",
        ),
    ),
    *mutants(
        "orgs/models.py",
        _MODELS,
        (
            "what is overdue is still waited for",
            "return self.announced_and_unseen().filter(announced_at__gt=Now() - within)",
            "return self.announced_and_unseen()",
            f"{_MODELS}::test_unseen_and_overdue_part_at_the_window",
        ),
        (
            "what may still come is overdue",
            "overdue = self.announced_and_unseen().filter(announced_at__lte=Now() - after)",
            "overdue = self.announced_and_unseen()",
            f"{_MODELS}::test_unseen_and_overdue_part_at_the_window",
        ),
        (
            "what was read is unseen",
            "return self.filter(announced_at__isnull=False, processed_at__isnull=True)",
            "return self.filter(announced_at__isnull=False)",
            f"{_MODELS}::test_unseen_and_overdue_part_at_the_window",
        ),
        (
            "parked events are pruned",
            "models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)",
            "models.Q(type=EventType.DELETED)",
            "tests/services/test_prune.py",
        ),
        (
            "deletions are pruned",
            "models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)",
            "models.Q(outcome=Outcome.PARKED)",
            "tests/services/test_prune.py",
        ),
    ),
    *mutants(
        "orgs/management/commands/reconcile_workos.py",
        _COMMAND,
        (
            "a time without a zone is the machine's",
            "(moment if moment.tzinfo else moment.replace(tzinfo=UTC))",
            "moment",
            f"{_SAFETY_LINES}::test_a_time_without_a_zone_is_utc_wherever_the_machine_is",
        ),
        (
            "a dry run of the events applies them",
            "if dry:\n            raise CommandError(",
            "if False:\n            raise CommandError(",
            f"{_COMMAND}::test_options_that_make_no_sense_say_what_to_do",
        ),
        (
            "a snapshot since some time compares everything",
            'if options["since"] is not None and not options["events_only"]:',
            "if False:",
            f"{_COMMAND}::test_options_that_make_no_sense_say_what_to_do",
        ),
        (
            "an id that is none is asked for",
            "if not is_storable(id_.strip()):",
            "if False:",
            f"{_COMMAND}::test_options_that_make_no_sense_say_what_to_do",
        ),
        (
            "a start that is none is read from",
            "if not is_storable(since.strip()):",
            "if False:",
            f"{_COMMAND}::test_a_since_that_is_none_is_an_error",
        ),
        (
            "trouble is told with a traceback",
            "except (UnknownEvent, UnknownOrganization, WorkOSTrouble) as trouble:",
            "except (UnknownEvent, UnknownOrganization) as trouble:",
            f"{_COMMAND}::test_trouble_with_workos_is_one_line_and_exit_1",
        ),
        (
            "trouble with the snapshot is exit 0",
            "if found.trouble:\n            raise",
            "if False:\n            raise",
            f"{_COMMAND}::test_trouble_with_the_listing_is_said_after_what_was_seen",
        ),
        (
            "an announcement that is not settled is exit 0",
            "if events.unsettled:",
            "if False:",
            f"{_COMMAND}::test_an_overdue_announcement_that_cant_be_settled_is_said_after_the_rest_is_done",
        ),
        (
            "a mirror that is not in sync passes the check",
            'if options["check"] and not found.in_sync:',
            "if False:",
            f"{_COMMAND}::test_check_exits_3_if_not_in_sync_and_0_if_in_sync",
        ),
        (
            "a limit in per cent is one in rows, too",
            "return DisableLimit(rows=0, percent=Fraction(max_disable[:-1]))",
            "return DisableLimit(percent=Fraction(max_disable[:-1]))",
            f"{_COMMAND}::test_a_limit_is_the_one_that_is_given",
        ),
        (
            "a limit in rows is one in per cent, too",
            "return DisableLimit(rows=int(max_disable), percent=0)",
            "return DisableLimit(rows=int(max_disable))",
            f"{_COMMAND}::test_a_limit_is_the_one_that_is_given",
        ),
    ),
    *mutants(
        "orgs/migrations/0001_organization.py",
        _MODELS,
        (
            "two organizations have the same slug",
            'fields=("slug",), name="organization_metadata_slug_key"',
            'fields=("slug", "id"), name="organization_metadata_slug_key"',
            f"{_MODELS}::test_slugs_and_links_are_unique_by_name",
        ),
        (
            "two organizations have the same link",
            'fields=("workos_id",), name="organization_metadata_workos_id_key"',
            'fields=("workos_id", "id"), name="organization_metadata_workos_id_key"',
            f"{_MODELS}::test_slugs_and_links_are_unique_by_name",
        ),
        (
            "other programs have to name an account type",
            '("gram_account_type", models.TextField(db_default="free"))',
            '("gram_account_type", models.TextField(default="free"))',
            f"{_MODELS}::test_other_programs_insert_with_the_columns_they_know",
        ),
    ),
    *mutants(
        "orgs/migrations/0002_mirror.py",
        _MODELS,
        (
            "an outcome may have no time",
            '("processed_at__isnull", False),\n',
            "",
            f"{_MODELS}::test_the_ledger_refuses_what_makes_no_sense",
        ),
        (
            "other programs can't delete an organization that waits for its write-back",
            "ON DELETE CASCADE",
            "ON DELETE RESTRICT",
            f"{_WRITE_BACK}::test_another_programs_delete_of_an_organization_takes_its_request_along",
        ),
    ),
)
