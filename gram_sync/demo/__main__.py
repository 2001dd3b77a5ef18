"""The demo's command: ``python -m gram_sync.demo --help``; ``make demo`` and ``make serve``."""

import argparse
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

from gram_sync.demo.comparison import count_deliveries, ledger_differences, pair_up, remotes
from gram_sync.demo.mirror import Mirror
from gram_sync.demo.narrator import Narrator
from gram_sync.demo.stage import (
    API_KEY,
    HOLD_BACK_SECONDS,
    Stage,
    StageTaken,
    folder_of_our_own,
    set_stage,
)
from gram_sync.demo.story import Story
from gram_sync.embedded_postgres.server import ServerError
from gram_sync.processes import PROJECT, ChildFailed, Children, Stopped
from orgs.testing import Refused

_FOLDER: Final = PROJECT / ".data" / "demo"

_INTRODUCTION: Final = f"""\
gram-sync mirrors the organizations of WorkOS into a PostgreSQL table, organization_metadata.
This plays a day of it, by real processes on this machine that speak HTTP: PostgreSQL, a stand-in
for WorkOS, the web process that takes the webhooks, and the worker. Like WorkOS, the stand-in lists
an event only a while after the webhook for it, here {HOLD_BACK_SECONDS} seconds: each step waits
for that."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo: 0 if WorkOS and the mirror agree at its end, 1 if they don't or something
    fails, 128 and a signal's number if that stopped it. Everything started is stopped by then."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder.absolute()
    try:
        with folder_of_our_own(folder) as lock, Children(inherited=(lock,)) as children:
            return _play_or_blame(children, folder, stay=options.stay)
    except Stopped as stopped:
        return _fail("The demo was stopped, with everything it had started.", 128 + stopped.number)
    except (ChildFailed, ServerError, StageTaken) as error:
        return _fail(str(error))
    except (OSError, psycopg.Error, Refused, subprocess.CalledProcessError) as error:
        return _fail(f"The demo failed: {error}\nThe logs are in {folder / 'logs'}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gram_sync.demo",
        description="Run gram-sync on this machine with its own PostgreSQL and a stand-in for "
        "WorkOS, play a day of changes, and compare what WorkOS has with what the mirror has. "
        "Exits with 0 only if they agree. Nothing is left running.",
    )
    parser.add_argument(
        "--stay",
        action="store_true",
        help="go on running afterwards, for the admin to be looked at, until Ctrl-C",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=_FOLDER,
        help="where database and logs are, made anew each time (default: .data/demo)",
    )
    return parser


def _fail(message: str, code: int = 1) -> int:
    print(message, file=sys.stderr)
    return code


def _play_or_blame(children: Children, folder: Path, *, stay: bool) -> int:
    try:
        return _play(children, folder, stay=stay)
    except (OSError, psycopg.Error):
        children.check()  # A child that has ended is the better explanation.
        raise


def _play(children: Children, folder: Path, *, stay: bool) -> int:
    narrator = Narrator()
    narrator.say(_INTRODUCTION)
    narrator.begin("Setting up: a new database, its tables, and the processes ...")
    started_at = time.monotonic()
    stage = set_stage(children, folder)
    narrator.say(f"All run; their logs are in {folder / 'logs'}.")
    with Mirror(stage.database_url) as mirror:
        story = Story(stage, mirror, narrator)
        story.play()
        differences = _compare(story)
    narrator.say(f"It took {time.monotonic() - started_at:.0f} seconds, set-up included.")
    if stay:
        _stay(stage, narrator, story.workos_ids["Hooli"])
    return 1 if differences else 0


def _compare(story: Story) -> list[str]:
    """Show what each side has, and return in what they differ: everything is read anew."""
    story.narrator.begin("What WorkOS has, and what the mirror has")
    settled = story.settle()
    workos, mirror = story.stage.workos, story.mirror
    events, entries = workos.all_events(), mirror.ledger()
    pairs = pair_up(remotes(workos.all_organizations(), events), mirror.rows(), mirror.first_slugs)
    differences = [
        *(f"{pair.name}: {difference}" for pair in pairs for difference in pair.differences),
        *ledger_differences(events, entries, story.malformed),
        *(f"WorkOS is still to be told the id {row_id}" for row_id in mirror.pending_write_backs()),
    ]
    if not settled and not differences:
        differences = ["Something was still under way: see the logs."]
    story.narrator.show_pairs(pairs)
    story.narrator.show_totals(entries, count_deliveries(workos.deliveries()))
    story.narrator.show_verdict(differences)
    return differences


def _stay(stage: Stage, narrator: Narrator, workos_id: str) -> None:
    """Say what can be tried, and wait for Ctrl-C. Raises ChildFailed."""
    password = secrets.token_urlsafe(9)
    stage.make_login("admin", password)
    organization = f"{stage.workos.base_url}/organizations/{workos_id}"
    authorization = f'-H "Authorization: Bearer {API_KEY}"'
    narrator.begin("It stays, until Ctrl-C. Try it:")
    narrator.print_lines(
        f"Admin         {stage.web_url}/admin/   user admin, password {password}",
        f"WorkOS        {stage.workos.base_url}   (the stand-in)",
        "",
        "Rename an organization in WorkOS:",
        f"  curl -X PUT {organization} \\",
        f"""    {authorization} -H "Content-Type: application/json" -d '{{"name": "Hooli XYZ"}}'""",
        f"and see it {HOLD_BACK_SECONDS} seconds later, with its old slug, here:",
        f"  {stage.web_url}/admin/orgs/organization/gram-hooli/change/",
        "Delete it:",
        f"  curl -X DELETE {organization} {authorization}",
        "and see what became of each event:",
        f"  {stage.web_url}/admin/orgs/workosevent/",
    )
    try:
        stage.children.wait()
    except Stopped:
        narrator.print_lines("", "Stopping ...")


if __name__ == "__main__":
    sys.exit(main())
