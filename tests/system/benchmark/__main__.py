"""``python -m tests.system.benchmark --help``."""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

import django

from gram_sync.embedded_postgres import server

os.environ |= {
    "DJANGO_SETTINGS_MODULE": "tests.system.benchmark.settings",
    # No lines between those of the table.
    "LOG_LEVEL": "WARNING",
}
django.setup()

from tests.system.benchmark import (  # noqa: E402 - what follows needs Django's settings
    applying,
    databases,
    looking,
    members,
    reading,
    serving,
)
from tests.system.benchmark.figures import Figure, Scaled  # noqa: E402
from tests.system.benchmark.settings import SERVER_DATA  # noqa: E402
from tests.system.chaos import postgres  # noqa: E402

_MEASURED: Final[dict[str, Callable[[Scaled], Iterator[Figure]]]] = {
    "apply": applying.measure,
    "members": members.measure,
    "drain": reading.measure_drain,
    "reconcile": reading.measure_reconcile,
    "webhook": serving.measure_webhook,
    "worker": serving.measure_worker,
    "write-back": serving.measure_write_back,
    "admin": looking.measure,
}
_PACKAGES: Final = ("django", "psycopg", "django-q2", "gunicorn", "workos")


def main() -> None:
    """Measure, and print. A goal that is missed is no failure of the run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.benchmark",
        description="Measure the mirror beside what it replaces and what PostgreSQL can do.",
    )
    parser.add_argument("--only", action="append", choices=[*_MEASURED], help="several for several")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 for a quick look")
    options = parser.parse_args()
    try:
        postgres.create(SERVER_DATA)
        databases.make_templates()
        packages = [f"{package} {version(package)}" for package in _PACKAGES]
        machine = (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        )
        _say(f"{machine}, {databases.described()}, {', '.join(packages)}; scale {options.scale}")
        rows = [Figure._fields, ["---"] * len(Figure._fields)]
        _say("\n".join(f"| {' | '.join(row)} |" for row in rows))
        for name in options.only or _MEASURED:
            for figure in _MEASURED[name](lambda count: max(int(count * options.scale), 1)):
                _say(f"| {' | '.join(figure)} |")
    finally:
        server.stop(SERVER_DATA)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    main()
