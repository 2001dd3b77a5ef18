"""A process that is killed anywhere, and started again, ends as if it had not been disturbed."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from django.db.models.functions import Now
from pytest_django import DjangoDbBlocker

from orgs.models import ExternalIdWriteBack
from orgs.testing import FakeWorkOS
from tests.builders import empty_tables
from tests.concurrency import wait_until
from tests.processes import PROJECT, environment_for
from tests.system.kill import scenarios
from tests.system.kill.ending import differences, ending
from tests.system.kill.scenarios import Arrange
from tests.system.kill.steps import Step
from tests.triggers import a_constraint, execute

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.timeout(600)]

_MOST_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts a process at a time."""

    process: "subprocess.Popen[str]"

    def run(
        self, work: str, workos: FakeWorkOS, *, kill_at: Step | None = None
    ) -> tuple[int, list[Step]]:
        """Runs a work until it ends, or is killed at a step; its exit code, and its steps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"work": work, "base_url": workos.base_url, "kill_at": kill_at}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        code, steps = json.loads(self.process.stdout.readline())
        return code, [Step(*step) for step in steps]


@pytest.fixture(scope="module")
def launcher(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Launcher]:
    with django_db_blocker.unblock(), FakeWorkOS() as workos:
        environment = environment_for(workos, PAGE_SIZE="3")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.kill.launcher"],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Launcher(process)


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
            code, steps = launcher.run(work, workos)
            expected = ending(workos)
        assert (code, _waits_for_time()) == (0, False)

        failures = []
        for step in _first_and_last(steps):
            with _arranged(arrange) as workos:
                _kill_and_start_again(launcher, work, workos, step)
                lines = differences(expected, ending(workos))
            failures += [f"{step}: {line}" for line in lines]

    assert not failures, "\n".join(failures)


def _first_and_last(steps: list[Step]) -> list[Step]:
    """The first and the last of those by the same way: who came by the same requests runs the same
    lines of code."""
    times = Counter(step.way for step in steps)
    return [step for step in steps if step.occurrence in (1, times[step.way])]


@contextmanager
def _arranged(arrange: Arrange) -> Iterator[FakeWorkOS]:
    empty_tables()
    with FakeWorkOS() as workos:
        arrange(workos)
        yield workos


def _kill_and_start_again(launcher: Launcher, work: str, workos: FakeWorkOS, step: Step) -> None:
    code, _steps = launcher.run(work, workos, kill_at=step)
    assert code == -signal.SIGKILL
    wait_until(_is_alone, "PostgreSQL has noticed that the process has ended")
    for _ in range(_MOST_RUNS):
        code, _steps = launcher.run(work, workos)
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
