"""Tells the figures: as a table for people, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.system.benchmark.figures import Figure, shown

_HEAD = ("what", "beside", "ours", "theirs", "result", "goal", "")


def as_table(figures: Sequence[Figure]) -> str:
    """Markdown that also reads well as it is."""
    rows = [_HEAD, *map(_cells, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    head, *body = (_line(row, widths) for row in rows)
    return "\n".join((head, _line(["-" * width for width in widths], widths), *body))


def write_json(path: Path, context: Mapping[str, object], figures: Sequence[Figure]) -> None:
    """Writes all there is to know, every round included. Raises OSError."""
    told = [asdict(figure) | {"verdict": figure.verdict} for figure in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"context": context, "figures": told}, indent=2) + "\n")


def _cells(figure: Figure) -> tuple[str, ...]:
    unit = "x" if figure.unit == "x" else f" {figure.unit}"
    return (
        figure.what,
        figure.beside,
        figure.ours,
        figure.theirs,
        f"{shown(figure.value)}{unit}",
        str(figure.goal or ""),
        figure.verdict,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"
