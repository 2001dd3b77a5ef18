"""Slugs, derived ids, and text of others made fit for a column, a log line and a terminal."""

from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgs.domain.naming import (
    MAX_BASE_LENGTH,
    content_id,
    derived_id,
    is_storable,
    json_text,
    one_line,
    slug_base,
    slug_candidates,
    storable,
)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        pytest.param("Acme", "acme", id="lower case"),
        pytest.param("Acme Inc.", "acme-inc", id="trimmed"),
        pytest.param("--Acme  &  Sons--", "acme-sons", id="runs of others are one dash"),
        pytest.param("Müller & Söhne", "muller-sohne", id="umlauts"),
        pytest.param("Ångström", "angstrom", id="combining marks"),
        pytest.param("株式会社", "zhu-shi-hui-she", id="transliterated"),
        pytest.param("हिन्दी", "hindii", id="vowel signs belong to the word"),
        pytest.param("O\u2019Reilly", "o-reilly", id="typographic apostrophe"),
        pytest.param("1,000 Ideas", "1-000-ideas", id="a comma between digits is a dash"),
        pytest.param("a&amp;b", "a-amp-b", id="a name is no HTML"),
        pytest.param("a" * 79 + "-bcd", "a" * 79, id="cut at 80, and trimmed again"),
        pytest.param("!" * 999 + "abc", "org-01abc", id="read up to its thousandth character"),
        pytest.param("ab", "ab", id="two characters are enough"),
        pytest.param("a", "org-01abc", id="one is not: the WorkOS id"),
        pytest.param("!?", "org-01abc", id="none: the WorkOS id"),
        pytest.param("🦊", "org-01abc", id="nothing to transliterate: the WorkOS id"),
    ],
)
def test_slug_base(name: str, base: str) -> None:
    assert slug_base(name, "org_01ABC") == base


def test_a_name_and_an_id_that_leave_nothing_still_get_a_base() -> None:
    assert slug_base("!", "¡¿!") == "organization"


@given(st.text(min_size=1, max_size=120))
def test_any_name_gets_a_base_that_fits_a_url(name: str) -> None:
    base = slug_base(name, "org_01ABC")

    assert 2 <= len(base) <= MAX_BASE_LENGTH
    assert set(base) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not base.startswith("-")
    assert not base.endswith("-")
    assert "--" not in base


def test_candidates_are_the_base_then_ever_more_digits_of_the_workos_id() -> None:
    base, *others = slug_candidates("acme", "org_1")

    suffixes = [other.removeprefix("acme-") for other in others]
    assert base == "acme"
    assert [len(suffix) for suffix in suffixes] == [4, 8, 16, 32, 64]
    assert all(suffixes[-1].startswith(suffix) for suffix in suffixes)
    assert int(suffixes[-1], 16) >= 0
    assert [base, *others] == list(slug_candidates("acme", "org_1")), "the same each time"
    assert set(others).isdisjoint(slug_candidates("acme", "org_2"))


# Ids ----------------------------------------------------------------------------------------


def test_a_derived_id_is_a_uuid5_below_grams_namespace_and_never_changes() -> None:
    namespace = uuid5(NAMESPACE_DNS, "speakeasy.com")

    # Ids of rows that exist: this value must stay, whatever the code does.
    assert derived_id("org_1") == "eba45f89-5b1f-5930-97df-c1949d69a89d"
    assert derived_id("org_1") == str(uuid5(namespace, "org_1"))


def test_a_content_id_tells_contents_apart() -> None:
    assert content_id(b"one") == content_id(b"one") != content_id(b"two")


# Text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stored", "is_as_it_is"),
    [
        pytest.param("株式会社 🦊", "株式会社 🦊", True, id="any letter"),
        pytest.param("a\u3000b\xa0c", "a\u3000b\xa0c", True, id="any space"),
        pytest.param("می\u200cشود \u200d", "می\u200cشود \u200d", True, id="joiners of letters"),
        pytest.param("a\nb\tc", "a\nb\tc", True, id="line breaks and tabs"),
        pytest.param(" ", " ", True, id="a space alone"),
        pytest.param("", "", False, id="nothing"),
        pytest.param("a\0b", r"a\x00b", False, id="NUL"),
        pytest.param("a\ud800b", r"a\ud800b", False, id="a lone surrogate"),
        pytest.param("a\x1b[1mb", r"a\x1b[1mb", True, id="ESC"),
        pytest.param("a\x9b1mb", r"a\x9b1mb", True, id="CSI, of C1"),
        pytest.param("a\x7f\rb", r"a\x7f\rb", True, id="DEL and carriage return"),
        pytest.param("a\u202eb", r"a\u202eb", True, id="right-to-left override"),
        pytest.param("a\U000e0001b", r"a\U000e0001b", True, id="beyond the basic plane"),
    ],
)
def test_text_is_stored_with_escapes(text: str, stored: str, is_as_it_is: bool) -> None:
    assert storable(text) == stored
    assert storable(stored) == stored
    assert is_storable(text) is is_as_it_is, "what PostgreSQL takes is told apart from what shows"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        pytest.param("no\n  \tanswer ", "no answer", id="white space"),
        pytest.param("a\0\nb\x1b[2J", r"a\x00 b\x1b[2J", id="control characters"),
        pytest.param("a" * 300, "a" * 300, id="just short enough"),
        pytest.param("a" * 301, "a" * 300 + "…", id="too long"),
        pytest.param(ValueError("no"), "no", id="an error"),
    ],
)
def test_one_line(said: object, line: str) -> None:
    assert one_line(said) == line


@given(st.text(st.characters()))
def test_nothing_of_a_line_controls_a_terminal(text: str) -> None:
    line = one_line(text)

    assert line.replace("\xa0", " ").isprintable()
    assert is_storable(line) or line == ""


def test_json_is_shown_as_text_that_can_be_stored() -> None:
    endless: list[Any] = []
    for _ in range(100_000):
        endless = [endless]

    assert json_text({"name": "\0\ud800é"}) == r'{"name": "\u0000\ud800\u00e9"}'
    assert json_text(endless) == "(nested too deeply to be shown)"
