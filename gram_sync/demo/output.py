"""Prints the demo: what happens, and what each side has at the end."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

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


def table(rows: Iterable[Any], organizations: Iterable[dict[str, Any]]) -> None:
    """Print the mirror's rows, and which external_id WorkOS has for each."""
    external_ids = {each["id"]: _short(each["external_id"] or "(none)") for each in organizations}
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("name", "slug", "id", "state"):
        shown.add_column(title, style=_STYLES["mirror"])
    shown.add_column("WorkOS: external_id", style=_STYLES["WorkOS"])
    for row in rows:
        state = "disabled" if row.disabled else "enabled"
        external_id = external_ids.get(row.workos_id, "(deleted)")
        shown.add_row(row.name, row.slug, _short(row.id), state, external_id)
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
