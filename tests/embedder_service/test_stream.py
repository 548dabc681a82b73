"""A few requests at a time, whatever ends the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from embedder_service.servicer import map_concurrently

pytestmark = pytest.mark.torch


async def numbers(count: int, read: list[int]) -> AsyncIterator[int]:
    for number in range(count):
        read.append(number)
        yield number


async def test_every_request_is_answered_once() -> None:
    async def answer(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 3))
        return number

    answers = [number async for number in map_concurrently(numbers(50, []), answer, limit=4)]
    assert sorted(answers) == list(range(50))


async def test_no_more_is_read_than_is_worked_on() -> None:
    read: list[int] = []
    gate = asyncio.Event()

    async def answer(number: int) -> int:
        await gate.wait()
        return number

    answers = map_concurrently(numbers(10, read), answer, limit=3)
    first = asyncio.ensure_future(anext(answers))
    for _ in range(50):
        await asyncio.sleep(0)
    assert read == [0, 1, 2]
    gate.set()
    await first
    assert len([number async for number in answers]) == 9


async def test_an_answer_does_not_wait_for_an_earlier_one() -> None:
    gate = asyncio.Event()

    async def answer(number: int) -> int:
        if number == 0:
            await gate.wait()
        return number

    answers = map_concurrently(numbers(3, []), answer, limit=2)
    assert [await anext(answers), await anext(answers)] == [1, 2]
    gate.set()
    assert await anext(answers) == 0


async def test_closing_cancels_what_is_under_way() -> None:
    begun: list[int] = []
    cancelled: list[int] = []
    all_begun = asyncio.Event()

    async def answer(number: int) -> int:
        begun.append(number)
        if len(begun) == 3:
            all_begun.set()
        try:
            await (all_begun.wait() if number == 0 else asyncio.sleep(60))
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    answers = map_concurrently(numbers(5, []), answer, limit=3)
    await anext(answers)
    await answers.aclose()
    assert sorted(cancelled) == [1, 2]


async def test_an_error_ends_the_stream() -> None:
    async def answer(number: int) -> int:
        raise ValueError(f"no {number}")

    with pytest.raises(ValueError, match="no 0"):
        async for _ in map_concurrently(numbers(5, []), answer, limit=1):
            pass
