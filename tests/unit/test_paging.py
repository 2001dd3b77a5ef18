"""Reading ahead: in order, one page early, and never in circles."""

from contextlib import closing
from dataclasses import dataclass

import pytest

from orgs.workos import BrokenAnswer
from orgs.workos.paging import read_ahead


@dataclass(frozen=True)
class Numbered:
    position: int
    is_last: bool = False


def test_pages_come_in_order_and_the_next_is_read_early() -> None:
    read: list[int] = []

    def page_after(start: int) -> Numbered:
        read.append(start)
        return Numbered(start + 1, is_last=start == 3)

    with closing(read_ahead(page_after, 0)) as pages:
        first = next(pages)
        rest = list(pages)

    assert [first.position, *(page.position for page in rest)] == [1, 2, 3, 4]
    assert read == [0, 1, 2, 3]


def test_trouble_with_a_page_is_raised_when_that_page_is_due() -> None:
    def page_after(start: int) -> Numbered:
        if start == 1:
            raise BrokenAnswer("no page")
        return Numbered(start + 1)

    with closing(read_ahead(page_after, 0)) as pages:
        first = next(pages)
        with pytest.raises(BrokenAnswer, match="no page"):
            next(pages)

    assert first.position == 1


@pytest.mark.parametrize("length", [1, 2, 3])
def test_pages_that_go_round_in_circles_are_an_error(length: int) -> None:
    read: list[int] = []

    def page_after(start: int) -> Numbered:
        read.append(start)
        return Numbered((start + 1) % length)

    with (
        closing(read_ahead(page_after, 0)) as pages,
        pytest.raises(BrokenAnswer, match="same page again"),
    ):
        list(pages)

    assert read == list(range(length)), "none is read twice"
