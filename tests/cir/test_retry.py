"""Trying again, and giving up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from cir.retry import INITIAL_WAIT_S, LONGEST_WAIT_S, retrying, wait_before


class Away(Exception):
    pass


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits asked for; time passes by them alone."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("cir.retry.time", SimpleNamespace(monotonic=lambda: sum(asked)))
    return asked


async def test_tries_until_it_works(waits: list[float]) -> None:
    left = [Away(), Away(), Away()]

    async def call() -> str:
        if left:
            raise left.pop()
        return "done"

    assert await retrying(call, wait_asked=lambda error: 0.0, seconds=60) == "done"
    assert len(waits) == 3
    assert waits[0] <= INITIAL_WAIT_S


async def test_gives_up_when_the_time_is_over_and_raises_the_last_error(waits: list[float]) -> None:
    async def call() -> None:
        raise Away(f"after {len(waits)}")

    with pytest.raises(Away) as caught:
        await retrying(call, wait_asked=lambda error: 0.0, seconds=60)
    assert str(caught.value) == f"after {len(waits)}"
    assert 60 - LONGEST_WAIT_S <= sum(waits) <= 60


async def test_waits_at_least_as_long_as_asked(waits: list[float]) -> None:
    async def call() -> None:
        raise Away

    with pytest.raises(Away):
        await retrying(call, wait_asked=lambda error: 25.0, seconds=60)
    assert len(waits) == 2
    assert all(wait >= 25 for wait in waits)


async def test_errors_that_time_does_not_heal_are_raised_at_once(waits: list[float]) -> None:
    async def call() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        await retrying(call, wait_asked=lambda error: None, seconds=60)
    assert waits == []


def test_waits_grow_and_stay_bounded() -> None:
    assert all(0 < wait_before(attempt, 0.0) <= LONGEST_WAIT_S for attempt in range(2000))
    assert wait_before(30, 0.0) >= LONGEST_WAIT_S / 2
