"""Prints the demo: what happens, and what each side has at the end."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from gram_sync.demo.comparison import Remote, Row

_STYLES: Final = {"WorkOS": "magenta", "webhooks": "cyan", "mirror": "green", "Gram": "yellow"}
_CONSOLE: Final = Console(highlight=False, markup=False, soft_wrap=True)


def lines(text: str, style: str = "") -> None:
    """Print lines as they are, however long, so that they can be copied."""
    _CONSOLE.print(text, style=style)


def say(who: str, text: str) -> None:
    """Print what somebody does."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=10, justify="right", style=_STYLES.get(who, ""))
    grid.add_row(who, text)
    _CONSOLE.print(grid, soft_wrap=False)


def table(compared: Iterable[tuple[Remote | None, Row | None, list[str]]]) -> None:
    """Print what WorkOS has beside what the mirror has."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("", "WorkOS: name\nid", "external_id", "mirror: name\nslug", "id\nstate"):
        shown.add_column(title, style=_STYLES.get(title.partition(":")[0], ""))
    for remote, row, differences in compared:
        cells = ["✗" if differences else "✓", "(nothing)", "", "(no row)", ""]
        if remote is not None:
            state = ", deleted" if remote.deleted else ""
            origin = "given by WorkOS" if remote.given_id else "written back"
            cells[1] = f"{remote.name}\n{_short(remote.workos_id)}{state}"
            cells[2] = f"{_short(remote.external_id or '(none)')}\n{origin}"
        if row is not None:
            state = "disabled" if row.disabled else "enabled"
            cells[3:] = [f"{row.name}\n{row.slug}", f"{_short(row.id)}\n{state}"]
        shown.add_row(*cells)
    _CONSOLE.print(shown, soft_wrap=False)


def totals(events: Sequence[Any], deliveries: Sequence[dict[str, Any]]) -> None:
    """Print what became of events and webhooks."""
    counts = Counter(event.outcome or "not applied" for event in events).most_common()
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts)
    say("events", f"{len(events)}, each handled once: {outcomes}")
    sent = [one["event_id"] for one in deliveries if one["status"] == 204]
    lost = sum(one["error"] == "dropped" for one in deliveries)
    repeats = len(sent) - len(set(sent))
    say("webhooks", f"{len(sent)} delivered, {repeats} of them repeats; {lost} lost")
    for event in events:
        if event.outcome == "parked":
            say("parked", f"{_short(event.id)}, {event.type}: {event.error}")


def _short(identifier: str) -> str:
    """Shorten an id: one of WorkOS's to its end, because all begin with the time."""
    prefix, underscore, rest = identifier.partition("_")
    if len(identifier) <= 13:
        return identifier
    return f"{prefix}_…{rest[-6:]}" if underscore else f"{identifier[:8]}…"
