"""Room that callers share by turns."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service_runtime.fair_room import FairRoom, Shares

CAPACITY = 6


@given(
    works=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans(), st.integers(0, 3)), max_size=25
    )
)
def test_works_are_within_the_room_in_turn_and_leave_nothing(
    works: list[tuple[str, int, bool, int]],
) -> None:
    async def run() -> None:
        room = FairRoom(CAPACITY)
        held = 0
        entered: list[int] = []

        async def work(number: int, caller: str, units: int, steps: int) -> None:
            nonlocal held
            async with room.hold(caller, units):
                entered.append(number)
                held += min(units, CAPACITY)
                try:
                    assert held <= CAPACITY
                    for _ in range(steps):
                        await asyncio.sleep(0)
                finally:
                    held -= min(units, CAPACITY)

        tasks = [
            asyncio.create_task(work(number, caller, units, steps))
            for number, (caller, units, _, steps) in enumerate(works)
        ]
        await asyncio.sleep(0)
        for task, (_, _, given_up, _) in zip(tasks, works, strict=True):
            if given_up:
                task.cancel()
                await asyncio.sleep(0)
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert (room.free, room.waiting) == (CAPACITY, 0)
        for caller in "abc":
            own = [number for number in entered if works[number][0] == caller]
            assert own == sorted(own)

    asyncio.run(run())


async def test_a_caller_with_much_work_delays_another_by_one_turn() -> None:
    room = FairRoom(1)
    order: list[str] = []

    async def work(caller: str) -> None:
        async with room.hold(caller):
            order.append(caller)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work("flood")) for _ in range(100)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work("other")))
    await asyncio.gather(*tasks)
    assert order.index("other") <= 3


async def test_each_caller_has_its_own_share_and_waits_for_itself_alone() -> None:
    shares = Shares(2)
    running: list[str] = []
    go = asyncio.Event()

    async def work(caller: str) -> None:
        async with shares.hold(caller):
            running.append(caller)
            await go.wait()

    tasks = [asyncio.create_task(work(caller)) for caller in ("a", "a", "a", "b")]
    await asyncio.sleep(0)
    assert sorted(running) == ["a", "a", "b"]
    tasks[2].cancel()  # it waits
    tasks.append(asyncio.create_task(work("a")))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(running) == ["a", "a", "a", "b"]
    assert len(shares) == 0


@given(
    works=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 3)), min_size=8, max_size=25
    ),
    given_up=st.just(frozenset[int]()) | st.frozensets(st.integers(0, 24)),
)
def test_a_caller_waits_for_its_own_share_alone_and_those_it_works_for_take_turns(
    works: list[tuple[str, str, int]], given_up: frozenset[int]
) -> None:
    async def run() -> None:
        shares = Shares(2)
        running: Counter[str] = Counter()
        waiting: dict[int, str] = {}
        begun: dict[str, list[str]] = {"a": [], "b": []}

        async def work(number: int, caller: str, behalf: str, steps: int) -> None:
            waiting[number] = caller
            try:
                async with shares.hold(caller, on_behalf_of=behalf):
                    del waiting[number]
                    running[caller] += 1
                    begun[caller].append(behalf)
                    try:
                        for _ in range(steps):
                            assert running[caller] <= 2
                            await asyncio.sleep(0)
                    finally:
                        running[caller] -= 1
            finally:
                waiting.pop(number, None)

        tasks = [
            asyncio.create_task(work(number, caller, behalf, steps))
            for number, (caller, behalf, steps) in enumerate(works)
        ]
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if number in given_up:
                task.cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert len(shares) == 0
        if given_up:
            return
        for caller, order in begun.items():
            # The first two find room; then each goes once before any goes twice.
            left = Counter(behalf for one, behalf, _ in works if one == caller) - Counter(order[:2])
            row = order[2:]
            while row:
                turn, row = row[: len(left)], row[len(left) :]
                assert set(turn) == set(left)
                left -= Counter(turn)

    asyncio.run(run())


@given(works=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=30))
def test_nobody_waits_while_there_is_room_in_its_own_share(works: list[tuple[str, str]]) -> None:
    async def run() -> None:
        shares, begun = Shares(3), Counter[str]()

        async def work(caller: str, behalf: str) -> None:
            async with shares.hold(caller, on_behalf_of=behalf):
                begun[caller] += 1
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(work(*one)) for one in works]
        await asyncio.sleep(0)
        assert begun == {
            caller: min(3, count) for caller, count in Counter(caller for caller, _ in works).items()
        }
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
