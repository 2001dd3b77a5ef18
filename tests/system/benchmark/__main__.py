"""``python -m tests.system.benchmark --help``."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.system.benchmark.settings"
django.setup()

from gram_sync.processes import PROJECT  # noqa: E402 - what follows needs Django's settings
from tests.system.benchmark import (  # noqa: E402
    applying,
    databases,
    looking,
    members,
    reading,
    serving,
    writing_back,
)
from tests.system.benchmark.figures import Figure, Plan, as_table  # noqa: E402
from tests.system.benchmark.settings import SERVER_DATA  # noqa: E402
from tests.system.chaos import postgres  # noqa: E402

_MEASURED: Final[dict[str, Callable[[Plan], Iterator[Figure]]]] = {
    "apply": applying.measure,
    "members": members.measure,
    "drain": reading.measure_drain,
    "reconcile": reading.measure_reconcile,
    "webhook": serving.measure_webhook,
    "worker": serving.measure_worker,
    "write-back": writing_back.measure,
    "admin": looking.measure,
}
_PACKAGES: Final = ("django", "psycopg", "django-q2", "gunicorn", "workos")


def main() -> int:
    """Measure, and tell. Goals that are missed are told, and are no failure of the run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.benchmark",
        description="Measure the mirror beside what it replaces and what PostgreSQL can do.",
    )
    parser.add_argument("--only", action="append", choices=[*_MEASURED], help="several for several")
    parser.add_argument("--rounds", type=int, help="of every figure, instead of the usual number")
    parser.add_argument("--scale", type=float, default=1.0, help="0.1 for a quick look")
    file = PROJECT / ".data/benchmark/figures.json"
    file_help = ".data/benchmark/figures.json unless given"
    parser.add_argument("--json", type=Path, default=file, help=file_help)
    options = parser.parse_args()
    plan = Plan(options.scale, options.rounds)
    began_at = time.monotonic()
    figures: list[Figure] = []
    postgres.create(SERVER_DATA)
    try:
        databases.make_templates()
        context = _context(plan)
        for name in options.only or _MEASURED:
            for figure in _MEASURED[name](plan):
                figures.append(figure)
                _say(as_table([figure]).splitlines()[-1])
    finally:
        postgres.stop(SERVER_DATA)
    context["seconds"] = round(time.monotonic() - began_at)
    _say("\n".join(("", *(f"{key}: {value}" for key, value in context.items()), "")))
    _say(as_table(figures))
    told = [asdict(figure) | {"verdict": figure.verdict} for figure in figures]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"context": context, "figures": told}, indent=2) + "\n")
    return 0


def _context(plan: Plan) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python": platform.python_version(),
        "PostgreSQL": ", ".join(f"{key} {value}" for key, value in databases.described().items()),
        "packages": ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
        "scale": plan.scale,
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command-line program


if __name__ == "__main__":
    sys.exit(main())
