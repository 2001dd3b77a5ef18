"""What a mutant is: one text of one file, what replaces it, and the tests that must notice."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class OutOfDate(Exception):
    """The project has changed, and the mutant says nothing about it any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """The project with ``text``, which stands exactly once in ``file``, replaced by ``instead``."""

    name: str
    """What goes wrong then."""
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]
    """Test files, or node ids, of which at least one test must fail."""

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def source(self, project: Path) -> str:
        """The mutated file. Raises ``OutOfDate`` if the text is not there once."""
        path = project / self.file
        original = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = original.count(self.text)
        if count != 1:
            raise OutOfDate(f"{self}: its text stands {count} times in the file, not once")
        before, _, behind = original.partition(self.text)
        # Whole lines that are removed take the indentation along that stands before the text.
        removed = not self.instead and self.text.endswith("\n")
        return (before.rstrip(" ") if removed else before) + self.instead + behind

    def check(self, project: Path) -> None:
        """Raises ``OutOfDate`` if it can't be applied, doesn't compile, or has no such tests."""
        source = self.source(project)
        try:
            compile(source, self.file, "exec")
        except SyntaxError as error:
            raise OutOfDate(f"{self}: it does not compile: {error}") from None
        for test in self.tests:
            _check_test(self, project, test)


#: Name, text and what stands instead; then the tests, if they are not those of the file's others.
Edit = tuple[str, str, str] | tuple[str, str, str, str | tuple[str, ...]]


def mutants(file: str, tests: str | tuple[str, ...], *edits: Edit) -> Iterator[Mutant]:
    """Mutants of one file, most of which are the business of the same tests."""
    for name, text, instead, *others in edits:
        chosen = others[0] if others else tests
        yield Mutant(
            name, file, text, instead, (chosen,) if isinstance(chosen, str) else tuple(chosen)
        )


def _check_test(mutant: Mutant, project: Path, test: str) -> None:
    file, _, function = test.partition("::")
    path = project / file
    if not path.is_file():
        raise OutOfDate(f"{mutant}: there is no {file}")
    if function and f"def {function}(" not in path.read_text(encoding="utf-8"):
        raise OutOfDate(f"{mutant}: there is no {test}")
