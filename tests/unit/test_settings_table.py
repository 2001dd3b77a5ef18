"""docs/settings.md: its table is compared with the code."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from orgs.conf import SyncSettings

PROJECT = Path(__file__).parents[2]

#: Read by programs other than the settings.
ELSEWHERE = {"HOST", "PORT", "ENV_FILE"}

#: Notes each variable that the settings' own code asks the environment for.
READ_BY_SETTINGS = """
import os, sys

class Environment(dict):
    def get(self, name, default=None):
        if sys._getframe(1).f_globals["__name__"].startswith("gram_sync"):
            names.add(name)
        return dict.get(self, name, default)

names = set()
os.environ = Environment(os.environ, ENV_FILE="/dev/null")
import gram_sync.settings
print(*sorted(names))
"""


def rows() -> list[list[str]]:
    """Return the cells of the table's rows, without the marks of code."""
    lines = (PROJECT / "docs" / "settings.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("| `")]
    return [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table
    ]


def in_words(default: object) -> str:
    """Return a default as the table has it."""
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    return f"{default:g}" if isinstance(default, int | float) else str(default) or "none"


@pytest.fixture(scope="module")
def read_by_settings() -> set[str]:
    command = [sys.executable, "-c", READ_BY_SETTINGS]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_each_key_of_the_app_is_there_with_its_default() -> None:
    documented = {key: default for _, key, default, _ in rows() if key}

    assert documented == {
        field.name.upper(): in_words(getattr(SyncSettings(), field.name))
        for field in fields(SyncSettings)
    }


def test_each_variable_of_the_service_is_there(read_by_settings: set[str]) -> None:
    documented = [name for name, *_ in rows()]

    assert len(documented) == len(set(documented))
    assert set(documented) - ELSEWHERE == read_by_settings - ELSEWHERE


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_is_read_elsewhere_is_read(name: str) -> None:
    code = "".join(path.read_text() for path in (PROJECT / "gram_sync").rglob("*.py"))

    assert f'("{name}"' in code
