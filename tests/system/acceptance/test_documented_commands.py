"""Every command in a block of README.md and docs/, run as printed and in that order."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS
from tests.processes import environment_for, run

pytestmark = pytest.mark.usefixtures("database")

#: What runs for ever, asks questions, or is about another machine; and who runs it instead.
EXCEPTIONS = {
    "make demo": "tests/system/acceptance/test_demo.py",
    "make test": "Makefile",
    "make run": "tests/system/acceptance/test_run.py",
    ".venv/bin/python manage.py createsuperuser": "gram_sync/demo/stage.py",
    "manage.py sync_worker": "tests/system/acceptance/test_worker.py",
    "python -m orgs.testing": "tests/integration/testing/test_running.py",
    "rm -rf build dist": "tests/system/matrix/test_matrix.py",
    "pip wheel": "tests/system/matrix/test_matrix.py",
    "pip install": "tests/system/matrix/test_matrix.py",
}


def commands_of(path: Path) -> list[str]:
    """The lines of a page's blocks of commands, without comments; settings are no commands."""
    blocks = re.findall(
        r"^ *```(?:sh|console)\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL
    )
    text = "".join(blocks).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ").partition("  #")[0] for line in text.splitlines()]
    return [line.strip() for line in lines if not re.match(r"[A-Z_]+=|http:|#|$", line)]


PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COMMANDS = [(page.name, command) for page in PAGES for command in commands_of(page)]


RUN = [(page, it) for page, it in COMMANDS if not it.startswith(tuple(EXCEPTIONS))]


def test_every_documented_command_works_as_printed(workos: FakeWorkOS) -> None:
    workos.create_organization(name="Acme")
    environment = environment_for(workos)

    # What another page has too is run once.
    for command, page in {command: page for page, command in RUN}.items():
        here = re.sub(r"^(\.venv/bin/python )?manage\.py", f"{sys.executable} manage.py", command)
        done = run(shlex.split(here), environment)
        assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_commands_that_are_not_run_are_tested_elsewhere_and_are_still_there() -> None:
    assert len(RUN) >= 6
    for start, place in EXCEPTIONS.items():
        assert [command for _, command in COMMANDS if command.startswith(start)], start
        assert (PROJECT / place).exists()
