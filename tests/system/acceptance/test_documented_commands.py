"""Every command in a block of README.md and docs/, run as printed."""

import re
import shlex
from pathlib import Path

import pytest
from django.core.management import execute_from_command_line

from gram_sync.processes import PROJECT
from orgs.testing import FakeWorkOS

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


@pytest.mark.parametrize(("page", "command"), RUN)
def test_a_documented_command_works_as_printed(
    workos: FakeWorkOS, page: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: another one would take a second to start."""
    workos.create_organization(name="Acme")

    execute_from_command_line(shlex.split(command.removeprefix(".venv/bin/python ")))

    assert "Traceback" not in capsys.readouterr().err


def test_the_commands_that_are_not_run_are_tested_elsewhere_and_are_still_there() -> None:
    assert len(RUN) >= 6
    for start, place in EXCEPTIONS.items():
        assert [command for _, command in COMMANDS if command.startswith(start)], start
        assert (PROJECT / place).exists()
