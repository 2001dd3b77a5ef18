"""Words of others, made fit for a log line, a column and a page."""

import pytest

from orgs.domain.naming import is_storable, one_line, storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        pytest.param("株式会社 🦊", "株式会社 🦊", id="any letter"),
        pytest.param("a\0b", r"a\x00b", id="NUL"),
        pytest.param("a\ud800b", r"a\ud800b", id="a lone surrogate"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_what_postgresql_cant_store_is_told_in_escapes(text: str, stored: str) -> None:
    assert storable(text) == stored


@pytest.mark.parametrize(
    ("text", "answer"), [("Acme", True), (" ", True), ("", False), ("\0", False), ("\ud800", False)]
)
def test_text_is_storable_if_it_is_some_and_postgresql_takes_it(text: str, answer: bool) -> None:
    assert is_storable(text) is answer


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        pytest.param("no\n  \ttrouble ", "no trouble", id="white space"),
        pytest.param("a\0\nb", r"a\x00 b", id="NUL"),
        pytest.param("a" * 300, "a" * 300, id="just short enough"),
        pytest.param("a" * 301, "a" * 300 + "…", id="too long"),
        pytest.param(ValueError("no"), "no", id="an error"),
    ],
)
def test_trouble_is_told_in_one_short_line(trouble: object, line: str) -> None:
    assert one_line(trouble) == line
