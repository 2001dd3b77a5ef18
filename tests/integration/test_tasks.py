"""The tasks: one call of a service each, and text for the record."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from traceback import format_exception

import pytest
from django.db import DatabaseError
from django.utils.module_loading import import_string

from orgs import tasks
from orgs.db.cursor import ensure_cursor
from orgs.db.errors import DescribedError
from orgs.db.leases import Lease
from orgs.domain.types import Outcome
from orgs.models import Organization, SyncCursor, WorkOSEvent
from orgs.services.queue import COVER, PRUNE, PUSH_EXTERNAL_IDS, RECONCILE, RECOVER, SYNC_EVENTS
from orgs.testing import FakeWorkOS
from tests.builders import an_announcement, an_old_organization
from tests.triggers import a_trigger

pytestmark = pytest.mark.usefixtures("database")

LogCapture = pytest.LogCaptureFixture
Setting = Callable[..., None]

NOT_NEEDED = "left to the one that is running, or not needed"


def test_each_task_says_what_it_did(workos: FakeWorkOS, sync_setting: Setting) -> None:
    acme = workos.create_organization(name="Acme")
    workos.update_organization(acme["id"], name="Acme 2")
    long_ago = datetime.now(UTC) - timedelta(days=1_000)
    WorkOSEvent.objects.create(id="event_1", outcome=Outcome.STALE, processed_at=long_ago)

    assert [tasks.sync_events(), tasks.sync_events()] == ["created 1, updated 1", "nothing new"]
    assert Organization.objects.get().name == "Acme 2"
    assert tasks.push_external_ids() == "pushed 1, failed 0, conflicts 0"
    workos.create_organization(name="Bolt")
    tasks.sync_events()
    sync_setting(DRAIN_DEADLINE=0.0)
    assert tasks.push_external_ids() == "pushed 0, failed 0, conflicts 0", "there is no time"
    assert tasks.prune() == "pruned 1, erased 0"


def test_repairs_are_logged_without_names_or_end(workos: FakeWorkOS, caplog: LogCapture) -> None:
    for number in range(23):
        ids = {"id": f"org_{number}", "external_id": f"gram-{number}"}
        an_old_organization(workos, "Confidential", **ids)

    said = tasks.reconcile()

    assert said == "repaired 23"
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    lines = [record.getMessage() for record in warnings]
    assert lines[0] == "reconcile found gram-0 (org_0): created"
    assert (len(lines), lines[-1]) == (21, "reconcile found 3 more")
    assert "Confidential" not in caplog.text
    fields = vars(warnings[0])
    assert (fields["organization"], fields["outcome"]) == ("org_0", "created")
    caplog.clear()
    assert tasks.reconcile() == "in sync"
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_a_reconcile_that_is_not_needed_asks_nothing(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")

    assert tasks.recover() == NOT_NEEDED, "no cursor is lost"
    ensure_cursor()
    Lease.SNAPSHOT.acquire(60)
    assert tasks.reconcile() == NOT_NEEDED, "another is running"
    assert not workos.count_requests(path="/organizations")


@pytest.mark.parametrize("task", [tasks.recover, tasks.reconcile])
@pytest.mark.parametrize("why", ["another environment", "WorkOS is down", "other settings"])
def test_why_a_reconcile_can_not_be_is_a_line_of_the_log(
    workos: FakeWorkOS, sync_setting: Setting, caplog: LogCapture, task: Callable[[], str], why: str
) -> None:
    workos.create_organization(name="Acme", external_id="gram-1")
    tasks.sync_events()
    long_ago = datetime.now(UTC) - timedelta(days=40)
    SyncCursor.objects.update(drained_at=long_ago, last_trouble="cursor_lost")
    caplog.clear()

    with FakeWorkOS() as elsewhere:
        elsewhere.create_organization(name="Another")
        if why == "another environment":
            sync_setting(BASE_URL=elsewhere.base_url)
        elif why == "other settings":
            SyncCursor.objects.update(drained_at=datetime.now(UTC))
            sync_setting(RESOURCES=("organization", "role"))
        else:
            workos.misbehave("status", status=500, path=None, times=None)
        said = task()

    assert said in ("not complete", "repaired 0", NOT_NEEDED)
    if said != NOT_NEEDED:
        assert "the full reconcile is not complete: " in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


def test_reconcile_logs_what_is_not_applied(workos: FakeWorkOS, caplog: LogCapture) -> None:
    workos.emit({"id": "event_bad", "event": "organization.created", "data": {"id": "org_bad"}})
    an_announcement("event_lost", ago=timedelta(minutes=5))
    workos.misbehave("status", status=500, path="/organizations/")

    tasks.reconcile()

    assert "parked event_bad" in caplog.text
    assert "a missed webhook could not be resolved" in caplog.text


def shown(error: BaseException) -> str:
    """What django-q2 stores of a task that raises it."""
    return f"{error} : {''.join(format_exception(error))}"


@pytest.mark.parametrize(
    ("task", "table", "place"),
    [
        pytest.param(tasks.sync_events, "organization_metadata", "in apply", id="stream"),
        pytest.param(tasks.sync_events, "workos_sync_cursor", "in drain_and_wait", id="cursor"),
        pytest.param(tasks.reconcile, "workos_sync_cursor", "in reconcile_unless_busy", id="daily"),
    ],
)
def test_a_task_that_fails_shows_where_and_no_values_of_a_row(
    workos: FakeWorkOS, task: Callable[[], str], table: str, place: str
) -> None:
    ensure_cursor()
    workos.create_organization(name="Acme")
    refusal = "RAISE 'it says no' USING ERRCODE = '53100', DETAIL = 'Confidential';"

    with a_trigger(refusal, table=table), pytest.raises(DescribedError) as raised:
        task()

    text = shown(raised.value)
    assert text.startswith("PostgreSQL 53100: it says no : ")
    assert place in text
    assert "Confidential" not in text


def test_what_follows_from_an_error_shows_no_values_either(monkeypatch: pytest.MonkeyPatch) -> None:
    values = "Confid" + "ential"  # the stack shows this line

    def follow() -> None:
        try:
            raise DatabaseError(f"it says no\nDETAIL:  {values}")
        except DatabaseError:
            raise KeyError("what follows")  # noqa: B904 - as by mistake

    monkeypatch.setattr(tasks, "read_cursor", follow)
    with pytest.raises(KeyError) as raised:
        tasks.cover()

    text = shown(raised.value)
    assert "PostgreSQL: it says no" in text
    assert "what follows" in text
    assert "Confidential" not in text


def test_every_task_is_one_of_ours() -> None:
    for name in (SYNC_EVENTS, PUSH_EXTERNAL_IDS, PRUNE, RECONCILE, RECOVER, COVER):
        task = import_string(name)
        assert task.__wrapped__.__module__ == task.__module__ == "orgs.tasks"
