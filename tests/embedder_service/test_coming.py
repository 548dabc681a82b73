"""How long a small batch waits for rows that are on their way, on a clock that the test turns."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from embedder_service.coming import Coming
from embedder_service.fair_share import Priority
from embedder_service.job import Job, Tower
from tests.clock import Clock

INTERACTIVE, BULK = Priority.INTERACTIVE, Priority.BULK


def job(rows: int, priority: Priority = INTERACTIVE) -> Job:
    future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    return Job(Tower.IMAGE, object(), priority, float("inf"), np.zeros((rows, 2), np.float32), rows, future)


async def test_rows_are_waited_for_until_they_have_come() -> None:
    clock = Clock()
    coming = Coming(clock, pass_seconds=0.3)
    expected = job(3)
    coming.opened(expected)
    briefly, long = 0.006, 0.03
    since = clock.now
    assert coming.patience(1, BULK, since) == pytest.approx(briefly)
    assert coming.patience(1, INTERACTIVE, since) == pytest.approx(long)
    clock.now += 0.02
    assert coming.patience(1, INTERACTIVE, since) == pytest.approx(long - 0.02)
    coming.came(expected, 2)
    assert coming.patience(1, INTERACTIVE, since) > 0
    coming.left(expected)
    assert coming.patience(1, INTERACTIVE, since) == 0
    # What comes after its job has ended is counted once.
    coming.came(expected, 1)
    coming.opened(job(1))
    assert coming.patience(1, INTERACTIVE, since) > 0
    clock.now += 0.01
    assert coming.patience(1, INTERACTIVE, since) == 0


async def test_a_batch_that_is_large_enough_goes_at_once_and_no_wait_is_long() -> None:
    clock = Clock()
    coming = Coming(clock, pass_seconds=60.0)
    coming.opened(job(100))
    assert coming.patience(8, INTERACTIVE, clock.now) == 0
    assert coming.patience(7, INTERACTIVE, clock.now) == pytest.approx(0.05)
    assert coming.patience(7, BULK, clock.now) == pytest.approx(0.01)
