"""Personal data is emptied some time after its deletion, or at once on request, and stays so."""

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from orgs import tasks
from orgs.db.resources import model_of
from orgs.domain.resources import PLAIN
from orgs.domain.types import Position
from orgs.models import DirectoryUser, Invitation, OrganizationMembership, WorkOSEvent, WorkOSUser
from orgs.services import refusals
from orgs.services.compare import Run
from orgs.services.erasure import NotErased, erase_due, erase_user, held_about
from orgs.services.reconcile import reconcile
from orgs.services.stream import drain_to_end, replay
from orgs.testing import FakeWorkOS
from tests.builders import TWO_DAYS_AGO, a_mirrored_organization, a_parked_event
from tests.integration.services.stored import LogCapture, MonkeyPatch, Setting
from tests.triggers import a_trigger, execute

#: More and less than the thirty days of the setting.
LONG_AGO, LATELY = datetime.now(UTC) - timedelta(days=31), datetime.now(UTC) - timedelta(days=29)
AHEAD = datetime.now(UTC) + timedelta(days=1)

PEOPLE: dict[str, Any] = {"email": "ada@acme.com", "data": {"email": "ada@acme.com"}}


def expired(at: datetime) -> dict[str, Any]:
    return {"state": "pending", "expires_at": at}


def ahead(state: str, changed_at: datetime) -> dict[str, Any]:
    return {"state": state, "workos_updated_at": changed_at, "expires_at": AHEAD}


def test_what_another_program_marked_as_deleted_comes_back_though_it_was_erased(
    workos: FakeWorkOS, sync_setting: Setting
) -> None:
    sync_setting(RESOURCES=("organization", "user"))
    a_mirrored_organization(workos)
    users = [workos.users.create(email=f"{n}@acme.com", at=TWO_DAYS_AGO) for n in range(2)]
    drain_to_end()
    reconcile(Run())
    WorkOSUser.objects.filter(pk=users[0]["id"]).update(
        deleted_at=LONG_AGO, synced_at=LONG_AGO - timedelta(days=1)
    )
    erase_due()

    reconcile(Run())

    assert WorkOSUser.objects.filter(deleted_at=None).count() == 2


@pytest.mark.parametrize(
    ("model", "values", "is_erased"),
    [
        pytest.param(WorkOSUser, {"deleted_at": LONG_AGO}, True, id="user, long ago"),
        pytest.param(WorkOSUser, {"deleted_at": LATELY}, False, id="user, lately"),
        pytest.param(WorkOSUser, {}, False, id="user who is there"),
        pytest.param(DirectoryUser, {"deleted_at": LONG_AGO}, True, id="directory user"),
        pytest.param(DirectoryUser, {"state": "inactive"}, False, id="inactive directory user"),
        pytest.param(Invitation, expired(LONG_AGO), True, id="expired long ago"),
        pytest.param(Invitation, expired(LATELY), False, id="expired lately"),
        pytest.param(Invitation, ahead("accepted", LONG_AGO), True, id="accepted long ago"),
        pytest.param(Invitation, ahead("accepted", LATELY), False, id="accepted lately"),
        pytest.param(Invitation, ahead("pending", LONG_AGO), False, id="pending"),
        pytest.param(Invitation, {"deleted_at": LONG_AGO}, True, id="deleted invitation"),
    ],
)
def test_what_is_erased(model: type[models.Model], values: dict[str, Any], is_erased: bool) -> None:
    model._default_manager.create(pk="key_1", workos_created_at=LONG_AGO, **PEOPLE, **values)

    assert erase_due() == is_erased
    row: Any = model._default_manager.get()

    assert (row.email, row.data) == ((None, {}) if is_erased else (PEOPLE["email"], PEOPLE["data"]))
    assert (row.erased_at is not None) == is_erased
    assert row.workos_created_at == LONG_AGO
    assert erase_due() == 0


def test_a_membership_keeps_who_and_where() -> None:
    ids = {"workos_user_id": "user_1", "workos_organization_id": "org_1"}
    data = {"custom_attributes": {"phone": "1"}}
    OrganizationMembership.objects.create(
        pk="om_1", status="active", role_slugs=["admin"], data=data, deleted_at=LONG_AGO, **ids
    )

    assert erase_due() == 1

    row = OrganizationMembership.objects.get()
    assert (row.workos_user_id, row.workos_organization_id, row.data) == ("user_1", "org_1", {})


def test_only_personal_resources_are_erased() -> None:
    personal = {name for name, resource in PLAIN.items() if resource.is_personal}

    assert personal == {"user", "membership", "invitation", "directory_user"}
    for name in personal:
        assert hasattr(model_of(PLAIN[name]), "erased_at")


def test_the_setting_says_after_how_many_days(sync_setting: Setting) -> None:
    sync_setting(ERASE_AFTER_DAYS=1)
    WorkOSUser.objects.create(pk="user_1", deleted_at=LATELY, **PEOPLE)

    assert "erased 1" in tasks.prune()


@pytest.mark.parametrize("refusal", ["RAISE 'it says no';", "RETURN NULL;"])
def test_a_refused_row_is_left_and_the_others_are_erased(refusal: str, caplog: LogCapture) -> None:
    for number in (1, 2, 3):
        WorkOSUser.objects.create(pk=f"user_{number}", deleted_at=LONG_AGO, **PEOPLE)

    with a_trigger(refusal, table="workos_user", when="NEW.workos_id = 'user_2'"):
        erased = erase_due()

    left = WorkOSUser.objects.filter(erased_at=None)
    assert (erased, [user.pk for user in left]) == (2, ["user_2"])
    assert "stay as they are: 1: PostgreSQL" in caplog.text
    assert "rows of workos_user that can't be changed" in caplog.text


def test_what_came_back_since_it_was_listed_is_not_erased(monkeypatch: MonkeyPatch) -> None:
    WorkOSUser.objects.create(pk="user_1", deleted_at=LONG_AGO, **PEOPLE)
    together = refusals.together_or_alone

    def late(*arguments: Any) -> Any:
        WorkOSUser.objects.update(deleted_at=None)
        return together(*arguments)

    monkeypatch.setattr(refusals, "together_or_alone", late)

    assert erase_due() == 0
    assert WorkOSUser.objects.get().erased_at is None


@pytest.fixture
def ada(workos: FakeWorkOS, all_resources: None) -> str:
    """Everything that can be held about one user, and something about another."""
    acme = {"organization_id": workos.create_organization(name="Acme")["id"]}
    directory = workos.directories.create(name="Okta", **acme)["id"]
    ids = []
    for name in ("zoe", "bob"):
        email = f"{name}@acme.com"
        ids.append(workos.users.create(email=email, first_name=name, last_name="L")["id"])
        workos.memberships.create(user_id=ids[-1], custom_attributes={"of": name}, **acme)
        invitation = workos.invitations.create(email=email, **acme)["id"]
        workos.invitations.accept(invitation, user_id=ids[-1])
        workos.directory_users.create(email=email, first_name=name, directory_id=directory)
    drain_to_end()
    payload = json.dumps({"user_id": ids[0], "of": "zoe"})
    a_parked_event(None, resource="membership", object_key="om_unknown", payload=payload)
    return str(ids[0])


def everything_about(name: str) -> list[str]:
    """The tables that hold a name anywhere."""
    found = []
    for model in (WorkOSUser, OrganizationMembership, Invitation, DirectoryUser, WorkOSEvent):
        rows = json.dumps([*model._default_manager.values()], default=str)
        if name in rows:
            found.append(model._meta.db_table)
    return found


def test_what_is_held_about_a_user_is_found_and_erased(workos: FakeWorkOS, ada: str) -> None:
    held = held_about(ada)
    tables = ("user", "organization_membership", "invitation", "directory_user")
    assert {table: len(rows) for table, rows in held.items()} == {f"workos_{t}": 1 for t in tables}
    assert "bob" not in json.dumps(held, default=str)

    assert erase_user(ada) == 4

    assert everything_about("zoe") == []
    assert len(everything_about("bob")) == 4
    assert WorkOSUser.objects.get(pk=ada).workos_created_at is not None

    workos.users.update(ada, first_name="zoe again")
    drain_to_end()
    replay(Position())
    reconcile(Run())
    again = reconcile(Run())

    assert everything_about("zoe") == []
    assert again.in_sync


def test_a_listed_membership_keeps_nothing_of_its_user(ada: str) -> None:
    of_ada = OrganizationMembership.objects.filter(workos_user_id=ada)
    of_ada.delete()

    reconcile(Run())

    data = of_ada.get().data
    assert (data["custom_attributes"], data["organization_name"]) == ({"of": "zoe"}, "Acme")
    assert "user" not in data


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("workos_user_data", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("answer", "returncode", "said"),
    [
        ("", 1, "nothing was erased"),
        ("yes", 1, "nothing was erased"),
        (EOFError, 1, "nothing was erased"),
        (KeyboardInterrupt, 130, "interrupted"),
    ],
)
def test_the_command_asks_before_it_erases(
    ada: str, answer: Any, returncode: int, said: str, monkeypatch: MonkeyPatch
) -> None:
    def asked(question: str) -> str:
        assert question.startswith(f"Erase 4 rows and 1 parked payload about {ada}?")
        if not isinstance(answer, str):
            raise answer
        return answer

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(CommandError, match=said) as raised:
        run(ada, "--erase")
    assert raised.value.returncode == returncode
    assert WorkOSUser.objects.get(pk=ada).email == "zoe@acme.com"


def test_the_command_shows_and_erases(ada: str, monkeypatch: MonkeyPatch) -> None:
    (user,) = json.loads(run(ada))["workos_user"]
    assert (user["email"], user["data"]["id"]) == ("zoe@acme.com", ada)
    assert user.keys() == {field.attname for field in WorkOSUser._meta.concrete_fields}

    monkeypatch.setattr("builtins.input", lambda _: f"{ada}\n")
    with CaptureQueriesContext(connection) as queries:
        assert run(ada, "--erase") == f"erased 4 of 4 rows and 1 parked payload about {ada}\n"
    assert everything_about("zoe") == []
    again = run(ada, "--erase", "--no-input")
    assert again.startswith("erased 0 of 3 rows and 0 parked payloads")
    # It loads no data to count it.
    asked = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert [statement for statement in asked if '"data"' in statement] == []


@pytest.mark.parametrize(
    "odd", ["1e5000", "[" * 2_500 + "]" * 2_500], ids=["a long number", "deep"]
)
def test_data_that_python_cant_read_is_shown_as_text_and_erased(ada: str, odd: str) -> None:
    execute(f"UPDATE workos_user SET data = '{odd}'")  # noqa: S608 - of constants

    (shown,) = json.loads(run(ada))["workos_user"]
    assert isinstance(shown["data"], str)
    assert len(shown["data"]) >= 5_000
    assert run(ada, "--erase", "--no-input").startswith("erased 4 of 4 rows")


@pytest.mark.parametrize("user_id", ["user_\udcff", "user_\0", ""])
def test_an_id_that_none_can_be_is_refused(user_id: str) -> None:
    with pytest.raises(CommandError, match="no user can have this id"):
        run(user_id)


def test_an_id_does_nothing_to_the_terminal() -> None:
    said = run("user_\x1b[2J", "--erase", "--no-input")
    assert said == "erased 0 of 0 rows and 0 parked payloads about user_\\x1b[2J\n"


TABLES = ("user", "organization_membership", "invitation", "directory_user", "event")


@pytest.mark.parametrize("table", [f"workos_{name}" for name in TABLES])
def test_a_refusal_is_one_line_without_values_and_what_is_left_is_erased_by_another_run(
    ada: str, table: str
) -> None:
    refusal = "RAISE 'it says no' USING DETAIL = 'Confidential';"
    said = "not erased: 1; the last, PostgreSQL P0001: it says no; run it again"
    with a_trigger(refusal, table=table), pytest.raises(CommandError, match=said) as raised:
        run(ada, "--erase", "--no-input")

    assert "Confidential" not in str(raised.value)
    # By the user's address, the others are found.
    assert {*everything_about("zoe")} == {"workos_user", table}

    run(ada, "--erase", "--no-input")
    assert everything_about("zoe") == []


@pytest.mark.parametrize(
    ("id_", "resource", "payload", "is_erased"),
    [
        pytest.param("user_1", "user", {"id": "user_1"}, True, id="a user"),
        pytest.param("user_1", "membership", {"user_id": "user_1"}, True, id="a member"),
        pytest.param("1", "invitation", {"accepted_user_id": "1"}, True, id="invited"),
        pytest.param("org_1", "organization", {"id": "org_1"}, False, id="an organization"),
        pytest.param("org_1", "membership", {"organization_id": "org_1"}, False, id="its member"),
        pytest.param("om_1", "membership", {"id": "om_1"}, False, id="a membership"),
        pytest.param("true", "user", {"metadata": {"it": "true"}}, False, id="no id"),
    ],
)
def test_an_id_that_is_no_users_erases_no_payload(
    id_: str, resource: str, payload: Any, is_erased: bool
) -> None:
    a_parked_event(None, resource=resource, payload=json.dumps(payload))

    said = "1 parked payload" if is_erased else "0 parked payloads"
    assert run(id_, "--erase", "--no-input") == f"erased 0 of 0 rows and {said} about {id_}\n"
    assert (WorkOSEvent.objects.get().payload is None) == is_erased


@pytest.mark.parametrize(
    ("resource", "key", "payload", "is_erased"),
    [
        pytest.param("user", "user_1", {}, True, id="its own event"),
        pytest.param("directory_group_member", "group_1:user_1", {}, True, id="a group's"),
        pytest.param("membership", None, {"user_id": "user_1"}, True, id="one without a key"),
        pytest.param("membership", None, {"user_id": "user_12"}, False, id="another's"),
        pytest.param("organization", None, {"name": "user_1"}, False, id="about nobody"),
    ],
)
@pytest.mark.parametrize("erased_before", [False, True], ids=["erased now", "erased before"])
def test_payloads_that_name_what_is_erased(
    resource: str, key: str | None, payload: Any, is_erased: bool, erased_before: bool
) -> None:
    erased = {"erased_at": LONG_AGO} if erased_before else {}
    WorkOSUser.objects.create(pk="user_1", deleted_at=LONG_AGO, **PEOPLE, **erased)
    text = json.dumps(payload)
    a_parked_event(None, resource=resource, object_key=key, payload=text)
    a_parked_event(None, "event_2", resource=resource, object_key="other_1", payload="{}")

    erase_due()

    payloads = dict(WorkOSEvent.objects.values_list("id", "payload"))
    assert payloads == {"event_1": None if is_erased else text, "event_2": "{}"}


def test_a_payload_that_names_the_user_by_its_key_alone_is_erased_at_once(ada: str) -> None:
    a_parked_event(None, "event_2", resource="user", object_key=ada, payload='{"name": "zoe"}')

    erase_user(ada)

    assert everything_about("zoe") == []


def test_a_refused_payload_about_another_user_keeps_nothing_of_the_user(ada: str) -> None:
    bob = WorkOSUser.objects.exclude(pk=ada)
    bob.update(erased_at=LONG_AGO)
    a_parked_event(None, "event_2", resource="user", object_key=bob.get().pk)

    refuses = a_trigger("RAISE 'no';", table="workos_event", when="NEW.id = 'event_2'")
    with refuses, pytest.raises(NotErased, match="not erased: 1; the last, PostgreSQL P0001: no"):
        erase_user(ada)

    assert everything_about("zoe") == []


def test_a_user_is_found_by_the_address_in_other_letters(ada: str) -> None:
    execute("UPDATE workos_invitation SET email = upper(email), accepted_user_id = NULL")
    execute("UPDATE workos_directory_user SET email = initcap(email)")

    assert erase_user(ada) == 4

    assert [row.email for row in Invitation.objects.order_by("pk")] == [None, "BOB@ACME.COM"]
    assert {row.email for row in DirectoryUser.objects.all()} == {None, "Bob@Acme.Com"}


@pytest.mark.parametrize(
    ("held", "address", "is_theirs"),
    [
        ("zoe@acme.com", "zoe@acme.com", True),
        ("zoe@acme.com", "Zoe@Acme.com", True),
        ("Zoë@acme.com", "ZOË@acme.com", True),
        ("ZOË@acme.com", "zoë@acme.com", True),
        pytest.param("weiß@acme.com", "weiss@acme.com", False, id='in capitals, "ß" is "SS"'),
    ],
)
def test_parked_payloads_with_the_address_are_counted_and_erased(
    ada: str, held: str, address: str, *, is_theirs: bool
) -> None:
    WorkOSUser.objects.filter(pk=ada).update(email=held)
    others = {"event_2": address, "event_3": f"chloe{address}"}
    for event_id, email in others.items():
        payload = json.dumps({"email": email})
        a_parked_event(None, event_id, resource="invitation", object_key="i_1", payload=payload)

    assert json.loads(run(ada))["parked_payloads"] == 1 + is_theirs

    erase_user(ada)

    left = WorkOSEvent.objects.parked().exclude(payload=None).order_by("id")
    assert [event.id for event in left] == [*others][is_theirs:]
    assert json.loads(run(ada))["parked_payloads"] == 0


def test_an_empty_address_is_nobodys(ada: str) -> None:
    execute("UPDATE workos_user SET email = ''; UPDATE workos_directory_user SET email = ''")
    a_parked_event(None, "event_2", resource="invitation", payload='{"email": ""}')

    assert erase_user(ada) == 3

    assert DirectoryUser.objects.filter(erased_at=None).count() == 2
    assert WorkOSEvent.objects.get(id="event_2").payload is not None
