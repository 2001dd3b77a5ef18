"""The outbox: claims beside other workers, and what each of WorkOS's answers makes of a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

import orgs.workos
from orgs.db import sql
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict
from orgs.services import outbox
from orgs.services.outbox import WriteBackReport, push_due, retry, retry_delay
from orgs.services.queue import PUSH_EXTERNAL_IDS
from orgs.testing import FakeWorkOS
from orgs.workos import ExternalIdConflict, NotFound
from tests.builders import an_organization_row, blocked_by
from tests.concurrency import another_program, in_thread, wait_until_blocked
from tests.integration.services.stored import Around, LogCapture, MonkeyPatch, Setting, impatient
from tests.triggers import LEAVES_OUT, RAISES, REASONS, a_trigger, changed, locked, renamed

OUTBOX = "workos_external_id_write_back"


def a_request(workos_id: str, id_: str = "gram-1", **values: Any) -> ExternalIdWriteBack:
    an_organization_row(id_, workos_id=workos_id)
    return ExternalIdWriteBack.objects.create(organization_id=id_, workos_id=workos_id, **values)


def requests(workos: FakeWorkOS, count: int) -> None:
    """Of organizations that WorkOS has: gram-0 and so on."""
    for number in range(count):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")


def push() -> WriteBackReport:
    return push_due(deadline=time.monotonic() + 30)


def retried() -> WriteBackReport:
    ExternalIdWriteBack.objects.update(next_attempt_at=datetime.now(UTC))
    return push()


def external_id(workos: FakeWorkOS, workos_id: str) -> object:
    organization = workos.organization(workos_id)
    assert organization is not None
    return organization["external_id"]


# WorkOS's answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "puts"), [(None, 1), ("gram-1", 0)], ids=["new", "there"])
def test_a_due_request_is_confirmed(workos: FakeWorkOS, shown: str | None, puts: int) -> None:
    acme = workos.create_organization(name="Acme", external_id=shown)
    a_request(acme["id"])

    assert push() == WriteBackReport(pushed=1)
    assert external_id(workos, acme["id"]) == "gram-1"
    assert not ExternalIdWriteBack.objects.exists()
    assert workos.count_requests(method="PUT", path=None) == puts


@pytest.mark.parametrize(
    ("elsewhere", "here"),
    [
        pytest.param(None, "theirs", id="another value there"),
        pytest.param("gram-1", None, id="ours is used elsewhere"),
    ],
)
def test_a_conflict_is_stored_for_a_person_and_ends_when_it_is_solved(
    workos: FakeWorkOS, caplog: LogCapture, elsewhere: str | None, here: str | None
) -> None:
    other = workos.create_organization(name="Other", external_id=elsewhere)
    acme = workos.create_organization(name="Acme", external_id=here)
    a_request(acme["id"])

    reports = [push(), push()]
    stored = WorkOSConflict.objects.get()
    retry(["gram-1"])
    reports.append(push())
    logged = caplog.text.count("waits for a person")
    for solved in (other, acme):
        workos.update_organization(solved["id"], external_id=None)
    retry(["gram-1"])

    # A person has to act: it is not tried again by itself.
    conflict = WriteBackReport(conflicts=1)
    assert reports == [conflict, WriteBackReport(), conflict]
    row = (acme["id"], "gram-1", "write_back_refused")
    assert (stored.pk, stored.organization_id, stored.kind) == row
    assert stored.reason
    assert logged == 1, "not each time"
    assert push() == WriteBackReport(pushed=1)
    assert not WorkOSConflict.objects.exists()
    assert external_id(workos, acme["id"]) == "gram-1"


def test_a_conflict_is_stored_though_its_row_cant_say_it(workos: FakeWorkOS) -> None:
    a_request(workos.create_organization(name="Acme", external_id="theirs")["id"])

    with a_trigger(LEAVES_OUT, when="NEW.last_error <> ''", table=OUTBOX, on="UPDATE"):
        push()

    assert WorkOSConflict.objects.get().organization_id == "gram-1"


@pytest.mark.parametrize(
    "misbehaviour",
    [{"kind": "status", "status": 500}, {"kind": "html"}, {"kind": "reset"}],
    ids=["500", "HTML", "reset"],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_error_is_tried_again_after_a_pause(
    workos: FakeWorkOS, monkeypatch: MonkeyPatch, misbehaviour: Any, method: str
) -> None:
    monkeypatch.setattr(outbox, "retry_delay", lambda attempts: 60.0 * attempts)
    a_request(workos.create_organization(name="Acme")["id"])
    workos.misbehave(method=method, path="/organizations", times=2, **misbehaviour)
    before = datetime.now(UTC)

    for attempts in (1, 2):
        assert (retried(), push()) == (WriteBackReport(failed=1), WriteBackReport())
        later = before + timedelta(minutes=attempts)
        row = ExternalIdWriteBack.objects.get(next_attempt_at__gte=later)
        assert (row.attempts, row.last_error != "") == (attempts, True)

    assert retried() == WriteBackReport(pushed=1)


def test_a_pause_that_workos_asks_for_is_kept(workos: FakeWorkOS) -> None:
    a_request(workos.create_organization(name="Acme")["id"])
    workos.misbehave("rate_limited", path="/organizations", retry_after=120)
    before = datetime.now(UTC)

    push()

    later = before + timedelta(seconds=119)
    assert ExternalIdWriteBack.objects.filter(next_attempt_at__gte=later).exists()


def test_one_run_tries_a_request_once(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "retry_delay", lambda _: 0.0)
    for number in range(60):
        a_request(f"org_{number}", f"gram-{number}")

    report = push()

    assert report == WriteBackReport(failed=60)
    said = "60 write-backs failed and will be tried again; see the write-backs of external_id"
    assert report.errors == [said]
    assert workos.count_requests(path="/organizations") == 60


@pytest.mark.parametrize(
    "misbehaviour",
    [
        pytest.param({"kind": "status", "status": 401}, id="a revoked key"),
        pytest.param({"kind": "rate_limited", "retry_after": 60}, id="a pause asked for"),
        pytest.param({"API_KEY": ""}, id="no key"),
        pytest.param({"BASE_URL": "nowhere"}, id="a client that can't be built"),
    ],
)
def test_what_concerns_every_call_is_not_found_out_by_each(
    workos: FakeWorkOS, sync_setting: Setting, misbehaviour: dict[str, Any]
) -> None:
    requests(workos, 60)
    if "kind" in misbehaviour:
        workos.misbehave(path=None, method=None, times=None, **misbehaviour)
    else:
        sync_setting(**misbehaviour)

    report = push()

    assert report.failed == 40, "the batch that met it; the rest stays due"
    assert workos.count_requests() <= 16
    assert ExternalIdWriteBack.objects.due().filter(attempts=0).count() == 20


DELETED = ["disabled_at", "workos_deleted_at"]


@pytest.mark.parametrize(
    ("columns", "status", "left"),
    [
        pytest.param([], 404, 1, id="waits for the deletion to be read"),
        pytest.param(["disabled_at"], 404, 1, id="proves nothing of a row that is disabled here"),
        pytest.param(DELETED, 404, 0, id="ends a deleted row's request"),
        pytest.param(DELETED, 500, 1, id="but nothing else does"),
    ],
)
def test_a_404(workos: FakeWorkOS, columns: list[str], status: int, left: int) -> None:
    a_request("org_deleted")
    if columns:
        Organization.objects.update(**dict.fromkeys(columns, datetime.now(UTC)))
    workos.misbehave("status", status=status, path="/organizations")

    assert push() == WriteBackReport(failed=1)
    assert ExternalIdWriteBack.objects.count() == left


# Time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1])
def test_what_there_is_no_time_for_is_given_back(workos: FakeWorkOS, seconds: float) -> None:
    before = a_request(workos.create_organization(name="Acme")["id"])

    report = push_due(deadline=time.monotonic() + seconds)

    assert report == WriteBackReport(is_cut_short=True)
    assert workos.count_requests() == 0
    after = ExternalIdWriteBack.objects.due().get()
    assert (after.attempts, after.requested_at) == (0, before.requested_at)
    assert push() == WriteBackReport(pushed=1)


@pytest.mark.parametrize(
    ("attempts", "longest"),
    [(1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (12, 900), (10_000, 900)],
)
def test_pauses_double_up_to_a_quarter_of_an_hour(attempts: int, longest: float) -> None:
    delays = [retry_delay(attempts) for _ in range(200)]

    assert all(longest / 2 <= delay <= longest for delay in delays)
    assert len(set(delays)) > 100


def test_the_oldest_request_is_claimed_first(workos: FakeWorkOS, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_BATCH_SIZE", 1)
    for number in (2, 1, 3):
        due_at = datetime.now(UTC) - timedelta(minutes=9 - number)
        a_request(f"org_{number}", f"gram-{number}", next_attempt_at=due_at)

    push()

    asked = [str(request["path"]).rsplit("/", 1)[-1] for request in workos.requests()]
    assert asked == ["org_1", "org_2", "org_3"]


# Links that move ----------------------------------------------------------------------------


def test_the_id_is_written_to_the_organization_that_is_linked_now(workos: FakeWorkOS) -> None:
    old, new = (workos.create_organization(name=name)["id"] for name in ("Old", "New"))
    a_request(old)
    Organization.objects.update(workos_id=new)

    assert push() == WriteBackReport(pushed=1)
    assert (external_id(workos, old), external_id(workos, new)) == (None, "gram-1")


@pytest.mark.parametrize("no_link", [None, ""])
@pytest.mark.parametrize("waits_for_person", [False, True])
def test_a_request_without_a_link_is_forgotten(
    workos: FakeWorkOS, waits_for_person: bool, no_link: str | None
) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    if waits_for_person:
        ExternalIdWriteBack.objects.update(next_attempt_at=None, last_error="another value there")
    Organization.objects.update(workos_id=no_link)

    assert push() == WriteBackReport()
    assert not ExternalIdWriteBack.objects.exists()
    assert workos.count_requests() == 0


@pytest.mark.parametrize("link", ["org_1", None], ids=["moved", "restored"])
def test_a_link_that_changes_while_requests_are_looked_through_is_written_back(
    link: str | None,
) -> None:
    a_request("org_1")
    Organization.objects.update(workos_id=link)

    with a_view_that_waits_at_each_row(), in_thread() as start:
        with another_program() as program:
            program.execute("UPDATE gone SET workos_id = 'org_2'")
            program.execute(sql.REQUEST_WRITE_BACKS, [["gram-1"], ["org_2"], False])
            program.execute("SELECT pg_advisory_lock(1)")
            push = outbox._Push(deadline=time.monotonic() + 30)
            looking = start(push.claim if link else push.forget_unlinked)
            wait_until_blocked()
            program.commit()
        claimed = looking.result() or push.claim() or []

    assert [request.workos_id for request in claimed] == ["org_2"]


@contextmanager
def a_view_that_waits_at_each_row() -> Iterator[None]:
    """Who reads organizations waits for an advisory lock after its snapshot is taken."""
    view = """
        CREATE FUNCTION waits() RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN true; END $$;
        CREATE VIEW organization_metadata AS SELECT * FROM gone WHERE waits();
    """
    drop = "DROP VIEW organization_metadata; DROP FUNCTION waits"
    with renamed("organization_metadata"), changed(view, drop):
        yield


@pytest.mark.parametrize("again", ["repeated", "of another", "withdrawn"])
@pytest.mark.parametrize(
    ("answer", "is_disabled"),
    [
        pytest.param(None, False, id="confirmed"),
        pytest.param(ExternalIdConflict("theirs"), False, id="in conflict"),
        pytest.param(NotFound("deleted"), True, id="a 404, of a disabled row"),
    ],
)
def test_a_newer_request_is_not_touched_by_the_answer_to_an_older_one(
    monkeypatch: MonkeyPatch, answer: Exception | None, is_disabled: bool, again: str
) -> None:
    before = a_request("org_1")
    if is_disabled:
        Organization.objects.update(disabled_at=datetime.now(UTC))

    def offer(*_: str, **__: Any) -> None:
        with another_program() as program:
            if again == "withdrawn":
                program.execute(f"DELETE FROM {OUTBOX}")  # noqa: S608
            workos_id = "org_2" if again == "of another" else "org_1"
            program.execute(sql.REQUEST_WRITE_BACKS, [["gram-1"], [workos_id], False])
        if answer is not None:
            raise answer

    monkeypatch.setattr(orgs.workos, "offer_external_id", offer)

    push()

    row = ExternalIdWriteBack.objects.get()
    assert (row.next_attempt_at is None, row.last_error) == (False, "")
    assert not WorkOSConflict.objects.exists()
    if again == "of another":
        assert (row.workos_id, row.attempts) == ("org_2", 0)
        assert row.requested_at > before.requested_at
    if again == "repeated" and answer is None:
        assert row == ExternalIdWriteBack.objects.due().get()
        assert (row.attempts, row.requested_at) == (0, before.requested_at)


# Locks and claims ---------------------------------------------------------------------------


def test_a_claim_keeps_others_away_and_ends_by_itself(sync_setting: Setting) -> None:
    sync_setting(REQUEST_TIMEOUT=1.0)
    a_request("org_1")

    claims = [outbox._Push(deadline=time.monotonic() + 30).claim() for _ in range(2)]

    assert [claimed and len(claimed) for claimed in claims] == [1, None]
    soon = datetime.now(UTC) + timedelta(seconds=10)
    assert ExternalIdWriteBack.objects.filter(next_attempt_at__lte=soon).exists()


@pytest.mark.parametrize(
    ("table", "is_linked", "pushed"),
    [
        pytest.param(OUTBOX, True, 1, id="a request that another worker claims is left to it"),
        pytest.param(OUTBOX, False, 1, id="nor is one waited for that is to be forgotten"),
        pytest.param("organization_metadata", True, 2, id="a locked organization keeps nothing"),
    ],
)
def test_a_locked_row(workos: FakeWorkOS, table: str, is_linked: bool, pushed: int) -> None:
    requests(workos, 2)
    if not is_linked:
        Organization.objects.filter(id="gram-1").update(workos_id=None)

    with locked(table, f"{'id' if pushed == 2 else 'organization_id'} = 'gram-1'"):
        assert push() == WriteBackReport(pushed=pushed)


@impatient
def test_locked_rows_keep_the_batch_waiting_once(workos: FakeWorkOS, after: Around) -> None:
    requests(workos, 10)
    delete = "DELETE FROM organization_metadata WHERE id <> 'gram-9' AND %s = 'gram-0'"

    with another_program() as program, CaptureQueriesContext(connection) as queries:
        after(orgs.workos, "offer_external_id", lambda _, id_: program.execute(delete, [id_]))
        report = push()
        left = ExternalIdWriteBack.objects.count()

    assert (report.pushed, left) == (10, 9)
    waits = [q for q in queries if "lock_timeout" in q["sql"] and "request_budget" not in q["sql"]]
    assert len(waits) <= 5


@pytest.mark.parametrize(
    ("states", "when"),
    [
        pytest.param(["53100"], "true", id="at the claims"),
        pytest.param(["P0001", "53100"], "true", id="at a claim that is tried alone"),
        pytest.param(["53100", "55P03"], "NEW.last_error <> ''", id="at an answer"),
        pytest.param(["55P03", "53100"], "NEW.last_error <> ''", id="at an answer's second try"),
    ],
)
def test_a_database_that_fails_refuses_no_row(states: list[str], when: str) -> None:
    a_request("org_1")
    raises = " ".join(f"WHEN {n} THEN RAISE SQLSTATE '{s}';" for n, s in enumerate(states, 1))
    body = f"CASE nextval('attempts') {raises} ELSE NULL; END CASE;"

    with a_trigger(body, when=when, table=OUTBOX, on="UPDATE"), pytest.raises(DatabaseError):
        push()


# What PostgreSQL refuses for one row ---------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "refusal", "is_linked"),
    [
        pytest.param(RAISES, {"on": "UPDATE"}, True, id="its claim is refused"),
        pytest.param(LEAVES_OUT, {"on": "UPDATE"}, True, id="its claim is left out"),
        pytest.param(RAISES, {"on": "DELETE"}, True, id="its removal is refused"),
        pytest.param(LEAVES_OUT, {"on": "DELETE"}, True, id="its removal is left out"),
        pytest.param(RAISES, {"on": "DELETE", "at_commit": True}, True, id="refused at commit"),
        pytest.param(RAISES, {"on": "DELETE"}, False, id="unlinked, its removal is refused"),
        pytest.param(LEAVES_OUT, {"on": "DELETE"}, False, id="unlinked, its removal is left out"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 40])
def test_a_row_that_cant_be_written_does_not_stop_the_others(
    workos: FakeWorkOS,
    monkeypatch: MonkeyPatch,
    caplog: LogCapture,
    how: str,
    refusal: Any,
    is_linked: bool,
    batch_size: int,
) -> None:
    monkeypatch.setattr(outbox, "_BATCH_SIZE", batch_size)
    requests(workos, 3)
    due_at = datetime.now(UTC) - timedelta(minutes=1)
    ExternalIdWriteBack.objects.filter(pk="gram-1").update(next_attempt_at=due_at)
    if not is_linked:
        Organization.objects.filter(pk="gram-1").update(workos_id=None)

    with a_trigger(how, when="OLD.organization_id = 'gram-1'", table=OUTBOX, **refusal):
        report = push()

    refused = (f"gram-1: {REASONS[how]}",)
    assert report == WriteBackReport(pushed=2, failed=1, refused=refused)
    assert [row.pk for row in ExternalIdWriteBack.objects.all()] == ["gram-1"]
    assert f"the write-back of gram-1 can't be written: {REASONS[how]}" in caplog.text
    assert report.errors[-1].endswith(f"1 row of the outbox; the first, gram-1: {REASONS[how]}")
    assert retried() == WriteBackReport(pushed=int(is_linked))


THEIRS = "WorkOS has external_id 'theirs'"


@pytest.mark.parametrize(
    ("table", "how", "said"),
    [
        pytest.param(OUTBOX, RAISES, "WorkOS does not answer: ", id="an error"),
        pytest.param(OUTBOX, RAISES, THEIRS, id="a conflict"),
        pytest.param("workos_conflict", RAISES, THEIRS, id="a conflict that raises"),
        pytest.param("workos_conflict", LEAVES_OUT, THEIRS, id="a conflict that is left out"),
    ],
)
def test_what_cant_be_noted_is_reported(
    workos: FakeWorkOS, table: str, how: str, said: str
) -> None:
    requests(workos, 3)
    acme = ExternalIdWriteBack.objects.get(pk="gram-1").workos_id
    if said == THEIRS:
        workos.update_organization(acme, external_id="theirs")
    else:
        workos.misbehave("status", path=f"/organizations/{acme}", status=500)

    with a_trigger(how, when="NEW.last_error <> ''" if table == OUTBOX else "true", table=table):
        report = push()

    assert (report.pushed, report.failed, report.conflicts) == (2, 1, 0)
    assert said in report.refused[0], report.refused
    assert table != OUTBOX or REASONS[how] in report.refused[0]


def test_when_no_row_can_be_claimed_the_push_ends_in_time(workos: FakeWorkOS) -> None:
    requests(workos, 90)

    with a_trigger(RAISES, table=OUTBOX, on="UPDATE"):
        all_refused, cut_short = push(), push_due(deadline=time.monotonic())

    assert (all_refused.failed, all_refused.is_cut_short) == (90, False)
    assert (cut_short.failed, cut_short.is_cut_short) == (40, True)
    assert workos.count_requests() == 0


def test_a_retry_makes_requests_due_as_if_new(monkeypatch: MonkeyPatch) -> None:
    enqueued: list[tuple[str, bool]] = []
    note = lambda task: enqueued.append((task, connection.in_atomic_block))  # noqa: E731
    monkeypatch.setattr(outbox, "enqueue", note)
    for number in (1, 2, 3):
        a_request(f"org_{number}", f"gram-{number}")
    later = datetime.now(UTC) + timedelta(hours=1)
    ExternalIdWriteBack.objects.update(attempts=9, next_attempt_at=later, last_error="why")
    ExternalIdWriteBack.objects.filter(pk="gram-2").update(next_attempt_at=None)

    retried = retry(["gram-2", "gram-1", "gram-nowhere"])
    retry(["gram-nowhere"])

    assert retried == ["gram-1", "gram-2"]
    due = ExternalIdWriteBack.objects.due()
    assert sorted(row.pk for row in due) == retried
    assert {(row.attempts, row.last_error) for row in due} == {(0, "why")}
    other = ExternalIdWriteBack.objects.get(pk="gram-3")
    assert (other.attempts, other.next_attempt_at) == (9, later)
    # Once, after the commit.
    assert enqueued == [(PUSH_EXTERNAL_IDS, False)]


def test_a_retry_that_waits_for_a_claim_makes_the_claimed_request_due() -> None:
    a_request("org_1")

    claim = f"UPDATE {OUTBOX} SET attempts = 1, next_attempt_at = now() + interval '1 hour'"  # noqa: S608
    assert blocked_by(claim, lambda: retry(["gram-1"])) == ["gram-1"]
    assert ExternalIdWriteBack.objects.due().count() == 1
