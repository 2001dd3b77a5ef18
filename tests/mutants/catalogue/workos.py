"""Mutants of the edge to WorkOS: what is believed of an answer, and how it is asked."""

from tests.mutants.mutant import mutants

_WORKOS = "tests/test_workos.py"
_SAFETY_LINES = "tests/services/test_safety_lines.py"

MUTANTS = mutants(
    "orgs/workos.py",
    (_WORKOS, _SAFETY_LINES),
    (
        "an empty page of events says that there are more",
        'raise BrokenAnswer("WorkOS listed no event, and said that there are more")',
        "pass",
    ),
    (
        "an empty page of organizations says that there are more",
        'raise BrokenAnswer("WorkOS listed no organization, and said that there are more")',
        "pass",
    ),
    (
        "a page whose last event has no id is read again for ever",
        "if after is not None and not _is_usable_id(_key_of(listed[-1])):",
        "if False:",
    ),
    (
        "the position is any cursor that the page names",
        "if after is not None and not _is_usable_id(_key_of(listed[-1])):",
        "if after is not None:",
    ),
    (
        "the position is a hash that WorkOS does not know",
        "if _key_of(raw) != event.id:\n        return before\n",
        "",
    ),
    (
        "an undated event forgets the time of the position",
        "return Position(event.id, event.occurred_at or before.last_event_at)",
        "return Position(event.id, event.occurred_at)",
    ),
    (
        "the answer for another external_id is believed",
        'if not _is_usable_id(workos_id) or answer.get("external_id") != external_id:',
        "if not _is_usable_id(workos_id):",
    ),
    (
        "an answer without an id is believed",
        'if not _is_usable_id(workos_id) or answer.get("external_id") != external_id:',
        'if answer.get("external_id") != external_id:',
    ),
    (
        "one that was created during the listing makes it incomplete",
        "return None if created_at is not None and created_at >= before else True",
        "return True",
    ),
    (
        "another's external_id is overwritten",
        "if not present:\n        if not _fits",
        "if present != external_id:\n        if not _fits",
    ),
    (
        "an id that is not ASCII is offered to WorkOS",
        "return value.isascii() and len(value) <= 128",
        "return len(value) <= 128",
    ),
    (
        "an id that is too long is offered to WorkOS",
        "return value.isascii() and len(value) <= 128",
        "return value.isascii()",
    ),
    (
        "every refusal of the write-back waits for a person",
        'if refusal.code == "external_id_already_used":',
        "if True:",
    ),
    (
        "an id that is used elsewhere is tried again for ever",
        'if refusal.code == "external_id_already_used":',
        "if False:",
    ),
    (
        "a write-back that was not taken over waits for a person",
        'raise BrokenAnswer(f"WorkOS answered the write-back with external_id {present!r}")',
        "pass",
    ),
    (
        "another external_id counts as confirmed",
        'raise ExternalIdConflict(f"WorkOS has external_id {present!r} for {workos_id}")',
        "pass",
    ),
    (
        "a signature of any form is handed to the SDK",
        "return well_formed and any(",
        "return any(",
    ),
    (
        "no signature is compared",
        "any(_is_signed_with(body, signature, secret) for secret in secrets)",
        "bool(secrets)",
    ),
    (
        "only the first secret counts",
        "for secret in secrets)",
        "for secret in secrets[:1])",
    ),
    (
        "the signature of a body that is no text is not compared",
        "return hmac.compare_digest(mac, expected)",
        "return True",
    ),
    (
        "a webhook without end is answered 500",
        "except (ValueError, RecursionError):\n        return None",
        "except ValueError:\n        return None",
    ),
    (
        "a webhook that is no object is answered 500",
        "if not isinstance(raw, dict):\n        return None\n",
        "",
    ),
    (
        "a webhook without an id announces something",
        "if not (_is_text(event_id) and _is_text(event_type)):\n        return None\n",
        "",
    ),
    (
        "an id of any length is a key",
        "key = event_id if _is_usable_id(event_id) else content_id(event_id.encode())",
        "key = event_id",
    ),
    (
        "a page without a list is an empty list",
        "if not isinstance(listed, list) or not isinstance(metadata, dict):",
        "listed = listed or []\n    if not isinstance(metadata, dict):",
    ),
    (
        "a page without list_metadata is the last one",
        "if not isinstance(listed, list) or not isinstance(metadata, dict):",
        "metadata = metadata or {'after': None}\n    if not isinstance(listed, list):",
    ),
    (
        "a page that does not say whether there are more is the last one",
        'after = metadata.get("after", _ABSENT) or None',
        'after = metadata.get("after") or None',
    ),
    (
        "an empty cursor is no end",
        'after = metadata.get("after", _ABSENT) or None',
        'after = metadata.get("after", _ABSENT)',
    ),
    (
        "an event without an id is applied under a hash",
        '_id(fields, "id", "id")\n        if not',
        "if not",
    ),
    (
        "a deletion is parked for what is wrong beside its ids",
        "if event_type is EventType.DELETED:",
        "if False:",
    ),
    (
        "an event of another type is parked",
        "if event_type not in FOLLOWED_TYPES:",
        "if event_type == 'organization.renamed':",
    ),
    ("an event without data stops the page", 'raise _Malformed("data is not an object")', "pass"),
    (
        "an organization without an id is passed over",
        'raise BrokenAnswer("WorkOS listed an organization that has no usable id")',
        'workos_id = "org_unknown"',
    ),
    (
        "an empty external_id is an id",
        'external_id") if external_id else None',
        'external_id") if external_id is not None else None',
    ),
    (
        "an id is as long as it likes",
        "return _is_text(value) and len(str(value).encode()) <= MAX_ID_BYTES",
        "return _is_text(value)",
    ),
    (
        "text that PostgreSQL can't store is text",
        "return isinstance(value, str) and is_storable(value)",
        "return isinstance(value, str)",
    ),
    (
        "a time without a zone is the machine's",
        "(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))",
        "parsed",
    ),
    (
        "a time before all time stops the page",
        "except (ValueError, OverflowError):",
        "except ValueError:",
    ),
    (
        "the answer for another organization is believed",
        'if answer.get("id") != workos_id:',
        "if False:",
    ),
    (
        "an id changes the address that is asked",
        "if any(segment in _NO_IDS for segment in path):",
        "if False:",
    ),
    (
        "a pause that WorkOS asked for is one caller's",
        "_raise_while_limited()\n    client = _client()",
        "client = _client()",
    ),
    (
        "the SDK's odd errors go through",
        "except Exception as error:  # noqa: BLE001 - the SDK chokes on odd answers in odd ways",
        "except ZeroDivisionError as error:",
    ),
    (
        "without a key WorkOS is asked",
        "if not current.api_key:\n        raise",
        "if False:\n        raise",
    ),
    (
        "a key with a line break is sent",
        "if not is_header_text(current.api_key):",
        "if False:",
    ),
    ("a call waits for as long as it likes", '{"timeout": sync_settings().request_timeout}', "{}"),
    (
        "a forked process shares its parent's connections",
        "return _client_of_process(os.getpid(), ",
        "return _client_of_process(0, ",
    ),
    ("the SDK sleeps and tries again", "max_retries=0,", "max_retries=3,"),
    (
        "one odd value spoils an answer",
        "http_client=_TolerantBackend(HttpxBackend(http_client)),",
        "http_client=HttpxBackend(http_client),",
    ),
    (
        "a body may come byte by byte",
        "if time.monotonic() > self._deadline or length > _MAX_ANSWER_BYTES:",
        "if length > _MAX_ANSWER_BYTES:",
    ),
    (
        "a body may be as long as it likes",
        "if time.monotonic() > self._deadline or length > _MAX_ANSWER_BYTES:",
        "if time.monotonic() > self._deadline:",
    ),
    (
        "a pause may be as long as it likes",
        "retry_after = min(error.retry_after or 0.0, _MAX_RETRY_AFTER)",
        "retry_after = error.retry_after or 0.0",
    ),
    ("a 429 silences nobody", "_limits.pause(retry_after)\n", ""),
    (
        "a 403 is taken for a refusal of what was asked",
        "if status in (401, 403):",
        "if status in (401,):",
    ),
    (
        "a proxy's 404 says that an organization is gone",
        "if _is_workos_own(error.response_json):",
        "if True:",
    ),
    (
        "a 404 without a code says that an organization is gone",
        "return has_code and not is_route",
        "return not is_route",
    ),
    (
        "a 404 of an address says that an organization is gone",
        "return has_code and not is_route",
        "return has_code",
    ),
    (
        "a 404 whose code is a number says that an organization is gone",
        'has_code = isinstance(code, str) and code != ""',
        'has_code = code is not None and code != ""',
    ),
    (
        "a 408 says that the position is lost",
        "_REFUSALS = (400, 404, 410, 422)",
        "_REFUSALS = (400, 404, 408, 410, 422)",
    ),
    (
        "a 410 does not say that the position is lost",
        "_REFUSALS = (400, 404, 410, 422)",
        "_REFUSALS = (400, 404, 422)",
    ),
    (
        "an answer that echoes the key tells it",
        '.replace(sync_settings().api_key or "\\n", "********")',
        "",
    ),
    (
        "a shorter pause ends a longer one",
        "self.silent_until = max(self.silent_until, self.clock() + seconds)",
        "self.silent_until = self.clock() + seconds",
    ),
)
