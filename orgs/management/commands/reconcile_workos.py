"""``manage.py reconcile_workos``: brings the mirror in line with WorkOS, and says what it did."""

import json
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseTrouble

from orgs.resolution import Outcome
from orgs.services import drain, write_back
from orgs.services.cursor import standing
from orgs.services.drain import CursorLost, DrainReport, UnknownEvent
from orgs.services.write_back import WriteBackReport
from orgs.workos import Position, WorkOSTrouble, event_time

#: What can become of an event that is read from the stream, in the order it is reported.
_OUTCOMES = (
    Outcome.CREATED,
    Outcome.LINKED,
    Outcome.RELINKED,
    Outcome.UPDATED,
    Outcome.DISABLED,
    Outcome.STALE,
    Outcome.UNKNOWN,
    Outcome.IGNORED,
    Outcome.PARKED,
)

_PUSH_SECONDS = 600.0


class Command(BaseCommand):
    help = (
        "Applies every event that WorkOS lists after the stored position, waiting for nothing, and "
        "writes new ids back to WorkOS. Safe to repeat and to run beside the worker. "
        "Exit 0: done (parked events are named on stderr). Exit 1: trouble, in one line on stderr."
    )
    # It needs less than the web process does, and says itself, in one line, what is missing.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--events-only",
            action="store_true",
            help="drain the event stream, without a snapshot of every organization",
        )
        parser.add_argument(
            "--since",
            metavar="EVENT_ID|ISO-TIME",
            help="apply again what followed this event (exclusive) or this time (UTC unless it "
            "says otherwise); the stored position is neither read nor moved",
        )
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["events_only"]:
            raise CommandError("snapshots are not there yet; use --events-only")
        report, pushed = _run(options["since"])
        for entry in report.parked:
            self.stderr.write(f"parked {entry.event.id}: {_one_line(entry.resolved.error)}")
        if report.parked:
            self.stderr.write(f"{len(report.parked)} parked; see them in the admin's event list")
        summary = _summary(report, pushed)
        self.stdout.write(json.dumps(summary) if options["format"] == "json" else _text(summary))
        if report.unsettled:
            raise CommandError(f"an announced event is not settled: {_one_line(report.unsettled)}")


def _run(since: str | None) -> tuple[DrainReport, WriteBackReport]:
    try:
        report = drain.drain_to_end() if since is None else drain.replay(_position(since))
        return report, write_back.push_due(deadline=time.monotonic() + _PUSH_SECONDS)
    except CursorLost as lost:
        raise CommandError(
            f"the cursor is lost: {_one_line(lost)}; run manage.py reconcile_workos"
        ) from None
    except (UnknownEvent, WorkOSTrouble) as trouble:
        raise CommandError(_one_line(trouble)) from None
    except DatabaseTrouble as trouble:
        raise CommandError(f"the database: {_one_line(trouble)}") from None
    except KeyboardInterrupt:
        raise CommandError("interrupted; run it again", returncode=130) from None


def _position(since: str) -> Position:
    if not since.strip() or "\x00" in since:
        raise CommandError("--since wants an event id or a time such as 2026-01-15T12:00:00Z")
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return Position(since, event_time(since))
    return Position(None, moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _summary(report: DrainReport, pushed: WriteBackReport) -> dict[str, Any]:
    return {
        "events": {
            "read": report.read,
            **{outcome.value: report.outcomes[outcome] for outcome in _OUTCOMES},
        },
        "write_backs": {
            "pushed": pushed.pushed,
            "failed": pushed.failed,
            "conflicts": pushed.conflicts,
        },
        "cursor": standing().position.last_event_id,
        "drained": report.drained,
    }


def _text(summary: dict[str, Any]) -> str:
    counts = {f"events {kind}": count for kind, count in summary["events"].items()}
    counts |= {f"write-backs {kind}": count for kind, count in summary["write_backs"].items()}
    lines = [f"{kind:<22}{count:>7}" for kind, count in counts.items()]
    end = "the end of the stream" if summary["drained"] else "not the end of the stream"
    return "\n".join([*lines, f"reached {end}; cursor {summary['cursor'] or 'not set'}"])


def _one_line(trouble: object) -> str:
    return " ".join(str(trouble).split())
