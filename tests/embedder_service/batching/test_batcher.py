"""Order kept, every row answered exactly once, errors kept to their rows."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.jobs import Priority, Tower
from service_runtime.errors import ServiceError
from tests.clock import Clock
from tests.embedder_service.batching.fake_forward import POISON, Fake, plain, twice

pytestmark = pytest.mark.torch


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(
        st.tuples(
            st.sampled_from(list(Tower)),
            st.sampled_from(list(Priority)),
            st.integers(0, 20),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=25,
    ),
    max_batch=st.integers(1, 9),
    lanes=st.integers(1, 3),
)
def test_every_row_is_answered_once_in_its_place(
    blocks: list[tuple[Tower, Priority, int, bool, int]], max_batch: int, lanes: int
) -> None:
    async def run() -> None:
        fake = Fake()
        batcher = fake.batcher(max_batch, bulk=2, lanes=lanes)
        batcher.start()
        submitted = []
        counter = 1
        for tower, priority, size, cancel, pauses in blocks:
            rows = np.arange(counter, counter + size)
            counter += size
            future = batcher.submit(tower, rows, priority=priority)
            for _ in range(pauses):
                await asyncio.sleep(0)
            if cancel:
                future.cancel()
            submitted.append((tower, rows, future))
        for _, rows, future in submitted:
            if future.cancelled():
                continue
            result = await future
            bad = rows % POISON == 0
            assert sorted(result.errors) == np.flatnonzero(bad).tolist()
            assert np.isnan(result.features[bad]).all()
            np.testing.assert_array_equal(result.features[~bad, 0], rows[~bad])
            np.testing.assert_array_equal(result.features[~bad, 1], -rows[~bad])
        await batcher.close()
        for tower in Tower:
            assert len(set(fake.seen[tower])) == len(fake.seen[tower])
        assert all(size <= max_batch for size in fake.sizes)

    asyncio.run(run())


async def test_rows_gather_while_the_device_is_busy() -> None:
    gate = threading.Event()
    fake = Fake(gate=gate)
    batcher = fake.batcher(max_batch=4)
    batcher.start()
    first = batcher.submit(Tower.IMAGE, np.array([1]))
    await asyncio.to_thread(fake.entered.wait, 30)
    rest = [batcher.submit(Tower.IMAGE, np.array([i])) for i in range(2, 8)]
    gate.set()
    await asyncio.gather(first, *rest)
    assert fake.sizes == [1, 4, 2]
    await batcher.close()


async def test_cancelled_rows_cost_no_forward_pass() -> None:
    gate = threading.Event()
    fake = Fake(gate=gate)
    batcher = fake.batcher()
    batcher.start()
    first = batcher.submit(Tower.TEXT, np.array([1]))
    await asyncio.to_thread(fake.entered.wait, 30)
    second, third = (batcher.submit(Tower.TEXT, np.array([i])) for i in (2, 3))
    second.cancel()
    gate.set()
    await asyncio.gather(first, third)
    assert fake.seen[Tower.TEXT] == [1, 3]
    await batcher.close()


async def test_rows_whose_time_has_passed_are_told_and_not_computed() -> None:
    fake = Fake()
    batcher = fake.batcher()
    batcher.start()
    with pytest.raises(ServiceError) as caught:
        await batcher.submit(Tower.TEXT, np.array([1]), deadline=0.0)
    assert caught.value.reason == pb.DEADLINE
    assert (await batcher.submit(Tower.TEXT, np.array([2]))).features[0, 0] == 2
    assert fake.seen[Tower.TEXT] == [2]
    await batcher.close()


async def test_closing_finishes_what_waits_and_takes_nothing_new() -> None:
    fake = Fake()
    batcher = fake.batcher(max_batch=1)
    batcher.start()
    futures = [batcher.submit(Tower.IMAGE, np.array([i])) for i in random.Random(0).sample(range(1, 13), 12)]
    await batcher.close()
    assert all(future.done() for future in futures)
    with pytest.raises(ServiceError) as caught:
        batcher.submit(Tower.IMAGE, np.array([1]))
    assert caught.value.reason == pb.NOT_READY


async def test_lanes_run_side_by_side_and_divide_what_waits() -> None:
    together = threading.Barrier(2, timeout=30)
    shared: list[int] = []
    sizes: list[int] = []

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(rows))
        if len(rows) > 1:
            together.wait()
        return twice(rows)

    batcher = plain(forward, max_batch=16, lanes=2, share_device=shared.append)
    batcher.start()
    await batcher.submit(Tower.IMAGE, np.array([1]))
    assert shared == [1]
    # Neither half comes back before the other has begun.
    job = await batcher.submit(Tower.IMAGE, np.arange(12))
    assert job.features[:, 0].tolist() == list(range(12))
    assert sizes == [1, 6, 6]
    assert shared == [1, 2, 2]
    await batcher.close()


async def test_a_small_batch_waits_during_a_pass_for_rows_that_are_being_decoded() -> None:
    gate, entered = threading.Event(), threading.Event()
    sizes: list[int] = []

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(rows))
        if rows[0] == 1:
            entered.set()
            assert gate.wait(30)
        return twice(rows)

    clock = Clock()
    batcher = plain(forward, max_batch=16, lanes=2, clock=clock)
    batcher.start()
    batcher._delay.pass_seconds = 0.4
    long = batcher.submit(Tower.IMAGE, np.array([1]))
    await asyncio.to_thread(entered.wait, 30)
    jobs = [batcher.open(Tower.IMAGE, np.zeros((1, 2), np.float32), 1) for _ in range(4)]
    for number, job in enumerate(jobs[:3], 2):
        batcher.put(job, [np.array(number)], [0])
    await asyncio.sleep(0.1)
    assert sizes == [1]
    # It cannot be decoded, so that nothing is expected any more; the clock goes past the shorter wait.
    batcher.fail_row(jobs[3], 0, ValueError("broken"))
    clock.now += 0.02
    await asyncio.wait_for(asyncio.gather(*(job.future for job in jobs)), 30)
    assert sizes == [1, 3]
    gate.set()
    await long
    await batcher.close()


async def test_bulk_work_leaves_a_lane_to_interactive_calls_that_are_around() -> None:
    gate, entered = threading.Event(), threading.Event()
    order: list[int] = []

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if rows[0] >= 100:
            entered.set()
            assert gate.wait(30)
        order.extend(rows.tolist())
        return twice(rows)

    clock = Clock()
    batcher = plain(forward, max_batch=1, lanes=2, clock=clock)
    batcher.start()
    await batcher.submit(Tower.IMAGE, np.array([1]))
    bulk = [batcher.submit(Tower.IMAGE, np.array([100 + i]), priority=Priority.BULK) for i in range(4)]
    await asyncio.to_thread(entered.wait, 30)
    # Bulk work holds one lane; these go past what waits of it.
    for number in (2, 3):
        await asyncio.wait_for(batcher.submit(Tower.IMAGE, np.array([number])), 30)
    assert order == [1, 2, 3]
    assert batcher.waiting()[Tower.IMAGE, Priority.BULK] == 3
    gate.set()
    await asyncio.gather(*bulk)
    assert order == [1, 2, 3, 100, 101, 102, 103]
    await batcher.close()


async def test_without_interactive_calls_bulk_work_takes_every_lane() -> None:
    together = threading.Barrier(2, timeout=30)

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        together.wait()
        return twice(rows)

    batcher = plain(forward, max_batch=1, lanes=2)
    batcher.start()
    await batcher.submit(Tower.IMAGE, np.arange(4), priority=Priority.BULK)
    await batcher.close()


async def test_late_small_calls_do_not_wait_for_a_long_one() -> None:
    gate = threading.Event()
    fake = Fake(gate=gate)
    batcher = fake.batcher(max_batch=4)
    batcher.start()
    long = batcher.submit(Tower.IMAGE, np.arange(1, 401) * 2 * POISON + 1)
    await asyncio.to_thread(fake.entered.wait, 30)
    late = [batcher.submit(Tower.IMAGE, np.array([-number])) for number in (1, 2, 3)]
    gate.set()
    await asyncio.gather(*late)
    # One pass was in flight when they came, the next took them all.
    assert sorted(fake.seen[Tower.IMAGE][4:8])[:3] == [-3, -2, -1]
    await long
    assert len(fake.sizes) == 101
    await batcher.close()


async def test_the_event_loop_hears_of_a_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    fake = Fake(gate=gate)
    batcher = fake.batcher(max_batch=8)
    batcher.start()
    loop, calls = asyncio.get_running_loop(), list[Any]()
    first = batcher.submit(Tower.IMAGE, np.array([1]))
    await asyncio.to_thread(fake.entered.wait, 30)
    rest = [batcher.submit(Tower.IMAGE, np.array([number])) for number in range(2, 10)]
    call_soon = loop.call_soon_threadsafe

    def count(callback: Any, *arguments: Any) -> Any:
        if threading.current_thread().name.startswith("embedder-device"):
            calls.append(callback)
        return call_soon(callback, *arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    gate.set()
    await asyncio.gather(first, *rest)
    assert fake.sizes == [1, 8]
    assert len(calls) == 2
    await batcher.close()


async def test_rows_become_ready_one_by_one_from_other_threads() -> None:
    batcher = plain(twice)
    batcher.start()
    features = np.full((12, 2), np.nan, np.float32)
    job = batcher.open(Tower.IMAGE, features, 11)

    def prepare() -> None:
        for index in range(0, 12, 2):
            batcher.put(job, [np.array([index])], [index], seconds=index / 10)
        batcher.answer(job, 1, np.array([100, 100], np.float32))
        batcher.fail_row(job, 3, ValueError("unreadable"))
        batcher.put(job, np.array([[5], [7], [9]]), [5, 7, 9])

    await asyncio.to_thread(prepare)
    assert await job.future is job
    assert features[:, 0].tolist()[:3] == [0, 100, 2]
    assert features[[5, 7, 9, 10], 0].tolist() == [5, 7, 9, 10]
    assert list(job.errors) == [3]
    assert np.isnan(features[[3, 11]]).all()
    assert job.decode_seconds == 1.0
    await batcher.close()


async def test_a_full_batch_is_launched_before_the_last_has_come_back() -> None:
    events: list[str] = []

    def launch(rows: Any) -> Any:
        stacked = np.stack(rows)
        events.append(f"launch {len(rows)}")
        if (stacked == 7).any():
            raise ValueError("cannot be launched")

        def result() -> Any:
            events.append(f"result {len(rows)}")
            if (stacked == 9).any():
                raise ValueError("fails on the device")
            return twice(stacked)

        return result

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if np.isin(rows, (7, 9)).any():
            raise ValueError("fails alone too")
        return twice(rows)

    batcher = plain(forward, max_batch=2, launches=dict.fromkeys(Tower, launch))
    batcher.start()
    result = await batcher.submit(Tower.IMAGE, np.arange(11))
    assert sorted(result.errors) == [7, 9]
    good = [index for index in range(11) if index not in (7, 9)]
    assert result.features[good, 0].tolist() == good
    # The last batch is not full: it goes on gathering until the device is free.
    assert events[:5] == ["launch 2", "launch 2", "result 2", "launch 2", "result 2"]
    assert events[-1] == "result 1"
    assert events[-2] == "launch 1"
    assert batcher.progress.open == 0
    await batcher.close()
