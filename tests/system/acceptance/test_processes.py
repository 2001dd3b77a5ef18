"""Child processes: that all of them end, however this process or they themselves end."""

# ruff: noqa: PT012 - what is tested is how a block ends, and what its end does

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from gram_sync.processes import Child, ChildFailed, Children, Stopped
from tests.concurrency import wait_until
from tests.processes import alive

SLEEPS = "import time; time.sleep(100)"
IGNORES_SIGTERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(100)
"""
#: Like a worker: processes of its own, in its group, that don't notice how it ends.
HAS_A_CHILD = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEPS!r}])
print(child.pid, flush=True)
time.sleep(100)
"""


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


def first_line(children: Children, child: Child) -> str:
    assert child.log is not None
    return children.wait_until(child.log.read_text, "spoken", of=child, seconds=30)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


@pytest.fixture(autouse=True)
def handlers_are_restored() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    yield

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_error_stops_the_children_and_the_last_one_started_first() -> None:
    ended = []

    with pytest.raises(RuntimeError), Children() as children:
        children.callback(lambda: ended.append(first.process.returncode))
        first = children.start("The first", python(SLEEPS))
        children.callback(lambda: ended.append(first.process.returncode))
        second = children.start("The second", python(SLEEPS))
        raise RuntimeError

    assert ended == [None, -signal.SIGTERM]
    assert second.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_by_the_next_wait(number: int) -> None:
    with pytest.raises(Stopped) as stopped, Children() as children:
        child = children.start("A child", python(SLEEPS))
        os.kill(os.getpid(), number)
        started_since = children.start("Another", python(SLEEPS))
        children.wait()

    assert stopped.value.number == number
    assert child.process.returncode == started_since.process.returncode == -signal.SIGTERM


def test_a_child_that_ends_is_missed_and_its_log_named(log: Path) -> None:
    with pytest.raises(ChildFailed) as failed, Children() as children:
        children.start("The child", python("exit(3)"), log=log)
        children.wait()

    assert str(failed.value) == (f"The child ended by itself (exit code 3). Its output: {log}")


def test_a_child_that_is_killed_leaves_no_orphans(log: Path) -> None:
    with pytest.raises(ChildFailed, match="killed by SIGKILL"), Children() as children:
        child = children.start("The child", python(HAS_A_CHILD), log=log)
        orphan = psutil.Process(int(first_line(children, child)))
        child.process.kill()
        children.wait()

    wait_until(lambda: not alive([orphan]), "the orphan is gone")


@pytest.mark.parametrize("ends_it", ["the time", "another Ctrl-C"])
def test_patience_ends(log: Path, ends_it: str) -> None:
    with pytest.raises(Stopped), Children() as children:
        patience = 0.2 if ends_it == "the time" else 1_000
        child = children.start("A child", python(IGNORES_SIGTERM), log=log, patience=patience)
        first_line(children, child)
        if ends_it == "another Ctrl-C":
            children.callback(lambda: os.kill(os.getpid(), signal.SIGINT))
        os.kill(os.getpid(), signal.SIGINT)
        children.wait()

    assert child.process.returncode == -signal.SIGKILL


def test_what_does_not_happen_in_time_is_said(log: Path) -> None:
    with pytest.raises(ChildFailed) as slow, Children() as children:
        child = children.start("The child", python(SLEEPS), log=log)
        children.wait_until(lambda: False, "answered", of=child, seconds=0.1)

    assert str(slow.value) == (f"The child has not answered within 0.1 seconds. Its output: {log}")


def test_a_command_that_fails_is_an_error() -> None:
    why = r"^It failed \(exit code 3\)\. Its output: above$"
    with pytest.raises(ChildFailed, match=why), Children() as children:
        children.run("It", python("exit(3)"))
