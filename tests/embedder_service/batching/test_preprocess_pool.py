"""The queue of the preprocess pool, and its threads."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from embedder_service.batching.jobs import Priority
from embedder_service.batching.preprocess_pool import PreprocessPool, PreprocessQueue, PreprocessTask
from embedder_service.batching.scheduling import RecentActivity
from tests.clock import Clock

pytestmark = pytest.mark.torch


def nothing() -> None:
    pass


def new_queue(threads: int) -> tuple[PreprocessQueue, RecentActivity, Clock]:
    clock = Clock()
    activity = RecentActivity(clock, recent_seconds=5)
    return PreprocessQueue(threads, activity), activity, clock


def put(target: PreprocessQueue, count: int, priority: Priority, caller: str = "a") -> list[PreprocessTask]:
    tasks = [PreprocessTask(caller, priority, nothing) for _ in range(count)]
    for task in tasks:
        target.put(task)
    return tasks


def test_alone_bulk_work_has_every_thread() -> None:
    waiting, _, _ = new_queue(4)
    tasks = put(waiting, 5, Priority.BULK)
    assert [waiting.take() for _ in range(4)] == tasks[:4]


def test_bulk_work_leaves_half_of_the_threads_while_interactive_calls_are_around() -> None:
    waiting, activity, clock = new_queue(4)
    bulk = put(waiting, 10, Priority.BULK)
    activity.call_started()
    assert [waiting.take() for _ in range(4)] == [*bulk[:2], None, None]
    # A thread is free for the interactive call at once.
    interactive = put(waiting, 1, Priority.INTERACTIVE, "b")
    assert waiting.take() is interactive[0]
    waiting.done(interactive[0])
    waiting.done(bulk[0])
    assert waiting.take() is bulk[2]
    assert waiting.take() is None
    activity.call_ended()
    assert waiting.take() is None
    clock.now += 5
    assert [waiting.take() for _ in range(2)] == bulk[3:5]


def test_with_one_thread_bulk_work_still_goes_on() -> None:
    waiting, activity, _ = new_queue(1)
    activity.call_started()
    bulk = put(waiting, 2, Priority.BULK)
    assert waiting.take() is bulk[0]
    assert waiting.take() is None
    waiting.done(bulk[0])
    assert waiting.take() is bulk[1]


def test_interactive_work_that_never_ends_does_not_starve_bulk_work() -> None:
    waiting, activity, _ = new_queue(2)
    activity.call_started()
    put(waiting, 100, Priority.INTERACTIVE)
    put(waiting, 100, Priority.BULK)
    classes = []
    for _ in range(50):
        task = waiting.take()
        assert task is not None
        classes.append(task.priority)
        waiting.done(task)
    assert classes.count(Priority.BULK) == 10


def test_callers_of_one_class_take_turns() -> None:
    waiting, _, _ = new_queue(2)
    many = put(waiting, 100, Priority.INTERACTIVE, "many")
    few = put(waiting, 2, Priority.INTERACTIVE, "few")
    assert [waiting.take() for _ in range(5)] == [many[0], few[0], many[1], few[1], many[2]]
    assert waiting


def wait_for(gate: threading.Event) -> None:
    assert gate.wait(30)


def test_everything_runs_and_the_threads_end() -> None:
    pool = PreprocessPool(3)
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
    pool = PreprocessPool(1)
    done = threading.Event()

    def fail() -> None:
        raise error

    pool.submit("a", Priority.INTERACTIVE, [fail, fail, done.set])
    assert done.wait(30)
    pool.close()
    assert pool.progress.open == 0


def test_interactive_work_passes_bulk_work_that_waits() -> None:
    pool = PreprocessPool(1)
    gate, order = threading.Event(), list[str]()
    pool.submit("a", Priority.BULK, [partial(wait_for, gate)])
    pool.submit("a", Priority.BULK, [lambda: order.append("bulk")] * 3)
    pool.submit("b", Priority.INTERACTIVE, [lambda: order.append("interactive")])
    gate.set()
    pool.close()
    assert order == ["interactive", "bulk", "bulk", "bulk"]


async def test_work_that_hangs_is_a_stall_only_when_all_threads_hang() -> None:
    pool = PreprocessPool(2)
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
