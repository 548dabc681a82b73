"""Shared work: done once, never lost with one caller, never kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import pytest

from search_service.embeddings import SingleFlight


class Source:
    """Fetches keys as their doubles, when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[list[int]] = []
        self.cancelled = 0
        self.error: Exception | None = None

    async def fetch(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.asked.append(list(keys))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return {key: 2 * key for key in keys}


async def settle() -> None:
    """Let every task that can move do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_at_the_same_moment_share_and_later_ones_do_not() -> None:
    source, flights = Source(), SingleFlight[int, int]()
    first = asyncio.create_task(flights.get([1, 2, 2], source.fetch))
    second = asyncio.create_task(flights.get([2, 3], source.fetch))
    await settle()
    source.gate.set()
    assert await first == ({1: 2, 2: 4}, 0)
    assert await second == ({2: 4, 3: 6}, 1)
    assert source.asked == [[1, 2], [3]]
    assert await flights.get([1], source.fetch) == ({1: 2}, 0)
    assert source.asked[-1] == [1]


async def test_one_caller_that_goes_does_not_fail_the_others() -> None:
    source, flights = Source(), SingleFlight[int, int]()
    first, second, third = (asyncio.create_task(flights.get([1], source.fetch)) for _ in range(3))
    await settle()
    first.cancel()  # the one that began it
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second, 0.01)
    assert source.cancelled == 0
    source.gate.set()
    assert await third == ({1: 2}, 1)
    assert len(source.asked) == 1


async def test_what_nobody_waits_for_is_cancelled_and_not_joined() -> None:
    source, flights = Source(), SingleFlight[int, int]()
    only = asyncio.create_task(flights.get([1], source.fetch))
    await settle()
    only.cancel()
    await asyncio.wait([only])
    later = asyncio.create_task(flights.get([1], source.fetch))
    await settle()
    assert source.cancelled == 1
    source.gate.set()
    assert await later == ({1: 2}, 0)


async def test_errors_reach_everybody_who_waits_and_are_not_kept() -> None:
    source, flights = Source(), SingleFlight[int, int]()
    source.error = ValueError("bad")
    waiting = [asyncio.create_task(flights.get([1], source.fetch)) for _ in range(3)]
    await settle()
    source.gate.set()
    assert [type(found) for found in await asyncio.gather(*waiting, return_exceptions=True)] == [
        ValueError
    ] * 3
    source.error = None
    assert await flights.get([1], source.fetch) == ({1: 2}, 0)
    assert source.asked == [[1], [1]]


async def test_an_error_that_is_about_the_other_callers_keys_is_not_ours() -> None:
    source, flights = Source(), SingleFlight[int, int]()

    async def refuses_seven(keys: Sequence[int]) -> Mapping[int, int]:
        found = await source.fetch(keys)
        if 7 in keys:
            raise ValueError("seven")
        return found

    def about_content(error: BaseException) -> bool:
        return isinstance(error, ValueError)

    first = asyncio.create_task(flights.get([1, 7], refuses_seven, only_own=about_content))
    second = asyncio.create_task(flights.get([1], refuses_seven, only_own=about_content))
    await settle()
    source.gate.set()
    with pytest.raises(ValueError, match="seven"):
        await first
    assert (await second)[0] == {1: 2}


@pytest.mark.parametrize("seed", range(5))
async def test_random_callers_get_their_own_values(seed: int) -> None:
    source = random.Random(seed)
    flights = SingleFlight[int, int]()
    under_way: set[int] = set()
    twice = 0

    async def fetch(keys: Sequence[int]) -> Mapping[int, int]:
        nonlocal twice
        twice += len(under_way & set(keys))
        under_way.update(keys)
        try:
            for _ in range(source.randrange(8)):
                await asyncio.sleep(0)
            if source.random() < 0.2:
                raise OSError("away")
            return {key: 2 * key for key in keys}
        finally:
            under_way.difference_update(keys)

    async def caller() -> None:
        keys = [source.randrange(6) for _ in range(source.randrange(1, 5))]
        try:
            found, _ = await flights.get(keys, fetch)
        except OSError:
            return
        assert found == {key: 2 * key for key in keys}

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(caller()))
        await asyncio.sleep(0)
        if source.random() < 0.3:
            source.choice(tasks).cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ended)
    # A flight that was cancelled may still be winding up when the next one for its keys begins.
    assert twice <= 10
    await settle()
    assert under_way == set()
