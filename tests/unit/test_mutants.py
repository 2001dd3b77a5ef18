"""The catalogue of mutants: each line that it names is there, once."""

import pytest

from gram_sync.processes import PROJECT
from tests.system.mutants.catalogue import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_line_stands_once_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (PROJECT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert all((PROJECT / path).exists() for path in mutant.tests.split())
