"""Which rows go next, with a clock that the test turns."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from embedder_service.batch_queue import Batch, BatchQueue, Block, BlockResult, Tower
from embedder_service.fair_share import Priority


class Clock:
    """Time as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def block(
    rows: int,
    tower: Tower = Tower.IMAGE,
    priority: Priority = Priority.INTERACTIVE,
    deadline: float = float("inf"),
) -> Block:
    future: asyncio.Future[BlockResult] = asyncio.get_running_loop().create_future()
    return Block(tower, np.arange(rows), priority, deadline, future, 0.0)


def parts(batch: Batch | None) -> list[tuple[Block, int, int]]:
    assert batch is not None
    return [(part.block, part.start, part.stop) for part in batch.segments]


async def test_blocks_are_gathered_oldest_first_and_split_at_the_limit(clock: Clock) -> None:
    queue = BatchQueue(4, 4, clock)
    first, second, third = block(3), block(2), block(2)
    for item in (first, second, third):
        queue.put(item)
    assert parts(queue.take()) == [(first, 0, 3), (second, 0, 1)]
    assert parts(queue.take()) == [(second, 1, 2), (third, 0, 2)]
    assert queue.take() is None
    assert not queue


async def test_towers_take_turns(clock: Clock) -> None:
    queue = BatchQueue(1, 1, clock)
    queue.put(block(3, Tower.IMAGE))
    queue.put(block(3, Tower.TEXT))
    taken = [queue.take() for _ in range(6)]
    assert [batch.tower for batch in taken if batch] == [Tower.IMAGE, Tower.TEXT] * 3


async def test_interactive_rows_go_first_and_bulk_is_not_starved(clock: Clock) -> None:
    queue = BatchQueue(1, 1, clock)
    queue.put(block(100, priority=Priority.BULK))
    queue.put(block(100, priority=Priority.INTERACTIVE))
    classes = [parts(queue.take())[0][0].priority for _ in range(50)]
    assert classes.count(Priority.BULK) == 10
    assert classes[0] is Priority.INTERACTIVE


async def test_bulk_batches_are_small_while_interactive_work_is_around(clock: Clock) -> None:
    queue = BatchQueue(16, 2, clock)
    queue.put(block(100, priority=Priority.BULK))
    assert len(parts(queue.take())) == 1
    queue.put(block(1))
    assert parts(queue.take())[0][0].priority is Priority.INTERACTIVE
    assert [part[2] - part[1] for part in parts(queue.take())] == [2]
    clock.now += 10
    assert [part[2] - part[1] for part in parts(queue.take())] == [16]


async def test_cancelled_and_expired_blocks_leave_before_their_pass(clock: Clock) -> None:
    queue = BatchQueue(8, 8, clock)
    blocks = [block(1), block(1), block(1, deadline=100.0), block(1, deadline=101.0)]
    for item in blocks:
        queue.put(item)
    blocks[0].future.cancel()
    assert parts(queue.take()) == [(blocks[1], 0, 1), (blocks[3], 0, 1)]
    assert queue.expired == [blocks[2]]
