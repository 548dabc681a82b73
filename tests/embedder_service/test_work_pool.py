"""The threads that prepare items."""

import asyncio
import threading

import pytest

from embedder_service.fair_share import Priority
from embedder_service.work_pool import WorkPool


async def test_results_and_errors_come_back() -> None:
    pool = WorkPool(2)
    assert await pool.run(Priority.INTERACTIVE, lambda: 3) == 3

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await pool.run(Priority.BULK, fail)
    assert await pool.run(Priority.BULK, lambda: 4) == 4
    pool.close()


async def test_interactive_work_passes_bulk_work_that_waits() -> None:
    pool = WorkPool(1)
    gate, order = threading.Event(), list[str]()
    first = pool.run(Priority.BULK, gate.wait)
    bulk = [pool.run(Priority.BULK, lambda: order.append("bulk")) for _ in range(3)]
    interactive = pool.run(Priority.INTERACTIVE, lambda: order.append("interactive"))
    gate.set()
    await asyncio.gather(first, interactive, *bulk)
    assert order == ["interactive", "bulk", "bulk", "bulk"]
    pool.close()


async def test_cancelled_work_is_not_begun() -> None:
    pool = WorkPool(1)
    gate, ran = threading.Event(), list[int]()
    first = pool.run(Priority.BULK, gate.wait)
    second = pool.run(Priority.BULK, lambda: ran.append(2))
    third = pool.run(Priority.BULK, lambda: ran.append(3))
    second.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, third)
    assert ran == [3]
    pool.close()
