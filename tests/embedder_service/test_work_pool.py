"""The threads that prepare items."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from embedder_service.fair_share import Priority
from embedder_service.work_pool import WorkPool


def wait_for(gate: threading.Event) -> None:
    assert gate.wait(30)


def test_everything_runs_and_the_threads_end() -> None:
    pool = WorkPool(3)
    ran: list[int] = []
    for priority in Priority:
        pool.submit("a", priority, [lambda n=n: ran.append(n) for n in range(50)])  # type: ignore[misc]
    pool.close()
    assert sorted(ran) == sorted([*range(50), *range(50)])
    assert pool.progress.open == 0
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit("a", Priority.BULK, [lambda: None])


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_work_raises_costs_no_thread(error: BaseException) -> None:
    pool = WorkPool(1)
    done = threading.Event()

    def fail() -> None:
        raise error

    pool.submit("a", Priority.INTERACTIVE, [fail, fail, done.set])
    assert done.wait(30)
    pool.close()
    assert pool.progress.open == 0


def test_interactive_work_passes_bulk_work_that_waits() -> None:
    pool = WorkPool(1)
    gate, order = threading.Event(), list[str]()
    pool.submit("a", Priority.BULK, [partial(wait_for, gate)])
    pool.submit("a", Priority.BULK, [lambda: order.append("bulk")] * 3)
    pool.submit("b", Priority.INTERACTIVE, [lambda: order.append("interactive")])
    gate.set()
    pool.close()
    assert order == ["interactive", "bulk", "bulk", "bulk"]


async def test_work_that_hangs_is_a_stall_only_when_all_threads_hang() -> None:
    pool = WorkPool(2)
    gate = threading.Event()
    pool.submit("a", Priority.INTERACTIVE, [partial(wait_for, gate)])
    for _ in range(20):
        moved = threading.Event()
        pool.submit("b", Priority.INTERACTIVE, [moved.set])
        assert await asyncio.to_thread(moved.wait, 30)
    # One thread hangs, the other went on: progress was made since.
    before = time.monotonic()
    assert pool.progress.open >= 1
    pool.submit("c", Priority.INTERACTIVE, [partial(wait_for, gate), lambda: None])
    await asyncio.sleep(0.05)
    assert 0 < pool.progress.stalled_seconds() <= time.monotonic() - before + 30
    assert pool.progress.open == 3
    gate.set()
    await asyncio.to_thread(pool.close)
    assert pool.progress.stalled_seconds() == 0
