"""``manage.py reconcile_workos``: its exact output, its exit codes, its one line of trouble."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from orgs.models import ExternalIdWriteBack, Organization, SyncCursor, WorkOSEvent
from orgs.services import write_back
from orgs.services.cursor import standing
from orgs.services.drain import drain_to_end
from tests.builders import an_announcement
from tests.workos_stand_in import WorkOSStandIn

pytestmark = pytest.mark.usefixtures("database")


def run_command(*arguments: str) -> tuple[str, str, int]:
    """What ``manage.py`` would print and exit with: (stdout, stderr, code)."""
    out, err = StringIO(), StringIO()
    try:
        call_command("reconcile_workos", *arguments, stdout=out, stderr=err)
    except CommandError as error:
        return out.getvalue(), f"{err.getvalue()}{error}", error.returncode
    return out.getvalue(), err.getvalue(), 0


def reconcile(*arguments: str) -> dict[str, Any]:
    out, _, code = run_command("--events-only", "--format", "json", *arguments)
    assert code == 0
    return json.loads(out)  # type: ignore[no-any-return]


def a_day(workos: WorkOSStandIn) -> None:
    """Two creations, a rename, a deletion, a deletion of nothing, and an event that is bad."""
    acme = workos.create_organization(name="Acme")
    bolt = workos.create_organization(name="Bolt", external_id="gram-bolt")
    workos.update_organization(bolt["id"], name="Acme")
    workos.delete_organization(acme["id"])
    workos.emit({"event": "organization.deleted", "data": {"id": "org_never_seen"}})
    workos.emit({"id": "event_zz_bad", "event": "organization.created", "data": {"id": "org_bad"}})
    workos.emit({"event": "organization.archived", "data": {}})


def test_it_prints_one_line_a_kind(workos: WorkOSStandIn) -> None:
    a_day(workos)

    out, err, code = run_command("--events-only")

    assert code == 0
    assert out.splitlines() == [
        "events read                 7",
        "events created              2",
        "events linked               0",
        "events relinked             0",
        "events updated              1",
        "events disabled             1",
        "events stale                0",
        "events unknown              1",
        "events ignored              1",
        "events parked               1",
        "write-backs pushed          0",
        "write-backs failed          0",
        "write-backs conflicts       0",
        f"reached the end of the stream; cursor {workos.all_events()[-1]['id']}",
    ]
    assert err.splitlines() == [
        "parked event_zz_bad: data.name is not non-empty text without NUL",
        "1 parked; see them in the admin's event list",
    ]


def test_as_json_it_prints_one_object(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme")
    workos.update_organization(acme["id"], name="Acme 2")

    out, err, code = run_command("--events-only", "--format", "json")

    assert (err, code) == ("", 0)
    assert out.endswith("}\n")
    assert json.loads(out) == {
        "events": {
            "read": 2,
            "created": 1,
            "linked": 0,
            "relinked": 0,
            "updated": 1,
            "disabled": 0,
            "stale": 0,
            "unknown": 0,
            "ignored": 0,
            "parked": 0,
        },
        "write_backs": {"pushed": 1, "failed": 0, "conflicts": 0},
        "cursor": workos.all_events()[1]["id"],
        "drained": True,
    }


def test_a_second_run_reads_only_the_echo_of_its_own_write_backs(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Acme")

    first, second, third = reconcile(), reconcile(), reconcile()

    assert first["write_backs"]["pushed"] == 1
    assert (second["events"]["read"], second["events"]["updated"]) == (1, 1)
    assert third["events"]["read"] == 0
    assert not ExternalIdWriteBack.objects.exists()


def test_it_waits_for_nothing(workos: WorkOSStandIn) -> None:
    an_announcement("event_held_back")

    reconcile()

    assert workos.count_requests(path="/events") == 1


@pytest.mark.parametrize("style", ["event", "time", "time without a zone", "date"])
def test_since_applies_again_and_moves_nothing(workos: WorkOSStandIn, style: str) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    workos.create_organization(name="Old", at=long_ago.isoformat())
    workos.create_organization(name="New")
    reconcile()
    reconcile()
    stands_at = standing()
    Organization.objects.all().delete()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    since = {
        "event": workos.all_events()[0]["id"],
        "time": yesterday.isoformat(),
        "time without a zone": yesterday.replace(tzinfo=None).isoformat(),
        "date": yesterday.date().isoformat(),
    }[style]

    summary = reconcile("--since", since)

    assert summary["events"]["read"] >= 1
    assert "New" in Organization.objects.values_list("name", flat=True)
    assert (
        Organization.objects.filter(workos_last_event_id=workos.all_events()[0]["id"]).count() == 0
    )
    assert standing() == stands_at
    assert summary["cursor"] == stands_at.position.last_event_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--since", "event_unknown"],
            "WorkOS lists nothing after event_unknown: ",
            id="an event that WorkOS doesn't know",
        ),
        pytest.param(["--since", " "], "--since wants an event id or a time", id="nothing"),
        pytest.param(["--since", "a\0"], "--since wants an event id or a time", id="NUL"),
    ],
)
def test_a_since_that_is_none_is_an_error(
    workos: WorkOSStandIn, arguments: list[str], message: str
) -> None:
    workos.create_organization(name="Acme")

    out, err, code = run_command("--events-only", *arguments)

    assert (out, code) == ("", 1)
    assert err.startswith(message)
    assert "\n" not in err


@pytest.mark.parametrize(
    ("misbehaviour", "message"),
    [
        pytest.param({"kind": "status", "status": 500}, "WorkOS does not answer: ", id="500"),
        pytest.param(
            {"kind": "html"},
            "WorkOS answered 200 with something that is not a page of a list",
            id="HTML",
        ),
        pytest.param({"kind": "status", "status": 401}, "WorkOS refused the API key: ", id="401"),
        pytest.param({"kind": "rate_limited", "retry_after": 5}, "HTTP 429", id="429"),
    ],
)
def test_trouble_with_workos_is_one_line_and_exit_1(
    workos: WorkOSStandIn, misbehaviour: dict[str, Any], message: str
) -> None:
    workos.misbehave(**misbehaviour)

    out, err, code = run_command("--events-only", "--format", "json")

    assert (out, code) == ("", 1)
    assert err.startswith(message)
    assert "\n" not in err


def test_a_lost_cursor_is_said_with_the_command_that_repairs_it(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Acme")
    reconcile()
    workos.misbehave("expired_cursor", times=None)

    out, err, code = run_command("--events-only")

    assert (out, code) == ("", 1)
    assert err.startswith("the cursor is lost: ")
    assert err.endswith("run manage.py reconcile_workos")
    assert "\n" not in err


def test_trouble_with_the_database_is_one_line_and_exit_1(workos: WorkOSStandIn) -> None:
    workos.create_organization(name="Acme")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE organization_metadata RENAME name TO gone")
    try:
        out, err, code = run_command("--events-only")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE organization_metadata RENAME gone TO name")

    assert (out, code) == ("", 1)
    assert err.startswith("the database: column ")
    assert "\n" not in err


def test_a_missing_api_key_is_said(
    workos: WorkOSStandIn, sync_setting: Callable[..., None]
) -> None:
    sync_setting(API_KEY="")

    out, err, code = run_command("--events-only")

    assert (out, err, code) == ("", "there is no WorkOS API key; set WORKOS_API_KEY", 1)


def test_an_interruption_is_said(workos: WorkOSStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write_back, "push_due", interrupted)

    out, err, code = run_command("--events-only")

    assert (out, err, code) == ("", "interrupted; run it again", 130)


def test_without_events_only_it_says_that_snapshots_are_not_there_yet(
    workos: WorkOSStandIn,
) -> None:
    out, err, code = run_command()

    assert (out, code) == ("", 1)
    assert err == "snapshots are not there yet; use --events-only"
    assert workos.count_requests() == 0


def test_failed_write_backs_and_conflicts_are_counted_and_kept(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme")
    drain_to_end()
    workos.update_organization(acme["id"], external_id="theirs")

    summary = reconcile()

    assert summary["write_backs"] == {"pushed": 0, "failed": 0, "conflicts": 1}
    assert ExternalIdWriteBack.objects.conflicts().count() == 1


def test_an_overdue_announcement_is_settled(workos: WorkOSStandIn) -> None:
    acme = workos.create_organization(name="Acme", emits=False)
    an_announcement("event_lost", ago=timedelta(minutes=5), workos_id=acme["id"])

    reconcile()

    assert WorkOSEvent.objects.get().outcome == "missing"
    assert Organization.objects.get().name == "Acme"
    assert SyncCursor.objects.get().last_event_id is None


def test_an_overdue_announcement_that_cant_be_settled_is_said_after_the_rest_is_done(
    workos: WorkOSStandIn,
) -> None:
    workos.create_organization(name="Acme")
    an_announcement("event_lost", ago=timedelta(minutes=5), workos_id="org_1")
    workos.misbehave("status", status=500, path="/organizations/org_1")

    out, err, code = run_command("--events-only", "--format", "json")

    assert code == 1
    assert json.loads(out)["write_backs"]["pushed"] == 1
    assert err.startswith("an announced event is not settled: WorkOS does not answer: ")
    assert "\n" not in err
