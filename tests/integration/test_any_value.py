"""Rows of other programs may hold any value that their column types allow: nothing breaks on one.

Every column of every table is filled from PostgreSQL's catalogue, so a new one is in by itself.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from io import StringIO
from traceback import extract_tb
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import JSONField
from django.test import Client
from django.urls import reverse
from django_q.models import OrmQ, Schedule

from orgs import tasks
from orgs.api import ensure_fresh, has_access, roles_of
from orgs.domain.resources import NAMES
from orgs.models import Organization, SyncCursor
from orgs.services.queue import queue_length
from orgs.services.worker import Watch
from orgs.testing import FakeWorkOS
from tests.builders import an_organization_row
from tests.triggers import execute, insert

pytestmark = pytest.mark.usefixtures("database")

#: What a terminal would obey, and what a line of text must not hold.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

TIMES = (
    *("infinity", "-infinity", "4713-01-01 00:00:00+00 BC"),
    *("294276-12-31 23:59:59.999999+00", "9999-12-31 23:59:59.999999+00"),
)

#: For each type, as text that PostgreSQL casts. An odd number of each, so that they mix.
VALUES = {
    "text": (
        *("", "\x1b[2J\x1b]0;owned\x07\r\n\x9b1m", "x" * 20_000, "\u202ea\u2028\x85🙂\ufeff\uffff"),
        "%s {} \\'\"_2F\n<b>&amp;../a/%2F?x=1#y",
    ),
    "timestamp with time zone": TIMES,
    "integer": ("-2147483648", "2147483647", "0", "-1", "1"),
    "smallint": ("-32768", "32767", "0", "-1", "1"),
    "bigint": ("-9223372036854775808", "9223372036854775807", "0", "-1", "1"),
    "double precision": ("NaN", "Infinity", "-Infinity", "1e308", "5e-324"),
    "boolean": ("true", "false", "true", "false", "true"),
    "jsonb": ("null", '[{"a": null}]', '"\\u202e\\u001b[2J"', "1e400", '{"": {"": []}}'),
    "ARRAY": ("{}", "{NULL}", '{"",""}', "{{a,b},{c,d}}", "[5:6]={x,y}"),
}

#: Which of an event's columns a constraint allows together.
OUTCOMES = (None, "parked", "deleted", "disabled", "parked")

#: Columns that have the same value in both, a reference.
KEYS = {"organization_metadata": "id", "workos_external_id_write_back": "organization_id"}

VARIANTS = range(len(TIMES))

#: Of the cursor's row, what only the sync writes.
OURS = {
    **dict.fromkeys(("event_types", "covered")),
    **dict.fromkeys(("listed_at", "progress", "refused_types"), "{}"),
}


def tables() -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    """Yield each table, and the name, the type and whether it may be NULL of its columns."""
    query = """
        SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position
    """
    for model in apps.get_app_config("orgs").get_models():
        table = model._meta.db_table
        yield table, [(name, kind, is_null) for name, kind, is_null in execute(query, table)]


def fill(variant: int, *, only: tuple[str, ...] = (), **given: object) -> None:
    """Insert into each table a row with this variant's values, and one with NULLs instead."""
    for table, columns in tables():
        if only and table not in only:
            continue
        for has_nulls in (False, True):
            row: dict[str, Any] = {
                name: a_value(name, kind, variant, is_null=has_nulls and may_be_null)
                for name, kind, may_be_null in columns
            }
            unique = f"{variant}{'n' * has_nulls}"
            for key in {"id", "workos_id", "slug", "workos_organization_id", "stream"} & row.keys():
                if isinstance(row[key], str) and columns[0][1] == "text":
                    row[key] = f"{str(row[key])[:200]}{unique}"
            if table == "workos_event":
                row["outcome"] = OUTCOMES[variant]
                row["processed_at"] = TIMES[variant] if OUTCOMES[variant] else None
            if table in KEYS:
                row[KEYS[table]] = f"{VALUES['text'][variant][:200]}{unique}"
            row |= {name: value for name, value in given.items() if name in row}
            insert(table, row, "ON CONFLICT DO NOTHING")
        assert execute(f"SELECT 1 FROM {table}"), table  # noqa: S608


def a_value(name: str, kind: str, variant: int, *, is_null: bool) -> str | None:
    # Neighbours differ: a column's place in the alphabet says where it begins.
    choices = VALUES[kind]
    return None if is_null else choices[(variant + len(name)) % len(choices)]


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("check", "--database", "default"),
    ("migrate",),
    ("reconcile_workos", "--check"),
    ("reconcile_workos", "--dry-run", "--format", "json"),
    ("reconcile_workos", "--events-only"),
    ("reconcile_workos", "--replay-parked"),
    ("reconcile_workos",),
    ("reconcile_workos", "--format", "json"),
    ("workos_user_data", "user_1"),
)


def run(*arguments: str) -> str:
    """Return what a command prints; it may say that something is wrong, in words."""
    out, err = StringIO(), StringIO()
    said = ""
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except (CommandError, SystemExit) as error:
        said = str(error)
        assert "database" not in said, said
    if "json" in arguments and out.getvalue():
        json.loads(out.getvalue())
    return f"{out.getvalue()}{err.getvalue()}{said}"


def answer(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code in (200, 503), path
    if path == "/readyz":
        codes = {problem["code"] for problem in response.json()["problems"]}
        assert "database_unusable" not in codes, "the figures can't be read"
    return response.content.decode()


def pages() -> Iterator[str]:
    """Yield the address of every list of the admin, of every row's page, and of a history each."""
    for model in filter(admin.site.is_registered, apps.get_app_config("orgs").get_models()):
        name = f"admin:orgs_{model._meta.model_name}"
        yield reverse(f"{name}_changelist")
        for number, row in enumerate(model._default_manager.exclude(pk="").only("pk")):
            for page in ("change",) if number else ("change", "history"):
                yield reverse(f"{name}_{page}", args=[quote(row.pk)])


def everything(client: Client) -> dict[str, Callable[[], object]]:
    """Return what runs every command, task and probe, by its name."""
    rows = Organization.objects.only("id", "workos_id")
    names = [name for row in rows for name in {row.id, row.workos_id} - {None}]
    named = [("reconcile_workos", "--dry-run", f"--org={name}") for name in names]
    work = (tasks.sync_events, tasks.push_external_ids, tasks.reconcile, tasks.cover, tasks.recover)
    return {
        **{" ".join(arguments): partial(run, *arguments) for arguments in (*COMMANDS, *named)},
        **{each.__name__: each for each in (*work, tasks.prune, queue_length, Watch().look)},
        **{path: partial(answer, client, path) for path in ("/healthz", "/readyz", "/metrics")},
    }


def failures(client: Client) -> str:
    """Return what raises, and what prints control characters, of all there is."""
    failed = []
    for what, do in everything(client).items():
        try:
            found = CONTROL.search(str(do()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            place = [f for f in extract_tb(error.__traceback__) if "/orgs/" in f.filename][-1]
            failed.append(f"{what}: {error} in {place.filename}, line {place.lineno}")
        else:
            failed += [f"{what}: prints {found[0]!r}"] if found else []
    return "\n".join(failed)


@pytest.fixture
def acme(workos: FakeWorkOS) -> str:
    """A healthy organization that is mirrored, and another that is not yet."""
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    tasks.sync_events()
    workos.create_organization(name="Bolt")
    return str(acme["id"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_row_of_another_program_breaks_anything_or_stops_the_rest(
    admin_client: Client, workos: FakeWorkOS, acme: str, variant: int
) -> None:
    fill(variant)
    # A row without a key has no page, but stands in lists.
    an_organization_row("", workos_id="")
    insert("workos_external_id_write_back", {"organization_id": "", "workos_id": ""})

    answers = {url: admin_client.get(url) for url in ("/admin/", *pages())}
    assert {url: one.status_code for url, one in answers.items() if one.status_code != 200} == {}
    assert [url for url, one in answers.items() if CONTROL.search(one.content.decode())] == []
    assert failures(admin_client) == ""

    workos.update_organization(acme, name="Acme, renamed")
    tasks.sync_events()
    assert Organization.objects.get(id="gram-1").name == "Acme, renamed"
    assert Organization.objects.filter(name="Bolt").exists()


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_row_of_the_sync_or_the_queue_breaks_it(client: Client, acme: str, variant: int) -> None:
    SyncCursor.objects.all().delete()
    execute("DELETE FROM workos_request_budget")
    fill(variant, only=("workos_sync_cursor",), stream="organizations", **OURS)
    fill(variant, only=("workos_request_budget",), id=1, paused_until=None)
    text, moment = VALUES["text"][variant][:100], TIMES[variant]
    number = ("0", "1", "32767", "2", "3")[variant]
    columns = "next_run = %s, minutes = %s, repeats = %s, hook = %s"
    execute(f"UPDATE django_q_schedule SET {columns}", moment, number, number, text)  # noqa: S608
    insert("django_q_ormq", {"key": text, "payload": text, "lock": moment})

    assert failures(client) == ""
    assert OrmQ.objects.filter(key=text).exists()
    assert Schedule.objects.filter(name="workos: sync events").count() == 1


@pytest.mark.parametrize("value", ["[]", "null", "5", "[[5]]", '{"uncovered": [5]}'])
def test_the_status_is_shown_whatever_json_the_cursor_holds(
    admin_client: Client, value: str
) -> None:
    columns = [f.name for f in SyncCursor._meta.fields if isinstance(f, JSONField)]
    insert("workos_sync_cursor", {"stream": "organizations", **dict.fromkeys(columns, value)})

    assert all(
        answer(admin_client, it) for it in ("/readyz", "/metrics", "/admin/orgs/synccursor/")
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_interface_for_programs_answers(acme: str, variant: int) -> None:
    fill(variant)
    SyncCursor.objects.filter(stream="organizations").update(covered=list(NAMES))

    for organization in Organization.objects.only("id"):
        assert not has_access("user_1", organization.id)
        assert roles_of("user_1", organization.id) == []
    ensure_fresh("gram-1")
