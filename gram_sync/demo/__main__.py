"""The demo's command: ``python -m gram_sync.demo --help``; ``make demo`` and ``make serve``."""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from gram_sync.demo.comparison import EVENTS, differences
from gram_sync.demo.output import lines, table, totals
from gram_sync.demo.stage import HOLD_BACK_SECONDS, Stage
from gram_sync.demo.story import ROWS, Story
from gram_sync.embedded_postgres.server import ServerError
from gram_sync.processes import PROJECT, ChildFailed, Children, Stopped

_INTRODUCTION: Final = f"""\
gram-sync mirrors the organizations of WorkOS into a PostgreSQL table,
organization_metadata, and what belongs to them into tables beside it. This demo
plays a day of changes and then compares both. Its processes are real and on this
machine: PostgreSQL, a fake WorkOS, the web process that receives webhooks, and
the worker that applies events. As WorkOS does, the fake lists an event some time
after its webhook, here {HOLD_BACK_SECONDS} seconds: each step waits for that."""

_TRY_IT: Final = """
Everything runs until Ctrl-C. Try it:
Admin   {web}/admin/   user admin, password {password}

Rename an organization in WorkOS:
  curl -X PUT {organization} {key} \\
    -H "Content-Type: application/json" -d '{{"name": "Hooli XYZ"}}'
{seconds} seconds later, the mirror has the name, and the same slug:
  {web}/admin/orgs/organization/gram-hooli/change/
Delete it:
  curl -X DELETE {organization} {key}
What became of each event:
  {web}/admin/orgs/workosevent/"""


def main() -> int:
    """Play the demo: 0 if WorkOS and the mirror agree at its end, 1 if they don't or something
    fails, 128 and a signal's number if that stopped it. Everything started is stopped by then."""
    parser = argparse.ArgumentParser("python -m gram_sync.demo", description=_INTRODUCTION)
    parser.add_argument("--stay", action="store_true", help="keep all running until Ctrl-C")
    parser.add_argument("--folder", type=Path, help="for logs and database, unused before")
    options = parser.parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # not every encoding has a tick
        sys.stdout.reconfigure(errors="replace")
    folder = options.folder or PROJECT / time.strftime(".data/demo-%Y%m%d-%H%M%S")
    try:
        with Children() as children:
            return _play(children, folder.absolute(), stay=options.stay)
    except Stopped as stopped:
        print("The demo was stopped, with everything it had started.", file=sys.stderr)
        return 128 + stopped.number
    except (ChildFailed, ServerError, OSError, psycopg.Error) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def _play(children: Children, folder: Path, *, stay: bool) -> int:
    lines(f"{_INTRODUCTION}\n\nSetting up: a new database, its tables, the processes ...")
    started_at = time.monotonic()
    stage = Stage(children, folder)
    lines(f"All run; their logs are in {folder / 'logs'}.")
    story = Story(stage)
    story.play()
    lines("\nWhat the mirror has, and the external_id that WorkOS has", "bold")
    table(story.read(ROWS), story.workos.all_organizations())
    totals(story.read(EVENTS), story.workos.deliveries())
    if found := list(differences(story)):
        lines("\n✗ WorkOS and the mirror differ:", "bold red")
        for difference in found:
            lines(f"✗ {difference}")
    else:
        lines("\n✓ WorkOS and the mirror agree, and no slug ever changed.", "bold green")
    lines(f"It took {time.monotonic() - started_at:.0f} seconds, set-up included.")
    if stay:
        organization = f"{stage.workos.base_url}/organizations/{story.workos_ids['Hooli']}"
        key = f'-H "Authorization: Bearer {stage.workos.api_key}"'
        ours = {"web": stage.web_url, "password": stage.password, "seconds": HOLD_BACK_SECONDS}
        lines(_TRY_IT.format(organization=organization, key=key, **ours))
        with suppress(Stopped):
            children.wait()
        lines("\nStopping ...")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
