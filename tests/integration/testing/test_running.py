"""The fake WorkOS as a server, in a process of its own, and as a client controls it."""

import inspect
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pytest_django import Settings
from workos import WorkOSClient, WorkOSError
from workos._errors import WorkOSConnectionError

from orgs.conf import sync_settings
from orgs.testing import FakeWorkOS, FakeWorkOSClient, Refused
from orgs.testing.__main__ import main
from orgs.testing.controls import CONTROLS
from tests.concurrency import PATIENCE, wait_until
from tests.integration.testing import an_sdk, days_ago, fake_threads, ids, names, read
from tests.integration.testing.receiver import SECRET, Receiver
from tests.processes import PROJECT

PAGE = (PROJECT / "docs" / "testing.md").read_text()
SAMPLES = [
    (name, block)
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"^def (test_\w+)", block, re.MULTILINE)
]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("name", "sample"), SAMPLES, ids=[name for name, _ in SAMPLES])
def test_a_documented_test_works_as_printed(
    request: pytest.FixtureRequest, name: str, sample: str
) -> None:
    defined: dict[str, Any] = {"FakeWorkOS": FakeWorkOS}
    exec(sample, defined)  # noqa: S102
    test = defined[name]
    test(**{it: request.getfixturevalue(it) for it in inspect.signature(test).parameters})


@pytest.mark.parametrize("written", [None, {}])
def test_the_fixture_needs_no_settings(
    request: pytest.FixtureRequest, settings: Settings, written: object
) -> None:
    settings.WORKOS_SYNC = written

    assert request.getfixturevalue("workos").base_url == sync_settings().base_url


def test_a_connection_serves_many_requests(workos: FakeWorkOS, sdk: WorkOSClient) -> None:
    before = fake_threads()
    workos.misbehave("status", status=204)
    workos.misbehave("status", status=304)

    assert [read(sdk) for _ in range(2)] == [{}, {}]  # neither of which may have a body
    assert read(sdk)["data"] == []
    assert len(fake_threads() - before) == 1


def test_an_outage_loses_nothing_and_leaves_nothing_running() -> None:
    others = fake_threads()
    with FakeWorkOS() as workos, an_sdk(workos) as sdk:
        address = workos.base_url
        with pytest.raises(RuntimeError, match="is running"):
            workos.start()
        workos.create_organization(name="Before")
        workos.misbehave("time_out", seconds=3600)
        reader = threading.Thread(target=fails_without_answer, args=(sdk,))
        reader.start()
        wait_until(workos.count_requests, "it is asked")

        workos.stop()
        workos.stop()
        reader.join()
        assert fake_threads() == others
        with pytest.raises(WorkOSConnectionError):
            read(sdk)
        workos.create_organization(name="Meanwhile")
        workos.start()

        assert workos.base_url == address
        assert names(read(sdk)) == ["Before", "Meanwhile"]


def fails_without_answer(sdk: WorkOSClient) -> None:
    with pytest.raises(WorkOSError):
        read(sdk)


def test_its_address_is_its_own(workos: FakeWorkOS) -> None:
    with pytest.raises(RuntimeError, match="no address"):
        _ = FakeWorkOS().base_url
    with pytest.raises(OSError, match="in use"):
        FakeWorkOS(port=int(workos.base_url.rsplit(":", 1)[1])).start()


def test_a_client_does_what_the_fake_does(workos: FakeWorkOS, receiver: Receiver) -> None:
    client = FakeWorkOSClient(workos.base_url)
    created = client.create_organization(name="Åcme", at=days_ago(1))
    updated = client.update_organization(created["id"], external_id="gram-1")
    emitted = client.emit({"data": {"name": None}}, absent=["created_at"])

    assert client.wait_for_deliveries()
    assert workos.organization(created["id"]) == client.organization(created["id"]) == updated
    assert client.all_events() == workos.all_events()
    assert client.all_events()[-1] == emitted
    assert client.deliveries() == workos.deliveries() != []
    for name, method in CONTROLS.items():
        assert inspect.signature(getattr(client, name)) == inspect.signature(method.__get__(client))
    with pytest.raises(Refused) as refused:
        client.create_organization(name="Acme", external_id="gram-1")
    assert (refused.value.status, refused.value.code) == (400, "external_id_already_used")


def test_only_controls_can_be_called_by_name(workos: FakeWorkOS) -> None:
    for name in ("stop", "_respond", "users.page", "users.__init__"):
        answer = httpx2.post(f"{workos.base_url}/_fake/{name}", content=b"{}")

        assert (answer.status_code, answer.json()["code"]) == (400, "bad_control")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_in_a_process_serves_until_a_signal(receiver: Receiver, number: int) -> None:
    command = [sys.executable, "-m", "orgs.testing", "--api-key", "sk_test_other"]
    webhook = ["--webhook-url", receiver.url, "--webhook-secret", SECRET]
    process = subprocess.Popen(
        [*command, "--hold-back", "60", *webhook],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with process, ExitStack() as cleanup:
        cleanup.callback(process.kill)
        assert process.stdout is not None
        client = FakeWorkOSClient(process.stdout.readline().strip())
        created = client.create_organization(name="Acme")
        with an_sdk(client, api_key="sk_test_other") as sdk:
            assert ids(read(sdk, "organizations")) == [created["id"]]
            assert read(sdk)["data"] == []
        assert client.wait_for_deliveries()
        assert receiver.names() == ["Acme"]
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "argument --port: 65536 is not a port"),
        (["--hold-back", "-1"], "argument --hold-back: -1 is not a number of seconds"),
        (["--api-key", ""], "argument --api-key: must not be empty"),
        (["--webhook-url", "http://a/"], "--webhook-url and --webhook-secret need each other"),
    ],
)
def test_bad_arguments_are_explained(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert capsys.readouterr().err.endswith(f"python -m orgs.testing: error: {message}\n")
