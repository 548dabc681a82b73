"""Calls are gathered, bounded, withdrawn, answered and refused as promised, by any number of workers."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2, vectors_pb2
from combiner_service.builtin import builtin_names
from combiner_service.combine_queue import CombineQueue, CombineWorkers, Job, Outcome
from combiner_service.metrics import CombinerMetrics
from combiner_service.request import CombineCall
from service_runtime.errors import ServiceError
from tests.combiner_service.conftest import sample


def call_of(name: str, items: int, mark: str = "") -> CombineCall:
    """A call without features that can be told from others by its mark."""
    features = vectors_pb2.VectorBatch(model_fingerprint=mark)
    return CombineCall(
        name=name,
        items=items,
        image_features=features,
        text_features=features,
        text_weight=None,
        encoding=vectors_pb2.VectorEncoding(),
    )


def mark_of(job: Job) -> str:
    return job.call.image_features.model_fingerprint


def job(name: str = "sum", items: int = 1, caller: str = "") -> Job:
    return Job(call_of(name, items), float("inf"), asyncio.Future(loop=_LOOP), 0.0, caller)


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


def test_callers_take_turns_and_one_alone_leaves_room_for_others() -> None:
    queue = queue_of(max_waiting_items=80)
    flood = [job(items=10, caller="flood") for _ in range(7)]
    for one in flood:
        queue.put(one)
    with pytest.raises(ServiceError, match="limit of 70 for this caller"):
        queue.put(job(caller="flood"))
    others = [job(items=5, caller="other"), job(items=5, caller="other")]
    for one in others:
        queue.put(one)
    taken = [queue.take()[0] for _ in range(9)]
    assert taken[:4] == [flood[0], others[0], flood[1], others[1]]
    assert taken[4:] == flood[2:]
    assert queue.waiting_items == 0
    queue.put(job(items=10, caller="flood"))


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
    with pytest.raises(ServiceError, match="50 pairs wait, 1 more would exceed the limit of 9 ") as refused:
        queue.put(job(items=1))
    assert refused.value.reason == errors_pb2.OVERLOADED
    assert refused.value.retry_after
    taken = queue.take()
    queue.put(job(items=6))
    queue.put(job(items=3))
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
            # All are of one caller, who gets seven eighths once it has more than one eighth.
            together = sum(one.call.items for one in waiting) + number
            fits = not waiting or together <= (18 if together > 2 else 20)
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
            busy = {taken[0].call.name for taken in running if taken[0].call.name.startswith("net")}
            free = [one for one in waiting if one.call.name not in busy]
            if not free:
                continue  # would wait
            taken = queue.take()
            assert taken[0] is free[0]
            assert {one.call.name for one in taken} == {free[0].call.name}
            assert len(taken) == 1 or sum(one.call.items for one in taken) <= 8
            for one in taken:
                waiting.remove(one)
            running.append(taken)
        assert queue.waiting_items == sum(one.call.items for one in waiting)
        assert queue.progress.open == len(waiting) + sum(len(taken) for taken in running)


def echo(jobs: Sequence[Job]) -> Sequence[Outcome]:
    return [pb.CombineResponse(combiner=mark_of(job)) for job in jobs]


class Gate:
    """Holds the workers until it is opened, and remembers what they were given."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        self.batches.append([mark_of(job) for job in jobs])
        self.entered.set()
        assert self.open.wait(30)
        return echo(jobs)


class Running:
    def __init__(
        self, combine: Callable[[Sequence[Job]], Sequence[Outcome]], threads: int, limit: int
    ) -> None:
        self.metrics = CombinerMetrics(builtin_names())
        self.queue = CombineQueue(
            max_waiting_items=limit, max_forward_items=64, gathers=lambda name: name == "network"
        )
        self.workers = CombineWorkers(self.queue, combine, self.metrics, threads=threads)

    def call(self, mark: str, name: str = "network", seconds_left: float = 60) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.workers.combine(call_of(name, 1, mark), seconds_left=seconds_left))


@asynccontextmanager
async def running(combine: Any = echo, threads: int = 1, limit: int = 1000) -> AsyncIterator[Running]:
    started = Running(combine, threads, limit)
    started.workers.start()
    try:
        yield started
    finally:
        await started.workers.close()


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 30)


async def test_what_arrives_while_a_network_is_computed_is_the_next_batch() -> None:
    gate = Gate()
    async with running(gate, threads=2) as service:
        first = service.call("0")
        await entered(gate)
        others = [service.call(str(number)) for number in range(1, 8)]
        await asyncio.sleep(0)
        gate.open.set()
        answers = await asyncio.gather(first, *others)
    assert [answer.combiner for answer in answers] == [str(number) for number in range(8)]
    assert gate.batches == [["0"], ["1", "2", "3", "4", "5", "6", "7"]]


async def test_cancelled_and_late_calls_cost_no_work() -> None:
    gate = Gate()
    async with running(gate) as service:
        first = service.call("first")
        await entered(gate)
        cancelled, late, kept = (
            service.call("cancelled"),
            service.call("late", seconds_left=0),
            service.call("k"),
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert service.queue.waiting_items == 2
        gate.open.set()
        assert (await kept).combiner == "k"
        with pytest.raises(ServiceError, match="time ran out while it waited") as refused:
            await late
        assert refused.value.reason == errors_pb2.DEADLINE
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await first
        assert gate.batches == [["first"], ["k"]]
        assert sample(service.metrics.collectors(), "cir_combiner_dropped_calls_total") == 2
    # A worker counts its calls as done after it has answered them: certain only once it has ended.
    assert service.queue.progress.open == 0


async def test_a_call_beyond_what_may_wait_is_refused_at_once_and_the_service_recovers() -> None:
    gate = Gate()
    async with running(gate, limit=3) as service:
        first = service.call("first")
        await entered(gate)
        waiting = [service.call(str(number)) for number in range(3)]
        refusals = [service.call("too many") for _ in range(20)]
        for call in refusals:
            with pytest.raises(ServiceError) as refused:
                await call
            assert refused.value.reason == errors_pb2.OVERLOADED
            assert refused.value.retry_after
        gate.open.set()
        await asyncio.gather(first, *waiting)
        assert (await service.call("later")).combiner == "later"


async def test_a_worker_outlives_whatever_combining_raises() -> None:
    def fails(jobs: Sequence[Job]) -> Sequence[Outcome]:
        if any(mark_of(job) == "bad" for job in jobs):
            raise RuntimeError("boom")
        return echo(jobs)

    async with running(fails) as service:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="boom"):
                await service.call("bad")
            assert (await service.call("good")).combiner == "good"
    assert service.queue.progress.open == 0


async def test_closing_answers_what_waits_and_refuses_the_rest() -> None:
    gate = Gate()
    async with running(gate) as service:
        calls = [service.call("a")]
        await entered(gate)
        calls.append(service.call("b"))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(service.workers.close())
        await asyncio.sleep(0.01)
        with pytest.raises(ServiceError) as refused:
            await service.call("c")
        assert refused.value.reason == errors_pb2.NOT_READY
        gate.open.set()
        await closing
        assert [answer.combiner for answer in await asyncio.gather(*calls)] == ["a", "b"]


async def test_a_stuck_worker_is_seen_by_the_watchdog() -> None:
    gate = Gate()
    async with running(gate) as service:
        call = service.call("stuck")
        await entered(gate)
        await asyncio.sleep(0.05)
        assert service.queue.progress.stalled_seconds() >= 0.05
        gate.open.set()
        await call
    assert service.queue.progress.stalled_seconds() == 0


@pytest.mark.parametrize("seed", range(5))
async def test_every_call_gets_its_own_answer_under_faults_and_cancellation(seed: int) -> None:
    source = random.Random(seed)

    def unreliable(jobs: Sequence[Job]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = list(echo(jobs))
        for index, job in enumerate(jobs):
            if mark_of(job).endswith("7"):
                outcomes[index] = ValueError(mark_of(job))
        return outcomes

    async with running(unreliable, threads=3) as service:
        calls: dict[str, asyncio.Task[Any]] = {}
        cancelled = set()
        for number in range(300):
            mark = str(number)
            calls[mark] = service.call(mark, source.choice(("network", "sum")))
            if source.random() < 0.2:
                await asyncio.sleep(0)
            if source.random() < 0.1:
                calls[mark].cancel()
                cancelled.add(mark)
        await asyncio.wait(calls.values())
        for mark, call in calls.items():
            if call.cancelled():
                assert mark in cancelled
            elif mark.endswith("7"):
                assert str(call.exception()) == mark
            else:
                assert call.result().combiner == mark
        assert service.queue.waiting_items == 0
