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
from embedder_service.batch_queue import Tower
from embedder_service.batcher import Batcher
from embedder_service.fair_share import Priority
from service_runtime.errors import ServiceError

POISON = 13


class Fake:
    """A model whose feature is the row itself; it fails on multiples of POISON, and counts what it saw."""

    def __init__(self, *, gate: threading.Event | None = None) -> None:
        self.seen: dict[Tower, list[int]] = {tower: [] for tower in Tower}
        self.sizes: list[int] = []
        self.entered = threading.Event()
        self._gate = gate

    def batcher(self, max_batch: int = 8, bulk: int = 8) -> Batcher:
        forwards = {tower: self._forward(tower) for tower in Tower}
        return Batcher(forwards, dimension=2, max_batch=max_batch, shared_bulk_batch=bulk)

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
)
def test_every_row_is_answered_once_in_its_place(
    blocks: list[tuple[Tower, Priority, int, bool, int]], max_batch: int
) -> None:
    async def run() -> None:
        fake = Fake()
        batcher = fake.batcher(max_batch, bulk=2)
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
