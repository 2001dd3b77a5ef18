"""A process that is killed anywhere, and started again, ends as if it had not been disturbed."""

import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django import DjangoDbBlocker

from orgs.models import ExternalIdWriteBack
from orgs.testing import FakeWorkOS
from tests.builders import empty_tables
from tests.concurrency import wait_until
from tests.processes import database_url, environment_for
from tests.system.kill import scenarios
from tests.system.kill.ending import differences, ending
from tests.system.kill.relay import Address
from tests.system.kill.scenarios import Arrange
from tests.system.kill.steps import Launcher, Step
from tests.system.kill.steps import launcher as a_launcher
from tests.triggers import a_constraint, execute

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(600)]

_MOST_RUNS: Final = 3

#: PostgreSQL's own; for a UNIX socket it is a name like another.
_PORT: Final = 5432


@pytest.fixture(scope="module")
def launcher(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Launcher]:
    """Processes that find PostgreSQL behind a relay."""
    with (
        tempfile.TemporaryDirectory() as directory,
        django_db_blocker.unblock(),
        FakeWorkOS() as workos,
    ):
        url = database_url(host=directory, port=str(_PORT))
        environment = environment_for(workos, DATABASE_URL=url, PAGE_SIZE="3")
        connection.ensure_connection()
        there = connection.connection.info
        postgres = _socket(there.host, there.port)
        with a_launcher(environment, _socket(directory, _PORT), postgres) as running:
            yield running


@pytest.mark.parametrize(
    ("work", "arrange"),
    [
        pytest.param("drain", scenarios.a_stream, id="drain"),
        pytest.param("write back", scenarios.an_outbox, id="write back"),
        pytest.param("reconcile", scenarios.drift_behind_a_lost_cursor, id="reconcile"),
    ],
)
def test_killed_anywhere_and_started_again_it_ends_as_if_undisturbed(
    launcher: Launcher, work: str, arrange: Arrange
) -> None:
    # Something that PostgreSQL refuses for its content, so that a page is applied one by one.
    with a_constraint(f"name <> '{scenarios.FORBIDDEN}'"):
        with _arranged(arrange) as workos:
            code, steps = launcher.run(work, _address(workos))
            expected = ending(workos)
        assert (code, _waits_for_time()) == (0, False)

        failures = []
        for step in _around_what_stays(steps):
            with _arranged(arrange) as workos:
                _kill_and_start_again(launcher, work, workos, step)
                lines = differences(expected, ending(workos))
            failures += [f"{step}: {line}" for line in lines]

    assert not failures, "\n".join(failures)


def _around_what_stays(steps: list[Step]) -> list[Step]:
    """The first step, and those before and after each request that changes something for good.

    Between two such requests nothing changes: whoever is killed there leaves the same behind. And
    who came by the same requests runs the same lines of code: of several times, the first and the
    last are enough.
    """
    times = Counter((step.moment, step.way) for step in steps)
    lasting = {step.way for step in steps if step.moment == "after"}
    return [
        step
        for number, step in enumerate(steps)
        if number == 0
        or (step.way in lasting and step.occurrence in (1, times[step.moment, step.way]))
    ]


@contextmanager
def _arranged(arrange: Arrange) -> Iterator[FakeWorkOS]:
    empty_tables()
    with FakeWorkOS() as workos:
        arrange(workos)
        yield workos


def _kill_and_start_again(launcher: Launcher, work: str, workos: FakeWorkOS, step: Step) -> None:
    code, steps = launcher.run(work, _address(workos), kill_at=step)
    assert (code, steps[-1:]) == (-signal.SIGKILL, [step])
    wait_until(_is_alone, "PostgreSQL has noticed that the process has ended")
    for _ in range(_MOST_RUNS):
        code, _steps = launcher.run(work, _address(workos))
        assert code == 0
        if not _waits_for_time():
            break
        # Whoever was killed had claimed something; nobody else may have it before that.
        scenarios.let_an_hour_pass()


def _waits_for_time() -> bool:
    return ExternalIdWriteBack.objects.filter(next_attempt_at__gt=Now()).exists()


def _is_alone() -> bool:
    return execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend'"
    ) == [(1,)]


def _address(workos: FakeWorkOS) -> Address:
    port = urlsplit(workos.base_url).port
    assert port is not None
    return "127.0.0.1", port


def _socket(host: str, port: int) -> Address:
    """Where libpq finds a server: a host that is a path is the directory of a UNIX socket."""
    return Path(host, f".s.PGSQL.{port}") if host.startswith("/") else (host, port)
