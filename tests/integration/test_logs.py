"""What is logged of the mirror's work, and how real processes log."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import format_exc
from typing import Any

import pytest
from django.db import DataError, OperationalError
from pytest_django import Settings
from redis.exceptions import ConnectionError  # noqa: A004 - Redis's

import orgs
from gram_sync.logs import JsonFormatter
from orgs import tasks
from orgs.db.errors import DescribedError
from orgs.management.commands import sync_worker
from orgs.models import WorkOSEvent
from orgs.services.stream import drain_and_wait
from orgs.testing import FakeWorkOS
from tests.processes import environment_for, run


@pytest.fixture
def quiet(workos: FakeWorkOS, database: None, caplog: pytest.LogCaptureFixture) -> FakeWorkOS:
    """A WorkOS that has been read once, when what is read is logged."""
    drain_and_wait()
    caplog.clear()
    return workos


def test_a_parked_event_names_its_ids(quiet: FakeWorkOS, caplog: pytest.LogCaptureFixture) -> None:
    quiet.emit({"event": "organization.created", "data": {"id": "org_1", "name": 5}})

    drain_and_wait()

    (record,) = caplog.records
    logged = json.loads(JsonFormatter().format(record))
    assert logged["event"] == WorkOSEvent.objects.parked().get().id
    assert (logged["organization"], logged["outcome"]) == ("org_1", "parked")


def test_when_reads_failed_is_logged(quiet: FakeWorkOS, caplog: pytest.LogCaptureFixture) -> None:
    quiet.misbehave("status", path="/events", status=503, times=2)

    with caplog.at_level(logging.INFO, logger="orgs"):
        for _ in range(4):
            drain_and_wait()

    began, over = (record.message for record in caplog.records)
    assert began.startswith("the stream could not be drained: ")
    assert over == "the stream is read again, after 0 seconds of failed reads"


def test_the_web_process_says_so_when_it_starts(workos: FakeWorkOS) -> None:
    environment = environment_for(workos, LOG_LEVEL="INFO")

    done = run([sys.executable, "-c", "import gram_sync.wsgi"], environment)

    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["message"].startswith(f"the web process starts: release {orgs.__version__}, ")


@pytest.mark.parametrize("place", ["workos.example:8443/v1", "[::1"])
def test_the_worker_says_with_what_it_starts_and_no_secret(
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
    sync_setting: Any,
) -> None:
    def end(*_: object) -> None:
        raise SystemExit

    sync_setting(BASE_URL=f"https://user:secret@{place}", RESOURCES=("role",))
    database = {"HOST": "db.example", "PORT": 6432, "NAME": "gram", "PASSWORD": "secret"}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("orgs.services.worker.Watch.begin", lambda _: None)
    monkeypatch.setattr(sync_worker, "_running_cluster", end)

    with caplog.at_level(logging.INFO, logger="orgs"), pytest.raises(SystemExit):
        sync_worker.Command().handle()

    assert [r.message for r in caplog.records] == [
        (
            f"the worker starts: release {orgs.__version__}, database gram at db.example:6432, "
            f"WorkOS at https://{place}, resources organization, role"
        )
    ]


def test_a_page_that_moved_rows_is_a_line_a_poll_is_none_and_each_row_is_one_at_debug(
    quiet: FakeWorkOS, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("Acme", "Bolt"):
        quiet.create_organization(name=name)

    with caplog.at_level(logging.INFO, logger="orgs"):
        drain_and_wait()
        drain_and_wait()
    said = [r.message for r in caplog.records]
    caplog.clear()
    quiet.update_organization(quiet.all_organizations()[0]["id"], name="Ajax")
    with caplog.at_level(logging.DEBUG, logger="orgs"):
        drain_and_wait()

    assert said == ["applied a page, events: 2; created 2"]
    debug = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert [getattr(record, "outcome", None) for record in debug] == ["updated"]


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (OperationalError("connection failed: refused\nIs it running?"), True),
        (ConnectionError("Error 111 connecting to localhost"), True),
        (DataError("a value of a schedule of another app"), False),
    ],
)
def test_django_q2_says_in_a_line_that_its_queue_does_not_answer(
    caplog: pytest.LogCaptureFixture, error: Exception, *, is_short: bool
) -> None:
    try:
        raise error
    except Exception:
        logging.getLogger("django-q").exception("Failed to pull task from broker")

    (record,) = caplog.records
    text = str(error).partition("\n")[0]
    assert record.getMessage().startswith("Failed to pull task from broker")
    assert (record.exc_info is None, text in record.getMessage()) == (is_short, is_short)


def refuse() -> None:
    raise DescribedError("PostgreSQL 23514: no")


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize(
    ("task", "is_one_line"),
    [(tasks.sync_events, True), (refuse, False), (lambda: json.loads(""), False)],
    ids=["failed database", "refused row", "other"],
)
def test_why_a_task_failed_is_one_line_if_the_database_did(
    caplog: pytest.LogCaptureFixture, task: Callable[[], Any], *, is_one_line: bool
) -> None:
    try:
        task()
    except (DescribedError, ValueError) as error:
        # As django-q2 logs it.
        result = f"{error} : {format_exc()}"
        logging.getLogger("django-q").error("Failed %s - %s", "a task", result)  # noqa: TRY400

    (record,) = caplog.records
    assert record.getMessage().startswith("Failed a task - ")
    assert ("Traceback" in record.getMessage()) != is_one_line


def test_gunicorn_logs_as_everything_does_also_without_settings(tmp_path: Path) -> None:
    gunicorn = run(
        [
            *(sys.executable, "-m", "gunicorn", "gram_sync.wsgi", "--workers", "1"),
            *("--config", "python:gram_sync.gunicorn", "--bind", f"unix:{tmp_path}/socket"),
        ],
        {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DATABASE_URL": "mysql://x"},
    )

    # It prints why a worker did not start once more, past every log.
    printed = "DATABASE_URL must look like postgresql://"
    lines = [json.loads(x) for x in gunicorn.stderr.splitlines() if not x.startswith(printed)]
    assert {line["logger"] for line in lines} == {"gunicorn.error"}
    assert any(printed in line.get("traceback", "") for line in lines)
