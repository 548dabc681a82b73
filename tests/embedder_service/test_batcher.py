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
from embedder_service.batcher import Batcher
from embedder_service.fair_share import Priority
from embedder_service.job import Job, Tower
from embedder_service.observer import Observer
from service_runtime.errors import ServiceError
from tests.clock import Clock

POISON = 13


class Fake:
    """A model whose feature is the row itself; it fails on multiples of POISON, and counts what it saw."""

    def __init__(self, *, gate: threading.Event | None = None) -> None:
        self.seen: dict[Tower, list[int]] = {tower: [] for tower in Tower}
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self._gate = gate

    def batcher(self, max_batch: int = 8, bulk: int = 8, lanes: int = 1) -> Batcher:
        forwards = {tower: self._forward(tower) for tower in Tower}
        return Batcher(forwards, dimension=2, max_batch=max_batch, shared_bulk_batch=bulk, lanes=lanes)

    def _forward(self, tower: Tower) -> Any:
        def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            self.entered.set()
            if self._gate is not None:
                assert self._gate.wait(30)
            if (rows % POISON == 0).any():
                raise ValueError("poison")
            self.sizes.append(len(rows))
            self.seen[tower].extend(rows.tolist())
            return np.stack([rows, -rows], axis=1).astype(np.float32)

        return forward


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


async def test_a_model_that_answers_nonsense_fails_its_rows_and_no_others() -> None:
    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if (rows == 7).any():
            return np.zeros((1, 9), np.float32)
        features = np.ones((len(rows), 2), np.float32)
        features[rows == 5] = np.inf
        return features

    batcher = Batcher(
        {Tower.IMAGE: forward, Tower.TEXT: forward}, dimension=2, max_batch=8, shared_bulk_batch=8
    )
    batcher.start()
    result = await batcher.submit(Tower.IMAGE, np.array([4, 5, 6, 7]))
    assert sorted(result.errors) == [1, 3]
    assert np.isnan(result.features).all(axis=1).tolist() == [False, True, False, True]
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


def plain(forward: Any, **options: Any) -> Batcher:
    """A batcher with the same forward pass for both towers."""
    chosen: dict[str, Any] = {"dimension": 2, "max_batch": 8, "shared_bulk_batch": 8}
    return Batcher(dict.fromkeys(Tower, forward), **(chosen | options))


def twice(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.repeat(rows.reshape(len(rows), -1)[:, :1], 2, axis=1).astype(np.float32)


async def test_rows_of_another_shape_concern_only_themselves() -> None:
    gate, entered = threading.Event(), threading.Event()

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        entered.set()
        assert gate.wait(30)
        if rows.shape[1:] != (3,):
            raise ValueError("the model takes rows of three")
        return twice(rows)

    batcher = plain(forward)
    batcher.start()
    first = batcher.submit(Tower.IMAGE, np.full((1, 3), 1))
    await asyncio.to_thread(entered.wait, 30)
    # These gather into one batch that cannot be one matrix.
    good, odd, ragged = (batcher.submit(Tower.IMAGE, np.full(shape, 2)) for shape in ((2, 3), (1, 5), (1, 0)))
    gate.set()
    assert (await first).errors == {}
    assert (await good).errors == {}
    assert (await good).features.tolist() == [[2, 2], [2, 2]]
    assert [sorted((await future).errors) for future in (odd, ragged)] == [[0], [0]]
    assert batcher.progress.open == 0
    await batcher.close()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
async def test_the_end_of_the_device_thread_fails_everybody_and_stays_a_stall(error: BaseException) -> None:
    gate, entered = threading.Event(), threading.Event()

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        entered.set()
        assert gate.wait(30)
        raise error

    clock = Clock()
    batcher = plain(forward, clock=clock)
    batcher.start()
    first = batcher.submit(Tower.IMAGE, np.array([1]))
    await asyncio.to_thread(entered.wait, 30)
    waiting = [batcher.submit(tower, np.arange(20)) for tower in Tower]
    half_ready = batcher.open(Tower.IMAGE, np.zeros((2, 2), np.float32), 2)
    gate.set()
    with pytest.raises(ServiceError) as caught:
        await first
    assert caught.value.reason == pb.MODEL_FAILED
    for future in waiting:
        with pytest.raises(ServiceError) as caught:
            await future
        assert caught.value.reason == pb.NOT_READY
    # What was still being decoded, and whoever comes later, is told at once.
    batcher.put(half_ready, [np.array(1)], [0])
    with pytest.raises(ServiceError, match="has ended"):
        await half_ready.future
    with pytest.raises(ServiceError, match="has ended"):
        batcher.submit(Tower.IMAGE, np.array([1]))
    clock.now += 50
    assert batcher.progress.stalled_seconds() == 50
    await batcher.close()


async def test_lanes_run_side_by_side_and_divide_what_waits() -> None:
    together = threading.Barrier(2, timeout=30)
    shared: list[int] = []
    sizes: list[int] = []

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        sizes.append(len(rows))
        if len(rows) > 1:
            together.wait()
        return twice(rows)

    batcher = plain(forward, max_batch=16, lanes=2, share=shared.append)
    batcher.start()
    await batcher.submit(Tower.IMAGE, np.array([1]))
    assert shared == [1]
    # Neither half comes back before the other has begun.
    job = await batcher.submit(Tower.IMAGE, np.arange(12))
    assert job.features[:, 0].tolist() == list(range(12))
    assert sizes == [1, 6, 6]
    assert shared == [1, 2, 2]
    await batcher.close()


async def test_a_small_batch_beside_a_pass_waits_for_rows_that_are_being_decoded() -> None:
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
    batcher._coming.pass_seconds = 0.4
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


async def test_the_end_of_one_lane_ends_the_others() -> None:
    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise SystemExit(1)

    batcher = plain(forward, lanes=3)
    batcher.start()
    with pytest.raises(ServiceError) as caught:
        await batcher.submit(Tower.IMAGE, np.array([1]))
    assert caught.value.reason == pb.MODEL_FAILED
    await batcher.close()
    assert batcher.progress.open > 0
    assert not [thread for thread in batcher._threads if thread.is_alive()]


async def test_an_error_outside_the_forward_pass_hangs_nobody() -> None:
    class Faulty(Observer):
        def passed(self, *_: Any) -> None:
            raise RuntimeError("a fault of the batcher's own code")

    batcher = plain(twice, max_batch=1, observer=Faulty())
    batcher.start()
    futures = [batcher.submit(Tower.IMAGE, np.array([number])) for number in range(20)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(results[0], Job)
    reasons = {error.reason for error in results if isinstance(error, ServiceError)}
    assert reasons == {pb.NOT_READY}
    assert batcher.progress.open > 0
    await batcher.close()


async def test_a_model_that_hangs_is_a_stall_until_it_comes_back() -> None:
    gate, entered = threading.Event(), threading.Event()

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        entered.set()
        assert gate.wait(30)
        return twice(rows)

    clock = Clock()
    batcher = plain(forward, clock=clock)
    batcher.start()
    clock.now += 100
    assert batcher.progress.stalled_seconds() == 0
    futures = [batcher.submit(Tower.TEXT, np.array([1])) for _ in range(3)]
    await asyncio.to_thread(entered.wait, 30)
    futures[1].cancel()
    clock.now += 7
    assert batcher.progress.stalled_seconds() == 7
    gate.set()
    await asyncio.gather(futures[0], futures[2])
    await batcher.close()
    assert batcher.progress.open == 0
    assert batcher.progress.stalled_seconds() == 0


async def test_a_long_call_of_slow_passes_is_no_stall() -> None:
    clock = Clock()

    def forward(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        stalls.append(batcher.progress.stalled_seconds())
        clock.now += 9
        return twice(rows)

    stalls: list[float] = []
    batcher = plain(forward, max_batch=1, clock=clock)
    batcher.start()
    await batcher.submit(Tower.IMAGE, np.arange(20))
    assert max(stalls) <= 9
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
    # One pass was under way when they came, the next took them all.
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
