"""JSON that is odd in places."""

import json

import pytest

from orgs.workos.tolerant_json import loads

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param(b"9" * 5_000, "9" * 5_000, id="a number without end is text"),
        pytest.param(b'"\xff"', "\udcff", id="bytes that are no text"),
        pytest.param(b'"\xc3\xa9"', "\u00e9", id="UTF-8"),
        pytest.param(b'"\x00\n"', "\x00\n", id="control characters that are not escaped"),
    ],
)
def test_what_is_odd_is_read_and_spoils_nothing_else(content: bytes, value: str) -> None:
    assert loads(b'{"a": ' + content + b', "b": 1}') == {"a": value, "b": 1}
    assert loads(b'{"a": ' + content + b', "b": ' + DEEP.encode() + b"}")["a"] == value


@pytest.mark.parametrize("name", ['[[[{{{"\\', "]" * 200, '"]' * 200, "[" * 200, '"[' * 200, "\\"])
def test_brackets_in_strings_are_no_nesting(name: str) -> None:
    page = json.dumps({"name": name, "odd": 0, "after": name}).replace("0", DEEP)

    parsed = loads(page.encode())

    assert (parsed["name"], parsed["after"]) == (name, name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"{",
        b"[" * 100_000,
        b"]" * 10,
        b'{"a": ' + b"1" * 5_000,
        b"\xff",
        # A parser that went back into a string without end would not return within hours.
        pytest.param(b'"' + b'\\"' * 1_000_000, id="a million escapes in a string without end"),
        pytest.param(b'"' + b'\\"' * 1_000_000 + b"\\", id="the same, cut within an escape"),
    ],
)
def test_what_is_not_json_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(content)
