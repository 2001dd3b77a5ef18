"""Prints: the story as it goes on, the table at its end, and what it comes to."""

import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gram_sync.demo.comparison import Deliveries, LedgerEntry, Pair, Remote, Row

_STYLES: Final = {"WorkOS": "magenta", "webhooks": "cyan", "mirror": "green", "Gram": "yellow"}
_LABEL_WIDTH: Final = 10
_AGREEMENT: Final = "WorkOS and the mirror agree on everything, and no slug ever changed."
_LONGEST_ID: Final = 13


class Narrator:
    """Tells people what happens, on a terminal or in a file."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            # A tick that the terminal's encoding doesn't have must not be what ends the demo.
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False, markup=False)

    def say(self, text: str, style: str = "") -> None:
        """Print a paragraph."""
        for line in textwrap.wrap(text, self._console.width):
            self._console.print(line, style=style)

    def begin(self, title: str) -> None:
        """Print the title of what follows."""
        self._console.print(f"\n{title}", style="bold")

    def tell(self, who: str, text: str) -> None:
        """Print what somebody did, below the title."""
        label = f"{who:>{_LABEL_WIDTH}} "
        for line in textwrap.wrap(text, self._console.width - len(label)):
            self._console.print(Text(label, _STYLES.get(who, "")), Text(line), sep="")
            label = " " * len(label)

    def show_pairs(self, pairs: Sequence[Pair]) -> None:
        """Print the table: what WorkOS has, and what the mirror has."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("")
        table.add_column("WorkOS: name\nid", style=_STYLES["WorkOS"], min_width=20)
        table.add_column("external_id\nhow it got there", min_width=16)
        table.add_column("Mirror: name\nslug", style=_STYLES["mirror"], min_width=20)
        table.add_column("id\nstate", min_width=12)
        for pair in pairs:
            table.add_row(*_cells(pair))
        self._console.print(table)

    def show_totals(self, entries: Sequence[LedgerEntry], deliveries: Deliveries) -> None:
        """Print what became of events and webhooks, and why events were parked."""
        outcomes = Counter(entry.outcome or "unseen" for entry in entries)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
        self.tell("events", f"{len(entries)}, each handled once: {counts}")
        self.tell("webhooks", _delivery_counts(deliveries))
        for entry in entries:
            if entry.outcome == "parked":
                self.tell("parked", f"{shorten(entry.event_id)}, {entry.type}: {entry.error}")

    def show_verdict(self, differences: Sequence[str]) -> None:
        """Print whether the two sides agree, and in what they differ."""
        if not differences:
            self._console.print(f"\n✓ {_AGREEMENT}", style="bold green")
            return
        self._console.print("\n✗ WorkOS and the mirror differ:", style="bold red")
        for difference in differences:
            self.tell("✗", difference)

    def print_lines(self, *lines: str) -> None:
        """Print lines as they are, however long, so that they can be copied."""
        for line in lines:
            self._console.print(line, soft_wrap=True)


def shorten(identifier: str) -> str:
    """An id that fits a table: WorkOS's by its end, because all begin with the time, others by
    their beginning."""
    prefix, underscore, rest = identifier.partition("_")
    if len(identifier) <= _LONGEST_ID:
        return identifier
    if underscore:
        return f"{prefix}_…{rest[-6:]}"
    return f"{identifier[:8]}…"


def _cells(pair: Pair) -> list[str | Text]:
    verdict = Text("✗", "bold red") if pair.differences else Text("✓", "bold green")
    return [verdict, *_remote_cells(pair.remote), *_row_cells(pair.row)]


def _remote_cells(remote: Remote | None) -> tuple[str, str]:
    if remote is None:
        return "(nothing)\n", "\n"
    state = "" if remote.exists else ", deleted"
    organization = f"{remote.name}\n{shorten(remote.workos_id)}{state}"
    if remote.external_id is None:
        return organization, "(none)\n"
    how = "given by WorkOS" if remote.created_with else "written back"
    return organization, f"{shorten(remote.external_id)}\n{how}"


def _row_cells(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "(no row)\n", "\n"
    state = "disabled" if row.disabled else "enabled"
    return f"{row.name}\n{row.slug}", f"{shorten(row.id)}\n{state}"


def _delivery_counts(deliveries: Deliveries) -> str:
    text = (
        f"{deliveries.delivered} delivered, {deliveries.repeated} of them repeats; "
        f"{deliveries.lost} lost"
    )
    return f"{text}; {deliveries.refused} not taken and sent again" if deliveries.refused else text
