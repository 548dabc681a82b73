"""A batcher whose model fails, answers nonsense or hangs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from cir.common.v1 import errors_pb2 as pb
from embedder_service.batching.batcher import Batcher
from embedder_service.batching.jobs import Job, Observer, Tower
from service_runtime.errors import ServiceError
from tests.clock import Clock
from tests.embedder_service.batching.fake_forward import plain, twice

pytestmark = pytest.mark.torch


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
    # Rows that were still being decoded, and later calls, are refused at once.
    batcher.put(half_ready, [np.array(1)], [0])
    with pytest.raises(ServiceError, match="has ended"):
        await half_ready.future
    with pytest.raises(ServiceError, match="has ended"):
        batcher.submit(Tower.IMAGE, np.array([1]))
    clock.now += 50
    assert batcher.progress.stalled_seconds() == 50
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
