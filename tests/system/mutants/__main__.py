"""``python -m tests.system.mutants [--only TEXT]``: tests must fail for every mutant.

Each is made in a copy of the project, one after the other; the project itself is not touched.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gram_sync.processes import PROJECT
from tests.system.mutants.catalogue import MUTANTS, Mutant

_COPIED = ("orgs", "gram_sync", "tests", "manage.py", "pyproject.toml")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name holds this text")
    only: str = parser.parse_args().only
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "project"
        copy.mkdir()
        for name in _COPIED:
            source = PROJECT / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
        survivors = [mutant for mutant in chosen if not _is_noticed(mutant, copy)]
        _stop_server(copy)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were noticed")
    for mutant in survivors:
        print(f"not noticed: {mutant.name} ({mutant.file})")
    return 1 if survivors or not chosen else 0


def _is_noticed(mutant: Mutant, copy: Path) -> bool:
    file = copy / mutant.file
    original = file.read_text()
    if original.count(mutant.old) != 1:
        print(f"{mutant.name}: its line stands {original.count(mutant.old)} times in {mutant.file}")
        return False
    file.write_text(original.replace(mutant.old, mutant.new))
    try:
        tests = [*mutant.tests.split(), "-x", "-q", "--no-header"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *tests],
            cwd=copy,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    finally:
        file.write_text(original)
    # Only a test that failed has noticed it; 2 and more are errors of the run itself.
    noticed = done.returncode == 1
    print(f"{'noticed' if noticed else 'NOT NOTICED'}: {mutant.name}", flush=True)
    return noticed


def _stop_server(copy: Path) -> None:
    command = [sys.executable, "-m", "gram_sync.embedded_postgres", "stop"]
    subprocess.run(command, cwd=copy, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main())
