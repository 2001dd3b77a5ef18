"""Every command in a block of README.md and docs/, run as printed and in that order."""

import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS
from tests.concurrency import wait_until
from tests.processes import environment_for

pytestmark = pytest.mark.usefixtures("database")

#: What runs for ever, or is about another machine, and the test that has it instead.
EXCEPTIONS = {
    "make demo": "tests/system/acceptance/test_demo.py",
    "make test": "Makefile",
    "make run": "tests/system/acceptance/test_run.py",
    "manage.py sync_worker": "tests/system/acceptance/test_worker.py",
    "python -m orgs.testing": "tests/integration/testing/test_running.py",
    "pip wheel": "tests/system/matrix/test_matrix.py",
    "pip install": "tests/system/matrix/test_matrix.py",
}
PASSWORD = "correct horse battery"


def commands_of(path: Path) -> list[str]:
    """The lines of a page's blocks of commands, without comments; settings are no commands."""
    blocks = re.findall(
        r"^ *```(?:sh|console)\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL
    )
    text = "".join(blocks).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ").partition("  #")[0] for line in text.splitlines()]
    return [line.strip() for line in lines if not re.match(r"[A-Z_]+=|http:|$", line)]


PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COMMANDS = [(page.name, command) for page in PAGES for command in commands_of(page)]


def is_excepted(command: str) -> bool:
    return command.startswith(tuple(EXCEPTIONS))


def as_run_here(command: str) -> list[str]:
    script = re.sub(r"^(\.venv/bin/python )?manage\.py", f"{sys.executable} manage.py", command)
    return shlex.split(script)


def at_a_terminal(
    arguments: tuple[str, ...], environment: dict[str, str], answers: list[str]
) -> int:
    """Run it where a person answers what it asks; return its exit code."""
    process, terminal = pty.fork()
    if process == 0:
        try:
            os.chdir(PROJECT)
            os.execve(arguments[0], arguments, environment)  # noqa: S606 - no shell is needed
        finally:
            os._exit(1)
    printed = ""
    while True:
        try:
            printed += os.read(terminal, 1_000).decode()
        except OSError:  # it has ended
            break
        if answers and printed.endswith(": "):
            if "Password" in printed:
                wait_until(lambda: not _echoes(terminal), "getpass has turned the echo off")
            os.write(terminal, f"{answers.pop(0)}\n".encode())
            printed = ""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_every_documented_command_works_as_printed(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    environment = environment_for(workos)

    places: dict[tuple[str, ...], str] = {}
    for page, command in COMMANDS:
        if not is_excepted(command):
            # What another page has too is run once.
            places.setdefault(tuple(as_run_here(command)), f"{page}: {command}")
    for arguments, place in places.items():
        if arguments[-1] == "createsuperuser":
            answers = ["ada", "ada@example.com", PASSWORD, PASSWORD]
            assert at_a_terminal(arguments, environment, answers) == 0
            continue
        done = subprocess.run(
            arguments, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{place}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr

    assert User.objects.get(username="ada").is_superuser


def test_the_commands_that_are_not_run_are_tested_elsewhere_and_are_still_there() -> None:
    printed = [command for _, command in COMMANDS]

    assert len([command for command in printed if not is_excepted(command)]) >= 6
    for start, place in EXCEPTIONS.items():
        assert [command for command in printed if command.startswith(start)], start
        assert (PROJECT / place).exists()
