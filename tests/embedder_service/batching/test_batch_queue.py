"""The rows of the next batch, and the delay of a small batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder_service.batching.batch_queue import BatchDelay, BatchQueue
from embedder_service.batching.jobs import Batch, Job, Priority, RowGroup, Tower
from embedder_service.batching.scheduling import RecentActivity
from tests.clock import Clock

pytestmark = pytest.mark.torch

FOREVER = float("inf")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def batches(max_batch: int, bulk: int, clock: Clock) -> BatchQueue:
    return BatchQueue(max_batch, bulk, RecentActivity(clock), clock)


def group(
    rows: int,
    tower: Tower = Tower.IMAGE,
    priority: Priority = Priority.INTERACTIVE,
    deadline: float = FOREVER,
    caller: object = None,
) -> RowGroup:
    future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    features = np.zeros((rows, 2), np.float32)
    job = Job(tower, caller or object(), priority, deadline, features, rows, future)
    return RowGroup(job, np.arange(rows), range(rows), 0.0)


def next_batch(queue: BatchQueue, lanes: int = 1, in_flight: Sequence[Batch] = ()) -> Batch:
    """The next batch, which there must be."""
    batch = queue.take(lanes, in_flight)
    assert batch is not None
    return batch


def parts(batch: Batch | None) -> list[tuple[RowGroup, int, int]]:
    assert batch is not None
    return [(segment.group, segment.start, segment.stop) for segment in batch.segments]


async def test_parallel_passes_get_equal_parts_of_what_waits_and_is_in_flight(clock: Clock) -> None:
    queue = batches(16, 16, clock)
    clients = [group(1) for _ in range(14)]
    queue.put(clients[0])
    in_flight = [next_batch(queue, 2)]
    for client in clients[1:]:
        queue.put(client)
    in_flight.append(next_batch(queue, 2, in_flight))
    assert [len(batch) for batch in in_flight] == [1, 7]
    # The lane with the one is done first, and takes as much as the other has.
    assert len(next_batch(queue, 2, in_flight[1:])) == 6


async def test_work_of_the_other_tower_or_class_is_not_divided(clock: Clock) -> None:
    queue = batches(16, 16, clock)
    in_flight: list[Batch] = []
    for tower, priority in ((Tower.TEXT, Priority.INTERACTIVE), (Tower.IMAGE, Priority.BULK)):
        queue.put(group(10, tower, priority))
        in_flight.append(next_batch(queue))
    queue.put(group(12))
    assert len(next_batch(queue, 2, in_flight)) == 6


async def test_one_callers_rows_are_gathered_oldest_first_and_split_at_the_limit(clock: Clock) -> None:
    queue = batches(4, 4, clock)
    first, second, third = (group(rows, caller="a") for rows in (3, 2, 2))
    for item in (first, second, third):
        queue.put(item)
    assert queue.rows[Tower.IMAGE, Priority.INTERACTIVE] == 7
    assert queue.full
    assert parts(queue.take()) == [(first, 0, 3), (second, 0, 1)]
    assert not queue.full
    assert parts(queue.take()) == [(second, 1, 2), (third, 0, 2)]
    assert queue.take() is None
    assert not queue
    assert set(queue.rows.values()) == {0}


async def test_a_batch_is_shared_evenly_and_what_some_leave_goes_to_others(clock: Clock) -> None:
    queue = batches(16, 16, clock)
    big = group(1000)
    small = [group(1), group(2), group(30)]
    for item in (big, *small):
        queue.put(item)
    rows = dict[RowGroup, int]()
    for item, start, stop in parts(queue.take()):
        rows[item] = rows.get(item, 0) + stop - start
    assert sum(rows.values()) == 16
    assert (rows[small[0]], rows[small[1]]) == (1, 2)
    assert rows[big] >= 4
    assert rows[small[2]] >= 4


@pytest.mark.parametrize("priority", list(Priority))
async def test_a_call_waits_for_no_more_than_a_turn_of_a_very_long_one(
    clock: Clock, priority: Priority
) -> None:
    queue = batches(4, 4, clock)
    long = group(10_000, priority=priority)
    queue.put(long)
    queue.take()
    late = [group(2, priority=priority) for _ in range(3)]
    for item in late:
        queue.put(item)
    # 4 callers, 4 rows a pass: one row each, so two passes answer all three late calls.
    taken = [part for _ in range(2) for part in parts(queue.take())]
    for item in late:
        assert sum(stop - start for owner, start, stop in taken if owner is item) == 2


async def test_a_stream_with_many_batches_has_one_callers_turn(clock: Clock) -> None:
    queue = batches(4, 4, clock)
    stream = [group(8, caller="stream") for _ in range(4)]
    for item in stream:
        queue.put(item)
    single = group(2)
    queue.put(single)
    assert (single, 0, 2) in parts(queue.take())


async def test_more_callers_than_rows_take_turns_over_passes(clock: Clock) -> None:
    queue = batches(2, 2, clock)
    callers = [group(5) for _ in range(4)]
    for item in callers:
        queue.put(item)
    order = [owner for _ in range(4) for owner, _, _ in parts(queue.take())]
    assert order == callers * 2


async def test_towers_take_turns(clock: Clock) -> None:
    queue = batches(1, 1, clock)
    queue.put(group(3, Tower.IMAGE))
    queue.put(group(3, Tower.TEXT))
    taken = [queue.take() for _ in range(6)]
    assert [batch.tower for batch in taken if batch] == [Tower.IMAGE, Tower.TEXT] * 3


async def test_interactive_rows_go_first_and_bulk_is_not_starved(clock: Clock) -> None:
    queue = batches(1, 1, clock)
    queue.put(group(100, priority=Priority.BULK))
    queue.put(group(100, priority=Priority.INTERACTIVE))
    classes = [batch.priority for batch in (queue.take() for _ in range(50)) if batch]
    assert classes.count(Priority.BULK) == 10
    assert classes[0] is Priority.INTERACTIVE


async def test_bulk_batches_are_small_while_interactive_work_is_around(clock: Clock) -> None:
    activity = RecentActivity(clock, recent_seconds=10)
    queue = BatchQueue(16, 2, activity, clock)
    queue.put(group(100, priority=Priority.BULK))

    def rows() -> int:
        return sum(stop - start for _, start, stop in parts(queue.take()))

    assert rows() == 16
    # From its arrival on, while its image is still being decoded.
    activity.call_started()
    assert rows() == 2
    activity.call_ended()
    assert rows() == 2
    clock.now += 10
    assert rows() == 16


async def test_cancelled_and_expired_rows_leave_before_their_pass(clock: Clock) -> None:
    queue = batches(8, 8, clock)
    groups = [group(1), group(1), group(1, deadline=100.0), group(1, deadline=101.0)]
    for item in groups:
        queue.put(item)
    groups[0].job.future.cancel()
    assert parts(queue.take()) == [(groups[1], 0, 1), (groups[3], 0, 1)]
    assert queue.dropped == [groups[0], groups[2]]
    assert set(queue.rows.values()) == {0}


async def test_the_rest_of_a_call_leaves_when_it_is_cancelled_half_way(clock: Clock) -> None:
    queue = batches(4, 4, clock)
    half, other = group(10, caller="a"), group(3, caller="b")
    queue.put(half)
    assert parts(queue.take()) == [(half, 0, 4)]
    half.job.future.cancel()
    queue.put(other)
    assert parts(queue.take()) == [(other, 0, 3)]
    assert queue.dropped == [half]
    assert half.taken == 4
    assert not queue


@settings(deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from("abc"), st.sampled_from(list(Priority))), max_size=20
    ),
    limit=st.integers(1, 9),
)
def test_every_row_is_taken_once_in_its_order(sizes: list[tuple[int, str, Priority]], limit: int) -> None:
    async def run() -> None:
        queue = batches(limit, limit, Clock())
        groups = [group(rows, priority=priority, caller=caller) for rows, caller, priority in sizes]
        for item in groups:
            queue.put(item)
        taken = dict[RowGroup, list[int]]()
        while (batch := queue.take()) is not None:
            assert 1 <= len(batch.rows()) <= limit
            for item, start, stop in parts(batch):
                taken.setdefault(item, []).extend(range(start, stop))
        assert taken == {item: list(range(len(item.rows))) for item in groups}
        assert set(queue.rows.values()) == {0}

    asyncio.run(run())


INTERACTIVE, BULK = Priority.INTERACTIVE, Priority.BULK


def job(rows: int, priority: Priority = INTERACTIVE) -> Job:
    future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    return Job(Tower.IMAGE, object(), priority, float("inf"), np.zeros((rows, 2), np.float32), rows, future)


async def test_rows_are_waited_for_until_they_have_come() -> None:
    clock = Clock()
    delay = BatchDelay(clock, pass_seconds=0.3)
    expected = job(3)
    delay.expect(expected)
    briefly, long = 0.006, 0.03
    since = clock.now
    assert delay.seconds(1, BULK, since) == pytest.approx(briefly)
    assert delay.seconds(1, INTERACTIVE, since) == pytest.approx(long)
    clock.now += 0.02
    assert delay.seconds(1, INTERACTIVE, since) == pytest.approx(long - 0.02)
    delay.arrived(expected, 2)
    assert delay.seconds(1, INTERACTIVE, since) > 0
    delay.forget(expected)
    assert delay.seconds(1, INTERACTIVE, since) == 0
    # What comes after its job has ended is counted once.
    delay.arrived(expected, 1)
    delay.expect(job(1))
    assert delay.seconds(1, INTERACTIVE, since) > 0
    clock.now += 0.01
    assert delay.seconds(1, INTERACTIVE, since) == 0


async def test_a_batch_that_is_large_enough_goes_at_once_and_no_wait_is_long() -> None:
    clock = Clock()
    delay = BatchDelay(clock, pass_seconds=60.0)
    delay.expect(job(100))
    assert delay.seconds(8, INTERACTIVE, clock.now) == 0
    assert delay.seconds(7, INTERACTIVE, clock.now) == pytest.approx(0.05)
    assert delay.seconds(7, BULK, clock.now) == pytest.approx(0.01)
