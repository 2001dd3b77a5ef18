"""Parses JSON that Python's parser gives up on as a whole, though only a part of it is odd. Pure.

One event that is nested without end, or holds a number without end, must not make the page it is
listed in unreadable: that would stop the stream for ever.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 100

#: Python refuses to read longer ones as numbers, by default.
_MAX_DIGITS = 4_000

TOO_DEEP = "(nested too deeply to be read)"

#: A string, or a bracket; what stands between them can't change the depth. A string that does not
#: end is one too, and is not read again: that would take time that grows with its square.
_TOKEN = re.compile(r'"(?>(?:[^"\\]+|\\.)*)(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def loads(content: bytes) -> Any:
    """The JSON in ``content``: what is nested too deeply as a text that says so, a number that is
    too long as text, bytes that are no text as lone surrogates, control characters in a string as
    they are. Raises ``ValueError`` for what is not JSON."""
    text = content.decode("utf-8-sig", "surrogateescape")
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return json.loads("".join(_flattened(text)), parse_int=_number, strict=False)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _flattened(text: str) -> Iterator[str]:
    depth, kept_until = 0, 0
    for token in _TOKEN.finditer(text):
        if token.group() in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                yield text[kept_until : token.start()]
        elif token.group() in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                yield f'"{TOO_DEEP}"'
                kept_until = token.end()
            depth -= 1
    if depth <= MAX_DEPTH:
        yield text[kept_until:]
