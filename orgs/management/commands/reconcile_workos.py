"""``manage.py reconcile_workos``: brings the mirror in line with WorkOS, and says what it did."""

import json
import re
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fractions import Fraction
from math import inf
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db.models import Q
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import orgs
from orgs.conf import sync_settings
from orgs.db.cursor import read_cursor
from orgs.domain.naming import is_storable, one_line
from orgs.domain.resources import NAMES
from orgs.domain.types import Outcome, Position
from orgs.management import report
from orgs.models import Organization, WorkOSConflict, WorkOSEvent
from orgs.services import outbox, stream
from orgs.services.compare import DisableLimit, Run
from orgs.services.conclude import Reconciliation
from orgs.services.coverage import SettingsDiffer
from orgs.services.reconcile import reconcile
from orgs.services.reconcile_one import UnknownOrganization, reconcile_organizations
from orgs.services.refresh import resolve_all
from orgs.services.refusals import text_of
from orgs.services.stream import DrainReport, UnknownEvent
from orgs.workos import WorkOSError, event_time

_PUSH_SECONDS = 600.0
_NOT_IN_SYNC = 3

#: Each is said in one line.
_KNOWN = DatabaseError, WorkOSError, SettingsDiffer, UnknownEvent, UnknownOrganization

_HELP = {
    "--events-only": "read the event stream alone, without comparing every organization",
    "--snapshot-only": "compare alone, without reading the event stream",
    "--org": "compare and repair this organization alone, however recent the difference; may be "
    "given several times",
    "--replay-parked": "apply what WorkOS says now of every parked event's object",
    "--since": "with --events-only: apply again what followed this event (exclusive) or this time "
    "(UTC unless it says otherwise); the stored position is neither read nor moved",
    "--resource": "compare this resource of WORKOS_RESOURCES alone, covered or not, and with --org "
    "the organization too; may be given several times: " + ", ".join(NAMES),
    "--dry-run": "report the same and write nothing, neither here nor at WorkOS; events that wait "
    "are counted as read",
    "--check": "as --dry-run, and exit 3 if not in sync: for monitoring",
    "--strict": "with --check: exit 3 also for conflicts, and for rows that are disabled here and "
    "live in WorkOS",
    "--max-disable": "disable nothing if more organizations than this are missing from WorkOS "
    "(default: the larger of 10 and 1%% of the linked ones)",
}


class Command(BaseCommand):
    help = (
        "Drains WorkOS's event stream, compares every organization of WorkOS with the mirror, "
        "repairs what drifted, and writes new ids back. Safe to repeat, to interrupt, and to run "
        "beside the worker. Exit 0: in sync, or repaired; 1: an error, in one line on stderr; "
        "3: not in sync (--check), or a conflict or a row disabled here (--check --strict)."
    )
    # It needs less than the web process does, and says itself, in one line, what is missing.
    requires_system_checks: list[str] = []

    def get_version(self) -> str:
        return orgs.__version__

    def add_arguments(self, parser: ArgumentParser) -> None:
        what, how = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
        flag, several = {"action": "store_true"}, {"action": "append"}
        options: tuple[tuple[Any, str, dict[str, Any]], ...] = (
            (what, "--events-only", flag),
            (what, "--snapshot-only", flag),
            (what, "--org", {**several, "metavar": "WORKOS_ID_OR_GRAM_ID"}),
            (what, "--replay-parked", flag),
            (parser, "--since", {"metavar": "EVENT_ID|ISO-TIME"}),
            (parser, "--resource", {**several, "choices": NAMES, "metavar": "NAME"}),
            (how, "--dry-run", flag),
            (how, "--check", flag),
            (parser, "--strict", flag),
            (parser, "--max-disable", {"metavar": "N|N%"}),
        )
        for group, name, values in options:
            group.add_argument(name, help=_HELP[name], **values)
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        dry = options["dry_run"] or options["check"]
        _refuse_what_does_not_go_together(options, dry=dry)
        try:
            if options["replay_parked"]:
                self._replay_parked(options)
            elif options["events_only"]:
                self._events_only(options)
            else:
                self._compare(options, dry=dry)
        except _KNOWN as error:
            raise CommandError(_said(error)) from None
        except KeyboardInterrupt:
            if getattr(self, "_called_from_command_line", False):
                # At the end Python waits for requests that are under way: another Ctrl-C ends that.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise CommandError("interrupted; run it again", returncode=130) from None

    def _events_only(self, options: dict[str, Any]) -> None:
        since = options["since"]
        events = stream.drain_to_end() if since is None else stream.replay(_position(since))
        pushed = _push()
        self._name_parked(events)
        summary = report.events_summary(events, pushed, read_cursor().position.last_event_id)
        end = "the end of the stream" if events.drained else "not the end of the stream"
        self._print(options, summary, [f"reached {end}; cursor {summary['cursor'] or 'not set'}"])
        _raise_errors([*events.errors, *pushed.errors], events)

    def _replay_parked(self, options: dict[str, Any]) -> None:
        replayed = resolve_all(WorkOSEvent.objects.parked(), patience=inf)
        pushed = _push()
        for change in replayed.of(Outcome.PARKED):
            event, reason = one_line(change.event_id), one_line(change.reason)
            self.stderr.write(f"still parked {event}: {reason}")
        self._print(options, report.replay_summary(replayed, pushed))
        if replayed.error is not None:
            raise CommandError(f"{_said(replayed.error)} with {replayed.left} left; run it again")
        _raise_errors([*replayed.unproven, *pushed.errors])

    def _compare(self, options: dict[str, Any], *, dry: bool) -> None:
        limit, resources = _limit(options["max_disable"]), tuple(options["resource"] or ())
        with _progress() as progress:
            run = Run(dry=dry, limit=limit, progress=progress, resources=resources)
            if options["org"]:
                found = reconcile_organizations(run, options["org"])
            else:
                found = reconcile(run, drain_events=not options["snapshot_only"])
        self._name_parked(found.events)
        lines = report.changes_and_verdict(found, dry=dry)
        self._print(options, report.full_summary(found), lines)
        _raise_errors(found.errors, found.events)
        if options["check"] and not found.in_sync:
            raise CommandError("not in sync", returncode=_NOT_IN_SYNC)
        if options["strict"] and (left := _left_to_people(found, options["org"])):
            raise CommandError(left, returncode=_NOT_IN_SYNC)

    def _print(
        self, options: dict[str, Any], summary: dict[str, Any], more: Iterable[str] = ()
    ) -> None:
        """Print the counts and ``more`` for people, or the summary for programs."""
        if options["format"] == "json":
            text = json.dumps(summary)
        else:
            ledger = {"ledger": WorkOSEvent.objects.counts()} if "events" in summary else {}
            text = "\n".join([*report.counts({**summary, **ledger}), *more])
        report.write(self.stdout, text)

    def _name_parked(self, events: DrainReport) -> None:
        for change in events.parked:
            self.stderr.write(f"parked {one_line(change.event_id)}: {one_line(change.reason)}")
        if events.parked:
            self.stderr.write(f"{len(events.parked)} parked; see them in the admin's event list")


def _refuse_what_does_not_go_together(options: dict[str, Any], *, dry: bool) -> None:
    if options["since"] is not None and not options["events_only"]:
        raise CommandError("--since needs --events-only: only events have a time")
    if options["strict"] and not options["check"]:
        raise CommandError("--strict needs --check: it changes that exit code")
    only = options["events_only"] and "--events-only"
    if name := only or (options["replay_parked"] and "--replay-parked"):
        if dry:
            raise CommandError(f"--dry-run and --check compare organizations: leave out {name}")
        if options["resource"]:
            raise CommandError(f"--resource compares: leave out {name}")
        if options["max_disable"] is not None:
            raise CommandError(f"--max-disable is about missing organizations: leave out {name}")
    named = options["resource"] or ()
    if off := [name for name in named if name not in sync_settings().resources]:
        # By that setting people are opted in, whose data it would store.
        what = f"WORKOS_RESOURCES does not name {', '.join(off)}"
        raise CommandError(f"{what}: add it, restart the worker, and run this again")


def _push() -> outbox.WriteBackReport:
    return outbox.push_due(deadline=time.monotonic() + _PUSH_SECONDS, patience=_PUSH_SECONDS)


def _distinct(errors: Sequence[str]) -> Iterator[str]:
    """Yield each error once: what keeps every resource from being listed is an error of each."""
    for number, text in enumerate(errors):
        name, _, rest = text.partition(": ")
        without_name = rest if name.removesuffix(" is not covered") in NAMES else text
        if without_name not in "\n".join(errors[:number]):
            yield text


def _said(error: Exception) -> str:
    return f"the database: {text_of(error)}" if isinstance(error, DatabaseError) else text_of(error)


def _raise_errors(errors: Sequence[str], events: DrainReport | None = None) -> None:
    if errors:
        raise CommandError(one_line("; ".join(_distinct(errors))))
    if events and events.unresolved:
        raise CommandError(f"a missed webhook is not resolved: {_said(events.unresolved)}")


def _left_to_people(found: Reconciliation, named: Sequence[str] | None) -> str:
    """What ``--strict`` fails for; empty if there is nothing. Also what this run did not find, as
    the events may have: of all, or of those that are ``named`` by an id of either kind."""
    stored, rows = WorkOSConflict.objects.all(), Organization.objects.all()
    if named:
        rows = rows.by_either_id(*named)
        of_rows = Q(pk__in=rows.values("workos_id")) | Q(organization_id__in=rows.values("pk"))
        stored = stored.filter(of_rows | Q(pk__in=named))
    keys = {change.workos_id for change in found.organizations.of(Outcome.CONFLICT)}
    acknowledged = WorkOSConflict.objects.exclude(acknowledged_at=None)
    keys -= {*acknowledged.values_list("pk", flat=True)}
    conflicts = keys | {*stored.undecided().values_list("pk", flat=True)}
    disabled = rows.disabled_here().count()
    if conflicts or disabled:
        return f"in sync, but for conflicts: {len(conflicts)}, and rows disabled here: {disabled}"
    return ""


def _position(since: str) -> Position:
    created_at = event_time(since)
    if is_storable(since) and (since.startswith("event_") or created_at):
        return Position(since, created_at)
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        wanted = "an event id or a time such as 2026-01-15T12:00:00Z"
        raise CommandError(f"--since wants {wanted}") from None
    try:
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return Position(None, zoned.astimezone(UTC))
    except OverflowError:
        raise CommandError(f"--since is no time that there is: {since}") from None


def _limit(max_disable: str | None) -> DisableLimit:
    if max_disable is None:
        return DisableLimit()
    if re.fullmatch(r"[0-9]{1,9}", max_disable):
        return DisableLimit(rows=int(max_disable), percent=0)
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?%", max_disable):
        return DisableLimit(rows=0, percent=Fraction(max_disable[:-1]))
    raise CommandError(f"--max-disable wants a number such as 50 or 2.5%, not {max_disable!r}")


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """A line on a terminal that shows the progress; WorkOS does not say how many there are."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console, is_shown = Console(file=sys.stderr), sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as bar:
        task, text = bar.add_task("asking WorkOS …", total=None), "{}: {:,} compared".format
        yield lambda resource, count: bar.update(task, description=text(resource, count))
