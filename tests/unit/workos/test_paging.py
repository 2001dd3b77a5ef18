"""Reading ahead: in order, one page early, and never in circles."""

import signal
from contextlib import closing
from threading import Barrier, Event, get_ident, main_thread

import pytest

from orgs.domain.budget import Share
from orgs.domain.types import Page
from orgs.workos import BrokenAnswer, RateLimited, pacing, read_ahead


def page(number: int, *, is_last: bool = False) -> Page[str]:
    return Page("", tuple, str(number), is_last, 0.0)


def test_pages_come_in_order_and_the_next_is_read_early() -> None:
    read: list[str] = []
    is_second_read = Event()

    def page_after(start: str) -> Page[str]:
        read.append(start)
        if start == "1":
            is_second_read.set()
        return page(int(start) + 1, is_last=start == "3")

    with closing(read_ahead(page_after, "0")) as pages:
        first = next(pages)
        was_read_early = is_second_read.wait(30)
        rest = list(pages)

    assert [first.position, *(later.position for later in rest)] == ["1", "2", "3", "4"]
    assert was_read_early
    assert read == ["0", "1", "2", "3"]


def test_an_error_is_raised_when_its_page_is_due() -> None:
    def page_after(start: str) -> Page[str]:
        if start == "1":
            raise BrokenAnswer("no page")
        return page(int(start) + 1)

    with closing(read_ahead(page_after, "0")) as pages:
        first = next(pages)
        with pytest.raises(BrokenAnswer, match="no page"):
            next(pages)

    assert first.position == "1"


@pytest.mark.parametrize("after", [{"0": 0}, {"0": 1, "1": 2, "2": 1}])
def test_pages_that_go_round_in_circles_are_an_error(after: dict[str, int]) -> None:
    read: list[str] = []

    def page_after(start: str) -> Page[str]:
        assert start not in read, "none is read twice"
        read.append(start)
        return page(after[start])

    with (
        closing(read_ahead(page_after, "0")) as pages,
        pytest.raises(BrokenAnswer, match="same page again"),
    ):
        list(pages)

    assert read == list(after)


def test_closing_ends_a_wait_for_workos() -> None:
    is_waiting = Barrier(2, timeout=30)
    errors: list[Exception] = []

    def page_after(start: str) -> Page[str]:
        if start == "0":
            return page(1)
        pacing.pacer.pause(600)
        is_waiting.wait()
        try:
            pacing.wait_for_turn(Share.BULK, deadline=float("inf"))
        except RateLimited as error:
            errors.append(error)
            raise
        return page(2)

    try:
        with closing(read_ahead(page_after, "0")) as pages:
            next(pages)
            is_waiting.wait()
    finally:
        pacing.pacer.forget()

    assert len(errors) == 1


@pytest.mark.parametrize("is_read_to_the_end", [True, False])
def test_the_thread_that_reads_keeps_what_it_asks_for_requests_with(
    monkeypatch: pytest.MonkeyPatch, is_read_to_the_end: bool
) -> None:
    said: list[tuple[str, int]] = []

    class Kept:
        def keep(self) -> None:
            said.append(("keep", get_ident()))

        def release(self) -> None:
            said.append(("release", get_ident()))

    monkeypatch.setattr(pacing.pacer, "shared", Kept())

    with closing(read_ahead(lambda _: page(1, is_last=is_read_to_the_end), "0")) as pages:
        next(pages)

    assert [what for what, _ in said] == ["keep", "release"]
    assert {thread for _, thread in said}.isdisjoint({get_ident()})


class _Signalled(Exception):
    pass


def test_a_signal_ends_it_before_another_page_is_read() -> None:
    read: list[str] = []

    def handle(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        raise _Signalled

    def page_after(start: str) -> Page[str]:
        read.append(start)
        # Again and again: a signal that comes just before a wait does not end it.
        while start == "1" and not pacing._of_thread.interrupt.wait(0.1):
            signal.pthread_kill(main_thread().ident or 0, signal.SIGUSR1)
        return page(int(start) + 1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with closing(read_ahead(page_after, "0")) as pages:
            next(pages)
            with pytest.raises(_Signalled):
                next(pages)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert read == ["0", "1"]
