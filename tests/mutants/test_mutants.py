"""The list of mutants fits the project as it is, and the runner tells the killed from survivors."""

from pathlib import Path

import pytest

from gram_sync.processes import PROJECT
from tests.mutants import runner
from tests.mutants.__main__ import main
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, OutOfDate, mutants


def test_every_mutant_fits_the_project() -> None:
    assert list(filter(None, map(problem_with, MUTANTS))) == []


def problem_with(mutant: Mutant) -> str | None:
    try:
        mutant.check(PROJECT)
    except OutOfDate as problem:
        return str(problem)
    return None


def test_mutants_are_told_apart_by_their_names() -> None:
    assert len({str(mutant) for mutant in MUTANTS}) == len(MUTANTS)


# The runner ---------------------------------------------------------------------------------

SAFE = "def is_safe(number):\n    return number > 3\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project, that needs no database."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "safe.py").write_text(SAFE)
    (tmp_path / "test_safe.py").write_text(
        "from safe import is_safe\n\n\ndef test_it():\n    assert is_safe(4)\n"
    )
    return tmp_path


def it_breaks(instead: str, text: str = "> 3") -> list[Mutant]:
    return list(mutants("safe.py", "test_safe.py", ("it breaks", text, instead)))


def test_the_runner_tells_the_killed_from_survivors(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = main([], project=project, mutants=[*it_breaks("> 4"), *it_breaks("> 2")])

    out = capsys.readouterr().out
    assert found == 1
    assert "killed   safe.py: it breaks\n         by test_safe.py::test_it (" in out
    assert "SURVIVED safe.py: it breaks (" in out
    assert "1 killed, 1 survived\n  safe.py: it breaks\n" in out
    assert (project / "safe.py").read_text() == SAFE


@pytest.mark.parametrize(
    ("instead", "text", "told"),
    [
        pytest.param("> (", "> 3", "it does not compile", id="does not compile"),
        pytest.param("> 3\nraise OSError", "> 3", "its tests did not run", id="can't be imported"),
        pytest.param("", "number", "its text stands 2 times in the file", id="out of date"),
    ],
)
def test_a_mutant_that_says_nothing_is_an_error(
    project: Path, capsys: pytest.CaptureFixture[str], instead: str, text: str, told: str
) -> None:
    assert main([], project=project, mutants=it_breaks(instead, text)) == 2
    assert told in capsys.readouterr().out


def test_a_mutant_that_hangs_is_killed(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(runner, "_require_green", lambda *_: None)

    found = main([], project=project, mutants=it_breaks("> 3\nwhile True: pass"))

    assert found == 0
    assert "by the time limit" in capsys.readouterr().out


def test_without_green_tests_nothing_is_found_out(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_safe.py").write_text("def test_it():\n    assert False\n")

    assert main([], project=project, mutants=it_breaks("> 4")) == 2
    assert "without any mutant the tests are not green" in capsys.readouterr().out


def test_a_name_that_no_mutant_has_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such name"]) == 2
    assert "no mutant has 'no such name'" in capsys.readouterr().out
