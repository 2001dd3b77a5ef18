"""Pacing: each request waits for its turn, by a budget that processes share."""

import logging
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from pytest_django import Settings

from orgs.domain.budget import Grant, Share
from orgs.workos import RateLimited, interrupt_by, pacing
from orgs.workos.pacing import Pacer


@dataclass
class Clock(Event):
    """A monotonic clock that only a wait moves, and the wait itself."""

    now: float = 1_000.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.now += timeout
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Any:
    settings.WORKOS_SYNC = {**settings.WORKOS_SYNC, "REQUESTS_PER_MINUTE": 4_800}
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    monkeypatch.setattr(pacing, "pacer", Pacer())
    interrupt_by(clock)
    yield clock
    interrupt_by(Event())


@dataclass
class Shared:
    """A budget that grants what it is told to, and notes what it is asked for."""

    grants: list[Grant | Exception] = field(default_factory=list)
    asked: list[tuple[Share, int]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def reserve(self, share: Share, wanted: int) -> Grant:
        self.asked.append((share, wanted))
        answer = self.grants.pop(0) if self.grants else Grant(wanted)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def keep(self) -> None: ...
    def release(self) -> None: ...


@pytest.fixture
def shared(clock: Clock) -> Shared:
    shared = Shared()
    pacing.use_budget(shared)
    return shared


def take(share: Share = Share.BULK, *, times: int = 1) -> None:
    for _ in range(times):
        pacing.wait_for_turn(share, deadline=0.0)


@pytest.mark.parametrize(
    ("patience", "is_served"),
    [pytest.param(0, False, id="none"), pytest.param(30, True, id="30 s")],
)
def test_a_call_whose_turn_does_not_come_in_time_is_rate_limited(
    clock: Clock, shared: Shared, patience: float, is_served: bool
) -> None:
    shared.grants = [Grant(0, 4.0), Grant(0, 4.0), Grant(0, 4.0)]

    if is_served:
        pacing.wait_for_turn(Share.BULK, deadline=clock.now + patience)
    else:
        with pytest.raises(RateLimited, match="REQUESTS_PER_MINUTE is used up") as raised:
            pacing.wait_for_turn(Share.BULK, deadline=clock.now + patience)
        assert raised.value.retry_after == 4.0

    assert clock.waits == ([4.0, 4.0, 4.0] if is_served else [4.0])


def test_tokens_are_reserved_for_a_second_and_more_of_them_while_they_are_used_up(
    clock: Clock, shared: Shared
) -> None:
    take(times=1 + 2 + 4 + 8)
    shared.grants = [Grant(0, 0.5)]
    take(times=1)
    clock.now += 1.0
    take()

    assert [wanted for _, wanted in shared.asked] == [1, 2, 4, 8, 16, 16, 8]
    take(times=1_000)
    assert max(wanted for _, wanted in shared.asked) == 80, "no more than a second's requests"


def test_an_empty_budget_is_not_asked_again_before_its_time(clock: Clock, shared: Shared) -> None:
    shared.grants = [Grant(0, 1.0)]

    waits = [pacing.pacer.take(Share.BULK).wait]
    clock.now += 0.75
    waits.append(pacing.pacer.take(Share.BULK).wait)
    take(Share.STREAM)

    assert waits == [1.0, 0.25]
    assert [share for share, _ in shared.asked] == [Share.BULK, Share.STREAM]


def test_a_budget_that_fails_fails_no_call_and_is_logged_once(
    clock: Clock, shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    shared.grants = [OSError("it is down"), OSError("still"), Grant(1), OSError("it is down again")]

    with caplog.at_level(logging.WARNING):
        take(times=4)

    assert [record.getMessage() for record in caplog.records] == [
        "requests are not paced: it is down",
        "requests are not paced: it is down again",
    ]
    assert not clock.waits


# Pauses -------------------------------------------------------------------------------------


def test_a_pause_is_everyones_and_is_kept_here_even_if_it_cant_be_shared(
    clock: Clock, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(times=4)
    monkeypatch.setattr(shared, "pause", lambda _: 1 / 0)
    pacing.pacer.pause(600)
    clock.now += 599

    for share in Share:
        with pytest.raises(RateLimited, match=r"^WorkOS asked for a pause$") as raised:
            take(share)
        assert raised.value.retry_after == 1
    clock.now += 1
    take()

    assert not clock.waits, "it is not waited for without patience"


def test_the_longest_pause_is_kept_up_to_15_minutes(clock: Clock, shared: Shared) -> None:
    pacing.pacer.pause(60)
    pacing.pacer.pause(1)
    first = pacing.pacer.take(Share.STREAM)
    pacing.pacer.pause(10**9)

    assert first == Grant(0, 60, is_paused=True)
    assert pacing.pacer.take(Share.BULK).wait == 900
    assert shared.pauses == [60, 1, 900]


def test_a_pause_that_another_process_noted_is_one_here(clock: Clock, shared: Shared) -> None:
    shared.grants = [Grant(0, 40.0, is_paused=True)]

    with pytest.raises(RateLimited, match="asked for a pause"):
        take()
    pacing.wait_for_turn(Share.BULK, deadline=clock.now + 50)

    assert clock.waits == [40.0]
