"""Runs tests against mutants, in copies of the project: the working tree is only read."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from gram_sync.embedded_postgres import server
from tests.mutants.mutant import Mutant

#: Many times what the slowest selection takes: a mutant that is not done by then hangs.
PATIENCE_SECONDS: Final = 600.0

_PASSED: Final = 0
_FAILED: Final = 1

_LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__")
_NAMED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+\.py::.+?)(?: - |$)", re.MULTILINE)

# In the order of the list, the fastest way to the killer, and the same each time.
_PYTEST: Final = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=line", "--no-header"),
    *("--show-capture=no", "-p", "no:randomly"),
)


class CannotRun(Exception):
    """The tests did not run, so they say nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant, and who noticed it."""

    mutant: Mutant
    killer: str | None
    """None: it survived."""
    seconds: float

    def __str__(self) -> str:
        if self.killer is None:
            return f"SURVIVED {self.mutant} ({self.seconds:.0f} s)"
        return f"killed   {self.mutant}\n         by {self.killer} ({self.seconds:.0f} s)"


def run_all(project: Path, mutants: Sequence[Mutant], *, jobs: int) -> Generator[Result]:
    """Runs the tests of all once unmutated, then those of each, so many ``jobs`` at a time.

    Raises ``CannotRun`` and ``OutOfDate``.
    """
    with ExitStack() as stack:
        copies = [stack.enter_context(_a_copy(project)) for _ in range(min(jobs, len(mutants)))]
        free: SimpleQueue[_Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def run(mutant: Mutant) -> Result:
            copy = free.get()
            try:
                return copy.run_mutated(mutant)
            finally:
                free.put(copy)

        with ThreadPoolExecutor(len(copies)) as threads:
            try:
                list(threads.map(_require_green, copies, _parts(mutants, len(copies))))
                yield from threads.map(run, mutants)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                for copy in copies:
                    copy.end()
                raise


class _Copy:
    """A copy of the project, in which one run of the tests at a time can be made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run_mutated(self, mutant: Mutant) -> Result:
        """Runs the mutant's tests until the first that fails."""
        file = self._folder / mutant.file
        original = file.read_text(encoding="utf-8")
        began_at = time.monotonic()
        _write(file, mutant.source(self._folder))
        try:
            code, output = self.run(mutant.tests)
        finally:
            _write(file, original)
        return Result(mutant, _killer(mutant, code, output), time.monotonic() - began_at)

    def run(self, tests: Sequence[str]) -> tuple[int | None, str]:
        """The exit code, or None if it took too long, and what was said."""
        with subprocess.Popen(
            [*_PYTEST, *tests],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as self._process:
            try:
                output, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                return None, ""
            finally:
                self.end()
        return self._process.returncode, output

    def end(self) -> None:
        """Ends the tests that run, and what they have started in their session."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def _a_copy(project: Path) -> Iterator[_Copy]:
    """A copy of the project with a database server of its own, both gone afterwards."""
    # Beside the project's own database: whoever may run that may run this one, too.
    parent = project / ".data"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="mutants-", dir=parent))
    folder.chmod(0o755)
    database = folder / ".data" / "test-postgres"
    try:
        shutil.copytree(project, folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
        if "DATABASE_URL" not in os.environ:
            # Started once: each run of the tests would start it, and stop it at its end.
            server.start(database)
        yield _Copy(folder)
    finally:
        server.stop(database)
        shutil.rmtree(folder)


def _write(file: Path, source: str) -> None:
    file.write_text(source, encoding="utf-8")
    # Compiled code goes by a file's length and its age in whole seconds: that of a mutant could be
    # taken for the next one's.
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def _parts(mutants: Sequence[Mutant], count: int) -> list[list[str]]:
    """All the tests, once each, in so many parts."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    return [tests[part::count] for part in range(count)]


def _require_green(copy: _Copy, tests: Sequence[str]) -> None:
    if not tests:
        return
    code, output = copy.run(tests)
    if code != _PASSED:
        raise CannotRun(f"without any mutant the tests are not green:\n{output}")


def _killer(mutant: Mutant, code: int | None, output: str) -> str | None:
    if code is None:
        return f"the time limit of {PATIENCE_SECONDS:.0f} s"
    if code == _PASSED:
        return None
    named = _NAMED.search(output)
    if code != _FAILED or named is None:
        raise CannotRun(f"{mutant}: its tests did not run:\n{output}")
    return named.group(1)
