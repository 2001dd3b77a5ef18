"""Slugs: what a name becomes, and what is tried when that is taken."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgs.domain.naming import MAX_BASE_LENGTH, slug_base, slug_candidates


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
        pytest.param("Bob's", "bob-s", id="apostrophe"),
        pytest.param("1,000 Ideas", "1-000-ideas", id="a comma between digits is a dash"),
        pytest.param("a&amp;b", "a-amp-b", id="a name is no HTML"),
        pytest.param("snake_case", "snake-case", id="underscore"),
        pytest.param("a" * 79 + "-bcd", "a" * 79, id="cut at 80, and trimmed again"),
        pytest.param("a" * 200, "a" * 80, id="cut at 80"),
        pytest.param("!" * 999 + "abc", "org-01abc", id="read up to its thousandth character"),
        pytest.param("ab", "ab", id="two characters are enough"),
        pytest.param("a", "org-01abc", id="one is not: the WorkOS id"),
        pytest.param("!?", "org-01abc", id="none: the WorkOS id"),
        pytest.param("🦊", "org-01abc", id="nothing to transliterate: the WorkOS id"),
    ],
)
def test_the_base_of_a_name(name: str, base: str) -> None:
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


def test_candidates_are_the_same_each_time_and_differ_by_workos_id() -> None:
    one, again, other = (
        list(islice(slug_candidates("acme", workos_id), 1, None))
        for workos_id in ("org_1", "org_1", "org_2")
    )

    assert one == again
    assert set(one).isdisjoint(other)
