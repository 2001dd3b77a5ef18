"""Mutants of the doors to the outside: the webhook, the admin, tasks, checks and the command; and
of the tables."""

from tests.mutants.mutant import mutants

_VIEWS = "tests/test_views.py"
_ADMIN = "tests/test_admin.py"
_MODELS = "tests/test_models.py"
_DRAIN = "tests/services/test_drain.py"
_SNAPSHOTS = "tests/services/test_snapshots.py"
_COMMAND = "tests/management/test_reconcile_workos.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"
_PRUNE = "tests/services/test_prune.py"
_WRITE_BACK = "tests/services/test_write_back.py"

MUTANTS = (
    *mutants(
        "orgs/views.py",
        _VIEWS,
        ("a webhook wants a form's token", "@csrf_exempt\n", ""),
        ("a webhook can be fetched", "@require_POST\n", ""),
        (
            "a body that is announced to be long is read",
            "if length > MAX_BODY_BYTES:\n        return HttpResponse(status=413)\n",
            "",
        ),
        (
            "a chunked body is as long as it likes",
            "if len(body) > MAX_BODY_BYTES:\n            return HttpResponse(status=413)\n",
            "",
        ),
        (
            "a chunked body is read to its end",
            ".read(MAX_BODY_BYTES + 1)",
            ".read()",
        ),
        (
            "a length that is no number is answered 500",
            "except ValueError:\n        return None",
            "except ZeroDivisionError:\n        return None",
        ),
        (
            "a body that breaks off is answered 500",
            "except UnreadablePostError:\n        return",
            "except ZeroDivisionError:\n        return",
        ),
        (
            "without a database a webhook is answered 500",
            "except DatabaseUnusable:\n",
            "except ZeroDivisionError:\n",
        ),
        ("a forged webhook is not told so", "Receipt.NOT_SIGNED: 401", "Receipt.NOT_SIGNED: 204"),
        (
            "a webhook that can't be checked is not sent again",
            "Receipt.NOT_CONFIGURED: 503",
            "Receipt.NOT_CONFIGURED: 204",
        ),
        (
            "a body in chunks is empty",
            'if "CONTENT_LENGTH" in request.META or not request.META.get("wsgi.input_terminated"):',
            "if True:",
        ),
        (
            "chunks that are none are answered 500",
            "except Exception as error:\n        # Each",
            "except ZeroDivisionError as error:\n        # Each",
        ),
    ),
    *mutants(
        "orgs/admin.py",
        _ADMIN,
        (
            "people add rows",
            "def has_add_permission(self, request: HttpRequest) -> bool:\n        return False",
            "def has_add_permission(self, request: HttpRequest) -> bool:\n        return True",
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
        ),
        (
            "any lookup reaches PostgreSQL",
            "return lookup in {offered.parameter_name for offered in self.list_filter}",
            "return True",
        ),
        (
            "a NUL in an address is answered 500",
            'return None if "\\x00" in object_id else super()',
            "return super()",
        ),
        (
            "what WorkOS owns can be edited",
            'readonly_fields = [\n        "id",\n        "name",',
            'readonly_fields = [\n        "id",',
        ),
        (
            "a link can be edited",
            (
                '"workos_id",\n        "workos_updated_at",\n        "workos_last_event_id",\n'
                '        "write_back_state",\n        "events",\n        "created_at",'
            ),
            (
                '"workos_updated_at",\n        "workos_last_event_id",\n'
                '        "write_back_state",\n        "events",\n        "created_at",'
            ),
        ),
        (
            "who may look may reconcile",
            'return may_look and request.user.has_perm("orgs.reconcile_organization")',
            "return may_look",
        ),
        (
            "the action to reconcile needs no permission",
            '@admin.action(description="Reconcile with WorkOS", permissions=["reconcile"])',
            '@admin.action(description="Reconcile with WorkOS")',
        ),
        (
            "who may look may act on parked events",
            "return self.has_view_permission(request) and request.user.has_perm(permission)",
            "return self.has_view_permission(request)",
        ),
        (
            "who may not look may act on parked events",
            "return self.has_view_permission(request) and request.user.has_perm(permission)",
            "return request.user.has_perm(permission)",
        ),
        (
            "the action to replay needs no permission",
            '@admin.action(description="Apply what WorkOS says now", permissions=["replay"])',
            '@admin.action(description="Apply what WorkOS says now")',
        ),
        (
            "the action to dismiss needs no permission",
            '@admin.action(description="Dismiss", permissions=["dismiss"])',
            '@admin.action(description="Dismiss")',
        ),
        (
            "who may replay may dismiss",
            'return self._may(request, "orgs.dismiss_workosevent")',
            'return self._may(request, "orgs.replay_workosevent")',
        ),
        (
            "the button to replay needs no permission",
            "if not self.has_replay_permission(request):\n            raise PermissionDenied\n",
            "",
        ),
        (
            "the button to dismiss needs no permission",
            "if not self.has_dismiss_permission(request):\n            raise PermissionDenied\n",
            "",
        ),
        (
            "a link dismisses an event",
            "self.admin_site.admin_view(require_POST(view)),",
            "self.admin_site.admin_view(view),",
        ),
        (
            "a button needs no one who is logged in",
            "self.admin_site.admin_view(require_POST(view)),",
            "require_POST(view),",
        ),
        (
            "a person's change takes back what the sync has written",
            'obj.save(update_fields=[*form.changed_data, "updated_at"])',
            "obj.save()",
        ),
        (
            "a person's page takes back what another program has written",
            "db_field, request, show_hidden_initial=True, **kwargs)",
            "db_field, request, **kwargs)",
        ),
        (
            "a slug that is taken meanwhile is answered 500",
            "except DatabaseTrouble as trouble:\n            # Another",
            "except ZeroDivisionError as trouble:\n            # Another",
        ),
        (
            "a payload is a part of the page",
            'return format_html(\n            \'<pre class="payload"',
            (
                "return (lambda html, text: __import__('django.utils.safestring').utils.safestring"
                '.mark_safe(html.format(text)))(\n            \'<pre class="payload"'
            ),
        ),
        (
            "a lone surrogate in a payload is answered 500",
            "return storable(text)",
            "return text",
        ),
        (
            "trouble with WorkOS ends an action without a word",
            "except (UnknownOrganization, WorkOSTrouble) as trouble:",
            "except UnknownOrganization as trouble:",
        ),
    ),
    *mutants(
        "orgs/checks.py",
        "tests/test_checks.py",
        ("with DEBUG off nothing is checked", "[] if settings.DEBUG else", "[] if True else"),
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
            "report = reconciling.reconcile_unless_busy(Run(now=timezone.now()))",
            "report = reconciling.reconcile(Run(now=timezone.now()))",
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
        ),
        (
            "what may still come is overdue",
            "overdue = self.announced_and_unseen().filter(announced_at__lte=Now() - after)",
            "overdue = self.announced_and_unseen()",
        ),
        (
            "what was read is unseen",
            "return self.filter(announced_at__isnull=False, processed_at__isnull=True)",
            "return self.filter(announced_at__isnull=False)",
        ),
        (
            "an announced deletion that never came keeps an organization out",
            "outcome__in=(Outcome.DISABLED, Outcome.UNKNOWN, Outcome.STALE),",
            "",
            (_SNAPSHOTS, _SAFETY_LINES),
        ),
        (
            "a deletion of what was not there does not keep it out",
            "outcome__in=(Outcome.DISABLED, Outcome.UNKNOWN, Outcome.STALE),",
            "outcome__in=(Outcome.DISABLED, Outcome.STALE),",
            _SAFETY_LINES,
        ),
        (
            "any event keeps an organization out",
            "type=EventType.DELETED,\n            outcome__in",
            "outcome__in",
            _SAFETY_LINES,
        ),
        (
            "parked events are pruned",
            "models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)",
            "models.Q(type=EventType.DELETED)",
            _PRUNE,
        ),
        (
            "deletions are pruned",
            "models.Q(outcome=Outcome.PARKED) | models.Q(type=EventType.DELETED)",
            "models.Q(outcome=Outcome.PARKED)",
            _PRUNE,
        ),
    ),
    *mutants(
        "orgs/management/commands/reconcile_workos.py",
        _COMMAND,
        (
            "a time without a zone is the machine's",
            "(moment if moment.tzinfo else moment.replace(tzinfo=UTC))",
            "moment",
        ),
        (
            "a dry run of the events applies them",
            "if dry:\n            raise CommandError(",
            "if False:\n            raise CommandError(",
        ),
        (
            "a snapshot since some time compares everything",
            'if options["since"] is not None and not options["events_only"]:',
            "if False:",
        ),
        (
            "an id that is none is asked for",
            "if not is_storable(id_.strip()):",
            "if False:",
        ),
        (
            "a start that is none is read from",
            "if not is_storable(since.strip()):",
            "if False:",
        ),
        (
            "trouble is told with a traceback",
            "except (UnknownEvent, UnknownOrganization, WorkOSTrouble) as trouble:",
            "except (UnknownEvent, UnknownOrganization) as trouble:",
        ),
        (
            "trouble with the snapshot is exit 0",
            "if found.trouble:\n            raise",
            "if False:\n            raise",
        ),
        (
            "an announcement that is not settled is exit 0",
            "if events.unsettled:",
            "if False:",
        ),
        (
            "a mirror that is not in sync passes the check",
            'if options["check"] and not found.in_sync:',
            "if False:",
        ),
        (
            "a limit in per cent is one in rows, too",
            "return DisableLimit(rows=0, percent=Fraction(max_disable[:-1]))",
            "return DisableLimit(percent=Fraction(max_disable[:-1]))",
        ),
        (
            "a limit in rows is one in per cent, too",
            "return DisableLimit(rows=int(max_disable), percent=0)",
            "return DisableLimit(rows=int(max_disable))",
        ),
    ),
    *mutants(
        "orgs/migrations/0001_organization.py",
        _MODELS,
        (
            "two organizations have the same slug",
            'fields=("slug",), name="organization_metadata_slug_key"',
            'fields=("slug", "id"), name="organization_metadata_slug_key"',
        ),
        (
            "two organizations have the same link",
            'fields=("workos_id",), name="organization_metadata_workos_id_key"',
            'fields=("workos_id", "id"), name="organization_metadata_workos_id_key"',
        ),
        (
            "other programs have to name an account type",
            '("gram_account_type", models.TextField(db_default="free"))',
            '("gram_account_type", models.TextField(default="free"))',
        ),
    ),
    *mutants(
        "orgs/migrations/0002_mirror.py",
        _MODELS,
        (
            "an outcome may have no time",
            '("processed_at__isnull", False),\n',
            "",
        ),
        (
            "other programs can't delete an organization that waits for its write-back",
            "ON DELETE CASCADE",
            "ON DELETE RESTRICT",
            _WRITE_BACK,
        ),
    ),
)
