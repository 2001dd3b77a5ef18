"""The outbox: claims beside rivals, and what each of WorkOS's answers makes of a request."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from orgs.models import ExternalIdWriteBack, Organization
from orgs.services import outbox as write_back
from orgs.services.outbox import WriteBackReport, push_due, retry, retry_delay
from orgs.services.queue import PUSH_EXTERNAL_IDS
from orgs.testing import FakeWorkOS
from orgs.workos import client as edge
from tests.builders import an_organization_row
from tests.concurrency import another_program, in_thread, wait_until, wait_until_blocked

pytestmark = pytest.mark.usefixtures("database")


def a_request(workos_id: str, organization_id: str = "gram-1") -> ExternalIdWriteBack:
    an_organization_row(organization_id, workos_id=workos_id)
    return ExternalIdWriteBack.objects.create(organization_id=organization_id, workos_id=workos_id)


def push() -> WriteBackReport:
    return push_due(deadline=time.monotonic() + 30)


def external_id(workos: FakeWorkOS, workos_id: str) -> object:
    organization = workos.organization(workos_id)
    assert organization is not None
    return organization["external_id"]


def test_a_due_request_is_written_and_confirmed(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])

    report = push()

    assert report == WriteBackReport(pushed=1)
    assert external_id(workos, acme["id"]) == "gram-1"
    assert not ExternalIdWriteBack.objects.exists()


def test_what_workos_already_shows_is_confirmed_without_a_write(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="gram-1")
    a_request(acme["id"])

    report = push()

    assert report == WriteBackReport(pushed=1)
    assert workos.count_requests(method="PUT", path=None) == 0


def test_hundreds_are_pushed_in_batches(workos: FakeWorkOS) -> None:
    for number in range(90):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")

    report = push()

    assert report == WriteBackReport(pushed=90)


@pytest.mark.parametrize(
    ("elsewhere", "here"),
    [
        pytest.param(None, "theirs", id="another value there"),
        pytest.param("gram-1", None, id="ours is used elsewhere"),
    ],
)
def test_a_conflict_is_kept_with_its_error_for_a_person(
    workos: FakeWorkOS, elsewhere: str | None, here: str | None
) -> None:
    workos.create_organization(name="Other", external_id=elsewhere)
    acme = workos.create_organization(name="Acme", external_id=here)
    a_request(acme["id"])

    first, second = push(), push()

    assert first == WriteBackReport(conflicts=1)
    assert second == WriteBackReport(), "a person has to act first"
    assert external_id(workos, acme["id"]) == here
    kept = ExternalIdWriteBack.objects.conflicts().get()
    assert kept.last_error


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"kind": "status", "status": 500}, id="500"),
        pytest.param({"kind": "html"}, id="HTML"),
        pytest.param({"kind": "status", "status": 401}, id="401"),
        pytest.param({"kind": "reset"}, id="reset"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_trouble_backs_off_with_its_error(
    workos: FakeWorkOS, trouble: dict[str, object], method: str
) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    workos.misbehave(method=method, path="/organizations", **trouble)  # type: ignore[arg-type]

    before = datetime.now(UTC)
    report = push()

    assert report == WriteBackReport(failed=1)
    row = ExternalIdWriteBack.objects.get()
    assert row.attempts == 1
    assert row.last_error
    assert row.next_attempt_at is not None
    assert row.next_attempt_at >= before + timedelta(seconds=0.5)


def test_a_failed_request_is_tried_again_when_it_is_due(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    workos.misbehave("status", status=500, path="/organizations")
    push()
    not_yet = push()

    ExternalIdWriteBack.objects.update(next_attempt_at=datetime.now(UTC))
    now_due = push()

    assert (not_yet, now_due) == (WriteBackReport(), WriteBackReport(pushed=1))


def test_one_run_tries_a_failing_request_once(workos: FakeWorkOS) -> None:
    for number in range(60):
        a_request(f"org_{number}", f"gram-{number}")

    report = push()

    assert report == WriteBackReport(failed=60)
    assert workos.count_requests(path="/organizations") == 60


def test_a_pause_that_workos_asks_for_is_kept(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    workos.misbehave("rate_limited", path="/organizations", retry_after=120)

    before = datetime.now(UTC)
    push()

    row = ExternalIdWriteBack.objects.get()
    assert row.next_attempt_at is not None
    assert row.next_attempt_at >= before + timedelta(seconds=119)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"kind": "status", "status": 401}, id="a revoked key"),
        pytest.param({"kind": "rate_limited", "retry_after": 60}, id="a pause asked for"),
    ],
)
def test_what_concerns_every_call_is_not_found_out_by_each(
    workos: FakeWorkOS, trouble: dict[str, object]
) -> None:
    for number in range(100):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number:03}")
    workos.misbehave(path=None, method=None, times=None, **trouble)  # type: ignore[arg-type]

    report = push()

    assert report.failed == 40, "the batch that met it; the rest stays due"
    assert workos.count_requests() <= 16
    assert ExternalIdWriteBack.objects.due().count() == 60


def test_a_404_waits_for_the_deletion(workos: FakeWorkOS) -> None:
    a_request("org_gone")

    report = push()

    assert report == WriteBackReport(failed=1)
    assert "waits for the deletion" in ExternalIdWriteBack.objects.get().last_error


def test_a_404_ends_the_request_of_a_row_that_is_disabled_already(workos: FakeWorkOS) -> None:
    a_request("org_gone")
    Organization.objects.update(disabled_at=datetime.now(UTC))

    push()

    assert not ExternalIdWriteBack.objects.exists()


@pytest.mark.parametrize("odd", ["\x00", "\ud800"])
def test_words_of_workos_that_cant_be_stored_do_not_take_the_batch_along(
    workos: FakeWorkOS, odd: str
) -> None:
    for number in range(3):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")
    workos.misbehave(
        "status",
        status=400,
        method="PUT",
        path="/organizations",
        body={"message": f"bad {odd} value"},
    )

    report = push()

    assert report == WriteBackReport(pushed=2, failed=1)
    kept = ExternalIdWriteBack.objects.get()
    assert "bad " in kept.last_error
    assert kept.attempts == 1


def test_a_row_that_another_program_is_deleting_does_not_keep_the_batch_waiting(
    workos: FakeWorkOS, sync_setting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    for number in range(3):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")
    offer = edge.offer_external_id

    with another_program() as rival:

        def and_one_is_deleted(workos_id: str, external_id: str) -> None:
            offer(workos_id, external_id)
            if external_id == "gram-1":
                rival.execute("DELETE FROM organization_metadata WHERE id = 'gram-1'")

        monkeypatch.setattr(edge, "offer_external_id", and_one_is_deleted)
        report = push()
        left = [request.organization_id for request in ExternalIdWriteBack.objects.all()]

    assert report.pushed == 3
    assert left == ["gram-1"]


def test_locked_requests_are_not_waited_for_one_after_the_other(
    workos: FakeWorkOS, sync_setting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    for number in range(10):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")
    offer = edge.offer_external_id

    with another_program() as rival, CaptureQueriesContext(connection) as queries:

        def and_all_are_locked(workos_id: str, external_id: str) -> None:
            offer(workos_id, external_id)
            if external_id == "gram-0":
                rival.execute("SELECT FROM workos_external_id_write_back FOR UPDATE")

        monkeypatch.setattr(edge, "offer_external_id", and_all_are_locked)
        push()

    transactions = [query for query in queries if "lock_timeout" in query["sql"]]
    assert len(transactions) <= 5


def test_a_locked_outbox_is_not_waited_for_without_end(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(LOCK_TIMEOUT=0.05)
    a_request("org_1")

    with another_program() as rival:
        rival.execute("LOCK TABLE workos_external_id_write_back IN SHARE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            push()


def test_the_organization_that_is_linked_now_is_told_and_no_other(workos: FakeWorkOS) -> None:
    old = workos.create_organization(name="Old")
    new = workos.create_organization(name="New")
    a_request(old["id"])
    with another_program() as rival:
        rival.execute("UPDATE organization_metadata SET workos_id = %s", [new["id"]])

    report = push()

    assert report == WriteBackReport(pushed=1)
    assert external_id(workos, old["id"]) is None
    assert external_id(workos, new["id"]) == "gram-1"


def test_a_request_of_a_row_that_is_linked_no_more_is_forgotten(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    with another_program() as rival:
        rival.execute("UPDATE organization_metadata SET workos_id = NULL")

    report = push()

    assert report == WriteBackReport()
    assert not ExternalIdWriteBack.objects.exists()
    assert external_id(workos, acme["id"]) is None


def test_a_conflict_of_a_row_that_is_linked_no_more_is_forgotten(workos: FakeWorkOS) -> None:
    a_request("org_1")
    ExternalIdWriteBack.objects.update(next_attempt_at=None, last_error="another value there")
    Organization.objects.update(workos_id=None)

    push()

    assert not ExternalIdWriteBack.objects.exists()
    assert workos.count_requests() == 0


def test_without_a_key_no_more_than_a_batch_is_tried(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(API_KEY="")
    for number in range(60):
        a_request(f"org_{number}", f"gram-{number}")

    report = push()

    assert report == WriteBackReport(failed=40)
    assert ExternalIdWriteBack.objects.filter(attempts=0).count() == 20


def test_what_there_is_no_time_for_is_given_back(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    before = a_request(acme["id"])

    report = push_due(deadline=time.monotonic())

    assert report == WriteBackReport(is_cut_short=True)
    assert workos.count_requests() == 0
    after = ExternalIdWriteBack.objects.due().get()
    assert (after.attempts, after.requested_at) == (0, before.requested_at)
    assert push() == WriteBackReport(pushed=1)


def test_a_put_whose_answer_is_lost_is_found_done_the_next_time(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    workos.misbehave("reset", method="PUT", path="/organizations", applied=True)
    first = push()
    ExternalIdWriteBack.objects.update(next_attempt_at=datetime.now(UTC))

    second = push()

    assert (first, second) == (WriteBackReport(failed=1), WriteBackReport(pushed=1))
    assert workos.count_requests(method="PUT", path=None) == 1


def test_a_newer_request_is_not_removed_by_the_confirmation_of_an_older_one(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    offer = edge.offer_external_id

    def and_then_it_is_requested_again(workos_id: str, external_id: str) -> None:
        offer(workos_id, external_id)
        with another_program() as rival:
            rival.execute(
                "UPDATE workos_external_id_write_back SET requested_at = clock_timestamp()"
            )

    monkeypatch.setattr(edge, "offer_external_id", and_then_it_is_requested_again)

    push()

    assert ExternalIdWriteBack.objects.count() == 1


def test_a_newer_request_does_not_inherit_the_failure_of_an_older_one(
    workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_request("org_1")

    def fail(*_: str) -> None:
        with another_program() as rival:
            rival.execute(
                "UPDATE workos_external_id_write_back SET requested_at = clock_timestamp()"
            )
        raise edge.ExternalIdConflict("theirs")

    monkeypatch.setattr(edge, "offer_external_id", fail)

    push()

    row = ExternalIdWriteBack.objects.get()
    assert row.next_attempt_at is not None
    assert row.last_error == ""


def test_two_pushers_at_once_ask_for_each_organization_once(workos: FakeWorkOS) -> None:
    for number in range(80):
        organization = workos.create_organization(name=f"Org {number}")
        a_request(organization["id"], f"gram-{number}")
    both_are_there = Barrier(2)

    def pushing() -> WriteBackReport:
        both_are_there.wait()
        return push()

    with in_thread() as start:
        reports = [running.result() for running in [start(pushing), start(pushing)]]

    assert sum(report.pushed for report in reports) == 80
    assert workos.count_requests(method="GET", path="/organizations") == 80


def test_a_row_that_another_pusher_is_claiming_is_left_to_it(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])

    with another_program() as rival:
        rival.execute("SELECT FROM workos_external_id_write_back FOR UPDATE")
        report = push()

    assert report == WriteBackReport()


def test_a_claim_ends_by_itself_if_the_pusher_is_killed(
    workos: FakeWorkOS, sync_setting: Callable[..., None]
) -> None:
    sync_setting(REQUEST_TIMEOUT=1.0)
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])

    write_back._claim(datetime.now(UTC))

    row = ExternalIdWriteBack.objects.get()
    assert row.next_attempt_at is not None
    assert row.next_attempt_at <= datetime.now(UTC) + timedelta(seconds=10)


def test_no_transaction_is_open_while_workos_is_asked(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    a_request(acme["id"])
    workos.misbehave("time_out", path="/organizations")

    with in_thread() as start:
        pushing = start(push)
        wait_until(lambda: workos.count_requests(path="/organizations") == 1, "WorkOS is asked")
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend' AND state <> 'idle'
                """
            )
            (busy,) = cursor.fetchone()
        workos.stop()
        pushing.result()

    assert busy == 0


def test_another_programs_delete_of_an_organization_takes_its_request_along() -> None:
    a_request("org_1")

    with another_program() as rival:
        rival.execute("DELETE FROM organization_metadata")

    assert not Organization.objects.exists()
    assert not ExternalIdWriteBack.objects.exists()


@pytest.mark.parametrize(
    ("attempts", "longest"),
    [(1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (12, 900), (10_000, 900)],
)
def test_pauses_double_up_to_a_quarter_of_an_hour_half_of_it_jitter(
    attempts: int, longest: float
) -> None:
    delays = [retry_delay(attempts) for _ in range(200)]

    assert all(longest / 2 <= delay <= longest for delay in delays)
    assert len(set(delays)) > 100


# Retrying by a person's decision ------------------------------------------------------------


def test_a_retry_makes_a_request_due_as_if_it_had_not_been_tried() -> None:
    waiting = a_request("org_1")
    conflict = a_request("org_2", "gram-2")
    other = a_request("org_3", "gram-3")
    later = datetime.now(UTC) + timedelta(hours=1)
    ExternalIdWriteBack.objects.update(attempts=9, next_attempt_at=later, last_error="why")
    ExternalIdWriteBack.objects.filter(pk=conflict.pk).update(next_attempt_at=None)

    retried = retry(["gram-2", "gram-1", "gram-nowhere"])

    assert retried == ["gram-1", "gram-2"]
    due = ExternalIdWriteBack.objects.due()
    assert sorted(row.pk for row in due) == [waiting.pk, conflict.pk]
    assert {(row.attempts, row.last_error) for row in due} == {(0, "why")}
    other.refresh_from_db()
    assert (other.attempts, other.next_attempt_at) == (9, later)


def test_a_retry_rings_for_those_that_there_are_after_they_were_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_request("org_1")
    rung: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        write_back, "ring", lambda task: rung.append((task, connection.in_atomic_block))
    )

    retry(["gram-1"])
    retry(["gram-nowhere"])

    assert rung == [(PUSH_EXTERNAL_IDS, False)]


def test_a_retried_conflict_is_pushed_once_workos_has_no_other_id(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme", external_id="theirs")
    a_request(acme["id"])
    assert push() == WriteBackReport(conflicts=1)
    assert push() == WriteBackReport()

    workos.update_organization(acme["id"], external_id=None)
    retry(["gram-1"])

    assert push() == WriteBackReport(pushed=1)
    assert external_id(workos, acme["id"]) == "gram-1"


def test_a_retry_that_waits_for_a_claim_makes_the_claimed_request_due() -> None:
    a_request("org_1")

    with another_program() as rival, in_thread() as start:
        rival.execute("SELECT FROM workos_external_id_write_back FOR UPDATE")
        retrying = start(lambda: retry(["gram-1"]))
        wait_until_blocked()
        rival.execute(
            "UPDATE workos_external_id_write_back"
            " SET attempts = 1, next_attempt_at = now() + interval '1 hour'"
        )
        rival.commit()
        retried = retrying.result()

    assert retried == ["gram-1"]
    assert ExternalIdWriteBack.objects.due().count() == 1
