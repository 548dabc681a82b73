"""The queue between the event loop and the workers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2
from combiner_service.combine_queue import CombineQueue, Job
from service_runtime.errors import ServiceError


def job(name: str = "sum", items: int = 1) -> Job:
    return Job(name, items, pb.CombineRequest(), float("inf"), asyncio.Future(loop=_LOOP), 0.0)


_LOOP = asyncio.new_event_loop()
_LOOP.close()


def queue_of(**settings: Any) -> CombineQueue:
    return CombineQueue(
        **{
            "max_waiting_items": 1000,
            "max_forward_items": 8,
            "gathers": lambda name: name.startswith("net"),
            **settings,
        }
    )


def test_calls_of_one_network_are_gathered_to_the_limit_and_others_left() -> None:
    queue = queue_of()
    jobs = [job("net1", 3), job("net2"), job("net1", 4), job("net1", 2), job("net1"), job("sum"), job("sum")]
    for one in jobs:
        queue.put(one)
    assert queue.take() == [jobs[0], jobs[2], jobs[4]]  # 3 + 4 + 1 pairs; two more would be too many
    assert queue.take() == [jobs[1]]
    assert queue.take() == [jobs[5]]
    assert queue.take() == [jobs[6]]
    assert queue.waiting_items == 2
    queue.done([jobs[0], jobs[2], jobs[4]])
    assert queue.take() == [jobs[3]]


def test_a_network_is_with_one_worker_at_a_time() -> None:
    queue = queue_of()
    first, second = job("net"), job("net")
    queue.put(first)
    assert queue.take() == [first]
    queue.put(second)
    taken: list[Any] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    worker.join(0.1)
    assert not taken
    queue.done([first])
    worker.join(10)
    assert taken == [[second]]


def test_a_limit_of_one_gathers_nothing() -> None:
    queue = queue_of(max_forward_items=1)
    first, second = job("net"), job("net")
    queue.put(first)
    queue.put(second)
    assert queue.take() == [first]
    assert queue.take() == [second]


def test_what_may_wait_is_bounded_and_says_when_to_come_back() -> None:
    queue = queue_of(max_waiting_items=10)
    queue.put(job(items=50))  # alone, or it could never be served
    with pytest.raises(ServiceError, match="50 pairs wait, 1 more would exceed the limit of 10") as refused:
        queue.put(job(items=1))
    assert refused.value.reason == errors_pb2.OVERLOADED
    assert refused.value.retry_after
    taken = queue.take()
    queue.put(job(items=6))
    queue.put(job(items=4))
    with pytest.raises(ServiceError):
        queue.put(job(items=1))
    queue.done(taken)


def test_a_withdrawn_call_is_never_handed_out_and_makes_room() -> None:
    queue = queue_of(max_waiting_items=2)
    gone, stays = job(items=1), job(items=1)
    queue.put(gone)
    queue.put(stays)
    assert queue.withdraw(gone)
    queue.put(job(items=1))
    assert queue.take() == [stays]
    assert not queue.withdraw(stays)  # a worker has it


def test_after_closing_what_waits_is_handed_out_and_nothing_else_let_in() -> None:
    queue = queue_of()
    waits = job()
    queue.put(waits)
    queue.close()
    with pytest.raises(ServiceError) as refused:
        queue.put(job())
    assert refused.value.reason == errors_pb2.NOT_READY
    assert queue.take() == [waits]
    assert queue.take() == ()


def test_the_watchdog_sees_a_stall_only_while_work_waits_or_runs() -> None:
    now = 0.0
    queue = queue_of(clock=lambda: now)
    now = 100.0
    assert queue.progress.stalled_seconds() == 0
    first, gone = job(), job()
    queue.put(first)
    queue.put(gone)
    taken = queue.take()
    now = 130.0
    assert queue.progress.stalled_seconds() == 30
    queue.withdraw(gone)
    queue.done(taken)
    assert queue.progress.open == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["net1", "net2", "sum"]), st.integers(1, 9)),
        st.tuples(st.sampled_from(["take", "done", "withdraw"]), st.just(""), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(steps)
def test_every_call_is_handed_out_once_in_order_within_the_limits(
    history: list[tuple[str, str, int]],
) -> None:
    queue = queue_of(max_waiting_items=20)
    waiting: list[Job] = []
    running: list[Any] = []
    for step, name, number in history:
        if step == "put":
            new = job(name, number)
            fits = not waiting or sum(one.items for one in waiting) + number <= 20
            if fits:
                queue.put(new)
                waiting.append(new)
            else:
                with pytest.raises(ServiceError):
                    queue.put(new)
        elif step == "withdraw" and waiting:
            assert queue.withdraw(waiting.pop(number % len(waiting)))
        elif step == "done" and running:
            queue.done(running.pop(number % len(running)))
        elif step == "take":
            busy = {taken[0].name for taken in running if taken[0].name.startswith("net")}
            free = [one for one in waiting if one.name not in busy]
            if not free:
                continue  # would wait
            taken = queue.take()
            assert taken[0] is free[0]
            assert {one.name for one in taken} == {free[0].name}
            assert len(taken) == 1 or sum(one.items for one in taken) <= 8
            for one in taken:
                waiting.remove(one)
            running.append(taken)
        assert queue.waiting_items == sum(one.items for one in waiting)
        assert queue.progress.open == len(waiting) + sum(len(taken) for taken in running)
