"""Hypothesis's strategies for what WorkOS could send, as JSON text.

Text and not values: duplicate keys, ``1e999`` and numbers without end are JSON that Python has no
values for.
"""

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

_SPLICES = (
    *("\0", "\ud800", "\udfff\ud83d", "\u202e", "👩‍👩‍👧‍👦", "\r\n"),
    *("\\", '"', "x" * 300, "%s", "/", "\ufeff"),
)

_NUMBERS = ("-0", "-0.0", "1e999", "-1e999", "NaN", "Infinity", "1e-999", "9" * 25, "9" * 5_000)

_TIMES = (
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
    *("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"),
    *("2026-02-30T00:00:00Z", "2026-01-15", ""),
)

_IDS = ("..", ".", "", "external_id", "event_1/../2", "%00", " ", "o" * 255, "o" * 256)


@st.composite
def spliced(draw: st.DrawFn, text: str) -> str:
    """The text with something awkward in it, as a JSON string."""
    place = draw(st.integers(0, len(text)))
    return json.dumps(text[:place] + draw(st.sampled_from(_SPLICES)) + text[place:])


def _nested(text: str, depth: int, brackets: tuple[str, str]) -> str:
    return brackets[0] * depth + text + brackets[1] * depth


#: Any JSON.
VALUES: st.SearchStrategy[str] = st.recursive(
    st.one_of(
        st.sampled_from(("null", "true", "false", *_NUMBERS)),
        st.sampled_from((*_TIMES, *_IDS, *_SPLICES)).map(json.dumps),
        st.text(max_size=8).map(json.dumps),
        st.integers().map(str),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        # Keys are few, so that some stand twice.
        st.lists(st.tuples(st.sampled_from(("id", "name", "x")), inner), max_size=3).map(
            lambda items: _joined((json.dumps(key), value) for key, value in items)
        ),
        st.builds(
            _nested,
            inner,
            st.sampled_from((90, 120, 900, 5_000)),
            st.sampled_from((("[", "]"), ('{"x":', "}"))),
        ),
    ),
    max_leaves=4,
)


#: What becomes of a field.
_KINDS = st.sampled_from(("kept",) * 8 + ("dropped", "replaced", "spliced", "twice", "beside"))


@st.composite
def mutated(draw: st.DrawFn, fields: dict[str, Any]) -> str:
    """The JSON of an object of which some fields are dropped, replaced, spliced or there twice.

    A value that is a strategy is drawn from: the JSON of an object within the object.
    """
    items: list[tuple[str, str]] = []
    for key, value in fields.items():
        text = draw(value) if isinstance(value, st.SearchStrategy) else json.dumps(value)
        kind = draw(_KINDS)
        if kind == "replaced":
            text = draw(VALUES)
        elif kind == "spliced" and isinstance(value, str):
            text = draw(spliced(value))
        elif kind == "twice":
            items.append((key, draw(VALUES)))
        if kind != "dropped":
            items.append((key, text))
        if kind == "beside":
            items.append((draw(st.text(max_size=3)), draw(VALUES)))
    return _joined((json.dumps(key), text) for key, text in items)


def _joined(items: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}"
