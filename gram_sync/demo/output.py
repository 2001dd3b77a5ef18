"""Prints the demo: what happens, and what each side has at the end."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from gram_sync.demo.comparison import Remote, Row

_STYLES: Final = {"WorkOS": "magenta", "webhooks": "cyan", "mirror": "green", "Gram": "yellow"}


class Output:
    """Prints for people, on a terminal or into a file."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):  # not every encoding has a tick
            sys.stdout.reconfigure(errors="replace")
        self._print = Console(highlight=False, markup=False, soft_wrap=True).print
        self._table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for title in ("", "WorkOS: name\nid", "external_id", "mirror: name\nslug", "id\nstate"):
            self._table.add_column(title, style=_STYLES.get(title.partition(":")[0], ""))

    def lines(self, text: str, style: str = "") -> None:
        """Print lines as they are, however long, so that they can be copied."""
        self._print(text, style=style)

    def say(self, who: str, text: str) -> None:
        """Print what somebody does."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=10, justify="right", style=_STYLES.get(who, ""))
        grid.add_row(who, text)
        self._print(grid, soft_wrap=False)

    def add_pair(self, remote: Remote | None, row: Row | None, *, agrees: bool) -> None:
        """Add a line to the table of what WorkOS has and what the mirror has."""
        cells = ["✓" if agrees else "✗", "(nothing)", "", "(no row)", ""]
        if remote is not None:
            state = ", deleted" if remote.deleted else ""
            origin = "given by WorkOS" if remote.given_id else "written back"
            cells[1] = f"{remote.name}\n{_short(remote.workos_id)}{state}"
            cells[2] = f"{_short(remote.external_id or '(none)')}\n{origin}"
        if row is not None:
            state = "disabled" if row.disabled else "enabled"
            cells[3:] = [f"{row.name}\n{row.slug}", f"{_short(row.id)}\n{state}"]
        self._table.add_row(*cells)

    def totals(self, events: Sequence[Any], deliveries: Sequence[dict[str, Any]]) -> None:
        """Print the table, and what became of events and webhooks."""
        self._print(self._table, soft_wrap=False)
        counts = Counter(event.outcome or "not applied" for event in events).most_common()
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts)
        self.say("events", f"{len(events)}, each handled once: {outcomes}")
        sent = Counter(one["event_id"] for one in deliveries if one["status"] == 204)
        lost = sum(one["error"] == "dropped" for one in deliveries)
        repeats = sent.total() - len(sent)
        self.say("webhooks", f"{sent.total()} delivered, {repeats} of them repeats; {lost} lost")
        for event in events:
            if event.outcome == "parked":
                self.say("parked", f"{_short(event.id)}, {event.type}: {event.error}")


def _short(identifier: str) -> str:
    """Shorten an id: one of WorkOS's to its end, because all begin with the time."""
    prefix, underscore, rest = identifier.partition("_")
    if len(identifier) <= 13:
        return identifier
    return f"{prefix}_…{rest[-6:]}" if underscore else f"{identifier[:8]}…"
