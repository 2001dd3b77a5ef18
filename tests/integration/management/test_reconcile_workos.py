"""``manage.py reconcile_workos``: its exact output, its exit codes, its errors in one line."""

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from django.core.management import CommandError, call_command

import orgs
from orgs.db.cursor import read_cursor
from orgs.management.commands import reconcile_workos as command
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict, WorkOSEvent
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import (
    NO_ROUTE,
    TWO_DAYS_AGO,
    a_claimed_row,
    a_linked_row,
    a_mirrored_organization,
    a_parked_event,
    an_announcement,
    an_old_organization,
    an_organization_row,
)
from tests.triggers import a_trigger, renamed

pytestmark = pytest.mark.usefixtures("database")

Setting = Callable[..., None]


def run_command(*arguments: str) -> tuple[str, str, int]:
    """What ``manage.py`` would print and exit with: (stdout, stderr, code)."""
    out, err = StringIO(), StringIO()
    try:
        call_command("reconcile_workos", *arguments, stdout=out, stderr=err)
    except CommandError as error:
        return out.getvalue(), f"{err.getvalue()}{error}", error.returncode
    return out.getvalue(), err.getvalue(), 0


def run_as_json(*arguments: str) -> tuple[Any, str, int]:
    out, err, code = run_command(*arguments, "--format", "json")
    return json.loads(out), err, code


def reconcile(*arguments: str) -> dict[str, Any]:
    summary, _, code = run_as_json("--events-only", *arguments)
    assert code == 0
    return summary  # type: ignore[no-any-return]


def counts(found: str, *, of: str) -> dict[str, int]:
    """The lines of a kind in the text that is printed."""
    return {key: int(count) for key, count in re.findall(rf"(?m)^{of} (\S.*?) +(\d+)$", found)}


def test_its_version_is_the_releases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.Command().create_parser("manage.py", "reconcile_workos").parse_args(["--version"])

    assert (ended.value.code, capsys.readouterr().out) == (0, f"{orgs.__version__}\n")


def test_it_prints_one_line_a_kind(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    bolt = workos.create_organization(name="Bolt", external_id="gram-bolt")
    workos.update_organization(bolt["id"], name="Acme")
    workos.delete_organization(acme["id"])
    workos.emit({"event": "organization.deleted", "data": {"id": "org_never_seen"}})
    workos.emit({"id": "event_zz_bad", "event": "organization.created", "data": {"id": "org_bad"}})
    workos.emit({"event": "organization.archived", "data": {}})
    events = {"read": 7, "created": 2, "linked": 0, "relinked": 0, "updated": 1, "disabled": 1}
    events |= {"deleted": 0, "stale": 0, "unknown": 1, "ignored": 1, "parked": 1}

    out, err, code = run_command("--events-only")

    assert code == 0
    assert out.splitlines() == [
        *(f"{f'events {kind}':<37} {count}" for kind, count in events.items()),
        "write-backs pushed                    0",
        "write-backs failed                    0",
        "write-backs conflicts                 0",
        "ledger parked                         1",
        "ledger unannounced                    6",
        "ledger missing                        0",
        f"reached the end of the stream; cursor {workos.all_events()[-1]['id']}",
    ]
    assert err.splitlines() == [
        "parked event_zz_bad: data.name is missing or empty",
        "1 parked; see them in the admin's event list",
    ]


def test_as_json_it_prints_one_object(workos: FakeWorkOS) -> None:
    acme = workos.create_organization(name="Acme")
    workos.update_organization(acme["id"], name="Acme 2")

    out, err, code = run_command("--events-only", "--format", "json")

    assert (err, code, out.endswith("}\n")) == ("", 0, True)
    none = ("linked", "relinked", "disabled", "deleted", "stale", "unknown", "ignored", "parked")
    assert json.loads(out) == {
        "events": {"read": 2, "created": 1, "updated": 1, **dict.fromkeys(none, 0)},
        "write_backs": {"pushed": 1, "failed": 0, "conflicts": 0},
        "cursor": workos.all_events()[1]["id"],
        "drained": True,
    }


@pytest.mark.parametrize("what", ["--events-only", "--snapshot-only", "--dry-run"])
def test_any_run_counts_lost_webhooks_and_most_read_events(workos: FakeWorkOS, what: str) -> None:
    workos.create_organization(name="Its webhook is lost", external_id="gram-1")
    an_announcement("event_lost", ago=timedelta(minutes=5), workos_id="org_lost")
    drain_to_end()
    workos.forget_requests()

    out, _, _ = run_command(what)

    assert counts(out, of="ledger") == {"parked": 0, "unannounced": 1, "missing": 1}
    assert (workos.count_requests(path="/events") == 0) == (what == "--snapshot-only")


def test_since_applies_again_in_place(workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch) -> None:
    workos.create_organization(name="Old", at=TWO_DAYS_AGO)
    workos.create_organization(name="New")
    day = (TWO_DAYS_AGO + timedelta(days=1)).date().isoformat()
    drain_to_end()
    stands_at = read_cursor().position
    old = workos.all_events()[0]["id"]
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        for since, query in (
            (old, {"after": old}),
            (day, {"range_start": f"{day}T00:00:00.000Z"}),
            (f"{day}T12:00:00", {"range_start": f"{day}T12:00:00.000Z"}),
            (f"{day}T12:00:00+02:00", {"range_start": f"{day}T10:00:00.000Z"}),
        ):
            Organization.objects.all().delete()
            workos.forget_requests()

            summary = reconcile("--since", since)

            assert query.items() <= workos.requests()[0]["query"].items()
            assert "New" in Organization.objects.values_list("name", flat=True)
            assert summary["cursor"] == stands_at.last_event_id
    finally:
        monkeypatch.undo()
        time.tzset()
    assert read_cursor().position == stands_at


@pytest.mark.parametrize(
    ("misbehaves", "said"),
    [
        ({"kind": "status", "status": 500}, "WorkOS does not answer: .*"),
        ({"kind": "html"}, "WorkOS answered 200 with something that is not a page of a list.*"),
        ({"kind": "status", "status": 401}, "WorkOS refused the API key: .*"),
        ({"kind": "expired_cursor"}, r"the cursor is lost: .*manage.py reconcile_workos"),
        ("no key", "there is no WorkOS API key; set WORKOS_API_KEY"),
        ("no column", "the database: PostgreSQL 42703: column .*"),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_is_one_line_and_exit_1(
    workos: FakeWorkOS, sync_setting: Setting, misbehaves: Any, said: str, form: str
) -> None:
    workos.create_organization(name="Acme")
    reconcile()
    workos.create_organization(name="Bolt")
    if misbehaves == "no key":
        sync_setting(API_KEY="")
    elif misbehaves != "no column":
        workos.misbehave(times=None, **misbehaves)

    with renamed("organization_metadata", "name") if misbehaves == "no column" else nullcontext():
        out, err, code = run_command("--events-only", "--format", form)

    assert (out, code) == ("", 1)
    assert re.fullmatch(said, err), err


def test_a_missed_webhook_that_cant_be_resolved_is_reported_at_the_end(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    an_announcement("event_lost", ago=timedelta(minutes=5), workos_id="org_1")
    workos.misbehave("status", status=500, path="/organizations/org_1")

    summary, err, code = run_as_json("--events-only")

    assert (summary["write_backs"]["pushed"], code) == (1, 1)
    assert err.startswith("a missed webhook is not resolved: WorkOS does not answer: ")
    assert "\n" not in err


# Snapshots ----------------------------------------------------------------------------------


def a_drifted_world(workos: FakeWorkOS) -> None:
    """A row renamed here, one whose organization is deleted, one missing, and one disabled here."""
    for id_, name in (("new", "New"), ("there", "There"), ("off", "Off")):
        an_old_organization(workos, name, id=f"org_{id_}", external_id=f"gram-{id_}")
    an_organization_row("gram-there", name="Here", workos_id="org_there")
    an_organization_row("gram-missing", workos_id="org_missing")
    an_organization_row("gram-off", name="Off", workos_id="org_off", disabled_at=datetime.now(UTC))


KEYS = (
    *("organizations", "created", "linked", "relinked", "updated", "disabled", "unchanged"),
    *("stale", "conflicts", "failed", "unproven", "write_backs", "disabled_here"),
)


def test_without_options_it_repairs_and_reports_what_it_found(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)

    summary, err, code = run_as_json()

    assert (err, code) == ("", 0)
    found = {"organizations": 3, "created": 1, "updated": 1, "disabled": 1, "disabled_here": 1}
    assert summary["snapshot"] == {**dict.fromkeys(KEYS, 0), **found}
    reason = {"reason": "it is disabled here, and exists in WorkOS"}
    changes: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
        ("missing", "disabled", {"disabled_at": [None, "now"]}, {}),
        ("new", "created", {"name": [None, "New"], "workos_id": [None, "org_new"]}, {}),
        ("off", "disabled_here", {}, reason),
        ("there", "updated", {"name": ["Here", "There"]}, {}),
    ]
    assert summary["changes"] == [
        {"organization_id": f"gram-{name}", "workos_id": f"org_{name}", "change": kind}
        | {"fields": fields, **more}
        for name, kind, fields, more in changes
    ]
    assert summary["in_sync"] is False
    assert (summary["events"]["read"], summary["drained"]) == (0, True)


def test_as_text_it_shows_each_difference_and_a_dry_run_how_to_repair(workos: FakeWorkOS) -> None:
    a_drifted_world(workos)
    workos.seed(organizations=3)

    dry, again = run_command("--dry-run"), run_command("--dry-run")
    written = Organization.objects.filter(name="There").count()
    repaired, _, _ = run_command()
    out, err, code = run_command()

    assert (dry, dry[1:], written) == (again, ("", 0), 0), "the same state gives the same bytes"
    assert counts(dry[0], of="events")["read"] == 3
    assert dry[0].endswith("not in sync; run it without --dry-run and --check to repair\n")
    assert repaired.splitlines()[-5:] == [
        'disabled gram-missing (org_missing): disabled_at: null → "now"',
        'created gram-new (org_new): name: null → "New", workos_id: null → "org_new"',
        "disabled_here gram-off (org_off): it is disabled here, and exists in WorkOS",
        'updated gram-there (org_there): name: "Here" → "There"',
        "repaired",
    ]
    assert (err, code, out.splitlines()[-1]) == ("", 0, "in sync: nothing to do")
    assert counts(out, of="snapshot")["unchanged"] == 5


def test_odd_letters_are_escaped(workos: FakeWorkOS, monkeypatch: pytest.MonkeyPatch) -> None:
    an_old_organization(workos, "Bücher", external_id="gram-1")
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, "ascii"))

    call_command("reconcile_workos")

    out = written.getvalue().decode()
    assert 'name: null \\u2192 "B\\xfccher"' in out


def test_the_differences_shown_are_capped_with_a_count_of_the_rest(workos: FakeWorkOS) -> None:
    workos.seed(organizations=60, external_id_prefix="gram-", at=TWO_DAYS_AGO, emits=False)

    out, _, _ = run_command("--dry-run")

    assert len([line for line in out.splitlines() if line.startswith("created ")]) == 50
    assert "… and 10 more; --format json has them all" in out


def test_an_error_of_two_resources_is_said_once(workos: FakeWorkOS, sync_setting: Setting) -> None:
    sync_setting(RESOURCES="connection,directory")
    run_command()
    for path, said in (("/connections", "one"), ("/directories", "other")):
        workos.misbehave("status", path=path, times=None, status=503, body={"message": said})

    _, of_each, _ = run_command("--check", "--snapshot-only")
    sync_setting(API_KEY="")
    _, of_both, code = run_command("--check", "--snapshot-only")

    assert "HTTP 503: one; directory: " in of_each
    assert "HTTP 503: other" in of_each
    assert (of_both.count("there is no WorkOS API key"), code) == (1, 1)


def test_what_is_missing_of_two_resources_is_said_of_each(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    sync_setting(RESOURCES="connection,directory")
    acme = an_old_organization(workos)
    made = [
        (one, one.create(name="Acme", organization_id=acme, at=TWO_DAYS_AGO)["id"])
        for one in (workos.connections, workos.directories)
    ]
    run_command()
    for resource, id_ in made:
        resource.delete(id_, emits=False)

    _, unproven, _ = run_command("--check", "--snapshot-only")
    _, above, code = run_command("--check", "--snapshot-only", "--max-disable", "0")

    for err in (unproven, above):
        assert ("of connection" in err, "of directory" in err) == (True, True)
    assert ("more than 0 rows of directory" in above, code) == (True, 1)


@pytest.mark.parametrize("limits", [("0", "3"), ("2", "50"), ("74.9%", "75%"), ("62%", "100%")])
def test_more_missing_than_max_disable_fails(workos: FakeWorkOS, limits: tuple[str, str]) -> None:
    a_mirrored_organization(workos)
    for number in range(3):
        an_organization_row(f"gram-{number}", workos_id=f"org_missing_{number}")

    out, err, code = run_command("--max-disable", limits[0])
    allowed = run_command("--max-disable", limits[1])

    assert (code, counts(out, of="snapshot")["disabled"]) == (1, 0)
    assert "of 4 linked organizations are missing" in err
    assert "raise --max-disable" in err
    assert (allowed[2], Organization.objects.disabled().count()) == (0, 3)


@pytest.mark.parametrize("id_", [" ", "a\0", "..", "org_\ud800"])
def test_only_those_named_are_reconciled_though_one_is_none(workos: FakeWorkOS, id_: str) -> None:
    a_drifted_world(workos)

    out, err, code = run_command("--org", id_, "--org", "org_there", "--org", "gram-missing")

    assert (code, Organization.objects.get(id="gram-there").name) == (1, "There")
    assert not Organization.objects.filter(id="gram-new").exists()
    assert counts(out, of="snapshot")["disabled"] == 1
    assert "not everything is repaired" in out
    assert "\n" not in err


A_TIME = "--since wants an event id or a time"
ODD = "\x1b]0;title\x07\x9b31m\u202e"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--events-only", "--since", "event_unknown"], "WorkOS lists nothing after event_unknown"),
        (["--events-only", "--since", " "], A_TIME),
        (["--events-only", "--since", "a\0"], A_TIME),
        (["--events-only", "--since", "2026-13-01"], A_TIME),
        (["--events-only", "--since", "yesterday"], A_TIME),
        (["--events-only", "--since", "0001-01-01T00:00:00+14:00"], "--since is no time"),
        (["--events-only", "--since", ODD], ""),
        (["--org", "org_nowhere"], "neither the mirror nor WorkOS knows an organization org_now"),
        (["--org", ODD], ""),
        (["--max-disable", "many"], "--max-disable wants a number such as 50 or 2.5%, not 'many'"),
        (["--max-disable=-1"], "--max-disable wants a number such as 50 or 2.5%, not '-1'"),
        (["--max-disable", "5", "--events-only"], "--max-disable is about missing organizations"),
        (["--since", "event_1"], "--since needs --events-only"),
        (["--events-only", "--dry-run"], "--dry-run and --check compare organizations"),
        (["--strict"], "--strict needs --check"),
        (["--events-only", "--resource", "user"], "--resource compares: leave out --events-only"),
        (["--resource", "user"], "WORKOS_RESOURCES does not name user: add it, restart the worker"),
        (["--org", "org_1", "--resource", "user"], "WORKOS_RESOURCES does not name user: add it"),
    ],
)
def test_odd_options_are_one_line(workos: FakeWorkOS, arguments: list[str], message: str) -> None:
    workos.create_organization(name="Acme")

    out, err, code = run_command(*arguments)

    assert (out, code) == ("", 1)
    assert err.startswith(message)
    assert err.isprintable()


# Exit codes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "check", "strict", "said"),
    [
        ("in sync", 0, 0, ""),
        ("drifted", 3, 3, "not in sync"),
        ("a conflict", 0, 3, "in sync, but for conflicts: 1, and rows disabled here: 0"),
        ("an acknowledged conflict", 0, 0, ""),
        ("disabled here", 0, 3, "in sync, but for conflicts: 0, and rows disabled here: 1"),
        ("an event waits", 3, 3, "not in sync"),
        ("a first list fails", 1, 1, "connection is not covered: WorkOS does not answer"),
    ],
)
def test_exit_codes(
    workos: FakeWorkOS, sync_setting: Setting, state: str, check: int, strict: int, said: str
) -> None:
    mirrored = a_mirrored_organization(workos)
    if state == "drifted":
        an_old_organization(workos)
    elif state.endswith("conflict"):
        workos.update_organization(mirrored, external_id="theirs", at=TWO_DAYS_AGO, emits=False)
        run_command()
        at = datetime.now(UTC) if "acknowledged" in state else None
        assert WorkOSConflict.objects.update(acknowledged_at=at) == 1
    elif state == "disabled here":
        Organization.objects.update(disabled_at=datetime.now(UTC))
    elif state == "an event waits":
        workos.create_organization(name="Waiting")
    elif state == "a first list fails":
        sync_setting(RESOURCES=("organization", "connection"))
        workos.misbehave("status", status=500, path="/connections", times=None)

    summary, _, code = run_as_json("--check")

    assert (summary["in_sync"], code) == (check == 0, check)
    _, err, code = run_command("--check", "--strict")
    assert (err.startswith(said), bool(err), code) == (True, bool(said), strict)


def test_strict_counts_conflicts_that_this_run_does_not_find(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    a_mirrored_organization(workos, "gram-2")
    row, first, _ = a_claimed_row(workos)
    said = "in sync, but for conflicts: 1, and rows disabled here: 0"

    assert WorkOSConflict.objects.get().pk == first
    assert run_command("--check", "--strict")[1:] == (said, 3)
    for named in (["gram-2", row], [first]):
        orgs_named = [argument for id_ in named for argument in ("--org", id_)]
        assert run_command("--check", "--strict", *orgs_named)[1:] == (said, 3)
    assert run_command("--check", "--strict", "--org", "gram-2")[1:] == ("", 0)
    WorkOSConflict.objects.update(acknowledged_at=datetime.now(UTC))
    assert run_command("--check", "--strict")[1:] == ("", 0)


def test_strict_counts_rows_disabled_and_left_to_events(workos: FakeWorkOS) -> None:
    a_mirrored_organization(workos)
    now = datetime.now(UTC)
    a_linked_row(workos, "gram-x", there="New", workos_updated_at=now, disabled_at=now)
    said = "in sync, but for conflicts: 0, and rows disabled here: 1"

    assert run_command("--check", "--strict")[1:] == (said, 3)
    assert run_command("--check", "--strict", "--org", "gram-mirrored")[1:] == ("", 0)


def test_events_that_are_all_refused_are_an_error(workos: FakeWorkOS) -> None:
    workos.seed(organizations=12)

    with a_trigger("RAISE EXCEPTION 'not now';"):
        _, err, code = run_command("--events-only")

    assert (code, err.count("parked event_")) == (1, 9)
    assert err.endswith("the stream waits: PostgreSQL P0001: not now")


def test_parked_events_are_replayed_and_those_that_stay_are_named(workos: FakeWorkOS) -> None:
    workos.create_organization(id="org_1", name="Readable now", emits=False)
    workos.emit({"id": "event_1", "event": "organization.created", "data": {"id": "org_1"}})
    workos.emit({"id": "event_2", "event": "organization.created", "data": None})
    reconcile()

    summary, err, code = run_as_json("--replay-parked")
    text, _, _ = run_command("--replay-parked")

    assert summary == {
        "replayed": {"applied": 1, "still_parked": 1, "left": 0},
        "write_backs": {"pushed": 1, "failed": 0, "conflicts": 0},
    }
    said = "still parked event_2: It names no organization, so it can only be dismissed.\n"
    assert (err, code) == (said, 0)
    assert counts(text, of="replayed") == {"applied": 0, "still parked": 1, "left": 0}
    assert Organization.objects.get().name == "Readable now"


def test_an_error_of_one_parked_event_stops_no_replay_of_others(workos: FakeWorkOS) -> None:
    for number in (1, 2, 3):
        workos.emit({"event": "organization.created", "data": {"id": f"org_{number}"}})
    reconcile()
    workos.misbehave("status", path="/organizations/org_2", status=503, times=None)

    out, err, code = run_command("--replay-parked")

    assert (counts(out, of="replayed")["applied"], code) == (2, 1)
    assert re.fullmatch("WorkOS does not answer: .* with 1 left; run it again", err), err


@pytest.mark.parametrize("option", ["--replay-parked", "--events-only"])
def test_what_proves_nothing_is_an_error(workos: FakeWorkOS, option: str) -> None:
    a_mirrored_organization(workos)
    an_organization_row("gram-1", workos_id="org_1")
    if option == "--replay-parked":
        a_parked_event("org_1")
    else:
        an_announcement("event_1", ago=timedelta(minutes=5), workos_id="org_1")
    workos.misbehave("status", status=404, body=NO_ROUTE, path="/organizations/", times=None)

    _, err, code = run_command(option)

    assert "no other linked organization could be found" in err.splitlines()[-1]
    assert (WorkOSEvent.objects.get().outcome, code) == ("parked", 1)


@pytest.mark.parametrize("option", ["--replay-parked", "--events-only"])
@pytest.mark.parametrize("refuses", ["WorkOS", "PostgreSQL"])
def test_a_write_back_that_fails_is_an_error(workos: FakeWorkOS, option: str, refuses: str) -> None:
    acme = a_linked_row(workos, external_id=None)
    ExternalIdWriteBack.objects.create(organization_id="gram-1", workos_id=acme)
    is_postgresql = refuses == "PostgreSQL"
    if not is_postgresql:
        workos.misbehave("status", status=503, method="PUT", path="/organizations", times=None)

    when = "true" if is_postgresql else "false"
    with a_trigger("RAISE 'no';", table="workos_external_id_write_back", when=when):
        out, err, code = run_command(option)

    assert (counts(out, of="write-backs")["failed"], code) == (1, 1)
    assert err.startswith("1 write-back failed and will be tried again")
    assert ("PostgreSQL refused to write 1 row" in err) == is_postgresql


# A 429 --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("path", ["/events", "/organizations"])
@pytest.mark.parametrize(
    "arguments",
    [
        *("", "--check", "--events-only", "--replay-parked", "--org org_1"),
        "--events-only --since 2026-01-01",
    ],
)
def test_a_429_is_waited_out_whatever_is_run(workos: FakeWorkOS, arguments: str, path: str) -> None:
    workos.emit({"event": "organization.created", "data": {"id": "org_1"}})
    reconcile()
    workos.create_organization(id="org_1", name="Acme", external_id="gram-1", emits=False)
    an_announcement("event_lost", workos_id="org_1", ago=timedelta(minutes=5))
    workos.misbehave("rate_limited", path=path, retry_after=1)

    _, err, code = run_command(*arguments.split())

    assert ("HTTP 429" in err, "pause" in err, code) == (False, False, 0), err
